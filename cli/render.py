"""`renderformer render`: meshes and scenes to pictures."""

from __future__ import annotations

import functools
import math
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from renderformer.cli import console, inputs, options, outputs
from renderformer.cli.options import CAMERA, MODEL, OUTPUT, PICTURE

if TYPE_CHECKING:
    from renderformer.cli.cameras import Numbered
    from renderformer.data.scene import Scene
    from renderformer.image import Image
    from renderformer.renderer import Renderer

EXAMPLES = """[bold]Examples[/bold]

renderformer render bunny.glb -o bunny.png

renderformer render scene.json -o "{stem}_{camera}.png" -o "{stem}_{camera}.exr" --resolution 640x360

renderformer render *.obj -o "out/{stem}.png" --stage corner --material "diffuse=0.8,0.2,0.1 roughness=0.3"

renderformer render bunny.glb --orbit 24 -o "frames/{index:03d}.png"

cat bunny.glb | renderformer render - --format glb -o -.png | display
"""


@dataclass
class Job:
    """What applies to every input of one call."""

    templates: list[str]
    size: tuple[int, int]
    stage: dict[str, Any]
    angles: dict[str, float]
    cameras: list[str]
    orbit: int | None
    save: dict[str, Any]
    suffix: str | None
    overwrite: bool
    skip_existing: bool
    renderer: Callable[[], Renderer]
    taken: set[Path] = field(default_factory=set)


def render(
    sources: Annotated[
        list[str],
        typer.Argument(
            metavar="INPUT", help="Meshes (obj, ply, stl, off, glb, gltf, 3mf), scenes (json, h5), or - for stdin."
        ),
    ],
    output: Annotated[
        list[str] | None,
        typer.Option(
            "--output",
            "-o",
            metavar="FILE",
            help="File to write: png, jpg, exr or npy; may be repeated. {stem}, {camera} and {index} are replaced; "
            "-.png is stdout.",
            show_default="{stem}.png",
            rich_help_panel=OUTPUT,
        ),
    ] = None,
    resolution: Annotated[
        str, typer.Option("--resolution", "-r", metavar="N|WxH", help="Pixels.", rich_help_panel=PICTURE)
    ] = "512",
    tone_map: Annotated[
        options.ToneMap,
        typer.Option(
            metavar="NAME",
            help="Of png and jpg: agx, filmic, pbr-neutral or none; exr and npy hold linear light.",
            rich_help_panel=PICTURE,
        ),
    ] = options.ToneMap.AGX,
    exposure: Annotated[
        float,
        typer.Option(
            min=-32, max=32, metavar="STOPS", help="+1 doubles the light, in every format.", rich_help_panel=PICTURE
        ),
    ] = 0.0,
    bit_depth: Annotated[
        options.BitDepth, typer.Option(metavar="8|16", help="Of png.", rich_help_panel=PICTURE)
    ] = options.BitDepth.EIGHT,
    quality: Annotated[int, typer.Option(min=1, max=100, metavar="N", help="Of jpg.", rich_help_panel=PICTURE)] = 95,
    full_float: Annotated[
        bool, typer.Option("--full-float", help="32-bit floats in exr; else 16.", rich_help_panel=PICTURE)
    ] = False,
    model: Annotated[
        str | None,
        typer.Option(
            metavar="FOLDER|ID",
            help="Folder with config.json and model.safetensors, or a Hub id.",
            show_default="the embedded one",
            rich_help_panel=MODEL,
        ),
    ] = None,
    revision: Annotated[
        str | None, typer.Option(metavar="NAME", help="Branch, tag or commit of a Hub id.", rich_help_panel=MODEL)
    ] = None,
    offline: Annotated[
        bool, typer.Option("--offline", help="Use only what was downloaded before.", rich_help_panel=MODEL)
    ] = False,
    device: Annotated[
        str, typer.Option(metavar="NAME", help="auto, cpu, cuda, cuda:1 or mps.", rich_help_panel=MODEL)
    ] = "auto",
    precision: Annotated[
        options.Precision,
        typer.Option(metavar="NAME", help="Of the triangle stage: auto, fp32, bf16 or fp16.", rich_help_panel=MODEL),
    ] = options.Precision.AUTO,
    attention: Annotated[
        options.Attention,
        typer.Option(
            metavar="NAME",
            help="Of the triangle stage: auto, sdpa (exact) or sage (8-bit, NVIDIA GPUs, fp16 or bf16).",
            rich_help_panel=MODEL,
        ),
    ] = options.Attention.AUTO,
    camera: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME|INDEX",
            help="A camera of the scene; may be repeated.",
            show_default="all",
            rich_help_panel=CAMERA,
        ),
    ] = None,
    azimuth: Annotated[
        float | None,
        typer.Option(metavar="DEGREES", help="Counter-clockwise from above; 0 is the front.", rich_help_panel=CAMERA),
    ] = None,
    elevation: Annotated[
        float | None, typer.Option(metavar="DEGREES", help="Above the horizon, -90 … 90.", rich_help_panel=CAMERA)
    ] = None,
    distance: Annotated[
        float | None,
        typer.Option(metavar="UNITS", help="From the middle; trained on 1.5 … 2.", rich_help_panel=CAMERA),
    ] = None,
    fov: Annotated[
        float | None,
        typer.Option(metavar="DEGREES", help="Vertical angle of view; trained on 30 … 60.", rich_help_panel=CAMERA),
    ] = None,
    frame: Annotated[
        bool, typer.Option("--frame", help="Fill the picture with a bare mesh.", rich_help_panel=CAMERA)
    ] = False,
    orbit: Annotated[
        int | None,
        typer.Option(min=1, max=10_000, metavar="N", help="N pictures around the object.", rich_help_panel=CAMERA),
    ] = None,
    stage: options.StageKind = None,
    size: options.Size = None,
    rotation: options.Rotation = None,
    up: options.UpAxis = None,
    light_position: options.LightPosition = None,
    light_strength: options.LightStrength = None,
    light_size: options.LightSize = None,
    material: options.MaterialText = None,
    seed: options.Seed = None,
    budget: options.Budget = None,
    subdivide: options.Subdivide = False,
    format_in: options.Format = None,
    overwrite: options.Overwrite = False,
    skip_existing: Annotated[
        bool, typer.Option("--skip-existing", help="Leave files that exist as they are.", rich_help_panel=OUTPUT)
    ] = False,
    quiet: options.Quiet = False,
    as_json: options.Json = False,
) -> None:
    """Render meshes and scenes to pictures.

    A bare mesh is set on a stage, lit and framed; a scene file (json, h5) brings its own lights and cameras.
    When one input fails, the others are still rendered, and the exit code is 1.
    """
    templates = list(output or ["{stem}.png"])
    if overwrite and skip_existing:
        raise options.wrong("cannot be combined with --overwrite", "--skip-existing")
    outputs.check_templates(templates, sources, as_json)
    options.check_suffix(format_in, "-" in sources)
    angles = _check_view(camera or [], orbit, azimuth=azimuth, elevation=elevation, distance=distance, fov=fov)
    save = _check_formats(templates, tone_map, exposure, bit_depth, quality, full_float)
    job = Job(
        templates,
        options.read_resolution(resolution),
        options.stage_arguments(
            stage=stage,
            up=up,
            size=size,
            rotation=rotation,
            light_position=light_position,
            light_strength=light_strength,
            light_size=light_size,
            material=material,
            seed=seed,
            budget=budget,
            subdivide=subdivide,
            frame=frame,
        ),
        angles,
        camera or [],
        orbit,
        save,
        format_in,
        overwrite,
        skip_existing,
        functools.cache(lambda: _load_model(model, revision, offline, device, precision.value, attention.value)),
    )
    failures = sum(not _render_one(job, source, quiet, as_json) for source in sources)
    if failures:
        raise typer.Exit(console.FAILED)


def _check_view(names: list[str], orbit: int | None, **angles: float | None) -> dict[str, float]:
    given = {key: value for key, value in angles.items() if value is not None}
    if names and (given or orbit):
        raise options.wrong("cannot be combined with --orbit or angles, which make new cameras", "--camera")
    options.check_stage(given)
    return given


def _check_formats(
    templates: list[str],
    tone_map: options.ToneMap,
    exposure: float,
    bit_depth: options.BitDepth,
    quality: int,
    full_float: bool,
) -> dict[str, Any]:
    """Arguments of `Image.save`; an option without a file that it applies to is wrong usage."""
    suffixes = {Path(template).suffix.lower() for template in templates}
    if not math.isfinite(exposure):
        raise options.wrong("is not a finite number", "--exposure")
    if bit_depth == options.BitDepth.SIXTEEN and ".png" not in suffixes:
        raise options.wrong("16 bits are for a png; none is written", "--bit-depth")
    if full_float and ".exr" not in suffixes:
        raise options.wrong("is for an exr; none is written", "--full-float")
    return {
        "tone_map": tone_map.value,
        "exposure": exposure,
        "bit_depth": int(bit_depth.value),
        "quality": quality,
        "half": not full_float,
    }


class ModelError(Exception):
    """The model cannot be loaded: no input can be rendered."""


def _load_model(
    source: str | None, revision: str | None, offline: bool, device: str, precision: str, attention: str
) -> Renderer:
    from renderformer.renderer import Renderer

    try:
        return Renderer.from_pretrained(
            source, revision=revision, offline=offline, device=device, precision=precision, attention=attention
        )
    except Exception as error:
        raise ModelError from error


def _render_one(job: Job, source: str, quiet: bool, as_json: bool) -> bool:
    """Render one input and report on it; False when it failed."""
    started = time.perf_counter()
    result: dict[str, Any] = {"input": source, "status": "ok", "outputs": [], "notes": [], "warnings": []}
    stages = console.Stages(source, show=not quiet)
    fatal = False
    try:
        with stages:
            _draw(job, source, result, stages)
    except ModelError as error:
        fatal = True
        _fail(result, error.__cause__ or error, "")
    except (typer.Exit, typer.Abort, typer.BadParameter, BrokenPipeError):
        raise
    except Exception as error:
        _fail(result, error, source)
    result["seconds"] = {**stages.seconds, "total": time.perf_counter() - started}
    if not quiet and not as_json:
        console.say_all("note", result["notes"])
        console.say_all("warning", result["warnings"])
    if result["status"] == "failed":
        console.say(f"error: {result['error']}")
    elif not quiet and not as_json:
        console.say(_summary(result, stages))
    if as_json:
        console.emit_json(result)
    if fatal:
        raise typer.Exit(console.FAILED)
    return bool(result["status"] != "failed")


def _fail(result: dict[str, Any], error: BaseException, source: str) -> None:
    if console.debugging():
        raise error
    line = console.describe(error)
    # Of several inputs, the line must tell which one it is about.
    named = not source or source == "-" or Path(source).name in line
    result |= {"status": "failed", "error": line if named else f"{source}: {line}"}


def _draw(job: Job, source: str, result: dict[str, Any], stages: console.Stages) -> None:
    from renderformer.cli.cameras import choose

    stages.update("load")
    scene, cameras = _scene_and_cameras(job, source, choose)
    result |= {"triangles": len(scene), "objects": len(scene.objects), "resolution": list(job.size)}
    result["notes"] += scene.notes
    paths = {
        number: [outputs.expand(template, source, view.name, number) for template in job.templates]
        for number, view in cameras
    }
    every = [path for group in paths.values() for path in group]
    outputs.check_paths(every, job.taken, job.overwrite, job.skip_existing)
    if job.skip_existing:
        skipped = [path for path in every if path.exists()]
        result["notes"] += [f"{path}: exists already, skipped" for path in skipped]
        paths = {number: [path for path in group if not path.exists()] for number, group in paths.items()}
        cameras = [(number, view) for number, view in cameras if paths[number]]
    if not cameras:
        result["status"] = "skipped"
        return
    stages.update("load model")
    renderer = job.renderer()
    result |= {"device": str(renderer.device), "precision": renderer.precision}
    views = [view for _, view in cameras]
    result["warnings"] += renderer.check(scene.replace(cameras=tuple(views)))
    lit = renderer.encode(scene, progress=stages.update)
    result["notes"] += lit.notes
    for (number, view), image in zip(cameras, renderer.iterate(lit, job.size, views, stages.update), strict=True):
        stages.update("save")
        for path in paths[number]:
            result["notes"] += _save(image, path, job.save)
            result["outputs"].append({"path": str(path), "camera": view.name, "index": number})
        stages.update("render")


def _scene_and_cameras(job: Job, source: str, choose: Callable[..., list[Numbered]]) -> tuple[Scene, list[Numbered]]:
    from renderformer.data.formats import SCENE_FORMATS

    suffix = f".{job.suffix.lstrip('.')}" if source == "-" and job.suffix else Path(source).suffix
    if suffix.lower() in SCENE_FORMATS:
        scene = inputs.load(source, job.suffix, **job.stage)
        return scene, choose(scene, source, job.cameras, job.angles, job.orbit)
    # The stage frames a bare mesh for the angles it is given. Walls would hide it from half of an orbit.
    stage = {"stage": "floor"} if job.orbit else {}
    scene = inputs.load(source, job.suffix, **stage | job.stage | job.angles)
    return scene, choose(scene, source, job.cameras, {}, job.orbit)


def _save(image: Image, path: Path, save: dict[str, Any]) -> list[str]:
    if not outputs.is_stdout(str(path)):
        return image.save(path, **save)
    with tempfile.TemporaryDirectory(prefix="renderformer-") as folder:
        file = Path(folder) / f"stdout{path.suffix}"
        notes = image.save(file, **save)
        outputs.write_stdout(file.read_bytes())
    return [note.replace(str(file), "stdout") for note in notes]


def _summary(result: dict[str, Any], stages: console.Stages) -> str:
    if result["status"] == "skipped":
        return f"{result['input']}: nothing to do"
    names = [item["path"] for item in result["outputs"]]
    listed = ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
    width, height = result["resolution"]
    return (
        f"{result['input']} -> {listed} ({width}x{height}, {result['triangles']:,} triangles, {result['device']}) "
        f"in {result['seconds']['total']:.2f} s: {stages.summary()}"
    )
