"""The choice of cameras to render: those of the scene, one given by angles, an orbit, or a path."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from renderformer.data.camera import Camera, angles
from renderformer.data.errors import InputError
from renderformer.data.scene import Scene


@dataclass(frozen=True)
class CameraChoice:
    """The cameras to render.

    Attributes:
        names: names or indices of the scene's cameras; all of them if empty.
        angles: azimuth, elevation, distance, fov, as in `Camera.from_angles`. Any of them makes a new camera; the first
            camera of the scene provides the others.
        orbit: number of new cameras on a circle that starts at the azimuth of `angles`.
        path: cameras that are taken as they are.
    """

    names: tuple[str, ...] = ()
    angles: Mapping[str, float] = field(default_factory=dict)
    orbit: int | None = None
    path: tuple[Camera, ...] = ()

    def stage_options(self) -> dict[str, Any]:
        """Options of `load_scene` for a bare mesh; they give the stage's camera the angles."""
        around = {"all_around": True} if self.orbit or self.path else {}
        of_file = {"file_cameras": True} if set(self.names) - {"stage", "0"} else {}
        return {**around, **of_file, **self.angles}

    def of_stage(self, scene: Scene, place: str) -> list[tuple[int, Camera]]:
        """`of_scene` for a scene that was loaded with `stage_options`."""
        return replace(self, angles={}).of_scene(scene, place)

    def of_scene(self, scene: Scene, place: str) -> list[tuple[int, Camera]]:
        """The chosen cameras, each with its index in the scene or the orbit.

        Args:
            place: the scene's name in errors.

        Raises:
            InputError: an unknown camera, or a scene without cameras.
        """
        if self.path:
            return list(enumerate(self.path))
        if self.orbit is not None:
            view, target = self._view(scene)
            start = view.pop("azimuth")
            return list(enumerate(Camera.orbit(self.orbit, target=target, start=start, **view)))
        if self.angles:
            view, target = self._view(scene)
            return [(0, Camera.from_angles(**view, target=target, name="view"))]
        if self.names:
            return [_find(scene, place, name) for name in self.names]
        if not scene.cameras:
            raise InputError(place, "has no cameras", "give angles or an orbit (--azimuth, --orbit …)")
        return list(enumerate(scene.cameras))

    def moving_names(self) -> list[str]:
        """The names of the cameras of an orbit or a path; empty for cameras of the scene."""
        if self.path:
            return [camera.name for camera in self.path]
        return [] if self.orbit is None else [camera.name for camera in Camera.orbit(self.orbit)]

    def _view(self, scene: Scene) -> tuple[dict[str, float], list[float]]:
        """Angles, distance and fov with the changes of `angles`, and the (3,) target, of the first camera."""
        view, target = {"azimuth": 0.0, "elevation": 20.0, "distance": 1.75, "fov": 37.5}, np.zeros(3)
        if scene.cameras:
            camera = scene.cameras[0]
            position, forward = camera.position.astype(np.float64), camera.forward.astype(np.float64)
            # The target is the point of the line of sight nearest to the vertical axis, if it lies in front.
            axes = slice(0, 2) if abs(forward[2]) < 0.999 else slice(0, 3)
            depth = -float(position[axes] @ forward[axes] / (forward[axes] @ forward[axes]))
            if depth > 1e-3:
                target = position + depth * forward
                azimuth, elevation = angles(-forward)
                view = {"azimuth": azimuth, "elevation": elevation, "distance": depth, "fov": camera.fov}
        return {**view, **self.angles}, target.tolist()


def _find(scene: Scene, place: str, name: str) -> tuple[int, Camera]:
    for index, camera in enumerate(scene.cameras):
        if camera.name == name:
            return index, camera
    if name.isdecimal() and int(name) < len(scene.cameras):
        return int(name), scene.cameras[int(name)]
    names = ", ".join(f"{index} {camera.name}".rstrip() for index, camera in enumerate(scene.cameras)) or "none"
    raise InputError(place, f"no camera {name!r}", f"it has: {names}")
