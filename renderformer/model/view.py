"""The view stage: rays of a camera become image tokens, look at the lit triangles, and are decoded to pixels.

Shape suffixes: B scenes, V views, M = B V images, T image tokens, S triangle tokens, D width, h x w pixels,
C channels. Cameras are Blender's: +X right, +Y up, looking along -Z.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from renderformer.config import ModelConfig
from renderformer.model.dpt import DPT
from renderformer.model.encodings import TriangleRope, nerf_encoding
from renderformer.model.layers import ViewLayer, make_norm


def ray_directions(
    fov_M: Tensor, height: int, width: int, grid_height: int | None = None, grid_width: int | None = None
) -> Tensor:
    """Unit directions through the pixel centres, in camera space.

    Args:
        fov_M: vertical fields of view in degrees.
        height, width: the picture, in pixels; its centre is on the camera's axis.
        grid_height, grid_width: rows and columns to make, which may reach beyond the picture to the right and below.

    Returns:
        (M, grid_height, grid_width, 3) float32.
    """
    focal_M = (height / 2) / torch.tan(torch.deg2rad(fov_M) / 2)
    x_w = torch.arange(grid_width or width, device=fov_M.device).to(fov_M) + 0.5 - width / 2
    y_h = torch.arange(grid_height or height, device=fov_M.device).to(fov_M) + 0.5 - height / 2
    y_hw, x_hw = torch.meshgrid(y_h, x_w, indexing="ij")
    x_Mhw, y_Mhw = x_hw / focal_M[:, None, None], -y_hw / focal_M[:, None, None]
    return nn.functional.normalize(torch.stack([x_Mhw, y_Mhw, -torch.ones_like(x_Mhw)], dim=-1), dim=-1)


def to_patches(image_MhwC: Tensor, patch: int) -> Tensor:
    """(M, h, w, C) -> (M, T, C patch patch), each patch flattened as (channel, row, column)."""
    tiles = image_MhwC.unflatten(2, (-1, patch)).unflatten(1, (-1, patch))
    return tiles.permute(0, 1, 3, 5, 2, 4).flatten(3).flatten(1, 2)


def from_patches(patches: Tensor, grid: tuple[int, int], patch: int) -> Tensor:
    """(M, T, C patch patch) -> (M, C, h, w), the inverse order of `to_patches`."""
    tiles = patches.unflatten(1, grid).unflatten(3, (-1, patch, patch))
    return tiles.permute(0, 3, 1, 4, 2, 5).flatten(4, 5).flatten(2, 3)


class ViewDecoder(nn.Module):
    """The layers of the view stage with their shared RoPE; no final norm."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.layers = nn.ModuleList(ViewLayer(config, i) for i in range(config.view_transformer_n_layers))
        self.rope_emb: TriangleRope | None = None
        if config.pe_type == "rope":
            freqs, head_dim = config.view_rope_num_freqs, config.view_head_dim
            self.rope_emb = TriangleRope(freqs, head_dim, config.rope_double_max_freq)

    def forward(
        self,
        x_MTD: Tensor,
        context: Tensor,
        grid: tuple[int, int],
        ray_positions_MT9: Tensor | None,
        positions_MS9: Tensor,
        mask_BS: Tensor,
    ) -> list[Tensor]:
        """The image tokens after each layer."""
        rotation = context_rotation = None
        if self.rope_emb is not None:
            context_rotation = self.rope_emb(positions_MS9)
            # Rays that start at the origin (camera space) are not rotated at all.
            rotation = None if ray_positions_MT9 is None else self.rope_emb(ray_positions_MT9)
        views = x_MTD.shape[0] // context.shape[0]
        key_mask_MS = None if bool(mask_BS.all()) else mask_BS.repeat_interleave(views, dim=0)
        features = []
        for layer in self.layers:
            x_MTD = layer(x_MTD, context, grid, rotation, context_rotation, key_mask_MS)
            features.append(x_MTD)
        return features


class ViewTransformer(nn.Module):
    """Rays to a raw picture: ray tokens, layers, decoder."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        width, patch = config.view_transformer_latent_dim, config.patch_size
        self.config = config
        self.out_channels = 4 if config.include_alpha else 3
        self.ray_map_patch_token = nn.Parameter(torch.randn(1, 1, width) * 0.02)
        self.ray_map_encoder = nn.Linear(3 * (1 + 2 * config.vdir_num_freqs) * patch**2, width)
        self.ray_map_encoder_norm = make_norm(config.norm_type, width)
        self.transformer = ViewDecoder(config)
        if config.use_dpt_decoder:
            self.out_dpt = DPT(width, config.dpt_out_channels, config.dpt_features, self.out_channels, patch)
        else:
            self.out_proj = nn.Linear(width, self.out_channels * patch**2)

    def forward(
        self,
        rays_Mhw3: Tensor,
        ray_origins_M3: Tensor | None,
        tokens_BSD: Tensor,
        positions_MS9: Tensor,
        mask_BS: Tensor,
    ) -> Tensor:
        """Draw M = B V views.

        Args:
            rays_Mhw3: unit directions, in the space of `positions_MS9`; h and w multiples of `config.size_multiple`.
            ray_origins_M3: camera centres in that space; None when all are the origin (camera space).
            tokens_BSD, mask_BS: the encoded scenes.
            positions_MS9: triangle positions as each view sees them.

        Returns:
            (M, C, h, w), before the output activation.
        """
        patch = self.config.patch_size
        grid = rays_Mhw3.shape[1] // patch, rays_Mhw3.shape[2] // patch
        bundles = to_patches(nerf_encoding(rays_Mhw3, self.config.vdir_num_freqs), patch)
        x_MTD = self.ray_map_patch_token + self.ray_map_encoder_norm(self.ray_map_encoder(bundles))
        ray_positions = (
            None if ray_origins_M3 is None else ray_origins_M3.repeat(1, 3)[:, None].expand(-1, x_MTD.shape[1], -1)
        )
        features = self.transformer(x_MTD, tokens_BSD, grid, ray_positions, positions_MS9, mask_BS)
        if self.config.use_dpt_decoder:
            return self.out_dpt([features[i] for i in self.config.dpt_layers], grid)
        return from_patches(self.out_proj(features[-1]), grid, patch)
