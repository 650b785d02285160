"""The extension `ray_features: direct` / `output: shading`: ray bundles that see what they hit.

Not part of the paper. Ray casting (renderformer/data/raycast.py) gives every pixel its exact primary hit and direct
light, and every triangle its direct light; the transformer predicts what is left: light by way of other surfaces.
Light of one colour never turns into another, so the network is monochrome: a coloured scene is one scene per colour
channel. And light is linear: everything radiometric is divided by the mean direct light before the network and
multiplied back after it. So a scene under twice as much red light has exactly twice as much red in its picture.

Shapes: B scenes, C colour channels, S = B C monochrome scenes, N triangles, V views, M = S V monochrome images,
D width, h x w pixels, p = patch size, gh x gw = h/p x w/p patches.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from renderformer.data import raycast as rc

# Of a monochrome feature image, in this order: mask, normal, position, diffuse, specular, roughness, emission,
# irradiance, direct, highlight, reflection. The network is not given `direct`, which is irradiance times diffuse.
MASK, NORMAL, POSITION, DIFFUSE, SPECULAR, ROUGHNESS = slice(0, 1), slice(1, 4), slice(4, 7), 7, 8, 9
EMISSION, IRRADIANCE, DIRECT, HIGHLIGHT, REFLECTION = 10, 11, 12, 13, 14
NETWORK_CHANNELS = 14
TRIANGLE_CHANNELS = 6
# The middle of the trained camera distances: centres the depth of the hits.
MIDDLE_DISTANCE = 1.75
# Stands for the light level of a scene in which nothing is lit, where radiance is divided by it.
DARK = 1e-8


def monochrome_rows(texture_BNC: Tensor, colours: int) -> Tensor:
    """Material rows (B, N, 13) -> (S, N, 13), whose diffuse, specular and emission are those of one channel."""

    def of(channel: int) -> Tensor:
        grey = [texture_BNC[..., i + channel, None].expand(-1, -1, 3) for i in (0, 3, 10)]
        return torch.cat([grey[0], grey[1], texture_BNC[..., 6:10], grey[2]], dim=-1)

    return torch.stack([of(channel) for channel in range(colours)], dim=1).flatten(0, 1)


def monochrome_pixels(pixels_BVhwC: Tensor, colours: int) -> Tensor:
    """Feature images (B, V, h, w, 29) -> (M, h, w, 15), one per colour channel and view."""
    coloured = [rc.HIT_DIFFUSE, rc.HIT_SPECULAR, rc.HIT_EMISSION, rc.IRRADIANCE, rc.DIRECT, rc.HIGHLIGHT, rc.REFLECTION]

    def of(channel: int) -> Tensor:
        own = [part.start + channel for part in coloured]
        order = [*range(rc.HIT_DIFFUSE.start), *own[:2], rc.HIT_ROUGHNESS.start, *own[2:]]
        return pixels_BVhwC[..., order]

    return torch.stack([of(channel) for channel in range(colours)], dim=1).flatten(0, 2)


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


def pixel_inputs(pixels: Tensor, level: Tensor) -> Tensor:
    """Monochrome feature images (M, h, w, 15) with their light level (M,) -> network inputs (M, 14, h, w)."""
    position = pixels[..., POSITION].clone()
    position[..., 2] += MIDDLE_DISTANCE * pixels[..., 0]
    light = compress(relative(pixels[..., [EMISSION, IRRADIANCE, HIGHLIGHT, REFLECTION]], level))
    parts = [pixels[..., MASK], pixels[..., NORMAL], position, pixels[..., DIFFUSE : ROUGHNESS + 1], light]
    return torch.cat(parts, dim=-1).movedim(-1, 1)


def hit_positions(pixels: Tensor, patch: int) -> Tensor:
    """(M, gh * gw, 9) mean camera-space hit of each ray bundle, three times over: its place in the relative position
    encoding. A bundle without a hit stands at the camera."""
    hits = (pixels[..., POSITION] * pixels[..., MASK]).movedim(-1, 1)
    share = F.avg_pool2d(pixels[..., MASK].movedim(-1, 1), patch)
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
        self.final = nn.Sequential(nn.Conv2d(last, last, 1), nn.SiLU(), nn.Conv2d(last, 3, 1))
        final = self.final[-1]
        assert isinstance(final, nn.Conv2d)
        # Start from a plain ambient light: no pattern, no change of the reflection.
        nn.init.normal_(final.weight, std=1e-3)
        assert final.bias is not None
        with torch.no_grad():
            final.bias.copy_(torch.tensor([-1.5, -3.0, 0.0]))

    def forward(self, tokens: Tensor, inputs: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Tokens (M, D, gh, gw) and network inputs (M, 14, h, w) -> irradiance, gloss (relative to the light level) and
        the gate of the reflection, each (M, h, w)."""
        x = F.silu(self.project(tokens))
        for i, merge in enumerate(self.merge):
            x = F.interpolate(x, scale_factor=2, mode="bilinear", align_corners=False)
            detail = inputs if i == self.steps - 1 else F.avg_pool2d(inputs, self.patch_size >> (i + 1))
            x = F.silu(merge(torch.cat([x, detail.to(x.dtype)], dim=1)))
        irradiance, gloss, gate = self.final(x).float().unbind(1)
        return F.softplus(irradiance), F.softplus(gloss), 2 * torch.sigmoid(gate)


def shade(pixels: Tensor, level: Tensor, predicted: tuple[Tensor, Tensor, Tensor]) -> Tensor:
    """The monochrome picture (M, h, w), linear radiance: what ray casting knows plus what the network predicts."""
    irradiance, gloss, gate = predicted
    indirect = pixels[..., DIFFUSE] * irradiance + pixels[..., SPECULAR] * gloss
    known = pixels[..., EMISSION] + pixels[..., DIRECT] + pixels[..., HIGHLIGHT] + gate * pixels[..., REFLECTION]
    return known + level[:, None, None] * indirect
