"""Camera paths: key frames, a smooth curve through them, and the file that holds them.

World frame: right-handed, Z up, scene units. Angles in degrees, times in seconds.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
from pydantic import Field

from renderformer.data.arrays import AnyArray
from renderformer.data.camera import Camera, angles, direction
from renderformer.data.declared import Declared
from renderformer.data.errors import InputError
from renderformer.data.files import MAX_CONFIG_BYTES, atomic_path, read_bytes
from renderformer.data.unit_size import AS_IT_IS, UnitSize

MAX_FRAMES = 100_000
# The end of the names of files of key frames, which tells them from scenes.
KEYS_SUFFIX = "keys.json"
Vector = tuple[float, float, float]
# Tolerances within which two views count as equal: shares of the distance, and degrees of the field of view.
NEAR_UNITS, NEAR_DEGREES = 2e-3, 0.05


@dataclass(frozen=True)
class View:
    """A camera on a sphere around `target`; see `Camera.from_angles`. `fov` is vertical, in degrees."""

    azimuth: float = 0.0
    elevation: float = 20.0
    distance: float = 1.75
    target: Vector = (0.0, 0.0, 0.0)
    fov: float = 37.5

    def camera(self, name: str = "") -> Camera:
        """The camera of this view."""
        return Camera.from_angles(self.azimuth, self.elevation, self.distance, self.target, self.fov, name)

    def near(self, other: View) -> bool:
        """Whether both views are equal up to the rounding of a camera that a browser reports."""
        difference = np.abs(self.camera().c2w - other.camera().c2w)
        difference[:3, 3] /= self.distance
        return bool(difference.max() < NEAR_UNITS and abs(self.fov - other.fov) < NEAR_DEGREES)

    @property
    def direction(self) -> Vector:
        """(3,) unit world direction from the target to the camera."""
        return vector(direction(self.azimuth, self.elevation))

    @property
    def origin_distance(self) -> float:
        """Distance of the camera from the world's origin."""
        return math.dist((0, 0, 0), [t + self.distance * d for t, d in zip(self.target, self.direction, strict=True)])

    def moved(self, centre: Sequence[float], sign: int = 1) -> View:
        """The view with its target moved by a vector, or back with the sign -1."""
        x, y, z = (t + sign * c for t, c in zip(self.target, centre, strict=True))
        return replace(self, target=(x, y, z))

    @classmethod
    def of(cls, camera: Camera, depth: float = 0.0, unit: UnitSize = AS_IT_IS) -> View:
        """The view of a camera, without its roll.

        Args:
            depth: distance of the target. By default the target is the point of the line of sight nearest to the
                middle of the scene, or one unit ahead if that lies behind.
            unit: of the scene.
        """
        position, forward = camera.position.astype(np.float64), camera.forward.astype(np.float64)
        depth = depth or -float((position - unit.centre) @ forward)
        depth = depth if depth * unit.scale > 1e-3 else 1 / unit.scale
        target = position + depth * forward
        azimuth, elevation = angles(-forward)
        if abs(elevation) >= 89.99:
            # Straight up or down, the azimuth is where the top of the picture points.
            up = camera.c2w[:3, 1].astype(np.float64)
            azimuth = math.degrees(math.atan2(-up[0] * math.copysign(1.0, elevation), up[1]))
        return cls(azimuth, elevation, depth, vector(target), camera.fov)


def vector(values: AnyArray) -> Vector:
    """The (3,) values as floats."""
    return float(values[0]), float(values[1]), float(values[2])


@dataclass(frozen=True)
class Key:
    """A view at a time."""

    time: float
    view: View


class CameraPath:
    """Key frames in order of time, joined by a monotone cubic curve (PCHIP) of the fields of `View`.

    The curve stays between neighbouring keys, so a path between trained views does not overshoot into objects. Azimuths
    turn the short way from key to key.
    """

    def __init__(self, keys: Sequence[Key] = ()) -> None:
        self.keys: list[Key] = []
        for key in keys:
            self.add(key.view, key.time)

    @property
    def duration(self) -> float:
        """Seconds from the first key to the last."""
        return self.keys[-1].time - self.keys[0].time if self.keys else 0.0

    def add(self, view: View, time: float | None = None) -> Key:
        """Add a key; by default two seconds after the last one."""
        if time is None:
            time = self.keys[-1].time + 2.0 if self.keys else 0.0
        if not math.isfinite(time) or any(key.time == time for key in self.keys):
            raise InputError("camera path", f"time {time:g} is taken or not finite", "give every key a time of its own")
        key = Key(time, view)
        self.keys = sorted([*self.keys, key], key=lambda k: k.time)
        return key

    def remove(self, index: int) -> None:
        del self.keys[index]

    def clear(self) -> None:
        self.keys = []

    def views(self, times: Sequence[float]) -> list[View]:
        """The views at some times; times before the first key and after the last are clamped.

        Raises:
            InputError: no keys.
        """
        if not self.keys:
            raise InputError("camera path", "has no keys", "add some")
        knots = np.array([key.time for key in self.keys])
        views = [key.view for key in self.keys]
        rows = np.array([[v.azimuth, v.elevation, v.distance, *v.target, v.fov] for v in views])
        rows[:, 0] = np.unwrap(rows[:, 0], period=360.0)
        if len(rows) == 1:
            values = np.repeat(rows, len(times), axis=0)
        else:
            from scipy.interpolate import PchipInterpolator

            values = PchipInterpolator(knots, rows)(np.clip(times, knots[0], knots[-1]))
        return [View(a, e, d, (x, y, z), fov) for a, e, d, x, y, z, fov in values.tolist()]

    def cameras(self, fps: float) -> list[Camera]:
        """A camera for each frame of a video, from the first key to the last.

        Raises:
            InputError: fewer than two keys, an invalid frame rate, or too many frames.
        """
        if len(self.keys) < 2:
            raise InputError("camera path", f"has {len(self.keys)} keys, a video needs two or more", "add some")
        if not (math.isfinite(fps) and fps > 0):
            raise InputError("camera path", f"{fps} frames a second", "expected a positive number")
        count = round(self.duration * fps) + 1
        if count > MAX_FRAMES:
            raise InputError("camera path", f"{count:,} frames, at most {MAX_FRAMES:,}", "make it shorter")
        times = np.linspace(self.keys[0].time, self.keys[-1].time, count)
        return [view.camera(f"path_{i:04d}") for i, view in enumerate(self.views(times.tolist()))]

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the keys as JSON; `load` reads them.

        Raises:
            InputError: no keys, or a place that cannot be written.
        """
        if not self.keys:
            raise InputError(path, "there are no key frames to save", "add some")
        file = _File(keys=tuple(_Row(time=key.time, **vars(key.view)) for key in self.keys))
        with atomic_path(path) as temporary:
            temporary.write_text(json.dumps(file.model_dump(), indent=1) + "\n")

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> CameraPath:
        """Read the keys of a file.

        Raises:
            InputError: a missing or damaged file, a value that no camera has, or two keys of one time.
        """
        path = Path(path)
        try:
            content = json.loads(read_bytes(path, MAX_CONFIG_BYTES).decode())
        except (ValueError, RecursionError) as error:
            raise InputError(path, f"is not JSON ({error})", "save the key frames again") from None
        rows = [dict(row) for row in _File.read(content, path).keys]
        try:
            return cls([Key(row.pop("time"), View(**row)) for row in rows])
        except InputError as error:
            raise error.at(path) from None


class _Row(Declared):
    """A key of the file: the fields of `Key` and `View`."""

    time: float
    azimuth: float
    elevation: Annotated[float, Field(ge=-90, le=90)]
    distance: Annotated[float, Field(gt=0)]
    target: Vector = (0.0, 0.0, 0.0)
    fov: Annotated[float, Field(gt=0, lt=180)] = View.fov


class _File(Declared):
    version: Literal[1] = 1
    keys: Annotated[tuple[_Row, ...], Field(min_length=1, max_length=MAX_FRAMES)]


def turntable(view: View, frames: int) -> list[Camera]:
    """Cameras of one full turn from a view; the first is not repeated at the end."""
    if not 1 <= frames <= MAX_FRAMES:
        raise InputError("turntable", f"{frames} frames", f"expected 1 … {MAX_FRAMES:,}")
    views = [replace(view, azimuth=view.azimuth + 360 * i / frames) for i in range(frames)]
    return [view.camera(f"turn_{i:04d}") for i, view in enumerate(views)]
