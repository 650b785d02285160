"""Large pictures from a network that draws small ones: downsampled feature images and edge-aware upsampling.

Shapes: C colour channels, V views, M monochrome images, h x w pixels, h' x w' coarse pixels.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from renderformer.data.rays.channels import MONOCHROME

# The network draws at least this many pixels on the shorter side. Its predictions are smooth except at edges, which the
# feature images hold in full resolution (docs/embedded-model.md measures the loss and the gain).
NETWORK_SIDE = 128
# How fast the weight of a coarse value falls with its distance from the pixel's surface (relative to the distance of
# the camera) and with the angle between their normals.
PLANE_FALLOFF, NORMAL_FALLOFF = 60.0, 8


def coarsening(height: int, width: int) -> int:
    """Pixels per coarse pixel, on a side: the largest power of two that leaves `NETWORK_SIDE` coarse pixels, or 1."""
    return 1 << max(0, (min(height, width) // NETWORK_SIDE).bit_length() - 1)


def coarser(pixels: Tensor, factor: int, multiple: int) -> Tensor:
    """Monochrome feature images (M, h, w, 17) averaged over squares of `factor` pixels: (M, h', w', 17), padded to
    multiples of `multiple` with misses below and to the right."""
    if factor == 1:
        return pixels
    mask, light = MONOCHROME.mask, slice(MONOCHROME.emission.start, None)
    bottom, right = (-size % (factor * multiple) for size in pixels.shape[1:3])
    images = F.pad(pixels.movedim(-1, 1), (0, right, 0, bottom))
    mean = F.avg_pool2d(images, factor)
    # Geometry and roughness are averages over the hits, as in the feature images themselves.
    hits = F.avg_pool2d(images * images[:, mask], factor) / mean[:, mask].clamp_min(1e-6)
    parts = [
        mean[:, mask], hits[:, MONOCHROME.normal], hits[:, MONOCHROME.position], mean[:, MONOCHROME.diffuse],
        mean[:, MONOCHROME.specular], hits[:, MONOCHROME.roughness], mean[:, light],
    ]  # fmt: skip
    return torch.cat(parts, dim=1).movedim(1, -1)


def finer(
    predicted: tuple[Tensor, Tensor, Tensor], coarse: Tensor, pixels: Tensor, factor: int, colours: int, views: int
) -> tuple[Tensor, Tensor, Tensor]:
    """Predictions for `coarse` images (M, h', w', 17) at every pixel (M, h, w).

    Bilinear interpolation with a small weight for values on another surface than the pixel's (joint bilateral
    upsampling, Kopf et al. 2007).
    """
    if factor == 1:
        return predicted
    mask, normals, positions = MONOCHROME.mask, MONOCHROME.normal, MONOCHROME.position
    # The colour channels of a view share its hits.
    low, high = (x.unflatten(0, (-1, colours, views))[:, 0].flatten(0, 1).movedim(-1, 1) for x in (coarse, pixels))
    values = torch.stack(predicted, dim=1).unflatten(0, (-1, colours, views)).movedim(1, 2).flatten(2, 3).flatten(0, 1)
    padded = F.pad(torch.cat([low[:, : positions.stop], values], dim=1), (1, 1, 1, 1), mode="replicate")
    normal, position = high[:, normals], high[:, positions]
    scale = PLANE_FALLOFF / position.norm(dim=1, keepdim=True).clamp_min(0.1)
    (row, row_fraction), (column, column_fraction) = (
        _neighbours(size, factor, pixels.device) for size in pixels.shape[1:3]
    )
    total, weights = torch.zeros((), device=pixels.device), torch.zeros((), device=pixels.device)
    for dy in (0, 1):
        for dx in (0, 1):
            neighbour = padded[:, :, row + dy + 1][..., column + dx + 1]
            row_weight = row_fraction if dy else 1 - row_fraction
            bilinear = row_weight[:, None] * (column_fraction if dx else 1 - column_fraction)
            plane_distance = ((neighbour[:, positions] - position) * normal).sum(1, keepdim=True).abs()
            alignment = (neighbour[:, normals] * normal).sum(1, keepdim=True).clamp(0, 1) ** NORMAL_FALLOFF
            # Above zero, so that a pixel unlike all four neighbours takes their mean.
            weight = bilinear * torch.exp(-scale * plane_distance) * (alignment + 1e-3) * (neighbour[:, mask] + 1e-3)
            total, weights = total + weight * neighbour[:, positions.stop :], weights + weight
    smooth = (total / weights.clamp_min(1e-12)).unflatten(0, (-1, views)).unflatten(2, (colours, 3)).movedim(1, 2)
    irradiance, gloss, gate = smooth.flatten(0, 2).unbind(1)
    return irradiance, gloss, gate


def _neighbours(size: int, factor: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """(size,) index of the coarse pixel before each pixel centre, from -1, and the fraction of the way to the next."""
    position = (torch.arange(size, device=device) + 0.5) / factor - 0.5
    before = position.floor()
    return before.long(), position - before
