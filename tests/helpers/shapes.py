"""Simple meshes for scenes in tests: Z up, in the scene's own units."""

from __future__ import annotations

import trimesh

from renderformer.data.scene import Material, Mesh

ORIGIN = (0.0, 0.0, 0.0)


def box(
    size: float | tuple[float, float, float],
    material: Material,
    centre: tuple[float, float, float] = ORIGIN,
    name: str = "box",
) -> Mesh:
    """A closed box of 12 triangles with flat faces; size is its edge, or its extent along x, y and z."""
    shape = trimesh.creation.box((size,) * 3 if isinstance(size, int | float) else size)
    shape.apply_translation(centre)
    return Mesh(name, shape.triangles, materials=material.row())


def ball(
    radius: float,
    material: Material,
    centre: tuple[float, float, float] = ORIGIN,
    name: str = "ball",
    detail: int = 2,
) -> Mesh:
    """A smooth-shaded icosphere of 20 * 4**detail triangles."""
    shape = trimesh.creation.icosphere(detail, radius)
    shape.apply_translation(centre)
    return Mesh(name, shape.triangles, shape.vertex_normals[shape.faces], material.row())
