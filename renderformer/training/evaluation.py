"""How well a model draws scenes that it was not trained on, beside what ray casting gives without it.

Shapes: V views of all scenes together.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from renderformer.model import RenderFormer
from renderformer.training.dataset import Batch, Example, collate
from renderformer.training.metrics import best_unlearned, psnr, ssim, unlearned

# The best constant ambient light over the held-out set, in steps of 0.05 (docs/training.md).
AMBIENT = 0.1
Scores = dict[str, npt.NDArray[np.float64]]


def predict(model: RenderFormer, batch: Batch, colours: int = 3) -> Tensor:
    """(B, V, h, w, 3) pictures of a batch; of a model with ray features, as many of the colour channels as wanted."""
    extension = model.config.ray_features != "none"
    encoded = model.encode(
        batch.triangles,
        batch.materials,
        batch.mask,
        batch.normals,
        triangle_light=batch.triangle_light if extension else None,
        colours=colours,
    )
    height, width = batch.hdr.shape[2:4]
    return model.view(encoded, batch.c2w, batch.fov, height, width, pixels=batch.pixels if extension else None)


@torch.inference_mode()
def evaluate(
    model: RenderFormer, data: Sequence[Example], progress: Callable[[str, int, int], None] | None = None
) -> Scores:
    """Scores of every view.

    Returns:
        (V,) arrays: `psnr` (dB) and `ssim` of the model; `ambient` and `ambient_ssim`, of ray casting plus a constant
        ambient light; `best_unlearned` (dB), of ray casting plus the ambient light that suits each view best, which
        only somebody who has the reference can choose.
    """
    scores: dict[str, list[Tensor]] = {k: [] for k in ("psnr", "ssim", "ambient", "ambient_ssim", "best_unlearned")}
    for i, example in enumerate(data):
        batch = collate([example]).to(model.device)
        picture, reference = predict(model, batch)[0].float(), batch.hdr[0]
        plain = unlearned(batch.pixels[0], AMBIENT)
        scores["psnr"].append(psnr(picture, reference))
        scores["ssim"].append(ssim(picture, reference))
        scores["ambient"].append(psnr(plain, reference))
        scores["ambient_ssim"].append(ssim(plain, reference))
        scores["best_unlearned"].append(best_unlearned(batch.pixels[0], reference))
        if progress is not None:
            progress("evaluate", i + 1, len(data))
    return {key: torch.cat(values).double().numpy() for key, values in scores.items()}
