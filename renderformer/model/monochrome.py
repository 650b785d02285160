"""Coloured scenes and feature images as one monochrome scene per colour channel, relative to the light of each.

Light of one colour never turns into another, so the extension's network is monochrome. And light is linear: everything
radiometric is divided by the mean direct light before the network and multiplied back after it. So a scene under twice
as much red light has exactly twice as much red in its picture.

Shapes: B scenes, C colour channels, S = B C monochrome scenes, N triangles, V views, M = S V monochrome images,
h x w pixels, p = patch size, gh x gw = h/p x w/p patches.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from renderformer.data.rays.channels import MONOCHROME, RGB
from renderformer.data.scene import DIFFUSE, EMISSION, SPECULAR

# The network is not given `direct`, which is irradiance times diffuse.
NETWORK_CHANNELS = MONOCHROME.total - 1
# Direct light on front and back, area, centroid.
TRIANGLE_CHANNELS = 6
# The middle of the trained camera distances: centres the depth of the hits.
MIDDLE_DISTANCE = 1.75
# Stands for the light level of a scene in which nothing is lit, where radiance is divided by it.
DARK = 1e-8


def monochrome_rows(texture_BNC: Tensor, colours: int) -> Tensor:
    """Material rows (B, N, 13) -> (S, N, 13), whose diffuse, specular and emission are those of one channel."""

    def of(channel: int) -> Tensor:
        rows = texture_BNC.clone()
        for part in (DIFFUSE, SPECULAR, EMISSION):
            rows[..., part] = texture_BNC[..., part.start + channel, None]
        return rows

    return torch.stack([of(channel) for channel in range(colours)], dim=1).flatten(0, 1)


def monochrome_pixels(pixels_BVhwC: Tensor, colours: int) -> Tensor:
    """Feature images of the layout RGB (B, V, h, w, 29) -> of MONOCHROME (M, h, w, 15), per colour channel and view."""

    def of(channel: int) -> Tensor:
        order: list[int] = []
        for part in RGB:
            order += [part.start + channel] if part in RGB.by_colour else range(part.start, part.stop)
        return pixels_BVhwC[..., order]

    return torch.stack([of(channel) for channel in range(colours)], dim=1).flatten(0, 2)


def plane(pixels_MhwC: Tensor, part: slice) -> Tensor:
    """(M, h, w) a quantity that has one channel."""
    return pixels_MhwC[..., part].squeeze(-1)


def compress(radiance: Tensor) -> Tensor:
    """Bring non-negative radiance with a mean near 1 into a range that suits a network."""
    return torch.log1p(4 * radiance)


def relative(radiance: Tensor, level: Tensor) -> Tensor:
    """Radiance (S, ...) over the light level (S,) of its scene; finite where nothing is lit."""
    return radiance / level.clamp_min(DARK).reshape(-1, *[1] * (radiance.ndim - 1))


def light_level(triangles_SN33: Tensor, triangle_light_SN2: Tensor, mask_SN: Tensor, emission_SN: Tensor) -> Tensor:
    """(S,) area-weighted mean direct light (both sides) over the triangles that do not emit; 0 where there is none, so
    that what nothing lights stays black."""
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
    """Monochrome feature images (M, h, w, 15) with their light level (M,) -> network inputs (M, 14, h, w)."""
    position = pixels_MhwC[..., MONOCHROME.position].clone()
    position[..., 2] += MIDDLE_DISTANCE * plane(pixels_MhwC, MONOCHROME.mask)
    lights = (MONOCHROME.emission, MONOCHROME.irradiance, MONOCHROME.highlight, MONOCHROME.reflection)
    light = compress(relative(torch.cat([pixels_MhwC[..., part] for part in lights], dim=-1), level_M))
    before, after = (
        (MONOCHROME.mask, MONOCHROME.normal),
        (MONOCHROME.diffuse, MONOCHROME.specular, MONOCHROME.roughness),
    )
    parts = [*(pixels_MhwC[..., part] for part in before), position, *(pixels_MhwC[..., part] for part in after), light]
    return torch.cat(parts, dim=-1).movedim(-1, 1)


def hit_positions(pixels_MhwC: Tensor, patch: int) -> Tensor:
    """(M, gh * gw, 9) mean camera-space hit of each ray bundle, three times over: its place in the relative position
    encoding. A bundle without a hit stands at the camera."""
    mask = pixels_MhwC[..., MONOCHROME.mask]
    hits = (pixels_MhwC[..., MONOCHROME.position] * mask).movedim(-1, 1)
    share = F.avg_pool2d(mask.movedim(-1, 1), patch)
    mean = F.avg_pool2d(hits, patch) / share.clamp_min(1e-6)
    return mean.flatten(2).transpose(1, 2).repeat(1, 1, 3)
