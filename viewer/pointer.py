"""What presses, drags, clicks and the wheel do over the picture of the window; positions in pixels of the window."""

from __future__ import annotations

from collections.abc import Callable

from renderformer.viewer.actions import DOLLY_STEP
from renderformer.viewer.display import Rect
from renderformer.viewer.panel import Panel

# Degrees of orbit of a drag over the height of the picture.
ORBIT_DEGREES = 180.0
# Share of the width from the bar of the split view within which a press takes hold of it.
BAR_REACH = 0.02
# Movement of the pointer in pixels up to which a press counts as a click.
CLICK_PIXELS = 3


class Pointer:
    """Moves the camera and the bar of the split view, and picks objects.

    Args:
        rectangle: where the picture is.
    """

    def __init__(self, panel: Panel, rectangle: Callable[[], Rect]) -> None:
        self._panel, self._rectangle = panel, rectangle
        self._pressed: tuple[int, int] | None = None
        self._last = (0, 0)
        self._on_bar = False

    def press(self, x: int, y: int) -> None:
        """A button went down."""
        self._pressed = self._last = (x, y)
        at = self._rectangle().inside(x, y)
        self._on_bar = self._panel.kind == "split" and at is not None and abs(at[0] - self._panel.bar) < BAR_REACH

    def drag(self, x: int, y: int, pan: bool) -> None:
        """The pointer moved while a button is down: it drags the bar, pans, or turns the camera."""
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
        """The button went up: where it went down, that picks; a line for the person."""
        pressed, self._pressed = self._pressed, None
        if pressed is None or max(abs(x - pressed[0]), abs(y - pressed[1])) > CLICK_PIXELS:
            return ""
        at = self._rectangle().inside(x, y)
        return "" if at is None else self._panel.pick(*at)

    def wheel(self, steps: float, zoom: bool) -> None:
        """The wheel turned by steps, away from the person is positive: nearer, or a narrower field of view."""
        session = self._panel.session
        if zoom:
            session.move(lambda orbit: orbit.zoom(-steps))
        else:
            session.move(lambda orbit: orbit.dolly(DOLLY_STEP**-steps))
