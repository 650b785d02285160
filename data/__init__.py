"""Input and output: scenes, cameras, file formats, geometry, ray casting and training sets."""
