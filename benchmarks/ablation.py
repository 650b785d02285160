"""What each part of the embedded model is worth: small models, the same processor time each, one part changed.

    python benchmarks/ablation.py --data datasets/train --held-out datasets/validation

Every arm trains a small model from random weights for the same CPU time of one thread and is measured on scenes that it
was not trained on: PSNR and SSIM of display values, and the gain over the best picture without a network (see
`renderformer.evaluation.metrics`). Rows go to results/ablation.csv, a sheet of pictures of every arm to --sheets.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import torch
from common import report
from torch import Tensor, nn

from renderformer.config import ShadingConfig
from renderformer.data.rays.channels import RGB
from renderformer.data.rays.raycast import RayCaster
from renderformer.data.sets.shards import ShardReader
from renderformer.evaluation.measurement import baselines, predict
from renderformer.evaluation.metrics import psnr, ssim
from renderformer.model import ShadingModel
from renderformer.model.dpt import DPT
from renderformer.model.monochrome import NETWORK_CHANNELS
from renderformer.training.dataset import Example, TrainingSet, augment, collate
from renderformer.training.features import CORNERS, LIGHT, MATERIAL, NORMALS, cast_scene
from renderformer.training.objective import LOSSES
from renderformer.training.samples import write_sheet

TOKENS = 128
MODEL: dict[str, Any] = {
    "latent_dim": 128, "num_layers": 3, "num_heads": 2, "dim_feedforward": 320, "num_register_tokens": 8,
    "vertex_pe_num_freqs": 6, "rope_double_max_freq": True, "texture_encode_patch_size": 1,
    "view_transformer_latent_dim": 128, "view_transformer_ffn_hidden_dim": 320, "view_transformer_n_heads": 2,
    "view_transformer_n_layers": 3, "view_transformer_include_self_attn": False, "patch_size": 8,
    "token_triangles": TOKENS,
}  # fmt: skip
BATCH, VIEWS, RATE, WARMUP = 4, 2, 1.5e-3, 0.06
# Irradiance, gloss and gate before their activations, at the start: an ambient light, the reflection as it is.
START = (-1.5, -3.0, 0.0)
Prediction = tuple[Tensor, Tensor, Tensor]


def activated(raw: Tensor) -> Prediction:
    """Irradiance, gloss and gate (M, h, w) of three channels (M, 3, h, w)."""
    irradiance, gloss, gate = raw.float().unbind(1)
    return nn.functional.softplus(irradiance), nn.functional.softplus(gloss), 2 * torch.sigmoid(gate)


def plain_start(layer: nn.Module, per_pixel: int = 1) -> None:
    """Let a last layer begin with `START` everywhere."""
    nn.init.normal_(layer.weight, std=1e-3)
    with torch.no_grad():
        layer.bias.copy_(torch.tensor(START).repeat_interleave(per_pixel))


class LinearHead(nn.Module):
    """Every token gives the pixels of its patch by one matrix."""

    def __init__(self, width: int, patch_size: int) -> None:
        super().__init__()
        self.out = nn.Linear(width, 3 * patch_size**2)
        self.shuffle = nn.PixelShuffle(patch_size)
        plain_start(self.out, patch_size**2)

    def forward(self, tokens: Tensor, inputs: Tensor) -> Prediction:
        return activated(self.shuffle(self.out(tokens.movedim(1, -1)).movedim(-1, 1)))


class DetailHead(nn.Module):
    """Every token gives some channels of the pixels of its patch by one matrix; a convolution joins them with the
    network inputs and with their neighbours."""

    def __init__(self, width: int, patch_size: int, channels: int = 8, hidden: int = 24) -> None:
        super().__init__()
        self.spread = nn.Linear(width, channels * patch_size**2)
        self.shuffle = nn.PixelShuffle(patch_size)
        self.merge = nn.Conv2d(channels + NETWORK_CHANNELS, hidden, 3, padding=1)
        self.out = nn.Conv2d(hidden, 3, 1)
        plain_start(self.out)

    def forward(self, tokens: Tensor, inputs: Tensor) -> Prediction:
        own = self.shuffle(self.spread(tokens.movedim(1, -1)).movedim(-1, 1))
        return activated(self.out(nn.functional.silu(self.merge(torch.cat([own, inputs.to(own.dtype)], dim=1)))))


class ConvHead(nn.Module):
    """Tokens are brought up by doublings; at each, the averaged network inputs of that resolution join in."""

    def __init__(self, width: int, patch_size: int) -> None:
        super().__init__()
        widths = (96, 64, 48, 32)
        self.patch_size, self.steps = patch_size, patch_size.bit_length() - 1
        self.project = nn.Conv2d(width, widths[0], 3, padding=1)
        self.merge = nn.ModuleList(
            nn.Conv2d(widths[i] + NETWORK_CHANNELS, widths[i + 1], 3, padding=1) for i in range(self.steps)
        )
        last = widths[self.steps]
        self.middle, self.out = nn.Conv2d(last, last, 1), nn.Conv2d(last, 3, 1)
        plain_start(self.out)

    def forward(self, tokens: Tensor, inputs: Tensor) -> Prediction:
        x = nn.functional.silu(self.project(tokens))
        for i, merge in enumerate(self.merge):
            x = nn.functional.interpolate(x, scale_factor=2, mode="bilinear")
            detail = nn.functional.avg_pool2d(inputs, self.patch_size >> (i + 1))
            x = nn.functional.silu(merge(torch.cat([x, detail.to(x.dtype)], dim=1)))
        return activated(self.out(nn.functional.silu(self.middle(x))))


class DPTHead(nn.Module):
    """The paper's decoder over the view layers, without the hits' detail."""

    def __init__(self, model: ShadingModel, width: int, patch_size: int) -> None:
        super().__init__()
        self.out = DPT(width, (32, 48, 64, 96), 48, 3, patch_size)
        self.seen: list[Tensor] = []
        model.view_transformer.transformer.register_forward_hook(lambda _m, _i, out: self._keep(out))
        plain_start(self.out.scratch.output_conv2[-1])

    def _keep(self, out: list[Tensor]) -> None:
        self.seen = list(out)

    def forward(self, tokens: Tensor, inputs: Tensor) -> Prediction:
        # Of three layers the last counts twice.
        levels, self.seen = [*self.seen, self.seen[-1]], []
        return activated(self.out(levels, (tokens.shape[2], tokens.shape[3])))


HEADS: dict[str, Callable[[int, int], nn.Module]] = {
    "linear": LinearHead,
    "detail": DetailHead,
    "conv": ConvHead,
}


@dataclass(frozen=True)
class Arm:
    """One row: what of the features is shown (see `shown`), what of the model and the loss differ from the base, and
    which head: a key of `HEADS`, "dpt", or "smooth", the model's own."""

    part: str
    name: str
    inputs: str = "all"
    model: dict[str, Any] | None = None
    head: str = "conv"
    loss: str = "gradient"
    seed: int = 0


ARMS = [
    Arm("base", "everything, patch 8, 3 layers x 128, conv head, tone-mapped Charbonnier + gradients"),
    Arm("base", "the same, another seed", seed=1),
    Arm("head", "linear", head="linear"),
    Arm("head", "linear, another seed", head="linear", seed=1),
    Arm("head", "linear to 8 channels, one 3 x 3 convolution with the hits", head="detail"),
    Arm("head", "tokens interpolated, two-layer network per pixel with the hits", head="smooth"),
    Arm("head", "DPT", head="dpt"),
    Arm("patch", "4 pixels", model={"patch_size": 4}),
    Arm("patch", "4 pixels, linear head", model={"patch_size": 4}, head="linear"),
    Arm("patch", "4 pixels, linear to 8 channels, one convolution", model={"patch_size": 4}, head="detail"),
    Arm("size", "6 layers x 96", model={
        "num_layers": 6, "view_transformer_n_layers": 6, "latent_dim": 96, "view_transformer_latent_dim": 96,
        "dim_feedforward": 240, "view_transformer_ffn_hidden_dim": 240, "vertex_pe_num_freqs": 4}),
    Arm("size", "2 layers x 192", model={
        "num_layers": 2, "view_transformer_n_layers": 2, "latent_dim": 192, "view_transformer_latent_dim": 192,
        "dim_feedforward": 480, "view_transformer_ffn_hidden_dim": 480}),
    Arm("size", "4 triangle layers, 2 view layers", model={"num_layers": 4, "view_transformer_n_layers": 2}),
    Arm("loss", "tone-mapped Charbonnier", loss="tone"),
    Arm("loss", "L1 of log radiance", loss="log"),
    Arm("loss", "relative squared error", loss="relative"),
    Arm("inputs", "hits only", inputs="hits"),
    Arm("inputs", "hits + analytic direct light", inputs="analytic"),
    Arm("inputs", "hits + traced direct light", inputs="traced"),
    Arm("inputs", "hits + traced direct light + highlights", inputs="highlight"),
]  # fmt: skip


def halved(example: Example) -> Example:
    """The same views at half the resolution, so that more steps fit into the time."""

    def mean(image: np.ndarray) -> np.ndarray:
        views, height, width, channels = image.shape
        return image.astype(np.float32).reshape(views, height // 2, 2, width // 2, 2, channels).mean(axis=(2, 4))

    source = example.pixels.astype(np.float32)
    pixels, weighted = mean(source), mean(source * source[..., RGB.mask])
    # Geometry and roughness are averaged over what is hit, as in the features themselves.
    for channels in (RGB.normal, RGB.position, RGB.roughness):
        pixels[..., channels] = weighted[..., channels] / np.maximum(pixels[..., RGB.mask], 1e-6)
    return replace(example, pixels=pixels.astype(np.float16), hdr=mean(example.hdr).astype(np.float16))


def shown(example: Example, inputs: str) -> Example:
    """What an arm sees of a scene."""
    if inputs == "all":
        return example
    pixels = example.pixels.copy()
    pixels[..., RGB.reflection] = 0
    if inputs != "highlight":
        pixels[..., RGB.highlight] = 0
    light = example.triangle_light
    if inputs == "hits":
        pixels[..., RGB.irradiance] = 0
        pixels[..., RGB.direct] = 0
        # The level stays, which radiance is divided by; where the light falls does not.
        light = np.broadcast_to(light.mean(axis=0), light.shape)
    return replace(example, pixels=pixels, triangle_light=light)


def unshadowed(folder: Path, count: int) -> list[Example]:
    """The first scenes of a folder cast as if nothing stood in the way: analytic direct light, without shadow rays."""
    reader, examples = ShardReader(folder), []
    with patch.object(RayCaster, "visible", lambda _caster, origins, _targets: np.ones(len(origins), bool)):
        for i in range(count):
            stored = reader.scene(i)
            rows, pixels = cast_scene(stored.to_scene(), TOKENS, reader.recipe.resolution, rays=True)
            examples.append(
                Example(
                    rows[:, CORNERS].reshape(-1, 3, 3), rows[:, NORMALS].reshape(-1, 3, 3), rows[:, MATERIAL],
                    rows[:, LIGHT].reshape(-1, 2, 3), stored.c2w, stored.fov, pixels, stored.hdr,
                )
            )  # fmt: skip
    return examples


def build(arm: Arm) -> ShadingModel:
    """The arm's model with random weights."""
    torch.manual_seed(arm.seed)
    config = ShadingConfig.from_dict(MODEL | (arm.model or {}), arm.name)
    model = ShadingModel(config)
    width, patch_size = config.view_transformer_latent_dim, config.patch_size
    if arm.head == "dpt":
        model.view_transformer.out_shading = DPTHead(model, width, patch_size)
    elif arm.head != "smooth":
        model.view_transformer.out_shading = HEADS[arm.head](width, patch_size)
    return model


def fit(arm: Arm, scenes: list[Example], seconds: float) -> tuple[ShadingModel, int]:
    """Train for a processor time; the learning rate warms up and falls to zero over it."""
    model, loss_of = build(arm), LOSSES[arm.loss]
    optimizer = torch.optim.AdamW(model.parameters(), lr=RATE, betas=(0.9, 0.98), weight_decay=0.02)
    averaged = torch.optim.swa_utils.AveragedModel(model, multi_avg_fn=torch.optim.swa_utils.get_ema_multi_avg_fn(0.99))
    step, start = 0, time.process_time()
    while (progress := (time.process_time() - start) / seconds) < 1:
        rng = np.random.default_rng([arm.seed, step])
        rows = rng.integers(0, len(scenes), BATCH)
        batch = collate([augment(scenes[row], rng, VIEWS) for row in rows])
        for group in optimizer.param_groups:
            group["lr"] = RATE * min(progress / WARMUP + 0.01, 0.5 + 0.5 * np.cos(np.pi * progress))
        picture = predict(model, batch.first_channel())
        loss = loss_of(picture.float(), batch.hdr[..., :1])
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        norm = torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        if bool(torch.isfinite(norm)):
            optimizer.step()
            averaged.update_parameters(model)
        step += 1
    model.load_state_dict(averaged.module.state_dict())
    return model.eval(), step


@torch.inference_mode()
def measure(model: ShadingModel, examples: list[Example]) -> tuple[float, float]:
    """Mean PSNR in dB and SSIM over the held-out views."""
    decibels, similarity = [], []
    for example in examples:
        batch = collate([example])
        picture, reference = predict(model, batch)[0].float(), batch.hdr[0]
        decibels.append(psnr(picture, reference))
        similarity.append(ssim(picture, reference))
    return float(torch.cat(decibels).mean()), float(torch.cat(similarity).mean())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--held-out", type=Path, required=True)
    parser.add_argument("--scenes", type=int, default=160)
    parser.add_argument("--seconds", type=float, default=75, help="processor time of each arm")
    parser.add_argument("--full", action="store_true", help="the resolution of the data instead of half of it")
    parser.add_argument("--part", action="append", help="only arms of this part: " + ", ".join({a.part for a in ARMS}))
    parser.add_argument("--sheets", type=Path, default=Path("out/ablation"))
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    arguments.sheets.mkdir(parents=True, exist_ok=True)
    sized = (lambda example: example) if arguments.full else halved

    def load(inputs: str) -> tuple[list[Example], list[Example]]:
        """Training and held-out scenes as an arm sees them."""
        both = []
        for folder, limit in ((arguments.data, arguments.scenes), (arguments.held_out, None)):
            known = TrainingSet(folder, 2, limit, token_triangles=TOKENS)
            examples = unshadowed(folder, len(known)) if inputs == "analytic" else list(known)
            both.append([shown(sized(example), inputs) for example in examples])
        return both[0], both[1]

    unlearned = float(baselines(load("all")[1])["best_unlearned"].mean())
    for arm in ARMS:
        if arguments.part and arm.part not in arguments.part:
            continue
        train, held_out = load(arm.inputs)
        model, steps = fit(arm, train, arguments.seconds)
        decibels, similarity = measure(model, held_out)
        write_sheet(model, held_out, arguments.sheets / f"{arm.part} - {arm.name}.png".replace(" ", "_"))
        parameters = sum(p.numel() for p in model.parameters()) / 1e6
        report("ablation", [{
            "part": arm.part, "arm": arm.name, "pixels": train[0].hdr.shape[1], "seconds": arguments.seconds,
            "steps": steps, "parameters": f"{parameters:.1f} M", "scenes": len(train), "psnr": round(decibels, 2),
            "ssim": round(similarity, 4), "over best unlearned": round(decibels - unlearned, 2),
        }])  # fmt: skip


if __name__ == "__main__":
    main()
