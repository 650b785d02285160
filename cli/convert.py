"""`renderformer convert`: any scene or mesh to scene JSON or scene H5."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from renderformer.cli import console, inputs, options

EXAMPLES = """[bold]Examples[/bold]

renderformer convert scene.json scene.h5

renderformer convert bunny.glb bunny/scene.json --stage corner --budget 2000
"""
SUFFIXES = (".json", ".h5", ".hdf5")


def convert(
    source: Annotated[str, typer.Argument(metavar="INPUT", help="A mesh or scene file, or - for stdin.")],
    target: Annotated[Path, typer.Argument(metavar="OUTPUT", help="A .json (meshes go beside it) or .h5 file.")],
    raw: Annotated[
        bool,
        typer.Option("--raw", help="Keep a mesh as it is: no stage, light or camera.", rich_help_panel=options.STAGE),
    ] = False,
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
    quiet: options.Quiet = False,
    as_json: options.Json = False,
) -> None:
    """Convert a mesh or scene to scene JSON or scene H5, and tell what the format cannot hold.

    A bare mesh is set on a stage as in render.
    """
    from renderformer.data.errors import InputError
    from renderformer.data.files import check_place

    if target.suffix.lower() not in SUFFIXES:
        raise options.wrong(f"{target}: unknown scene format; end the name in .json or .h5", "OUTPUT")
    arguments = options.stage_arguments(
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
    )
    if raw and set(arguments) - set(options.SIZES):
        raise options.wrong("cannot be combined with options of the stage", "--raw")
    options.check_suffix(format_in, source == "-")
    check_place(target)
    if target.exists() and not overwrite:
        raise InputError(target, "exists already", "give --overwrite or another name")
    stages = console.Stages(source, show=not quiet)
    with stages:
        stages.update("load")
        scene = inputs.load(source, format_in, **arguments, **({"stage": "raw"} if raw else {}))
        stages.update("save")
        lost = scene.save(target, overwrite=overwrite)
    result: dict[str, Any] = {
        "input": source,
        "status": "ok",
        "output": str(target),
        "objects": len(scene.objects),
        "triangles": len(scene),
        "cameras": len(scene.cameras),
        "notes": list(scene.notes),
        "lost": lost,
        "seconds": stages.seconds,
    }
    if as_json:
        console.emit_json(result)
    elif not quiet:
        console.say_all("note", scene.notes)
        console.say_all("lost", lost)
        console.say(
            f"{source} -> {target} ({len(scene.objects)} objects, {len(scene):,} triangles, "
            f"{len(scene.cameras)} cameras): {stages.summary()}"
        )
