"""What the window and the page share: the panel, the tables of controls and actions, pointer, dialogs and uploads."""

from __future__ import annotations

import io
import threading
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers.ray_engine import RayEngine, a_scene

from renderformer.data.environment import Environment
from renderformer.data.errors import InputError
from renderformer.data.scene import Scene
from renderformer.viewer.actions import ACTIONS, SAVES, find, help_table, page_help
from renderformer.viewer.controls import CONTROLS, SECTIONS, Control
from renderformer.viewer.dialogs import FileRequest, closing
from renderformer.viewer.display import Rect
from renderformer.viewer.fingerprints import fingerprint
from renderformer.viewer.hands import Hands
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
    "picture handles": "turn",
    "picture exposure": 1.5,
    "picture tone map": "filmic",
    "picture scale": "2",
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
    "object stretch": (1.5, 1.0, 0.5),
    "object material": "gold",
    "object diffuse": (0, 255, 128),
    "object specular": 0.5,
    "object roughness": 0.25,
    "object metallic": 0.75,
    "object opacity": 0.5,
    "object light on both sides": True,
    "object emission": 100.0,
    "light position": (0.5, 0.5, 2.0),
    "light size": 0.3,
    "light strength": 1234.0,
    "light colour": (255, 128, 0),
    "environment environment": "sky",
    "environment background": "transparent",
}
# Of an environment, which a scene may lack.
LIGHT_EDITS = {"environment strength": 2.5, "environment rotation": -77.0}


@pytest.mark.parametrize("name", EDITS | LIGHT_EDITS)
def test_a_control_shows_the_value_that_a_person_gave_it(panel: Panel, name: str) -> None:
    entry, value = control(name), (EDITS | LIGHT_EDITS)[name]
    if name in LIGHT_EDITS:
        control("environment environment").set(panel, "studio")
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
        "times": tuple,
        "colour": tuple,
        "check": bool,
        "toggle": bool,
        "text": str,
    }
    panel.timeline.add()
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


def test_every_edit_of_object_light_and_environment_is_drawn_anew_and_undone(panel: Panel) -> None:
    document = panel.session.document
    control("environment environment").set(panel, "studio")
    for name, value in (EDITS | LIGHT_EDITS).items():
        if control(name).section not in ("Object", "Light", "Environment"):
            continue
        document.seal()
        before, was = fingerprint(document.scene), control(name).value(panel)
        control(name).set(panel, value)
        after = fingerprint(document.scene)
        assert after != before, name
        assert panel.undo() != "nothing left"
        assert fingerprint(document.scene) == before
        assert control(name).value(panel) == was
        panel.redo()
        assert fingerprint(document.scene) == after
        panel.undo()


def test_the_environment_keeps_its_settings_when_another_is_chosen_and_the_scenes_own_comes_back() -> None:
    own = Environment((0.2, 0.3, 0.4), strength=2.0, rotation=30.0, name="mine")
    session = Session(a_scene().replace(environment=own), RayEngine(), 64)  # type: ignore[arg-type]
    panel = Panel(session)
    choice = control("environment environment")
    assert list(choice.choices(panel)) == ["none", "studio", "sky", "sunset", "the scene's own"]
    assert choice.value(panel) == "the scene's own"
    for kind in ("sunset", "none", "sky"):
        choice.set(panel, kind)
        found = session.document.scene.environment
        if kind == "none":
            assert found is None
            continue
        assert found is not None
        assert (found.name, found.strength, found.rotation) == (kind, 2.0, 30.0)
        np.testing.assert_array_equal(found.image, Environment.of(kind).image)
    choice.set(panel, "the scene's own")
    assert fingerprint(session.document.scene) == fingerprint(a_scene().replace(environment=own))
    for _ in range(4):
        panel.undo()
    assert session.document.scene.environment is own
    assert session.close()


def test_a_scene_without_an_environment_has_no_light_to_change_but_a_background(panel: Panel) -> None:
    assert list(control("environment environment").choices(panel)) == ["none", "studio", "sky", "sunset"]
    for name, value in LIGHT_EDITS.items():
        with pytest.raises(InputError, match="there is none; choose one"):
            control(name).set(panel, value)
    with pytest.raises(InputError, match="'moon'"):
        control("environment environment").set(panel, "moon")
    assert not panel.session.document.edited
    control("environment background").set(panel, "transparent")
    environment = panel.session.document.scene.environment
    assert environment is not None
    assert environment.is_dark
    assert environment.background == "transparent"


def test_saving_keeps_edits_in_json_and_tells_what_h5_loses(panel: Panel, tmp_path: Path) -> None:
    panel.choose("light")
    for name, value in (
        ("object light on both sides", True),
        ("object opacity", 0.5),
        ("object metallic", 0.25),
        ("environment environment", "studio"),
        ("environment strength", 0.5),
        ("environment background", "transparent"),
    ):
        control(name).set(panel, value)
    panel.session.save(tmp_path / "a.json")
    loaded = Scene.load(tmp_path / "a.json")
    assert loaded.environment is not None
    assert (loaded.environment.strength, loaded.environment.background) == (0.5, "transparent")
    light = next(mesh for mesh in loaded.objects if mesh.name == "light")
    assert light.appearance is not None
    material = light.appearance.materials[0]
    assert (material.metallic, material.alpha, light.two_sided) == (0.25, 0.5, True)
    notes = " ".join(panel.session.save(tmp_path / "a.h5"))
    assert "1 triangles that let rays pass are opaque" in notes
    assert "the environment is not saved" in notes


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
    line = control("light add").set(panel, None)
    assert panel.light is not None
    assert line == f"{panel.light.name} is outside the picture; F turns to it"


def test_the_difference_needs_a_reference_and_the_view_stays_without(panel: Panel) -> None:
    with pytest.raises(InputError, match="no reference picture"):
        panel.show("difference")
    assert panel.kind == VIEWS[0]


def test_the_turntable_turns_by_time_and_playback_follows_the_key_frames(panel: Panel) -> None:
    start = panel.session.orbit.view.azimuth
    panel.turn(not panel.turning)
    NOW[0] += 2.0
    assert panel.tick()
    assert panel.session.orbit.view.azimuth == pytest.approx(start + 60.0)
    with pytest.raises(InputError, match="fewer than two"):
        panel.play(not panel.playing)
    panel.timeline.add()
    panel.session.move(lambda orbit: orbit.orbit(20.0, 0.0))
    panel.timeline.add()
    panel.play(not panel.playing)
    assert not panel.turning
    NOW[0] += 1.0
    assert panel.tick()
    assert panel.session.orbit.view.azimuth == pytest.approx(start + 70.0)
    # It ends at the last key frame, which is a change to be shown.
    NOW[0] += 5.0
    assert panel.tick()
    assert not panel.playing
    assert panel.session.orbit.view.azimuth == pytest.approx(start + 80.0)
    assert not panel.tick()


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
    with pytest.raises(InputError, match="there are none; add one"):
        panel.forget()


def test_pictures_take_the_shape_of_a_page_and_keep_their_shorter_side(panel: Panel) -> None:
    panel.fit_page(1.5, 700)
    assert panel.session.view_size == (96, 64)
    panel.fit_page(0.1, 700)
    assert panel.session.view_size == (64, 256)
    control("picture scale").set(panel, "2")
    assert panel.session.view_size == panel.session.size == (128, 512)
    panel.fit_page(1.5, 700)
    assert panel.session.view_size == (192, 128)
    with pytest.raises(InputError, match="scale is 0"):
        panel.session.set_scale(0.0)


def test_pictures_of_no_fixed_size_fill_the_view() -> None:
    session = Session(a_scene(), RayEngine())  # type: ignore[arg-type]
    panel = Panel(session)
    panel.fit_page(1.5, 100)
    assert session.size == session.view_size == (150, 100)
    control("picture scale").set(panel, "0.5")
    assert session.view_size == (75, 50)
    panel.fit_page(99.0, 100)
    assert session.view_size == (200, 50)
    session.fit((9000, 3000))
    control("picture scale").set(panel, "4")
    assert session.view_size == (8192, 2731)
    assert session.close()


def test_every_key_asks_for_one_action_and_the_table_is_the_help() -> None:
    keys = [(key.removeprefix("Ctrl "), action.needs_ctrl) for action in ACTIONS for key in action.keys]
    assert len(set(keys)) == len(keys)
    assert [(action.run is None) != (action.ask is None) for action in ACTIONS] == [True] * len(ACTIONS)
    undo = find("Z", ctrl=False)
    assert undo is not None
    assert undo.name == "undo"
    assert find("U", ctrl=False) is undo
    assert find("Q", ctrl=False) is None
    assert find("Q", ctrl=True) is not None
    assert [getattr(find("S", ctrl), "name", "") for ctrl in (False, True)] == ["scale", "save"]
    assert find("", ctrl=False) is None
    assert help_table()["Ctrl Z or U, Ctrl Y"] == "undo, redo"
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


def test_the_strength_of_reflections_and_of_emission_keeps_their_hue(panel: Panel) -> None:
    specular, emission = control("object specular"), control("object emission")
    panel.set_material(diffuse=(0.0, 0.0, 0.0), specular=(0.9, 0.6, 0.3), emission=(4.0, 2.0, 0.0))
    specular.set(panel, 0.3)
    emission.set(panel, 10.0)
    assert panel.item is not None
    assert panel.item.material.specular == pytest.approx((0.45, 0.3, 0.15))
    assert panel.item.material.emission == pytest.approx((10.0, 5.0, 0.0))
    # Where a channel would exceed 1, it gets paler.
    for value in (0.8, 1.0):
        specular.set(panel, value)
        found = panel.item.material.specular
        assert np.mean(found) == pytest.approx(value)
        assert max(found) == pytest.approx(1)
        assert list(found) == sorted(found, reverse=True)
    for value in (0.0, 0.5):
        specular.set(panel, value)
        emission.set(panel, value)
    assert panel.item.material.specular == panel.item.material.emission == pytest.approx((0.5, 0.5, 0.5))


def test_a_video_without_key_frames_is_refused_before_a_name_is_asked_for(panel: Panel) -> None:
    for save in SAVES:
        if save.keys:
            with pytest.raises(InputError, match=f"there are 0, {save.keys} or more are needed"):
                save.check(panel.session)
        else:
            save.check(panel.session)


def test_the_pointer_turns_pans_zooms_picks_and_moves_the_bar(panel: Panel) -> None:
    pointer = Pointer(panel, Hands(panel), lambda: Rect(10, 20, 200, 100))
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


def test_a_file_without_a_suffix_gets_the_first_and_one_that_exists_is_asked_about(tmp_path: Path) -> None:
    done: list[Path] = []
    request = FileRequest("Save scene", (".json", ".h5"), done.append, saving=True)
    assert request.filters == [(".json", "JSON (*.json)"), (".h5", "H5 (*.h5)"), ("", "All files")]
    assert request.path("a") == Path("a.json")
    assert request.path("a.h5") == Path("a.h5")
    assert request.path("b/a.JSON") == Path("b/a.JSON")
    # Else a video would be saved as the picture, or as the scene, that its name says.
    video = FileRequest("Save video", (".mp4", ".gif"), done.append, saving=True)
    for name in ("b/a.txt", "a.json", "a.png"):
        with pytest.raises(InputError, match=r"a\.\w+: \.\w+ is another kind of file; write \.mp4 or \.gif"):
            video.path(name)
    lights = FileRequest("Save lights", (".lights.exr",), done.append, saving=True)
    assert [lights.path(name) for name in ("a", "a.exr", "a.lights.exr")] == [Path("a.lights.exr")] * 3
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
    assert opening.path("scan") == Path("scan")


def test_closing_asks_where_edits_or_a_file_would_be_lost(panel: Panel, tmp_path: Path) -> None:
    def ask() -> Any:
        return closing(panel.session, lambda: None, lambda: None, lambda: None)

    assert ask() is None
    panel.set_material(roughness=0.2)
    assert "not in a file" in ask().text
    assert list(ask().answers) == ["Save scene", "Close", "Cancel"]
    panel.undo()
    panel.timeline.add()
    assert ask().text == "Key frames are not in a file yet."
    assert list(ask().answers) == ["Save key frames", "Close", "Cancel"]
    panel.session.save(tmp_path / "keys.json")
    assert ask() is None
    panel.add_bookmark()
    assert ask().text == "Bookmarks are not in a file yet."
    assert list(ask().answers) == ["Save scene", "Close", "Cancel"]
    panel.session.save(tmp_path / "scene.json")
    assert ask() is None
    # The scene that is open can be saved; what it replaced comes back by undo alone.
    panel.set_material(roughness=0.3)
    panel.session.open(tmp_path / "scene.json")
    assert ask().text == "Work on a scene that was open before is in no file; undo leads back to it."
    assert list(ask().answers) == ["Close", "Cancel"]
    panel.undo()
    panel.undo()
    assert ask() is None
    begun = threading.Event()

    def work(progress: Any, cancel: Any) -> list[str]:
        begun.wait(20)
        return []

    panel.session.start("saving a.mp4", work)
    assert ask().text == "Still saving a.mp4."
    assert list(ask().answers) == ["Close", "Cancel"]
    begun.set()


def test_what_is_received_is_named_as_it_was_sent_and_gone_afterwards(tmp_path: Path) -> None:
    with received("../ba d/na me.glb", b"x") as sent:
        (path,) = sent.files
        assert path.name == "na_me.glb"
        assert path.read_bytes() == b"x"
    assert not path.exists()
    with pytest.raises(InputError) as raised, received("a.h5", b"x") as sent:
        raise InputError(f"{sent.files[0]}: object 'lamp'", "is broken", "mend it")
    assert raised.value.place == "a.h5: object 'lamp'"
    (tmp_path / "scene").mkdir()
    (tmp_path / "scene" / "a.json").write_text("{}")
    (tmp_path / "scene.zip").write_bytes(zipped(tmp_path / "scene"))
    assert unzipped(tmp_path / "scene.zip").files[0].read_text() == "{}"


OBJ, SCENE = "v 0 0 0", '{"objects": {}}'


@pytest.mark.parametrize(
    ("files", "opened", "unused"),
    [
        ({"a.obj": OBJ, "a.mtl": "", "wood.png": ""}, ["a.obj"], []),
        ({"box/scene.gltf": "{}", "box/scene.bin": "", "box/license.json": "{}"}, ["scene.gltf"], []),
        ({"room.json": SCENE, "meshes/a.obj": OBJ, "meshes/b.obj": OBJ, "sky.hdr": ""}, ["room.json"], []),
        ({"a.glb": "", "sky.hdr": ""}, ["a.glb", "sky.hdr"], []),
        ({"a.glb": "", "b.txt": "", ".DS_Store": "", "__MACOSX/a.glb": ""}, ["a.glb"], ["b.txt"]),
        ({"a.stl": "", "parts/b.stl": ""}, ["a.stl"], ["b.stl"]),
        ({"sky.hdr": ""}, ["sky.hdr"], []),
        ({"a.obj": OBJ, "b.obj": OBJ}, "holds 2 files that could be opened (a.obj, b.obj)", []),
        ({"a.png": "", "b.png": ""}, "holds 2 files that could be opened (a.png, b.png)", []),
        ({"a/": "", ".b": ""}, "holds no file", []),
    ],
)
def test_of_an_archive_the_scene_or_the_mesh_is_opened(
    files: dict[str, str], opened: list[str] | str, unused: list[str]
) -> None:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, text in files.items():
            archive.writestr(name, text)
    if isinstance(opened, str):
        with pytest.raises(InputError) as raised, received("all.zip", buffer.getvalue()):
            pass
        assert raised.value.problem == opened
        return
    with received("all.zip", buffer.getvalue()) as sent:
        assert [path.name for path in sent.files] == opened
        assert sent.unused == unused
        assert sent.note == (f"not used: {unused[0]}" if unused else "")
