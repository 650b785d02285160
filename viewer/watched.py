"""Feature images whose pixels are shown by the clock while others are still being drawn.

The picture is cut into windows, one for each thread at a time. A thread hands over what it has drawn part by part:
first the samples that every pixel gets, then those of edges. Windows and parts are cut by measured speed, so that each
takes no longer than from one showing to the next.
"""

from __future__ import annotations

import copy
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_EXCEPTION, Future, ThreadPoolExecutor, wait
from typing import Any, NamedTuple

import numpy as np

from renderformer.data.arrays import Float32Array, Int64Array
from renderformer.data.camera import Camera
from renderformer.data.rays.direct import CHUNK
from renderformer.data.rays.raycast import RayCaster
from renderformer.data.rays.tree import Tree

# Sides of windows: the least, that of the first, the largest, and what they are multiples of. Light is gathered beside
# a window, too, so that small ones cost more; and a window shows nothing until its light is gathered.
SMALL_SIDE, FIRST_SIDE, LARGE_SIDE, GRAIN = 48, 96, 192, 16
# Samples that a thread draws at once: the least, and in the first window. Few leave more to Python than to the
# processor.
FEW, FIRST = CHUNK // 8, CHUNK // 4
# By how much windows and parts grow from one to the next, at most.
GROWTH = 2.0
# Seconds between looks for something to show, once it is time.
PAUSE = 0.01
# Left, top, right and bottom in pixels.
Window = tuple[int, int, int, int]


class Piece(NamedTuple):
    """Pixels at columns x (M,) and rows y (M,) with their features (M, F)."""

    x: Int64Array
    y: Int64Array
    features: Float32Array


class Watched:
    """A ray caster whose feature images are shown as they grow.

    Args:
        show: called with pieces that are new, by the thread that wants the features; of two pieces with the same pixel
            the later one is better.
        check: called from time to time; an exception from it ends the work. See `checked`.
        seconds: from one call of `show` to the next.
        clock: seconds.
        threads: that draw, each a window of its own.
    """

    def __init__(
        self,
        caster: RayCaster,
        show: Callable[[list[Piece]], None],
        check: Callable[[], None],
        seconds: float,
        clock: Callable[[], float],
        threads: int,
    ) -> None:
        self._show, self._check, self._seconds, self._clock, self._threads = show, check, seconds, clock, threads
        self._caster = caster
        self._lock = threading.Lock()
        self._area, self._at_once = float(FIRST_SIDE**2), float(FIRST)
        # Seconds of a part. While one thread takes longer than from one call of `show` to the next, another one ends.
        self._slowest = seconds if threads == 1 else 1.5 * seconds

    def __getattr__(self, name: str) -> Any:
        return getattr(self._caster, name)

    def features(
        self, camera: Camera, width: int, height: int, *, progress: Any = None, **options: Any
    ) -> Float32Array:
        """As `RayCaster.features`."""
        growing = _Growing(width, height, self._windows(width, height))

        def work() -> None:
            with growing:
                while (window := growing.next_window()) is not None:
                    growing.put(window, self._drawn(growing, window, camera, options))

        with ThreadPoolExecutor(self._threads, "renderformer-window") as pool, growing:
            self._follow(growing, [pool.submit(work) for _ in range(self._threads)], progress)
        assert growing.image is not None
        return growing.image

    def _drawn(self, growing: _Growing, window: Window, camera: Camera, options: dict[str, Any]) -> Float32Array:
        """The features (h, w, F) of a window; its pieces are added when they are drawn."""
        watch = _Watch(self._clock)

        def shown(x: Int64Array, y: Int64Array, features: Float32Array) -> None:
            watch.tick()
            if len(x):
                growing.add(Piece(x, y, features))

        part = self._caster.features(
            camera, growing.width, growing.height, window=window, threads=1, at_once=int(self._at_once),
            progress=watch.progress, shown=shown, **options,
        )  # fmt: skip
        self._adapt(window, watch)
        return part

    def _follow(self, growing: _Growing, running: list[Future[None]], progress: Any) -> None:
        """Show what comes, by the clock, until all threads have ended."""
        due = self._clock() + self._seconds
        while running:
            done, left = wait(running, max(due - self._clock(), PAUSE), FIRST_EXCEPTION)
            for thread in done:
                thread.result()
            running = list(left)
            self._check()
            if self._clock() < due and running:
                continue
            pieces = growing.take(everything=not running)
            if pieces:
                due = self._clock() + self._seconds
                self._show(pieces)
            if progress is not None:
                progress(growing.done, growing.width * growing.height)

    def _windows(self, width: int, height: int) -> Iterator[Window]:
        """Windows row by row, each of the area that is right when its turn comes; smaller in the end, so that all
        threads end at about the same time."""
        top = 0
        while top < height:
            bottom = _end(top, min(self._area, self._share((height - top) * width)) ** 0.5, height)
            left = 0
            while left < width:
                rest = (height - bottom) * width + (width - left) * (bottom - top)
                right = _end(left, min(self._area, self._share(rest)) / (bottom - top), width)
                yield left, top, right, bottom
                left = right
            top = bottom

    def _share(self, rest: float) -> float:
        """Most pixels of a window when so many are left."""
        return rest / (2 * self._threads)

    def _adapt(self, window: Window, watch: _Watch) -> None:
        """Cut later windows by the time in which the light of this one was gathered, and parts by that of its parts."""
        with self._lock:
            area = (window[2] - window[0]) * (window[3] - window[1])
            self._area = min(area * self._seconds / watch.gather, GROWTH * self._area, LARGE_SIDE**2)
            at_once = self._at_once * self._slowest / watch.slow
            self._at_once = max(min(at_once, GROWTH * self._at_once, CHUNK), FEW)


class _Watch:
    """Times of a window in seconds: in which its light was gathered, and of its slow parts."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock, self._last = clock, clock()
        self._parts: list[float] = []
        self.gather = 0.0

    def progress(self, done: int, total: int) -> None:
        """As of `RayCaster.features`: the first that ends is the gathering of light."""
        if done == total and not self.gather:
            self.gather = self._lap()

    def tick(self) -> None:
        """Note that a part is done."""
        self._parts.append(self._lap())

    @property
    def slow(self) -> float:
        """Mean of the slower half: those along outlines are quick, and a single one may have waited for a processor."""
        return float(np.mean(sorted(self._parts)[len(self._parts) // 2 :]))

    def _lap(self) -> float:
        seconds, self._last = max(self._clock() - self._last, 1e-6), self._clock()
        return seconds


class _Growing:
    """What threads have drawn of a feature image (h, w, F), and which windows are left."""

    def __init__(self, width: int, height: int, windows: Iterator[Window]) -> None:
        self.width, self.height, self.done = width, height, 0
        self.image: Float32Array | None = None
        self._windows, self._pieces, self._failed = windows, list[Piece](), False
        self._lock = threading.Lock()

    def __enter__(self) -> None:
        """A context whose exception leaves no window to draw."""

    def __exit__(self, kind: Any, *_: object) -> None:
        self._failed = self._failed or kind is not None

    def next_window(self) -> Window | None:
        with self._lock:
            return None if self._failed else next(self._windows, None)

    def put(self, window: Window, part: Float32Array) -> None:
        """Take a finished window."""
        left, top, right, bottom = window
        with self._lock:
            if self.image is None:
                self.image = np.zeros((self.height, self.width, part.shape[2]), np.float32)
            self.done += (right - left) * (bottom - top)
        self.image[top:bottom, left:right] = part

    def add(self, piece: Piece) -> None:
        with self._lock:
            self._pieces.append(piece)

    def take(self, everything: bool) -> list[Piece]:
        """The pieces that came since the last call. Unless `everything` is wanted, the last of several stays for the
        next call, in case that nothing else comes until then."""
        with self._lock:
            count = len(self._pieces) if everything else max(len(self._pieces) - 1, min(len(self._pieces), 1))
            taken, self._pieces = self._pieces[:count], self._pieces[count:]
        return taken


class _Checked:
    """A tree that asks before it casts rays."""

    def __init__(self, tree: Tree, check: Callable[[], None]) -> None:
        self._tree, self._check = tree, check

    def first(self, *rays: Any) -> Any:
        self._check()
        return self._tree.first(*rays)

    def met(self, *rays: Any) -> Any:
        self._check()
        return self._tree.met(*rays)


def checked(caster: RayCaster, check: Callable[[], None]) -> RayCaster:
    """The same caster, which calls `check` before it casts rays, from any thread; its exceptions end the work."""
    result = copy.copy(caster)
    result.tree = _Checked(caster.tree, check)  # type: ignore[assignment]
    if caster.cache is not None:
        result.cache = caster.cache.on(result)
    return result


def _end(start: int, length: float, whole: int) -> int:
    """Where a window ends that starts somewhere and has about this length; the last one takes what is left."""
    end = start + max(SMALL_SIDE, int(length) // GRAIN * GRAIN)
    return whole if whole - end < SMALL_SIDE // 2 else end
