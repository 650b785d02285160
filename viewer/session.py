"""The controller that every front end drives: scene, camera, scheduler, display and files of one open viewer.

All methods may be called from any thread. What a front end passes in as callbacks runs on the worker thread.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar

from renderformer.data.arrays import UInt8Array
from renderformer.data.errors import InputError, one_line
from renderformer.data.files import check_place
from renderformer.data.trained_range import TrainedRange
from renderformer.image import IMAGE_SUFFIXES, TONE_MAPS, Image
from renderformer.renderer import Cancelled
from renderformer.viewer.camera import OrbitCamera, View
from renderformer.viewer.display import Reference, difference, shown
from renderformer.viewer.document import SceneDocument, fingerprint
from renderformer.viewer.keyframes import CameraPath, turntable
from renderformer.viewer.picker import Pick, Picker
from renderformer.viewer.scheduler import Clock, Frame, RenderScheduler
from renderformer.viewer.video import write_video

if TYPE_CHECKING:
    from renderformer.data.scene import Scene
    from renderformer.renderer import Cancel, Progress, Renderer

T = TypeVar("T")
# Gets `progress` and `cancel` as `Renderer.render` does; returns notes for the person.
Work: TypeAlias = "Callable[[Progress, Cancel], list[str]]"
# Seconds of a video of a full turn, and pictures a second of every video.
TURN_SECONDS, FPS = 4.0, 24.0
# Sides of pictures that front ends offer, in pixels, and what they can show.
RESOLUTIONS = (128, 192, 256, 384, 512, 768, 1024)
VIEWS = ("neural", "preview", "split", "difference")
# A picture of where the camera was longer ago than this gives way to the preview.
LATE_SECONDS = 0.3
# What takes no longer than this is not worth a progress bar.
BUSY_SECONDS = 0.4
# What one work on a thread of its own may take to notice that it was given up.
CANCEL_SECONDS = 30.0


class Task:
    """Something long, such as a video, on a thread of its own: it tells how far it is, and can be cancelled.

    Attributes:
        label: what is being done; stage, done, total: how far it is.
    """

    def __init__(self, label: str, work: Work, finished: Callable[[Task, list[str], str], None]) -> None:
        self.label = label
        self.stage, self.done, self.total = "", 0, 0
        self._work, self._finished = work, finished
        self._cancelled = threading.Event()
        self._thread = threading.Thread(target=self._run, name="renderformer-task", daemon=True)
        self._thread.start()

    def cancel(self) -> None:
        """Ask it to stop; it leaves no file behind."""
        self._cancelled.set()

    def join(self, timeout: float | None = None) -> bool:
        """Wait for the end; whether it came."""
        if threading.current_thread() is not self._thread:
            self._thread.join(timeout)
        return not self._thread.is_alive()

    def _run(self) -> None:
        notes, problem = [], ""
        try:
            notes = self._work(self._progress, self._cancelled.is_set)
        except Cancelled:
            problem = "given up"
        except Exception as error:
            problem = describe(error)
        self._finished(self, notes, problem)

    def _progress(self, stage: str, done: int, total: int) -> None:
        self.stage, self.done, self.total = stage, done, total


class Session:
    """One open viewer.

    Args:
        scene: what to show; its first camera is where the viewer starts.
        renderer: draws the pictures.
        resolution: pixels on a side, or (width, height), of pictures on the screen and of those that are saved.

    Attributes:
        document, orbit, key_frames: scene, camera, camera path. Change them through `edit` and `move`, which lock and
            ask for a new picture.
        on_frame, on_error, on_done: set by the front end; called on a worker thread.
        drawing: stage, steps done and steps in all of the picture that is being drawn; None while nothing is.
        task: what is being saved; None while nothing is.
    """

    def __init__(
        self,
        scene: Scene,
        renderer: Renderer,
        resolution: int | tuple[int, int] = 512,
        tone_map: str = "agx",
        exposure: float = 0.0,
        clock: Clock | None = None,
        budget: float | None = None,
    ) -> None:
        self.lock = threading.RLock()
        self.renderer = renderer
        self.document = SceneDocument(scene)
        self.orbit = self._orbit_of(scene)
        self.key_frames = CameraPath()
        self.size = (resolution, resolution) if isinstance(resolution, int) else resolution
        self.view_size = self.size
        self.reference: Reference | None = None
        self.error = ""
        self.frame: Frame | None = None
        self.on_frame: Callable[[Frame], None] | None = None
        self.on_error: Callable[[str], None] | None = None
        self.on_done: Callable[[str], None] | None = None
        self.drawing: tuple[str, int, int] | None = None
        self.task: Task | None = None
        self._late = True
        self._busy_since: float | None = None
        # Of the view-independent stage when it ran last.
        self._encode_seconds = 0.0
        self._tone_map, self._exposure = "", 0.0
        self.set_display(tone_map, exposure)
        self._warned: tuple[str, list[str]] = ("", [])
        self._picker: tuple[str, Picker] | None = None
        options = {} if budget is None else {"budget": budget}
        self.scheduler = RenderScheduler(renderer, self._framed, self._failed, self._progressed, clock=clock, **options)

    @property
    def tone_map(self) -> str:
        """Of the display and of saved pictures."""
        return self._tone_map

    @property
    def exposure(self) -> float:
        """In stops."""
        return self._exposure

    def set_display(self, tone_map: str | None = None, exposure: float | None = None) -> None:
        """Change how linear light is shown; nothing is rendered again."""
        tone_map = self._tone_map if tone_map is None else tone_map
        exposure = self._exposure if exposure is None else float(exposure)
        if tone_map not in TONE_MAPS:
            raise InputError("viewer", f"tone_map is {tone_map!r}", f"expected one of {', '.join(TONE_MAPS)}")
        if not abs(exposure) <= 32:
            raise InputError("viewer", f"exposure is {exposure}", "expected stops between -32 and 32")
        self._tone_map, self._exposure = tone_map, exposure

    def request(self, tag: Any = None) -> int:
        """Ask for a picture of what is shown now."""
        with self.lock:
            try:
                scene = self.document.scene
            except InputError as error:
                self._failed(error)
                return 0
            return self.scheduler.submit(scene, self.orbit.camera, self.view_size, tag)

    def move(self, change: Callable[[OrbitCamera], T], tag: Any = None) -> T:
        """Change the camera and ask for a picture."""
        with self.lock:
            result = change(self.orbit)
            self.request(tag)
            return result

    def edit(self, change: Callable[[SceneDocument], T]) -> T:
        """Change the scene and ask for a picture. What the change raises leaves the scene as it was."""
        with self.lock:
            result = change(self.document)
            self.request()
            return result

    def undo(self) -> str:
        """Take the last edit back; its label."""
        return self.edit(lambda document: document.undo())

    def redo(self) -> str:
        """Do it again; its label."""
        return self.edit(lambda document: document.redo())

    def resize(self, size: tuple[int, int]) -> None:
        """Draw pictures on the screen in this (width, height)."""
        with self.lock:
            self.view_size = max(1, size[0]), max(1, size[1])
            self.request()

    def picture(self, kind: str = "neural") -> UInt8Array | None:
        """The newest picture as the display shows it, or its difference to the reference; None while there is none."""
        frame = self.frame
        if frame is None:
            return None
        picture = shown(frame.image, self.tone_map, self.exposure)
        if kind == "difference":
            if self.reference is None:
                raise InputError("difference", "no reference picture", "open one first")
            return difference(picture, self.reference.shown(self.tone_map, self.exposure))
        return picture

    def pick(self, x: float, y: float, width: float, height: float) -> Pick | None:
        """What lies under a point of a picture of `width` by `height`."""
        with self.lock:
            scene, camera = self.document.scene, self.orbit.camera
            key = fingerprint(scene)
            if self._picker is None or self._picker[0] != key:
                lit = self.scheduler.lit(scene)
                # The scene of a kept stage may be another object with the same content; names may differ, rays do not.
                self._picker = key, Picker(scene, None if lit is None else lit.caster)
            return self._picker[1].pick(camera, x, y, width, height)

    def warnings(self) -> list[str]:
        """Where scene or camera leave the trained range, and what the camera was held at; one line each."""
        with self.lock:
            lines = [self.orbit.warning] if self.orbit.warning else []
            try:
                scene = self.document.scene
            except InputError as error:
                return [*lines, str(error)]
            key = fingerprint(scene)
            if self._warned[0] != key:
                self._warned = key, self.renderer.check(scene.replace(cameras=()))
            return [*lines, *self._warned[1]]

    def facts(self) -> dict[str, str]:
        """What the panel tells about the model and the last picture."""
        frame = self.frame
        facts = {"model": f"{self.renderer.name} on {self.renderer.device}, {self.renderer.precision}"}
        with self.lock:
            shown_count = sum(len(item.base) for item in self.document.items if item.visible)
            facts["triangles"] = f"{shown_count:,}"
        if frame is not None:
            image = frame.image
            facts["picture"] = f"{image.width} x {image.height}" + ("" if frame.final else " (coarse)")
            facts["times"] = f"scene {self._encode_seconds:.2f} s, view {frame.seconds:.2f} s"
            facts["latency"] = f"{frame.latency:.2f} s"
        return facts

    def activity(self) -> tuple[str, float] | None:
        """What is being saved, or drawn for longer than is hardly noticed, and how much of it is done (0 … 1); None
        while nothing is."""
        task, drawing, now = self.task, self.drawing, time.monotonic()
        self._busy_since = None if drawing is None else self._busy_since or now
        if task is not None:
            return task.label, task.done / max(task.total, 1)
        if drawing is None or self._busy_since is None or now - self._busy_since < BUSY_SECONDS:
            return None
        stage, done, total = drawing
        return {"encode": "lighting the scene", "cast rays": "casting rays"}.get(stage, stage), done / max(total, 1)

    def result(self) -> Scene:
        """The edited scene; the one that was given, itself, if nothing was edited. Bookmarks become cameras."""
        with self.lock:
            scene = self.document.scene
            if not self.orbit.bookmarks:
                return scene
            marks = tuple(view.camera(name) for name, view in self.orbit.bookmarks.items())
            return scene.replace(cameras=(*scene.cameras, *marks))

    def save(
        self,
        path: str | os.PathLike[str],
        progress: Progress | None = None,
        cancel: Cancel | None = None,
        turn: float = 0.0,
    ) -> list[str]:
        """Write what is shown now: the scene (.json, .h5), the picture in full resolution (.png, .jpg, .exr, .npy),
        or a video (.mp4) along the key frames, or, with `turn` seconds, of one full turn from where the camera is.

        Args:
            progress, cancel: as for `Renderer.render`; what is stopped leaves no file.

        Returns:
            Lines that tell what the format could not hold.

        Raises:
            InputError: another suffix, a place that cannot be written, everything is hidden, or too few key frames.
            Cancelled: `cancel` returned True.
        """
        path = Path(path)
        suffix = path.suffix.lower()
        if suffix in IMAGE_SUFFIXES:
            check_place(path)
            tone_map, exposure = self.tone_map, self.exposure
            return self.render(progress, cancel).save(path, tone_map=tone_map, exposure=exposure)
        if suffix == ".mp4":
            return self._save_video(path, turn, progress, cancel)
        return self._save_scene(path)

    def _save_scene(self, path: Path) -> list[str]:
        with self.lock:
            document, version = self.document, self.document.version
            scene, camera = self.result(), self.orbit.camera
            hidden = sum(not item.visible for item in document.items)
        own = [c for c in scene.cameras if c is not camera]
        notes = scene.replace(cameras=(camera, *own)).save(path)
        if hidden:
            return [*notes, f"{hidden} hidden objects were left out"]
        with self.lock:
            document.mark_saved(version)
        return notes

    def _save_video(self, path: Path, turn: float, progress: Progress | None, cancel: Cancel | None) -> list[str]:
        with self.lock:
            scene, view, size = self.document.scene, self.orbit.view, self.size
            tone_map, exposure = self.tone_map, self.exposure
            cameras = turntable(view, max(1, round(turn * FPS))) if turn else self.key_frames.cameras(FPS)
        lit = self.scheduler.lit(scene) or scene
        return write_video(path, self.renderer, lit, cameras, size, FPS, tone_map, exposure, progress, cancel)

    def render(self, progress: Progress | None = None, cancel: Cancel | None = None) -> Image:
        """The picture in the resolution for saving, of what is shown now; drawn on the calling thread unless the
        newest one is it."""
        with self.lock:
            scene, camera, frame, size = self.document.scene, self.orbit.camera, self.frame, self.size
        is_it = (
            frame is not None
            and frame.final
            and frame.size == size
            and frame.camera is camera
            and frame.scene == fingerprint(scene)
        )
        if is_it and frame is not None:
            return frame.image
        return self.renderer.render(self.scheduler.lit(scene) or scene, size, camera, progress, cancel)[0]

    def start(self, label: str, work: Work) -> Task:
        """Do something long on a thread of its own; at the end `on_done` gets a line, `on_error` one if it fails.

        Raises:
            InputError: another one is not done yet.
        """
        with self.lock:
            if self.task is not None:
                raise InputError("viewer", f"{self.task.label} is not done yet", "wait for it or cancel it")
            self.task = Task(label, work, self._task_ended)
            return self.task

    def cancel_task(self) -> None:
        """Ask what is being saved to stop, if anything is."""
        task = self.task
        if task is not None:
            task.cancel()

    def _task_ended(self, task: Task, notes: list[str], problem: str) -> None:
        with self.lock:
            self.task = None
        if problem and self.on_error is not None:
            self.on_error(f"{task.label}: {problem}")
        elif not problem and self.on_done is not None:
            self.on_done("; ".join([f"{task.label}: done", *notes]))

    def open(self, path: str | os.PathLike[str]) -> str:
        """Show another scene or mesh, or compare with a picture. What is open stays if that fails.

        Returns:
            The view that shows it: "neural" for a scene, "difference" for a picture.

        Raises:
            InputError: what `load_scene` and `Reference.load` raise.
        """
        from renderformer.data.formats import load_scene

        path = Path(path)
        if path.suffix.lower() in IMAGE_SUFFIXES:
            self.reference = Reference.load(path)
            return "difference"
        scene = load_scene(path)
        with self.lock:
            self.document.open(scene)
            self.orbit = self._orbit_of(scene)
            self.key_frames = CameraPath()
            self.request()
        return "neural"

    def _orbit_of(self, scene: Scene) -> OrbitCamera:
        """A camera that starts where the scene's first one stands, and knows what the model was trained on."""
        return OrbitCamera(scene.cameras[0] if scene.cameras else None, trained=_trained(self.renderer))

    def close(self) -> bool:
        """Give up what is being saved and stop rendering; whether all threads have ended."""
        task = self.task
        if task is not None:
            task.cancel()
            task.join(CANCEL_SECONDS)
        return self.scheduler.close() and (task is None or task.join(0))

    def is_late(self) -> bool:
        """Whether the newest picture shows too old a place of the camera, so that the preview should stand in for it.

        Once late it stays so until there is one of where the camera is, lest preview and picture take turns.
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

    def add_key(self) -> None:
        """Make the view a key frame."""
        with self.lock:
            self.key_frames.add(self.orbit.view)

    def follow(self, view: View, tag: Any = None) -> bool:
        """Go where a front end moved the camera by itself; whether the limits held it somewhere else."""
        with self.lock:
            self.orbit.view = view
            self.request(tag)
            return self.orbit.view != view

    def _framed(self, frame: Frame) -> None:
        self.frame, self.error, self.drawing = frame, "", None
        self._encode_seconds = frame.encode_seconds or self._encode_seconds
        if self.on_frame is not None:
            self.on_frame(frame)

    def _failed(self, error: Exception) -> None:
        self.error, self.drawing = describe(error), None
        if self.on_error is not None:
            self.on_error(self.error)

    def _progressed(self, stage: str, done: int, total: int) -> None:
        self.drawing = stage, done, total


def _trained(renderer: Renderer) -> TrainedRange:
    """What the model was trained on; the released models' range where its configuration does not tell."""
    return getattr(renderer.config, "trained", TrainedRange())


def describe(error: Exception) -> str:
    """One line for a person."""
    if isinstance(error, InputError):
        return str(error)
    return f"{type(error).__name__}: {one_line(next(iter(str(error).splitlines()), ''))}"
