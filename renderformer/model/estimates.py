"""The estimates of light among which the network of `renderformer.model.shading` chooses, and their combination.

    picture = emission + direct' + indirect' + specular'

Direct and specular light of a pixel are mixed with those of the 12 pixels around it, indirect light with that of the
light cache and with an average over a wider square. The weights are softmaxes of what the network says plus the
logarithm of how likely the neighbour lies on the pixel's surface (kernel prediction, Bako et al. 2017, with the weights
of a joint bilateral filter). Then each part is scaled within bounds. Where the network says 0, the pixel keeps its own
light but for `LEAK`.

Shapes: M images, h x w pixels.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from renderformer.data.rays.channels import RGB

# The pixels around a pixel, itself first: those at most two steps away.
REACH = 2
OFFSETS = sorted(
    ((dy, dx) for dy in range(-REACH, REACH + 1) for dx in range(-REACH, REACH + 1) if abs(dy) + abs(dx) <= REACH),
    key=lambda offset: offset[0] ** 2 + offset[1] ** 2,
)
# Weight of everything but the pixel's own light at the start.
LEAK = 0.01
# Largest factor of indirect and of specular light, and of direct light, which is nearly right.
INDIRECT_FACTOR, DIRECT_FACTOR = 2.0, 1.15
# Channels of the choices by name.
_WIDTHS = {"direct": len(OFFSETS), "specular": len(OFFSETS), "indirect": 3,
           "direct_factor": 1, "indirect_factor": 3, "specular_factor": 3}  # fmt: skip
CHOICES = sum(_WIDTHS.values())
# How fast likelihood falls with the distance from the pixel's surface (over that of the camera), the exponent of the
# cosine between normals, and the fall with a difference in roughness, which counts for specular light.
PLANE_FALLOFF, NORMAL_POWER, ROUGHNESS_FALLOFF = 100.0, 16.0, 20.0
TINY = 1e-6


@dataclass(frozen=True)
class Choices:
    """What the network says of each pixel: (M, CHOICES, h, w)."""

    values: Tensor

    def of(self, name: str) -> Tensor:
        """(M, k, h, w) those of one name."""
        start = 0
        for key, width in _WIDTHS.items():
            if key == name:
                return self.values[:, start : start + width]
            start += width
        raise KeyError(name)

    def factor(self, name: str, largest: float) -> Tensor:
        """(M, k, h, w) factors between 1 / largest and largest."""
        return torch.exp(math.log(largest) * torch.tanh(self.of(name)))


def corrected(pixels: Tensor, choices: Choices) -> Tensor:
    """(M, h, w, 3) radiance of feature images (M, h, w, 39)."""
    images = pixels.movedim(-1, 1).contiguous()

    def part(channels: slice) -> Tensor:
        return images[:, channels]

    near = likelihoods(part(RGB.mask), part(RGB.normal), part(RGB.position))
    direct = mixed(part(RGB.direct), part(RGB.diffuse), part(RGB.irradiance), choices.of("direct"), near)

    gloss, specular = part(RGB.highlight) + part(RGB.reflection), part(RGB.specular)
    alike = near - ROUGHNESS_FALLOFF * differences(part(RGB.roughness))
    gloss = mixed(gloss, specular, gloss / specular.clamp_min(0.01), choices.of("specular"), alike)

    log_prior = torch.tensor([0.0, math.log(LEAK / 2), math.log(LEAK / 2)], device=pixels.device)
    own, looked_up, wide = (choices.of("indirect") + log_prior[:, None, None]).softmax(1).split(1, dim=1)
    others = looked_up * part(RGB.cached) + wide * around(part(RGB.indirect_irradiance), near.softmax(dim=1))
    indirect = own * part(RGB.indirect) + part(RGB.diffuse) * others

    direct = direct * choices.factor("direct_factor", DIRECT_FACTOR)
    indirect = indirect * choices.factor("indirect_factor", INDIRECT_FACTOR)
    gloss = gloss * choices.factor("specular_factor", INDIRECT_FACTOR)
    return (part(RGB.emission) + direct + indirect + gloss).movedim(1, -1)


def likelihoods(mask: Tensor, normal: Tensor, position: Tensor) -> Tensor:
    """(M, K, h, w) logarithm of how likely each of the K neighbours of `OFFSETS` lies on the surface of a pixel; 0 for
    the pixel itself. Arguments (M, 1 or 3, h, w) of feature images."""
    # |n . (p' - p)|, so that two numbers for each neighbour suffice. The borders are continued by misses.
    distance = position.square().sum(1).sqrt().clamp_min(0.02)
    height = (normal * position).sum(1)
    rows = [torch.zeros_like(height)]
    geometry = shifted(torch.cat([normal, position, torch.log(mask.clamp_min(TINY))], dim=1), outside=math.log(TINY))
    for near in geometry[1:]:
        off_plane = ((normal * near[:, 3:6]).sum(1) - height).abs() / distance
        cosine = (normal * near[:, :3]).sum(1).clamp(1e-3, 1)
        rows.append(near[:, 6] + NORMAL_POWER * torch.log(cosine) - PLANE_FALLOFF * off_plane)
    return torch.stack(rows, dim=1)


def differences(values: Tensor) -> Tensor:
    """(M, K, h, w) how far values (M, 1, h, w) of neighbours lie from those of each pixel."""
    return (torch.cat(shifted(values), dim=1) - values).abs()


def mixed(own: Tensor, albedo: Tensor, light: Tensor, said: Tensor, near: Tensor) -> Tensor:
    """(M, 3, h, w) of a pixel's own reflected light and of its albedo times the light of its neighbours.

    Args:
        said: (M, K, h, w) of the network; near: the logarithms of likelihoods.
    """
    prior = torch.full((len(OFFSETS), 1, 1), math.log(LEAK / (len(OFFSETS) - 1)), device=own.device)
    prior[0] = 0
    weights = (said + near + prior).softmax(dim=1)
    return weights[:, :1] * own + albedo * (around(light, weights) - weights[:, :1] * light)


def around(light: Tensor, weights: Tensor) -> Tensor:
    """(M, 3, h, w) weighted sum of the light of all neighbours, with weights (M, K, h, w)."""
    total = torch.zeros_like(light)
    for k, values in enumerate(shifted(light)):
        total = torch.addcmul(total, weights[:, k : k + 1], values)
    return total


def shifted(images: Tensor, outside: float = 0.0) -> list[Tensor]:
    """Images (M, C, h, w) as each neighbour of `OFFSETS` has them; beyond the borders a value."""
    height, width = images.shape[2:]
    padded = F.pad(images, (REACH, REACH, REACH, REACH), value=outside)
    return [padded[:, :, REACH + dy :, REACH + dx :][:, :, :height, :width] for dy, dx in OFFSETS]
