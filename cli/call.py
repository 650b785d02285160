"""A call of a command that draws: its options, the job that they make, and the run over all inputs."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import typer

from renderformer.cli import console, farm, model_options, options, outputs, picture_options, scene_options
from renderformer.cli.job import Job, ModelError, settings_of
from renderformer.cli.motion import MotionFlags


@dataclass(frozen=True)
class Call:
    """The options of a call.

    Attributes:
        templates: names of the files; None for `still`, or `moving` for a sequence.
        like: the model whose stage a bare mesh gets.
        load: makes what draws, a `Renderer` or what is like one.
        job: the class of jobs of pictures.
        ray: address of a Ray cluster that draws sequences, or None; workers load `model`, the arguments of
            `Renderer.from_pretrained`.
    """

    sources: list[str]
    output: options.OutputFlags
    motion: MotionFlags
    picture: picture_options.PictureFlags
    like: model_options.ModelFlags
    cameras: scene_options.CameraFlags
    stage: scene_options.StageFlags
    environment: scene_options.EnvironmentFlags
    format_in: str | None
    load: Callable[[], Any]
    still: str = "{stem}.png"
    moving: str = "{stem}_{frame:04}.png"
    job: type[Job] = Job
    ray: str | None = None
    model: Mapping[str, Any] = field(default_factory=dict)

    @cached_property
    def _renderer(self) -> Any:
        try:
            return self.load()
        except Exception as error:
            raise ModelError from error

    @cached_property
    def moves(self) -> bool:
        """Whether the inputs are drawn as sequences."""
        return self.motion.wanted(self.output.output or [], self.sources)

    @cached_property
    def templates(self) -> list[str]:
        """The names of the files."""
        return self.output.output or [self.moving if self.moves else self.still]

    def check(self) -> None:
        """Raise wrong usage for options that contradict each other."""
        self.output.check()
        if self.moves:
            outputs.check_sequence(self.templates, self.sources)
            self.motion.range()
        else:
            outputs.check_templates(self.templates, self.sources, self.output.as_json)
            self.motion.check_still()
            if self.ray is not None:
                raise options.wrong("is for sequences, one picture is drawn here", "--ray")
        farm.check(self.ray)
        options.check_format(self.format_in, "-" in self.sources)
        if self.motion.watch and "-" in self.sources:
            raise options.wrong("needs files, not stdin", "--watch")

    def run(self) -> None:
        """Draw all inputs, and again whenever one changes if the options say so.

        Raises:
            typer.Exit: an input failed.
        """
        self.check()
        job = self._job(self.output)
        failures = [name for name in job.names(self.sources) if not job.run(name)]
        if self.motion.watch and (job.read or not failures):
            self._watch(job)
        if failures:
            raise typer.Exit(console.FAILED)

    def _job(self, output: options.OutputFlags) -> Job:
        """The job of these options; reads the files that they name."""
        from renderformer.data.files import files_read

        pictures = [template for template in self.templates if not outputs.is_video(template)]
        with files_read() as read:
            settings = settings_of(
                self.templates, pictures, output, self.picture, self.like, self.cameras, self.stage, self.environment,
                self.format_in,
            )  # fmt: skip
            settings |= {
                "cameras": self.cameras.choice(self.motion.turntable, self.motion.path()),
                "at_time": self.motion.posed(),
                "renderer": lambda: self._renderer,
                "read": read,
            }
        return self._sequence(settings) if self.moves else self.job(**settings)

    def _sequence(self, settings: dict[str, Any]) -> Job:
        from renderformer.cli.sequence import SequenceJob

        groups = (self.picture, self.cameras, self.stage, self.environment)
        chosen = {name: value for group in groups for name, value in vars(group).items() if value is not None}
        chosen |= {"turntable": self.motion.turntable, "time": self.motion.time}
        chosen["trained"] = settings["framing"]["trained"]
        common = dict(settings["read"])
        return SequenceJob(**settings, motion=self.motion, ray=self.ray, model=self.model, common=common, chosen=chosen)

    def _watch(self, job: Job) -> None:
        """Run jobs whenever a file that the last one read changes, until Ctrl-C."""
        from renderformer.cli.watching import wait_for_change
        from renderformer.data.errors import InputError
        from renderformer.data.files import state_of
        from renderformer.sequences.frames import expand_inputs

        def listing() -> str:
            try:
                return str(expand_inputs(self.sources))
            except InputError as error:
                return str(error)

        # A sequence knows which files are its own.
        output = job.output if self.moves else replace(job.output, overwrite=True, skip_existing=False)
        watched = dict(job.read)
        try:
            while True:
                if not output.quiet:
                    console.say(f"watching {len(watched)} files; Ctrl-C ends")
                wait_for_change(watched, listing)
                # A file that is missing or broken now is still waited for.
                watched = {path: state_of(path) for path in watched}
                try:
                    job = self._job(output)
                except InputError as error:
                    console.say(f"error: {error}")
                    continue
                for name in job.names(self.sources):
                    job.run(name)
                watched |= job.read
        except KeyboardInterrupt:
            raise typer.Exit(0) from None
