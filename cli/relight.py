"""`renderformer relight`: other strengths and colours of the lights of split pictures."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from renderformer.cli import console, options, outputs, picture_options
from renderformer.cli.motion import FPS

if TYPE_CHECKING:
    from renderformer.image import Image, SaveSettings

EXAMPLES = """[bold]Examples[/bold]

renderformer relight room.exr

renderformer relight room.exr --light lamp=2 --light "window=#ffcc88*0.5" -o evening.png

renderformer relight room.exr --only --light lamp=1 -o lamp_alone.png

renderformer relight frames/ --light lamp=2 -o "evening/{stem}.exr" -o evening.mp4
"""


def relight(
    sources: Annotated[
        list[str],
        typer.Argument(
            metavar="FILE",
            help="An exr that render --split-lights wrote; a folder, or a pattern in quotes, is a sequence.",
            show_default=False,
        ),
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
        list[str] | None,
        typer.Option(
            "--output",
            "-o",
            metavar="FILE",
            help="File to write: png, jpg, exr, npy, mp4, gif; may be repeated. {stem} and {index} are replaced; -.png "
            "is stdout.",
            show_default="none, list the lights",
            rich_help_panel=options.OUTPUT,
        ),
    ] = None,
    fps: Annotated[
        float | None,
        typer.Option(
            min=0.01, max=1000, metavar="N", help="Of videos.", show_default="24", rich_help_panel=options.OUTPUT
        ),
    ] = None,
    *,
    saving: picture_options.SavingFlags,
    overwrite: options.Overwrite = False,
    quiet: options.Quiet = False,
    as_json: options.Json = False,
) -> None:
    """Change the strengths and colours of the lights of pictures that render --split-lights wrote, in an instant.

    Without -o it lists the lights and how bright the picture is under each.
    """
    from renderformer.sequences.frames import Kind, expand_inputs

    templates, factors = output or [], dict(_factor(text) for text in light or [])
    if not templates and (factors or only):
        raise options.wrong("missing; name the file to write", "-o")
    videos = [template for template in templates if outputs.is_video(template)]
    pictures = [template for template in templates if template not in videos]
    if fps is not None and not videos:
        raise options.wrong("is for videos; name one with -o", "--fps")
    _check_fields(templates)
    settings = saving.settings(pictures)
    files = expand_inputs(sources, Kind("split .exr", (".exr",)))
    if not templates:
        _list(files, as_json)
        return
    outputs.check_templates(pictures, list(map(str, files)), as_json, ("stem", "index"))
    job = _Job(files, factors, only, settings, pictures)
    job.check(list(map(Path, videos)), overwrite)
    with console.Logged("relight", not quiet, "pictures") as stages:
        written, failed, notes = job.write_pictures(stages)
        for video in videos if not failed else []:
            notes += job.write_video(Path(video), fps or FPS)
            written.append(video)
    for problem in failed:
        console.say(f"error: {problem}")
    name = str(files[0]) if len(files) == 1 else f"{files[0]} … {files[-1]} ({len(files)} files)"
    if as_json:
        status = {"status": "failed", "error": failed[0]} if failed else {"status": "ok"}
        console.emit_json({"input": name, **status, "outputs": written, "notes": notes})
    elif not quiet and written:
        console.say_all("note", notes)
        console.say(f"{name} -> {', '.join(written[:3])}" + (f" and {len(written) - 3} more" if written[3:] else ""))
    if failed:
        raise typer.Exit(console.FAILED)


def _check_fields(templates: Sequence[str]) -> None:
    """Raise wrong usage for fields that are not replaced."""
    for template in templates:
        wrong = outputs.fields_of(template) - (set() if outputs.is_video(template) else {"stem", "index"})
        if wrong:
            raise options.wrong(
                f"{template}: {{{min(wrong)}}} is not replaced here; pictures have {{stem}} and {{index}}", "-o"
            )


@dataclass(frozen=True)
class _Job:
    """Files to relight, and the templates of the pictures to write."""

    files: list[Path]
    factors: dict[str, tuple[float, float, float]]
    only: bool
    settings: SaveSettings
    pictures: list[str]

    def _paths(self, index: int) -> list[Path]:
        """The pictures to write of a file."""
        return [outputs.expand(template, str(self.files[index]), "", index) for template in self.pictures]

    def check(self, videos: list[Path], overwrite: bool) -> None:
        """Raise InputError if a file cannot be written."""
        paths = [path for index in range(len(self.files)) for path in self._paths(index)]
        outputs.check_paths([*paths, *videos], set(), overwrite, skip_existing=False)

    def _picture(self, file: Path) -> Image:
        from renderformer.data.errors import InputError
        from renderformer.split import Split

        split = Split.load(file)
        try:
            return split.relight(self.factors, only=self.only)
        except InputError as error:
            raise error.within(file) from None

    def write_pictures(self, stages: console.Stages) -> tuple[list[str], list[str], list[str]]:
        """Write what can be written; returns the files, the errors and the notes."""
        from renderformer.data.errors import InputError

        written: list[str] = []
        failed: list[str] = []
        notes: list[str] = []
        for index, file in enumerate(self.files if self.pictures else []):
            stages.update("pictures", index, len(self.files))
            try:
                picture = self._picture(file)
                for path in self._paths(index):
                    notes += outputs.save(picture, path, self.settings)
                    written.append(str(path))
            except InputError as error:
                failed.append(str(error))
        return written, failed, notes

    def write_video(self, path: Path, fps: float) -> list[str]:
        """Write a video of all files; returns notes."""
        from renderformer.video import write_images

        first = self._picture(self.files[0])
        size = first.width, first.height

        def images() -> Iterator[Image]:
            yield first
            yield from map(self._picture, self.files[1:])

        settings = self.settings
        return write_images(path, images(), size, len(self.files), fps, settings.tone_map, settings.exposure)


def _list(files: list[Path], as_json: bool) -> None:
    """Print the lights, the mean radiance of the pictures under each, and its share of the sum."""
    from renderformer.split import Split

    means: dict[str, float] = {}
    error = 0.0
    for file in files:
        split = Split.load(file)
        for name, hdr in split.lights.items():
            means[name] = means.get(name, 0.0) + float(hdr.mean()) / len(files)
        error = max(error, split.error)
    name = str(files[0]) if len(files) == 1 else f"{len(files)} files"
    if as_json:
        console.emit_json({"input": name, "status": "ok", "lights": means, "error": error})
        return
    total, width = sum(means.values()), max(map(len, means))
    for light, mean in means.items():
        typer.echo(f"{light:{width}}  {mean:10.4g}  {100 * mean / total if total > 0 else 0:5.1f} %")
    lights = f"{len(means)} light{'s' * (len(means) > 1)}"
    console.say(f"{name}: {lights}, whose sum differs from the joint picture by {100 * error:.2g} %")


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
