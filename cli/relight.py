"""`renderformer relight`: other strengths and colours of the lights of a split picture."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from renderformer.cli import console, options, outputs

if TYPE_CHECKING:
    from renderformer.split import Split

EXAMPLES = """[bold]Examples[/bold]

renderformer relight room.exr

renderformer relight room.exr --light lamp=2 --light "window=#ffcc88*0.5" -o evening.png

renderformer relight room.exr --only --light lamp=1 -o lamp_alone.png
"""


def relight(
    source: Annotated[
        Path, typer.Argument(metavar="FILE", help="An exr that render --split-lights wrote.", show_default=False)
    ],
    light: Annotated[
        list[str] | None,
        typer.Option(
            "--light",
            "-l",
            metavar="NAME=FACTOR",
            help="How many times as strong: a number, linear r,g,b, a colour such as #ffcc88, or a product of them "
            'such as "#ffcc88*0.5"; 0 is off. NAME may be a pattern such as "lamp*". May be repeated.',
        ),
    ] = None,
    only: Annotated[bool, typer.Option("--only", help="Switch off the lights that are not named.")] = False,
    output: Annotated[
        list[Path] | None,
        typer.Option(
            "--output",
            "-o",
            metavar="FILE",
            help="File to write: png, jpg, exr or npy; may be repeated.",
            show_default="none, list the lights",
            rich_help_panel=options.OUTPUT,
        ),
    ] = None,
    *,
    saving: options.SavingFlags,
    overwrite: options.Overwrite = False,
    quiet: options.Quiet = False,
    as_json: options.Json = False,
) -> None:
    """Change the strengths and colours of the lights of a picture that render --split-lights wrote, in an instant.

    Without -o it lists the lights and how bright the picture is under each.
    """
    from renderformer.split import Split

    files = output or []
    factors = dict(_factor(text) for text in light or [])
    if not files and (factors or only):
        raise options.wrong("missing; name the file to write", "-o")
    settings = saving.settings([str(path) for path in files]) if files else None
    for path in files:
        outputs.check_file(path, overwrite)
    split = Split.load(source)
    if settings is None:
        _list(split, source, as_json)
        return
    picture = split.relight(factors, only=only)
    notes = [note for path in files for note in picture.save(path, **vars(settings), overwrite=overwrite)]
    if as_json:
        console.emit_json({"input": str(source), "status": "ok", "outputs": list(map(str, files)), "notes": notes})
    elif not quiet:
        console.say_all("note", notes)
        console.say(f"{source} -> {', '.join(map(str, files))} ({picture.width}x{picture.height})")


def _list(split: Split, source: Path, as_json: bool) -> None:
    """Print the lights, the mean radiance of the picture under each, and its share of the sum."""
    means = {name: float(hdr.mean()) for name, hdr in split.lights.items()}
    if as_json:
        console.emit_json({"input": str(source), "status": "ok", "lights": means, "error": split.error})
        return
    total = sum(means.values())
    width = max(map(len, means))
    for name, mean in means.items():
        typer.echo(f"{name:{width}}  {mean:10.4g}  {100 * mean / total if total > 0 else 0:5.1f} %")
    console.say(f"{source}: {split.summary()}")


def _factor(text: str) -> tuple[str, tuple[float, float, float]]:
    """Name and factor of "lamp=#ffcc88*0.5"."""
    name, separator, value = text.rpartition("=")
    if not separator or not name:
        raise options.wrong(f"{text!r} is not NAME=FACTOR, such as lamp=2 or lamp=#ffcc88", "--light")
    red = green = blue = 1.0
    for part in value.split("*"):
        r, g, b = _colour(part.strip(), text)
        red, green, blue = red * r, green * g, blue * b
    return name, (red, green, blue)


def _colour(text: str, whole: str) -> tuple[float, float, float]:
    """Linear RGB of a number, three numbers or a colour (sRGB)."""
    from renderformer.data.colour import colour_of

    colour = colour_of(text)
    if colour is None:
        problem = f"{whole!r}: {text!r} is not a number of 0 or more, three of them (r,g,b) or a colour such as #ffcc88"
        raise options.wrong(problem, "--light")
    return colour
