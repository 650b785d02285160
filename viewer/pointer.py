"""Mouse input over the picture of the window; positions in pixels of the window."""

from __future__ import annotations

from collections.abc import Callable

from renderformer.viewer.actions import DOLLY_STEP
from renderformer.viewer.display import Rect
from renderformer.viewer.panel import Panel

# Degrees of orbit per drag over the height of the picture.
ORBIT_DEGREES = 180.0
# Distance from the bar of the split view within which a press grabs it, as a share of the width.
BAR_REACH = 0.02
# Largest movement in pixels between press and release of a click.
CLICK_PIXELS = 3


class Pointer:
    """Moves the camera and the bar of the split view, and picks objects.

    Args:
        rectangle: returns the rectangle of the picture.
    """

    def __init__(self, panel: Panel, rectangle: Callable[[], Rect]) -> None:
        self._panel, self._rectangle = panel, rectangle
        self._pressed: tuple[int, int] | None = None
        self._last = (0, 0)
        self._on_bar = False

    def press(self, x: int, y: int) -> None:
        """Handle a button that goes down."""
        self._pressed = self._last = (x, y)
        point = self._rectangle().inside(x, y)
        self._on_bar = self._panel.kind == "split" and point is not None and abs(point[0] - self._panel.bar) < BAR_REACH

    def drag(self, x: int, y: int, pan: bool) -> None:
        """Move the bar, pan or orbit, while a button is down."""
        dx, dy = x - self._last[0], y - self._last[1]
        self._last = (x, y)
        box, session = self._rectangle(), self._panel.session
        if self._on_bar:
            self._panel.set_bar((x - box.x) / box.width)
        elif pan:
            session.move(lambda orbit: orbit.pan(-dx / box.height, dy / box.height))
        else:
            step = ORBIT_DEGREES / box.height
            session.move(lambda orbit: orbit.orbit(-dx * step, dy * step))

    def release(self, x: int, y: int) -> str:
        """Handle a button that goes up; a click picks an object and returns a line for the person."""
        pressed, self._pressed = self._pressed, None
        if pressed is None or max(abs(x - pressed[0]), abs(y - pressed[1])) > CLICK_PIXELS:
            return ""
        point = self._rectangle().inside(x, y)
        return "" if point is None else self._panel.pick(*point)

    def wheel(self, steps: float, zoom: bool) -> None:
        """Move nearer, or narrow the field of view, by steps of the wheel; away from the person is positive."""
        session = self._panel.session
        if zoom:
            session.move(lambda orbit: orbit.zoom(-steps))
        else:
            session.move(lambda orbit: orbit.dolly(DOLLY_STEP**-steps))
