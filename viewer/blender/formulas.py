"""What the colour nodes of Blender do, by the formulae of Cycles.

Colours are arrays (..., 3), linear; numbers are arrays (..., 1). They broadcast to each other.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

# Shares of red, green and blue in a grey number.
GREY = np.array([0.2126, 0.7152, 0.0722])


def grey(values: np.ndarray) -> np.ndarray:
    """(..., 1) the number that a colour gives where a number is wanted."""
    return values if values.shape[-1] == 1 else (values @ GREY)[..., None]


def between(first: np.ndarray, second: np.ndarray, share: np.ndarray) -> np.ndarray:
    """From the first to the second by a share."""
    return first + (second - first) * share


def mixed(kind: str, share: np.ndarray, first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """The Mix node of colours; `kind` is its `blend_type`, see `BLENDS`."""
    first, second = np.broadcast_arrays(first + np.zeros(3), second + np.zeros(3))
    if kind in _WHOLE:
        return between(first, _WHOLE[kind](first, second), share)
    return _PARTLY[kind](first, second, share)


def _lit(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    return (1 - first) * second * first + first * (1 - (1 - second) * (1 - first))


def _divided(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    return np.where(second != 0, first / np.where(second != 0, second, 1), first)


def _screen(first: np.ndarray, second: np.ndarray, share: np.ndarray) -> np.ndarray:
    return 1 - (1 - share + share * (1 - second)) * (1 - first)


def _overlay(first: np.ndarray, second: np.ndarray, share: np.ndarray) -> np.ndarray:
    dark = first * (1 - share + 2 * share * second)
    return np.where(first < 0.5, dark, 1 - (1 - share + 2 * share * (1 - second)) * (1 - first))


def _exclusion(first: np.ndarray, second: np.ndarray, share: np.ndarray) -> np.ndarray:
    return np.maximum(between(first, first + second - 2 * first * second, share), 0)


def _dodge(first: np.ndarray, second: np.ndarray, share: np.ndarray) -> np.ndarray:
    below = 1 - share * second
    brighter = np.where(below <= 0, 1, np.minimum(first / np.where(below <= 0, 1, below), 1))
    return np.where(first != 0, brighter, 0)


def _burn(first: np.ndarray, second: np.ndarray, share: np.ndarray) -> np.ndarray:
    below = 1 - share + share * second
    return np.where(below <= 0, 0, np.clip(1 - (1 - first) / np.where(below <= 0, 1, below), 0, 1))


def _linear_light(first: np.ndarray, second: np.ndarray, share: np.ndarray) -> np.ndarray:
    return first + share * (2 * second - 1)


def _hue(first: np.ndarray, second: np.ndarray, share: np.ndarray) -> np.ndarray:
    mine, other = hsv(first), hsv(second)
    turned = rgb(np.concatenate([other[..., :1], mine[..., 1:]], axis=-1))
    return np.where(other[..., 1:2] != 0, between(first, turned, share), first)


def _saturation(first: np.ndarray, second: np.ndarray, share: np.ndarray) -> np.ndarray:
    mine = hsv(first)
    there = between(mine[..., 1:2], hsv(second)[..., 1:2], share)
    return np.where(mine[..., 1:2] != 0, rgb(_with(mine, 1, there)), first)


def _value(first: np.ndarray, second: np.ndarray, share: np.ndarray) -> np.ndarray:
    mine = hsv(first)
    return rgb(_with(mine, 2, between(mine[..., 2:], hsv(second)[..., 2:], share)))


def _colour(first: np.ndarray, second: np.ndarray, share: np.ndarray) -> np.ndarray:
    mine, other = hsv(first), hsv(second)
    painted = rgb(np.concatenate([other[..., :2], mine[..., 2:]], axis=-1))
    return np.where(other[..., 1:2] != 0, between(first, painted, share), first)


# Blends that go from the first colour to another by the share, and those where the share acts otherwise.
_WHOLE: dict[str, Callable[[np.ndarray, np.ndarray], np.ndarray]] = {
    "MIX": lambda a, b: b, "ADD": lambda a, b: a + b, "MULTIPLY": lambda a, b: a * b, "SUBTRACT": lambda a, b: a - b,
    "DIFFERENCE": lambda a, b: np.abs(a - b), "DARKEN": np.minimum, "LIGHTEN": np.maximum, "DIVIDE": _divided,
    "SOFT_LIGHT": _lit,
}  # fmt: skip
_PARTLY: dict[str, Callable[[np.ndarray, np.ndarray, np.ndarray], np.ndarray]] = {
    "SCREEN": _screen, "OVERLAY": _overlay, "EXCLUSION": _exclusion, "DODGE": _dodge, "BURN": _burn,
    "LINEAR_LIGHT": _linear_light, "HUE": _hue, "SATURATION": _saturation, "VALUE": _value, "COLOR": _colour,
}  # fmt: skip
BLENDS = frozenset(_WHOLE) | frozenset(_PARTLY)


def adjusted(
    values: np.ndarray, hue: np.ndarray, saturation: np.ndarray, factor: np.ndarray, share: np.ndarray
) -> np.ndarray:
    """The Hue/Saturation/Value node."""
    found = hsv(values + np.zeros(3))
    turned = _with(found, 0, (found[..., :1] + hue + 0.5) % 1)
    turned = _with(turned, 1, np.clip(turned[..., 1:2] * saturation, 0, 1))
    return np.maximum(between(values, rgb(_with(turned, 2, turned[..., 2:] * factor)), share), 0)


def contrasted(values: np.ndarray, brightness: np.ndarray, contrast: np.ndarray) -> np.ndarray:
    """The Brightness/Contrast node."""
    return np.maximum((1 + contrast) * values + brightness - contrast / 2, 0)


def powered(values: np.ndarray, gamma: np.ndarray) -> np.ndarray:
    """The Gamma node."""
    return np.where(values > 0, np.where(values > 0, values, 1) ** gamma, values)


def looked_up(values: np.ndarray, table: np.ndarray) -> np.ndarray:
    """(..., 3) of a table (N, 3) over [0, 1]: each channel by its own value, or all by one number."""
    at = np.linspace(0, 1, len(table))
    channels = range(3)
    return np.stack([np.interp(values[..., min(k, values.shape[-1] - 1)], at, table[:, k]) for k in channels], axis=-1)


def hsv(values: np.ndarray) -> np.ndarray:
    """(..., 3) hue in [0, 1), saturation and value of colours."""
    top, low = values.max(axis=-1), values.min(axis=-1)
    span = top - low
    safe = np.where(span > 0, span, 1)
    red, green, blue = np.moveaxis((top[..., None] - values) / safe[..., None], -1, 0)
    sector = np.where(values[..., 1] == top, 2 + red - blue, 4 + green - red)
    hue = np.where(values[..., 0] == top, blue - green, sector) / 6 % 1
    saturation = np.where(top != 0, span / np.where(top != 0, top, 1), 0)
    return np.stack([np.where((span > 0) & (saturation != 0), hue, 0), saturation, top], axis=-1)


def rgb(values: np.ndarray) -> np.ndarray:
    """(..., 3) colours of hue, saturation and value."""
    hue, saturation, value = np.moveaxis(values, -1, 0)
    wheel = (hue[..., None] * 6 + np.array([0.0, 4, 2])) % 6
    pure = np.clip(np.abs(wheel - 3) - 1, 0, 1)
    return value[..., None] * (1 - saturation[..., None] * (1 - pure))


def _with(values: np.ndarray, channel: int, other: np.ndarray) -> np.ndarray:
    """The values with another channel (..., 1)."""
    parts = [other if k == channel else values[..., k : k + 1] for k in range(3)]
    return np.concatenate(np.broadcast_arrays(*parts), axis=-1)
