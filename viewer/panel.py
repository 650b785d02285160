"""The choices of a person in one front end: view, object, light, bookmark, turntable.

The tables of controls and actions call a `Panel`; a front end draws both and calls `tick` regularly. Text that a
method returns is a line for the person, or empty.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from renderformer.data.camera_path import vector
from renderformer.data.errors import InputError
from renderformer.viewer.beyond import mark
from renderformer.viewer.gizmo import Lens, Mode
from renderformer.viewer.material_edits import as_bright, as_strong
from renderformer.viewer.presets import PRESETS, changes
from renderformer.viewer.session import VIEWS, Session
from renderformer.viewer.timeline import Timeline

if TYPE_CHECKING:
    from renderformer.data.arrays import UInt8Array
    from renderformer.data.camera import Camera
    from renderformer.viewer.document import Item, SceneDocument

# Stops of exposure per press of a key.
EXPOSURE_STEP = 0.5
# Largest ratio of the sides of a picture.
MAX_ASPECT = 4.0
# Relative difference of the aspect ratios of two pictures that count as of one shape.
SAME_SHAPE = 0.01
# Step in pixels of the longer side: pages report shapes that differ in the last digits.
ASPECT_PIXELS = 8


class Panel:
    """See the module.

    Args:
        clock: seconds, for the turntable and the playback of key frames.

    Attributes:
        kind: the present view, one of `VIEWS`.
        bar: position of the bar of the split view as a share (0 … 1) of the width.
        late: whether the newest picture shows too old a camera, see `Session.is_late`.
        mode: what the handles of the chosen object do.
        timeline: the key frames.
    """

    def __init__(self, session: Session, clock: Callable[[], float] = time.monotonic) -> None:
        self.session = session
        self.kind = VIEWS[0]
        self.bar = 0.5
        self.late = False
        self.timeline = Timeline(session)
        self._clock = clock
        self.mode: Mode = "move"
        # What is chosen, and the last object and light that were.
        self._chosen = self._object = self._light = self._bookmark = ""
        self._turntable_time: float | None = None
        self._playing_since: float | None = None

    def show(self, kind: str) -> None:
        """Show another view.

        Raises:
            InputError: the difference without a reference picture.
        """
        if kind == "difference" and self.session.reference is None:
            raise InputError("difference", "no reference picture", "open one first")
        self.kind = kind

    def picture(self) -> UInt8Array | None:
        """(h, w, 3) display values of the newest picture in this view, or None."""
        return self.session.picture("difference" if self.kind == "difference" else "neural")

    def warnings(self) -> list[str]:
        """Those of the session, and one about a picture to compare with that is stretched."""
        lines, reference = self.session.warnings(), self.session.reference
        if self.kind != "difference" or reference is None or self.session.frame is None:
            return lines
        (width, height), (wide, high) = reference.size, self.session.view_size
        if abs(width * high / (height * wide) - 1) <= SAME_SHAPE:
            return lines
        line = f"the picture to compare with has {width} x {height} pixels and is stretched to {wide} x {high}"
        return [f"{line}; renderformer view --resolution {width}x{height} draws its shape", *lines]

    @property
    def preview_only(self) -> bool:
        """Whether the preview fills the view, by choice or in place of a late picture."""
        return self.kind == "preview" or (self.kind == "neural" and self.late)

    def update_late(self) -> bool:
        """Update `late`; returns whether it changed."""
        before, self.late = self.late, self.session.is_late()
        return self.late != before

    def set_bar(self, share: float) -> None:
        """Move the bar of the split view to a share of the width, clamped to 0 … 1."""
        self.bar = min(max(share, 0.0), 1.0)

    def expose(self, stops: float) -> None:
        """Raise the exposure by some stops."""
        self.session.set_display(exposure=self.session.exposure + stops)

    def fit_page(self, aspect: float, height: int) -> None:
        """Take the shape of a page: width over height, and its height in pixels. A picture of a fixed size keeps its
        shorter side."""
        session = self.session
        if session.fills:
            size = round(height * min(max(aspect, 1 / MAX_ASPECT), MAX_ASPECT)), height
        else:
            side = round(min(session.size) / session.scale)
            longer = round(side * min(max(aspect, 1 / aspect), MAX_ASPECT) / ASPECT_PIXELS) * ASPECT_PIXELS
            size = (longer, side) if aspect >= 1 else (side, longer)
        session.fit(size)

    def set_view(self, **values: Any) -> None:
        """Change fields of `View`."""
        self.session.move(lambda orbit: setattr(orbit, "view", replace(orbit.view, **values)))

    def set_limited(self, on: bool) -> None:
        """Limit the camera to the trained range, or free it."""
        self.session.move(lambda orbit: setattr(orbit, "limited", on))

    @property
    def turning(self) -> bool:
        return self._turntable_time is not None

    def turn(self, on: bool) -> None:
        """Start or stop the turntable."""
        self._playing_since = None
        self._turntable_time = self._clock() if on else None

    @property
    def playing(self) -> bool:
        return self._playing_since is not None

    def play(self, on: bool) -> None:
        """Start or stop the playback of the key frames.

        Raises:
            InputError: fewer than two key frames.
        """
        if on and len(self.session.key_frames.keys) < 2:
            raise InputError("key frames", "there are fewer than two", "add some")
        self._turntable_time = None
        self._playing_since = self._clock() if on else None

    def tick(self) -> bool:
        """Move the camera for turntable or playback; returns whether it moved, or playback has ended."""
        now, path = self._clock(), self.session.key_frames
        if self._turntable_time is not None:
            step, self._turntable_time = now - self._turntable_time, now
            self.session.move(lambda orbit: orbit.turntable(step))
            return True
        if self._playing_since is None:
            return False
        seconds = now - self._playing_since
        if not path.keys or seconds >= path.duration:
            self._playing_since = None
        if path.keys:
            self.timeline.show(path.keys[0].time + seconds)
        return True

    @property
    def bookmark(self) -> str:
        """Name of the chosen bookmark, empty if there is none."""
        names = list(self.session.orbit.bookmarks)
        return self._bookmark if self._bookmark in names else next(iter(names), "")

    def add_bookmark(self) -> str:
        """Store the view; returns the name of the bookmark."""
        self._bookmark = self.session.edit_tour("add bookmark", lambda: self.session.orbit.bookmark())
        return self._bookmark

    def go_to(self, camera: Camera) -> None:
        """Look through a camera of the scene."""
        self.session.move(lambda orbit: orbit.go(camera))

    def recall(self, name: str) -> None:
        """Choose a bookmark and go to it."""
        self.session.move(lambda orbit: orbit.recall(name))
        self._bookmark = name

    def forget(self) -> None:
        """Delete the chosen bookmark."""
        name = self.bookmark
        self.session.edit_tour(f"forget {name}", lambda: self.session.orbit.forget(name))

    @property
    def item(self) -> Item | None:
        """The chosen object, or else the first one."""
        return _named(self.session.document.items, self._object)

    @property
    def light(self) -> Item | None:
        """The chosen light, or else the first one; None in a scene without lights."""
        return _named(self.session.document.lights, self._light)

    @property
    def selected(self) -> Item | None:
        """The object or light that is chosen; None if none is."""
        return next((item for item in self.session.document.items if item.name == self._chosen), None)

    def choose(self, name: str) -> str:
        """Choose an object or a light, an empty name for none; returns a line about one that is out of sight."""
        self._chosen = name
        item = self.selected
        if item is not None:
            self._object = name
            self._light = name if item.base.emits else self._light
        self.session.scheduler.prepare_lights(item is not None and item.base.emits)
        self.session.hold(name)
        return self._out_of_sight(item)

    def _out_of_sight(self, item: Item | None) -> str:
        """A line about an object whose middle is not in the picture; empty for others."""
        session = self.session
        if item is None or mark(Lens(session.orbit.camera, *session.view_size), item.centre) is None:
            return ""
        return f"{item.name} is outside the picture; F turns to it"

    def set_mode(self, mode: Mode) -> None:
        """Choose what the handles do."""
        self.mode = mode

    def pick(self, u: float, v: float) -> str:
        """Choose the object at a point of the view in shares (0 … 1) of width and height from the upper left."""
        width, height = self.session.view_size
        pick = self.session.pick(u * width, v * height, width, height)
        self.choose("" if pick is None else pick.name)
        return "" if pick is None else f"{pick.name}: triangle {pick.triangle}, {pick.distance:.3f} units away"

    def look_at_it(self) -> str:
        """Turn about the chosen object from now on, and free the camera where the trained range does not reach; returns
        a line that says so.

        Raises:
            InputError: nothing is chosen.
        """
        item = self._needed()
        return self.session.move(lambda orbit: orbit.aim(vector(item.centre))) or item.name

    def remove_it(self) -> str:
        """Delete the chosen object; returns its name.

        Raises:
            InputError: nothing is chosen, or it is the last object.
        """
        name = self._needed().name
        self.session.edit(lambda document: document.remove(name))
        return name

    def _needed(self) -> Item:
        if self.selected is None:
            raise InputError("selection", "nothing is chosen", "click an object or a light")
        return self.selected

    def edit_object(self, change: Callable[[SceneDocument, str], object]) -> None:
        """Edit the scene; `change` is called with the document and the name of the chosen object."""
        self._edit(self.item, "object", change)

    def set_material(self, **values: Any) -> None:
        """Change the material of the chosen object, see `SceneDocument.set_material`."""
        self.edit_object(lambda document, name: document.set_material(name, **values))

    def set_specular(self, mean: float) -> None:
        """Change the strength of reflections of the chosen object; their hue stays."""
        if self.item is not None:
            self.set_material(specular=as_strong(self.item.material.specular, mean))

    def set_emission(self, most: float) -> None:
        """Change the largest channel of the radiance of the chosen object; its hue stays."""
        if self.item is not None:
            self.set_material(emission=as_bright(self.item.material.emission, most))

    def set_preset(self, name: str) -> None:
        """Make the chosen object of a known material."""
        item = self.item
        if item is not None and name in PRESETS:
            self.set_material(**changes(name, item.material))

    def set_environment(self, **values: Any) -> None:
        """Choose or change what surrounds the scene, see `SceneDocument.set_environment`."""
        if "strength" in values:
            self.session.scheduler.prepare_lights()
        self.session.edit(lambda document: document.set_environment(**values))

    def place(self, **values: Any) -> None:
        """Change fields of the `Placement` of the chosen object."""
        self.edit_object(lambda document, name: document.place(name, replace(document[name].placement, **values)))

    def edit_light(self, change: Callable[[SceneDocument, str], object]) -> None:
        """Edit the scene; `change` is called with the document and the name of the chosen light."""
        self._edit(self.light, "light", change)

    def set_light(self, **values: Any) -> None:
        """Change the chosen light, see `SceneDocument.set_light`."""
        self.session.scheduler.prepare_lights()
        self.edit_light(lambda document, name: document.set_light(name, **values))

    def add_light(self) -> str:
        """Add a light and choose it; returns its name, or where it is."""
        name = self.session.edit(lambda document: document.add_light())
        return self.choose(name) or name

    def _edit(self, item: Item | None, kind: str, change: Callable[[SceneDocument, str], object]) -> None:
        if item is None:
            raise InputError("scene", f"has no {kind}", "add one")
        self.session.edit(lambda document: change(document, item.name))

    def undo(self) -> str:
        """Revert the last edit; returns its label."""
        return self.session.undo() or "nothing left"

    def redo(self) -> str:
        """Repeat the edit that was reverted last; returns its label."""
        return self.session.redo() or "nothing left"

    def open(self, path: str | os.PathLike[str]) -> str:
        """Open a file, see `Session.open`, and switch to the view that shows it; returns its notes."""
        kind, notes = self.session.open(path)
        self.show(kind)
        return "; ".join(notes)


def _named(items: tuple[Item, ...], name: str) -> Item | None:
    return next((item for item in items if item.name == name), items[0] if items else None)
