"""Lights shine from their front, or from both sides: the meshes, the rays, and the rule for files that do not say."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import trimesh
from helpers.shapes import ball, box

from renderformer.data.camera import Camera
from renderformer.data.errors import InputError
from renderformer.data.formats import save_scene
from renderformer.data.geometry.light_sides import other_sides, with_sides
from renderformer.data.geometry.simplify import simplify
from renderformer.data.geometry.subdivide import subdivide
from renderformer.data.rays.channels import RGB
from renderformer.data.rays.raycast import RayCaster
from renderformer.data.scene import EMISSION, Light, Material, Mesh, Scene, combine

GLOW = Material(0.0, emission=(5.0, 5.0, 5.0))
# A panel half way between a floor and a ceiling, that looks down.
PANEL = 0.2 * np.array([[[-1, -1, 0], [-1, 1, 0], [1, 1, 0]], [[-1, -1, 0], [1, 1, 0], [1, -1, 0]]], np.float32)


def level(z: float, name: str, paint: Material | None = None) -> Mesh:
    return box((1.0, 1.0, 0.02), paint or Material(0.5), (0, 0, z), name)


def lamp(two_sided: bool | np.ndarray = False, turned: bool = False) -> Mesh:
    return Mesh("lamp", PANEL[:, ::-1] if turned else PANEL, materials=GLOW.row(), two_sided=two_sided)


def room(light: Mesh, paint: Material | None = None) -> Scene:
    return Scene((level(-0.5, "floor", paint), level(0.5, "ceiling", paint), light))


def light_on(scene: Scene, direction: float) -> np.ndarray:
    """(…, 35) what a camera beside the lamp sees above (1) or below (-1) it."""
    camera = Camera.look_at((0.0, -0.45, 0.0), (0.0, 0.0, 0.49 * direction), fov=30)
    return RayCaster.of(scene).features(camera, 12, 12, refine=1)


def test_a_light_lights_what_its_front_faces_or_both_sides() -> None:
    one, both, turned = (room(light) for light in (lamp(), lamp(two_sided=True), lamp(turned=True)))
    below = light_on(one, -1)[..., RGB.irradiance]
    assert below.min() > 0.1
    assert not light_on(one, 1)[..., RGB.irradiance].any()
    assert not light_on(turned, -1)[..., RGB.irradiance].any()
    np.testing.assert_allclose(light_on(both, -1)[..., RGB.irradiance], below, rtol=1e-4)
    # Upside down.
    np.testing.assert_allclose(light_on(both, 1)[::-1, :, RGB.irradiance], below, rtol=0.02)


def test_the_back_of_a_light_is_black_to_the_eye_in_mirrors_and_in_highlights() -> None:
    def seen_from(scene: Scene, z: float) -> float:
        camera = Camera.look_at((0.0, 0.0, z), (0.0, 0.0, 0.0), up=(0.0, 1.0, 0.0), fov=5)
        return float(RayCaster.of(scene).features(camera, 4, 4, refine=1)[..., RGB.emission].max())

    assert [seen_from(Scene((lamp(),)), z) for z in (-0.4, 0.4)] == [5.0, 0.0]
    assert [seen_from(Scene((lamp(two_sided=True),)), z) for z in (-0.4, 0.4)] == [5.0, 5.0]
    mirror = Material((0.0, 0.0, 0.0), (0.9, 0.9, 0.9), 0.05)
    for light, sides in ((lamp(), [-1]), (lamp(two_sided=True), [-1, 1])):
        shine = [side for side in (-1, 1) if light_on(room(light, mirror), side)[..., RGB.highlight].max() > 1]
        assert shine == sides


def test_bounced_light_begins_at_the_front() -> None:
    walls = tuple(box((0.02, 1.0, 1.0), Material(0.7), (x, 0, 0), f"wall_{x}") for x in (-0.5, 0.5))
    light = []
    for both in (False, True):
        scene = room(lamp(two_sided=both))
        surfaces = RayCaster.of(scene.replace(objects=(*walls, *scene.objects)))
        surfaces.light_up()
        camera = Camera.look_at((0.0, -0.45, 0.0), (0.0, 0.0, 0.49), fov=30)
        image = surfaces.features(camera, 8, 8, refine=1)
        light.append((image[..., RGB.irradiance] + image[..., RGB.indirect_irradiance]).mean())
    # Under a lamp that looks down the ceiling has only what the floor and the walls send back.
    assert 0 < light[0] < 0.4 * light[1]


def test_sides_stay_with_their_triangles() -> None:
    sides = np.array([True, False])
    mesh = lamp(two_sided=sides)
    mirrored = mesh.transformed(np.diag([1.0, 1.0, -1.0, 1.0]))
    assert np.array_equal(mirrored.two_sided, sides)
    assert np.array_equal(mesh.with_material(Material()).two_sided, sides)
    pieces, _ = subdivide(mesh, 0.1)
    first = pieces.triangles.mean(axis=1) @ [1, -1, 0] < 0
    assert np.array_equal(pieces.two_sided, first)
    scene = combine([Scene((mesh,)), Scene((ball(0.1, GLOW),))])
    assert np.array_equal(scene.two_sided[:3], [True, False, False])
    # A material may say it.
    assert lamp().with_material(replace(GLOW, two_sided=True)).two_sided is True
    assert lamp(two_sided=True).with_material(GLOW).two_sided is True
    # One value for all is a bool.
    assert lamp(two_sided=np.array([True, True])).two_sided is True


def test_simplified_meshes_keep_sides() -> None:
    both = ball(0.3, GLOW, detail=3)
    upper = both.triangles.mean(axis=1)[:, 2] > 0
    coarse, _ = simplify(replace(both, two_sided=upper), 200)
    height = coarse.triangles.mean(axis=1)[:, 2]
    assert (np.asarray(coarse.two_sided) == (height > 0))[np.abs(height) > 0.03].all()


@pytest.mark.parametrize("bad", [1, "yes", np.ones(3, bool), np.array([1.0, 0.0])])
def test_sides_that_are_no_bools_are_refused(bad: object) -> None:
    with pytest.raises(InputError, match="two_sided"):
        lamp(two_sided=bad)  # type: ignore[arg-type]


def test_files_that_do_not_say_never_lose_their_light() -> None:
    # Open lights that face the middle and closed ones that are not inside out are taken at their word.
    shell = ball(0.1, GLOW, (0.2, 0.1, 0.2), "bulb")
    inside_out = replace(shell, triangles=shell.triangles[:, ::-1], normals=-shell.normals)
    above = Light((0.0, 0.0, 2.0)).mesh()
    away = replace(above, triangles=above.triangles[:, ::-1], normals=None)
    floor = level(-0.5, "floor")
    for light, both in ((shell, False), (inside_out, True), (above, False), (away, True)):
        read = with_sides([floor, light])
        assert read[0].two_sided is False
        assert read[1].two_sided is both
        assert np.array_equal(read[1].triangles, light.triangles)
    # Two panels face each other, one from the wrong side: their area vectors add up to zero, yet they are not closed.
    panels = np.concatenate([PANEL + [0, 0, 0.9], PANEL - [0, 0, 0.9]]).astype(np.float32)
    pair = Mesh("panels", panels, materials=GLOW.row())
    flat = box(0.2, Material(0.5))
    assert np.array_equal(with_sides([flat, pair])[1].two_sided, [False, False, True, True])
    # There is nothing to light but the lights themselves.
    assert with_sides([lamp()])[0].two_sided is True
    assert with_sides([floor, lamp(turned=True)], {"lamp": False})[1].two_sided is False
    assert with_sides([floor, above], {above.name: True})[1].two_sided is True


@pytest.mark.parametrize("suffix", [".json", ".h5"])
def test_scene_files_keep_sides_or_tell(suffix: str, tmp_path: Path) -> None:
    down = lamp().transformed(trimesh.transformations.translation_matrix([0, 0, 0.2]))
    up = lamp(turned=True).transformed(trimesh.transformations.translation_matrix([0, 0, 0.2]))
    for light, changed in ((down, False), (up, True), (replace(down, two_sided=True), True)):
        told = save_scene(room(light), tmp_path / f"scene{suffix}")
        kept = np.array_equal(Scene.load(tmp_path / f"scene{suffix}").two_sided, room(light).two_sided)
        assert any("2 light triangles" in line for line in told) != kept
        # The extension of JSON holds sides.
        assert kept == (suffix == ".json" or not changed)
        assert bool(other_sides(room(light).objects)) == changed


@pytest.mark.parametrize("name", ["cbox", "cbox-bunny", "init-template", "veach-mis"])
def test_scenes_of_the_original_program_are_lit(name: str) -> None:
    scene = Scene.load(Path(__file__).parent / "goldens" / "scenes" / f"{name}.h5")
    pictures = []
    for sides in (scene.two_sided, np.ones(len(scene), bool)):
        surfaces = RayCaster(scene.triangles, scene.normals, scene.materials, scene.patches, two_sided=sides)
        pictures.append(surfaces.features(scene.cameras[0], 16, 16, antialias=1, refine=1)[..., RGB.direct])
    assert pictures[0].max() > 0.1
    np.testing.assert_array_equal(pictures[0], pictures[1])


@pytest.mark.parametrize("said", [None, False, True])
def test_gltf_says_by_double_sided(said: bool | None, tmp_path: Path) -> None:
    paint = trimesh.visual.material.PBRMaterial(emissiveFactor=[1.0, 1.0, 1.0], doubleSided=said)
    shape = trimesh.Trimesh(PANEL.reshape(-1, 3)[:, [0, 2, 1]], [[0, 1, 2], [3, 4, 5]], process=False)
    shape.visual = trimesh.visual.TextureVisuals(uv=np.zeros((6, 2)), material=paint)
    trimesh.Scene({"lamp": shape}).export(tmp_path / "lamp.glb")
    scene = Scene.load(tmp_path / "lamp.glb", stage="raw")
    assert scene.materials[:, EMISSION].max() == 1
    # Without the word it is one-sided: so says the format.
    assert scene.two_sided.all() == bool(said)
    assert scene.two_sided.any() == bool(said)
