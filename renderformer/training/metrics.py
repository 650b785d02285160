"""How good a picture is: PSNR and SSIM of display values, and the best pictures without a network.

Radiance is brought to display values by clamp(x, 0, 1)^(1/2.2), as in every figure of docs/training.md.
Shapes: V views, h x w pixels.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from renderformer.data import raycast as rc


def display(radiance: Tensor) -> Tensor:
    """clamp(x, 0, 1)^(1/2.2)."""
    return radiance.clamp(0, 1) ** (1 / 2.2)


def psnr(picture: Tensor, reference: Tensor) -> Tensor:
    """(V,) decibels of display values, for (V, h, w, 3) radiance."""
    error = (display(picture) - display(reference)).square().mean(dim=(1, 2, 3))
    return -10 * torch.log10(error.clamp_min(1e-10))


def ssim(picture: Tensor, reference: Tensor) -> Tensor:
    """(V,) structural similarity of display values (Wang et al. 2004): Gaussian window of 11 pixels, sigma 1.5."""
    x, y = (display(image).movedim(-1, 1) for image in (picture, reference))
    taps = torch.exp(-(torch.arange(11, dtype=x.dtype) - 5).square() / (2 * 1.5**2))
    window = torch.outer(taps, taps)
    window = (window / window.sum()).expand(x.shape[1], 1, 11, 11).contiguous()

    def mean(image: Tensor) -> Tensor:
        return F.conv2d(image, window, groups=image.shape[1])

    mean_x, mean_y = mean(x), mean(y)
    variance_x, variance_y = mean(x * x) - mean_x**2, mean(y * y) - mean_y**2
    covariance = mean(x * y) - mean_x * mean_y
    c1, c2 = 0.01**2, 0.03**2
    structure = (2 * mean_x * mean_y + c1) * (2 * covariance + c2)
    return (structure / ((mean_x**2 + mean_y**2 + c1) * (variance_x + variance_y + c2))).mean(dim=(1, 2, 3))


def unlearned(pixels: Tensor, ambient: float | Tensor, reflection: bool = True) -> Tensor:
    """What ray casting alone gives: emission, direct light, highlight, reflection, and a constant ambient light."""
    known = pixels[..., rc.HIT_EMISSION] + pixels[..., rc.DIRECT] + pixels[..., rc.HIGHLIGHT]
    if reflection:
        known = known + pixels[..., rc.REFLECTION]
    return known + pixels[..., rc.HIT_DIFFUSE] * ambient


def best_unlearned(pixels: Tensor, reference: Tensor) -> Tensor:
    """(V,) PSNR of the best picture without a network: per view the best of 41 ambient levels, with or without the
    reflection. No renderer could choose so well, since the choice needs the reference."""
    best = torch.full((len(pixels),), -torch.inf)
    for step in range(41):
        for reflection in (True, False):
            best = torch.maximum(best, psnr(unlearned(pixels, 0.01 * step, reflection), reference))
    return best
