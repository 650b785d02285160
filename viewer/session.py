"""The controller that every front end drives: scene, camera, scheduler, display and files of one open viewer.

All methods may be called from any thread. What a front end passes in as callbacks runs on the worker thread.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from renderformer.data.errors import InputError
from renderformer.image import TONE_MAPS, Image
from renderformer.viewer.camera import OrbitCamera, View
from renderformer.viewer.display import Picture, Reference, difference, shown
from renderformer.viewer.document import SceneDocument, fingerprint
from renderformer.viewer.path import CameraPath, turntable, write_video
from renderformer.viewer.picker import Pick, Picker
from renderformer.viewer.scheduler import Clock, Frame, RenderScheduler

if TYPE_CHECKING:
    from renderformer.data.scene import Scene
    from renderformer.renderer import LitScene, Progress, Renderer

T = TypeVar("T")


class Session:
    """One open viewer.

    Args:
        scene: what to show; its first camera is where the viewer starts.
        renderer: draws the pictures.
        resolution: pixels on a side, or (width, height), of pictures on the screen and of those that are saved.

    Attributes:
        document, orbit, path: scene, camera, key frames. Change them through `edit` and `move`, which lock and ask for
            a new picture.
        on_frame, on_error, on_progress: set by the front end; called on the worker thread.
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
        self.orbit = OrbitCamera(scene.cameras[0] if scene.cameras else None)
        self.path = CameraPath()
        self.size = (resolution, resolution) if isinstance(resolution, int) else resolution
        self.view_size = self.size
        self.reference: Reference | None = None
        self.error = ""
        self.frame: Frame | None = None
        self.on_frame: Callable[[Frame], None] | None = None
        self.on_error: Callable[[str], None] | None = None
        self.on_progress: Progress | None = None
        self._tone_map, self._exposure = "", 0.0
        self.set_display(tone_map, exposure)
        self._warned: tuple[str, list[str]] = ("", [])
        self._picker: tuple[str, Picker] | None = None
        options = {} if budget is None else {"budget": budget}
        self.scheduler = RenderScheduler(
            renderer, self._framed, self._failed, self._progressed, clock=clock, **options
        )

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
            raise InputError(f"tone_map is {tone_map!r}, expected one of {', '.join(TONE_MAPS)}")
        if not abs(exposure) <= 32:
            raise InputError(f"exposure is {exposure}, expected stops between -32 and 32")
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

    def picture(self, kind: str = "neural") -> Picture | None:
        """The newest picture as the display shows it, or its difference to the reference; None while there is none."""
        frame = self.frame
        if frame is None:
            return None
        picture = shown(frame.image, self.tone_map, self.exposure)
        if kind == "difference":
            if self.reference is None:
                raise InputError("difference: no reference picture; open one first")
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
            facts["times"] = f"view {1000 * frame.seconds:.0f} ms" + (
                f", scene {1000 * frame.encode_seconds:.0f} ms" if frame.encode_seconds else ""
            )
            facts["latency"] = f"{1000 * frame.latency:.0f} ms"
        return facts

    def result(self) -> Scene:
        """The edited scene; the one that was given, itself, if nothing was edited. Bookmarks become cameras."""
        with self.lock:
            scene = self.document.scene
            if not self.orbit.bookmarks:
                return scene
            marks = tuple(view.camera(name) for name, view in self.orbit.bookmarks.items())
            return scene.replace(cameras=(*scene.cameras, *marks))

    def save_scene(self, path: str | os.PathLike[str], overwrite: bool = True) -> list[str]:
        """Write the shown scene as .json or .h5, the camera first; what the format could not hold."""
        with self.lock:
            scene, camera = self.result(), self.orbit.camera
            hidden = sum(not item.visible for item in self.document.items)
        own = [c for c in scene.cameras if c is not camera]
        notes = scene.replace(cameras=(camera, *own)).save(path, overwrite)
        return [*notes, f"{hidden} hidden objects were left out"] if hidden else notes

    def render(self, progress: Progress | None = None) -> Image:
        """The picture in the resolution for saving, of what is shown now; drawn on the calling thread unless the
        newest one is it."""
        with self.lock:
            scene, camera, frame = self.document.scene, self.orbit.camera, self.frame
        is_it = (
            frame is not None
            and frame.final
            and frame.size == self.size
            and frame.camera is camera
            and frame.scene == fingerprint(scene)
        )
        if is_it and frame is not None:
            return frame.image
        return self.renderer.render(self._lit(scene, progress), self.size, camera, progress)[0]

    def save_image(self, path: str | os.PathLike[str], **options: Any) -> list[str]:
        """Write the picture in full resolution as .png, .jpg, .exr or .npy, see `Image.save`."""
        from renderformer.image import check_output

        check_output(Path(path))
        return self.render().save(path, tone_map=self.tone_map, exposure=self.exposure, **options)

    def save_video(
        self, path: str | os.PathLike[str], fps: float = 24.0, progress: Progress | None = None, turn: float = 0.0
    ) -> list[str]:
        """Write a video along the key frames, or, with `turn` seconds, of one full turn from where the camera is."""
        with self.lock:
            scene, view = self.document.scene, self.orbit.view
            cameras = turntable(view, max(1, round(turn * fps))) if turn else self.path.cameras(fps)
        lit = self._lit(scene, progress)
        return write_video(
            path, self.renderer, lit, cameras, self.size, fps, self.tone_map, self.exposure, progress
        )

    def open(self, path: str | os.PathLike[str], **options: Any) -> None:
        """Show another scene or mesh file; what is open stays if that fails. Undo does not reach over it."""
        from renderformer.data.loading import load_scene

        scene = load_scene(path, **options)
        with self.lock:
            self.document = SceneDocument(scene)
            self.orbit = OrbitCamera(scene.cameras[0] if scene.cameras else None)
            self.path = CameraPath()
            self.request()

    def close(self) -> bool:
        """Stop rendering; whether the worker has ended."""
        return self.scheduler.close()

    def add_key(self) -> int:
        """Make the view a key frame; how many there are."""
        with self.lock:
            self.path.add(self.orbit.view)
            return len(self.path.keys)

    def follow(self, view: View, tag: Any = None) -> bool:
        """Go where a front end moved the camera by itself; whether the limits held it somewhere else."""
        with self.lock:
            self.orbit.view = view
            self.request(tag)
            return self.orbit.view != view

    def _lit(self, scene: Scene, progress: Progress | None) -> LitScene:
        return self.scheduler.lit(scene) or self.renderer.encode(scene, progress)

    def _framed(self, frame: Frame) -> None:
        self.frame, self.error = frame, ""
        if self.on_frame is not None:
            self.on_frame(frame)

    def _failed(self, error: Exception) -> None:
        kind = "" if isinstance(error, InputError) else f"{type(error).__name__}: "
        self.error = kind + next(iter(str(error).splitlines()), "")
        if self.on_error is not None:
            self.on_error(self.error)

    def _progressed(self, stage: str, done: int, total: int) -> None:
        if self.on_progress is not None:
            self.on_progress(stage, done, total)
