"""Images of Blender as arrays."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from .arrays import name_of
from .formulas import grey

if TYPE_CHECKING:
    from .expressions import Expression

# Pixels that nodes are evaluated for at once.
STRIP = 1 << 18
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
        # Pixels of made textures that are brighter than 1.
        self._cut: dict[Any, int] = {}
        # Names and values by the images that they were made of, and how.
        self._kept: dict[tuple[tuple[Any, ...], Any], tuple[str, np.ndarray]] = {}
        self._used: dict[tuple[tuple[Any, ...], Any], tuple[str, np.ndarray]] = {}

    def begin(self) -> None:
        """Begin another scene."""
        kinds = {key[1] for key in self._used}
        self._cut = {kind: count for kind, count in self._cut.items() if kind in kinds}
        self._kept, self._used, self.arrays = self._used, {}, {}

    def changed(self, image: Any) -> None:
        """Read an image again."""
        self._used = {key: found for key, found in self._used.items() if key_of(image) not in key[0]}

    def texture(self, image: Any, alpha: bool) -> tuple[str, bool] | None:
        """The name of the array (H, W, 3 or 4) u8 of an image, row 0 at the top, and whether it holds sRGB values; None
        for an image that cannot be read."""
        space = image.colorspace_settings.name
        # Colours of float images are linear and would have bands in 8 bits.
        srgb = space not in (DATA if image.is_float else LINEAR)
        encode = image.is_float and srgb
        name = self._named(("texture", alpha, srgb), [image], lambda pixels: _bytes(pixels[0], alpha, encode))
        return None if name is None else (name, srgb)

    def roughness_metallic(self, given: Sequence[Expression | None], images: Mapping[Expression, Any]) -> str | None:
        """The name of an array (H, W, 3) u8 with roughness in green and metallic in blue, no sRGB values; None if an
        image cannot be read.

        Args:
            given: what roughness and metallic are made of, or None for 1.
            images: by the leaves of the expressions.
        """

        def made(pixels: list[np.ndarray]) -> np.ndarray:
            by_leaf = dict(zip(images, pixels, strict=True))
            layers = [np.ones((1, 1))] * 2
            for number, expression in enumerate(given):
                if expression is not None:
                    strips = _strips(expression, images, by_leaf)
                    layers[number] = np.concatenate([grey(strip)[..., 0] for strip in strips])
            return _joined(layers)

        return self._named(("numbers", *given), list(images.values()), made)

    def evaluated(self, expression: Expression, images: Mapping[Expression, Any], clear: Any) -> tuple[str, int] | None:
        """The name of the array (H, W, 3 or 4) u8 of sRGB values that nodes make of images, and how many pixels are cut
        to 1; None if an image cannot be read.

        Args:
            images: by the leaves of the expression.
            clear: one of the images, whose alpha is that of the result; None for none.
        """
        kind = "expression", expression, None if clear is None else key_of(clear)

        def made(pixels: list[np.ndarray]) -> np.ndarray:
            strips, self._cut[kind] = [], 0
            for strip in _strips(expression, images, dict(zip(images, pixels, strict=True))):
                self._cut[kind] += int((strip > 1).any(axis=2).sum())
                strips.append(_bytes(strip + np.zeros(3), False, True))
            colours = np.concatenate(strips)
            owners = zip(images.values(), pixels, strict=True)
            alpha = next((values[..., 3:] for image, values in owners if image == clear), None)
            if alpha is None:
                return colours
            shares = np.rint(np.clip(np.nan_to_num(alpha), 0, 1) * 255).astype(np.uint8)
            return np.concatenate([colours, _sized(shares, *colours.shape[:2])], axis=2)

        name = self._named(kind, list(images.values()), made)
        return None if name is None else (name, self._cut[kind])

    def radiance(self, image: Any) -> str | None:
        """The name of the array (H, W, 3) f32 of an image in linear light; None for one that cannot be read."""
        srgb = not image.is_float and image.colorspace_settings.name not in LINEAR
        return self._named(("radiance", srgb), [image], lambda pixels: _radiance(pixels[0], srgb))

    def _named(
        self, kind: tuple[Any, ...], images: list[Any], made: Callable[[list[np.ndarray]], np.ndarray]
    ) -> str | None:
        """The name of what is made of the pixels of images, or was made before; None if they cannot be read."""
        key = tuple(key_of(image) for image in images), kind
        found = self._used.get(key) or self._kept.get(key)
        if found is None:
            pixels = [values for values in map(_pixels, images) if values is not None]
            if len(pixels) < len(images):
                return None
            values = made(pixels)
            found = name_of(values), values
        self._used[key] = found
        self.arrays[found[0]] = found[1]
        return found[0]


def _strips(
    expression: Expression, images: Mapping[Expression, Any], pixels: Mapping[Expression, np.ndarray]
) -> Iterator[np.ndarray]:
    """(h, W, 3) colours or (h, W, 1) numbers of an expression, a few rows at once, which need not all fit the memory.

    Args:
        images, pixels: by leaves, of the expression or more.
    """
    used = list(dict.fromkeys(expression.leaves("image")))
    rows, columns = (max(pixels[leaf].shape[axis] for leaf in used) for axis in (0, 1))
    step = max(1, STRIP // columns)
    for start in range(0, rows, step):
        parts = {leaf: _sized(pixels[leaf], rows, columns, slice(start, start + step)) for leaf in used}
        yield expression.evaluate({leaf: _leaf(leaf, images[leaf], part) for leaf, part in parts.items()})


def _leaf(leaf: Expression, image: Any, pixels: np.ndarray) -> np.ndarray:
    """(H, W, 3) linear colours or (H, W, 1) alpha of an image (H, W, 4), by the output that a leaf names."""
    if leaf.settings[-1] == "Alpha":
        return pixels[..., 3:]
    linear = image.is_float or image.colorspace_settings.name in LINEAR
    return np.nan_to_num(pixels[..., :3] if linear else srgb_to_linear(pixels[..., :3]))


def _sized(pixels: np.ndarray, rows: int, columns: int, part: slice = slice(None)) -> np.ndarray:
    """(rows, columns, ...) of the nearest pixels, of which some rows are wanted."""
    if pixels.shape[:2] == (rows, columns):
        return pixels[part]
    y, x = (np.arange(count) * size // count for count, size in zip((rows, columns), pixels.shape, strict=False))
    return pixels[y[part, None], x]


def _joined(layers: list[np.ndarray]) -> np.ndarray:
    """(H, W, 3) u8 of two layers in green and blue, of the size of the larger one."""
    rows, columns = (max(layer.shape[axis] for layer in layers) for axis in (0, 1))
    result = np.full((rows, columns, 3), 255, np.uint8)
    for number, layer in enumerate(layers):
        result[..., 1 + number] = _sized(np.rint(np.clip(np.nan_to_num(layer), 0, 1) * 255), rows, columns)
    return result


def _bytes(pixels: np.ndarray, alpha: bool, linear: bool) -> np.ndarray:
    """(H, W, 3 or 4) u8; `linear`: whether the colours are linear ones that are wanted as sRGB values."""
    colour = linear_to_srgb(pixels[..., :3]) if linear else pixels[..., :3]
    channels = np.concatenate([colour, pixels[..., 3:]], axis=2) if alpha else colour
    return np.rint(np.clip(np.nan_to_num(channels), 0, 1) * 255).astype(np.uint8)


def _radiance(pixels: np.ndarray, srgb: bool) -> np.ndarray:
    """(H, W, 3) f32 linear."""
    colour = np.maximum(np.nan_to_num(pixels[..., :3], posinf=65504.0), 0)
    return np.ascontiguousarray(srgb_to_linear(colour) if srgb else colour, np.float32)


def key_of(image: Any) -> Any:
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
