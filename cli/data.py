"""`renderformer data`: make the procedural data sets that models are trained on."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(help="Make training data.", no_args_is_help=True)


@app.callback()
def data() -> None:
    """Make training data."""


def _range(text: str | None) -> range | None:
    if text is None:
        return None
    first, separator, last = text.partition(":")
    if not (separator and first.isdigit() and last.isdigit() and int(first) < int(last)):
        raise typer.BadParameter(f"{text!r} is not FIRST:END, such as 0:50", param_hint="--shards")
    return range(int(first), int(last))


@app.command()
def generate(
    folder: Annotated[Path, typer.Argument(help="Where the shards go; a run that was stopped goes on where it was.")],
    scenes: Annotated[int, typer.Option(min=1, help="Scenes in all, rounded up to whole shards.")] = 2000,
    views: Annotated[int, typer.Option(min=1, help="Cameras per scene.")] = 4,
    resolution: Annotated[int, typer.Option(min=1, help="Pixels on a side.")] = 64,
    spp: Annotated[int, typer.Option(min=1, help="Samples per pixel.")] = 64,
    batches: Annotated[int, typer.Option(min=1, help="Parts of the samples, for rejecting fireflies.")] = 4,
    depth: Annotated[int, typer.Option(min=1, help="Longest light path in segments.")] = 5,
    scenes_per_shard: Annotated[int, typer.Option(min=1, help="Scenes in one file.")] = 32,
    max_triangles: Annotated[int, typer.Option(min=64, help="Per scene.")] = 3000,
    seed: Annotated[int, typer.Option(min=0, help="Of the first scene.")] = 0,
    held_out: Annotated[bool, typer.Option("--held-out", help="Seeds that training never uses.")] = False,
    workers: Annotated[int, typer.Option(min=1, help="Processes, one thread each.")] = 1,
    shards: Annotated[str | None, typer.Option(help="Only these, FIRST:END; runs can share a folder.")] = None,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No progress, no summary.")] = False,
) -> None:
    """Make random scenes and path trace them with Mitsuba 3 (needs the extra 'reference' of the package)."""
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    from renderformer.data.errors import InputError
    from renderformer.data.shards import HELD_OUT_SEED, Recipe, generate

    chosen = _range(shards)
    console = Console(stderr=True, quiet=quiet)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    try:
        recipe = Recipe(
            seed=seed + (HELD_OUT_SEED if held_out else 0),
            views=views,
            resolution=resolution,
            spp=spp,
            batches=batches,
            depth=depth,
            scenes_per_shard=scenes_per_shard,
            max_triangles=max_triangles,
        )
        with Progress(*columns, TimeRemainingColumn(), console=console, disable=quiet) as bar:
            task = bar.add_task("shards", total=None)
            made = generate(
                folder, scenes, recipe, workers, chosen,
                lambda stage, done, total: bar.update(task, description=stage, completed=done, total=total),
            )  # fmt: skip
    except (InputError, ImportError) as error:
        typer.echo(f"error: {error}", err=True)
        raise typer.Exit(1) from None
    except KeyboardInterrupt:
        typer.echo(f"stopped; finished shards are kept in {folder}, the same command goes on", err=True)
        raise typer.Exit(130) from None
    message = f"{folder}: made {len(made)} shards of {recipe.scenes_per_shard} scenes x {views} views"
    console.print(message, soft_wrap=True, highlight=False)


if __name__ == "__main__":
    app()
