"""The hand over the picture of one front end: it chooses objects and lights, and drags their handles.

Positions are pixels of the displayed picture from its upper left corner.
"""

from __future__ import annotations

import math

import numpy as np

from renderformer.data.arrays import Float64Array, UInt8Array
from renderformer.data.camera_path import vector
from renderformer.viewer.beyond import HALF, mark
from renderformer.viewer.document import Item, SceneDocument
from renderformer.viewer.gizmo import AXES, FREE, Drag, Gizmo, Lens, Mode, Point
from renderformer.viewer.outline import Outliner
from renderformer.viewer.overlay import RADIUS, outlined, with_handles
from renderformer.viewer.panel import Panel
from renderformer.viewer.placement import Placement
from renderformer.viewer.session import Session

# Pixels beside the mark of a light at which a click takes it.
BESIDE = 4.0


class Hands:
    """See the module.

    Attributes:
        active: the handle under the pointer or in the hand; empty for none.
    """

    def __init__(self, panel: Panel) -> None:
        self._panel, self._outliner = panel, Outliner()
        self.active = ""
        self._drag: Drag | None = None
        # What is dragged, as it was at the press.
        self._grabbed: Item | None = None
        self._pending = False

    def close(self) -> None:
        self._outliner.close()

    @property
    def dragging(self) -> bool:
        return self._drag is not None

    @property
    def state(self) -> tuple[object, ...]:
        """What the overlay depends on, but for the picture below it."""
        return self._panel.selected, self._panel.mode, self.active, self._panel.session.document.lights

    def update(self) -> bool:
        """Whether the overlay changed without a deed of the person."""
        before, self._pending = self._pending, self._outliner.pending
        return before and not self._pending

    def draw(self, picture: UInt8Array) -> UInt8Array:
        """A picture as it is displayed (h, w, 3), with outline, handles and marks of lights."""
        height, width, _ = picture.shape
        lens, picture = self._lens(width, height), self.outlined(picture)
        gizmo = self._gizmo(lens)
        handles = gizmo.handles if gizmo is not None else []
        return with_handles(picture, handles, self.active, [point for _, point in self._lamps(lens)], self._mark(lens))

    def layer(self, width: int, height: int) -> UInt8Array:
        """What `draw` lays over a picture of this size, (h, w, 4), its colours multiplied by its alpha."""
        black, white = (self.draw(np.full((height, width, 3), grey, np.uint8)) for grey in (0, 255))
        alpha = 255 - (white - black).max(axis=2, keepdims=True)
        return np.concatenate([black, alpha], axis=2)

    def outlined(self, picture: UInt8Array) -> UInt8Array:
        """A picture (h, w, 3) with the outline of what is chosen."""
        height, width, _ = picture.shape
        item, frame = self._panel.selected, self._panel.session.frame
        if item is None or not item.visible:
            return picture
        resting = frame is not None and frame.final and not self.dragging
        outline = self._outliner.outline(item, self._lens(width, height), resting)
        self._pending = self._outliner.pending
        return picture if outline is None else outlined(picture, outline)

    def hover(self, point: Point, width: int, height: int) -> bool:
        """Move the pointer without a button; returns whether the active handle changed."""
        before, gizmo = self.active, self._gizmo(self._lens(width, height))
        self.active = gizmo.at(point) if gizmo is not None else ""
        return self.active != before

    def press(self, point: Point, width: int, height: int) -> bool:
        """Press a button; returns whether it took a handle."""
        self.hover(point, width, height)
        return bool(self.active) and self.grab(point, width, height, self.active)

    def grab(self, point: Point, width: int, height: int, name: str = FREE) -> bool:
        """Take a handle from wherever the pointer is; returns whether there is one."""
        gizmo, item = self._gizmo(self._lens(width, height)), self._panel.selected
        if gizmo is None or item is None or self.dragging:
            return False
        self.active = name
        self._drag, self._grabbed = Drag(gizmo, item.placement, name, point), item
        with self._panel.session.lock:
            self._panel.session.document.begin_stroke()
        return True

    @property
    def text(self) -> str:
        """What the drag has done so far, for the person."""
        return "" if self._drag is None else self._drag.text

    def drag(self, point: Point, snap: bool = False) -> None:
        """Move the pointer with a handle in the hand."""
        if self._drag is not None:
            self._put(self._drag.to(point, snap))

    def constrain(self, axis: str) -> None:
        """Go on with the drag along another axis."""
        if self._drag is not None and axis in AXES:
            self._put(self._drag.constrain(axis))
            self.active = self._drag.name

    def release(self, keep: bool = True) -> bool:
        """Let go of the handle; without `keep`, all is as it was before. Returns whether there was one."""
        if self._drag is None:
            return False
        self._drag = self._grabbed = None
        self._panel.session.edit(lambda document: document.end_stroke(keep))
        return True

    def click(self, point: Point, width: int, height: int) -> str:
        """Choose what is at a point, or turn to what is chosen by its mark; returns a line for the person."""
        mark = self._mark(self._lens(width, height))
        if mark is not None and math.dist(point, mark.mean(axis=0)) <= HALF + BESIDE:
            return self._panel.look_at_it()
        for name, (x, y) in self._lamps(self._lens(width, height)):
            if math.dist(point, (x, y)) <= RADIUS + BESIDE:
                self._panel.choose(name)
                return name
        return self._panel.pick(point[0] / width, point[1] / height)

    def _put(self, placement: Placement) -> None:
        """Show what is dragged at another place."""
        if self._grabbed is None or self._drag is None:
            return
        if not put(self._panel.session, self._grabbed, placement, self._drag.gizmo.mode):
            self._drag = self._grabbed = None

    def _lens(self, width: int, height: int) -> Lens:
        """Of the picture on the screen, which may be older than the camera; the preview never is."""
        session = self._panel.session
        frame = None if self._panel.preview_only else session.frame
        return Lens(session.orbit.camera if frame is None else frame.camera, width, height)

    def _gizmo(self, lens: Lens) -> Gizmo | None:
        item = self._panel.selected
        if item is None or not item.visible:
            return None
        return Gizmo.of(lens, self._panel.mode, item.centre, item.placement)

    def _mark(self, lens: Lens) -> Float64Array | None:
        """(3, 2) pixels of the mark of what is chosen, where that is outside the picture."""
        item = self._panel.selected
        return None if item is None or not item.visible or self.dragging else mark(lens, item.centre)

    def _lamps(self, lens: Lens) -> list[tuple[str, Point]]:
        """Names and places of the marks of lights in the picture; the chosen one has handles instead."""
        lights = [item for item in self._panel.session.document.lights if item.visible]
        lights = [item for item in lights if item is not self._panel.selected]
        if not lights:
            return []
        pixels, depth = lens.project(np.array([item.centre for item in lights]))
        inside = (depth > 0) & (pixels >= 0).all(axis=1) & (pixels < (lens.width, lens.height)).all(axis=1)
        return [(lights[row].name, (pixels[row, 0], pixels[row, 1])) for row in np.flatnonzero(inside)]


def put(session: Session, grabbed: Item, placement: Placement, mode: Mode) -> bool:
    """Place what is dragged; a light triangle that is moved keeps facing its target.

    Args:
        grabbed: as it was at the press.

    Returns:
        Whether the drag may go on: not after an undo, or where another scene was opened.
    """

    def change(document: SceneDocument) -> bool:
        if not document.in_stroke:
            return False
        if mode == "move" and grabbed.is_lamp:
            away = np.subtract(placement.translation, grabbed.placement.translation)
            document.set_light(grabbed.name, position=vector(np.add(grabbed.light.position, away)))
        else:
            document.place(grabbed.name, placement)
        return True

    return session.edit(change)
