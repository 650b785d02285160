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
from renderformer.model.layers import BeforeLayer, Rotations, ViewLayer, make_norm, run_layer
from renderformer.model.shading import NETWORK_CHANNELS, ShadingHead, hit_positions


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
        self.recompute = False
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
        ray_positions_M19: Tensor,
        positions_MS9: Tensor,
        mask_BS: Tensor,
        before_layer: BeforeLayer | None = None,
    ) -> list[Tensor]:
        """The image tokens after each layer; `context` holds one row per scene, or one per view."""
        rotations: Rotations = (None, None)
        if self.rope_emb is not None:
            rotations = self.rope_emb(ray_positions_M19), self.rope_emb(positions_MS9)
        views = x_MTD.shape[0] // mask_BS.shape[0]
        key_mask_MS = None if bool(mask_BS.all()) else mask_BS.repeat_interleave(views, dim=0)
        features = []
        for layer in self.layers:
            if before_layer is not None:
                before_layer()
            x_MTD = run_layer(layer, self.recompute, x_MTD, context, grid, rotations, key_mask_MS)
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
        if config.pe_type == "nerf":
            self.pe_token_proj = nn.Linear(9 * (1 + 2 * config.vertex_pe_num_freqs), width)
            self.token_pos_pe_norm = make_norm(config.norm_type, width)
        self.transformer = ViewDecoder(config)
        if config.ray_features != "none":
            self.ray_feature_encoder = nn.Linear(NETWORK_CHANNELS * patch**2, width)
            self.ray_feature_encoder_norm = make_norm(config.norm_type, width)
        if config.output == "shading":
            self.out_shading = ShadingHead(width, patch)
        elif config.use_dpt_decoder:
            self.out_dpt = DPT(width, config.dpt_out_channels, config.dpt_features, self.out_channels, patch)
        else:
            self.out_proj = nn.Linear(width, self.out_channels * patch**2)

    def forward(
        self,
        rays_Mhw3: Tensor,
        ray_origins_M3: Tensor,
        tokens_BSD: Tensor,
        positions_MS9: Tensor,
        mask_BS: Tensor,
        before_layer: BeforeLayer | None = None,
    ) -> Tensor:
        """Draw M = B V views.

        Args:
            rays_Mhw3: unit directions, in the space of `positions_MS9`; h and w multiples of `config.size_multiple`.
            ray_origins_M3: camera centres in that space.
            tokens_BSD, mask_BS: the encoded scenes.
            positions_MS9: triangle positions as each view sees them.

        Returns:
            (M, C, h, w), before the output activation.
        """
        patch = self.config.patch_size
        grid = rays_Mhw3.shape[1] // patch, rays_Mhw3.shape[2] // patch
        x_MTD = self.ray_tokens(rays_Mhw3)
        ray_positions_M19 = ray_origins_M3.repeat(1, 3)[:, None]
        if self.config.pe_type == "nerf":
            x_MTD = x_MTD + self.position_tokens(ray_positions_M19)
            views = x_MTD.shape[0] // tokens_BSD.shape[0]
            tokens_BSD = tokens_BSD.repeat_interleave(views, dim=0) + self.position_tokens(positions_MS9)
        features = self.transformer(x_MTD, tokens_BSD, grid, ray_positions_M19, positions_MS9, mask_BS, before_layer)
        if self.config.use_dpt_decoder:
            return self.out_dpt([features[i] for i in self.config.dpt_layers], grid)
        return from_patches(self.out_proj(features[-1]), grid, patch)

    def ray_tokens(self, rays_Mhw3: Tensor) -> Tensor:
        bundles = to_patches(nerf_encoding(rays_Mhw3, self.config.vdir_num_freqs), self.config.patch_size)
        return self.ray_map_patch_token + self.ray_map_encoder_norm(self.ray_map_encoder(bundles))

    def position_tokens(self, positions: Tensor) -> Tensor:
        encoding = nerf_encoding(positions, self.config.vertex_pe_num_freqs)
        return self.token_pos_pe_norm(self.pe_token_proj(encoding))

    def shading(
        self,
        rays_Mhw3: Tensor,
        tokens_BSD: Tensor,
        positions_MS9: Tensor,
        mask_BS: Tensor,
        pixels_MhwC: Tensor,
        inputs_MChw: Tensor,
        before_layer: BeforeLayer | None = None,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """The extension's decoder (renderformer/model/shading.py): what ray bundles that see their hits still lack.

        Args:
            pixels_MhwC: monochrome feature images; inputs_MChw: `pixel_inputs` of them; the rest as in `forward`,
                camera space.

        Returns:
            Irradiance, gloss and gate, see `ShadingHead.forward`.
        """
        patch = self.config.patch_size
        grid = rays_Mhw3.shape[1] // patch, rays_Mhw3.shape[2] // patch
        seen = self.ray_feature_encoder(to_patches(inputs_MChw.movedim(1, -1), patch))
        x_MTD = self.ray_tokens(rays_Mhw3) + self.ray_feature_encoder_norm(seen)
        ray_positions = hit_positions(pixels_MhwC, patch)
        x_MTD = self.transformer(x_MTD, tokens_BSD, grid, ray_positions, positions_MS9, mask_BS, before_layer)[-1]
        return self.out_shading(x_MTD.transpose(1, 2).unflatten(2, grid), inputs_MChw)
