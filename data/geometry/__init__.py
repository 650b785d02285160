"""Triangles: areas, welding, parts, stages, simplification, subdivision."""
