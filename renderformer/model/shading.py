"""The extension `ray_features: direct` / `output: shading`: ray bundles that see what they hit.

Not part of the paper. Ray casting (data/rays/raycast.py) gives every pixel its exact primary hit and direct
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

from renderformer.data.rays import channels as rc

# Of a monochrome feature image, in this order: mask, normal, position, diffuse, specular, roughness, emission,
# irradiance, direct, highlight, reflection. The network is not given `direct`, which is irradiance times diffuse.
MASK, NORMAL, POSITION, DIFFUSE, SPECULAR, ROUGHNESS = slice(0, 1), slice(1, 4), slice(4, 7), 7, 8, 9
EMISSION, IRRADIANCE, DIRECT, HIGHLIGHT, REFLECTION = 10, 11, 12, 13, 14
NETWORK_CHANNELS = 14
TRIANGLE_CHANNELS = 6
# The middle of the trained camera distances: centres the depth of the hits.
MIDDLE_DISTANCE = 1.75
# A picture of at least twice this many pixels on its shorter side is drawn smaller by the network: what that predicts
# is smooth but for edges, which the hits know (docs/embedded-model.md has what is lost and gained).
NETWORK_SIDE = 128
# Of a coarse value's weight at a pixel: how fast it falls with the distance from the pixel's surface, over that of the
# camera, and with the angle between their normals.
PLANE_FALLOFF, NORMAL_FALLOFF = 60.0, 8
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


def coarsening(height: int, width: int) -> int:
    """How many pixels on a side one value of the network stands for: the power of two that leaves its picture at least
    `NETWORK_SIDE` pixels high and wide, or 1."""
    return 1 << max(0, (min(height, width) // NETWORK_SIDE).bit_length() - 1)


def coarser(pixels: Tensor, factor: int, step: int) -> Tensor:
    """Monochrome feature images (M, h, w, 15) averaged over squares of `factor` pixels: (M, h', w', 15), h' and w'
    multiples of `step`, with misses below and to the right."""
    if factor == 1:
        return pixels
    short = [-size % (factor * step) for size in pixels.shape[1:3]]
    images = F.pad(pixels.movedim(-1, 1), (0, short[1], 0, short[0]))
    mean = F.avg_pool2d(images, factor)
    hits = F.avg_pool2d(images * images[:, MASK], factor) / mean[:, MASK].clamp_min(1e-6)
    # Geometry and roughness are averaged over what is hit, as in the feature images themselves.
    parts = [mean[:, MASK], hits[:, NORMAL], hits[:, POSITION], mean[:, [DIFFUSE, SPECULAR]], hits[:, [ROUGHNESS]]]
    return torch.cat([*parts, mean[:, EMISSION:]], dim=1).movedim(1, -1)


def finer(
    predicted: tuple[Tensor, Tensor, Tensor], coarse: Tensor, pixels: Tensor, factor: int, colours: int, views: int
) -> tuple[Tensor, Tensor, Tensor]:
    """What the network predicts for `coarse` images (M, h', w', 15), at every pixel (M, h, w): interpolated between the
    four nearest values, of which those on another surface than the pixel's hardly count (joint bilateral upsampling,
    Kopf et al. 2007)."""
    if factor == 1:
        return predicted
    # The colour channels of a view share its hits.
    low, high = (x.unflatten(0, (-1, colours, views))[:, 0].flatten(0, 1).movedim(-1, 1) for x in (coarse, pixels))
    values = torch.stack(predicted, dim=1).unflatten(0, (-1, colours, views)).movedim(1, 2).flatten(2, 3).flatten(0, 1)
    padded = F.pad(torch.cat([low[:, : POSITION.stop], values], dim=1), (1, 1, 1, 1), mode="replicate")
    normal, position = high[:, NORMAL], high[:, POSITION]
    scale = PLANE_FALLOFF / position.norm(dim=1, keepdim=True).clamp_min(0.1)
    (row, down), (column, right) = (_neighbours(size, factor, pixels.device) for size in pixels.shape[1:3])
    total, weights = torch.zeros((), device=pixels.device), torch.zeros((), device=pixels.device)
    for dy in (0, 1):
        for dx in (0, 1):
            near = padded[:, :, row + dy + 1][..., column + dx + 1]
            nearness = (down if dy else 1 - down)[:, None] * (right if dx else 1 - right)
            off_plane = ((near[:, POSITION] - position) * normal).sum(1, keepdim=True).abs()
            alike = (near[:, NORMAL] * normal).sum(1, keepdim=True).clamp(0, 1) ** NORMAL_FALLOFF
            # Never quite zero, so that a pixel unlike all four takes their mean.
            weight = nearness * torch.exp(-scale * off_plane) * (alike + 1e-3) * (near[:, MASK] + 1e-3)
            total, weights = total + weight * near[:, POSITION.stop :], weights + weight
    smooth = (total / weights.clamp_min(1e-12)).unflatten(0, (-1, views)).unflatten(2, (colours, 3)).movedim(1, 2)
    irradiance, gloss, gate = smooth.flatten(0, 2).unbind(1)
    return irradiance, gloss, gate


def _neighbours(size: int, factor: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """(size,) the coarse value before each pixel centre, -1 at the border, and how far past it that is, 0 to 1."""
    place = (torch.arange(size, device=device) + 0.5) / factor - 0.5
    before = place.floor()
    return before.long(), place - before


def hit_positions(pixels: Tensor, patch: int) -> Tensor:
    """(M, gh * gw, 9) mean camera-space hit of each ray bundle, three times over: its place in the relative position
    encoding. A bundle without a hit stands at the camera."""
    hits = (pixels[..., POSITION] * pixels[..., MASK]).movedim(-1, 1)
    share = F.avg_pool2d(pixels[..., MASK].movedim(-1, 1), patch)
    mean = F.avg_pool2d(hits, patch) / share.clamp_min(1e-6)
    return mean.flatten(2).transpose(1, 2).repeat(1, 1, 3)


class ShadingHead(nn.Module):
    """Decode ray tokens to indirect irradiance and gloss at full resolution.

    The tokens are interpolated to pixels, so that no patch can show; there they scale and shift what a small network
    makes of the pixel's own inputs, so that edges, normals and shadows stay as sharp as the hits are. In equal time it
    trained better than a convolutional decoder, a matrix per patch and DPT (docs/training.md).
    """

    HIDDEN = 48

    def __init__(self, width: int, patch_size: int) -> None:
        super().__init__()
        self.patch_size = patch_size
        self.project = nn.Conv2d(width, 2 * self.HIDDEN, 3, padding=1)
        self.own = nn.Conv2d(NETWORK_CHANNELS, self.HIDDEN, 1)
        self.middle = nn.Conv2d(self.HIDDEN, self.HIDDEN, 1)
        self.out = nn.Conv2d(self.HIDDEN, 3, 1)
        # Start from a plain ambient light: no pattern, no change of the reflection.
        nn.init.normal_(self.out.weight, std=1e-3)
        assert self.out.bias is not None
        with torch.no_grad():
            self.out.bias.copy_(torch.tensor([-1.5, -3.0, 0.0]))

    def forward(self, tokens: Tensor, inputs: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Tokens (M, D, gh, gw) and network inputs (M, 14, h, w) -> irradiance, gloss (relative to the light level) and
        the gate of the reflection, each (M, h, w)."""
        joined = self.project(tokens)
        joined = F.interpolate(joined, scale_factor=self.patch_size, mode="bilinear", align_corners=False)
        shift, gain = joined.chunk(2, dim=1)
        x = F.silu(shift + (1 + gain) * self.own(inputs.to(joined.dtype)))
        irradiance, gloss, gate = self.out(F.silu(self.middle(x))).float().unbind(1)
        return F.softplus(irradiance), F.softplus(gloss), 2 * torch.sigmoid(gate)


def shade(pixels: Tensor, level: Tensor, predicted: tuple[Tensor, Tensor, Tensor]) -> Tensor:
    """The monochrome picture (M, h, w), linear radiance: what ray casting knows plus what the network predicts."""
    irradiance, gloss, gate = predicted
    indirect = pixels[..., DIFFUSE] * irradiance + pixels[..., SPECULAR] * gloss
    known = pixels[..., EMISSION] + pixels[..., DIRECT] + pixels[..., HIGHLIGHT] + gate * pixels[..., REFLECTION]
    return known + level[:, None, None] * indirect
