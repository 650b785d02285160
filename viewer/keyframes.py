"""Camera paths: views at points in time and a smooth curve through them.

Angles in degrees, times in seconds.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from renderformer.data.camera import Camera
from renderformer.data.errors import InputError
from renderformer.viewer.camera import View

MAX_FRAMES = 100_000


@dataclass(frozen=True)
class Key:
    """A view that the camera passes at a time."""

    time: float
    view: View


class CameraPath:
    """Key frames in order of time, joined by a monotone cubic curve (PCHIP) in azimuth, elevation, distance, target
    and fov: it never swings beyond two neighbouring keys, so a path between trained views does not dive into objects.
    Azimuths turn the short way from key to key.
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
        """Delete a key."""
        del self.keys[index]

    def clear(self) -> None:
        """Delete all keys."""
        self.keys = []

    def views(self, times: Sequence[float]) -> list[View]:
        """Where the camera is at these times; before the first key and after the last it stands still."""
        if not self.keys:
            raise InputError("camera path", "has no keys", "add some")
        at = np.array([key.time for key in self.keys])
        views = [key.view for key in self.keys]
        rows = np.array([[v.azimuth, v.elevation, v.distance, *v.target, v.fov] for v in views])
        rows[:, 0] = np.unwrap(rows[:, 0], period=360.0)
        if len(rows) == 1:
            values = np.repeat(rows, len(times), axis=0)
        else:
            from scipy.interpolate import PchipInterpolator

            values = PchipInterpolator(at, rows)(np.clip(times, at[0], at[-1]))
        return [View(a, e, d, (x, y, z), fov) for a, e, d, x, y, z, fov in values.tolist()]

    def cameras(self, fps: float) -> list[Camera]:
        """A camera for each frame of a video, from the first key to the last."""
        if len(self.keys) < 2:
            raise InputError("camera path", f"has {len(self.keys)} keys, a video needs two or more", "add some")
        if not (math.isfinite(fps) and fps > 0):
            raise InputError("camera path", f"{fps} frames a second", "expected a positive number")
        count = round(self.duration * fps) + 1
        if count > MAX_FRAMES:
            raise InputError("camera path", f"{count:,} frames, at most {MAX_FRAMES:,}", "make it shorter")
        times = np.linspace(self.keys[0].time, self.keys[-1].time, count)
        return [view.camera(f"path_{i:04d}") for i, view in enumerate(self.views(times.tolist()))]


def turntable(view: View, frames: int) -> list[Camera]:
    """Cameras of one full turn that starts at a view; the first is not repeated."""
    if not 1 <= frames <= MAX_FRAMES:
        raise InputError("turntable", f"{frames} frames", f"expected 1 … {MAX_FRAMES:,}")
    turns = [replace(view, azimuth=view.azimuth + 360 * i / frames) for i in range(frames)]
    return [turned.camera(f"turn_{i:04d}") for i, turned in enumerate(turns)]
