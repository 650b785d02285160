"""Positions and directions as numbers a transformer can use.

Shape suffixes: B batch, H heads, T tokens, D head width, K coordinates, F frequencies.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor, nn


class Rotation(NamedTuple):
    """Cosines and sines of RoPE angles, (B, 1, T, D/2) float32, for the pairs (i, i + D/2) of a head."""

    cos: Tensor
    sin: Tensor


def nerf_encoding(x: Tensor, num_freqs: int) -> Tensor:
    """[x, sin(x f), sin(x f + pi/2)] with f = 1, 2, 4, …; each sine block is coordinate-major.

    Args:
        x: (..., K).
        num_freqs: F.

    Returns:
        (..., K (1 + 2 F)).
    """
    freqs_F = 2.0 ** torch.arange(num_freqs, dtype=x.dtype, device=x.device)
    angles = (x[..., None] * freqs_F).flatten(-2)
    return torch.cat([x, torch.sin(angles), torch.sin(angles + math.pi / 2)], dim=-1)


class TriangleRope(nn.Module):
    """RoPE on the nine coordinates of a triangle (spec/model.md, "Relative position").

    The frequencies are part of the checkpoint and are never recomputed from the configuration after loading.
    """

    freqs: Tensor

    def __init__(self, num_freqs: int, head_dim: int, double_max_freq: bool) -> None:
        super().__init__()
        count = num_freqs // 2
        highest = math.log2(num_freqs - 1) if double_max_freq else math.log2(max(count - 1, 1))
        self.pad = head_dim // 2 - 9 * count
        self.register_buffer("freqs", 2.0 ** torch.linspace(0.0, highest, count))

    def forward(self, positions_BT9: Tensor) -> Rotation:
        """The rotation of each token; float32 under any autocast, since only element-wise operations are used."""
        angles_BTP = (positions_BT9.float()[..., None] * self.freqs.float()).flatten(-2)
        angles_B1TP = nn.functional.pad(angles_BTP, (0, self.pad))[:, None]
        return Rotation(angles_B1TP.cos(), angles_B1TP.sin())


def rotate(x_BHTD: Tensor, rotation: Rotation | None) -> Tensor:
    """Apply a rotation to queries or keys, in float32; None leaves them as they are."""
    if rotation is None:
        return x_BHTD
    first, second = x_BHTD.float().chunk(2, dim=-1)
    cos, sin = rotation.cos, rotation.sin
    return torch.cat([first * cos - second * sin, second * cos + first * sin], dim=-1).to(x_BHTD.dtype)
