"""What the options of several commands share: panels of the help, single options, the output, and the parsing of
values; a wrong value is wrong usage. Groups of options are in `scene_options`, `picture_options` and `model_options`.

`--help` imports these files, so they must not import NumPy or torch; `tests/test_cli.py` compares the choices there
with those of the engine.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from renderformer.data.trained_range import Span, TrainedRange

if TYPE_CHECKING:
    from renderformer.data.errors import InputError
    from renderformer.data.scene import Material

PICTURE, MODEL, CAMERA, OUTPUT = "Picture", "Model", "Camera", "Output"
STAGE, TRIANGLES, ENVIRONMENT = "Stage (for bare meshes)", "Triangles", "Environment"
MAX_SIDE = 16384
TRAINED = TrainedRange()
# For the context of a command: hidden spellings of --output.
OUT_IS_OUTPUT = {"token_normalize_func": lambda name: "output" if name == "out" else name}
HTML_IS_OUTPUT = {"token_normalize_func": lambda name: "output" if name == "html" else name}


def _output(*names: str, **details: Any) -> Any:
    return typer.Option(*names, rich_help_panel=OUTPUT, **details)


def span(values: Span | None) -> str:
    """A span of the trained range as text, such as "1.5 … 2"."""
    return "anything" if values is None else f"{round(values[0], 2):g} … {round(values[1], 2):g}"


OUTPUT_HELP = (
    "File to write: png, jpg, exr, npy, mp4, gif; may be repeated. {stem}, {camera}, {index}, {frame} are replaced; "
    "-.png is stdout."
)
Format = Annotated[
    str | None, typer.Option("--format", metavar="SUFFIX", help="Of the input - (stdin): glb, obj, ply, json …")
]
SceneFile = Annotated[
    Path | None, _output("--output", "-o", metavar="FILE", help="Scene to write: json (meshes go beside it) or h5.")
]
Overwrite = Annotated[bool, _output("--overwrite", help="Replace files that exist; else they are an error.")]
Quiet = Annotated[bool, _output("--quiet", "-q", help="Only errors on stderr; no progress, notes, warnings.")]
Verbose = Annotated[
    bool, _output("--verbose", "-v", help="Every note and warning; else the two that matter most, and a count.")
]
Json = Annotated[bool, _output("--json", help="One line of JSON per input on stdout, for programs.")]


@dataclass(frozen=True)
class OutputFlags:
    """Files and messages."""

    output: Annotated[
        list[str] | None,
        _output(
            "--output",
            "-o",
            metavar="FILE",
            help=OUTPUT_HELP,
            show_default="{stem}.png, of frames {stem}_{frame:04}.png",
        ),
    ] = None
    overwrite: Overwrite = False
    skip_existing: Annotated[bool, _output("--skip-existing", help="Leave files that exist as they are.")] = False
    quiet: Quiet = False
    verbose: Verbose = False
    as_json: Json = False

    def check(self) -> None:
        """Raise wrong usage for options that contradict each other."""
        if self.overwrite and self.skip_existing:
            raise wrong("cannot be combined with --overwrite", "--skip-existing")
        if self.quiet and self.verbose:
            raise wrong("cannot be combined with --quiet", "--verbose")


def wrong(message: str, option: str) -> typer.BadParameter:
    """A usage error about one option."""
    return typer.BadParameter(message, param_hint=option)


def refused(error: InputError, option: str) -> typer.BadParameter:
    """The usage error for a value that the engine refused."""
    return wrong(f"{error.problem}; {error.remedy}" if error.remedy else error.problem, option)


def read_resolution(text: str) -> tuple[int, int]:
    """(width, height) of "512" or "640x360"."""
    match = re.fullmatch(r"(\d{1,9})(?:[xX](\d{1,9}))?", text.strip())
    sides = (int(match[1]), int(match[2] or match[1])) if match else (0, 0)
    if not all(1 <= side <= MAX_SIDE for side in sides):
        raise wrong(f"{text!r} is not a size such as 512 or 640x360 (1 … {MAX_SIDE})", "--resolution")
    return sides


def read_numbers(text: str, option: str, counts: tuple[int, ...] = (3,)) -> tuple[float, ...]:
    """Finite numbers separated by commas."""
    try:
        values = tuple(float(part) for part in text.split(","))
    except ValueError:
        values = ()
    if len(values) not in counts or not all(map(math.isfinite, values)):
        expected = " or ".join(map(str, counts))
        raise wrong(f"{text!r} is not {expected} finite number{'s' * (counts != (1,))} separated by commas", option)
    return values


def read_material(text: str) -> Material:
    """A Material of "diffuse=0.8,0.1,0.1 specular=0.2 roughness=0.3"; keys that are left out take its defaults."""
    from renderformer.data.errors import InputError
    from renderformer.data.scene import Material

    values: dict[str, Any] = {}
    for word in text.split():
        key, separator, value = word.partition("=")
        if key not in ("diffuse", "specular", "roughness", "emission") or not separator:
            raise wrong(f"{word!r} is not diffuse=…, specular=…, roughness=… or emission=…", "--material")
        if key in values:
            raise wrong(f"{key} is given twice", "--material")
        numbers = read_numbers(value, "--material", (1,) if key == "roughness" else (1, 3))
        values[key] = numbers[0] if len(numbers) == 1 else numbers
    if not values:
        raise wrong("is empty", "--material")
    try:
        return Material(**values)
    except InputError as error:
        raise refused(error, "--material") from None


def check_stage(arguments: Mapping[str, Any]) -> None:
    """Raise wrong usage for values that no stage can have."""
    from renderformer.data.errors import InputError
    from renderformer.data.staging import StageOptions

    try:
        StageOptions.from_keywords(arguments)
    except InputError as error:
        raise refused(error, flag(error.place)) from None


def flag(name: str) -> str:
    """The option for an argument of the engine."""
    return "--" + name.replace("_", "-")


def check_format(text: str | None, has_stdin: bool) -> None:
    """Raise wrong usage for stdin without --format, and for --format without stdin."""
    if has_stdin and not text:
        raise wrong("the input - (stdin) needs a format, for example --format glb", "--format")
    if text and not has_stdin:
        raise wrong("applies to the input - (stdin); the suffix of a file is its format", "--format")
    if text and not re.fullmatch(r"\.?[A-Za-z0-9]{1,8}", text):
        raise wrong(f"{text!r} is not a format such as glb", "--format")
