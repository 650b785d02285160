"""Pictures of mesh files, decoded for textures within bounds of time and memory."""

from __future__ import annotations

import io
import math
import warnings
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from renderformer.data.arrays import AnyArray, UInt8Array
from renderformer.data.colour import linear_to_srgb
from renderformer.data.errors import InputError
from renderformer.data.files import read_bytes
from renderformer.data.notes import Routine
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
# Of a picture file that is loaded by itself.
MAX_BYTES = 2**29
MAX_DECODED = 2**31
# Pillow's decoders of formats without active parts; that of EPS runs a program.
KINDS = ("PNG", "JPEG", "WEBP", "BMP", "TGA", "TIFF", "GIF", "DDS", "PPM", "PCX", "PSD", "JPEG2000")
# A picture is a mask if at most this share of its pixels has values between nearly 0 and nearly 1.
_BETWEEN = 0.15


class PictureDecoder:
    """Decodes the pictures of one file within bounds of time and memory.

    Args:
        notes: lines about reduced and ignored pictures are added here.
    """

    def __init__(self, notes: list[str]) -> None:
        self._notes = notes
        self._decode_left, self._keep_left = MAX_DECODED, MAX_KEPT

    def pixels(
        self, source: Any, label: str, srgb: bool = True, alpha: bool = False, name: str = ""
    ) -> UInt8Array | None:
        """(H, W, 3) pixels, or (H, W, 4) if `alpha` and the picture is not opaque; None and a note if they cannot be
        decoded.

        A picture of more than `MAX_PIXELS` is reduced in linear light, with a note.

        Args:
            source: a PIL image, or the bytes of a file.
            label: of the picture in notes.
            srgb: whether the pixels are sRGB values, else linear ones. Alpha is linear.
            name: of the file, for notes about pictures that are ignored.
        """
        named = f"{label} {name!r}" if name else label
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", Image.DecompressionBombWarning)
                image = Image.open(io.BytesIO(source), formats=KINDS) if isinstance(source, bytes) else source
                mode = "RGBA" if alpha and image.has_transparency_data else "RGB"
                return self._decoded(image, label, named, srgb, mode)
        # Pillow raises many kinds of exceptions for damaged pictures and decompression bombs.
        except Exception as error:
            self._notes.append(f"{named} ignored, it cannot be decoded ({' '.join(str(error).split())[:100]})")
            return None

    def _decoded(self, image: Any, label: str, named: str, srgb: bool, mode: str) -> UInt8Array | None:
        width, height = image.size
        if max(width, height) > MAX_SIDE or width * height > min(MAX_SOURCE, self._decode_left):
            most = f"at most {MAX_SIDE} on a side, {MAX_SOURCE} in a picture and {MAX_DECODED} in a file are read"
            self._notes.append(f"{named} ignored, it has {width} x {height} pixels; {most}")
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
        pixels = _pixels(image, mode) if factor == 1 else _reduced(image, factor, srgb, mode)
        if pixels.shape[:2] != (height, width):
            size = f"{pixels.shape[1]} x {pixels.shape[0]}"
            self._notes.append(Routine(f"{label} of {width} x {height} pixels reduced to {size}"))
        self._keep_left -= pixels.shape[0] * pixels.shape[1]
        return pixels[..., :3] if mode == "RGBA" and (pixels[..., 3] == 255).all() else pixels


def load_pixels(path: Path, srgb: bool = True) -> UInt8Array:
    """(H, W, 3) pixels of a picture file, or (H, W, 4) if it is not opaque; of more than `MAX_PIXELS`, reduced.

    Raises:
        InputError: the file cannot be read or decoded.
    """
    notes: list[str] = []
    pixels = PictureDecoder(notes).pixels(read_bytes(path, MAX_BYTES), "the picture", srgb, alpha=True)
    if pixels is None:
        raise InputError(path, notes[-1], "give a picture such as PNG or JPEG")
    return pixels


def is_mask(alpha: UInt8Array) -> bool:
    """Whether pixels (H, W) are nearly all clear or opaque, as those of a leaf cut out of a picture; some of each."""
    clear, opaque = (alpha < 32).mean(), (alpha > 223).mean()
    return bool(clear > 0 and opaque > 0.01 and clear + opaque >= 1 - _BETWEEN)


def _pixels(image: Any, mode: str) -> UInt8Array:
    """(H, W, 3) or (H, W, 4) pixels of a PIL image; `mode` is RGB or RGBA."""
    if image.mode.startswith("I;16"):
        return np.repeat((np.asarray(image) >> 8).astype(np.uint8)[..., None], 3, axis=2)
    return np.asarray(image.convert(mode))


def _reduced(image: Any, factor: int, srgb: bool, mode: str) -> UInt8Array:
    """(H, W, C) means of squares of `factor` pixels, taken in linear light and of colours weighted by their alpha;
    incomplete squares at the end are cut."""
    columns, rows = min(factor, image.width), min(factor, image.height)
    width, height = image.width // columns, image.height // rows
    curve = byte_curve(srgb)
    result = np.empty((height, width, len(mode)), np.uint8)

    def means(values: AnyArray) -> AnyArray:
        """(width, C) of a strip (rows, width x columns, C)."""
        total = values.sum(axis=0)
        mean: AnyArray = sum(total[column::columns] for column in range(columns)) / np.float32(rows * columns)
        return mean

    for row in range(height):
        strip = _pixels(image.crop((0, row * rows, width * columns, (row + 1) * rows)), mode)
        colour = curve[strip[..., :3]]
        if len(mode) == 4:
            # Clear pixels keep a little weight, so that a clear square keeps their colour.
            alpha = strip[..., 3:] / np.float32(255)
            result[row, :, 3:] = np.rint(means(alpha) * 255)
            weight = np.maximum(alpha, np.float32(1e-4))
            mean = means(colour * weight) / means(weight)
        else:
            mean = means(colour)
        result[row, :, :3] = np.rint((linear_to_srgb(mean) if srgb else mean) * 255)
    return result
