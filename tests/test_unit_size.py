"""Scenes of any size and unit: the picture is that of the same scene at unit size near the origin."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from helpers.shapes import ball, box

from renderformer.check import check_scene
from renderformer.data.arrays import Float32Array
from renderformer.data.camera import Camera
from renderformer.data.geometry.detail import Detail
from renderformer.data.geometry.stages import stage_meshes
from renderformer.data.geometry.triangles import areas, merge_corners, open_edges, weld
from renderformer.data.rays.channels import RGB
from renderformer.data.rays.raycast import RayCaster
from renderformer.data.scene import Light, Material, Mesh, Scene
from renderformer.data.unit_size import UnitSize
from renderformer.renderer import Renderer
from renderformer.viewer.picker import Picker

SIDE = 48
Triple = tuple[float, float, float]
ORIGIN = (0.0, 0.0, 0.0)


@cache
def physical() -> Renderer:
    return Renderer.from_pretrained(network=False)


def room(detail: int = 2) -> Scene:
    """A floor and three walls that fill the trained box, a shiny ball, and a camera among boxes."""
    objects = (
        *stage_meshes("box"),
        ball(0.2, Material((0.4, 0.3, 0.2), (0.3, 0.3, 0.3), 0.3), (0.05, 0.1, -0.29), detail=detail),
        box((0.2, 0.2, 0.3), Material((0.2, 0.5, 0.3)), (-0.3, -0.1, -0.34)),
        box((0.1, 0.2, 0.1), Material((0.6, 0.2, 0.3)), (0.35, -0.3, -0.44), "chest"),
        Light((0.4, -0.9, 1.9), emission=3000.0).mesh(),
    )
    return Scene(objects, (Camera.look_at((0.2, -0.45, -0.2), (0.0, 0.1, -0.3), fov=70, name="inside"),))


def moved(scene: Scene, scale: float, shift: Triple = ORIGIN) -> Scene:
    """The scene scaled and then shifted, in double precision until it is stored."""

    def place(points: Float32Array) -> Float32Array:
        return (points.astype(np.float64) * scale + shift).astype(np.float32)

    def looking(camera: Camera) -> Camera:
        c2w = camera.c2w.copy()
        c2w[:3, 3] = place(c2w[:3, 3])
        return replace(camera, c2w=c2w)

    objects = tuple(replace(mesh, triangles=place(mesh.triangles)) for mesh in scene.objects)
    return scene.replace(objects=objects, cameras=tuple(map(looking, scene.cameras)))


def picture(scene: Scene, renderer: Renderer | None = None) -> Float32Array:
    return (renderer or physical()).render(scene, SIDE)[0].hdr


@cache
def known() -> Float32Array:
    result = picture(room())
    assert result.mean() > 0.05
    return result


def assert_alike(found: Float32Array, expected: Float32Array, rms: float, pixels: float) -> None:
    """Equal up to `rms`, and up to a hundredth of the mean but for a share of pixels."""
    difference = np.abs(found - expected) / expected.mean()
    assert np.sqrt((difference**2).mean()) < rms
    assert (difference.max(axis=-1) > 0.01).mean() <= pixels


@pytest.mark.parametrize("scale", [1e-4, 1e-3, 0.0254, 3.7, 1e3, 1e5])
def test_a_scene_in_any_unit_gives_the_same_picture(scale: float) -> None:
    assert_alike(picture(moved(room(), scale)), known(), 1e-3, 0.002)


def test_a_power_of_two_changes_no_bit() -> None:
    np.testing.assert_array_equal(picture(moved(room(), 2.0**20)), known())


@pytest.mark.parametrize("scale", [1e-3, 1.0, 1e3])
def test_far_from_the_origin_only_the_rounding_of_the_corners_shows(scale: float) -> None:
    """Ten thousand times its size away, a scene keeps a thousandth of its size; the rest of the way is exact."""
    shift = (1e4 * scale, -6e3 * scale, 3e3 * scale)
    far = moved(room(), scale, shift)
    near = moved(far, 1.0, (-shift[0], -shift[1], -shift[2]))
    assert_alike(picture(far), picture(near), 2e-3, 0.005)
    assert_alike(picture(far), known(), 0.1, 0.25)


def test_a_shift_by_a_few_sizes_does_not_show() -> None:
    assert_alike(picture(moved(room(), 40.0, (90.0, -130.0, 25.0))), known(), 2e-3, 0.005)


def test_details_of_a_large_scene_are_not_lost() -> None:
    """Light enters a hut of a few metres through a slit of a centimetre, in the middle of a plain of ten kilometres."""
    hut = Scene((
        box((4.0, 4.0, 0.01), Material(0.5), (0, 0, 0), "floor"),
        box((4.0, 4.0, 0.1), Material(0.5), (0, 0, 0.07), "lid"),
        Light((0, -5.0, 0.5), (0, 0, 0.01), 1.0, 50.0).mesh(),
    ), (Camera.look_at((0, -2.2, 0.03), (0, 0, 0.0), fov=40),))  # fmt: skip
    plain = Mesh("plain", np.float32(5000) * np.array([[[-1, -1, 0], [1, -1, 0], [1, 1, 0]]], np.float32) - 0.5)
    near, wide = (direct(scene) for scene in (hut, hut.with_object(plain)))
    seen = near[..., 0] == 1
    assert (near[seen][:, RGB.irradiance] > 0.1).mean() > 0.2
    np.testing.assert_allclose(wide[seen][:, RGB.irradiance], near[seen][:, RGB.irradiance], atol=0.02)


def nook(plain: float) -> Scene:
    """Three small walls, a roof and a ball on a square floor of some metres or kilometres, lit from the open side."""
    half = plain / 2
    floor = np.float32([[[-half, -half, 0], [half, -half, 0], [half, half, 0]],
                        [[-half, -half, 0], [half, half, 0], [-half, half, 0]]])  # fmt: skip
    return Scene((
        Mesh("floor", floor, materials=Material(0.6)),
        box((1, 0.1, 1), Material((0.7, 0.1, 0.1)), (0, 0.5, 0.5), "back"),
        box((0.1, 1, 1), Material((0.1, 0.7, 0.1)), (-0.5, 0, 0.5), "side"),
        box((1, 1, 0.1), Material(0.7), (0, 0, 1.05), "roof"),
        ball(0.2, Material(0.7), (0, 0, 0.25)),
        Light((1.5, -4, 2.5), (0, 0, 0.3), 0.8, 60.0).mesh(),
    ), (Camera.look_at((0.3, -1.2, 0.6), (0, 0.2, 0.5), fov=40),))  # fmt: skip


def test_indirect_light_in_a_nook_does_not_suffer_from_the_size_of_the_plain() -> None:
    near, wide, wider = (picture(nook(plain)) for plain in (40.0, 400.0, 4000.0))
    np.testing.assert_allclose(wide.mean(), near.mean(), rtol=0.06)
    np.testing.assert_allclose(wider.mean(), near.mean(), rtol=0.06)


def test_triangles_are_graded_around_the_detail_without_cracks() -> None:
    scene = nook(4000.0)
    detail = Detail.of(scene.triangles)
    graded = detail.graded(scene)
    assert len(graded) < len(scene) + 2000
    floor = graded.objects[0]
    assert areas(floor.triangles).sum() == pytest.approx(4000.0**2, rel=1e-5)
    # Every edge but those of the border is shared by two triangles.
    edges = open_edges(merge_corners(floor.triangles))
    corners = weld(floor.triangles)[0][edges]
    assert (np.abs(np.abs(corners[..., :2]) - 2000) < 1e-3).any(axis=2).all()
    lengths = np.linalg.norm(floor.triangles - np.roll(floor.triangles, 1, axis=1), axis=2).max(axis=1)
    assert (lengths <= np.maximum(2.5 * np.linalg.norm(floor.triangles.mean(axis=1), axis=1), 2 * detail.radius)).all()


@pytest.mark.parametrize("name", ["gallery", "knot_room", "sign"])
def test_an_ordinary_scene_is_detail_all_over(name: str) -> None:
    scene = Scene.load(Path(__file__).parents[1] / "examples" / f"{name}.json")
    detail = Detail.of(scene.triangles)
    assert detail.graded(scene) is scene
    assert (detail.coarseness(scene.triangles.mean(axis=1)) == 1).all()


def direct(scene: Scene) -> Float32Array:
    """(SIDE, SIDE, 35) what single rays meet, under direct light alone."""
    unit = UnitSize.of(scene)
    small = unit.scene(scene)
    caster = RayCaster(small.triangles, small.normals, small.materials)
    return caster.features(small.cameras[0], SIDE, SIDE, antialias=1, refine=1)


def test_a_scene_in_the_trained_box_is_left_alone() -> None:
    scene = room()
    unit = UnitSize.of(scene, 0.5)
    assert not unit.changes
    assert unit.scene(scene) is scene
    assert unit.camera(scene.cameras[0]) is scene.cameras[0]
    # As far as files round, and with a small thing alone in it.
    assert not UnitSize.of(moved(scene, 1.015), 0.5).changes
    assert not UnitSize.of(Scene((ball(0.06, Material()),)), 0.5).changes


@pytest.mark.parametrize(("scale", "shift"), [(1e-3, ORIGIN), (250.0, (30.0, -20.0, 1e3)), (1.0, (0.2, 0.0, 0.0))])
def test_a_scene_outside_the_trained_box_fills_it_with_lights_and_cameras_moved_along(
    scale: float, shift: Triple
) -> None:
    scene = room()
    found = UnitSize.of(moved(scene, scale, shift), 0.5).scene(moved(scene, scale, shift))
    np.testing.assert_allclose(found.triangles, scene.triangles, atol=2e-5 * max(1, max(map(abs, shift)) / scale))
    np.testing.assert_allclose(found.cameras[0].c2w, scene.cameras[0].c2w, atol=2e-5 * max(1, max(shift) / scale))
    np.testing.assert_array_equal(found.normals, scene.normals)


def test_a_wide_ground_does_not_shrink_what_stands_on_it() -> None:
    """Stages have floors of several metres, houses stand on plains of kilometres."""
    ground = Mesh("ground", 2.4 * np.float32([[[-1, -1, 0], [1, -1, 0], [1, 1, 0]]]) - [0, 0, 0.5])
    thing = ball(0.3, Material(), (0, 0, -0.19))
    staged = Scene((ground, thing))
    assert not UnitSize.of(staged, 0.5).changes
    assert not any("objects reach" in line for line in check_scene(staged))
    large = UnitSize.of(moved(staged, 500.0), 0.5)
    low, high = large.points(moved(staged, 500.0).objects[1].bounds)
    np.testing.assert_allclose([low, high], [[-0.5] * 3, [0.5] * 3], atol=1e-3)
    # A ground alone is an object.
    assert UnitSize.of(Scene((ground,)), 0.5).scale == pytest.approx(1 / 4.8)


def test_the_embedded_model_draws_a_scene_in_any_unit() -> None:
    renderer = Renderer.from_pretrained(device="cpu", network=True)
    scene = room(detail=1)
    assert_alike(picture(moved(scene, 300.0), renderer), picture(scene, renderer), 2e-3, 0.005)
    assert not any("trained inside" in line for line in renderer.check(moved(scene, 300.0)))


def test_a_scene_without_extent_or_objects_is_drawn() -> None:
    lamp = Light((0.0, 0.0, 200.0), size=50.0, emission=1.0)
    only = Scene((lamp.mesh(),), (Camera.look_at((0, 0, 0), (0, 0, 200), (0, 1, 0), 40),))
    assert picture(only).max() == pytest.approx(1, abs=1e-3)


def test_the_viewer_picks_in_the_units_of_the_scene() -> None:
    scene = moved(room(), 1e4, (1e5, 2e5, 0.0))
    lit = physical().encode(scene)
    for picker in (Picker(scene), Picker(scene, lit.caster, lit.unit)):
        pick = picker.pick(scene.cameras[0], 24, 24, 48, 48)
        assert pick is not None
        assert pick.name == "ball"
        assert pick.distance == pytest.approx(np.linalg.norm(np.subtract(pick.point, scene.cameras[0].position)))
        np.testing.assert_allclose(
            np.linalg.norm(np.subtract(pick.point, (1e5 + 500, 2e5 + 1000, -2900))), 2000, rtol=0.05
        )
