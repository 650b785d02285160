"""Draw a sequence so that it can be stopped at any moment: the same call goes on where it ended.

Every file appears whole. A manifest beside the pictures says what each was made of; pictures that depend on something
that has changed are drawn again.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from renderformer import __version__
from renderformer.data.camera import Camera
from renderformer.data.errors import InputError
from renderformer.data.files import State, atomic_path, check_place, files_read, make_folder
from renderformer.data.notes import Alike
from renderformer.data.progress import Progress, silent
from renderformer.data.scene import Scene
from renderformer.sequences.drawing import Drawn, Output, Scenery, Shot, Size
from renderformer.sequences.frames import Frame
from renderformer.sequences.manifest import UNDONE, Manifest, PictureRecord, digest
from renderformer.video import alpha_note, check_video, join_pictures

if TYPE_CHECKING:
    from renderformer.renderer import Renderer

# Draws scenes: `drawing.draw` or `farm.draw` with their first arguments.
Drawer = Callable[[Iterable[Scenery], Progress], Iterator[Drawn]]
# The source of the files that all frames depend on.
COMMON = Path("*")
# The source of the files at which a common stage was measured.
MEASURED = Path("**")
_TEMPORARY = re.compile(r"\.(?P<stem>.+)\.[0-9a-f]{8}\.tmp(?P<suffix>\.\w+)")


@dataclass(frozen=True)
class Video:
    """A video of some frames.

    Attributes:
        path: of the video.
        pictures: of its frames, in order; they stay until the video is whole.
    """

    path: Path
    pictures: tuple[Path, ...]


@dataclass(frozen=True)
class Plan:
    """What a sequence consists of.

    Attributes:
        frames: to draw.
        outputs: the files of each frame.
        videos: to join from the pictures of frames.
        fps: of the videos.
        size: (width, height) in pixels.
        manifest: path of the manifest.
        settings: everything else that the pictures depend on, as JSON: options of stage, camera and files.
        common: files that all frames depend on, with their states when they were read.
        members: all files of the sequence, of which some frames may be chosen.
        load: reads the scene of a frame; called with the options that `measure` returned.
        cameras: those of a scene that `Frame.camera` counts.
        measure: options that all frames share, read from all of them (`common_stage`); None for none.
    """

    frames: tuple[Frame, ...]
    outputs: tuple[tuple[Output, ...], ...]
    videos: tuple[Video, ...]
    fps: float
    size: Size
    manifest: Path
    settings: Mapping[str, Any]
    common: Mapping[Path, State]
    members: tuple[Path, ...]
    load: Callable[[Frame, Mapping[str, Any]], Scene]
    cameras: Callable[[Scene, Frame], Sequence[Camera]]
    measure: Callable[[Progress], dict[str, Any]] | None = None


@dataclass
class Report:
    """What a run did.

    Attributes:
        drawn, kept: numbers of frames that were drawn now, and of those that were up to date.
        videos: that were joined now.
        read: files that frames were read from, with their states.
        failures: errors, one for each scene that could not be drawn.
        scene: the first one that was read, or None.
    """

    drawn: int = 0
    kept: int = 0
    videos: list[Path] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    read: dict[Path, State] = field(default_factory=dict)
    failures: list[InputError] = field(default_factory=list)
    scene: Scene | None = None


def run(
    plan: Plan,
    renderer: Callable[[], Renderer],
    drawer: Drawer,
    progress: Progress = silent,
    overwrite: bool = False,
    keep: bool = False,
) -> Report:
    """Draw the frames that are not up to date, then join the videos.

    Args:
        renderer: gives the renderer; called when the files are known to be writable.
        drawer: draws scenes with it.
        progress: called with ("frames", done, all) and with the stages of a frame.
        overwrite: draw all frames, and replace files that are not of an earlier run.
        keep: leave files that are not of an earlier run as they are.

    Raises:
        InputError: a file that exists and is not of an earlier run, a place that cannot be written, a damaged manifest,
            or another run that writes the same sequence.
    """
    with _locked(plan.manifest):
        return _Run(plan, renderer, drawer, progress, overwrite, keep)()


class _Run:
    """One call of `run`."""

    def __init__(
        self,
        plan: Plan,
        renderer: Callable[[], Renderer],
        drawer: Drawer,
        progress: Progress,
        overwrite: bool,
        keep: bool,
    ) -> None:
        self.plan, self.renderer, self.drawer = plan, renderer, drawer
        self.progress, self.overwrite, self.keep = progress, overwrite, keep
        self.manifest = Manifest(plan.manifest)
        self.report = Report()
        self.stage: dict[str, Any] = {}
        self.failed: set[int] = set()
        self._frames = {
            output.path: frame for frame, outputs in zip(plan.frames, plan.outputs, strict=True) for output in outputs
        }
        self.clear = 0
        self.notes, self.warnings = Alike(), Alike()

    def __call__(self) -> Report:
        plan, report = self.plan, self.report
        kept_files = self._check_files()
        self.manifest.record_files(COMMON, plan.common)
        renderer = self.renderer()
        self.manifest.version = __version__
        self.manifest.model = {
            "name": renderer.name,
            "digest": renderer.digest,
            "device": str(renderer.device),
            "precision": renderer.precision,
            "attention": renderer.attention,
        }
        self.manifest.settings = dict(plan.settings)
        if plan.measure is not None:
            self.stage = self._measured(plan.measure)
        due = self._due(kept_files)
        report.kept = len(plan.frames) - len(due)
        sceneries = self._sceneries(due, renderer)
        self.progress("frames", 0, len(due))
        for drawn in self.drawer(sceneries, self.progress):
            self._receive(drawn)
            self.progress("frames", report.drawn + len(self.failed), len(due))
        self._join_videos()
        self.manifest.save()
        report.read = {path: state for frame in plan.frames for path, state in self.manifest.states(frame.source)}
        report.notes = [*report.notes, *self.notes.lines()]
        report.warnings = self.warnings.lines()
        return report

    def _check_files(self) -> set[Path]:
        """The files that exist, are not of an earlier run and stay; raises InputError where one may not stay."""
        plan = self.plan
        notes = [check_video(video.path, plan.size, len(video.pictures), plan.fps) for video in plan.videos]
        self.report.notes += [note for some in notes for note in some]
        joined = {picture for video in plan.videos for picture in video.pictures}
        for folder in {picture.parent for picture in joined}:
            make_folder(folder)
        files = [output.path for outputs in plan.outputs for output in outputs] + [v.path for v in plan.videos]
        _remove_leftovers({*files, plan.manifest})
        kept = set()
        for path in files:
            check_place(path)
            if self.overwrite or self.manifest.owns(path) or not path.exists():
                continue
            if not self.keep:
                remedy = "give --overwrite, --skip-existing or another name"
                raise InputError(path, "exists already and is not of an earlier run of this sequence", remedy)
            self.report.notes.append(f"{path}: exists already, skipped")
            kept.add(path)
        return kept

    def _measured(self, measure: Callable[[Progress], dict[str, Any]]) -> dict[str, Any]:
        """The options that all frames share, of the manifest if the files are those of then."""
        manifest, stored = self.manifest, self.manifest.stage

        def of() -> str:
            return digest([list(map(str, self.plan.members)), self.plan.settings, manifest.hashes(MEASURED)])

        if manifest.hashes(MEASURED) is None or stored.get("of") != of():
            with files_read() as files:
                options = measure(self.progress)
            manifest.record_files(MEASURED, files)
            manifest.stage = {"of": of(), "options": options}
        return dict(manifest.stage["options"])

    def _key(self, frame: Frame) -> str:
        """The key of the pictures of a frame; UNDONE if the files that it is read from are not known."""
        manifest = self.manifest
        files, common = manifest.hashes(frame.source), manifest.hashes(COMMON)
        if files is None or common is None:
            return UNDONE
        model = {name: value for name, value in manifest.model.items() if name != "name"}
        parts = [manifest.settings, model, __version__, self.plan.size, files, common, self.stage]
        return digest([*parts, frame.time, frame.camera])

    def _video_key(self, video: Video) -> str:
        keys = [self._key(self._frames[picture]) for picture in video.pictures]
        return UNDONE if UNDONE in keys else digest([keys, self.plan.fps])

    def _due(self, kept_files: set[Path]) -> dict[int, tuple[Output, ...]]:
        """The files to draw by the position of their frame; the manifest names them from now on."""
        plan, manifest = self.plan, self.manifest
        done = [video for video in plan.videos if self._stays(video.path, self._video_key(video), kept_files)]
        not_needed = {picture for video in done for picture in video.pictures}
        due = {}
        for index, (frame, outputs) in enumerate(zip(plan.frames, plan.outputs, strict=True)):
            key = self._key(frame)
            left = [o for o in outputs if o.path not in not_needed and not self._stays(o.path, key, kept_files)]
            if left:
                due[index] = tuple(left)
        # So that the next run knows them as its own.
        for path in {output.path for left in due.values() for output in left}:
            manifest.pictures[manifest.name_of(path)] = PictureRecord()
        for video in plan.videos:
            if video not in done:
                manifest.videos[manifest.name_of(video.path)] = PictureRecord()
        manifest.save()
        return due

    def _stays(self, path: Path, key: str, kept_files: set[Path]) -> bool:
        return path in kept_files or (not self.overwrite and self.manifest.is_current(path, key))

    def _sceneries(self, due: Mapping[int, tuple[Output, ...]], renderer: Renderer) -> Iterator[Scenery]:
        """The scenes of the frames that are due, each read when it is asked for."""
        groups: dict[tuple[Path, float | None], list[int]] = {}
        for index in due:
            frame = self.plan.frames[index]
            groups.setdefault((frame.source, frame.time), []).append(index)
        for indices in groups.values():
            frames = [self.plan.frames[index] for index in indices]
            self.progress("load", 0, 1)
            try:
                scene, cameras = self._read(frames[0])
                if max(frame.camera for frame in frames) >= len(cameras):
                    problem = f"has {len(cameras)} cameras, the first scene has more"
                    raise InputError(frames[0].source, problem, "give all scenes of an animation the same cameras")
                chosen = [cameras[frame.camera] for frame in frames]
            except InputError as error:
                self._fail(indices, error.within(frames[0].source))
                continue
            report = self.report
            report.scene = report.scene or scene
            self.notes.add(scene.notes)
            self.warnings.add(renderer.check(scene.replace(cameras=tuple(chosen))))
            shots = [Shot(index, camera, due[index]) for index, camera in zip(indices, chosen, strict=True)]
            yield Scenery(scene, tuple(shots))

    def _read(self, frame: Frame) -> tuple[Scene, Sequence[Camera]]:
        with files_read() as files:
            scene = self.plan.load(frame, self.stage)
        self.manifest.record_files(frame.source, files)
        return scene, self.plan.cameras(scene, frame)

    def _fail(self, indices: Iterable[int], error: InputError) -> None:
        self.failed |= set(indices)
        if str(error) not in map(str, self.report.failures):
            self.report.failures.append(error)

    def _receive(self, drawn: Drawn) -> None:
        """Write the files of a frame, then its records."""
        index = drawn.shot.frame
        frame = self.plan.frames[index]
        if drawn.problem is not None:
            self._fail([index], drawn.problem.within(frame.source))
            return
        record = PictureRecord(key=self._key(frame), seconds=round(drawn.seconds, 3), drawn=_now())
        for output, data in zip(drawn.shot.outputs, drawn.files, strict=True):
            with atomic_path(output.path) as temporary:
                temporary.write_bytes(data)
            self.manifest.pictures[self.manifest.name_of(output.path)] = record
        self.manifest.save()
        self.report.drawn += 1
        self.clear += drawn.clear and any(output.opaque for output in drawn.shot.outputs)
        self.notes.add(drawn.notes)

    def _join_videos(self) -> None:
        """Join the videos whose frames are all there, then delete the pictures that no video waits for."""
        waiting: set[Path] = set()
        for video in self.plan.videos:
            key = self._video_key(video)
            if self.manifest.is_current(video.path, key):
                continue
            if not self._complete(video):
                waiting |= set(video.pictures)
                continue
            started = time.perf_counter()
            join_pictures(video.path, video.pictures, self.plan.fps, self.progress)
            self.report.notes += alpha_note(video.path, self.clear)
            record = PictureRecord(key=key, seconds=round(time.perf_counter() - started, 3), drawn=_now())
            self.manifest.videos[self.manifest.name_of(video.path)] = record
            self.report.videos.append(video.path)
            self.manifest.save()
        self._delete({picture for video in self.plan.videos for picture in video.pictures} - waiting)

    def _complete(self, video: Video) -> bool:
        """Whether the pictures of all frames of a video are there and up to date."""
        return all(self.manifest.is_current(path, self._key(self._frames[path])) for path in video.pictures)

    def _delete(self, pictures: set[Path]) -> None:
        for picture in pictures:
            picture.unlink(missing_ok=True)
            self.manifest.pictures.pop(self.manifest.name_of(picture), None)
        for folder in {picture.parent for picture in pictures}:
            if folder.is_dir() and not any(folder.iterdir()):
                folder.rmdir()


def _now() -> str:
    return datetime.now().astimezone().isoformat(timespec="seconds")


def _remove_leftovers(files: Iterable[Path]) -> None:
    """Delete the temporary files that a killed run left beside these files."""
    names = {(path.parent, path.stem[:100], path.suffix) for path in files}
    for folder in {path.parent for path in files if path.parent.is_dir()}:
        for item in folder.iterdir():
            match = _TEMPORARY.fullmatch(item.name)
            if match and (folder, match["stem"], match["suffix"]) in names:
                item.unlink(missing_ok=True)


@contextmanager
def _locked(manifest: Path) -> Iterator[None]:
    """Keep a second run off the same sequence; the lock ends with the process."""
    from filelock import FileLock, Timeout

    check_place(manifest)
    lock = FileLock(manifest.with_name(f".{manifest.name}.lock"), timeout=0)
    try:
        with lock:
            yield
    except Timeout:
        raise InputError(manifest, "another run is drawing this sequence", "wait for it, or stop it") from None
    Path(lock.lock_file).unlink(missing_ok=True)
