"""What the window and the page share: the panel, the tables of controls and actions, pointer, dialogs and uploads."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from helpers.ray_engine import RayEngine, a_scene

from renderformer.data.errors import InputError
from renderformer.viewer.actions import ACTIONS, SAVES, find, help_table, page_help
from renderformer.viewer.controls import CONTROLS, SECTIONS, Control
from renderformer.viewer.dialogs import FileRequest, closing
from renderformer.viewer.display import Rect
from renderformer.viewer.panel import Panel
from renderformer.viewer.pointer import Pointer
from renderformer.viewer.session import VIEWS, Session
from renderformer.viewer.uploads import received, unzipped, zipped


@pytest.fixture
def panel() -> Iterator[Panel]:
    session = Session(a_scene(), RayEngine(), 64)  # type: ignore[arg-type]
    yield Panel(session, clock=lambda: NOW[0])
    assert session.close()


NOW = [0.0]


def control(name: str) -> Control:
    return next(entry for entry in CONTROLS if entry.name == name)


# New values of controls, as a front end reports them.
EDITS: dict[str, Any] = {
    "picture exposure": 1.5,
    "picture tone map": "filmic",
    "picture pixels": "128",
    "camera azimuth": 77.0,
    "camera elevation": 30.0,
    "camera distance": 1.8,
    "camera fov": 45.0,
    "camera keep in the trained range": False,
    "camera turntable": True,
    "object visible": False,
    "object move": (0.1, 0.2, 0.3),
    "object turn": (10.0, 20.0, 30.0),
    "object scale": 2.0,
    "object diffuse": (0, 255, 128),
    "object specular": 0.5,
    "object roughness": 0.25,
    "object emission": 100.0,
    "light position": (0.5, 0.5, 2.0),
    "light size": 0.3,
    "light strength": 1234.0,
}


@pytest.mark.parametrize("name", EDITS)
def test_a_control_shows_the_value_that_a_person_gave_it(panel: Panel, name: str) -> None:
    entry, value = control(name), EDITS[name]
    before = entry.value(panel)
    entry.set(panel, value)
    after = entry.value(panel)
    assert after != before
    assert str(after) == value if entry.kind == "choice" else after == pytest.approx(value, abs=1e-3)


def test_every_control_has_its_own_name_a_section_and_a_value_of_its_kind(panel: Panel) -> None:
    types = {
        "slider": float,
        "number": float,
        "vector": tuple,
        "colour": tuple,
        "check": bool,
        "toggle": bool,
        "text": str,
    }
    assert len({entry.name for entry in CONTROLS}) == len(CONTROLS)
    for entry in CONTROLS:
        assert entry.section in SECTIONS
        value = entry.value(panel)
        if entry.kind == "choice":
            choices = [str(choice) for choice in entry.choices(panel)]
            assert str(value) in choices or not choices
        elif entry.kind == "button":
            assert value is None
        else:
            assert isinstance(value, types.get(entry.kind, str)), entry.name


def test_numbers_outside_the_range_of_a_control_are_shown_at_its_end(panel: Panel) -> None:
    panel.session.set_display(exposure=30.0)
    assert control("picture exposure").value(panel) == 10.0


def test_a_scene_without_lights_leaves_their_controls_empty_and_says_so(panel: Panel) -> None:
    while panel.light is not None:
        panel.edit_light(lambda document, name: document.remove(name))
    assert control("light size").value(panel) is None
    assert list(control("light light").choices(panel)) == []
    with pytest.raises(InputError, match="has no light; add one"):
        control("light strength").set(panel, 1.0)
    name = control("light add").set(panel, None)
    assert panel.light is not None
    assert panel.light.name == name


def test_the_difference_needs_a_reference_and_the_view_stays_without(panel: Panel) -> None:
    with pytest.raises(InputError, match="no reference picture"):
        panel.show("difference")
    assert panel.kind == VIEWS[0]


def test_the_turntable_turns_by_time_and_playback_follows_the_key_frames(panel: Panel) -> None:
    start = panel.session.orbit.view.azimuth
    panel.switch_turntable()
    NOW[0] += 2.0
    assert panel.tick()
    assert panel.session.orbit.view.azimuth == pytest.approx(start + 60.0)
    with pytest.raises(InputError, match="fewer than two"):
        panel.switch_playback()
    panel.session.add_key()
    panel.session.move(lambda orbit: orbit.orbit(20.0, 0.0))
    panel.session.add_key()
    panel.switch_playback()
    assert not panel.turning
    NOW[0] += 1.0
    assert panel.tick()
    assert panel.session.orbit.view.azimuth == pytest.approx(start + 70.0)
    NOW[0] += 5.0
    assert not panel.tick()
    assert not panel.playing


def test_bookmarks_are_chosen_recalled_and_forgotten(panel: Panel) -> None:
    panel.add_bookmark()
    view = panel.session.orbit.view
    panel.set_view(azimuth=120.0)
    assert panel.add_bookmark() == "view 2"
    control("bookmarks and key frames bookmark").set(panel, "view 1")
    assert panel.session.orbit.view == view
    panel.forget()
    assert panel.bookmark == "view 2"
    panel.forget()
    with pytest.raises(InputError, match="no bookmark"):
        panel.forget()


def test_pictures_take_the_shape_of_a_page_and_keep_their_shorter_side(panel: Panel) -> None:
    panel.set_aspect(1.5)
    assert panel.session.view_size == (96, 64)
    panel.set_aspect(0.1)
    assert panel.session.view_size == (64, 256)
    panel.set_side(128)
    assert panel.session.view_size == (128, 512)


# Keys


def test_every_key_asks_for_one_action_and_the_table_is_the_help() -> None:
    keys = [key.removeprefix("Ctrl ") for action in ACTIONS for key in action.keys]
    assert len(set(keys)) == len(keys)
    assert [(action.run is None) != (action.ask is None) for action in ACTIONS] == [True] * len(ACTIONS)
    undo = find("Z", ctrl=False)
    assert undo is not None
    assert undo.name == "undo"
    assert find("U", ctrl=False) is undo
    assert find("Q", ctrl=False) is None
    assert find("Q", ctrl=True) is not None
    assert find("", ctrl=False) is None
    assert help_table()["Ctrl Z or U, Ctrl Y or R"] == "undo, redo"
    assert help_table()["Left drag, Left, Right, Up, Down"] == "turn"
    assert "**Ctrl Z** undo" in page_help()


def test_keys_move_the_camera_and_switch_the_view(panel: Panel) -> None:
    def press(key: str) -> None:
        action = find(key, ctrl=False)
        assert action is not None
        assert action.run is not None
        action.run(panel)

    before = panel.session.orbit.view
    press("Left")
    assert panel.session.orbit.view.azimuth == pytest.approx(before.azimuth - 5.0)
    press("H")
    assert panel.session.orbit.view == before
    press("+")
    assert panel.session.orbit.view.distance < before.distance
    press("]")
    assert panel.session.exposure == 0.5
    press("3")
    assert panel.kind == "split"


def test_a_video_without_key_frames_is_refused_before_a_name_is_asked_for(panel: Panel) -> None:
    for save in SAVES:
        if save.along_keys:
            with pytest.raises(InputError, match="two or more"):
                save.check(panel.session)
        else:
            save.check(panel.session)


# Pointer


def test_the_pointer_turns_pans_zooms_picks_and_moves_the_bar(panel: Panel) -> None:
    pointer = Pointer(panel, lambda: Rect(10, 20, 200, 100))
    orbit = panel.session.orbit
    before = orbit.view
    pointer.press(50, 70)
    pointer.drag(70, 70, pan=False)
    assert orbit.view.azimuth == pytest.approx(before.azimuth - 36.0)
    assert pointer.release(70, 70) == ""
    pointer.press(50, 70)
    pointer.drag(51, 70, pan=True)
    assert orbit.view.target != before.target
    pointer.wheel(1.0, zoom=True)
    assert orbit.view.fov == pytest.approx(before.fov - 1.0)
    pointer.press(110, 70)
    line = pointer.release(112, 71)
    assert panel.item is not None
    assert line.startswith(f"{panel.item.name}: triangle ")
    panel.show("split")
    turned = orbit.view
    pointer.press(110, 70)
    pointer.drag(60, 70, pan=False)
    assert panel.bar == pytest.approx(0.25)
    pointer.drag(-500, 70, pan=False)
    assert panel.bar == 0.0
    assert orbit.view == turned


# Dialogs and uploads


def test_a_file_without_a_suffix_gets_the_first_and_one_that_exists_is_asked_about(tmp_path: Path) -> None:
    done: list[Path] = []
    request = FileRequest("Save scene", (".json", ".h5"), done.append, saving=True)
    assert request.filters == [(".json", "JSON (*.json)"), (".h5", "H5 (*.h5)"), ("", "All files")]
    assert request.path("a") == Path("a.json")
    assert request.path("a.h5") == Path("a.h5")
    assert request.replacing(tmp_path / "a.json") is None
    (tmp_path / "a.json").write_text("")
    question = request.replacing(tmp_path / "a.json")
    assert question is not None
    question.answers["Cancel"]()
    assert not done
    question.answers["Replace"]()
    assert done == [tmp_path / "a.json"]
    opening = FileRequest("Open", (".json", ".h5"), done.append)
    assert opening.filters == [(".json .h5", "Open (json, h5)"), ("", "All files")]
    assert opening.replacing(tmp_path / "a.json") is None


def test_closing_asks_where_edits_or_a_file_would_be_lost(panel: Panel) -> None:
    def ask() -> Any:
        return closing(panel.session, lambda: None, lambda: None)

    assert ask() is None
    panel.set_material(roughness=0.2)
    assert "not in a file" in ask().text
    assert list(ask().answers) == ["Save scene", "Close", "Cancel"]
    panel.undo()
    begun = threading.Event()

    def work(progress: Any, cancel: Any) -> list[str]:
        begun.wait(20)
        return []

    panel.session.start("saving a.mp4", work)
    assert ask().text == "Still saving a.mp4."
    assert list(ask().answers) == ["Close", "Cancel"]
    begun.set()


def test_what_is_received_is_named_as_it_was_sent_and_gone_afterwards(tmp_path: Path) -> None:
    with received("../ba d/na me.glb", b"x") as path:
        assert path.name == "na_me.glb"
        assert path.read_bytes() == b"x"
    assert not path.exists()
    with pytest.raises(InputError) as raised, received("a.h5", b"x") as path:
        raise InputError(f"{path}: object 'lamp'", "is broken", "mend it")
    assert raised.value.place == "a.h5: object 'lamp'"
    (tmp_path / "scene").mkdir()
    (tmp_path / "scene" / "a.json").write_text("{}")
    (tmp_path / "scene.zip").write_bytes(zipped(tmp_path / "scene"))
    assert unzipped(tmp_path / "scene.zip").read_text() == "{}"
