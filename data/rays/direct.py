"""Direct light of light triangles on surface points: exact form factors, and shadow rays for what is in the way.

Everything is deterministic: the points on a light that shadow rays go to are fixed sequences.

Shapes: N triangles, S surface points, L light triangles, K shadow rays per light. Vectors lie as in vectors.py.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from typing import Self

import numpy as np

from renderformer.data.arrays import Float32Array, Int64Array
from renderformer.data.notes import Routine
from renderformer.data.rays.embree import Hits, Seen, Surfaces
from renderformer.data.rays.environment_light import SOFT_RAYS, Arriving, EnvironmentLight
from renderformer.data.rays.form_factor import triangle_form_factor
from renderformer.data.rays.lights import Lights, light_points, triangle_samples
from renderformer.data.rays.vectors import TINY, take
from renderformer.data.scene import EMISSION, Scene

# Shadow rays go to at most this many light triangles; of more, a sample by power stands for all.
MAX_LIGHTS = 32
# Samples handled at once, by one thread: bounds the memory, and keeps the overhead of a NumPy call small.
CHUNK = 32768


class LitSurfaces(Surfaces):
    """Surfaces, the light triangles among them, and an environment; arguments as `Surfaces`.

    Attributes:
        environment: that lights them, None for none.
        lights: those that shadow rays go to; light_count: of all light triangles.
        chance: (N,) of a triangle being one of them, against which the rays of specular lobes are weighed.
    """

    environment: EnvironmentLight | None = None

    @classmethod
    def of(cls, scene: Scene) -> Self:
        """Those of a scene, with its environment."""
        surfaces = super().of(scene)
        if scene.environment is not None and not scene.environment.is_dark:
            surfaces.environment = EnvironmentLight(scene.environment)
        return surfaces

    @cached_property
    def _all_lights(self) -> Lights:
        return Lights.from_triangles(self.triangles, self.materials[:, EMISSION], self.two_sided)

    @property
    def light_count(self) -> int:
        return len(self._all_lights)

    @cached_property
    def lights(self) -> Lights:
        return self._all_lights.drawn(MAX_LIGHTS)

    @property
    def notes(self) -> tuple[str, ...]:
        """What a person should know about the lights and what light passes, a line each."""
        notes = super().notes
        if self.light_count == len(self.lights):
            return notes
        line = f"shadow rays go to {len(self.lights)} of {self.light_count:,} light triangles, drawn by power"
        return (*notes, Routine(line))

    @cached_property
    def chance(self) -> Float32Array:
        chance = np.zeros(len(self.triangles), np.float32)
        chance[self._all_lights.triangle] = np.minimum(self._all_lights.expected(MAX_LIGHTS), 1)
        return chance

    def direct(self, hits: Hits, shadow_rays: int, phase: Int64Array) -> tuple[Float32Array, Seen]:
        """What surface points receive of each light: its unshadowed form factor (L, S), which is exact, and which of
        `shadow_rays` fixed points of it they see, (L, K, S), or what share of their light.

        Args:
            phase: (S,) small integers; points of a different phase use different points on the light.
        """
        factor = np.zeros((len(self.lights), len(hits.rows)), np.float32)
        seen = np.zeros((len(self.lights), shadow_rays, len(hits.rows)), self.seen_type)
        origins = hits.shadow_origins
        lights = self.lights
        for i, (light, corners, both) in enumerate(zip(lights.triangle, lights.corners, lights.two_sided, strict=True)):
            factor[i] = triangle_form_factor(hits.position, hits.normal, corners, bool(both))
            # A flat light does not light itself; in its own plane the form factor is undefined.
            factor[i, hits.triangle == light] = 0
            lit = np.flatnonzero(factor[i] > 0)
            starts = take(origins, lit)
            for k, points in enumerate(light_points(corners, shadow_rays, phase[lit])):
                seen[i, k, lit] = self.transmitted(starts, points)
        return factor, seen

    def reflected(self, factor: Float32Array, seen: Seen) -> Float32Array:
        """(S, 3) radiance that a white diffuse surface sends back of light as `direct` gives it: irradiance / pi."""
        radiance = self.lights.radiance * self.lights.weight[:, None]
        return (radiance.T @ (factor * seen.mean(axis=1, dtype=np.float32))).T

    def irradiance(self, hits: Hits, shadow_rays: int, phase: Int64Array) -> Float32Array:
        """(S, 3) radiance that a white diffuse surface would send back from direct light, irradiance / pi, without the
        soft part of the environment.

        The unshadowed part is exact (form factor); visibility is the mean of `shadow_rays` fixed rays per light.

        Args:
            phase: (S,) small integers; points of a different phase use different points on the light.
        """
        light = self.reflected(*self.direct(hits, shadow_rays, phase))
        distant = self.distant(hits, shadow_rays, phase)
        return light if distant is None else light + distant.reflected(hits.normal)

    def distant(self, hits: Hits, shadow_rays: int, phase: Int64Array) -> Arriving | None:
        """What surface points receive of the bright part of the environment, if there is one; as `direct`."""
        return None if self.environment is None else self.environment.arriving(self, hits, shadow_rays, phase)

    def triangle_light(self, samples: int = 8, progress: Callable[[int, int], None] | None = None) -> Float32Array:
        """(N, 2, 3) mean direct light (irradiance / pi) on the front and the back of every triangle.

        Args:
            samples: fixed points per triangle, one shadow ray per light from each.
            progress: called with triangles done and triangles in all.
        """
        count = len(self.triangles)
        barycentric = triangle_samples(samples)
        light = np.zeros((count, 2, 3), np.float32)
        for part in np.array_split(np.arange(count), max(1, -(-count * samples // CHUNK))):
            triangle = np.tile(part, samples)
            position = np.einsum("kc,ncx->xkn", barycentric, self.triangles[part]).reshape(3, -1).T
            phase = np.repeat(np.arange(samples), len(part))
            place = np.repeat(barycentric[:, 1:], len(part), axis=0)
            for side, sign in enumerate((1, -1)):
                normal = np.float32(sign) * take(self.face_normals, triangle)
                offset = self.offsets.take(triangle)
                hits = Hits(phase, triangle, position, normal, normal, normal, place, offset)
                received = self.irradiance(hits, 1, phase)
                if self.environment is not None:
                    received = received + self.environment.soft_irradiance(self, hits, SOFT_RAYS, phase)
                light[part, side] = received.T.reshape(3, samples, len(part)).mean(axis=1).T
            if progress is not None:
                progress(int(part[-1]) + 1 if len(part) else 0, count)
        return light

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
        power = self.lights.radiance.max(axis=1) * self.lights.area * self.lights.weight
        return float((power / np.maximum(distance2, nearest)).sum()) / np.pi + around
