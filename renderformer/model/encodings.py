"""Positions and directions as numbers a transformer can use, and images as sequences of patches.

Shape suffixes: B batch, H heads, N triangles, R registers, T = R + N tokens, D width, K coordinates, F frequencies,
M images, h x w pixels, C channels. Cameras are Blender's: +X right, +Y up, looking along -Z.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor, nn

# The last channels of a material.
_EMISSION_CHANNELS = 3


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


def log_emission(texture: Tensor, channel_dim: int) -> Tensor:
    """A copy with log10(x + 1) in the last three channels."""
    rest = texture.shape[channel_dim] - _EMISSION_CHANNELS
    surface, emission = texture.split([rest, _EMISSION_CHANNELS], dim=channel_dim)
    return torch.cat([surface, torch.log10(emission + 1)], dim=channel_dim)


def with_registers(
    registers_1RD: Tensor, token_BND: Tensor, triangles_BN33: Tensor, mask_BN: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """The sequence of the triangle stage, registers before triangles.

    Returns:
        Tokens (B, T, D), positions (B, T, 9) and mask (B, T).
    """
    batch, registers = token_BND.shape[0], registers_1RD.shape[1]
    x_BTD = torch.cat([registers_1RD.expand(batch, -1, -1), token_BND], dim=1)
    positions_BR9 = register_positions(triangles_BN33, mask_BN)[:, None].expand(-1, registers, -1)
    positions_BT9 = torch.cat([positions_BR9, triangles_BN33.flatten(2)], dim=1)
    return x_BTD, positions_BT9, nn.functional.pad(mask_BN, (registers, 0), value=True)


def register_positions(triangles_BN33: Tensor, mask_BN: Tensor) -> Tensor:
    """The mean vertex of each scene's real triangles, three times: (B, 9)."""
    weights_BN = mask_BN.float() / (mask_BN.sum(dim=1, keepdim=True) + 1e-5)
    centre_B3 = (triangles_BN33 * weights_BN[..., None, None]).sum(dim=1).mean(dim=1)
    return centre_B3.repeat(1, 3)


def to_camera_space(positions_MT9: Tensor, c2w_M44: Tensor) -> Tensor:
    """Three world points per token to the space of each view's camera."""
    w2c_M44 = torch.linalg.inv(c2w_M44)
    points = positions_MT9.unflatten(-1, (3, 3))
    return (torch.einsum("mij,mtkj->mtki", w2c_M44[:, :3, :3], points) + w2c_M44[:, None, None, :3, 3]).flatten(2)


def ray_directions(c2w_M44: Tensor, fov_M: Tensor, size: tuple[float, float], covering: tuple[int, int]) -> Tensor:
    """Unit directions through the pixel centres of each view, in the space that `c2w_M44` leads to.

    Args:
        c2w_M44: camera to that space.
        fov_M: vertical fields of view in degrees.
        size: height and width of the picture; its centre lies on the camera's axis.
        covering: rows and columns to make, which may reach beyond the picture below and to the right.

    Returns:
        (M, *covering, 3) float32.
    """
    focal_M11 = (size[0] / 2) / torch.tan(torch.deg2rad(fov_M) / 2)[:, None, None]
    y_h = torch.arange(covering[0], device=fov_M.device) + (0.5 - size[0] / 2)
    x_w = torch.arange(covering[1], device=fov_M.device) + (0.5 - size[1] / 2)
    y_Mhw, x_Mhw = torch.broadcast_tensors(-y_h[:, None] / focal_M11, x_w / focal_M11)
    camera_Mhw3 = torch.stack([x_Mhw, y_Mhw, -torch.ones_like(x_Mhw)], dim=-1)
    return nn.functional.normalize(torch.einsum("mij,mhwj->mhwi", c2w_M44[:, :3, :3], camera_Mhw3), dim=-1)


def to_patches(image_MhwC: Tensor, patch: int) -> Tensor:
    """(M, h, w, C) -> (M, patches, C patch patch), each patch flattened as (channel, row, column)."""
    tiles = image_MhwC.unflatten(2, (-1, patch)).unflatten(1, (-1, patch))
    return tiles.permute(0, 1, 3, 5, 2, 4).flatten(3).flatten(1, 2)


def from_patches(patches: Tensor, grid: tuple[int, int], patch: int) -> Tensor:
    """(M, patches, C patch patch) -> (M, C, h, w), the inverse order of `to_patches`."""
    tiles = patches.unflatten(1, grid).unflatten(3, (-1, patch, patch))
    return tiles.permute(0, 3, 1, 4, 2, 5).flatten(4, 5).flatten(2, 3)
