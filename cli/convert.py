"""`renderformer convert`: any scene or mesh to scene JSON or scene H5."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from renderformer.cli import console, inputs, options, outputs, scene_options

EXAMPLES = """[bold]Examples[/bold]

renderformer convert scene.json -o scene.h5

renderformer convert bunny.glb -o bunny/scene.json --stage corner --budget 2000
"""


def convert(
    source: Annotated[str, typer.Argument(metavar="INPUT", help="A mesh or scene file, or - for stdin.")],
    target: Annotated[
        Path | None, typer.Argument(metavar="OUTPUT", help="The file to write, in place of -o.", show_default=False)
    ] = None,
    *,
    raw: Annotated[
        bool,
        typer.Option("--raw", help="Keep a mesh as it is: no stage, light or camera.", rich_help_panel=options.STAGE),
    ] = False,
    stage: scene_options.StageFlags,
    format_in: options.Format = None,
    output: options.SceneFile = None,
    plain: Annotated[
        bool,
        typer.Option(
            "--plain",
            help="Write JSON of version 1.0, which the original program reads, whatever is lost.",
            rich_help_panel=options.OUTPUT,
        ),
    ] = False,
    overwrite: options.Overwrite = False,
    quiet: options.Quiet = False,
    verbose: options.Verbose = False,
    as_json: options.Json = False,
) -> None:
    """Convert a mesh or scene to scene JSON or scene H5, and list what the format cannot hold.

    A bare mesh is set on a stage as render does it for a released model: in a box, with a light triangle.
    """
    from renderformer.config import V1

    if quiet and verbose:
        raise options.wrong("cannot be combined with --quiet", "--verbose")
    path = output or target
    if path is None:
        raise options.wrong("missing; name the file to write", "-o")
    if output and target:
        raise options.wrong(f"{output}: {target} is named as the output too; give one of them", "-o")
    of_mesh = stage.of_mesh()
    if raw and of_mesh:
        raise options.wrong("cannot be combined with options of the stage", "--raw")
    options.check_format(format_in, source == "-")
    outputs.check_scene_file(path, overwrite, "-o")
    stages = console.Stages(source, show=not quiet)
    with stages:
        stages.update("load")
        settings = stage.of_every_file() | ({"stage": "raw"} if raw else {})
        scene = inputs.load(source, format_in, of_mesh, trained=V1, **settings)
        stages.update("save")
        lost = scene.save(path, overwrite=overwrite, version="1.0" if plain else "auto")
    counts = {"objects": len(scene.objects), "triangles": len(scene), "cameras": len(scene.cameras)}
    if as_json:
        result: dict[str, Any] = {"input": source, "status": "ok", "output": str(path), **counts}
        console.emit_json({**result, "notes": [*scene.notes, *lost.notes], "lost": lost, "seconds": stages.seconds})
    elif not quiet:
        more = console.say_digest(scene.notes, verbose=verbose)
        console.say_all("note", lost.notes)
        console.say_all("lost", lost)
        facts = ", ".join(f"{number:,} {name}" for name, number in counts.items())
        console.say(f"{source} -> {path} ({facts}): {stages.summary()}{more}")
