"""Tangents of textured triangles, which turn normal maps into the world.

As MikkTSpace defines them (Mikkelsen 2008), but for corners that touch without sharing an edge: the tangent of a corner
is the mean, weighted by angle, over the triangles around it with the same normal and texture coordinates there.
"""

from __future__ import annotations

import numpy as np

from renderformer.data.arrays import AnyArray, Float32Array, Float64Array
from renderformer.data.geometry.triangles import unique_rows


def corner_tangents(triangles: AnyArray, normals: AnyArray, uv: AnyArray) -> Float32Array:
    """(N, 3, 4) unit tangents of triangles with corners (N, 3, 3), vertex normals (N, 3, 3) and texture coordinates
    (N, 3, 2), v down: the direction in which u grows; the fourth number is that of glTF, 1 or -1, so that it times
    normal x tangent points up in the image. A tangent is zero where texture coordinates show no direction."""
    corners, place = np.asarray(triangles, np.float64), np.asarray(uv, np.float64)
    along, across = corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]
    (du1, dv1), (du2, dv2) = (place[:, 1] - place[:, 0]).T, (place[:, 2] - place[:, 0]).T
    # Upward, as the fourth number has it.
    dv1, dv2 = -dv1, -dv2
    sign = np.sign(du1 * dv2 - du2 * dv1)
    direction: Float64Array = sign[:, None] * (dv2[:, None] * along - dv1[:, None] * across)
    normal = np.asarray(normals, np.float64).reshape(-1, 3)
    flat = np.repeat(direction, 3, axis=0)
    flat = _unit(flat - (flat * normal).sum(axis=1, keepdims=True) * normal)
    flat *= _angles(corners).reshape(-1, 1)
    handed = np.repeat(np.where(sign < 0, -1.0, 1.0), 3)
    key = np.column_stack([corners.reshape(-1, 3), normal, place.reshape(-1, 2), handed])
    _, group = unique_rows(key)
    total = np.column_stack([np.bincount(group, flat[:, axis]) for axis in range(3)]).astype(np.float64)
    return np.column_stack([_unit(total)[group], handed]).reshape(-1, 3, 4).astype(np.float32)


def _angles(corners: Float64Array) -> Float64Array:
    """(N, 3) angles at the corners of triangles (N, 3, 3)."""
    first = _unit(np.roll(corners, -1, axis=1) - corners)
    second = _unit(np.roll(corners, 1, axis=1) - corners)
    return np.asarray(np.arccos(np.clip((first * second).sum(axis=2), -1, 1)))


def _unit(vectors: Float64Array) -> Float64Array:
    """Unit vectors over the last axis; zero stays zero."""
    length = np.linalg.norm(vectors, axis=-1, keepdims=True)
    return np.divide(vectors, length, out=np.zeros_like(vectors), where=length > 0)
