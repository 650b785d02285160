"""`renderformer compare`: how far a picture is from a reference."""

from __future__ import annotations

import operator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from renderformer.cli import console
from renderformer.cli.options import Json, Overwrite, Quiet, wrong

if TYPE_CHECKING:
    from renderformer.evaluation.comparison import Comparison

EXAMPLES = """[bold]Examples[/bold]

renderformer compare bunny.exr reference.exr

renderformer compare bunny.exr reference.exr -o difference.png --min-psnr 35 --max-flip 0.05
"""


def compare(
    picture: Annotated[Path, typer.Argument(metavar="PICTURE", help="png, jpg, exr or npy.", show_default=False)],
    reference: Annotated[Path, typer.Argument(metavar="REFERENCE", help="png, jpg, exr or npy.", show_default=False)],
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            metavar="FILE",
            help="Picture of the difference: png and jpg of its size, exr and npy of picture minus reference.",
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
    """Print PSNR, SSIM, FLIP and relative MSE of a picture against a reference.

    Of pictures of two sizes the larger one is reduced. FLIP needs the extra 'metrics'. Exit code 1: a limit is missed.
    """
    from renderformer.cli.outputs import check_file
    from renderformer.data.errors import InputError
    from renderformer.evaluation.comparison import compare as compare_files
    from renderformer.image import SaveSettings, check_output

    if output is not None:
        try:
            check_output(output, SaveSettings())
        except InputError as error:
            raise wrong(error.problem, "-o") from None
        check_file(output, overwrite)
    result = compare_files(picture, reference)
    if not quiet:
        console.say_all("note", result.notes)
    if output is not None:
        saved = _save_difference(result, output)
        if not quiet:
            console.say(saved)
    _print(result, as_json)
    limits = {"psnr": (min_psnr, "below"), "ssim": (min_ssim, "below"), "flip": (max_flip, "above"),
              "relative_mse": (max_relative_mse, "above")}  # fmt: skip
    misses = [line for name, limit in limits.items() if (line := _miss(result, name, *limit))]
    for line in misses:
        console.say(f"error: {line}")
    if misses:
        raise typer.Exit(console.FAILED)


def _save_difference(result: Comparison, path: Path) -> str:
    """Write the difference; returns a line about it."""
    from renderformer.image import LINEAR_SUFFIXES

    if path.suffix.lower() in LINEAR_SUFFIXES:
        result.signed().save(path, half=False)
        return f"{path}: picture minus reference, linear light"
    image, white = result.difference()
    image.save(path, tone_map="none")
    return f"{path}: white is a difference of {white:.3g} of 1 in display values"


def _print(result: Comparison, as_json: bool) -> None:
    from renderformer.evaluation.metrics import DIGITS, METRIC_NAMES

    height, width, _ = result.picture.shape
    if as_json:
        console.emit_json({**result.scores, "width": width, "height": height, "notes": result.notes})
        return
    for name, title in METRIC_NAMES.items():
        if name in result.scores:
            typer.echo(f"{title:14}{result.scores[name]:.{DIGITS[name]}f}")


def _miss(result: Comparison, name: str, limit: float | None, side: str) -> str | None:
    """The line about a limit that is missed, if it is; nothing passes a limit that was not measured."""
    from renderformer.evaluation.metrics import METRIC_NAMES

    if limit is None:
        return None
    if name not in result.scores:
        return f"{METRIC_NAMES[name]} was not measured"
    value = result.scores[name]
    fails = {"below": operator.lt, "above": operator.gt}[side](value, limit)
    return f"{METRIC_NAMES[name]} is {value:.4g}, {side} {limit:g}" if fails else None
