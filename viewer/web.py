"""The viewer in a browser, for machines without a display: viser, bound to this machine, one port.

One camera is shared by all pages that are open; whoever moves it last drives. Nothing is rendered in the browser but
the preview: the picture is the background of viser's scene, or, right of the bar of the split view, in front of it.
Pages of other sites are refused, lest they drive the viewer from the browser that it is open in.
"""

from __future__ import annotations

import contextlib
import functools
import http
import io
import math
import os
import re
import tempfile
import threading
import time
import zipfile
import zlib
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import viser

from renderformer.data.arrays import UInt8Array
from renderformer.data.camera import Camera
from renderformer.data.errors import InputError
from renderformer.data.scene import Mesh
from renderformer.image import TONE_MAPS
from renderformer.viewer.camera import OrbitCamera, View
from renderformer.viewer.display import from_srgb, to_srgb
from renderformer.viewer.document import Item, Placement, light_of
from renderformer.viewer.scheduler import Frame
from renderformer.viewer.session import RESOLUTIONS, TURN_SECONDS, VIEWS, Session, describe

HOST = "127.0.0.1"
# A camera that a page reports back within this of where it was put has not been moved.
_STILL = 2e-3
# Of the split view: width of the bar as a share of the picture; depths behind and before everything, in scene units.
_BAR, _FAR, _NEAR = 0.004, 160.0, 0.0
# Bytes that an uploaded scene may unpack to.
_MAX_UNPACKED = 2 << 30
_NOTHING = "(none)"
_HELP = """Drag turns, right drag or Ctrl drag pans, the wheel moves nearer, a click picks an object.
**Ctrl Z**, **Ctrl Y** undo and redo, **H** home, **B** bookmark, **K** key frame, **T** turntable.
Drop a mesh, a scene (.h5, or the .zip that was saved) or a picture to compare with anywhere on this page.
Exposure and tone map need no new picture."""
# What is dropped on the page goes the way of the upload button, whose input is the first one of the page. An `onload`,
# since a script in a page's text does not run.
_DROP = """<img hidden alt="" src="data:image/gif;base64,R0lGODlhAQABAAAAACwAAAAAAQABAAA=" onload="
window.ondragover = event => event.preventDefault();
window.ondrop = event => {
  event.preventDefault();
  const input = document.querySelector('input[type=file]');
  if (!input || !event.dataTransfer.files.length) return;
  const files = new DataTransfer();
  files.items.add(event.dataTransfer.files[0]);
  input.files = files.files;
  input.dispatchEvent(new Event('change', {bubbles: true}));
};">"""


class WebViewer:
    """A session in a browser; it serves from construction to `close`.

    Args:
        port: of the server; the next free one is taken if it is in use.
    """

    def __init__(self, session: Session, port: int = 8080) -> None:
        self.session = session
        self.done = threading.Event()
        # Position and target of each page's camera before it was put anywhere.
        self._strangers: dict[int, np.ndarray] = {}
        self._shown: dict[str, tuple[Mesh, Any]] = {}
        self._late = False
        self._asked_to_close = False
        # Held while controls or the preview change; taken before the session's lock.
        self._filling = threading.RLock()
        # viser greets and says goodbye on stdout, which is for results.
        with contextlib.redirect_stdout(io.StringIO()), _own_pages_only():
            self.server = viser.ViserServer(host=HOST, port=port, label="RenderFormer", verbose=False)
        # Whatever a page asks for, nothing here goes out to a public address.
        self.server.request_share_url = lambda verbose=True: None
        self.server.gui.configure_theme(show_logo=False, show_share_button=False, dark_mode=True)
        self.server.gui.main_panel.dock_right()
        self.server.scene.set_up_direction("+z")
        self._put_camera(self.server.initial_camera)
        self._build()
        session.on_frame, session.on_error, session.on_done = self._framed, self._failed, self._done
        self.server.on_client_connect(self._guarded(self._connected))
        self.server.on_client_disconnect(lambda client: self._strangers.pop(client.client_id, None))
        self.server.scene.on_click()(self._guarded(self._clicked))
        self._ticking = threading.Thread(target=self._tick, name="renderformer-tick", daemon=True)
        self._ticking.start()
        session.resize(session.size)
        self._fill()

    @property
    def url(self) -> str:
        """Where the page is."""
        return f"http://{HOST}:{self.server.get_port()}"

    def close(self) -> None:
        """End the server and the session."""
        self.done.set()
        self._ticking.join(5)
        self.session.on_frame = self.session.on_error = self.session.on_done = None
        self.session.close()
        with contextlib.redirect_stdout(io.StringIO()):
            self.server.stop()

    def _build(self) -> None:
        gui = self.server.gui
        self._status = gui.add_markdown("starting …")
        self._busy = gui.add_markdown("", visible=False)
        self._progress = gui.add_progress_bar(0.0, visible=False)
        self._cancel = gui.add_button("cancel", visible=False, color="red")
        self._cancel.on_click(self._guarded(lambda event: self._give_up()))
        with gui.add_folder("Picture"):
            self._kind = gui.add_dropdown("view", VIEWS)
            self._bar = gui.add_slider("bar", min=0.0, max=1.0, step=0.005, initial_value=0.5, visible=False)
            self._exposure = gui.add_slider(
                "exposure", min=-10.0, max=10.0, step=0.1, initial_value=min(max(self.session.exposure, -10.0), 10.0)
            )
            self._tone_map = gui.add_dropdown("tone map", TONE_MAPS, initial_value=self.session.tone_map)
            side = min(self.session.size)
            sides = tuple(map(str, sorted({*RESOLUTIONS, side})))
            self._side = gui.add_dropdown("pixels", sides, initial_value=str(side))
        self._build_camera()
        self._build_objects()
        self._build_lights()
        with gui.add_folder("File"):
            upload = gui.add_upload_button("open or compare …", hint="a mesh, a scene, or a picture to compare with")
            upload.on_upload(self._guarded(self._uploaded))
            self._button("undo", self._undo)
            self._button("redo", self._redo)
            for name in ("picture.png", "picture.exr", "scene.json", "scene.h5", "path.mp4"):
                self._button(f"save {name}", functools.partial(self._download, name=name))
            self._button("save turntable.mp4", functools.partial(self._download, name="turntable.mp4"))
            self._button("close the viewer", self._close_asked)
        gui.add_markdown(_HELP)
        gui.add_html(_DROP)
        for label, key, modifier, action in (
            ("undo", "Z", "cmd/ctrl", self._undo),
            ("redo", "Y", "cmd/ctrl", self._redo),
            ("home", "H", None, self._home),
            ("bookmark", "B", None, self._bookmark),
            ("add key frame", "K", None, self._add_key),
            ("turntable", "T", None, self._switch_turntable),
        ):
            command = gui.add_command(label, hotkey=key, modifier=modifier)
            command.on_trigger(self._guarded(functools.partial(_with_client, action=action)))
        self._on(self._bar, self._draw)
        self._on(self._kind, self._change_kind)
        self._on(self._exposure, lambda: self._change_display(exposure=self._exposure.value))
        self._on(self._tone_map, lambda: self._change_display(tone_map=self._tone_map.value))
        self._on(self._side, self._change_side)

    def _build_camera(self) -> None:
        gui = self.server.gui
        with gui.add_folder("Camera", expand_by_default=False):
            self._angles = {
                "azimuth": gui.add_number("azimuth", 0.0, step=1.0),
                "elevation": gui.add_number("elevation", 0.0, min=-90.0, max=90.0, step=1.0),
                "distance": gui.add_number("distance", 1.75, min=0.001, step=0.01),
                "fov": gui.add_number("fov", 37.5, min=1.0, max=170.0, step=0.5),
            }
            self._limited = gui.add_checkbox("keep in the trained range", self.session.orbit.limited)
            self._turntable = gui.add_checkbox("turntable", False)
            self._button("home", self._home)
            self._button("bookmark", self._bookmark)
            self._marks = gui.add_dropdown("go to", (_NOTHING,))
            self._button("forget bookmark", self._forget)
            self._button("add key frame", self._add_key)
            self._keys = gui.add_markdown("")
            self._button("clear key frames", self._clear_keys)
        for name, number in self._angles.items():
            self._on(number, functools.partial(self._change_angle, name))
        self._on(self._limited, lambda: self._move(lambda orbit: setattr(orbit, "limited", self._limited.value)))
        self._on(self._marks, self._recall)

    def _build_objects(self) -> None:
        gui = self.server.gui
        with gui.add_folder("Object", expand_by_default=False):
            self._object = gui.add_dropdown("object", tuple(item.name for item in self.session.document.items))
            self._visible = gui.add_checkbox("visible", True)
            self._translation = gui.add_vector3("position", (0.0, 0.0, 0.0), step=0.01)
            self._rotation = gui.add_vector3("rotation", (0.0, 0.0, 0.0), step=1.0)
            self._scale = gui.add_number("scale", 1.0, min=0.01, max=100.0, step=0.01)
            self._diffuse = gui.add_rgb("diffuse", (128, 128, 128))
            self._specular = gui.add_slider("specular", min=0.0, max=1.0, step=0.01, initial_value=0.0)
            self._roughness = gui.add_slider("roughness", min=0.01, max=1.0, step=0.01, initial_value=0.5)
            self._emission = gui.add_number("emission", 0.0, min=0.0, max=60000.0, step=10.0)
            self._button("remove", lambda client: self._edit(lambda document: document.remove(self._object.value)))
        self._on(self._object, self._fill)
        self._on(
            self._visible,
            lambda: self._edit(lambda document: document.set_visible(self._object.value, self._visible.value)),
        )
        for handle in (self._translation, self._rotation, self._scale):
            self._on(handle, self._place)
        self._on(self._diffuse, lambda: self._material(diffuse=tuple(from_srgb(self._diffuse.value))))
        self._on(self._specular, lambda: self._material(specular=self._specular.value))
        self._on(self._roughness, lambda: self._material(roughness=self._roughness.value))
        self._on(self._emission, lambda: self._material(emission=self._emission.value))

    def _build_lights(self) -> None:
        gui = self.server.gui
        with gui.add_folder("Light", expand_by_default=False):
            names = tuple(item.name for item in self.session.document.lights) or (_NOTHING,)
            self._light = gui.add_dropdown("light", names)
            self._light_position = gui.add_vector3("position", (0.0, 0.0, 2.1), step=0.01)
            self._light_size = gui.add_number("size", 0.17, min=0.001, step=0.005)
            self._light_strength = gui.add_number("strength", 3500.0, min=0.01, max=60000.0, step=50.0)
            self._button("add light", lambda client: self._edit(lambda document: document.add_light()))
            self._button("remove light", lambda client: self._edit(lambda document: document.remove(self._light.value)))
        self._on(self._light, self._fill)
        self._on(self._light_position, lambda: self._change_light(position=self._light_position.value))
        self._on(self._light_size, lambda: self._change_light(size=self._light_size.value))
        self._on(self._light_strength, lambda: self._change_light(strength=self._light_strength.value))

    def _guarded(self, action: Callable[[Any], object]) -> Callable[[Any], None]:
        """A callback whose errors become a notification on the page that caused it."""

        def run(event: Any) -> None:
            try:
                action(event)
            except Exception as error:
                self._tell(getattr(event, "client", None), "failed", describe(error))

        return run

    def _on(self, handle: Any, action: Callable[[], object]) -> None:
        """Run an action when a person changes a control, not when the program does."""

        def changed(event: Any) -> None:
            if event.client is not None:
                action()

        handle.on_update(self._guarded(changed))

    def _button(self, label: str, action: Callable[[Any], object]) -> None:
        self.server.gui.add_button(label).on_click(self._guarded(lambda event: action(event.client)))

    def _tell(self, client: Any, title: str, line: str) -> None:
        targets = [client] if client is not None else list(self.server.get_clients().values())
        for target in targets:
            target.add_notification(title, line, auto_close_seconds=8.0, color="red" if title == "failed" else "blue")

    def _undo(self, client: Any) -> None:
        label = self.session.undo()
        self._changed()
        self._tell(client, "undo", label or "nothing left")

    def _redo(self, client: Any) -> None:
        label = self.session.redo()
        self._changed()
        self._tell(client, "redo", label or "nothing left")

    # The camera

    def _connected(self, client: viser.ClientHandle) -> None:
        self._strangers[client.client_id] = _pose(client.camera)
        self._put_camera(client.camera)
        client.camera.on_update(self._guarded(lambda camera: self._camera_moved(client)))
        self._draw()

    def _camera_moved(self, client: viser.ClientHandle) -> None:
        camera = client.camera
        position, target = np.asarray(camera.position, float), np.asarray(camera.look_at, float)
        self._fit(camera.aspect)
        depth = float(np.linalg.norm(position - target))
        seen = View.of(Camera.look_at(position, target, fov=math.degrees(camera.fov)), depth)
        if _close(seen, self.session.orbit.view):
            return
        # A busy page misses where it was put and tells again where its own camera stood when it was opened.
        if np.allclose(_pose(camera), self._strangers.get(client.client_id, math.inf), atol=_STILL):
            self._put_camera(camera)
            return
        self.session.follow(seen)
        if not _close(seen, self.session.orbit.view):
            self._put_cameras()
        self._fill()

    def _fit(self, aspect: float) -> None:
        """Draw in the shape of the page."""
        side = int(self._side.value)
        # In steps, since pages report aspects that differ in the last digits.
        longer = round(side * min(max(aspect, 1 / aspect), 4.0) / 8) * 8
        size = (longer, side) if aspect >= 1 else (side, longer)
        if size != self.session.view_size:
            self.session.size = size
            self.session.resize(size)

    def _put_camera(self, camera: Any) -> None:
        view = self.session.orbit.view
        reach = zip(view.target, view.direction, strict=True)
        # In this order: viser moves the target along with the position.
        camera.position = tuple(t + view.distance * d for t, d in reach)
        camera.look_at = view.target
        camera.fov = math.radians(view.fov)

    def _put_cameras(self) -> None:
        """Bring all pages, and those that will be opened, to where the camera is."""
        self._put_camera(self.server.initial_camera)
        for client in self.server.get_clients().values():
            self._put_camera(client.camera)

    def _move(self, change: Callable[[Any], object]) -> None:
        self.session.move(change)
        self._put_cameras()
        self._fill()

    def _change_angle(self, name: str) -> None:
        value = float(self._angles[name].value)
        self._move(lambda orbit: setattr(orbit, "view", replace(orbit.view, **{name: value})))

    def _home(self, client: Any) -> None:
        self._move(OrbitCamera.home)

    def _bookmark(self, client: Any) -> None:
        self._tell(client, "bookmark", self.session.move(lambda orbit: orbit.bookmark()))
        self._fill()

    def _recall(self) -> None:
        name = self._marks.value
        if name != _NOTHING:
            self._move(lambda orbit: orbit.recall(name))

    def _forget(self, client: Any) -> None:
        self._move(lambda orbit: orbit.forget(self._marks.value))

    def _add_key(self, client: Any) -> None:
        self.session.add_key()
        self._fill()

    def _clear_keys(self, client: Any) -> None:
        self.session.key_frames.clear()
        self._fill()

    def _switch_turntable(self, client: Any) -> None:
        self._turntable.value = not self._turntable.value

    def _tick(self) -> None:
        last = time.monotonic()
        while not self.done.wait(0.05):
            now = time.monotonic()
            if self._turntable.value:
                self._move(functools.partial(OrbitCamera.turntable, seconds=now - last))
            last = now
            self._judge()
            self._show_activity()

    def _judge(self) -> None:
        """Let the preview stand in for a picture that is late."""
        late = self.session.is_late()
        if late != self._late:
            self._late = late
            if self._kind.value == "neural":
                self._draw()

    def _show_activity(self) -> None:
        activity, saving = self.session.activity(), self.session.task is not None
        shown = activity is not None
        for handle, visible in ((self._busy, shown), (self._progress, shown), (self._cancel, saving)):
            if handle.visible != visible:
                handle.visible = visible
        if activity is not None:
            _set(self._busy, activity[0], "content")
            _set(self._progress, round(100 * activity[1]))

    def _give_up(self) -> None:
        if self.session.task is not None:
            self.session.task.cancel()

    # Picture

    def _framed(self, frame: Frame) -> None:
        self._draw()
        self._show_status()

    def _failed(self, line: str) -> None:
        self._tell(None, "failed", line)
        self._show_status()

    def _done(self, line: str) -> None:
        self._tell(None, "done", line)

    def _draw(self) -> None:
        """Show what the view asks for in all pages."""
        with self._filling:
            kind = self._kind.value
            preview = kind in ("preview", "split") or (kind == "neural" and self._late)
            picture = None
            if kind != "preview":
                picture = self.session.picture("difference" if kind == "difference" else "neural")
            if picture is None or (preview and kind != "split"):
                self.server.scene.set_background_image(None)
            else:
                frame = self.session.frame
                quality = 95 if frame is not None and frame.final else 80
                depth = None
                if kind == "split":
                    picture, depth = _split(picture, self._bar.value)
                self.server.scene.set_background_image(picture, format="jpeg", jpeg_quality=quality, depth=depth)
            self._show_meshes(preview)

    def _change_kind(self) -> None:
        self._bar.visible = self._kind.value == "split"
        self._draw()

    def _change_display(self, **values: Any) -> None:
        self.session.set_display(**values)
        self._draw()

    def _change_side(self) -> None:
        width, height = self.session.view_size
        self._fit(width / height)

    def _show_meshes(self, visible: bool) -> None:
        """Bring the preview up to date with the scene, or take it away."""
        wanted = {} if not visible else {item.name: item for item in self.session.document.items if item.visible}
        for name, (mesh, handle) in list(self._shown.items()):
            if name not in wanted or wanted[name].mesh is not mesh:
                handle.remove()
                del self._shown[name]
        for name in set(wanted) - set(self._shown):
            mesh = wanted[name].mesh
            colour = to_srgb(wanted[name].material.diffuse)
            handle = self.server.scene.add_mesh_simple(
                f"/preview/{abs(hash(name))}",
                mesh.triangles.reshape(-1, 3),
                np.arange(3 * len(mesh)).reshape(-1, 3),
                color=colour,
                flat_shading=True,
                side="double",
            )
            self._shown[name] = mesh, handle

    def _show_status(self) -> None:
        facts = [f"**{key}** {value}" for key, value in self.session.facts().items()]
        warnings = [f"⚠ {line}" for line in self.session.warnings()]
        error = [f"**error** {self.session.error}"] if self.session.error else []
        self._status.content = "  \n".join([*facts, *error, *warnings])

    # The scene

    def _edit(self, change: Callable[[Any], object]) -> None:
        self.session.edit(change)
        self._changed()

    def _changed(self) -> None:
        """The scene is another one now."""
        self._fill()
        if self._shown:
            self._draw()

    def _place(self) -> None:
        placement = Placement(tuple(self._translation.value), tuple(self._rotation.value), float(self._scale.value))
        self._edit(lambda document: document.place(self._object.value, placement))

    def _material(self, **values: Any) -> None:
        self._edit(lambda document: document.set_material(self._object.value, **values))

    def _change_light(self, **values: Any) -> None:
        if self._light.value != _NOTHING:
            self._edit(lambda document: document.set_light(self._light.value, **values))

    def _clicked(self, event: Any) -> None:
        u, v = event.screen_pos
        width, height = self.session.view_size
        pick = self.session.pick(u * width, v * height, width, height)
        if pick is not None:
            self._object.value = pick.name
            self._fill()
            self._tell(event.client, pick.name, f"triangle {pick.triangle}, {pick.distance:.3f} away")

    def _fill(self) -> None:
        """Write what is true into all controls."""
        with self._filling, self.session.lock:
            items, lights = self.session.document.items, self.session.document.lights
            item = _chosen(self._object, items)
            light = _chosen(self._light, lights)
            _offer(self._marks, (_NOTHING, *self.session.orbit.bookmarks))
            _set(
                self._keys,
                f"{len(self.session.key_frames.keys)} key frames, {self.session.key_frames.duration:g} s",
                "content",
            )
            view = self.session.orbit.view
            values: list[tuple[Any, Any]] = [
                (handle, round(getattr(view, name), 3)) for name, handle in self._angles.items()
            ]
            values.append((self._limited, self.session.orbit.limited))
            if item is not None:
                material = item.material
                values += [
                    (self._visible, item.visible),
                    (self._translation, item.placement.translation),
                    (self._rotation, item.placement.rotation),
                    (self._scale, item.placement.scale),
                    (self._diffuse, to_srgb(material.diffuse)),
                    (self._specular, float(np.mean(material.specular))),
                    (self._roughness, max(material.roughness, 0.01)),
                    (self._emission, max(material.emission)),
                ]
            if light is not None:
                found = light_of(light.mesh)
                values += [
                    (self._light_position, found.position),
                    (self._light_size, found.size),
                    (self._light_strength, max(np.atleast_1d(found.emission))),
                ]
            for handle, value in values:
                _set(handle, value)
        self._show_status()

    # Files

    def _download(self, client: Any, name: str) -> None:
        turn = TURN_SECONDS if name.startswith("turntable") else 0.0
        if name.startswith("path"):
            # Said at once.
            self.session.key_frames.cameras(1.0)

        def work(progress: Any, cancel: Any) -> list[str]:
            with tempfile.TemporaryDirectory(prefix="renderformer-") as folder:
                path = Path(folder) / name
                notes = self.session.save(path, progress, cancel, turn)
                if path.suffix == ".json":
                    # JSON has its meshes beside it, and a page can only be sent one file.
                    client.send_file_download("scene.zip", _zipped(Path(folder)))
                else:
                    client.send_file_download(name, path.read_bytes())
            return [note.replace(f"{path}: ", "") for note in notes]

        self.session.start(f"saving {name}", work)

    def _uploaded(self, event: Any) -> None:
        """Open a file that a page sent; only its suffix and what is left of its name are believed."""
        file = event.target.value
        name = re.sub(r"[^\w.-]+", "_", Path(file.name).name)[-100:].lstrip(".") or "upload"
        with tempfile.TemporaryDirectory(prefix="renderformer-") as folder:
            path = Path(folder) / name
            path.write_bytes(file.content)
            try:
                source = _unzipped(path) if path.suffix.lower() == ".zip" else path
                self._kind.value = self.session.open(source)
            except InputError as error:
                raise error.at(error.place.replace(f"{folder}{os.sep}", "")) from None
        self._bar.visible = False
        self._put_cameras()
        self._fill()
        self._draw()

    def _close_asked(self, client: Any) -> None:
        if self.session.document.unsaved and not self._asked_to_close:
            self._asked_to_close = True
            self._tell(client, "close", "edits of the scene are not in a file yet; press once more to close")
        else:
            self.done.set()


def serve(session: Session, port: int = 8080, say: Callable[[str], None] | None = None) -> None:
    """Serve a session until the page's close button, or Ctrl-C."""
    viewer = WebViewer(session, port)
    try:
        if say is not None:
            say(f"open {viewer.url} in a browser of this machine; Ctrl-C ends")
        # A wait without a limit would not let Ctrl-C through on every platform.
        while not viewer.done.wait(0.5):
            pass
    except KeyboardInterrupt:
        pass
    finally:
        viewer.close()


def _close(a: View, b: View) -> bool:
    first, second = a.camera(), b.camera()
    return bool(np.abs(first.c2w - second.c2w).max() < _STILL and abs(a.fov - b.fov) < 0.05)


def _pose(camera: Any) -> np.ndarray:
    return np.concatenate([camera.position, camera.look_at]).astype(float)


def _offer(dropdown: Any, names: tuple[str, ...]) -> None:
    if tuple(dropdown.options) != names:
        value = dropdown.value
        dropdown.options = names
        _set(dropdown, value if value in names else names[0])


def _chosen(dropdown: Any, items: tuple[Item, ...]) -> Item | None:
    """The item that a dropdown names, after its options were brought up to date."""
    _offer(dropdown, tuple(item.name for item in items) or (_NOTHING,))
    return next((item for item in items if item.name == dropdown.value), None)


def _set(handle: Any, value: Any, field: str = "value") -> None:
    now = getattr(handle, field)
    same = now == value if isinstance(value, str) else np.allclose(now, value, atol=1e-6)
    if not same:
        setattr(handle, field, value)


def _with_client(event: Any, action: Callable[[Any], object]) -> None:
    action(event.client)


def _split(picture: UInt8Array, bar: float) -> tuple[UInt8Array, np.ndarray]:
    """The picture before the preview right of a bar (0 … 1), black behind it on the left; and depths in scene units."""
    height, width, _ = picture.shape
    column, thick = round(bar * width), max(1, round(_BAR * width))
    both, depth = picture.copy(), np.full((height, width), _NEAR, np.float32)
    both[:, :column], depth[:, :column] = 0, _FAR
    both[:, column : column + thick] = 255
    return both, depth


@contextlib.contextmanager
def _own_pages_only() -> Iterator[None]:
    """While viser starts: its server answers only to this machine's names, and to no page but its own.

    A page of another site can open a connection to 127.0.0.1, too, and one whose name is made to lead to 127.0.0.1
    even reads the answers. Browsers say in `Origin` and `Host` where they think they are.
    """
    from websockets.asyncio import server as module

    server: Any = module
    serve = server.serve

    def guarded(*arguments: Any, process_request: Any = None, **options: Any) -> Any:
        def answer(connection: Any, request: Any) -> Any:
            if not _from_here(request.headers.get_all("Host"), request.headers.get_all("Origin")):
                return connection.respond(http.HTTPStatus.FORBIDDEN, "only pages of this viewer may connect\n")
            return None if process_request is None else process_request(connection, request)

        return serve(*arguments, process_request=answer, **options)

    server.serve = guarded
    try:
        yield
    finally:
        server.serve = serve


def _from_here(hosts: list[str], origins: list[str]) -> bool:
    """Whether a request with these headers comes from this viewer's page, or from a program that is no browser."""
    if len(hosts) != 1 or len(origins) > 1:
        return False
    host = hosts[0]
    name = host.rsplit(":", 1)[0] if re.search(r":\d+$", host) else host
    return name in ("127.0.0.1", "localhost", "[::1]") and origins in ([], [f"http://{host}"])


def _zipped(folder: Path) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for path in sorted(folder.rglob("*")):
            archive.write(path, path.relative_to(folder))
    return buffer.getvalue()


def _unzipped(path: Path) -> Path:
    """The scene JSON of an archive as `_zipped` makes it, unpacked beside it.

    Raises:
        InputError: it is damaged, holds no or several scenes, or too much.
    """
    folder = path.with_name("unpacked")
    try:
        with zipfile.ZipFile(path) as archive:
            if sum(item.file_size for item in archive.infolist()) > _MAX_UNPACKED:
                raise InputError(path, f"unpacks to more than {_MAX_UNPACKED >> 30} GiB", "open it on the command line")
            scenes = [name for name in archive.namelist() if re.fullmatch(r"[^/\\]+\.json", name)]
            if len(scenes) != 1:
                raise InputError(path, f"holds {len(scenes)} scene JSON files, expected one", "send its .glb or .h5")
            # zipfile drops what would lead out of the folder.
            archive.extractall(folder)
    except (zipfile.BadZipFile, OSError, EOFError, RuntimeError, NotImplementedError, ValueError, zlib.error) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(path, f"cannot be unpacked ({error})", "check the file") from None
    return folder / scenes[0]
