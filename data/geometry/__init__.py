"""Operations on triangles: areas, edges, normals, simplification, subdivision; the walls of stages."""
