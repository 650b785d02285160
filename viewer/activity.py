"""What the window is busy with, at its foot: a line, a progress bar, a button that cancels."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from open3d.visualization import gui

from renderformer.viewer.display import Rect
from renderformer.viewer.widgets import legible, outside


class ActivityBar:
    """See the module.

    The widgets are `outside` while there is nothing to show.

    Args:
        cancel: called when the button is pressed.

    Attributes:
        widgets: line, bar and button, to be added to a window.
        busy, cancels: whether line and bar, and the button, are in sight.
    """

    def __init__(self, cancel: Callable[[], object]) -> None:
        self._line, self._bar, self.button = gui.Label(""), gui.ProgressBar(), gui.Button("cancel")
        self.button.vertical_padding_em = 0
        self.button.set_on_clicked(cancel)
        self.widgets: tuple[Any, ...] = (self._line, self._bar, self.button)
        self.busy = self.cancels = False
        # Where the widgets are when they are in sight.
        self._places = (gui.Rect(0, 0, 8, 8),) * len(self.widgets)

    @property
    def text(self) -> str:
        return str(self._line.text)

    def lay_out(self, area: Rect, em: int, line: float) -> None:
        """Take an area of the window; `em` and `line` are heights of the font and of a line in pixels."""
        width, button = area.width, round(4.6 * em)
        self._places = (
            gui.Rect(area.x, area.y, width, round(line)),
            gui.Rect(area.x, area.y + round(1.6 * line), width - em - button, round(line)),
            gui.Rect(area.x + width - button, area.y + round(1.4 * line), button, round(1.5 * line)),
        )
        self._put()

    def show(self, activity: tuple[str, float] | None, cancels: bool) -> bool:
        """Show label and share (0 … 1) of an activity, None for none; returns whether anything changed."""
        busy = activity is not None
        changed = (busy, cancels) != (self.busy, self.cancels)
        self.busy, self.cancels = busy, cancels
        if changed:
            self._put()
        if activity is not None:
            text = legible(f"{activity[0]} {100 * activity[1]:.0f} %")
            changed = changed or text != self.text
            self._line.text, self._bar.value = text, activity[1]
        return changed

    def _put(self) -> None:
        for widget, place, seen in zip(self.widgets, self._places, (self.busy, self.busy, self.cancels), strict=True):
            widget.frame = place if seen else outside(place)
