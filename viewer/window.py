"""The viewer in a window: a thin Open3D front end over a `Session`.

The fast preview (SceneWidget) and the picture (ImageWidget) share one letterboxed rectangle; a panel is on the right.
While the picture comes late, because the model is slow or the scene large, the preview shows where the camera is.
Everything here runs on the main thread, but for what the worker posts to it. Open3D ends its loop, or crashes, when a
callback raises, so every callback goes through `_guarded`.
"""

from __future__ import annotations

import functools
import textwrap
import time
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import open3d as o3d
from open3d.visualization import gui, rendering

from renderformer.data.arrays import UInt8Array
from renderformer.data.errors import InputError
from renderformer.data.formats.loading import SCENE_FORMATS
from renderformer.data.formats.meshes import FORMATS
from renderformer.image import IMAGE_SUFFIXES, TONE_MAPS
from renderformer.viewer.camera import OrbitCamera
from renderformer.viewer.display import Rect, from_srgb, letterbox, resized, to_srgb
from renderformer.viewer.document import Item, Placement, light_of
from renderformer.viewer.preview import Lighting, coloured
from renderformer.viewer.scheduler import Frame
from renderformer.viewer.session import RESOLUTIONS, TURN_SECONDS, VIEWS, Session, describe

TITLE = "RenderFormer"
PANEL_EM = 22
# Degrees of orbit over the height of the picture, and of one press of an arrow; factor of distance of a wheel's step.
ORBIT_DEGREES, ARROW_DEGREES, WHEEL_STEP = 180.0, 5.0, 1.1
# Stops of one press of a bracket.
EXPOSURE_STEP = 0.5
# Shares of the width from the bar of the split view where a drag takes hold of it; its width in pixels.
BAR_REACH, BAR_PIXELS = 0.02, 3
# Movement of the pointer in pixels up to which a press counts as a click.
CLICK_PIXELS = 3
# A request to close this soon after Escape came from that key.
ESCAPE_SECONDS = 0.5
# A picture is put on the screen once more after this: of two updates between two redraws Open3D may lose the second.
SETTLE_SECONDS = 0.3
WARNING_COLOUR = (1.0, 0.7, 0.2)
VIDEO = (".mp4",)
HELP = {
    "Left drag, arrows": "turn",
    "Right drag, Shift and left drag": "pan",
    "Wheel, + -": "nearer, farther",
    "Ctrl and wheel": "field of view",
    "Click": "choose the object under the pointer",
    "H": "home",
    "T": "turntable, on and off",
    "B": "bookmark",
    "K, P": "add a key frame, play them",
    "U or Ctrl Z, R or Ctrl Y": "undo, redo",
    "[ ]": "exposure",
    "1 2 3 4": "neural, preview, split, difference",
    "Ctrl O, Ctrl S, Ctrl Q": "open, save the scene, close",
    "Escape": "closes a dialog, never the window",
}
HELP_NOTES = """Keys act after a click on the picture. Exposure and tone map need no
new picture. To drop files use renderformer view --web: Open3D does not
tell Python of drops on a window."""
(OPEN, REFERENCE, SAVE_IMAGE, SAVE_SCENE, SAVE_VIDEO, SAVE_TURN, QUIT, UNDO, REDO, KEYS) = range(1, 11)


class Window:
    """One open window; `Session` callbacks are taken over until it closes."""

    def __init__(self, session: Session, width: int = 1200, height: int = 800) -> None:
        self.session = session
        self.closed = False
        self.dialog: Any = None
        self._bar = 0.5
        self._press: tuple[int, int] | None = None
        self._last: tuple[int, int] = (0, 0)
        self._on_bar = False
        # When the turntable turned last, and when the key frames began to play.
        self._turning: float | None = None
        self._playing: float | None = None
        self._message = ""
        self._filling = False
        self._escaped, self._control = -ESCAPE_SECONDS, False
        self._late = False
        # When the picture is put on the screen once more.
        self._settle: float | None = None
        self._folder = Path.cwd()
        self._drawn: dict[str, tuple[Item, Any]] = {}
        self._picture: UInt8Array | None = None
        self.window = gui.Application.instance.create_window(TITLE, width, height)
        self._build_view()
        self._build_panel()
        self._build_menu()
        self.window.set_on_layout(self._guarded(self._layout))
        self.window.set_on_close(lambda: self.closed or self._guarded(self._close, False)())
        self.window.set_on_key(self._guarded(self._note_key, False))
        self.window.set_on_tick_event(self._guarded(self._tick, False))
        session.on_frame = lambda frame: self._post(lambda: self._framed(frame))
        session.on_error = lambda line: self._post(lambda: self._say(line))
        session.on_done = lambda line: self._post(lambda: self._say(line))
        self._fill()
        self.window.set_focus_widget(self.scene)
        session.request()

    def _guarded(self, action: Callable[..., Any], result: Any = None) -> Callable[..., Any]:
        """A callback that never raises: errors become the status line."""

        def run(*values: Any) -> Any:
            if self.closed:
                return result
            try:
                got = action(*values)
            except Exception as error:
                self._say(describe(error))
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
        self.image = gui.ImageWidget()
        # Behind both; what no widget covers is never cleared, and a dialog would leave its edges there.
        self._back = gui.Vert()
        self._back.background_color = gui.Color(0, 0, 0)
        self.window.add_child(self._back)
        self.window.add_child(self.scene)
        self.window.add_child(self.image)
        for widget in (self.scene, self.image):
            widget.set_on_mouse(self._guarded(self._mouse, gui.Widget.EventCallbackResult.CONSUMED))
            # Keys go to the widget in focus, so that what is typed into a field does nothing else.
            widget.set_on_key(self._guarded(self._key, gui.Widget.EventCallbackResult.CONSUMED))

    def _build_panel(self) -> None:
        em = self.window.theme.font_size
        self._panel = gui.ScrollableVert(0.3 * em, gui.Margins(0.5 * em, 0.5 * em, 1.2 * em, 0.5 * em))
        self._status, self._warnings = gui.Label("starting"), gui.Label("")
        self._warnings.text_color = gui.Color(*WARNING_COLOUR)
        self._panel.add_child(self._status)
        self._panel.add_child(self._warnings)
        self._build_picture(self._section("Picture"))
        self._build_camera(self._section("Camera"))
        self._build_path(self._section("Bookmarks and key frames", False))
        self._build_object(self._section("Object", False))
        self._build_light(self._section("Light", False))
        # What is going on, at the foot of the panel, while something is.
        self._busy, self._progress, self._cancel = gui.Label(""), gui.ProgressBar(), gui.Button("cancel")
        self._cancel.vertical_padding_em = 0
        self._cancel.set_on_clicked(self._guarded(self._give_up))
        for widget in (self._panel, self._busy, self._progress, self._cancel):
            self.window.add_child(widget)
        for widget in (self._busy, self._progress, self._cancel):
            widget.visible = False

    def _section(self, title: str, opened: bool = True) -> Any:
        """A part of the panel that folds, with labels in its first column and controls in its second."""
        em = self.window.theme.font_size
        section = gui.CollapsableVert(title, 0.3 * em, gui.Margins(em, 0, 0, 0))
        section.set_is_open(opened)
        self._panel.add_child(section)
        return section

    def _rows(self, section: Any) -> Any:
        """Labels in a first column and controls in a second."""
        em = self.window.theme.font_size
        grid = gui.VGrid(2, 0.3 * em)
        section.add_child(grid)
        return grid

    def _row(self, rows: Any, label: str, widget: Any) -> Any:
        rows.add_child(gui.Label(label))
        rows.add_child(widget)
        return widget

    def _buttons(self, section: Any, **actions: Callable[[], object]) -> None:
        """Buttons beside each other; an underscore in a name is a blank."""
        row = gui.Horiz(0.4 * self.window.theme.font_size)
        for label, action in actions.items():
            button = gui.Button(label.replace("_", " "))
            button.vertical_padding_em = 0
            button.set_on_clicked(self._guarded(functools.partial(self._then_fill, action)))
            row.add_child(button)
        section.add_child(row)

    def _number(self, rows: Any, label: str, low: float, high: float, action: Callable[[float], object]) -> Any:
        edit = gui.NumberEdit(gui.NumberEdit.DOUBLE)
        edit.set_limits(low, high)
        edit.set_on_value_changed(self._changed(action))
        return self._row(rows, label, edit)

    def _slider(self, rows: Any, label: str, low: float, high: float, action: Callable[[float], object]) -> Any:
        slider = gui.Slider(gui.Slider.DOUBLE)
        slider.set_limits(low, high)
        slider.set_on_value_changed(self._changed(action))
        return self._row(rows, label, slider)

    def _choice(self, rows: Any, label: str, names: Iterable[object], action: Callable[[str], object]) -> Any:
        box = gui.Combobox()
        for name in names:
            box.add_item(str(name))
        box.set_on_selection_changed(self._guarded(lambda text, index: self._then_fill(lambda: action(text))))
        return self._row(rows, label, box)

    def _vector(self, rows: Any, label: str, action: Callable[[Any], object]) -> Any:
        edit = gui.VectorEdit()
        edit.set_on_value_changed(self._changed(action))
        return self._row(rows, label, edit)

    def _check(self, section: Any, label: str, action: Callable[[bool], object]) -> Any:
        box = gui.Checkbox(label)
        box.set_on_checked(self._changed(action))
        section.add_child(box)
        return box

    def _changed(self, action: Callable[[Any], object]) -> Callable[[Any], None]:
        """A callback for a person's changes; what the program writes into a control is not one."""
        return self._guarded(lambda value: None if self._filling else self._then_fill(lambda: action(value)))

    def _then_fill(self, action: Callable[[], object]) -> None:
        self._message = ""
        action()
        self._fill()

    def _build_picture(self, section: Any) -> None:
        rows = self._rows(section)
        self._kind = self._choice(rows, "view", VIEWS, self._show)
        self._exposure = self._slider(rows, "exposure", -10, 10, lambda v: self._display(exposure=v))
        self._tone_map = self._choice(rows, "tone map", TONE_MAPS, lambda name: self._display(tone_map=name))
        self._tone_map.selected_text = self.session.tone_map
        sides = sorted({*RESOLUTIONS, min(self.session.size)})
        self._side = self._choice(rows, "pixels", sides, lambda text: self._resize(int(text)))
        self._side.selected_text = str(min(self.session.size))

    def _build_camera(self, section: Any) -> None:
        rows = self._rows(section)
        ranges = {"azimuth": (-360, 360), "elevation": (-90, 90), "distance": (0.01, 100), "fov": (1, 170)}
        self._angles = {
            name: self._number(rows, name, *span, functools.partial(self._angle, name)) for name, span in ranges.items()
        }
        self._limited = self._check(section, "keep in the trained range", self._limit)
        self._buttons(section, home=lambda: self.session.move(OrbitCamera.home), turntable=self._turn)

    def _build_path(self, section: Any) -> None:
        rows = self._rows(section)
        self._marks = self._choice(rows, "bookmark", (), self._recall)
        self._buttons(section, add=self._bookmark, go=self._recall, forget=self._forget)
        self._keys = gui.Label("")
        section.add_child(self._keys)
        self._buttons(
            section,
            add_key=self._add_key,
            remove_last=lambda: self.session.key_frames.remove(-1) if self.session.key_frames.keys else None,
            clear=lambda: self.session.key_frames.clear(),
            play=self._play,
        )

    def _build_object(self, section: Any) -> None:
        rows = self._rows(section)
        self._object = self._choice(rows, "object", (), lambda name: None)
        self._visible = self._check(section, "visible", lambda on: self._edit(lambda d, n: d.set_visible(n, on)))
        rows = self._rows(section)
        self._translation = self._vector(rows, "move", lambda v: self._place())
        self._rotation = self._vector(rows, "turn", lambda v: self._place())
        self._scale = self._number(rows, "scale", 0.01, 100, lambda v: self._place())
        self._diffuse = gui.ColorEdit()
        self._diffuse.set_on_value_changed(
            self._changed(lambda c: self._material(diffuse=from_srgb((255 * c.red, 255 * c.green, 255 * c.blue))))
        )
        self._row(rows, "diffuse", self._diffuse)
        self._specular = self._slider(rows, "specular", 0, 1, lambda v: self._material(specular=v))
        self._roughness = self._slider(rows, "roughness", 0.01, 1, lambda v: self._material(roughness=v))
        self._emission = self._number(rows, "emission", 0, 60000, lambda v: self._material(emission=v))
        self._buttons(section, remove=lambda: self._edit(lambda d, n: d.remove(n)))

    def _build_light(self, section: Any) -> None:
        rows = self._rows(section)
        self._light = self._choice(rows, "light", (), lambda name: None)
        self._position = self._vector(rows, "position", lambda v: self._relight(position=tuple(v)))
        self._size = self._number(rows, "size", 0.001, 10, lambda v: self._relight(size=v))
        self._strength = self._number(rows, "strength", 0.01, 60000, lambda v: self._relight(strength=v))
        self._buttons(
            section,
            add=self._add_light,
            remove=lambda: self.session.edit(lambda document: document.remove(self._light.selected_text)),
        )

    def _build_menu(self) -> None:
        file, edit, about, bar = gui.Menu(), gui.Menu(), gui.Menu(), gui.Menu()
        entries: list[tuple[Any, int, str, Callable[[], object]]] = [
            (file, OPEN, "Open a scene or mesh ...", self._ask_open),
            (file, REFERENCE, "Compare with a picture ...", self._ask_reference),
            (file, SAVE_SCENE, "Save scene (JSON, H5) ...", self._ask_scene),
            (file, SAVE_IMAGE, "Save picture (PNG, EXR) ...", lambda: self._ask_save("Save picture", IMAGE_SUFFIXES)),
            (file, SAVE_VIDEO, "Save key frames as video (MP4) ...", self._ask_video),
            (file, SAVE_TURN, "Save turntable (MP4) ...", self._ask_turn),
            (file, QUIT, "Close (Ctrl Q)", self._quit),
            (edit, UNDO, "Undo (Ctrl Z)", self._undo),
            (edit, REDO, "Redo (Ctrl Y)", self._redo),
            (about, KEYS, "Mouse and keys", self._help),
        ]
        for menu, number, label, action in entries:
            menu.add_item(label, number)
            self.window.set_on_menu_item_activated(number, self._guarded(functools.partial(self._then_fill, action)))
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
        area, width, em = self.window.content_rect, self._panel_width(), self.window.theme.font_size
        left, foot = area.get_right() - width, round(3.6 * em) if self._busy.visible else 0
        self._panel.frame = gui.Rect(left, area.y, width, area.height - foot)
        bottom, pad = area.get_bottom() - foot, round(0.5 * em)
        self._busy.frame = gui.Rect(left + pad, bottom, width - 2 * pad, round(1.6 * em))
        button = round(5 * em) if self._cancel.visible else 0
        self._progress.frame = gui.Rect(left + pad, bottom + round(1.7 * em), width - 2 * pad - button, round(1.2 * em))
        self._cancel.frame = gui.Rect(left + width - pad - round(4.6 * em), bottom + pad, round(4.6 * em), 2 * em)
        self._back.frame = gui.Rect(area.x, area.y, left - area.x, area.height)
        box = self.rectangle()
        self.scene.frame = gui.Rect(box.x, box.y, box.width, box.height)
        self._place_image()

    def _place_image(self) -> None:
        """The picture over the preview: all of it, or in the split view what is right of the bar."""
        box = self.rectangle()
        split = self.kind == "split"
        column = min(round(self._bar * box.width), box.width - 1) if split else 0
        self.image.frame = gui.Rect(box.x + column, box.y, box.width - column, box.height)
        self.image.visible = self._picture is not None and (split or (self.kind != "preview" and not self._late))
        if self._picture is None or not self.image.visible:
            return
        if split and self._late:
            shown = np.zeros((box.height, box.width - column, 3), np.uint8)
        else:
            shown = np.array(resized(self._picture, box.width, box.height)[:, column:])
        if split:
            shown[:, :BAR_PIXELS] = 255
        self.image.update_image(o3d.geometry.Image(np.ascontiguousarray(shown)))

    @property
    def kind(self) -> str:
        """Which view is shown."""
        return str(self._kind.selected_text) or VIEWS[0]

    def _draw(self) -> None:
        self._picture = self.session.picture("difference" if self.kind == "difference" else "neural")
        self._place_image()
        self._settle = time.monotonic() + SETTLE_SECONDS
        self.window.post_redraw()

    def _framed(self, frame: Frame) -> None:
        self._judge()
        self._draw()
        self._show_status()

    def _judge(self) -> bool:
        """Whether the picture became late, or is in time again."""
        late, before = self.session.is_late(), self._late
        self._late = late
        return late != before

    def _update_preview(self) -> None:
        """Bring the preview up to date: objects that changed or are lit by others now, and the camera."""
        session = self.session
        shown = [item for item in session.document.items if item.visible]
        lamps = tuple(item.mesh for item in shown if item.base.emits)
        light = (lamps, session.tone_map, session.exposure)
        wanted = {item.name: (item, light) for item in shown}
        stale = [name for name, drawn in self._drawn.items() if wanted.get(name) != drawn]
        for name in stale:
            self.scene.scene.remove_geometry(name)
            del self._drawn[name]
        missing = set(wanted) - set(self._drawn)
        if missing:
            lighting = Lighting.of(lamps)
            for name in missing:
                geometry = _geometry(wanted[name][0], lighting, session.tone_map, session.exposure)
                self.scene.scene.add_geometry(name, *geometry)
                self._drawn[name] = wanted[name]
        camera = session.orbit.camera
        up, position = camera.c2w[:3, 1], camera.position
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

    def _note_key(self, event: Any) -> bool:
        """Watch the keys that matter wherever the focus is."""
        if event.key == gui.KeyName.ESCAPE:
            self._escaped = time.monotonic()
        if event.key in (gui.KeyName.LEFT_CONTROL, gui.KeyName.RIGHT_CONTROL):
            self._control = event.type == gui.KeyEvent.Type.DOWN
        return False

    def _key(self, event: Any) -> Any:
        key = gui.KeyName
        turns = {key.LEFT: (-1, 0), key.RIGHT: (1, 0), key.UP: (0, 1), key.DOWN: (0, -1)}
        actions: dict[Any, Callable[[], object]] = {
            key.H: lambda: self.session.move(OrbitCamera.home),
            key.U: self._undo,
            key.Z: self._undo,
            key.R: self._redo,
            key.Y: self._redo,
            key.T: self._turn,
            key.B: self._bookmark,
            key.K: self._add_key,
            key.P: self._play,
            key.O: self._ask_open,
            key.S: self._ask_scene,
            key.Q: lambda: self._quit() if self._control else None,
            key.PLUS: lambda: self.session.move(lambda orbit: orbit.dolly(1 / WHEEL_STEP)),
            key.EQUALS: lambda: self.session.move(lambda orbit: orbit.dolly(1 / WHEEL_STEP)),
            key.MINUS: lambda: self.session.move(lambda orbit: orbit.dolly(WHEEL_STEP)),
            key.LEFT_BRACKET: lambda: self._display(exposure=self.session.exposure - EXPOSURE_STEP),
            key.RIGHT_BRACKET: lambda: self._display(exposure=self.session.exposure + EXPOSURE_STEP),
        }
        for number, view in zip((key.ONE, key.TWO, key.THREE, key.FOUR), VIEWS, strict=True):
            actions[number] = functools.partial(self._show, view)
        for arrow, (right, up) in turns.items():
            step = ARROW_DEGREES * right, ARROW_DEGREES * up
            actions[arrow] = functools.partial(self.session.move, functools.partial(_orbit, step=step))
        action = actions.get(event.key)
        if event.type == gui.KeyEvent.Type.DOWN and action is not None and self.dialog is None:
            self._then_fill(action)
        return gui.Widget.EventCallbackResult.CONSUMED

    def _tick(self) -> bool:
        self._show_activity()
        now = time.monotonic()
        if self._judge() or (self._settle is not None and now > self._settle):
            self._settle = None
            self._place_image()
            return True
        if self._turning is not None:
            step, self._turning = now - self._turning, now
            self._move(lambda orbit: orbit.turntable(step))
        if self._playing is not None:
            self._follow_path(now - self._playing)
        return self._turning is not None or self._playing is not None

    def _turn(self) -> None:
        self._playing = None
        self._turning = None if self._turning is not None else time.monotonic()

    def _play(self) -> None:
        if len(self.session.key_frames.keys) < 2:
            raise InputError("key frames", "there are fewer than two", "add some")
        self._turning = None
        self._playing = None if self._playing is not None else time.monotonic()

    def _follow_path(self, seconds: float) -> None:
        path = self.session.key_frames
        if not path.keys or seconds > path.duration:
            self._playing = None
            return
        view = path.views([path.keys[0].time + seconds])[0]
        self._move(lambda orbit: setattr(orbit, "view", view))

    # Actions

    def _move(self, change: Callable[[OrbitCamera], object]) -> None:
        self.session.move(change)
        self._fill()

    def _angle(self, name: str, value: float) -> None:
        change: dict[str, Any] = {name: value}
        self.session.move(lambda orbit: setattr(orbit, "view", replace(orbit.view, **change)))

    def _limit(self, on: bool) -> None:
        self.session.move(lambda orbit: setattr(orbit, "limited", on))

    def _bookmark(self) -> None:
        self._say(f"bookmark {self.session.move(lambda orbit: orbit.bookmark())}")

    def _recall(self, name: str = "") -> None:
        self.session.move(lambda orbit: orbit.recall(name or self._marks.selected_text))

    def _forget(self) -> None:
        self.session.move(lambda orbit: orbit.forget(self._marks.selected_text))

    def _add_key(self) -> None:
        self.session.add_key()

    def _add_light(self) -> None:
        name = self.session.edit(lambda document: document.add_light())
        self._fill(lamp=name)

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

    def _ask(self, title: str, suffixes: Iterable[str], done: Callable[[Path], object], saving: bool = False) -> None:
        """Let a person choose a file; a name without a suffix gets the first one."""
        suffixes = list(suffixes)
        mode = gui.FileDialog.SAVE if saving else gui.FileDialog.OPEN
        dialog = gui.FileDialog(mode, title, self.window.theme)
        dialog.set_path(str(self._folder))
        dialog.add_filter(" ".join(suffixes), f"{title} ({', '.join(suffix[1:] for suffix in suffixes)})")
        dialog.add_filter("", "All files")

        def chosen(name: str) -> None:
            self._end_dialog()
            path = Path(name)
            path = path if path.suffix else path.with_suffix(suffixes[0])
            self._folder = path.parent
            if saving and path.exists():
                replace_it = {"Replace": lambda: done(path), "Cancel": lambda: None}
                self._question("Replace?", f"{path.name} exists already.", replace_it)
            else:
                self._then_fill(lambda: done(path))

        dialog.set_on_cancel(self._guarded(self._end_dialog))
        dialog.set_on_done(self._guarded(chosen))
        self._open_dialog(dialog)

    def _help(self) -> None:
        self._question("Mouse and keys", HELP_NOTES, {"Close": lambda: None}, HELP)

    def _question(
        self,
        title: str,
        text: str,
        answers: dict[str, Callable[[], object]],
        table: dict[str, str] | None = None,
    ) -> None:
        """Show some lines over buttons, above them a table of two columns; a press on a button closes it and acts."""
        em = self.window.theme.font_size
        dialog, column = gui.Dialog(title), gui.Vert(0.6 * em, gui.Margins(em, em, em, em))
        if table:
            grid = gui.VGrid(2, 0.1 * em)
            for left, right in table.items():
                grid.add_child(gui.Label(left))
                grid.add_child(gui.Label(right))
            column.add_child(grid)
        column.add_child(gui.Label(text))
        row = gui.Horiz(em)
        row.add_stretch()
        for label, action in answers.items():

            def pressed(action: Callable[[], object] = action) -> None:
                self._end_dialog()
                self._then_fill(action)

            button = gui.Button(label)
            button.vertical_padding_em = 0
            button.set_on_clicked(self._guarded(pressed))
            row.add_child(button)
        column.add_child(row)
        dialog.add_child(column)
        self._open_dialog(dialog)

    def _open_dialog(self, dialog: Any) -> None:
        self.dialog = dialog
        self.window.show_dialog(dialog)
        self.window.post_redraw()

    def _end_dialog(self) -> None:
        self.dialog = None
        self.window.close_dialog()
        self.window.post_redraw()

    def _ask_open(self) -> None:
        self._ask("Scenes and meshes", (*SCENE_FORMATS, *FORMATS), self._open)

    def _ask_reference(self) -> None:
        self._ask("Pictures", IMAGE_SUFFIXES, self._open)

    def _ask_scene(self) -> None:
        self._ask_save("Save scene", SCENE_FORMATS)

    def _ask_video(self) -> None:
        # Said before a person has chosen a name.
        self.session.key_frames.cameras(1.0)
        self._ask_save("Save key frames", VIDEO)

    def _ask_turn(self) -> None:
        self._ask_save("Save turntable", VIDEO, TURN_SECONDS)

    def _ask_save(self, title: str, suffixes: Iterable[str], turn: float = 0.0) -> None:
        self._ask(title, suffixes, lambda path: self._save(path, turn), saving=True)

    def _open(self, path: Path) -> None:
        self._show(self.session.open(path))

    def _save(self, path: Path, turn: float = 0.0) -> None:
        self.session.start(
            f"saving {path.name}", lambda progress, cancel: self.session.save(path, progress, cancel, turn)
        )

    def _give_up(self) -> None:
        if self.session.task is not None:
            self.session.task.cancel()

    # What the controls show

    def _say(self, line: str) -> None:
        self._message = line
        self._show_status()

    def _show_status(self) -> None:
        facts = [f"{key}: {value}" for key, value in self.session.facts().items()]
        warnings = [f"! {line}" for line in self.session.warnings()]
        if self.session.error and self.session.error != self._message:
            warnings.append(f"! {self.session.error}")
        self._write(self._status, [*facts, *([self._message] if self._message else [])])
        self._write(self._warnings, warnings)

    def _write(self, label: Any, lines: list[str]) -> None:
        wide = 2 * PANEL_EM
        text = "\n".join(part for line in lines for part in textwrap.wrap(line, wide) or [""])
        if text.count("\n") != label.text.count("\n") or bool(text) != bool(label.text):
            self.window.set_needs_layout()
        if text != label.text:
            label.text = text
            self.window.post_redraw()

    def _show_activity(self) -> None:
        activity, saving = self.session.activity(), self.session.task is not None
        shown = activity is not None
        if (shown, saving) != (self._busy.visible, self._cancel.visible):
            self._busy.visible = self._progress.visible = shown
            self._cancel.visible = saving
            self.window.set_needs_layout()
        if activity is not None:
            label, share = activity
            text = f"{label} {100 * share:.0f} %"
            if text != self._busy.text:
                self._busy.text, self._progress.value = text, share
                self.window.post_redraw()

    def _fill(self, chosen: str = "", lamp: str = "") -> None:
        """Write what is true into all controls, and bring the preview up to date."""
        self._filling = True
        try:
            session = self.session
            item = _chosen(self._object, session.document.items, chosen)
            light = _chosen(self._light, session.document.lights, lamp)
            _offer(self._marks, list(session.orbit.bookmarks))
            self._keys.text = f"{len(session.key_frames.keys)} key frames, {session.key_frames.duration:g} s"
            for name, edit in self._angles.items():
                edit.double_value = getattr(session.orbit.view, name)
            self._limited.checked = session.orbit.limited
            self._exposure.double_value = session.exposure
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
        self._diffuse.color_value = gui.Color(*(value / 255 for value in to_srgb(material.diffuse)))
        self._specular.double_value = float(np.mean(material.specular))
        self._roughness.double_value = material.roughness
        self._emission.double_value = max(material.emission)

    def _quit(self) -> None:
        if self._close():
            self.window.close()

    def _close(self) -> bool:
        """Whether the window may close; a person is asked where something would be lost."""
        # Escape asks to close, too, whatever the key's handler answers.
        if time.monotonic() - self._escaped < ESCAPE_SECONDS:
            if self.dialog is not None:
                self._end_dialog()
            return False
        losses = ["Edits of the scene are not in a file yet."] if self.session.document.unsaved else []
        if self.session.task is not None:
            losses.append(f"Still {self.session.task.label}.")
        if losses:
            answers = {"Save scene": self._ask_scene} if self.session.document.unsaved else {}
            self._question("Close?", "\n".join(losses), {**answers, "Close": self._leave, "Cancel": lambda: None})
            return False
        self._end()
        return True

    def _leave(self) -> None:
        self._end()
        self.window.close()

    def _end(self) -> None:
        """Touch nothing of the window from here on."""
        self.closed = True
        self.session.on_frame = self.session.on_error = self.session.on_done = None


def _orbit(orbit: OrbitCamera, step: tuple[float, float]) -> None:
    orbit.orbit(*step)


def _geometry(item: Item, lighting: Lighting, tone_map: str, exposure: float) -> tuple[Any, Any]:
    points, colours = coloured(item.mesh, lighting, tone_map, exposure)
    faces = o3d.utility.Vector3iVector(np.arange(len(points), dtype=np.int32).reshape(-1, 3))
    drawn = o3d.geometry.TriangleMesh(o3d.utility.Vector3dVector(points), faces)
    drawn.vertex_colors = o3d.utility.Vector3dVector(colours)
    material = rendering.MaterialRecord()
    material.shader = "defaultUnlit"
    return drawn, material


def _offer(box: Any, names: list[str], wanted: str = "") -> str:
    """Make names the entries of a box; the one that is chosen, empty if there is none."""
    before = box.selected_text
    if [box.get_item(i) for i in range(box.number_of_items)] != names:
        box.clear_items()
        for name in names:
            box.add_item(name)
        wanted = wanted or (before if before in names else names[0] if names else "")
    if wanted:
        box.selected_text = wanted
    return str(box.selected_text)


def _chosen(box: Any, items: tuple[Item, ...], wanted: str) -> Item | None:
    """The item that a box names, after its entries were brought up to date."""
    name = _offer(box, [item.name for item in items], wanted)
    return next((item for item in items if item.name == name), None)


def run(session: Session) -> None:
    """Open a window on a session and wait until it is closed."""
    app = gui.Application.instance
    app.initialize()
    window = Window(session)
    app.run()
    window.closed = True
