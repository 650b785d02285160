"""`renderformer train`: fit a model to folders of shards; resumes where it stopped."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from renderformer.cli import console, options

EXAMPLES = "Example: renderformer train --config configs/embedded.yaml --data datasets/train -o runs/mine"

DATA = (
    "Folder of shards from `renderformer data generate`; may be given several times. Sets of a larger resolution than "
    "the smallest join in late (larger_from in the configuration)."
)
BUDGET = (
    "Minutes that the whole training may take, over all its chunks: warm-up and decay of the learning rate follow the "
    "clock instead of the steps."
)
OVERFIT = (
    "Test of the whole: train on so many scenes without augmentation until their own views are drawn at 35 dB, and say "
    "how long it took; fails if they never are."
)
WORKERS = "Processes that cast the rays of shards; one per thread by default; 0 takes only what is ready."
LOADERS = "Processes that prepare batches; by default none on a CPU, 8 on a GPU."


def train(
    config: Annotated[Path, typer.Option(help="Training configuration (YAML), see configs/.")],
    data: Annotated[list[Path], typer.Option(help=DATA)],
    out: Annotated[Path, typer.Option("--output", "-o", help="Folder of the run; a run that is there is continued.")],
    held_out: Annotated[Path | None, typer.Option(help="Folder of shards that are only measured on.")] = None,
    init: Annotated[str | None, typer.Option(help="Model to start from: a folder or Hub id.")] = None,
    steps: Annotated[int | None, typer.Option(help="Override the number of steps.", min=1)] = None,
    budget: Annotated[float | None, typer.Option(help=BUDGET, min=0.01)] = None,
    minutes: Annotated[
        float | None,
        typer.Option(help="Stop this call after so long; the same command goes on. Changes no schedule.", min=0),
    ] = None,
    overfit: Annotated[int | None, typer.Option(help=OVERFIT, min=1)] = None,
    limit: Annotated[int | None, typer.Option(help="Use at most this many scenes of each folder.", min=1)] = None,
    threads: Annotated[int | None, typer.Option(help="CPU threads of the network; all by default.", min=1)] = None,
    workers: Annotated[int | None, typer.Option(help=WORKERS, min=0)] = None,
    loaders: Annotated[int | None, typer.Option(help=LOADERS, min=0)] = None,
) -> None:
    """Train a model on generated scenes, with checkpoints; run the same command again to continue."""
    if overfit is not None and held_out is not None:
        raise options.wrong("measures on its own scenes; leave out --held-out", "--overfit")
    if steps is not None and budget is not None:
        raise options.wrong("a training goes by the clock or by --steps, not by both", "--budget")
    from renderformer.training.run import Plan, Training

    plan = Plan(
        config, tuple(data), out, held_out, init, steps, budget, minutes, overfit, limit, threads, workers, loaders
    )
    training = Training(plan)
    with console.Stages("data", training.is_main) as stages:
        training.load(stages.update)
    for line in training.run(console.say):
        typer.echo(line)
