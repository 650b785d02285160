"""Scenes of any unit, far from the origin or near it, as scenes of about unit size, which models and rays are made for.

A picture does not change when its scene is scaled and moved with all lights and cameras: emission is radiance.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np

from renderformer.data.arrays import AnyArray, Float64Array
from renderformer.data.camera import Camera
from renderformer.data.scene import Scene
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
                are centred and fill it, also where they are less than a tenth of it. Infinite for rays alone: objects
                get an extent of 0.5 … 1 by a power of two, which rounds nothing, and are moved only if they are far
                from the origin.
        """
        lights = np.zeros(len(scene), bool)
        lights[scene.light_triangles] = True
        points = scene.triangles[~lights] if not lights.all() else scene.triangles
        low, high = (end(axis=(0, 1)).astype(np.float64) for end in (points.min, points.max))
        extent, reach = float((high - low).max()), float(np.maximum(-low, high).max())
        if not extent > 0:
            return cls()
        middle = (low + high) / 2
        if math.isinf(box):
            moved = middle if np.abs(middle).max() > FAR * extent else np.zeros(3)
            return cls(2.0 ** -math.ceil(math.log2(extent)), _triple(moved))
        if reach <= box + SLACK and extent >= 2 * box * SMALL:
            return cls()
        return cls(2 * box / extent, _triple(middle))

    @property
    def changes(self) -> bool:
        """Whether any point moves."""
        return self != UnitSize()

    def points(self, points: AnyArray) -> Float64Array:
        """Points (..., 3) of the scene in the units of the model."""
        return self.scale * (np.asarray(points, np.float64) - self.centre)

    def scene(self, scene: Scene) -> Scene:
        """The scene in the units of the model, with its cameras."""
        if not self.changes:
            return scene
        objects = (replace(m, triangles=self.points(m.triangles).astype(np.float32)) for m in scene.objects)
        return scene.replace(objects=tuple(objects), cameras=tuple(map(self.camera, scene.cameras)))

    def camera(self, camera: Camera) -> Camera:
        """The camera in the units of the model."""
        if not self.changes:
            return camera
        c2w = camera.c2w.astype(np.float64)
        c2w[:3, 3] = self.points(c2w[:3, 3])
        return replace(camera, c2w=c2w.astype(np.float32))


def _triple(values: Float64Array) -> tuple[float, float, float]:
    return float(values[0]), float(values[1]), float(values[2])
