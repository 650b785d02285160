"""Large pictures from a network that draws smaller ones: averages of feature images, and values brought back up to
pixels along the surfaces that rays hit.

Shapes: C colour channels, V views, M monochrome images, h x w pixels, h' x w' coarse pixels.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from renderformer.data.rays.channels import MONOCHROME

# A picture of at least twice this many pixels on its shorter side is drawn smaller by the network: what that predicts
# is smooth but for edges, which the hits know (docs/embedded-model.md has what is lost and gained).
NETWORK_SIDE = 128
# Of a coarse value's weight at a pixel: how fast it falls with the distance from the pixel's surface, over that of the
# camera, and with the angle between their normals.
PLANE_FALLOFF, NORMAL_FALLOFF = 60.0, 8


def coarsening(height: int, width: int) -> int:
    """How many pixels on a side one value of the network stands for: the power of two that leaves its picture at least
    `NETWORK_SIDE` pixels high and wide, or 1."""
    return 1 << max(0, (min(height, width) // NETWORK_SIDE).bit_length() - 1)


def coarser(pixels: Tensor, factor: int, step: int) -> Tensor:
    """Monochrome feature images (M, h, w, 15) averaged over squares of `factor` pixels: (M, h', w', 15), h' and w'
    multiples of `step`, with misses below and to the right."""
    if factor == 1:
        return pixels
    mask, rest = MONOCHROME.mask, slice(MONOCHROME.emission.start, None)
    short = [-size % (factor * step) for size in pixels.shape[1:3]]
    images = F.pad(pixels.movedim(-1, 1), (0, short[1], 0, short[0]))
    mean = F.avg_pool2d(images, factor)
    # Geometry and roughness are averaged over what is hit, as in the feature images themselves.
    hits = F.avg_pool2d(images * images[:, mask], factor) / mean[:, mask].clamp_min(1e-6)
    parts = [
        mean[:, mask], hits[:, MONOCHROME.normal], hits[:, MONOCHROME.position], mean[:, MONOCHROME.diffuse],
        mean[:, MONOCHROME.specular], hits[:, MONOCHROME.roughness], mean[:, rest],
    ]  # fmt: skip
    return torch.cat(parts, dim=1).movedim(1, -1)


def finer(
    predicted: tuple[Tensor, Tensor, Tensor], coarse: Tensor, pixels: Tensor, factor: int, colours: int, views: int
) -> tuple[Tensor, Tensor, Tensor]:
    """What the network predicts for `coarse` images (M, h', w', 15), at every pixel (M, h, w): interpolated between the
    four nearest values, of which those on another surface than the pixel's hardly count (joint bilateral upsampling,
    Kopf et al. 2007)."""
    if factor == 1:
        return predicted
    mask, normals, positions = MONOCHROME.mask, MONOCHROME.normal, MONOCHROME.position
    # The colour channels of a view share its hits.
    low, high = (x.unflatten(0, (-1, colours, views))[:, 0].flatten(0, 1).movedim(-1, 1) for x in (coarse, pixels))
    values = torch.stack(predicted, dim=1).unflatten(0, (-1, colours, views)).movedim(1, 2).flatten(2, 3).flatten(0, 1)
    padded = F.pad(torch.cat([low[:, : positions.stop], values], dim=1), (1, 1, 1, 1), mode="replicate")
    normal, position = high[:, normals], high[:, positions]
    scale = PLANE_FALLOFF / position.norm(dim=1, keepdim=True).clamp_min(0.1)
    (row, down), (column, right) = (_neighbours(size, factor, pixels.device) for size in pixels.shape[1:3])
    total, weights = torch.zeros((), device=pixels.device), torch.zeros((), device=pixels.device)
    for dy in (0, 1):
        for dx in (0, 1):
            near = padded[:, :, row + dy + 1][..., column + dx + 1]
            nearness = (down if dy else 1 - down)[:, None] * (right if dx else 1 - right)
            off_plane = ((near[:, positions] - position) * normal).sum(1, keepdim=True).abs()
            alike = (near[:, normals] * normal).sum(1, keepdim=True).clamp(0, 1) ** NORMAL_FALLOFF
            # Never quite zero, so that a pixel unlike all four takes their mean.
            weight = nearness * torch.exp(-scale * off_plane) * (alike + 1e-3) * (near[:, mask] + 1e-3)
            total, weights = total + weight * near[:, positions.stop :], weights + weight
    smooth = (total / weights.clamp_min(1e-12)).unflatten(0, (-1, views)).unflatten(2, (colours, 3)).movedim(1, 2)
    irradiance, gloss, gate = smooth.flatten(0, 2).unbind(1)
    return irradiance, gloss, gate


def _neighbours(size: int, factor: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """(size,) the coarse value before each pixel centre, -1 at the border, and how far past it that is, 0 to 1."""
    place = (torch.arange(size, device=device) + 0.5) / factor - 0.5
    before = place.floor()
    return before.long(), place - before
