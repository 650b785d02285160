"""What a person has chosen in one front end, over a session: view, object, light, bookmark, turntable.

The table of controls and the table of actions work on a `Panel`; a front end draws both and calls `tick` regularly.
Methods that return text return a line for the person, empty where there is nothing to tell.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from renderformer.data.errors import InputError
from renderformer.viewer.session import RESOLUTIONS, VIEWS, Session

if TYPE_CHECKING:
    from renderformer.data.arrays import UInt8Array
    from renderformer.viewer.document import Item, SceneDocument

# Stops of exposure of one press of a key.
EXPOSURE_STEP = 0.5
# Width over height of a picture, or its inverse; longer pictures than this are not drawn.
MAX_ASPECT = 4.0
# The longer side follows the shape of a page in steps of pixels: pages report shapes that differ in the last digits.
ASPECT_PIXELS = 8


class Panel:
    """See the module.

    Args:
        clock: seconds, for the turntable and the playback of key frames.

    Attributes:
        kind: which view is shown, one of `VIEWS`.
        bar: where the split view is divided, as a share (0 … 1) of the width.
        late: whether the newest picture shows too old a camera; see `judge`.
        sides: shorter sides of pictures on offer, in pixels.
    """

    def __init__(self, session: Session, clock: Callable[[], float] = time.monotonic) -> None:
        self.session = session
        self.kind = VIEWS[0]
        self.bar = 0.5
        self.late = False
        self.sides = sorted({*RESOLUTIONS, min(session.size)})
        self._clock = clock
        self._object = self._light = self._bookmark = ""
        self._turned: float | None = None
        self._playing_since: float | None = None

    # Picture

    def show(self, kind: str) -> None:
        """Show another view.

        Raises:
            InputError: the difference to a reference picture, while there is none.
        """
        if kind == "difference" and self.session.reference is None:
            raise InputError("difference", "no reference picture", "open one first")
        self.kind = kind

    def picture(self) -> UInt8Array | None:
        """(h, w, 3) display values of the newest picture in this view; None while there is none."""
        return self.session.picture("difference" if self.kind == "difference" else "neural")

    @property
    def preview_only(self) -> bool:
        """Whether the preview fills the view: it was chosen, or it stands in for a picture that is late."""
        return self.kind == "preview" or (self.kind == "neural" and self.late)

    def judge(self) -> bool:
        """Find out whether the picture is late; whether that changed."""
        before, self.late = self.late, self.session.is_late()
        return self.late != before

    def set_bar(self, share: float) -> None:
        """Divide the split view at a share of its width; values outside 0 … 1 are clamped."""
        self.bar = min(max(share, 0.0), 1.0)

    def expose(self, stops: float) -> None:
        """Make the display brighter by this many stops."""
        self.session.set_display(exposure=self.session.exposure + stops)

    def set_side(self, side: int) -> None:
        """Draw pictures whose shorter side has this many pixels, in the shape they have."""
        width, height = self.session.size
        factor = side / min(width, height)
        self._resize((round(width * factor), round(height * factor)))

    def set_aspect(self, aspect: float) -> None:
        """Draw pictures of this width over height, with the shorter side they have."""
        side = min(self.session.size)
        shape = min(max(aspect, 1 / aspect), MAX_ASPECT)
        longer = round(side * shape / ASPECT_PIXELS) * ASPECT_PIXELS
        size = (longer, side) if aspect >= 1 else (side, longer)
        if size != self.session.view_size:
            self._resize(size)

    def _resize(self, size: tuple[int, int]) -> None:
        self.session.size = size
        self.session.resize(size)

    # Camera

    def set_view(self, **values: Any) -> None:
        """Move the camera to new values of the fields of `View` that are named."""
        self.session.move(lambda orbit: setattr(orbit, "view", replace(orbit.view, **values)))

    def set_limited(self, on: bool) -> None:
        """Keep the camera in the trained range, or free it."""
        self.session.move(lambda orbit: setattr(orbit, "limited", on))

    @property
    def turning(self) -> bool:
        """Whether the turntable turns."""
        return self._turned is not None

    def turn(self, on: bool) -> None:
        """Start or stop the turntable."""
        self._playing_since = None
        self._turned = self._clock() if on else None

    def switch_turntable(self) -> None:
        """Start the turntable, or stop it."""
        self.turn(not self.turning)

    @property
    def playing(self) -> bool:
        """Whether the camera follows the key frames."""
        return self._playing_since is not None

    def play(self, on: bool) -> None:
        """Follow the key frames from the first one, or stop.

        Raises:
            InputError: there are fewer than two.
        """
        if on and len(self.session.key_frames.keys) < 2:
            raise InputError("key frames", "there are fewer than two", "add some")
        self._turned = None
        self._playing_since = self._clock() if on else None

    def switch_playback(self) -> None:
        """Follow the key frames, or stop."""
        self.play(not self.playing)

    def tick(self) -> bool:
        """Move the camera as turntable and playback ask; whether it moved."""
        now, path = self._clock(), self.session.key_frames
        if self._turned is not None:
            step, self._turned = now - self._turned, now
            self.session.move(lambda orbit: orbit.turntable(step))
            return True
        if self._playing_since is None:
            return False
        seconds = now - self._playing_since
        if not path.keys or seconds > path.duration:
            self._playing_since = None
            return False
        view = path.views([path.keys[0].time + seconds])[0]
        self.session.move(lambda orbit: setattr(orbit, "view", view))
        return True

    # Bookmarks and key frames

    @property
    def bookmark(self) -> str:
        """The chosen bookmark, empty while there is none."""
        names = list(self.session.orbit.bookmarks)
        return self._bookmark if self._bookmark in names else next(iter(names), "")

    def add_bookmark(self) -> str:
        """Remember the view; the name of the bookmark."""
        self._bookmark = self.session.move(lambda orbit: orbit.bookmark())
        return self._bookmark

    def recall(self, name: str) -> None:
        """Choose a bookmark and go there."""
        self.session.move(lambda orbit: orbit.recall(name))
        self._bookmark = name

    def forget(self) -> None:
        """Delete the chosen bookmark."""
        self.session.orbit.forget(self.bookmark)

    def remove_key(self) -> None:
        """Delete the last key frame, if there is one."""
        if self.session.key_frames.keys:
            self.session.key_frames.remove(-1)

    def key_frame_text(self) -> str:
        """How many key frames there are, and how long they play."""
        path = self.session.key_frames
        return f"{len(path.keys)} key frames, {path.duration:g} s"

    # Objects and lights

    @property
    def item(self) -> Item | None:
        """The chosen object; the first one where the chosen one is gone."""
        return _named(self.session.document.items, self._object)

    @property
    def light(self) -> Item | None:
        """The chosen light; None in a scene without lights."""
        return _named(self.session.document.lights, self._light)

    def choose_object(self, name: str) -> None:
        """Choose an object for the controls."""
        self._object = name

    def choose_light(self, name: str) -> None:
        """Choose a light for the controls."""
        self._light = name

    def pick(self, u: float, v: float) -> str:
        """Choose the object under a point of the view: shares (0 … 1) of width and height from the upper left."""
        width, height = self.session.view_size
        pick = self.session.pick(u * width, v * height, width, height)
        if pick is None:
            return ""
        self._object = pick.name
        return f"{pick.name}: triangle {pick.triangle}, {pick.distance:.3f} away"

    def edit_object(self, change: Callable[[SceneDocument, str], object]) -> None:
        """Edit the scene; `change` gets the document and the name of the chosen object."""
        self._edit(self.item, "object", change)

    def set_material(self, **values: Any) -> None:
        """Give the chosen object new values of the properties that are named; see `SceneDocument.set_material`."""
        self.edit_object(lambda document, name: document.set_material(name, **values))

    def place(self, **values: Any) -> None:
        """Move, turn or scale the chosen object: new values of the fields of `Placement` that are named."""
        self.edit_object(lambda document, name: document.place(name, replace(document[name].placement, **values)))

    def edit_light(self, change: Callable[[SceneDocument, str], object]) -> None:
        """Edit the scene; `change` gets the document and the name of the chosen light."""
        self._edit(self.light, "light", change)

    def set_light(self, **values: Any) -> None:
        """Give the chosen light new values of the properties that are named; see `SceneDocument.set_light`."""
        self.edit_light(lambda document, name: document.set_light(name, **values))

    def add_light(self) -> str:
        """Add a light and choose it; its name."""
        self._light = self.session.edit(lambda document: document.add_light())
        return self._light

    def _edit(self, item: Item | None, kind: str, change: Callable[[SceneDocument, str], object]) -> None:
        if item is None:
            raise InputError("scene", f"has no {kind}", "add one")
        self.session.edit(lambda document: change(document, item.name))

    def undo(self) -> str:
        """Take the last edit back; its label."""
        return self.session.undo() or "nothing left"

    def redo(self) -> str:
        """Do it again; its label."""
        return self.session.redo() or "nothing left"

    def open(self, *arguments: Any, **options: Any) -> None:
        """`Session.open`, and the view that shows what was opened."""
        self.show(self.session.open(*arguments, **options))


def _named(items: tuple[Item, ...], name: str) -> Item | None:
    return next((item for item in items if item.name == name), items[0] if items else None)
