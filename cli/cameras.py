"""Which cameras to render: those of the scene, one named by angles, or an orbit."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from renderformer.data.camera import Camera, angles
from renderformer.data.errors import InputError

if TYPE_CHECKING:
    from renderformer.data.scene import Scene

# An index, which stands for {index} in names of files, and the camera.
Numbered = tuple[int, Camera]


def choose(
    scene: Scene, where: str, names: Sequence[str], angles: dict[str, float], orbit: int | None
) -> list[Numbered]:
    """The cameras to render.

    Args:
        scene: its first camera gives the angles that are not given.
        where: the input, for errors.
        names: names or indices of the scene's cameras; all of them when empty.
        angles: azimuth, elevation, distance, fov, as in `Camera.from_angles`; any of them replaces the scene's cameras.
        orbit: this many cameras on a circle instead.

    Raises:
        InputError: no such camera, or none at all.
    """
    if orbit is not None:
        view, target = _angles(scene, angles)
        start = view.pop("azimuth")
        return list(enumerate(Camera.orbit(orbit, target=target, start=start, **view)))
    if angles:
        view, target = _angles(scene, angles)
        return [(0, Camera.from_angles(**view, target=target, name="view"))]
    if names:
        return [_find(scene, where, name) for name in names]
    if not scene.cameras:
        raise InputError(where, "has no cameras", "give --azimuth, --elevation, --distance, --fov or --orbit")
    return list(enumerate(scene.cameras))


def _find(scene: Scene, where: str, name: str) -> Numbered:
    for index, camera in enumerate(scene.cameras):
        if camera.name == name:
            return index, camera
    if name.isdecimal() and int(name) < len(scene.cameras):
        return int(name), scene.cameras[int(name)]
    known = ", ".join(f"{i} {camera.name}".rstrip() for i, camera in enumerate(scene.cameras)) or "none"
    raise InputError(where, f"no camera {name!r}", f"it has: {known}")


def _angles(scene: Scene, given: dict[str, float]) -> tuple[dict[str, float], list[float]]:
    """Azimuth, elevation, distance, fov and target of the first camera, with what is given in their place."""
    view, target = {"azimuth": 0.0, "elevation": 20.0, "distance": 1.75, "fov": 37.5}, np.zeros(3)
    if scene.cameras:
        camera = scene.cameras[0]
        position, forward = camera.position.astype(np.float64), camera.forward.astype(np.float64)
        # The camera turns about the point of its line of sight that is nearest to the vertical axis, if in front of it.
        axes = slice(0, 2) if abs(forward[2]) < 0.999 else slice(0, 3)
        depth = -float(position[axes] @ forward[axes] / (forward[axes] @ forward[axes]))
        if depth > 1e-3:
            target = position + depth * forward
            azimuth, elevation = angles(-forward)
            view = {"azimuth": azimuth, "elevation": elevation, "distance": depth, "fov": camera.fov}
    return {**view, **given}, target.tolist()
