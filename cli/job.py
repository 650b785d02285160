"""A call of `renderformer render`: its settings, its inputs one after the other, and what it says of each."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from renderformer.cli import console, inputs, model_options, options, outputs, picture_options, scene_options

if TYPE_CHECKING:
    from renderformer.cameras import CameraChoice
    from renderformer.data.camera import Camera
    from renderformer.data.errors import InputError
    from renderformer.data.files import State
    from renderformer.data.scene import Scene
    from renderformer.image import Image, SaveSettings
    from renderformer.renderer import Renderer
    from renderformer.sequences.drawing import Style


class ModelError(Exception):
    """What draws cannot be loaded; the cause is chained."""


def settings_of(
    templates: list[str],
    pictures: list[str],
    output: options.OutputFlags,
    picture: picture_options.PictureFlags,
    model: model_options.ModelFlags,
    cameras: scene_options.CameraFlags,
    stage: scene_options.StageFlags,
    environment: scene_options.EnvironmentFlags,
    format_in: str | None,
) -> dict[str, Any]:
    """The arguments of `Job` that options say, without its cameras and its renderer.

    Args:
        pictures: those of the templates that are pictures.
    """
    from renderformer.sequences.drawing import Style

    size = options.read_resolution(picture.resolution)
    return {
        "templates": templates,
        "output": output,
        "style": Style(size, picture.layers(pictures), picture.split(pictures)),
        "settings": picture.settings(pictures),
        "of_mesh": stage.of_mesh() | ({} if cameras.frame else {"frame": False}),
        "framing": model.framing(size),
        "of_every_file": stage.of_every_file() | environment.arguments(),
        "environment": environment,
        "format_in": format_in,
    }


@dataclass
class Result:
    """The outcome for an input; --json prints the attributes that are not None."""

    input: str
    status: str = "ok"
    outputs: list[dict[str, Any]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    frames: int | None = None
    kept: int | None = None
    triangles: int | None = None
    objects: int | None = None
    resolution: tuple[int, int] | None = None
    device: str | None = None
    precision: str | None = None
    error: str | None = None
    seconds: dict[str, float] = field(default_factory=dict)

    def summary(self, stages: str) -> str:
        """One line for the person; `stages` are the times of the stages as text."""
        if self.status == "skipped":
            return f"{self.input}: nothing to do"
        names = [entry["path"] for entry in self.outputs]
        listed = ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
        width, height = self.resolution or (0, 0)
        frames = f"{self.frames:,} frame{'s' * (self.frames > 1)}, " if self.frames else ""
        facts = f"{frames}{width}x{height}, {self.triangles:,} triangles, {self.device}"
        return f"{self.input} -> {listed} ({facts}) in {self.seconds['total']:.2f} s: {stages}"


@dataclass
class Job:
    """The settings for all inputs of a call.

    Attributes:
        of_mesh, framing, of_every_file, at_time: arguments of `load_scene`.
        renderer: loads the model once.
        taken: files of earlier inputs.
        read: files that were read, with their states.
    """

    templates: list[str]
    output: options.OutputFlags
    style: Style
    settings: SaveSettings
    cameras: CameraChoice
    of_mesh: dict[str, Any]
    framing: dict[str, Any]
    of_every_file: dict[str, Any]
    environment: scene_options.EnvironmentFlags
    format_in: str | None
    renderer: Callable[[], Renderer]
    at_time: dict[str, Any] = field(default_factory=dict)
    taken: set[Path] = field(default_factory=set)
    read: dict[Path, State | None] = field(default_factory=dict)

    def names(self, sources: list[str]) -> list[str]:
        """The names to run."""
        return sources

    def _stages(self, source: str) -> console.Stages:
        return console.Stages(source, show=not self.output.quiet)

    def run(self, source: str) -> bool:
        """Render an input and print the result; returns whether it succeeded.

        Raises:
            typer.Exit: the model cannot be loaded.
        """
        from renderformer.data.files import files_read

        started = time.perf_counter()
        result = Result(source)
        stages = self._stages(source)
        problem: Exception | None = None
        try:
            with files_read() as files, stages:
                try:
                    self._draw(source, result, stages)
                finally:
                    self.read |= files
        except BrokenPipeError:
            raise
        except Exception as error:
            problem = error
        if problem is not None:
            if console.debugging():
                raise problem
            result.status, result.error = "failed", self._explain(problem, source)
        result.seconds = {**stages.seconds, "total": time.perf_counter() - started}
        self._report(result, stages.summary())
        if isinstance(problem, ModelError):
            raise typer.Exit(console.FAILED)
        return problem is None

    def _explain(self, problem: Exception, source: str) -> str:
        """The error as one line, with the name of the input unless it is about the model."""
        if isinstance(problem, ModelError):
            return str(console.explain(problem.__cause__ or problem))
        return str(self._placed(console.explain(problem), source))

    def _placed(self, error: InputError, source: str) -> InputError:
        return error.within(inputs.name_of(source))

    def _report(self, result: Result, stages: str) -> None:
        speaks, more = not self.output.quiet and not self.output.as_json, ""
        if speaks:
            more = console.say_digest(result.notes, result.warnings, self.output.verbose)
        if result.error is not None:
            console.say(f"error: {result.error}")
        elif speaks:
            console.say(result.summary(stages) + more)
        if self.output.as_json:
            console.emit_json({key: value for key, value in vars(result).items() if value is not None})

    def _draw(self, source: str, result: Result, stages: console.Stages) -> None:
        from renderformer.data.notes import Alike

        stages.update("load")
        scene, cameras = self._load(source)
        result.triangles, result.objects, result.resolution = len(scene), len(scene.objects), self.style.size
        result.notes += scene.notes
        views = self._views(source, cameras, result)
        if not views:
            result.status = "skipped"
            return
        stages.update("load model")
        renderer = self.renderer()
        result.device, result.precision = str(renderer.device), renderer.precision
        chosen = [camera for _, camera, _ in views]
        result.warnings += renderer.check(scene.replace(cameras=tuple(chosen)))
        lit = self.style.light(renderer, scene, stages.update)
        result.notes += lit.notes
        alike = Alike()
        for (number, camera, paths), (image, notes) in zip(views, lit.pictures(chosen, stages.update), strict=True):
            stages.update("save")
            alike.add(notes)
            for path in paths:
                result.notes += self._save(image, path)
                result.outputs.append({"path": str(path), "camera": camera.name, "index": number})
            stages.update("render")
        result.notes += alike.lines()

    def _load(self, source: str, more: Mapping[str, Any] | None = None) -> tuple[Scene, list[tuple[int, Camera]]]:
        """The scene of an input, and the cameras to render with their indices.

        Args:
            more: other arguments of `load_scene` for a bare mesh.
        """
        form = self.format_in if source == "-" else None
        name = inputs.name_of(source)
        every = self.of_every_file | self.at_time
        if inputs.scene_format(source, form):
            scene = self.environment.applied(inputs.load(source, form, self.of_mesh, **every))
            return scene, self.cameras.of_scene(scene, name)
        of_mesh = self.framing | self.cameras.stage_options() | self.of_mesh | dict(more or {})
        scene = inputs.load(source, form, of_mesh, **every)
        scene = self.environment.applied(scene)
        return scene, self.cameras.of_stage(scene, name)

    def _views(
        self, source: str, cameras: list[tuple[int, Camera]], result: Result
    ) -> list[tuple[int, Camera, list[Path]]]:
        """Index, camera and files of every picture to write, without existing files for --skip-existing."""
        views = [
            (number, camera, [outputs.expand(template, source, camera.name, number) for template in self.templates])
            for number, camera in cameras
        ]
        files = [path for _, _, paths in views for path in paths]
        outputs.check_paths(files, self.taken, self.output.overwrite, self.output.skip_existing)
        if not self.output.skip_existing:
            return views
        result.notes += [f"{path}: exists already, skipped" for path in files if path.exists()]
        views = [(number, camera, [path for path in paths if not path.exists()]) for number, camera, paths in views]
        return [view for view in views if view[2]]

    def _save(self, image: Image, path: Path) -> list[str]:
        return outputs.save(image, path, self.settings)
