"""Renders the newest camera on one worker thread, coarse while it moves and finer when it is still.

A request is a scene, a camera and a size. Where a scene has a light cache, the worker draws a draft with as many pixels
as fit the time budget at the measured speed, adds pixels until each has a sample, and then has the model draw window by
window over it (drafts.py). Without a light cache it draws the picture at the largest size that fits the budget and, if
no newer request arrives for a moment, at larger sizes up to the full one.

The result of the view-independent stage is cached by a hash of the scene, so that a camera move runs the view stage
alone. An edited scene is first drawn with the indirect light of the one before.
"""

from __future__ import annotations

import functools
import logging
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Protocol

from renderformer.data.rays.moving import MovingTrees
from renderformer.data.rays.raycast import processors
from renderformer.image import Image
from renderformer.renderer import Cancelled
from renderformer.viewer.backdrops import Backdrop
from renderformer.viewer.drafts import Draft
from renderformer.viewer.feature_memory import FeatureMemory
from renderformer.viewer.fingerprints import fingerprint
from renderformer.viewer.frames import Changes, Frame, Request
from renderformer.viewer.light_pictures import LightPictures
from renderformer.viewer.lit_scenes import LitScenes
from renderformer.viewer.sizes import Sizes
from renderformer.viewer.watched import Piece, Watched, checked

if TYPE_CHECKING:
    from renderformer.data.camera import Camera
    from renderformer.data.progress import Progress
    from renderformer.data.rays.raycast import RayCaster
    from renderformer.data.scene import Scene
    from renderformer.renderer import Cancel, LitScene

# Seconds: budget of one picture while the camera moves; time without a request after which the camera is still; time
# after which a newer scene cancels the picture of an old one.
BUDGET, SETTLE, PATIENCE = 0.08, 0.15, 2.0
# Factor from the budget of one picture to that of the next finer one.
GROWTH = 6.0
# Seconds from one picture of a growing draft to the next.
STEP = 0.1
# Pixels of a draft per second, before any was drawn.
PACE = 1e5


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
        self._newest: Request | None = None
        self._done = 0
        self._closed = False
        # Whether the newest request failed.
        self._broken = False
        # Numbers of the newest request that was given up, and of the one in progress.
        self._given_up, self._serving = 0, 1
        # Whether to cancel the picture in progress.
        self._stop: Callable[[], bool] = lambda: False
        self._lit = LitScenes()
        self._lights = LightPictures(engine)
        self._sizes = Sizes()
        self._memory = FeatureMemory()
        self.trees = MovingTrees()
        # Number of frames so far.
        self._frames = 0
        # Pixels of a draft per second.
        self._pace = PACE
        # See `_checked`.
        self._checking: tuple[RayCaster, RayCaster] | None = None
        self._thread = threading.Thread(target=self._work, name="renderformer-viewer", daemon=True)
        self._thread.start()

    def submit(self, scene: Scene, camera: Camera, size: tuple[int, int], tag: Any = None, coarse: bool = True) -> int:
        """Request a picture in place of older requests; returns the number of the request, 0 after `close`.

        A request for what is being drawn, or was drawn last, changes nothing.

        Args:
            size: full (width, height) in pixels.
            tag: passed on to the frames.
            coarse: whether coarse pictures come first.
        """
        key = fingerprint(scene)
        with self._condition:
            if self._closed:
                return 0
            if self._newest is not None and self._newest.same(key, camera, size) and not self._broken:
                return self._newest.number
            number = self._newest.number + 1 if self._newest else 1
            self._broken = False
            self._newest = Request(number, scene, key, camera, size, self._clock.now(), tag, coarse)
            self._condition.notify_all()
            return number

    def give_up(self) -> None:
        """Stop drawing; the newest request counts as failed."""
        with self._condition:
            if self._newest is not None:
                self._given_up, self._broken = self._newest.number, True

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
        return self._lit.get(fingerprint(scene))

    def close(self, timeout: float | None = 10.0) -> bool:
        """Cancel the picture in progress and stop; returns whether the worker has ended.

        May be called again, and from a callback, where it does not wait.
        """
        with self._condition:
            self._closed = True
            self._condition.notify_all()
        self.trees.close()
        if threading.current_thread() is not self._thread:
            self._thread.join(timeout)
        return not self._thread.is_alive()

    def _work(self) -> None:
        with ThreadPoolExecutor(processors(), "renderformer-draft") as self._pool:
            while (request := self._next()) is not None:
                try:
                    if self._newest_done():
                        self._prepare(request)
                        continue
                    self._serve(request)
                except Cancelled:
                    if request.number > self._given_up:
                        continue
                except Exception as error:
                    self._broken = True
                    self._report(self._on_error, error)
                with self._condition:
                    self._done = request.number
                    self._condition.notify_all()

    def _next(self) -> Request | None:
        with self._condition:
            while not self._closed and self._newest_done() and not self._lacking():
                self._clock.wait(self._condition, None)
            return None if self._closed else self._newest

    def prepare_lights(self, wanted: bool = True) -> None:
        """Draw the picture of each light when there is nothing else to do, so that edits of lights show at once."""
        with self._condition:
            self._lights.wanted = wanted
            self._condition.notify_all()

    def _lacking(self) -> bool:
        """Whether the pictures of the lights in the newest view are wanted."""
        newest = self._newest
        return newest is not None and not self._broken and self._lights.lack(newest.camera, newest.size)

    def _prepare(self, request: Request) -> None:
        self._stop = lambda: self._newer(request)
        self._lights.make(self._lit.find(request.key, request.scene), request.camera, request.size, self._cancelled)

    def _relit(self, request: Request) -> bool:
        """Draw a request that changes lights alone from the pictures of its lights, and the exact picture once it
        rests; returns whether that is possible."""
        started = self._clock.now()
        image = self._lights.picture(request.scene, request.camera, request.size)
        if image is None:
            return False
        self._stop = lambda: self._newer(request)
        self._show(request, image, started)
        self._settle(request)
        lit, encode_seconds = self._lit.find(request.key, request.scene), 0.0
        if lit is None:
            lit, encode_seconds = self._light(request)
        self._draw(request, lit, request.size, encode_seconds)
        return True

    def _serve(self, request: Request) -> None:
        """Draw one request, coarse to fine; raises Cancelled if a newer request replaces it."""
        if self._relit(request):
            return
        # The coarse picture is finished although the camera has moved on: else no picture would appear during a move.
        # Only a slow picture of an old scene is cancelled.
        started, self._serving = self._clock.now(), request.number
        if not request.coarse:
            self._stop = lambda: self._newer(request)
            lit, encode_seconds = self._lit.find(request.key, request.scene), 0.0
            if lit is None:
                lit, encode_seconds = self._light(request)
            self._draw(request, lit, request.size, encode_seconds)
            return
        self._stop = lambda: self._newer(request, other_scene=True) and self._clock.now() - started > PATIENCE
        lit, source, encode_seconds = self._lit.find(request.key, request.scene), None, 0.0
        if lit is None:
            source = self._lit.edited(request.scene, self.trees)
        if lit is None and source is None:
            lit, encode_seconds = self._light(request)
        source = source or lit
        assert source is not None
        if getattr(source.caster, "cache", None) is None:
            assert lit is not None
            self._draw_sizes(request, lit, encode_seconds)
        else:
            spent = self._clock.now() - started - encode_seconds
            self._draw_growing(request, lit, source, encode_seconds, max(self.budget - spent, self.budget / 4))

    def _draw_sizes(self, request: Request, lit: LitScene, encode_seconds: float) -> None:
        """Draw pictures of growing sizes."""
        sizes, budget = self._sizes.until(request.size), self.budget
        size = self._sizes.affordable(sizes, budget)
        self._draw(request, lit, size, encode_seconds)
        self._stop = lambda: self._newer(request)
        while size != sizes[-1]:
            self._settle(request)
            budget *= GROWTH
            size = max(self._sizes.affordable(sizes, budget), sizes[sizes.index(size) + 1])
            self._draw(request, lit, size, 0.0)

    def _draw_growing(
        self, request: Request, lit: LitScene | None, source: LitScene, encode_seconds: float, budget: float
    ) -> None:
        """Draw a draft of `source`, whose first picture takes a budget of seconds, until every pixel has a sample, and
        then what the model makes of the lit scene."""
        width, height = request.size
        camera, environment = source.unit.camera(request.camera), request.scene.environment
        assert source.caster is not None
        stride = Draft.stride_of(width, height, self._pace * budget)
        started = self._clock.now()
        caster, clock = self._checked(source.caster), self._clock.now
        draft = Draft(caster, environment, camera, width, height, stride, self._pool, clock)
        self._keep_pace(draft.radiance.shape[0] * draft.radiance.shape[1], started)
        self._publish(request, draft, source, encode_seconds, started)
        self._stop = lambda: self._newer(request)
        showing = 0.0
        while not draft.finished:
            self._check_running()
            started, stride = self._clock.now(), draft.stride
            count = draft.grow(STEP - showing, self._pace)
            drawn = self._clock.now()
            if draft.stride == stride:
                self._keep_pace(count, started)
            self._publish(request, draft, source, 0.0, started)
            showing = self._clock.now() - drawn
        if lit is None:
            lit, encode_seconds = self._light(request)
        assert lit.caster is not None
        started = self._clock.now()

        def show(pieces: list[Piece]) -> None:
            for piece in pieces:
                draft.put(*piece)
            self._publish(request, draft, source, 0.0, started)

        backdrop = Backdrop(environment, request.camera, width, height)
        watched: Any = Watched(
            self._checked(lit.caster),
            backdrop,
            show,
            self._check_running,
            STEP,
            clock,
            processors(),
            memory=self._memory,
        )
        self._draw(request, replace(lit, caster=watched), request.size, encode_seconds, draft)

    def _checked(self, caster: RayCaster) -> RayCaster:
        """A caster that stops when the picture in progress is given up; that of the last call is kept, with what it
        has found out about the scene."""
        if self._checking is None or self._checking[0] is not caster:
            self._checking = caster, checked(caster, self._check_running)
        return self._checking[1]

    def _keep_pace(self, pixels: int, started: float) -> None:
        """Update the pixels of a draft per second."""
        self._pace = (self._pace + pixels / max(self._clock.now() - started, 1e-6)) / 2

    def _publish(self, request: Request, draft: Draft, source: LitScene, encode_seconds: float, started: float) -> None:
        changes = draft.take_changes()
        alpha, background = draft.alpha, draft.background
        image = Image(draft.radiance, request.camera, alpha=alpha, background=background, copy=False)
        self._show(request, image, started, encode_seconds, source.notes, draft.span, changes)

    def _show(
        self,
        request: Request,
        image: Image,
        started: float,
        encode_seconds: float = 0.0,
        notes: tuple[str, ...] = (),
        span: tuple[float, float] | None = None,
        changes: Changes | None = None,
    ) -> None:
        """Publish a picture that is not the final one."""
        self._check_running()
        now = self._clock.now()
        frame = Frame(
            image, request.number, request.camera, request.size, request.key, False, encode_seconds, now - started,
            request.time, now - request.time, notes, request.tag, span, changes, self._count(),
        )  # fmt: skip
        self._report(self._on_frame, frame)

    def _count(self) -> int:
        self._frames += 1
        return self._frames

    def _settle(self, request: Request) -> None:
        """Wait until the camera is still."""
        with self._condition:
            while True:
                remaining = request.time + self.settle - self._clock.now()
                self._check_running()
                if remaining <= 0:
                    return
                self._clock.wait(self._condition, remaining)

    def _light(self, request: Request) -> tuple[LitScene, float]:
        started = self._clock.now()
        lit = self._engine.encode(request.scene, self._progress, self._cancelled)
        self._lit.keep(request.key, lit)
        return lit, self._clock.now() - started

    def _draw(
        self,
        request: Request,
        lit: LitScene,
        size: tuple[int, int],
        encode_seconds: float,
        draft: Draft | None = None,
    ) -> None:
        """Draw and publish a picture; `draft` is what is shown before it."""
        self._check_running()
        started = self._clock.now()
        image = self._engine.render(lit, size, request.camera, self._progress, self._cancelled)[0]
        now = self._clock.now()
        seconds = now - started
        self._sizes.measure(size, max(seconds, 1e-6))
        self._check_running()
        final = size == request.size
        frame = Frame(
            image, request.number, request.camera, request.size, request.key, final, encode_seconds, seconds,
            request.time, now - request.time, lit.notes, request.tag, None,
            None if draft is None else draft.changes_to(image), self._count(),
        )  # fmt: skip
        self._report(self._on_frame, frame)

    def _newer(self, request: Request, other_scene: bool = False) -> bool:
        newest = self._newest
        if newest is None or newest.number == request.number:
            return False
        return not other_scene or newest.key != request.key

    def _cancelled(self) -> bool:
        """Whether to cancel the picture in progress; the engine asks between layers and between chunks of rays."""
        return self._closed or self._serving <= self._given_up or self._stop()

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
