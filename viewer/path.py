"""Camera paths: views at points in time, a smooth curve through them, and a video of it.

Angles in degrees, times in seconds.
"""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from renderformer.data.camera import Camera
from renderformer.data.errors import InputError
from renderformer.data.files import atomic_path, check_place
from renderformer.viewer.camera import View

if TYPE_CHECKING:
    from renderformer.data.scene import Scene
    from renderformer.renderer import LitScene, Progress, Renderer

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


def write_video(
    path: str | os.PathLike[str],
    renderer: Renderer,
    scene: Scene | LitScene,
    cameras: Sequence[Camera],
    resolution: int | tuple[int, int] = 512,
    fps: float = 24.0,
    tone_map: str = "agx",
    exposure: float = 0.0,
    progress: Progress | None = None,
) -> list[str]:
    """Render a picture for each camera into an MP4 (H.264), whole or not at all.

    Args:
        progress: called with ("video", frames done, frames in all); what it raises ends the work and leaves no file.

    Returns:
        Lines that tell what the format could not hold: H.264 takes even sizes only, so a column or a row is cut.

    Raises:
        InputError: another suffix than .mp4, a place that cannot be written, no cameras, or what `render` raises.
    """
    path = Path(path)
    if path.suffix.lower() != ".mp4":
        raise InputError(path, f"unknown video format {path.suffix!r}", "end the name in .mp4")
    check_place(path)
    if not cameras:
        raise InputError(path, "no cameras to make a video of")
    width, height = (resolution, resolution) if isinstance(resolution, int) else resolution
    even = width // 2 * 2, height // 2 * 2
    if min(even) < 2:
        raise InputError(path, f"{width} x {height} is too small for a video", "use 2 x 2 or more")
    with atomic_path(path) as temporary:
        writer = _writer(temporary, fps)
        try:
            done = 0

            def tell(*stage: object) -> None:
                # Within a picture, too, so that long ones can be given up.
                if progress is not None:
                    progress("video", done, len(cameras))

            for image in renderer.iterate(scene, (width, height), cameras, tell):
                display = image.tone_mapped(tone_map, exposure)
                writer.append_data(np.rint(display[: even[1], : even[0]] * 255).astype(np.uint8))
                done += 1
                tell()
        finally:
            writer.close()
    if even == (width, height):
        return []
    return [f"{path}: cut from {width} x {height} to {even[0]} x {even[1]}, since H.264 takes even sizes"]


def _writer(path: Path, fps: float) -> Any:
    import imageio.v2 as imageio

    return imageio.get_writer(
        path, format="FFMPEG", fps=fps, codec="libx264", quality=8, macro_block_size=2, pixelformat="yuv420p"
    )
