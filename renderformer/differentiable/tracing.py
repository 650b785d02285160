"""Finds the samples that a differentiable picture is computed from: what rays meet, and which lights they see.

The code of ordinary pictures casts the rays, by the same sequences. What it finds is frozen as tensors: triangles,
points on lights with the share of their light that arrives, directions of lobes and how many of them there are, links.
Nothing here is differentiated; shading.py is.

Shapes: N triangles, S surface points, L light triangles, Q rays, M surfels with 2 M sides. Frozen numbers are float64.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from scipy.sparse import csr_array

from renderformer.data.arrays import AnyArray, Float32Array, Int64Array
from renderformer.data.rays.caustics import SKY, Paths
from renderformer.data.rays.embree import Hits
from renderformer.data.rays.environment_light import Arriving
from renderformer.data.rays.form_factor import triangle_form_factor
from renderformer.data.rays.ggx import Lobe, ggx_visible_normal
from renderformer.data.rays.hemisphere import cosine_directions, oriented
from renderformer.data.rays.light_cache import SHADOW_RAYS, LightCache
from renderformer.data.rays.lights import r2_sequence, triangle_samples
from renderformer.data.rays.pixels import Pixels
from renderformer.data.rays.raycast import RayCaster
from renderformer.data.rays.specular import MAX_SPREAD, MIRROR_DEPTH, WIDENED, widened
from renderformer.data.rays.vectors import dot, normalised, take
from renderformer.data.scene import EMISSION, ROUGHNESS, SPECULAR
from renderformer.differentiable.samples import (
    CameraSamples,
    FrozenCache,
    Gloss,
    Rays,
    Samples,
    SkyRays,
    Surface,
    Thrown,
    fixed,
)

# Rays of a sample over its hemisphere, in place of the filtered gather of ordinary pictures.
GATHER_RAYS = 32
# Least cosine to the normal by which the slope of one of them is told.
MIN_COSINE = 0.05
TINY = 1e-20


class Tracer:
    """Freezes samples of a scene that has a light cache.

    Args:
        shadow_rays, lobe_rays: of each sample, as in `RayCaster.features`.
        matt: whether surfaces without specular reflectance are followed as if they had some.
    """

    def __init__(self, caster: RayCaster, shadow_rays: int = 8, lobe_rays: int = 4, matt: bool = False) -> None:
        self.caster, self._matt = caster, matt
        self._shadow_rays, self._lobe_rays = shadow_rays, lobe_rays
        self._sides = len(caster.solved.indirect)

    @property
    def _cache(self) -> LightCache:
        return self.caster.solved

    def cache(self) -> FrozenCache:
        """The light cache of the scene."""
        exchange = self._cache.exchange()
        hits, phase = exchange.hits, exchange.solved % 8
        materials = take(self.caster.materials, hits.triangle)
        return FrozenCache(
            self._sides,
            fixed(exchange.solved),
            self._surface(hits, materials),
            _per_light(self._to_lights(hits, SHADOW_RAYS, phase), SHADOW_RAYS),
            fixed(self._sun(hits, SHADOW_RAYS, phase)),
            exchange.transport,
            fixed(exchange.sky),
            fixed(exchange.diffuse),
            fixed(exchange.reflectance),
            exchange.users,
            self._thrown(exchange.paths, exchange.shared),
        )

    def _thrown(self, paths: Paths, shared: csr_array) -> Thrown:
        """Paths of the light cache; their lobes and what they meet stay as they are."""
        triangle = paths.triangle[paths.point]
        detail = take(paths.specular(self.caster), paths.point) - take(self.caster.materials, triangle)[:, SPECULAR]
        distant = paths.light == SKY
        weight, light = np.where(distant, 0, paths.weight), np.where(distant, 0, paths.light)
        return Thrown(
            fixed(triangle), fixed(detail), fixed(light), fixed(paths.side), fixed(weight),
            fixed(paths.weight[:, None] * paths.sky), shared,
        )  # fmt: skip

    def view(self, pixels: Pixels, antialias: int) -> Iterator[CameraSamples]:
        """What the samples of pixels meet, one surface behind the other where rays go on."""
        places, phases = pixels.places(antialias), pixels.phases(antialias)
        for hits, materials, share in self.caster.layers(*pixels.rays(antialias), pixels.pixel_width / antialias):
            rows = hits.rows
            if not len(rows):
                continue
            samples = self._samples(hits, materials, phases[rows], self._shadow_rays, self._lobe_rays, MIRROR_DEPTH + 1)
            weight = np.ones(len(rows)) if share is None else share
            x, y = (fixed(place[rows]) for place in places)
            yield CameraSamples(samples, fixed(rows % len(pixels)), x, y, fixed(weight))

    def _samples(
        self,
        hits: Hits,
        materials: Float32Array,
        phase: Int64Array,
        shadow_rays: int,
        lobe_rays: int,
        depth: int,
        spread: Float32Array | None = None,
    ) -> Samples:
        """Points and their rays; lobes are followed where `depth` is more than 1. Rays that arrive stand for cones of
        `spread` (S,)."""
        first = depth > MIRROR_DEPTH
        rays = self._to_lights(hits, shadow_rays, phase)
        sky, gathered = self._sun(hits, shadow_rays, phase), None
        if first:
            gathered, beyond = self._gathered(hits)
            sky = sky + beyond
        sides = self._cache.side_at(hits, None if first else phase)
        gloss = None
        if depth > 1:
            seen = materials if spread is None else widened(materials, spread)
            gloss = self._gloss(hits, seen, phase, rays, shadow_rays, lobe_rays, depth)
        surface = self._surface(hits, materials, spread)
        return Samples(surface, _per_light(rays, shadow_rays), fixed(sky), fixed(sides), gathered, gloss, depth == 1)

    def _surface(self, hits: Hits, materials: Float32Array, spread: Float32Array | None = None) -> Surface:
        caster = self.caster
        side = np.sign(dot(take(caster.face_normals, hits.triangle), hits.face_normal))
        weights = _corner_weights(hits.barycentric)
        normals = take(caster.normals, hits.triangle).reshape(-1, 3, 3).astype(np.float64)
        smooth: AnyArray = normalised(np.einsum("si,sij->sj", weights, normals))
        missing = dot(smooth, smooth) == 0
        smooth[missing] = take(caster.face_normals, hits.triangle[missing])
        facing = np.where(dot(smooth, hits.normal) < 0, -1.0, 1.0)
        bend = np.zeros_like(smooth)
        if caster.appearance is not None and caster.appearance.bumpy.any():
            bend = hits.normal - facing[:, None] * smooth
        glows = np.asarray((materials[:, EMISSION] > 0).any(axis=1))
        detail = materials.astype(np.float64) - take(caster.materials, hits.triangle)
        detail[~glows, EMISSION] = 0
        wider = np.zeros(len(side)) if spread is None else (WIDENED * spread.astype(np.float64)) ** 2
        arrays: tuple[AnyArray, ...] = hits.triangle, hits.barycentric, side, facing, bend, detail, glows, wider
        return Surface(*(fixed(array) for array in arrays))

    def _to_lights(self, hits: Hits, shadow_rays: int, phase: Int64Array) -> Rays:
        """Shadow rays to fixed points of all lights, those that arrive."""
        lights, starts = self.caster.lights, hits.shadow_origins
        points = triangle_samples(shadow_rays * (int(phase.max(initial=0)) + 1))
        found: list[tuple[AnyArray, ...]] = []
        for number, (light, corners, both) in enumerate(
            zip(lights.triangle, lights.corners, lights.two_sided, strict=True)
        ):
            factor = triangle_form_factor(hits.position, hits.normal, corners, bool(both))
            factor[hits.triangle == light] = 0
            lit = np.flatnonzero(factor > 0)
            for k in range(shadow_rays):
                weights = points[k::shadow_rays][phase[lit]]
                seen = self.caster.transmitted(take(starts, lit), weights @ corners)
                free = np.flatnonzero(seen)
                found.append((lit[free], np.full(len(free), number), weights[free], seen[free]))
        return _joined(found)

    def _sun(self, hits: Hits, shadow_rays: int, phase: Int64Array) -> AnyArray:
        """(S, 3, 3) light of the bright part of an environment, see `Samples.sky`."""
        total = np.zeros((len(hits.rows), 3, 3))
        distant = self.caster.distant(hits, shadow_rays, phase)
        if distant is not None:
            for seen, direction, flux in zip(distant.seen, distant.points.direction, distant.points.flux, strict=True):
                arriving = direction[phase, :, None].astype(np.float64) * flux[phase, None]
                total += (seen / np.pi)[:, None, None] * arriving
        return total

    def _gathered(self, hits: Hits) -> tuple[csr_array, AnyArray]:
        """What points see over their hemispheres: the share of each side (3 S, 2 M) and light of the environment
        (S, 3, 3), both to be multiplied by the normal."""
        count = len(hits.rows)
        shift = np.arange(count)[:, None] * np.array([0.6180339887498949, 0.4142135623730951])
        uv = (r2_sequence(GATHER_RAYS)[None] + shift[:, None]) % 1
        local = cosine_directions(uv.reshape(-1, 2).astype(np.float32))
        directions = oriented(np.repeat(hits.normal, GATHER_RAYS, axis=0), local)
        sides = self._cache.side_along(np.repeat(hits.shadow_origins, GATHER_RAYS, axis=0), directions)
        outward = dot(directions, np.repeat(hits.face_normal, GATHER_RAYS, axis=0)) > 0
        share = _shares(hits.normal.astype(np.float64), directions.reshape(count, GATHER_RAYS, 3))
        met = outward & (sides >= 0)
        starts = np.concatenate([[0], np.cumsum(np.repeat(met.reshape(count, -1).sum(axis=1), 3))])
        by_axis = np.broadcast_to(met.reshape(count, 1, -1), (count, 3, GATHER_RAYS))
        weights = share.transpose(0, 2, 1)[by_axis]
        columns = np.broadcast_to(sides.reshape(count, 1, -1), by_axis.shape)[by_axis]
        shares = csr_array((weights, columns, starts), shape=(3 * count, self._sides))
        sky = np.zeros((len(sides), 3))
        if self.caster.environment is not None:
            beyond = outward & (sides < 0)
            sky[beyond] = self.caster.environment.soft(directions[beyond], np.pi / GATHER_RAYS)
        return shares, np.einsum("sri,src->sic", share, sky.reshape(count, GATHER_RAYS, 3))

    def _gloss(
        self,
        hits: Hits,
        materials: Float32Array,
        phase: Int64Array,
        rays: Rays,
        shadow_rays: int,
        lobe_rays: int,
        depth: int,
    ) -> Gloss | None:
        """Samples of the lobes, by lights and by lobes, as `renderformer.data.rays.specular` weighs them."""
        shiny = np.flatnonzero((materials[:, SPECULAR] > 0).any(axis=1) | self._matt)
        if not len(shiny):
            return None
        part, phase = hits.take(shiny), phase[shiny]
        lobe = Lobe.at(part.normal, part.outgoing, materials[shiny, ROUGHNESS])
        number = np.full(len(hits.rows), -1)
        number[shiny] = np.arange(len(shiny))
        row = number[rays.point.numpy()]
        kept = np.flatnonzero(row >= 0)
        own = Rays(*(fixed(a) for a in (row[kept], rays.light[kept], rays.weights[kept], rays.share[kept])))
        glints = [self._weighed(part, lobe, own, shadow_rays, lobe_rays)]

        distant = self.caster.distant(part, shadow_rays, phase)
        rows = np.tile(np.arange(len(shiny)), lobe_rays)
        phase = np.tile(phase, lobe_rays) * lobe_rays + np.repeat(np.arange(lobe_rays), len(shiny))
        directions, density = _lobe_directions(lobe.take(rows), phase)
        out = np.flatnonzero(density > 0)
        rows, phase, density = rows[out], phase[out], density[out]
        directions = take(directions, out)
        width = 0.0 if part.width is None else part.width[rows]
        spread = np.minimum(1 / np.sqrt(np.maximum(lobe_rays * density, 1)), MAX_SPREAD)
        met, rows_met = self.caster.hits(take(part.shadow_origins, rows), directions, spread, width)
        start, emission = rows[met.rows], rows_met[:, EMISSION]
        shines = np.flatnonzero((emission > 0).any(axis=1))
        lights = np.searchsorted(self.caster.lights.triangle, met.triangle[shines])
        places = _corner_weights(met.barycentric[shines])
        hit = Rays(*map(fixed, (start[shines], lights, places, np.ones(len(shines)))))
        glints.append(self._weighed(part, lobe, hit, shadow_rays, lobe_rays))
        dark = np.flatnonzero((emission <= 0).any(axis=1))
        kept_rows = met.rows[dark]
        samples = self._samples(met.take(dark), rows_met[dark], phase[kept_rows], 1, 1, depth - 1, spread[kept_rows])
        return Gloss(
            fixed(shiny),
            fixed(part.offset),
            Rays(*(torch.cat([getattr(a, key) for a in glints]) for key in ("point", "light", "weights", "share"))),
            _to_sky(distant, lobe, lobe_rays, directions, density, rows, met.rows),
            fixed(start[dark]),
            fixed(directions[kept_rows]),
            fixed(lobe_rays * density[kept_rows]),
            fixed(emission[dark] <= 0),
            samples,
        )

    def _weighed(self, hits: Hits, lobe: Lobe, rays: Rays, shadow_rays: int, lobe_rays: int) -> Rays:
        """The same rays, their share over how many are expected per area of the light, for a light of area 1: some go
        to points of the light, some are drawn by the lobe (balance heuristic)."""
        lights, point, light = self.caster.lights, rays.point.numpy(), rays.light.numpy()
        target = np.einsum("qi,qij->qj", rays.weights.numpy(), lights.corners[light].astype(np.float64))
        toward = target - take(hits.position, point)
        square = np.maximum(dot(toward, toward), TINY)
        toward = (toward / np.sqrt(square)[:, None]).astype(np.float32)
        seen_by = lobe.take(point)
        density = seen_by.density(normalised(seen_by.to_frame(toward) + seen_by.view)).astype(np.float64)
        cosine = np.maximum(np.abs(dot(toward, lights.normal[light])), 1e-6)
        area = lights.area[light].astype(np.float64)
        expected = shadow_rays / area + lobe_rays * density * cosine / square
        share = fixed(rays.share.numpy() / (expected * area))
        return Rays(rays.point, rays.light, rays.weights, share)


def _corner_weights(place: Float32Array) -> AnyArray:
    """(S, 3) weights of all corners, of those of the second and third (S, 2)."""
    u, v = place.astype(np.float64).T
    return np.stack([1 - u - v, u, v], axis=1)


def _joined(parts: list[tuple[AnyArray, ...]]) -> Rays:
    empty = np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros((0, 3)), np.zeros(0)
    point, light, weights, share = zip(empty, *parts, strict=True)
    share = tuple(np.asarray(a, np.float64) for a in share)
    return Rays(*(fixed(np.concatenate(columns)) for columns in (point, light, weights, share)))


def _per_light(rays: Rays, count: int) -> Rays:
    """One ray for each pair of point and light, with the mean share of `count` rays."""
    if not len(rays.point):
        return rays
    lights = int(rays.light.max()) + 1
    pairs, inverse = np.unique(rays.point.numpy() * lights + rays.light.numpy(), return_inverse=True)
    share = np.bincount(inverse, rays.share.numpy(), len(pairs)) / count
    middle = np.full((len(pairs), 3), 1 / 3)
    return Rays(*map(fixed, (pairs // lights, pairs % lights, middle, share)))


def _lobe_directions(lobe: Lobe, phase: Int64Array) -> tuple[Float32Array, Float32Array]:
    """(S, 3) directions drawn from lobes by the sequence of ordinary pictures, and their density per solid angle (S,),
    0 for those into the surface."""
    index = phase.astype(np.float32)
    u = (0.5 + index * np.float32(0.75487766)) % 1
    v = (0.1 + index * np.float32(0.56984029)) % 1
    half = ggx_visible_normal(lobe.view, lobe.alpha, u, v)
    incoming = 2 * dot(lobe.view, half)[:, None] * half - lobe.view
    density = np.where(incoming[:, 2] > 0, lobe.density(half), 0)
    return lobe.to_world(incoming), density.astype(np.float32)


def _shares(normal: AnyArray, directions: AnyArray) -> AnyArray:
    """(S, R, 3) of what R rays per point, drawn as the cosine, bring: times the normal (S, 3), their mean.

    Away from the normal, a ray counts by its slope, for directions stay where they are when the normal turns. What all
    rays bring alike does not change then, so the mean slope is taken off: most of the noise.
    """
    cosine = np.maximum(np.einsum("sri,si->sr", directions, normal), MIN_COSINE)[..., None]
    slope = directions / cosine
    slope -= np.einsum("sri,si->sr", slope, normal)[..., None] * normal[:, None]
    return (normal[:, None] + slope - slope.mean(axis=1, keepdims=True)) / directions.shape[1]


def _to_sky(
    distant: Arriving | None,
    lobe: Lobe,
    lobe_rays: int,
    directions: Float32Array,
    density: Float32Array,
    start: Int64Array,
    met: Int64Array,
) -> SkyRays:
    """Rays to the bright part of an environment, and those of lobes (Q,), from points `start`, that meet nothing: all
    but those in `met`."""
    found: list[tuple[AnyArray, ...]] = [(np.zeros(0, np.int64), np.zeros((0, 3)), np.zeros((0, 3)))]
    if distant is not None:
        points, phase = distant.points, distant.phase
        for seen, toward, flux, expected in zip(
            distant.seen, points.direction, points.flux, points.density, strict=True
        ):
            row = np.flatnonzero(seen)
            chosen, some = phase[row], lobe.take(row)
            by_lobe = some.density(normalised(some.to_frame(take(toward, chosen)) + some.view))
            share = seen[row] / (1 + lobe_rays * by_lobe / expected[chosen])
            found.append((row, toward[chosen], share[:, None] * flux[chosen]))
        missed = np.setdiff1d(np.arange(len(start)), met, assume_unique=True)
        light = distant.along(take(directions, missed), density[missed], lobe_rays)
        found.append((start[missed], directions[missed], light / (lobe_rays * density[missed])[:, None]))
    return SkyRays(*(fixed(np.concatenate(columns)) for columns in zip(*found, strict=True)))
