"""Feature images whose pixels are shown by the clock while others are still being drawn.

The picture is cut into windows, one for each thread at a time. A thread hands over what it has drawn piece by piece
(pieces.py): first the samples that every pixel gets, then those of edges. Before that it gathers the light of the
window, which shows nothing; windows are cut so that this takes no longer than from one showing to the next.
"""

from __future__ import annotations

import copy
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_EXCEPTION, Future, ThreadPoolExecutor, wait
from typing import Any, NamedTuple

from renderformer.data.arrays import Float32Array, Int64Array
from renderformer.data.camera import Camera
from renderformer.data.environment import Environment
from renderformer.data.rays.backdrop import composited
from renderformer.data.rays.raycast import RayCaster
from renderformer.data.rays.tree import Tree
from renderformer.viewer.backdrops import Backdrop
from renderformer.viewer.feature_memory import FeatureMemory
from renderformer.viewer.pieces import Pieces, check_time

# Sides of windows: the least, that of the first, the largest, and what they are multiples of. Light is gathered beside
# a window, too, so that small ones cost more.
SMALL_SIDE, FIRST_SIDE, LARGE_SIDE, GRAIN = 48, 96, 192, 16
# CPU seconds in which the light of a window should be gathered, and those for which a window is cut in halves instead.
GATHER, LONG_GATHER = 0.1, 0.25
# By how much windows grow from one to the next, at most.
GROWTH = 2.0
# Seconds between looks for something to show, once it is time.
PAUSE = 0.01
# Left, top, right and bottom in pixels.
Window = tuple[int, int, int, int]


class Piece(NamedTuple):
    """Pixels at columns x (M,) and rows y (M,) with their radiance and coverage (M, 4)."""

    x: Int64Array
    y: Int64Array
    values: Float32Array


class Watched:
    """A ray caster whose feature images are shown as they grow.

    Args:
        backdrop: of the view.
        show: called with pieces that are new, by the thread that wants the features; of two pieces with the same pixel
            the later one is better.
        check: called from time to time; an exception from it ends the work. See `checked`.
        seconds: from one call of `show` to the next.
        clock: seconds.
        threads: that draw, each a window of its own.
        cpu: CPU seconds of a thread.
        memory: of the feature images; each holds until the next one is drawn.
    """

    def __init__(
        self,
        caster: RayCaster,
        backdrop: Backdrop,
        show: Callable[[list[Piece]], None],
        check: Callable[[], None],
        seconds: float,
        clock: Callable[[], float],
        threads: int,
        cpu: Callable[[], float] = time.thread_time,
        memory: FeatureMemory | None = None,
    ) -> None:
        self._show, self._check, self._seconds, self._clock, self._threads = show, check, seconds, clock, threads
        self._caster, self._backdrop, self._cpu, self._memory = caster, backdrop, cpu, memory or FeatureMemory()
        self._lock = threading.Lock()
        self._area = float(FIRST_SIDE**2)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._caster, name)

    def features(
        self, camera: Camera, width: int, height: int, *, progress: Any = None, **options: Any
    ) -> Float32Array:
        """As `RayCaster.features`."""
        growing = _Growing(width, height, self._windows(width, height), self._memory)

        def work() -> None:
            pieces = Pieces(self._cpu)
            with growing:
                while (window := growing.next_window()) is not None:
                    try:
                        growing.put(window, self._drawn(growing, window, camera, pieces, options))
                    except _LongGather:
                        growing.halve(window)

        with ThreadPoolExecutor(self._threads, "renderformer-window") as pool, growing:
            self._follow(growing, [pool.submit(work) for _ in range(self._threads)], progress)
        assert growing.image is not None
        return growing.image

    def composited(
        self, picture: Float32Array, covered: Float32Array, environment: Environment, camera: Camera
    ) -> tuple[Float32Array, Float32Array | None]:
        """As `RayCaster.composited`, of what was drawn."""
        return composited(picture, covered, environment, camera, self._backdrop.at)

    def _drawn(
        self, growing: _Growing, window: Window, camera: Camera, pieces: Pieces, options: dict[str, Any]
    ) -> Float32Array:
        """The features (h, w, F) of a window; its pieces are added when they are drawn."""
        area = (window[2] - window[0]) * (window[3] - window[1])
        started, gathered = self._cpu(), False

        def gathering(done: int, total: int) -> None:
            # The first that ends is the gathering of light.
            nonlocal gathered
            if gathered:
                return
            gathered, whole = done == total, (self._cpu() - started) * total / done
            if gathered or whole > LONG_GATHER:
                self._adapt(area, whole)
            if not gathered and whole > LONG_GATHER and area >= 2 * SMALL_SIDE**2:
                raise _LongGather

        def shown(x: Int64Array, y: Int64Array, features: Float32Array) -> None:
            if len(x):
                growing.add(Piece(x, y, self._backdrop.seen(x, y, features)))

        return self._caster.features(
            camera, growing.width, growing.height, window=window, parts=pieces, progress=gathering, shown=shown,
            **options,
        )  # fmt: skip

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

    def _adapt(self, area: int, gather: float) -> None:
        """Cut later windows by the time in which the light of one is gathered."""
        with self._lock:
            self._area = min(area * GATHER / max(gather, 1e-6), GROWTH * self._area, LARGE_SIDE**2)


class _LongGather(Exception):  # noqa: N818 - not an error
    """To gather the light of a window takes too long."""


class _Growing:
    """What threads have drawn of a feature image (h, w, F), and which windows are left."""

    def __init__(self, width: int, height: int, windows: Iterator[Window], memory: FeatureMemory) -> None:
        self.width, self.height, self.done = width, height, 0
        self.image: Float32Array | None = None
        self._windows, self._pieces, self._failed, self._memory = windows, list[Piece](), False, memory
        # Windows that are cut already.
        self._waiting: list[Window] = []
        self._lock = threading.Lock()

    def __enter__(self) -> None:
        """A context whose exception leaves no window to draw."""

    def __exit__(self, kind: Any, *_: object) -> None:
        self._failed = self._failed or kind is not None

    def next_window(self) -> Window | None:
        with self._lock:
            if self._failed:
                return None
            return self._waiting.pop() if self._waiting else next(self._windows, None)

    def halve(self, window: Window) -> None:
        """Cut a window that was to be drawn in two."""
        left, top, right, bottom = window
        across, down = (left + right) // 2, (top + bottom) // 2
        if right - left > bottom - top:
            halves = (across, top, right, bottom), (left, top, across, bottom)
        else:
            halves = (left, down, right, bottom), (left, top, right, down)
        with self._lock:
            self._waiting.extend(halves)

    def put(self, window: Window, part: Float32Array) -> None:
        """Take a finished window."""
        left, top, right, bottom = window
        with self._lock:
            if self.image is None:
                self.image = self._memory.array((self.height, self.width, part.shape[2]))
            self.done += (right - left) * (bottom - top)
        self.image[top:bottom, left:right] = part

    def add(self, piece: Piece) -> None:
        with self._lock:
            self._pieces.append(piece)

    def take(self, everything: bool) -> list[Piece]:
        """Pieces that came since the last call. Unless `everything` is wanted, half of several stays for the next
        calls, in case that threads gather light and nothing else comes until then."""
        with self._lock:
            count = len(self._pieces) if everything else -(-len(self._pieces) // 2)
            taken, self._pieces = self._pieces[:count], self._pieces[count:]
        return taken


class _Checked:
    """A tree that asks before it casts rays."""

    def __init__(self, tree: Tree, check: Callable[[], None]) -> None:
        self._tree, self._check = tree, check

    def first(self, *rays: Any) -> Any:
        self._asked()
        return self._tree.first(*rays)

    def met(self, *rays: Any) -> Any:
        self._asked()
        return self._tree.met(*rays)

    def _asked(self) -> None:
        self._check()
        check_time()


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
