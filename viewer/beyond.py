"""The way to what is chosen but outside the picture: a mark at the edge that points to it."""

from __future__ import annotations

import numpy as np

from renderformer.data.arrays import AnyArray, Float64Array
from renderformer.viewer.gizmo import Lens

# Pixels from the edge of the picture to the tip, and half the width of the mark, which is as long as wide.
INSET, HALF = 10.0, 11.0


def mark(lens: Lens, point: AnyArray) -> Float64Array | None:
    """(3, 2) pixels of a triangle at the edge, its tip first, that points to a world point; None if the point is in the
    picture."""
    pixels, _ = lens.project(np.asarray(point)[None])
    size = np.array([lens.width, lens.height])
    if ((pixels[0] >= 0) & (pixels[0] < size)).all():
        return None
    local = (np.asarray(point, np.float64) - lens.camera.position) @ lens.rotation
    # Behind the camera, too, this is where to turn.
    way = np.array([local[0], -local[1]])
    length = float(np.linalg.norm(way))
    way = way / length if length > 1e-9 else np.array([0.0, 1.0])
    room = np.maximum(size / 2 - INSET, 1.0)
    tip = size / 2 + way * float((room / np.maximum(np.abs(way), 1e-9)).min())
    side = np.array([-way[1], way[0]])
    return np.stack([tip, tip - 2 * HALF * way + HALF * side, tip - 2 * HALF * way - HALF * side])
