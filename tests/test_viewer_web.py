"""The viewer in a browser: the panel over a fake renderer, and the page in headless Chromium where there is one."""

from __future__ import annotations

import sys
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from renderformer.viewer.display import resized
from renderformer.viewer.session import Session

sys.path.append(str(Path(__file__).parents[1] / "scripts"))
from browser import CHROMIUM, Page, until  # noqa: E402
from ray_engine import RayEngine, a_scene  # noqa: E402

pytest.importorskip("viser", reason="the viewer extra is not installed")
web = pytest.importorskip("renderformer.viewer.web")

STUCK = 90.0


@pytest.fixture
def viewer() -> Iterator[Any]:
    session = Session(a_scene(), RayEngine(), 128)  # type: ignore[arg-type]
    shown = web.WebViewer(session, port=8765)
    yield shown
    shown.close()
    names = [thread.name for thread in threading.enumerate()]
    assert "renderformer-viewer" not in names
    assert "renderformer-turntable" not in names


told: list[tuple[str, ...]] = []


def press(handle: Any, value: Any) -> None:
    """What viser does when a person changes a control: set the value, then call back with a client."""
    handle._impl.value = value
    client = SimpleNamespace(add_notification=lambda *values, **options: told.append(values))
    for callback in handle._impl.update_cb:
        callback(SimpleNamespace(client=client, target=handle))


def test_the_panel_edits_the_scene_and_shows_what_is_true_after_undo(viewer: Any) -> None:
    told.clear()
    session = viewer.session
    assert session.scheduler.wait(STUCK)
    assert viewer.url.startswith("http://127.0.0.1:")
    name = viewer._object.value
    press(viewer._diffuse, (0, 255, 0))
    assert session.document[name].material.diffuse == pytest.approx((0, 1, 0), abs=1e-3)
    press(viewer._roughness, 0.25)
    assert session.document[name].material.roughness == pytest.approx(0.25)
    press(viewer._translation, (0.1, 0.0, 0.0))
    assert session.document[name].placement.translation == pytest.approx((0.1, 0, 0))
    press(viewer._light_strength, 1234.0)
    assert session.document.lights[0].base.materials[0, 10] == pytest.approx(1234.0)
    press(viewer._angles["azimuth"], 77.0)
    assert session.orbit.view.azimuth == pytest.approx(77.0)
    press(viewer._angles["distance"], 5.0)
    assert viewer._angles["distance"].value == pytest.approx(session.orbit.view.distance, abs=1e-3)
    assert "held in the trained range" in viewer._status.content
    for _ in range(4):
        session.undo()
    viewer._fill()
    assert not session.document.edited
    assert viewer._roughness.value == pytest.approx(session.document[name].material.roughness)
    assert not told
    press(viewer._side, "64")
    assert session.view_size == (64, 64)
    press(viewer._kind, "difference")
    assert "no reference picture" in told[-1][1]
    press(viewer._kind, "preview")
    assert len(viewer._shown) == len(session.document.items)
    press(viewer._kind, "neural")
    assert session.scheduler.wait(STUCK)


@pytest.mark.skipif(CHROMIUM is None, reason="Chromium is not installed (apt install chromium)")
def test_the_page_shows_the_picture_and_a_drag_turns_the_camera(viewer: Any) -> None:
    session = viewer.session
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        page = Page(viewer.url, folder)
        try:
            until(lambda: viewer.server.get_clients())
            # The page reports its shape, and the picture takes it.
            until(lambda: session.view_size[0] > session.view_size[1])
            assert session.scheduler.wait(STUCK)

            def shows_the_picture() -> bool:
                width, height = page.canvas()
                window = page.screenshot()[:height, :width].astype(float)
                # Notifications may cover the upper left.
                difference = np.abs(window - resized(session.picture(), width, height))
                return bool(difference[:, 320:].mean() < 4)

            until(shows_the_picture)
            before = session.orbit.view
            page.drag((250, 300), (330, 280))
            until(lambda: abs(session.orbit.view.azimuth - before.azimuth) > 2)
            assert session.orbit.limited
            assert session.orbit.view.target == pytest.approx(before.target, abs=2e-3)
            assert session.orbit.view.distance == pytest.approx(before.distance, abs=5e-3)
            assert session.scheduler.wait(STUCK)
            until(shows_the_picture)
        finally:
            page.close()
