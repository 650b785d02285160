"""The options of render, view and convert in groups, and the parsing of their values; a wrong value is wrong usage.

`--help` imports this file, so it must not import NumPy or torch; `tests/test_cli.py` compares the choices here with
those of the engine.
"""

from __future__ import annotations

import enum
import functools
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from renderformer.data.trained_range import ANYWHERE, Span, TrainedRange

if TYPE_CHECKING:
    from renderformer.cameras import CameraChoice
    from renderformer.data.camera import Camera
    from renderformer.data.errors import InputError
    from renderformer.data.scene import Material, Scene
    from renderformer.image import SaveSettings

PICTURE, MODEL, CAMERA, OUTPUT = "Picture", "Model", "Camera", "Output"
STAGE, TRIANGLES, ENVIRONMENT = "Stage (for bare meshes)", "Triangles", "Environment"
MAX_SIDE = 16384
TRAINED = TrainedRange()
# For the context of a command: hidden spellings of --output.
OUT_IS_OUTPUT = {"token_normalize_func": lambda name: "output" if name == "out" else name}
HTML_IS_OUTPUT = {"token_normalize_func": lambda name: "output" if name == "html" else name}


class ToneMap(enum.StrEnum):
    """Tone maps of `renderformer.image`."""

    NEUTRAL = "neutral"
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
    """Backends of `renderformer.kernels.backends`."""

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
    STUDIO = "studio"
    NONE = "none"
    FLOOR = "floor"
    WALL = "wall"
    CORNER = "corner"
    BOX = "box"


class Up(enum.StrEnum):
    """The axis that points up in a mesh file."""

    AUTO = "auto"
    Y = "y"
    Z = "z"


_picture, _model, _camera, _stage, _triangles, _environment, _output = (
    functools.partial(typer.Option, rich_help_panel=panel)
    for panel in (PICTURE, MODEL, CAMERA, STAGE, TRIANGLES, ENVIRONMENT, OUTPUT)
)


def _span(values: Span | None) -> str:
    """A span of the trained range as text, such as "1.5 … 2"."""
    return "anything" if values is None else f"{round(values[0], 2):g} … {round(values[1], 2):g}"


OUTPUT_HELP = (
    "File to write: png, jpg, exr, npy, mp4, gif; may be repeated. {stem}, {camera}, {index}, {frame} are replaced; "
    "-.png is stdout."
)
Resolution = Annotated[str, _picture("--resolution", "-r", metavar="N|WxH", help="Pixels.")]
Format = Annotated[
    str | None, typer.Option("--format", metavar="SUFFIX", help="Of the input - (stdin): glb, obj, ply, json …")
]
Overwrite = Annotated[bool, _output("--overwrite", help="Replace files that exist; else they are an error.")]
Quiet = Annotated[bool, _output("--quiet", "-q", help="Only errors on stderr; no progress, notes, warnings.")]
Verbose = Annotated[
    bool, _output("--verbose", "-v", help="Every note and warning; else the two that matter most, and a count.")
]
Json = Annotated[bool, _output("--json", help="One line of JSON per input on stdout, for programs.")]


@dataclass(frozen=True)
class StageFlags:
    """Arguments of `load_scene`."""

    stage: Annotated[
        Stage | None,
        _stage(
            metavar="KIND",
            help="What the mesh stands on: studio, none, floor, wall, corner, box. auto is studio; with options of the "
            "light, and for a released model, box or, for an orbit, floor.",
            show_default="auto",
        ),
    ] = None
    size: Annotated[float | None, _stage(metavar="UNITS", help="Largest extent, at most 1.")] = None
    rotation: Annotated[
        float | None, _stage(metavar="DEGREES", help="About the vertical, counter-clockwise from above.")
    ] = None
    up: Annotated[
        Up | None,
        _stage(
            metavar="y|z|auto",
            help="Axis that points up once the file is read; auto decides by format, comments and shape, with a note.",
            show_default="auto",
        ),
    ] = None
    light_position: Annotated[
        str | None,
        _stage(metavar="X,Y,Z", help=f"Centre of the light, Z up; trained {_span(TRAINED.light_distance)} away."),
    ] = None
    light_strength: Annotated[
        float | None,
        _stage(
            metavar="RADIANCE",
            help=f"Of the light; 0 for none; trained on {_span(TRAINED.emission)}.",
            show_default="balanced",
        ),
    ] = None
    light_size: Annotated[
        float | None,
        _stage(metavar="UNITS", help=f"Edge of the light triangle; trained on {_span(TRAINED.light_edge)}."),
    ] = None
    material: Annotated[
        str | None,
        _stage(metavar="KEY=VALUE …", help='For the whole mesh: "diffuse=0.8,0.1,0.1 specular=0.2 roughness=0.3".'),
    ] = None
    seed: Annotated[
        int | None, _stage(min=0, metavar="N", help="Random colour for each connected part; nothing else is random.")
    ] = None
    budget: Annotated[
        int | None,
        _triangles(
            min=1,
            metavar="N",
            help="Most triangles; objects above it are simplified, and a note says so.",
            show_default=f"{TRAINED.triangles} for a mesh that a released model draws, else no limit",
        ),
    ] = None
    subdivide: Annotated[bool, _triangles("--subdivide", help="Cut large triangles into smaller ones.")] = False

    def of_mesh(self) -> dict[str, Any]:
        """The options for bare meshes as arguments of `load_scene`, without those that were left out."""
        values = {name: value for name, value in vars(self).items() if name not in ("budget", "subdivide")}
        arguments = {
            name: value.value if isinstance(value, enum.Enum) else value
            for name, value in values.items()
            if value is not None
        }
        if self.light_position is not None:
            arguments["light_position"] = read_numbers(self.light_position, "--light-position")
        if self.material is not None:
            arguments["material"] = read_material(self.material)
        check_stage(arguments)
        return arguments

    def of_every_file(self) -> dict[str, Any]:
        """The options for meshes and scene files as arguments of `load_scene`, without those that were left out."""
        return ({"budget": self.budget} if self.budget else {}) | ({"subdivide": True} if self.subdivide else {})


@dataclass(frozen=True)
class EnvironmentFlags:
    """What surrounds and lights a scene."""

    environment: Annotated[
        str | None,
        _environment(
            metavar="NAME|COLOUR|FILE",
            help="Light from all around: studio, sky, sunset, a colour such as #ffffff or white, or an .hdr or .exr "
            "picture of all directions. It replaces the stage's light and walls unless they are asked for.",
            show_default="studio for a mesh",
        ),
    ] = None
    environment_strength: Annotated[
        float | None, _environment(min=0, max=1e6, metavar="FACTOR", help="Of its light.", show_default="1")
    ] = None
    environment_rotation: Annotated[
        float | None, _environment(metavar="DEGREES", help="About the vertical, counter-clockwise from above.")
    ] = None
    background: Annotated[
        str | None,
        _environment(
            metavar="KIND|COLOUR",
            help="Behind objects and stage: visible (the environment), invisible (black), transparent (alpha in png "
            "and exr; with --stage none of the mesh alone), or a colour: #202020, white, linear r,g,b.",
            show_default="visible",
        ),
    ] = None

    def _changes(self) -> dict[str, Any]:
        """Attributes of `Environment` that were given."""
        values = {
            "strength": self.environment_strength,
            "rotation": self.environment_rotation,
            "background": self._background(),
        }
        return {name: value for name, value in values.items() if value is not None}

    def _background(self) -> str | None:
        """The background; an unknown one is wrong usage."""
        from renderformer.data.environment import Environment
        from renderformer.data.errors import InputError

        if self.background is not None:
            try:
                Environment(0.0, background=self.background)
            except InputError as error:
                raise refused(error, "--background") from None
        return self.background

    def arguments(self) -> dict[str, Any]:
        """The environment as an argument of `load_scene`, if one was named; a wrong value is wrong usage."""
        from renderformer.data.environment import Environment
        from renderformer.data.errors import InputError

        if self.environment is None:
            return {}
        try:
            return {"environment": Environment.of(self.environment).replace(**self._changes())}
        except InputError as error:
            # A file that cannot be read is no wrong usage.
            if error.place == str(Path(self.environment)):
                raise
            raise refused(error, "--environment") from None

    def applied(self, scene: Scene) -> Scene:
        """The scene with the changes to the environment of its file, if none was named."""
        from renderformer.data.environment import Environment
        from renderformer.data.errors import InputError

        changes = self._changes()
        if self.environment is not None or not changes:
            return scene
        if scene.environment is None and changes.keys() != {"background"}:
            name = min(changes.keys() - {"background"})
            raise InputError(flag(f"environment_{name}"), "there is no environment", "name one with --environment")
        # Without an environment, a background is that of a dark one.
        return scene.replace(environment=(scene.environment or Environment(0.0)).replace(**changes))


@dataclass(frozen=True)
class ModelFlags:
    """Which model, and where it runs; the fields but `model` are arguments of `Renderer.from_pretrained`."""

    model: Annotated[
        str | None,
        _model(
            metavar="FOLDER|ID",
            help="Folder with config.json and model.safetensors, or a Hub id.",
            show_default="the embedded one",
        ),
    ] = None
    revision: Annotated[str | None, _model(metavar="NAME", help="Branch, tag or commit of a Hub id.")] = None
    offline: Annotated[bool, _model("--offline", help="Use only what was downloaded before.")] = False
    device: Annotated[str, _model(metavar="NAME", help="auto, cpu, cuda, cuda:1 or mps.")] = "auto"
    no_network: Annotated[
        bool, _model("--no-network", help="Draw by ray casting and cached light alone, without a model; on the CPU.")
    ] = False

    def arguments(self) -> dict[str, Any]:
        """Keyword arguments of `Renderer.from_pretrained`."""
        given = {name: value.value if isinstance(value, enum.Enum) else value for name, value in vars(self).items()}
        del given["model"]
        given["network"] = not given.pop("no_network")
        return given

    def trained(self) -> TrainedRange:
        """The range to set a mesh on a stage in, before the model is loaded; of a Hub id that of the released ones."""
        from renderformer.config import V1
        from renderformer.data.errors import InputError

        if self.model is None:
            return ANYWHERE
        from renderformer.checkpoints import read_config

        try:
            return read_config(Path(self.model)).trained
        except InputError:
            # A folder that cannot be read is refused when the model is loaded.
            return V1

    def framing(self, size: tuple[int, int]) -> dict[str, Any]:
        """Arguments of `load_scene` with which a bare mesh fills a picture of (width, height) pixels."""
        return {"trained": self.trained(), "aspect": min(max(size[0] / size[1], 1 / 64), 64.0)}


@dataclass(frozen=True)
class TriangleStageFlags(ModelFlags):
    """`ModelFlags`, and the arithmetic of the triangle stage."""

    precision: Annotated[Precision, _model(metavar="NAME", help="Of the triangle stage: auto, fp32, bf16 or fp16.")] = (
        Precision.AUTO
    )
    attention: Annotated[
        Attention,
        _model(
            metavar="NAME", help="Of the triangle stage: auto, sdpa (exact) or sage (8-bit, NVIDIA GPUs, fp16 or bf16)."
        ),
    ] = Attention.AUTO


@dataclass(frozen=True)
class SavingFlags:
    """How pictures are saved."""

    tone_map: Annotated[
        ToneMap,
        _picture(
            metavar="NAME",
            help="Of png and jpg: neutral, agx, filmic, pbr-neutral or none; exr and npy hold linear light.",
        ),
    ] = ToneMap.NEUTRAL
    exposure: Annotated[
        float, _picture(min=-32, max=32, metavar="STOPS", help="+1 doubles the light, in every format.")
    ] = 0.0
    bit_depth: Annotated[BitDepth, _picture(metavar="8|16", help="Of png.")] = BitDepth.EIGHT
    quality: Annotated[int, _picture(min=1, max=100, metavar="N", help="Of jpg.")] = 95
    full_float: Annotated[bool, _picture("--full-float", help="32-bit floats in exr; else 16.")] = False

    def settings(self, files: Sequence[str]) -> SaveSettings:
        """The settings for `files`; an unknown format, or an option that applies to no file, is wrong usage."""
        from renderformer.data.errors import InputError
        from renderformer.image import FORMATS, SaveSettings, check_output

        if not math.isfinite(self.exposure):
            raise wrong("is not a finite number", "--exposure")
        settings = SaveSettings(
            self.tone_map.value, self.exposure, int(self.bit_depth.value), self.quality, not self.full_float
        )
        try:
            for file in files:
                check_output(Path(file), settings)
        except InputError as error:
            raise refused(error, f"-o {error.place}") from None
        applicable = {option for file in files for option in FORMATS[Path(file).suffix.lower()].options}
        for option, name, requested in (
            ("--bit-depth", "bit_depth", self.bit_depth != BitDepth.EIGHT),
            ("--full-float", "half", self.full_float),
        ):
            if requested and name not in applicable:
                suffixes = ", ".join(suffix for suffix, form in FORMATS.items() if name in form.options)
                raise wrong(f"is for {suffixes} files, and none is written", option)
        return settings


@dataclass(frozen=True)
class PictureFlags(SavingFlags):
    """How pictures are drawn and saved."""

    resolution: Resolution = "512"
    aov: Annotated[
        str | None,
        _picture(
            metavar="NAMES",
            help="Layers beside the picture in exr: all, or some of depth, normal, albedo, position, object, triangle, "
            "direct, indirect, highlight, reflection, emission, background, separated by commas.",
            show_default="none",
        ),
    ] = None

    def settings(self, files: Sequence[str]) -> SaveSettings:
        """See `SavingFlags.settings`; no file for the layers is wrong usage."""
        settings = super().settings(files)
        self.layers(files)
        return settings

    def layers(self, files: Sequence[str]) -> tuple[str, ...]:
        """The layers to make, names of `renderformer.aovs.AOVS`; an unknown one or no file for them is wrong usage."""
        from renderformer.aovs import AOVS, checked
        from renderformer.data.errors import InputError

        if self.aov is None:
            return ()
        _check_layered(files, "--aov")
        try:
            return tuple(AOVS) if self.aov == "all" else checked(self.aov.split(","))
        except InputError as error:
            raise refused(error, "--aov") from None

    def split(self, files: Sequence[str]) -> bool:
        """Whether each light gets a layer; no file for them is wrong usage."""
        return False


@dataclass(frozen=True)
class SplitPictureFlags(PictureFlags):
    """`PictureFlags`, and layers of single lights."""

    split_lights: Annotated[
        bool,
        _picture("--split-lights", help="A layer for each light beside the picture, in exr; see renderformer relight."),
    ] = False

    def split(self, files: Sequence[str]) -> bool:
        """See `PictureFlags.split`."""
        if self.split_lights:
            _check_layered(files, "--split-lights")
        return self.split_lights


def _check_layered(files: Sequence[str], option: str) -> None:
    from renderformer.image import FORMATS

    if not any(FORMATS[Path(file).suffix.lower()].layers for file in files):
        raise wrong("is for .exr files, and none is written", option)


@dataclass(frozen=True)
class CameraFlags:
    """The cameras to render."""

    camera: Annotated[
        list[str] | None,
        _camera(metavar="NAME|INDEX", help="Of the scene, or of a glTF file; may be repeated.", show_default="all"),
    ] = None
    azimuth: Annotated[
        float | None,
        _camera(metavar="DEGREES", help="Counter-clockwise from above; 0 is the front.", show_default="35 for a mesh"),
    ] = None
    elevation: Annotated[
        float | None,
        _camera(metavar="DEGREES", help="Above the horizon, -90 … 90.", show_default="by the shape of a mesh"),
    ] = None
    distance: Annotated[
        float | None, _camera(metavar="UNITS", help=f"From the middle; trained on {_span(TRAINED.camera_distance)}.")
    ] = None
    fov: Annotated[
        float | None, _camera(metavar="DEGREES", help=f"Vertical angle of view; trained on {_span(TRAINED.fov)}.")
    ] = None
    frame: Annotated[
        bool, _camera("--frame/--no-frame", help="Fill the picture with a bare mesh, or show its whole stage.")
    ] = True

    def choice(self, turntable: int | None = None, path: Sequence[Camera] = ()) -> CameraChoice:
        """The choice; names together with options for new cameras are wrong usage.

        Args:
            turntable: number of cameras of a turn.
            path: cameras of a path.
        """
        from renderformer.cameras import CameraChoice

        names = ("azimuth", "elevation", "distance", "fov")
        angles = {name: getattr(self, name) for name in names if getattr(self, name) is not None}
        if self.camera and (angles or turntable or path):
            raise wrong("cannot be combined with a turn, a path or angles, which make new cameras", "--camera")
        if path and (angles or turntable):
            raise wrong("cannot be combined with --turntable or angles, it has its own views", "--camera-path")
        check_stage(angles)
        return CameraChoice(tuple(self.camera or ()), angles, turntable, tuple(path))


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
