"""`renderformer view`: the interactive viewer."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from renderformer.cli import console, inputs, model_options, options, outputs, picture_options, scene_options
from renderformer.cli.options import OUTPUT, PICTURE

if TYPE_CHECKING:
    from renderformer.data.scene import Scene

EXAMPLES = """[bold]Examples[/bold]

renderformer view bunny.glb

renderformer view scene.json --web --port 8080

renderformer view bunny.glb --stage corner -o edited.json

renderformer view room.exr -o evening.png
"""
# Of pictures split by lights.
SPLIT = ".exr"


def view(
    source: Annotated[
        str | None,
        typer.Argument(
            metavar="INPUT",
            help="A mesh or a scene; or an exr of render --split-lights, to relight it. Without it, recent files are "
            "listed.",
        ),
    ] = None,
    *,
    web: Annotated[
        bool, typer.Option("--web", help="In a browser, for machines without a display; 127.0.0.1 only.")
    ] = False,
    port: Annotated[int, typer.Option(min=1, max=65535, metavar="N", help="Of --web; the next free one.")] = 8080,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            metavar="FILE",
            help="Scene to write at the end: json or h5; of an exr, picture: png, jpg, exr or npy.",
            rich_help_panel=OUTPUT,
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
        picture_options.ToneMap, typer.Option(metavar="NAME", help="To start with.", rich_help_panel=PICTURE)
    ] = picture_options.ToneMap.NEUTRAL,
    exposure: Annotated[
        float, typer.Option(min=-32, max=32, metavar="STOPS", help="To start with.", rich_help_panel=PICTURE)
    ] = 0.0,
    model: model_options.ModelFlags,
    stage: scene_options.StageFlags,
    environment: scene_options.EnvironmentFlags,
) -> None:
    """Turn the camera, edit materials and lights, see the light change, and save the scene.

    A window where there is a display, a browser page with --web.
    """
    from renderformer.viewer.recent import recent, remember

    if source is None:
        _list(*recent())
        return
    if Path(source).suffix.lower() == SPLIT:
        given = [] if resolution is None else ["--resolution"]
        for group in (model, stage, environment):
            defaults = vars(type(group)())
            changed = [(name, value) for name, value in vars(group).items() if value != defaults[name]]
            given += [options.flag(f"no_{name}" if value is False else name) for name, value in changed]
        if given:
            raise options.wrong(f"cannot be used, {source} is a picture split by lights", given[0])
        _view_split(source, web, port, output, overwrite, tone_map.value, exposure)
        return
    size = None if resolution is None else options.read_resolution(resolution)
    of_mesh = stage.of_mesh()
    if output is not None:
        outputs.check_scene_file(output, overwrite, "-o")
    from renderformer.viewer import launch

    # Checked before the slow loading of the model, and of what draws it.
    launch.check_front_end(web)
    from renderformer.renderer import Renderer

    framing = {} if inputs.scene_format(source) else model.framing(size or (1, 1)) | {"all_around": True}
    settings = stage.of_every_file() | environment.arguments()
    scene = environment.applied(inputs.load(source, of_mesh=framing | of_mesh, **settings))
    if source != "-":
        remember(source)
    more = console.say_digest(scene.notes, verbose=verbose)
    if more:
        console.say(f"note: {more.removeprefix('; ')}")
    renderer = Renderer.from_pretrained(model.model, **model.arguments())

    def write(edited: Scene) -> None:
        assert output is not None
        lost = edited.save(output, overwrite)
        console.say_all("note", [*lost.notes, *lost])
        console.say(f"wrote {output}")

    launch.view(
        scene,
        renderer,
        web=web,
        port=port,
        resolution=size,
        tone_map=tone_map.value,
        exposure=exposure,
        say=console.say,
        take=None if output is None else write,
        keep=output is None,
    )


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


def _view_split(
    source: str, web: bool, port: int, output: Path | None, overwrite: bool, tone_map: str, exposure: float
) -> None:
    """View a split picture; the picture as it was relit is written at the end."""
    from renderformer.data.errors import InputError
    from renderformer.image import SaveSettings, check_output
    from renderformer.viewer import launch

    if output is not None:
        try:
            check_output(output, SaveSettings())
        except InputError as error:
            raise options.refused(error, "-o") from None
        outputs.check_file(output, overwrite)
    left = launch.view_split(
        source, web=web, port=port, tone_map=tone_map, exposure=exposure, say=console.say, ask=output is None
    )
    if output is not None:
        console.say_all("note", left.image().save(output, left.tone_map, left.exposure))
        console.say(f"wrote {output}")
