"""Geometry: areas and edges of triangles, simplification, subdivision, the walls of a stage."""
