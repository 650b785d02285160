"""The tokens of a model on top of the light cache: clusters of surfels, each with its cached light.

Shapes: M surfels, N clusters.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from renderformer.data.arrays import BoolArray, Float32Array, Int64Array
from renderformer.data.rays.light_cache import LightCache, Surfels
from renderformer.data.rays.surfels import numbered
from renderformer.data.rays.vectors import TINY, normalised
from renderformer.data.scene import EMISSION

# Steps of bisection for the size of the clusters.
STEPS = 12
# Surfels share a cluster only if they face the same one of these most.
AXES = np.concatenate([np.eye(3), -np.eye(3)])


@dataclass(frozen=True, eq=False)
class LightTokens:
    """N clusters of neighbouring surfels of like orientation, as triangles.

    Attributes:
        triangles: (N, 3, 3) equilateral, of the area of the cluster, around its centroid, counter-clockwise about its
            mean normal.
        normals: (N, 3) unit.
        materials: (N, 13) mean rows.
        light: (N, 5, 3) light that a white diffuse surface would send back, irradiance / pi: direct and indirect on the
            front, direct and indirect on the back, and the standard deviation of the light on the front among the
            surfels.
    """

    triangles: Float32Array
    normals: Float32Array
    materials: Float32Array
    light: Float32Array

    @property
    def vertex_normals(self) -> Float32Array:
        """(N, 3, 3) the normal at each corner, which is the same at all three."""
        return np.repeat(self.normals[:, None], 3, axis=1)

    @classmethod
    def of(cls, cache: LightCache, budget: int) -> LightTokens:
        """At most `budget` clusters of a light cache; more only where surfels face more ways than that."""
        surfels = cache.surfels()
        emits = np.asarray((surfels.materials[:, EMISSION] > 0).any(axis=1))
        group = _groups(surfels, emits, budget)
        count = int(group.max(initial=-1)) + 1
        area = np.bincount(group, surfels.area, count)

        def mean(values: Float32Array) -> Float32Array:
            flat = values.reshape(len(values), -1) * surfels.area[:, None]
            total = np.stack([np.bincount(group, column, count) for column in flat.T], axis=1)
            return (total / np.maximum(area, TINY)[:, None]).reshape(count, *values.shape[1:]).astype(np.float32)

        front = surfels.direct[:, 0] + surfels.indirect[:, 0]
        deviation = np.sqrt(np.maximum(mean(front**2) - mean(front) ** 2, 0))
        light = [surfels.direct[:, 0], surfels.indirect[:, 0], surfels.direct[:, 1], surfels.indirect[:, 1]]
        normals = normalised(mean(surfels.normal))
        return cls(
            _triangles(mean(surfels.position), normals, area.astype(np.float32)),
            normals,
            mean(surfels.materials),
            np.stack([*(mean(part) for part in light), deviation], axis=1),
        )


def _groups(surfels: Surfels, emits: BoolArray, budget: int) -> Int64Array:
    """(M,) number of the cluster of each surfel: cells of a grid as fine as the budget allows, by the axis that surfels
    face most, lights apart."""
    if not len(emits):
        return np.zeros(0, np.int64)
    facing = 2 * (surfels.normal @ AXES.T).argmax(axis=1) + emits
    from_corner = surfels.position - surfels.position.min(axis=0)
    extent = max(float(from_corner.max()), TINY)

    def grouped(cell: float) -> Int64Array:
        return numbered((*np.floor(from_corner / cell).astype(np.int64).T, facing))

    coarse, fine = 2 * extent, extent / 1024
    group = grouped(fine)
    if group.max() < budget:
        return group
    group = grouped(coarse)
    for _ in range(STEPS):
        middle = np.sqrt(coarse * fine)
        trial = grouped(middle)
        if trial.max() < budget:
            coarse, group = middle, trial
        else:
            fine = middle
    return group


def _triangles(centre: Float32Array, normal: Float32Array, area: Float32Array) -> Float32Array:
    """(N, 3, 3) equilateral triangles of an area (N,) about centres, perpendicular to normals."""
    helper = np.where(np.abs(normal[:, 2:]) < 0.9, np.array([0, 0, 1], np.float32), np.array([1, 0, 0], np.float32))
    x = normalised(np.cross(helper, normal))
    y = np.cross(normal, x)
    # The area of an equilateral triangle is 3 sqrt(3) / 4 times its circumradius squared.
    radius = np.sqrt(area * np.float32(4 / (3 * np.sqrt(3))))[:, None, None]
    angle = np.float32(2 * np.pi / 3) * np.arange(3, dtype=np.float32)
    corners = np.cos(angle)[:, None] * x[:, None] + np.sin(angle)[:, None] * y[:, None]
    return (centre[:, None] + radius * corners).astype(np.float32)
