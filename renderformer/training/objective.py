"""The losses: distances of pictures to their references, in curves for radiance."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from renderformer.data.rays.channels import RGB
from renderformer.evaluation.measurement import predict
from renderformer.model import Model
from renderformer.model.physical import first_answer
from renderformer.training.dataset import Batch

# A reference brighter than this many times the first answer around it is noise.
FIREFLY = 4.0
# Views with more relative noise than this in their references are not trained on. At 64 samples of Mitsuba, 72 % of 296
# views have less; their mean is 0.3 to 0.8 % too dark, that of views with noise over 0.1 by 10 to 30 %.
NOISY = 0.04
# Difference between the mean radiance of a reference and of the first answer that is put down to that.
LEVEL_ERROR = 0.02
# Squared error of display values (40 dB) below which views count less.
LEAST_ERROR = 1e-4


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


def correction_loss(picture: Tensor, reference: Tensor, first: Tensor, covered: Tensor) -> Tensor:
    """Squared error over that of the first answer, the picture without the network, in the mean over the views: 1 for a
    network that does nothing, so that a view that is nearly right counts as much as a bad one.

    Errors count as a display shows them beside the first answer: linear in the reference, so that its noise does not
    bias the picture (Lehtinen et al. 2018, Noise2Noise). Views whose references are too noisy are left out, and the
    level of the others is that of the first answer where the two differ by `LEVEL_ERROR` at most: cutting off the
    fireflies of a noisy reference takes light away, nearly all of it where light comes through a gap.

    Args:
        picture, reference, first: (B, V, h, w, 3) radiance.
        covered: (B, V, h, w, 1) share of a pixel that surfaces fill; only full ones count, since an environment behind
            them is in the reference alone.
    """
    inside = (covered > 0.999).float()
    useful = (noise(reference, first, inside) < NOISY).float()
    clear = inside * (first.amax(-1, keepdim=True) < 1) * (reference.amax(-1, keepdim=True) < 3)
    level = (first * clear).sum((2, 3, 4)) / (reference * clear).sum((2, 3, 4)).clamp_min(1e-6)
    level = torch.where((level - 1).abs() <= LEVEL_ERROR, level, torch.ones_like(level))
    shown = first.clamp_min(0)
    slope = inside * (1 / 2.2) * (shown + 0.02) ** (1 / 2.2 - 1) / (1 + (shown - 1).clamp_min(0)) ** 1.5
    bright = F.max_pool2d(shown.flatten(0, 1).movedim(-1, 1), 5, 1, 2).movedim(1, -1).unflatten(0, shown.shape[:2])
    exact = torch.minimum(reference * level[..., None, None, None], FIREFLY * bright + 0.25)

    def error(drawn: Tensor) -> Tensor:
        return ((drawn - exact) * slope).square().mean(dim=(2, 3, 4))

    return (useful * error(picture) / (error(first) + LEAST_ERROR)).sum() / useful.sum().clamp_min(1)


def noise(reference: Tensor, first: Tensor, inside: Tensor) -> Tensor:
    """(B, V) median relative difference of a reference (B, V, h, w, 3) from its mean over 5 x 5 pixels, both over the
    first answer, where `inside` (B, V, h, w, 1) is 1."""

    def local(values: Tensor) -> Tensor:
        return F.avg_pool2d(values[..., 0].flatten(0, 1)[:, None], 5, 1, 2).unflatten(0, values.shape[:2])[
            :, :, 0, ..., None
        ]

    ratio = reference.mean(-1, keepdim=True) / first.mean(-1, keepdim=True).clamp_min(1e-3)
    difference = (ratio - local(ratio * inside) / local(inside).clamp_min(1e-3)).abs()
    return difference.masked_fill(inside == 0, torch.nan).flatten(2).nanmedian(dim=2).values.nan_to_num(torch.inf)


LOSSES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "tone": tone_loss,
    "log": log_loss,
    "relative": relative_loss,
    "gradient": gradient_loss,
}


LOSS_NAMES = (*LOSSES, "correction")


class Objective(nn.Module):
    """The loss of a model on a batch, as a module that accelerate can wrap.

    Args:
        loss: one of `LOSS_NAMES`; "correction" needs feature images.
    """

    def __init__(self, model: Model, loss: str) -> None:
        super().__init__()
        self.model: Model = model
        self.loss = loss

    def forward(self, batch: Batch) -> Tensor:
        # A model with alpha draws it as a fourth channel.
        picture = predict(self.model, batch)[..., :3].float()
        if self.loss == "correction":
            return correction_loss(picture, batch.hdr, first_answer(batch.pixels), batch.pixels[..., RGB.mask])
        return LOSSES[self.loss](picture, batch.hdr.clamp(0, 1) if self.model.config.use_ldr else batch.hdr)
