"""`renderformer compare`: how far pictures are from references."""

from __future__ import annotations

import operator
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from renderformer.cli import console, outputs
from renderformer.cli.options import Json, Overwrite, Quiet, wrong

if TYPE_CHECKING:
    from renderformer.evaluation.comparison import Comparison

EXAMPLES = """[bold]Examples[/bold]

renderformer compare bunny.exr reference.exr

renderformer compare bunny.exr reference.exr -o difference.png --min-psnr 35 --max-flip 0.05

renderformer compare frames/ references/ --min-psnr 35
"""
Scores = Mapping[str, float]


def compare(
    picture: Annotated[
        str,
        typer.Argument(
            metavar="PICTURE",
            help="png, jpg, exr or npy; a folder, or a pattern in quotes, is many.",
            show_default=False,
        ),
    ],
    reference: Annotated[
        str,
        typer.Argument(metavar="REFERENCE", help="The same; of many, those of the same names.", show_default=False),
    ],
    output: Annotated[
        str | None,
        typer.Option(
            "--output",
            "-o",
            metavar="FILE",
            help="Picture of the difference: png and jpg of its size, exr and npy of picture minus reference. {stem} "
            "is replaced.",
        ),
    ] = None,
    min_psnr: Annotated[float | None, typer.Option(metavar="DB", help="Fail below it.")] = None,
    min_ssim: Annotated[float | None, typer.Option(metavar="SSIM", help="Fail below it.")] = None,
    max_flip: Annotated[float | None, typer.Option(metavar="FLIP", help="Fail above it.")] = None,
    max_relative_mse: Annotated[float | None, typer.Option(metavar="MSE", help="Fail above it.")] = None,
    overwrite: Overwrite = False,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Print PSNR, SSIM, FLIP and relative MSE of a picture against a reference, or of the pictures of two folders.

    Of pictures of two sizes the larger one is reduced. FLIP needs the extra 'metrics'. Exit code 1: a picture misses a
    limit, or a reference has no picture.
    """
    from renderformer.data.notes import Alike
    from renderformer.evaluation.comparison import compare as compare_files
    from renderformer.evaluation.comparison import pairs_of
    from renderformer.sequences.frames import stands_for_files

    many = stands_for_files(picture) or stands_for_files(reference)
    if output is not None:
        _check_output(output, many)
    pairs = pairs_of(picture, reference)
    files = [outputs.expand(output, str(first), "", 0) for first, _ in pairs.files] if output else []
    outputs.check_paths(files, set(), overwrite, skip_existing=False)
    scores: dict[str, Scores] = {}
    notes = Alike()
    notes.add(pairs.notes)
    with console.Logged("compare", many and not quiet, "pictures") as stages:
        for number, (first, second) in enumerate(pairs.files):
            stages.update("pictures", number, len(pairs.files))
            result = compare_files(first, second)
            scores[first.stem] = result.scores
            notes.add(result.notes)
            if files:
                notes.add([_save_difference(result, files[number])])
            if as_json:
                _emit(first, result, many)
    if not quiet:
        console.say_all("note", notes.lines())
    if not as_json:
        _print_table(scores) if many else _print(next(iter(scores.values())))
    limits = {"psnr": (min_psnr, "below"), "ssim": (min_ssim, "below"), "flip": (max_flip, "above"),
              "relative_mse": (max_relative_mse, "above")}  # fmt: skip
    misses = [line for name, limit in limits.items() if (line := _miss(scores, name, *limit))]
    for line in [*pairs.problems, *misses]:
        console.say(f"error: {line}")
    if pairs.problems or misses:
        raise typer.Exit(console.FAILED)


def _check_output(template: str, many: bool) -> None:
    """Raise wrong usage for a picture of the difference that cannot be written."""
    from renderformer.data.errors import InputError
    from renderformer.image import SaveSettings, check_output

    fields = outputs.fields_of(template)
    if fields - {"stem"}:
        raise wrong(f"{template}: only {{stem}} is replaced here", "-o")
    if many and not fields:
        raise wrong(f"{template}: all differences would be written there; put {{stem}} into the name", "-o")
    try:
        check_output(Path(template), SaveSettings())
    except InputError as error:
        raise wrong(error.problem, "-o") from None


def _save_difference(result: Comparison, path: Path) -> str:
    """Write the difference; returns a line about it."""
    from renderformer.image import LINEAR_SUFFIXES

    if path.suffix.lower() in LINEAR_SUFFIXES:
        result.signed().save(path, half=False)
        return f"{path}: picture minus reference, linear light"
    image, white = result.difference()
    image.save(path, tone_map="none")
    return f"{path}: white is a difference of {white:.3g} of 1 in display values"


def _emit(path: Path, result: Comparison, many: bool) -> None:
    height, width, _ = result.picture.shape
    name = {"picture": str(path)} if many else {}
    console.emit_json({**name, **result.scores, "width": width, "height": height, "notes": result.notes})


def _print(scores: Scores) -> None:
    from renderformer.evaluation.metrics import DIGITS, METRIC_NAMES

    for name, title in METRIC_NAMES.items():
        if name in scores:
            typer.echo(f"{title:14}{scores[name]:.{DIGITS[name]}f}")


def _print_table(scores: Mapping[str, Scores]) -> None:
    """A row for each picture, then the mean and the worst of each column."""
    from renderformer.evaluation.metrics import DIGITS, METRIC_NAMES

    names = [name for name in METRIC_NAMES if all(name in row for row in scores.values())]
    summary = {
        "mean": {name: sum(row[name] for row in scores.values()) / len(scores) for name in names},
        "worst": {name: _worst(scores, name)[1] for name in names},
    }
    width = max(map(len, [*scores, *summary]))
    typer.echo(" ".join([" " * width, *(f"{METRIC_NAMES[name]:>12}" for name in names)]))
    for title, row in (*scores.items(), *summary.items()):
        typer.echo(" ".join([f"{title:{width}}", *(f"{row[name]:12.{DIGITS[name]}f}" for name in names)]))


def _worst(scores: Mapping[str, Scores], metric: str) -> tuple[str, float]:
    """The picture of the worst value, and the value."""
    values = {name: row[metric] for name, row in scores.items()}
    worst = min if metric in ("psnr", "ssim") else max
    name = worst(values, key=values.__getitem__)
    return name, values[name]


def _miss(scores: Mapping[str, Scores], metric: str, limit: float | None, side: str) -> str | None:
    """The line about a limit that is missed, if it is; nothing passes a limit that was not measured."""
    from renderformer.evaluation.metrics import METRIC_NAMES

    if limit is None:
        return None
    title = METRIC_NAMES[metric]
    if not all(metric in row for row in scores.values()):
        return f"{title} was not measured"
    fails = {"below": operator.lt, "above": operator.gt}[side]
    count = sum(fails(row[metric], limit) for row in scores.values())
    name, value = _worst(scores, metric)
    of = f" of {name}, the worst of {count} that are" if len(scores) > 1 else ""
    return f"{title} is {value:.4g}{of}, {side} {limit:g}" if count else None
