"""Pictures that came from renderformer, as Blender wants them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


def filled(pixels: np.ndarray, place: Sequence[float], width: int, height: int) -> np.ndarray:
    """(height, width, 4) f32 of a whole picture, row 0 at the bottom.

    Args:
        pixels: (h, w, 4) f32, row 0 at the top; a coarse picture has fewer.
        place: left, top, right and bottom of them in pixels of the whole.
    """
    rows, columns = pixels.shape[:2]
    if (rows, columns) == (height, width):
        return np.ascontiguousarray(pixels[::-1])
    left, top, right, bottom = place
    x = ((np.arange(width) + 0.5 - left) * columns / (right - left)).astype(np.int64).clip(0, columns - 1)
    y = ((np.arange(height) + 0.5 - top) * rows / (bottom - top)).astype(np.int64).clip(0, rows - 1)
    return np.ascontiguousarray(pixels[y[::-1, None], x])
