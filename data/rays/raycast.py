"""Feature images: what the rays of a camera hit, and the light there; the inputs of a model with `ray_features`.

Rays are cast on the CPU by Embree. Everything is deterministic: the sample positions are fixed sequences.

Shapes: M pixels, A x A samples per pixel, S samples that hit; 39 channels (channels.py), or F, which are more where the
light of groups of lights is kept apart (light_groups.py).
"""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Self

import numpy as np

from renderformer.data.arrays import BoolArray, Float32Array, Int64Array
from renderformer.data.camera import Camera
from renderformer.data.environment import Environment
from renderformer.data.geometry.detail import Detail
from renderformer.data.rays import backdrop, pixels
from renderformer.data.rays.channels import RGB
from renderformer.data.rays.direct import CHUNK, LitSurfaces
from renderformer.data.rays.embree import Hits
from renderformer.data.rays.environment_light import SoftSky
from renderformer.data.rays.gather import Gather
from renderformer.data.rays.light_cache import LightCache
from renderformer.data.rays.light_groups import PARTS, LightGroups
from renderformer.data.rays.parts import Parts, Threads
from renderformer.data.rays.pixels import Pixels
from renderformer.data.rays.specular import specular
from renderformer.data.rays.tree import Tree
from renderformer.data.scene import DIFFUSE, EMISSION, ROUGHNESS, SPECULAR, Scene

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


class RayCaster(LitSurfaces):
    """A scene ready for ray casting, arguments as `Surfaces`: hits, direct light, and feature images of cameras.

    Attributes:
        cache: indirect light, see `light_up`; None in a scene that is seen under direct light alone.
    """

    cache: LightCache | None = None

    @classmethod
    def lit(cls, scene: Scene, progress: Callable[[int, int], None] | None = None) -> RayCaster:
        """A scene with its light cache; `progress` as in `LightCache`, before it with nothing done."""
        # The light cache tells no parts of a triangle apart that are not about equal.
        scene = Detail.of(scene.triangles).graded(scene)
        step = None if progress is None else functools.partial(progress, 0, 1)
        caster = cls.of(scene, Tree(scene.triangles, step))
        caster.light_up(progress)
        return caster

    @property
    def solved(self) -> LightCache:
        """The light cache of a scene that was lit up."""
        assert self.cache is not None
        return self.cache

    def light_up(self, progress: Callable[[int, int], None] | None = None) -> None:
        """Solve the indirect light of the scene. Feature images then hold it too, see channels.py.

        Args:
            progress: as in `LightCache`.
        """
        self.cache = LightCache(self, progress=progress)

    def split(self, groups: LightGroups) -> Self:
        """See `LitSurfaces.split`; feature images then hold the light of each group too (`channels_of_group`)."""
        caster = super().split(groups)
        if self.cache is not None:
            caster.cache = self.cache.split(caster)
        return caster

    def features(
        self,
        camera: Camera,
        width: int,
        height: int,
        *,
        antialias: int = 2,
        refine: int = 3,
        shadow_rays: int = 8,
        lobe_rays: int = 4,
        threads: int | None = None,
        window: tuple[int, int, int, int] | None = None,
        progress: Callable[[int, int], None] | None = None,
        parts: Parts | None = None,
        shown: Callable[[Int64Array, Int64Array, Float32Array], None] | None = None,
    ) -> Float32Array:
        """The feature image of a camera: exact primary hits and the light there, see channels.py.

        Args:
            width, height: of the picture in pixels.
            antialias: A x A samples per pixel; every one casts its own shadow rays.
            refine: pixels whose samples differ (an edge, a shadow's border, a highlight) and those beside them are cast
                again with this many times A on a side, or one time more where they differ much, with as many times
                fewer rays for each sample, and for those on the outline 16 x 16 rays tell what is covered; 1 for
                neither. Above 2, it is one time less where in most pixels around one all samples hit
                different triangles.
            shadow_rays: per light and sample; lobe_rays: samples of the specular lobe per sample.
            threads: of the CPU, all that the process may use by default; the result does not depend on it.
            window: left, top, right and bottom of a part of the image, which is returned alone, as it is in the whole.
            progress: called with pixels done and pixels in all, first for all of them, then for those cast again, then
                for those along the outline; before them with the cells of a gather, where there is a cache.
            parts: cuts the work in place of threads, which then have no meaning; the result does not depend on it.
            shown: called with the columns (M,), rows (M,) and features (M, F) of pixels when they are drawn, and again
                when they are cast again; of those of the window alone.

        Returns:
            (height, width, F) float32, or those of the window.
        """
        left, top, right, bottom = window or (0, 0, width, height)
        around = max(left - AROUND, 0), max(top - AROUND, 0), min(right + AROUND, width), min(bottom + AROUND, height)
        y, x = (grid.reshape(-1) for grid in np.mgrid[around[1] : around[3], around[0] : around[2]])
        every = Pixels(camera, width, height, x, y)
        image = np.zeros((around[3] - around[1], around[2] - around[0], self._features), np.float32)
        contrast, fine_mesh = np.zeros(len(every), np.float32), np.zeros(len(every), bool)

        gather: Gather | None = None

        def coarse(part: Int64Array) -> Float32Array:
            chosen = every.take(part)
            samples, triangles = self._samples(chosen, antialias, shadow_rays, lobe_rays, gather)
            textured = self._textured(triangles)
            if textured is not None:
                textured &= pixels.flat(samples, chosen.pixel_width)
            contrast[part] = pixels.contrast(samples, self.brightness, textured)
            fine_mesh[part] = pixels.apart(triangles)
            return pixels.mean(samples)

        def again(part: Int64Array, times: int) -> Float32Array:
            # Of so many samples each needs fewer rays for the same picture.
            divisor = max(times, refine)
            fewer = -(-shadow_rays // divisor), max(1, lobe_rays // divisor)
            return pixels.mean(self._samples(every.take(part), antialias * times, *fewer, gather)[0])

        def fair(part: Int64Array) -> Float32Array:
            return again(part, refine - 1)

        def fine(part: Int64Array) -> Float32Array:
            return again(part, refine)

        def finest(part: Int64Array) -> Float32Array:
            return again(part, refine + 1)

        def outline(part: Int64Array) -> Float32Array:
            return pixels.covered(image, x[part] - around[0], y[part] - around[1], self._coverage(every.take(part)))

        inside = (x >= left) & (x < right) & (y >= top) & (y < bottom)

        def show(part: Int64Array, values: Float32Array) -> None:
            if shown is not None:
                kept = inside[part]
                shown(x[part][kept], y[part][kept], values[kept])

        count = threads or processors()
        with ThreadPoolExecutor(count) as pool:
            cut = parts or Threads(pool, count)

            def run(work: Callable[[Int64Array], Float32Array], index: Int64Array, rays: int) -> None:
                results = cut.run(work.__name__, work, index, max(1, CHUNK // rays))
                # When all are done, since a pixel on an outline is made from its neighbours as they were before.
                for part, values in list(_shown(results, len(index), progress, show)):
                    image.reshape(-1, image.shape[-1])[part] = values

            light = self.cache if self.environment is None else self.cache or SoftSky(self, self.environment)
            if light is not None:
                gather = Gather(self, light, camera, width, height, around, cut, progress)
            run(coarse, np.arange(len(every)), antialias**2)
            if refine > 1:
                differing = contrast.reshape(image.shape[:2])
                # An edge that slips between the samples of one pixel shows in the next.
                rough = pixels.among_neighbours(np.maximum, differing) > CONTRAST
                sharp = differing > SHARP
                if len(self.lights) <= THIN_LIGHTS:
                    rough |= pixels.crossed(self.lights.corners, camera, width, height, around)
                # Where a mesh is finer than the pixels, noise does not show beside its detail.
                busy = pixels.among_neighbours(np.add, fine_mesh.reshape(rough.shape).astype(np.uint8)) > MOST_AROUND
                busy &= refine > 2
                run(fair, np.flatnonzero(rough & ~sharp & busy), (antialias * (refine - 1)) ** 2)
                run(fine, np.flatnonzero(np.where(busy, sharp, rough & ~sharp)), (antialias * refine) ** 2)
                run(finest, np.flatnonzero(sharp & ~busy), (antialias * (refine + 1)) ** 2)
                run(outline, np.flatnonzero(self._outline(image[..., 0])), OUTLINE_RAYS**2)
        return image[top - around[1] : bottom - around[1], left - around[0] : right - around[0]]

    def composited(
        self, picture: Float32Array, covered: Float32Array, environment: Environment, camera: Camera
    ) -> tuple[Float32Array, Float32Array | None]:
        """As `backdrop.composited`."""
        return backdrop.composited(picture, covered, environment, camera)

    @property
    def _features(self) -> int:
        """F."""
        return RGB.total + self.groups.more_features

    def _outline(self, share: Float32Array) -> BoolArray:
        """(h, w) which pixels, covered by shares (h, w), lie on an outline; not the middle of a pane, where all samples
        know the share."""
        return pixels.outline(share) & (pixels.differs(share) if self.sees_through else True)

    def _coverage(self, part: Pixels) -> Float32Array:
        """(M,) share of each pixel in which there is any surface."""
        hit = self.met(*part.rays(OUTLINE_RAYS))
        share: Float32Array = hit.reshape(OUTLINE_RAYS**2, len(part)).mean(axis=0, dtype=np.float32)
        return share

    def _samples(
        self, part: Pixels, antialias: int, shadow_rays: int, lobe_rays: int, gather: Gather | None
    ) -> tuple[Float32Array, Int64Array]:
        """(F, A * A, M) features of the single rays of pixels, zeros where they miss; and (A * A, M) the triangles that
        they hit first, -1 for none."""
        values: Float32Array | None = None
        count = antialias**2 * len(part)
        triangles = np.full(count, -1)
        for hits, materials, share in self.layers(*part.rays(antialias), part.pixel_width / antialias):
            shaded = self._shaded(part, antialias, hits, materials, shadow_rays, lobe_rays, gather)
            if values is None:
                triangles[hits.rows] = hits.triangle
                values = _spread_out(shaded if share is None else shaded * share, hits.rows, count)
            else:
                assert share is not None
                values[:, hits.rows] += shaded * share
        assert values is not None
        shape = antialias**2, len(part)
        return values.reshape(self._features, *shape), triangles.reshape(shape)

    def _textured(self, triangles: Int64Array) -> BoolArray | None:
        """(M,) pixels all of whose samples hit triangles (S, M) with the same material of the appearance; None in a
        scene without any."""
        if self.appearance is None:
            return None
        looks = np.where(triangles >= 0, self.appearance.index.take(triangles, mode="clip"), -1)
        return np.asarray((looks == looks[0]).all(axis=0) & (looks[0] >= 0))

    def _shaded(
        self,
        part: Pixels,
        antialias: int,
        hits: Hits,
        materials: Float32Array,
        shadow_rays: int,
        lobe_rays: int,
        gather: Gather | None,
    ) -> Float32Array:
        """(F, S') features of what samples of pixels hit."""
        phase = part.phases(antialias)[hits.rows]
        x, y = (places[hits.rows] for places in part.places(antialias))
        foreseen = None if gather is None else gather.foreseen(x, y, hits.rows % len(part))
        direct = self.direct(hits, shadow_rays, phase, foreseen)
        light, indirect = direct.reflected, np.zeros_like(direct.reflected)
        cached, spread = indirect, indirect[:, : self.groups.count]
        distant = self.distant(hits, shadow_rays, phase)
        if distant is not None:
            light = light + distant.reflected(hits.normal)
        if gather is not None:
            sky, indirect, cached, spread = gather.at(hits, x, y)
            light = light + sky
        highlight, reflection = specular(
            self, hits, materials, direct, lobe_rays, phase, cache=self.cache, distant=distant
        )
        camera, to_camera = part.camera, part.camera.c2w[:3, :3].astype(np.float32)
        groups = self.groups
        emission, diffuse = groups.sent(materials[:, EMISSION], hits.triangle), groups.for_all(materials[:, DIFFUSE])
        lights = emission, light, indirect, cached, light * diffuse, indirect * diffuse, highlight, reflection
        values = np.empty((self._features, len(hits.rows)), np.float32)
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


def _shown(
    parts: Iterator[tuple[Int64Array, Float32Array]],
    whole: int,
    progress: Callable[[int, int], None] | None,
    show: Callable[[Int64Array, Float32Array], None],
) -> Iterator[tuple[Int64Array, Float32Array]]:
    """Parts of `whole` pixels and their values, which `show` is told at once."""
    done = 0
    for part, values in parts:
        yield part, values
        show(part, values)
        done += len(part)
        if progress is not None:
            progress(done, whole)


def processors() -> int:
    """CPUs that this process may use; macOS and Windows only tell how many there are."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
