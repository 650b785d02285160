"""`renderformer train`: fit a model to a folder of shards; resumes where it stopped."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

EXAMPLES = "Example: renderformer train --config configs/embedded.yaml --data datasets/train --out runs/mine"


def train(
    config: Annotated[Path, typer.Option(help="Training configuration (YAML), see configs/.")],
    data: Annotated[Path, typer.Option(help="Folder of shards from `renderformer data generate`.")],
    out: Annotated[Path, typer.Option(help="Folder of the run; a run that is there is continued.")],
    held_out: Annotated[Path | None, typer.Option(help="Folder of shards that are only measured on.")] = None,
    init: Annotated[str | None, typer.Option(help="Model to start from: a folder or Hub id.")] = None,
    steps: Annotated[int | None, typer.Option(help="Override the number of steps.", min=1)] = None,
    minutes: Annotated[float | None, typer.Option(help="Stop after this long; call again to continue.", min=0)] = None,
    threads: Annotated[int | None, typer.Option(help="CPU threads; all by default.", min=1)] = None,
    limit: Annotated[int | None, typer.Option(help="Use at most this many scenes.", min=1)] = None,
) -> None:
    """Train a model on generated scenes, with checkpoints; run the same command again to continue."""
    import time
    from dataclasses import replace

    import torch
    import yaml

    from renderformer.checkpoints import load_model
    from renderformer.data.errors import InputError
    from renderformer.training.dataset import TrainingSet
    from renderformer.training.loop import Trainer, TrainingConfig

    try:
        values = yaml.safe_load(config.read_text())
    except (OSError, yaml.YAMLError, UnicodeDecodeError) as error:
        raise InputError(f"{config}: cannot be read as YAML, {str(error).splitlines()[0]}") from error
    if not isinstance(values, dict):
        raise InputError(f"{config}: must hold keys and values")
    settings = TrainingConfig.from_dict(values, str(config))
    if steps is not None:
        settings = replace(settings, steps=steps)
    if threads is not None:
        torch.set_num_threads(threads)
    until = None if minutes is None else time.monotonic() + 60 * minutes
    workers = threads or torch.get_num_threads()
    scenes = TrainingSet(data, workers, limit)
    measured = None if held_out is None else TrainingSet(held_out, workers)
    trainer = Trainer(settings, scenes, measured, out, None if init is None else load_model(init))
    typer.echo(f"{len(scenes)} scenes, step {trainer.step} of {settings.steps}", err=True)
    finished = trainer.run(lambda line: typer.echo(line, err=True), until)
    typer.echo(f"{'finished' if finished else 'stopped'} at step {trainer.step}; the model is in {out / 'model'}")
