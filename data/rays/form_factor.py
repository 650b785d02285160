"""The form factor of a triangle seen from surface points: the light that it would send there if nothing were between.

Shapes: S surface points. All vectors are in world space, float32, laid out as in vectors.py.
"""

from __future__ import annotations

import numpy as np

from renderformer.data.arrays import Float32Array
from renderformer.data.rays.vectors import cross, dot, normalised, take

# Coefficients, highest power first, of acos(1 - x) / sqrt(1 - (1 - x)^2): the angle between unit vectors over its sine
# from one less their inner product. Relative error below 1e-7 for x up to 1 (Chebyshev interpolation).
ANGLE_OVER_SINE = (
    0.0171853692, -0.0414066488, 0.0587827332, -0.0236417311, 0.038473479, 0.0544793815, 0.133600394, 0.333323165,
    1.00000006,
)  # fmt: skip


def triangle_form_factor(
    points: Float32Array,
    normals: Float32Array,
    corners: Float32Array | tuple[Float32Array, Float32Array, Float32Array],
    two_sided: bool = False,
) -> Float32Array:
    """Point-to-triangle form factor, clipped at the horizon of each point (Lambert's polygon formula).

    Args:
        points: (S, 3); normals: (S, 3) unit, the side that receives; corners: (3, 3) of the triangle, counter-clockwise
            seen from its front; or three times (S, 3), of another triangle for each point.
        two_sided: whether it acts on both of its sides and not only on its front.

    Returns:
        (S,) in [0, 1]: irradiance = pi x radiance x form factor.
    """
    toward = [corner - points for corner in corners]
    heights = [dot(vertex, normals) for vertex in toward]
    lowest = np.minimum(np.minimum(heights[0], heights[1]), heights[2])
    highest = np.maximum(np.maximum(heights[0], heights[1]), heights[2])
    facing = np.flatnonzero(highest > 0)
    total = np.zeros(len(points), np.float32)
    # Picking points costs a quarter of the formula.
    if len(facing) < 0.75 * len(points):
        if len(facing):
            if isinstance(corners, tuple):
                corners = take(corners[0], facing), take(corners[1], facing), take(corners[2], facing)
            total[facing] = triangle_form_factor(take(points, facing), take(normals, facing), corners, two_sided)
        return total
    # The angle of every edge counts with the height of the unit normal of its plane, n . (a x b) / sine. The triple
    # products n . (a x b) of all edges follow from the moment of the normal about the first corner.
    edges = corners[1] - corners[0], corners[2] - corners[0]
    moment = cross(normals, toward[0])
    first, last = dot(moment, edges[0]), dot(moment, edges[1])
    triples = first, last - first + dot(normals, cross(np.atleast_2d(edges[0]), edges[1])), -last
    # Nearer to a corner than a millionth of the light, the quotients below would overflow.
    nearest = np.float32(1e-12) * max(float(np.square(edge).sum()) for edge in edges)
    squares = [np.maximum(dot(vertex, vertex), nearest) for vertex in toward]
    inverse = [1 / np.sqrt(square) for square in squares]
    exact = lowest < 0
    for i, j, triple in zip((0, 1, 2), (1, 2, 0), triples, strict=True):
        side = corners[j] - corners[i]
        weight = inverse[i] * inverse[j]
        # One less the cosine, by the law of cosines.
        x = 1 - (squares[i] + squares[j] - dot(side, side)) * (np.float32(0.5) * weight)
        ratio = x * np.float32(ANGLE_OVER_SINE[0])
        for coefficient in ANGLE_OVER_SINE[1:-1]:
            ratio += np.float32(coefficient)
            ratio *= x
        ratio += np.float32(ANGLE_OVER_SINE[-1])
        total += ratio * triple * weight
        # Close to a light an edge may be wider than a right angle.
        exact |= x > 1
    total[highest <= 0] = 0
    rest = np.flatnonzero(exact & (highest > 0))
    if len(rest):
        total[rest] = _clipped([normalised(take(vertex, rest)) for vertex in toward], take(normals, rest))
    # Seen from the front the edges run the other way round than about the normal of the surface.
    return (np.abs(total) if two_sided else np.maximum(-total, 0)) * np.float32(0.5 / np.pi)


def _edge(a: Float32Array, b: Float32Array, normals: Float32Array) -> Float32Array:
    """Angle between unit vectors a and b times the height of their plane's unit normal over the surface."""
    across = cross(a, b)
    sine = np.sqrt(dot(across, across))
    # The ratio tends to 1 for a short edge.
    short = sine < 1e-12
    ratio = np.where(short, 1, np.arctan2(sine, dot(a, b)) / np.where(short, 1, sine))
    return ratio * dot(across, normals)


def _clipped(vertices: list[Float32Array], normals: Float32Array) -> Float32Array:
    """Sum over the edges of the part above the horizon of triangles whose corners lie in directions `vertices`."""
    heights = [dot(vertex, normals) for vertex in vertices]
    total = np.zeros(len(normals), np.float32)
    leaving, entering = np.zeros((2, 3, len(normals)), np.float32)
    for i in range(3):
        a, b, height_a, height_b = vertices[i], vertices[i - 2], heights[i], heights[i - 2]
        crosses = (height_a < 0) != (height_b < 0)
        t = height_a / np.where(crosses, height_a - height_b, 1)
        border = normalised(a + t[:, None] * (b - a)).T
        np.copyto(leaving, border, where=crosses & (height_a >= 0))
        np.copyto(entering, border, where=crosses & (height_a < 0))
        start = np.where(height_a < 0, border, a.T).T
        end = np.where(height_b < 0, border, b.T).T
        total += np.where((height_a >= 0) | (height_b >= 0), _edge(start, end, normals), 0)
    return total + _edge(leaving.T, entering.T, normals)
