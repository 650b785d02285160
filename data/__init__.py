"""What goes in and out: scenes, mesh files, stages, ray casting, procedural scenes, reference renderings."""
