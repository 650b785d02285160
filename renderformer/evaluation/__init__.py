"""How good a model's pictures are, and against what."""
