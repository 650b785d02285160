"""Scenes of any unit, far from the origin or near it, as scenes of about unit size, which models and rays are made for.

A picture does not change when its scene is scaled and moved with all lights and cameras: emission is radiance.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from renderformer.data.arrays import Float32Array, Float64Array
from renderformer.data.camera import Camera
from renderformer.data.geometry.triangles import bounds
from renderformer.data.scene import Mesh, Scene
from renderformer.data.trained_range import SLACK

# A scene whose largest extent is below this share of the trained box is enlarged to fill it.
SMALL = 0.1
# Without a trained box, a scene is moved to the origin if it lies this many times its extent away.
FAR = 1.0


@dataclass(frozen=True)
class UnitSize:
    """The similarity from the units of a scene to those of a model: point -> scale * (point - centre)."""

    scale: float = 1.0
    centre: tuple[float, float, float] = (0.0, 0.0, 0.0)

    @classmethod
    def of(cls, scene: Scene, box: float = math.inf) -> UnitSize:
        """The similarity that puts the objects of a scene, without its lights, where a model wants them.

        Args:
            box: half the side of the trained cube around the origin. Objects that lie in it keep their places; others
                are centred and fill it, also where they are less than a tenth of it. A level ground below the objects
                may reach out of it. Infinite for rays alone: objects get an extent of 0.5 … 1 by a power of two, which
                rounds nothing, and are moved only if they are far from the origin.
        """
        lights = np.zeros(len(scene), bool)
        lights[scene.light_triangles] = True
        if lights.all() and math.isfinite(box):
            return cls()
        solid = scene.triangles if lights.all() else scene.triangles[~lights]
        low, high = _bounds(solid)
        extent, middle = float((high - low).max()), (low + high) / 2
        if not extent > 0:
            return cls()
        if math.isinf(box):
            moved = middle if np.abs(middle).max() > FAR * extent else np.zeros(3)
            return cls(2.0 ** -math.ceil(math.log2(extent)), _triple(moved))
        for triangles in (solid, standing(solid)):
            low, high = _bounds(triangles)
            extent = float((high - low).max())
            if np.maximum(-low, high).max() <= box * (1 + 2 * SLACK) and extent >= 2 * box * SMALL:
                return cls()
        return cls(2 * box / extent, _triple((low + high) / 2))

    @property
    def changes(self) -> bool:
        """Whether any point moves."""
        return self != AS_IT_IS

    def points(self, points: npt.ArrayLike) -> Float64Array:
        """Points (..., 3) of the scene in the units of the model."""
        return self.scale * (np.asarray(points, np.float64) - self.centre)

    def back(self, points: npt.ArrayLike) -> Float64Array:
        """Points (..., 3) of the model in the units of the scene."""
        return np.asarray(points, np.float64) / self.scale + self.centre

    def mesh(self, mesh: Mesh) -> Mesh:
        """The mesh in the units of the model."""
        return replace(mesh, triangles=self.points(mesh.triangles).astype(np.float32)) if self.changes else mesh

    def scene(self, scene: Scene) -> Scene:
        """The scene in the units of the model, with its cameras."""
        if not self.changes:
            return scene
        cameras = tuple(map(self.camera, scene.cameras))
        return scene.replace(objects=tuple(map(self.mesh, scene.objects)), cameras=cameras)

    def camera(self, camera: Camera) -> Camera:
        """The camera in the units of the model."""
        if not self.changes:
            return camera
        c2w = camera.c2w.astype(np.float64)
        c2w[:3, 3] = self.points(c2w[:3, 3])
        return replace(camera, c2w=c2w.astype(np.float32))


AS_IT_IS = UnitSize()


def standing(triangles: Float32Array) -> Float32Array:
    """The triangles (N, 3, 3) without a level ground below all others; all of them if there is nothing else."""
    height = triangles[..., 2]
    upright = np.maximum(np.maximum(height[:, 0], height[:, 1]), height[:, 2]) > height.min()
    return triangles[upright] if upright.any() else triangles


def _bounds(triangles: Float32Array) -> tuple[Float64Array, Float64Array]:
    """(3,) and (3,) smallest and largest coordinates of triangles (N, 3, 3)."""
    low, high = bounds(triangles).astype(np.float64)
    return low, high


def _triple(values: Float64Array) -> tuple[float, float, float]:
    return float(values[0]), float(values[1]), float(values[2])
