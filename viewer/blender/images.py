"""Images of Blender as arrays."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from .arrays import name_of

# Colour spaces of images whose values are linear, or no colours.
DATA = ("Non-Color", "Raw", "Generic Data")
LINEAR = (*DATA, "Linear Rec.709", "Linear")


class Images:
    """The images that a scene uses, as bytes or floats, read once until they change.

    Attributes:
        arrays: what was asked for, by name.
    """

    def __init__(self) -> None:
        self.arrays: dict[str, np.ndarray] = {}
        self._kept: dict[tuple[Any, ...], tuple[str, np.ndarray]] = {}
        self._used: dict[tuple[Any, ...], tuple[str, np.ndarray]] = {}

    def begin(self) -> None:
        """Begin another scene."""
        self._kept, self._used, self.arrays = self._used, {}, {}

    def changed(self, image: Any) -> None:
        """Read an image again."""
        self._used = {key: found for key, found in self._used.items() if key[0] != _key(image)}

    def texture(self, image: Any, alpha: bool) -> tuple[str, bool] | None:
        """The name of the array (H, W, 3 or 4) u8 of an image, row 0 at the top, and whether it holds sRGB values; None
        for an image that cannot be read."""
        space = image.colorspace_settings.name
        # Colours of float images are linear and would have bands in 8 bits.
        srgb = space not in (DATA if image.is_float else LINEAR)
        name = self._named(
            (_key(image), alpha, srgb), image, lambda pixels: _bytes(pixels, alpha, image.is_float and srgb)
        )
        return None if name is None else (name, srgb)

    def radiance(self, image: Any) -> str | None:
        """The name of the array (H, W, 3) f32 of an image in linear light; None for one that cannot be read."""
        srgb = not image.is_float and image.colorspace_settings.name not in LINEAR
        return self._named((_key(image), srgb), image, lambda pixels: _radiance(pixels, srgb))

    def _named(self, key: tuple[Any, ...], image: Any, made: Callable[[np.ndarray], np.ndarray]) -> str | None:
        """The name of what is made of the pixels of an image, or was made before."""
        found = self._used.get(key) or self._kept.get(key)
        if found is None:
            pixels = _pixels(image)
            if pixels is None:
                return None
            values = made(pixels)
            found = name_of(values), values
        self._used[key] = found
        self.arrays[found[0]] = found[1]
        return found[0]


def _bytes(pixels: np.ndarray, alpha: bool, linear: bool) -> np.ndarray:
    """(H, W, 3 or 4) u8; `linear`: whether the colours are linear ones that are wanted as sRGB values."""
    colour = linear_to_srgb(pixels[..., :3]) if linear else pixels[..., :3]
    channels = np.concatenate([colour, pixels[..., 3:]], axis=2) if alpha else colour
    return np.rint(np.clip(np.nan_to_num(channels), 0, 1) * 255).astype(np.uint8)


def _radiance(pixels: np.ndarray, srgb: bool) -> np.ndarray:
    """(H, W, 3) f32 linear."""
    colour = np.maximum(np.nan_to_num(pixels[..., :3], posinf=65504.0), 0)
    return np.ascontiguousarray(srgb_to_linear(colour) if srgb else colour, np.float32)


def _key(image: Any) -> Any:
    return getattr(image, "session_uid", None) or image.name


def _pixels(image: Any) -> np.ndarray | None:
    """(H, W, 4) f32 values of an image as it holds them, row 0 at the top."""
    width, height = image.size
    if not (image.has_data or len(image.pixels)) or not width * height:
        return None
    values = np.empty(width * height * image.channels, np.float32)
    image.pixels.foreach_get(values)
    values = values.reshape(height, width, image.channels)[::-1]
    if image.channels < 3:
        values = np.concatenate([np.repeat(values[..., :1], 3, axis=2), values[..., 1:]], axis=2)
    if values.shape[2] < 4:
        values = np.concatenate([values, np.ones((height, width, 1), np.float32)], axis=2)
    return values


def srgb_to_linear(values: np.ndarray) -> np.ndarray:
    """Of sRGB values in [0, 1]."""
    return np.where(values <= 0.04045, values / 12.92, ((values + 0.055) / 1.055) ** 2.4)


def linear_to_srgb(values: np.ndarray) -> np.ndarray:
    """Of linear values, cut to [0, 1]."""
    clipped = np.clip(np.nan_to_num(values), 0, 1)
    return np.where(clipped <= 0.0031308, 12.92 * clipped, 1.055 * clipped ** (1 / 2.4) - 0.055)
