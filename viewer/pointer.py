"""Mouse input over the picture of the window; positions in pixels of the window."""

from __future__ import annotations

from collections.abc import Callable

from renderformer.viewer.actions import DOLLY_STEP
from renderformer.viewer.display import Rect
from renderformer.viewer.hands import Hands
from renderformer.viewer.panel import Panel

# Degrees of orbit per drag over the height of the picture.
ORBIT_DEGREES = 180.0
# Distance from the bar of the split view within which a press grabs it, as a share of the width.
BAR_REACH = 0.02
# Largest movement in pixels between press and release of a click.
CLICK_PIXELS = 3


class Pointer:
    """Moves the camera and the bar of the split view, chooses objects, and drags their handles.

    Args:
        rectangle: returns the rectangle of the picture.
    """

    def __init__(self, panel: Panel, hands: Hands, rectangle: Callable[[], Rect]) -> None:
        self._panel, self._hands, self._rectangle = panel, hands, rectangle
        self._pressed: tuple[int, int] | None = None
        self._last = (0, 0)
        self._on_bar = False

    def hover(self, x: int, y: int, snap: bool = False) -> bool:
        """Handle a move without a button; returns whether it moved something, or another handle is under the
        pointer. With `snap`, what is in the hand moves in steps."""
        self._last = (x, y)
        if self._hands.dragging:
            self._hands.drag(self._place(x, y)[0], snap)
            return True
        return self._hands.hover(*self._place(x, y))

    def grab(self) -> None:
        """Take what is chosen into the hand: it follows the pointer without a button, until a press."""
        if self._rectangle().inside(*self._last) is not None:
            self._hands.grab(*self._place(*self._last))

    def press(self, x: int, y: int, left: bool = True) -> None:
        """Handle a button that goes down."""
        self._pressed = self._last = (x, y)
        if self._hands.dragging:
            self._hands.release(keep=left)
            # The rest of the drag turns nothing.
            self._pressed = None
            return
        point = self._rectangle().inside(x, y)
        self._on_bar = self._panel.kind == "split" and point is not None and abs(point[0] - self._panel.bar) < BAR_REACH
        if left and not self._on_bar:
            self._hands.press(*self._place(x, y))

    def drag(self, x: int, y: int, pan: bool, snap: bool = False) -> bool:
        """Move a handle or the bar, pan or orbit, while a button is down; returns whether it did."""
        dx, dy = x - self._last[0], y - self._last[1]
        self._last = (x, y)
        box, session = self._rectangle(), self._panel.session
        if self._pressed is None:
            return False
        if self._hands.dragging:
            self._hands.drag(self._place(x, y)[0], snap)
        elif self._on_bar:
            self._panel.set_bar((x - box.x) / box.width)
        elif pan:
            session.move(lambda orbit: orbit.pan(-dx / box.height, dy / box.height))
        else:
            step = ORBIT_DEGREES / box.height
            session.move(lambda orbit: orbit.orbit(-dx * step, dy * step))
        return True

    def release(self, x: int, y: int) -> str:
        """Handle a button that goes up; a click chooses an object and returns a line for the person."""
        pressed, self._pressed = self._pressed, None
        if pressed is None or self._hands.release() or max(abs(x - pressed[0]), abs(y - pressed[1])) > CLICK_PIXELS:
            return ""
        return "" if self._rectangle().inside(x, y) is None else self._hands.click(*self._place(x, y))

    def wheel(self, steps: float, zoom: bool) -> None:
        """Move nearer, or narrow the field of view, by steps of the wheel; away from the person is positive."""
        session = self._panel.session
        if zoom:
            session.move(lambda orbit: orbit.zoom(-steps))
        else:
            session.move(lambda orbit: orbit.dolly(DOLLY_STEP**-steps))

    def _place(self, x: int, y: int) -> tuple[tuple[float, float], int, int]:
        """A point in pixels of the picture, and the size of the picture."""
        box = self._rectangle()
        return (x - box.x + 0.5, y - box.y + 0.5), box.width, box.height
