"""What a camera sees of an environment behind the objects.

Shapes: h x w pixels.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from renderformer.data.arrays import Float32Array, Int64Array
from renderformer.data.camera import Camera
from renderformer.data.environment import Environment
from renderformer.data.rays.embree import Surfaces
from renderformer.data.rays.pixels import Pixels

# Samples on a side of a pixel, and pixels or rays that are done at once.
SIDE, CHUNK = 2, 1 << 18
# Rays on a side of a pixel that tell how much of it is covered.
COVERAGE_RAYS = 4


def composited(
    picture: Float32Array,
    covered: Float32Array,
    environment: Environment,
    camera: Camera,
    behind: Callable[[Int64Array, Int64Array], Float32Array] | None = None,
) -> tuple[Float32Array, Float32Array | None]:
    """A picture (h, w, 3) of objects with the environment behind them, and its alpha (h, w) if that is not seen there.

    Args:
        covered: (h, w) share of each pixel in which there is any surface; the picture is black elsewhere.
        behind: (M, 3) what `backdrop` gives for pixels at column x and row y, both (M,), if somebody knows it already.
    """
    if environment.is_clear:
        return picture, np.ascontiguousarray(covered)
    if environment.background == "invisible":
        return picture, None
    result = picture.copy()
    rows, columns = np.nonzero(covered < 1)
    for part in np.array_split(np.arange(len(rows)), max(1, -(-len(rows) // CHUNK))):
        y, x = rows[part], columns[part]
        seen = backdrop(environment, camera, x, y, covered.shape) if behind is None else behind(x, y)
        result[y, x] += (1 - covered[y, x])[:, None] * seen
    return result, None


def backdrop(
    environment: Environment, camera: Camera, x: Int64Array, y: Int64Array, size: tuple[int, ...]
) -> Float32Array:
    """(M, 3) mean radiance of the environment in the pixels at column x and row y, both (M,), of a picture of `size`,
    height and width."""
    height, width = size
    total = np.zeros((len(x), 3), np.float32)
    # A pixel in the middle of the picture, in radians.
    side = 2 * np.tan(np.radians(camera.fov) / 2) / height
    for i in range(SIDE**2):
        step = (np.array(divmod(i, SIDE)) + 0.5) / SIDE
        directions = camera.rays(x + step[1], y + step[0], width, height)
        directions = (directions / np.linalg.norm(directions, axis=0)).astype(np.float32).T
        total += environment.radiance(directions, (side / SIDE) ** 2)
    return total / np.float32(SIDE**2)


def coverage(surfaces: Surfaces, camera: Camera, width: int, height: int) -> Float32Array:
    """(height, width) share of each pixel in which there is any surface."""
    y, x = (grid.reshape(-1) for grid in np.mgrid[:height, :width])
    pixels = Pixels(camera, width, height, x, y)
    rays = COVERAGE_RAYS**2
    parts = np.array_split(np.arange(len(pixels)), max(1, -(-len(pixels) * rays // CHUNK)))
    shares = [surfaces.met(*pixels.take(part).rays(COVERAGE_RAYS)).reshape(rays, -1).mean(axis=0) for part in parts]
    return np.concatenate(shares).reshape(height, width).astype(np.float32)
