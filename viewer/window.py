"""The viewer in a window: a thin Open3D front end over a `Session`.

The fast preview (SceneWidget) and the picture (ImageWidget) share one letterboxed rectangle; a panel is on the right.
Everything here runs on the main thread, but for what the worker posts to it. Open3D ends its loop, or crashes, when a
callback raises, so every callback goes through `_guarded`.
"""

from __future__ import annotations

import functools
import textwrap
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import open3d as o3d
from open3d.visualization import gui, rendering

from renderformer.data.errors import InputError, one_line
from renderformer.image import IMAGE_SUFFIXES, TONE_MAPS
from renderformer.viewer.camera import OrbitCamera
from renderformer.viewer.display import Picture, Rect, Reference, letterbox, resized
from renderformer.viewer.document import Item, Placement, light_of
from renderformer.viewer.scheduler import Frame
from renderformer.viewer.session import Session

TITLE = "RenderFormer"
VIEWS = ("neural", "preview", "split", "difference")
RESOLUTIONS = (128, 192, 256, 384, 512, 768, 1024)
PANEL_EM = 22
# Degrees of orbit over the height of the picture; factor of distance for one step of the wheel.
ORBIT_DEGREES, WHEEL_STEP = 180.0, 1.1
# Shares of the width from the bar of the split view where a drag takes hold of it.
BAR_REACH = 0.02
# Of the lamp on the camera, in Open3D's units.
LAMP = 250000.0
# Movement of the pointer in pixels up to which a press counts as a click.
CLICK_PIXELS = 3
# A request to close this soon after Escape came from that key.
ESCAPE_SECONDS = 2.0
HELP = """Left drag        turn
Right drag       pan (or Shift and left drag)
Wheel            nearer, farther
Ctrl and wheel   field of view
Click            choose the object under the pointer
H home   U undo   R redo   T turntable   B bookmark   K key frame
1 neural   2 preview   3 split   4 difference
Exposure and tone map need no new picture. Escape does nothing, so that no work is lost; close by the menu."""
OPEN, REFERENCE, SAVE_IMAGE, SAVE_SCENE, SAVE_VIDEO, SAVE_TURN, QUIT, UNDO, REDO, KEYS = range(1, 11)


class Window:
    """One open window; `Session` callbacks are taken over until it closes."""

    def __init__(self, session: Session, width: int = 1200, height: int = 800) -> None:
        self.session = session
        self.closed = False
        self._bar = 0.5
        self._press: tuple[int, int] | None = None
        self._last: tuple[int, int] = (0, 0)
        self._on_bar = False
        self._turning: float | None = None
        self._message = ""
        self._filling = False
        self._escaped, self._close_now = -ESCAPE_SECONDS, False
        self._drawn: dict[str, Any] = {}
        self._picture: Picture | None = None
        self.window = gui.Application.instance.create_window(TITLE, width, height)
        self._build_view()
        self._build_panel()
        self._build_menu()
        self.window.set_on_layout(self._guarded(self._layout))
        self.window.set_on_close(self._close)
        self.window.set_on_key(self._guarded(self._key, False))
        self.window.set_on_tick_event(self._guarded(self._tick, False))
        session.on_frame = lambda frame: self._post(lambda: self._framed(frame))
        session.on_error = lambda line: self._post(lambda: self._say(line))
        self._fill()
        session.request()

    def _guarded(self, action: Callable[..., Any], result: Any = None) -> Callable[..., Any]:
        """A callback that never raises: errors become the status line."""

        def run(*values: Any) -> Any:
            if self.closed:
                return result
            try:
                got = action(*values)
            except Exception as error:
                kind = "" if isinstance(error, InputError) else f"{type(error).__name__}: "
                self._say(one_line(kind + next(iter(str(error).splitlines()), "")))
                return result
            return result if got is None else got

        return run

    def _post(self, action: Callable[[], None]) -> None:
        """Run on the main thread; touching a widget after the loop has ended would crash."""
        if not self.closed:
            gui.Application.instance.post_to_main_thread(self.window, self._guarded(action))

    def _build_view(self) -> None:
        self.scene = gui.SceneWidget()
        self.scene.scene = rendering.Open3DScene(self.window.renderer)
        self.scene.scene.set_background([0, 0, 0, 1])
        # On software rendering these cost six times the rest.
        self.scene.scene.view.set_post_processing(False)
        self.scene.scene.view.set_shadowing(False)
        self.scene.scene.scene.enable_sun_light(True)
        self.image = gui.ImageWidget()
        self.window.add_child(self.scene)
        self.window.add_child(self.image)
        for widget in (self.scene, self.image):
            widget.set_on_mouse(self._guarded(self._mouse, gui.Widget.EventCallbackResult.CONSUMED))

    def _build_panel(self) -> None:
        em = self.window.theme.font_size
        self._panel = gui.ScrollableVert(0.3 * em, gui.Margins(0.5 * em, 0.5 * em, 0.5 * em, 0.5 * em))
        self.window.add_child(self._panel)
        self._status = gui.Label("starting")
        self._panel.add_child(self._status)
        self._build_output(self._section("Picture"))
        self._build_camera(self._section("Camera"))
        self._build_object(self._section("Object", False))
        self._build_light(self._section("Light", False))

    def _section(self, title: str, opened: bool = True) -> Any:
        em = self.window.theme.font_size
        section = gui.CollapsableVert(title, 0.3 * em, gui.Margins(em, 0, 0, 0))
        section.set_is_open(opened)
        self._panel.add_child(section)
        return section

    def _row(self, section: Any, label: str, widget: Any) -> Any:
        row = gui.Horiz(0.5 * self.window.theme.font_size)
        row.add_child(gui.Label(label))
        row.add_child(widget)
        section.add_child(row)
        return widget

    def _button(self, section: Any, label: str, action: Callable[[], object]) -> None:
        button = gui.Button(label)
        button.set_on_clicked(self._guarded(lambda: self._then_fill(action)))
        section.add_child(button)

    def _number(
        self, section: Any, label: str, low: float, high: float, action: Callable[[float], object]
    ) -> Any:
        edit = gui.NumberEdit(gui.NumberEdit.DOUBLE)
        edit.set_limits(low, high)
        edit.set_on_value_changed(self._changed(action))
        return self._row(section, label, edit)

    def _slider(self, section: Any, label: str, low: float, high: float, action: Callable[[float], object]) -> Any:
        slider = gui.Slider(gui.Slider.DOUBLE)
        slider.set_limits(low, high)
        slider.set_on_value_changed(self._changed(action))
        return self._below(section, label, slider)

    def _below(self, section: Any, label: str, widget: Any) -> Any:
        """A label and under it a control as wide as the panel."""
        section.add_child(gui.Label(label))
        section.add_child(widget)
        return widget

    def _choice(self, section: Any, label: str, names: Any, action: Callable[[str], object]) -> Any:
        box = gui.Combobox()
        for name in names:
            box.add_item(str(name))
        box.set_on_selection_changed(self._guarded(lambda text, index: self._then_fill(lambda: action(text))))
        return self._row(section, label, box)

    def _changed(self, action: Callable[[Any], object]) -> Callable[[Any], None]:
        """A callback for a person's changes; what the program writes into a control is not one."""
        return self._guarded(lambda value: None if self._filling else self._then_fill(lambda: action(value)))

    def _then_fill(self, action: Callable[[], object]) -> None:
        self._message = ""
        action()
        self._fill()

    def _build_output(self, section: Any) -> None:
        self._kind = self._choice(section, "view", VIEWS, lambda name: self._show(name))
        self._exposure = self._slider(section, "exposure", -10, 10, lambda v: self._display(exposure=v))
        self._tone_map = self._choice(section, "tone map", TONE_MAPS, lambda name: self._display(tone_map=name))
        self._tone_map.selected_text = self.session.tone_map
        sides = sorted({*RESOLUTIONS, *self.session.size})
        self._side = self._choice(section, "pixels", sides, lambda text: self._resize(int(text)))
        self._side.selected_text = str(min(self.session.size))

    def _build_camera(self, section: Any) -> None:
        ranges = {"azimuth": (-360, 360), "elevation": (-90, 90), "distance": (0.01, 100), "fov": (1, 170)}
        self._angles = {
            name: self._number(section, name, *span, functools.partial(self._angle, name))
            for name, span in ranges.items()
        }
        self._limited = gui.Checkbox("keep in the trained range")
        self._limited.set_on_checked(
            self._changed(lambda on: self.session.move(lambda orbit: setattr(orbit, "limited", on)))
        )
        section.add_child(self._limited)
        self._button(section, "home", lambda: self.session.move(OrbitCamera.home))
        self._button(section, "bookmark", self._bookmark)
        self._marks = self._choice(section, "go to", (), lambda name: self.session.move(lambda o: o.recall(name)))
        self._button(section, "add key frame", self._add_key)
        self._button(section, "clear key frames", lambda: self.session.path.clear())

    def _build_object(self, section: Any) -> None:
        names = [item.name for item in self.session.document.items]
        self._object = self._choice(section, "object", names, lambda name: None)
        self._visible = gui.Checkbox("visible")
        self._visible.set_on_checked(self._changed(lambda on: self._edit(lambda d, n: d.set_visible(n, on))))
        section.add_child(self._visible)
        self._translation = self._vector(section, "move", lambda v: self._place())
        self._rotation = self._vector(section, "turn", lambda v: self._place())
        self._scale = self._number(section, "scale", 0.01, 100, lambda v: self._place())
        self._diffuse = gui.ColorEdit()
        self._diffuse.set_on_value_changed(self._changed(lambda c: self._material(diffuse=(c.red, c.green, c.blue))))
        self._below(section, "diffuse", self._diffuse)
        self._specular = self._slider(section, "specular", 0, 1, lambda v: self._material(specular=v))
        self._roughness = self._slider(section, "roughness", 0.01, 1, lambda v: self._material(roughness=v))
        self._emission = self._number(section, "emission", 0, 60000, lambda v: self._material(emission=v))
        self._button(section, "remove", lambda: self._edit(lambda d, n: d.remove(n)))

    def _build_light(self, section: Any) -> None:
        names = [item.name for item in self.session.document.lights]
        self._light = self._choice(section, "light", names, lambda name: None)
        self._position = self._vector(section, "position", lambda v: self._relight(position=tuple(v)))
        self._size = self._number(section, "size", 0.001, 10, lambda v: self._relight(size=v))
        self._strength = self._number(section, "strength", 0.01, 60000, lambda v: self._relight(strength=v))
        self._button(section, "add light", lambda: self.session.edit(lambda d: d.add_light()))
        self._button(section, "remove light", lambda: self.session.edit(lambda d: d.remove(self._light.selected_text)))

    def _vector(self, section: Any, label: str, action: Callable[[Any], object]) -> Any:
        edit = gui.VectorEdit()
        edit.set_on_value_changed(self._changed(action))
        return self._below(section, label, edit)

    def _build_menu(self) -> None:
        file, edit, about, bar = gui.Menu(), gui.Menu(), gui.Menu(), gui.Menu()
        entries: list[tuple[Any, int, str, Callable[[], object]]] = [
            (file, OPEN, "Open …", lambda: self._ask("Open", False, self._open)),
            (file, REFERENCE, "Compare with a picture …", lambda: self._ask("Compare", False, self._compare)),
            (file, SAVE_IMAGE, "Save picture (PNG, EXR) …", lambda: self._ask("Save", True, self._save)),
            (file, SAVE_SCENE, "Save scene (JSON, H5) …", lambda: self._ask("Save", True, self._save)),
            (file, SAVE_VIDEO, "Save path as video (MP4) …", lambda: self._ask("Save", True, self._save)),
            (file, SAVE_TURN, "Save turntable (MP4) …", lambda: self._ask("Save", True, self._save_turn)),
            (file, QUIT, "Close", self._quit),
            (edit, UNDO, "Undo (U)", self._undo),
            (edit, REDO, "Redo (R)", self._redo),
            (about, KEYS, "Mouse and keys", lambda: self.window.show_message_box("Mouse and keys", HELP)),
        ]
        for menu, number, label, action in entries:
            menu.add_item(label.replace("…", "..."), number)
            self.window.set_on_menu_item_activated(number, self._guarded(lambda a=action: self._then_fill(a)))
        for label, menu in (("File", file), ("Edit", edit), ("Help", about)):
            bar.add_menu(label, menu)
        gui.Application.instance.menubar = bar

    # Layout and drawing

    def rectangle(self) -> Rect:
        """Where preview and picture are, in pixels of the window."""
        area = self.window.content_rect
        width = max(1, area.width - self._panel_width())
        box = letterbox(width, area.height, self.session.view_size[0] / self.session.view_size[1])
        return Rect(area.x + box.x, area.y + box.y, box.width, box.height)

    def _panel_width(self) -> int:
        return min(PANEL_EM * self.window.theme.font_size, self.window.content_rect.width // 2)

    def _layout(self, context: Any) -> None:
        area, width = self.window.content_rect, self._panel_width()
        self._panel.frame = gui.Rect(area.get_right() - width, area.y, width, area.height)
        box = self.rectangle()
        self.scene.frame = gui.Rect(box.x, box.y, box.width, box.height)
        self._place_image()

    def _place_image(self) -> None:
        """The picture over the preview: all of it, or in the split view what is right of the bar."""
        box = self.rectangle()
        column = round(self._bar * box.width) if self.kind == "split" else 0
        self.image.frame = gui.Rect(box.x + column, box.y, max(1, box.width - column), box.height)
        self.image.visible = self.kind != "preview" and self._picture is not None
        if self.image.visible and self._picture is not None:
            shown = resized(self._picture, box.width, box.height)[:, column:] if box.width > column else self._picture
            self.image.update_image(o3d.geometry.Image(np.ascontiguousarray(shown)))

    @property
    def kind(self) -> str:
        """Which view is shown."""
        return str(self._kind.selected_text) or VIEWS[0]

    def _draw(self) -> None:
        self._picture = self.session.picture("difference" if self.kind == "difference" else "neural")
        self._place_image()
        self.window.post_redraw()

    def _framed(self, frame: Frame) -> None:
        self._draw()
        self._show_status()

    def _update_preview(self) -> None:
        """Bring the preview up to date: meshes that changed, and the camera."""
        wanted = {item.name: item for item in self.session.document.items if item.visible}
        for name in list(self._drawn):
            if name not in wanted or wanted[name] is not self._drawn[name]:
                self.scene.scene.remove_geometry(name)
                del self._drawn[name]
        for name in set(wanted) - set(self._drawn):
            self.scene.scene.add_geometry(name, *_geometry(wanted[name]))
            self._drawn[name] = wanted[name]
        camera = self.session.orbit.camera
        up, position = camera.c2w[:3, 1], camera.position
        # A lamp on the camera: the preview shows shape, not light.
        self.scene.scene.scene.set_sun_light(camera.forward, [1.0, 1.0, 1.0], LAMP)
        box = self.rectangle()
        vertical = rendering.Camera.FovType.Vertical
        self.scene.scene.camera.set_projection(camera.fov, box.width / box.height, 0.01, 100.0, vertical)
        self.scene.scene.camera.look_at(position + camera.forward, position, up)
        self.scene.force_redraw()

    # Mouse and keys

    def _mouse(self, event: Any) -> Any:
        if event.type == gui.MouseEvent.Type.BUTTON_DOWN:
            self._press = self._last = (event.x, event.y)
            at = self._share(event.x, event.y)
            self._on_bar = self.kind == "split" and at is not None and abs(at[0] - self._bar) < BAR_REACH
        elif event.type == gui.MouseEvent.Type.DRAG:
            self._drag(event)
        elif event.type == gui.MouseEvent.Type.BUTTON_UP:
            still = self._press is not None and max(abs(event.x - self._press[0]), abs(event.y - self._press[1]))
            if self._press is not None and still <= CLICK_PIXELS:
                self._click(event.x, event.y)
            self._press = None
        elif event.type == gui.MouseEvent.Type.WHEEL:
            self._wheel(event)
        return gui.Widget.EventCallbackResult.CONSUMED

    def _drag(self, event: Any) -> None:
        dx, dy = event.x - self._last[0], event.y - self._last[1]
        self._last = (event.x, event.y)
        box = self.rectangle()
        panning = event.is_button_down(gui.MouseButton.RIGHT) or event.is_modifier_down(gui.KeyModifier.SHIFT)
        if self._on_bar:
            self._bar = min(max((event.x - box.x) / box.width, 0.0), 1.0)
            self._place_image()
        elif panning:
            self._move(lambda orbit: orbit.pan(-dx / box.height, dy / box.height))
        else:
            step = ORBIT_DEGREES / box.height
            self._move(lambda orbit: orbit.orbit(-dx * step, dy * step))

    def _wheel(self, event: Any) -> None:
        steps = event.wheel_dy / (10 if event.wheel_is_trackpad else 1)
        if event.is_modifier_down(gui.KeyModifier.CTRL):
            self._move(lambda orbit: orbit.zoom(-steps))
        else:
            self._move(lambda orbit: orbit.dolly(WHEEL_STEP**-steps))

    def _share(self, x: int, y: int) -> tuple[float, float] | None:
        return self.rectangle().inside(x, y)

    def _click(self, x: int, y: int) -> None:
        at = self._share(x, y)
        width, height = self.session.view_size
        pick = None if at is None else self.session.pick(at[0] * width, at[1] * height, width, height)
        if pick is not None:
            self._fill(chosen=pick.name)
            self._say(f"{pick.name}: triangle {pick.triangle}, {pick.distance:.3f} away")

    def _key(self, event: Any) -> bool:
        if event.key == gui.KeyName.ESCAPE:
            self._escaped = time.monotonic()
        if event.type != gui.KeyEvent.Type.DOWN:
            return False
        actions: dict[Any, Callable[[], object]] = {
            gui.KeyName.H: lambda: self.session.move(OrbitCamera.home),
            gui.KeyName.U: self._undo,
            gui.KeyName.R: self._redo,
            gui.KeyName.T: self._turn,
            gui.KeyName.B: self._bookmark,
            gui.KeyName.K: self._add_key,
            gui.KeyName.ONE: lambda: self._show(VIEWS[0]),
            gui.KeyName.TWO: lambda: self._show(VIEWS[1]),
            gui.KeyName.THREE: lambda: self._show(VIEWS[2]),
            gui.KeyName.FOUR: lambda: self._show(VIEWS[3]),
        }
        action = actions.get(event.key)
        if action is None:
            return False
        self._then_fill(action)
        return True

    def _tick(self) -> bool:
        if self._turning is None:
            return False
        now = time.monotonic()
        step, self._turning = now - self._turning, now
        self._move(lambda orbit: orbit.turntable(step))
        return True

    def _turn(self) -> None:
        self._turning = None if self._turning is not None else time.monotonic()

    # Actions

    def _move(self, change: Callable[[OrbitCamera], object]) -> None:
        self.session.move(change)
        self._fill()

    def _angle(self, name: str, value: float) -> None:
        change: dict[str, Any] = {name: value}
        self.session.move(lambda orbit: setattr(orbit, "view", replace(orbit.view, **change)))

    def _bookmark(self) -> None:
        name = self.session.move(lambda orbit: orbit.bookmark())
        self._marks.add_item(name)
        self._say(f"bookmark {name}")

    def _add_key(self) -> None:
        self._say(f"{self.session.add_key()} key frames, {self.session.path.duration:g} s")

    def _edit(self, change: Callable[[Any, str], object]) -> None:
        name = self._object.selected_text
        self.session.edit(lambda document: change(document, name))

    def _material(self, **values: Any) -> None:
        self._edit(lambda document, name: document.set_material(name, **values))

    def _place(self) -> None:
        placement = Placement(
            tuple(self._translation.vector_value), tuple(self._rotation.vector_value), self._scale.double_value
        )
        self._edit(lambda document, name: document.place(name, placement))

    def _relight(self, **values: Any) -> None:
        self.session.edit(lambda document: document.set_light(self._light.selected_text, **values))

    def _undo(self) -> None:
        self._say(f"undo: {self.session.undo() or 'nothing left'}")

    def _redo(self) -> None:
        self._say(f"redo: {self.session.redo() or 'nothing left'}")

    def _show(self, kind: str) -> None:
        self._kind.selected_text = kind
        self._draw()

    def _display(self, **values: Any) -> None:
        self.session.set_display(**values)
        self._draw()

    def _resize(self, side: int) -> None:
        width, height = self.session.size
        factor = side / min(width, height)
        self.session.size = round(width * factor), round(height * factor)
        self.session.resize(self.session.size)

    # Files

    def _ask(self, title: str, saving: bool, done: Callable[[Path], object]) -> None:
        dialog = gui.FileDialog(gui.FileDialog.SAVE if saving else gui.FileDialog.OPEN, title, self.window.theme)

        def chosen(path: str) -> None:
            self.window.close_dialog()
            self._then_fill(lambda: done(Path(path)))

        dialog.set_on_cancel(self._guarded(self.window.close_dialog))
        dialog.set_on_done(self._guarded(chosen))
        self.window.show_dialog(dialog)

    def _open(self, path: Path) -> None:
        self.session.open(path)

    def _compare(self, path: Path) -> None:
        self.session.reference = Reference.load(path)
        self._show("difference")

    def _save(self, path: Path) -> None:
        if path.suffix.lower() in IMAGE_SUFFIXES:
            notes = self.session.save_image(path)
        elif path.suffix.lower() == ".mp4":
            notes = self.session.save_video(path)
        else:
            notes = self.session.save_scene(path)
        self._say("; ".join([f"wrote {path}", *notes]))

    def _save_turn(self, path: Path) -> None:
        self._say("; ".join([f"wrote {path}", *self.session.save_video(path, turn=4.0)]))

    # What the controls show

    def _say(self, line: str) -> None:
        self._message = line
        self._show_status()

    def _show_status(self) -> None:
        facts = [f"{key}: {value}" for key, value in self.session.facts().items()]
        warnings = [f"! {line}" for line in self.session.warnings()]
        error = [f"error: {self.session.error}"] if self.session.error else []
        lines = [*facts, *error, *warnings, *([self._message] if self._message else [])]
        wide = max(20, int(1.8 * PANEL_EM))
        self._status.text = "\n".join(part for line in lines for part in _wrapped(line, wide))

    def _fill(self, chosen: str = "") -> None:
        """Write what is true into all controls, and bring the preview up to date."""
        self._filling = True
        try:
            item = _chosen(self._object, self.session.document.items, chosen)
            light = _chosen(self._light, self.session.document.lights, "")
            view = self.session.orbit.view
            for name, edit in self._angles.items():
                edit.double_value = getattr(view, name)
            self._limited.checked = self.session.orbit.limited
            self._exposure.double_value = self.session.exposure
            if item is not None:
                self._fill_object(item)
            if light is not None:
                found = light_of(light.mesh)
                self._position.vector_value = found.position
                self._size.double_value = found.size
                self._strength.double_value = float(np.max(found.emission))
        finally:
            self._filling = False
        self._update_preview()
        self._show_status()

    def _fill_object(self, item: Item) -> None:
        material = item.material
        self._visible.checked = item.visible
        self._translation.vector_value = item.placement.translation
        self._rotation.vector_value = item.placement.rotation
        self._scale.double_value = item.placement.scale
        self._diffuse.color_value = gui.Color(*material.diffuse)
        self._specular.double_value = float(np.mean(material.specular))
        self._roughness.double_value = material.roughness
        self._emission.double_value = max(material.emission)

    def _quit(self) -> None:
        self._close_now = True
        self.window.close()

    def _close(self) -> bool:
        """Escape asks to close, too, whatever the key's handler answers."""
        if time.monotonic() - self._escaped < ESCAPE_SECONDS:
            return False
        if self.session.document.edited and not self._close_now:
            self._close_now = True
            self._say("there are edits that may not be saved; close once more to leave")
            return False
        self.closed = True
        self.session.on_frame = self.session.on_error = None
        return True


def _geometry(item: Item) -> tuple[Any, Any]:
    mesh = item.mesh
    corners = o3d.utility.Vector3dVector(mesh.triangles.reshape(-1, 3).astype(np.float64))
    faces = o3d.utility.Vector3iVector(np.arange(3 * len(mesh), dtype=np.int32).reshape(-1, 3))
    drawn = o3d.geometry.TriangleMesh(corners, faces)
    drawn.vertex_normals = o3d.utility.Vector3dVector(mesh.normals.reshape(-1, 3).astype(np.float64))
    material = rendering.MaterialRecord()
    material.shader = "defaultUnlit" if mesh.emits else "defaultLit"
    material.base_color = [*item.material.diffuse, 1.0]
    material.base_roughness = max(item.material.roughness, 0.05)
    return drawn, material


def _chosen(box: Any, items: tuple[Item, ...], wanted: str) -> Item | None:
    """The item that a box names, after its entries were brought up to date."""
    names = [item.name for item in items]
    if [box.get_item(i) for i in range(box.number_of_items)] != names:
        before = box.selected_text
        box.clear_items()
        for name in names:
            box.add_item(name)
        wanted = wanted or (before if before in names else names[0] if names else "")
    if wanted:
        box.selected_text = wanted
    return next((item for item in items if item.name == box.selected_text), None)


def _wrapped(line: str, width: int) -> list[str]:
    return textwrap.wrap(line, width) or [""]


def run(session: Session) -> None:
    """Open a window on a session and wait until it is closed."""
    app = gui.Application.instance
    app.initialize()
    window = Window(session)
    app.run()
    window.closed = True
