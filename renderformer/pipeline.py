"""The tensor interface of the original `renderformer` package, for scripts that were written for it.

Shape suffixes: B scenes, N triangles (padded), V views, h x w pixels, C colour channels.
"""

from __future__ import annotations

import os

import torch
from torch import Tensor

from renderformer.checkpoints import load_model
from renderformer.config import ModelConfig
from renderformer.data.errors import InputError
from renderformer.model import RenderFormer, ShadingModel

_DTYPES = (torch.float32, torch.float16, torch.bfloat16)


class RenderFormerRenderingPipeline:
    """A V1 model with the methods of the original package. New code uses `renderformer.Renderer`.

    Unlike the original, rendering does not change its inputs.
    """

    def __init__(self, model: RenderFormer | ShadingModel) -> None:
        if not isinstance(model, RenderFormer):
            raise InputError(
                "model",
                f"a {type(model).__name__} needs ray casting, which this interface lacks",
                "use renderformer.Renderer with this model",
            )
        self.model = model

    @classmethod
    def from_pretrained(
        cls, model_id: str | os.PathLike[str] | None = None, *, revision: str | None = None, offline: bool = False
    ) -> RenderFormerRenderingPipeline:
        """Load a folder or a Hub id; arguments and errors as in `renderformer.checkpoints.load_model`."""
        return cls(load_model(model_id, revision=revision, offline=offline))

    @property
    def config(self) -> ModelConfig:
        return self.model.config

    @property
    def device(self) -> torch.device:
        return self.model.device

    def to(self, device: torch.device | str) -> RenderFormerRenderingPipeline:
        """Move the model; returns the pipeline itself."""
        self.model.to(device)
        return self

    def render(
        self,
        triangles: Tensor,
        texture: Tensor,
        mask: Tensor,
        vn: Tensor,
        c2w: Tensor,
        fov: Tensor,
        resolution: int = 512,
        torch_dtype: torch.dtype = torch.float16,
    ) -> Tensor:
        """Render every view of every scene.

        Args:
            triangles: (B, N, 3, 3) vertex positions, scene units, scene inside [-0.5, 0.5]^3, Z up.
            texture: (B, N, 13, P, P), or (B, N, 13) rows of uniform materials; emission is linear radiance.
            mask: (B, N) bool, True for a real triangle.
            vn: (B, N, 3, 3) unit vertex normals.
            c2w: (B, V, 4, 4) camera to world, Blender's convention.
            fov: (B, V, 1) or (B, V) degrees.
            resolution: height and width of the square pictures, any positive number.
            torch_dtype: of the triangle stage, float32, float16 or bfloat16. The view stage is always float32. A CPU
                has no fast float16 and runs it as float32.

        Returns:
            (B, V, resolution, resolution, C) float32 linear HDR on the model's device.

        Raises:
            InputError: a wrong shape, dtype or resolution.
        """
        self._check(triangles, texture, mask, vn, c2w, fov, resolution, torch_dtype)
        device = self.device.type
        exact = torch_dtype == torch.float32 or (torch_dtype == torch.float16 and device == "cpu")
        with torch.no_grad():
            with torch.autocast(device, torch_dtype, enabled=not exact):
                encoded = self.model.encode(triangles, texture, mask, vn)
            with torch.autocast(device, enabled=False):
                return self.model.view(encoded, c2w, fov, resolution, resolution)

    __call__ = render

    def _check(
        self,
        triangles: Tensor,
        texture: Tensor,
        mask: Tensor,
        vn: Tensor,
        c2w: Tensor,
        fov: Tensor,
        resolution: int,
        torch_dtype: torch.dtype,
    ) -> None:
        if torch_dtype not in _DTYPES:
            raise InputError(
                "", f"torch_dtype {torch_dtype} is not supported", f"use one of {', '.join(map(str, _DTYPES))}"
            )
        if isinstance(resolution, bool) or not isinstance(resolution, int) or resolution < 1:
            raise InputError("", f"resolution {resolution!r} must be a positive whole number")
        if triangles.ndim != 4 or c2w.ndim != 4:
            raise InputError(
                "",
                f"triangles {tuple(triangles.shape)} and c2w {tuple(c2w.shape)} must have shapes (B, N, 3, 3) "
                "and (B, V, 4, 4)",
                "add the batch dimension",
            )
        batch, count, views = triangles.shape[0], triangles.shape[1], c2w.shape[1]
        channels, patch = self.config.texture_channels, self.config.texture_encode_patch_size
        patch_shape = texture.shape[3:] if patch == 1 else (patch, patch)
        for name, tensor, shapes in (
            ("triangles", triangles, [(batch, count, 3, 3)]),
            ("texture", texture, [(batch, count, channels, *patch_shape), (batch, count, channels)]),
            ("mask", mask, [(batch, count)]),
            ("vn", vn, [(batch, count, 3, 3)]),
            ("c2w", c2w, [(batch, views, 4, 4)]),
            ("fov", fov, [(batch, views, 1), (batch, views)]),
        ):
            if tuple(tensor.shape) not in shapes:
                raise InputError(
                    "", f"{name} has shape {tuple(tensor.shape)}", f"expected {' or '.join(map(str, shapes))}"
                )
            if tensor.device != self.device:
                raise InputError("", f"{name} is on {tensor.device}, the model on {self.device}", "move one of them")
