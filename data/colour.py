"""The sRGB transfer curve (IEC 61966-2-1), in both directions."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from renderformer.data.arrays import AnyArray, Float64Array


def linear_to_srgb(linear: AnyArray) -> AnyArray:
    """Convert linear values to sRGB display values.

    Args:
        linear: floats of any shape, 0 (black) to 1 (white); values outside continue the curve.

    Returns:
        The same shape and type.
    """
    curve = 1.055 * np.power(np.maximum(linear, 0.0031308), 1 / 2.4) - 0.055
    return np.asarray(np.where(linear <= 0.0031308, 12.92 * linear, curve), linear.dtype)


def srgb_to_linear(srgb: npt.ArrayLike) -> Float64Array:
    """Convert sRGB display values of any shape, 0 (black) to 1 (white), to linear values."""
    values = np.asarray(srgb, np.float64)
    return np.where(values <= 0.04045, values / 12.92, ((np.maximum(values, 0) + 0.055) / 1.055) ** 2.4)
