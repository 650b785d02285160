"""Staging of bare meshes: a studio, or for the released models a box inside their trained range; every part
overridable, nonsense refused."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers.intersection import first_hits

from renderformer.check import check_scene
from renderformer.data.camera import Camera, angles
from renderformer.data.environment import Environment
from renderformer.data.errors import InputError
from renderformer.data.formats import load_scene
from renderformer.data.geometry.subdivide import subdivide
from renderformer.data.rays.embree import Surfaces
from renderformer.data.scene import DIFFUSE, Material, Mesh, Scene
from renderformer.data.staging import OBJECT_MATERIAL, StageOptions, balanced_strength, stage_scene
from renderformer.data.trained_range import ANYWHERE, TrainedRange


def tetrahedron(scale: float = 3.0, shift: tuple[float, float, float] = (5.0, -2.0, 11.0), name: str = "thing") -> Mesh:
    p = np.array([[1, 1, 1], [1, -1, -1], [-1, 1, -1], [-1, -1, 1]], np.float64) * scale / 2 + np.array(shift)
    return Mesh(name, p[[[0, 1, 2], [0, 3, 1], [0, 2, 3], [1, 3, 2]]].astype(np.float32))


def things(scene: Scene, names: tuple[str, ...] = ("thing",)) -> np.ndarray[Any, Any]:
    return np.concatenate([mesh.triangles for mesh in scene.objects if mesh.name in names])


V1 = TrainedRange()


def staged(*meshes: Mesh, **options: Any) -> Scene:
    """For a released model."""
    return stage_scene(Scene(meshes or (tetrahedron(),)), StageOptions(**{"trained": V1, **options}))


@pytest.mark.parametrize("kind", ["auto", "none", "floor", "wall", "corner", "box"])
@pytest.mark.parametrize("frame", [False, True])
def test_default_is_inside_the_trained_range(kind: str, frame: bool) -> None:
    fine, _ = subdivide(tetrahedron(), 1.2)
    scene = staged(fine, stage=kind, frame=frame)
    assert check_scene(scene) == []
    names = [mesh.name for mesh in scene.objects]
    walls = {"none": 0, "floor": 1, "wall": 2, "corner": 3, "box": 4, "auto": 4}[kind]
    assert names == ["floor", "wall_back", "wall_left", "wall_right"][:walls] + ["thing", "light"]
    assert len(scene.cameras) == 1
    object_points = things(scene)
    assert np.ptp(object_points.reshape(-1, 3), axis=0).max() == pytest.approx(0.7, rel=1e-6)
    low, high = object_points.min((0, 1)), object_points.max((0, 1))
    np.testing.assert_allclose((low + high)[:2], 0, atol=1e-6)
    assert low[2] == pytest.approx(-0.35 if kind == "none" else -0.5, abs=6e-4)


def test_note_tells_scale_and_shift() -> None:
    scene = staged()
    matrix = next(note for note in scene.notes if "scaled by" in note)
    assert matrix == "object 'thing' scaled by 0.2333 and moved by (-1.167, 0.4667, -2.716) into the box"


def test_shape_is_kept_for_meshes_far_from_the_origin() -> None:
    """Meshes are moved in float64, so no resolution of the file is lost."""
    near, far = (
        stage_scene(Scene((tetrahedron(shift=shift),))) for shift in ((0.0, 0.0, 0.0), (4096.0, 8192.0, -2048.0))
    )
    np.testing.assert_allclose(things(near), things(far), atol=1e-6)


def test_default_light_gives_a_grey_floor_half_radiance() -> None:
    """Integrates the light triangle over the floor's middle, point by point."""
    scene = staged(stage="floor")
    light = scene.objects[-1]
    corners = light.triangles[0].astype(np.float64)
    area_vector = np.cross(corners[1] - corners[0], corners[2] - corners[0]) / 2
    rng = np.random.default_rng(0)
    u, v = np.sort(rng.uniform(size=(2, 4000)), axis=0)
    points = np.stack([u, v - u, 1 - v], axis=1) @ corners
    floor = np.array([0, 0, -0.5])
    toward = points - floor
    squared = (toward**2).sum(axis=1)
    cosines = toward[:, 2] * -(toward @ area_vector) / squared
    irradiance = float(light.materials[0, 10]) * (cosines / squared).mean()
    assert 0.5 * irradiance / math.pi == pytest.approx(0.5, rel=0.01)
    assert 2500 <= light.materials[0, 10] <= 5000
    assert balanced_strength((0, 0, 50), 0.15) == 5000


def test_camera_sees_object_floor_and_walls() -> None:
    """Rays through a grid of pixels end on each part of the default box, and none leaves the stage."""
    scene = staged(frame=False)
    camera = scene.cameras[0]
    t = np.tan(np.radians(camera.fov) / 2) * (np.arange(48) + 0.5 - 24) / 24
    x, y = np.meshgrid(t, t)
    directions = np.stack([x, y, -np.ones_like(x)], axis=-1).reshape(-1, 3) @ camera.c2w[:3, :3].T.astype(np.float64)
    _, hit = first_hits(camera.position, directions, scene.triangles)
    names = [scene.objects[scene.object_index[i]].name for i in hit[hit >= 0]]
    for name in ("thing", "floor", "wall_back", "wall_left", "wall_right"):
        assert names.count(name) > 20
    assert (hit < 0).mean() < 0.005


def test_every_part_can_be_overridden() -> None:
    shiny = Material((0.1, 0.2, 0.3), (0.5, 0.5, 0.5), 0.1)
    scene = staged(
        stage="corner",
        size=0.4,
        material=shiny,
        floor_color=(0.1, 0.1, 0.1),
        back_color=(0.2, 0.3, 0.4),
        left_color=(0.5, 0.6, 0.7),
        light_position=(0.5, -1.0, 2.0),
        light_strength=1234,
        light_size=0.16,
        azimuth=30,
        elevation=40,
        distance=1.9,
        fov=50,
    )
    objects = {mesh.name: mesh for mesh in scene.objects}
    np.testing.assert_array_equal(objects["thing"].materials, np.tile(shiny.row(), (4, 1)))
    np.testing.assert_allclose(objects["floor"].materials[0, DIFFUSE], 0.1)
    np.testing.assert_allclose(objects["wall_back"].materials[0, DIFFUSE], [0.2, 0.3, 0.4])
    np.testing.assert_allclose(objects["wall_left"].materials[0, DIFFUSE], [0.5, 0.6, 0.7])
    light = objects["light"]
    np.testing.assert_allclose(light.triangles[0].mean(axis=0), [0.5, -1.0, 2.0], atol=1e-6)
    assert np.linalg.norm(light.triangles[0, 0] - light.triangles[0, 1]) == pytest.approx(0.16, rel=1e-5)
    assert light.materials[0, 10] == 1234
    camera = scene.cameras[0]
    assert camera.fov == 50
    expected = Camera.from_angles(30, 40, 1.9).position
    np.testing.assert_allclose(camera.position, expected, atol=1e-6)


def test_up_axis_and_rotation() -> None:
    flag = Mesh("thing", np.array([[[0, 0, 0], [0, 2, 0], [1, 2, 0]]], np.float32))
    standing = things(stage_scene(Scene((flag,)), StageOptions(up="y")))[0]
    np.testing.assert_allclose(np.ptp(standing, axis=0), [0.35, 0, 0.7], atol=1e-6)
    assert standing[0, 2] < standing[1, 2]
    turned = things(stage_scene(Scene((flag,)), StageOptions(up="y", rotation=90)))[0]
    np.testing.assert_allclose(np.ptp(turned, axis=0), [0, 0.35, 0.7], atol=1e-6)
    # Counter-clockwise seen from above: +X goes to +Y.
    assert turned[2, 1] > turned[1, 1]


def test_bare_objects_get_a_material_others_keep_theirs() -> None:
    red = Material((0.7, 0.1, 0.1))
    scene = stage_scene(Scene((tetrahedron(), tetrahedron(name="red").with_material(red))))
    objects = {mesh.name: mesh for mesh in scene.objects}
    np.testing.assert_array_equal(objects["thing"].materials[0], OBJECT_MATERIAL.row())
    np.testing.assert_array_equal(objects["red"].materials[0], red.row())
    assert any("1 of 2 objects have no material" in note for note in scene.notes)
    assert any(note.startswith("2 objects scaled by") for note in scene.notes)


def test_own_emission_is_kept_and_the_light_can_be_left_out() -> None:
    glowing = Material((0.5, 0.5, 0.5), emission=(5.0, 4.0, 3.0))
    scene = stage_scene(Scene((tetrahedron().with_material(glowing),)), StageOptions(light_strength=0))
    assert len(scene.light_triangles) == 4
    np.testing.assert_array_equal(scene.materials[scene.light_triangles][:, 10:], np.tile([5, 4, 3], (4, 1)))
    assert any("emit light, which is kept" in note for note in scene.notes)
    assert any("no light" in note for note in staged(light_strength=0).notes)


@pytest.mark.parametrize(
    ("options", "kind"),
    [
        ({}, "studio"),
        ({"all_around": True, "azimuth": 200}, "studio"),
        ({"floor_color": (0.5, 0.1, 0.1)}, "studio"),
        ({"elevation": -10}, "none"),
        ({"stage": "none"}, "none"),
        ({"light_strength": 3000}, "box"),
        ({"light_strength": 0}, "box"),
        ({"left_color": (0.5, 0.1, 0.1)}, "box"),
        ({"light_size": 0.3, "all_around": True}, "floor"),
        ({"trained": V1}, "box"),
        ({"trained": V1, "all_around": True}, "floor"),
        ({"trained": V1, "file_cameras": True}, "floor"),
    ],
)
def test_models_that_cast_rays_get_a_studio(options: dict[str, Any], kind: str) -> None:
    scene = stage_scene(Scene((tetrahedron(),)), StageOptions(**options))
    walls = [mesh.name for mesh in scene.objects if mesh.name not in ("thing", "light")]
    assert walls == ["floor", "wall_back", "wall_left", "wall_right"][: {"none": 0, "box": 4}.get(kind, 1)]
    if kind in ("studio", "none"):
        assert scene.environment is not None
        assert len(scene.light_triangles) == 0
        assert check_scene(scene, ANYWHERE, True) == []
    else:
        assert scene.environment is None
        assert len(scene.light_triangles) == (options.get("light_strength") != 0)
    assert not any("no light" in note for note in scene.notes if "light_strength" not in options)


def test_an_environment_that_is_given_stays_and_the_floor_fades_into_it() -> None:
    sky = Environment.of("sky")
    scene = stage_scene(Scene((tetrahedron(),), environment=sky))
    assert scene.environment is sky
    floor = scene.objects[0]
    assert floor.appearance is not None
    assert floor.appearance.colors is not None
    radius = np.linalg.norm(floor.triangles[..., :2], axis=2)
    np.testing.assert_allclose(floor.appearance.colors[radius < 0.3, 3], 1)
    np.testing.assert_allclose(floor.appearance.colors[radius > 1.59, 3], 0, atol=1e-6)
    # The released models see no environment, they keep their light.
    assert len(stage_scene(Scene((tetrahedron(),), environment=sky), StageOptions(trained=V1)).light_triangles) == 1


def test_border_of_the_studio_floor_cannot_be_seen() -> None:
    """Its radiance, by adding up the environment over the sky, is that of the environment right behind it."""
    scene = stage_scene(Scene((tetrahedron(),)))
    assert scene.environment is not None
    floor = scene.objects[0]
    assert floor.appearance is not None
    assert floor.appearance.colors is not None
    radius = np.linalg.norm(floor.triangles[..., :2], axis=2)
    rim = floor.appearance.colors[radius > 1.59, :3].mean(axis=0)
    count = 200
    cosine = np.sqrt((np.arange(count) + 0.5) / count)
    turn = 2 * np.pi * np.arange(count) / count
    z, turn = (a.ravel() for a in np.meshgrid(cosine, turn))
    level = np.sqrt(1 - z**2)
    sky = np.stack([level * np.cos(turn), level * np.sin(turn), z], axis=1).astype(np.float32)
    received = scene.environment.radiance(sky).astype(np.float64).mean(axis=0)
    for height in (-0.9, -0.3, -0.05):
        behind = scene.environment.radiance(np.array([[np.sqrt(1 - height**2), 0, height]], np.float32))[0]
        np.testing.assert_allclose(rim * received, behind, rtol=0.02)
    assert 0.7 < received.mean() < 1.2


def test_studio_lights_the_side_that_the_camera_sees() -> None:
    """The studio turns with the camera, so its light is the same in the axes of every camera."""
    front, back = (stage_scene(Scene((tetrahedron(),)), StageOptions(azimuth=a, elevation=20)) for a in (0, 170))
    assert front.environment is not None
    assert back.environment is not None
    views = [(scene.environment, scene.cameras[0].c2w[:3, :3].astype(np.float64)) for scene in (front, back)]
    local = np.random.default_rng(0).normal(size=(500, 3))
    local /= np.linalg.norm(local, axis=1, keepdims=True)
    seen = [environment.radiance((local @ axes.T).astype(np.float32), 0.02) for environment, axes in views]
    np.testing.assert_allclose(seen[0], seen[1], rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("shape", [(1, 1, 0.02), (1, 1, 1), (0.3, 0.2, 3), (1, 0.4, 0.5)])
def test_view_is_from_three_quarters_and_the_flatter_the_higher(shape: tuple[float, float, float]) -> None:
    mesh = tetrahedron(shift=(0, 0, 0))
    mesh = Mesh("thing", mesh.triangles * np.float32(shape))
    camera = stage_scene(Scene((mesh,))).cameras[0]
    azimuth, elevation = angles(-camera.forward)
    flatness = shape[2] / max(shape[:2])
    assert 30 <= azimuth <= 40
    assert (40 if flatness < 0.1 else 10) <= elevation <= (50 if flatness < 0.1 else 26)


def test_framing_respects_what_is_given() -> None:
    assert staged(frame=True, fov=55).cameras[0].fov == 55
    assert np.linalg.norm(staged(frame=True, distance=1.7).cameras[0].position) == pytest.approx(1.7)


@pytest.mark.parametrize("elevation", [90, -90])
def test_straight_down_and_up_work(elevation: float) -> None:
    for frame in (False, True):
        camera = staged(elevation=elevation, azimuth=0, frame=frame, stage="none").cameras[0]
        assert camera.forward[2] * elevation < 0


def test_thin_meshes_work() -> None:
    sheet = Mesh("thing", np.array([[[0, 0, 0], [2, 0, 0], [0, 2, 0]]], np.float32))
    needle = Mesh("thing", np.array([[[0, 0, 0], [0, 0, 9], [0, 1e-4, 9]]], np.float32))
    for mesh in (sheet, needle):
        for frame in (False, True):
            scene = stage_scene(Scene((mesh,)), StageOptions(frame=frame))
            assert np.ptp(things(scene).reshape(-1, 3), axis=0).max() == pytest.approx(0.7, rel=1e-6)
    with pytest.raises(InputError, match="no extent"):
        stage_scene(Scene((Mesh("thing", np.ones((2, 3, 3), np.float32)),)))


def test_names_of_the_stage_make_way() -> None:
    scene = staged(tetrahedron(name="floor"), tetrahedron(name="light"))
    names = [mesh.name for mesh in scene.objects]
    assert names == ["stage_floor", "wall_back", "wall_left", "wall_right", "floor", "light", "stage_light"]


def test_odd_but_possible_choices_are_noted() -> None:
    assert any("'wall_back' stands between the camera" in n for n in staged(azimuth=180).notes)
    assert any("'wall_back' stands between the light" in n for n in staged(light_position=(0, 2.3, 0)).notes)
    scene = Scene((tetrahedron(),), (Camera.from_angles(),))
    assert any("1 cameras of the file are not used" in note for note in stage_scene(scene).notes)
    assert not any("stands between" in note for note in staged().notes)


def test_where_lights_and_cameras_may_stand_is_said_for_the_model_that_draws() -> None:
    scene = staged(light_position=(0.1, 0.1, 0.1), distance=0.3)
    assert not any("trained" in note for note in scene.notes)
    assert sum("inside the scene" in line for line in check_scene(scene)) == 2
    assert check_scene(scene, ANYWHERE) == []


@pytest.mark.parametrize(
    ("options", "line"),
    [
        ({"stage": "cave"}, 'is "cave"; expected one of auto, studio, none, floor, wall, corner, box'),
        ({"distance": -1}, "is -1; expected a number from 0.001 to 1000"),
        ({"distance": float("nan")}, "is NaN; expected a number from 0.001 to 1000"),
        ({"fov": 0}, "is 0; expected a number from 1 to 170"),
        ({"fov": 180}, "is 180; expected a number from 1 to 170"),
        ({"elevation": 91}, "is 91; expected a number from -90 to 90"),
        ({"size": 0}, "is 0; expected a number from 0.001 to 1"),
        ({"size": 2}, "is 2; expected a number from 0.001 to 1"),
        ({"up": "x"}, 'is "x"; expected one of auto, y, z'),
        ({"light_strength": -5}, "is -5; expected a number from 0 to 60000"),
        ({"light_size": 0}, "is 0; expected a number from 1e-06 to 10"),
        ({"light_position": (1, 2)}, "is [1, 2]; expected a list of 3 numbers from -100 to 100"),
        ({"light_position": (0, 0, 0)}, "is 0, 0, 0, the point that the light faces; move it away"),
        ({"light_position": (float("inf"), 0, 0)}, "[0] is Infinity; expected a number from -100 to 100"),
        ({"floor_color": (0.5, 2, 0.5)}, "[1] is 2; expected a number from 0 to 1"),
        ({"floor_color": 0.5}, "is 0.5; expected a list of 3 numbers from 0 to 1"),
        ({"material": "gold"}, 'is "gold"; expected a Material'),
        ({"azimuth": "left"}, 'is "left"; expected a number from -1000000 to 1000000'),
        ({"seed": 1.5}, "is 1.5; expected a whole number from 0 to 1.844674407e+19"),
    ],
)
def test_nonsense_is_refused_in_one_line_under_the_name_of_the_option(options: dict[str, Any], line: str) -> None:
    with pytest.raises(InputError) as refused:
        StageOptions.from_keywords(options)
    assert refused.value.place == next(iter(options))
    assert str(refused.value) == f"{refused.value.place}: {line}"
    with pytest.raises(InputError, match=f"^stage options: {refused.value.place}"):
        StageOptions(**options)


def test_unknown_option_is_named() -> None:
    with pytest.raises(InputError, match="^azimut: is not a known key; known are stage, size"):
        StageOptions.from_keywords({"azimut": 3})
    assert StageOptions.from_keywords({"azimuth": 3}).azimuth == 3


def test_options_may_be_numpy_numbers_and_arrays() -> None:
    options = StageOptions.from_keywords({"azimuth": np.float32(1.5), "light_position": np.array([1, -2, 3])})
    assert options == StageOptions(azimuth=1.5, light_position=(1.0, -2.0, 3.0))


KNOT = Path(__file__).parents[1] / "examples" / "assets" / "knot.glb"
ROOM = KNOT.parents[1] / "knot_room.json"


def test_loading_stages_simplifies_and_subdivides() -> None:
    scene = load_scene(KNOT, trained=V1)
    assert [mesh.name for mesh in scene.objects][-2:] == ["knot", "light"]
    assert len(scene.cameras) == 1
    assert [len(mesh) for mesh in load_scene(KNOT).objects if mesh.name == "knot"] == [3584]
    assert len(load_scene(KNOT, trained=replace(V1, triangles=2000))) <= 2000
    small = load_scene(KNOT, budget=1000, stage="corner", azimuth=-10)
    assert len(small) <= 1000
    assert [len(mesh) for mesh in small.objects if mesh.name != "knot"] == [32, 32, 32, 1]
    assert any("'knot': 3,584 triangles simplified to" in note for note in small.notes)
    fine = load_scene(KNOT, budget=4096, subdivide=0.3, stage="box")
    assert np.linalg.norm(fine.triangles - np.roll(fine.triangles, 1, axis=1), axis=2)[:-1].max() <= 0.3001
    assert any("subdivided to" in note for note in load_scene(KNOT, subdivide=True, stage="floor").notes)
    raw = load_scene(KNOT, stage="raw")
    assert len(raw) == 3584
    assert raw.cameras == ()
    assert len(load_scene(KNOT, stage="raw", budget=500)) <= 500
    # A scene file is left alone unless a budget is asked for.
    assert len(load_scene(ROOM, trained=replace(V1, triangles=2000))) == 3713
    assert len(load_scene(ROOM, budget=2000)) <= 2000


def test_loading_refuses_options_that_do_not_apply() -> None:
    with pytest.raises(InputError, match="elevatoin: is not a known key; known are"):
        load_scene(KNOT, elevatoin=3)
    with pytest.raises(InputError, match=r"knot.glb: azimuth applies to staged meshes only"):
        load_scene(KNOT, stage="raw", azimuth=3)
    with pytest.raises(InputError, match=r"knot_room.json: stage 'box' applies to bare meshes"):
        load_scene(ROOM, stage="box")
    with pytest.raises(InputError, match=r"knot_room.json: fov applies to bare meshes"):
        load_scene(ROOM, fov=30)
    with pytest.raises(InputError, match="budget -1|budget is -1"):
        load_scene(KNOT, budget=-1)
    with pytest.raises(InputError, match="too small: lights and stage have 129"):
        load_scene(KNOT, budget=100, stage="box")


@pytest.mark.parametrize("stage", ["box", "corner", "floor", "studio"])
def test_neither_walls_nor_floors_hide_the_objects_from_a_camera_behind_them(stage: str) -> None:
    for azimuth, elevation in ((0, 10), (90, 10), (180, 10), (270, 10), (30, -35), (200, -90)):
        options = StageOptions(stage=stage, azimuth=azimuth, elevation=elevation)
        scene = stage_scene(Scene((tetrahedron(),)), options)
        surfaces = Surfaces.of(scene)
        camera = scene.cameras[0]
        x, y = np.meshgrid(np.linspace(1, 31, 8), np.linspace(1, 31, 8))
        directions = camera.rays(x.reshape(-1), y.reshape(-1), 32, 32).reshape(3, -1).T.astype(np.float32)
        origins = np.tile(camera.position.astype(np.float32), (64, 1))
        hits, _ = surfaces.seen(origins, directions)
        found = np.bincount(scene.object_index[hits.triangle], minlength=len(scene.objects))
        assert found[[mesh.name for mesh in scene.objects].index("thing")] > 8
        assert not any("stands between the camera" in note for note in scene.notes)
        # What models that cast no rays see from the front is the same.
        if elevation > 0:
            shown = scene.replace(objects=tuple(replace(mesh, camera_sides="both") for mesh in scene.objects))
            inside = np.tile(np.float32([0.1, -0.2, 0.3]), (64, 1))
            for start in (inside, origins) if stage in ("floor", "studio") else (inside,):
                expected, _ = Surfaces.of(shown).seen(start, directions)
                hits, _ = surfaces.seen(start, directions)
                assert np.array_equal(hits.rows, expected.rows)
                assert np.array_equal(hits.triangle, expected.triangle)
                assert np.array_equal(surfaces.met(start, directions), Surfaces.of(shown).met(start, directions))
