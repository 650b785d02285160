"""RenderFormer: a transformer that draws globally lit pictures of triangle meshes (arXiv 2505.21925, spec/model.md).

`encode` turns the triangles of a scene into lit tokens, once. `view` draws these tokens from any number of cameras.

Geometry is in scene units, the scene inside [-0.5, 0.5]^3, Z up. Cameras are Blender's: +X right, +Y up, looking along
-Z. Shape suffixes: B scenes, N triangles (padded), R registers, T = R + N tokens, D width, C texture channels,
P x P texture patch, K patches, V views, M = B V images, h x w pixels.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from renderformer.config import ModelConfig
from renderformer.data.arrays import AnyArray, Float32Array
from renderformer.data.geometry.patches import patch_notes
from renderformer.kernels.backends import key_padding
from renderformer.model.dpt import DPT
from renderformer.model.encodings import (
    TextureEncoder,
    from_patches,
    nerf_encoding,
    ray_directions,
    to_camera_space,
    to_patches,
    with_registers,
    zero_padding,
)
from renderformer.model.layers import Network, TriangleTransformer, ViewDecoder, make_norm
from renderformer.model.protocol import BeforeLayer, Encoded, Prepared, Step

if TYPE_CHECKING:
    from renderformer.data.camera import Camera
    from renderformer.data.rays.raycast import RayCaster
    from renderformer.data.scene import Scene

_ELU_ALPHA = 1e-3


class RenderFormer(Network):
    """The paper's model. Parameter names are those of the released checkpoints."""

    scene_inputs: tuple[str, ...] = ()
    view_inputs: tuple[str, ...] = ()

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        width = config.latent_dim
        self.config = config
        self.tri_token = nn.Parameter(torch.randn(1, 1, width) * 0.02)
        self.reg_tokens = nn.Parameter(torch.randn(1, config.num_register_tokens, width) * 0.02)
        if config.pe_type == "nerf":
            self.tri_encoding_proj = nn.Linear(9 * (1 + 2 * config.vertex_pe_num_freqs), width)
            self.tri_encoding_norm = make_norm(config.vn_encoder_norm_type, width)
        if config.use_vn_encoder:
            self.vn_encoding_proj = nn.Linear(9 * (1 + 2 * config.vn_pe_num_freqs), width)
            self.vn_encoder_norm = make_norm(config.vn_encoder_norm_type, width)
        self.texture_encoder = TextureEncoder(
            config.texture_channels, config.texture_encode_patch_size, width, log_light=not config.use_ldr
        )
        self.texture_encoder_norm = make_norm(config.texture_encoder_norm_type, width)
        self.transformer = TriangleTransformer(config)
        self.view_transformer = ViewTransformer(config)

    def forward(
        self,
        triangles: Tensor,
        texture: Tensor,
        mask: Tensor,
        vn: Tensor,
        c2w: Tensor,
        fov: Tensor,
        height: int,
        width: int,
    ) -> Tensor:
        """Both stages in one call; arguments as in `encode` and `view`."""
        return self.view(self.encode(triangles, texture, mask, vn), c2w, fov, height, width)

    def encode(
        self,
        triangles: Tensor,
        texture: Tensor,
        mask: Tensor,
        vn: Tensor,
        *,
        patches: Tensor | None = None,
        patch_index: Tensor | None = None,
        before_layer: BeforeLayer | None = None,
    ) -> Encoded:
        """The view-independent stage. Changes none of its inputs.

        Args:
            triangles: (B, N, 3, 3) vertex positions.
            texture: (B, N, C) material rows or (B, N, C, P, P) patches, see `TextureEncoder.forward`. Emission, the
                last three channels, is linear radiance.
            mask: (B, N) bool, True for a real triangle. Padding may hold any values.
            vn: (B, N, 3, 3) unit vertex normals.
            patches: (K, C, P, P) patches of the triangles whose material varies, beside rows in `texture`.
            patch_index: (B, N) integers, the patch of each triangle; -1 for its row.
            before_layer: called before each layer; an exception from it stops the stage.

        Raises:
            InputError: patches of another size than the model's.
        """
        mask_BN = mask.bool()
        triangles_BN33, vn_BN33 = zero_padding(triangles.float(), mask_BN), zero_padding(vn.float(), mask_BN)

        token_BND = self.tri_token + self.texture_encoder_norm(self.texture_encoder(texture, patches, patch_index))
        if self.config.use_vn_encoder:
            encoding = nerf_encoding(vn_BN33.flatten(2), self.config.vn_pe_num_freqs)
            token_BND = token_BND + self.vn_encoder_norm(self.vn_encoding_proj(encoding))
        if self.config.pe_type == "nerf":
            encoding = nerf_encoding(triangles_BN33.flatten(2), self.config.vertex_pe_num_freqs)
            token_BND = token_BND + self.tri_encoding_norm(self.tri_encoding_proj(encoding))
        token_BND = zero_padding(token_BND, mask_BN)

        x_BTD, positions_BT9, mask_BT = with_registers(self.reg_tokens, token_BND, triangles_BN33, mask_BN)
        # This call alone waits for the GPU, so the transformer itself can be compiled.
        key_mask_BT, key_lengths_B = key_padding(mask_BT)
        tokens_BTD = self.transformer(x_BTD, positions_BT9, key_mask_BT, key_lengths_B, before_layer).float()
        return Encoded(tokens_BTD, positions_BT9, mask_BT)

    def view(
        self,
        encoded: Encoded,
        c2w: Tensor,
        fov: Tensor,
        height: int,
        width: int,
        *,
        before_layer: BeforeLayer | None = None,
    ) -> Tensor:
        """The view-dependent stage. Draws the next multiples of `config.size_multiple` and crops them.

        Args:
            encoded: B scenes.
            c2w: (B, V, 4, 4) camera to world.
            fov: (B, V, 1) or (B, V) vertical field of view, degrees.
            height, width: of the picture, pixels.
            before_layer: as in `encode`.

        Returns:
            (B, V, height, width, 3) linear HDR radiance; LDR with `use_ldr`; a fourth channel with `include_alpha`.
        """
        batch, views = c2w.shape[:2]
        c2w_M44, fov_M = c2w.float().flatten(0, 1), fov.float().reshape(-1)

        positions_MT9 = encoded.positions_world.repeat_interleave(views, dim=0)
        if self.config.turn_to_cam_coord:
            positions_MT9 = to_camera_space(positions_MT9, c2w_M44)
            c2w_M44 = torch.eye(4, device=c2w.device).expand_as(c2w_M44)

        multiple = self.config.size_multiple
        padded = -(-height // multiple) * multiple, -(-width // multiple) * multiple
        rays_Mhw3 = ray_directions(c2w_M44, fov_M, (height, width), padded)
        raw_MChw = self.view_transformer(
            rays_Mhw3, c2w_M44[:, :3, 3], encoded.tokens, positions_MT9, encoded.mask, before_layer
        )

        picture_MChw = F.elu(raw_MChw.float()[..., :height, :width], alpha=_ELU_ALPHA)
        if not self.config.use_ldr:
            picture_MChw = 10.0**picture_MChw - 1.0
        return picture_MChw.permute(0, 2, 3, 1).unflatten(0, (batch, views))

    def prepare(self, scene: Scene, step: Step | None = None) -> Prepared:
        """See `renderformer.model.protocol.Model`."""
        inputs: dict[str, AnyArray] = {
            "triangles": scene.triangles[None],
            "texture": scene.materials[None],
            "mask": np.ones((1, len(scene)), bool),
            "vn": scene.normals[None],
        }
        if self.config.texture_encode_patch_size > 1 and scene.patches is not None:
            inputs |= {"patches": scene.patches[0], "patch_index": scene.patches[1][None]}
        return Prepared(inputs, notes=patch_notes(scene))

    def look(
        self, caster: RayCaster | None, camera: Camera, width: int, height: int, step: Step | None = None
    ) -> dict[str, Float32Array]:
        """See `renderformer.model.protocol.Model`; the camera is all that `view` takes."""
        return {}

    def bytes_per_view(self, width: int, height: int) -> float:
        """See `renderformer.model.protocol.Model`."""
        channels = 2 * self.config.dpt_features if self.config.use_dpt_decoder else 16
        tokens = width * height / self.config.patch_size**2 * self.config.view_transformer_ffn_hidden_dim
        return 4 * (width * height * channels + 3 * tokens)


class ViewTransformer(nn.Module):
    """Rays become image tokens, attend to the triangle tokens and to each other, and are decoded to pixels."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        width, patch = config.view_transformer_latent_dim, config.patch_size
        self.config = config
        channels = 4 if config.include_alpha else 3
        self.ray_map_patch_token = nn.Parameter(torch.randn(1, 1, width) * 0.02)
        self.ray_map_encoder = nn.Linear(3 * (1 + 2 * config.vdir_num_freqs) * patch**2, width)
        self.ray_map_encoder_norm = make_norm(config.norm_type, width)
        if config.pe_type == "nerf":
            self.pe_token_proj = nn.Linear(9 * (1 + 2 * config.vertex_pe_num_freqs), width)
            self.token_pos_pe_norm = make_norm(config.norm_type, width)
        self.transformer = ViewDecoder(config)
        if config.use_dpt_decoder:
            self.out_dpt = DPT(width, config.dpt_out_channels, config.dpt_features, channels, patch)
        else:
            self.out_proj = nn.Linear(width, channels * patch**2)

    def forward(
        self,
        rays_Mhw3: Tensor,
        ray_origins_M3: Tensor,
        tokens_BTD: Tensor,
        positions_MT9: Tensor,
        mask_BT: Tensor,
        before_layer: BeforeLayer | None = None,
    ) -> Tensor:
        """Draw M = B V views.

        Args:
            rays_Mhw3: unit directions in the space of `positions_MT9`; h and w multiples of `config.size_multiple`.
            ray_origins_M3: camera centres in that space.
            tokens_BTD, mask_BT: of the encoded scenes.
            positions_MT9: vertices of the triangles in each view's space.

        Returns:
            (M, channels, h, w), before the output activation.
        """
        patch = self.config.patch_size
        grid = rays_Mhw3.shape[1] // patch, rays_Mhw3.shape[2] // patch
        rays = to_patches(nerf_encoding(rays_Mhw3, self.config.vdir_num_freqs), patch)
        image_tokens = self.ray_map_patch_token + self.ray_map_encoder_norm(self.ray_map_encoder(rays))
        # Like a triangle, an image token has three points: three times the camera's centre.
        ray_positions_M19 = ray_origins_M3.repeat(1, 3)[:, None]
        context = tokens_BTD
        if self.config.pe_type == "nerf":
            image_tokens = image_tokens + self._position_tokens(ray_positions_M19)
            views = image_tokens.shape[0] // tokens_BTD.shape[0]
            context = tokens_BTD.repeat_interleave(views, dim=0) + self._position_tokens(positions_MT9)

        features = self.transformer(
            image_tokens, context, grid, ray_positions_M19, positions_MT9, mask_BT, before_layer
        )
        if self.config.use_dpt_decoder:
            return self.out_dpt([features[i] for i in self.config.dpt_layers], grid)
        return from_patches(self.out_proj(features[-1]), grid, patch)

    def _position_tokens(self, positions: Tensor) -> Tensor:
        encoding = nerf_encoding(positions, self.config.vertex_pe_num_freqs)
        return self.token_pos_pe_norm(self.pe_token_proj(encoding))
