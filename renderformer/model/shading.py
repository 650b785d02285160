"""The extension of the paper's model: a transformer for indirect light on top of ray casting (docs/embedded-model.md).

Ray casting (data/rays) gives every pixel its exact primary hit and direct light, and every triangle its direct light.
The transformer predicts the indirect light. A coloured scene is encoded and drawn as one monochrome scene per colour
channel (`renderformer.model.monochrome`).

Shape suffixes: B scenes, C colour channels, S = B C monochrome scenes, N triangles (padded), R registers,
T = R + N tokens, D width, V views, M = S V monochrome images, h x w pixels, p = patch size, gh x gw patches.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from renderformer.config import ShadingConfig
from renderformer.data.arrays import Float32Array
from renderformer.data.notes import Routine
from renderformer.data.rays.channels import MONOCHROME
from renderformer.data.scene import EMISSION
from renderformer.kernels.backends import key_padding
from renderformer.model.encodings import (
    log_emission,
    nerf_encoding,
    ray_directions,
    to_camera_space,
    to_patches,
    with_registers,
    zero_padding,
)
from renderformer.model.layers import BeforeLayer, Network, TriangleTransformer, ViewDecoder, make_norm
from renderformer.model.monochrome import (
    NETWORK_CHANNELS,
    TRIANGLE_CHANNELS,
    hit_positions,
    light_level,
    monochrome_pixels,
    monochrome_rows,
    pixel_inputs,
    plane,
    relative,
    triangle_inputs,
)
from renderformer.model.protocol import Encoded, Prepared, Step
from renderformer.model.resampling import coarsening, coarser, finer

if TYPE_CHECKING:
    from renderformer.data.camera import Camera
    from renderformer.data.rays.raycast import RayCaster
    from renderformer.data.scene import Scene


@dataclass(frozen=True)
class LitScenes(Encoded):
    """S = B C monochrome scenes, the colour channels of each scene side by side.

    Attributes:
        light_level: (S,) mean direct light, the unit of radiance in the network.
        colours: C.
    """

    light_level: Tensor
    colours: int


class ShadingModel(Network):
    """The extension. Parameter names are those of the embedded model's file; frames and units as in `RenderFormer`."""

    scene_inputs: tuple[str, ...] = ("triangle_light",)
    view_inputs: tuple[str, ...] = ("pixels",)
    separate_channels = True

    def __init__(self, config: ShadingConfig) -> None:
        super().__init__()
        width = config.latent_dim
        self.config = config
        self.tri_token = nn.Parameter(torch.randn(1, 1, width) * 0.02)
        self.reg_tokens = nn.Parameter(torch.randn(1, config.num_register_tokens, width) * 0.02)
        if config.use_vn_encoder:
            self.vn_encoding_proj = nn.Linear(9 * (1 + 2 * config.vn_pe_num_freqs), width)
            self.vn_encoder_norm = make_norm(config.vn_encoder_norm_type, width)
        self.texture_encoder = nn.Linear(config.file_keys["texture_channels"], width)
        self.texture_encoder_norm = make_norm(config.texture_encoder_norm_type, width)
        self.tri_light_encoder = nn.Linear(TRIANGLE_CHANNELS, width)
        self.tri_light_encoder_norm = make_norm(config.norm_type, width)
        self.transformer = TriangleTransformer(config)
        self.view_transformer = ShadingView(config)

    def encode(
        self,
        triangles: Tensor,
        texture: Tensor,
        mask: Tensor,
        vn: Tensor,
        *,
        triangle_light: Tensor,
        before_layer: BeforeLayer | None = None,
    ) -> LitScenes:
        """The view-independent stage. Changes none of its inputs.

        Args:
            triangles: (B, N, 3, 3) vertex positions.
            texture: (B, N, 13) material rows. Emission, the last three channels, is linear radiance.
            mask: (B, N) bool, True for a real triangle. Padding may hold any values.
            vn: (B, N, 3, 3) unit vertex normals.
            triangle_light: (B, N, 2, C) direct light on front and back (`RayCaster.triangle_light`), in the channels to
                draw.
            before_layer: called before each layer; an exception from it stops the stage.
        """
        colours = triangle_light.shape[-1]
        mask_SN = mask.bool().repeat_interleave(colours, dim=0)
        triangles_SN33, vn_SN33 = (
            zero_padding(x.float().repeat_interleave(colours, dim=0), mask_SN) for x in (triangles, vn)
        )
        light_SN2 = triangle_light.float().movedim(-1, 1).flatten(0, 1)
        rows_SNC = monochrome_rows(texture.float(), colours)
        level_S = light_level(triangles_SN33, light_SN2, mask_SN, rows_SNC[..., -1])
        rows_SNC[..., EMISSION] = relative(rows_SNC[..., EMISSION], level_S)

        inputs_SNC = triangle_inputs(triangles_SN33, light_SN2, level_S)
        token_SND = self.tri_token + self.tri_light_encoder_norm(self.tri_light_encoder(inputs_SNC))
        material_SND = self.texture_encoder(log_emission(rows_SNC, channel_dim=2))
        token_SND = token_SND + self.texture_encoder_norm(material_SND)
        if self.config.use_vn_encoder:
            encoding = nerf_encoding(vn_SN33.flatten(2), self.config.vn_pe_num_freqs)
            token_SND = token_SND + self.vn_encoder_norm(self.vn_encoding_proj(encoding))
        token_SND = zero_padding(token_SND, mask_SN)

        x_STD, positions_ST9, mask_ST = with_registers(self.reg_tokens, token_SND, triangles_SN33, mask_SN)
        # This call alone waits for the GPU, so the transformer itself can be compiled.
        key_mask_ST, key_lengths_S = key_padding(mask_ST)
        tokens_STD = self.transformer(x_STD, positions_ST9, key_mask_ST, key_lengths_S, before_layer).float()
        return LitScenes(tokens_STD, positions_ST9, mask_ST, level_S, colours)

    def view(
        self,
        encoded: LitScenes,
        c2w: Tensor,
        fov: Tensor,
        height: int,
        width: int,
        *,
        pixels: Tensor,
        before_layer: BeforeLayer | None = None,
    ) -> Tensor:
        """The view-dependent stage.

        Args:
            encoded: B scenes.
            c2w: (B, V, 4, 4) camera to world.
            fov: (B, V, 1) or (B, V) vertical field of view, degrees.
            height, width: of the picture, pixels.
            pixels: (B, V, H, W, 35) feature images (`RayCaster.features`), H x W the next multiples of
                `config.size_multiple`.
            before_layer: as in `encode`.

        Returns:
            (B, V, height, width, C), linear HDR radiance.
        """
        (batch, views), colours = c2w.shape[:2], encoded.colours
        c2w_M44 = c2w.float().repeat_interleave(colours, dim=0).flatten(0, 1)
        fov_M = fov.float().repeat_interleave(colours, dim=0).reshape(-1)
        positions_MT9 = to_camera_space(encoded.positions_world.repeat_interleave(views, dim=0), c2w_M44)
        level_M = encoded.light_level.repeat_interleave(views)
        pixels_MhwC = monochrome_pixels(pixels, colours).float()

        factor = coarsening(height, width)
        coarse_MhwC = coarser(pixels_MhwC, factor, self.config.size_multiple)
        padded = coarse_MhwC.shape[1], coarse_MhwC.shape[2]
        camera_space_M44 = torch.eye(4, device=c2w.device).expand_as(c2w_M44)
        rays_Mhw3 = ray_directions(camera_space_M44, fov_M, (height / factor, width / factor), padded)
        predicted = self.view_transformer(
            rays_Mhw3,
            encoded.tokens,
            positions_MT9,
            encoded.mask,
            coarse_MhwC,
            pixel_inputs(coarse_MhwC, level_M),
            before_layer,
        )
        predicted = finer(predicted, coarse_MhwC, pixels_MhwC, factor, colours, views)
        picture_Mhw = shade(pixels_MhwC, level_M, predicted)[:, :height, :width]
        return picture_Mhw.unflatten(0, (batch, colours, views)).movedim(1, -1)

    def prepare(self, scene: Scene, step: Step | None = None) -> Prepared:
        """See `renderformer.model.protocol.Model`. Above `token_triangles` triangles, the tokens are those of a
        simplified copy; rays hit every triangle."""
        from renderformer.data.rays.tokens import lit_tokens

        caster, tokens, light = lit_tokens(scene, self.config.token_triangles, step)
        notes = caster.notes
        if tokens is not scene:
            line = f"rays hit all {len(scene):,} triangles, a simplified copy of {len(tokens):,} lights the scene"
            notes = (Routine(line), *notes)
        inputs = {
            "triangles": tokens.triangles[None],
            "texture": tokens.materials[None],
            "mask": np.ones((1, len(tokens)), bool),
            "vn": tokens.normals[None],
            "triangle_light": light[None],
        }
        return Prepared(inputs, caster, notes)

    def look(
        self, caster: RayCaster | None, camera: Camera, width: int, height: int, step: Step | None = None
    ) -> dict[str, Float32Array]:
        """See `renderformer.model.protocol.Model`: the feature image."""
        assert caster is not None
        return {"pixels": caster.features(camera, width, height, cover=self.config.size_multiple, progress=step)}

    def bytes_per_view(self, width: int, height: int) -> float:
        """See `renderformer.model.protocol.Model`."""
        # Three monochrome pictures and their feature images: 750 numbers per pixel of the network, and 205 per pixel of
        # an upsampled picture, measured on a CPU at 512 x 512.
        ratio = coarsening(height, width) ** 2
        channels = 205 + 750 / ratio if ratio > 1 else 750.0
        tokens = width * height // ratio / self.config.patch_size**2 * self.config.view_transformer_ffn_hidden_dim
        return 4 * (width * height * channels + 3 * tokens)


class ShadingView(nn.Module):
    """Rays and their hits become image tokens, attend to the triangle tokens, and are decoded to indirect light."""

    def __init__(self, config: ShadingConfig) -> None:
        super().__init__()
        width, patch = config.view_transformer_latent_dim, config.patch_size
        self.config = config
        self.ray_map_patch_token = nn.Parameter(torch.randn(1, 1, width) * 0.02)
        self.ray_map_encoder = nn.Linear(3 * (1 + 2 * config.vdir_num_freqs) * patch**2, width)
        self.ray_map_encoder_norm = make_norm(config.norm_type, width)
        self.transformer = ViewDecoder(config)
        self.ray_feature_encoder = nn.Linear(NETWORK_CHANNELS * patch**2, width)
        self.ray_feature_encoder_norm = make_norm(config.norm_type, width)
        self.out_shading = ShadingHead(width, patch)

    def forward(
        self,
        rays_Mhw3: Tensor,
        tokens_STD: Tensor,
        positions_MT9: Tensor,
        mask_ST: Tensor,
        pixels_MhwC: Tensor,
        inputs_MChw: Tensor,
        before_layer: BeforeLayer | None = None,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Predict the indirect light of M = S V monochrome images.

        Args:
            rays_Mhw3: unit directions, camera space.
            tokens_STD, mask_ST: of the encoded scenes.
            positions_MT9: vertices of the triangles, camera space.
            pixels_MhwC: monochrome feature images; inputs_MChw: `pixel_inputs` of them.

        Returns:
            Irradiance, gloss and gate, see `ShadingHead.forward`.
        """
        patch = self.config.patch_size
        grid = rays_Mhw3.shape[1] // patch, rays_Mhw3.shape[2] // patch
        rays = to_patches(nerf_encoding(rays_Mhw3, self.config.vdir_num_freqs), patch)
        hits = to_patches(inputs_MChw.movedim(1, -1), patch)
        image_tokens = self.ray_map_patch_token + self.ray_map_encoder_norm(self.ray_map_encoder(rays))
        image_tokens = image_tokens + self.ray_feature_encoder_norm(self.ray_feature_encoder(hits))
        ray_positions = hit_positions(pixels_MhwC, patch)
        features = self.transformer(image_tokens, tokens_STD, grid, ray_positions, positions_MT9, mask_ST, before_layer)
        return self.out_shading(features[-1].transpose(1, 2).unflatten(2, grid), inputs_MChw)


class ShadingHead(nn.Module):
    """Decode image tokens to indirect irradiance and gloss at full resolution.

    The tokens are interpolated to pixels, which hides the patches. There they scale and shift the features that a small
    network makes of the pixel's inputs, which keeps edges, normals and shadows sharp. In equal time it trained better
    than a convolutional decoder, a matrix per patch and DPT (docs/training.md).
    """

    HIDDEN = 48

    def __init__(self, width: int, patch_size: int) -> None:
        super().__init__()
        self.patch_size = patch_size
        self.project = nn.Conv2d(width, 2 * self.HIDDEN, 3, padding=1)
        self.own = nn.Conv2d(NETWORK_CHANNELS, self.HIDDEN, 1)
        self.middle = nn.Conv2d(self.HIDDEN, self.HIDDEN, 1)
        self.out = nn.Conv2d(self.HIDDEN, 3, 1)
        # Start from a plain ambient light: no pattern, no change of the reflection.
        nn.init.normal_(self.out.weight, std=1e-3)
        assert self.out.bias is not None
        with torch.no_grad():
            self.out.bias.copy_(torch.tensor([-1.5, -3.0, 0.0]))

    def forward(self, tokens: Tensor, inputs: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Tokens (M, D, gh, gw) and network inputs (M, 14, h, w) -> irradiance, gloss (relative to the light level) and
        the gate of the reflection, each (M, h, w)."""
        modulation = F.interpolate(self.project(tokens), scale_factor=self.patch_size, mode="bilinear")
        shift, gain = modulation.chunk(2, dim=1)
        x = F.silu(shift + (1 + gain) * self.own(inputs.to(modulation.dtype)))
        irradiance, gloss, gate = self.out(F.silu(self.middle(x))).float().unbind(1)
        return F.softplus(irradiance), F.softplus(gloss), 2 * torch.sigmoid(gate)


def shade(pixels_MhwC: Tensor, level_M: Tensor, predicted: tuple[Tensor, Tensor, Tensor]) -> Tensor:
    """The monochrome picture (M, h, w), linear radiance: ray casting plus the predicted indirect light."""
    irradiance, gloss, gate = predicted
    indirect = plane(pixels_MhwC, MONOCHROME.diffuse) * irradiance + plane(pixels_MhwC, MONOCHROME.specular) * gloss
    cast = plane(pixels_MhwC, MONOCHROME.emission) + plane(pixels_MhwC, MONOCHROME.direct)
    cast = cast + plane(pixels_MhwC, MONOCHROME.highlight) + gate * plane(pixels_MhwC, MONOCHROME.reflection)
    return cast + level_M[:, None, None] * indirect
