"""Videos: a picture for each of many cameras, encoded as H.264."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from renderformer.data.camera import Camera
from renderformer.data.errors import InputError
from renderformer.data.files import atomic_path, check_place

if TYPE_CHECKING:
    from renderformer.data.progress import Progress
    from renderformer.data.scene import Scene
    from renderformer.renderer import Cancel, LitScene, Renderer


def write_video(
    path: str | os.PathLike[str],
    renderer: Renderer,
    scene: Scene | LitScene,
    cameras: Sequence[Camera],
    resolution: int | tuple[int, int] = 512,
    fps: float = 24.0,
    tone_map: str = "neutral",
    exposure: float = 0.0,
    progress: Progress | None = None,
    cancel: Cancel | None = None,
) -> list[str]:
    """Render a picture for each camera into an MP4 (H.264), whole or not at all.

    Args:
        progress: called with ("video", frames done, all frames); an exception in it ends the work and leaves no file.
        cancel: as of `Renderer.render`; a cancelled video leaves no file.

    Returns:
        Notes if a column or a row was cut, since H.264 takes even sizes only, and about alpha, which it cannot hold.

    Raises:
        InputError: another suffix than .mp4, a place that cannot be written, no cameras, or as `Renderer.render`.
        Cancelled: `cancel` returned True.
    """
    path = Path(path)
    if path.suffix.lower() != ".mp4":
        raise InputError(path, f"unknown video format {path.suffix!r}", "end the name in .mp4")
    check_place(path)
    if not cameras:
        raise InputError(path, "a video needs cameras, there are none", "give one or more")
    width, height = (resolution, resolution) if isinstance(resolution, int) else resolution
    even = width // 2 * 2, height // 2 * 2
    if min(even) < 2:
        raise InputError(path, f"{width} x {height} is too small for a video", "use 2 x 2 or more")
    with atomic_path(path) as temporary:
        writer = _writer(temporary, fps)
        try:
            done, clear = 0, 0

            def report(*stage: object) -> None:
                # Also called within a picture, which may take minutes.
                if progress is not None:
                    progress("video", done, len(cameras))

            for image in renderer.iterate(scene, (width, height), cameras, report, cancel):
                display = image.tone_mapped(tone_map, exposure)
                writer.append_data(np.rint(display[: even[1], : even[0]] * 255).astype(np.uint8))
                done += 1
                clear += image.alpha is not None
                report()
        finally:
            writer.close()
    notes = []
    if even != (width, height):
        notes.append(f"{path}: cut from {width} x {height} to {even[0]} x {even[1]}, since H.264 takes even sizes")
    if clear:
        notes.append(f"{path}: a video holds no alpha, the background of {clear} pictures is black")
    return notes


def _writer(path: Path, fps: float) -> Any:
    import imageio.v2 as imageio

    return imageio.get_writer(
        path, format="FFMPEG", fps=fps, codec="libx264", quality=8, macro_block_size=2, pixelformat="yuv420p"
    )
