"""Textures: images that texture coordinates sample, bilinear and averaged down where they are finer than what is seen.

Colours are sRGB values or linear ones, and are interpolated in linear light. Texture coordinates have their origin in
the upper left corner of the image, u to the right and v down, as in glTF.

Legend: S points, H x W pixels, C channels. Results lie channel by channel in memory, as in rays/vectors.py.
"""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np

from renderformer.data.arrays import AnyArray, Float32Array, Float64Array, Int64Array, UInt8Array
from renderformer.data.colour import linear_to_srgb, srgb_to_linear
from renderformer.data.errors import InputError

Wrap = Literal["repeat", "clamp", "mirror"]
# Rows of the first level computed at once.
_STRIP = 64
# Interpolation widens a pixel, so that the best level lies below that of the area: pictures of three textured scenes at
# four samples a pixel come 0.3 to 0.9 dB nearer to those at 256 (25 November).
_SHARPER = 0.25
# Of the colour of a pixel that is invisible, so that it still counts where all are.
_LEAST_WEIGHT = 1e-3


class Pyramid(NamedTuple):
    """An image and its halvings one after the other, each with a border of one pixel that continues it.

    Attributes:
        texels: uint32, the four bytes of each pixel: red, green, blue, alpha.
        offset, stride: of the first pixel of each level, border included, and of its rows.
        width, height: of each level without its border.
    """

    texels: AnyArray
    offset: Int64Array
    stride: Int64Array
    width: Float32Array
    height: Float32Array


@dataclass(frozen=True, eq=False)
class Texture:
    """An 8-bit image and how it lies on a surface.

    Attributes:
        pixels: (H, W, 3) uint8, or (H, W, 4) with alpha, which is linear.
        srgb: whether the colours are sRGB values, else linear ones.
        matrix: (2, 3) float64, applied to (u, v, 1) before sampling (KHR_texture_transform).
        wrap: what continues the image outside [0, 1], along its width and along its height.
        uv_set: number of the set of texture coordinates that it uses.

    Raises:
        InputError: pixels of another shape or type, a matrix that is not finite, an unknown wrap mode.
    """

    pixels: UInt8Array
    srgb: bool = True
    matrix: Float64Array | None = None
    wrap: tuple[Wrap, Wrap] = ("repeat", "repeat")
    uv_set: int = 0

    def __post_init__(self) -> None:
        pixels = np.asarray(self.pixels)
        if pixels.ndim != 3 or pixels.shape[2] not in (3, 4) or not pixels.size or pixels.dtype != np.uint8:
            shape = f"pixels have shape {pixels.shape} and type {pixels.dtype}"
            raise InputError("texture", shape, "expected (H, W, 3) or (H, W, 4) of type uint8")
        matrix = np.eye(2, 3) if self.matrix is None else np.asarray(self.matrix, np.float64)
        if matrix.shape != (2, 3) or not np.isfinite(matrix).all():
            raise InputError("texture", "the matrix cannot be used", "expected (2, 3) finite numbers")
        if len(self.wrap) != 2 or not set(self.wrap) <= {"repeat", "clamp", "mirror"}:
            raise InputError("texture", f"wrap is {self.wrap!r}", "expected two of repeat, clamp and mirror")
        if self.uv_set < 0:
            raise InputError("texture", f"uv_set is {self.uv_set}", "expected 0 or more")
        object.__setattr__(self, "pixels", pixels)
        object.__setattr__(self, "matrix", matrix)

    @classmethod
    def load(cls, path: str | os.PathLike[str], srgb: bool = True, **layout: Any) -> Texture:
        """The picture of a file that Pillow reads, with its alpha if it has any.

        Args:
            srgb: whether it holds colours, else linear numbers such as normals, roughness and metal.
            layout: matrix, wrap and uv_set, see `Texture`.

        Raises:
            InputError: the file cannot be read or decoded, or is larger than `formats.textures` takes.
        """
        from renderformer.data.formats.textures import load_pixels

        return cls(load_pixels(Path(path), srgb), srgb, **layout)

    @property
    def has_alpha(self) -> bool:
        """Whether there is a fourth channel that is not opaque everywhere."""
        return self.pixels.shape[2] == 4 and self._least_alpha < 255

    @cached_property
    def _least_alpha(self) -> int:
        return int(self.pixels[..., 3].min())

    @cached_property
    def _curve(self) -> Float32Array:
        """(256,) linear value of each 8-bit value."""
        return byte_curve(self.srgb)

    @cached_property
    def digest(self) -> bytes:
        """A hash of all that it consists of."""
        layout = repr((self.pixels.shape, self.srgb, self.wrap, self.uv_set)).encode()
        assert self.matrix is not None
        return hashlib.blake2b(layout + self.matrix.tobytes() + self.pixels.tobytes(), digest_size=16).digest()

    @property
    def depth(self) -> int:
        """How often the image can be halved until one pixel is left."""
        return int(np.log2(max(self.pixels.shape[:2])))

    @cached_property
    def texel_scale(self) -> float:
        """Pixels of the image in a unit square of texture coordinates."""
        assert self.matrix is not None
        height, width = self.pixels.shape[:2]
        return abs(float(np.linalg.det(self.matrix[:, :2]))) * width * height

    def level(self, texels: AnyArray) -> Float32Array:
        """(S,) number of halvings, whole or not, after which so many pixels of the image (S,), in an area, are one."""
        halvings = 0.5 * np.log2(np.maximum(np.nan_to_num(texels, nan=1.0, posinf=1e30), 1.0)) - _SHARPER
        return np.clip(halvings, 0, np.float32(self.depth), dtype=np.float32)

    def sample(self, uv: AnyArray, level: AnyArray | float = 0.0, channels: slice = slice(None)) -> Float32Array:
        """(S, C) linear values at (S, 2) texture coordinates, from between the levels next to that (S,) of each."""
        u, v = self._folded(np.asarray(uv, np.float32))
        numbers = range(self.pixels.shape[2])[channels]
        if np.ndim(level) == 0 and float(level) == int(level):
            return self._bilinear(u, v, int(level), numbers).T
        levels = np.broadcast_to(np.asarray(level, np.float32), u.shape)
        below = np.floor(levels)
        # Half of the points lie so near to a level that it alone will do.
        share = np.clip(2 * (levels - below) - np.float32(0.5), 0, 1)
        coarse = below.astype(np.int64) + (share == 1)
        values = self._bilinear(u, v, coarse, numbers)
        between = np.flatnonzero((share > 0) & (share < 1))
        if len(between):
            near = values.take(between, axis=1)
            far = self._bilinear(u[between], v[between], coarse[between] + 1, numbers)
            values[:, between] = near + share[between] * (far - near)
        return values.T

    def _folded(self, uv: Float32Array) -> tuple[Float32Array, Float32Array]:
        """(S,) coordinates in [0, 1] of the points of the image that continue at (S, 2) texture coordinates."""
        assert self.matrix is not None
        u, v = uv.T
        if not np.array_equal(self.matrix, np.eye(2, 3)):
            m = self.matrix.astype(np.float32)
            u, v = m[0, 0] * u + m[0, 1] * v + m[0, 2], m[1, 0] * u + m[1, 1] * v + m[1, 2]
        return _fold(u, self.wrap[0]), _fold(v, self.wrap[1])

    def _bilinear(self, u: Float32Array, v: Float32Array, level: Int64Array | int, channels: range) -> Float32Array:
        """(C, S) linear values at folded coordinates, of a level or the level (S,) of each point."""
        pyramid = self._pyramid
        stride = pyramid.stride[level]
        # With the border, the pixel to the upper left of a point is the one that the point shifted by half lies in.
        x, y = u * pyramid.width[level] + np.float32(0.5), v * pyramid.height[level] + np.float32(0.5)
        left, top = np.floor(x), np.floor(y)
        right, down = x - left, y - top
        index = pyramid.offset[level] + top.astype(np.int64) * stride + left.astype(np.int64)
        corners = [pyramid.texels.take(index + step) for step in (0, 1, stride, stride + 1)]
        values = np.empty((len(channels), len(u)), np.float32)
        for i, channel in enumerate(channels):
            a, b, c, d = (self._linear(corner, channel) for corner in corners)
            upper, lower = a + right * (b - a), c + right * (d - c)
            values[i] = upper + down * (lower - upper)
        return values

    def _linear(self, texels: AnyArray, channel: int) -> Float32Array:
        """Linear values of one channel of packed pixels."""
        values = (texels >> np.uint32(8 * channel)) & np.uint32(255)
        return values.astype(np.float32) * np.float32(1 / 255) if channel == 3 else self._curve.take(values)

    @cached_property
    def _pyramid(self) -> Pyramid:
        levels = [_packed(self.pixels, self.wrap)]
        sizes = [self.pixels.shape[:2]]
        values: AnyArray = self.pixels
        for _ in range(self.depth):
            values = self._halved(values)
            sizes.append(values.shape[:2])
            levels.append(_packed(self._bytes(values), self.wrap))
        height, width = np.array(sizes).T
        ends = np.cumsum([level.size for level in levels])
        return Pyramid(
            np.concatenate([level.ravel() for level in levels]),
            np.concatenate([[0], ends[:-1]]),
            width + 2,
            width.astype(np.float32),
            height.astype(np.float32),
        )

    def _bytes(self, values: Float32Array) -> UInt8Array:
        """8-bit pixels of linear values, whose colours are weighted by their alpha."""
        colour: AnyArray = values[..., :3]
        if values.shape[2] == 4:
            colour = colour / np.maximum(values[..., 3:], np.float32(_LEAST_WEIGHT))
        result = np.empty(values.shape, np.uint8)
        np.rint(255 * (linear_to_srgb(colour) if self.srgb else colour), out=result[..., :3], casting="unsafe")
        np.rint(255 * values[..., 3:], out=result[..., 3:], casting="unsafe")
        return result

    def _halved(self, last: AnyArray) -> Float32Array:
        """The level above one (h, w, C) of 8-bit pixels or of linear values, whose colours are weighted by alpha."""
        size, width = last.shape[:2]
        height = max(1, size // 2)
        strips = []
        # In strips, because linear values of a whole image take four times its memory.
        for start in range(0, height, _STRIP):
            end = min(start + _STRIP, height)
            strip = last[2 * start : 2 * end + (size % 2)]
            if strip.dtype == np.uint8:
                strip = self._weighted(strip)
            columns = _paired(strip.swapaxes(0, 1), width, 0)
            strips.append(_paired(columns.swapaxes(0, 1), size, start))
        return np.concatenate(strips)

    def _weighted(self, pixels: UInt8Array) -> Float32Array:
        """Linear values of pixels, the colours weighted by alpha."""
        colour = self._curve[pixels[..., :3]]
        if pixels.shape[2] == 3:
            return colour
        alpha = pixels[..., 3:] * np.float32(1 / 255)
        return np.concatenate([colour * np.maximum(alpha, np.float32(_LEAST_WEIGHT)), alpha], axis=2)


def byte_curve(srgb: bool) -> Float32Array:
    """(256,) linear value of each 8-bit value."""
    scale = np.arange(256) / 255
    return (srgb_to_linear(scale) if srgb else scale).astype(np.float32)


def _fold(place: Float32Array, mode: Wrap) -> Float32Array:
    """Coordinates in [0, 1] that mean the same place."""
    if mode == "clamp":
        return np.clip(place, 0, 1)
    if mode == "mirror":
        return 1 - np.abs(1 - (place - 2 * np.floor(place * np.float32(0.5))))
    return place - np.floor(place)


def _packed(pixels: UInt8Array, wrap: tuple[Wrap, Wrap]) -> AnyArray:
    """(H + 2, W + 2) uint32 of pixels (H, W, C), with a border."""
    height, width = pixels.shape[:2]
    four = np.full((height + 2, width + 2, 4), 255, np.uint8)
    four[1:-1, 1:-1, : pixels.shape[2]] = pixels
    # A mirrored image continues with its own last pixel, as a clamped one does.
    columns = (-2, 1) if wrap[0] == "repeat" else (1, -2)
    four[:, 0], four[:, -1] = four[:, columns[0]], four[:, columns[1]]
    rows = (-2, 1) if wrap[1] == "repeat" else (1, -2)
    four[0], four[-1] = four[rows[0]], four[rows[1]]
    return four.view("<u4")[..., 0]


def _paired(values: Float32Array, size: int, start: int) -> Float32Array:
    """Means of pairs along the first axis, of `size` in all; with an odd one, of 2 and a share of the third, which all
    cover as much.

    Args:
        values: those from 2 `start` on.
    """
    if size == 1:
        return values
    half = size // 2
    first, second = values[0 : 2 * (len(values) // 2) : 2], values[1::2]
    if size % 2 == 0:
        return (first + second) * np.float32(0.5)
    place = np.arange(start, start + len(second), dtype=np.float32)[:, None, None]
    return ((half - place) * first + half * second + (place + 1) * values[2::2]) * np.float32(1 / size)
