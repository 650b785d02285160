"""Encodings of positions, directions and materials, and images as sequences of patches.

Shape suffixes: B batch, H heads, N triangles, R registers, T = R + N tokens, D width, K coordinates or patches,
F frequencies, M images, h x w pixels, C channels, P x P texture patch.
Cameras are Blender's: +X right, +Y up, looking along -Z.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from renderformer.data.errors import InputError

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

    The frequencies are a tensor of the checkpoint, which replaces the one made here.
    """

    freqs: Tensor

    def __init__(self, num_freqs: int, head_dim: int, double_max_freq: bool) -> None:
        super().__init__()
        count = num_freqs // 2
        highest = math.log2(num_freqs - 1) if double_max_freq else math.log2(max(count - 1, 1))
        self.pad = head_dim // 2 - 9 * count
        self.register_buffer("freqs", 2.0 ** torch.linspace(0.0, highest, count))

    def forward(self, positions_BT9: Tensor) -> Rotation:
        """The rotation of each token, float32 under any autocast."""
        angles_BTP = (positions_BT9.float()[..., None] * self.freqs.float()).flatten(-2)
        angles_B1TP = F.pad(angles_BTP, (0, self.pad))[:, None]
        return Rotation(angles_B1TP.cos(), angles_B1TP.sin())


def rotate(x_BHTD: Tensor, rotation: Rotation | None) -> Tensor:
    """Rotate queries or keys, in float32; None is no rotation."""
    if rotation is None:
        return x_BHTD
    first, second = x_BHTD.float().chunk(2, dim=-1)
    cos, sin = rotation.cos, rotation.sin
    return torch.cat([first * cos - second * sin, second * cos + first * sin], dim=-1).to(x_BHTD.dtype)


def log_emission(texture: Tensor, channel_dim: int) -> Tensor:
    """A copy with log10(x + 1) in the last three channels."""
    surface_channels = texture.shape[channel_dim] - _EMISSION_CHANNELS
    surface, emission = texture.split([surface_channels, _EMISSION_CHANNELS], dim=channel_dim)
    return torch.cat([surface, torch.log10(emission + 1)], dim=channel_dim)


class TextureEncoder(nn.Linear):
    """One linear layer for materials, uniform or in patches; with `log_light` it takes the logarithm of emission."""

    def __init__(self, channels: int, patch: int, width: int, log_light: bool) -> None:
        super().__init__(channels * patch**2, width)
        self.patch, self.log_light = patch, log_light

    def forward(self, texture: Tensor, patches: Tensor | None = None, patch_index: Tensor | None = None) -> Tensor:
        """Encode the materials of B scenes.

        Args:
            texture: (B, N, C) uniform materials, or (B, N, C, P, P) patches; a model with P = 1 takes patches of any
                size and reads their entry [0, 0].
            patches: (K, C, P, P) patches that replace some of the uniform materials.
            patch_index: (B, N) integers, the patch of each triangle; -1 for its uniform material.

        Returns:
            (B, N, D).

        Raises:
            InputError: patches of another size than P x P.
        """
        if self.patch == 1 and texture.ndim == 5:
            texture = texture[..., 0, 0]
        if texture.ndim == 5:
            return super().forward(self._inputs(texture, channel_dim=2).flatten(2))
        hidden_BND = F.linear(self._inputs(texture, channel_dim=2), self.uniform_weight(), self.bias)
        if patches is None or patch_index is None:
            return hidden_BND
        patch_KD = super().forward(self._inputs(patches, channel_dim=1).flatten(1)).to(hidden_BND.dtype)
        return torch.where(patch_index[..., None] >= 0, patch_KD[patch_index.clamp(min=0)], hidden_BND)

    def uniform_weight(self) -> Tensor:
        """(D, C) sum of the weight over the entries i + j <= P of a patch; a uniform patch is zero elsewhere.

        It costs less than a thousandth of encoding 4096 triangles, so it is not stored.
        """
        index = torch.arange(self.patch, device=self.weight.device)
        inside = (index[:, None] + index[None, :] <= self.patch).to(self.weight.dtype).flatten()
        with torch.autocast(self.weight.device.type, enabled=False):
            return self.weight.unflatten(1, (-1, self.patch**2)) @ inside

    def _inputs(self, texture: Tensor, channel_dim: int) -> Tensor:
        size = tuple(texture.shape[channel_dim + 1 :])
        if size not in ((), (self.patch, self.patch)):
            raise InputError("", f"texture patches are {size}, this model takes {(self.patch, self.patch)}")
        texture = texture.float()
        return log_emission(texture, channel_dim) if self.log_light else texture


def zero_padding(x: Tensor, mask_BN: Tensor) -> Tensor:
    """`x` (B, N, ...) with zeros in the padding, where a NaN would survive a product with a weight of zero."""
    return x.masked_fill(~mask_BN.reshape(*mask_BN.shape, *[1] * (x.ndim - 2)), 0.0)


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
    return x_BTD, positions_BT9, F.pad(mask_BN, (registers, 0), value=True)


def register_positions(triangles_BN33: Tensor, mask_BN: Tensor) -> Tensor:
    """The mean vertex of each scene's real triangles, three times: (B, 9)."""
    weights_BN = mask_BN.float() / (mask_BN.sum(dim=1, keepdim=True) + 1e-5)
    centre_B3 = (triangles_BN33 * weights_BN[..., None, None]).sum(dim=1).mean(dim=1)
    return centre_B3.repeat(1, 3)


def to_camera_space(positions_MT9: Tensor, c2w_M44: Tensor) -> Tensor:
    """Three world points per token, in the space of each view's camera."""
    w2c_M44 = torch.linalg.inv(c2w_M44)
    points = positions_MT9.unflatten(-1, (3, 3))
    return (torch.einsum("mij,mtkj->mtki", w2c_M44[:, :3, :3], points) + w2c_M44[:, None, None, :3, 3]).flatten(2)


def ray_directions(c2w_M44: Tensor, fov_M: Tensor, size: tuple[float, float], padded: tuple[int, int]) -> Tensor:
    """Unit directions through the pixel centres of each view.

    Args:
        c2w_M44: camera space to the space of the directions.
        fov_M: vertical fields of view in degrees.
        size: height and width of the picture; its centre lies on the camera's axis.
        padded: rows and columns of rays, the further ones below and to the right of the picture.

    Returns:
        (M, *padded, 3) float32.
    """
    focal_M11 = (size[0] / 2) / torch.tan(torch.deg2rad(fov_M) / 2)[:, None, None]
    y_h = torch.arange(padded[0], device=fov_M.device) + (0.5 - size[0] / 2)
    x_w = torch.arange(padded[1], device=fov_M.device) + (0.5 - size[1] / 2)
    y_Mhw, x_Mhw = torch.broadcast_tensors(-y_h[:, None] / focal_M11, x_w / focal_M11)
    camera_Mhw3 = torch.stack([x_Mhw, y_Mhw, -torch.ones_like(x_Mhw)], dim=-1)
    return F.normalize(torch.einsum("mij,mhwj->mhwi", c2w_M44[:, :3, :3], camera_Mhw3), dim=-1)


def to_patches(image_MhwC: Tensor, patch: int) -> Tensor:
    """(M, h, w, C) -> (M, patches, C patch patch), each patch flattened as (channel, row, column)."""
    tiles = image_MhwC.unflatten(2, (-1, patch)).unflatten(1, (-1, patch))
    return tiles.permute(0, 1, 3, 5, 2, 4).flatten(3).flatten(1, 2)


def from_patches(patches: Tensor, grid: tuple[int, int], patch: int) -> Tensor:
    """(M, patches, C patch patch) -> (M, C, h, w), the inverse order of `to_patches`."""
    tiles = patches.unflatten(1, grid).unflatten(3, (-1, patch, patch))
    return tiles.permute(0, 3, 1, 4, 2, 5).flatten(4, 5).flatten(2, 3)
