"""Direct light of light triangles on surface points: form factor, shadow rays, GGX highlight.

Shapes: S surface points, L light triangles, K samples. All vectors are in world space, float32.
Layout: the vectors of many points are (S, 3) arrays whose components lie one after the other in memory (Fortran order),
as `vectors` makes them and arithmetic keeps them: NumPy works through those several times faster than through points
one after the other. Any layout gives the same numbers.
Materials follow the models' training shader (spec training.md): diffuse plus GGX without Fresnel, alpha = roughness^2.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from renderformer.data.arrays import AnyArray, Float32Array, Float64Array, Int64Array

# Below this GGX is a mirror for every practical purpose, and its density overflows half precision.
MIN_ALPHA = 1e-3


@dataclass(frozen=True)
class Lights:
    """Light triangles: their indices in the scene (L,), corners (L, 3, 3), radiance (L, 3), area (L,), unit normal
    (L, 3), chance of being here (L,) and weight (L,), see `drawn`."""

    triangle: Int64Array
    corners: Float32Array
    radiance: Float32Array
    area: Float32Array
    normal: Float32Array
    chance: Float32Array
    weight: Float32Array

    @classmethod
    def from_triangles(cls, triangles: Float32Array, emission: Float32Array) -> Lights:
        """The lights among a scene's triangles (N, 3, 3) with radiance (N, 3). Both sides of a light triangle emit;
        triangles without area are left out, since they send no light."""
        emits = np.flatnonzero((emission > 0).any(axis=1))
        corners, radiance = triangles[emits], emission[emits]
        cross = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
        length = np.linalg.norm(cross, axis=1)
        keep = length > 0
        normal = (cross[keep] / length[keep, None]).astype(np.float32)
        area = (length[keep] / 2).astype(np.float32)
        one = np.ones(len(area), np.float32)
        lights = (emits[keep], corners[keep].astype(np.float32), radiance[keep].astype(np.float32), area, normal)
        return cls(*lights, one, one)

    def expected(self, count: int) -> Float64Array:
        """(L,) how often each light is drawn when `count` are, by power; once each when there are no more."""
        if len(self) <= count:
            return np.ones(len(self))
        power = self.area.astype(np.float64) * self.radiance.sum(axis=1)
        return count * power / power.sum()

    def drawn(self, count: int) -> Lights:
        """At most `count` lights that stand for all: a systematic sample by power, in the order of the mesh, so that it
        is spread over the surface. `chance` is that of being drawn, `weight` what a drawn light counts for."""
        if len(self) <= count:
            return self
        expected = self.expected(count)
        cumulated = np.cumsum(expected)
        index, times = np.unique(np.searchsorted(cumulated, np.arange(count) + 0.5), return_counts=True)
        return Lights(
            self.triangle[index],
            self.corners[index],
            self.radiance[index],
            self.area[index],
            self.normal[index],
            np.minimum(expected[index], 1).astype(np.float32),
            (times / expected[index]).astype(np.float32),
        )

    def __len__(self) -> int:
        return len(self.area)


def vectors(x: Float32Array, y: Float32Array, z: Float32Array) -> Float32Array:
    """(S, 3) of three components (S,), each contiguous."""
    result = np.empty((3, len(x)), np.float32)
    result[0], result[1], result[2] = x, y, z
    return result.T


def take(values: AnyArray, rows: Int64Array) -> AnyArray:
    """`values[rows]` along the first axis, each column contiguous."""
    return values.T.take(rows, axis=-1).T


def dot(a: Float32Array, b: Float32Array) -> Float32Array:
    """Inner product over the last axis."""
    result: Float32Array = a[..., 0] * b[..., 0] + a[..., 1] * b[..., 1] + a[..., 2] * b[..., 2]
    return result


def cross(a: Float32Array, b: Float32Array) -> Float32Array:
    """(S, 3) cross products of (S, 3) with (S, 3) or (3,)."""
    (ax, ay, az), (bx, by, bz) = a.T, b.T
    return vectors(ay * bz - az * by, az * bx - ax * bz, ax * by - ay * bx)


def normalised(v: Float32Array) -> Float32Array:
    """Unit vectors over the last axis; zero stays zero."""
    length: Float32Array = np.maximum(np.sqrt(dot(v, v)), np.float32(1e-20))
    return v / length[..., None]


# Coefficients, highest power first, of acos(1 - x) / sqrt(1 - (1 - x)^2): the angle between unit vectors over its sine
# from one less their inner product. Relative error below 1e-7 for x up to 1 (Chebyshev interpolation) and up to 1/32
# (Taylor series).
ANGLE_OVER_SINE = (
    0.0171853692, -0.0414066488, 0.0587827332, -0.0236417311, 0.038473479, 0.0544793815, 0.133600394, 0.333323165,
    1.00000006,
)  # fmt: skip
SMALL_ANGLE_OVER_SINE = (2 / 35, 2 / 15, 1 / 3, 1.0)


def triangle_form_factor(points: Float32Array, normals: Float32Array, corners: Float32Array) -> Float32Array:
    """Point-to-triangle form factor, clipped at the horizon of each point (Lambert's polygon formula).

    Args:
        points: (S, 3); normals: (S, 3) unit, the side that receives; corners: (3, 3) of the triangle, which acts on
            both of its sides.

    Returns:
        (S,) in [0, 1]: irradiance = pi x radiance x form factor.
    """
    toward = [corner - points for corner in corners]
    heights = [dot(vertex, normals) for vertex in toward]
    lowest, highest = np.minimum.reduce(heights), np.maximum.reduce(heights)
    facing = np.flatnonzero(highest > 0)
    total = np.zeros(len(points), np.float32)
    # Picking points costs a quarter of the formula.
    if len(facing) < 0.75 * len(points):
        if len(facing):
            total[facing] = triangle_form_factor(take(points, facing), take(normals, facing), corners)
        return total
    # The angle of every edge counts with the height of the unit normal of its plane, n . (a x b) / sine. The triple
    # products n . (a x b) of all edges follow from the moment of the normal about the first corner.
    edges = corners[1] - corners[0], corners[2] - corners[0]
    moment = cross(normals, toward[0])
    first, last = dot(moment, edges[0]), dot(moment, edges[1])
    triples = first, last - first + dot(normals, cross(edges[0][None], edges[1])[0]), -last
    squares = [np.maximum(dot(vertex, vertex), np.float32(1e-12)) for vertex in toward]
    inverse = [1 / np.sqrt(square) for square in squares]
    exact = lowest < 0
    for i, j, triple in zip((0, 1, 2), (1, 2, 0), triples, strict=True):
        side = corners[j] - corners[i]
        weight = inverse[i] * inverse[j]
        # One less the cosine, by the law of cosines.
        x = 1 - (squares[i] + squares[j] - dot(side, side)) * (np.float32(0.5) * weight)
        widest = x.max(initial=0)
        coefficients = SMALL_ANGLE_OVER_SINE if widest < 1 / 32 else ANGLE_OVER_SINE
        ratio = x * np.float32(coefficients[0])
        for coefficient in coefficients[1:-1]:
            ratio += np.float32(coefficient)
            ratio *= x
        ratio += np.float32(coefficients[-1])
        total += ratio * triple * weight
        # Close to a light an edge may be wider than a right angle.
        if widest > 1:
            exact |= x > 1
    total[highest <= 0] = 0
    rest = np.flatnonzero(exact & (highest > 0))
    if len(rest):
        total[rest] = _clipped([normalised(take(vertex, rest)) for vertex in toward], take(normals, rest))
    return np.abs(total) * np.float32(0.5 / np.pi)


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


def triangle_samples(count: int, shift: float = 0.0) -> Float32Array:
    """(count, 3) barycentric coordinates, an R2 low-discrepancy sequence spread evenly over a triangle.

    Args:
        shift: start in the sequence, so that several sets interleave.
    """
    index = np.arange(count) + shift
    u = (0.5 + index * 0.7548776662466927) % 1.0
    v = (0.5 + index * 0.5698402909980532) % 1.0
    root = np.sqrt(u)
    return np.stack([1 - root, root * (1 - v), root * v], axis=1).astype(np.float32)


def tangent_frame(normals: Float32Array) -> tuple[Float32Array, Float32Array]:
    """Two unit tangents (S, 3) that complete unit normals to a right-handed frame, without branches
    (Duff et al. 2017, Building an Orthonormal Basis, Revisited)."""
    x, y, z = normals.T
    sign = np.copysign(np.float32(1), z)
    a = -1 / (sign + z)
    b = x * y * a
    return vectors(1 + sign * x * x * a, sign * b, -sign * x), vectors(b, sign + y * y * a, -y)


def ggx_masking(cosine: Float32Array, alpha: Float32Array) -> Float32Array:
    """Smith's masking G1 of isotropic GGX for a direction at `cosine` to the normal; 0 below the surface."""
    squared = np.clip(cosine, 1e-6, 1) ** 2
    masking = 2 / (1 + np.sqrt(1 + alpha**2 * (1 - squared) / squared))
    result: Float32Array = masking * (cosine > 0)
    return result


def ggx_density(half: Float32Array, alpha: Float32Array) -> Float32Array:
    """Normal distribution D of isotropic GGX for half vectors (S, 3) in the tangent frame (z is the normal).

    The sine is taken from x and y, which keeps its precision near the peak of a sharp lobe.
    """
    sine2 = half[:, 0] ** 2 + half[:, 1] ** 2
    cosine2 = half[:, 2] ** 2
    alpha2: Float32Array = alpha * alpha
    spread: Float32Array = alpha2 * cosine2 + sine2
    return alpha2 / (np.float32(np.pi) * spread * spread)


def ggx_visible_normal(view: Float32Array, alpha: Float32Array, u: Float32Array, v: Float32Array) -> Float32Array:
    """Half vectors (S, 3) in the tangent frame, drawn from the normals that are visible from `view`
    (Dupuy and Benyoub 2023, spherical caps).

    Args:
        view: (S, 3) unit, tangent frame, above the surface; u, v: (S,) uniform numbers in [0, 1).
    """
    x, y, z = view.T
    stretched = normalised(vectors(alpha * x, alpha * y, z))
    phi = np.float32(2 * np.pi) * u
    z = 1 - v * (1 + stretched[:, 2])
    radius = np.sqrt(np.clip(1 - z * z, 0, 1))
    x, y, z = (vectors(radius * np.cos(phi), radius * np.sin(phi), z) + stretched).T
    return normalised(vectors(alpha * x, alpha * y, np.maximum(z, 0)))
