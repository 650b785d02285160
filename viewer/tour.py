"""What belongs to an opened scene beside it: its camera, bookmarks and key frames. It is part of the steps of undo."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import TYPE_CHECKING

from renderformer.data.camera_path import CameraPath, Key, View
from renderformer.data.unit_size import UnitSize
from renderformer.viewer.camera import OrbitCamera

if TYPE_CHECKING:
    from renderformer.viewer.session import Session

Bookmarks = tuple[tuple[str, View], ...]
Keys = tuple[Key, ...]
# What another file replaced.
LEFT = "Work on a scene that was open before"


@dataclass(frozen=True, eq=False)
class Tour:
    """See the module.

    Attributes:
        orbit: the camera of the scene, which goes on moving; one for each opened scene.
        unit: from the units of the scene to those of a scene in the trained box.
    """

    orbit: OrbitCamera
    unit: UnitSize
    bookmarks: Bookmarks = ()
    keys: Keys = ()

    def of(self, bookmarks: Iterable[tuple[str, View]], keys: Iterable[Key]) -> Tour:
        """With other bookmarks and key frames; itself if they are the same."""
        new = tuple(bookmarks), tuple(keys)
        return self if new == (self.bookmarks, self.keys) else replace(self, bookmarks=new[0], keys=new[1])


def present_tour(session: Session) -> Tour:
    """The tour of a session as it is now; the same object as long as it is equal."""
    tour = session.document.tour or Tour(session.orbit, session.unit)
    return tour.of(session.orbit.bookmarks.items(), session.key_frames.keys)


def keep_tour(session: Session) -> Tour:
    """Make the tour as it is now that of the present state of the document, and return it."""
    session.document.tour = tour = present_tour(session)
    return tour


def take_tour(session: Session) -> None:
    """Go to the tour of the present state of the document."""
    document, tour = session.document, session.document.tour
    if tour is None:
        session.start_at(document.cameras, document.unit)
    elif tour is not present_tour(session):
        session.orbit, session.unit = tour.orbit, tour.unit
        session.orbit.bookmarks, session.key_frames = dict(tour.bookmarks), CameraPath(tour.keys)


def losses(session: Session) -> list[str]:
    """What closing a session would lose, a sentence each."""
    document, scene = session.document, session.scene_unsaved and not session.taken
    left = any(not session.in_files.issuperset((tour.bookmarks, tour.keys)) for tour in left_tours(document.tours))
    lines = {
        "Edits of the scene are not in a file yet.": scene and document.in_no_file,
        "Bookmarks are not in a file yet.": scene and not document.in_no_file,
        "Key frames are not in a file yet.": session.keys_unsaved,
        f"{LEFT} is in no file; undo leads back to it.": left or bool(document.version.left),
    }
    return [line for line, lost in lines.items() if lost]


def left_tours(tours: Iterable[Tour | None]) -> list[Tour]:
    """Of tours in the order of their edits, the last of each scene but of the one that is open now."""
    return [one for one, after in pairwise(tours) if one and (after is None or after.orbit is not one.orbit)]
