"""The extension `ray_features: direct` / `output: shading`: ray bundles that see what they hit.

Not part of the paper. Ray casting (renderformer/data/raycast.py) gives every pixel its exact primary hit and direct
light, and every triangle its direct light; the transformer predicts what is left: light by way of other surfaces.
Everything radiometric is divided by the scene's mean direct light before the network and multiplied back after it, so a
scene under twice the light gives exactly twice the picture.

Shapes: B scenes, N triangles, V views, D width, h x w pixels, p = patch size, gh x gw = h/p x w/p patches.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from renderformer.data import raycast as rc

# mask, normal, position, diffuse, specular, roughness, emission, irradiance, highlight, reflection
NETWORK_CHANNELS = 26
TRIANGLE_CHANNELS = 10
# The middle of the trained camera distances: centres the depth of the hits.
MIDDLE_DISTANCE = 1.75
# Stands for the light level of a scene in which nothing is lit, where radiance is divided by it.
DARK = 1e-8


class RayFeatures(NamedTuple):
    """Inputs of the extension, both as `renderformer.data.raycast.RayCaster` gives them: `pixels` (B, V, h, w, 29)
    feature images, `triangle_light` (B, N, 2, 3) direct light on both sides of each triangle."""

    pixels: Tensor
    triangle_light: Tensor


def compress(radiance: Tensor) -> Tensor:
    """Bring non-negative radiance with a mean near 1 into a range that suits a network."""
    return torch.log1p(4 * radiance)


def relative(radiance: Tensor, level: Tensor) -> Tensor:
    """Radiance (B, ...) over the light level (B,) of its scene; finite where nothing is lit."""
    return radiance / level.clamp_min(DARK).reshape(-1, *[1] * (radiance.ndim - 1))


def light_level(triangles_BN33: Tensor, triangle_light_BN23: Tensor, mask_BN: Tensor, emission_BN3: Tensor) -> Tensor:
    """(B,) area-weighted mean direct light (both sides, all colours) over the triangles that do not emit; 0 where there
    is none, so that what nothing lights stays black."""
    edges = triangles_BN33[:, :, 1:] - triangles_BN33[:, :, :1]
    area_BN = torch.linalg.cross(edges[:, :, 0], edges[:, :, 1]).norm(dim=-1)
    weight_BN = area_BN * mask_BN * (emission_BN3.amax(-1) <= 0)
    return (triangle_light_BN23.sum(2).mean(-1) * weight_BN).sum(1) / weight_BN.sum(1).clamp_min(1e-12)


def triangle_inputs(triangles_BN33: Tensor, triangle_light_BN23: Tensor, level_B: Tensor) -> Tensor:
    """(B, N, 10): direct light on front and back, logarithm of the area, centroid."""
    light = compress(relative(triangle_light_BN23, level_B)).flatten(2)
    edges = triangles_BN33[:, :, 1:] - triangles_BN33[:, :, :1]
    area = torch.linalg.cross(edges[:, :, 0], edges[:, :, 1]).norm(dim=-1, keepdim=True) / 2
    return torch.cat([light, torch.log10(area + 1e-8) + 3, triangles_BN33.mean(2)], dim=-1)


def pixel_inputs(pixels: Tensor, level: Tensor) -> Tensor:
    """Feature images (M, h, w, 29) of M views with their light level (M,) -> network inputs (M, 26, h, w)."""
    position = pixels[..., rc.HIT_POSITION].clone()
    position[..., 2] += MIDDLE_DISTANCE * pixels[..., 0]
    parts = [
        pixels[..., rc.MASK],
        pixels[..., rc.HIT_NORMAL],
        position,
        pixels[..., rc.HIT_DIFFUSE],
        pixels[..., rc.HIT_SPECULAR],
        pixels[..., rc.HIT_ROUGHNESS],
        compress(relative(pixels[..., rc.HIT_EMISSION], level)),
        compress(relative(pixels[..., rc.IRRADIANCE], level)),
        compress(relative(pixels[..., rc.HIGHLIGHT], level)),
        compress(relative(pixels[..., rc.REFLECTION], level)),
    ]
    return torch.cat(parts, dim=-1).movedim(-1, 1)


def hit_positions(pixels: Tensor, patch: int) -> Tensor:
    """(M, gh * gw, 9) mean camera-space hit of each ray bundle, three times over: its place in the relative position
    encoding. A bundle without a hit stands at the camera."""
    hits = (pixels[..., rc.HIT_POSITION] * pixels[..., rc.MASK]).movedim(-1, 1)
    share = F.avg_pool2d(pixels[..., rc.MASK].movedim(-1, 1), patch)
    mean = F.avg_pool2d(hits, patch) / share.clamp_min(1e-6)
    return mean.flatten(2).transpose(1, 2).repeat(1, 1, 3)


class ShadingHead(nn.Module):
    """Decode ray tokens to indirect irradiance and gloss at full resolution.

    The tokens are brought up by doublings; at each, the averaged network inputs of that resolution join in, so that
    edges, normals and shadows stay as sharp as the hits are.
    """

    def __init__(self, width: int, patch_size: int) -> None:
        super().__init__()
        if patch_size not in (2, 4, 8):
            raise ValueError(f"output 'shading' needs patch_size 2, 4 or 8, not {patch_size}")
        widths = [96, 64, 48, 32]
        self.patch_size = patch_size
        self.steps = patch_size.bit_length() - 1
        self.project = nn.Conv2d(width, widths[0], 3, padding=1)
        self.merge = nn.ModuleList(
            nn.Conv2d(widths[i] + NETWORK_CHANNELS, widths[i + 1], 3, padding=1) for i in range(self.steps)
        )
        last = widths[self.steps]
        self.final = nn.Sequential(nn.Conv2d(last, last, 1), nn.SiLU(), nn.Conv2d(last, 9, 1))
        final = self.final[-1]
        assert isinstance(final, nn.Conv2d)
        # Start from a plain ambient light: no pattern, no change of the reflection.
        nn.init.normal_(final.weight, std=1e-3)
        assert final.bias is not None
        with torch.no_grad():
            final.bias.copy_(torch.tensor([-1.5] * 3 + [-3.0] * 3 + [0.0] * 3))

    def forward(self, tokens: Tensor, inputs: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Tokens (M, D, gh, gw) and network inputs (M, 26, h, w) -> irradiance, gloss (relative to the light level) and
        the gate of the reflection, each (M, h, w, 3)."""
        x = F.silu(self.project(tokens))
        for i, merge in enumerate(self.merge):
            x = F.interpolate(x, scale_factor=2, mode="bilinear", align_corners=False)
            detail = inputs if i == self.steps - 1 else F.avg_pool2d(inputs, self.patch_size >> (i + 1))
            x = F.silu(merge(torch.cat([x, detail.to(x.dtype)], dim=1)))
        irradiance, gloss, gate = self.final(x).float().movedim(1, -1).chunk(3, dim=-1)
        return F.softplus(irradiance), F.softplus(gloss), 2 * torch.sigmoid(gate)


def shade(pixels: Tensor, level: Tensor, predicted: tuple[Tensor, Tensor, Tensor]) -> Tensor:
    """The picture (M, h, w, 3), linear radiance: what ray casting knows plus what the network predicts."""
    irradiance, gloss, gate = predicted
    level = level[:, None, None, None]
    return (
        pixels[..., rc.HIT_EMISSION]
        + pixels[..., rc.DIRECT]
        + pixels[..., rc.HIGHLIGHT]
        + gate * pixels[..., rc.REFLECTION]
        + level * (pixels[..., rc.HIT_DIFFUSE] * irradiance + pixels[..., rc.HIT_SPECULAR] * gloss)
    )
