"""A split picture in a window, whose lights a person changes: Open3D over a `RelightPanel`."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import open3d as o3d
from open3d.visualization import gui

from renderformer.image import IMAGE_SUFFIXES
from renderformer.viewer.asking import Asking
from renderformer.viewer.controls import Control
from renderformer.viewer.dialogs import FileRequest, Question
from renderformer.viewer.display import Rect, letterbox, margins, resized
from renderformer.viewer.launch import on_interrupt
from renderformer.viewer.relight_panel import RelightPanel
from renderformer.viewer.widgets import (
    COLUMN_EM,
    ERROR_COLOUR,
    FOOT_COLOUR,
    PLAIN_COLOUR,
    ControlWidgets,
    fitted,
    legible,
)

TITLE = "RenderFormer lights"
PANEL_EM, SIZE = 20, (1100, 720)
# Open3D may lose the second of two updates between two redraws, and shows a drop-down list in the second drawing after
# its press; so the window is drawn this often, in seconds.
REDRAW_SECONDS = 0.1
# Menu, label and method of each entry, and of keys with Ctrl.
ENTRIES = (
    ("File", "Save picture (PNG, EXR) ... (Ctrl S)", "ask_save"),
    ("File", "Close (Ctrl Q)", "ask_close"),
    ("Edit", "Undo (Ctrl Z)", "undo"),
    ("Edit", "Redo (Ctrl Y)", "redo"),
)
KEYS = {gui.KeyName.S: "ask_save", gui.KeyName.Q: "ask_close", gui.KeyName.Z: "undo", gui.KeyName.Y: "redo"}


class RelightWindow(Asking):
    """One open window.

    Args:
        ask: whether closing asks where the picture as it is lit is in no file.
    """

    def __init__(self, panel: RelightPanel, ask: bool = False) -> None:
        super().__init__()
        self.panel, self.message, self.closed = panel, "", False
        self._asks, self._failed, self._ctrl = ask, False, False
        # Whether a close request waits for an answer: Open3D sends one for Escape, too, before it reports the key.
        self._close_requested = False
        self._drawn_at = 0.0
        self.window = gui.Application.instance.create_window(TITLE, *SIZE)
        self._build()
        self._build_menu()
        self.window.set_on_layout(self._guarded(self._layout))
        self.window.set_on_close(self._on_close)
        self.window.set_on_key(self._guarded(self._key, False))
        self.window.set_on_tick_event(self._guarded(self._tick, False))
        self.controls.fill()
        self._draw()

    def _build(self) -> None:
        em, panel = self.window.theme.font_size, self.panel
        self.image = gui.ImageWidget()
        # Open3D never clears an area without a widget.
        self._margins = [gui.Vert() for _ in range(4)]
        for margin in self._margins:
            margin.background_color = gui.Color(0, 0, 0)
        self._column = gui.ScrollableVert(0.3 * em, gui.Margins(0.5 * em, 0.5 * em, 1.2 * em, 0.5 * em))
        self.controls = ControlWidgets(
            panel, self._column, em, self._change, self._guarded, panel.controls, panel.sections, panel.sections
        )
        self._foot, self._said = gui.Vert(), gui.Label("")
        for widget in (*self._margins, self.image, self._column, self._foot, self._said):
            self.window.add_child(widget)
        for widget in (self._foot, self._said):
            widget.background_color = gui.Color(*FOOT_COLOUR)

    def _build_menu(self) -> None:
        bar = gui.Menu()
        for title in dict.fromkeys(menu for menu, _, _ in ENTRIES):
            entries = gui.Menu()
            for number, (menu, label, name) in enumerate(ENTRIES, 1):
                if menu == title:
                    entries.add_item(label, number)
                    action = getattr(self, name)
                    self.window.set_on_menu_item_activated(number, self._guarded(action))
            bar.add_menu(title, entries)
        gui.Application.instance.menubar = bar

    def _apply(self, title: str, action: Callable[[], object]) -> None:
        """Run an action, show the line that it returns, and refresh the window."""
        self._say("")
        try:
            line = action()
            self._say(f"{title}: {line}" if isinstance(line, str) and line else "")
        finally:
            self.controls.fill()
            self._draw()

    def _say(self, line: str, failed: bool = False) -> None:
        self.message, self._failed = line, failed
        self._said.text_color = gui.Color(*(ERROR_COLOUR if failed else PLAIN_COLOUR))
        em, text = self.window.theme.font_size, f"error: {line}" if failed else line
        self._said.text = fitted(text, max(self._said.frame.width - em, 1), em)
        self._said.tooltip = legible(text)
        self.window.post_redraw()

    def _change(self, control: Control, value: Any) -> None:
        self._apply(control.label, lambda: self.panel.change(control, value))

    def undo(self) -> None:
        """Take the last change of the lights back."""
        self._apply("undo", self.panel.undo)

    def redo(self) -> None:
        """Repeat the change that was taken back last."""
        self._apply("redo", self.panel.redo)

    def ask_save(self) -> None:
        """Ask for a file name and save the picture as it is lit now."""
        self._ask_file(FileRequest("Save picture", tuple(IMAGE_SUFFIXES), self.save, saving=True))

    def save(self, path: Path) -> str:
        """Save the picture as it is lit now; returns a line about it."""
        return "; ".join([f"{path.name} is written", *self.panel.save(path)])

    def ask_close(self) -> None:
        """Close the window, after a question if the picture as it is lit would be lost."""
        if not (self._asks and self.panel.unsaved):
            self.close()
            return
        answers = {"Save picture": self.ask_save, "Close": self.close, "Cancel": lambda: None}
        self._ask(Question("Close?", "The picture as it is lit now is in no file yet.", answers))

    def _key(self, event: Any) -> bool:
        """Handle Escape and Ctrl, whatever widget has the focus."""
        down = event.type == gui.KeyEvent.Type.DOWN
        if event.key == gui.KeyName.ESCAPE:
            self._close_requested = False
            if down and self.dialog is not None:
                self._end_dialog()
        if event.key in (gui.KeyName.LEFT_CONTROL, gui.KeyName.RIGHT_CONTROL):
            self._ctrl = down
        action = KEYS.get(event.key)
        if action is None or not (self._ctrl and down) or self.dialog is not None:
            return False
        getattr(self, action)()
        return True

    def rectangle(self) -> Rect:
        """The rectangle of the picture in pixels of the window."""
        area, (height, width, _) = self.window.content_rect, self._picture.shape
        room = max(1, area.height - self._foot_height())
        box = letterbox(max(1, area.width - self._panel_width()), room, width / height)
        return Rect(area.x + box.x, area.y + box.y, box.width, box.height)

    def _panel_width(self) -> int:
        return min(PANEL_EM * self.window.theme.font_size, self.window.content_rect.width // 2)

    def _foot_height(self) -> int:
        return round(1.7 * self.window.theme.font_size)

    def _layout(self, context: Any) -> None:
        area, width, box = self.window.content_rect, self._panel_width(), self.rectangle()
        em, foot = self.window.theme.font_size, self._foot_height()
        self._column.frame = gui.Rect(area.get_right() - width, area.y, width, area.height - foot)
        self.controls.lay_out(width - round(COLUMN_EM * em))
        self._foot.frame = gui.Rect(area.x, area.get_bottom() - foot, area.width, foot)
        line = area.get_bottom() - foot + round(0.2 * em)
        self._said.frame = gui.Rect(area.x + em // 2, line, area.width - em, round(1.3 * em))
        self._say(self.message, self._failed)
        view = Rect(area.x, area.y, area.width - width, area.height - foot)
        for margin, part in zip(self._margins, margins(view, box), strict=True):
            margin.frame = gui.Rect(part.x, part.y, part.width, part.height)
        self.image.frame = gui.Rect(box.x, box.y, box.width, box.height)
        self._show()

    def _draw(self) -> None:
        self._picture = self.panel.shown()
        self._show()

    def _show(self) -> None:
        box = self.rectangle()
        fitting = np.ascontiguousarray(resized(self._picture, box.width, box.height))
        self.image.update_image(o3d.geometry.Image(fitting))
        self.window.post_redraw()

    def _tick(self) -> bool:
        now = time.monotonic()
        if now - self._drawn_at < REDRAW_SECONDS:
            return False
        self._drawn_at = now
        return True

    def _on_close(self) -> bool:
        """Whether the window may close at once; else `ask_close` runs after this event, unless Escape caused it."""
        self._close_requested = not self.closed
        if not self.closed:
            gui.Application.instance.post_to_main_thread(self.window, self._guarded(self._answer_close))
        return self.closed

    def _answer_close(self) -> None:
        if self._close_requested:
            self._close_requested = False
            self.ask_close()

    def close(self) -> None:
        """Close the window."""
        self.closed = True
        self.window.close()


def run(panel: RelightPanel, ask: bool = False) -> None:
    """Open a window and wait until it is closed, or Ctrl-C; see `RelightWindow`."""
    app = gui.Application.instance
    app.initialize()
    window = RelightWindow(panel, ask)
    with on_interrupt(lambda: app.post_to_main_thread(window.window, window.close)):
        app.run()
    window.closed = True
