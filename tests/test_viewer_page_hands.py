"""Hands on the page, in headless Chromium: a click chooses, the handles of viser move and turn."""

from __future__ import annotations

import contextlib
import tempfile
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from helpers.browser import CHROMIUM, Page, until
from helpers.ray_engine import a_scene
from helpers.shapes import box

from renderformer.data.scene import Material, Scene
from renderformer.viewer.gizmo import Lens
from renderformer.viewer.overlay import OUTLINE
from renderformer.viewer.placement import Placement

pytest.importorskip("viser", reason="the viewer extra is not installed")
web = pytest.importorskip("renderformer.viewer.web")
page_hands = pytest.importorskip("renderformer.viewer.page_hands")


@pytest.fixture
def shown() -> Scene:
    return a_scene().with_object(box(0.3, Material((0.2, 0.4, 0.8)), centre=(0.0, 0.0, -0.2)))


def outlined(page: Page) -> int:
    """Pixels in the colour of an outline, as JPEG leaves it."""
    width, height = page.canvas()
    return int((np.abs(page.screenshot()[:height, :width].astype(int) - OUTLINE).max(axis=2) < 60).sum())


def places_on(page: Page, session: Any, *points: Any) -> list[tuple[int, int]]:
    """Where points (3,) are on the page, in pixels."""
    pixels, _ = Lens(session.orbit.camera, *page.canvas()).project(np.array(points))
    return [(round(x), round(y)) for x, y in pixels]


def drag_handle(page: Page, session: Any, start: Any, end: Any, done: Callable[[], object], steps: int = 8) -> None:
    """Drag between points (3,) until something is done. A page draws handles some time after it got them; a drag that
    comes too early turns the camera, and a person tries again."""
    for _ in range(2):
        page.drag(*places_on(page, session, start, end), steps=steps)
        with contextlib.suppress(AssertionError):
            until(done, 20)
            return
        session.scheduler.wait(60)
    page.drag(*places_on(page, session, start, end), steps=steps)
    until(done, 20)


@pytest.mark.skipif(CHROMIUM is None, reason="Chromium is not installed (apt install chromium)")
def test_a_click_on_the_page_chooses_and_a_drag_of_a_handle_is_one_step(viewer: Any) -> None:
    session, document, panel = viewer.session, viewer.session.document, viewer.panel
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        page = Page(viewer.url, folder)
        try:
            until(lambda: viewer.server.get_clients() and session.scheduler.wait(60))
            time.sleep(2)
            before = outlined(page)

            def place(*point: float) -> tuple[int, int]:
                return places_on(page, session, point)[0]

            def press(point: tuple[int, int]) -> None:
                page.drag(point, point)

            seen = "[...document.querySelectorAll('label')].some(l => l.textContent === 'opacity' && l.offsetHeight && "
            seen += "l.closest('[aria-hidden=true]') === null)"
            assert not page.evaluate(seen)
            press(place(0.1, -0.1, -0.05))
            until(lambda: panel.selected is document["box"], 30)
            until(lambda: page.evaluate(seen), 30)
            until(lambda: outlined(page) > before + 50, 30)
            # Along the arm of X, from its middle.
            view, arm = session.orbit.view, page_hands.SHARE * session.orbit.view.distance
            time.sleep(1)
            page.drag(place(0.6 * arm, 0.0, -0.2), place(0.6 * arm + 0.2, 0.0, -0.2))
            until(lambda: document["box"].placement != Placement() and not document.in_stroke, 30)
            moved = document["box"].placement.translation
            assert moved == pytest.approx((0.2, 0.0, 0.0), abs=0.06)
            assert session.orbit.view == view
            panel.undo()
            assert document["box"].placement == Placement()
            assert panel.undo() == "nothing left"
        finally:
            page.close()


@pytest.mark.skipif(CHROMIUM is None, reason="Chromium is not installed (apt install chromium)")
def test_a_finger_chooses_by_a_tap_and_drags_a_handle_without_turning(viewer: Any) -> None:
    session, document, panel = viewer.session, viewer.session.document, viewer.panel
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        page = Page(viewer.url, folder, (360, 740), phone=True)
        try:
            until(lambda: viewer.server.get_clients() and page.evaluate("window.listens"), 60)
            until(lambda: session.view_size[0] < session.view_size[1] and session.scheduler.wait(60), 60)
            page.tap(*places_on(page, session, (0.1, -0.1, -0.05))[0])
            until(lambda: panel.selected is document["box"], 30)
            view, arm = session.orbit.view, page_hands.SHARE * session.orbit.view.distance
            start, end = places_on(page, session, (0.0, 0.0, -0.2 + 0.8 * arm), (0.0, 0.0, 0.8 * arm))
            for _ in range(3):
                # Where the page draws the handles late, the finger turns, and a person tries again.
                time.sleep(2)
                page.touch((start, end))
                with contextlib.suppress(AssertionError):
                    until(lambda: document["box"].placement != Placement() and not document.in_stroke, 10)
                    break
                viewer._apply(None, "", lambda: session.move(lambda orbit: setattr(orbit, "view", view)))
            assert document["box"].placement.translation == pytest.approx((0.0, 0.0, 0.2), abs=0.06)
            assert session.orbit.view.near(view)
        finally:
            page.close()


@pytest.mark.skipif(CHROMIUM is None, reason="Chromium is not installed (apt install chromium)")
def test_a_drag_along_an_axis_stretches_and_the_handles_come_back(viewer: Any) -> None:
    session, document, panel = viewer.session, viewer.session.document, viewer.panel
    viewer._apply(None, "", lambda: panel.choose("box"))
    viewer._apply(None, "", lambda: panel.place(rotation=(0.0, 0.0, 30.0)))
    viewer._apply(None, "", lambda: panel.set_mode("scale"))
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        page = Page(viewer.url, folder)
        try:
            until(lambda: viewer.server.get_clients() and session.scheduler.wait(60))
            time.sleep(2)
            arm = page_hands.SHARE * session.orbit.view.distance
            ends = document["box"].centre + np.outer((0.6, 1.1), arm * document["box"].placement.axes[:, 0])
            drag_handle(
                page, session, *ends, lambda: document["box"].placement.stretch[0] > 1 and not document.in_stroke
            )
            assert document["box"].placement.stretch == pytest.approx((1.5, 1.0, 1.0), abs=0.15)
            assert document["box"].placement.stretch[1:] == (1.0, 1.0)
            until(lambda: viewer._handles._handle.position == pytest.approx((0.0, 0.0, -0.2), abs=1e-6), 30)
            panel.undo()
            assert document["box"].placement.stretch == (1.0, 1.0, 1.0)
        finally:
            page.close()


@pytest.mark.skipif(CHROMIUM is None, reason="Chromium is not installed (apt install chromium)")
@pytest.mark.filterwarnings("error::DeprecationWarning")
def test_a_heavy_object_follows_the_handle_without_delay(viewer: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    session, document, panel = viewer.session, viewer.session.document, viewer.panel
    viewer._apply(None, "", lambda: panel.choose("box"))
    places, place = [], document.place

    def slowly(name: str, placement: Placement) -> None:
        places.append(placement)
        time.sleep(0.4)
        place(name, placement)

    monkeypatch.setattr(document, "place", slowly)
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        page = Page(viewer.url, folder)
        try:
            until(lambda: viewer.server.get_clients() and session.scheduler.wait(60))
            time.sleep(2)
            arm = page_hands.SHARE * session.orbit.view.distance
            ends = (0.6 * arm, 0.0, -0.2), (0.6 * arm + 0.3, 0.0, -0.2)
            drag_handle(
                page, session, *ends,
                lambda: document["box"].placement.translation[0] > 0.2 and not document.in_stroke, steps=120,
            )  # fmt: skip
            assert document["box"].placement.translation == pytest.approx((0.3, 0.0, 0.0), abs=0.06)
            assert len(places) < 25
            count = len(places)
            time.sleep(1)
            assert len(places) == count
            panel.undo()
            assert document["box"].placement == Placement()
        finally:
            page.close()


def test_drags_of_scale_handles() -> None:
    start = Placement(rotation=(0.0, 0.0, 30.0), scale=2.0, stretch=(1.0, 3.0, 1.0))
    assert page_hands.scaled(start, np.zeros(3)) == start
    stretched = page_hands.scaled(start, np.array([1e-9, 0.5, -1e-9]))
    assert stretched.stretch == pytest.approx((1.0, 4.5, 1.0))
    assert stretched.scale == 2.0
    whole = page_hands.scaled(start, np.array([0.25, 0.0, 0.25]))
    assert (whole.scale, whole.stretch) == (3.0, start.stretch)
    # Past the middle there is a least size.
    assert page_hands.scaled(start, np.array([-5.0, 0.0, 0.0])).stretch[0] == pytest.approx(0.01)


def test_handles_are_there_for_what_is_chosen_and_follow_it(viewer: Any) -> None:
    panel, hands = viewer.panel, viewer._handles
    assert hands._handle is None
    viewer._apply(None, "", lambda: panel.choose("box"))
    assert hands._handle.position == pytest.approx((0.0, 0.0, -0.2), abs=1e-6)
    viewer._apply(None, "", lambda: panel.place(translation=(0.1, 0.2, 0.3), rotation=(0.0, 0.0, 90.0)))
    assert hands._handle.position == pytest.approx((0.1, 0.2, 0.1), abs=1e-6)
    viewer._apply(None, "", lambda: panel.set_mode("turn"))
    assert np.abs(hands._handle.wxyz) == pytest.approx((0.5**0.5, 0.0, 0.0, 0.5**0.5))
    viewer._apply(None, "", lambda: panel.set_mode("scale"))
    assert np.abs(hands._handle.wxyz) == pytest.approx((0.5**0.5, 0.0, 0.0, 0.5**0.5))
    viewer._apply(None, "", lambda: panel.set_mode("move"))
    viewer._apply(None, "", lambda: panel.remove_it())
    assert hands._handle is None
