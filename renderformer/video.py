"""Videos of pictures: MP4 (H.264) and GIF."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from renderformer.data.arrays import UInt8Array
from renderformer.data.camera import Camera
from renderformer.data.errors import InputError
from renderformer.data.files import atomic_path, check_place

if TYPE_CHECKING:
    from renderformer.data.progress import Progress
    from renderformer.data.scene import Scene
    from renderformer.image import Image
    from renderformer.renderer import Cancel, LitScene, Renderer

VIDEO_SUFFIXES = (".mp4", ".gif")
# The palette of a GIF is chosen for all frames at once, which ffmpeg keeps in memory.
MAX_GIF_BYTES = 2**31
# One palette for all frames, since a palette for each flickers.
_PALETTE = "split[a][b];[a]palettegen[p];[b][p]paletteuse=dither=sierra2_4a"
_MP4: dict[str, Any] = {"codec": "libx264", "quality": 8, "macro_block_size": 2, "pix_fmt_out": "yuv420p"}
_GIF: dict[str, Any] = {
    "codec": "gif",
    "quality": None,
    "macro_block_size": 1,
    "pix_fmt_out": "pal8",
    "output_params": ["-filter_complex", _PALETTE, "-loop", "0"],
}


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
    """Render a picture for each camera into an MP4 or GIF, whole or not at all.

    Args:
        progress: called with ("video", frames done, all frames); an exception in it ends the work and leaves no file.
        cancel: as of `Renderer.render`; a cancelled video leaves no file.

    Returns:
        Notes of `write_images`.

    Raises:
        InputError: another suffix than .mp4 and .gif, a place that cannot be written, no cameras, or as
            `Renderer.render`.
        Cancelled: `cancel` returned True.
    """
    size = (resolution, resolution) if isinstance(resolution, int) else resolution
    done = 0

    def report(*stage: object) -> None:
        # Also called within a picture, which may take minutes.
        if progress is not None:
            progress("video", done, len(cameras))

    def images() -> Iterator[Image]:
        nonlocal done
        for image in renderer.iterate(scene, size, cameras, report, cancel):
            yield image
            done += 1
            report()

    return write_images(path, images(), size, len(cameras), fps, tone_map, exposure)


def write_images(
    path: str | os.PathLike[str],
    images: Iterable[Image],
    size: tuple[int, int],
    count: int,
    fps: float = 24.0,
    tone_map: str = "neutral",
    exposure: float = 0.0,
) -> list[str]:
    """Encode pictures as an MP4 or GIF, whole or not at all.

    Args:
        images: asked for one after the other.
        size: (width, height) of all pictures.
        count: of the pictures.

    Returns:
        Notes of `check_video`, and about alpha, which a video cannot hold.

    Raises:
        InputError: as `check_video` and `Image.tone_mapped`, or a picture of another size.
    """
    path, clear = Path(path), 0
    notes = check_video(path, size, count, fps)
    with encoder(path, size, fps) as add:
        for number, image in enumerate(images):
            if (image.width, image.height) != size:
                problem = f"picture {number} has {image.width} x {image.height} pixels, the first {size[0]} x {size[1]}"
                raise InputError(path, problem, "a video takes pictures of one size")
            add(np.rint(image.tone_mapped(tone_map, exposure) * 255).astype(np.uint8))
            clear += image.is_clear
    return [*notes, *alpha_note(path, clear)]


def join_pictures(
    path: str | os.PathLike[str], pictures: Sequence[Path], fps: float, progress: Progress | None = None
) -> list[str]:
    """Encode picture files of one size as an MP4 or GIF, whole or not at all.

    Args:
        pictures: 8-bit PNG files without alpha, in order.
        progress: called with ("video", frames done, all frames).

    Returns:
        Notes of `check_video`.

    Raises:
        InputError: as `check_video`, or a picture that cannot be read.
    """
    import imageio.v3 as iio

    path = Path(path)
    if not pictures:
        raise InputError(path, "a video needs pictures, there are none", "give one or more")

    def read(picture: Path) -> UInt8Array:
        try:
            return np.asarray(iio.imread(picture, plugin="pillow"), np.uint8)
        except (OSError, SyntaxError, ValueError) as error:
            raise InputError(picture, f"cannot be read ({error})", "delete it and draw it again") from None

    height, width = read(pictures[0]).shape[:2]
    notes = check_video(path, (width, height), len(pictures), fps)
    with encoder(path, (width, height), fps) as add:
        for done, picture in enumerate(pictures):
            if progress is not None:
                progress("video", done, len(pictures))
            add(read(picture))
    return notes


def check_video(path: Path, size: tuple[int, int], count: int, fps: float) -> list[str]:
    """Check before any work that a video can be written; returns a note if columns or rows will be cut.

    Args:
        size: (width, height) of the pictures.
        count: of the pictures.

    Raises:
        InputError: an unknown suffix, a place that cannot be written, too small, too many or no pictures, or an
            invalid frame rate.
    """
    if path.suffix.lower() not in VIDEO_SUFFIXES:
        raise InputError(
            path, f"unknown video format {path.suffix!r}", f"end the name in {' or '.join(VIDEO_SUFFIXES)}"
        )
    check_place(path)
    if count < 1:
        raise InputError(path, "a video needs cameras, there are none", "give one or more")
    if not (math.isfinite(fps) and 0 < fps <= 1000):
        raise InputError(path, f"{fps:g} frames a second", "expected a number above 0, at most 1000")
    width, height = size
    if path.suffix.lower() == ".gif":
        if 4 * width * height * count > MAX_GIF_BYTES:
            raise InputError(path, f"{count} frames of {width} x {height} are too much for a GIF", "write an .mp4")
        return []
    even = _even(size)
    if min(even) < 2:
        raise InputError(path, f"{width} x {height} is too small for a video", "use 2 x 2 or more")
    if even == size:
        return []
    return [f"{path}: cut from {width} x {height} to {even[0]} x {even[1]}, since H.264 takes even sizes"]


def alpha_note(path: Path, clear: int) -> list[str]:
    """A note about the alpha of so many pictures."""
    return [f"{path}: a video holds no alpha, the background of {clear} pictures is black"] if clear else []


@contextmanager
def encoder(path: Path, size: tuple[int, int], fps: float) -> Iterator[Callable[[UInt8Array], None]]:
    """Yield a function that adds (height, width, 3) display values to a video, which appears at the end."""
    from imageio_ffmpeg import write_frames

    gif = path.suffix.lower() == ".gif"
    width, height = size if gif else _even(size)
    with atomic_path(path) as temporary:
        writer = write_frames(str(temporary), (width, height), fps=fps, **(_GIF if gif else _MP4))
        writer.send(None)
        try:
            yield lambda pixels: writer.send(np.ascontiguousarray(pixels[:height, :width]))
        finally:
            writer.close()


def _even(size: tuple[int, int]) -> tuple[int, int]:
    return size[0] // 2 * 2, size[1] // 2 * 2
