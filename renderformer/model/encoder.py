"""The view-independent stage: one token per triangle, lit by attention among all of them.

Shape suffixes: B scenes, N triangles (padded), R registers, T = R + N tokens, D width, C texture channels,
P x P texture patch, K triangles with a patch of their own.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from renderformer.config import ModelConfig
from renderformer.model.encodings import TriangleRope
from renderformer.model.layers import TriangleLayer, run_layer

_EMISSION_CHANNELS = 3


@dataclass(frozen=True)
class Encoded:
    """A batch of lit scenes; any number of views can be drawn from it.

    Attributes:
        tokens: (B, T, D) float32, registers first.
        positions_world: (B, T, 9) float32, three vertices of each triangle in scene units; registers stand at the
            mean of their scene.
        mask: (B, T) bool, True for registers and real triangles.
        light_level: (B,) mean direct light that radiance is relative to in a model with `ray_features`, else None.
        colours: how many monochrome scenes, side by side in the batch, make up one scene in such a model.
    """

    tokens: Tensor
    positions_world: Tensor
    mask: Tensor
    light_level: Tensor | None = None
    colours: int = 3


class TriangleTransformer(nn.Module):
    """Self-attention layers with RoPE (or none, when positions are part of the tokens); no final norm."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.recompute = False
        self.layers = nn.ModuleList(TriangleLayer(config) for _ in range(config.num_layers))
        self.rope_emb: TriangleRope | None = None
        if config.pe_type == "rope":
            self.rope_emb = TriangleRope(config.vertex_pe_num_freqs, config.head_dim, config.rope_double_max_freq)

    def forward(
        self,
        x_BTD: Tensor,
        positions_BT9: Tensor,
        key_mask_BT: Tensor | None = None,
        key_lengths_B: Tensor | None = None,
    ) -> Tensor:
        """The tokens after all layers.

        Padding is told as `kernels.backends.key_padding` returns it: a mask, lengths, or neither. Nothing here waits
        for the GPU, so the stage compiles into one graph and can be captured in a CUDA graph.
        """
        rotation = None if self.rope_emb is None else self.rope_emb(positions_BT9)
        for layer in self.layers:
            x_BTD = run_layer(layer, self.recompute, x_BTD, rotation, key_mask_BT, key_lengths_B)
        return x_BTD


def register_positions(triangles_BN33: Tensor, mask_BN: Tensor) -> Tensor:
    """The mean vertex of each scene's real triangles, three times: (B, 9)."""
    weights_BN = mask_BN.float() / (mask_BN.sum(dim=1, keepdim=True) + 1e-5)
    centre_B3 = (triangles_BN33 * weights_BN[..., None, None]).sum(dim=1).mean(dim=1)
    return centre_B3.repeat(1, 3)


def log_emission(texture: Tensor, channel_dim: int) -> Tensor:
    """A copy with log10(x + 1) in the last three channels."""
    rest = texture.shape[channel_dim] - _EMISSION_CHANNELS
    surface, emission = texture.split([rest, _EMISSION_CHANNELS], dim=channel_dim)
    return torch.cat([surface, torch.log10(emission + 1)], dim=channel_dim)


def uniform_texture_weight(weight: Tensor, patch: int) -> Tensor:
    """The texture encoder's weight (D, C P P) summed over the entries of a triangle, i + j <= P: (D, C).

    A uniform patch is one row of C numbers times that mask, so this product gives the same token. Summed at every
    encoding, since that is less than a thousandth of the work for a scene of 4096 triangles, while
    a stored sum would have to follow every change of the weight.
    """
    index = torch.arange(patch, device=weight.device)
    inside = (index[:, None] + index[None, :] <= patch).to(weight.dtype).flatten()
    with torch.autocast(weight.device.type, enabled=False):
        return weight.unflatten(1, (-1, patch * patch)) @ inside
