"""Tone maps: from linear light to display values of an sRGB screen.

Shapes: (height, width, 3).
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np

from renderformer.data.arrays import Float32Array
from renderformer.data.colour import linear_to_srgb
from renderformer.data.errors import InputError

# Views of the OpenColorIO configuration in simple-ocio (Blender's) by our names.
_OCIO_VIEWS = {"agx": "AgX", "filmic": "Filmic", "pbr-neutral": "Khronos PBR Neutral"}
TONE_MAPS = ("neutral", "none", *_OCIO_VIEWS)
# Of "neutral", as in Khronos PBR Neutral: from where it compresses, and how fast what is brighter loses its colour.
_COMPRESSED_FROM, _FADE = 0.76, 0.15


def check_tone_map(tone_map: str) -> None:
    """Raise InputError for an unknown name."""
    if tone_map not in TONE_MAPS:
        raise InputError("image", f"tone_map is {tone_map!r}", f"expected one of {', '.join(TONE_MAPS)}")


def displayed(linear: Float32Array, tone_map: str) -> Float32Array:
    """Display-encoded values in [0, 1] of linear light of 0 or more, see `Image.tone_mapped`."""
    if tone_map == "none":
        return linear_to_srgb(np.minimum(linear, 1))
    if tone_map == "neutral":
        return linear_to_srgb(_compressed(linear))
    # All views show 1e6 as white; an infinity from +32 stops would become NaN.
    return np.asarray(_tone_mapper(tone_map).hdr_to_ldr(np.minimum(linear, 1e6)), np.float32)


def _compressed(linear: Float32Array) -> Float32Array:
    """Linear light (height, width, 3) in [0, 1]: the largest channel rises ever more slowly toward 1, the others in
    proportion, and the brighter, the nearer to white."""
    result = np.array(linear, np.float32, order="C")
    pixels = result.reshape(-1, 3)
    brightest = np.maximum(np.maximum(pixels[:, 0], pixels[:, 1]), pixels[:, 2])
    bright = np.flatnonzero(brightest > _COMPRESSED_FROM)
    peak, colour = brightest[bright][:, None], pixels.take(bright, axis=0)
    rest = np.float32(1 - _COMPRESSED_FROM)
    lowered = 1 - rest**2 / (peak - np.float32(_COMPRESSED_FROM) + rest)
    scaled = colour * (lowered / peak)
    white = 1 - 1 / (np.float32(_FADE) * (peak - lowered) + 1)
    pixels[bright] = np.clip(scaled + white * (lowered - scaled), 0, 1)
    return result


@lru_cache(maxsize=len(_OCIO_VIEWS))
def _tone_mapper(tone_map: str) -> Any:
    from simple_ocio import ToneMapper

    return ToneMapper(_OCIO_VIEWS[tone_map])
