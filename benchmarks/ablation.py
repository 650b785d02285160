"""Compare configurations of the embedded model: small models, the same time each, one setting changed at a time.

    python benchmarks/ablation.py --data datasets/train --held-out datasets/validation [--minutes 2.5] [--part size]

Trains each configuration from random weights for the same wall-clock time on one thread, and measures it on the
held-out scenes: PSNR (dB) and SSIM of display values, and the gain over the picture without a network. Appends rows to
results/ablation.csv. Every run has a folder under --out, with a sheet of pictures; a run that is complete there is
measured again, not trained again.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import torch
from common import report

from renderformer.evaluation.measurement import evaluate, first_scores
from renderformer.training.config import TrainingConfig
from renderformer.training.dataset import TrainingSet
from renderformer.training.loop import Trainer
from renderformer.training.samples import write_sheet

TOKENS = 256
MODEL: dict[str, Any] = {
    "ray_features": "light_cache", "output": "correction", "texture_encode_patch_size": 1, "latent_dim": 128,
    "num_layers": 3, "num_heads": 2, "dim_feedforward": 320, "num_register_tokens": 8, "vertex_pe_num_freqs": 6,
    "rope_double_max_freq": True, "view_transformer_latent_dim": 128, "view_transformer_ffn_hidden_dim": 320,
    "view_transformer_n_heads": 2, "view_transformer_n_layers": 3, "view_transformer_include_self_attn": False,
    "patch_size": 8, "light_tokens": TOKENS,
}  # fmt: skip
SETTINGS: dict[str, Any] = {
    "batch": 4, "views": 2, "learning_rate": 1.5e-3, "warmup": 0.06, "loss": "correction", "ema": 0.99,
    "evaluate_every": 10**9, "save_every": 10**9, "sample_every": 0, "precision": "fp32",
}  # fmt: skip
# (part, arm, settings that differ from MODEL, settings that differ from SETTINGS)
ARMS: list[tuple[str, str, dict[str, Any], dict[str, Any]]] = [
    ("base", "patch 8, 3 layers x 128, squared error over that of the first answer", {}, {}),
    ("base", "the same, another seed", {}, {"seed": 1}),
    ("patch", "4 pixels", {"patch_size": 4}, {}),
    ("size", "6 layers x 96", {
        "num_layers": 6, "view_transformer_n_layers": 6, "latent_dim": 96, "view_transformer_latent_dim": 96,
        "dim_feedforward": 240, "view_transformer_ffn_hidden_dim": 240, "vertex_pe_num_freqs": 4}, {}),
    ("size", "2 layers x 192", {
        "num_layers": 2, "view_transformer_n_layers": 2, "latent_dim": 192, "view_transformer_latent_dim": 192,
        "dim_feedforward": 480, "view_transformer_ffn_hidden_dim": 480}, {}),
    ("size", "4 triangle layers, 2 view layers", {"num_layers": 4, "view_transformer_n_layers": 2}, {}),
    ("loss", "tone-mapped Charbonnier", {}, {"loss": "tone"}),
    ("loss", "L1 of log radiance", {}, {"loss": "log"}),
    ("loss", "relative squared error", {}, {"loss": "relative"}),
]  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--held-out", type=Path, required=True)
    parser.add_argument("--scenes", type=int, default=160)
    parser.add_argument("--minutes", type=float, default=2.5, help="training time of each configuration")
    parser.add_argument("--part", action="append", choices=sorted({part for part, *_ in ARMS}))
    parser.add_argument("--out", type=Path, default=Path("out/ablation"))
    options = parser.parse_args()
    torch.set_num_threads(1)
    data = TrainingSet(options.data, limit=options.scenes, light_tokens=TOKENS)
    held_out = TrainingSet(options.held_out, light_tokens=TOKENS)
    first = float(first_scores(held_out)["psnr"].mean())
    for number, (part, arm, model, settings) in enumerate(ARMS):
        if options.part and part not in options.part:
            continue
        values = SETTINGS | settings | {"model": MODEL | model, "budget": options.minutes}
        folder = options.out / f"{number:02}_{part}"
        trainer = Trainer(TrainingConfig.read(values, arm), [data], None, folder)
        trainer.run(print)
        scores = {name: float(each.mean()) for name, each in evaluate(trainer.averaged_model, held_out).items()}
        write_sheet(trainer.averaged_model, held_out, folder / "sheet.png")
        parameters = sum(p.numel() for p in trainer.model.parameters()) / 1e6
        report("ablation", [{
            "part": part, "arm": arm, "pixels": data.resolution, "minutes": options.minutes, "steps": trainer.step,
            "parameters": f"{parameters:.1f} M", "scenes": len(data), "psnr": round(scores["psnr"], 2),
            "ssim": round(scores["ssim"], 4), "over no network": round(scores["psnr"] - first, 2),
        }])  # fmt: skip


if __name__ == "__main__":
    main()
