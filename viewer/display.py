"""From linear pictures to the display: tone mapping, letterbox, split view, difference.

Display values are (h, w, 3) uint8, row 0 at the top.
"""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from renderformer.data.arrays import Float32Array, UInt8Array
from renderformer.data.colour import linear_to_srgb, srgb_to_linear
from renderformer.data.errors import InputError
from renderformer.data.files import open_input
from renderformer.data.rays.raycast import processors
from renderformer.image import LINEAR_SUFFIXES, Image

if TYPE_CHECKING:
    from renderformer.viewer.frames import Frame
    from renderformer.viewer.watched import Window

# Factor of the absolute difference of display values.
DIFFERENCE_GAIN = 4.0
# Width of the bar of the split view: in pixels of a window, and as a share of the picture.
BAR_PIXELS, BAR_SHARE = 3, 0.004
# Pixels whose display values are made at once: those of a whole picture take three times as long.
STRIP = 1 << 14
# Depths behind and in front of the whole scene, in scene units.
FAR, NEAR = 160.0, 0.0


@dataclass(frozen=True)
class Rect:
    """A rectangle of a window in pixels from the upper left."""

    x: int
    y: int
    width: int
    height: int

    def inside(self, x: float, y: float) -> tuple[float, float] | None:
        """A point of the window in shares (0 … 1) of width and height; None outside the rectangle."""
        u, v = (x - self.x) / max(self.width, 1), (y - self.y) / max(self.height, 1)
        return (u, v) if 0 <= u < 1 and 0 <= v < 1 else None


def letterbox(width: int, height: int, aspect: float) -> Rect:
    """The largest rectangle of an aspect ratio (width over height) in the middle of a window."""
    # The limiting side is filled exactly; rounding both sides would leave a border.
    if width > height * aspect:
        w, h = max(1, min(width, round(height * aspect))), height
    else:
        w, h = width, max(1, min(height, round(width / aspect)))
    return Rect((width - w) // 2, (height - h) // 2, w, h)


def margins(area: Rect, box: Rect) -> tuple[Rect, Rect, Rect, Rect]:
    """The parts of an area above, below, left and right of a box inside it; they may be empty."""
    right, bottom = box.x + box.width, box.y + box.height
    return (
        Rect(area.x, area.y, area.width, box.y - area.y),
        Rect(area.x, bottom, area.width, area.y + area.height - bottom),
        Rect(area.x, box.y, box.x - area.x, box.height),
        Rect(right, box.y, area.x + area.width - right, box.height),
    )


def display_values(image: Image, tone_map: str, exposure: float) -> UInt8Array:
    """Display values of a picture, rounded as in a PNG of `Image.save`."""
    return np.rint(image.tone_mapped(tone_map, exposure) * 255).astype(np.uint8)


class Displayed:
    """Display values of the newest picture of the viewer; what has not changed since the one before is kept, and
    enlarged where the picture has become finer.

    Pictures may come from several threads: one that is late is made anew.
    """

    def __init__(self) -> None:
        # A frame, tone map and exposure with their display values, and the part of these that is shown.
        self._known: tuple[tuple[Frame, str, float], UInt8Array, UInt8Array] | None = None

    def values(self, frame: Frame, tone_map: str, exposure: float) -> UInt8Array:
        """(h, w, 3) of the part of the picture that the view shows."""
        known, settings = self._known, (tone_map, exposure)
        if known is not None and known[0] == (frame, *settings):
            return known[2]
        width, height = frame.image.width, frame.image.height
        before = None if known is None else (known[0][0].serial + 1, *known[0][1:])
        if known is not None and frame.changes is not None and before == (frame.serial, *settings):
            changed, scale, shift = frame.changes
            picture = enlarged(known[1], width, height, scale, shift)
        else:
            changed, picture = ((0, 0, width, height),), np.zeros((height, width, 3), np.uint8)

        def make(window: Window) -> None:
            left, top, right, bottom = window
            picture[top:bottom, left:right] = display_values(_part(frame.image, window), tone_map, exposure)

        with ThreadPoolExecutor(processors()) as pool:
            list(pool.map(make, (strip for window in changed for strip in _strips(window))))
        shown = spanned(picture, frame.span)
        self._known = (frame, *settings), picture, shown
        return shown


def _strips(window: Window) -> list[Window]:
    """A window (left, top, right, bottom) in strips that fit the caches of a processor."""
    left, top, right, bottom = window
    rows = max(1, STRIP // max(1, right - left))
    return [(left, start, right, min(start + rows, bottom)) for start in range(top, bottom, rows)]


def _part(image: Image, window: Window) -> Image:
    """A window of a picture, without its layers."""
    left, top, right, bottom = window
    alpha = None if image.alpha is None else image.alpha[top:bottom, left:right]
    return Image(image.hdr[top:bottom, left:right], alpha=alpha, background=image.background)


def resized(picture: UInt8Array, width: int, height: int) -> UInt8Array:
    """The picture at another size, bilinear; the same array if it has that size."""
    from PIL import Image as Pillow

    if picture.shape[:2] == (height, width):
        return picture
    return np.asarray(Pillow.fromarray(picture).resize((width, height), Pillow.Resampling.BILINEAR))


def enlarged(picture: UInt8Array, width: int, height: int, scale: float, shift: float) -> UInt8Array:
    """A copy of `width` by `height` pixels in which pixel n of a row or column lies at scale * n + shift, at most 1,
    of the picture, bilinear; as at the border beside it."""
    from PIL import Image as Pillow

    if scale == 1 and shift == 0:
        return picture.copy()
    # Pillow counts from the corner of a pixel, and its boxes end at the border.
    padded = Pillow.fromarray(np.pad(picture, ((1, 1), (1, 1), (0, 0)), mode="edge"))
    corner = 1.5 + shift - scale / 2
    box = (corner, corner, corner + scale * width, corner + scale * height)
    return np.array(padded.resize((width, height), Pillow.Resampling.BILINEAR, box=box))


def spanned(picture: UInt8Array, span: tuple[float, float] | None) -> UInt8Array:
    """The part of a picture that spans so many columns and rows from the upper left; None for all of it."""
    from PIL import Image as Pillow

    if span is None or span == (picture.shape[1], picture.shape[0]):
        return picture
    size = max(1, int(span[0])), max(1, int(span[1]))
    return np.asarray(Pillow.fromarray(picture).resize(size, Pillow.Resampling.BILINEAR, box=(0, 0, *span)))


def opaque(picture: UInt8Array) -> UInt8Array:
    """(h, w, 4) a picture (h, w, 3) with an alpha of 255."""
    return np.pad(picture, ((0, 0), (0, 0), (0, 1)), constant_values=255)


def beside_bar(layer: UInt8Array, picture: UInt8Array, column: int) -> UInt8Array:
    """(h, w, 4) a picture (h, w, 3) from `column` on, with a white bar at its left, and a layer (h, w, 4) before it."""
    joined = np.full(layer.shape, 255, np.uint8)
    joined[:, :column] = layer[:, :column]
    joined[:, column + BAR_PIXELS :, :3] = picture[:, column + BAR_PIXELS :]
    return joined


def middle(picture: UInt8Array, aspect: float) -> UInt8Array:
    """The middle columns of a picture (h, w, 3), for a page of an aspect ratio (width over height) that is narrower; a
    page that is wider gets black at both sides."""
    height, width, _ = picture.shape
    wanted = max(1, round(height * aspect))
    if wanted <= width:
        left = (width - wanted) // 2
        return picture[:, left : left + wanted]
    left = (wanted - width) // 2
    return np.pad(picture, ((0, 0), (left, wanted - width - left), (0, 0)))


def split_depth(picture: UInt8Array, bar: float) -> tuple[UInt8Array, Float32Array]:
    """A background with depth: right of a bar (0 … 1) the picture in front of the preview, left of it black behind it.

    Returns:
        (h, w, 3) display values with the bar, and (h, w) depths in scene units.
    """
    height, width, _ = picture.shape
    column, thickness = round(bar * width), max(1, round(BAR_SHARE * width))
    background, depth = picture.copy(), np.full((height, width), NEAR, np.float32)
    background[:, :column], depth[:, :column] = 0, FAR
    background[:, column : column + thickness] = 255
    return background, depth


def difference(picture: UInt8Array, reference: UInt8Array, gain: float = DIFFERENCE_GAIN) -> UInt8Array:
    """Absolute difference of display values, times `gain`; the reference is resized to the picture."""
    reference = resized(reference, picture.shape[1], picture.shape[0])
    return np.clip(np.abs(picture.astype(np.float32) - reference) * gain, 0, 255).astype(np.uint8)


@dataclass(frozen=True, eq=False)
class Reference:
    """A picture to compare with: linear light, which follows tone map and exposure, or fixed display values."""

    linear: Image | None
    display: UInt8Array | None

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Reference:
        """Read .exr and .npy as linear light, .png and .jpg as display values.

        Raises:
            InputError: a missing or damaged file, or another format.
        """
        from PIL import Image as Pillow

        path = Path(path)
        if path.suffix.lower() in LINEAR_SUFFIXES:
            return cls(Image.load(path), None)
        if path.suffix.lower() not in (".png", ".jpg", ".jpeg"):
            raise InputError(path, f"cannot compare with {path.suffix!r}", "give a .png, .jpg, .exr or .npy file")
        try:
            with open_input(path) as stream, Pillow.open(stream, formats=("PNG", "JPEG")) as file:
                return cls(None, np.asarray(file.convert("RGB")))
        except InputError:
            raise
        except (OSError, ValueError, Pillow.DecompressionBombError) as error:
            raise InputError(path, f"cannot read the picture ({_reason(error)})", "check the file") from None

    @property
    def size(self) -> tuple[int, int]:
        """Width and height in pixels."""
        shape = self.display.shape if self.linear is None else self.linear.hdr.shape  # type: ignore[union-attr]
        return shape[1], shape[0]

    def display_values(self, tone_map: str, exposure: float) -> UInt8Array:
        """Display values."""
        if self.linear is not None:
            return display_values(self.linear, tone_map, exposure)
        assert self.display is not None
        return self.display


def _reason(error: Exception) -> str:
    """Why a picture cannot be read, without its path."""
    from PIL import UnidentifiedImageError

    if isinstance(error, UnidentifiedImageError):
        return "it is neither PNG nor JPEG"
    return (error.strerror if isinstance(error, OSError) else None) or str(error)


def to_srgb(linear: tuple[float, float, float]) -> tuple[int, int, int]:
    """A linear colour (0 … 1) as display values (0 … 255)."""
    encoded = np.rint(linear_to_srgb(np.clip(np.asarray(linear, np.float32), 0, 1)) * 255)
    return int(encoded[0]), int(encoded[1]), int(encoded[2])


def from_srgb(colour: tuple[int, int, int]) -> tuple[float, float, float]:
    """The inverse of `to_srgb`."""
    linear = srgb_to_linear(np.asarray(colour, np.float64) / 255)
    return float(linear[0]), float(linear[1]), float(linear[2])
