"""Key frames edited one by one on a timeline, by its methods, by the controls, and by a drag on the page."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from helpers.browser import CHROMIUM, Page, until
from helpers.ray_engine import RayEngine, a_scene

from renderformer.data.camera_path import CameraPath
from renderformer.data.errors import InputError
from renderformer.viewer.actions import SAVES
from renderformer.viewer.controls import CONTROLS
from renderformer.viewer.panel import Panel
from renderformer.viewer.session import Session

STUCK = 60.0


@pytest.fixture
def panel() -> Iterator[Panel]:
    session = Session(a_scene(), RayEngine(), 16)  # type: ignore[arg-type]
    yield Panel(session)
    session.close()


def change(panel: Panel, label: str, value: Any = None) -> None:
    next(control for control in CONTROLS if control.label == label and "key" in control.section).set(panel, value)


def shown(panel: Panel, label: str) -> Any:
    return next(control for control in CONTROLS if control.label == label and "key" in control.section).value(panel)


def turned(panel: Panel, azimuth: float) -> None:
    panel.set_view(azimuth=azimuth)


def azimuths(panel: Panel) -> list[float]:
    return [round(key.view.azimuth, 6) for key in panel.timeline.keys]


def test_key_frames_are_added_moved_replaced_shown_and_removed(panel: Panel) -> None:
    assert shown(panel, "timeline") == ()
    assert shown(panel, "key time") is None
    for label in ("replace", "key time"):
        with pytest.raises(InputError, match="there are none; add one"):
            change(panel, label, 1.0)
    change(panel, "remove")
    for azimuth in (0.0, 40.0, 80.0):
        turned(panel, azimuth)
        change(panel, "add key")
    assert shown(panel, "timeline") == (0, 2, 4)
    assert shown(panel, "key") == "3: 4 s"
    # One between two, at the time that is shown.
    change(panel, "time", 3.0)
    assert 40 < panel.session.orbit.view.azimuth < 80
    turned(panel, 10.0)
    change(panel, "add key")
    assert azimuths(panel) == [0, 40, 10, 80]
    assert shown(panel, "key") == "3: 3 s"
    # The chosen one gets another time, past its neighbour, and another view; times of others are refused.
    change(panel, "key time", 5.5)
    assert azimuths(panel) == [0, 40, 80, 10]
    assert shown(panel, "key") == "4: 5.5 s"
    turned(panel, 120.0)
    change(panel, "replace")
    assert azimuths(panel) == [0, 40, 80, 120]
    with pytest.raises(InputError, match="is taken"):
        change(panel, "key time", 2.0)
    assert shown(panel, "timeline") == (0, 2, 4, 5.5)
    # Choosing shows.
    change(panel, "key", "2: 2 s")
    assert panel.session.orbit.view.azimuth == pytest.approx(40)
    assert shown(panel, "time") == 2
    # A strip moves one, which is chosen and shown; what does not fit the present key frames changes nothing.
    change(panel, "timeline", (0, 1.25, 4, 5.5))
    assert shown(panel, "key") == "2: 1.25 s"
    assert azimuths(panel) == [0, 40, 80, 120]
    change(panel, "timeline", (0, 1))
    with pytest.raises(InputError, match="is taken"):
        change(panel, "timeline", (0, 4, 4, 5.5))
    assert shown(panel, "timeline") == (0, 1.25, 4, 5.5)
    change(panel, "remove")
    assert azimuths(panel) == [0, 80, 120]
    change(panel, "clear")
    assert shown(panel, "timeline") == ()


def test_times_beyond_the_path_are_clamped_and_the_strip_grows_with_it(panel: Panel) -> None:
    with pytest.raises(InputError, match="no keys"):
        change(panel, "time", 1.0)
    for azimuth in (0.0, 90.0):
        turned(panel, azimuth)
        change(panel, "add key")
    assert panel.timeline.end == 5
    change(panel, "time", 99.0)
    assert shown(panel, "time") == 2
    assert panel.session.orbit.view.azimuth == pytest.approx(90)
    change(panel, "key time", 4.5)
    assert panel.timeline.end == 10
    panel.play(True)
    assert panel.tick()
    assert shown(panel, "time") < 1


def test_another_path_leaves_no_choice_of_the_one_before(panel: Panel, tmp_path: Path) -> None:
    for azimuth in (0.0, 90.0):
        turned(panel, azimuth)
        change(panel, "add key")
    panel.session.save(tmp_path / "keys.json")
    change(panel, "key", "1: 0 s")
    panel.open(tmp_path / "keys.json")
    assert shown(panel, "key") == "2: 2 s"
    turned(panel, 45.0)
    change(panel, "replace")
    panel.session.save(tmp_path / "other.keys.json")
    assert [key.view.azimuth for key in CameraPath.load(tmp_path / "other.keys.json").keys] == [0, 45]


def test_a_path_becomes_a_gif(panel: Panel, tmp_path: Path) -> None:
    import imageio.v3 as iio

    for azimuth in (0.0, 30.0):
        turned(panel, azimuth)
        change(panel, "add key")
    change(panel, "key time", 0.25)
    save = next(save for save in SAVES if save.name == "key frames")
    assert {Path(name).suffix for name in save.files} == {".mp4", ".gif"} == set(save.suffixes)
    panel.session.save(tmp_path / "path.gif")
    assert len(iio.imread(tmp_path / "path.gif")) == 7


@pytest.mark.skipif(CHROMIUM is None, reason="Chromium is not installed (apt install chromium)")
def test_a_drag_on_the_strip_of_the_page_moves_a_key_frame(panel: Panel) -> None:
    web = pytest.importorskip("renderformer.viewer.web")
    viewer = web.WebViewer(panel.session, port=8780)
    shown = viewer.panel
    try:
        with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
            page = Page(viewer.url, folder, (1100, 900))
            try:
                until(lambda: viewer.server.get_clients(), STUCK)
                thumbs = "[...document.querySelectorAll('.multi-slider-thumb')]"
                title = "d => d.innerText === 'Bookmarks and key frames'"
                fold = f"[...document.querySelectorAll('div')].filter({title}).pop()"
                until(lambda: page.evaluate(f"{fold} !== undefined"), STUCK)
                page.evaluate(f"{fold}.click()")
                for azimuth in (0.0, 40.0, 80.0):
                    turned(shown, azimuth)
                    shown.timeline.add()
                viewer._refresh()
                until(lambda: page.evaluate(f"{thumbs}.length") == 3, STUCK)
                middle = f"(r => [r.x + r.width / 2, r.y + r.height / 2])({thumbs}[1].getBoundingClientRect())"
                # The fold opens slowly.
                places = [None, page.evaluate(middle)]
                while places[-1] != places[-2]:
                    time.sleep(0.3)
                    places.append(page.evaluate(middle))
                box = places[-1]
                page.drag((box[0], box[1]), (box[0] + 20, box[1]))
                until(lambda: shown.timeline.times[1] > 2.2, STUCK)
                assert shown.timeline.times[::2] == (0, 4)
                assert [round(key.view.azimuth) for key in shown.timeline.keys] == [0, 40, 80]
                until(lambda: viewer.controls["bookmarks and key frames key"].value.startswith("2: "), STUCK)
            finally:
                page.close()
    finally:
        viewer.close()
