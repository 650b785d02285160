"""`renderformer evaluate`: measure a model on scenes that it was not trained on."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from renderformer.cli.options import Json, Overwrite, Quiet

EXAMPLES = """Examples: renderformer evaluate --data datasets/heldout --model runs/mine/model -o report.html

renderformer evaluate --data datasets/heldout-256 --compare-mitsuba --limit 20 --goals"""


def evaluate(
    data: Annotated[
        list[Path], typer.Option(help="Folder of held-out shards (data generate --held-out); may be repeated.")
    ],
    model: Annotated[str | None, typer.Option(help="Folder or Hub id.", show_default="the embedded one")] = None,
    html: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            metavar="FILE",
            help="HTML page with the tables and pictures; needs nothing but itself.",
        ),
    ] = None,
    compare_mitsuba: Annotated[
        bool,
        typer.Option("--compare-mitsuba", help="Race Mitsuba, with and without OIDN, on the first view of each scene."),
    ] = False,
    goals: Annotated[bool, typer.Option("--goals", help="Say which goals of the embedded model are met.")] = False,
    limit: Annotated[int | None, typer.Option(min=1, metavar="N", help="Use at most this many scenes.")] = None,
    overwrite: Overwrite = False,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """PSNR, SSIM, FLIP and relative MSE over held-out scenes with 95 % confidence, beside what needs no model.

    Needs the extra 'metrics' of the package; to compare with Mitsuba also 'reference' and 'denoise'.
    """
    import datetime

    import torch

    from renderformer.cli import console
    from renderformer.cli.outputs import check_file
    from renderformer.data.files import atomic_path
    from renderformer.data.sets.shards import ShardReader
    from renderformer.evaluation import report
    from renderformer.evaluation.equal_time import compare
    from renderformer.evaluation.evaluation import measure
    from renderformer.renderer import Renderer
    from renderformer.training.dataset import TrainingSet

    if html is not None:
        check_file(html, overwrite)
    renderer = Renderer.from_pretrained(model, device="cpu")
    measured = []
    for folder in data:
        with console.Stages(str(folder), show=not quiet) as stages:
            scenes = TrainingSet(
                folder,
                torch.get_num_threads(),
                limit,
                token_triangles=renderer.config.token_triangles,
                progress=stages.update,
            )
            found = measure(renderer.model, scenes, html is not None, stages.update)
            races = compare(renderer, ShardReader(folder), len(scenes), stages.update) if compare_mitsuba else []
        measured.append((found, races))
        if as_json:
            console.emit_json(report.as_data(found, races, renderer.name))
            continue
        typer.echo(report.heading(found))
        for table in report.tables(found, races):
            typer.echo(f"\n{table.text()}")
        if goals:
            typer.echo("\nGoals\n" + "\n".join(map(str, report.goals(found, races))))
        typer.echo()
    if html is not None:
        date = f"{datetime.datetime.now(datetime.UTC):%Y-%m-%d %H:%M} UTC"
        with atomic_path(html) as temporary:
            temporary.write_text(report.page(measured, renderer.name, date), encoding="utf-8")
