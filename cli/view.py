"""`renderformer view`: the interactive viewer."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from renderformer.cli import console, inputs, options, outputs
from renderformer.cli.options import OUTPUT, PICTURE

EXAMPLES = """[bold]Examples[/bold]

renderformer view bunny.glb

renderformer view scene.json --web --port 8080

renderformer view bunny.glb --stage corner -o edited.json
"""


def view(
    source: Annotated[
        str | None, typer.Argument(metavar="INPUT", help="A mesh or a scene; without it, recent files are listed.")
    ] = None,
    *,
    web: Annotated[
        bool, typer.Option("--web", help="In a browser, for machines without a display; 127.0.0.1 only.")
    ] = False,
    port: Annotated[int, typer.Option(min=1, max=65535, metavar="N", help="Of --web; the next free one.")] = 8080,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output", "-o", metavar="FILE", help="Scene to write at the end: json or h5.", rich_help_panel=OUTPUT
        ),
    ] = None,
    overwrite: options.Overwrite = False,
    verbose: options.Verbose = False,
    resolution: Annotated[
        str | None,
        typer.Option(
            "--resolution",
            "-r",
            metavar="N|WxH",
            help="Pixels; without it, the picture fills the view.",
            rich_help_panel=PICTURE,
        ),
    ] = None,
    tone_map: Annotated[
        options.ToneMap, typer.Option(metavar="NAME", help="To start with.", rich_help_panel=PICTURE)
    ] = options.ToneMap.NEUTRAL,
    exposure: Annotated[
        float, typer.Option(min=-32, max=32, metavar="STOPS", help="To start with.", rich_help_panel=PICTURE)
    ] = 0.0,
    model: options.ModelFlags,
    stage: options.StageFlags,
    environment: options.EnvironmentFlags,
) -> None:
    """Turn the camera, edit materials and lights, see the light change, and save the scene.

    A window where there is a display, a browser page with --web.
    """
    from renderformer.viewer.recent import recent, remember

    if source is None:
        _list(*recent())
        return
    size = None if resolution is None else options.read_resolution(resolution)
    of_mesh = stage.of_mesh()
    if output is not None:
        outputs.check_scene_file(output, overwrite, "-o")
    from renderformer.renderer import Renderer
    from renderformer.viewer import launch

    # Checked before the slow loading of the model.
    launch.check_front_end(web)
    framing = {} if inputs.scene_format(source) else model.framing(size or (1, 1)) | {"all_around": True}
    settings = stage.of_every_file() | environment.arguments()
    scene = environment.applied(inputs.load(source, of_mesh=framing | of_mesh, **settings))
    if source != "-":
        remember(source)
    more = console.say_digest(scene.notes, verbose=verbose)
    if more:
        console.say(f"note: {more.removeprefix('; ')}")
    renderer = Renderer.from_pretrained(model.model, **model.arguments())
    edited = launch.view(
        scene,
        renderer,
        web=web,
        port=port,
        resolution=size,
        tone_map=tone_map.value,
        exposure=exposure,
        say=console.say,
    )
    if output is not None:
        lost = edited.save(output, overwrite)
        console.say_all("note", [*lost.notes, *lost])
        console.say(f"wrote {output}")


def _list(files: list[Path], note: str) -> None:
    """Print the recent files; InputError if there are none."""
    from renderformer.data.errors import InputError

    if not files:
        raise InputError("view", note or "no INPUT, and there are no recent files", "give a mesh or a scene")
    if note:
        console.say(f"note: {note}")
    console.say("recent files; open one with renderformer view FILE:")
    for path in files:
        typer.echo(path)
