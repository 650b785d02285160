"""UV textures of mesh files, baked into the (13, 32, 32) patches that the model reads.

A patch covers one triangle. Entry [i, j] is the material at the point with the weights (1 - (i + j) / 32, i / 32,
j / 32) of the corners (v0, v1, v2). Entries with i + j > 32 are outside the triangle and 0, as in training.

Pictures are sRGB (base colour, emission) or linear (metallic-roughness) and are interpolated bilinearly in linear
light. They repeat outside [0, 1] unless glTF sets another wrap mode. A picture finer than the patch is first averaged
down, so that it does not alias.

Legend: M triangles, S points, H x W picture.
"""

from __future__ import annotations

import io
import math
import warnings
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from renderformer.data.arrays import (
    AnyArray,
    Float16Array,
    Float32Array,
    Float64Array,
    Int32Array,
    Int64Array,
    UInt8Array,
)
from renderformer.data.colour import linear_to_srgb, srgb_to_linear
from renderformer.data.formats.materials import Surface
from renderformer.data.geometry.patches import MAX_PATCHES, triangle_mask
from renderformer.data.scene import CHANNELS, PATCH_SIZE

# Triangles baked at once; the arrays of a chunk stay below 100 MB.
_CHUNK = 256
# Rows of a level of a picture computed at once.
_STRIP = 64
# Larger pictures are reduced to about this many pixels: a patch has 32 texels on a side.
MAX_PIXELS = 4096**2
# All pictures of a file are reduced to at most about this many pixels, which take 1 GB with their levels; each may have
# MIN_PIXELS.
MAX_KEPT = 2**27
MIN_PIXELS = 128**2
# Pictures with more pixels, or the last pictures of a file with more pixels in all, are ignored. Pillow takes 4 bytes
# a pixel and decodes 50 million pixels a second.
MAX_SOURCE = 2**27
MAX_SIDE = 65535
MAX_DECODED = 2**31
# A triangle is uniform if no channel varies by more than one 8-bit step.
_UNIFORM = 1 / 255


@dataclass(eq=False)
class Picture:
    """An 8-bit picture that is sampled by texture coordinates.

    Attributes:
        pixels: (H, W, 3) uint8.
        srgb: whether the pixels are sRGB values, else linear ones.
        matrix: (2, 3), applied to (u, v, 1) before sampling (KHR_texture_transform).
        wrap: "repeat", "clamp" or "mirror" outside [0, 1], along the width and along the height.
    """

    pixels: UInt8Array
    srgb: bool = True
    matrix: Float64Array = field(default_factory=lambda: np.eye(2, 3))
    wrap: tuple[str, str] = ("repeat", "repeat")

    def __post_init__(self) -> None:
        self._curve = _curve(self.srgb)
        self._levels: list[AnyArray] = [self.pixels]

    def _level(self, number: int) -> AnyArray:
        """The picture halved `number` times: uint8 for 0, else linear float32."""
        while len(self._levels) <= number:
            last = self._levels[-1]
            height, width = max(1, last.shape[0] // 2), max(1, last.shape[1] // 2)
            level = np.empty((height, width, 3), np.float32)
            # In strips, because linear values of a whole picture take four times its memory.
            for start in range(0, height, _STRIP):
                strip = last[2 * start : 2 * min(start + _STRIP, height)]
                strip = self._curve[strip] if strip.dtype == np.uint8 else strip
                rows = strip.reshape(min(_STRIP, height - start), -1, last.shape[1], 3).mean(axis=1)
                level[start : start + _STRIP] = rows[:, : 2 * width].reshape(len(rows), width, -1, 3).mean(axis=2)
            self._levels.append(level)
        return self._levels[number]

    def footprint(self, uv: Float64Array) -> Int64Array:
        """(M,) number of halvings after which the distance of two texels is at most about one pixel.

        Args:
            uv: (M, 3, 2) texture coordinates of the corners.
        """
        moved = uv @ self.matrix[:, :2].T * (self.pixels.shape[1], self.pixels.shape[0])
        longest = np.abs(moved - np.roll(moved, 1, axis=1)).max((1, 2)) / PATCH_SIZE
        deepest = int(np.log2(max(self.pixels.shape[:2])))
        return np.clip(np.floor(np.log2(np.maximum(longest, 1.0))), 0, deepest).astype(np.int64)

    def sample(self, uv: Float64Array, level: int = 0) -> Float32Array:
        """(S, 3) linear values at (S, 2) texture coordinates; (0, 0) is the upper left corner."""
        pixels = self._level(level)
        height, width = pixels.shape[:2]
        moved = uv @ self.matrix[:, :2].T + self.matrix[:, 2]
        position = moved * (width, height) - 0.5
        low = np.floor(position).astype(np.int64)
        fraction = (position - low).astype(np.float32)
        x0, x1 = (_wrapped(low[:, 0] + step, width, self.wrap[0]) for step in (0, 1))
        y0, y1 = (_wrapped(low[:, 1] + step, height, self.wrap[1]) for step in (0, 1))
        fx, fy = fraction[:, :1], fraction[:, 1:]
        top = self._read(pixels, y0, x0) * (1 - fx) + self._read(pixels, y0, x1) * fx
        bottom = self._read(pixels, y1, x0) * (1 - fx) + self._read(pixels, y1, x1) * fx
        return np.asarray(top * (1 - fy) + bottom * fy, np.float32)

    def _read(self, pixels: AnyArray, y: AnyArray, x: AnyArray) -> Float32Array:
        values = pixels[y, x]
        return self._curve[values] if values.dtype == np.uint8 else values


def _wrapped(index: Int64Array, size: int, mode: str) -> Int64Array:
    if mode == "clamp":
        return np.clip(index, 0, size - 1)
    if mode == "mirror":
        index = index % (2 * size)
        return np.minimum(index, 2 * size - 1 - index)
    return index % size


@dataclass(eq=False)
class Textures:
    """The pictures of a surface; each multiplies a factor of the surface.

    Attributes:
        base: base colour (glTF) or map_Kd (OBJ).
        metallic_roughness: roughness in green, metallic in blue (glTF).
        emission: emissive colour (glTF).
    """

    base: Picture | None = None
    metallic_roughness: Picture | None = None
    emission: Picture | None = None


class PictureDecoder:
    """Decodes the pictures of one file within bounds of time and memory.

    Args:
        notes: lines about reduced and ignored pictures are added here.
    """

    def __init__(self, notes: list[str]) -> None:
        self._notes = notes
        self._decode_left, self._keep_left = MAX_DECODED, MAX_KEPT

    def pixels(self, source: Any, label: str, srgb: bool = True) -> UInt8Array | None:
        """(H, W, 3) pixels; None and a note if they cannot be decoded.

        A picture of more than `MAX_PIXELS` is reduced in linear light, with a note.

        Args:
            source: a PIL image, or the bytes of a file.
            srgb: whether the pixels are sRGB values, else linear ones.
        """
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", Image.DecompressionBombWarning)
                image = Image.open(io.BytesIO(source)) if isinstance(source, bytes) else source
                return self._decoded(image, label, srgb)
        # Pillow raises many kinds of exceptions for damaged pictures and decompression bombs.
        except Exception as error:
            self._notes.append(f"{label} ignored, it cannot be decoded ({' '.join(str(error).split())[:100]})")
            return None

    def _decoded(self, image: Any, label: str, srgb: bool) -> UInt8Array | None:
        width, height = image.size
        if max(width, height) > MAX_SIDE or width * height > min(MAX_SOURCE, self._decode_left):
            most = f"at most {MAX_SIDE} on a side, {MAX_SOURCE} in a picture and {MAX_DECODED} in a file are read"
            self._notes.append(f"{label} ignored, it has {width} x {height} pixels; {most}")
            return None
        self._decode_left -= width * height
        # Later pictures of a file share what earlier ones left.
        limit = min(MAX_PIXELS, max(self._keep_left // 4, MIN_PIXELS))
        factor = math.ceil(math.sqrt(width * height / limit))
        if factor > 1:
            # JPEG decodes at a half, a quarter or an eighth of its size in a fraction of the time and memory; these
            # means are of sRGB values.
            image.draft(None, (width // factor, height // factor))
            factor = math.ceil(math.sqrt(image.width * image.height / limit))
        pixels = _rgb_pixels(image) if factor == 1 else _reduced(image, factor, srgb)
        if pixels.shape[:2] != (height, width):
            size = f"{pixels.shape[1]} x {pixels.shape[0]}"
            self._notes.append(f"{label} of {width} x {height} pixels reduced to {size}")
        self._keep_left -= pixels.shape[0] * pixels.shape[1]
        return pixels


def _rgb_pixels(image: Any) -> UInt8Array:
    """(H, W, 3) pixels of a PIL image."""
    if image.mode.startswith("I;16"):
        return np.repeat((np.asarray(image) >> 8).astype(np.uint8)[..., None], 3, axis=2)
    return np.asarray(image.convert("RGB"))


def _reduced(image: Any, factor: int, srgb: bool) -> UInt8Array:
    """(H, W, 3) means of squares of `factor` pixels, taken in linear light; incomplete squares at the end are cut."""
    columns, rows = min(factor, image.width), min(factor, image.height)
    width, height = image.width // columns, image.height // rows
    curve = _curve(srgb)
    result = np.empty((height, width, 3), np.uint8)
    for row in range(height):
        strip = _rgb_pixels(image.crop((0, row * rows, width * columns, (row + 1) * rows)))
        total = curve[strip].sum(axis=0)
        mean = sum(total[column::columns] for column in range(columns)) / np.float32(rows * columns)
        result[row] = np.rint((linear_to_srgb(mean) if srgb else mean) * 255)
    return result


def _curve(srgb: bool) -> Float32Array:
    """(256,) linear value of each 8-bit value."""
    scale = np.arange(256) / 255
    return (srgb_to_linear(scale) if srgb else scale).astype(np.float32)


def texel_weights() -> Float64Array:
    """(S, 3) barycentric weights of the corners at the texels of `triangle_mask`."""
    first, second = np.nonzero(triangle_mask())
    return np.asarray(np.stack([PATCH_SIZE - first - second, first, second], axis=1) / PATCH_SIZE)


def bake_patches(
    surface: Surface,
    textures: Textures,
    uv: Float64Array,
    base: npt.ArrayLike,
    counts: Counter[str],
) -> tuple[Float32Array, Float16Array | None, Int32Array | None]:
    """Material rows of textured triangles, and patches of triangles whose material varies.

    Args:
        surface: the factors that the pictures multiply.
        uv: (M, 3, 2) texture coordinates of the corners, origin at the upper left.
        base: (M, 3) linear RGB that also multiplies the base colour (vertex colours), or 1.
        counts: counts of events are added here, by description.

    Returns:
        (M, 13) rows, the means over the triangles; (K, 13, 32, 32) float16 patches and (M,) int32 index, -1 for
        uniform triangles, or None and None if all are uniform.
    """
    count = len(uv)
    usable = np.isfinite(uv).all((1, 2)) & (np.abs(uv).max((1, 2)) < 1e6)
    counts["triangles with unusable texture coordinates, texture ignored there"] += int((~usable).sum())
    uv = np.where(usable[:, None, None], uv, 0.0)
    tint = np.broadcast_to(np.asarray(base, np.float64), (count, 3))
    rows = np.empty((count, CHANNELS), np.float32)
    index = np.full(count, -1, np.int32)
    chunks: list[Float16Array] = []
    total = 0
    pictures = [p for p in (textures.base, textures.metallic_roughness, textures.emission) if p is not None]
    # Triangles that read the same levels of all pictures are baked together.
    levels = np.stack([picture.footprint(uv) for picture in pictures], axis=1)
    for level in np.unique(levels, axis=0):
        group = np.flatnonzero((levels == level).all(axis=1))
        depth = dict(zip(map(id, pictures), level.tolist(), strict=True))
        for part in np.array_split(group, range(_CHUNK, len(group), _CHUNK)):
            points = _shade(surface, textures, uv[part], tint[part], depth)
            rows[part] = points.mean(axis=1)
            varies = (np.ptp(points, axis=1) > _UNIFORM).any(axis=1) & usable[part]
            if count > MAX_PATCHES or not varies.any():
                continue
            patches = np.zeros((int(varies.sum()), CHANNELS, PATCH_SIZE, PATCH_SIZE), np.float16)
            patches[:, :, triangle_mask()] = points[varies].swapaxes(1, 2)
            index[part[varies]] = total + np.arange(len(patches))
            chunks.append(patches)
            total += len(patches)
    rows[~usable] = surface.rows(base=tint[~usable], count=int((~usable).sum()))
    if count > MAX_PATCHES:
        counts[f"textured triangles got one mean colour each, patches are made for {MAX_PATCHES} at most"] += count
    counts["triangles got a texture patch"] += total
    return (rows, np.concatenate(chunks), index) if chunks else (rows, None, None)


def _shade(
    surface: Surface,
    textures: Textures,
    uv: Float64Array,
    tint: Float64Array,
    depth: dict[int, int],
) -> Float32Array:
    """(M, S, 13) material rows at the S texels of the mask."""
    weights = texel_weights()
    points = (weights @ uv).reshape(-1, 2)

    def sample(picture: Picture | None) -> Any:
        return None if picture is None else picture.sample(points, depth[id(picture)])

    base, channels, emission = sample(textures.base), sample(textures.metallic_roughness), sample(textures.emission)
    colour = np.repeat(tint, len(weights), axis=0)
    rows = surface.rows(
        base=colour if base is None else base * colour,
        metallic=1.0 if channels is None else channels[:, 2],
        roughness=1.0 if channels is None else channels[:, 1],
        emission=1.0 if emission is None else emission,
        count=len(points),
    )
    return rows.reshape(len(uv), len(weights), CHANNELS)
