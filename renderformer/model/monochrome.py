"""Coloured scenes and feature images as one monochrome scene per colour channel, relative to its light level.

Light keeps its colour channel, so the extension's network is monochrome. Light is linear, so radiance is divided by the
mean direct light before the network and multiplied by it after: twice the red light gives exactly twice the red in the
picture.

Shapes: B scenes, C colour channels, S = B C monochrome scenes, N triangles, V views, M = S V monochrome images,
h x w pixels, p = patch size, gh x gw = h/p x w/p patches.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from renderformer.data.rays.channels import MONOCHROME, RGB
from renderformer.data.scene import DIFFUSE, EMISSION, SPECULAR

# The network does not take `direct`, the product of irradiance and diffuse, nor indirect light, which it adds.
NETWORK_CHANNELS = MONOCHROME.total - 3
# Direct light on front and back, area, centroid.
TRIANGLE_CHANNELS = 6
# The middle of the trained camera distances, which centres the depth of the hits.
MIDDLE_DISTANCE = 1.75
# The least divisor of radiance, for a scene without light.
DARK = 1e-8


def monochrome_rows(texture_BNC: Tensor, colours: int) -> Tensor:
    """Material rows (B, N, 13) -> (S, N, 13), whose diffuse, specular and emission are those of one channel."""

    def rows_of(channel: int) -> Tensor:
        rows = texture_BNC.clone()
        for part in (DIFFUSE, SPECULAR, EMISSION):
            rows[..., part] = texture_BNC[..., part.start + channel, None]
        return rows

    return torch.stack([rows_of(channel) for channel in range(colours)], dim=1).flatten(0, 1)


def monochrome_pixels(pixels_BVhwC: Tensor, colours: int) -> Tensor:
    """Feature images (B, V, h, w, 35) in the layout RGB -> (M, h, w, 17) in the layout MONOCHROME."""

    def pixels_of(channel: int) -> Tensor:
        order: list[int] = []
        for part in RGB:
            order += [part.start + channel] if part in RGB.by_colour else range(part.start, part.stop)
        return pixels_BVhwC[..., order]

    return torch.stack([pixels_of(channel) for channel in range(colours)], dim=1).flatten(0, 2)


def plane(pixels_MhwC: Tensor, part: slice) -> Tensor:
    """(M, h, w) of a quantity with one channel."""
    return pixels_MhwC[..., part].squeeze(-1)


def compress(radiance: Tensor) -> Tensor:
    """A logarithmic curve for non-negative radiance with a mean near 1."""
    return torch.log1p(4 * radiance)


def relative(radiance: Tensor, level: Tensor) -> Tensor:
    """Radiance (S, ...) over the light level (S,) of its scene; finite in the dark."""
    return radiance / level.clamp_min(DARK).reshape(-1, *[1] * (radiance.ndim - 1))


def light_level(triangles_SN33: Tensor, triangle_light_SN2: Tensor, mask_SN: Tensor, emission_SN: Tensor) -> Tensor:
    """(S,) area-weighted mean direct light (both sides) over the triangles that do not emit; 0 in the dark, so that an
    unlit scene stays black."""
    weight_SN = areas(triangles_SN33) * mask_SN * (emission_SN <= 0)
    return (triangle_light_SN2.sum(2) * weight_SN).sum(1) / weight_SN.sum(1).clamp_min(1e-12)


def areas(triangles_SN33: Tensor) -> Tensor:
    """(S, N) areas of triangles (S, N, 3, 3)."""
    edges = triangles_SN33[:, :, 1:] - triangles_SN33[:, :, :1]
    return torch.linalg.cross(edges[:, :, 0], edges[:, :, 1]).norm(dim=-1) / 2


def triangle_inputs(triangles_SN33: Tensor, triangle_light_SN2: Tensor, level_S: Tensor) -> Tensor:
    """(S, N, 6): direct light on front and back, logarithm of the area, centroid."""
    light = compress(relative(triangle_light_SN2, level_S))
    area = torch.log10(areas(triangles_SN33) + 1e-8) + 3
    return torch.cat([light, area[..., None], triangles_SN33.mean(2)], dim=-1)


def pixel_inputs(pixels_MhwC: Tensor, level_M: Tensor) -> Tensor:
    """Monochrome feature images (M, h, w, 17) with their light level (M,) -> network inputs (M, 14, h, w)."""
    position = pixels_MhwC[..., MONOCHROME.position].clone()
    position[..., 2] += MIDDLE_DISTANCE * plane(pixels_MhwC, MONOCHROME.mask)
    lights = (MONOCHROME.emission, MONOCHROME.irradiance, MONOCHROME.highlight, MONOCHROME.reflection)
    light = compress(relative(torch.cat([pixels_MhwC[..., part] for part in lights], dim=-1), level_M))
    geometry = [pixels_MhwC[..., part] for part in (MONOCHROME.mask, MONOCHROME.normal)]
    materials = (MONOCHROME.diffuse, MONOCHROME.specular, MONOCHROME.roughness)
    parts = [*geometry, position, *(pixels_MhwC[..., part] for part in materials), light]
    return torch.cat(parts, dim=-1).movedim(-1, 1)


def hit_positions(pixels_MhwC: Tensor, patch: int) -> Tensor:
    """(M, gh * gw, 9) mean camera-space hit of each patch, three times, for RoPE; the camera's centre without a hit."""
    mask = pixels_MhwC[..., MONOCHROME.mask]
    hits = (pixels_MhwC[..., MONOCHROME.position] * mask).movedim(-1, 1)
    hit_share = F.avg_pool2d(mask.movedim(-1, 1), patch)
    mean = F.avg_pool2d(hits, patch) / hit_share.clamp_min(1e-6)
    return mean.flatten(2).transpose(1, 2).repeat(1, 1, 3)
