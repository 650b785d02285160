"""The viewer in a window: Open3D over a `Session`.

The fast preview (SceneWidget) and the picture (ImageWidget) share one rectangle. While the picture is late, the preview
replaces it. The panel is on the right. A bar of fixed height at the foot holds facts, the last message, warnings and
progress. Everything runs on the main thread; the worker posts its callbacks to it. An exception in a callback ends or
crashes Open3D's loop, so every callback goes through `_guarded`.
"""

from __future__ import annotations

import functools
import textwrap
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
import open3d as o3d
from open3d.visualization import gui

from renderformer.data.arrays import UInt8Array
from renderformer.viewer.actions import ACTIONS, Action
from renderformer.viewer.activity import ActivityBar
from renderformer.viewer.controls import LIGHT, OBJECT, Control
from renderformer.viewer.dialogs import recovering
from renderformer.viewer.display import Rect, beside_bar, letterbox, margins, opaque, resized
from renderformer.viewer.hands import Hands
from renderformer.viewer.launch import on_interrupt
from renderformer.viewer.panel import Panel
from renderformer.viewer.pointer import Pointer
from renderformer.viewer.preview_scene import PreviewScene
from renderformer.viewer.session import Session
from renderformer.viewer.tree import SceneTree
from renderformer.viewer.widgets import (
    COLUMN_EM,
    ERROR_COLOUR,
    FOOT_COLOUR,
    PLAIN_COLOUR,
    WARNING_COLOUR,
    ControlWidgets,
    fitted,
    legible,
    outside,
)
from renderformer.viewer.window_dialogs import WindowDialogs
from renderformer.viewer.window_input import CONSUMED, WindowInput

if TYPE_CHECKING:
    from renderformer.viewer.document import Item

TITLE = "RenderFormer"
PANEL_EM = 22
# The picture is drawn again after this time: Open3D may lose the second of two updates between two redraws.
SETTLE_SECONDS = 0.3
# The window is drawn at least this often, in seconds: a drop-down list shows in the second drawing after its press.
REDRAW_SECONDS = 0.1
# Height of the bar at the foot in lines.
FOOT_LINES = 3
# Share of the panel that the tree of the scene takes, and height in pixels from which on there is one.
TREE_SHARE, TREE_NEEDS = 0.36, 380


class Window(WindowInput, WindowDialogs):
    """One open window; it sets the callbacks of the session until it closes."""

    def __init__(self, session: Session, width: int = 1200, height: int = 800) -> None:
        WindowInput.__init__(self)
        WindowDialogs.__init__(self)
        self.session, self.panel = session, Panel(session)
        self.hands = Hands(self.panel)
        self.pointer = Pointer(self.panel, self.hands, self.rectangle)
        self.closed = False
        self.message = "; ".join(session.notes)
        # Whether the message tells of an error.
        self._failed = False
        # Time of the second drawing of the picture, and of the last drawing of the window.
        self._redraw_time: float | None = None
        self._drawn_at = 0.0
        self._selected: Item | None = None
        self._preview_seen: bool | None = None
        # The state that the picture shows.
        self._drawn: tuple[Any, ...] = ()
        self._picture: UInt8Array | None = None
        self.window = gui.Application.instance.create_window(TITLE, width, height)
        self._build_view()
        self._build_panel()
        self._build_foot()
        self._build_menu()
        self.window.set_on_layout(self._guarded(self._layout))
        self.window.set_on_close(self._on_close)
        self.window.set_on_key(self._guarded(self._window_key, False))
        self.window.set_on_tick_event(self._guarded(self._tick, False))
        session.on_frame = lambda frame: self._post(self._framed)
        session.on_done = lambda line: self._post(lambda: self._say(line))
        session.on_error = lambda line: self._post(lambda: self._say(line, failed=True))
        self._refresh()
        self.window.set_focus_widget(self.scene)
        # A picture that fills the view is requested once there is one.
        if not session.fills:
            session.request()
        if recovering(session, self._refresh) is not None:
            self._post(self.ask_recover)

    def _post(self, action: Callable[[], None]) -> None:
        """Run on the main thread, unless the window is closed: using a widget after the loop has ended would crash."""
        if not self.closed:
            gui.Application.instance.post_to_main_thread(self.window, self._guarded(action))

    def _build_view(self) -> None:
        self.scene, self.image = gui.SceneWidget(), gui.ImageWidget()
        self.preview = PreviewScene(self.scene, self.window.renderer)
        # Open3D never clears an area without a widget, so four widgets cover the margins. A single widget behind the
        # others would come to the front at a press.
        self._margins = [gui.Vert() for _ in range(4)]
        for margin in self._margins:
            margin.background_color = gui.Color(0, 0, 0)
        # Where the picture is clear, the preview shows.
        self.image.background_color = gui.Color(0, 0, 0, 0)
        for widget in (*self._margins, self.scene, self.image):
            self.window.add_child(widget)
        for widget in (self.scene, self.image):
            widget.set_on_mouse(self._guarded(self._mouse, CONSUMED))
            # Keys go to the focused widget, so that typing into a field triggers no action.
            widget.set_on_key(self._guarded(self._key, CONSUMED))

    def _build_panel(self) -> None:
        em = self.window.theme.font_size
        self._column = gui.ScrollableVert(0.3 * em, gui.Margins(0.5 * em, 0.5 * em, 1.2 * em, 0.5 * em))
        self.controls = ControlWidgets(self.panel, self._column, em, self._change, self._guarded)
        self.tree = SceneTree(self.panel, self._apply, self._guarded)
        for widget in (self._column, self.tree.widget):
            self.window.add_child(widget)

    def _build_foot(self) -> None:
        self._foot = gui.Vert()
        self._facts, self._said, self._warnings = gui.Label("starting"), gui.Label(""), gui.Label("")
        self._warnings.text_color = gui.Color(*WARNING_COLOUR)
        # See `_close_lists`.
        self._veil, self._veiled = gui.Label(""), 0
        self._veil.frame = outside(gui.Rect(0, 0, 8, 8))
        self.window.add_child(self._veil)
        self.activity = ActivityBar(self._guarded(self.session.cancel_task))
        for widget in (self._foot, self._facts, self._said, self._warnings, *self.activity.widgets):
            widget.background_color = gui.Color(*FOOT_COLOUR)
            self.window.add_child(widget)

    def _build_menu(self) -> None:
        bar, menus = gui.Menu(), {action.menu: gui.Menu() for action in ACTIONS if action.menu}
        for number, action in enumerate(ACTIONS, 1):
            if action.menu:
                menus[action.menu].add_item(action.label, number)
                self.window.set_on_menu_item_activated(number, self._guarded(functools.partial(self.perform, action)))
        for title, menu in menus.items():
            bar.add_menu(title, menu)
        gui.Application.instance.menubar = bar

    def perform(self, action: Action) -> None:
        """Perform the action of a key or a menu entry."""
        run, ask = action.run, action.ask
        if run is not None:
            self._apply(action.name, lambda: run(self.panel))
        if ask is not None:
            self._apply(action.name, lambda: ask(self))

    def _change(self, control: Control, value: Any) -> None:
        ask = control.ask
        self._apply(control.label, lambda: control.apply(self.panel, value) if ask is None else ask(self))

    def _apply(self, title: str, action: Callable[[], object]) -> None:
        """Run an action, show the line that it returns, and refresh the window."""
        self.message, self._failed = "", False
        try:
            line = action()
            if isinstance(line, str) and line:
                self.message = f"{title}: {line}"
        finally:
            self._refresh()

    def _tick(self) -> bool:
        self._follow()
        self._unveil()
        self._show_activity()
        if self.panel.update_late() or (self._redraw_time is not None and time.monotonic() > self._redraw_time):
            self._redraw_time = None
            self._update_preview()
            self._place_image()
            return True
        if self.panel.tick():
            self._refresh()
        if self.preview.ready:
            self._update_preview()
        if self.hands.update():
            self._place_image()
        moving, now = self.panel.turning or self.panel.playing, time.monotonic()
        if not moving and now - self._drawn_at < REDRAW_SECONDS:
            return False
        self._drawn_at = now
        return True

    def rectangle(self) -> Rect:
        """The rectangle of preview and picture in pixels of the window."""
        area = self.window.content_rect
        width, height = max(1, area.width - self._panel_width()), max(1, area.height - self._foot_height())
        if self.session.fills:
            return Rect(area.x, area.y, width, height)
        box = letterbox(width, height, self.session.view_size[0] / self.session.view_size[1])
        return Rect(area.x + box.x, area.y + box.y, box.width, box.height)

    def _panel_width(self) -> int:
        return min(PANEL_EM * self.window.theme.font_size, self.window.content_rect.width // 2)

    def _foot_height(self) -> int:
        return round((1.3 * FOOT_LINES + 0.4) * self.window.theme.font_size)

    @staticmethod
    def _tree_height(height: int) -> int:
        """Of a panel of a height, which keeps most of it for controls; 0 where there is no room."""
        return round(TREE_SHARE * height) if height > TREE_NEEDS else 0

    def _layout(self, context: Any) -> None:
        area, width, em = self.window.content_rect, self._panel_width(), self.window.theme.font_size
        left, bottom, line, pad = area.get_right() - width, area.get_bottom() - self._foot_height(), 1.3 * em, em // 2
        tree = self._tree_height(bottom - area.y)
        self._column.frame = gui.Rect(left, area.y, width, bottom - area.y - tree)
        self.controls.lay_out(width - round(COLUMN_EM * em))
        self.tree.widget.frame = gui.Rect(left, bottom - tree, width, tree)
        self.tree.widget.visible = tree > 0
        self._foot.frame = gui.Rect(area.x, bottom, area.width, self._foot_height())
        for number, label in enumerate((self._facts, self._said, self._warnings)):
            top = bottom + round(0.2 * em + number * line)
            label.frame = gui.Rect(area.x + pad, top, left - area.x - pad, round(line))
        activity = Rect(left + pad, bottom + round(0.2 * em), width - 2 * pad, round(FOOT_LINES * line))
        self.activity.lay_out(activity, em, line)
        box = self.rectangle()
        view = Rect(area.x, area.y, left - area.x, bottom - area.y)
        for margin, part in zip(self._margins, margins(view, box), strict=True):
            margin.frame = gui.Rect(part.x, part.y, part.width, part.height)
        self.scene.frame = gui.Rect(box.x, box.y, box.width, box.height)
        if self.session.fills:
            self.session.fit((box.width, box.height))
        self._place_image()
        # As much of it as there is room for now.
        self._show_status()

    def _place_image(self) -> None:
        """Draw the picture over the preview; in the split view, its part right of the bar. Outline and handles lie over
        both."""
        box, panel = self.rectangle(), self.panel
        split = panel.kind == "split"
        frame = gui.Rect(box.x, box.y, box.width, box.height)
        seen = self._picture is not None or panel.preview_only
        self.image.frame = frame if seen else outside(frame)
        if not seen:
            return
        drawn = self.hands.layer(box.width, box.height) if split or panel.preview_only else None
        if self._picture is not None and not panel.preview_only:
            picture = np.zeros_like(self._picture) if split and panel.late else self._picture
            picture = self.hands.draw(resized(picture, box.width, box.height))
            column = min(round(panel.bar * box.width), box.width - 1)
            drawn = beside_bar(drawn, picture, column) if drawn is not None else opaque(picture)
        # Open3D ends the program if the number of channels changes.
        self.image.update_image(o3d.geometry.Image(np.ascontiguousarray(drawn)))

    def _draw(self) -> None:
        """Draw the picture if its state has changed."""
        panel, session = self.panel, self.session
        display = (session.tone_map, session.exposure, session.reference, session.view_size)
        seen = session.orbit.view if panel.preview_only or panel.kind == "split" else None
        drawn = (session.frame, panel.kind, panel.bar, panel.late, seen, *display, *self.hands.state)
        if drawn != self._drawn:
            self._drawn = drawn
            self._picture = panel.picture()
            self._place_image()
            self._redraw_time = time.monotonic() + SETTLE_SECONDS
            self.window.post_redraw()

    def _framed(self) -> None:
        self.panel.update_late()
        self._draw()
        self._show_status()

    def _refresh(self) -> None:
        """Update controls, preview, picture and status."""
        self.controls.fill()
        self.tree.fill()
        self._unfold()
        self._update_preview()
        self._draw()
        self._show_status()

    def _unfold(self) -> None:
        """Open the controls of what was chosen anew."""
        before, self._selected = self._selected, self.panel.selected
        if self._selected is not None and (before is None or before.name != self._selected.name):
            self.controls.unfold(LIGHT if self._selected.base.emits else OBJECT)
            self.window.set_needs_layout()

    def _update_preview(self) -> None:
        """Update the preview if it can be seen; else it is not drawn, which takes much of a machine without a graphics
        card."""
        seen = self.panel.preview_only or self.panel.kind == "split"
        if seen is not self._preview_seen:
            self._preview_seen = seen
            self.scene.enable_scene_caching(not seen)
            # Once more; without this, it would be drawn until the next press.
            self.scene.force_redraw()
        if seen:
            box = self.rectangle()
            self.preview.update(self.session, box.width / box.height)

    def _say(self, line: str, failed: bool = False) -> None:
        self.message, self._failed = line, failed
        self._show_status()

    def _show_status(self) -> None:
        facts = [f"{key}: {value}" for key, value in self.session.facts().items()]
        message, failed = self.message or self.session.error, self._failed or not self.message
        self._said.text_color = gui.Color(*(ERROR_COLOUR if failed else PLAIN_COLOUR))
        self._write(self._facts, ",  ".join(facts))
        self._write(self._said, f"error: {message}" if failed and message else message)
        self._write(self._warnings, ";  ".join(self.panel.warnings()))

    def _write(self, label: Any, line: str) -> None:
        """Write a line as far as there is room; the tooltip holds all of it."""
        em, text = self.window.theme.font_size, legible(line)
        short = fitted(text, label.frame.width - em, em)
        if (short, text) != (label.text, label.tooltip):
            label.text, label.tooltip = short, "\n".join(textwrap.wrap(text, 100))
            self.window.post_redraw()

    def _close_lists(self) -> None:
        """Close an open list or chooser of colours, end typing, and let the picture have the keys, two ticks from now:
        Open3D closes lists when another widget becomes visible."""
        self._veil.visible = False
        self._veiled = 2
        self.window.post_redraw()

    def _unveil(self) -> None:
        self._veiled = max(self._veiled - 1, 0)
        if not self._veiled and not self._veil.visible:
            self._veil.visible = True
            self.window.set_focus_widget(self.scene)
            self.window.post_redraw()

    def _show_activity(self) -> None:
        if self.activity.show(self.session.activity(), self.session.task is not None):
            self.window.post_redraw()

    def _on_close(self) -> bool:
        """Whether the window may close at once; else `ask_close` runs after this event, unless Escape caused it."""
        self._close_requested = not self.closed
        self._post(self._answer_close)
        return self.closed

    def _answer_close(self) -> None:
        if self._close_requested:
            self._close_requested = False
            self.ask_close()

    def _leave(self) -> None:
        """Close the window; no callback touches it afterwards."""
        self.closed = True
        self.hands.close()
        self.preview.close()
        self.session.on_frame = self.session.on_error = self.session.on_done = None
        self.window.close()


def run(session: Session) -> None:
    """Open a window and wait until it is closed, or Ctrl-C."""
    app = gui.Application.instance
    app.initialize()
    window = Window(session)

    def leave() -> None:
        if session.recovery is not None:
            session.recovery.interrupted = True
        window._post(window._leave)

    with on_interrupt(leave):
        app.run()
    window.closed = True
