"""Options that several commands share, and how their values are read; a wrong value is wrong usage (exit code 2).

This file is imported for `--help`, so it must not import NumPy or torch; `tests/test_cli.py` compares the choices here
with those of the engine.
"""

from __future__ import annotations

import enum
import math
import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from renderformer.data.scene import Material

PICTURE, MODEL, CAMERA, OUTPUT = "Picture", "Model", "Camera", "Output"
STAGE, TRIANGLES = "Stage (for bare meshes)", "Triangles"
MAX_SIDE = 16384
# Arguments of `load_scene` that apply to every file; the others belong to the stage of a bare mesh.
SIZES = ("budget", "subdivide")


class ToneMap(enum.StrEnum):
    """Tone maps of `renderformer.image`."""

    AGX = "agx"
    FILMIC = "filmic"
    PBR_NEUTRAL = "pbr-neutral"
    NONE = "none"


class Precision(enum.StrEnum):
    """Precisions of `renderformer.renderer`."""

    AUTO = "auto"
    FP32 = "fp32"
    BF16 = "bf16"
    FP16 = "fp16"


class Attention(enum.StrEnum):
    """Backends of `renderformer.kernels.attention`."""

    AUTO = "auto"
    SDPA = "sdpa"
    SAGE = "sage"


class BitDepth(enum.StrEnum):
    """Bits per channel of a PNG."""

    EIGHT = "8"
    SIXTEEN = "16"


class Stage(enum.StrEnum):
    """Stages of `renderformer.data.staging`."""

    AUTO = "auto"
    NONE = "none"
    FLOOR = "floor"
    WALL = "wall"
    CORNER = "corner"
    BOX = "box"


class Up(enum.StrEnum):
    """Axes that may point up in a mesh file."""

    Y = "y"
    Z = "z"


StageKind = Annotated[
    Stage | None,
    typer.Option(
        metavar="KIND",
        help="What the mesh stands on: none, floor, wall, corner, box; auto is a box, for an orbit a floor.",
        rich_help_panel=STAGE,
        show_default="auto",
    ),
]
Size = Annotated[float | None, typer.Option(metavar="UNITS", help="Largest extent, at most 1.", rich_help_panel=STAGE)]
Rotation = Annotated[
    float | None,
    typer.Option(metavar="DEGREES", help="About the vertical, counter-clockwise from above.", rich_help_panel=STAGE),
]
UpAxis = Annotated[
    Up | None,
    typer.Option(
        metavar="y|z", help="Axis that points up once the file is read.", rich_help_panel=STAGE, show_default="z"
    ),
]
LightPosition = Annotated[
    str | None,
    typer.Option(metavar="X,Y,Z", help="Centre of the light, Z up; trained 2.1 … 2.7 away.", rich_help_panel=STAGE),
]
LightStrength = Annotated[
    float | None,
    typer.Option(
        metavar="RADIANCE",
        help="Of the light; 0 for none; trained on 2500 … 5000.",
        rich_help_panel=STAGE,
        show_default="balanced",
    ),
]
LightSize = Annotated[
    float | None,
    typer.Option(metavar="UNITS", help="Edge of the light triangle; trained on 0.14 … 0.18.", rich_help_panel=STAGE),
]
MaterialText = Annotated[
    str | None,
    typer.Option(
        "--material",
        metavar="KEY=VALUE …",
        help='For the whole mesh: "diffuse=0.8,0.1,0.1 specular=0.2 roughness=0.3".',
        rich_help_panel=STAGE,
    ),
]
Seed = Annotated[
    int | None,
    typer.Option(
        min=0,
        metavar="N",
        help="Random colour for each connected part; nothing else is random.",
        rich_help_panel=STAGE,
    ),
]
Budget = Annotated[
    int | None,
    typer.Option(
        min=1,
        metavar="N",
        help="Most triangles; above it the objects are simplified, and told so.",
        rich_help_panel=TRIANGLES,
        show_default="4096 for a mesh, no limit for a scene",
    ),
]
Subdivide = Annotated[
    bool, typer.Option("--subdivide", help="Cut large triangles into smaller ones.", rich_help_panel=TRIANGLES)
]
Format = Annotated[
    str | None,
    typer.Option("--format", metavar="SUFFIX", help="Of an input that is - (stdin): glb, obj, ply, json …"),
]
Overwrite = Annotated[
    bool, typer.Option("--overwrite", help="Replace files that exist; else they are an error.", rich_help_panel=OUTPUT)
]
Quiet = Annotated[
    bool,
    typer.Option("--quiet", "-q", help="Only errors on stderr; no progress, notes, warnings.", rich_help_panel=OUTPUT),
]
Json = Annotated[
    bool, typer.Option("--json", help="One line of JSON per input on stdout, for programs.", rich_help_panel=OUTPUT)
]


def wrong(message: str, option: str) -> typer.BadParameter:
    """A usage error about one option."""
    return typer.BadParameter(message, param_hint=option)


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
        raise wrong(str(error).removeprefix("material: "), "--material") from None


def stage_arguments(
    *,
    stage: Stage | None,
    up: Up | None,
    light_position: str | None,
    material: str | None,
    **others: float | bool | None,
) -> dict[str, Any]:
    """Arguments for `load_scene`; only what was given, so that the engine's defaults stand."""
    given = {
        "stage": None if stage is None else stage.value,
        "up": None if up is None else up.value,
        "light_position": None if light_position is None else read_numbers(light_position, "--light-position"),
        "material": None if material is None else read_material(material),
        # A flag that was not given is the same as nothing.
        **{key: value for key, value in others.items() if value is not False},
    }
    arguments = {key: value for key, value in given.items() if value is not None}
    check_stage(arguments)
    return arguments


def check_stage(arguments: dict[str, Any]) -> None:
    """Values that no stage can have are wrong usage."""
    from renderformer.data.errors import InputError
    from renderformer.data.staging import StageOptions

    try:
        StageOptions.from_keywords({k: v for k, v in arguments.items() if k not in SIZES})
    except InputError as error:
        raise wrong(f"{error.problem}; {error.remedy}", "--" + error.place.replace("_", "-")) from None


def check_suffix(text: str | None, has_stdin: bool) -> None:
    """--format belongs to stdin and stdin needs it."""
    if has_stdin and not text:
        raise wrong("an input that is - needs the format of what comes, for example --format glb", "--format")
    if text and not has_stdin:
        raise wrong("applies to an input that is - (stdin); the suffix tells it for a file", "--format")


def stem_of(source: str) -> str:
    """What {stem} stands for."""
    return "stdin" if source == "-" else Path(source).stem
