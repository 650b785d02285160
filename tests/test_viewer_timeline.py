"""Key frames edited one by one on a timeline, by its methods, by the controls, and by a drag on the page."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers.browser import CHROMIUM, Page, until
from helpers.ray_engine import RayEngine, a_scene

from renderformer.data.camera_path import CameraPath
from renderformer.data.errors import InputError
from renderformer.data.scene import Scene
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


def test_undo_brings_key_frames_and_bookmarks_back_and_leaves_the_scene_as_saved_as_it_was(panel: Panel) -> None:
    session, document = panel.session, panel.session.document
    for azimuth in (0.0, 40.0):
        turned(panel, azimuth)
        change(panel, "add key")
    panel.add_bookmark()
    keys, view = panel.timeline.keys, session.orbit.view
    change(panel, "clear")
    panel.forget()
    assert panel.undo() == "forget view 1"
    assert list(session.orbit.bookmarks) == ["view 1"]
    assert panel.undo() == "clear key frames"
    assert panel.timeline.keys == keys
    # The camera stays where it is, and nothing of the scene was edited.
    assert session.orbit.view == view
    assert not document.edited
    # A drag of a time is one step; one without effect is none.
    for seconds in (2.5, 3.0, 3.0):
        change(panel, "key time", seconds)
    assert panel.undo() == "move key frame"
    assert panel.timeline.times == (0, 2)
    assert [panel.undo() for _ in range(4)] == ["add bookmark", "add key frame", "add key frame", "nothing left"]
    assert (panel.timeline.keys, session.orbit.bookmarks) == ([], {})
    assert not session.unsaved


def test_undo_of_an_opened_scene_brings_back_its_camera_units_bookmarks_and_key_frames(
    panel: Panel, tmp_path: Path
) -> None:
    session = panel.session
    large = Scene(tuple(mesh.transformed(np.diag([1e3, 1e3, 1e3, 1.0])) for mesh in a_scene().objects))
    large.save(tmp_path / "large.json")
    turned(panel, 77.0)
    change(panel, "add key")
    panel.add_bookmark()
    orbit, unit, view = session.orbit, session.unit, session.orbit.view
    session.open(tmp_path / "large.json")
    assert session.unit != unit
    assert (panel.timeline.keys, session.orbit.bookmarks) == ([], {})
    assert session.losses == ["Work on a scene that was open before is in no file; undo leads back to it."]
    assert panel.undo().startswith("open")
    assert (session.orbit, session.unit) == (orbit, unit)
    assert session.orbit.view == view
    assert [key.view for key in panel.timeline.keys] == [view]
    assert session.orbit.bookmarks == {"view 1": view}
    assert panel.redo().startswith("open")
    assert session.unit != unit
    assert not panel.timeline.keys


def test_undoing_all_of_a_long_mixed_session_leads_to_its_start_and_redoing_all_to_its_end(
    panel: Panel, tmp_path: Path
) -> None:
    session, document = panel.session, panel.session.document
    a_scene().save(tmp_path / "other.json")
    session.key_frames.add(session.orbit.view)
    session.save(tmp_path / "keys.json")
    session.key_frames.clear()
    random = np.random.default_rng(5)
    edits: list[Callable[[], object]] = [
        panel.add_bookmark,
        panel.timeline.add,
        panel.timeline.remove,
        panel.timeline.clear,
        panel.add_light,
        lambda: panel.forget() if session.orbit.bookmarks else None,
        lambda: panel.timeline.set_time(random.uniform(0, 9)) if panel.timeline.keys else None,
        lambda: panel.set_material(diffuse=tuple(random.uniform(size=3))),
        lambda: panel.place(translation=tuple(random.uniform(-0.1, 0.1, 3))),
        lambda: panel.set_environment(kind=str(random.choice(["none", "sky", "studio"]))),
        lambda: panel.edit_object(lambda document, name: document.set_visible(name, bool(random.integers(2)))),
        lambda: panel.choose(str(random.choice([item.name for item in document.items]))),
        lambda: panel.set_view(azimuth=random.uniform(0, 360)),
        lambda: session.open(tmp_path / str(random.choice(["other.json", "keys.json"]))),
        panel.undo,
        panel.redo,
    ]

    def made() -> tuple[object, ...]:
        return *session.version, session.orbit, session.unit

    start = made()
    for number in random.integers(len(edits), size=150):
        edits[number]()
    end = made()
    while session.undo():
        pass
    assert made() == start
    assert not document.edited
    while session.redo():
        pass
    assert made() == end


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
