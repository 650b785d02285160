"""How the network of `renderformer.model.shading` corrects the picture without a network, within bounds.

    picture = emission + direct + indirect x factor + (highlight + reflection) x factor

Where the network says 0, both factors are 1 and the picture is the one without a network. Emission and direct light are
right but for few samples.

Shapes: M images, h x w pixels.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from renderformer.data.rays.channels import RGB

# What the network says of each pixel: a number for each colour of indirect and of specular light.
INDIRECT, SPECULAR = slice(0, 3), slice(3, 6)
CHOICES = 6
# Largest factors.
INDIRECT_FACTOR, SPECULAR_FACTOR = 1.5, 2.0


def corrected(pixels: Tensor, said: Tensor) -> Tensor:
    """(M, h, w, 3) radiance of feature images (M, h, w, 39) and what the network says of them, (M, CHOICES, h, w)."""
    said = said.movedim(1, -1)
    gloss = pixels[..., RGB.highlight] + pixels[..., RGB.reflection]
    known = pixels[..., RGB.emission] + pixels[..., RGB.direct]
    indirect = pixels[..., RGB.indirect] * _factor(said[..., INDIRECT], INDIRECT_FACTOR)
    return known + indirect + gloss * _factor(said[..., SPECULAR], SPECULAR_FACTOR)


def _factor(said: Tensor, largest: float) -> Tensor:
    """Factors between 1 / largest and largest."""
    return torch.exp(math.log(largest) * torch.tanh(said))
