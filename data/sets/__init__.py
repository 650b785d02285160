"""Training data: procedural scenes, reference pictures, shards."""
