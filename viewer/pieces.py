"""Work in pieces that take about as much CPU time each, so that what comes of it can be shown by the clock.

What a pixel costs is known from the pieces before. A piece that turns out to cost much more is given up at the next
cast of rays, and begun again as a smaller one.
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

from renderformer.data.arrays import Int64Array

T = TypeVar("T")

# CPU seconds of a piece, and most of one that is not given up. Shorter ones leave more to Python than to the processor.
PIECE, LONGEST = 0.1, 0.15
# Of the largest piece, as a share: the first of its kind, and the least one.
FIRST, LEAST = 1 / 8, 1 / 32


class TooLong(Exception):  # noqa: N818 - not an error
    """The piece of this thread has taken its time."""


class _Limit(threading.local):
    """CPU time of a thread at which its piece is given up, and the clock."""

    end = math.inf
    clock: Callable[[], float] = staticmethod(time.thread_time)


_LIMIT = _Limit()


@contextmanager
def limited(seconds: float, clock: Callable[[], float] = time.thread_time) -> Iterator[None]:
    """A context in which `check_time` raises TooLong on this thread after so many seconds of its CPU time."""
    _LIMIT.end, _LIMIT.clock = clock() + seconds, clock
    try:
        yield
    finally:
        _LIMIT.end = math.inf


def check_time() -> None:
    """Give the piece of this thread up if it has taken its time; called before rays are cast."""
    if _LIMIT.end < math.inf and _LIMIT.clock() > _LIMIT.end:
        raise TooLong


class Pieces:
    """Parts as of `renderformer.data.rays.parts`, one after the other on the thread that wants them.

    Args:
        clock: CPU seconds of a thread.
    """

    def __init__(self, clock: Callable[[], float] = time.thread_time) -> None:
        self._clock = clock
        # CPU seconds of an item of each kind.
        self._pace: dict[str, float] = {}

    def run(
        self, kind: str, work: Callable[[Int64Array], T], index: Int64Array, most: int
    ) -> Iterator[tuple[Int64Array, T]]:
        """As `Parts`."""
        least = math.ceil(LEAST * most)
        while len(index):
            part = index[: self._size(kind, len(index), least, most)]
            started = self._clock()
            try:
                with limited(LONGEST if len(part) > least else math.inf, self._clock):
                    values = work(part)
            except TooLong:
                # Probably not even half of it was done.
                self._pace[kind] = 2 * (self._clock() - started) / len(part)
                continue
            self._measure(kind, (self._clock() - started) / len(part))
            yield part, values
            index = index[len(part) :]

    def _size(self, kind: str, left: int, least: int, most: int) -> int:
        """Length of the next part: what is left is cut into equal ones."""
        pace = self._pace.get(kind)
        size = math.ceil(FIRST * most) if pace is None else int(PIECE / max(pace, 1e-9))
        return math.ceil(left / math.ceil(left / min(max(size, least), most)))

    def _measure(self, kind: str, pace: float) -> None:
        """Believe at once that work takes longer, and by and by that it takes less."""
        self._pace[kind] = max(pace, (pace + self._pace.get(kind, pace)) / 2)
