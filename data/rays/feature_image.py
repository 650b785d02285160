"""One feature image: the samples of its pixels, and which pixels need more of them.

Shapes: M pixels, A x A samples per pixel, S samples that hit; F channels, see raycast.py.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import NamedTuple

import numpy as np

from renderformer.data.arrays import BoolArray, Float32Array, Int64Array
from renderformer.data.camera import Camera
from renderformer.data.rays import pixels
from renderformer.data.rays.channels import RGB
from renderformer.data.rays.direct import CHUNK, LitSurfaces
from renderformer.data.rays.embree import Hits
from renderformer.data.rays.environment_light import SoftSky
from renderformer.data.rays.gather import Gather
from renderformer.data.rays.light_cache import LightCache
from renderformer.data.rays.light_groups import PARTS
from renderformer.data.rays.parts import Parts
from renderformer.data.rays.pixels import Pixels
from renderformer.data.rays.specular import specular
from renderformer.data.scene import DIFFUSE, EMISSION, ROUGHNESS, SPECULAR

# Samples of a pixel that differ by more than this, of 1, are too few.
CONTRAST = 0.1
# Those that differ by more than this get more than others that are too few.
SHARP = 0.3
# Rays on a side that tell how much of a pixel on the outline against nothing is covered: a hundredth of white already
# shows against black. 16 instead of 8, and 6 x 6 samples at edges, are worth 1.0 dB on 16 held-out scenes.
OUTLINE_RAYS = 16
# Up to so many triangles of lights are looked for where none of a pixel's samples may have met them: a fluorescent tube
# far away is thinner than a pixel and many times as bright as white.
THIN_LIGHTS = 512
# Of a pixel and its neighbours, so many show that a mesh is finer than the pixels.
MOST_AROUND = 5
# Pixels beside a window on which those in it depend.
AROUND = 4

Progress = Callable[[int, int], None]
Shown = Callable[[Int64Array, Int64Array, Float32Array], None]


class Rays(NamedTuple):
    """How many a picture gets, see `RayCaster.features`."""

    antialias: int
    refine: int
    shadow: int
    lobe: int


class FeatureImage:
    """A window of the picture of a camera, and the pixels around it on which it depends.

    Args:
        width, height: of the picture in pixels.
        window: left, top, right and bottom.
        progress, shown: as of `RayCaster.features`.
    """

    def __init__(
        self,
        surfaces: LitSurfaces,
        cache: LightCache | None,
        camera: Camera,
        width: int,
        height: int,
        window: tuple[int, int, int, int],
        rays: Rays,
        progress: Progress | None = None,
        shown: Shown | None = None,
    ) -> None:
        self._surfaces, self._cache, self._rays = surfaces, cache, rays
        self._progress, self._shown = progress, shown
        left, top, right, bottom = self._window = window
        self._left, self._top = max(left - AROUND, 0), max(top - AROUND, 0)
        self._right, self._bottom = min(right + AROUND, width), min(bottom + AROUND, height)
        y, x = (grid.reshape(-1) for grid in np.mgrid[self._top : self._bottom, self._left : self._right])
        self._pixels = Pixels(camera, width, height, x, y)
        self._inside = (x >= left) & (x < right) & (y >= top) & (y < bottom)
        shape = self._bottom - self._top, self._right - self._left
        self._image = np.zeros((*shape, RGB.total + surfaces.groups.more_features), np.float32)
        # Of the first samples of each pixel.
        self._contrast, self._fine_mesh = np.zeros(shape, np.float32), np.zeros(shape, bool)
        self._gather: Gather | None = None

    def drawn(self, parts: Parts) -> Float32Array:
        """(h, w, F) features of the window."""
        antialias, refine, surfaces = self._rays.antialias, self._rays.refine, self._surfaces
        light: LightCache | SoftSky | None = self._cache
        if light is None and surfaces.environment is not None:
            light = SoftSky(surfaces, surfaces.environment)
        if light is not None:
            whole = self._pixels.camera, self._pixels.width, self._pixels.height
            around = self._left, self._top, self._right, self._bottom
            self._gather = Gather(surfaces, light, *whole, around, parts, self._progress)
        self._run(parts, "coarse", self._first, np.ones_like(self._fine_mesh), antialias)
        if refine > 1:
            for kind, chosen, times in zip(("fair", "fine", "finest"), self._lacking(), (-1, 0, 1), strict=True):
                times += refine
                self._run(parts, kind, partial(self._again, times=times), chosen, antialias * times)
            self._run(parts, "outline", self._covered, self._outline(), OUTLINE_RAYS)
        left, top, right, bottom = self._window
        return self._image[top - self._top : bottom - self._top, left - self._left : right - self._left]

    def _run(
        self, parts: Parts, kind: str, work: Callable[[Int64Array], Float32Array], chosen: BoolArray, side: int
    ) -> None:
        """Do work that casts side x side rays for each of the chosen pixels (h, w)."""
        index = np.flatnonzero(chosen)
        results = parts.run(kind, work, index, max(1, CHUNK // side**2))
        # When all are done, since a pixel on an outline is made from its neighbours as they were before.
        for part, values in list(self._told(results, len(index))):
            self._image.reshape(-1, self._image.shape[-1])[part] = values

    def _told(
        self, parts: Iterator[tuple[Int64Array, Float32Array]], whole: int
    ) -> Iterator[tuple[Int64Array, Float32Array]]:
        """Parts of `whole` pixels and their values, which are shown at once."""
        done = 0
        for part, values in parts:
            yield part, values
            if self._shown is not None:
                kept = part[self._inside[part]]
                self._shown(self._pixels.x[kept], self._pixels.y[kept], values[self._inside[part]])
            done += len(part)
            if self._progress is not None:
                self._progress(done, whole)

    def _first(self, part: Int64Array) -> Float32Array:
        """(M, F) of the first samples of pixels, by their number (M,)."""
        some = self._pixels.take(part)
        samples, triangles = self._samples(some, self._rays.antialias, self._rays.shadow, self._rays.lobe)
        textured = self._textured(triangles)
        if textured is not None:
            textured &= pixels.flat(samples, some.pixel_width)
        self._contrast.reshape(-1)[part] = pixels.contrast(samples, self._surfaces.brightness, textured)
        self._fine_mesh.reshape(-1)[part] = pixels.apart(triangles)
        return pixels.mean(samples)

    def _again(self, part: Int64Array, times: int) -> Float32Array:
        """(M, F) of so many times as many samples on a side."""
        # Of so many samples each needs fewer rays for the same picture.
        divisor = max(times, self._rays.refine)
        shadow, lobe = -(-self._rays.shadow // divisor), max(1, self._rays.lobe // divisor)
        return pixels.mean(self._samples(self._pixels.take(part), self._rays.antialias * times, shadow, lobe)[0])

    def _lacking(self) -> tuple[BoolArray, BoolArray, BoolArray]:
        """(h, w) each, which pixels need some, more and the most samples."""
        # An edge that slips between the samples of one pixel shows in the next.
        rough = pixels.among_neighbours(np.maximum, self._contrast) > CONTRAST
        sharp = self._contrast > SHARP
        if len(self._surfaces.lights) <= THIN_LIGHTS:
            whole = self._pixels.camera, self._pixels.width, self._pixels.height
            around = self._left, self._top, self._right, self._bottom
            rough |= pixels.crossed(self._surfaces.lights.corners, *whole, around)
        # Where a mesh is finer than the pixels, noise does not show beside its detail.
        busy = pixels.among_neighbours(np.add, self._fine_mesh.astype(np.uint8)) > MOST_AROUND
        busy &= self._rays.refine > 2
        return rough & ~sharp & busy, np.where(busy, sharp, rough & ~sharp), sharp & ~busy

    def _outline(self) -> BoolArray:
        """(h, w) which pixels lie on an outline against nothing; not the middle of a pane, where all samples know the
        share that is covered."""
        share = self._image[..., 0]
        return pixels.outline(share) & (pixels.differs(share) if self._surfaces.sees_through else True)

    def _covered(self, part: Int64Array) -> Float32Array:
        """(M, F) of pixels on the outline, by the share of their rays that meet anything."""
        some = self._pixels.take(part)
        hit = self._surfaces.met(*some.rays(OUTLINE_RAYS))
        share: Float32Array = hit.reshape(OUTLINE_RAYS**2, len(some)).mean(axis=0, dtype=np.float32)
        return pixels.covered(self._image, some.x - self._left, some.y - self._top, share)

    def _samples(
        self, part: Pixels, antialias: int, shadow_rays: int, lobe_rays: int
    ) -> tuple[Float32Array, Int64Array]:
        """(F, A * A, M) features of the single rays of pixels, zeros where they miss; and (A * A, M) the triangles that
        they hit first, -1 for none."""
        values: Float32Array | None = None
        count = antialias**2 * len(part)
        triangles = np.full(count, -1)
        for hits, materials, share in self._surfaces.layers(*part.rays(antialias), part.pixel_width / antialias):
            shaded = self._shaded(part, antialias, hits, materials, shadow_rays, lobe_rays)
            if values is None:
                triangles[hits.rows] = hits.triangle
                values = _spread_out(shaded if share is None else shaded * share, hits.rows, count)
            else:
                assert share is not None
                values[:, hits.rows] += shaded * share
        assert values is not None
        shape = antialias**2, len(part)
        return values.reshape(self._image.shape[-1], *shape), triangles.reshape(shape)

    def _textured(self, triangles: Int64Array) -> BoolArray | None:
        """(M,) pixels all of whose samples hit triangles (S, M) with the same material of the appearance; None in a
        scene without any."""
        if self._surfaces.appearance is None:
            return None
        looks = np.where(triangles >= 0, self._surfaces.appearance.index.take(triangles, mode="clip"), -1)
        return np.asarray((looks == looks[0]).all(axis=0) & (looks[0] >= 0))

    def _shaded(
        self,
        part: Pixels,
        antialias: int,
        hits: Hits,
        materials: Float32Array,
        shadow_rays: int,
        lobe_rays: int,
    ) -> Float32Array:
        """(F, S') features of what samples of pixels hit."""
        surfaces, gather, groups = self._surfaces, self._gather, self._surfaces.groups
        phase = part.phases(antialias)[hits.rows]
        x, y = (places[hits.rows] for places in part.places(antialias))
        foreseen = None if gather is None else gather.foreseen(x, y, hits.rows % len(part))
        direct = surfaces.direct(hits, shadow_rays, phase, foreseen)
        light, indirect = direct.reflected, np.zeros_like(direct.reflected)
        cached, spread = indirect, indirect[:, : groups.count]
        distant = surfaces.distant(hits, shadow_rays, phase)
        if distant is not None:
            light = light + distant.reflected(hits.normal)
        if gather is not None:
            sky, indirect, cached, spread = gather.at(hits, x, y)
            light = light + sky
        highlight, reflection = specular(
            surfaces, hits, materials, direct, lobe_rays, phase, cache=self._cache, distant=distant
        )
        camera, to_camera = part.camera, part.camera.c2w[:3, :3].astype(np.float32)
        emission, diffuse = groups.sent(materials[:, EMISSION], hits.triangle), groups.for_all(materials[:, DIFFUSE])
        lights = emission, light, indirect, cached, light * diffuse, indirect * diffuse, highlight, reflection
        values = np.empty((self._image.shape[-1], len(hits.rows)), np.float32)
        for rows, columns in (
            (RGB.mask, np.ones((len(hits.rows), 1), np.float32)),
            (RGB.normal, hits.normal @ to_camera),
            (RGB.position, (hits.position - camera.position.astype(np.float32)) @ to_camera),
            (RGB.diffuse, materials[:, DIFFUSE]),
            (RGB.specular, materials[:, SPECULAR]),
            (RGB.roughness, materials[:, ROUGHNESS, None]),
            (RGB.spread, spread.mean(axis=1, keepdims=True)),
            *((rows, groups.together(part)) for rows, part in zip(PARTS, lights, strict=True)),
        ):
            values[rows] = columns.T
        if groups.count > 1:
            values[RGB.total :] = groups.features(lights, spread)
        return values


def _spread_out(values: Float32Array, rows: Int64Array, count: int) -> Float32Array:
    """(C, count) of columns (C, S') at `rows` (S',), zeros elsewhere."""
    if len(rows) == count:
        return values
    # Picking columns is faster than putting them.
    column = np.zeros(count, np.int64)
    column[rows] = np.arange(len(rows))
    hit = np.zeros(count, np.float32)
    hit[rows] = 1
    spread = np.zeros((len(values), count), np.float32)
    if len(rows):
        for channel, source in zip(spread, values, strict=True):
            np.multiply(source.take(column), hit, out=channel)
    return spread
