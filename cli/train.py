"""`renderformer train`: fit a model to folders of shards; resumes where it stopped."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

EXAMPLES = "Example: renderformer train --config configs/embedded.yaml --data datasets/train --out runs/mine"

OVERFIT_GOAL, OVERFIT_STEPS, OVERFIT_EVERY = 35.0, 400, 20


def train(
    config: Annotated[Path, typer.Option(help="Training configuration (YAML), see configs/.")],
    data: Annotated[
        list[Path],
        typer.Option(
            help="Folder of shards from `renderformer data generate`; may be given several times. Sets of a larger "
            "resolution than the smallest join in late (larger_from in the configuration)."
        ),
    ],
    out: Annotated[Path, typer.Option(help="Folder of the run; a run that is there is continued.")],
    held_out: Annotated[Path | None, typer.Option(help="Folder of shards that are only measured on.")] = None,
    init: Annotated[str | None, typer.Option(help="Model to start from: a folder or Hub id.")] = None,
    steps: Annotated[int | None, typer.Option(help="Override the number of steps.", min=1)] = None,
    budget: Annotated[
        float | None,
        typer.Option(
            help="Minutes that the whole training may take, over all its chunks: warm-up and decay of the learning "
            "rate follow the clock instead of the steps.",
            min=0.01,
        ),
    ] = None,
    minutes: Annotated[
        float | None,
        typer.Option(help="Stop this call after so long; the same command goes on. Changes no schedule.", min=0),
    ] = None,
    overfit: Annotated[
        int | None,
        typer.Option(
            help="Test of the whole: train on so many scenes without augmentation until their own views are drawn at "
            "35 dB, and say how long it took; fails if they never are.",
            min=1,
        ),
    ] = None,
    limit: Annotated[int | None, typer.Option(help="Use at most this many scenes of each folder.", min=1)] = None,
    threads: Annotated[int | None, typer.Option(help="CPU threads of the network; all by default.", min=1)] = None,
    workers: Annotated[
        int | None,
        typer.Option(
            help="Processes that cast the rays of shards; one per thread by default; 0 takes only what is ready.", min=0
        ),
    ] = None,
    loaders: Annotated[
        int | None,
        typer.Option(help="Processes that prepare batches; by default none on a CPU, 8 on a GPU.", min=0),
    ] = None,
) -> None:
    """Train a model on generated scenes, with checkpoints; run the same command again to continue."""
    import math
    import time
    from dataclasses import replace

    import torch
    import yaml

    from renderformer.checkpoints import load_model
    from renderformer.cli.console import Stages, say
    from renderformer.config import config_from_dict
    from renderformer.data.errors import InputError
    from renderformer.data.sets.shards import read_recipe
    from renderformer.training.config import TrainingConfig
    from renderformer.training.dataset import TrainingSet
    from renderformer.training.loop import Trainer, make_accelerator

    started = time.monotonic()
    if overfit is not None and held_out is not None:
        raise typer.BadParameter("measures on its own scenes; leave out --held-out", param_hint="--overfit")
    if steps is not None and budget is not None:
        raise typer.BadParameter("a training goes by the clock or by --steps, not by both", param_hint="--budget")
    try:
        values = yaml.safe_load(config.read_text())
    except (OSError, yaml.YAMLError, UnicodeDecodeError) as error:
        raise InputError(config, f"cannot be read as YAML, {str(error).splitlines()[0]}") from error
    if not isinstance(values, dict):
        raise InputError(config, "must hold keys and values")
    settings = TrainingConfig.from_dict(values, str(config))
    model = config_from_dict(settings.model, f"{config}: model")
    if steps is not None:
        settings = replace(settings, steps=steps, budget=0.0)
    if budget is not None:
        settings = replace(settings, budget=budget)
    if overfit is not None:
        settings = replace(
            settings, augment=False, batch=overfit, evaluate_every=OVERFIT_EVERY, sample_every=OVERFIT_STEPS,
            steps=steps or OVERFIT_STEPS, budget=budget or 0.0, larger_from=0.0,
        )  # fmt: skip
        limit = overfit
    if threads is not None:
        torch.set_num_threads(threads)
    start = None if init is None else load_model(init)
    for folder in data:
        if read_recipe(folder).held_out:
            raise InputError(folder, "holds held-out scenes, which are never trained on", "give it as --held-out")
    accelerator = make_accelerator(settings.precision)
    if loaders is None:
        loaders = 8 if accelerator.device.type == "cuda" else 0

    def report(line: str) -> None:
        if accelerator.is_main_process:
            say(line)

    def scenes_of(folder: Path, most: int | None) -> TrainingSet:
        with accelerator.main_process_first(), Stages(str(folder), accelerator.is_main_process) as stages:
            casters = torch.get_num_threads() if workers is None else workers
            return TrainingSet(
                folder,
                casters if accelerator.is_main_process else 0,
                most,
                token_triangles=model.token_triangles,
                rays=model.pixel_channels > 0,
                progress=stages.update,
            )

    sets = [scenes_of(folder, limit) for folder in data]
    measured = sets[0] if overfit is not None else None if held_out is None else scenes_of(held_out, None)
    trainer = Trainer(settings, sets, measured, out, start, accelerator, loaders)
    counts = ", ".join(f"{len(part)} scenes of {part.resolution} px" for part in trainer.data)
    report(
        f"{counts}; {accelerator.num_processes} x {accelerator.device.type}, {accelerator.mixed_precision}; "
        f"step {trainer.step}, {100 * trainer.progress:.3g} % done"
    )
    until = None if minutes is None else started + 60 * minutes
    finished = trainer.run(report, until, math.inf if overfit is None else OVERFIT_GOAL)
    if overfit is not None and not trainer.best >= OVERFIT_GOAL:
        raise InputError(
            out,
            f"{trainer.best:.2f} dB on its own {overfit} scenes after {trainer.seconds:.0f} s, {trainer.step} "
            f"steps, {OVERFIT_GOAL:g} dB were expected",
            "the data, the model or the learning rate does not suit",
        )
    if accelerator.is_main_process:
        if overfit is not None:
            typer.echo(f"{trainer.best:.2f} dB on its own {overfit} scenes after {trainer.seconds:.0f} s")
        typer.echo(f"{'finished' if finished else 'stopped'} at step {trainer.step}; the model is in {out / 'model'}")
