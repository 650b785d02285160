"""Renders the newest camera on one worker thread, coarse while it moves and finer when it is still.

A request is a scene, a camera and a size. The worker first draws it at the largest size that fits the time budget at
the measured speed. If no newer request arrives for a moment, it draws larger sizes up to the full one. The result of
the view-independent stage is cached by a hash of the scene, so that a camera move runs the view stage alone.
"""

from __future__ import annotations

import functools
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
    from renderformer.data.progress import Progress
    from renderformer.data.scene import Scene
    from renderformer.image import Image
    from renderformer.renderer import Cancel, LitScene

# Shorter sides in pixels of coarse pictures; multiples of 32, so that no model pads.
LADDER = (32, 64, 96, 128, 192, 256, 384, 512, 768, 1024, 1536, 2048)
# Seconds: budget of one picture while the camera moves; time without a request after which the camera is still; time
# after which a newer scene cancels the picture of an old one.
BUDGET, SETTLE, PATIENCE = 0.08, 0.15, 2.0
# Factor from the budget of one picture to that of the next finer one.
GROWTH = 6.0
# Number of scenes in the cache, for undo and redo.
KEPT = 4
# Number of sizes with a measured speed; a window that is resized has many.
MEASURED = 256


class Engine(Protocol):
    """The part of `Renderer` that the scheduler uses."""

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
    """The time of a scheduler; tests replace it."""

    def now(self) -> float:
        """Seconds."""
        return time.monotonic()

    def wait(self, condition: threading.Condition, seconds: float | None) -> None:
        """Wait on an acquired condition until it is notified, at most for some seconds."""
        condition.wait(seconds)


@dataclass(frozen=True, eq=False)
class Frame:
    """A finished picture.

    Attributes:
        request: number of the request; newer requests have larger numbers.
        camera, size: of the request; the picture may be smaller than `size`.
        scene: fingerprint of the scene.
        final: whether the picture has the full size.
        encode_seconds: of the view-independent stage, 0 if it was cached.
        seconds: of the view stage.
        requested: time of the request by the scheduler's clock.
        latency: seconds from the request to the picture.
        notes: of the view-independent stage.
        tag: of the request.
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
        engine: a `Renderer`.
        on_frame: called with each Frame in the order of the requests, coarse before fine.
        on_error: called with the exception of a failed request; the worker goes on with the next one.
        on_progress: called with (stage, done, total).
        budget: seconds for a picture while the camera moves.
        settle: seconds without a request after which the camera is still.

    All callbacks run on the worker thread.
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
        self._on_frame, self._on_error = on_frame, on_error
        self._progress = functools.partial(self._report, on_progress)
        self.budget, self.settle = budget, settle
        self._condition = threading.Condition()
        self._newest: _Request | None = None
        self._done = 0
        self._closed = False
        # Whether to cancel the picture in progress.
        self._stop: Callable[[], bool] = lambda: False
        self._lit: OrderedDict[str, LitScene] = OrderedDict()
        # Seconds of the view stage by size.
        self._speed: dict[tuple[int, int], float] = {}
        self._thread = threading.Thread(target=self._work, name="renderformer-viewer", daemon=True)
        self._thread.start()

    def submit(self, scene: Scene, camera: Camera, size: tuple[int, int], tag: Any = None) -> int:
        """Request a picture in place of older requests; returns the number of the request, 0 after `close`.

        Args:
            size: full (width, height) in pixels.
            tag: passed on to the frames.
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
        """Wait until the newest request is drawn in full or has failed; False after `timeout` seconds or `close`."""
        with self._condition:
            self._condition.wait_for(lambda: self._closed or self._newest_done(), timeout)
            return not self._closed and self._newest_done()

    def _newest_done(self) -> bool:
        return self._newest is None or self._done >= self._newest.number

    def age(self, frame: Frame) -> float:
        """Seconds since the request of a picture."""
        return self._clock.now() - frame.requested

    def lit(self, scene: Scene) -> LitScene | None:
        """The lit scene from the cache, if it is there."""
        with self._condition:
            return self._lit.get(fingerprint(scene))

    def close(self, timeout: float | None = 10.0) -> bool:
        """Cancel the picture in progress and stop; returns whether the worker has ended.

        May be called again, and from a callback, where it does not wait.
        """
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
        """Draw one request, coarse to fine; raises Cancelled if a newer request replaces it."""
        sizes = self._sizes(request.size)
        # The coarse picture is finished although the camera has moved on: else no picture would appear during a move.
        # Only a slow picture of an old scene is cancelled.
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
        """Wait until the camera is still."""
        with self._condition:
            while True:
                remaining = request.time + self.settle - self._clock.now()
                self._check_running()
                if remaining <= 0:
                    return
                self._clock.wait(self._condition, remaining)

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
        self._measure(size, max(seconds, 1e-6))
        self._check_running()
        final = size == request.size
        frame = Frame(
            image, request.number, request.camera, request.size, request.key, final, encode_seconds, seconds,
            request.time, now - request.time, lit.notes, request.tag,
        )  # fmt: skip
        self._report(self._on_frame, frame)

    def _measure(self, size: tuple[int, int], seconds: float) -> None:
        """Update the speed of all sizes in proportion: a new scene slows all of them down alike."""
        if len(self._speed) > MEASURED:
            self._speed.clear()
        factor = (1 + seconds / self._speed.setdefault(size, seconds)) / 2
        self._speed = {key: factor * value for key, value in self._speed.items()}

    @staticmethod
    def _sizes(full: tuple[int, int]) -> list[tuple[int, int]]:
        """The sizes of the pictures of one request, coarse to fine, with the full size at the end."""
        shorter = min(full)
        sides = [side for side in LADDER if side < 0.8 * shorter]
        return [(max(1, round(full[0] * s / shorter)), max(1, round(full[1] * s / shorter))) for s in sides] + [full]

    def _affordable(self, sizes: list[tuple[int, int]], budget: float) -> tuple[int, int]:
        """The largest size that the measured speed allows in `budget` seconds; the smallest if there is none.

        The time per pixel of a size is at most that of any smaller size, since fixed costs weigh less in larger
        pictures. So a size without a measurement takes the value of a smaller one, and so does a size whose own
        measurement was slower, for example because the machine was busy.
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
        """Whether to cancel the picture in progress; the engine asks between layers and between chunks of rays."""
        return self._closed or self._stop()

    def _check_running(self) -> None:
        if self._cancelled():
            raise Cancelled

    def _report(self, callback: Callable[..., None] | None, *values: Any) -> None:
        """Call a callback; its exceptions must not end the worker."""
        try:
            if callback is not None:
                callback(*values)
            elif isinstance(values[0], Exception):
                logging.getLogger(__name__).error("rendering failed: %s", values[0])
        except Exception:
            logging.getLogger(__name__).exception("a callback of the viewer failed")
