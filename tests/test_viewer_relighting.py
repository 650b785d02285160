"""Changing the lights of one view without drawing: sums, and the factors of an edited scene."""

import importlib.util
import shutil
import subprocess
import sys
import time
import urllib.request
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from helpers.command import Run
from helpers.shapes import ball, box

from renderformer import InputError, Split
from renderformer.data.camera import Camera
from renderformer.data.environment import Environment
from renderformer.data.scene import Light, Material, Mesh, Scene
from renderformer.image import Image
from renderformer.renderer import Renderer
from renderformer.viewer.controls import Control
from renderformer.viewer.document import SceneDocument
from renderformer.viewer.placement import Placement
from renderformer.viewer.relight_panel import RelightPanel
from renderformer.viewer.relighting import LightSetting, Relighting, factors_between
from renderformer.viewer.session import Session

CAMERA = Camera.look_at((0.3, -1.6, 0.5), (0, 0, -0.1), fov=45)


def lamp(name: str, x: float, emission: float | tuple[float, float, float]) -> Mesh:
    return Light((x, -0.9, 1.4), size=0.1, emission=emission, name=name).mesh()


def scene(environment: Environment | None = None) -> Scene:
    floor = box((1.4, 1.4, 0.02), Material((0.6, 0.5, 0.4), 0.1, 0.4), (0, 0, -0.31), "floor")
    objects = floor, ball(0.3, Material((0.6, 0.3, 0.2), 0.3, 0.2), detail=1), lamp("key", 0.7, (90, 70, 50))
    return Scene((*objects, lamp("fill", -0.5, 30.0)), (CAMERA,), environment=environment)


def made(height: int = 4, width: int = 5, count: int = 3) -> Split:
    noise = np.random.default_rng(1)
    lights = {f"l{i}": noise.random((height, width, 3)).astype(np.float32) for i in range(count)}
    return Split(Image(np.sum(list(lights.values()), axis=0), CAMERA, {"model": "test"}), lights)


def test_a_picture_is_the_weighted_sum_whatever_was_changed_in_which_order() -> None:
    split = made()
    relighting = Relighting(split)
    np.testing.assert_allclose(relighting.picture().hdr, split.joint.hdr, rtol=1e-6)
    relighting.change("l1", strength=2.0)
    relighting.change("l2", colour=(1.0, 0.5, 0.0))
    relighting.change("l1", strength=3.0)
    relighting.change("l0", on=False)
    expected = 3 * split.lights["l1"] + split.lights["l2"] * np.array([1, 0.5, 0], np.float32)
    np.testing.assert_allclose(relighting.picture().hdr, expected, rtol=1e-6)
    np.testing.assert_allclose(split.relight(relighting.factors).hdr, expected, rtol=1e-6)
    assert relighting.picture().camera is CAMERA
    relighting.change("l0", on=True)
    relighting.reset()
    np.testing.assert_allclose(relighting.picture().hdr, split.joint.hdr, rtol=1e-6)


def test_one_light_alone_and_all_again() -> None:
    split = made()
    relighting = Relighting(split)
    relighting.only("l2")
    np.testing.assert_array_equal(relighting.picture().hdr, split.lights["l2"])
    relighting.only("l1")
    np.testing.assert_array_equal(relighting.picture().hdr, split.lights["l1"])
    relighting.only("l1")
    np.testing.assert_allclose(relighting.picture().hdr, split.joint.hdr, rtol=1e-6)


@pytest.mark.parametrize(
    "changes", [{"strength": -1.0}, {"strength": float("nan")}, {"colour": (1, 2)}, {"colour": (0, -1, 0)}]
)
def test_wrong_values_change_nothing(changes: dict[str, object]) -> None:
    relighting = Relighting(made())
    with pytest.raises(InputError):
        relighting.change("l1", **changes)
    with pytest.raises(InputError, match="there are: l0, l1, l2"):
        relighting.change("lamp", strength=2.0)
    assert relighting.setting("l1") == LightSetting()


def test_a_file_is_relit(tmp_path: Path) -> None:
    split = made()
    split.save(tmp_path / "split.exr", half=False)
    relighting = Relighting.load(tmp_path / "split.exr")
    assert relighting.lights == ("l0", "l1", "l2")
    relighting.change("l0", strength=0.25)
    np.testing.assert_allclose(relighting.picture().hdr, split.relight({"l0": 0.25}).hdr, rtol=1e-6)
    assert not relighting.follow(scene())


def test_a_drag_takes_milliseconds() -> None:
    relighting = Relighting(made(360, 640, 8))
    relighting.change("l3", strength=1.1)
    relighting.picture()
    times = []
    for step in range(7):
        relighting.change("l3", strength=1.2 + step)
        started = time.perf_counter()
        relighting.picture()
        times.append(time.perf_counter() - started)
    assert min(times) < 0.05


@pytest.fixture(scope="module")
def drawn() -> tuple[Renderer, Scene, Relighting]:
    engine = Renderer.from_pretrained(network=False)
    world = scene(Environment((0.1, 0.15, 0.2)))
    return engine, world, Relighting.of(engine, engine.encode(world), CAMERA, (32, 24))


def test_the_viewer_saves_its_picture_split_by_lights(
    drawn: tuple[Renderer, Scene, Relighting], tmp_path: Path
) -> None:
    engine, world, _ = drawn
    session = Session(world, engine, (20, 16))
    try:
        session.edit(lambda document: document.set_light("key", strength=45.0))
        assert session.scheduler.wait(120)
        session.save(tmp_path / "room.lights.exr")
        split = Relighting.load(tmp_path / "room.lights.exr").split
        assert list(split.lights) == ["key", "fill", "environment"]
        expected = engine.render(session.document.scene, (20, 16), session.orbit.camera)[0].hdr
        np.testing.assert_allclose(split.joint.hdr, expected, rtol=2e-3, atol=1e-4)
        with pytest.raises(InputError, match="does not exist"):
            session.save(tmp_path / "none" / "lights.exr")
    finally:
        session.close()


def test_edits_of_lights_are_followed_to_the_picture_that_would_be_drawn(
    drawn: tuple[Renderer, Scene, Relighting],
) -> None:
    engine, world, relighting = drawn
    document = SceneDocument(world)
    document.set_light("key", strength=45.0)
    document.set_material("fill", emission=(0.0, 60.0, 30.0))
    document.set_environment(strength=3.0)
    assert relighting.follow(document.scene)
    assert relighting.setting("key").strength == pytest.approx(0.5)
    assert relighting.factors["fill"] == pytest.approx((0.0, 2.0, 1.0))
    assert relighting.factors["environment"] == pytest.approx((3.0, 3.0, 3.0))
    expected = engine.render(document.scene, (32, 24))[0].hdr
    assert np.abs(relighting.picture().hdr - expected).mean() < 0.01 * expected.mean()
    while document.undo():
        pass
    assert relighting.follow(document.scene)
    np.testing.assert_allclose(relighting.picture().hdr, relighting.split.joint.hdr, atol=1e-5)


def test_other_edits_are_not_followed(drawn: tuple[Renderer, Scene, Relighting]) -> None:
    _, world, relighting = drawn
    relighting.reset()
    edits = (
        lambda document: document.set_material("floor", diffuse=0.9),
        lambda document: document.set_material("key", roughness=0.9),
        lambda document: document.place("key", Placement((0.1, 0.0, 0.0))),
        lambda document: document.set_light("key", size=0.2),
        lambda document: document.set_material("floor", emission=1.0),
        lambda document: document.set_visible("key", False),
        lambda document: document.add_light(),
        lambda document: document.set_environment(rotation=90.0),
        lambda document: document.set_environment("sky"),
        lambda document: document.set_environment("none"),
    )
    for edit in edits:
        document = SceneDocument(world)
        edit(document)
        document.set_light("fill", strength=1.0)
        assert not relighting.follow(document.scene)
    assert relighting.factors == dict.fromkeys(("key", "fill", "environment"), (1.0, 1.0, 1.0))


def test_lights_that_share_a_picture_are_followed_together_only() -> None:
    engine = Renderer.from_pretrained(network=False)
    lamps = [lamp(f"l{number:02}", 0.1 * number - 0.8, 5.0 + number) for number in range(18)]
    world = scene().replace(objects=(*scene().objects[:2], *lamps))
    relighting = Relighting.of(engine, engine.encode(world), CAMERA, 8)
    assert "others" in relighting.lights
    weak = {"l00", "l01", "l02"}

    def dimmed(names: set[str]) -> Scene:
        return world.replace(objects=tuple(m.dimmed(0.5) if m.name in names else m for m in world.objects))

    assert relighting.follow(dimmed(weak))
    assert relighting.setting("others").strength == pytest.approx(0.5)
    assert not relighting.follow(dimmed({"l00"}))
    assert relighting.follow(dimmed({"l17"}))
    assert relighting.factors["l17"] == pytest.approx((0.5, 0.5, 0.5))
    assert relighting.factors["others"] == (1.0, 1.0, 1.0)


def test_a_light_whose_triangles_change_apart_is_not_followed() -> None:
    two = ball(0.1, Material(emission=(3.0, 2.0, 1.0)), (0.5, -0.5, 1.0), "many", detail=0)
    rows = two.materials.copy()
    rows[0, 10:] *= 2
    before, after = scene().with_object(two), scene().with_object(replace(two, materials=rows))
    assert factors_between(before, after) is None
    assert factors_between(before, scene().with_object(two.dimmed((0.5, 1.0, 2.0)))) is not None


def by_name(panel: RelightPanel) -> dict[str, Control]:
    return {control.name: control for control in panel.controls}


def test_the_panel_has_a_section_for_each_light(tmp_path: Path) -> None:
    split = made()
    panel: Any = RelightPanel(Relighting(split), exposure=1.0)
    controls = by_name(panel)
    assert panel.sections == ("Picture", "l0", "l1", "l2")
    assert len(controls) == len(panel.controls)
    controls["l0 strength"].set(panel, 2.5)
    controls["l1 colour"].set(panel, (255, 0, 0))
    controls["l2 on"].set(panel, False)
    assert controls["l0 exactly"].value(panel) == 2.5
    assert controls["l1 colour"].value(panel) == (255, 0, 0)
    expected = split.relight({"l0": 2.5, "l1": (1, 0, 0), "l2": 0})
    np.testing.assert_allclose(panel.image().hdr, expected.hdr, rtol=1e-6)
    np.testing.assert_array_equal(panel.shown(), np.rint(expected.tone_mapped(exposure=1.0) * 255))
    controls["l2 alone"].set(panel, None)
    assert [controls[f"l{i} on"].value(panel) for i in range(3)] == [False, False, True]
    controls["picture reset"].set(panel, None)
    np.testing.assert_allclose(panel.image().hdr, split.joint.hdr, rtol=1e-6)


def test_a_light_may_have_any_name() -> None:
    light = made().lights["l0"]
    split = Split(Image(light * 3), {"Picture": light, "": light, "picture exposure": light})
    panel = RelightPanel(Relighting(split))
    assert len(by_name(panel)) == len(panel.controls)
    assert len(set(panel.sections)) == 4


def test_a_page_shows_the_lights_and_sends_pictures() -> None:
    pytest.importorskip("viser", reason="the viewer extra is not installed")
    from renderformer.viewer.relight_page import RelightPage, on_black

    page = RelightPage(RelightPanel(Relighting(made())), 8935)
    files: dict[str, bytes] = {}
    notes: list[tuple[str, ...]] = []
    client = SimpleNamespace(
        send_file_download=lambda name, data: files.update({name: data}),
        add_notification=lambda *line, **options: notes.append(line),
    )
    try:
        handle = page.controls["l0 strength"]
        handle._impl.value = 3.0
        for callback in handle._impl.update_cb:
            callback(SimpleNamespace(client=client, target=handle))
        assert page.panel.relighting.setting("l0").strength == 3.0
        assert page.controls["l0 exactly"].value == 3.0
        page._download(".exr", client)
        page._download(".png", client)
        assert files["relit.png"].startswith(b"\x89PNG")
        assert files["relit.exr"][:4] == b"\x76\x2f\x31\x01"
        assert not notes
        with urllib.request.urlopen(page.url, timeout=30) as answer:
            assert answer.status == 200
    finally:
        page.close()
    square = on_black(np.full((4, 8, 3), 9, np.uint8), 1.0)
    assert square.shape == (8, 8, 3)
    assert (square.sum(axis=(1, 2)) == [0, 0, 216, 216, 216, 216, 0, 0]).all()
    assert on_black(np.full((4, 8, 3), 9, np.uint8), 4.0).shape == (4, 16, 3)


WINDOW = """
import io, os, subprocess, sys, time, traceback
import numpy as np
from PIL import Image
from renderformer.viewer.relight_panel import RelightPanel
from renderformer.viewer.relight_window import RelightWindow, gui
from renderformer.viewer.relight_panel import RelightPanel
from renderformer.viewer.relighting import Relighting

def fail(*error):
    traceback.print_exception(*error)
    sys.stderr.flush()
    os._exit(1)

sys.excepthook = fail
gui.Application.instance.initialize()
panel = RelightPanel(Relighting.load(sys.argv[1]), "none")
window = RelightWindow(panel)
controls = {control.name: control for control in panel.controls}

def middle():
    box, frame = window.rectangle(), window.window.os_frame
    data = subprocess.run(["import", "-window", "root", "png:-"], capture_output=True, check=True).stdout
    pixels = np.asarray(Image.open(io.BytesIO(data)).convert("RGB")).astype(int)
    return pixels[frame.y + box.y + box.height // 2, frame.x + box.x + box.width // 2]

def until(colour):
    end = time.monotonic() + 60
    while np.abs(middle() - colour).max() > 3:
        assert time.monotonic() < end, (middle(), colour)
        gui.Application.instance.run_one_tick()

until((188, 188, 188))
window._change(controls["l0 on"], False)
until((0, 188, 0))
window._change(controls["l1 strength"], 2.0)
until((0, 255, 0))
assert window.controls["l1 exactly"].double_value == 2.0
window.close()
print("done", flush=True)
os._exit(0)
"""


@pytest.mark.skipif(
    not (shutil.which("Xvfb") and shutil.which("import") and importlib.util.find_spec("open3d")),
    reason="needs Xvfb, ImageMagick and Open3D",
)
def test_a_window_shows_the_changed_lights(tmp_path: Path) -> None:
    magenta, green = np.zeros((2, 6, 8, 3), np.float32)
    magenta[..., ::2], green[..., 1] = 0.5, 0.5
    Split(Image(magenta + green), {"l0": magenta, "l1": green}).save(tmp_path / "a.exr")
    display = ("xvfb-run", "-a", "-s", "-screen 0 1200x800x24")
    program = [*display, sys.executable, "-c", WINDOW, str(tmp_path / "a.exr")]
    done = subprocess.run(program, capture_output=True, text=True, timeout=240, check=False)
    assert "done" in done.stdout, done.stderr[-2000:]


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (("--resolution", "64"), 2, "--resolution: cannot be used, room.exr is a picture split by lights"),
        (("--no-network",), 2, "--no-network: cannot be used"),
        (("--stage", "box"), 2, "--stage: cannot be used"),
        (("--background", "white"), 2, "--background: cannot be used"),
        (("-o", "edited.json"), 2, "unknown picture format"),
        (("--web",), 1, "room.exr: no such file"),
    ],
)
def test_views_of_split_pictures_that_cannot_be(run: Run, arguments: tuple[str, ...], code: int, words: str) -> None:
    result = run("view", "room.exr", *arguments)
    assert result.code == code
    assert words in " ".join(result.err.replace("│", " ").split())


def test_the_program_writes_the_picture_as_it_was_relit(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    page = pytest.importorskip("renderformer.viewer.relight_page")
    split = made()
    split.save(tmp_path / "room.exr", half=False)

    def serve(panel: Any, port: int, say: Any) -> None:
        panel.relighting.change("l1", strength=4.0)
        panel.exposure = -1.0

    monkeypatch.setattr(page, "serve", serve)
    result = run("view", "room.exr", "--web", "-o", "evening.npy")
    assert (result.code, result.err) == (0, "wrote evening.npy\n")
    expected = split.relight({"l1": 4.0}).hdr / 2
    np.testing.assert_allclose(Image.load(tmp_path / "evening.npy").hdr, expected, rtol=1e-5)
    assert run("view", "room.exr", "--web", "-o", "evening.npy").code == 1
