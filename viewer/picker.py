"""The surface under the pointer. World frame: right-handed, Z up, scene units; pixels count from the upper left."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from renderformer.data.camera import Camera
from renderformer.data.camera_path import Vector, vector
from renderformer.data.rays.raycast import RayCaster
from renderformer.data.scene import Scene
from renderformer.data.unit_size import AS_IT_IS, UnitSize


@dataclass(frozen=True)
class Pick:
    """A surface under the pointer.

    Attributes:
        name: of the object.
        triangle: index in the object.
        point: world position.
        distance: from the camera.
    """

    name: str
    triangle: int
    point: Vector
    distance: float


class Picker:
    """Casts rays into a scene; `caster` is an existing ray caster of the scene in the units `unit`, used if it has the
    same triangles."""

    def __init__(self, scene: Scene, caster: RayCaster | None = None, unit: UnitSize | None = None) -> None:
        self._scene = scene
        if caster is not None and len(caster.triangles) != len(scene):
            caster, unit = None, None
        self._unit = unit or (UnitSize.of(scene) if caster is None else AS_IT_IS)
        self._caster = caster or RayCaster.of(self._unit.scene(scene))

    def pick(self, camera: Camera, x: float, y: float, width: float, height: float) -> Pick | None:
        """The nearest surface, front or back, that the camera sees, or None.

        Args:
            x, y: point of a picture of `width` by `height`; (0.5, 0.5) is the centre of the first pixel.
        """
        origin, direction = ray(self._unit.camera(camera), x, y, width, height)
        hits, _ = self._caster.seen(origin[None], direction[None])
        if not len(hits.rows):
            return None
        triangle = int(hits.triangle[0])
        index = int(self._scene.object_index[triangle])
        first = int(np.searchsorted(self._scene.object_index, index))
        weights = np.array([1 - hits.barycentric[0].sum(), *hits.barycentric[0]])
        point = weights @ self._scene.triangles[triangle].astype(np.float64)
        distance = float(np.linalg.norm(point - camera.position))
        return Pick(self._scene.objects[index].name, triangle - first, vector(point), distance)


def ray(camera: Camera, x: float, y: float, width: float, height: float) -> tuple[np.ndarray, np.ndarray]:
    """(3,) float32 origin and unit direction of the ray through a point of a picture."""
    direction = camera.rays(x, y, width, height)
    return camera.position.astype(np.float32), (direction / np.linalg.norm(direction)).astype(np.float32)
