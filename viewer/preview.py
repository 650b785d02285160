"""The fast preview: colours at the corners of triangles, for a rasteriser.

The colours hold the direct light of the scene's lights and environment without shadows, and an even light in place of
indirect light.
They do not depend on the camera.
Legend: V corners of an object's pieces.
"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from renderformer.data.arrays import Float64Array
from renderformer.data.environment import Environment, Sun
from renderformer.data.errors import InputError
from renderformer.data.geometry.subdivide import subdivide
from renderformer.data.rays.form_factor import triangle_form_factor
from renderformer.data.rays.lights import Lights
from renderformer.data.rays.vectors import normalised
from renderformer.data.scene import DIFFUSE, EMISSION, SPECULAR, Mesh, Scene
from renderformer.image import Image

# Longest edge after subdivision, since light is interpolated between the corners of a triangle; in scene units.
EDGE = 0.2
# Most corners of a mesh that is subdivided.
CUT_CORNERS = 100_000
# Most light triangles; of more, a sample is used.
LIGHTS = 4
# Even light: as a share of the light at the middle of the scene, and as radiance in a scene without lights.
EVEN, ALONE = 0.15, 0.5
# Factor of light on the back of a surface; meshes that are inside out show their shape, too.
BEHIND = 0.2


@dataclass(frozen=True, eq=False)
class Lighting:
    """The lighting of all objects of a scene.

    Attributes:
        lights: light triangles.
        even: (3,) linear radiance from everywhere.
        environment: without its suns, or None.
        suns: of the environment.
    """

    lights: Lights
    even: Float64Array
    environment: Environment | None = None
    suns: tuple[Sun, ...] = ()

    @classmethod
    def of(cls, meshes: Sequence[Mesh], environment: Environment | None = None) -> Lighting:
        """The light of emitting meshes in world space, of different names, and of an environment; the middle of the
        scene is the origin."""
        if environment is None or environment.is_dark:
            around: dict[str, Any] = {}
        else:
            around = {"environment": environment.replace(suns=()), "suns": environment.suns}
        glowing = [mesh for mesh in meshes if mesh.emits]
        lights = Lights.of(Scene(tuple(glowing))) if glowing else ()
        if not isinstance(lights, Lights) or not len(lights):
            empty = np.zeros((0, 3, 3), np.float32)
            even = np.full(3, 0.0 if around else ALONE)
            return cls(Lights.from_triangles(empty, empty[:, 0], empty[:, 0, 0] > 0), even, **around)
        lights = lights.drawn(LIGHTS)
        distance2 = np.maximum((lights.corners.mean(axis=1) ** 2).sum(axis=1), 0.1)
        power = lights.radiance * (lights.area * lights.weight / distance2)[:, None]
        return cls(lights, EVEN / np.pi * power.sum(axis=0, dtype=np.float64), **around)

    def around(self, normals: Float64Array) -> Float64Array:
        """(V, 3) radiance that white surfaces with unit normals (V, 3) send back of all but the light triangles."""
        light = np.tile(self.even, (len(normals), 1))
        if self.environment is None:
            return light
        # The mean over the half sphere around a normal, nearly.
        light += self.environment.radiance(normals.astype(np.float32), 2 * np.pi)
        local = normals @ self.environment.to_local.T
        for sun in self.suns:
            cosine = np.maximum(local @ np.array(sun.direction), 0)
            light += self.environment.strength / np.pi * cosine[:, None] * sun.colour
        return light


def coloured(mesh: Mesh, lighting: Lighting, tone_map: str, exposure: float) -> tuple[Float64Array, Float64Array]:
    """(V, 3) positions and (V, 3) display colours 0 … 1 of a mesh; each three corners are a triangle."""
    if 3 * len(mesh) < CUT_CORNERS:
        # `subdivide` refuses objects that are far too large; they keep their triangles.
        with contextlib.suppress(InputError):
            mesh, _ = subdivide(mesh, EDGE)
    points, normals = mesh.triangles.reshape(-1, 3), normalised(mesh.normals.reshape(-1, 3))
    light = lighting.around(np.asarray(normals, np.float64))
    lights = lighting.lights
    radiances = lights.radiance * lights.weight[:, None]
    for corners, radiance, both in zip(lights.corners, radiances, lights.two_sided, strict=True):
        factor = triangle_form_factor(points, normals, corners, bool(both))
        factor = factor + BEHIND * triangle_form_factor(points, -normals, corners, bool(both))
        light += factor[:, None] * radiance
    rows = mesh.materials.astype(np.float64)
    reflected = np.minimum(rows[:, DIFFUSE] + rows[:, SPECULAR] / 2, 1)
    linear = np.repeat(reflected, 3, axis=0) * light + np.repeat(rows[:, EMISSION], 3, axis=0)
    display = Image(linear[None].astype(np.float32)).tone_mapped(tone_map, exposure)[0]
    return points.astype(np.float64), display.astype(np.float64)
