"""The extension of the paper's model: a transformer that corrects a picture lit by the light cache.

Ray casting and the light cache (data/rays) give the first answer: a feature image whose parts sum to a picture.
Clusters of surfels are the tokens of the triangle stage; they carry their cached light and exchange it. Ray-bundle
tokens, one for each patch of the feature image, read them. They modulate a small network of the pixels, which scales
indirect and specular light within bounds (`renderformer.model.correction`). With the weights that training starts from,
the picture is the first answer.

Light is relative to the light level of the scene, in each colour channel by itself, so twice the red light gives
exactly twice the red in the picture.

Shape suffixes: B scenes, N light tokens (padded), R registers, T = R + N tokens, D width, V views, M = B V images,
h x w pixels, p = patch size, gh x gw patches.
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
from renderformer.data.rays.channels import RGB
from renderformer.data.scene import EMISSION
from renderformer.kernels.backends import key_padding
from renderformer.model.correction import CHOICES, corrected
from renderformer.model.encodings import (
    log_emission,
    nerf_encoding,
    register_positions,
    to_camera_space,
    to_patches,
    with_registers,
    zero_padding,
)
from renderformer.model.layers import Network, TriangleTransformer, ViewDecoder, make_norm
from renderformer.model.physical import first_answer
from renderformer.model.protocol import BeforeLayer, Encoded, Prepared, Step

if TYPE_CHECKING:
    from renderformer.data.camera import Camera
    from renderformer.data.rays.raycast import RayCaster
    from renderformer.data.scene import Scene

# Light of a token (`LightTokens`), logarithm of its area, centroid from the middle of the scene.
LIGHT_INPUTS = 15 + 1 + 3
# Radiometric inputs of a pixel: emission, then these with a channel for each colour.
LIGHTS = (RGB.irradiance, RGB.indirect_irradiance, RGB.cached, RGB.highlight, RGB.reflection)
# Mask, normal, position, distance, diffuse, specular, roughness, spread, emission, LIGHTS, the first answer.
PIXEL_INPUTS = 1 + 3 + 3 + 1 + 3 + 1 + 1 + 1 + 1 + 3 * len(LIGHTS) + 3
# Of hits from the camera, to centre their depth.
MIDDLE_DISTANCE = 1.25
# The least divisor of radiance, for a scene without light.
DARK = 1e-8
# Image tokens stand for at least so many patches on the shorter side, and for fewer than twice as many.
PATCHES = 16


@dataclass(frozen=True)
class LitScenes(Encoded):
    """B scenes.

    Attributes:
        light_level: (B, 3) mean light on what does not emit, the unit of radiance in the network.
    """

    light_level: Tensor


class ShadingModel(Network):
    """The extension. Parameter names are those of the embedded model's file; frames and units as in `RenderFormer`."""

    scene_inputs: tuple[str, ...] = ("triangle_light",)
    view_inputs: tuple[str, ...] = ("pixels",)

    def __init__(self, config: ShadingConfig) -> None:
        super().__init__()
        width = config.latent_dim
        self.config = config
        self.tri_token = nn.Parameter(torch.randn(1, 1, width) * 0.02)
        self.reg_tokens = nn.Parameter(torch.randn(1, config.num_register_tokens, width) * 0.02)
        self.vn_encoding_proj = nn.Linear(3 * (1 + 2 * config.vn_pe_num_freqs), width)
        self.vn_encoder_norm = make_norm(config.vn_encoder_norm_type, width)
        self.texture_encoder = nn.Linear(config.file_keys["texture_channels"], width)
        self.texture_encoder_norm = make_norm(config.texture_encoder_norm_type, width)
        self.tri_light_encoder = nn.Linear(LIGHT_INPUTS, width)
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
            triangles: (B, N, 3, 3) vertices of the light tokens (`LightTokens`).
            texture: (B, N, 13) material rows. Emission, the last three channels, is linear radiance.
            mask: (B, N) bool, True for a real token. Padding may hold any values.
            vn: (B, N, 3, 3) unit normals, the first of which counts.
            triangle_light: (B, N, 5, 3) cached light of the tokens.
            before_layer: called before each layer; an exception from it stops the stage.
        """
        mask_BN = mask.bool()
        triangles_BN33, normal_BN3, rows_BNC, light_BN53 = (
            zero_padding(x.float(), mask_BN) for x in (triangles, vn[:, :, 0], texture, triangle_light)
        )
        level_B3 = light_level(triangles_BN33, light_BN53, rows_BNC[..., EMISSION])
        emission = relative(rows_BNC[..., EMISSION], level_B3)
        rows_BNC = torch.cat([rows_BNC[..., : EMISSION.start], emission], dim=-1)

        light_BNK = compress(relative(light_BN53, level_B3)).flatten(2)
        area_BN1 = torch.log10(areas(triangles_BN33) + 1e-8)[..., None] + 3
        from_middle_BN3 = triangles_BN33.mean(2) - register_positions(triangles_BN33, mask_BN)[:, None, :3]
        inputs_BNC = torch.cat([light_BNK, area_BN1, from_middle_BN3], dim=-1)
        token_BND = self.tri_token + self.tri_light_encoder_norm(self.tri_light_encoder(inputs_BNC))
        token_BND = token_BND + self.texture_encoder_norm(self.texture_encoder(log_emission(rows_BNC, channel_dim=2)))
        encoding = nerf_encoding(normal_BN3, self.config.vn_pe_num_freqs)
        token_BND = zero_padding(token_BND + self.vn_encoder_norm(self.vn_encoding_proj(encoding)), mask_BN)

        x_BTD, positions_BT9, mask_BT = with_registers(self.reg_tokens, token_BND, triangles_BN33, mask_BN)
        # This call alone waits for the GPU, so the transformer itself can be compiled.
        key_mask_BT, key_lengths_B = key_padding(mask_BT)
        tokens_BTD = self.transformer(x_BTD, positions_BT9, key_mask_BT, key_lengths_B, before_layer).float()
        return LitScenes(tokens_BTD, positions_BT9, mask_BT, level_B3)

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
            fov: (B, V, 1) or (B, V) vertical field of view, degrees; the feature images hold it already.
            height, width: of the picture, pixels.
            pixels: (B, V, height, width, 39) feature images (`RayCaster.features`).
            before_layer: as in `encode`.

        Returns:
            (B, V, height, width, 3), linear HDR radiance.
        """
        views = c2w.shape[1]
        positions_MT9 = encoded.positions_world.repeat_interleave(views, dim=0)
        positions_MT9 = to_camera_space(positions_MT9, c2w.float().flatten(0, 1))
        level_M3 = encoded.light_level.repeat_interleave(views, dim=0)
        pixels_MhwC = pixels.flatten(0, 1).float()
        said_MChw = self.view_transformer(
            encoded.tokens, positions_MT9, encoded.mask, pixels_MhwC, pixel_inputs(pixels_MhwC, level_M3), before_layer
        )
        return corrected(pixels_MhwC, said_MChw).unflatten(0, c2w.shape[:2])

    def prepare(self, scene: Scene, step: Step | None = None) -> Prepared:
        """See `renderformer.model.protocol.Model`: solves the light cache, whose surfels make the tokens."""
        from renderformer.data.rays.raycast import RayCaster
        from renderformer.data.rays.tokens import LightTokens

        caster = RayCaster.lit(scene, step)
        tokens = LightTokens.of(caster.solved, self.config.light_tokens)
        inputs = {
            "triangles": tokens.triangles[None],
            "texture": tokens.materials[None],
            "mask": np.ones((1, len(tokens.triangles)), bool),
            "vn": tokens.vertex_normals[None],
            "triangle_light": tokens.light[None],
        }
        return Prepared(inputs, caster, caster.notes)

    def look(
        self, caster: RayCaster | None, camera: Camera, width: int, height: int, step: Step | None = None
    ) -> dict[str, Float32Array]:
        """See `renderformer.model.protocol.Model`: the feature image."""
        assert caster is not None
        return {"pixels": caster.features(camera, width, height, progress=step)}

    def bytes_per_view(self, width: int, height: int) -> float:
        """See `renderformer.model.protocol.Model`."""
        # Feature image, inputs, two layers of the pixels' network, and a few pictures.
        return 4.0 * width * height * (2 * RGB.total + PIXEL_INPUTS + 3 * PixelNetwork.WIDTH + 2 * CHOICES)


class ShadingView(nn.Module):
    """Patches of the feature image become image tokens, attend to the light tokens, and guide the pixels' network."""

    def __init__(self, config: ShadingConfig) -> None:
        super().__init__()
        width, patch = config.view_transformer_latent_dim, config.patch_size
        self.config = config
        self.ray_map_patch_token = nn.Parameter(torch.randn(1, 1, width) * 0.02)
        self.ray_feature_encoder = nn.Linear(PIXEL_INPUTS * patch**2, width)
        self.ray_feature_encoder_norm = make_norm(config.norm_type, width)
        self.transformer = ViewDecoder(config)
        self.out_shading = PixelNetwork(width)

    def forward(
        self,
        tokens_BTD: Tensor,
        positions_MT9: Tensor,
        mask_BT: Tensor,
        pixels_MhwC: Tensor,
        inputs_MChw: Tensor,
        before_layer: BeforeLayer | None = None,
    ) -> Tensor:
        """What to correct in M images, (M, CHOICES, h, w).

        Args:
            tokens_BTD, mask_BT: of the encoded scenes.
            positions_MT9: vertices of the tokens, camera space.
            pixels_MhwC: feature images; inputs_MChw: `pixel_inputs` of them.
        """
        patch = self.config.patch_size
        height, width = inputs_MChw.shape[2:]
        step = pixels_per_entry(height, width, patch)
        coarse = pooled(inputs_MChw, step, patch)
        grid = coarse.shape[2] // patch, coarse.shape[3] // patch
        hits = to_patches(coarse.movedim(1, -1), patch)
        image_tokens = self.ray_map_patch_token + self.ray_feature_encoder_norm(self.ray_feature_encoder(hits))
        ray_positions = hit_positions(pixels_MhwC, step * patch)
        features = self.transformer(image_tokens, tokens_BTD, grid, ray_positions, positions_MT9, mask_BT, before_layer)
        tokens = features[-1].transpose(1, 2).unflatten(2, grid)
        return self.out_shading(tokens, inputs_MChw, step * patch)


class PixelNetwork(nn.Module):
    """A small convolutional network of the pixels' inputs, which the image tokens scale and shift.

    The tokens are interpolated to pixels, which hides the patches; the inputs keep edges, normals and shadows sharp.
    """

    WIDTH = 32

    def __init__(self, width: int) -> None:
        super().__init__()
        self.project = nn.Conv2d(width, 2 * self.WIDTH, 3, padding=1)
        self.own = nn.Conv2d(PIXEL_INPUTS, self.WIDTH, 3, padding=1)
        self.near = nn.Conv2d(self.WIDTH, self.WIDTH, 3, padding=1)
        self.far = nn.Conv2d(self.WIDTH, self.WIDTH, 3, padding=2, dilation=2)
        self.out = nn.Conv2d(self.WIDTH, CHOICES, 1)
        # Start from the first answer.
        nn.init.normal_(self.out.weight, std=1e-3)
        assert self.out.bias is not None
        nn.init.zeros_(self.out.bias)

    def forward(self, tokens: Tensor, inputs: Tensor, spacing: int) -> Tensor:
        """Tokens (M, D, gh, gw), each for `spacing` pixels on a side, and inputs (M, C, h, w) -> (M, CHOICES, h, w)."""
        modulation = F.interpolate(self.project(tokens), scale_factor=float(spacing), mode="bilinear")
        shift, gain = modulation[..., : inputs.shape[2], : inputs.shape[3]].chunk(2, dim=1)
        x = F.silu(shift + (1 + gain) * self.own(inputs.contiguous(memory_format=torch.channels_last)))
        x = x + F.silu(self.near(x))
        x = x + F.silu(self.far(x))
        return self.out(x).float()


def light_level(triangles_BN33: Tensor, light_BN53: Tensor, emission_BN3: Tensor) -> Tensor:
    """(B, 3) area-weighted mean light on the fronts of the tokens that do not emit."""
    weight_BN1 = (areas(triangles_BN33) * (emission_BN3 <= 0).all(-1))[..., None]
    return (light_BN53[:, :, :2].sum(2) * weight_BN1).sum(1) / weight_BN1.sum(1).clamp_min(1e-12)


def areas(triangles_BN33: Tensor) -> Tensor:
    """(B, N) areas of triangles (B, N, 3, 3)."""
    edges = triangles_BN33[:, :, 1:] - triangles_BN33[:, :, :1]
    return torch.linalg.cross(edges[:, :, 0], edges[:, :, 1]).norm(dim=-1) / 2


def compress(radiance: Tensor) -> Tensor:
    """A logarithmic curve for non-negative radiance with a mean near 1."""
    return torch.log1p(4 * radiance)


def relative(radiance: Tensor, level: Tensor) -> Tensor:
    """Radiance (B, ..., 3) over the light level (B, 3) of its scene; finite in the dark."""
    return radiance / level.clamp_min(DARK).reshape(-1, *[1] * (radiance.ndim - 2), 3)


def pixel_inputs(pixels_MhwC: Tensor, level_M3: Tensor) -> Tensor:
    """Feature images (M, h, w, 39) with their light level (M, 3) -> network inputs (M, PIXEL_INPUTS, h, w)."""
    mask, position = pixels_MhwC[..., RGB.mask], pixels_MhwC[..., RGB.position]
    centred = torch.cat([position[..., :2], position[..., 2:] + MIDDLE_DISTANCE * mask], dim=-1)
    distance = torch.log(position.norm(dim=-1, keepdim=True).clamp_min(0.02)) * mask
    emission, *lights = (compress(relative(pixels_MhwC[..., part], level_M3)) for part in (RGB.emission, *LIGHTS))
    first = compress(relative(first_answer(pixels_MhwC), level_M3))
    parts = [
        mask, pixels_MhwC[..., RGB.normal], centred, distance, pixels_MhwC[..., RGB.diffuse],
        pixels_MhwC[..., RGB.specular].mean(-1, keepdim=True), pixels_MhwC[..., RGB.roughness],
        pixels_MhwC[..., RGB.spread].clamp(max=2), emission.mean(-1, keepdim=True), *lights, first,
    ]  # fmt: skip
    return torch.cat(parts, dim=-1).movedim(-1, 1)


def pixels_per_entry(height: int, width: int, patch: int) -> int:
    """Pixels on a side that one entry of a patch averages: a power of two that leaves `PATCHES` patches, or 1."""
    return 1 << max(0, (min(height, width) // (PATCHES * patch)).bit_length() - 1)


def pooled(images_MChw: Tensor, step: int, patch: int) -> Tensor:
    """Images averaged over squares of `step` pixels, continued by zeros to whole patches."""
    bottom, right = (-size % (step * patch) for size in images_MChw.shape[2:])
    padded = F.pad(images_MChw, (0, right, 0, bottom))
    return F.avg_pool2d(padded, step) if step > 1 else padded


def hit_positions(pixels_MhwC: Tensor, patch: int) -> Tensor:
    """(M, gh * gw, 9) mean camera-space hit of each patch, three times, for RoPE; the camera's centre without a hit."""
    mask, position = (pixels_MhwC[..., part].movedim(-1, 1) for part in (RGB.mask, RGB.position))
    mean = pooled(position * mask, patch, 1) / pooled(mask, patch, 1).clamp_min(1e-6)
    return mean.flatten(2).transpose(1, 2).repeat(1, 1, 3)
