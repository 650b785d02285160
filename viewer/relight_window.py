"""A split picture in a window, whose lights a person changes: Open3D over a `RelightPanel`."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numpy as np
import open3d as o3d
from open3d.visualization import gui

from renderformer.viewer.controls import Control
from renderformer.viewer.display import Rect, letterbox, margins, resized
from renderformer.viewer.launch import on_interrupt
from renderformer.viewer.relight_panel import RelightPanel
from renderformer.viewer.widgets import ControlWidgets

TITLE = "RenderFormer lights"
PANEL_EM, SIZE = 20, (1100, 720)
# Open3D may lose the second of two updates between two redraws, and shows a drop-down list in the second drawing after
# its press; so the window is drawn this often, in seconds.
REDRAW_SECONDS = 0.1


class RelightWindow:
    """One open window."""

    def __init__(self, panel: RelightPanel) -> None:
        self.panel: Any = panel
        self.closed = False
        self._drawn_at = 0.0
        self.window = gui.Application.instance.create_window(TITLE, *SIZE)
        self.image = gui.ImageWidget()
        # Open3D never clears an area without a widget.
        self._margins = [gui.Vert() for _ in range(4)]
        for margin in self._margins:
            margin.background_color = gui.Color(0, 0, 0)
        em = self.window.theme.font_size
        self._column = gui.ScrollableVert(0.3 * em, gui.Margins(0.5 * em, 0.5 * em, 1.2 * em, 0.5 * em))
        self.controls = ControlWidgets(
            panel, self._column, em, self._change, self._guarded, panel.controls, panel.sections, panel.sections
        )
        for widget in (*self._margins, self.image, self._column):
            self.window.add_child(widget)
        self.window.set_on_layout(self._guarded(self._layout))
        self.window.set_on_close(self._on_close)
        self.window.set_on_tick_event(self._guarded(self._tick, False))
        self.controls.fill()
        self._draw()

    def _guarded(self, action: Callable[..., Any], result: Any = None) -> Callable[..., Any]:
        """A callback that does nothing once the window is closed."""

        def run(*values: Any) -> Any:
            returned = None if self.closed else action(*values)
            return result if returned is None else returned

        return run

    def _change(self, control: Control, value: Any) -> None:
        control.set(self.panel, value)
        self.controls.fill()
        self._draw()

    def rectangle(self) -> Rect:
        """The rectangle of the picture in pixels of the window."""
        area, (height, width, _) = self.window.content_rect, self._picture.shape
        box = letterbox(max(1, area.width - self._panel_width()), area.height, width / height)
        return Rect(area.x + box.x, area.y + box.y, box.width, box.height)

    def _panel_width(self) -> int:
        return min(PANEL_EM * self.window.theme.font_size, self.window.content_rect.width // 2)

    def _layout(self, context: Any) -> None:
        area, width, box = self.window.content_rect, self._panel_width(), self.rectangle()
        self._column.frame = gui.Rect(area.get_right() - width, area.y, width, area.height)
        view = Rect(area.x, area.y, area.width - width, area.height)
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
        self.closed = True
        return True

    def close(self) -> None:
        """Close the window."""
        self.closed = True
        self.window.close()


def run(panel: RelightPanel) -> None:
    """Open a window and wait until it is closed, or Ctrl-C."""
    app = gui.Application.instance
    app.initialize()
    window = RelightWindow(panel)
    with on_interrupt(lambda: app.post_to_main_thread(window.window, window.close)):
        app.run()
    window.closed = True
