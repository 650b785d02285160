"""`renderformer evaluate`: measure a model on scenes that it was not trained on."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

EXAMPLES = "Example: renderformer evaluate --data datasets/heldout --model runs/mine/model"


def evaluate(
    data: Annotated[Path, typer.Option(help="Folder of held-out shards (data generate --held-out).")],
    model: Annotated[str | None, typer.Option(help="Folder or Hub id.", show_default="the embedded one")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One line of JSON on stdout.")] = False,
) -> None:
    """Mean PSNR and SSIM over held-out views, with 95 % confidence, beside ray casting without the network."""
    import torch

    from renderformer.checkpoints import load_model
    from renderformer.cli import console
    from renderformer.training.dataset import TrainingSet
    from renderformer.training.evaluation import AMBIENT
    from renderformer.training.evaluation import evaluate as measure

    network = load_model(model).eval()
    scenes = TrainingSet(data, torch.get_num_threads(), token_triangles=network.config.token_triangles)
    scores = measure(network, scenes)
    count = len(scores["psnr"])
    # Views of one scene share their light, so scenes, not views, are the independent samples.
    per_scene = {key: values.reshape(len(scenes), -1).mean(axis=1) for key, values in scores.items()}
    result = {
        key: {"mean": float(values.mean()), "confidence": float(1.96 * values.std(ddof=1) / len(values) ** 0.5)}
        for key, values in per_scene.items()
    }
    if as_json:
        console.emit_json({"scenes": len(scenes), "views": count, **result})
        return
    typer.echo(f"{len(scenes)} scenes, {count} views of {scenes.resolution} px")
    for label, decibels, similarity in (
        ("model", "psnr", "ssim"),
        (f"ray casting + ambient {AMBIENT:g}", "ambient", "ambient_ssim"),
        ("ray casting + best ambient of each view", "best_unlearned", None),
    ):
        line = f"{label:42}{result[decibels]['mean']:6.2f} ± {result[decibels]['confidence']:.2f} dB"
        typer.echo(line + (f"   SSIM {result[similarity]['mean']:.4f}" if similarity else ""))
