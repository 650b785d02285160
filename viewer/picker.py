"""The surface under the pointer. World frame: right-handed, Z up, scene units; pixels count from the upper left."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from renderformer.data.arrays import Float32Array
from renderformer.data.camera import Camera
from renderformer.data.camera_path import Vector, vector
from renderformer.data.rays.raycast import RayCaster
from renderformer.data.scene import Scene
from renderformer.data.unit_size import AS_IT_IS, UnitSize

# Scenes of this many triangles or more get no tree for a pick alone.
LARGE = 50_000
# Triangles that are looked at together: many, since each step may wait for the threads that draw.
ROWS = 400_000


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
    """Casts rays into a scene.

    Args:
        caster: an existing ray caster of the scene in the units `unit`, used if it has the same triangles. Without one,
            a large scene is asked triangle by triangle, and cut-outs of its textures count as surface: to build a
            tree takes longer than a person waits.

    Attributes:
        has_tree: whether it needs no better picker.
    """

    def __init__(self, scene: Scene, caster: RayCaster | None = None, unit: UnitSize | None = None) -> None:
        self._scene = scene
        if caster is not None and len(caster.triangles) != len(scene):
            caster, unit = None, None
        self.has_tree = caster is not None or len(scene) < LARGE
        if self.has_tree:
            self._unit = unit or (UnitSize.of(scene) if caster is None else AS_IT_IS)
            self._caster = caster or RayCaster.of(self._unit.scene(scene))

    def pick(self, camera: Camera, x: float, y: float, width: float, height: float) -> Pick | None:
        """The nearest surface, front or back, that the camera sees, or None.

        Args:
            x, y: point of a picture of `width` by `height`; (0.5, 0.5) is the centre of the first pixel.
        """
        if not self.has_tree:
            return nearest(self._scene, *ray(camera, x, y, width, height))
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


def nearest(scene: Scene, origin: Float32Array, direction: Float32Array) -> Pick | None:
    """The nearest surface that a camera at `origin` (3,) sees in a unit direction (3,), by a look at every triangle."""
    best, limit, way = None, np.inf, direction.astype(np.float64)
    for mesh in scene.objects:
        for first in range(0, len(mesh) if mesh.camera_sides != "none" else 0, ROWS):
            corners = mesh.triangles[first : first + ROWS].astype(np.float64)
            one, two = corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]
            across, back = np.cross(way, two), origin - corners[:, 0]
            facing, beside = (one * across).sum(axis=1), np.cross(back, one)
            with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
                u, v = (back * across).sum(axis=1) / facing, beside @ way / facing
                distance = (beside * two).sum(axis=1) / facing
            hit = (u >= 0) & (v >= 0) & (u + v <= 1) & (distance > 0) & (distance < limit)
            rows = np.flatnonzero(hit & (facing > 0) if mesh.camera_sides == "front" else hit)
            if len(rows):
                row = int(rows[distance[rows].argmin()])
                limit = float(distance[row])
                best = Pick(mesh.name, first + row, vector(origin + limit * way), limit)
    return best


def ray(camera: Camera, x: float, y: float, width: float, height: float) -> tuple[Float32Array, Float32Array]:
    """(3,) float32 origin and unit direction of the ray through a point of a picture."""
    direction = camera.rays(x, y, width, height)
    return camera.position.astype(np.float32), (direction / np.linalg.norm(direction)).astype(np.float32)
