"""The viewer without a window: camera, document, picking, paths, display."""

from __future__ import annotations

import itertools
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers.intersection import intersections
from hypothesis import example, given, settings
from hypothesis import strategies as st

from renderformer.check import check_scene
from renderformer.data.appearance import Appearance
from renderformer.data.camera import Camera
from renderformer.data.camera_path import CameraPath, Key, View, turntable
from renderformer.data.colour import srgb_to_linear
from renderformer.data.environment import Environment, Sun
from renderformer.data.errors import InputError
from renderformer.data.material import Textures
from renderformer.data.scene import DIFFUSE, EMISSION, ROUGHNESS, SPECULAR, Light, Material, Mesh, Scene
from renderformer.data.texture import Texture
from renderformer.data.trained_range import TrainedRange
from renderformer.data.unit_size import UnitSize
from renderformer.image import Image
from renderformer.viewer.camera import OrbitCamera, outside
from renderformer.viewer.display import (
    Rect,
    Reference,
    beside_bar,
    difference,
    display_values,
    letterbox,
    margins,
    split_depth,
)
from renderformer.viewer.document import SceneDocument
from renderformer.viewer.fingerprints import fingerprint
from renderformer.viewer.lights import light_of
from renderformer.viewer.picker import Pick, Picker
from renderformer.viewer.placement import Placement
from renderformer.viewer.preview import Lighting, behind, coloured

ANGLES = st.floats(-400, 400)
SMALL = st.floats(-2, 2)


def a_scene(seed: int = 0) -> Scene:
    rng = np.random.default_rng(seed)
    soup = Mesh("soup", rng.uniform(-0.4, 0.4, (40, 3, 3)), materials=Material((0.7, 0.2, 0.1)).row())
    floor = Mesh("floor", [[[-0.5, -0.5, -0.45], [0.5, -0.5, -0.45], [0, 0.5, -0.45]]])
    camera = Camera.from_angles(30, 25, 1.7, name="start")
    return Scene((soup, floor, Light((0.3, -0.5, 2.2)).mesh()), (camera,))


def a_cloth() -> Mesh:
    """A triangle with a texture."""
    patches = np.zeros((1, 13, 32, 32), np.float16)
    inside = np.add.outer(np.arange(32), np.arange(32)) <= 32
    patches[0, 0:3] = np.random.default_rng(1).uniform(0, 1, (3, 32, 32)) * inside
    return replace(a_scene().objects[1], name="cloth", patches=patches, patch_index=np.zeros(1, np.int32))


def contents(scene: Scene) -> bytes:
    parts = [np.ascontiguousarray(a).tobytes() for a in (scene.triangles, scene.normals, scene.materials)]
    names = repr([(m.name, len(m)) for m in scene.objects]).encode()
    return b"".join([names, *parts, *(c.c2w.tobytes() for c in scene.cameras)])


@given(moves=st.lists(st.tuples(st.sampled_from(["orbit", "pan", "dolly", "zoom"]), SMALL, SMALL), max_size=12))
@settings(max_examples=30)
def test_a_limited_camera_never_leaves_the_range_that_check_scene_accepts(
    moves: list[tuple[str, float, float]],
) -> None:
    orbit = OrbitCamera(a_scene().cameras[0])
    for kind, a, b in moves:
        if kind == "orbit":
            orbit.orbit(200 * a, 90 * b)
        elif kind == "pan":
            orbit.pan(a, b)
        elif kind == "dolly":
            orbit.dolly(math.exp(a))
        else:
            orbit.zoom(40 * a)
        complaints = check_scene(a_scene().replace(cameras=(orbit.camera,)))
        assert not [line for line in complaints if "camera" in line and "inside the scene" not in line]


def test_the_limits_warn_while_they_hold_and_can_be_switched_off() -> None:
    orbit = OrbitCamera(View())
    assert orbit.limited
    assert not orbit.warning
    orbit.dolly(3.0)
    assert "held" in orbit.warning
    assert orbit.view.origin_distance == pytest.approx(2.0)
    orbit.orbit(5, 0)
    assert not orbit.warning
    orbit.limited = False
    orbit.dolly(3.0)
    assert orbit.view.origin_distance == pytest.approx(6.0)
    assert "6" in orbit.warning
    assert "1.5 … 2" in orbit.warning
    orbit.limited = True
    assert orbit.view.origin_distance == pytest.approx(2.0)
    assert "held" in orbit.warning


def test_the_limits_are_those_of_the_model() -> None:
    trained = TrainedRange(box=1.0, camera_distance=(3.0, 5.0), fov=(20.0, 25.0))
    orbit = OrbitCamera(View(distance=4.0, fov=22.0), trained=trained)
    assert orbit.limited
    orbit.dolly(9.0)
    orbit.zoom(40.0)
    assert orbit.view.origin_distance == pytest.approx(5.0)
    assert orbit.view.fov == 25.0
    assert outside(View(), trained) == [
        "the camera stands 1.75 from the middle, trained on 3 … 5",
        "the fov is 37.5 degrees, trained on 20 … 25",
    ]


def test_a_camera_of_the_scene_is_kept_exactly_until_it_is_moved_even_out_of_range() -> None:
    rolled = Camera.look_at((0.5, -3.0, 1.0), (0.1, 0, 0), up=(1, 0, 1), fov=20)
    orbit = OrbitCamera(rolled)
    assert orbit.camera is rolled
    assert not orbit.limited
    assert orbit.warning
    orbit.orbit(10, 0)
    assert orbit.camera is not rolled
    orbit.home()
    assert orbit.camera is rolled


@given(azimuth=ANGLES, elevation=st.floats(-89, 89), distance=st.floats(0.5, 4))
@settings(max_examples=30)
def test_a_view_of_a_camera_gives_the_camera_back(azimuth: float, elevation: float, distance: float) -> None:
    camera = Camera.from_angles(azimuth, elevation, distance, fov=41)
    np.testing.assert_allclose(View.of(camera).camera().c2w, camera.c2w, atol=2e-5)


@pytest.mark.parametrize("elevation", [-90, 90])
@pytest.mark.parametrize("azimuth", [0, 50, -120])
def test_a_view_straight_down_keeps_its_heading(azimuth: float, elevation: float) -> None:
    camera = Camera.from_angles(azimuth, elevation, 1.75)
    np.testing.assert_allclose(View.of(camera).camera().c2w, camera.c2w, atol=1e-3)


def test_panning_moves_the_target_by_shares_of_the_picture() -> None:
    orbit = OrbitCamera(View(azimuth=0, elevation=0, distance=1.75))
    orbit.pan(0.1, 0.05)
    height = 2 * 1.75 * math.tan(math.radians(37.5 / 2))
    assert orbit.view.target == pytest.approx((0.1 * height, 0, 0.05 * height))


def test_bookmarks_come_back_and_a_full_turn_ends_where_it_began() -> None:
    orbit = OrbitCamera(View(azimuth=20))
    first = orbit.bookmark()
    orbit.turntable(3.0, 30.0)
    assert orbit.view.azimuth == pytest.approx(110)
    second = orbit.bookmark()
    assert first != second
    orbit.recall(first)
    assert orbit.view == View(azimuth=20)
    orbit.turntable(12.0, 30.0)
    assert orbit.view.azimuth == pytest.approx(20)
    with pytest.raises(InputError, match="no bookmark 'x'; there are: view 1, view 2"):
        orbit.recall("x")
    orbit.forget(first)
    with pytest.raises(InputError, match="there are: view 2"):
        orbit.forget(first)
    with pytest.raises(InputError, match="not finite"):
        orbit.orbit(math.nan, 0)


def edits(document: SceneDocument) -> list[object]:
    """Every kind of edit."""
    return [
        lambda: document.set_visible("soup", False),
        lambda: document.set_visible("soup", True),
        lambda: document.place("soup", Placement((0.1, 0, 0.2), (10, 20, 30), 1.3)),
        lambda: document.set_material("soup", diffuse=(0, 1, 0), roughness=0.2),
        lambda: document.set_light("light", position=(0, 1, 2), size=0.15, strength=3000.0),
        lambda: document.add_light(Light((0, 0, 2.5))),
        lambda: document.remove("floor"),
        lambda: document.set_cameras((Camera.from_angles(1),)),
    ]


def test_undo_to_the_beginning_gives_the_same_scene_and_redo_every_step_again() -> None:
    scene = a_scene()
    before = contents(scene)
    document = SceneDocument(scene)
    steps = [contents(document.scene)]
    for edit in edits(document):
        edit()  # type: ignore[operator]
        steps.append(contents(document.scene))
    assert all(a != b for a, b in itertools.pairwise(steps))
    for expected in reversed(steps[:-1]):
        assert document.undo()
        assert contents(document.scene) == expected
    assert document.scene is scene
    assert not document.edited
    assert contents(scene) == before
    assert document.undo() == ""
    for expected in steps[1:]:
        assert document.redo()
        assert contents(document.scene) == expected
    assert document.redo() == ""


ACTIONS = {
    "hide": lambda d, a: d.set_visible("soup", a > 0),
    "place": lambda d, a: d.place("soup", Placement((a, 0, 0.1), (90 * a, 10, 0), math.exp(a))),
    "material": lambda d, a: d.set_material("cloth", diffuse=abs(a), roughness=abs(a)),
    "light": lambda d, a: d.set_light("light", position=(a, 0.3, 2.2), strength=1 + abs(a)),
    "add light": lambda d, a: d.add_light(),
    "remove": lambda d, a: d.remove(d.items[-1].name) if len(d.items) > 4 else None,
    "cameras": lambda d, a: d.set_cameras((Camera.from_angles(100 * a),)),
    "open": lambda d, a: d.open(a_scene(7).with_object(a_cloth())),
    "undo": lambda d, a: d.undo(),
    "redo": lambda d, a: d.redo(),
}


@given(steps=st.lists(st.tuples(st.sampled_from(sorted(ACTIONS)), st.floats(-1, 1)), max_size=15))
@settings(max_examples=10)
def test_after_any_edits_undo_to_the_beginning_is_the_same_scene_byte_for_byte(
    steps: list[tuple[str, float]], tmp_path_factory: pytest.TempPathFactory
) -> None:
    scene = a_scene().with_object(a_cloth())
    folder = tmp_path_factory.getbasetemp()
    scene.save(folder / "before.json")
    document = SceneDocument(scene)
    for name, amount in steps:
        ACTIONS[name](document, amount)
    while document.undo():
        pass
    assert document.scene is scene
    assert not document.unsaved
    document.scene.save(folder / "after.json")
    before, after = ((folder / f"{name}.json").read_bytes() for name in ("before", "after"))
    assert after == before.replace(b"before_meshes", b"after_meshes")
    for file in (folder / "before_meshes").iterdir():
        assert (folder / "after_meshes" / file.name).read_bytes() == file.read_bytes()


def test_opening_another_scene_is_undone_and_what_was_not_saved_is_not_forgotten() -> None:
    scene, other = a_scene(), a_scene(3)
    document = SceneDocument(scene)
    document.open(other)
    assert document.scene is other
    assert not document.unsaved
    document.undo()
    assert document.scene is scene
    document.set_visible("soup", False)
    assert document.unsaved
    document.mark_saved(document.version)
    assert document.edited
    assert not document.unsaved
    document.set_visible("floor", False)
    document.open(other)
    assert not document.edited
    assert document.unsaved
    for _ in range(2):
        document.undo()
    assert not document.unsaved


def test_a_drag_of_a_slider_is_one_step_of_undo_and_a_pause_ends_it() -> None:
    now = [0.0]
    document = SceneDocument(a_scene(), clock=lambda: now[0])
    for i in range(50):
        now[0] += 0.05
        document.set_material("soup", roughness=i / 50)
    now[0] += 5
    document.set_material("soup", roughness=1.0)
    document.seal()
    document.set_material("soup", roughness=0.9)
    document.set_material("floor", roughness=0.9)
    for expected in (0.9, 1.0, 49 / 50, 0.5):
        document.undo()
        assert document["soup"].base.materials[0, ROUGHNESS] == pytest.approx(expected)
    assert not document.edited


def test_an_edit_after_undo_forgets_what_could_be_redone() -> None:
    document = SceneDocument(a_scene())
    document.set_visible("soup", False)
    document.undo()
    document.set_visible("floor", False)
    assert document.redo() == ""
    assert [mesh.name for mesh in document.scene.objects] == ["soup", "light"]


def test_edits_that_cannot_be_leave_the_document_as_it_was() -> None:
    scene = a_scene()
    document = SceneDocument(scene)
    bad = [
        (lambda: document.set_material("soup", diffuse=2.0), "diffuse"),
        (lambda: document.set_material("none", diffuse=1.0), "no object 'none'"),
        (lambda: document.place("soup", Placement(scale=0.0)), "scale"),
        (lambda: document.set_light("soup", strength=1.0), "does not emit"),
        (lambda: document.set_light("light", strength=-1.0), "strength"),
        (lambda: document.set_light("light", size=math.nan), "size"),
        (lambda: document.set_light("light", position=(0.0, 0.0, math.inf)), "finite"),
    ]
    for edit, message in bad:
        with pytest.raises(InputError, match=message):
            edit()
    assert document.scene is scene
    for name in ("soup", "floor", "light"):
        document.set_visible(name, False)
    with pytest.raises(InputError, match="hidden"):
        _ = document.scene


def test_placements_are_counted_from_where_the_mesh_stood() -> None:
    document = SceneDocument(a_scene())
    base = document["soup"].base
    for angle in range(0, 360, 7):
        document.place("soup", Placement(rotation=(0, 0, angle)))
    document.place("soup", Placement((0.25, 0, 0), scale=2.0))
    moved = document["soup"].mesh
    centre = base.bounds.mean(axis=0)
    np.testing.assert_allclose(moved.triangles, (base.triangles - centre) * 2 + centre + [0.25, 0, 0], atol=1e-6)
    document.place("soup", Placement())
    assert document["soup"].mesh is base


def test_a_material_keeps_what_is_not_named_textures_too() -> None:
    mesh = a_cloth()
    patches, inside = mesh.patches, np.add.outer(np.arange(32), np.arange(32)) <= 32
    assert patches is not None
    document = SceneDocument(a_scene().with_object(mesh))
    document.set_material("cloth", roughness=0.25, specular=0.3)
    edited = document["cloth"].base
    assert edited.patches is not None
    np.testing.assert_array_equal(edited.patches[0, 0:3], patches[0, 0:3])
    np.testing.assert_array_equal(edited.patches[0, ROUGHNESS], np.where(inside, np.float16(0.25), 0))
    np.testing.assert_array_equal(edited.materials[:, DIFFUSE], mesh.materials[:, DIFFUSE])


def test_lights_move_facing_their_target_and_dim_in_their_hue() -> None:
    light = Light((0.5, -0.6, 2.2), emission=(3000, 1500, 600))
    document = SceneDocument(a_scene().with_object(light.mesh()))
    document.set_light("light", strength=1000.0)
    np.testing.assert_allclose(document["light"].base.materials[0, EMISSION], [1000, 500, 200], rtol=1e-5)
    document.set_light("light", position=(1.5, 1.5, 1.0), size=0.2)
    expected = replace(light, position=(1.5, 1.5, 1.0), size=0.2, emission=(1000, 500, 200)).mesh()
    np.testing.assert_allclose(document["light"].base.triangles, expected.triangles, atol=1e-5)
    edited_light = light_of(document["light"].base)
    assert edited_light.position == pytest.approx((1.5, 1.5, 1.0), abs=1e-5)
    assert edited_light.size == pytest.approx(0.2, abs=1e-5)


def test_a_light_that_its_place_leaves_no_size_is_refused() -> None:
    document = SceneDocument(a_scene())
    name = document.lights[0].name
    before = document.scene
    for change in ({"size": 1e-9}, {"position": (3e7, 3e7, 3e7), "size": 0.2}):
        with pytest.raises(InputError, match="lost to rounding at this place; expected a larger one"):
            document.set_light(name, **change)  # type: ignore[arg-type]
    assert document.scene is before
    document.set_light(name, size=1e-4)
    assert document[name].light.size == pytest.approx(1e-4, rel=0.01)


def test_a_large_light_moves_and_scales_as_a_whole() -> None:
    corners = np.array([[-1, -1, 2], [1, -1, 2], [1, 1, 2], [-1, 1, 2]], np.float32) * [0.1, 0.1, 1]
    panel = Mesh("panel", corners[[[0, 2, 1], [0, 3, 2]]], materials=Material(emission=(100, 100, 100)).row())
    document = SceneDocument(a_scene().with_object(panel))
    document.set_light("panel", position=(0.3, 0, 2.5), size=2 * light_of(panel).size)
    moved = document["panel"].base
    np.testing.assert_allclose(moved.bounds, [[0.1, -0.2, 2.5], [0.5, 0.2, 2.5]], atol=1e-5)


def test_added_lights_stand_apart_at_the_trained_distance() -> None:
    document = SceneDocument(a_scene())
    lights = [document[document.add_light()].light for _ in range(12)]
    apart = [math.dist(a.position, b.position) for a, b in itertools.combinations(lights, 2)]
    assert min(apart) > 2 * lights[0].size
    np.testing.assert_allclose([np.linalg.norm(light.position) for light in lights], 2.1, atol=1e-3)
    # The first place is free again.
    document.remove("light_2")
    assert document[document.add_light()].light.position == lights[0].position


def test_added_things_get_names_of_their_own(tmp_path: Path) -> None:
    document = SceneDocument(a_scene())
    assert document.add_light() == "light_2"
    assert document.add_light() == "light_3"
    mesh = Path(__file__).parents[1] / "examples" / "assets" / "gear.stl"
    names = document.add_file(mesh, budget=500)
    assert any(note.startswith("gear.stl: Z taken for up") for note in document.scene.notes)
    added = np.concatenate([document[name].mesh.triangles for name in names]).reshape(-1, 3)
    assert np.ptp(added, axis=0).max() == pytest.approx(0.5, abs=1e-4)
    assert added[:, 2].min() == pytest.approx(document["floor"].mesh.bounds[0, 2], abs=0.2)
    (name,) = [document.add_file(mesh)[0]]
    assert name not in names


def a_painted_square(**material: Any) -> Mesh:
    """Two triangles in z = 0 with a metallic material, by a picture that is clear on the left and red on the right."""
    pixels = np.zeros((4, 4, 4), np.uint8)
    pixels[:, 2:] = 200, 0, 0, 255
    shine = np.full((1, 1, 3), (0, 128, 255), np.uint8)
    textures = Textures(base=Texture(pixels), metallic_roughness=Texture(shine, srgb=False))
    look = Material((1.0, 1.0, 1.0), 0.04, metallic=0.0, textures=textures, alpha_cutoff=0.5, **material)  # type: ignore[arg-type]
    corners = np.array([[-0.4, -0.4, 0], [0.4, -0.4, 0], [0.4, 0.4, 0], [-0.4, 0.4, 0]], np.float32)
    uv = corners[:, :2] / 0.8 + 0.5
    faces = np.array([[0, 1, 2], [0, 2, 3]])
    return Mesh("square", corners[faces], appearance=Appearance.of(look, uv[faces]))


def test_editing_a_textured_material_keeps_its_other_textures_and_shows_the_new_value() -> None:
    document = SceneDocument(Scene((a_painted_square(), a_scene().objects[1])))
    picture = document["square"].base.appearance.materials[0].textures.base  # type: ignore[union-attr]
    document.set_material("square", metallic=1.0)
    document.set_material("square", alpha=0.75)
    document.set_material("square", roughness=0.25)
    material = document["square"].material
    assert (material.metallic, material.alpha) == (1.0, 0.75)
    assert material.roughness == pytest.approx(0.25)
    look = document["square"].base.appearance
    assert look is not None
    assert look.materials[0].textures.base is picture
    rows = document["square"].base.materials
    np.testing.assert_allclose(rows[:, DIFFUSE], 0, atol=1e-6)
    # A metal mirrors in its base colour.
    assert rows[0, SPECULAR][0] > 0.3
    assert rows[0, SPECULAR][1] == pytest.approx(0, abs=0.01)
    document.set_material("square", diffuse=(0.2, 0.4, 0.6))
    assert document["square"].material.diffuse == pytest.approx((0.2, 0.4, 0.6), abs=1e-4)
    for _ in range(4):
        document.undo()
    assert document["square"].material.metallic == pytest.approx(0)
    assert not document.edited


def test_a_plain_object_becomes_metal_by_the_formula_of_gltf_and_others_stay() -> None:
    scene = a_scene()
    document = SceneDocument(scene)
    document.set_material("soup", specular=0.04)
    document.set_material("soup", metallic=0.25)
    expected = 0.96 * 0.75 * np.array([0.7, 0.2, 0.1]), 0.04 * 0.75 + 0.25 * np.array([0.7, 0.2, 0.1])
    rows = document["soup"].mesh.materials
    np.testing.assert_allclose(rows[:, DIFFUSE], np.tile(expected[0], (40, 1)), atol=1e-5)
    np.testing.assert_allclose(rows[:, SPECULAR], np.tile(expected[1], (40, 1)), atol=1e-5)
    material = document["soup"].material
    assert material.metallic == pytest.approx(0.25)
    assert material.diffuse == pytest.approx((0.7, 0.2, 0.1), abs=1e-4)
    assert material.specular == pytest.approx((0.04, 0.04, 0.04), abs=1e-6)
    document.set_material("soup", emission=100.0)
    document.set_material("soup", alpha=0.5)
    assert document["soup"].material.emission == (100.0, 100.0, 100.0)
    np.testing.assert_allclose(document["soup"].mesh.materials[:, EMISSION], 50, rtol=1e-5)
    assert document["floor"].base is scene.objects[1]
    cloth = SceneDocument(Scene((a_cloth(),)))
    with pytest.raises(InputError, match=r"'cloth'.* texture patches .* no metallic"):
        cloth.set_material("cloth", metallic=1.0)


def test_a_see_through_object_lets_rays_of_the_picker_pass_and_edits_move_the_mask() -> None:
    scene = Scene((a_painted_square(), a_scene().objects[1]))
    above = Camera.look_at((0, 0, 2), (0, 0, 0), up=(0, 1, 0), fov=40)
    picker = Picker(scene)
    names = [getattr(picker.pick(above, x, 50, 100, 100), "name", None) for x in (40, 60)]
    assert names == ["floor", "square"]
    document = SceneDocument(scene)
    document.set_material("square", alpha=0.25)
    gone = Picker(document.scene).pick(above, 60, 50, 100, 100)
    assert gone is not None
    assert gone.name == "floor"


def test_a_light_keeps_its_sides_and_textures_when_it_is_moved_and_dimmed() -> None:
    lamp = replace(Light((0, 0, 2.0)).mesh(), two_sided=True)
    document = SceneDocument(a_scene().replace(objects=(lamp, *a_scene().objects[:2])))
    document.set_light("light", position=(0.5, 0, 1.5))
    assert document["light"].mesh.two_sided is True
    document.set_material("light", two_sided=False)
    assert document["light"].mesh.two_sided is False
    square = a_painted_square(emission=(8.0, 4.0, 2.0))
    document = SceneDocument(Scene((square, a_scene().objects[1])))
    before = square.materials[:, EMISSION]
    document.set_light("square", strength=float(before.max()) / 4)
    found = document["square"].base
    np.testing.assert_allclose(found.materials[:, EMISSION], before / 4, rtol=1e-5)
    look = found.appearance
    assert look is not None
    np.testing.assert_allclose(look.mean_rows(found.materials), found.materials, rtol=1e-5)
    document.set_material("square", two_sided=True)
    assert document["square"].mesh.two_sided is True


def test_the_fingerprint_follows_environment_sides_and_appearance() -> None:
    sky = Environment(0.5, suns=(Sun((0, 0, 1)),))
    scene = a_scene().replace(environment=sky)
    assert fingerprint(scene) == fingerprint(a_scene().replace(environment=Environment(0.5, suns=(Sun((0, 0, 1)),))))
    changed: list[Any] = [
        None,
        *(sky.replace(**change) for change in (
            {"strength": 2.0}, {"rotation": 5.0}, {"background": "transparent"}, {"suns": ()},
            {"image": (0.5, 0.5, 0.4)},
        )),
    ]  # fmt: skip
    marks = [fingerprint(scene), *(fingerprint(scene.replace(environment=other)) for other in changed)]
    soup, floor, lamp = scene.objects
    marks += [fingerprint(scene.replace(objects=(soup, floor, replace(lamp, two_sided=True))))]
    look = Appearance.of(Material(alpha=0.5), np.zeros((1, 3, 2)))
    for appearance in (look, look.edited(alpha=0.4), look.edited(two_sided=True), look.edited(metallic=0.0)):
        # The material rows of all of them are the same.
        marks.append(fingerprint(scene.replace(objects=(soup, replace(floor, appearance=appearance), lamp))))
    assert len(set(marks)) == len(marks)


def test_the_fingerprint_follows_contents_not_objects() -> None:
    scene = a_scene()
    assert fingerprint(scene) == fingerprint(a_scene())
    document = SceneDocument(scene)
    document.set_material("soup", roughness=0.1)
    assert fingerprint(document.scene) != fingerprint(scene)
    assert fingerprint(scene.replace(cameras=())) == fingerprint(scene)


def test_objects_that_are_placed_and_edited_in_any_order_are_known_again() -> None:
    turned, moved = Placement(rotation=(0, 0, 20)), Placement((0.1, 0, 0))
    marks = []
    for _ in range(2):
        document = SceneDocument(a_scene())
        names = [item.name for item in document.items][:2]
        found = [fingerprint(document.scene)]
        for name, placement, tint in itertools.product(names, (turned, moved), (0.2, 0.7)):
            document.place(name, placement)
            document.set_material(name, diffuse=(tint, 0.5, 0.5))
            found.append(fingerprint(document.scene))
        marks.append(found)
        for mark in reversed(found[:-1]):
            while fingerprint(document.scene) != mark:
                assert document.undo()
    assert marks[0] == marks[1]
    assert len(set(marks[0])) == len(marks[0])


def picked(scene: Scene, camera: Camera, *point: float, tree: bool) -> Pick | None:
    """What is picked with a tree, or as in a large scene that is not lit yet."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("renderformer.viewer.picker.LARGE", len(scene) + tree)
        picker = Picker(scene)
        assert picker.has_tree == tree
        return picker.pick(camera, *point)


@pytest.mark.parametrize("tree", [True, False])
def test_a_pick_passes_the_sides_that_no_camera_sees(tree: bool) -> None:
    corners = np.array([[[-1, -1, 0], [1, -1, 0], [0, 1, 0]]], np.float32)
    sides = {"both": 0.6, "front": 0.8, "none": 0.9}
    sheets = [replace(Mesh(name, corners + [0, 0, z]), camera_sides=name) for name, z in sides.items()]  # type: ignore[arg-type]
    scene = Scene((*sheets, Mesh("floor", corners * 2)))
    for height, name in ((2, "front"), (0.85, "front"), (0.7, "both"), (-2, "floor")):
        camera = Camera.look_at((0, 0, height), (0, 0, 0.3), up=(0, 1, 0), fov=40)
        pick = picked(scene, camera, 8, 8, 16, 16, tree=tree)
        assert pick is not None
        assert pick.name == name
    below = Camera.look_at((0, 0, 0.3), (0, 0, 3), up=(0, 1, 0), fov=40)
    assert getattr(picked(scene.replace(objects=sheets[1:]), below, 8, 8, 16, 16, tree=tree), "name", None) is None


@pytest.mark.parametrize("tree", [True, False])
@given(seed=st.integers(0, 1000), x=st.floats(0, 64), y=st.floats(0, 48))
@settings(max_examples=40)
def test_picking_agrees_with_trying_every_triangle(tree: bool, seed: int, x: float, y: float) -> None:
    scene = a_scene(seed)
    camera = scene.cameras[0]
    pick = picked(scene, camera, x, y, 64, 48, tree=tree)
    # A second implementation of the camera.
    scale = 2 * math.tan(math.radians(camera.fov) / 2) / 48
    direction = camera.c2w[:3, :3].astype(float) @ [(x - 32) * scale, (24 - y) * scale, -1.0]
    (t,), (weight,) = intersections(camera.position, direction[None], scene.triangles)
    candidates = np.where((weight > 0) & (t > 0), t, np.inf)
    # On an edge, or where two surfaces meet, either answer is right.
    if (np.abs(weight[t > 0]) < 1e-4).any():
        return
    if not np.isfinite(candidates.min()):
        assert pick is None
        return
    nearest = int(candidates.argmin())
    assert pick is not None
    names = [mesh.name for mesh in scene.objects for _ in range(len(mesh))]
    triangles_of_meshes = [i for mesh in scene.objects for i in range(len(mesh))]
    if np.sort(candidates)[1] - candidates.min() > 1e-5:
        assert (pick.name, pick.triangle) == (names[nearest], triangles_of_meshes[nearest])
    assert pick.distance == pytest.approx(candidates.min() * np.linalg.norm(direction), abs=1e-4)


def test_a_path_passes_its_keys_turns_the_short_way_and_stays_between_them() -> None:
    keys = [
        Key(0, View(170, 10, 1.6)),
        Key(1, View(-170, 40, 2.0, (0.1, 0, 0))),
        Key(4, View(-100, 15, 1.5, fov=50)),
    ]
    path = CameraPath(keys)
    for key in keys:
        drawn, expected = path.views([key.time])[0].camera(), key.view.camera()
        np.testing.assert_allclose(drawn.c2w, expected.c2w, atol=1e-5)
    views = path.views(np.linspace(0, 4, 200).tolist())
    azimuths = [view.azimuth for view in views]
    assert all(170 <= a <= 260 for a in azimuths)
    assert azimuths == sorted(azimuths)
    assert all(1.5 - 1e-9 <= view.distance <= 2.0 + 1e-9 for view in views)
    assert not any(outside(replace(view, target=(0, 0, 0)), TrainedRange()) for view in views)
    assert len(path.cameras(10)) == 41


def test_key_frames_are_saved_and_read(tmp_path: Path) -> None:
    path = CameraPath([Key(time, View(azimuth, 15, 1.8, (0.1, 0, 0.05), 40)) for time, azimuth in ((0, 0), (1.5, 300))])
    path.save(tmp_path / "flight.keys.json")
    for old, new in zip(path.cameras(10), CameraPath.load(tmp_path / "flight.keys.json").cameras(10), strict=True):
        np.testing.assert_array_equal(old.c2w, new.c2w)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[", "is not JSON"),
        ("[]", "expected keys and values"),
        ('{"keys": []}', "keys is"),
        ('{"keys": [{"time": 0, "azimuth": 0, "elevation": 100, "distance": 1}]}', "elevation is 100"),
        ('{"keys": [{"time": NaN, "azimuth": 0, "elevation": 0, "distance": 1}]}', "time is NaN"),
        ('{"keys": [{"time": 0, "azimuth": 0, "elevation": 0, "distance": 0}]}', "distance is 0"),
        ('{"keys": [{"time": 0, "azimuth": 0, "elevation": 0}]}', "distance is missing"),
        ('{"version": 2, "keys": []}', "version is 2"),
    ],
)
def test_damaged_key_frames_are_refused(tmp_path: Path, text: str, words: str) -> None:
    (tmp_path / "keys.json").write_text(text)
    with pytest.raises(InputError, match=words) as error:
        CameraPath.load(tmp_path / "keys.json")
    assert str(error.value).startswith(str(tmp_path))


def test_paths_that_cannot_be_drawn_say_so() -> None:
    path = CameraPath([Key(0, View())])
    with pytest.raises(InputError, match="two or more"):
        path.cameras(24)
    with pytest.raises(InputError, match="time of its own"):
        path.add(View(), 0)
    path.add(View(), 1e9)
    with pytest.raises(InputError, match="frames"):
        path.cameras(24)
    assert len({tuple(c.position.tolist()) for c in turntable(View(), 12)}) == 12


def test_the_preview_is_bright_where_the_light_is_and_nowhere_black() -> None:
    floor = Mesh("floor", [[[-2, -2, 0], [2, -2, 0], [0, 3, 0]]], materials=Material((0.8, 0.1, 0.1)).row())
    lamp = Light((1.0, -1.0, 0.8), size=0.2, emission=(150, 150, 150)).mesh()
    points, colours = coloured(floor, Lighting.of([floor, lamp]), "agx", 0.0)
    assert points.shape == colours.shape
    assert len(points) > 3 * len(floor)
    near = np.linalg.norm(points - [1, -1, 0], axis=1)
    assert colours[near < 0.4, 0].mean() > 1.2 * colours[near > 2.5, 0].mean()
    assert colours[:, 0].min() > 0.1
    assert (colours[:, 0] > colours[:, 1]).all()
    below = coloured(floor.transformed(np.diag([1, 1, -1, 1])), Lighting.of([lamp]), "agx", 0.0)[1]
    assert 0.1 < below[:, 0].mean() < colours[:, 0].mean()
    dark = coloured(floor, Lighting.of([floor]), "none", 0.0)[1]
    assert dark[:, 0].mean() > 0.3
    brighter = coloured(floor, Lighting.of([floor, lamp]), "agx", 1.0)[1]
    assert (brighter.sum(axis=1) > colours.sum(axis=1)).all()
    assert coloured(lamp, Lighting.of([lamp]), "agx", 0.0)[1].min() > 0.9


@given(width=st.integers(1, 900), height=st.integers(1, 900), aspect=st.floats(0.2, 5))
@example(width=27, height=127, aspect=0.2)
@settings(max_examples=30)
def test_the_letterbox_fits_touches_and_is_centred(width: int, height: int, aspect: float) -> None:
    box = letterbox(width, height, aspect)
    assert box.x >= 0
    assert box.y >= 0
    assert box.x + box.width <= width
    assert box.y + box.height <= height
    assert width - box.width <= 1 or height - box.height <= 1 or min(width, height) < 5
    assert abs(2 * box.x + box.width - width) <= 1
    assert abs(2 * box.y + box.height - height) <= 1
    covered = np.zeros((height, width), int)
    for part in (box, *margins(Rect(0, 0, width, height), box)):
        covered[part.y : part.y + part.height, part.x : part.x + part.width] += 1
    assert (covered == 1).all()


def test_the_difference_of_display_values_is_amplified() -> None:
    picture, reference = np.full((10, 20, 3), 50, np.uint8), np.full((5, 10, 3), 90, np.uint8)
    assert (difference(picture, reference, gain=2) == 80).all()


def test_the_preview_shows_the_light_of_an_environment() -> None:
    """Against the integral over the half sphere, of an environment without small bright spots."""
    floor = Mesh(
        "floor", [[[-1, -1, 0], [1, -1, 0], [0, 1, 0]]], materials=Material((0.5, 0.5, 0.5), roughness=1.0).row()
    )
    sky = Environment.gradient(0.1, 0.4, 0.8, suns=(Sun((0, 3, 4), 1.5),), strength=0.5, rotation=40.0)
    shown = coloured(floor, Lighting.of([], sky), "none", 0.0)[1]
    # Radiance 0.4 + 0.4 cos, so E = pi (0.4 + 0.4 * 2 / 3); the sun stands at 0.8.
    expected = 0.5 * 0.5 * (0.4 + 0.4 * 2 / 3 + 1.5 * 0.8 / np.pi)
    np.testing.assert_allclose(srgb_to_linear(shown), expected, rtol=0.1)
    turned = coloured(floor.transformed(np.diag([1, -1, -1, 1])), Lighting.of([], sky), "none", 0.0)[1]
    assert turned.max() < shown.min()


def test_the_split_view_puts_the_picture_before_the_preview_right_of_the_bar() -> None:
    picture = np.full((10, 200, 3), 90, np.uint8)
    both, depth = split_depth(picture, 0.25)
    assert (both[:, :50] == 0).all()
    assert (both[:, 50] == 255).all()
    assert (both[:, 52:] == 90).all()
    assert (depth[:, :50] > 100).all()
    assert (depth[:, 50:] == 0).all()
    assert (picture == 90).all()
    joined = beside_bar(np.full((10, 200, 4), 7, np.uint8), picture, 50)
    assert (joined[:, :50] == 7).all()
    assert (joined[:, 50:53] == 255).all()
    assert (joined[:, 53:] == (90, 90, 90, 255)).all()


def test_references_follow_the_display_only_if_they_are_linear(tmp_path: Path) -> None:
    image = Image(np.random.default_rng(0).uniform(0, 2, (6, 8, 3)).astype(np.float32))
    for name in ("a.exr", "a.npy", "a.png"):
        image.save(tmp_path / name)
    for name in ("a.exr", "a.npy"):
        reference = Reference.load(tmp_path / name).display_values("filmic", 1.0)
        assert np.abs(reference.astype(int) - display_values(image, "filmic", 1.0)).max() <= 1
    png = Reference.load(tmp_path / "a.png")
    assert (png.display_values("none", 3.0) == display_values(image, "neutral", 0.0)).all()
    (tmp_path / "bad.png").write_bytes(b"x")
    for name, message in (("bad.png", "cannot read"), ("a.txt", "give a .png"), ("none.exr", "no such file")):
        with pytest.raises(InputError, match=message):
            Reference.load(tmp_path / name)


def test_a_scene_in_any_unit_is_seen_and_edited_like_one_of_unit_size(tmp_path: Path) -> None:
    """Kilometres away and large; the limits of the model are those of the same scene at unit size."""
    size, shift = 5e3, np.array([1e5, -2e5, 3e4])
    small = a_scene()
    floor = next(mesh for mesh in small.objects if not mesh.emits)
    corners = np.array([[[-0.5, -0.5, 0], [0.5, -0.5, 0.2], [0.5, 0.5, 0]], [[-0.5, 0, 0], [0.5, 0.5, 0], [0, 0.5, 1]]])
    box = Mesh("box", (corners * size + shift).astype(np.float32), materials=floor.materials[0])
    middle = shift + [0, 0, size / 2]
    start = Camera.look_at(middle + [0, -1.75 * size, 0], middle, fov=40)
    unit = UnitSize.of(Scene((box,)), 0.5)
    orbit = OrbitCamera(start, trained=TrainedRange(), unit=unit)
    assert orbit.limited
    np.testing.assert_allclose(orbit.view.target, middle, atol=1)
    orbit.dolly(0.1)
    assert np.linalg.norm(orbit.camera.position - middle) == pytest.approx(1.5 * size, rel=1e-4)
    assert f"distance from the middle at {1.5 * size:.3g}" in orbit.warning
    orbit.limited = False
    orbit.dolly(100)
    assert orbit.view.distance == pytest.approx(150 * size, rel=1e-3)
    assert orbit.view.near(replace(orbit.view, azimuth=orbit.view.azimuth + 0.01))
    assert not orbit.view.near(replace(orbit.view, azimuth=orbit.view.azimuth + 1))
    assert OrbitCamera(trained=TrainedRange(), unit=unit).limited

    document = SceneDocument(Scene((box,)))
    light = document[document.add_light()].light
    np.testing.assert_allclose(unit.points(light.position), (0, 0, 2.1), atol=1e-3)
    assert light.size * unit.scale == pytest.approx(0.17, rel=1e-3)
    (tmp_path / "tetra.obj").write_text("v 0 0 0\nv 1 0 0\nv 0 1 0\nv 0 0 1\nf 1 3 2\nf 1 2 4\nf 1 4 3\nf 2 3 4\n")
    (name,) = document.add_file(tmp_path / "tetra.obj")
    low, high = unit.points(document[name].mesh.bounds)
    np.testing.assert_allclose(
        (low[2], *(low + high)[:2], np.ptp([low, high], axis=0).max()), (-0.5, 0, 0, 0.5), atol=1e-3
    )


def test_the_preview_has_the_background_of_the_picture() -> None:
    camera, sky = a_scene().cameras[0], Environment((0.2, 0.4, 0.8))
    shown = Image(np.full((1, 1, 3), (0.2, 0.4, 0.8), np.float32)).tone_mapped("neutral", 0.5)[0, 0]
    np.testing.assert_allclose(behind(sky, camera, "neutral", 0.5), shown, atol=1e-3)
    for none in (None, sky.replace(background="invisible"), sky.replace(background="transparent")):
        assert not behind(none, camera, "neutral", 0.5).any()
    colour = behind(sky.replace(background="#4080c0"), camera, "neutral", 0.5)
    np.testing.assert_allclose(255 * colour, (64, 128, 192), atol=0.5)
