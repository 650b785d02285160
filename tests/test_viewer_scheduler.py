"""The viewer's render scheduler under a fake clock and a fake renderer: never stale, never stuck."""

from __future__ import annotations

import gc
import itertools
import os
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from helpers.ray_engine import RayEngine
from helpers.ray_engine import a_scene as ray_scene

from renderformer.data.camera import Camera
from renderformer.data.environment import Environment
from renderformer.data.errors import InputError
from renderformer.data.scene import Light, Mesh, Scene
from renderformer.data.trained_range import TrainedRange
from renderformer.data.unit_size import UnitSize
from renderformer.image import Image
from renderformer.renderer import Cancelled
from renderformer.viewer import scheduler as module
from renderformer.viewer.checks import SceneChecks
from renderformer.viewer.frames import Frame
from renderformer.viewer.lit_scenes import KEPT
from renderformer.viewer.scheduler import Clock, RenderScheduler
from renderformer.viewer.session import Session
from renderformer.viewer.sizes import MEASURED

FULL = (512, 384)
# Real seconds after which a test counts as stuck.
STUCK = 20.0


def a_scene(tint: float = 0.5) -> Scene:
    mesh = Mesh("part", [[[-0.3, 0, 0], [0.3, 0, 0], [0, 0.3, 0.2]]], materials=np.full(13, tint, np.float32) * 0.9)
    return Scene((mesh, Light().mesh()), (Camera.from_angles(),))


class FakeClock(Clock):
    """Time that stands still until somebody moves it."""

    def __init__(self) -> None:
        self.time = 0.0

    def now(self) -> float:
        return self.time

    def advance(self, seconds: float) -> None:
        self.time += seconds

    def wait(self, condition: threading.Condition, seconds: float | None) -> None:
        # Real time passes in small steps, so that the waiting thread sees the clock move.
        condition.wait(0.002)


class FakeEngine:
    """Takes `per_pixel` fake seconds for a pixel; a picture holds the number of its camera in every pixel."""

    def __init__(self, clock: FakeClock, per_pixel: float = 0.0, encode_seconds: float = 0.0) -> None:
        self.clock, self.per_pixel, self.encode_seconds = clock, per_pixel, encode_seconds
        self.encoded: list[Scene] = []
        self.drawn: list[tuple[float, tuple[int, int]]] = []
        self.during_encode: Callable[[Any], None] = lambda progress: None
        self.during_render: Callable[[Any, tuple[int, int]], None] = lambda progress, size: None

    def encode(self, scene: Scene, progress: Any = None, cancel: Any = None) -> Any:
        step = stoppable(progress, cancel)
        step("encode", 0, 1)
        self.during_encode(step)
        self.clock.advance(self.encode_seconds)
        self.encoded.append(scene)
        return SimpleNamespace(scene=scene, notes=("lit",), caster=None)

    def render(self, lit: Any, resolution: Any, camera: Any, progress: Any = None, cancel: Any = None) -> list[Image]:
        step = stoppable(progress, cancel)
        step("render", 0, 1)
        self.drawn.append((float(camera.name or -1), resolution))
        self.during_render(step, resolution)
        self.clock.advance(self.per_pixel * resolution[0] * resolution[1])
        value = float(camera.name or -1)
        return [Image(np.full((resolution[1], resolution[0], 3), value, np.float32), camera)]


def stoppable(progress: Any, cancel: Any) -> Callable[[str, int, int], None]:
    """A step of work as in `Renderer`: check for cancel, then report progress."""

    def step(stage: str, done: int, total: int) -> None:
        if cancel is not None and cancel():
            raise Cancelled
        if progress is not None:
            progress(stage, done, total)

    return step


def view(number: int) -> Camera:
    return Camera.from_angles(number, name=str(number))


@contextmanager
def running(engine: FakeEngine, **options: Any) -> Iterator[tuple[RenderScheduler, list[Frame], list[Exception]]]:
    frames: list[Frame] = []
    errors: list[Exception] = []
    options = {"on_frame": frames.append, "on_error": errors.append} | options
    scheduler = RenderScheduler(engine, clock=engine.clock, **options)  # type: ignore[arg-type]
    try:
        yield scheduler, frames, errors
    finally:
        assert scheduler.close(STUCK), "the worker is stuck"


def until(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + STUCK
    while not condition():
        assert time.monotonic() < deadline, "nothing happened"
        time.sleep(0.001)


def finish(scheduler: RenderScheduler, clock: FakeClock) -> None:
    """Let the clock run until the newest request is drawn in full."""
    deadline = time.monotonic() + STUCK
    while not scheduler.wait(0.002):
        clock.advance(0.05)
        assert time.monotonic() < deadline, "the newest request never became ready"


def check_order(frames: list[Frame]) -> None:
    """No stale frame after a newer one, and each request coarse before fine, of its own camera."""
    for before, after in itertools.pairwise(frames):
        assert after.request >= before.request
        if after.request == before.request:
            assert after.image.width > before.image.width
            assert not before.final
    for frame in frames:
        assert frame.image.hdr[0, 0, 0] == float(frame.camera.name)
        assert frame.final == ((frame.image.width, frame.image.height) == frame.size)


def test_coarse_at_once_and_finer_only_when_still() -> None:
    clock = FakeClock()
    engine = FakeEngine(clock, per_pixel=1e-5)
    with running(engine) as (scheduler, frames, _):
        scheduler.submit(a_scene(), view(1), FULL)
        until(lambda: frames)
        time.sleep(0.02)
        assert [frame.image.height for frame in frames] == [32]
        assert not scheduler.wait(0.0)
        clock.advance(scheduler.settle)
        assert scheduler.wait(STUCK)
        check_order(frames)
        assert frames[-1].final
        # Each picture takes at most GROWTH times the budget of the one before, judged by what was measured.
        assert 3 <= len(frames) <= 6
        assert frames[-1].notes == ("lit",)


def test_while_moving_pictures_grow_to_what_the_budget_allows_and_shrink_again() -> None:
    clock = FakeClock()
    engine = FakeEngine(clock, per_pixel=2e-6)
    with running(engine, budget=0.08) as (scheduler, frames, _):
        for number in range(12):
            scheduler.submit(a_scene(), view(number), FULL)
            until(lambda number=number: frames and frames[-1].request == number + 1)
        # 0.08 s are 40,000 pixels: 171 x 128 fits, 256 x 192 does not.
        assert (frames[-1].image.width, frames[-1].image.height) == (171, 128)
        engine.per_pixel *= 20
        for number in range(12, 40):
            scheduler.submit(a_scene(), view(number), FULL)
            until(lambda number=number: frames and frames[-1].request == number + 1)
        assert frames[-1].seconds <= 0.08
        check_order(frames)


def test_a_size_that_was_slow_once_is_tried_again() -> None:
    clock = FakeClock()
    engine = FakeEngine(clock, per_pixel=1e-6)
    hiccup = [50.0]
    engine.during_render = lambda progress, size: clock.advance(hiccup.pop() if hiccup and size == FULL else 0)
    with running(engine, budget=10.0) as (scheduler, frames, _):
        for number in range(4):
            scheduler.submit(a_scene(), view(number), FULL)
            finish(scheduler, clock)
        last = [frame for frame in frames if frame.request == 4]
        assert [frame.final for frame in last] == [True]


def test_a_storm_of_moves_ends_with_the_newest_and_skips_most() -> None:
    clock = FakeClock()
    engine = FakeEngine(clock, per_pixel=1e-6)
    engine.during_render = lambda progress, size: time.sleep(0.002)
    scene = a_scene()
    with running(engine) as (scheduler, frames, errors):
        for number in range(500):
            scheduler.submit(scene, view(number), FULL)
            clock.advance(0.01)
            if number % 50 == 0:
                time.sleep(0.005)
        finish(scheduler, clock)
        check_order(frames)
        assert frames[-1].final
        assert frames[-1].camera.name == "499"
        assert 2 < len(frames) < 300
        assert not errors
        assert len(engine.encoded) == 1


def test_moves_faster_than_pictures_do_not_starve_the_screen() -> None:
    clock = FakeClock()
    engine = FakeEngine(clock)
    with running(engine) as (scheduler, frames, _):
        numbers = itertools.count(1)

        def move_again(progress: Any, size: tuple[int, int]) -> None:
            if (number := next(numbers)) < 30:
                scheduler.submit(a_scene(), view(number), FULL)
                progress("cast rays", 1, 2)

        engine.during_render = move_again
        scheduler.submit(a_scene(), view(0), FULL)
        finish(scheduler, clock)
        check_order(frames)
        assert {frame.request for frame in frames} == set(range(1, 31))


def test_refinement_is_given_up_inside_a_picture() -> None:
    clock = FakeClock()
    engine = FakeEngine(clock, per_pixel=1e-7)
    inside = threading.Event()

    def endless(progress: Any, size: tuple[int, int]) -> None:
        if size == FULL and engine.drawn[-1][0] == 1:
            inside.set()
            while True:
                progress("cast rays", 1, 2)
                time.sleep(0.001)

    engine.during_render = endless
    with running(engine) as (scheduler, frames, errors):
        scheduler.submit(a_scene(), view(1), FULL)
        until(lambda: frames)
        clock.advance(1)
        assert inside.wait(STUCK)
        scheduler.submit(a_scene(), view(2), FULL)
        finish(scheduler, clock)
        check_order(frames)
        assert not [frame for frame in frames if frame.request == 1 and frame.final]
        assert frames[-1].camera.name == "2"
        assert not errors


def test_a_request_is_given_up_inside_a_stage_and_can_be_made_again() -> None:
    clock = FakeClock()
    engine = FakeEngine(clock, per_pixel=1e-7)
    entered, left = threading.Event(), threading.Event()

    def during(step: Any) -> None:
        entered.set()
        assert left.wait(STUCK)
        step("encode", 0, 1)

    engine.during_encode = during
    scene = a_scene()
    with running(engine) as (scheduler, frames, errors):
        scheduler.submit(scene, view(1), FULL, coarse=False)
        assert entered.wait(STUCK)
        scheduler.give_up()
        left.set()
        assert scheduler.wait(STUCK)
        assert (frames, errors, engine.encoded) == ([], [], [])
        scheduler.submit(scene, view(1), FULL, coarse=False)
        assert scheduler.wait(STUCK)
        assert [(frame.final, frame.image.width) for frame in frames] == [(True, FULL[0])]


def test_the_view_independent_stage_is_kept_by_contents() -> None:
    clock = FakeClock()
    engine = FakeEngine(clock, encode_seconds=0.3)
    with running(engine) as (scheduler, frames, _):
        for number in range(20):
            scheduler.submit(a_scene(), view(number), FULL)
            finish(scheduler, clock)
        assert len(engine.encoded) == 1
        assert frames[0].encode_seconds == pytest.approx(0.3)
        assert all(frame.encode_seconds == 0 for frame in frames[1:])
        scheduler.submit(a_scene(0.7), view(21), FULL)
        finish(scheduler, clock)
        scheduler.submit(a_scene(), view(22), FULL)
        finish(scheduler, clock)
        assert len(engine.encoded) == 2
        others = [a_scene(0.01 * number) for number in range(3 * KEPT)]
        for number, scene in enumerate(others):
            scheduler.submit(scene, view(number), FULL)
            finish(scheduler, clock)
        assert scheduler.lit(a_scene()) is None
        assert [scheduler.lit(scene) is not None for scene in others] == 2 * KEPT * [False] + KEPT * [True]


def test_a_long_stage_of_an_old_scene_is_given_up_a_short_one_is_finished() -> None:
    clock = FakeClock()
    engine = FakeEngine(clock)
    entered = threading.Event()

    def slow(progress: Any) -> None:
        entered.set()
        if not engine.encoded and not gave_up:
            gave_up.append(True)
            while True:
                progress("encode", 0, 1)
                time.sleep(0.001)

    gave_up: list[bool] = []
    engine.during_encode = slow
    with running(engine) as (scheduler, frames, _):
        scheduler.submit(a_scene(), view(1), FULL)
        assert entered.wait(STUCK)
        scheduler.submit(a_scene(0.8), view(2), FULL)
        time.sleep(0.02)
        assert not frames
        clock.advance(module.PATIENCE + 0.1)
        finish(scheduler, clock)
        assert frames[-1].camera.name == "2"
        assert len(engine.encoded) == 1


def test_edits_during_a_render_show_the_edited_scene_last() -> None:
    clock = FakeClock()
    engine = FakeEngine(clock, per_pixel=1e-6, encode_seconds=0.01)
    engine.during_render = lambda progress, size: time.sleep(0.001)
    with running(engine) as (scheduler, frames, errors):
        for number in range(60):
            scheduler.submit(a_scene(number / 100), view(number), FULL)
            time.sleep(0.0005)
            clock.advance(0.02)
        finish(scheduler, clock)
        check_order(frames)
        assert frames[-1].scene == module.fingerprint(a_scene(0.59))
        assert not errors


def test_errors_are_told_and_the_next_picture_comes() -> None:
    clock = FakeClock()
    engine = FakeEngine(clock)

    def fail(progress: Any, size: tuple[int, int]) -> None:
        if engine.drawn[-1][0] % 2:
            raise InputError("", f"camera {engine.drawn[-1][0]:g} is bad")

    engine.during_render = fail
    with running(engine) as (scheduler, frames, errors):
        for number in range(1, 7):
            scheduler.submit(a_scene(), view(number), FULL)
            finish(scheduler, clock)
        assert [str(error) for error in errors] == ["camera 1 is bad", "camera 3 is bad", "camera 5 is bad"]
        assert {frame.camera.name for frame in frames} == {"2", "4", "6"}


def test_callbacks_that_raise_do_not_end_the_worker(caplog: pytest.LogCaptureFixture) -> None:
    clock = FakeClock()
    engine = FakeEngine(clock)

    def raising(*values: Any) -> None:
        raise RuntimeError("front end is broken")

    with running(engine, on_frame=raising, on_error=raising, on_progress=raising) as (scheduler, _, _):
        scheduler.submit(a_scene(), view(1), FULL)
        finish(scheduler, clock)
        engine.during_render = raising
        scheduler.submit(a_scene(), view(2), FULL)
        finish(scheduler, clock)
        engine.during_render = lambda progress, size: None
        scheduler.submit(a_scene(), view(3), FULL)
        finish(scheduler, clock)
    assert engine.drawn[-1] == (3.0, FULL)
    assert "a callback of the viewer failed" in caplog.text


@pytest.mark.parametrize("where", ["idle", "encode", "coarse", "settle"])
def test_closing_in_the_middle_ends_the_worker(where: str) -> None:
    clock = FakeClock()
    engine = FakeEngine(clock)
    inside = threading.Event()

    def endless(progress: Any, size: object = None) -> None:
        inside.set()
        while True:
            progress(where, 0, 1)
            time.sleep(0.001)

    if where == "encode":
        engine.during_encode = endless
    elif where == "coarse":
        engine.during_render = endless
    with running(engine) as (scheduler, frames, errors):
        if where != "idle":
            scheduler.submit(a_scene(), view(1), FULL)
            until(lambda: frames if where == "settle" else inside.is_set())
        assert scheduler.close(STUCK)
        assert scheduler.close(STUCK)
        assert scheduler.submit(a_scene(), view(2), FULL) == 0
        assert not scheduler.wait(0.01)
        assert not errors
    assert "renderformer-viewer" not in [thread.name for thread in threading.enumerate()]


def test_closing_from_a_callback_does_not_wait_for_itself() -> None:
    clock = FakeClock()
    engine = FakeEngine(clock)
    box: list[RenderScheduler] = []
    with running(engine, on_frame=lambda frame: box[0].close()) as (scheduler, _, _):
        box.append(scheduler)
        scheduler.submit(a_scene(), view(1), FULL)
        assert not scheduler.wait(STUCK)
    assert len(engine.drawn) == 1


def test_memory_is_flat_over_a_thousand_moves() -> None:
    clock = FakeClock()
    engine = FakeEngine(clock)
    alive: weakref.WeakSet[Frame] = weakref.WeakSet()
    with running(engine, on_frame=alive.add) as (scheduler, _, _):
        scene = a_scene()
        for number in range(1000):
            # A window that is resized asks for a new size each time.
            scheduler.submit(scene, view(number), (64 + number, 64))
            if number % 10 == 0:
                finish(scheduler, clock)
        gc.collect()
        assert len(alive) < 5
        assert len(scheduler._sizes) <= MEASURED + 1
        engine.drawn.clear()


def a_session(clock: FakeClock, engine: FakeEngine) -> Session:
    engine.name, engine.device, engine.precision = "fake", "cpu", "fp32"  # type: ignore[attr-defined]
    engine.check = lambda scene: [f"{len(scene)} triangles"]  # type: ignore[attr-defined]
    engine.config = SimpleNamespace(trained=TrainedRange())  # type: ignore[attr-defined]
    return Session(a_scene(), engine, FULL, clock=clock)  # type: ignore[arg-type]


def test_a_session_draws_edits_and_gives_the_scene_back() -> None:
    clock = FakeClock()
    engine = FakeEngine(clock)
    session = a_session(clock, engine)
    try:
        original = session.result()
        session.request()
        finish(session.scheduler, clock)
        first = session.frame
        assert first is not None
        assert first.camera is original.cameras[0]
        # Exposure and tone map need no new inference.
        drawn = len(engine.drawn)
        engine.during_render = lambda progress, size: None
        before = session.picture()
        session.set_display("none", -2.0)
        assert before is not None
        assert (session.picture() == before).all() == bool((before == 0).all())
        assert len(engine.drawn) == drawn
        session.edit(lambda document: document.set_material("part", diffuse=(1, 0, 0)))
        finish(session.scheduler, clock)
        assert session.frame is not None
        assert session.frame.scene != first.scene
        assert session.undo().startswith("diffuse")
        finish(session.scheduler, clock)
        assert session.frame.scene == first.scene
        assert session.result() is original
        session.move(lambda orbit: orbit.dolly(9.0))
        assert any("held" in line for line in session.warnings())
        assert "2 triangles" in session.warnings()
        session.move(lambda orbit: orbit.bookmark("mine"))
        assert session.result().cameras[-1].name == "mine"
    finally:
        assert session.close()


def test_opening_a_mesh_tells_what_was_decided_and_has_no_walls() -> None:
    session = a_session(clock := FakeClock(), FakeEngine(clock))
    path = Path(__file__).parents[1] / "examples" / "assets" / "gear.stl"
    try:
        before = session.document.scene
        with pytest.raises(Cancelled):
            session.open(path, lambda: True)
        assert session.document.scene is before
        kind, notes = session.open(path, lambda: False)
        assert session.notes == notes
        assert not [mesh.name for mesh in session.document.scene.objects if "wall" in mesh.name]
    finally:
        assert session.close()
    assert kind == "neural"
    assert len(notes) == 1
    assert "gear.stl: Z taken for up: STL files usually are; --up y changes it" in notes[0]


def test_the_front_end_waits_for_nothing_while_a_file_is_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    session = a_session(clock := FakeClock(), FakeEngine(clock))
    measured = UnitSize.of
    free: list[bool] = []

    def ask() -> None:
        free.append(session.lock.acquire(timeout=1))
        if free[-1]:
            session.lock.release()

    def measure(scene: Scene, box: float) -> UnitSize:
        front_end = threading.Thread(target=ask)
        front_end.start()
        front_end.join()
        return measured(scene, box)

    monkeypatch.setattr("renderformer.viewer.opening.UnitSize.of", measure)
    try:
        session.open(Path(__file__).parents[1] / "examples" / "assets" / "boxes.glb")
        assert free == [True]
    finally:
        assert session.close()


def test_warnings_about_a_large_scene_come_later_and_those_of_an_older_one_never(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    scenes = [
        ray_scene().replace(name=name, environment=Environment(strength)) for name, strength in (("a", 1), ("b", 2))
    ]
    started, going = threading.Event(), threading.Event()

    def check(scene: Scene) -> list[str]:
        started.set()
        if scene.name == "a":
            assert going.wait(STUCK)
        return [f"{scene.name} {len(scene.cameras)}"]

    small = SceneChecks(check)
    assert small.lines(scenes[1]) == small.lines(scenes[1], again=False) == ["b 0"]
    started.clear()
    monkeypatch.setattr("renderformer.viewer.checks.LARGE", 1)
    large = SceneChecks(check)
    assert large.lines(scenes[0], again=False) == []
    assert large.lines(scenes[0]) == []
    assert started.wait(STUCK)
    assert large.lines(scenes[1]) in ([], ["b 0"])
    until(lambda: large.lines(scenes[1]) == ["b 0"])
    going.set()
    large.close()
    until(lambda: not [thread for thread in threading.enumerate() if thread.name == "renderformer-checks"])
    assert large.lines(scenes[1]) == ["b 0"]


def test_a_task_tells_how_far_it_is_is_given_up_and_ends_with_the_session() -> None:
    session = a_session(clock := FakeClock(), FakeEngine(clock))
    messages: list[str] = []
    errors: list[str] = []
    session.on_done, session.on_error = messages.append, errors.append
    going = threading.Event()

    def endless(progress: Any, cancel: Any) -> list[str]:
        for number in itertools.count():
            stoppable(progress, cancel)("video", number % 10, 10)
            going.set()
            time.sleep(0.001)
        return []

    try:
        task = session.start("saving a.mp4", endless)
        assert going.wait(STUCK)
        until(lambda: session.activity() is not None and session.activity()[0] == "saving a.mp4")  # type: ignore[index]
        with pytest.raises(InputError, match=r"saving a.mp4 is not done yet"):
            session.start("another", endless)
        task.cancel()
        until(lambda: session.task is None)
        until(lambda: messages)
        assert messages.pop() == "saving a.mp4: cancelled"
        assert not errors
        session.start("b", lambda progress, cancel: ["note"])
        until(lambda: messages)
        assert messages.pop() == "b: done; note"

        def fail(progress: Any, cancel: Any) -> list[str]:
            raise OSError("disk full\nmore")

        session.start("c", fail)
        until(lambda: errors)
        assert errors.pop() == "c: OSError: disk full"
        going.clear()
        session.start("last", endless)
        assert going.wait(STUCK)
    finally:
        assert session.close()
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("renderformer")]


def test_the_picture_is_late_once_it_is_old_and_of_another_camera() -> None:
    session = a_session(clock := FakeClock(), FakeEngine(clock))
    try:
        assert session.is_late()
        session.request()
        finish(session.scheduler, clock)
        clock.advance(100)
        assert not session.is_late()
        frame = session.frame
        assert frame is not None
        # A picture of an older camera is shown only for a short time, then not until one of this camera is ready.
        session.scheduler.close(STUCK)
        session.move(lambda orbit: orbit.orbit(10, 0))
        session.frame = replace(frame, requested=clock.now())
        assert not session.is_late()
        clock.advance(1)
        assert session.is_late()
        session.frame = replace(frame, requested=clock.now())
        assert session.is_late()
        session.frame = replace(frame, camera=session.orbit.camera)
        assert not session.is_late()
    finally:
        assert session.close()


def resident() -> float:
    """MB of this process in memory."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="needs /proc")
def test_memory_of_a_session_that_casts_rays_is_flat_over_a_thousand_moves() -> None:
    session = Session(ray_scene(), RayEngine(), 32)  # type: ignore[arg-type]

    def move(times: int) -> float:
        for _ in range(times):
            session.move(lambda orbit: orbit.orbit(1.0, 0.0))
            time.sleep(0.002)
        assert session.scheduler.wait(STUCK)
        gc.collect()
        return resident()

    try:
        before = move(200)
        assert move(1000) - before < 10
    finally:
        assert session.close()


def test_a_session_with_everything_hidden_says_so_and_goes_on() -> None:
    clock = FakeClock()
    engine = FakeEngine(clock)
    session = a_session(clock, engine)
    messages: list[str] = []
    session.on_error = messages.append
    try:
        for name in ("part", "light"):
            session.edit(lambda document, name=name: document.set_visible(name, False))
        assert "hidden" in messages[-1]
        assert any("hidden" in line for line in session.warnings())
        session.undo()
        finish(session.scheduler, clock)
        assert session.error == ""
    finally:
        assert session.close()
