"""Mouse and keys of the window."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

from open3d.visualization import gui

from renderformer.viewer.actions import Action, find
from renderformer.viewer.gizmo import MODES
from renderformer.viewer.hands import Hands
from renderformer.viewer.panel import Panel
from renderformer.viewer.pointer import Pointer

KEY, CONSUMED = gui.KeyName, gui.Widget.EventCallbackResult.CONSUMED
# Names of Open3D's keys in the table of actions.
KEYS = {getattr(KEY, letter): letter for letter in "ABCDEFGHIJKLMNOPQRSTUVWXYZ"} | {
    KEY.ONE: "1", KEY.TWO: "2", KEY.THREE: "3", KEY.FOUR: "4", KEY.PLUS: "+", KEY.EQUALS: "=", KEY.MINUS: "-",
    KEY.LEFT_BRACKET: "[", KEY.RIGHT_BRACKET: "]", KEY.LEFT: "Left", KEY.RIGHT: "Right", KEY.UP: "Up", KEY.DOWN: "Down",
    KEY.DELETE: "Delete",
}  # fmt: skip


class WindowInput:
    """The part of `Window` that listens."""

    panel: Panel
    hands: Hands
    pointer: Pointer
    dialog: Any
    message: str
    _failed: bool
    _apply: Callable[[str, Callable[[], object]], None]
    _refresh: Callable[[], None]
    _end_dialog: Callable[[], None]
    _close_lists: Callable[[], None]
    perform: Callable[[Action], None]

    def __init__(self) -> None:
        self._ctrl = False
        # The last move of the pointer that is not shown yet; returns whether it changed anything.
        self._moved: Callable[[], bool] | None = None
        # Whether a close request waits for an answer. Open3D sends one for Escape, too, before it reports the key.
        self._close_requested = False
        # Whether Escape is left for the picture, if that has the focus: it chooses nothing.
        self._escape_left = False

    def _mouse(self, event: Any) -> Any:
        """Handle the mouse over the picture."""
        kind, x, y = event.type, event.x, event.y
        snap = event.is_modifier_down(gui.KeyModifier.CTRL)
        if kind == gui.MouseEvent.Type.MOVE:
            self._moved = functools.partial(self.pointer.hover, x, y, snap)
            return CONSUMED
        if kind == gui.MouseEvent.Type.DRAG:
            pan = event.is_button_down(gui.MouseButton.RIGHT) or event.is_modifier_down(gui.KeyModifier.SHIFT)
            self._moved = functools.partial(self.pointer.drag, x, y, pan, snap)
            return CONSUMED
        self._follow()
        if kind == gui.MouseEvent.Type.BUTTON_DOWN:
            self.pointer.press(x, y, event.is_button_down(gui.MouseButton.LEFT))
            self._show_hands()
        elif kind == gui.MouseEvent.Type.BUTTON_UP:
            self._apply("object", lambda: self.pointer.release(x, y))
        elif kind == gui.MouseEvent.Type.WHEEL:
            steps = event.wheel_dy / (10 if event.wheel_is_trackpad else 1)
            self.pointer.wheel(steps, event.is_modifier_down(gui.KeyModifier.CTRL))
            self._refresh()
        return CONSUMED

    def _follow(self) -> None:
        """Follow the pointer to where it is by now: moves may come faster than they can be shown."""
        move, self._moved = self._moved, None
        if move is not None and move():
            self._show_hands()

    def _window_key(self, event: Any) -> bool:
        """Handle Escape and Ctrl, whatever widget has the focus."""
        self._follow()
        if event.key == KEY.ESCAPE:
            self._close_requested = False
            if event.type == gui.KeyEvent.Type.DOWN:
                self._escape_left = not self._escape()
        if event.key in (KEY.LEFT_CONTROL, KEY.RIGHT_CONTROL):
            self._ctrl = event.type == gui.KeyEvent.Type.DOWN
        elif self._ctrl and event.key in KEYS:
            # With Ctrl, keys act wherever the focus is: an edit in the panel can be undone at once.
            action = find(KEYS[event.key], True)
            if action is not None and any(key.startswith("Ctrl ") for key in action.keys):
                self._key(event)
                return True
        return False

    def _escape(self) -> bool:
        """Close the dialog, or give up a drag, or else close an open list of the panel; returns whether it was one of
        the first two."""
        if self.dialog is not None:
            self._end_dialog()
        elif self.hands.release(keep=False):
            self._refresh()
        else:
            self._close_lists()
            return False
        return True

    def _key(self, event: Any) -> Any:
        """Handle a key over the picture."""
        self._follow()
        key = KEYS.get(event.key, "")
        action = find(key, self._ctrl)
        if event.type != gui.KeyEvent.Type.DOWN or self.dialog is not None:
            return CONSUMED
        if event.key == KEY.ESCAPE and self._escape_left:
            self.panel.choose("")
            self._refresh()
        if self.hands.dragging and key in ("X", "Y", "Z"):
            self.hands.constrain(key.lower())
            self._show_hands()
        elif action is not None:
            self.hands.release(keep=False)
            self.perform(action)
            if action.name in MODES:
                self.pointer.grab()
                self._show_hands()
        return CONSUMED

    def _show_hands(self) -> None:
        """Show what the hands do."""
        if self.hands.dragging:
            self.message, self._failed = self.hands.text, False
        self._refresh()
