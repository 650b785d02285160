"""What is drawn over the picture for the hand: the outline of what is selected, handles, marks of lights.

Display values are (h, w, 3) uint8, row 0 at the top; positions are pixels from the upper left corner.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from PIL import Image as Pillow
from PIL import ImageDraw

from renderformer.data.arrays import Float64Array, UInt8Array
from renderformer.viewer.gizmo import FREE, Handle, Point
from renderformer.viewer.outline import Outline

RGB = tuple[int, int, int]
COLOURS: dict[str, RGB] = {"x": (235, 65, 75), "y": (110, 205, 50), "z": (60, 125, 245), FREE: (240, 240, 240)}
ACTIVE: RGB = (255, 205, 40)
OUTLINE: RGB = (255, 140, 25)
LAMP: RGB = (255, 225, 120)
DARK: RGB = (25, 25, 25)
# Of lines in pixels: width, of the dark border that tells them from a light picture, side of a tip, a lamp's radius.
WIDTH, BORDER, TIP, RADIUS = 3.0, 1.3, 6.0, 6.0
# Samples of a pixel on a side.
FINE = 3


def outlined(picture: UInt8Array, outline: Outline) -> UInt8Array:
    """A copy of a picture with an outline in it."""
    result = picture.copy()
    rows, columns = outline.cover.shape
    part = result[outline.top : outline.top + rows, outline.left : outline.left + columns]
    cover = outline.cover[: part.shape[0], : part.shape[1], None]
    part[:] = np.rint(part + cover * (np.array(OUTLINE, np.float32) - part)).astype(np.uint8)
    return result


def with_handles(
    picture: UInt8Array,
    handles: Sequence[Handle],
    active: str,
    lamps: Sequence[Point],
    beyond: Float64Array | None = None,
) -> UInt8Array:
    """A copy of a picture with handles, the active one in its own colour, marks of lights, and the mark (3, 2) of
    what is outside the picture."""
    result = picture.copy()
    if beyond is not None:
        canvas = _Canvas(result, beyond, TIP)
        canvas.triangle(beyond, OUTLINE)
        canvas.finish()
    for lamp in lamps:
        canvas = _Canvas(result, np.array([lamp]), RADIUS + BORDER + 1)
        canvas.disc(lamp, RADIUS, LAMP)
        canvas.finish()
    lines = [handle.line for handle in handles]
    if lines:
        canvas = _Canvas(result, np.concatenate(lines), 2 * TIP)
        for handle in handles:
            canvas.handle(handle, ACTIVE if handle.name == active else COLOURS[handle.name])
        canvas.finish()
    return result


class _Canvas:
    """Draws smooth lines into a part of a picture, which it changes.

    Args:
        points: (N, 2) pixels that the part holds.
        around: pixels around them.
    """

    def __init__(self, picture: UInt8Array, points: Float64Array, around: float) -> None:
        height, width, _ = picture.shape
        left, top = np.clip(np.floor(points.min(axis=0) - around), 0, (width, height)).astype(int)
        right, bottom = np.clip(np.ceil(points.max(axis=0) + around), 0, (width, height)).astype(int)
        self._part = picture[top:bottom, left:right]
        self._origin = np.array([left, top])
        rows, columns, _ = self._part.shape
        self._layer = Pillow.new("RGBA", (FINE * columns, FINE * rows))
        self._draw = ImageDraw.Draw(self._layer)

    def finish(self) -> None:
        """Lay what was drawn over the picture."""
        rows, columns, _ = self._part.shape
        if not rows or not columns:
            return
        # Premultiplied, so that the clear pixels beside a line do not darken it.
        layer = np.asarray(self._layer.convert("RGBa").reduce(FINE), np.float32)
        self._part[:] = np.rint(self._part * (1 - layer[..., 3:] / 255) + layer[..., :3]).astype(np.uint8)

    def handle(self, handle: Handle, colour: RGB) -> None:
        """A line with its tip, on a dark border."""
        for more, ink in ((BORDER, DARK), (0.0, colour)):
            self._line(handle.line, WIDTH + 2 * more, ink)
            if handle.tip:
                self._polygon(_tip(handle, TIP + more), ink)

    def disc(self, middle: Point, radius: float, colour: RGB) -> None:
        """A disc on a dark border."""
        x, y = self._fine(np.array([middle]))[0]
        for size, ink in ((radius + BORDER, DARK), (radius, colour)):
            reach = size * FINE
            self._draw.ellipse((x - reach, y - reach, x + reach, y + reach), fill=ink)

    def triangle(self, corners: Float64Array, colour: RGB) -> None:
        """A triangle (3, 2) on a dark border."""
        middle = corners.mean(axis=0)
        self._polygon(middle + 1.25 * (corners - middle), DARK)
        self._polygon(corners, colour)

    def _fine(self, points: Float64Array) -> list[tuple[float, float]]:
        return [(float(x), float(y)) for x, y in (points - self._origin) * FINE]

    def _line(self, points: Float64Array, width: float, colour: RGB) -> None:
        self._draw.line(self._fine(points), fill=colour, width=round(width * FINE))

    def _polygon(self, points: Float64Array, colour: RGB) -> None:
        self._draw.polygon(self._fine(points), fill=colour)


def _tip(handle: Handle, size: float) -> Float64Array:
    """(N, 2) pixels of the corners of the tip of a line."""
    end, along = handle.line[-1], handle.line[-1] - handle.line[-2]
    along = along / max(float(np.linalg.norm(along)), 1e-9) * size
    across = np.array([-along[1], along[0]])
    if handle.tip == "arrow":
        return np.array([end + 2 * along, end - 0.2 * along + across, end - 0.2 * along - across])
    corners = ((-1, -1), (1, -1), (1, 1), (-1, 1))
    return np.array([end + u * 0.8 * along + v * 0.8 * across for u, v in corners])
