"""Samples of pixels: their rays, their average, where they are too few, and what of a pixel on an outline is covered.

Shapes: M pixels, A x A samples per pixel, S samples of a pixel, h x w picture, 39 channels (channels.py).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np

from renderformer.data.arrays import AnyArray, BoolArray, Float32Array, Float64Array, Int64Array
from renderformer.data.camera import Camera
from renderformer.data.rays.channels import RGB

# The pixels of squares of so many on a side use different shadow rays and samples of lobes: what these miss shows as a
# fine pattern instead of bands, and the eye averages it.
DITHER = 2
GEOMETRY = np.r_[RGB.geometry]


@dataclass(frozen=True)
class Pixels:
    """M pixels at column x and row y of a picture of `width` by `height`, which may lie outside of it."""

    camera: Camera
    width: int
    height: int
    x: Int64Array
    y: Int64Array

    def __len__(self) -> int:
        return len(self.x)

    def take(self, index: Int64Array) -> Pixels:
        """Those at an index (M',)."""
        return replace(self, x=self.x[index], y=self.y[index])

    @property
    def pixel_width(self) -> float:
        """Width of a pixel in the middle of the picture, at a distance of 1."""
        return 2 * math.tan(math.radians(self.camera.fov) / 2) / self.height

    def rays(self, antialias: int) -> tuple[Float32Array, Float32Array]:
        """(A * A * M, 3) origins and world directions of the samples of all pixels, ordered sample, pixel."""
        x, y = self.places(antialias)
        directions = self.camera.rays(x, y, self.width, self.height).astype(np.float32).T
        return np.broadcast_to(self.camera.position.astype(np.float32), directions.shape), directions

    def phases(self, antialias: int) -> Int64Array:
        """(A * A * M,) of the samples of all pixels, ordered sample, pixel: which points on lights and which samples of
        lobes they use."""
        place = DITHER * (self.y % DITHER) + self.x % DITHER
        return (np.arange(antialias**2)[:, None] + antialias**2 * place).reshape(-1)

    def places(self, antialias: int) -> tuple[Float64Array, Float64Array]:
        """(A * A * M,) column and row of the samples of all pixels, ordered sample, pixel."""
        row, column = (grid.reshape(-1) for grid in np.mgrid[:antialias, :antialias])
        # A sheared grid: no two samples have the same x or y, so that upright edges get A * A levels of grey, not A.
        sub_x = (column + (row + 0.5) / antialias) / antialias
        sub_y = (row + (antialias - column - 0.5) / antialias) / antialias
        return (self.x + sub_x[:, None]).reshape(-1), (self.y + sub_y[:, None]).reshape(-1)


def mean(samples: Float32Array) -> Float32Array:
    """Average (39, S, M) samples to (M, 39) pixels; geometry and roughness over the samples that hit."""
    pixels: Float32Array = samples.mean(axis=1)
    share = np.maximum(pixels[RGB.mask], np.float32(1 / samples.shape[1]))
    for channels in RGB.geometry:
        pixels[channels] /= share
    return pixels.T


def contrast(samples: Float32Array, brightness: float, textured: BoolArray | None = None) -> Float32Array:
    """(M,) largest difference among the (39, S, M) samples of a pixel, in coverage, colour or display values.

    Args:
        brightness: radiance that a display would show as white, so that the answer does not depend on the exposure.
        textured: (M,) pixels that show a piece of texture, whose own contrast the samples are averages of; there only
            that of the light on it counts.
    """
    light, diffuse = samples[RGB.direct] + samples[RGB.indirect], np.ptp(samples[RGB.diffuse], axis=1)
    if textured is not None and textured.any():
        pieces = np.flatnonzero(textured)
        colour = samples[RGB.diffuse][..., pieces].mean(axis=1, keepdims=True)
        white = samples[RGB.irradiance] + samples[RGB.indirect_irradiance]
        light[..., pieces] = white[..., pieces] * colour
        diffuse[:, pieces] = 0
    light += samples[RGB.emission] + samples[RGB.highlight] + samples[RGB.reflection]
    darkest, brightest = (np.sqrt(np.clip(end(axis=1) / brightness, 0, 1)) for end in (light.min, light.max))
    # A crease matters where light falls on it; alone it counts for a quarter.
    parts = [np.ptp(samples[RGB.mask], axis=1), diffuse, brightest - darkest,
             np.ptp(samples[RGB.normal], axis=1) / 4]  # fmt: skip
    result: Float32Array = np.concatenate(parts).max(axis=0)
    return result


def flat(samples: Float32Array, width: float) -> BoolArray:
    """(M,) pixels all of whose (39, S, M) samples lie on one plane, by their positions and the normal of the first.

    Args:
        width: of a pixel at a distance of 1.
    """
    normal, position = samples[RGB.normal], samples[RGB.position]
    off = (normal[:, :1] * (position - position[:, :1])).sum(axis=0)
    distance2 = (position[:, 0] ** 2).sum(axis=0)
    return np.asarray((off**2).max(axis=0) <= width**2 * distance2)


def apart(triangles: Int64Array) -> BoolArray:
    """(M,) pixels each of whose samples (S, M) hit a triangle, of which no two are the same; none of one sample."""
    if len(triangles) == 1:
        return np.zeros(triangles.shape[1], bool)
    ordered = np.sort(triangles, axis=0)
    return np.asarray((ordered[0] >= 0) & (np.diff(ordered, axis=0) > 0).all(axis=0))


def crossed(
    triangles: Float32Array, camera: Camera, width: int, height: int, window: tuple[int, int, int, int]
) -> BoolArray:
    """(h, w) pixels of a window (left, top, right and bottom) in which an edge of triangles (N, 3, 3) lies, seen or
    not."""
    left, top, right, bottom = window
    mask = np.zeros((bottom - top, right - left), bool)
    ends = (triangles.astype(np.float64) - camera.position) @ camera.c2w[:3, :3]
    ends = np.stack([ends, np.roll(ends, -1, axis=1)], axis=2).reshape(-1, 2, 3)
    # What of an edge lies behind the camera is cut off.
    depth = -ends[..., 2]
    near = 1e-6 * np.abs(ends).max(initial=1e-12)
    ends, depth = ends[(depth > near).any(axis=1)], depth[(depth > near).any(axis=1)]
    share = (near - depth) / np.where(depth == depth[:, ::-1], 1, depth[:, ::-1] - depth)
    cut = ends + share[..., None] * (ends[:, ::-1] - ends)
    ends = np.where((depth > near)[..., None], ends, cut)
    focal = height / (2 * math.tan(math.radians(camera.fov) / 2))
    place = ends[..., :2] * [1, -1] / np.maximum(-ends[..., 2:], near) * focal + [width / 2, height / 2]
    # What of the edge lies in the window: from the last border that it enters by to the first that it leaves by.
    along = place[:, 1] - place[:, 0]
    along = np.where(np.abs(along) < 1e-9, 1e-9, along)
    borders = np.sort([([left, top] - place[:, 0]) / along, ([right, bottom] - place[:, 0]) / along], axis=0)
    first, last = np.maximum(borders[0].max(axis=1), 0), np.minimum(borders[1].min(axis=1), 1)
    kept = np.flatnonzero(first < last)
    start, along = (place[:, 0] + first[:, None] * along)[kept], ((last - first)[:, None] * along)[kept]
    # Points no farther apart than a quarter of a pixel.
    counts = np.ceil(4 * np.abs(along).max(axis=1, initial=0)).astype(np.int64) + 1
    edge = np.repeat(np.arange(len(counts)), counts)
    step = np.arange(len(edge)) - np.repeat(np.cumsum(counts) - counts, counts)
    x, y = np.floor(start[edge] + (step / np.maximum(counts[edge] - 1, 1))[:, None] * along[edge]).astype(np.int64).T
    mask[np.clip(y, top, bottom - 1) - top, np.clip(x, left, right - 1) - left] = True
    return mask


def outline(share: Float32Array) -> BoolArray:
    """Of the covered shares (h, w) of pixels, those with both surface and nothing in them or in a neighbour."""
    return (among_neighbours(np.maximum, share) > 0) & (among_neighbours(np.minimum, share) < 1)


def differs(share: Float32Array) -> BoolArray:
    """Of the covered shares (h, w) of pixels, those unlike that of a neighbour, by more than a 64th."""
    return np.asarray(among_neighbours(np.maximum, share) - among_neighbours(np.minimum, share) > 1 / 64)


def among_neighbours(extreme: np.ufunc, values: AnyArray) -> AnyArray:
    """(h, w, ...) the extreme of each pixel of (h, w, ...) and its neighbours, or another ufunc of all of them."""
    around = np.pad(values, [(1, 1), (1, 1), *[(0, 0)] * (values.ndim - 2)], mode="edge")
    rows = extreme(extreme(around[:-2], around[1:-1]), around[2:])
    result: AnyArray = extreme(extreme(rows[:, :-2], rows[:, 1:-1]), rows[:, 2:])
    return result


def covered(image: Float32Array, x: Int64Array, y: Int64Array, share: Float32Array) -> Float32Array:
    """(M, F) the pixels of `image` (h, w, F) at column x and row y, as they are when surfaces fill `share` (M,) of
    each. A pixel in which no sample hit looks like its neighbours."""
    height, width = image.shape[:2]

    def summed(dy: int, dx: int) -> Float32Array:
        # As a sum over the samples: geometry too counts by how much of the pixel it fills.
        values: Float32Array = image[np.clip(y + dy, 0, height - 1), np.clip(x + dx, 0, width - 1)]
        values[:, GEOMETRY] *= values[:, RGB.mask]
        return values

    steps = (-1, 0, 1)
    pixels = summed(0, 0)
    empty = np.flatnonzero(pixels[:, 0] == 0)
    x, y = x[empty], y[empty]
    pixels[empty] = sum(summed(dy, dx) for dy in steps for dx in steps)
    pixels /= np.maximum(pixels[:, RGB.mask], np.float32(1e-6))
    pixels[:, np.setdiff1d(np.arange(image.shape[-1]), GEOMETRY)] *= share[:, None]
    pixels[share == 0] = 0
    return pixels
