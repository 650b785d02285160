"""Pictures made of formulas and random numbers, for textured surfaces: tiles, bricks, planks, noise, leaves.

All of them continue at their borders. Sums and products only, so that a seed gives the same picture on every machine.

Shapes: side x side pixels; values are 0 … 1.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from renderformer.data.arrays import Float64Array, UInt8Array
from renderformer.data.colour import linear_to_srgb


class Pattern(NamedTuple):
    """(side, side) each: where between the colours of a palette a pixel lies, and how high."""

    mix: Float64Array
    height: Float64Array


def noise(rng: np.random.Generator, side: int, cells: tuple[int, int] = (4, 4), octaves: int = 4) -> Float64Array:
    """(side, side) sum of smooth random fields, each twice as fine and half as strong as the one before."""
    total, weight = np.zeros((side, side)), 0.0
    for octave in range(octaves):
        rows, columns = (min(count << octave, side) for count in cells)
        field = _stretched(_stretched(rng.random((rows, columns)), side).T, side).T
        total, weight = total + field * 0.5**octave, weight + 0.5**octave
    total = total / weight
    return np.asarray((total - total.min()) / max(float(np.ptp(total)), 1e-9), np.float64)


def _stretched(values: Float64Array, side: int) -> Float64Array:
    """(side, C) smooth interpolation of (R, C) rows that repeat."""
    place = np.arange(side) * (len(values) / side)
    low = place.astype(np.int64)
    t = place - low
    share = (t * t * (3 - 2 * t))[:, None]
    return np.asarray((1 - share) * values[low] + share * values[(low + 1) % len(values)], np.float64)


def _cells(side: int, rows: int, columns: int, shift: float) -> tuple[Float64Array, ...]:
    """(side, side) row and column of the cell of each pixel, and its place in the cell; odd rows are shifted."""
    place = (np.arange(side) + 0.5) / side
    v = place[:, None] * rows + np.zeros(side)
    row = np.floor(v)
    u = place[None, :] * columns + shift * (row % 2)
    column = np.floor(u)
    return row, column % columns, v - row, u - column


def _joints(down: Float64Array, right: Float64Array, width: tuple[float, float], soft: float) -> Float64Array:
    """(side, side) 0 in the joints between cells, 1 inside."""
    edges = [np.minimum(place, 1 - place) / w for place, w in zip((down, right), width, strict=True)]
    return np.asarray(np.clip((np.minimum(*edges) - 1) / soft, 0, 1), np.float64)


def _checker(rng: np.random.Generator, side: int) -> Pattern:
    count = 2 * int(rng.integers(1, 5))
    row, column, _, _ = _cells(side, count, count, 0.0)
    return Pattern((row + column) % 2, np.zeros((side, side)))


def _stripes(rng: np.random.Generator, side: int) -> Pattern:
    count, share = int(rng.integers(2, 12)), rng.uniform(0.25, 0.75)
    _, _, _, right = _cells(side, 1, count, 0.0)
    mix = (right < share).astype(np.float64)
    if rng.random() < 0.4:
        # A plaid: half of each colour where bands cross.
        mix = (mix + mix.T) / 2
    return Pattern(mix.T.copy() if rng.random() < 0.5 else mix, np.zeros((side, side)))


def _tiles(rng: np.random.Generator, side: int) -> Pattern:
    """Bricks, tiles or flagstones with joints; the cells differ a little."""
    rows = 2 * int(rng.integers(1, 5))
    columns = max(1, round(rows / float(rng.choice([1.0, 2.0, 3.0]))))
    row, column, down, right = _cells(side, rows, columns, float(rng.choice([0.0, 0.5])))
    joint = rng.uniform(0.02, 0.07)
    inside = _joints(down, right, (joint, joint * columns / rows), rng.uniform(0.3, 1.5))
    own = rng.random((rows, columns))[row.astype(int), column.astype(int)]
    grain = noise(rng, side, (16, 16), 2)
    return Pattern(inside * (0.45 + 0.4 * own + 0.15 * grain), np.asarray(inside * (0.85 + 0.15 * grain)))


def _planks(rng: np.random.Generator, side: int) -> Pattern:
    """Wood: boards with streaks along them."""
    rows = 2 * int(rng.integers(1, 4))
    row, column, down, right = _cells(side, rows, 1, 0.5)
    streaks = noise(rng, side, (min(side, 24), 2), 3)
    # Each board takes its streaks from another place.
    offset = rng.integers(side, size=rows)[row[:, 0].astype(int)]
    columns = (np.arange(side)[None, :] + offset[:, None]) % side
    streaks = np.take_along_axis(streaks, columns, axis=1)
    own = rng.random(rows)[row.astype(int)]
    inside = _joints(down, right, (0.02 * rows / 2, 0.006), 0.5)
    return Pattern(inside * (0.2 + 0.35 * own + 0.45 * streaks), np.asarray(inside * (0.8 + 0.2 * streaks)))


def _clouds(rng: np.random.Generator, side: int) -> Pattern:
    value = noise(rng, side, (int(rng.integers(2, 9)),) * 2, int(rng.integers(2, 6)))
    return Pattern(value, value)


def _marble(rng: np.random.Generator, side: int) -> Pattern:
    """Veins where a random field crosses its middle."""
    value = noise(rng, side, (3, 3), 5)
    vein = 1 - np.minimum(np.abs(value - 0.5) * rng.uniform(6, 16), 1)
    return Pattern(np.asarray(vein * vein), np.zeros((side, side)))


def _spots(rng: np.random.Generator, side: int) -> Pattern:
    count = int(rng.integers(2, 7))
    _, _, down, right = _cells(side, count, count, float(rng.choice([0.0, 0.5])) if count % 2 == 0 else 0.0)
    distance = (down - 0.5) ** 2 + (right - 0.5) ** 2
    inside = np.clip((rng.uniform(0.15, 0.42) ** 2 - distance) * 40 + 0.5, 0, 1)
    return Pattern(inside, inside)


def _grain(rng: np.random.Generator, side: int) -> Pattern:
    """Plaster, cloth or asphalt."""
    value = noise(rng, side, (side // 4, side // 4), 2)
    return Pattern(value, value)


def _scratches(rng: np.random.Generator, side: int) -> Pattern:
    """Brushed metal: streaks in one direction."""
    value = noise(rng, side, (side // 2, 2), 2)
    return Pattern(value, value)


def _blocks(rng: np.random.Generator, side: int) -> Pattern:
    """A mosaic of the colours of the palette."""
    count = int(rng.integers(3, 13))
    row, column, _, _ = _cells(side, count, count, 0.0)
    own = rng.random((count, count))[row.astype(int), column.astype(int)]
    return Pattern(own, own)


# Each with its weight; the second number is that on floors and walls.
PATTERNS: dict[str, tuple[Callable[[np.random.Generator, int], Pattern], float, float]] = {
    "checker": (_checker, 1.0, 1.0),
    "stripes": (_stripes, 1.0, 0.5),
    "tiles": (_tiles, 1.0, 2.0),
    "planks": (_planks, 1.0, 2.0),
    "clouds": (_clouds, 1.5, 1.0),
    "marble": (_marble, 0.7, 0.7),
    "spots": (_spots, 0.7, 0.3),
    "grain": (_grain, 0.8, 1.0),
    "scratches": (_scratches, 0.7, 0.3),
    "blocks": (_blocks, 0.7, 0.4),
}


def random_pattern(rng: np.random.Generator, side: int, surroundings: bool = False) -> Pattern:
    """A pattern of `side` pixels; `surroundings` for a floor or wall."""
    weights = np.array([entry[2 if surroundings else 1] for entry in PATTERNS.values()])
    chosen = int(rng.choice(len(weights), p=weights / weights.sum()))
    return list(PATTERNS.values())[chosen][0](rng, side)


def coloured(mix: Float64Array, palette: Float64Array) -> UInt8Array:
    """(side, side, 3) sRGB bytes between the linear colours of a palette (K, 3)."""
    place = mix * (len(palette) - 1)
    low = np.minimum(place.astype(np.int64), len(palette) - 2)
    share = (place - low)[..., None]
    return _bytes(linear_to_srgb((1 - share) * palette[low] + share * palette[low + 1]))


def normals(height: Float64Array, strength: float) -> UInt8Array:
    """(side, side, 3) tangent-space normals of a height field; its slopes are `strength` in units of its side / 32."""
    scale = strength * len(height) / 64
    right = (np.roll(height, 1, 1) - np.roll(height, -1, 1)) * scale
    up = (np.roll(height, -1, 0) - np.roll(height, 1, 0)) * scale
    vectors = np.stack([right, up, np.ones_like(right)], axis=-1)
    vectors /= np.sqrt((vectors**2).sum(axis=-1, keepdims=True))
    return _bytes(vectors / 2 + 0.5)


def roughness_bytes(mix: Float64Array, low: float, high: float) -> UInt8Array:
    """(side, side, 3) glTF's metallic-roughness picture: roughness from `low` to `high` in green, blue full."""
    value = low + (high - low) * mix
    return _bytes(np.stack([np.ones_like(value), value, np.ones_like(value)], axis=-1))


def leaf(rng: np.random.Generator, side: int) -> UInt8Array:
    """(side, side) alpha of a leaf that stands in the picture, or of a lattice or perforated plate."""
    v, u = ((np.arange(side) + 0.5) / side * 2 - 1 for _ in range(2))
    x, y = u[None, :] + np.zeros((side, 1)), v[:, None] + np.zeros(side)
    kind = int(rng.integers(4))
    if kind == 0:
        width = rng.uniform(0.35, 0.75) * (1 - y * y)
        inside = np.abs(x) < width * (1 - rng.uniform(0, 0.3) * (np.floor(y * rng.integers(6, 14)) % 2))
    elif kind == 1:
        lobes = np.abs(x) - rng.uniform(0.3, 0.7) * (1 - np.abs(y))
        inside = (lobes < 0) | ((np.abs(x) < 0.06) & (y > 0))
    elif kind == 2:
        count, bar = int(rng.integers(2, 8)), rng.uniform(0.15, 0.4)
        cells = [np.abs((place * count) % 1.0 - 0.5) > 0.5 - bar / 2 for place in (x, y)]
        inside = cells[0] | cells[1]
    else:
        count, radius = int(rng.integers(2, 7)), rng.uniform(0.25, 0.45)
        place = [(p * count) % 1.0 - 0.5 for p in (x, y)]
        inside = place[0] ** 2 + place[1] ** 2 > radius**2
    return np.where(inside, 255, 0).astype(np.uint8)


def _bytes(values: Float64Array) -> UInt8Array:
    return np.asarray(np.rint(255 * np.clip(values, 0, 1)), np.uint8)
