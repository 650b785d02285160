"""Direct light of light triangles on surface points: exact form factors, and shadow rays for what is in the way.

Everything is deterministic: the points on a light that shadow rays go to are fixed sequences.

Shapes: N triangles, S surface points, L light triangles, K shadow rays per light, C channels of light
(light_groups.py). Vectors lie as in vectors.py.
"""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Self

import numpy as np

from renderformer.data.arrays import BoolArray, Float32Array, Int32Array, Int64Array
from renderformer.data.rays.embree import Hits, Seen, Surfaces
from renderformer.data.rays.environment_light import Arriving, EnvironmentLight
from renderformer.data.rays.foreseen import FREE, PROBES, Foreseen
from renderformer.data.rays.form_factor import triangle_form_factor
from renderformer.data.rays.light_groups import ONE_GROUP, LightGroups
from renderformer.data.rays.light_tree import LITTLE, TOGETHER, LightTree, Rays, concentration
from renderformer.data.rays.lights import Lights, light_points, points_by_phase
from renderformer.data.rays.tree import Tree
from renderformer.data.rays.vectors import TINY, dot, take
from renderformer.data.scene import EMISSION, Scene

# Of more lights than this, shadow rays go to those that matter at a point.
EVERY_LIGHT = 32
# And to the parts that matter of lights with larger form factors than this at a point, all together.
LARGE = 0.01
# Shadow rays for each one that was asked for, at a point to which many lights matter, or many parts of a large one.
MORE_RAYS = 8
# Share of the light at a point, below which what a light sends need not be exact where only the choice of shadow rays
# depends on it, or where the point is seen in a mirror.
LITTLE_FOR_RAYS = 0.05
# Points of which more than this share see a place on a light are not picked: that costs more than the others.
MOST_OF_ALL = 0.6
# Samples handled at once, by one thread: bounds the memory, and keeps the overhead of a NumPy call small.
CHUNK = 65536


@dataclass(frozen=True)
class LightRays:
    """Shadow rays: of which points (Q,), with which share of the light, 0 to 1 (Q,), to which places (Q, 3) on which
    lights (Q,) or light, how many are drawn there per area (Q,), and how many are expected there when samples of lights
    and of lobes are weighed (Q,); and whether they are one of every point, in order."""

    row: Int64Array
    share: Seen
    target: Float32Array
    light: Int64Array | int
    density: Float32Array
    expected: Float32Array
    every: bool = False


class Direct(ABC):
    """Direct light on S surface points.

    Attributes:
        reflected: (S, C) radiance that a white diffuse surface sends back: irradiance / pi.
    """

    surfaces: LitSurfaces
    reflected: Float32Array

    @abstractmethod
    def take(self, index: Int64Array) -> Direct:
        """That of the points at an index (S',)."""

    @abstractmethod
    def rays(self) -> Iterator[LightRays]:
        """All shadow rays that arrive, at least."""

    @abstractmethod
    def expected(self, row: Int64Array, hits: Hits, square: Float32Array) -> Float32Array:
        """(S',) shadow rays expected per solid angle where points (S',) see `hits` at squared distances (S',)."""


@dataclass(frozen=True)
class EveryLight(Direct):
    """Shadow rays go to fixed points on every light.

    Attributes:
        seen: (L, K, S) which of K points on each light are seen, or what share of their light.
        phase: (S,) points of a different phase use different points on the light.
    """

    surfaces: LitSurfaces
    reflected: Float32Array
    seen: Seen
    phase: Int64Array

    def take(self, index: Int64Array) -> Direct:
        return replace(self, reflected=self.reflected[index], seen=self.seen[..., index], phase=self.phase[index])

    def rays(self) -> Iterator[LightRays]:
        lights, count = self.surfaces.lights, self.seen.shape[1]
        for light, (corners, area) in enumerate(zip(lights.corners, lights.area, strict=True)):
            if not self.seen[light].any():
                continue
            for free, points in zip(self.seen[light], light_points(corners, count, self.phase), strict=True):
                row = np.flatnonzero(free)
                every = len(row) > MOST_OF_ALL * len(free)
                if every:
                    row = np.arange(len(free))
                else:
                    free, points = free[row], take(points, row)
                density = np.full(len(row), count / area, np.float32)
                yield LightRays(row, free, points, light, density, density, every)

    def expected(self, row: Int64Array, hits: Hits, square: Float32Array) -> Float32Array:
        surfaces = self.surfaces
        cosine = np.maximum(np.abs(dot(hits.face_normal, hits.outgoing)), np.float32(1e-6))
        area = np.maximum(surfaces.areas.take(hits.triangle), np.float32(TINY))
        return self.seen.shape[1] * surfaces.shines.take(hits.triangle) * square / (cosine * area)


@dataclass(frozen=True)
class SomeLights(Direct):
    """Shadow rays go to points on the lights that matter.

    Attributes:
        normal: (S, 3); free: the rays that arrive, ordered by point; share: (Q,) of the light that does.
        rate: (S,) rays for each unit of unshadowed light that a point receives.
    """

    surfaces: LitSurfaces
    reflected: Float32Array
    normal: Float32Array
    rate: Float32Array
    free: Rays
    share: Seen

    def take(self, index: Int64Array) -> Direct:
        number = np.full(len(self.rate), -1)
        number[index] = np.arange(len(index))
        kept = np.flatnonzero(number[self.free.row] >= 0)
        free = self.free.take(kept)
        free = replace(free, row=number[free.row])
        reflected, normal, rate = self.reflected[index], take(self.normal, index), self.rate[index]
        return SomeLights(self.surfaces, reflected, normal, rate, free, self.share[kept])

    def rays(self) -> Iterator[LightRays]:
        for start in range(0, len(self.free.row), CHUNK):
            index = np.arange(start, min(start + CHUNK, len(self.free.row)))
            some = self.free.take(index)
            expected = self.rate[some.row] * some.received * some.density
            yield LightRays(some.row, self.share[index], some.target, some.light, some.density, expected)

    def expected(self, row: Int64Array, hits: Hits, square: Float32Array) -> Float32Array:
        # What arrives from a direction grows with the radiance and the cosine there.
        cosine = np.maximum(-dot(take(self.normal, row), hits.outgoing), 0)
        brightness = self.surfaces.brightnesses.take(hits.triangle)
        return self.rate[row] * brightness * cosine * np.float32(1 / np.pi)


class Mixed(Direct):
    """Different kinds at different points.

    Args:
        index: of which points (S',), the numbers of all points but once.
        parts: one for each index.
    """

    def __init__(self, surfaces: LitSurfaces, index: Sequence[Int64Array], parts: Sequence[Direct]) -> None:
        self.surfaces, self._index, self._parts = surfaces, index, parts
        count = sum(map(len, index))
        self.reflected = np.zeros((count, 3), np.float32)
        self._part, self._place = np.zeros((2, count), np.int64)
        for number, (rows, part) in enumerate(zip(index, parts, strict=True)):
            self.reflected[rows] = part.reflected
            self._part[rows], self._place[rows] = number, np.arange(len(rows))

    def take(self, index: Int64Array) -> Direct:
        part, place = self._part[index], self._place[index]
        rows = [np.flatnonzero(part == number) for number in range(len(self._parts))]
        taken = [some.take(place[row]) for some, row in zip(self._parts, rows, strict=True)]
        return Mixed(self.surfaces, rows, taken)

    def rays(self) -> Iterator[LightRays]:
        for index, part in zip(self._index, self._parts, strict=True):
            for rays in part.rays():
                yield replace(rays, row=index[rays.row], every=False)

    def expected(self, row: Int64Array, hits: Hits, square: Float32Array) -> Float32Array:
        result = np.zeros(len(row), np.float32)
        for number, part in enumerate(self._parts):
            some = np.flatnonzero(self._part[row] == number)
            result[some] = part.expected(self._place[row[some]], hits.take(some), square[some])
        return result


class Grouped(Direct):
    """That of groups of lights, kept apart.

    Args:
        surfaces: with all lights.
        parts: of the surfaces with the lights of each group alone.
    """

    def __init__(self, surfaces: LitSurfaces, parts: Sequence[Direct]) -> None:
        self.surfaces, self._parts = surfaces, parts
        self.reflected = np.concatenate([part.reflected.T for part in parts]).T

    def take(self, index: Int64Array) -> Direct:
        return Grouped(self.surfaces, [part.take(index) for part in self._parts])

    def rays(self) -> Iterator[LightRays]:
        every = self.surfaces.lights.triangle
        for part in self._parts:
            for rays in part.rays():
                yield replace(rays, light=np.searchsorted(every, part.surfaces.lights.triangle[rays.light]))

    def expected(self, row: Int64Array, hits: Hits, square: Float32Array) -> Float32Array:
        # A light belongs to one group, the others expect no rays there.
        result: Float32Array = sum(part.expected(row, hits, square) for part in self._parts)  # type: ignore[assignment]
        return result


class LitSurfaces(Surfaces):
    """Surfaces, the light triangles among them, and an environment; arguments as `Surfaces`.

    Attributes:
        environment: that lights them, None for none.
        groups: of the lights, whose light is kept apart, see `split`.
        object_index: (N,) the object of each triangle, see `Scene.object_index`; None unless they are of a scene.
    """

    environment: EnvironmentLight | None = None
    groups: LightGroups = ONE_GROUP
    object_index: Int32Array | None = None
    _by_group: Sequence[LitSurfaces] = ()

    @classmethod
    def of(cls, scene: Scene, tree: Tree | None = None) -> Self:
        """Those of a scene, with its environment; `tree` as in `Surfaces.of`."""
        surfaces = super().of(scene, tree)
        surfaces.object_index = scene.object_index
        if scene.environment is not None and not scene.environment.is_dark:
            surfaces.environment = EnvironmentLight.of(scene.environment)
        return surfaces

    def split(self, groups: LightGroups) -> Self:
        """The same surfaces, with the light of each group of lights kept apart."""
        surfaces = copy.copy(self)
        surfaces.groups = groups
        if groups.count > 1:
            surfaces._by_group = [self._with(groups.triangle == group) for group in range(groups.count)]
        if self.environment is not None:
            surfaces.environment = self.environment.split(groups)
        return surfaces

    def _with(self, chosen: BoolArray) -> Self:
        """The same surfaces with those lights alone that are among the chosen triangles (N,)."""
        surfaces = copy.copy(self)
        surfaces.__dict__["lights"] = self.lights.take(chosen[self.lights.triangle])
        for name in ("shines", "brightnesses", "_light_tree"):
            surfaces.__dict__.pop(name, None)
        return surfaces

    @cached_property
    def lights(self) -> Lights:
        """All light triangles."""
        return Lights.from_triangles(self.triangles, self.materials[:, EMISSION], self.two_sided)

    @cached_property
    def shines(self) -> Float32Array:
        """(N,) 1 for a triangle that is a light, 0 for others."""
        shines = np.zeros(len(self.triangles), np.float32)
        shines[self.lights.triangle] = 1
        return shines

    @cached_property
    def brightnesses(self) -> Float32Array:
        """(N,) mean over the colours of the radiance of triangles."""
        return self.shines * self.materials[:, EMISSION].mean(axis=1)

    @cached_property
    def _light_tree(self) -> LightTree:
        return LightTree(self.lights)

    @property
    def asks_every_light(self) -> bool:
        """Whether the lights are so few that shadow rays go to each."""
        return len(self.lights) <= EVERY_LIGHT

    def direct(self, hits: Hits, shadow_rays: int, phase: Int64Array, foreseen: Foreseen | None = None) -> Direct:
        """What surface points receive of the lights; the unshadowed part is exact or nearly so.

        Args:
            shadow_rays: for each light where there are few, else half as many for each light that matters.
            phase: (S,) small integers; points of a different phase use different points on the lights.
            foreseen: what the points probably see of the lights, which saves shadow rays.
        """
        if self._by_group:
            parts = []
            for surfaces in self._by_group:
                lights = np.searchsorted(self.lights.triangle, surfaces.lights.triangle)
                parts.append(surfaces.direct(hits, shadow_rays, phase, foreseen and foreseen.of(lights)))
            return Grouped(self, parts)
        if not self.asks_every_light:
            return self._some_lights(hits, shadow_rays, phase)
        factor = self.factors(hits)
        large = np.flatnonzero(factor.sum(axis=0) > LARGE)
        if not len(large):
            return self._every_light(hits, shadow_rays, phase, factor, foreseen)
        small = np.flatnonzero(factor.sum(axis=0) <= LARGE)
        exact = (self.lights.radiance.T @ factor[:, large]).T
        known = foreseen and foreseen.take(small)
        mixed = (
            self._every_light(hits.take(small), shadow_rays, phase[small], factor[:, small], known),
            self._some_lights(hits.take(large), shadow_rays, phase[large], exact),
        )
        return Mixed(self, (small, large), mixed)

    def factors(self, hits: Hits) -> Float32Array:
        """(L, S) form factors of all lights."""
        lights = self.lights
        factor = np.zeros((len(lights), len(hits.rows)), np.float32)
        for i, (light, corners, both) in enumerate(zip(lights.triangle, lights.corners, lights.two_sided, strict=True)):
            factor[i] = triangle_form_factor(hits.position, hits.normal, corners, bool(both))
            # A flat light does not light itself; in its own plane the form factor is undefined.
            factor[i, hits.triangle == light] = 0
        return factor

    def _every_light(
        self, hits: Hits, shadow_rays: int, phase: Int64Array, factor: Float32Array, foreseen: Foreseen | None
    ) -> EveryLight:
        """The same as `direct`, of few lights with known form factors (L, S)."""
        seen = self.lights_seen(hits, shadow_rays, phase, factor, foreseen)
        reflected = (self.lights.radiance.T @ (factor * _mean(seen))).T
        return EveryLight(self, reflected, seen, phase)

    def lights_seen(
        self,
        hits: Hits,
        shadow_rays: int,
        phase: Int64Array,
        factor: Float32Array,
        foreseen: Foreseen | None = None,
    ) -> Seen:
        """(L, K, S) which of K points on each light are seen, or what share of their light, where form factors (L, S)
        are not 0; arguments as in `direct`."""
        lights, origins = self.lights, hits.shadow_origins
        seen = np.zeros((len(lights), shadow_rays, len(hits.rows)), self.seen_type)
        for i, corners in enumerate(lights.corners):
            lit = np.flatnonzero(factor[i] > 0)
            starts, turn = take(origins, lit), phase[lit]
            for k, points in enumerate(points_by_phase(corners, shadow_rays, int(turn.max(initial=0)) + 1)):
                if foreseen is not None and k == PROBES:
                    seen[i, k:] = (foreseen.state[i] == FREE) & (factor[i] > 0)
                    lit = foreseen.open(i, lit, seen[i, :k].take(lit, axis=1))
                    starts, turn = take(origins, lit), phase[lit]
                seen[i, k, lit] = self.transmitted(starts, take(points, turn))
        return seen

    def _some_lights(
        self, hits: Hits, shadow_rays: int, phase: Int64Array, unshadowed: Float32Array | None = None
    ) -> SomeLights:
        """The same as `direct`, of some lights; (S, 3) irradiance / pi without shadows may be known."""
        parts = []
        for first in range(0, max(len(hits.rows), 1), TOGETHER):
            rows = np.arange(first, min(first + TOGETHER, len(hits.rows)))
            known = None if unshadowed is None else unshadowed[rows]
            reflected, rate, free, share = self._drawn(hits.take(rows), shadow_rays, phase[rows], known)
            parts.append((reflected, rate, replace(free, row=free.row + first), share))
        light, rates, rays, shares = zip(*parts, strict=True)
        columns = np.concatenate(light), hits.normal, np.concatenate(rates)
        return SomeLights(self, *columns, Rays.joined(rays), np.concatenate(shares))

    def _drawn(
        self, hits: Hits, shadow_rays: int, phase: Int64Array, unshadowed: Float32Array | None
    ) -> tuple[Float32Array, Float32Array, Rays, Seen]:
        """The attributes of `SomeLights`."""
        tree, count, shadow_rays = self._light_tree, len(hits.rows), max(1, shadow_rays // 2)
        little = LITTLE if shadow_rays > 1 and unshadowed is None else LITTLE_FOR_RAYS
        stops = list(tree.stops(hits.position, hits.normal, hits.triangle, little))
        total, effective = concentration(stops, count)
        wanted = np.clip(np.ceil(shadow_rays / 2 * effective), shadow_rays, MORE_RAYS * shadow_rays).astype(np.int64)
        rays = tree.drawn(hits.position, hits.normal, stops, wanted, phase)
        seen = self.transmitted(take(hits.shadow_origins, rays.row), rays.target)
        radiance = self.lights.radiance
        arrives = rays.received[:, None] * radiance[rays.light] / radiance[rays.light].mean(axis=1)[:, None]
        light = tree.unshadowed(stops, count) if unshadowed is None else unshadowed
        for k in range(3):
            all_rays = np.bincount(rays.row, arrives[:, k], count)
            free = np.bincount(rays.row, arrives[:, k] * seen, count)
            light[:, k] *= np.divide(free, all_rays, out=np.zeros(count), where=all_rays > 0)
        rate = np.divide(wanted, total, out=np.zeros(count), where=total > 0).astype(np.float32)
        arrive = np.flatnonzero(seen)
        return light, rate, rays.take(arrive), seen[arrive]

    def irradiance(self, hits: Hits, shadow_rays: int, phase: Int64Array) -> Float32Array:
        """(S, C) radiance that a white diffuse surface would send back from direct light, irradiance / pi, without the
        soft part of the environment.

        Arguments as in `direct`.
        """
        light = self.direct(hits, shadow_rays, phase).reflected
        distant = self.distant(hits, shadow_rays, phase)
        return light if distant is None else light + distant.reflected(hits.normal)

    def distant(self, hits: Hits, shadow_rays: int, phase: Int64Array) -> Arriving | None:
        """What surface points receive of the bright part of the environment, if there is one; as `direct`."""
        if self.environment is None:
            return None
        return self.environment.arriving(self, hits, max(1, shadow_rays // 2), phase)

    @cached_property
    def brightness(self) -> float:
        """Radiance of a white surface in the middle of the scene that faces all lights: what is bright here."""
        around = 0.0 if self.environment is None else self.environment.level
        if not len(self.lights):
            return around or 1.0
        solid = self.triangles[(self.materials[:, EMISSION] <= 0).all(axis=1)]
        centre = solid.mean(axis=(0, 1)) if len(solid) else np.zeros(3, np.float32)
        extent = np.ptp(solid, axis=(0, 1)).max() if len(solid) else np.float32(0)
        distance2 = ((self.lights.corners.mean(axis=1) - centre) ** 2).sum(axis=1)
        # A light in the middle counts as one at a tenth of the scene's size.
        nearest = max(float(extent) / 10, TINY) ** 2
        power = self.lights.radiance.max(axis=1) * self.lights.area
        return float((power / np.maximum(distance2, nearest)).sum()) / np.pi + around


def _mean(seen: Seen) -> Float32Array:
    """(L, S) mean over the points of (L, K, S)."""
    count = seen.shape[1]
    if seen.dtype == bool:
        # Small integers add several times as fast as floats.
        mean: Float32Array = seen.view(np.uint8).sum(axis=1, dtype=np.min_scalar_type(count)) / np.float32(count)
    else:
        mean = seen.mean(axis=1, dtype=np.float32)
    return mean
