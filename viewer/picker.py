"""What lies under the pointer. World frame: right-handed, Z up, scene units; pixels count from the upper left."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from renderformer.data.camera import Camera
from renderformer.data.rays.raycast import RayCaster
from renderformer.data.scene import Scene


@dataclass(frozen=True)
class Pick:
    """A surface under the pointer.

    Attributes:
        name: of the object; triangle: its index within that object; point: world position; distance: from the camera.
    """

    name: str
    triangle: int
    point: tuple[float, float, float]
    distance: float


class Picker:
    """Casts rays into a scene; `caster` is one that was made for the same scene already."""

    def __init__(self, scene: Scene, caster: RayCaster | None = None) -> None:
        self._scene = scene
        self._caster = caster or RayCaster(scene.triangles, scene.normals, scene.materials)

    def pick(self, camera: Camera, x: float, y: float, width: float, height: float) -> Pick | None:
        """The nearest surface, seen from either side, or None.

        Args:
            x, y: the point in a picture of `width` by `height`; (0.5, 0.5) is the centre of the first pixel.
        """
        origin, direction = ray(camera, x, y, width, height)
        hits, _ = self._caster.hits(origin[None], direction[None])
        if not len(hits.rows):
            return None
        triangle = int(hits.triangle[0])
        number = int(self._scene.object_index[triangle])
        first = int(np.searchsorted(self._scene.object_index, number))
        point = hits.position[0].astype(np.float64)
        away = float(np.linalg.norm(point - origin))
        name = self._scene.objects[number].name
        return Pick(name, triangle - first, (float(point[0]), float(point[1]), float(point[2])), away)


def ray(camera: Camera, x: float, y: float, width: float, height: float) -> tuple[np.ndarray, np.ndarray]:
    """(3,) float32 origin and unit direction of the ray through a point of a picture."""
    direction = camera.rays(x, y, width, height)
    return camera.position.astype(np.float32), (direction / np.linalg.norm(direction)).astype(np.float32)
