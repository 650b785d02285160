"""`renderformer render`: meshes and scenes to pictures and videos."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from renderformer.cli import farm, model_options, options, picture_options, scene_options
from renderformer.cli.call import Call
from renderformer.cli.motion import MotionFlags, sequence_option

if TYPE_CHECKING:
    from renderformer.renderer import Renderer

EXAMPLES = """[bold]Examples[/bold]

renderformer render bunny.glb -o bunny.png

renderformer render scene.json -o "{stem}_{camera}.png" -o "{stem}_{camera}.exr" --resolution 640x360

renderformer render *.obj -o "out/{stem}.png" --stage corner --material "diffuse=0.8,0.2,0.1 roughness=0.3"

renderformer render bunny.glb -o bunny.exr --aov depth,normal,albedo

renderformer render bunny.glb --turntable 48 -o turn.mp4

renderformer render simulation/ --frames 0..119/2 -o "frames/{frame:04}.exr" -o simulation.mp4 --fps 30

renderformer render helmet.glb --environment studio --background transparent -o helmet.png

renderformer render room.json --split-lights -o room.exr

cat bunny.glb | renderformer render - --format glb -o -.png | display
"""


def render(
    sources: Annotated[
        list[str],
        typer.Argument(
            metavar="INPUT",
            help="Meshes (obj, ply, stl, off, glb, gltf, 3mf), scenes (json, h5), or - for stdin. A folder, or a "
            "pattern in quotes, is an animation.",
        ),
    ],
    output: options.OutputFlags,
    motion: MotionFlags,
    picture: picture_options.SplitPictureFlags,
    model: model_options.TriangleStageFlags,
    cameras: scene_options.CameraFlags,
    stage: scene_options.StageFlags,
    environment: scene_options.EnvironmentFlags,
    format_in: options.Format = None,
    ray: Annotated[str | None, sequence_option(farm.OPTION, metavar=farm.METAVAR, help=farm.HELP)] = None,
) -> None:
    """Render meshes and scenes to pictures and videos.

    A bare mesh is set on a stage, lit and framed; a scene file (json, h5) brings its own lights and cameras.
    When one input fails, the others are still rendered, and the exit code is 1.

    Frames of a sequence are kept with a manifest: after a stop the same command goes on, after a change it draws again
    what the change concerns.
    """
    Call(
        sources, output, motion, picture, model, cameras, stage, environment, format_in,
        load=lambda: _load(model),
        ray=ray,
        model={"source": model.model, **model.arguments()},
    ).run()  # fmt: skip


def _load(model: model_options.TriangleStageFlags) -> Renderer:
    from renderformer.renderer import Renderer

    return Renderer.from_pretrained(model.model, **model.arguments())
