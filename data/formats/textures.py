"""Pictures of mesh files, decoded for textures within bounds of time and memory."""

from __future__ import annotations

import io
import math
import warnings
from typing import Any

import numpy as np
from PIL import Image

from renderformer.data.arrays import Float32Array, UInt8Array
from renderformer.data.colour import linear_to_srgb
from renderformer.data.texture import byte_curve

# Larger pictures are reduced to about this many pixels.
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


class PictureDecoder:
    """Decodes the pictures of one file within bounds of time and memory.

    Args:
        notes: lines about reduced and ignored pictures are added here.
    """

    def __init__(self, notes: list[str]) -> None:
        self._notes = notes
        self._decode_left, self._keep_left = MAX_DECODED, MAX_KEPT

    def pixels(self, source: Any, label: str, srgb: bool = True, alpha: bool = False) -> UInt8Array | None:
        """(H, W, 3) pixels, or (H, W, 4) if `alpha` and the picture has it; None and a note if they cannot be decoded.

        A picture of more than `MAX_PIXELS` is reduced in linear light, with a note.

        Args:
            source: a PIL image, or the bytes of a file.
            srgb: whether the pixels are sRGB values, else linear ones; alpha is linear.
            alpha: whether alpha is kept.
        """
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", Image.DecompressionBombWarning)
                image = Image.open(io.BytesIO(source)) if isinstance(source, bytes) else source
                return self._decoded(image, label, srgb, alpha)
        # Pillow raises many kinds of exceptions for damaged pictures and decompression bombs.
        except Exception as error:
            self._notes.append(f"{label} ignored, it cannot be decoded ({' '.join(str(error).split())[:100]})")
            return None

    def _decoded(self, image: Any, label: str, srgb: bool, alpha: bool) -> UInt8Array | None:
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
        alpha = alpha and image.has_transparency_data
        read = _rgba_pixels if alpha else _rgb_pixels
        pixels = read(image) if factor == 1 else _reduced(image, factor, srgb, alpha)
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


def _rgba_pixels(image: Any) -> UInt8Array:
    """(H, W, 4) pixels of a PIL image."""
    return np.asarray(image.convert("RGBA"))


def _reduced(image: Any, factor: int, srgb: bool, alpha: bool) -> UInt8Array:
    """(H, W, 3 or 4) means of squares of `factor` pixels, taken in linear light and weighted by alpha; incomplete
    squares at the end are cut."""
    columns, rows = min(factor, image.width), min(factor, image.height)
    width, height = image.width // columns, image.height // rows
    curve = byte_curve(srgb)
    result = np.empty((height, width, 4 if alpha else 3), np.uint8)
    for row in range(height):
        part = image.crop((0, row * rows, width * columns, (row + 1) * rows))
        strip = _rgba_pixels(part) if alpha else _rgb_pixels(part)
        # Some weight for pixels that are clear, so that a clear square keeps its colour.
        weight = np.maximum(strip[..., 3:], np.float32(1e-3)) if alpha else np.ones((1, 1, 1), np.float32)
        weight = np.broadcast_to(weight, (*strip.shape[:2], 1))
        share = _column_sums(weight.sum(axis=0), columns)
        mean = _column_sums((curve[strip[..., :3]] * weight).sum(axis=0), columns) / share
        result[row, :, :3] = np.rint((linear_to_srgb(mean) if srgb else mean) * 255)
        if alpha:
            result[row, :, 3:] = np.rint(share / (rows * columns))
    return result


def _column_sums(values: Float32Array, columns: int) -> Float32Array:
    """(W / columns, C) sums of as many neighbours of values (W, C)."""
    total: Float32Array = sum(values[column::columns] for column in range(columns))  # type: ignore[assignment]
    return total
