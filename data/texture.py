"""Textures: images that texture coordinates sample, bilinear and averaged down where they are finer than what is seen.

Colours are sRGB values or linear ones, and are interpolated in linear light. Texture coordinates have their origin in
the upper left corner of the image, u to the right and v down, as in glTF.

Legend: S points, H x W pixels, C channels.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import numpy as np

from renderformer.data.arrays import AnyArray, Float32Array, Float64Array, Int64Array, UInt8Array
from renderformer.data.colour import srgb_to_linear
from renderformer.data.errors import InputError

Wrap = Literal["repeat", "clamp", "mirror"]
# Rows of a level computed at once.
_STRIP = 64


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
        object.__setattr__(self, "_levels", [pixels])

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

    def level(self, texels: AnyArray) -> Int64Array:
        """(S,) number of halvings after which so many pixels of the image (S,), along a line, are about one."""
        halvings = np.log2(np.maximum(np.nan_to_num(texels, nan=1.0, posinf=1e30), 1.0))
        return np.clip(np.floor(halvings), 0, self.depth).astype(np.int64)

    def texel_area(self, uv: AnyArray) -> Float64Array:
        """(M,) area in pixels of the image that triangles cover with texture coordinates (M, 3, 2)."""
        assert self.matrix is not None
        height, width = self.pixels.shape[:2]
        scale = abs(float(np.linalg.det(self.matrix[:, :2]))) * width * height
        first, second = uv[:, 1] - uv[:, 0], uv[:, 2] - uv[:, 0]
        return np.abs(first[:, 0] * second[:, 1] - first[:, 1] * second[:, 0]).astype(np.float64) * (scale / 2)

    def sample(self, uv: AnyArray, level: Int64Array | int = 0) -> Float32Array:
        """(S, C) linear values at (S, 2) texture coordinates, from the level (S,) of each point."""
        levels = np.broadcast_to(np.asarray(level, np.int64), len(uv))
        present = np.unique(levels)
        if len(present) == 1:
            return self._sampled(uv, int(present[0]))
        values = np.empty((len(uv), self.pixels.shape[2]), np.float32)
        for number in present:
            chosen = np.flatnonzero(levels == number)
            values[chosen] = self._sampled(uv[chosen], int(number))
        return values

    def _sampled(self, uv: AnyArray, level: int) -> Float32Array:
        assert self.matrix is not None
        pixels = self._level(level)
        height, width = pixels.shape[:2]
        moved = uv.astype(np.float64) @ self.matrix[:, :2].T + self.matrix[:, 2]
        position = moved * (width, height) - 0.5
        low = np.floor(position).astype(np.int64)
        fraction = (position - low).astype(np.float32)
        x0, x1 = (_wrapped(low[:, 0] + step, width, self.wrap[0]) for step in (0, 1))
        y0, y1 = (_wrapped(low[:, 1] + step, height, self.wrap[1]) for step in (0, 1))
        fx, fy = fraction[:, :1], fraction[:, 1:]
        top = self._linear(pixels[y0, x0]) * (1 - fx) + self._linear(pixels[y0, x1]) * fx
        bottom = self._linear(pixels[y1, x0]) * (1 - fx) + self._linear(pixels[y1, x1]) * fx
        return np.asarray(top * (1 - fy) + bottom * fy, np.float32)

    def _linear(self, values: AnyArray) -> Float32Array:
        """Linear values of pixels of any level, whose last axis is their channels."""
        if values.dtype != np.uint8:
            return values
        if values.shape[-1] == 3:
            return self._curve[values]
        return np.concatenate([self._curve[values[..., :3]], values[..., 3:] * np.float32(1 / 255)], axis=-1)

    def _level(self, number: int) -> AnyArray:
        """The image halved `number` times: uint8 for 0, else linear float32. Colours are weighted by their alpha."""
        levels: list[AnyArray] = self.__dict__["_levels"]
        # Threads may build the same level twice, which does no harm: they append equal ones to copies.
        while len(levels) <= number:
            levels = [*levels, self._halved(levels[-1])]
            object.__setattr__(self, "_levels", levels)
        return levels[number]

    def _halved(self, last: AnyArray) -> Float32Array:
        height, width = max(1, last.shape[0] // 2), max(1, last.shape[1] // 2)
        level = np.empty((height, width, last.shape[2]), np.float32)
        # In strips, because linear values of a whole image take four times its memory.
        for start in range(0, height, _STRIP):
            count = min(_STRIP, height - start)
            strip = self._linear(last[2 * start : 2 * (start + count)])[:, : max(1, 2 * width)]
            weight = np.maximum(strip[..., 3:], 1e-6) if strip.shape[2] == 4 else np.ones_like(strip[..., :1])
            blocks = (count, -1, width, strip.shape[1] // width)
            total = weight.reshape(*blocks).sum(axis=(1, 3))[..., None]
            colour = (strip[..., :3] * weight).reshape(*blocks, 3).sum(axis=(1, 3))
            level[start : start + count, :, :3] = colour / total
            if strip.shape[2] == 4:
                level[start : start + count, :, 3] = strip[..., 3].reshape(*blocks).mean(axis=(1, 3))
        return level


def byte_curve(srgb: bool) -> Float32Array:
    """(256,) linear value of each 8-bit value."""
    scale = np.arange(256) / 255
    return (srgb_to_linear(scale) if srgb else scale).astype(np.float32)


def _wrapped(index: Int64Array, size: int, mode: str) -> Int64Array:
    """Pixel numbers inside an image `size` pixels wide, of those of the endless plane."""
    if mode == "clamp":
        return np.clip(index, 0, size - 1)
    if mode == "mirror":
        index = index % (2 * size)
        return np.minimum(index, 2 * size - 1 - index)
    return index % size
