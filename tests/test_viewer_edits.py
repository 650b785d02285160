"""What the panel edits: materials by name, light colours, environments from files; and what is not lit anew for it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers.browser import until
from helpers.ray_engine import RayEngine, a_scene
from helpers.shapes import box

from renderformer.data.environment import Environment
from renderformer.data.errors import InputError
from renderformer.data.scene import EMISSION, Light, Material, Scene
from renderformer.image import Image
from renderformer.renderer import Renderer
from renderformer.viewer.document import SceneDocument
from renderformer.viewer.drafts import relit
from renderformer.viewer.fingerprints import fingerprint
from renderformer.viewer.frames import Frame
from renderformer.viewer.panel import Panel
from renderformer.viewer.placement import Placement
from renderformer.viewer.presets import OWN, PRESETS, preset_of
from renderformer.viewer.session import Session
from renderformer.viewer.snapshot import Snapshots, read


@pytest.fixture
def panel() -> Iterator[Panel]:
    session = Session(a_scene(), RayEngine(), 32)  # type: ignore[arg-type]
    yield Panel(session)
    assert session.close()


def hdr(folder: Path, name: str = "meadow.exr", colour: tuple[float, float, float] = (0.5, 1.0, 2.0)) -> Path:
    """A file of an environment of one colour."""
    image = np.tile(np.array(colour, np.float32), (8, 16, 1))
    Image(image).save(folder / name)
    return folder / name


@pytest.mark.parametrize("start", [{"diffuse": (0.2, 0.5, 0.1)}, {"metallic": 0.5, "alpha": 0.5}])
def test_an_object_that_gets_a_material_by_name_is_of_that_name_and_one_step_takes_it_back(start: Any) -> None:
    session = Session(Scene((box(0.6, Material()), Light().mesh())), RayEngine(), 16)  # type: ignore[arg-type]
    try:
        panel = Panel(session)
        panel.set_material(**start)
        for name in PRESETS:
            before = session.document.scene
            assert panel.item is not None
            panel.set_preset(name)
            assert preset_of(panel.item.material) == name
            session.undo()
            assert session.document.scene is before
        panel.set_preset(OWN)
        assert session.document.scene is before
    finally:
        assert session.close()


def test_a_matte_material_stays_one_that_rows_hold_and_keeps_its_colour(panel: Panel) -> None:
    panel.set_preset("glossy plastic")
    panel.set_preset("matte")
    assert panel.item is not None
    assert panel.item.base.appearance is None
    assert panel.item.material.diffuse == pytest.approx((0.8, 0.3, 0.2))


def test_a_light_takes_a_colour_and_keeps_its_strength_place_and_placement() -> None:
    document = SceneDocument(
        Scene((box(0.6, Material()), Light((0, 0, 2), emission=(100.0, 50.0, 0.0), name="lamp").mesh()))
    )
    document.place("lamp", Placement((0.1, 0.0, 0.0)))
    for colour, expected in (((0.0, 0.2, 0.4), (0, 50, 100)), ((0.5, 0.5, 0.5), (100, 100, 100))):
        document.set_light("lamp", colour=colour)
        assert document["lamp"].mesh.materials[0, EMISSION] == pytest.approx(expected, rel=1e-5)
    document.set_light("lamp", strength=10.0)
    assert document["lamp"].placement == Placement((0.1, 0.0, 0.0))
    with pytest.raises(InputError, match="its colour is black"):
        document.set_light("lamp", colour=(0.0, 0.0, 0.0))
    assert document["lamp"].light.emission == pytest.approx((10, 10, 10))


def test_an_environment_from_a_file_surrounds_the_scene_can_be_chosen_again_and_undone(
    panel: Panel, tmp_path: Path
) -> None:
    session, document = panel.session, panel.session.document
    panel.set_environment(kind="sky")
    panel.set_environment(strength=3.0, rotation=20.0, background="transparent")
    assert session.open_environment(hdr(tmp_path)) == []
    present = document.surroundings.present
    assert (document.surroundings.kind, present.strength, present.rotation) == ("meadow.exr", 3.0, 20.0)
    assert present.background == "transparent"
    assert np.allclose(present.image, (0.5, 1.0, 2.0), rtol=1e-3)
    panel.set_environment(kind="studio")
    panel.set_environment(kind="meadow.exr")
    assert np.allclose(document.surroundings.present.image, (0.5, 1.0, 2.0), rtol=1e-3)
    for _ in range(3):
        panel.undo()
    assert document.surroundings.kind == "sky"
    assert "meadow.exr" not in document.surroundings.kinds


def test_an_environment_in_a_scene_without_one_keeps_its_own_strength_and_bad_files_change_nothing(
    panel: Panel, tmp_path: Path
) -> None:
    document = panel.session.document
    bad = tmp_path / "bad.hdr"
    bad.write_bytes(b"nothing")
    before = document.scene
    for path in (bad, tmp_path / "missing.exr", hdr(tmp_path).with_suffix(".png")):
        with pytest.raises(InputError, match=path.name):
            panel.session.open_environment(path)
    with pytest.raises(InputError, match=r"bad\.hdr"):
        panel.open(bad)
    assert document.scene is before
    panel.session.open_environment(hdr(tmp_path, "studio.exr"))
    assert document.surroundings.kind == "studio.exr"
    assert document.surroundings.present.strength == 1.0


def test_stretches_and_environments_from_files_outlive_a_snapshot(panel: Panel, tmp_path: Path) -> None:
    document = panel.session.document
    panel.place(stretch=(1.0, 2.0, 0.5))
    panel.session.open_environment(hdr(tmp_path))
    Snapshots(tmp_path / "kept").write({"state": document.version})
    other = SceneDocument(a_scene())
    other.recover(read(tmp_path / "kept")["state"])
    assert fingerprint(other.scene) == fingerprint(document.scene)
    assert other.surroundings.kinds == document.surroundings.kinds
    assert other.items[0].placement.stretch == (1.0, 2.0, 0.5)


def a_room() -> Scene:
    return Scene(
        (*a_scene().objects, box(0.2, Material((0.2, 0.4, 0.8)))),
        a_scene().cameras,
        environment=Environment((0.2, 0.3, 0.4)),
    )


def test_edits_that_move_nothing_keep_the_tree_and_give_the_picture_of_a_new_one() -> None:
    document = SceneDocument(a_room())
    renderer = Renderer.from_pretrained(network=False)
    known = renderer.encode(document.scene)
    assert known.caster is not None
    document.set_light("light", strength=700.0)
    document.set_material("floor", diffuse=(0.1, 0.7, 0.1))
    caster = relit(known.unit.scene(document.scene), known.caster)
    assert caster is not None
    assert caster.tree is known.caster.tree
    camera = document.scene.cameras[0]
    fresh = renderer.encode(document.scene)
    assert fresh.caster is not None
    pictures = [c.features(camera, 24, 16, antialias=1, refine=1, shadow_rays=1) for c in (caster, fresh.caster)]
    assert np.abs(pictures[0] - pictures[1]).mean() < 0.02 * np.abs(pictures[1]).mean()
    document.place("floor", Placement((0.0, 0.0, -0.1)))
    moved = relit(known.unit.scene(document.scene), known.caster)
    assert moved is not None
    assert moved.tree is not known.caster.tree


def test_another_background_is_drawn_without_lighting_the_scene_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    renderer = Renderer.from_pretrained(network=False)
    encoded: list[Any] = []
    encode = renderer.encode
    monkeypatch.setattr(renderer, "encode", lambda *values: encoded.append(values[0]) or encode(*values))
    session = Session(a_room(), renderer, (24, 16))
    try:
        session.request()
        assert session.scheduler.wait(60)
        for background in ("invisible", "transparent", "visible"):
            session.edit(lambda document: document.set_environment(background=background))  # noqa: B023
            assert session.scheduler.wait(60)
            frame = session.frame
            assert frame is not None
            assert frame.final
            camera = session.orbit.camera
            expected = Renderer.from_pretrained(network=False).render(session.document.scene, (24, 16), camera)[0]
            assert np.array_equal(frame.image.hdr, expected.hdr)
            assert (frame.image.alpha is None) == (background != "transparent")
        assert len(encoded) == 1
        session.edit(lambda document: document.set_environment(strength=2.0))
        assert session.scheduler.wait(60)
        assert len(encoded) == 2
    finally:
        assert session.close()


def test_once_a_light_is_chosen_its_strength_changes_at_once_in_full_resolution() -> None:
    renderer = Renderer.from_pretrained(network=False)
    session = Session(a_room(), renderer, (40, 30))
    panel = Panel(session)
    frames: list[Frame] = []
    try:
        session.request()
        assert session.scheduler.wait(60)
        panel.choose("light")
        lights = session.scheduler._lights
        until(lambda: not lights.lack(session.orbit.camera, session.view_size), 60)
        session.on_frame = frames.append

        def drawn(change: Any) -> list[Frame]:
            frames.clear()
            change()
            assert session.scheduler.wait(60)
            return list(frames)

        # The first picture has every pixel, and is as good as the exact one, which follows once.
        for strength, colour in ((700.0, (1.0, 0.5, 0.2)), (9000.0, (0.2, 0.5, 1.0))):
            before = session.document.scene
            first, last = drawn(lambda: panel.set_light(strength=strength, colour=colour))  # noqa: B023
            assert (first.image.width, first.image.height) == (40, 30)
            assert last.final
            exact = renderer.render(session.document.scene, (40, 30), session.orbit.camera)[0]
            assert np.array_equal(last.image.hdr, exact.hdr)
            assert np.abs(first.image.hdr - exact.hdr).mean() < 0.02 * exact.hdr.mean()
            assert session.document.scene is not before
        first, _ = drawn(lambda: panel.set_environment(strength=3.0))
        assert first.image.width == 40
        # What changes more than lights is drawn anew.
        first, *_ = drawn(lambda: panel.session.edit(lambda d: d.set_material("floor", diffuse=(0.0, 0.9, 0.0))))
        assert first.image.width < 40 or first.span is not None
        first, *_ = drawn(lambda: session.move(lambda orbit: orbit.orbit(20, 0)))
        assert first.image.width < 40 or first.span is not None
    finally:
        assert session.close()


def test_another_strength_of_an_environment_shares_its_image_and_is_checked() -> None:
    environment = Environment(np.full((4, 8, 3), 0.5, np.float32), name="meadow")
    other = environment.replace(strength=2.0, background="transparent")
    assert other.image is environment.image
    assert (other.strength, environment.strength) == (2.0, 1.0)
    scenes = [a_scene().replace(environment=part) for part in (environment, other, other.replace(strength=1.0))]
    scenes.append(a_scene().replace(environment=environment.replace(image=np.full((4, 8, 3), 0.4, np.float32))))
    assert len({fingerprint(scene) for scene in scenes}) == 4
    same = other.replace(strength=1.0, background="visible")
    assert fingerprint(a_scene().replace(environment=same)) == fingerprint(scenes[0])
    with pytest.raises(InputError, match="environment 'meadow': strength is -1"):
        environment.replace(strength=-1.0)
    with pytest.raises(TypeError):
        environment.replace(colour=1.0)
