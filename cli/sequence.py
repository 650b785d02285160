"""The frames of `renderformer render`: turns, camera paths, animations, folders; pictures and videos."""

from __future__ import annotations

import functools
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from renderformer.cli import console, farm, inputs, outputs
from renderformer.cli.job import Job, Result
from renderformer.cli.motion import FPS, MotionFlags
from renderformer.data.errors import InputError

if TYPE_CHECKING:
    from renderformer.data.camera import Camera
    from renderformer.data.files import State
    from renderformer.data.progress import Progress
    from renderformer.data.scene import Scene
    from renderformer.sequences.drawing import Drawn, Output, Scenery
    from renderformer.sequences.frames import Frame
    from renderformer.sequences.run import Plan, Report, Video


@dataclass
class SequenceJob(Job):
    """A job whose inputs are sequences.

    Attributes:
        motion: what moves.
        ray: address of the cluster that draws, or None.
        model: arguments of `Renderer.from_pretrained`, for workers of a farm.
        common: files that the options name, with their states when they were read.
        chosen: options that have an effect on pictures, by name.
        members: the inputs of each sequence, by its name.
    """

    motion: MotionFlags = field(default_factory=MotionFlags)
    ray: str | None = None
    model: Mapping[str, Any] = field(default_factory=dict)
    common: Mapping[Path, State] = field(default_factory=dict)
    chosen: Mapping[str, Any] = field(default_factory=dict)
    members: dict[str, list[str]] = field(default_factory=dict)

    def run(self, source: str) -> bool:
        """As `Job.run`, for the name of a sequence."""
        try:
            return super().run(source)
        except KeyboardInterrupt:
            console.say("stopped; finished frames stay, the same command goes on")
            raise typer.Exit(130) from None

    def names(self, sources: list[str]) -> list[str]:
        """The sequences: one of all inputs, or one for each if {stem} is in the name of the files."""
        if any("stem" in outputs.fields_of(template) for template in self.templates):
            self.members = {source: [source] for source in sources}
        else:
            name = sources[0] if len(sources) == 1 else f"{sources[0]} … {sources[-1]} ({len(sources)} inputs)"
            self.members = {name: list(sources)}
        return list(self.members)

    def _stages(self, source: str) -> console.Stages:
        return console.Logged(source, not self.output.quiet, "frames")

    def _placed(self, error: InputError, source: str) -> InputError:
        # Most errors are about one of many files.
        return error if error.place else error.within(source)

    def _draw(self, source: str, result: Result, stages: console.Stages) -> None:
        from renderformer.sequences.run import run

        stages.update("load")
        plan = self._plan(source, self.members[source], result)
        result.resolution, result.frames = self.style.size, len({frame.number for frame in plan.frames})

        flags = self.output
        with farm.connected(self.ray):
            report = run(plan, self.renderer, self._drawn, stages.update, flags.overwrite, flags.skip_existing)
        self.read |= report.read
        self._tell(result, plan, report)

    def _drawn(self, sceneries: Iterable[Scenery], progress: Progress) -> Iterator[Drawn]:
        """The frames, drawn here or by the farm."""
        if self.ray is None:
            from renderformer.sequences.drawing import draw

            return draw(self.renderer(), self.style, sceneries, progress)
        from renderformer.sequences.farm import draw as draw_on_farm

        return draw_on_farm(self.model, self.renderer(), self.style, sceneries)

    def _tell(self, result: Result, plan: Plan, report: Report) -> None:
        renderer = self.renderer()
        result.device, result.precision = str(renderer.device), renderer.precision
        result.notes += report.notes
        result.warnings += report.warnings
        result.kept = report.kept
        if report.kept and report.drawn:
            result.notes.append(f"{report.kept} frames were up to date")
        if report.scene is not None:
            result.triangles, result.objects = len(report.scene), len(report.scene.objects)
        result.outputs += [{"path": str(video.path)} for video in plan.videos]
        videos = {picture for video in plan.videos for picture in video.pictures}
        for frame, files in zip(plan.frames, plan.outputs, strict=True):
            shown = [file.path for file in files if file.path not in videos]
            result.outputs += [{"path": str(path), "frame": frame.number} for path in shown]
        if report.failures:
            first, more = report.failures[0], len(report.failures) - 1
            also = f" (and {more} more such errors)" if more else ""
            raise InputError(first.place, first.problem + also, first.remedy)
        if not report.drawn and not report.videos:
            result.status = "skipped"

    def _plan(self, source: str, members: list[str], result: Result) -> Plan:
        from renderformer.sequences.frames import expand_inputs, plan_frames
        from renderformer.sequences.run import Plan

        files = expand_inputs(members)
        names = self.cameras.moving_names()
        times = self._times(files, bool(names))
        turning = bool(names)
        fields = {name for template in self.templates for name in outputs.fields_of(template)}
        if not turning:
            names = self._camera_names(files[0], times)
            if max(len(files), len(times)) > 1 < len(names) and "camera" not in fields:
                line = (
                    f"camera {names[0]!r} of {len(names)} is drawn; put {{camera}} into the name of the files for all"
                )
                result.notes.append(line)
        chosen = self.motion.range()
        try:
            frames = plan_frames(files, times, len(names), turning, "camera" in fields, chosen)
        except InputError as error:
            raise error.at("--frames") from None
        if len(frames) == 1 and self.motion.frames is None and any(map(outputs.is_video, self.templates)):
            problem = "nothing moves, so a video has one frame"
            raise InputError(
                source, problem, "give --turntable 48, --camera-path, a folder of meshes or an animated glTF"
            )
        written, videos = self._files(members[0], frames, names)
        return Plan(
            frames=tuple(frames),
            outputs=tuple(written),
            videos=tuple(videos),
            fps=self.motion.fps or FPS,
            size=self.style.size,
            manifest=outputs.manifest_of(self.templates[0], members[0]),
            settings=self._settings(times),
            common=self.common,
            members=tuple(files),
            load=self._scene_of,
            cameras=self._cameras_of,
            measure=self._measure(files, times),
        )

    def _times(self, files: list[Path], turning: bool) -> list[float]:
        """The times of the frames of an animation; none for a file that rests."""
        from renderformer.data.formats.mesh_file import animation_length

        flags = self.motion
        rests = flags.time is not None or (turning and flags.animation is None)
        if rests or len(files) != 1 or inputs.scene_format(str(files[0])) or not files[0].exists():
            return []
        seconds = animation_length(files[0], flags.animation or "")
        fps = flags.fps or FPS
        return [] if seconds is None else [number / fps for number in range(int(seconds * fps + 1e-6) + 1)]

    def _camera_names(self, file: Path, times: list[float]) -> list[str]:
        """The names of the cameras of a scene that are drawn."""
        scene, cameras = self._load(str(file), {"time": times[0]} if times else None)
        return [camera.name for _, camera in cameras]

    def _files(
        self, source: str, frames: Sequence[Frame], names: Sequence[str]
    ) -> tuple[list[tuple[Output, ...]], list[Video]]:
        """The files of each frame, and the videos."""
        from renderformer.image import SaveSettings
        from renderformer.sequences.drawing import Output
        from renderformer.sequences.run import Video

        shown = SaveSettings(self.settings.tone_map, self.settings.exposure)
        written: list[tuple[Output, ...]] = []
        videos: dict[Path, list[Path]] = {}
        for frame in frames:
            files: dict[Path, Output] = {}
            for template in self.templates:
                path = outputs.expand(template, source, names[frame.camera], frame.number)
                if outputs.is_video(template):
                    picture = path.with_suffix(".frames") / f"{frame.number:06d}.png"
                    videos.setdefault(path, []).append(picture)
                    files[picture] = Output(picture, shown, opaque=True)
                else:
                    self._take(path)
                    files[path] = Output(path, self.settings)
            written.append(tuple(files.values()))
        for path in videos:
            self._take(path)
        return written, [Video(path, tuple(pictures)) for path, pictures in videos.items()]

    def _take(self, path: Path) -> None:
        if path in self.taken:
            raise InputError(
                path, "two pictures would be written there", "put {stem}, {camera} or {frame} into the name"
            )
        self.taken.add(path)

    def _settings(self, times: list[float]) -> dict[str, Any]:
        """The options that have an effect on the pictures, as JSON."""
        chosen: dict[str, Any] = dict(self.chosen)
        if self.motion.camera_path is not None:
            chosen["fps"] = self.motion.fps or FPS
        if times:
            chosen["animation"] = self.motion.animation or "0"
        values = json.loads(json.dumps(chosen, default=str))
        assert isinstance(values, dict)
        return values

    def _scene_of(self, frame: Frame, stage: Mapping[str, Any]) -> Scene:
        posed = {} if frame.time is None else {"time": frame.time, "animation": self.motion.animation or ""}
        return self._load(str(frame.source), {**stage, **posed})[0]

    def _cameras_of(self, scene: Scene, frame: Frame) -> list[Camera]:
        place = str(frame.source)
        whole = inputs.scene_format(place)
        cameras = self.cameras.of_scene(scene, place) if whole else self.cameras.of_stage(scene, place)
        return [camera for _, camera in cameras]

    def _measure(self, files: Sequence[Path], times: Sequence[float]) -> Any:
        """What all meshes of an animation share, see `common_stage`; None for one scene and for scene files."""
        from renderformer.data.formats.animation import common_stage

        shown = [(files[0], time) for time in times] if times else [(file, None) for file in dict.fromkeys(files)]
        meshes = [(file, time) for file, time in shown if not inputs.scene_format(str(file))]
        if len(shown) < 2 or not meshes:
            return None
        up = self.of_mesh.get("up", "auto")
        return functools.partial(common_stage, meshes, up, self.motion.animation or "")
