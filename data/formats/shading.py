"""Geometry and colours of scene JSON, computed like the original program's converter.

The converter writes and reads positions as text with eight decimals, so positions are rounded to 1e-8 here and normals
are computed from the rounded positions.

Legend: V vertices, F triangles of one object.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from renderformer.data.arrays import Float32Array, Float64Array, Int64Array
from renderformer.data.geometry.triangles import CREASE_DEGREES

_DECIMALS = 8


def shade_smooth(
    vertices: Float64Array, faces: Int64Array
) -> tuple[Float32Array, Float32Array, Int64Array, Int64Array]:
    """Triangles and normals with `smooth_shading: true`.

    Args:
        vertices: (V, 3); faces are smoothed only across edges with shared vertices.
        faces: (F, 3).

    Returns:
        (F, 3, 3) triangles and normals, (F,) shading group and (F,) original index of each triangle, which are
        reordered.
    """
    from trimesh import Trimesh
    from trimesh.graph import connected_component_labels, smooth_shade

    split = smooth_shade(Trimesh(vertices, faces, process=False), angle=math.radians(CREASE_DEGREES))
    order = np.hstack(split.metadata.get("original_components", [np.arange(len(faces))]))
    mesh = _as_text(split.vertices, split.faces)
    groups = connected_component_labels(mesh.face_adjacency, node_count=len(mesh.faces))
    return *_triangles(mesh), groups, order


def shade_flat(vertices: Float64Array, faces: Int64Array) -> tuple[Float32Array, Float32Array, Int64Array, Int64Array]:
    """Triangles and normals with `smooth_shading: false`: face normals, one group per triangle.

    Arguments and results are those of `shade_smooth`.
    """
    numbers = np.arange(len(faces))
    corners = np.arange(3 * len(faces)).reshape(-1, 3)
    return *_triangles(_as_text(vertices[faces].reshape(-1, 3), corners)), numbers, numbers


def _as_text(vertices: Float64Array, faces: Int64Array) -> Any:
    """A trimesh of the vertices, rounded like decimal text."""
    from trimesh import Trimesh

    return Trimesh(np.round(vertices, _DECIMALS), faces, process=False)


def _triangles(mesh: Any) -> tuple[Float32Array, Float32Array]:
    return mesh.vertices[mesh.faces].astype(np.float32), mesh.vertex_normals[mesh.faces].astype(np.float32)


def random_colours(seed: int, upper: float, count: int) -> Float32Array:
    """(count, 3) diffuse colours from 0 to `upper`, equal to those of the converter."""
    # The converter uses NumPy's legacy generator; a new generator gives other colours.
    generator = np.random.RandomState(seed)  # noqa: NPY002
    # The converter draws per part; one call for all parts gives the same numbers.
    colours = generator.randint(0, math.ceil(256 * upper), (count, 3))
    return (colours / 255).astype(np.float32)
