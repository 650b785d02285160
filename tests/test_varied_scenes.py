"""Varied scenes: repeatable, of all kinds, lit, and nothing that a reference picture cannot show."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from renderformer.data.camera import Camera
from renderformer.data.errors import InputError
from renderformer.data.geometry.triangles import area_vectors
from renderformer.data.scene import EMISSION, ROUGHNESS, SPECULAR, Mesh, Scene

pytest.importorskip("mitsuba", reason="varied scenes need mitsuba: pip install renderformer[reference]")
pytest.importorskip("manifold3d", reason="varied scenes need manifold3d: pip install renderformer[reference]")
pytest.importorskip("skimage", reason="varied scenes need scikit-image: pip install renderformer[reference]")

from renderformer.data.sets.finishes import FLOOR, OBJECT, OFTEN, WALL, finished, random_material, random_roughness
from renderformer.data.sets.lamps import Lamp, ball, irradiance, light_meshes, panel
from renderformer.data.sets.patterns import PATTERNS, leaf, normals
from renderformer.data.sets.places import ROOM_LIGHTS, room_place, sheet, slab
from renderformer.data.sets.shards import STAGES, as_stored, pack_scenes
from renderformer.data.sets.surroundings import KINDS, random_environment
from renderformer.data.sets.varied_scenes import levelled, scaled, scene_kind, varied_scene

SEEDS = range(40)


@pytest.fixture(scope="module")
def scenes() -> list[Scene]:
    return [varied_scene(seed, 1, 1200) for seed in SEEDS]


def same(one: Scene, other: Scene) -> bool:
    """Whether shards store two scenes alike."""
    pictures = [np.zeros((len(one.cameras), 1, 1, 3), np.float32)]
    arrays = [pack_scenes([(as_stored(scene), 0, 0)], pictures) for scene in (one, other)]
    return all(np.array_equal(arrays[0][key], arrays[1][key]) for key in arrays[0])


def test_the_seed_alone_decides(scenes: list[Scene]) -> None:
    for seed in (2, 5, 11):
        assert same(varied_scene(seed, 1, 1200), scenes[seed])
    assert not same(scenes[2], scenes[5])


def test_scenes_are_of_all_kinds(scenes: list[Scene]) -> None:
    kinds = Counter(scene_kind(scene) for scene in scenes)
    assert kinds.keys() >= {"room", "studio", "ground"}
    assert kinds.keys() <= set(STAGES)
    counts = [sum(mesh.name.startswith("object") for mesh in scene.objects) for scene in scenes]
    assert min(counts) <= 3
    assert max(counts) >= 15
    assert 0.4 < np.mean([scene.environment is not None for scene in scenes]) < 0.9
    assert 0.3 < np.mean([len(scene.light_triangles) > 0 for scene in scenes]) < 0.9
    materials = [m for scene in scenes if scene.appearance for m in scene.appearance.materials]
    assert any(material.textures.normal for material in materials)
    assert any(material.textures.metallic_roughness for material in materials)
    assert any(material.alpha_cutoff is not None for material in materials)
    assert any(scene.appearance is not None and scene.appearance.colors is not None for scene in scenes)
    rows = np.concatenate([scene.materials for scene in scenes])
    assert (np.ptp(rows[:, SPECULAR], axis=1) > 0.2).any()


def test_scenes_keep_to_the_budget_and_to_energy(scenes: list[Scene]) -> None:
    for scene in scenes:
        assert len(scene) <= 1200
        assert (scene.materials[:, :3] + scene.materials[:, SPECULAR]).max() <= 1 + 1e-5
        assert scene.materials[:, EMISSION].max() <= 60000
        assert not scene.is_dark
    for seed in range(6):
        assert len(varied_scene(seed, 1, 64)) <= 64


def test_pictures_of_new_scenes_are_lit_and_not_burnt_out(scenes: list[Scene]) -> None:
    from renderformer.data.sets.mitsuba import ReferenceScene

    for scene in [scene for scene in scenes if scene.name.startswith("varied")][:12]:
        picture = ReferenceScene(scene, 8).render(scene.cameras[0], 16, 16, 36, seed=5).mean(axis=2)
        assert 0.15 < np.quantile(picture, 0.75) < 3
        assert (picture > 8).mean() < 0.25


def test_cameras_in_rooms_are_inside(scenes: list[Scene]) -> None:
    rooms = [scene for scene in scenes if scene_kind(scene) == "room"]
    for scene in rooms:
        shell = np.concatenate([mesh.bounds for mesh in scene.objects if mesh.name.startswith("room_")])
        for camera in scene.cameras:
            assert (camera.position > shell.min(axis=0)).all()
            assert (camera.position < shell.max(axis=0)).all()
    assert rooms


def test_roughness_is_twice_as_often_where_it_matters() -> None:
    rng = np.random.default_rng(0)
    drawn = np.array([random_roughness(rng) for _ in range(6000)])
    inside = (drawn > OFTEN[0]) & (drawn < OFTEN[1])
    width = np.log(OFTEN[1] / OFTEN[0])
    rest = np.log(1 / 0.03) - width
    assert inside.mean() / width == pytest.approx(2 * (~inside).mean() / rest, rel=0.1)


def test_materials_conserve_energy_and_have_the_shares_of_their_kinds() -> None:
    rng = np.random.default_rng(1)
    rows = np.concatenate([random_material(rng).rows() for _ in range(2000)])
    assert (rows[:, :3] + rows[:, SPECULAR]).max() <= 1 + 1e-6
    metal = rows[:, :3].max(axis=1) == 0
    assert 0.18 < metal.mean() < 0.28
    coloured = np.ptp(rows[:, SPECULAR], axis=1) > 0.02
    assert coloured[metal].mean() > 0.4
    assert coloured[~metal].any()
    assert rows[:, ROUGHNESS].min() >= 0.03 - 1e-6


@pytest.mark.parametrize("name", sorted(PATTERNS))
def test_patterns_are_tileable_pictures(name: str) -> None:
    for seed in range(5):
        pattern = PATTERNS[name][0](np.random.default_rng(seed), 96)
        again = PATTERNS[name][0](np.random.default_rng(seed), 96)
        for values, repeated in zip(pattern, again, strict=True):
            assert values.shape == (96, 96)
            assert np.array_equal(values, repeated)
            assert 0 <= values.min() <= values.max() <= 1
        # A picture that continues at its borders has no larger steps there than inside.
        if name in ("clouds", "marble"):
            inside = np.abs(np.diff(pattern.mix, axis=0)).max()
            assert np.abs(pattern.mix[0] - pattern.mix[-1]).max() <= inside + 1e-9


def test_normal_maps_lean_away_from_a_bump() -> None:
    place = np.linspace(-1, 1, 33)
    height = np.exp(-8 * (place[None] ** 2 + place[:, None] ** 2))
    vectors = normals(height, 0.5).astype(int) - 127.5
    middle = 16
    # Right of the bump it leans to the right; above it in the picture, up.
    assert vectors[middle, 22, 0] > 5 > -5 > vectors[middle, 10, 0]
    assert vectors[10, middle, 1] > 5 > -5 > vectors[22, middle, 1]


def test_masks_have_holes_and_solid_parts() -> None:
    for seed in range(20):
        alpha = leaf(np.random.default_rng(seed), 64)
        assert set(np.unique(alpha)) == {0, 255}
        assert 0.05 < (alpha == 255).mean() < 0.95


def test_texture_coordinates_fit_all_surroundings() -> None:
    rng = np.random.default_rng(2)
    mesh = slab("m", np.zeros(3), np.ones(3) * 0.4)
    for where in (OBJECT, FLOOR, WALL):
        for _ in range(40):
            found = finished(rng, mesh, where)
            assert np.array_equal(found.triangles, mesh.triangles)
            if found.appearance is not None and found.appearance.uv.shape[2]:
                # An edge of .4 shows no more repetitions of the smallest texture than fit around it twice.
                assert np.ptp(found.appearance.uv, axis=1).max() < 30


def test_sheets_and_slabs_face_outward() -> None:
    box = slab("box", np.array([0, 0, 0]), np.array([1, 2, 3]))
    areas = area_vectors(box.triangles)
    middle = box.triangles.mean(axis=1) - [0.5, 1, 1.5]
    assert (np.einsum("nk,nk->n", areas, middle) > 0).all()
    assert np.einsum("nk,nk->", areas, middle) / 3 == pytest.approx(6)
    flat = sheet("flat", np.zeros(3), np.array([2.0, 0, 0]), np.array([0, 3.0, 0]), 2, 3)
    assert area_vectors(flat.triangles).sum(axis=0) == pytest.approx([0, 0, 6])


def test_rooms_are_closed_but_for_windows_and_face_inward() -> None:
    seen = set()
    for seed in range(60):
        place = room_place(np.random.default_rng(seed), 800)
        sides = [mesh for mesh in place.meshes if mesh.name.removeprefix("room_") in
                 ("left", "right", "back", "front", "ceiling", "floor")]  # fmt: skip
        total = area_vectors(np.concatenate([mesh.triangles for mesh in sides])).sum(axis=0)
        closed = bool(np.abs(total).max() < 1e-5)
        assert closed == (place.sky == "never")
        seen.add(closed)
        for mesh in sides:
            inward = np.einsum("nk,nk->n", area_vectors(mesh.triangles), -mesh.triangles.mean(axis=1))
            assert (inward > 0).all()
        for lamp in place.lamps:
            assert lamp.power > 0
        assert place.lamps or place.sky == "always"
    assert seen == {True, False}
    assert sum(ROOM_LIGHTS.values()) == pytest.approx(1)


def test_lamps_have_the_power_and_irradiance_of_formulas() -> None:
    lamp = Lamp(panel(np.array([0, 0, 2.0]), np.array([0, 0, -1.0]), 0.1, 0.2), np.array([1.0, 2.0, 3.0]))
    assert lamp.power == pytest.approx(0.02 * 2)
    # A small lamp above: radiance times area over squared distance, for a power of 1.
    assert irradiance([lamp], np.zeros(3)) == pytest.approx(0.25, rel=0.01)
    mesh = light_meshes([lamp], 7.0)[0]
    area = np.linalg.norm(area_vectors(mesh.triangles), axis=1).sum()
    assert area * mesh.materials[0, EMISSION].mean() == pytest.approx(7)
    sphere = ball(np.ones(3), 0.5, 500)
    assert len(sphere) == 128
    outward = np.einsum("nk,nk->n", area_vectors(sphere), sphere.mean(axis=1) - 1)
    assert (outward > 0).all()
    assert np.linalg.norm(area_vectors(sphere), axis=1).sum() == pytest.approx(np.pi, rel=0.05)


@pytest.mark.parametrize("name", sorted(KINDS))
def test_environments_are_about_as_bright_as_one(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("renderformer.data.sets.surroundings.KINDS", {name: (KINDS[name][0], 1.0, 1.0)})
    for seed in range(4):
        environment = random_environment(np.random.default_rng(seed))
        up = np.random.default_rng(0).normal(size=(4000, 3))
        up[:, 2] = np.abs(up[:, 2])
        up = (up / np.linalg.norm(up, axis=1, keepdims=True)).astype(np.float32)
        image = environment.replace(suns=()).radiance(up).mean()
        sun = sum(s.colour.mean() * s.direction[2] for s in environment.suns) / np.pi
        assert image + sun == pytest.approx(1, rel=0.1)
        assert np.asarray(environment.image).nbytes <= 64 * 128 * 12


def test_light_scales_with_its_factor_and_dark_scenes_are_drawn_again() -> None:
    rng = np.random.default_rng(0)
    lamp = Lamp(panel(np.array([0, 0, 1.0]), np.array([0, 0, -1.0]), 0.3, 0.3), np.ones(3))
    cameras = (Camera.look_at((0.1, -0.9, 1.2), fov=38),)
    floor = sheet("floor", np.array([-0.5, -0.5, 0]), np.array([1.0, 0, 0]), np.array([0, 1.0, 0]), 1, 1)
    lit = Scene((floor, *light_meshes([lamp])), cameras)
    double = scaled(lit, 2.0)
    assert np.array_equal(double.materials[:, EMISSION], 2 * lit.materials[:, EMISSION])
    turned = Mesh("floor", floor.triangles - np.float32([0, 0, 9]))
    assert levelled(rng, lit) is not None
    assert levelled(rng, Scene((turned, *light_meshes([lamp])), cameras)) is None


@pytest.mark.parametrize("arguments", [{"seed": -1}, {"seed": 0, "views": 0}, {"seed": 0, "max_triangles": 10}])
def test_wrong_arguments_are_refused(arguments: dict[str, int]) -> None:
    with pytest.raises(InputError, match="expected seed >= 0"):
        varied_scene(**arguments)
