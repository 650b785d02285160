"""The timeline: key frames of the camera one by one, and the moment of their path that is shown."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from renderformer.data.camera_path import Key
from renderformer.data.errors import InputError

if TYPE_CHECKING:
    from renderformer.viewer.session import Session

# Upper ends of the strip in seconds, and the room behind the last key.
SPANS, ROOM = (5.0, 10.0, 20.0, 30.0, 60.0, 120.0, 300.0, 600.0, 1800.0, 3600.0), 1.0
# Times that differ by less are one, in seconds.
SAME = 1e-3
# The label of a step of undo.
MOVE = "move key frame"


class Timeline:
    """Edits the key frames of a session.

    Attributes:
        time: that is shown, in seconds of the path.
    """

    def __init__(self, session: Session) -> None:
        self._session = session
        self._chosen: Key | None = None
        self.time = 0.0

    @property
    def keys(self) -> list[Key]:
        """All key frames in order of time."""
        return self._session.key_frames.keys

    @property
    def times(self) -> tuple[float, ...]:
        """Their times."""
        return tuple(key.time for key in self.keys)

    @property
    def key(self) -> Key | None:
        """The chosen key frame, or else the last one; None without key frames."""
        keys = self.keys
        return next((key for key in keys if key is self._chosen), keys[-1] if keys else None)

    @property
    def names(self) -> list[str]:
        """Names of all key frames: number and time."""
        return [_name(number, key) for number, key in enumerate(self.keys, 1)]

    @property
    def name(self) -> str:
        """Name of the chosen key frame, empty if there is none."""
        return next((_name(number, key) for number, key in enumerate(self.keys, 1) if key is self.key), "")

    @property
    def text(self) -> str:
        """Number and duration of the key frames."""
        return f"{len(self.keys)} key frames, {self._session.key_frames.duration:g} s"

    @property
    def end(self) -> float:
        """Upper end of the strip in seconds."""
        last = self.keys[-1].time if self.keys else 0.0
        return next((span for span in SPANS if span >= last + ROOM), last + ROOM)

    def choose(self, name: str) -> None:
        """Choose a key frame by its name, and show it."""
        with self._session.lock:
            key = next((key for number, key in enumerate(self.keys, 1) if _name(number, key) == name), None)
            if key is not None:
                self._chosen = key
                self.show(key.time)

    def show(self, time: float) -> None:
        """Show the path at a time, clamped to the key frames.

        Raises:
            InputError: there are none.
        """
        with self._session.lock:
            view = self._session.key_frames.views([time])[0]
            self.time = min(max(time, self.keys[0].time), self.keys[-1].time)
            self._session.move(lambda orbit: setattr(orbit, "view", view))

    def add(self) -> str:
        """Make the present view a key frame, and return its name.

        Its time is the one that is shown, if that is between two key frames, else two seconds after the last.
        """
        with self._session.lock:
            times = self.times
            inside = bool(times) and times[0] < self.time < times[-1]
            free = inside and min(abs(time - self.time) for time in times) > SAME
            time, view, path = self.time if free else None, self._session.orbit.view, self._session.key_frames
            self._chosen = self._session.edit_tour("add key frame", lambda: path.add(view, time))
            self.time = self._chosen.time
            return self.name

    def replace_view(self) -> str:
        """Give the chosen key frame the present view; returns its name.

        Raises:
            InputError: there is none.
        """
        with self._session.lock:
            key, view = self._needed(), self._session.orbit.view
            self._session.edit_tour("change key frame", lambda: self._exchange(key, view=view))
            return self.name

    def set_time(self, time: float) -> None:
        """Move the chosen key frame to another time.

        Raises:
            InputError: there is none, or another key frame has this time.
        """
        with self._session.lock:
            key = self._needed()
            self._session.edit_tour(MOVE, lambda: self._exchange(key, time=float(time)), merge=True)
            self.time = float(time)

    def set_times(self, times: Sequence[float]) -> None:
        """Give each key frame, in order, another time; a strip moves one at a time, which is then chosen and shown.

        Raises:
            InputError: two of one time.
        """
        with self._session.lock:
            # A page may send what it showed before a key frame was added or removed.
            if len(times) != len(self.keys):
                return
            moved = [(key, time) for key, time in zip(self.keys, times, strict=True) if abs(key.time - time) > SAME]
            for key, time in moved:
                exchange = functools.partial(self._exchange, key, time=float(time))
                self._session.edit_tour(MOVE, exchange, merge=True)
            if moved and self._chosen is not None:
                self.show(self._chosen.time)

    def remove(self) -> None:
        """Delete the chosen key frame, or else the last one, if there is any."""
        with self._session.lock:
            key, path = self.key, self._session.key_frames
            if key is not None:
                self._session.edit_tour("remove key frame", lambda: path.keys.remove(key))

    def clear(self) -> None:
        """Delete all key frames."""
        with self._session.lock:
            self._session.edit_tour("clear key frames", self._session.key_frames.clear)
            self.time = 0.0

    def _needed(self) -> Key:
        if self.key is None:
            raise InputError("key frames", "there are none", "add one")
        return self.key

    def _exchange(self, key: Key, **changes: object) -> None:
        """Replace a key frame by one with other fields, and choose it."""
        new = replace(key, **changes)  # type: ignore[arg-type]
        path = self._session.key_frames
        number = next(number for number, known in enumerate(path.keys) if known is key)
        path.remove(number)
        try:
            self._chosen = path.add(new.view, new.time)
        except InputError:
            self._chosen = path.add(key.view, key.time)
            raise


def _name(number: int, key: Key) -> str:
    return f"{number}: {key.time:g} s"
