"""The sRGB transfer curve (IEC 61966-2-1) in both directions, and colours as text."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt

from renderformer.data.arrays import AnyArray, Float64Array
from renderformer.data.errors import InputError

RGB = tuple[float, float, float]


def linear_to_srgb(linear: AnyArray) -> AnyArray:
    """Convert linear values to sRGB display values.

    Args:
        linear: floats of any shape, 0 (black) to 1 (white); values outside continue the curve.

    Returns:
        The same shape and type.
    """
    # Logarithms of single precision are much faster than powers, and as exact as 8 or 16 bits need.
    curve = 1.055 * np.exp(np.log(np.maximum(linear, 0.0031308)) / 2.4) - 0.055
    return np.asarray(np.where(linear <= 0.0031308, 12.92 * linear, curve), linear.dtype)


def srgb_to_linear(srgb: npt.ArrayLike) -> Float64Array:
    """Convert sRGB display values of any shape, 0 (black) to 1 (white), to linear values."""
    values = np.asarray(srgb, np.float64)
    return np.where(values <= 0.04045, values / 12.92, ((np.maximum(values, 0) + 0.055) / 1.055) ** 2.4)


def colour_of(text: str) -> RGB | None:
    """Linear RGB of a text: "0.2" (grey) and "0.2,0.1,0" are linear, "#ff8800", "#f80" and names of CSS such as "white"
    are sRGB; None for anything else."""
    try:
        values = tuple(float(part) for part in text.split(","))
    except ValueError:
        values = _displayed(text)
    if len(values) not in (1, 3) or not all(math.isfinite(value) and value >= 0 for value in values):
        return None
    red, green, blue = values * 3 if len(values) == 1 else values
    return red, green, blue


def display_colour(value: Any, place: str, name: str) -> RGB:
    """A colour that a display can show, of a text (`colour_of`), one number or linear RGB.

    Raises:
        InputError: anything else, or a channel that is not between 0 and 1.
    """
    try:
        colour = colour_of(value if isinstance(value, str) else ",".join(map(repr, np.ravel(value).tolist())))
    except TypeError:
        colour = None
    if colour is None or max(colour) > 1:
        remedy = "expected a colour such as #202020, white, or linear 0.1,0.1,0.1 from 0 to 1"
        raise InputError(place, f"{name} is {value!r}", remedy)
    return colour


def _displayed(text: str) -> tuple[float, ...]:
    """Linear RGB of a colour of CSS; empty for none."""
    from PIL import ImageColor

    try:
        shown = ImageColor.getrgb(text.strip())
    except ValueError:
        return ()
    return tuple(srgb_to_linear(np.array(shown) / 255).tolist()) if len(shown) == 3 else ()
