"""`renderformer view`: the interactive viewer."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from renderformer.cli import console, inputs, options
from renderformer.cli.options import MODEL, OUTPUT, PICTURE

EXAMPLES = """[bold]Examples[/bold]

renderformer view bunny.glb

renderformer view scene.json --web --port 8080

renderformer view bunny.glb --stage corner -o edited.json
"""


def view(
    source: Annotated[str, typer.Argument(metavar="INPUT", help="A mesh or a scene.")],
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
    resolution: Annotated[
        str, typer.Option("--resolution", "-r", metavar="N|WxH", help="Pixels.", rich_help_panel=PICTURE)
    ] = "512",
    tone_map: Annotated[
        options.ToneMap, typer.Option(metavar="NAME", help="To start with.", rich_help_panel=PICTURE)
    ] = options.ToneMap.AGX,
    exposure: Annotated[
        float, typer.Option(min=-32, max=32, metavar="STOPS", help="To start with.", rich_help_panel=PICTURE)
    ] = 0.0,
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
) -> None:
    """Turn the camera, edit materials and lights, and see the light change; save what you made.

    A window where there is a display, a browser page with --web.
    """
    pixels = options.read_resolution(resolution)
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
    _check_place(output, overwrite)
    from renderformer.viewer.launch import check_front_end
    from renderformer.viewer.launch import view as open_viewer

    # Before the model is loaded, which takes a while.
    check_front_end(web)
    scene = inputs.load(source, **arguments)
    console.say_all("note", scene.notes)
    from renderformer.renderer import Renderer

    renderer = Renderer.from_pretrained(model, revision=revision, offline=offline, device=device)
    edited = open_viewer(
        scene,
        renderer,
        web=web,
        port=port,
        resolution=pixels,
        tone_map=tone_map.value,
        exposure=exposure,
        say=console.say,
    )
    if output is not None:
        console.say_all("note", edited.save(output, overwrite))
        console.say(f"wrote {output}")


def _check_place(output: Path | None, overwrite: bool) -> None:
    if output is None:
        return
    from renderformer.data.errors import InputError
    from renderformer.data.files import check_place

    if output.suffix.lower() not in (".json", ".h5", ".hdf5"):
        raise options.wrong(f"{output}: a scene is written as .json or .h5", "-o")
    check_place(output)
    if output.exists() and not overwrite:
        raise InputError(output, "exists already", "give --overwrite or another name")
