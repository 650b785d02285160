"""Pictures that came from renderformer, as Blender wants them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np


def exposure_of(scene: Any) -> float:
    """The exposure that a scene has for Cycles."""
    return float(getattr(getattr(scene, "cycles", None), "film_exposure", 1.0))


def exposed(pixels: np.ndarray, factor: float) -> np.ndarray:
    """(h, w, 4) with their light times a factor."""
    return pixels if factor == 1 else pixels * np.array([factor, factor, factor, 1], np.float32)


def filled(pixels: np.ndarray, place: Sequence[float], width: int, height: int) -> np.ndarray:
    """(height, width, 4) f32 of a whole picture, row 0 at the bottom.

    Args:
        pixels: (h, w, 4) f32, row 0 at the top; a coarse picture has fewer, one of square pixels that stand for
            others has more.
        place: left, top, right and bottom of them in pixels of the whole.
    """
    rows, columns = pixels.shape[:2]
    if (rows, columns) == (height, width):
        return np.ascontiguousarray(pixels[::-1])
    if rows >= height and columns >= width:
        return np.ascontiguousarray(_averaged(_averaged(pixels, height, 0), width, 1)[::-1])
    left, top, right, bottom = place
    x = ((np.arange(width) + 0.5 - left) * columns / (right - left)).astype(np.int64).clip(0, columns - 1)
    y = ((np.arange(height) + 0.5 - top) * rows / (bottom - top)).astype(np.int64).clip(0, rows - 1)
    return np.ascontiguousarray(pixels[y[::-1, None], x])


def _averaged(pixels: np.ndarray, length: int, axis: int) -> np.ndarray:
    """The means of so many equal parts of an axis."""
    count = pixels.shape[axis]
    if count == length:
        return pixels
    lines = np.moveaxis(pixels, axis, 0).astype(np.float64)
    sums = np.concatenate([np.zeros_like(lines[:1]), np.cumsum(lines, axis=0)])
    edges = np.linspace(0, count, length + 1)
    below = np.minimum(edges.astype(np.int64), count - 1)
    share = (edges - below).reshape(-1, *[1] * (pixels.ndim - 1))
    means = np.diff(sums[below] + share * lines[below], axis=0) * (length / count)
    return np.moveaxis(means, 0, axis).astype(np.float32)
