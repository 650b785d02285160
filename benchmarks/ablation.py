"""What each part of the embedded model is worth: small models, the same processor time each, one part changed.

    python benchmarks/ablation.py --data datasets/train --held-out datasets/validation --seconds 120

Every arm trains a small model from random weights for the same CPU time of one thread and is measured on scenes that it
was not trained on: PSNR and SSIM of display values, and the gain over the best picture without a network (see
`renderformer.training.metrics`). Features are cast once and kept in --cache; rows go to results/ablation.csv.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from common import report
from torch import Tensor, nn

from renderformer.config import ModelConfig
from renderformer.data import raycast as rc
from renderformer.data.raycast import RayCaster
from renderformer.data.shards import HALF_MAX, ShardReader
from renderformer.data.simplify import proxy
from renderformer.model import RenderFormer
from renderformer.model.dpt import DPT
from renderformer.training.dataset import Example, collate
from renderformer.training.evaluation import predict
from renderformer.training.loop import loss_of, tone
from renderformer.training.metrics import best_unlearned, psnr, ssim

TOKENS = 128
MODEL: dict[str, Any] = {
    "latent_dim": 128, "num_layers": 3, "num_heads": 2, "dim_feedforward": 320, "num_register_tokens": 8,
    "vertex_pe_num_freqs": 6, "rope_double_max_freq": True, "texture_encode_patch_size": 1,
    "view_transformer_latent_dim": 128, "view_transformer_ffn_hidden_dim": 320, "view_transformer_n_heads": 2,
    "view_transformer_n_layers": 3, "view_transformer_include_self_attn": False, "patch_size": 8,
    "ray_features": "direct", "output": "shading", "token_triangles": TOKENS,
}  # fmt: skip
BATCH, VIEWS, RATE, WARMUP = 4, 2, 1.5e-3, 0.06
Loss = Callable[[Tensor, Tensor], Tensor]


class Unshadowed(RayCaster):
    """Direct light as if nothing stood in its way: analytic, without shadow rays."""

    def visible(self, origins: Any, targets: Any) -> Any:
        return np.ones(len(origins), bool)


class LinearHead(nn.Module):
    """Every token gives the pixels of its patch by one matrix."""

    def __init__(self, width: int, patch: int) -> None:
        super().__init__()
        self.out = nn.Linear(width, 3 * patch**2)
        self.shuffle = nn.PixelShuffle(patch)
        nn.init.normal_(self.out.weight, std=1e-3)
        with torch.no_grad():
            self.out.bias.copy_(torch.tensor([-1.5, -3.0, 0.0]).repeat_interleave(patch**2))

    def forward(self, tokens: Tensor, inputs: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        raw = self.shuffle(self.out(tokens.movedim(1, -1)).movedim(-1, 1)).float()
        irradiance, gloss, gate = raw.unbind(1)
        return nn.functional.softplus(irradiance), nn.functional.softplus(gloss), 2 * torch.sigmoid(gate)


class DPTHead(nn.Module):
    """The paper's decoder over the view layers, without the hits' detail."""

    def __init__(self, model: RenderFormer, width: int, patch: int) -> None:
        super().__init__()
        self.out = DPT(width, (32, 48, 64, 96), 48, 3, patch)
        self.seen: list[Tensor] = []
        model.view_transformer.transformer.register_forward_hook(lambda _m, _i, out: self._keep(out))
        last = self.out.scratch.output_conv2[-1]
        nn.init.normal_(last.weight, std=1e-3)
        with torch.no_grad():
            last.bias.copy_(torch.tensor([-1.5, -3.0, 0.0]))

    def _keep(self, out: list[Tensor]) -> None:
        self.seen = list(out)

    def forward(self, tokens: Tensor, inputs: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        # Of three layers the last counts twice.
        levels, self.seen = [*self.seen, self.seen[-1]], []
        irradiance, gloss, gate = self.out(levels, (tokens.shape[2], tokens.shape[3])).float().unbind(1)
        return nn.functional.softplus(irradiance), nn.functional.softplus(gloss), 2 * torch.sigmoid(gate)


def log_l1(picture: Tensor, reference: Tensor) -> Tensor:
    """The paper's loss: L1 of log radiance."""
    return (torch.log1p(picture.clamp_min(0)) - torch.log1p(reference)).abs().mean() * 10


def relative_square(picture: Tensor, reference: Tensor) -> Tensor:
    """Squared error relative to the reference, the measure of path tracing."""
    return ((picture - reference).square() / (reference.square() + 0.05)).clamp_max(10).mean() * 10


def with_gradients(picture: Tensor, reference: Tensor) -> Tensor:
    """The base loss plus the L1 of differences between neighbouring pixels, at two scales, as FLIP weighs edges."""
    total = loss_of(picture, reference)
    a, b = (tone(x).flatten(0, 1).movedim(-1, 1) for x in (picture, reference))
    for _ in range(2):
        for axis in (-1, -2):
            total = total + (a.diff(dim=axis) - b.diff(dim=axis)).abs().mean() * 2
        a, b = (nn.functional.avg_pool2d(x, 2) for x in (a, b))
    return total


@dataclass(frozen=True)
class Arm:
    """One row: what of the features is shown (see `shown`), what of the model and the loss differ from the base."""

    part: str
    name: str
    inputs: str = "all"
    model: dict[str, Any] | None = None
    head: str = "conv"
    loss: Loss = loss_of
    seed: int = 0


ARMS = [
    Arm("base", "everything, patch 8, 3 layers x 128, conv head, tone-mapped Charbonnier"),
    Arm("base", "the same, another seed", seed=1),
    Arm("patch", "4 pixels", model={"patch_size": 4}),
    Arm("size", "6 layers x 96", model={
        "num_layers": 6, "view_transformer_n_layers": 6, "latent_dim": 96, "view_transformer_latent_dim": 96,
        "dim_feedforward": 240, "view_transformer_ffn_hidden_dim": 240, "vertex_pe_num_freqs": 4}),
    Arm("size", "2 layers x 192", model={
        "num_layers": 2, "view_transformer_n_layers": 2, "latent_dim": 192, "view_transformer_latent_dim": 192,
        "dim_feedforward": 480, "view_transformer_ffn_hidden_dim": 480}),
    Arm("size", "4 triangle layers, 2 view layers", model={"num_layers": 4, "view_transformer_n_layers": 2}),
    Arm("head", "linear", head="linear"),
    Arm("head", "DPT", head="dpt"),
    Arm("loss", "L1 of log radiance", loss=log_l1),
    Arm("loss", "relative squared error", loss=relative_square),
    Arm("loss", "base + gradients at two scales", loss=with_gradients),
    Arm("inputs", "hits only", inputs="hits"),
    Arm("inputs", "hits + analytic direct light", inputs="analytic"),
    Arm("inputs", "hits + traced direct light", inputs="traced"),
    Arm("inputs", "hits + traced direct light + highlights", inputs="highlight"),
]  # fmt: skip


def shown(example: Example, plain: Example, inputs: str) -> Example:
    """What an arm sees of a scene; `plain` is the same scene cast without shadow rays."""
    if inputs == "all":
        return example
    source = plain if inputs == "analytic" else example
    pixels = source.pixels.copy()
    pixels[..., rc.REFLECTION] = 0
    if inputs != "highlight":
        pixels[..., rc.HIGHLIGHT] = 0
    light = source.triangle_light
    if inputs == "hits":
        pixels[..., rc.IRRADIANCE] = 0
        pixels[..., rc.DIRECT] = 0
        # The level stays, which radiance is divided by; where the light falls does not.
        light = np.broadcast_to(light.mean(axis=0), light.shape)
    return replace(source, pixels=pixels, triangle_light=light)


def cast(folder: Path, cache: Path, limit: int) -> list[tuple[Example, Example]]:
    """Scenes of a folder with their features, with and without shadow rays."""
    reader, pairs = ShardReader(folder), []
    for i in range(min(limit, len(reader))):
        stored = reader.scene(i)
        path = cache / f"{stored.seed}.npz"
        scene = stored.to_scene()
        tokens = proxy(scene, TOKENS) if len(scene) > TOKENS else scene
        if not path.exists():
            arrays = {}
            for key, kind in (("traced", RayCaster), ("analytic", Unshadowed)):
                caster = kind(scene.triangles, scene.normals, scene.materials)
                size = stored.hdr.shape[1]
                views = np.stack([caster.features(camera, size, size, threads=1) for camera in scene.cameras])
                arrays[key] = np.minimum(views, HALF_MAX).astype(np.float16)
                arrays[f"{key}_light"] = kind(tokens.triangles, tokens.normals, tokens.materials).triangle_light()
            cache.mkdir(parents=True, exist_ok=True)
            temporary = path.with_suffix(".part.npz")
            np.savez(temporary, **arrays)
            temporary.rename(path)
        with np.load(path) as arrays:
            both = [
                Example(
                    tokens.triangles, tokens.normals, tokens.materials, arrays[f"{key}_light"], stored.c2w, stored.fov,
                    arrays[key], stored.hdr,
                )
                for key in ("traced", "analytic")
            ]  # fmt: skip
        pairs.append((both[0], both[1]))
    return pairs


def build(arm: Arm) -> RenderFormer:
    """The arm's model with random weights."""
    torch.manual_seed(arm.seed)
    config = ModelConfig.from_dict(MODEL | (arm.model or {}), arm.name)
    model = RenderFormer(config)
    width, patch = config.view_transformer_latent_dim, config.patch_size
    if arm.head == "linear":
        model.view_transformer.out_shading = LinearHead(width, patch)
    elif arm.head == "dpt":
        model.view_transformer.out_shading = DPTHead(model, width, patch)
    return model


def fit(arm: Arm, scenes: list[Example], seconds: float) -> tuple[RenderFormer, int]:
    """Train for a processor time; the learning rate warms up and falls to zero over it."""
    model = build(arm)
    optimizer = torch.optim.AdamW(model.parameters(), lr=RATE, betas=(0.9, 0.98), weight_decay=0.02)
    averaged = torch.optim.swa_utils.AveragedModel(model, multi_avg_fn=torch.optim.swa_utils.get_ema_multi_avg_fn(0.99))
    step, start = 0, time.process_time()
    while (progress := (time.process_time() - start) / seconds) < 1:
        rng = np.random.default_rng([arm.seed, step])
        rows = rng.integers(0, len(scenes), BATCH)
        batch = collate([scenes[row] for row in rows], VIEWS, rng)
        for group in optimizer.param_groups:
            group["lr"] = RATE * min(progress / WARMUP + 0.01, 0.5 + 0.5 * np.cos(np.pi * progress))
        picture = predict(model, batch, 1)
        loss = arm.loss(picture.float(), batch.hdr[..., :1])
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
def measure(model: RenderFormer, arm: Arm, pairs: list[tuple[Example, Example]]) -> tuple[float, float]:
    """Mean PSNR in dB and SSIM over the held-out views."""
    decibels, similarity = [], []
    for pair in pairs:
        batch = collate([shown(*pair, arm.inputs)])
        picture, reference = predict(model, batch)[0].float(), batch.hdr[0]
        decibels.append(psnr(picture, reference))
        similarity.append(ssim(picture, reference))
    return float(torch.cat(decibels).mean()), float(torch.cat(similarity).mean())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--held-out", type=Path, required=True)
    parser.add_argument("--cache", type=Path, default=Path("datasets/ablation"))
    parser.add_argument("--scenes", type=int, default=320)
    parser.add_argument("--seconds", type=float, default=120, help="processor time of each arm")
    parser.add_argument("--part", action="append", help="only arms of this part: " + ", ".join({a.part for a in ARMS}))
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    train = cast(arguments.data, arguments.cache / "train", arguments.scenes)
    held_out = cast(arguments.held_out, arguments.cache / "held-out", 1 << 30)
    batches = [collate([pair[0]]) for pair in held_out]
    unlearned = float(torch.cat([best_unlearned(batch.pixels[0], batch.hdr[0]) for batch in batches]).mean())
    for arm in ARMS:
        if arguments.part and arm.part not in arguments.part:
            continue
        scenes = [shown(*pair, arm.inputs) for pair in train]
        model, steps = fit(arm, scenes, arguments.seconds)
        decibels, similarity = measure(model, arm, held_out)
        parameters = sum(p.numel() for p in model.parameters()) / 1e6
        report("ablation", [{
            "part": arm.part, "arm": arm.name, "seconds": arguments.seconds, "steps": steps,
            "parameters": f"{parameters:.1f} M", "scenes": len(train), "psnr": round(decibels, 2),
            "ssim": round(similarity, 4), "over best unlearned": round(decibels - unlearned, 2),
        }])  # fmt: skip


if __name__ == "__main__":
    main()
