"""Triangles of similar size in place of those that a mesh has."""

from __future__ import annotations

import math

import numpy as np

from renderformer.data.arrays import Float64Array, Int64Array
from renderformer.data.errors import InputError
from renderformer.data.geometry.simplify import simplify
from renderformer.data.geometry.subdivide import subdivide
from renderformer.data.geometry.triangles import areas, weld
from renderformer.data.scene import Mesh


def remesh(vertices: Float64Array, faces: Int64Array, target: int) -> tuple[Float64Array, Int64Array]:
    """At most `target` triangles: long edges are cut in halves, alike in both neighbours, until there are at least
    `target` triangles, then quadric decimation takes the surplus (which may leave flat parts uneven).

    Args:
        vertices: (V, 3), any units; coordinates pass through float32. faces: (F, 3).

    Returns:
        (V', 3) vertices and (F', 3) faces.

    Raises:
        InputError: the mesh has no area, or is too large to be cut that finely. Its place is empty.
    """
    mesh = Mesh("mesh", vertices[faces].astype(np.float32))
    area = float(areas(mesh.triangles).sum())
    if area <= 0:
        raise InputError("", "the mesh to remesh has no area", "check the file")
    # From four times the edge of `target` equilateral triangles downward: the less surplus, the more even they stay.
    edge = 4 * math.sqrt(area / target * 4 / math.sqrt(3))
    fine = mesh
    while len(fine) < target:
        fine, edge = subdivide(mesh, edge)[0], 0.9 * edge
    return weld(simplify(fine, target)[0].triangles)
