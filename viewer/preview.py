"""The fast preview: colours at the corners of triangles, for a rasteriser.

The colours hold the direct light of the scene's lights and environment without shadows, and an even light in place of
indirect light.
They do not depend on the camera.
Legend: V corners of an object's pieces.
"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from renderformer.data.arrays import AnyArray, Float64Array
from renderformer.data.camera import Camera
from renderformer.data.environment import Environment, image_directions, resized, texel_solid_angles
from renderformer.data.errors import InputError
from renderformer.data.geometry.subdivide import subdivide
from renderformer.data.geometry.triangles import face_normals
from renderformer.data.rays.backdrop import backdrop
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
# Rows and columns of a view in which what is behind the objects is sampled.
BEHIND_ALL = 6, 8
# Rows and columns to which the image of an environment is reduced.
AROUND = 16, 32


@dataclass(frozen=True, eq=False)
class Lighting:
    """The lighting of all objects of a scene.

    Attributes:
        lights: light triangles.
        even: (3,) linear radiance from everywhere.
        around: (10, 3) coefficients of `_powers` of a unit normal: the radiance that a white surface sends back of the
            environment; None without one.
    """

    lights: Lights
    even: Float64Array
    around: Float64Array | None = None

    @classmethod
    def of(cls, meshes: Sequence[Mesh], environment: Environment | None = None) -> Lighting:
        """The light of emitting meshes in world space, of different names, and of an environment; the middle of the
        scene is the origin."""
        around = None if environment is None or environment.is_dark else _around(environment)
        glowing = [mesh for mesh in meshes if mesh.emits]
        lights = Lights.of(Scene(tuple(glowing))) if glowing else ()
        if not isinstance(lights, Lights) or not len(lights):
            empty = np.zeros((0, 3, 3), np.float32)
            even = np.full(3, ALONE if around is None else 0.0)
            return cls(Lights.from_triangles(empty, empty[:, 0], empty[:, 0, 0] > 0), even, around)
        lights = lights.drawn(LIGHTS)
        distance2 = np.maximum((lights.corners.mean(axis=1) ** 2).sum(axis=1), 0.1)
        power = lights.radiance * (lights.area * lights.weight / distance2)[:, None]
        return cls(lights, EVEN / np.pi * power.sum(axis=0, dtype=np.float64), around)

    def everywhere(self, normals: AnyArray) -> Float64Array:
        """(V, 3) radiance that white surfaces with unit normals (V, 3) send back of all but the light triangles."""
        light = np.tile(self.even, (len(normals), 1))
        return light if self.around is None else light + np.maximum(_powers(normals) @ self.around, 0)


def _around(environment: Environment) -> Float64Array:
    """See `Lighting`: a fit to the sums over directions. Two orders hold nearly all of a diffuse surface's light."""
    assert isinstance(environment.image, np.ndarray)
    image = resized(environment.image, *AROUND).reshape(-1, 3).astype(np.float64)
    local = image_directions(*AROUND).reshape(-1, 3)
    light = image * np.repeat(texel_solid_angles(*AROUND), AROUND[1])[:, None]
    toward = np.concatenate([local, *([sun.direction] for sun in environment.suns)])
    light = np.concatenate([light, *(sun.colour[None] for sun in environment.suns)])
    received = environment.strength / np.pi * np.maximum(local @ toward.T, 0) @ light
    fit: Float64Array = np.linalg.lstsq(_powers(local @ environment.to_local), received, rcond=None)[0]
    return fit


def _powers(normals: AnyArray) -> Float64Array:
    """(V, 10) the polynomials of up to degree two of unit vectors (V, 3)."""
    x, y, z = np.asarray(normals, np.float64).T
    return np.stack([np.ones_like(x), x, y, z, x * y, y * z, z * x, x * x, y * y, z * z], axis=1)


def behind(environment: Environment | None, camera: Camera, tone_map: str, exposure: float) -> Float64Array:
    """(3,) one display colour 0 … 1 of what a camera sees behind the objects: the mean of a visible environment over
    the view, or the colour of the background."""
    if environment is not None and environment.backdrop is not None:
        nothing = Image(np.zeros((1, 1, 3), np.float32), alpha=np.zeros((1, 1), np.float32))
        return replace(nothing, background=environment.backdrop).tone_mapped()[0, 0].astype(np.float64)
    if environment is None or environment.background != "visible":
        return np.zeros(3)
    y, x = np.indices(BEHIND_ALL).reshape(2, -1)
    radiance = backdrop(environment, camera, x, y, BEHIND_ALL)
    shown = Image(radiance.reshape(*BEHIND_ALL, 3)).tone_mapped(tone_map, exposure)
    return shown.mean(axis=(0, 1), dtype=np.float64)


def sees(mesh: Mesh, eye: AnyArray) -> bool:
    """Whether a camera at a point (3,) sees any of a mesh, as far as its sides say."""
    if mesh.camera_sides != "front":
        return mesh.camera_sides == "both"
    toward = (face_normals(mesh.triangles) * (eye - mesh.triangles[:, 0])).sum(axis=1)
    return bool((toward > 0).any())


def coloured(mesh: Mesh, lighting: Lighting, tone_map: str, exposure: float) -> tuple[Float64Array, Float64Array]:
    """(V, 3) positions and (V, 3) display colours 0 … 1 of a mesh; each three corners are a triangle."""
    if 3 * len(mesh) < CUT_CORNERS:
        # `subdivide` refuses objects that are far too large; they keep their triangles.
        with contextlib.suppress(InputError):
            mesh, _ = subdivide(mesh, EDGE)
    points, normals = mesh.triangles.reshape(-1, 3), normalised(mesh.normals.reshape(-1, 3))
    light = lighting.everywhere(normals)
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
