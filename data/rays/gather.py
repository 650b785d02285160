"""The final gather: indirect light where a camera looks, at a part of the pixels, brought to every sample.

The middle of every cell of 2 x 2 pixels (in a small picture: of every pixel) casts rays over its hemisphere and looks
up what they meet in the light cache. The cells of a square of 4 x 4 use different rays, 512 in all, and an average over
that square, of cells on the same surface only, takes all of them in (interleaved sampling, Keller and Heidrich 2001). A
sample then takes the mean of the four nearest cells, weighted by how far they lie on its surface (joint bilateral
upsampling, Kopf et al. 2007), and the light cache where none of them does.

Shapes: S points, R rays per cell, C channels of light of G groups (light_groups.py). World space; vectors are laid out
as in vectors.py.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from renderformer.data.arrays import Float32Array, Float64Array, Int64Array
from renderformer.data.camera import Camera
from renderformer.data.rays.direct import CHUNK, LitSurfaces
from renderformer.data.rays.embree import Hits
from renderformer.data.rays.environment_light import SoftSky
from renderformer.data.rays.foreseen import Foreseen
from renderformer.data.rays.foresight import Foresight
from renderformer.data.rays.hemisphere import cosine_directions, oriented
from renderformer.data.rays.light_cache import LightCache
from renderformer.data.rays.lights import r2_sequence
from renderformer.data.rays.parts import Parts
from renderformer.data.rays.pixels import Pixels
from renderformer.data.rays.vectors import TINY, dot, take

# Pixels on a side of a cell, cells on a side of the square over which rays interleave, rays of a cell.
CELL, SQUARE, RAYS = 2, 4, 32
# Shadow rays of a cell to each light, by its pixels on a side: they tell what samples beside it will see.
SHADOW_RAYS = {1: 4, 2: 8}
# More rays of a cell of whose rays fewer than this share reach the environment: its light comes through windows.
MORE, ENCLOSED = 96, 0.25
# Pictures of no more pixels than this have cells of one pixel: larger ones would blur the shadows where things touch.
SMALL_PICTURE = 160 * 160
# Every cell of a square counts once: those at the ends, which repeat, by halves.
TAPS = (0.5, 1.0, 1.0, 1.0, 0.5)
# Cells beside a window that those in it are averaged with or that lie nearest to its pixels.
BESIDE = 3
# Of a cell's weight at a point: how fast it falls with the distance from the point's surface, over that of the camera,
# and how often the cosine between their normals is squared.
PLANE_FALLOFF, NORMAL_SQUARINGS = 60.0, 3
# Weight of the light cache beside cells whose weights sum to 1 on a flat surface.
CACHE_WEIGHT = 0.02
# What is known of a cell: normal, position, and light, by way of other surfaces and, if there is an environment, of its
# soft part.
NORMAL, POSITION, LIGHT = slice(0, 3), slice(3, 6), slice(6, None)


class Gathered(NamedTuple):
    """Light at S points, as radiance that a white diffuse surface would send back: irradiance / pi.

    Attributes:
        sky: (S, C) of the soft part of the environment, 0.0 if there is none.
        indirect: (S, C) by way of other surfaces; cached: the same as the light cache has it.
        spread: (S, G) standard deviation of it among neighbouring cells over its mean, in the mean of the colours.
    """

    sky: Float32Array | float
    indirect: Float32Array
    cached: Float32Array
    spread: Float32Array


class Gather:
    """Indirect light in one view.

    Args:
        surfaces, cache: the scene; a `SoftSky` in place of a light cache gives the environment's direct light alone.
        camera: of a picture of `width` by `height` pixels.
        window: left, top, right and bottom of those to cover.
        parts: cuts the work; the result does not depend on how.
        progress: called with cells done and cells in all.
    """

    def __init__(
        self,
        surfaces: LitSurfaces,
        cache: LightCache | SoftSky,
        camera: Camera,
        width: int,
        height: int,
        window: tuple[int, int, int, int],
        parts: Parts,
        progress: Callable[[int, int], None] | None = None,
    ) -> None:
        self._cache, self._eye = cache, camera.position.astype(np.float32)
        self._cell = 1 if width * height <= SMALL_PICTURE else CELL
        left, top = (max(0, start // self._cell - BESIDE) for start in window[:2])
        right = min(-(-width // self._cell), -(-window[2] // self._cell) + BESIDE)
        bottom = min(-(-height // self._cell), -(-window[3] // self._cell) + BESIDE)
        self._corner, down, across = (left, top), bottom - top, right - left
        y, x = (grid.reshape(-1) for grid in np.mgrid[top:bottom, left:right])
        phase = SQUARE * (y % SQUARE) + x % SQUARE
        sequence = cosine_directions(r2_sequence((RAYS + MORE) * SQUARE**2).astype(np.float32))
        sequence = sequence.reshape(RAYS + MORE, SQUARE**2, 3)
        sky = self._has_sky = surfaces.environment is not None
        self._groups, channels = surfaces.groups, surfaces.groups.channels
        self._indirect, self._sky = slice(0, channels), slice(channels, 2 * channels if sky else channels)
        cells = np.zeros((LIGHT.start + self._sky.stop, down * across), np.float32).T
        self._foresight = Foresight(surfaces, down, across) if Foresight.possible(surfaces) else None
        spread = CELL * Pixels(camera, width, height, x, y).pixel_width

        def fill(part: Int64Array) -> int:
            rays = camera.rays((x[part] + 0.5) * self._cell, (y[part] + 0.5) * self._cell, width, height)
            directions = rays.reshape(3, -1).astype(np.float32).T
            hits, _ = surfaces.seen(np.broadcast_to(self._eye, directions.shape), directions, spread)
            local = sequence[:, phase[part[hits.rows]]]
            light, free = _gathered(cache, hits, local[:RAYS], sky)
            if sky:
                shut = np.flatnonzero(free < ENCLOSED)
                more, _ = _gathered(cache, hits.take(shut), local[RAYS:, shut], sky)
                light[shut] = (RAYS * light[shut] + MORE * more) / np.float32(RAYS + MORE)
            met = part[hits.rows]
            light[:, self._indirect] += cache.thrown(hits, phase[met])
            cells[met] = np.concatenate([hits.normal, hits.position, light], axis=1)
            if self._foresight is not None:
                self._foresight.look(met, hits, SHADOW_RAYS[self._cell], phase[met] % SQUARE)
            return len(part)

        done = 0
        for _, count in parts.run("gather", fill, np.arange(len(cells)), 4 * CHUNK // RAYS):
            done += count
            if progress is not None:
                progress(done, len(cells))
        self._shape = down, across
        self._cells = self._averaged(cells.T.reshape(-1, down, across)).reshape(-1, down * across).T
        if self._foresight is not None:
            self._foresight.finish()

    def foreseen(self, x: Float64Array, y: Float64Array, pixel: Int64Array) -> Foreseen | None:
        """What samples of pixels (S,) at column x and row y, both (S,), in pixels, will probably see of the lights.

        None if nobody knows, because the lights are too many or surfaces let light through.
        """
        if self._foresight is None:
            return None
        row, column = (
            np.floor(place / self._cell).astype(np.int64) - corner
            for place, corner in zip((y, x), self._corner[::-1], strict=True)
        )
        return self._foresight.at(row, column, pixel)

    def at(self, hits: Hits, x: Float64Array, y: Float64Array) -> Gathered:
        """The light at points that the camera sees at column x and row y, both (S,), in pixels."""
        light: Float32Array = np.zeros((self._cells.shape[1] - LIGHT.start, len(hits.rows)), np.float32).T
        total = np.zeros(len(light), np.float32)
        down, across = self._shape
        (left, right), (top, bottom) = (
            _between(place / self._cell - 0.5 - corner) for place, corner in zip((x, y), self._corner, strict=True)
        )
        for row, near_row in (top, bottom):
            for column, near_column in (left, right):
                cells = take(self._cells, np.clip(row, 0, down - 1) * across + np.clip(column, 0, across - 1))
                weight = near_row * near_column * self._likeness(cells, hits.normal, hits.position)
                light += weight[:, None] * cells[:, LIGHT.start :]
                total += weight
        few = np.flatnonzero(total < self._cache.enough)
        sky, indirect = self._cache.irradiances(hits.take(few))
        light[few, self._indirect] += np.float32(CACHE_WEIGHT) * indirect
        total[few] += np.float32(CACHE_WEIGHT)
        if self._has_sky:
            light[few, self._sky] += np.float32(CACHE_WEIGHT) * sky
        light /= total[:, None]
        gathered = light[:, self._indirect]
        cached = gathered.copy()
        cached[few] = indirect
        return Gathered(light[:, self._sky] if self._has_sky else 0.0, gathered, cached, light[:, self._sky.stop :])

    def _averaged(self, cells: Float32Array) -> Float32Array:
        """Cells (6 + C or more, h, w) with their light averaged over squares of SQUARE x SQUARE, then its spread."""
        reach = len(TAPS) // 2
        down, across = cells.shape[1:]
        wide = np.pad(cells, ((0, 0), (reach, reach), (reach, reach)))
        light, squares = np.zeros((2, *cells[LIGHT].shape), np.float32)
        total = np.full((down, across), 1e-12, np.float32)
        normal, position = (np.moveaxis(cells[rows], 0, -1) for rows in (NORMAL, POSITION))
        for i, tap_row in enumerate(TAPS):
            for j, tap_column in enumerate(TAPS):
                near = wide[:, i : i + down, j : j + across]
                likeness = self._likeness(np.moveaxis(near, 0, -1), normal, position)
                weight = np.float32(tap_row * tap_column) * likeness
                light += weight * near[LIGHT]
                squares += weight * near[LIGHT] ** 2
                total += weight
        light /= total
        deviation = np.sqrt(np.maximum(squares / total - light**2, 0))
        # Of each colour by itself, so that it does not depend on the colour of the light.
        relative = deviation / np.maximum(light, np.float32(TINY))
        spread = np.moveaxis(self._groups.spread(np.moveaxis(relative, 0, -1)), -1, 0)
        return np.concatenate([cells[: LIGHT.start], light, spread])

    def _likeness(self, cells: Float32Array, normal: Float32Array, position: Float32Array) -> Float32Array:
        """How far cells (..., 6 and more) lie on the surface of points: 1 on it, 0 off it, turned away, or empty."""
        away = position - self._eye
        distance = np.sqrt(np.maximum(dot(away, away), np.float32(TINY)))
        off_plane = np.abs(dot(cells[..., POSITION] - position, normal))
        alike = np.clip(dot(cells[..., NORMAL], normal), 0, 1)
        for _ in range(NORMAL_SQUARINGS):
            alike = alike * alike
        return np.exp(np.float32(-PLANE_FALLOFF) * off_plane / distance) * alike


def _gathered(
    cache: LightCache | SoftSky, hits: Hits, local: Float32Array, sky: bool
) -> tuple[Float32Array, Float32Array]:
    """(S, C) mean radiance that arrives at points by way of other surfaces from directions (R, S, 3) in their tangent
    frames, with `sky` (S, 2 C) also that of the environment; and the share (S,) of the rays that meet nothing."""
    count = len(local)
    normals = np.tile(hits.normal, (count, 1))
    origins = np.tile(hits.shadow_origins, (count, 1))
    directions = oriented(normals, local.reshape(-1, 3))
    seen, missed = cache.seen_along(origins, directions, np.pi / (count * SQUARE**2))
    # Vertex normals send some rays into the surface, where they would meet itself, lit as it is outside.
    inward = np.flatnonzero(dot(directions, np.tile(hits.face_normal, (count, 1))) < 0)
    seen[inward], missed[inward] = 0, 0
    seen, missed = seen.reshape(count, len(hits.rows), seen.shape[1]), missed.reshape(count, len(hits.rows))
    light: Float32Array = seen.mean(axis=0)
    if sky:
        # Where a ray meets nothing, all that it brings is the environment's.
        beyond = np.where(missed[..., None] > 0, seen, 0).mean(axis=0)
        light = np.concatenate([light - beyond, beyond], axis=1)
    return light, missed.mean(axis=0, dtype=np.float32)


def _between(place: Float64Array) -> tuple[tuple[Int64Array, Float32Array], tuple[Int64Array, Float32Array]]:
    """The whole numbers below and above, each with its share in linear interpolation."""
    below = np.floor(place)
    share = (place - below).astype(np.float32)
    index = below.astype(np.int64)
    return (index, 1 - share), (index + 1, share)
