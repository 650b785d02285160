"""The losses: distances of pictures to their references, in curves for radiance."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from renderformer.evaluation.measurement import predict
from renderformer.model import Model
from renderformer.training.dataset import Batch


def tone(radiance: Tensor) -> Tensor:
    """A curve of radiance: the display's gamma below 1, logarithmic above, with a finite slope at 0."""
    low = (radiance.clamp(0, 1) + 0.01) ** (1 / 2.2)
    return low + torch.log1p((radiance - 1).clamp_min(0)) / 4 + (radiance.clamp(max=0)) * 4


def tone_loss(picture: Tensor, reference: Tensor) -> Tensor:
    """Charbonnier distance of tone-mapped pictures: squared if small, as in PSNR, linear at outliers."""
    difference = tone(picture) - tone(reference)
    return (torch.sqrt(difference.square() + 0.03**2) - 0.03).mean() * 10


def log_loss(picture: Tensor, reference: Tensor) -> Tensor:
    """Mean absolute difference of log(x + 1), as for the V1 models, without their LPIPS term (arXiv 2505.21925)."""
    # A V1 model's output goes down to -0.0023.
    return F.l1_loss(torch.log1p(picture), torch.log1p(reference))


def relative_loss(picture: Tensor, reference: Tensor) -> Tensor:
    """Squared difference over the squared picture, which has no gradient (Lehtinen et al. 2018, Noise2Noise)."""
    return ((picture - reference) / (picture.detach().abs() + 0.1)).square().mean()


def gradient_loss(picture: Tensor, reference: Tensor) -> Tensor:
    """`tone_loss` plus the mean absolute error of the differences between neighbouring pixels."""
    x, y = tone(picture), tone(reference)
    edges = [F.l1_loss(x.diff(dim=axis), y.diff(dim=axis)) for axis in (2, 3)]
    return tone_loss(picture, reference) + 2 * (edges[0] + edges[1])


LOSSES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "tone": tone_loss,
    "log": log_loss,
    "relative": relative_loss,
    "gradient": gradient_loss,
}


class Objective(nn.Module):
    """The loss of a model on a batch, as a module that accelerate can wrap.

    Args:
        loss: a key of `LOSSES`.
        one_channel: draw the first colour channel only, with a model of separate channels.
    """

    def __init__(self, model: Model, loss: str, one_channel: bool = False) -> None:
        super().__init__()
        self.model: Model = model
        self.one_channel = one_channel
        self.loss = LOSSES[loss]

    def forward(self, batch: Batch) -> Tensor:
        if self.one_channel:
            batch = batch.first_channel()
        # A model with alpha draws it as a fourth channel.
        picture = predict(self.model, batch)[..., :3].float()
        return self.loss(picture, batch.hdr.clamp(0, 1) if self.model.config.use_ldr else batch.hdr)
