"""Remeshing to triangles of similar size."""

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
    """Remesh to at most `target` triangles: halve long edges until there are enough, then decimate to `target`.

    Decimation may leave flat parts uneven.

    Args:
        vertices: (V, 3), any units; rounded to float32.
        faces: (F, 3).
        target: number of triangles.

    Returns:
        (V', 3) vertices and (F', 3) faces.

    Raises:
        InputError: the mesh has no area (empty place), or needs too many triangles.
    """
    mesh = Mesh("mesh", vertices[faces].astype(np.float32))
    area = float(areas(mesh.triangles).sum())
    if area <= 0:
        raise InputError("", "the mesh to remesh has no area", "check the file")
    # Start at four times the edge of `target` equilateral triangles and shorten slowly: decimating few triangles leaves
    # the others even.
    edge = 4 * math.sqrt(area / target * 4 / math.sqrt(3))
    cut = mesh
    while len(cut) < target:
        cut, edge = subdivide(mesh, edge)[0], 0.9 * edge
    return weld(simplify(cut, target)[0].triangles)
