"""How the network of `renderformer.model.shading` corrects the picture without a network, within bounds.

    corrected = emission + direct + indirect x factor + (highlight + reflection) x factor
    picture = the corrected colours of a pixel and of the eight around it, weighted by a softmax

The weights sharpen or smooth what few samples show of an edge between surfaces (kernel prediction, Bako et al. 2017);
on the outline against nothing the share of the surface is known well, and the pixel keeps its own colour. Where the
network says 0, the factors are 1 and the pixel keeps its own colour but for `LEAK`.

Shapes: M images, h x w pixels.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from renderformer.data.rays.channels import RGB

# The pixels around a pixel, itself first.
OFFSETS = sorted(
    ((dy, dx) for dy in (-1, 0, 1) for dx in (-1, 0, 1)), key=lambda offset: offset[0] ** 2 + offset[1] ** 2
)
# Weight of everything but the pixel's own colour at the start.
LEAK = 0.002
# Colours this many times as bright as the light level, such as those of lamps, are not mixed: there a thousandth shows.
BRIGHT = 10.0
# Largest factor of indirect and of specular light.
INDIRECT_FACTOR, SPECULAR_FACTOR = 1.25, 2.0
# Channels of the choices by name.
_WIDTHS = {"mix": len(OFFSETS), "indirect": 3, "specular": 3}
CHOICES = sum(_WIDTHS.values())
# What the network says of the weights counts this often, since they start far from equal.
MIX_GAIN = 5.0


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
        """(M, 3, h, w) factors between 1 / largest and largest."""
        return torch.exp(math.log(largest) * torch.tanh(self.of(name)))


def corrected(pixels: Tensor, choices: Choices, level: Tensor) -> Tensor:
    """(M, h, w, 3) radiance of feature images (M, h, w, 39), with the light level (M, 3) of their scenes."""
    images = pixels.movedim(-1, 1).contiguous()
    gloss = images[:, RGB.highlight] + images[:, RGB.reflection]
    colours = (
        images[:, RGB.emission]
        + images[:, RGB.direct]
        + images[:, RGB.indirect] * choices.factor("indirect", INDIRECT_FACTOR)
        + gloss * choices.factor("specular", SPECULAR_FACTOR)
    )
    dim = (colours <= BRIGHT * level[..., None, None]).all(dim=1, keepdim=True)
    return mixed(colours, (images[:, RGB.mask] > 0.999) & dim, choices.of("mix")).movedim(1, -1)


def mixed(colours: Tensor, mixable: Tensor, said: Tensor) -> Tensor:
    """(M, 3, h, w) weighted means of the colours (M, 3, h, w) of a pixel and of those around it.

    Args:
        mixable: (M, 1, h, w) bool; other pixels keep their colour, and give none.
        said: (M, K, h, w) of the network, one for each of OFFSETS.
    """
    prior = torch.full((len(OFFSETS), 1, 1), math.log(LEAK / (len(OFFSETS) - 1)), device=colours.device)
    prior[0] = 0
    usable = torch.cat(around(mixable), dim=1) & mixable
    usable[:, 0] = True
    weights = torch.where(usable, MIX_GAIN * said + prior, -torch.inf).softmax(dim=1)
    total = torch.zeros_like(colours)
    for k, values in enumerate(around(colours)):
        total = torch.addcmul(total, weights[:, k : k + 1], values)
    return total


def around(images: Tensor) -> list[Tensor]:
    """Images (M, C, h, w) as each of OFFSETS has them, zeros beyond the borders."""
    height, width = images.shape[2:]
    padded = F.pad(images, (1, 1, 1, 1), value=0)
    return [padded[:, :, 1 + dy :, 1 + dx :][:, :, :height, :width] for dy, dx in OFFSETS]
