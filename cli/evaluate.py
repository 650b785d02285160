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
    no_network: Annotated[
        bool, typer.Option("--no-network", help="Measure ray casting and cached light alone, without a model.")
    ] = False,
    html: Annotated[
        Path | None,
        typer.Option("--output", "-o", metavar="FILE", help="Self-contained HTML page with the tables and pictures."),
    ] = None,
    compare_mitsuba: Annotated[
        bool,
        typer.Option("--compare-mitsuba", help="Race Mitsuba, with and without OIDN, on the first view of each scene."),
    ] = False,
    goals: Annotated[bool, typer.Option("--goals", help="List the goals of the embedded model that are met.")] = False,
    limit: Annotated[int | None, typer.Option(min=1, metavar="N", help="Use at most this many scenes.")] = None,
    overwrite: Overwrite = False,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Measure PSNR, SSIM, FLIP and relative MSE over held-out scenes with 95 % confidence, beside simple baselines.

    Needs the extra 'metrics' of the package; to compare with Mitsuba also 'reference' and 'denoise'.
    """
    from renderformer.cli import console
    from renderformer.cli.outputs import check_file
    from renderformer.data.sets.shards import ShardReader
    from renderformer.evaluation import report
    from renderformer.evaluation.equal_time import compare
    from renderformer.evaluation.measurement import measure_folder
    from renderformer.renderer import Renderer

    if html is not None:
        check_file(html, overwrite)
    renderer = Renderer.from_pretrained(model, device="cpu", network=not no_network)
    measured = []
    for folder in data:
        with console.Stages(str(folder), show=not quiet) as stages:
            scores = measure_folder(renderer, folder, limit, html is not None, stages.update)
            count = len(scores.scenes)
            races = compare(renderer, ShardReader(folder), count, stages.update) if compare_mitsuba else []
        measured.append((scores, races))
        if as_json:
            console.emit_json(report.as_data(scores, races, renderer.name))
        else:
            typer.echo(f"{report.as_text(scores, races, goals)}\n")
    if html is not None:
        report.write_page(html, measured, renderer.name)
