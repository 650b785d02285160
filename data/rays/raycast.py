"""Feature images: what the rays of a camera hit, and the light there; the inputs of a model with `ray_features`.

Rays are cast on the CPU by Embree. Everything is deterministic: the sample positions are fixed sequences.

Shapes: M pixels, A x A samples per pixel, S samples that hit; 39 channels (channels.py), or F, which are more where the
light of groups of lights is kept apart (light_groups.py).
"""

from __future__ import annotations

import functools
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Self

from renderformer.data.arrays import Float32Array, Int64Array
from renderformer.data.camera import Camera
from renderformer.data.environment import Environment
from renderformer.data.geometry.detail import Detail
from renderformer.data.rays import backdrop
from renderformer.data.rays.direct import LitSurfaces
from renderformer.data.rays.feature_image import FeatureImage, Rays
from renderformer.data.rays.light_cache import LightCache
from renderformer.data.rays.light_groups import LightGroups
from renderformer.data.rays.parts import Parts, Threads
from renderformer.data.rays.tree import tree_of
from renderformer.data.scene import Scene


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
        caster = cls.of(scene, tree_of(scene.triangles, step))
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
        rays = Rays(antialias, refine, shadow_rays, lobe_rays)
        window = window or (0, 0, width, height)
        image = FeatureImage(self, self.cache, camera, width, height, window, rays, progress, shown)
        if parts is not None:
            return image.drawn(parts)
        count = threads or processors()
        with ThreadPoolExecutor(count) as pool:
            return image.drawn(Threads(pool, count))

    def composited(
        self, picture: Float32Array, covered: Float32Array, environment: Environment, camera: Camera
    ) -> tuple[Float32Array, Float32Array | None]:
        """As `backdrop.composited`."""
        return backdrop.composited(picture, covered, environment, camera)


def processors() -> int:
    """CPUs that this process may use; macOS and Windows only tell how many there are."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
