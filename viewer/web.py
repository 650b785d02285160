"""The viewer in a browser, for machines without a display: a viser server on this machine.

All open pages share one camera. The picture is as wide as the widest page needs, and every page shows the middle of it.
The browser renders only the preview; the picture is the background of viser's scene or, in the split view, in front of
it right of the bar.
"""

from __future__ import annotations

import functools
import math
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Any

import numpy as np
import viser

from renderformer.data.arrays import Float64Array, UInt8Array
from renderformer.data.camera import Camera
from renderformer.data.camera_path import NEAR_UNITS, View, vector
from renderformer.data.scene import Mesh
from renderformer.viewer.actions import ACTIONS, SAVES, Action, Save, page_help
from renderformer.viewer.controls import LIGHT, OBJECT, Control
from renderformer.viewer.delivery import Delivery
from renderformer.viewer.dialogs import recovering
from renderformer.viewer.display import middle, split_depth, to_srgb
from renderformer.viewer.document import Item
from renderformer.viewer.frames import Frame
from renderformer.viewer.hands import Hands
from renderformer.viewer.page_controls import NOTHING, PageControls, put
from renderformer.viewer.page_hands import PageHands
from renderformer.viewer.page_html import OPEN, PAGE, unfolding
from renderformer.viewer.panel import Panel
from renderformer.viewer.recent import recent, remember
from renderformer.viewer.served_page import SECONDS, ServedPage
from renderformer.viewer.server import wait
from renderformer.viewer.session import Session, Version
from renderformer.viewer.uploads import Received, received, saved

# Seconds between two updates of turntable, progress and the age of the picture.
TICK_SECONDS = 0.05
# Views that a page may still report after it was given newer ones: those of some seconds of a turntable.
REPORTS = 60


class WebViewer(ServedPage):
    """A session in a browser; it serves from construction to `close`.

    Args:
        port: of the server; the next free one if it is in use.
        framed: whether notebooks may show the page in a frame.
    """

    def __init__(self, session: Session, port: int = 8080, framed: bool = False) -> None:
        super().__init__(port, "RenderFormer", framed)
        self.session, self.panel = session, Panel(session)
        # The pose of each page's camera when the page was opened.
        self._initial_poses: dict[int, Float64Array] = {}
        # The views that each page was given lately, which it reports in turn, perhaps after the camera has moved on.
        self._given: dict[int, deque[View]] = {}
        self._meshes: dict[str, tuple[Mesh, Any]] = {}
        # The state of the picture on the pages, and the view of their cameras.
        self._drawn: tuple[Any, ...] = ()
        self._delivery = Delivery(lambda number: self.server.link(number), self._send)
        self._page_view: View | None = None
        self._chosen = ""
        # The client that was warned of what closing loses, what that was, and until when its next press closes.
        self._warned: tuple[Any, Version, float] | None = None
        # Held while controls or the preview change; taken before the session's lock.
        self._filling = threading.RLock()
        self.server.scene.set_up_direction("+z")
        self._put_camera(self.server.initial_camera)
        self.hands = Hands(self.panel)
        self._handles = PageHands(self.server, self.panel, self._guarded, self._refresh)
        self._build()
        session.on_frame, session.on_error, session.on_done = self._framed, self._failed, self._done
        self.server.on_client_connect(self._guarded(self._connected))
        self.server.on_client_disconnect(self._guarded(self._left))
        self.server.scene.on_click()(self._guarded(self._clicked))
        self._ticking = threading.Thread(target=self._tick, name="renderformer-tick", daemon=True)
        self._ticking.start()
        session.request()
        self._refresh()

    def close(self) -> None:
        """End the server and the session."""
        self.done.set()
        self._ticking.join(5)
        self.controls.close()
        self.hands.close()
        self._handles.close()
        self.session.on_frame = self.session.on_error = self.session.on_done = None
        self.session.close()
        super().close()

    def _build(self) -> None:
        gui = self.server.gui
        self._unsaved = gui.add_folder("Unsaved work", visible=False)
        with self._unsaved:
            self._offer = gui.add_markdown("")
            for answer in ("Recover", "Discard"):
                self._button(answer.lower(), functools.partial(self._answer_offer, answer))
        self.controls = PageControls(gui, self.panel, self._change, self._guarded)
        self.controls.rested = self._refresh
        with gui.add_folder("File"):
            upload = gui.add_upload_button(OPEN, hint="a mesh or a scene with its files, or a picture to compare with")
            upload.on_upload(self._guarded(self._uploaded))
            self._recent = gui.add_dropdown("open recent", (NOTHING,), hint="files of the viewer's machine")
            self._recent.on_update(self._guarded(self._recent_chosen))
            for action in ACTIONS:
                if action.menu == "Edit":
                    self._button(action.name, functools.partial(self._perform, action))
            for save in SAVES:
                for name in save.files:
                    self._button(f"save {name}", functools.partial(self._download, save, name))
            self._button("close the viewer", self._close_asked)
        # At the foot, where it pushes no control away under the pointer.
        self._busy = gui.add_markdown("", visible=False)
        self._progress = gui.add_progress_bar(0.0, visible=False)
        self._cancel = gui.add_button("cancel", visible=False, color="red")
        self._cancel.on_click(self._guarded(lambda event: self.session.cancel_task()))
        self._status = gui.add_markdown("starting …")
        gui.add_markdown(page_help())
        gui.add_html(PAGE)
        self._unfolding = gui.add_html("")
        for action in ACTIONS:
            if action.hotkey:
                self._command(action.name, action.keys[0], functools.partial(self._perform, action))
        scene = next(save for save in SAVES if save.name == "scene")
        self._command("save the scene", "Ctrl S", functools.partial(self._download, scene, scene.files[0]))
        self._command("choose nothing", "Escape", lambda client: self._apply(client, "", lambda: self.panel.choose("")))

    def _command(self, name: str, key: str, action: Callable[[Any], object]) -> None:
        """Add a command with a key, which all pages listen to."""
        letter: Any = key.removeprefix("Ctrl ")
        command = self.server.gui.add_command(name, hotkey=letter, modifier=None if letter == key else "cmd/ctrl")
        command.on_trigger(self._with_client(action))

    def _change(self, client: Any, control: Control, value: Any) -> None:
        self._apply(client, control.label, lambda: control.apply(self.panel, value))

    def _perform(self, action: Action, client: Any) -> None:
        run = action.run
        if run is not None:
            self._apply(client, action.name, lambda: run(self.panel))

    def _apply(self, client: Any, title: str, action: Callable[[], object]) -> None:
        """Run an action, refresh the pages, and notify the client of the line that the action returns."""
        try:
            line = action()
        finally:
            self._refresh()
        if isinstance(line, str) and line:
            self._tell(client, title, line)

    def _connected(self, client: viser.ClientHandle) -> None:
        self._initial_poses[client.client_id] = _pose(client.camera)
        self._put_camera(client.camera)
        notes = [*self.session.notes, *filter(None, [recent()[1]])]
        if notes:
            self._tell(client, "notes", "; ".join(notes))
        self._show_recent()
        client.camera.on_update(self._guarded(lambda camera: self._camera_moved(client)))
        self._draw()

    def _left(self, client: viser.ClientHandle) -> None:
        self._initial_poses.pop(client.client_id, None)
        self._given.pop(client.client_id, None)
        self._fit_pages()

    def _camera_moved(self, client: viser.ClientHandle) -> None:
        camera = client.camera
        # The page shows the scene in the units of the model.
        position, target = (self.session.unit.back(point) for point in (camera.position, camera.look_at))
        self._fit_pages()
        depth = float(np.linalg.norm(position - target))
        view = View.of(Camera.look_at(position, target, fov=math.degrees(camera.fov)), depth)
        if view.near(self.session.orbit.view) or any(map(view.near, self._given.get(client.client_id, ()))):
            return
        # A busy page may miss the first `_put_camera` and report its initial pose instead.
        if np.allclose(_pose(camera), self._initial_poses.get(client.client_id, math.inf), atol=NEAR_UNITS):
            self._put_camera(camera)
            return
        self.session.move(lambda orbit: setattr(orbit, "view", view))
        self._given.pop(client.client_id, None)
        if view.near(self.session.orbit.view):
            self._page_view = self.session.orbit.view
        self._refresh()

    def _fit_pages(self) -> None:
        """Make the picture as wide as the widest page needs; the field of view is vertical, so all pages share it."""
        cameras = [client.camera for client in self.server.get_clients().values()]
        if cameras:
            self.panel.fit_page(max(c.aspect for c in cameras), max(c.image_height for c in cameras))

    def _put_camera(self, camera: Any) -> None:
        view = self.session.orbit.view
        # The position first: viser moves the target along with it.
        place = np.asarray(view.target) + view.distance * np.asarray(view.direction)
        camera.position, camera.look_at = (vector(self.session.unit.points(p)) for p in (place, view.target))
        camera.fov = math.radians(view.fov)

    def _put_cameras(self) -> None:
        """Move the cameras of all open and future pages."""
        self._page_view = self.session.orbit.view
        self._put_camera(self.server.initial_camera)
        for number, client in self.server.get_clients().items():
            self._given.setdefault(number, deque(maxlen=REPORTS)).append(self._page_view)
            self._put_camera(client.camera)

    def _clicked(self, event: Any) -> None:
        u, v = event.screen_pos
        width, height = self.session.view_size
        share = min(event.client.camera.aspect * height / width, 1.0)
        self._apply(event.client, "object", lambda: self.panel.pick(0.5 + (u - 0.5) * share, v))

    def _tick(self) -> None:
        while not self.done.wait(TICK_SECONDS):
            self._guarded(lambda event: self._update())(None)

    def _update(self) -> None:
        """Move turntable and playback, and update what depends on time."""
        if self.panel.tick():
            self._refresh()
        if self.panel.update_late() or self.hands.update():
            self._drawn = ()
            self._draw()
        self._delivery.pump(self.server.get_clients())
        self._show_activity()

    def _show_activity(self) -> None:
        activity, saving = self.session.activity(), self.session.task is not None
        busy = activity is not None
        for handle, visible in ((self._busy, busy), (self._progress, busy), (self._cancel, saving)):
            put(handle, visible, "visible")
        if activity is not None:
            put(self._busy, activity[0], "content")
            put(self._progress, round(100 * activity[1]))

    def _framed(self, frame: Frame) -> None:
        self._draw()
        self._show_status()

    def _failed(self, line: str) -> None:
        self._tell(None, "failed", line)
        self._show_status()

    def _done(self, line: str) -> None:
        self._tell(None, "done", line)

    def _refresh(self) -> None:
        """Update controls, cameras, picture and status of all pages."""
        with self._filling, self.session.lock:
            self.controls.fill()
        if self.session.orbit.view != self._page_view:
            self._put_cameras()
        self._show_offer()
        with self._filling:
            self._handles.show()
        self._unfold()
        self._draw()
        self._show_status()

    def _unfold(self) -> None:
        """Open the controls of what was chosen anew, on all pages."""
        item, before = self.panel.selected, self._chosen
        self._chosen = "" if item is None else item.name
        if item is not None and item.name != before:
            # Another text each time, since what is there already does not run again.
            self._unfolding.content = f"{unfolding(LIGHT if item.base.emits else OBJECT)}<!-- {time.monotonic()} -->"

    def _draw(self) -> None:
        """Update picture and preview of all pages."""
        with self._filling:
            panel, session = self.panel, self.session
            frame, split = session.frame, panel.kind == "split"
            display = (session.tone_map, session.exposure, session.reference)
            drawn = (frame, panel.kind, panel.bar, panel.preview_only, *display, *self.hands.state)
            if drawn != self._drawn:
                self._drawn = drawn
                picture = None if panel.preview_only else panel.picture()
                picture = None if picture is None else self.hands.outlined(picture)
                self._delivery.show(picture, frame is not None and frame.final)
            self._delivery.pump(self.server.get_clients())
            self._show_meshes(split or panel.preview_only)

    def _send(self, client: Any, picture: UInt8Array | None, quality: int) -> None:
        """Show the middle of a picture on a page, in the split view right of the bar; None for no picture."""
        if picture is None:
            client.scene.set_background_image(None)
            return
        picture = middle(picture, client.camera.aspect)
        depth = None
        if self.panel.kind == "split":
            picture, depth = split_depth(picture, self.panel.bar)
        client.scene.set_background_image(picture, format="jpeg", jpeg_quality=quality, depth=depth)

    def _show_meshes(self, visible: bool) -> None:
        """Update the meshes of the preview, or remove them."""
        items = {item.name: item for item in self.session.document.items if visible and _shown(item)}
        for name, (mesh, handle) in list(self._meshes.items()):
            if name not in items or items[name].mesh is not mesh:
                handle.remove()
                del self._meshes[name]
        for name in set(items) - set(self._meshes):
            mesh = items[name].mesh
            handle = self.server.scene.add_mesh_simple(
                f"/preview/{abs(hash(name))}",
                self.session.unit.points(mesh.triangles.reshape(-1, 3)).astype(np.float32),
                np.arange(3 * len(mesh)).reshape(-1, 3),
                color=to_srgb(items[name].material.diffuse),
                flat_shading=True,
                side="front" if mesh.camera_sides == "front" else "double",
            )
            self._meshes[name] = mesh, handle

    def _show_status(self) -> None:
        facts = [f"**{key}** {value}" for key, value in self.session.facts().items()]
        warnings = [f"⚠ {line}" for line in self.panel.warnings()]
        error = [f"**error** {self.session.error}"] if self.session.error else []
        self._status.content = "  \n".join([*facts, *error, *warnings])

    def _download(self, save: Save, name: str, client: Any) -> None:
        save.check(self.session)

        def work(progress: Any, cancel: Any) -> list[str]:
            session = self.session
            version, complete = session.version, all(item.visible for item in session.document.items)
            file, content, notes = saved(session, name, save.turn, progress, cancel)
            client.send_file_download(file, content, save_immediately=True)
            if save.name == "camera path" or (save.name == "scene" and complete):
                session.mark_saved(name, version)
            return notes

        self.session.start(f"saving {name}", work)

    def _uploaded(self, event: Any) -> None:
        """Open an uploaded file."""
        file = event.target.value
        with received(file.name, file.content) as sent:
            self._apply(event.client, "open", lambda: "; ".join(filter(None, self._opened(sent))))

    def _opened(self, sent: Received) -> list[str]:
        return [*(self.panel.open(path) for path in sent.files), sent.note]

    def _recent_chosen(self, event: Any) -> None:
        """Open a recent file; changes by the program have no client."""
        path = next((path for path in recent()[0] if str(path) == event.target.value), None)
        if event.client is not None and path is not None:
            self._apply(event.client, "open", lambda: self.panel.open(path))
            remember(path)
            self._show_recent()

    def _show_recent(self) -> None:
        names = (NOTHING, *map(str, recent()[0]))
        put(self._recent, names, "options")
        put(self._recent, NOTHING)

    def _show_offer(self) -> None:
        """Show or hide what to do with unsaved work that a viewer left behind."""
        question = recovering(self.session, self._refresh)
        put(self._unsaved, question is not None, "visible")
        if question is not None:
            put(self._offer, question.text, "content")

    def _answer_offer(self, answer: str, client: Any) -> None:
        question = recovering(self.session, self._refresh)
        if question is not None:
            self._apply(client, answer.lower(), lambda: question.answers[answer]() and None)

    def _close_asked(self, client: Any) -> None:
        losses, version, now = self.session.losses, self.session.version, time.monotonic()
        warned = self._warned is not None and self._warned[:2] == (client, version) and now < self._warned[2]
        if losses and not warned:
            self._warned = client, version, now + SECONDS
            self._tell(client, "close", f"{' '.join(losses)} Press once more to close.")
        else:
            self.done.set()


def serve(session: Session, port: int = 8080, say: Callable[[str], None] | None = None) -> None:
    """Serve a session until a page closes the viewer, or Ctrl-C."""
    viewer = WebViewer(session, port)

    def announce() -> None:
        if say is not None:
            say(f"open {viewer.url} in a browser of this machine; Ctrl-C ends")
            if session.recovery is not None and session.recovery.offer:
                say(f"note: {session.recovery.offer} The page offers to recover it.")

    interrupted = wait(viewer.done, viewer.close, announce)
    if session.recovery is not None:
        session.recovery.interrupted = interrupted


def _shown(item: Item) -> bool:
    """Whether cameras see any side of an object."""
    return item.visible and item.base.camera_sides != "none"


def _pose(camera: Any) -> Float64Array:
    """(6,) position and target of a page's camera."""
    return np.concatenate([camera.position, camera.look_at]).astype(float)
