"""Metrics of pictures.

PSNR and SSIM are of display values, clamp(x, 0, 1)^(1/2.2), as in docs/training.md; FLIP is of the clamped radiance,
which it converts for a screen itself; relative MSE is of the radiance. Shapes: V views, h x w pixels.
"""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from renderformer.data.arrays import AnyArray, Float32Array, UInt8Array
from renderformer.data.errors import InputError

METRIC_NAMES = {"psnr": "PSNR, dB", "ssim": "SSIM", "flip": "FLIP", "relative_mse": "relative MSE"}
DIGITS = {"psnr": 2, "ssim": 4, "flip": 4, "relative_mse": 4}
# Keeps the relative error of black pixels finite.
RELATIVE_EPSILON = 0.01
# Share of the pixels, of the largest errors, that the relative MSE excludes: the edge of a light or one firefly would
# dominate it (as in Rousselle et al. 2011).
OUTLIERS = 0.001


def display(radiance: Tensor) -> Tensor:
    """clamp(x, 0, 1)^(1/2.2)."""
    return radiance.clamp(0, 1) ** (1 / 2.2)


def display_bytes(radiance: Tensor) -> UInt8Array:
    """Display values as uint8, 0 … 255."""
    return (display(radiance) * 255).round().byte().numpy()


def psnr(picture: Tensor, reference: Tensor) -> Tensor:
    """(V,) decibels of display values, for (V, h, w, 3) radiance."""
    error = (display(picture) - display(reference)).square().mean(dim=(1, 2, 3))
    return -10 * torch.log10(error.clamp_min(1e-10))


def ssim(picture: Tensor, reference: Tensor) -> Tensor:
    """(V,) structural similarity of display values (Wang et al. 2004), with a Gaussian window of at most 11 pixels,
    sigma 1.5."""
    x, y = (display(image).movedim(-1, 1) for image in (picture, reference))
    side = min(11, x.shape[2], x.shape[3])
    taps = torch.exp(-(torch.arange(side, dtype=x.dtype, device=x.device) - (side - 1) / 2).square() / (2 * 1.5**2))
    window = torch.outer(taps, taps)
    window = (window / window.sum()).expand(x.shape[1], 1, side, side).contiguous()

    def mean(image: Tensor) -> Tensor:
        return F.conv2d(image, window, groups=image.shape[1])

    mean_x, mean_y = mean(x), mean(y)
    variance_x, variance_y = mean(x * x) - mean_x**2, mean(y * y) - mean_y**2
    covariance = mean(x * y) - mean_x * mean_y
    c1, c2 = 0.01**2, 0.03**2
    structure = (2 * mean_x * mean_y + c1) * (2 * covariance + c2)
    return (structure / ((mean_x**2 + mean_y**2 + c1) * (variance_x + variance_y + c2))).mean(dim=(1, 2, 3))


def relative_mse(picture: Tensor, reference: Tensor) -> Tensor:
    """(V,) mean of (p - r)^2 / (r^2 + 0.01) over the channels and over the pixels but the worst 0.1 %, for
    (V, h, w, 3) radiance."""
    error = ((picture - reference).square() / (reference.square() + RELATIVE_EPSILON)).mean(dim=-1).flatten(1)
    count = error.shape[1] - int(OUTLIERS * error.shape[1])
    return error.double().sort(dim=1).values[:, :count].mean(dim=1)


def flip(picture: Tensor, reference: Tensor) -> Float32Array:
    """(V, h, w) error maps of LDR-FLIP (Andersson et al. 2020), 0 … 1, for (V, h, w, 3) radiance at exposure 0. The
    mean of a map is the FLIP of the picture.

    The viewing distance is the default of the authors, 67 pixels per degree: a monitor of 3840 pixels, 0.7 m wide and
    0.7 m away.

    Raises:
        InputError: flip-evaluator is not installed.
    """
    try:
        import flip_evaluator
    except ImportError:
        remedy = "pip install 'renderformer[metrics]'"
        raise InputError("FLIP", "flip-evaluator is not installed", remedy) from None
    truths, pictures = (image.clamp(0, 1).float().contiguous().numpy() for image in (reference, picture))
    maps = [
        flip_evaluator.evaluate(truth, drawn, "LDR", inputsRGB=False, applyMagma=False, computeMeanError=False)[0]
        for truth, drawn in zip(truths, pictures, strict=True)
    ]
    return np.stack(maps)[..., 0]


def heat(error: AnyArray, white: float) -> UInt8Array:
    """(h, w, 3) colours of an error map (h, w): black, red, yellow, and white from an error of `white` on."""
    level = error.astype(np.float32)[..., None] / np.float32(white)
    return (np.clip(3 * level - np.arange(3, dtype=np.float32), 0, 1) * 255).round().astype(np.uint8)
