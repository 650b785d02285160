"""The controller of both front ends: scene, camera, scheduler, display and files of one open viewer.

All methods may be called from any thread. Callbacks of a front end run on the worker thread.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from renderformer.data.arrays import UInt8Array
from renderformer.data.camera_path import KEYS_SUFFIX, CameraPath
from renderformer.data.environment import Environment
from renderformer.data.errors import InputError
from renderformer.data.notes import digest
from renderformer.data.trained_range import TrainedRange
from renderformer.data.unit_size import UnitSize
from renderformer.image import TONE_MAPS, Image
from renderformer.renderer import Cancelled
from renderformer.viewer.camera import OrbitCamera
from renderformer.viewer.checks import SceneChecks
from renderformer.viewer.display import Displayed, Reference, difference
from renderformer.viewer.document import SceneDocument, SceneState
from renderformer.viewer.fingerprints import fingerprint
from renderformer.viewer.frames import Frame
from renderformer.viewer.opening import open_file
from renderformer.viewer.picker import Pick, Picker
from renderformer.viewer.saving import save
from renderformer.viewer.scheduler import Clock, RenderScheduler
from renderformer.viewer.tasks import Task, Work, describe
from renderformer.viewer.tour import Bookmarks, Keys, Tour, keep_tour, losses, present_tour, take_tour

if TYPE_CHECKING:
    from renderformer.data.camera import Camera
    from renderformer.data.progress import Progress
    from renderformer.data.scene import Scene
    from renderformer.renderer import Cancel, Renderer
    from renderformer.split import Split
    from renderformer.viewer.recovery import Recovery

T = TypeVar("T")

# Of a video of a full turn.
TURN_SECONDS = 4.0
# Size of the view before a front end has one, most pixels on a side of a picture, and pixels for one of the view.
VIEW, MOST_PIXELS, SCALES = (960, 720), 8192, (0.5, 1.0, 2.0, 4.0)
VIEWS = ("neural", "preview", "split", "difference")
# Age of a picture of an old camera at which the preview replaces it.
LATE_SECONDS = 0.3
# Work shorter than this gets no progress bar.
BUSY_SECONDS = 0.4
# Time for a task to stop after it was cancelled.
CANCEL_SECONDS = 30.0


class Version(NamedTuple):
    """What a person made in a session: the state of the document, bookmarks and key frames."""

    state: SceneState
    bookmarks: Bookmarks
    keys: Keys


class Session:
    """One open viewer.

    Args:
        scene: the scene to show; the viewer starts at its first camera.
        renderer: draws the pictures.
        resolution: pixels on a side, or (width, height), of pictures on the screen and in files; None fills the view.
        tone_map, exposure: see `set_display`.
        clock: of the scheduler.

    Attributes:
        document, orbit, key_frames: scene, camera, camera path. Change them through `edit` and `move`, which lock and
            request a new picture; bookmarks and key frames through `edit_tour`.
        size, view_size: (width, height) of pictures in files and on the screen.
        fills: whether pictures have the size of the view.
        scale: pixels for one of the view, or of `resolution`, on a side.
        tone_map, exposure: of the display and of saved pictures; change them through `set_display`.
        on_frame, on_error, on_done: set by the front end; called on a worker thread, `on_done` also by `open`.
        drawing: stage, steps done and all steps of the picture in progress; None when idle.
        task: the save in progress; None when idle.
        in_files: bookmarks and key frames that are in files.
        taken: whether who opened the viewer takes the edited scene at the end, so that closing does not lose it.
        recovery: keeps unsaved work on disk, see recovery.py; None if nothing does.
    """

    def __init__(
        self,
        scene: Scene,
        renderer: Renderer,
        resolution: int | tuple[int, int] | None = None,
        tone_map: str = "neutral",
        exposure: float = 0.0,
        clock: Clock | None = None,
    ) -> None:
        self.lock = threading.RLock()
        self.renderer = renderer
        self.document = SceneDocument(scene)
        self.in_files: set[Bookmarks | Keys] = {()}
        self.start_at(scene.cameras, UnitSize.of(scene, TrainedRange().box))
        self.fills, self.scale = resolution is None, 1.0
        self._base = (resolution, resolution) if isinstance(resolution, int) else resolution or VIEW
        self.size = self.view_size = self._base
        self.reference: Reference | None = None
        self.error = ""
        self.frame: Frame | None = None
        self.on_frame: Callable[[Frame], None] | None = None
        self.on_error: Callable[[str], None] | None = None
        self.on_done: Callable[[str], None] | None = None
        self.drawing: tuple[str, int, int] | None = None
        self.task: Task | None = None
        self.taken = False
        self.recovery: Recovery | None = None
        self._late = True
        self._busy_since: float | None = None
        # Of the last run of the view-independent stage.
        self._encode_seconds = 0.0
        self.tone_map, self.exposure = "", 0.0
        self.set_display(tone_map, exposure)
        self._checks = SceneChecks(renderer.check)
        # With the fingerprint of its scene.
        self._picker: tuple[str, Picker] | None = None
        # The object that may be moved next.
        self._held = ""
        self._displayed = Displayed()
        self.scheduler = RenderScheduler(renderer, self._framed, self._failed, self._progressed, clock)

    def set_display(self, tone_map: str | None = None, exposure: float | None = None) -> None:
        """Change tone map and exposure (stops); nothing is rendered again.

        Raises:
            InputError: an unknown tone map, or an exposure out of range.
        """
        tone_map = self.tone_map if tone_map is None else tone_map
        exposure = self.exposure if exposure is None else float(exposure)
        if tone_map not in TONE_MAPS:
            raise InputError("viewer", f"tone_map is {tone_map!r}", f"expected one of {', '.join(TONE_MAPS)}")
        if not abs(exposure) <= 32:
            raise InputError("viewer", f"exposure is {exposure}", "expected stops between -32 and 32")
        self.tone_map, self.exposure = tone_map, exposure

    def request(self, tag: Any = None) -> int:
        """Request a picture of the present scene and view; returns the number of the request, 0 if it failed."""
        with self.lock:
            try:
                scene = self.document.scene
            except InputError as error:
                self._failed(error)
                return 0
            return self.scheduler.submit(scene, self.orbit.camera, self.view_size, tag)

    def move(self, change: Callable[[OrbitCamera], T], tag: Any = None) -> T:
        """Change the camera and request a picture; returns the result of `change`."""
        with self.lock:
            result = change(self.orbit)
            self.request(tag)
            return result

    def edit(self, change: Callable[[SceneDocument], T]) -> T:
        """Change the scene and request a picture; returns the result of `change`."""
        with self.lock:
            result = change(self.document)
            self.request()
            return result

    def hold(self, name: str) -> None:
        """Be ready for moves of an object: its tree and that of the rest are built beforehand. Empty for none."""
        self._held = name
        self._prepare_moves()

    def _prepare_moves(self) -> None:
        with self.lock:
            if not any(item.name == self._held and item.visible for item in self.document.items):
                return
            scene = self.document.scene
            lit = self.scheduler.lit(scene)
            if lit is not None and lit.caster is not None:
                number = [mesh.name for mesh in scene.objects].index(self._held)
                self.scheduler.trees.prepare(lit.caster, number)

    def undo(self) -> str:
        """Revert the last edit; returns its label, empty if there was none."""
        return self._step(SceneDocument.undo)

    def redo(self) -> str:
        """Repeat the edit that was reverted last; returns its label, empty if there was none."""
        return self._step(SceneDocument.redo)

    def _step(self, step: Callable[[SceneDocument], str]) -> str:
        with self.lock:
            keep_tour(self)
            label = step(self.document)
            take_tour(self)
            self.request()
            return label

    def edit_tour(self, label: str, change: Callable[[], T], merge: bool = False) -> T:
        """Change bookmarks or key frames, as an edit that can be undone; returns the result of `change`.

        Args:
            merge: whether successive edits of this label, as of a slider, are one step of undo.
        """
        with self.lock:
            before = keep_tour(self)
            result = change()
            after = present_tour(self)
            if after is not before:
                self.document.set_tour(label, after, merge)
            return result

    def fit(self, size: tuple[int, int]) -> None:
        """Set the (width, height) of the view in pixels and request a picture of it."""
        with self.lock:
            self._base = max(1, size[0]), max(1, size[1])
            self.set_scale(self.scale)

    def set_scale(self, scale: float) -> None:
        """Draw so many pixels for one of the view, on a side, and request a picture.

        Raises:
            InputError: not a positive number.
        """
        if not 0 < scale <= MOST_PIXELS:
            raise InputError("viewer", f"scale is {scale}", "expected a positive number")
        with self.lock:
            self.scale = scale
            factor = min(scale, MOST_PIXELS / max(self._base))
            self.size = self.view_size = (
                max(1, round(self._base[0] * factor)),
                max(1, round(self._base[1] * factor)),
            )
            self.request()

    def picture(self, kind: str = "neural") -> UInt8Array | None:
        """(h, w, 3) display values of the newest picture, or of its difference to the reference; None without one.

        Raises:
            InputError: a difference without a reference.
        """
        frame = self.frame
        if frame is None:
            return None
        picture = self._displayed.values(frame, self.tone_map, self.exposure)
        if kind != "difference":
            return picture
        if self.reference is None:
            raise InputError("difference", "no reference picture", "open one first")
        return difference(picture, self.reference.display_values(self.tone_map, self.exposure))

    def pick(self, x: float, y: float, width: float, height: float) -> Pick | None:
        """The surface at a point of a picture of `width` by `height`, see `Picker.pick`."""
        with self.lock:
            scene, camera = self.document.scene, self.orbit.camera
            key = fingerprint(scene)
            if self._picker is None or self._picker[0] != key or not self._picker[1].has_tree:
                lit = self.scheduler.lit(scene)
                # The lit scene may be another object with the same triangles, so its caster fits; names may differ.
                self._picker = key, Picker(scene) if lit is None else Picker(scene, lit.caster, lit.unit)
            return self._picker[1].pick(camera, x, y, width, height)

    def warnings(self) -> list[str]:
        """One line for each way in which scene or camera leave the trained range, and how the camera was clamped."""
        with self.lock:
            lines = [self.orbit.warning] if self.orbit.warning else []
            try:
                scene = self.document.scene
            except InputError as error:
                return [*lines, str(error)]
            # A drag has no time for them.
            return [*lines, *self._checks.lines(scene, again=not self.document.in_stroke)]

    def facts(self) -> dict[str, str]:
        """Facts about the model, the scene and the newest picture, for the panel."""
        frame = self.frame
        facts = {"model": f"{self.renderer.name} on {self.renderer.device}, {self.renderer.precision}"}
        with self.lock:
            triangles = sum(len(item.base) for item in self.document.items if item.visible)
            facts["triangles"] = f"{triangles:,}"
        if frame is not None:
            facts["picture"] = f"{frame.image.width} x {frame.image.height}" + ("" if frame.final else " (coarse)")
            facts["times"] = f"scene {self._encode_seconds:.2f} s, view {frame.seconds:.2f} s"
            facts["latency"] = f"{frame.latency:.2f} s"
        return facts

    def activity(self) -> tuple[str, float] | None:
        """Label and progress (0 … 1) of the save, or of the drawing that takes long; None when idle."""
        task, drawing, now = self.task, self.drawing, time.monotonic()
        self._busy_since = None if drawing is None else self._busy_since or now
        if task is not None:
            return task.title, task.done / max(task.total, 1)
        if drawing is None or self._busy_since is None or now - self._busy_since < BUSY_SECONDS:
            return None
        stage, done, total = drawing
        return {"encode": "lighting the scene", "cast rays": "casting rays"}.get(stage, stage), done / max(total, 1)

    @property
    def version(self) -> Version:
        """What a person made so far, for `mark_saved`."""
        keys = tuple(self.key_frames.keys)
        return Version(self.document.version, tuple(self.orbit.bookmarks.items()), keys)

    @property
    def scene_unsaved(self) -> bool:
        """Whether edits of the present scene, or its bookmarks, are in no file."""
        return self.document.in_no_file or self.version.bookmarks not in self.in_files

    @property
    def keys_unsaved(self) -> bool:
        """Whether the key frames are in no file."""
        return self.version.keys not in self.in_files

    @property
    def unsaved(self) -> bool:
        """Whether edits, bookmarks or key frames are in no file."""
        return self.document.unsaved or self.scene_unsaved or self.keys_unsaved

    @property
    def losses(self) -> list[str]:
        """What closing the viewer would lose, a sentence each."""
        with self.lock:
            return losses(self)

    def mark_saved(self, name: str, version: Version) -> None:
        """Record that a file of this name holds the key frames, or else the scene with its bookmarks, of a version."""
        with self.lock:
            if name.endswith(KEYS_SUFFIX):
                self.in_files.add(version.keys)
            else:
                self.document.mark_saved(version.state)
                self.in_files.add(version.bookmarks)

    def result(self) -> Scene:
        """The edited scene with bookmarks as cameras; the opened scene itself if nothing was edited or bookmarked."""
        with self.lock:
            scene = self.document.scene
            cameras = tuple(view.camera(name) for name, view in self.orbit.bookmarks.items())
            return scene.replace(cameras=(*scene.cameras, *cameras)) if cameras else scene

    def save(
        self,
        path: str | os.PathLike[str],
        progress: Progress | None = None,
        cancel: Cancel | None = None,
        turn: float = 0.0,
        mark: bool = True,
    ) -> list[str]:
        """Save the scene (.json, .h5), the picture in full resolution (.png, .jpg, .exr, .npy), that split by lights
        (lights.exr), a video (.mp4, .gif) or the key frames (keys.json).

        Args:
            progress, cancel: as of `Renderer.render`; a cancelled save leaves no file.
            turn: seconds of a video of one full turn; 0 for a video along the key frames.
            mark: whether what the file holds counts as saved, see `mark_saved`.

        Returns:
            One line for each loss in the file's format.

        Raises:
            InputError: an unknown suffix, a place that cannot be written, no visible object, or too few key frames.
            Cancelled: `cancel` returned True.
        """
        return save(self, Path(path), progress, cancel, turn, mark)

    def render(self, progress: Progress | None = None, cancel: Cancel | None = None) -> Image:
        """The picture in the resolution of files: the newest one, or else drawn on the calling thread."""
        with self.lock:
            scene, camera, frame, size = self.document.scene, self.orbit.camera, self.frame, self.size
        current = frame is not None and frame.final and (frame.size, frame.camera) == (size, camera)
        if frame is not None and current and frame.scene == fingerprint(scene):
            return frame.image
        return self.renderer.render(self.scheduler.lit(scene) or scene, size, camera, progress, cancel)[0]

    def split(self, progress: Progress | None, cancel: Cancel | None) -> Split:
        """The picture in the resolution of files, split by lights."""
        with self.lock:
            scene, camera, size = self.document.scene, self.orbit.camera, self.size
        return self.renderer.split(self.scheduler.lit(scene) or scene, size, camera, progress, cancel)[0]

    def start(self, label: str, work: Work) -> Task:
        """Start long work on its own thread; at the end `on_done` or `on_error` gets a line.

        Raises:
            InputError: another task is not done yet.
        """
        with self.lock:
            if self.task is not None:
                raise InputError("viewer", f"{self.task.label} is not done yet", "wait for it or cancel it")
            self.task = Task(label, work, self._task_ended)
            return self.task

    def cancel_task(self) -> None:
        """Ask the save in progress to stop, if there is one."""
        task = self.task
        if task is not None:
            task.cancel()

    def _task_ended(self, task: Task, notes: list[str], problem: str) -> None:
        with self.lock:
            self.task = None
        told = self.on_error if problem and not task.cancelled else self.on_done
        if told is not None:
            # What names the file needs no name of the task.
            whole = bool(problem) and problem.startswith(task.label.partition(" ")[2] or "-")
            told("; ".join([problem if whole else f"{task.label}: {problem or 'done'}", *notes]))

    def open(self, path: str | os.PathLike[str], cancel: Cancel | None = None) -> tuple[str, list[str]]:
        """Open a scene or mesh, a picture to compare with, an environment (.hdr), or key frames.

        Args:
            cancel: asked before the scene is shown; True raises Cancelled.

        Returns:
            The view to show, "neural" for a scene or key frames, "difference" for a picture; and the notes of a scene
            but the routine ones.

        Raises:
            InputError: as `load_scene` and `Reference.load`; nothing is changed.
            Cancelled: `cancel` returned True; nothing is changed.
        """
        return open_file(self, Path(path), cancel)

    def open_environment(self, path: str | os.PathLike[str], cancel: Cancel | None = None) -> list[str]:
        """Surround the scene by a picture of all directions (.hdr, .exr); returns what reading it changed.

        Raises:
            InputError: as `Environment.load`; nothing is changed.
            Cancelled: `cancel` returned True; nothing is changed.
        """
        environment = Environment.load(path)
        if cancel is not None and cancel():
            raise Cancelled
        self.edit(lambda document: document.add_environment(Path(path).name, environment))
        return list(environment.notes)

    @property
    def notes(self) -> list[str]:
        """The notes of the scene as it was opened, but the routine ones."""
        notes = self.document.scene.notes
        return digest(notes, len(notes))

    def start_at(self, cameras: tuple[Camera, ...], unit: UnitSize) -> None:
        """Take new units, and the first camera, without bookmarks or key frames."""
        self.unit = unit
        self.orbit = OrbitCamera(next(iter(cameras), None), trained=self.renderer.config.trained, unit=unit)
        self.key_frames = CameraPath()
        self.document.tour = Tour(self.orbit, unit)

    def close(self) -> bool:
        """Cancel the save in progress and stop rendering; returns whether all threads have ended."""
        task = self.task
        if task is not None:
            task.cancel()
            task.join(CANCEL_SECONDS)
        self._checks.close()
        return self.scheduler.close() and (task is None or task.join(0))

    def is_late(self) -> bool:
        """Whether the newest picture shows too old a camera, so that the preview should replace it.

        Once late, it stays late until a picture of the present camera arrives: else the two would alternate.
        """
        with self.lock:
            frame = self.frame
            if frame is None:
                self._late = True
            elif frame.camera is self.orbit.camera:
                self._late = False
            else:
                self._late = self._late or self.scheduler.age(frame) > LATE_SECONDS
            return self._late

    def _framed(self, frame: Frame) -> None:
        self.frame, self.error, self.drawing = frame, "", None
        self._encode_seconds = frame.encode_seconds or self._encode_seconds
        # Here, on the worker thread, so that the front end need not wait for it.
        self._displayed.values(frame, self.tone_map, self.exposure)
        if frame.final:
            self._prepare_moves()
        if self.on_frame is not None:
            self.on_frame(frame)

    def _failed(self, error: Exception) -> None:
        self.error, self.drawing = describe(error), None
        if self.on_error is not None:
            self.on_error(self.error)

    def _progressed(self, stage: str, done: int, total: int) -> None:
        self.drawing = stage, done, total
