"""Rays against every triangle in float64: the reference for ray casting."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike


def intersections(origins: ArrayLike, directions: ArrayLike, triangles: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    """Moeller and Trumbore's test of S rays on N triangles.

    Args:
        origins: (S, 3), or (3,) for all rays.
        directions: (S, 3) of any length.
        triangles: (N, 3, 3).

    Returns:
        (S, N) distance in lengths of the direction, negative behind the origin, and (S, N) smallest barycentric
        weight, negative outside the triangle. A ray parallel to a triangle gives numbers that are not finite.
    """
    d_S1 = np.asarray(directions, float)[:, None]
    corners = np.asarray(triangles, float)
    edge1, edge2 = corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]
    p = np.cross(d_S1, edge2)
    s = np.atleast_2d(np.asarray(origins, float))[:, None] - corners[:, 0]
    q = np.cross(s, edge1)
    with np.errstate(divide="ignore", invalid="ignore"):
        inverse = 1 / (p * edge1).sum(-1)
        u, v, t = (p * s).sum(-1) * inverse, (d_S1 * q).sum(-1) * inverse, (q * edge2).sum(-1) * inverse
        return t, np.minimum(np.minimum(u, v), 1 - u - v)


def first_hits(origins: ArrayLike, directions: ArrayLike, triangles: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    """(S,) distance and index of the first triangle on each ray; infinity and -1 where there is none."""
    t, weight = intersections(origins, directions, triangles)
    t = np.where((weight >= 0) & (t > 1e-9), t, np.inf)
    distance = t.min(axis=1)
    return distance, np.where(np.isfinite(distance), t.argmin(axis=1), -1)
