"""The viewer in a window: Open3D over a `Session`.

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
from pathlib import Path
from typing import Any

import numpy as np
import open3d as o3d
from open3d.visualization import gui

from renderformer.data.arrays import UInt8Array
from renderformer.viewer.actions import ACTIONS, NOTES, Action, Save, find, help_table
from renderformer.viewer.controls import Control
from renderformer.viewer.dialogs import FileRequest, Question, closing
from renderformer.viewer.display import Rect, letterbox, margins, resized, right_of_bar
from renderformer.viewer.launch import on_interrupt
from renderformer.viewer.panel import Panel
from renderformer.viewer.pointer import Pointer
from renderformer.viewer.session import Session, describe
from renderformer.viewer.widgets import ControlWidgets, PreviewScene, file_dialog, question_dialog

TITLE = "RenderFormer"
PANEL_EM = 22
# A picture is put on the screen once more after this: of two updates between two redraws Open3D may lose the second.
SETTLE_SECONDS = 0.3
WARNING_COLOUR = (1.0, 0.7, 0.2)
KEY, CONSUMED = gui.KeyName, gui.Widget.EventCallbackResult.CONSUMED
# Open3D's keys by the names of the table of actions.
KEYS = {getattr(KEY, letter): letter for letter in "ABCDEFGHIJKLMNOPQRSTUVWXYZ"} | {
    KEY.ONE: "1", KEY.TWO: "2", KEY.THREE: "3", KEY.FOUR: "4", KEY.PLUS: "+", KEY.EQUALS: "=", KEY.MINUS: "-",
    KEY.LEFT_BRACKET: "[", KEY.RIGHT_BRACKET: "]", KEY.LEFT: "Left", KEY.RIGHT: "Right", KEY.UP: "Up", KEY.DOWN: "Down",
}  # fmt: skip


class Window:
    """One open window; `Session` callbacks are taken over until it closes."""

    def __init__(self, session: Session, width: int = 1200, height: int = 800) -> None:
        self.session, self.panel = session, Panel(session)
        self.pointer = Pointer(self.panel, self.rectangle)
        self.closed = False
        self.dialog: Any = None
        self.message = ""
        self._ctrl = False
        # Whether the window system asked to close, which Open3D does for Escape, too, before it reports that key.
        self._close_asked = False
        # When the picture is put on the screen once more.
        self._settle: float | None = None
        self._folder = Path.cwd()
        # What the picture was drawn from.
        self._drawn: tuple[Any, ...] = ()
        self._picture: UInt8Array | None = None
        self.window = gui.Application.instance.create_window(TITLE, width, height)
        self._build_view()
        self._build_panel()
        self._build_menu()
        self.window.set_on_layout(self._guarded(self._layout))
        self.window.set_on_close(self._asked_to_close)
        self.window.set_on_key(self._guarded(self._note_key, False))
        self.window.set_on_tick_event(self._guarded(self._tick, False))
        session.on_frame = lambda frame: self._post(self._framed)
        session.on_error = session.on_done = lambda line: self._post(lambda: self._say(line))
        self._refresh()
        self.window.set_focus_widget(self.scene)
        session.request()

    def _guarded(self, action: Callable[..., Any], result: Any = None) -> Callable[..., Any]:
        """A callback that never raises: errors become the status line."""

        def run(*values: Any) -> Any:
            if self.closed:
                return result
            try:
                returned = action(*values)
            except Exception as error:
                self._say(describe(error))
                return result
            return result if returned is None else returned

        return run

    def _post(self, action: Callable[[], None]) -> None:
        """Run on the main thread; touching a widget after the loop has ended would crash."""
        if not self.closed:
            gui.Application.instance.post_to_main_thread(self.window, self._guarded(action))

    # Building

    def _build_view(self) -> None:
        self.scene, self.image = gui.SceneWidget(), gui.ImageWidget()
        self.preview = PreviewScene(self.scene, self.window.renderer)
        # What no widget covers is never cleared, and a dialog would leave its edges there. One widget behind both would
        # come to the front at a press.
        self._margins = [gui.Vert() for _ in range(4)]
        for margin in self._margins:
            margin.background_color = gui.Color(0, 0, 0)
        for widget in (*self._margins, self.scene, self.image):
            self.window.add_child(widget)
        for widget in (self.scene, self.image):
            widget.set_on_mouse(self._guarded(self._mouse, CONSUMED))
            # Keys go to the widget in focus, so that what is typed into a field does nothing else.
            widget.set_on_key(self._guarded(self._key, CONSUMED))

    def _build_panel(self) -> None:
        em = self.window.theme.font_size
        self._column = gui.ScrollableVert(0.3 * em, gui.Margins(0.5 * em, 0.5 * em, 1.2 * em, 0.5 * em))
        self._status, self._warnings = gui.Label("starting"), gui.Label("")
        self._warnings.text_color = gui.Color(*WARNING_COLOUR)
        self._column.add_child(self._status)
        self._column.add_child(self._warnings)
        self.controls = ControlWidgets(self.panel, self._column, em, self._change, self._guarded)
        # What is going on, at the foot of the panel, while something is.
        self._busy, self._progress, self._cancel = gui.Label(""), gui.ProgressBar(), gui.Button("cancel")
        self._cancel.vertical_padding_em = 0
        self._cancel.set_on_clicked(self._guarded(self.session.cancel_task))
        for widget in (self._column, self._busy, self._progress, self._cancel):
            self.window.add_child(widget)
        for widget in (self._busy, self._progress, self._cancel):
            widget.visible = False

    def _build_menu(self) -> None:
        bar, menus = gui.Menu(), {action.menu: gui.Menu() for action in ACTIONS if action.menu}
        for number, action in enumerate(ACTIONS, 1):
            if action.menu:
                menus[action.menu].add_item(action.label, number)
                self.window.set_on_menu_item_activated(number, self._guarded(functools.partial(self.perform, action)))
        for title, menu in menus.items():
            bar.add_menu(title, menu)
        gui.Application.instance.menubar = bar

    # What a person does

    def perform(self, action: Action) -> None:
        """Do what a key or a menu entry asks for."""
        run, ask = action.run, action.ask
        if run is not None:
            self._apply(action.name, lambda: run(self.panel))
        if ask is not None:
            self._apply(action.name, lambda: ask(self))

    def _change(self, control: Control, value: Any) -> None:
        self._apply(control.label, lambda: control.set(self.panel, value))

    def _apply(self, title: str, action: Callable[[], object]) -> None:
        """Do what a person asked for, tell the line that it returns, and show what is true afterwards."""
        self.message = ""
        try:
            line = action()
            if isinstance(line, str) and line:
                self.message = f"{title}: {line}"
        finally:
            self._refresh()

    def _mouse(self, event: Any) -> Any:
        kind, x, y = event.type, event.x, event.y
        if kind == gui.MouseEvent.Type.BUTTON_DOWN:
            self.pointer.press(x, y)
        elif kind == gui.MouseEvent.Type.DRAG:
            pan = event.is_button_down(gui.MouseButton.RIGHT) or event.is_modifier_down(gui.KeyModifier.SHIFT)
            self.pointer.drag(x, y, pan)
            self._refresh()
        elif kind == gui.MouseEvent.Type.BUTTON_UP:
            self._apply("object", lambda: self.pointer.release(x, y))
        elif kind == gui.MouseEvent.Type.WHEEL:
            steps = event.wheel_dy / (10 if event.wheel_is_trackpad else 1)
            self.pointer.wheel(steps, event.is_modifier_down(gui.KeyModifier.CTRL))
            self._refresh()
        return CONSUMED

    def _note_key(self, event: Any) -> bool:
        """Watch the keys that matter wherever the focus is."""
        if event.key == KEY.ESCAPE:
            self._close_asked = False
            if event.type == gui.KeyEvent.Type.DOWN and self.dialog is not None:
                self._end_dialog()
        if event.key in (KEY.LEFT_CONTROL, KEY.RIGHT_CONTROL):
            self._ctrl = event.type == gui.KeyEvent.Type.DOWN
        return False

    def _key(self, event: Any) -> Any:
        action = find(KEYS.get(event.key, ""), self._ctrl)
        if event.type == gui.KeyEvent.Type.DOWN and action is not None and self.dialog is None:
            self.perform(action)
        return CONSUMED

    def _tick(self) -> bool:
        self._show_activity()
        if self.panel.judge() or (self._settle is not None and time.monotonic() > self._settle):
            self._settle = None
            self._place_image()
            return True
        if self.panel.tick():
            self._refresh()
        return self.panel.turning or self.panel.playing

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
        self._column.frame = gui.Rect(left, area.y, width, area.height - foot)
        bottom, pad = area.get_bottom() - foot, round(0.5 * em)
        self._busy.frame = gui.Rect(left + pad, bottom, width - 2 * pad, round(1.6 * em))
        button = round(5 * em) if self._cancel.visible else 0
        self._progress.frame = gui.Rect(left + pad, bottom + round(1.7 * em), width - 2 * pad - button, round(1.2 * em))
        self._cancel.frame = gui.Rect(left + width - pad - round(4.6 * em), bottom + pad, round(4.6 * em), 2 * em)
        box = self.rectangle()
        view = Rect(area.x, area.y, left - area.x, area.height)
        for margin, part in zip(self._margins, margins(view, box), strict=True):
            margin.frame = gui.Rect(part.x, part.y, part.width, part.height)
        self.scene.frame = gui.Rect(box.x, box.y, box.width, box.height)
        self._place_image()

    def _place_image(self) -> None:
        """The picture over the preview: all of it, or in the split view what is right of the bar."""
        box, panel = self.rectangle(), self.panel
        split = panel.kind == "split"
        column = min(round(panel.bar * box.width), box.width - 1) if split else 0
        self.image.frame = gui.Rect(box.x + column, box.y, box.width - column, box.height)
        self.image.visible = self._picture is not None and not panel.preview_only
        if self._picture is not None and self.image.visible:
            picture = np.zeros_like(self._picture) if split and panel.late else self._picture
            if split:
                shown = right_of_bar(picture, box.width, box.height, column)
            else:
                shown = np.array(resized(picture, box.width, box.height))
            self.image.update_image(o3d.geometry.Image(np.ascontiguousarray(shown)))

    def _draw(self) -> None:
        """Put the picture on the screen where it differs from what is there."""
        panel, session = self.panel, self.session
        display = (session.tone_map, session.exposure, session.reference, session.view_size)
        drawn = (session.frame, panel.kind, panel.bar, panel.late, *display)
        if drawn != self._drawn:
            self._drawn = drawn
            self._picture = panel.picture()
            self._place_image()
            self._settle = time.monotonic() + SETTLE_SECONDS
            self.window.post_redraw()

    def _framed(self) -> None:
        self.panel.judge()
        self._draw()
        self._show_status()

    def _refresh(self) -> None:
        """Write what is true into all controls, the preview and the picture."""
        box = self.rectangle()
        self.controls.fill()
        self.preview.update(self.session, box.width / box.height)
        self._draw()
        self._show_status()

    def _say(self, line: str) -> None:
        self.message = line
        self._show_status()

    def _show_status(self) -> None:
        facts = [f"{key}: {value}" for key, value in self.session.facts().items()]
        warnings = [f"! {line}" for line in self.session.warnings()]
        if self.session.error and self.session.error != self.message:
            warnings.append(f"! {self.session.error}")
        self._write(self._status, [*facts, *([self.message] if self.message else [])])
        self._write(self._warnings, warnings)

    def _write(self, label: Any, lines: list[str]) -> None:
        wrapped = [part for line in lines for part in textwrap.wrap(line, 2 * PANEL_EM) or [""]]
        # The font of Open3D has no ellipsis.
        text = "\n".join(wrapped).replace("…", "...")
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

    # Dialogs and files

    def ask_open(self, title: str, suffixes: Iterable[str]) -> None:
        """Let a person choose a file to open."""
        self._ask_file(FileRequest(title, tuple(suffixes), self.panel.open))

    def ask_save(self, save: Save) -> None:
        """Let a person name a file, and save there."""
        save.check(self.session)
        title = f"Save {save.name}"
        self._ask_file(FileRequest(title, save.suffixes, lambda path: self.save(path, save.turn), saving=True))

    def ask_close(self) -> None:
        """Close the window; a person is asked where something would be lost."""
        save = next(action for action in ACTIONS if action.name == "save scene")
        question = closing(self.session, lambda: self.perform(save), self._leave)
        if question is None:
            self._leave()
        else:
            self._ask(question)

    def show_help(self) -> None:
        """Show mouse and keys."""
        self._ask(Question("Mouse and keys", NOTES, {"Close": lambda: None}, help_table()))

    def save(self, path: Path, turn: float = 0.0) -> None:
        """Save on another thread; see `Session.save`."""
        session = self.session
        session.start(f"saving {path.name}", lambda progress, cancel: session.save(path, progress, cancel, turn))

    def _ask_file(self, request: FileRequest) -> None:
        def chosen(name: str) -> None:
            self._end_dialog()
            path = request.path(name)
            self._folder = path.parent
            question = request.replacing(path)
            if question is None:
                self._apply(request.title, lambda: request.done(path))
            else:
                self._ask(question)

        dialog = file_dialog(request, self._folder, self.window.theme)
        dialog.set_on_cancel(self._guarded(self._end_dialog))
        dialog.set_on_done(self._guarded(chosen))
        self._open_dialog(dialog)

    def _ask(self, question: Question) -> None:
        def pressed(label: str) -> None:
            self._end_dialog()
            self._apply(label, question.answers[label])

        self._open_dialog(question_dialog(question, self.window.theme.font_size, self._guarded(pressed)))

    def _open_dialog(self, dialog: Any) -> None:
        self.dialog = dialog
        self.window.show_dialog(dialog)
        self.window.post_redraw()

    def _end_dialog(self) -> None:
        self.dialog = None
        self.window.close_dialog()
        self.window.post_redraw()

    def _asked_to_close(self) -> bool:
        """Whether the window may close at once; else it asks after this event, unless Escape caused it."""
        self._close_asked = not self.closed
        self._post(self._answer_close)
        return self.closed

    def _answer_close(self) -> None:
        if self._close_asked:
            self._close_asked = False
            self.ask_close()

    def _leave(self) -> None:
        """Close, and touch nothing of the window from here on."""
        self.closed = True
        self.session.on_frame = self.session.on_error = self.session.on_done = None
        self.window.close()


def run(session: Session) -> None:
    """Open a window on a session and wait until it is closed, or Ctrl-C."""
    app = gui.Application.instance
    app.initialize()
    window = Window(session)
    with on_interrupt(lambda: window._post(window._leave)):
        app.run()
    window.closed = True
