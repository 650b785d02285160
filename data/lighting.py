"""Direct light of light triangles on surface points: form factor, shadow rays, GGX highlight.

Shapes: S surface points, L light triangles, K samples. All vectors are in world space, float32.
Materials follow the models' training shader (spec training.md): diffuse plus GGX without Fresnel, alpha = roughness^2.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float32]

# Below this GGX is a mirror for every practical purpose, and its density overflows half precision.
MIN_ALPHA = 1e-3


@dataclass(frozen=True)
class Lights:
    """Light triangles: their indices in the scene (L,), corners (L, 3, 3), radiance (L, 3), area (L,), unit normal
    (L, 3), chance of being here (L,) and weight (L,), see `drawn`."""

    triangle: npt.NDArray[np.int64]
    corners: FloatArray
    radiance: FloatArray
    area: FloatArray
    normal: FloatArray
    chance: FloatArray
    weight: FloatArray

    @classmethod
    def from_triangles(cls, triangles: FloatArray, emission: FloatArray) -> Lights:
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

    def expected(self, count: int) -> npt.NDArray[np.float64]:
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


def dot(a: FloatArray, b: FloatArray) -> FloatArray:
    """Inner product over the last axis."""
    result: FloatArray = np.einsum("...i,...i->...", a, b)
    return result


def normalised(v: FloatArray) -> FloatArray:
    """Unit vectors over the last axis; zero stays zero."""
    length = np.sqrt(dot(v, v))[..., None]
    return np.divide(v, length, out=np.zeros_like(v), where=length > 0)


def triangle_form_factor(points: FloatArray, normals: FloatArray, corners: FloatArray) -> FloatArray:
    """Point-to-triangle form factor, clipped at the horizon of each point (Lambert's polygon formula).

    Args:
        points: (S, 3); normals: (S, 3) unit, the side that receives; corners: (3, 3) of the triangle, which acts on
            both of its sides.

    Returns:
        (S,) in [0, 1]: irradiance = pi x radiance x form factor.
    """
    vertices = [normalised(corner - points) for corner in corners]
    heights = [dot(vertex, normals) for vertex in vertices]
    total = np.zeros(len(points), np.float32)
    below = np.stack(heights) < 0
    whole = ~below.any(axis=0)
    for i in range(3):
        total[whole] += _edge(vertices[i][whole], vertices[i - 2][whole], normals[whole])
    cut = np.flatnonzero(below.any(axis=0) & ~below.all(axis=0))
    if len(cut):
        total[cut] = _clipped(
            [vertex[cut] for vertex in vertices], [height[cut] for height in heights], normals[cut]
        )
    return (np.abs(total) / np.float32(2 * np.pi)).astype(np.float32)


def _edge(a: FloatArray, b: FloatArray, normals: FloatArray) -> FloatArray:
    """Angle between unit vectors a and b times the height of their plane's unit normal over the surface."""
    cross = np.cross(a, b)
    sine = np.sqrt(dot(cross, cross))
    angle = np.arctan2(sine, dot(a, b))
    # The ratio tends to 1 for a short edge.
    ratio = np.divide(angle, sine, out=np.ones_like(angle), where=sine > 1e-12)
    return ratio * dot(cross, normals)


def _clipped(vertices: list[FloatArray], heights: list[FloatArray], normals: FloatArray) -> FloatArray:
    """Sum over the edges of the part of a triangle above the horizon; every row has at least one corner below it."""
    total = np.zeros(len(normals), np.float32)
    leaving = np.zeros_like(normals)
    entering = np.zeros_like(normals)
    for i in range(3):
        a, b, height_a, height_b = vertices[i], vertices[i - 2], heights[i], heights[i - 2]
        crosses = (height_a < 0) != (height_b < 0)
        t = np.divide(height_a, height_a - height_b, out=np.zeros_like(height_a), where=crosses)
        border = normalised(a + t[:, None] * (b - a))
        leaves, enters = crosses & (height_a >= 0), crosses & (height_a < 0)
        leaving[leaves], entering[enters] = border[leaves], border[enters]
        start = np.where((height_a < 0)[:, None], border, a)
        end = np.where((height_b < 0)[:, None], border, b)
        visible = (height_a >= 0) | (height_b >= 0)
        total += np.where(visible, _edge(start, end, normals), 0)
    return total + _edge(leaving, entering, normals)


def triangle_samples(count: int, shift: float = 0.0) -> FloatArray:
    """(count, 3) barycentric coordinates, an R2 low-discrepancy sequence spread evenly over a triangle.

    Args:
        shift: start in the sequence, so that several sets interleave.
    """
    index = np.arange(count) + shift
    u = (0.5 + index * 0.7548776662466927) % 1.0
    v = (0.5 + index * 0.5698402909980532) % 1.0
    root = np.sqrt(u)
    return np.stack([1 - root, root * (1 - v), root * v], axis=1).astype(np.float32)


def tangent_frame(normals: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Two unit tangents (S, 3) that complete unit normals to a right-handed frame, without branches
    (Duff et al. 2017, Building an Orthonormal Basis, Revisited)."""
    x, y, z = normals.T
    sign = np.copysign(np.float32(1), z)
    a = -1 / (sign + z)
    b = x * y * a
    tangent = np.stack([1 + sign * x * x * a, sign * b, -sign * x], axis=1)
    bitangent = np.stack([b, sign + y * y * a, -y], axis=1)
    return tangent, bitangent


def ggx_masking(cosine: FloatArray, alpha: FloatArray) -> FloatArray:
    """Smith's masking G1 of isotropic GGX for a direction at `cosine` to the normal; 0 below the surface."""
    squared = np.clip(cosine, 1e-6, 1) ** 2
    masking = 2 / (1 + np.sqrt(1 + alpha**2 * (1 - squared) / squared))
    return np.where(cosine > 0, masking, 0).astype(np.float32)


def ggx_density(half: FloatArray, alpha: FloatArray) -> FloatArray:
    """Normal distribution D of isotropic GGX for half vectors (S, 3) in the tangent frame (z is the normal).

    The sine is taken from x and y, which keeps its precision near the peak of a sharp lobe.
    """
    sine2 = half[:, 0] ** 2 + half[:, 1] ** 2
    cosine2 = half[:, 2] ** 2
    return (alpha**2 / (np.pi * (alpha**2 * cosine2 + sine2) ** 2)).astype(np.float32)


def ggx_visible_normal(view: FloatArray, alpha: FloatArray, u: FloatArray, v: FloatArray) -> FloatArray:
    """Half vectors (S, 3) in the tangent frame, drawn from the normals that are visible from `view`
    (Dupuy and Benyoub 2023, spherical caps).

    Args:
        view: (S, 3) unit, tangent frame, above the surface; u, v: (S,) uniform numbers in [0, 1).
    """
    stretched = normalised(np.stack([alpha * view[:, 0], alpha * view[:, 1], view[:, 2]], axis=1))
    phi = np.float32(2 * np.pi) * u
    z = 1 - v * (1 + stretched[:, 2])
    radius = np.sqrt(np.clip(1 - z * z, 0, 1))
    cap = np.stack([radius * np.cos(phi), radius * np.sin(phi), z], axis=1) + stretched
    return normalised(
        np.stack([alpha * cap[:, 0], alpha * cap[:, 1], np.maximum(cap[:, 2], 0)], axis=1).astype(np.float32)
    )
