"""What renderformer draws of a view of Blender: projections to frames."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

# An orthographic view is drawn from this many times its height away.
FAR = 1000.0
# Most pixels that are drawn for one that is shown, of a view whose axis is off its middle.
MOST = 16.0


@dataclass(frozen=True)
class View:
    """A view.

    Attributes:
        c2w: (4, 4) camera to world; the camera looks along -Z.
        fov: vertical, in degrees, of `size` pixels, of which `window` is shown: left, top, right and bottom.
        shown: width and height of the result, which differ from those of the window if its pixels are not square.
        notes: what is drawn in another way.
    """

    c2w: np.ndarray
    fov: float
    size: tuple[int, int]
    window: tuple[int, int, int, int]
    shown: tuple[int, int]
    notes: tuple[str, ...] = ()

    def noting(self, line: str) -> View:
        """The view with one more note."""
        return replace(self, notes=(*self.notes, line))

    def part(self, left: int, top: int, right: int, bottom: int) -> View:
        """A part of what is shown, in pixels of the result."""
        x, y, end, foot = self.window
        across, down = (end - x) / self.shown[0], (foot - y) / self.shown[1]
        begin = x + round(left * across), y + round(top * down)
        window = (*begin, max(begin[0] + 1, x + round(right * across)), max(begin[1] + 1, y + round(bottom * down)))
        return replace(self, window=window, shown=(right - left, bottom - top))

    def place(self, place: Sequence[float]) -> list[float]:
        """Left, top, right and bottom in pixels of the window as those of the result."""
        left, top, right, bottom = self.window
        across, down = self.shown[0] / (right - left), self.shown[1] / (bottom - top)
        return [place[0] * across, place[1] * down, place[2] * across, place[3] * down]

    def message(self, number: int, growing: bool) -> dict[str, Any]:
        """Asks for its pictures."""
        return {
            "do": "frame", "number": number, "c2w": self.c2w.tolist(), "fov": self.fov, "width": self.size[0],
            "height": self.size[1], "window": list(self.window), "growing": growing,
        }  # fmt: skip


def view_of(projection: npt.ArrayLike, to_world: npt.ArrayLike, width: int, height: int) -> View:
    """The view of a projection matrix (4, 4), as OpenGL has it, in a picture.

    Pixels that are not square are drawn as more of them that are. renderformer's cameras look through the middle of
    their pictures. A view whose axis is elsewhere (shift, or a part of a larger picture) is a window of a larger one,
    which lies right to a quarter of a pixel.

    Args:
        to_world: (4, 4) of the camera, whose scale does not count.
        width, height: of the picture in pixels.

    Raises:
        ValueError: a projection that cannot be drawn; one line.
    """
    p, c2w, notes = np.asarray(projection, np.float64), _rigid(np.asarray(to_world, np.float64)), []
    if not (np.isfinite(p).all() and p[0, 0] > 0 and p[1, 1] > 0):
        raise ValueError("this kind of camera is not drawn, only perspective and orthographic ones")
    orthographic, shown = p[3, 2] == 0, (width, height)
    width, height = _square(width, height, float(p[1, 1] * height / (p[0, 0] * width)))
    focal = p[1, 1] * height / 2
    if orthographic:
        # Halves of the height and width of the view, and where its middle is, in scene units.
        half = 1 / p[1, 1]
        distance = FAR * 2 * half
        c2w[:3, 3] += c2w[:3, :3] @ np.array([-p[0, 3] / p[0, 0], -p[1, 3] / p[1, 1], distance])
        fov = 2 * math.degrees(math.atan(half / distance))
        notes.append(f"an orthographic view is drawn in perspective from {FAR:g} times its height away")
        return View(c2w, fov, (width, height), (0, 0, width, height), shown, tuple(notes))
    across, left = _around((1 - p[0, 2]) * width / 2, width)
    down, top = _around((1 + p[1, 2]) * height / 2, height)
    if across * down > MOST * width * height:
        raise ValueError("the camera is shifted too far from the middle of the picture")
    fov = 2 * math.degrees(math.atan(down / 2 / focal))
    return View(c2w, fov, (across, down), (left, top, left + width, top + height), shown, tuple(notes))


def _square(width: int, height: int, aspect: float) -> tuple[int, int]:
    """Width and height in square pixels of a picture whose pixels have an aspect.

    Raises:
        ValueError: they would be too many.
    """
    if not 1 / MOST <= aspect <= MOST:
        raise ValueError(f"pixels more than {MOST:g} times as long in one direction as in the other are not drawn")
    if abs(aspect - 1) < 1e-3:
        return width, height
    return (round(width * aspect), height) if aspect > 1 else (width, round(height / aspect))


def _around(axis: float, length: int) -> tuple[int, int]:
    """Pixels of the smallest picture whose middle is at `axis` of a window of some length, and where that begins."""
    axis = round(2 * axis) / 2
    whole = max(length, round(2 * max(axis, length - axis)))
    return whole, round(whole / 2 - axis)


def _rigid(matrix: np.ndarray) -> np.ndarray:
    """The matrix without scale and shear: the axis of view and the direction to the right stay."""
    result = np.eye(4)
    backward = matrix[:3, 2] / np.linalg.norm(matrix[:3, 2])
    right = matrix[:3, 0] - backward * (matrix[:3, 0] @ backward)
    right /= np.linalg.norm(right)
    result[:3, :3] = np.stack([right, np.cross(backward, right), backward], axis=1)
    result[:3, 3] = matrix[:3, 3]
    return result
