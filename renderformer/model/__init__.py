"""RenderFormer: a transformer that draws globally lit pictures of triangle meshes (arXiv 2505.21925).

Two stages: `encode` lights the triangles of a scene, once; `view` draws them for any number of cameras.

Shape suffixes: B scenes, N triangles (padded), R registers, T = R + N tokens, D width, C texture channels,
P x P texture patch, V views, M = B V images, h x w pixels.
"""

from __future__ import annotations

import os
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from renderformer.config import ModelConfig
from renderformer.data.errors import InputError
from renderformer.kernels.backends import check_backend, key_padding
from renderformer.model import shading
from renderformer.model.encoder import (
    Encoded,
    TriangleTransformer,
    log_emission,
    register_positions,
    uniform_texture_weight,
)
from renderformer.model.encodings import nerf_encoding
from renderformer.model.layers import TriangleLayer, make_norm
from renderformer.model.view import ViewTransformer, ray_directions

__all__ = ["Encoded", "RenderFormer"]

_ELU_ALPHA = 1e-3


class RenderFormer(nn.Module):
    """The whole model. Parameter names are those of the released checkpoints.

    Geometry is in scene units, the scene inside [-0.5, 0.5]^3, Z up; cameras are Blender's (+X right, +Y up, looking
    along -Z). Source: spec/model.md.
    """

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
        self.texture_encoder = nn.Linear(config.texture_channels * config.texture_encode_patch_size**2, width)
        self.texture_encoder_norm = make_norm(config.texture_encoder_norm_type, width)
        if config.ray_features != "none":
            self.tri_light_encoder = nn.Linear(shading.TRIANGLE_CHANNELS, width)
            self.tri_light_encoder_norm = make_norm(config.norm_type, width)
        self.transformer = TriangleTransformer(config)
        self.view_transformer = ViewTransformer(config)

    @classmethod
    def from_pretrained(
        cls, source: str | os.PathLike[str] | None = None, *, revision: str | None = None, offline: bool = False
    ) -> RenderFormer:
        """See `renderformer.checkpoints.load_model`."""
        from renderformer.checkpoints import load_model

        return load_model(source, revision=revision, offline=offline)

    def save_pretrained(self, folder: str | os.PathLike[str], **kwargs: Any) -> None:
        """See `renderformer.checkpoints.save_model`."""
        from renderformer.checkpoints import save_model

        save_model(self, folder, **kwargs)

    @property
    def device(self) -> torch.device:
        return self.tri_token.device

    def set_attention_backend(self, backend: str) -> None:
        """Choose what `renderformer.kernels.attention` runs in the triangle stage: "auto", "sdpa" or "sage".

        The view stage is always exact (SDPA); it runs in float32.

        Raises:
            ValueError: an unknown name.
        """
        check_backend(backend)
        for layer in self.transformer.layers:
            assert isinstance(layer, TriangleLayer)
            layer.multihead_attn.backend = backend

    def set_recompute(self, on: bool) -> None:
        """Whether training makes the layers' activations again in the backward pass instead of keeping them (gradient
        checkpointing): less memory for a third more time."""
        self.transformer.recompute = self.view_transformer.transformer.recompute = on

    def encode(
        self,
        triangles: Tensor,
        texture: Tensor,
        mask: Tensor,
        vn: Tensor,
        *,
        patches: Tensor | None = None,
        patch_index: Tensor | None = None,
        triangle_light: Tensor | None = None,
        colours: int = 3,
    ) -> Encoded:
        """The view-independent stage. Changes none of its inputs.

        Args:
            triangles: (B, N, 3, 3) vertex positions.
            texture: (B, N, C, P, P) patches (any size when P is 1: their [0, 0] entry counts); or (B, N, C) rows of
                uniform materials, for any P. Emission, the last three channels, is linear radiance.
            mask: (B, N) bool, True for a real triangle. What padding holds does not matter.
            vn: (B, N, 3, 3) unit vertex normals.
            patches: (K, C, P, P) patches of the triangles whose material varies, beside rows in `texture`.
            patch_index: (B, N) integers, which patch a triangle has; -1 for the row.
            triangle_light: (B, N, 2, 3) direct light on front and back (`RayCaster.triangle_light`); required by a
                model with `ray_features`, and by no other. Such a model takes material rows.
            colours: how many of the colour channels, from the first, such a model draws.

        Raises:
            InputError: patches of another size than the model's.
        """
        mask = mask.bool()
        # Padding may hold anything, even NaN, which would survive a product with a weight of zero.
        triangles = triangles.float().masked_fill(~mask[..., None, None], 0.0)
        vn = vn.float().masked_fill(~mask[..., None, None], 0.0)
        level_B = None
        token_BND: Tensor = self.tri_token
        if self.config.ray_features != "none":
            assert triangle_light is not None, "this model needs triangle_light"
            assert texture.ndim == 3, "this model takes material rows"
            # From here on, B counts one monochrome scene per colour channel.
            triangles, mask, vn = (x.repeat_interleave(colours, dim=0) for x in (triangles, mask, vn))
            light_BN2 = triangle_light.float()[..., :colours].movedim(-1, 1).flatten(0, 1)
            texture = shading.monochrome_rows(texture.float(), colours)
            level_B = shading.light_level(triangles, light_BN2, mask, texture[..., -1])
            texture = torch.cat([texture[..., :-3], shading.relative(texture[..., -3:], level_B)], dim=-1)
            inputs_BNC = shading.triangle_inputs(triangles, light_BN2, level_B)
            token_BND = token_BND + self.tri_light_encoder_norm(self.tri_light_encoder(inputs_BNC))
        token_BND = token_BND + self._texture_tokens(texture, patches, patch_index)
        if self.config.use_vn_encoder:
            encoding = nerf_encoding(vn.flatten(2), self.config.vn_pe_num_freqs)
            token_BND = token_BND + self.vn_encoder_norm(self.vn_encoding_proj(encoding))
        if self.config.pe_type == "nerf":
            encoding = nerf_encoding(triangles.flatten(2), self.config.vertex_pe_num_freqs)
            token_BND = token_BND + self.tri_encoding_norm(self.tri_encoding_proj(encoding))
        token_BND = token_BND.masked_fill(~mask[..., None], 0.0)

        batch, registers = triangles.shape[0], self.config.num_register_tokens
        x_BTD = torch.cat([self.reg_tokens.expand(batch, -1, -1), token_BND], dim=1)
        positions_BR9 = register_positions(triangles, mask)[:, None].expand(-1, registers, -1)
        positions_BT9 = torch.cat([positions_BR9, triangles.flatten(2)], dim=1)
        mask_BT = F.pad(mask, (registers, 0), value=True)
        # The only wait for the GPU in this stage.
        key_mask_BT, key_lengths_B = key_padding(mask_BT)
        tokens_BTD = self.transformer(x_BTD, positions_BT9, key_mask_BT, key_lengths_B).float()
        return Encoded(tokens_BTD, positions_BT9, mask_BT, level_B, colours)

    def _texture_tokens(self, texture: Tensor, patches: Tensor | None, patch_index: Tensor | None) -> Tensor:
        encode, patch = self.texture_encoder, self.config.texture_encode_patch_size
        texture = texture.float()
        if patch == 1 and texture.ndim == 5:
            texture = texture[..., 0, 0]
        for given in (texture if texture.ndim == 5 else None, patches):
            if given is not None and tuple(given.shape[-2:]) != (patch, patch):
                raise InputError(
                    "", f"texture patches are {tuple(given.shape[-2:])}, this model takes {(patch, patch)}"
                )
        if not self.config.use_ldr:
            texture = log_emission(texture, channel_dim=2)
        if texture.ndim == 5:
            return self.texture_encoder_norm(encode(texture.flatten(2)))
        hidden_BND = F.linear(texture, uniform_texture_weight(encode.weight, patch), encode.bias)
        if patches is not None and patch_index is not None:
            patches = patches.float() if self.config.use_ldr else log_emission(patches.float(), channel_dim=1)
            own_KD = encode(patches.flatten(1)).to(hidden_BND.dtype)
            own_BND = own_KD[patch_index.clamp(min=0)]
            hidden_BND = torch.where(patch_index[..., None] >= 0, own_BND, hidden_BND)
        return self.texture_encoder_norm(hidden_BND)

    def view(
        self, encoded: Encoded, c2w: Tensor, fov: Tensor, height: int, width: int, *, pixels: Tensor | None = None
    ) -> Tensor:
        """The view-dependent stage.

        Any size is drawn on the covering grid of patches (of windows, where the model has them) and cropped.

        Args:
            encoded: what `encode` returned for B scenes.
            c2w: (B, V, 4, 4) camera to world.
            fov: (B, V, 1) or (B, V) vertical field of view, degrees.
            height, width: the picture in pixels.
            pixels: (B, V, H, W, 29) feature images (`RayCaster.features`), H x W the covering grid; required by a
                model with `ray_features`, and by no other.

        Returns:
            (B, V, height, width, 3), linear HDR radiance; 4 channels when the model draws alpha; LDR when `use_ldr`;
            as many as `encode` was given `colours` in a model with `ray_features`.
        """
        batch, views = c2w.shape[:2]
        if encoded.light_level is not None:
            c2w, fov = (x.repeat_interleave(encoded.colours, dim=0) for x in (c2w, fov))
        c2w_M44 = c2w.float().flatten(0, 1)
        positions_MT9 = encoded.positions_world.repeat_interleave(views, dim=0)
        if self.config.turn_to_cam_coord:
            positions_MT9 = to_camera_space(positions_MT9, c2w_M44)
            c2w_M44 = torch.eye(4, device=c2w.device).expand_as(c2w_M44)
        step = self.config.size_multiple
        fov_M = fov.float().reshape(-1)
        if pixels is not None and encoded.light_level is not None:
            pixels_MhwC = shading.monochrome_pixels(pixels, encoded.colours).float()
            level_M = encoded.light_level.repeat_interleave(views)
            factor = shading.coarsening(height, width)
            coarse_MhwC = shading.coarser(pixels_MhwC, factor, step)
            size = height / factor, width / factor
            rays_Mhw3 = ray_directions(c2w_M44, fov_M, size, (coarse_MhwC.shape[1], coarse_MhwC.shape[2]))
            known = coarse_MhwC, shading.pixel_inputs(coarse_MhwC, level_M)
            predicted = self.view_transformer.shading(rays_Mhw3, encoded.tokens, positions_MT9, encoded.mask, *known)
            predicted = shading.finer(predicted, coarse_MhwC, pixels_MhwC, factor, encoded.colours, views)
            picture_Mhw = shading.shade(pixels_MhwC, level_M, predicted)[:, :height, :width]
            return picture_Mhw.unflatten(0, (batch, encoded.colours, views)).movedim(1, -1)
        assert self.config.ray_features == "none", "this model needs pixels"
        covering = -(-height // step) * step, -(-width // step) * step
        rays_Mhw3 = ray_directions(c2w_M44, fov_M, (height, width), covering)
        raw = self.view_transformer(rays_Mhw3, c2w_M44[:, :3, 3], encoded.tokens, positions_MT9, encoded.mask)
        picture = F.elu(raw.float()[..., :height, :width], alpha=_ELU_ALPHA)
        if not self.config.use_ldr:
            picture = 10.0**picture - 1.0
        return picture.permute(0, 2, 3, 1).unflatten(0, (batch, views))

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
        """`encode` and `view` in one; shapes as there."""
        return self.view(self.encode(triangles, texture, mask, vn), c2w, fov, height, width)


def to_camera_space(positions_MT9: Tensor, c2w_M44: Tensor) -> Tensor:
    """Three world points per token to the space of each view's camera."""
    w2c_M44 = torch.linalg.inv(c2w_M44)
    points = positions_MT9.unflatten(-1, (3, 3))
    return (torch.einsum("mij,mtkj->mtki", w2c_M44[:, :3, :3], points) + w2c_M44[:, None, None, :3, 3]).flatten(2)
