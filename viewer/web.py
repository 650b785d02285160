"""The viewer in a browser, for machines without a display: viser, bound to this machine, one port.

One camera is shared by all pages that are open; whoever moves it last drives. Nothing is rendered in the browser but
the preview: the picture is the background of viser's scene.
"""

from __future__ import annotations

import functools
import io
import math
import tempfile
import threading
import time
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import viser

from renderformer.data.camera import Camera
from renderformer.data.errors import InputError, one_line
from renderformer.data.scene import Mesh
from renderformer.image import TONE_MAPS
from renderformer.viewer.camera import OrbitCamera, View
from renderformer.viewer.display import from_srgb, to_srgb
from renderformer.viewer.document import Item, Placement, light_of
from renderformer.viewer.scheduler import Frame
from renderformer.viewer.session import Session

HOST = "127.0.0.1"
RESOLUTIONS = ("128", "192", "256", "384", "512", "768", "1024")
VIEWS = ("neural", "preview", "difference")
# A camera that a page reports back within this of where it was put has not been moved.
_STILL = 2e-3
_NOTHING = "(none)"
_HELP = """Drag turns, right drag or Ctrl drag pans, the wheel moves nearer, a click picks an object.
Exposure and tone map need no new picture. The camera is kept where the model was trained unless you free it."""


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
        self._filling = threading.RLock()
        self.server = viser.ViserServer(host=HOST, port=port, label="RenderFormer", verbose=False)
        self.server.gui.configure_theme(show_logo=False, show_share_button=False, dark_mode=True)
        self.server.gui.main_panel.dock_right()
        self.server.scene.set_up_direction("+z")
        self._put_camera(self.server.initial_camera)
        self._build()
        session.on_frame, session.on_error = self._framed, self._failed
        self.server.on_client_connect(self._guarded(self._connected))
        self.server.on_client_disconnect(lambda client: self._strangers.pop(client.client_id, None))
        self.server.scene.on_click()(self._guarded(self._clicked))
        self._turning = threading.Thread(target=self._turn, name="renderformer-turntable", daemon=True)
        self._turning.start()
        session.resize(session.size)
        self._fill()

    @property
    def url(self) -> str:
        """Where the page is."""
        return f"http://{HOST}:{self.server.get_port()}"

    def close(self) -> None:
        """End the server and the session."""
        self.done.set()
        self._turning.join(5)
        self.session.on_frame = self.session.on_error = None
        self.session.close()
        self.server.stop()

    def _build(self) -> None:
        gui = self.server.gui
        self._status = gui.add_markdown("starting …")
        with gui.add_folder("Picture"):
            self._kind = gui.add_dropdown("view", VIEWS)
            self._exposure = gui.add_slider(
                "exposure", min=-10.0, max=10.0, step=0.1, initial_value=min(max(self.session.exposure, -10.0), 10.0)
            )
            self._tone_map = gui.add_dropdown("tone map", TONE_MAPS, initial_value=self.session.tone_map)
            side = str(min(self.session.size))
            sides = tuple(sorted({*RESOLUTIONS, side}, key=int))
            self._side = gui.add_dropdown("pixels", sides, initial_value=side)
        self._build_camera()
        self._build_objects()
        self._build_lights()
        with gui.add_folder("File"):
            self._button("undo", lambda client: self._note(client, "undo", self.session.undo()))
            self._button("redo", lambda client: self._note(client, "redo", self.session.redo()))
            for suffix in (".png", ".exr"):
                self._button(f"save {suffix[1:].upper()}", functools.partial(self._download_image, suffix=suffix))
            for suffix in (".json", ".h5"):
                self._button(f"save scene {suffix[1:].upper()}", functools.partial(self._download_scene, suffix=suffix))
            self._button("save path MP4", lambda client: self._download_video(client, 0.0))
            self._button("save turntable MP4", lambda client: self._download_video(client, 4.0))
            for label, action in (("open …", self._open), ("reference picture …", self._compare)):
                upload = gui.add_upload_button(label)
                upload.on_upload(self._guarded(functools.partial(_uploaded, action=action)))
            self._button("close the viewer", lambda client: self.done.set())
        gui.add_markdown(_HELP)
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
            self._button("home", lambda client: self._move(lambda orbit: orbit.home()))
            self._button("bookmark", self._bookmark)
            self._marks = gui.add_dropdown("go to", (_NOTHING,))
            self._button("add key frame", self._add_key)
            self._button("clear key frames", lambda client: self.session.path.clear())
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
                self._tell(getattr(event, "client", None), "failed", _line(error))

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

    def _note(self, client: Any, title: str, line: str) -> None:
        self._fill()
        self._tell(client, title, line or f"nothing to {title}")

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

    def _bookmark(self, client: Any) -> None:
        self.session.move(lambda orbit: orbit.bookmark())
        self._marks.options = (_NOTHING, *self.session.orbit.bookmarks)

    def _recall(self) -> None:
        name = self._marks.value
        if name != _NOTHING:
            self._move(lambda orbit: orbit.recall(name))

    def _add_key(self, client: Any) -> None:
        self._tell(client, "key frame", f"{self.session.add_key()} keys, {self.session.path.duration:g} s")

    def _turn(self) -> None:
        last = time.monotonic()
        while not self.done.wait(0.05):
            now = time.monotonic()
            if self._turntable.value:
                self._move(functools.partial(OrbitCamera.turntable, seconds=now - last))
            last = now

    # Picture

    def _framed(self, frame: Frame) -> None:
        self._draw()
        self._show_status()

    def _failed(self, line: str) -> None:
        self._tell(None, "failed", one_line(line))
        self._show_status()

    def _draw(self) -> None:
        """Show the newest picture in all pages."""
        if self._kind.value == "preview":
            return
        picture = self.session.picture(self._kind.value)
        if picture is not None:
            frame = self.session.frame
            final = frame is not None and frame.final
            self.server.scene.set_background_image(picture, format="jpeg", jpeg_quality=95 if final else 80)

    def _change_kind(self) -> None:
        preview = self._kind.value == "preview"
        self._show_meshes(preview)
        if preview:
            self.server.scene.set_background_image(None)
        self._draw()

    def _change_display(self, **values: Any) -> None:
        self.session.set_display(**values)
        self._draw()

    def _change_side(self) -> None:
        width, height = self.session.view_size
        self._fit(width / height)

    def _show_meshes(self, visible: bool) -> None:
        """Bring the preview up to date with the scene, or hide it."""
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
        self._fill()
        if self._kind.value == "preview":
            self._show_meshes(True)

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

    def _download_image(self, client: Any, suffix: str) -> None:
        with tempfile.TemporaryDirectory(prefix="renderformer-") as folder:
            path = Path(folder) / f"picture{suffix}"
            notes = self.session.save_image(path)
            client.send_file_download(path.name, path.read_bytes())
        self._tell(client, path.name, "; ".join(notes).replace(f"{path}: ", "") or "saved")

    def _download_scene(self, client: Any, suffix: str) -> None:
        with tempfile.TemporaryDirectory(prefix="renderformer-") as folder:
            path = Path(folder) / f"scene{suffix}"
            notes = self.session.save_scene(path)
            if suffix == ".json":
                # JSON has its meshes beside it, and a page can only be sent one file.
                client.send_file_download("scene.zip", _zipped(Path(folder)))
            else:
                client.send_file_download(path.name, path.read_bytes())
        self._tell(client, path.name, "; ".join(notes) or "saved")

    def _download_video(self, client: Any, turn: float) -> None:
        with tempfile.TemporaryDirectory(prefix="renderformer-") as folder:
            path = Path(folder) / "path.mp4"
            bar = self.server.gui.add_progress_bar(0.0)
            try:
                show = lambda stage, done, total: setattr(bar, "value", 100.0 * done / max(total, 1))  # noqa: E731
                self.session.save_video(path, progress=show, turn=turn)
            finally:
                bar.remove()
            client.send_file_download(path.name, path.read_bytes())

    def _open(self, path: Path) -> None:
        self.session.open(path)
        self._move(lambda orbit: None)

    def _compare(self, path: Path) -> None:
        from renderformer.viewer.display import Reference

        self.session.reference = Reference.load(path)
        self._kind.value = "difference"
        self._draw()


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


def _chosen(dropdown: Any, items: tuple[Item, ...]) -> Item | None:
    """The item that a dropdown names, after its options were brought up to date."""
    names = tuple(item.name for item in items) or (_NOTHING,)
    if tuple(dropdown.options) != names:
        value = dropdown.value
        dropdown.options = names
        _set(dropdown, value if value in names else names[0])
    return next((item for item in items if item.name == dropdown.value), None)


def _set(handle: Any, value: Any) -> None:
    same = np.allclose(handle.value, value, atol=1e-6) if not isinstance(value, str) else handle.value == value
    if not same:
        handle.value = value


def _uploaded(event: Any, action: Callable[[Path], None]) -> None:
    """Run an action on a file that a page sent; only its suffix is believed."""
    file = event.target.value
    with tempfile.TemporaryDirectory(prefix="renderformer-") as folder:
        path = Path(folder) / f"upload{Path(file.name).suffix[:8]}"
        path.write_bytes(file.content)
        try:
            action(path)
        except InputError as error:
            raise InputError(str(error).replace(str(path), file.name)) from None


def _zipped(folder: Path) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for path in sorted(folder.rglob("*")):
            archive.write(path, path.relative_to(folder))
    return buffer.getvalue()


def _line(error: Exception) -> str:
    first = one_line(next(iter(str(error).splitlines()), ""))
    return first if isinstance(error, InputError) else f"{type(error).__name__}: {first}"
