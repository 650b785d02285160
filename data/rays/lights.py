"""Light triangles, few that stand for many, and points on them.

Shapes: L light triangles, S surface points. All vectors are in world space, float32.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator
from dataclasses import dataclass, fields, replace

import numpy as np

from renderformer.data.arrays import AnyArray, BoolArray, Float32Array, Float64Array, Int64Array
from renderformer.data.rays.vectors import take
from renderformer.data.scene import EMISSION, Scene


@dataclass(frozen=True)
class Lights:
    """Light triangles of a scene.

    Attributes:
        triangle: (L,) their indices in the scene; corners: (L, 3, 3); radiance: (L, 3); area: (L,).
        normal: (L, 3) unit, of the front; two_sided: (L,) whether the back emits too.
        weight: (L,) what a light counts for, see `drawn`.
    """

    triangle: Int64Array
    corners: Float32Array
    radiance: Float32Array
    area: Float32Array
    normal: Float32Array
    two_sided: BoolArray
    weight: Float32Array

    @classmethod
    def of(cls, scene: Scene) -> Lights:
        """Those of a scene."""
        return cls.from_triangles(scene.triangles, scene.materials[:, EMISSION], scene.two_sided)

    @classmethod
    def from_triangles(cls, triangles: Float32Array, emission: Float32Array, two_sided: BoolArray) -> Lights:
        """The lights among a scene's triangles (N, 3, 3) with radiance (N, 3), of which some emit from both sides (N,).
        Triangles without area are left out, since they send no light."""
        emits = np.flatnonzero((emission > 0).any(axis=1))
        corners, radiance = triangles[emits], emission[emits]
        cross = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
        length = np.linalg.norm(cross, axis=1)
        keep = length > 0
        normal = (cross[keep] / length[keep, None]).astype(np.float32)
        area = (length[keep] / 2).astype(np.float32)
        return cls(
            emits[keep], corners[keep].astype(np.float32), radiance[keep].astype(np.float32), area, normal,
            two_sided[emits][keep], np.ones(len(area), np.float32),
        )  # fmt: skip

    def drawn(self, count: int) -> Lights:
        """At most `count` lights that stand for all: a systematic sample by power, in the order of the mesh, so that it
        is spread over the surface. `weight` is what a drawn light counts for."""
        if len(self) <= count:
            return self
        power = self.area.astype(np.float64) * self.radiance.sum(axis=1)
        expected = count * power / power.sum()
        cumulated = np.cumsum(expected)
        index, times = np.unique(np.searchsorted(cumulated, np.arange(count) + 0.5), return_counts=True)
        return replace(self.take(index), weight=(times / expected[index]).astype(np.float32))

    def take(self, index: AnyArray) -> Lights:
        """Those at an index (L',) or of a mask (L,)."""
        return Lights(*(getattr(self, field.name)[index] for field in fields(self)))

    def __len__(self) -> int:
        return len(self.area)


def r2_sequence(count: int) -> Float64Array:
    """(count, 2) points spread evenly over the unit square (Roberts 2018)."""
    return (0.5 + np.arange(count)[:, None] * np.array([0.7548776662466927, 0.5698402909980532])) % 1


@functools.lru_cache(maxsize=64)
def triangle_samples(count: int) -> Float32Array:
    """(count, 3) barycentric coordinates, an R2 low-discrepancy sequence spread evenly over a triangle; to be read
    only."""
    u, v = r2_sequence(count).T
    root = np.sqrt(u)
    samples = np.stack([1 - root, root * (1 - v), root * v], axis=1).astype(np.float32)
    samples.flags.writeable = False
    return samples


def light_points(corners: Float32Array, count: int, phase: Int64Array) -> Iterator[Float32Array]:
    """`count` times a point (S, 3) on a light triangle (3, 3) for each of S surface points.

    Args:
        phase: (S,) small integers; points of a different phase get different points on the light.
    """
    for points in points_by_phase(corners, count, int(phase.max(initial=0)) + 1):
        yield take(points, phase)


def points_by_phase(corners: Float32Array, count: int, phases: int) -> Iterator[Float32Array]:
    """`count` times a point on a light triangle (3, 3) for each phase, (phases, 3)."""
    points = triangle_samples(count * phases) @ corners
    # Interleaved, so that the union over the phases covers the light evenly too.
    for k in range(count):
        yield points[k::count]
