"""Pictures without a network: ray casting and the light cache alone, behind the protocol of the networks.

    picture = emission + diffuse x (direct + indirect irradiance / pi) + highlight + reflection

It is the baseline of every figure of a network on top of it, and it works where no network was trained. It computes
with NumPy arrays or with tensors, whichever it is given.

Shape suffixes: B scenes, V views, h x w pixels.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from renderformer.config import ModelConfig
from renderformer.data.arrays import Float32Array
from renderformer.data.rays.channels import RGB
from renderformer.data.trained_range import ANYWHERE
from renderformer.model.protocol import BeforeLayer, Prepared, Step

if TYPE_CHECKING:
    import torch

    from renderformer.data.camera import Camera
    from renderformer.data.rays.raycast import RayCaster
    from renderformer.data.scene import Scene

# A NumPy array or a tensor.
Pixels = TypeVar("Pixels", bound=Any)
# Rows of a picture that are worked on at once.
ROWS = 8
# Bytes of a pixel at the widest: its feature image, and that of the part that is cast again.
BYTES_PER_PIXEL = 400


class PhysicalModel:
    """Direct light by shadow rays, indirect light from the cache, gathered at what the camera sees. On the CPU.

    Its configuration has no sizes that matter, only a range without limits.
    """

    scene_inputs: tuple[str, ...] = ()
    view_inputs: tuple[str, ...] = ("pixels",)

    def __init__(self) -> None:
        self.config = ModelConfig(trained=ANYWHERE)

    @property
    def device(self) -> torch.device:
        import torch

        return torch.device("cpu")

    def set_attention_backend(self, backend: str) -> None:
        """See `renderformer.model.protocol.Model`; there is no attention."""

    def set_recompute(self, on: bool) -> None:
        """See `renderformer.model.protocol.Model`; nothing is trained."""

    def prepare(self, scene: Scene, step: Step | None = None) -> Prepared:
        """See `renderformer.model.protocol.Model`: solves the light cache."""
        from renderformer.data.rays.raycast import RayCaster

        caster = RayCaster.lit(scene, step)
        return Prepared({"triangles": scene.triangles[None]}, caster, caster.notes)

    def encode(self, triangles: Any, *, before_layer: BeforeLayer | None = None) -> None:
        """Nothing: the light stays with the caster."""

    def look(
        self, caster: RayCaster | None, camera: Camera, width: int, height: int, step: Step | None = None
    ) -> dict[str, Float32Array]:
        """See `renderformer.model.protocol.Model`: the feature image, with indirect light in it."""
        assert caster is not None
        return {"pixels": caster.features(camera, width, height, progress=step)}

    def view(
        self,
        encoded: None,
        c2w: Any,
        fov: Any,
        height: int,
        width: int,
        *,
        pixels: Pixels,
        before_layer: BeforeLayer | None = None,
    ) -> Pixels:
        """(B, V, h, w, 3) linear radiance of feature images `pixels` (B, V, h, w, 39); the cameras are in them."""
        pixels = pixels[..., :height, :width, :]
        return _by_rows(pixels) if isinstance(pixels, np.ndarray) else first_answer(pixels)

    def bytes_per_view(self, width: int, height: int) -> float:
        """See `renderformer.model.protocol.Model`."""
        return BYTES_PER_PIXEL * width * height


def _by_rows(pixels: Pixels) -> Pixels:
    """As `first_answer`, a few rows at once, which fit the caches of the processors."""
    from renderformer.data.rays.raycast import processors

    picture: Any = np.empty((*pixels.shape[:-1], 3), pixels.dtype)

    def answer(top: int) -> None:
        picture[..., top : top + ROWS, :, :] = first_answer(pixels[..., top : top + ROWS, :, :])

    with ThreadPoolExecutor(processors()) as pool:
        list(pool.map(answer, range(0, pixels.shape[-3], ROWS)))
    return picture


def first_answer(pixels: Pixels) -> Pixels:
    """(..., 3) linear radiance of feature images (..., 39)."""
    first, *others = (pixels[..., part] for part in RGB.light)
    return sum(others, start=first)
