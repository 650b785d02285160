"""Light from an environment at surface points: its bright spots by shadow rays, the rest where rays meet nothing.

What of the environment is brighter than a multiple of its mean is the bright part. Fixed points of it, each of the same
power, get shadow rays; rays of specular lobes that miss see it too, and both are combined by the balance heuristic as
for light triangles (specular.py). The rest is the soft part: it arrives along the rays of the gather, the light cache
and the specular lobes that meet nothing, averaged over what such a ray stands for. Suns are bright.

Shapes: S surface points, K shadow rays, P phases, M texels, C channels of light (light_groups.py). Vectors are in world
space, laid out as in vectors.py.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary

import numpy as np

from renderformer.data.arrays import Float32Array, Int64Array
from renderformer.data.environment import (
    Environment,
    Sun,
    image_directions,
    looked_up,
    pyramid,
    resized,
    texel_solid_angles,
)
from renderformer.data.rays.ggx import Lobe, ggx_masking, ggx_shape, tangent_frame, to_world
from renderformer.data.rays.hemisphere import cosine_directions, oriented
from renderformer.data.rays.light_groups import ONE_GROUP, LightGroups
from renderformer.data.rays.lights import r2_sequence
from renderformer.data.rays.vectors import dot, take

if TYPE_CHECKING:
    from renderformer.data.rays.embree import Hits, Seen, Surfaces

# Rows of the image that lights; a larger one is reduced.
ROWS = 1024
# What is brighter than this many means is bright, unless it brings less than this share of the light.
BRIGHT, NEGLIGIBLE = 4.0, 0.01
# Shadow rays to the bright part for each that a light triangle gets, if it covers more than this solid angle.
RAYS_PER_LIGHT, SMALL = 4, 0.01
# Rays to the soft part at points without light cache, for each shadow ray of a light triangle.
SOFT_RAYS = 8
# Of the solid angle that a ray of a lobe stands for, how much is averaged: the samples of a pixel share it.
LOBE_SHARE = 0.25


@dataclass(frozen=True, eq=False)
class Points:
    """Points of the bright part: directions, flux (radiance times solid angle) and density per solid angle, over all K
    of a phase, of being one of them: (K, P, 3), (K, P, C), (K, P)."""

    direction: Float32Array
    flux: Float32Array
    density: Float32Array


class EnvironmentLight:
    """An environment, ready to light surface points."""

    @classmethod
    def of(cls, environment: Environment) -> EnvironmentLight:
        """That of an environment, which is kept as long as the environment lives: making it takes time."""
        light = _KNOWN.get(environment)
        if light is None:
            light = _KNOWN[environment] = cls(environment)
        return light

    def __init__(self, environment: Environment) -> None:
        self._groups = ONE_GROUP
        self._to_local = environment.to_local
        self._suns = tuple(sun for sun in environment.suns if sun.colour.any()) if environment.strength else ()
        image = np.asarray(environment.image) * np.float32(environment.strength)
        height, width, _ = image.shape
        if height > ROWS:
            image = resized(image, ROWS, -(-width * ROWS // height))
        self._strength = environment.strength
        soft, self._bright = _split(image)
        self._soft = pyramid(soft)
        self._points = lru_cache(maxsize=32)(self._make_points)

    @property
    def channels(self) -> int:
        """C."""
        return self._groups.channels

    @cached_property
    def level(self) -> float:
        """Radiance of a white surface that faces the brightest side: what is bright under this light."""
        suns = sum(float(sun.colour.max()) for sun in self._suns) * self._strength
        bright = 0.0 if self._bright is None else self._bright.flux.sum(axis=0).max()
        return float(self._soft[-1].max() + (bright + suns) / np.pi)

    def split(self, groups: LightGroups) -> EnvironmentLight:
        """The same light as that of its group."""
        light = copy.copy(self)
        light._groups = groups
        light._points = lru_cache(maxsize=32)(light._make_points)
        return light

    def soft(self, directions: Float32Array, solid_angle: Float32Array | float) -> Float32Array:
        """(S, C) radiance of the soft part along unit directions (S, 3), the mean over about `solid_angle`."""
        if len(self._soft) == 1:
            return self._groups.from_environment(np.tile(self._soft[0][0], (len(directions), 1)))
        return self._groups.from_environment(looked_up(self._soft, self._local(directions), solid_angle))

    def soft_irradiance(self, surfaces: Surfaces, hits: Hits, rays: int, phase: Int64Array) -> Float32Array:
        """(S, C) radiance that white diffuse surfaces send back of the soft part, by `rays` fixed rays from each.

        Args:
            phase: (S,) small integers; points of a different phase use different rays.
        """
        light = np.zeros((len(hits.rows), self._groups.channels), np.float32)
        phases = _phases(phase)
        local = cosine_directions(r2_sequence(rays * phases).astype(np.float32)).reshape(rays, phases, 3)
        origins, frame = hits.shadow_origins, (*tangent_frame(hits.normal), hits.normal)
        for k in range(rays):
            directions = to_world(frame, take(local[k], phase))
            share = surfaces.escaping(origins, directions)
            free = np.flatnonzero(share)
            light[free] += share[free, None] * self.soft(take(directions, free), np.pi / (rays * phases))
        return light / np.float32(rays)

    def arriving(self, surfaces: Surfaces, hits: Hits, shadow_rays: int, phase: Int64Array) -> Arriving:
        """What of the bright part reaches surface points; arguments as in `LitSurfaces.direct`."""
        points = self._points(shadow_rays, _phases(phase))
        seen = np.zeros((len(points.direction), len(hits.rows)), surfaces.seen_type)
        origins = hits.shadow_origins
        for k, direction in enumerate(points.direction):
            toward = take(direction, phase)
            facing = np.flatnonzero(dot(toward, hits.normal) > 0)
            if len(facing):
                seen[k, facing] = surfaces.escaping(take(origins, facing), take(toward, facing))
        return Arriving(self, points, seen, shadow_rays, phase)

    def bright_points(self, shadow_rays: int) -> int:
        """How many points of the bright part a surface point looks at, for so many rays to a light triangle."""
        return len(self._points(shadow_rays, 1).direction)

    def bright(self, directions: Float32Array, shadow_rays: int) -> list[tuple[Float32Array, Float32Array]]:
        """Of each source of the bright part the radiance (S, C) along unit directions (S, 3), and the density (S,) of
        `arriving` choosing them."""
        sources, local = [], self._local(directions)
        if self._bright is not None:
            radiance = looked_up([self._bright.image], local, 0.0)
            rays = shadow_rays * self._bright.factor
            density = radiance.mean(axis=1) * np.float32(rays / self._bright.power)
            sources.append((self._groups.from_environment(radiance), density))
        for sun in self._suns:
            if sun.solid_angle > 0:
                inside = dot(local, np.array(sun.direction, np.float32)) > np.cos(np.radians(sun.angle / 2))
                radiance = sun.colour * np.float32(self._strength / sun.solid_angle)
                density = inside * np.float32(shadow_rays / sun.solid_angle)
                sources.append((self._groups.from_environment(inside[:, None] * radiance), density))
        return sources

    def _local(self, directions: Float32Array) -> Float32Array:
        return directions @ self._to_local.T

    def _make_points(self, shadow_rays: int, phases: int) -> Points:
        parts = [_sun_points(sun, self._strength, shadow_rays, phases) for sun in self._suns]
        if self._bright is not None:
            parts.append(self._bright.points(shadow_rays * self._bright.factor, phases))
        if not parts:
            shapes = (3,), (self._groups.channels,), ()
            return Points(*(np.zeros((0, phases, *rest), np.float32) for rest in shapes))
        direction, flux, density = (np.concatenate(arrays) for arrays in zip(*parts, strict=True))
        # From the frame of the image to the world, by the transposed rotation.
        return Points(direction @ self._to_local, self._groups.from_environment(flux), density)


@dataclass(frozen=True, eq=False)
class Arriving:
    """What of the bright part reaches S surface points: `seen` (K, S) of the points (K, P) that belong to `phase`."""

    light: EnvironmentLight
    points: Points
    seen: Seen
    shadow_rays: int
    phase: Int64Array

    def take(self, index: Int64Array) -> Arriving:
        """At the points of an index (S',)."""
        return Arriving(self.light, self.points, self.seen[:, index], self.shadow_rays, self.phase[index])

    def reflected(self, normals: Float32Array) -> Float32Array:
        """(S, C) radiance that white diffuse surfaces of unit normals (S, 3) send back: irradiance / pi."""
        total = np.zeros((self.points.flux.shape[2], len(normals)), np.float32).T
        for seen, direction, flux in zip(self.seen, self.points.direction, self.points.flux, strict=True):
            if seen.any():
                cosine = np.maximum(dot(take(direction, self.phase), normals), 0) * seen
                total += (cosine * np.float32(1 / np.pi))[:, None] * take(flux, self.phase)
        return total

    def highlight(self, lobe: Lobe, lobe_rays: int) -> Float32Array:
        """(S, C) part of the highlight that the shadow rays find, for a specular colour of 1."""
        total = np.zeros((self.points.flux.shape[2], len(self.phase)), np.float32).T
        height = lobe.height
        arrays = self.points.direction, self.points.flux, self.points.density
        for seen, direction, flux, density in zip(self.seen, *arrays, strict=True):
            if seen.any():
                incoming = take(direction, self.phase)
                lobe_pdf = height * ggx_shape(lobe.normal, lobe.outgoing, incoming, lobe.alpha)
                reflectance = lobe_pdf * ggx_masking(dot(incoming, lobe.normal), lobe.alpha)
                weight = seen / (1 + lobe_rays * lobe_pdf / density[self.phase])
                total += (reflectance * weight)[:, None] * take(flux, self.phase)
        return total

    def along(self, directions: Float32Array, lobe_pdf: Float32Array, lobe_rays: int) -> Float32Array:
        """(S', C) radiance for rays of lobes that miss: the soft part, and the bright part as far as shadow rays leave
        it to them.

        Args:
            directions: (S', 3) unit; lobe_pdf: (S',) density per solid angle of one of the `lobe_rays`.
        """
        wide = (LOBE_SHARE / np.maximum(lobe_rays * lobe_pdf, 1e-6)).astype(np.float32)
        radiance = self.light.soft(directions, wide)
        for bright, density in self.light.bright(directions, self.shadow_rays):
            share = lobe_rays * lobe_pdf / np.maximum(lobe_rays * lobe_pdf + density, np.float32(1e-12))
            radiance = radiance + share[:, None] * bright
        return radiance


class SoftSky:
    """The soft part of an environment behind surfaces, in place of a light cache: a gather then finds direct light."""

    # Beside this weight of cells the rays of `irradiance` are left out.
    enough = 0.1

    def __init__(self, surfaces: Surfaces, light: EnvironmentLight) -> None:
        self._surfaces, self._light = surfaces, light

    def seen_along(
        self, origins: Float32Array, directions: Float32Array, solid_angle: float = 0.0
    ) -> tuple[Float32Array, Seen]:
        """(S, C) radiance that arrives along rays (S, 3), and which of them, or what share of each, meets nothing."""
        radiance = np.zeros((len(origins), self._light.channels), np.float32)
        share = self._surfaces.escaping(origins, directions)
        free = np.flatnonzero(share)
        radiance[free] = share[free, None] * self._light.soft(take(directions, free), solid_angle)
        return radiance, share

    def thrown(self, hits: Hits, phase: Int64Array) -> float:
        """None, as surfaces send nothing back."""
        return 0.0

    def irradiances(self, hits: Hits) -> tuple[Float32Array, Float32Array]:
        """As `LightCache.irradiances`; no light comes by way of other surfaces."""
        sky = self._light.soft_irradiance(self._surfaces, hits, 2 * SOFT_RAYS, np.zeros(len(hits.rows), np.int64))
        return sky, np.zeros_like(sky)


@dataclass(frozen=True, eq=False)
class _Bright:
    """The bright part of an image.

    Attributes:
        image: (H, W, 3) radiance; directions, flux: (M, 3) of its texels that are not 0, along a curve that keeps
            neighbours together; power: mean of the colours of their summed flux.
        factor: shadow rays for each that a light triangle gets.
    """

    image: Float32Array
    directions: Float32Array
    flux: Float32Array
    power: float
    factor: int

    def points(self, count: int, phases: int) -> tuple[Float32Array, Float32Array, Float32Array]:
        """`Points` in the frame of the image: the curve is cut into pieces of equal power, of which every phase gets
        each `phases`-th; a point stands in the middle of each. The pieces of any phases in a row are spread evenly."""
        total = count * phases
        cumulated = np.cumsum(self.flux.mean(axis=1), dtype=np.float64)
        middle = cumulated - self.flux.mean(axis=1) / 2
        # A texel that is brighter than a piece is cut: its parts lie in the pieces that its power reaches into.
        borders = np.arange(total + 1) / total * cumulated[-1]
        texel_borders = np.concatenate([[0], cumulated])
        sums = [np.interp(borders, texel_borders, np.concatenate([[0], np.cumsum(channel, dtype=np.float64)]))
                for channel in (*self.flux.T, *(self.directions.T * self.flux.mean(axis=1)))]  # fmt: skip
        pieces = np.diff(np.stack(sums, axis=-1), axis=0)
        direction = pieces[:, 3:] / np.maximum(np.linalg.norm(pieces[:, 3:], axis=1, keepdims=True), 1e-30)
        flux = (pieces[:, :3] * phases).astype(np.float32).reshape(count, phases, 3)
        order = _bits_reversed(phases)
        at = np.searchsorted(middle, (borders[:-1] + borders[1:]) / 2).clip(0, len(middle) - 1)
        radiance = looked_up([self.image], self.directions[at], 0.0).mean(axis=1)
        density = (radiance * (count / self.power)).astype(np.float32).reshape(count, phases)
        direction = direction.astype(np.float32).reshape(count, phases, 3)
        return direction[:, order], flux[:, order], np.maximum(density, np.float32(1e-12))[:, order]


def _split(image: Float32Array) -> tuple[Float32Array, _Bright | None]:
    """The soft part of an image (H, W, 3), and the bright part if there is one that matters."""
    solid = np.repeat(texel_solid_angles(*image.shape[:2])[:, None], image.shape[1], axis=1)
    brightness = image.mean(axis=2, dtype=np.float64)
    limit = np.inf
    # The second time, what is bright hardly counts in the mean.
    for _ in range(2):
        limit = BRIGHT * float((np.minimum(brightness, limit) * solid).sum()) / (4 * np.pi)
    excess = np.maximum(brightness - limit, 0)
    if (excess * solid).sum() <= NEGLIGIBLE * (brightness * solid).sum():
        return image, None
    share = (excess / np.maximum(brightness, 1e-30)).astype(np.float32)
    bright = image * share[..., None]
    row, column = np.nonzero(excess)
    order = np.argsort(_along_curve(row, column, max(image.shape[:2])), kind="stable")
    row, column = row[order], column[order]
    flux = bright[row, column] * solid[row, column, None]
    power = flux.mean(axis=1)
    # The solid angle over which the light is spread; dim parts of it count too.
    width = float((np.sqrt(excess) * solid).sum() ** 2 / (excess * solid).sum())
    directions = image_directions(*image.shape[:2])[row, column].astype(np.float32)
    factor = RAYS_PER_LIGHT if width > SMALL else 1
    return image - bright, _Bright(bright, directions, flux.astype(np.float32), float(power.sum()), factor)


def _along_curve(row: Int64Array, column: Int64Array, size: int) -> Int64Array:
    """(M,) positions of texels along Hilbert's curve through a square of at least `size` texels on a side."""
    y, x = row.astype(np.int64), column.astype(np.int64)
    place = np.zeros_like(x)
    side = 1 << max(0, (size - 1).bit_length() - 1)
    while side:
        right, low = (x & side) > 0, (y & side) > 0
        place += side * side * ((3 * right) ^ low)
        # The curve of a quarter is turned or mirrored.
        mirrored = ~low & right
        x, y = np.where(mirrored, ~x, x), np.where(mirrored, ~y, y)
        x, y = np.where(low, x, y), np.where(low, y, x)
        side >>= 1
    return place


def _sun_points(
    sun: Sun, strength: float, shadow_rays: int, phases: int
) -> tuple[Float32Array, Float32Array, Float32Array]:
    """`Points` on the disc of a sun, in the frame of the environment."""
    rays = shadow_rays if sun.angle > 0 else 1
    direction = sun_directions(sun, rays * phases).reshape(rays, phases, 3)
    flux = sun.colour * np.float32(strength / rays)
    density = rays / sun.solid_angle if sun.solid_angle > 0 else np.inf
    return direction, np.tile(flux, (rays, phases, 1)), np.full((rays, phases), density, np.float32)


def sun_directions(sun: Sun, count: int) -> Float32Array:
    """(count, 3) unit directions spread evenly over the disc of a sun, in the frame of the environment."""
    u, v = r2_sequence(count).T
    # The cosine is linear in u; by half the angle, since the cosine of a small one has no precision.
    polar, turn = 2 * np.arcsin(np.sqrt(u) * np.sin(np.radians(sun.angle / 4))), 2 * np.pi * v
    local = np.stack([np.sin(polar) * np.cos(turn), np.sin(polar) * np.sin(turn), np.cos(polar)], axis=-1)
    return oriented(np.tile(np.array(sun.direction, np.float32), (count, 1)), local.astype(np.float32))


def _phases(phase: Int64Array) -> int:
    """A power of two above the largest phase."""
    return 1 << int(phase.max(initial=0)).bit_length()


def _bits_reversed(count: int) -> Int64Array:
    """(count,) the numbers below a power of two with their bits in reverse, van der Corput's sequence times `count`."""
    numbers = np.zeros(1, np.int64)
    while len(numbers) < count:
        numbers = np.concatenate([2 * numbers, 2 * numbers + 1])
    return numbers


# The light of each live environment; they never change.
_KNOWN: WeakKeyDictionary[Environment, EnvironmentLight] = WeakKeyDictionary()
