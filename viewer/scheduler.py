"""Renders the newest camera, coarse while it moves and finer when it is still, on one worker thread.

A request is a scene, a camera and a size. The worker draws it first at the largest size that measured speed promises
within the time budget, and once no newer request has come for a moment, at larger ones up to the full size. The
view-independent stage is kept by a hash of the scene, so that a camera move runs the view stage alone.
"""

from __future__ import annotations

import logging
import math
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from renderformer.renderer import Cancelled
from renderformer.viewer.document import fingerprint

if TYPE_CHECKING:
    from renderformer.data.camera import Camera
    from renderformer.data.scene import Scene
    from renderformer.image import Image
    from renderformer.renderer import Cancel, LitScene, Progress

# Shorter side in pixels of what may be drawn on the way to the full size; multiples of 32, so that no model pads.
LADDER = (32, 64, 96, 128, 192, 256, 384, 512, 768, 1024, 1536, 2048)
# Seconds: of one picture while the camera moves; without a request, until it counts as still; that a picture of an old
# scene may take before a newer one stops it.
BUDGET, SETTLE, PATIENCE = 0.08, 0.15, 2.0
# Each finer picture may take this many times longer than the one before.
GROWTH = 6.0
# Scenes whose view-independent stage is kept: what undo and redo go back and forth between.
KEPT = 4
# Sizes whose speed is remembered; a window that is resized has many.
MEASURED = 256


class Engine(Protocol):
    """What the scheduler needs of a `Renderer`."""

    def encode(self, scene: Scene, progress: Progress | None = None, cancel: Cancel | None = None) -> LitScene: ...

    def render(
        self,
        scene: Scene | LitScene,
        resolution: int | tuple[int, int] = 512,
        cameras: Camera | None = None,
        progress: Progress | None = None,
        cancel: Cancel | None = None,
    ) -> list[Image]: ...


class Clock:
    """Time as the scheduler sees it; tests put their own in its place."""

    def now(self) -> float:
        """Seconds."""
        return time.monotonic()

    def wait(self, condition: threading.Condition, seconds: float | None) -> None:
        """Wait on a condition that is held, until notified or for some time."""
        condition.wait(seconds)


@dataclass(frozen=True, eq=False)
class Frame:
    """A picture that became ready.

    Attributes:
        request: number of the request, growing.
        camera, size: what was asked for; the picture may be smaller than `size`.
        scene: its fingerprint.
        final: whether the picture has the full size.
        encode_seconds: of the view-independent stage, 0 when it was kept from before; seconds: of the view stage.
        notes: of the view-independent stage.
        requested: when, by the scheduler's clock; latency: seconds from then to this picture.
        tag: what was given to `submit`.
    """

    image: Image
    request: int
    camera: Camera
    size: tuple[int, int]
    scene: str
    final: bool
    encode_seconds: float
    seconds: float
    requested: float
    latency: float
    notes: tuple[str, ...] = ()
    tag: Any = None


@dataclass(frozen=True, eq=False)
class _Request:
    number: int
    scene: Scene
    key: str
    camera: Camera
    size: tuple[int, int]
    time: float
    tag: Any


class RenderScheduler:
    """See the module. `submit`, `wait` and `close` may be called from any thread.

    Args:
        engine: a `Renderer`, or anything like it.
        on_frame: called on the worker thread with each Frame, in the order of the requests, coarse before fine.
        on_error: called on the worker thread with what a render raised; the worker goes on with the next request.
        on_progress: called on the worker thread with (stage, done, total).
        clock: of the scheduler; for tests.
        budget: seconds for a picture while the camera moves.
    """

    def __init__(
        self,
        engine: Engine,
        on_frame: Callable[[Frame], None],
        on_error: Callable[[Exception], None] | None = None,
        on_progress: Progress | None = None,
        clock: Clock | None = None,
        budget: float = BUDGET,
        settle: float = SETTLE,
    ) -> None:
        self._engine, self._clock = engine, clock or Clock()
        self._on_frame, self._on_error, self._on_progress = on_frame, on_error, on_progress
        self.budget, self.settle = budget, settle
        self._condition = threading.Condition()
        self._newest: _Request | None = None
        self._done = 0
        self._closed = False
        # Whether what is being drawn now should be given up.
        self._stop: Callable[[], bool] = lambda: False
        self._lit: OrderedDict[str, LitScene] = OrderedDict()
        # Seconds of the view stage by size.
        self._speed: dict[tuple[int, int], float] = {}
        self._thread = threading.Thread(target=self._work, name="renderformer-viewer", daemon=True)
        self._thread.start()

    def submit(self, scene: Scene, camera: Camera, size: tuple[int, int], tag: Any = None) -> int:
        """Ask for a picture; older requests are dropped. The number of the request, 0 after `close`.

        Args:
            size: full (width, height) in pixels.
        """
        key = fingerprint(scene)
        with self._condition:
            if self._closed:
                return 0
            number = self._newest.number + 1 if self._newest else 1
            self._newest = _Request(number, scene, key, camera, size, self._clock.now(), tag)
            self._condition.notify_all()
            return number

    def wait(self, timeout: float | None = None) -> bool:
        """Block until the newest request is drawn in full, or failed; False when that takes longer than `timeout`
        seconds of real time, or the scheduler was closed."""
        with self._condition:
            self._condition.wait_for(self._idle, timeout)
            return not self._closed and self._newest_done()

    def _idle(self) -> bool:
        return self._closed or self._newest_done()

    def _newest_done(self) -> bool:
        return self._newest is None or self._done >= self._newest.number

    def age(self, frame: Frame) -> float:
        """Seconds since a picture was asked for."""
        return self._clock.now() - frame.requested

    def lit(self, scene: Scene) -> LitScene | None:
        """The view-independent stage of a scene, if it is kept."""
        with self._condition:
            return self._lit.get(fingerprint(scene))

    def close(self, timeout: float | None = 10.0) -> bool:
        """Stop; what is being drawn is abandoned. Whether the worker has ended. May be called again, and from a
        callback, where it does not wait."""
        with self._condition:
            self._closed = True
            self._condition.notify_all()
        if threading.current_thread() is not self._thread:
            self._thread.join(timeout)
        return not self._thread.is_alive()

    def _work(self) -> None:
        while (request := self._next()) is not None:
            try:
                self._serve(request)
            except Cancelled:
                continue
            except Exception as error:
                self._report(self._on_error, error)
            with self._condition:
                self._done = request.number
                self._condition.notify_all()

    def _next(self) -> _Request | None:
        with self._condition:
            while not self._closed and self._newest_done():
                self._clock.wait(self._condition, None)
            return None if self._closed else self._newest

    def _serve(self, request: _Request) -> None:
        """Draw one request, coarse to fine; raises Cancelled once a newer one is there."""
        sizes = self._sizes(request.size)
        # What the camera sees while it moves is finished even when a newer one is there: if every move stopped the
        # picture of the last one, none would appear. Only what takes long for an old scene is stopped.
        started = self._clock.now()
        self._stop = lambda: self._newer(request, other_scene=True) and self._clock.now() - started > PATIENCE
        lit, encode_seconds = self._light(request)
        budget = self.budget
        size = self._affordable(sizes, budget)
        self._draw(request, lit, size, encode_seconds)
        self._stop = lambda: self._newer(request)
        while size != sizes[-1]:
            self._settle(request)
            budget *= GROWTH
            size = max(self._affordable(sizes, budget), sizes[sizes.index(size) + 1])
            self._draw(request, lit, size, 0.0)

    def _settle(self, request: _Request) -> None:
        """Wait until the camera counts as still."""
        with self._condition:
            while True:
                left = request.time + self.settle - self._clock.now()
                self._check_running()
                if left <= 0:
                    return
                self._clock.wait(self._condition, left)

    def _light(self, request: _Request) -> tuple[LitScene, float]:
        with self._condition:
            if request.key in self._lit:
                self._lit.move_to_end(request.key)
                return self._lit[request.key], 0.0
        started = self._clock.now()
        lit = self._engine.encode(request.scene, self._progress, self._cancelled)
        with self._condition:
            self._lit[request.key] = lit
            while len(self._lit) > KEPT:
                self._lit.popitem(last=False)
        return lit, self._clock.now() - started

    def _draw(self, request: _Request, lit: LitScene, size: tuple[int, int], encode_seconds: float) -> None:
        self._check_running()
        started = self._clock.now()
        image = self._engine.render(lit, size, request.camera, self._progress, self._cancelled)[0]
        now = self._clock.now()
        seconds = now - started
        self._measured(size, max(seconds, 1e-6))
        self._check_running()
        final = size == request.size
        frame = Frame(
            image, request.number, request.camera, request.size, request.key, final, encode_seconds, seconds,
            request.time, now - request.time, lit.notes, request.tag,
        )  # fmt: skip
        self._report(self._on_frame, frame)

    def _measured(self, size: tuple[int, int], seconds: float) -> None:
        """Learn from one picture. What slows one size down, such as another scene, slows down all in proportion."""
        if len(self._speed) > MEASURED:
            self._speed.clear()
        factor = (1 + seconds / self._speed.setdefault(size, seconds)) / 2
        self._speed = {known: factor * value for known, value in self._speed.items()}

    @staticmethod
    def _sizes(full: tuple[int, int]) -> list[tuple[int, int]]:
        """What may be drawn of one size, coarse to fine; the last one is the size itself."""
        shorter = min(full)
        rungs = [side for side in LADDER if side < 0.8 * shorter]
        return [(max(1, round(full[0] * s / shorter)), max(1, round(full[1] * s / shorter))) for s in rungs] + [full]

    def _affordable(self, sizes: list[tuple[int, int]], budget: float) -> tuple[int, int]:
        """The largest size that takes no longer than `budget`, by what was measured; the smallest if none does.

        A size that was never drawn is judged from the next smaller one, by its pixels. Fixed costs make that too
        careful, never too bold; so a size that was measured above it had met some hindrance, and gets another chance.
        """
        best, per_pixel = sizes[0], math.inf
        for size in sizes:
            pixels = size[0] * size[1]
            per_pixel = min(per_pixel, self._speed.get(size, math.inf) / pixels)
            if per_pixel * pixels <= budget:
                best = size
        return best

    def _newer(self, request: _Request, other_scene: bool = False) -> bool:
        newest = self._newest
        if newest is None or newest.number == request.number:
            return False
        return not other_scene or newest.key != request.key

    def _cancelled(self) -> bool:
        """Whether the worker should leave what it draws; the engine asks between layers and between chunks of rays."""
        return self._closed or self._stop()

    def _check_running(self) -> None:
        if self._cancelled():
            raise Cancelled

    def _progress(self, stage: str, done: int, total: int) -> None:
        if self._on_progress is not None:
            self._report(self._on_progress, stage, done, total)

    def _report(self, callback: Callable[..., None] | None, *values: Any) -> None:
        """Call back; what a callback raises must not end the worker."""
        try:
            if callback is not None:
                callback(*values)
            elif isinstance(values[0], Exception):
                logging.getLogger(__name__).error("rendering failed: %s", values[0])
        except Exception:
            logging.getLogger(__name__).exception("a callback of the viewer failed")
