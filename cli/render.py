"""`renderformer render`: meshes and scenes to pictures and videos."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Annotated, Any

import typer

from renderformer.cli import console, options, outputs
from renderformer.cli.job import Job, load_model, settings_of
from renderformer.cli.motion import MotionFlags

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
    if motion.watch and "-" in sources:
        raise options.wrong("needs files, not stdin", "--watch")
    call = _Call(moving, templates, motion, picture, model, cameras, stage, environment, format_in)
    job = call.job(output)
    failures = [name for name in job.names(sources) if not job.run(name)]
    if motion.watch and (job.read or not failures):
        _watch(call, job, sources)
    if failures:
        raise typer.Exit(console.FAILED)


@dataclass(frozen=True)
class _Call:
    """The options of a call."""

    moving: bool
    templates: list[str]
    motion: MotionFlags
    picture: options.PictureFlags
    model: options.TriangleStageFlags
    cameras: options.CameraFlags
    stage: options.StageFlags
    environment: options.EnvironmentFlags
    format_in: str | None

    @functools.cached_property
    def renderer(self) -> Callable[[], Renderer]:
        """Loads the model once."""
        return functools.cache(lambda: load_model(self.model))

    def job(self, output: options.OutputFlags) -> Job:
        """The job of these options; reads the files that they name."""
        from renderformer.data.files import files_read

        pictures = [template for template in self.templates if not outputs.is_video(template)]
        with files_read() as read:
            settings = settings_of(
                self.templates, pictures, output, self.picture, self.model, self.cameras, self.stage, self.environment,
                self.format_in,
            )  # fmt: skip
            settings |= {
                "cameras": self.cameras.choice(self.motion.turntable, self.motion.path()),
                "at_time": self.motion.posed(),
                "renderer": self.renderer,
                "read": read,
            }
        return self._sequence(settings) if self.moving else Job(**settings)

    def _sequence(self, settings: dict[str, Any]) -> Job:
        from renderformer.cli.sequence import SequenceJob

        groups = (self.picture, self.cameras, self.stage, self.environment)
        chosen = {name: value for group in groups for name, value in vars(group).items() if value is not None}
        chosen |= {"turntable": self.motion.turntable, "time": self.motion.time}
        chosen["trained"] = settings["framing"]["trained"]
        return SequenceJob(
            **settings,
            motion=self.motion,
            model={"source": self.model.model, **self.model.arguments()},
            common=dict(settings["read"]),
            chosen=chosen,
        )


def _watch(call: _Call, job: Job, sources: list[str]) -> None:
    """Run jobs whenever a file that the last one read changes, until Ctrl-C."""
    from renderformer.cli.watching import wait_for_change
    from renderformer.data.errors import InputError
    from renderformer.data.files import state_of
    from renderformer.sequences.frames import expand_inputs

    def listing() -> str:
        try:
            return str(expand_inputs(sources))
        except InputError as error:
            return str(error)

    # A sequence knows which files are its own.
    output = job.output if call.moving else replace(job.output, overwrite=True, skip_existing=False)
    watched = dict(job.read)
    try:
        while True:
            if not output.quiet:
                console.say(f"watching {len(watched)} files; Ctrl-C ends")
            wait_for_change(watched, listing)
            # A file that is missing or broken now is still waited for.
            watched = {path: state_of(path) for path in watched}
            try:
                job = call.job(output)
            except InputError as error:
                console.say(f"error: {error}")
                continue
            for name in job.names(sources):
                job.run(name)
            watched |= job.read
    except KeyboardInterrupt:
        raise typer.Exit(0) from None
