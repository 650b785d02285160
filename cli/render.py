"""`renderformer render`: meshes and scenes to pictures and videos."""

from __future__ import annotations

import functools
from typing import Annotated

import typer

from renderformer.cli import console, options, outputs
from renderformer.cli.job import Job, load_model, settings_of
from renderformer.cli.motion import MotionFlags

EXAMPLES = """[bold]Examples[/bold]

renderformer render bunny.glb -o bunny.png

renderformer render scene.json -o "{stem}_{camera}.png" -o "{stem}_{camera}.exr" --resolution 640x360

renderformer render *.obj -o "out/{stem}.png" --stage corner --material "diffuse=0.8,0.2,0.1 roughness=0.3"

renderformer render bunny.glb -o bunny.exr --aov depth,normal,albedo

renderformer render bunny.glb --turntable 48 -o turn.mp4

renderformer render simulation/ --frames 0..119/2 -o "frames/{frame:04}.exr" -o simulation.mp4 --fps 30

renderformer render helmet.glb --environment studio --background transparent -o helmet.png

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
    picture: options.PictureFlags,
    model: options.TriangleStageFlags,
    cameras: options.CameraFlags,
    stage: options.StageFlags,
    environment: options.EnvironmentFlags,
    format_in: options.Format = None,
) -> None:
    """Render meshes and scenes to pictures and videos.

    A bare mesh is set on a stage, lit and framed; a scene file (json, h5) brings its own lights and cameras.
    When one input fails, the others are still rendered, and the exit code is 1.

    Frames of a sequence are kept with a manifest: after a stop the same command goes on, after a change it draws again
    what the change concerns.
    """
    from renderformer.data.files import files_read

    moving = motion.wanted(output.output or [], sources)
    templates = output.output or ["{stem}_{frame:04}.png" if moving else "{stem}.png"]
    output.check()
    if moving:
        outputs.check_sequence(templates, sources)
        motion.range()
    else:
        outputs.check_templates(templates, sources, output.as_json)
        motion.check_still()
    options.check_format(format_in, "-" in sources)
    pictures = [template for template in templates if not outputs.is_video(template)]
    with files_read() as common:
        settings = settings_of(templates, pictures, output, picture, model, cameras, stage, environment, format_in)
        settings |= {
            "cameras": cameras.choice(motion.turntable, motion.path()),
            "at_time": motion.posed(),
            "renderer": functools.cache(lambda: load_model(model)),
        }
    if moving:
        from renderformer.cli.sequence import SequenceJob

        groups = (picture, cameras, stage, environment)
        chosen = {name: value for group in groups for name, value in vars(group).items() if value is not None}
        chosen |= {"turntable": motion.turntable, "time": motion.time, "trained": settings["framing"]["trained"]}
        job: Job = SequenceJob(**settings, motion=motion, common=common, options=chosen)
    else:
        job = Job(**settings)
    failures = [name for name in job.names(sources) if not job.run(name)]
    if failures:
        raise typer.Exit(console.FAILED)
