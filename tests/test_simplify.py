"""Simplification and subdivision of meshes and scenes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import trimesh
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial import cKDTree

from renderformer.data.errors import InputError
from renderformer.data.geometry.simplify import simplify, simplify_scene
from renderformer.data.geometry.subdivide import subdivide, subdivide_scene
from renderformer.data.geometry.triangles import smooth_normals, weld
from renderformer.data.scene import CHANNELS, DIFFUSE, EMISSION, PATCH_SIZE, Light, Material, Mesh, Scene, flat_normals

RED, GREEN = Material((0.8, 0.1, 0.1)), Material((0.1, 0.7, 0.1), roughness=0.2)


def soup(shape: trimesh.Trimesh, smooth: bool = True, name: str = "m") -> Mesh:
    triangles = shape.triangles.astype(np.float32)
    return Mesh(name, triangles, smooth_normals(triangles) if smooth else None)


def grid(cells: int = 40, size: float = 1.0) -> npt.NDArray[np.float32]:
    """(2 * cells**2, 3, 3) triangles of the unit square at z = 0, facing up."""
    steps = np.linspace(0, size, cells + 1)
    x, y = np.meshgrid(steps, steps, indexing="ij")
    p = np.stack([x, y, np.zeros_like(x)], axis=-1)
    a, b, c, d = p[:-1, :-1], p[1:, :-1], p[1:, 1:], p[:-1, 1:]
    return np.stack([np.stack([a, b, c], 2), np.stack([a, c, d], 2)], 2).reshape(-1, 3, 3).astype(np.float32)


def merged(mesh: Mesh) -> trimesh.Trimesh:
    return trimesh.Trimesh(*weld(mesh.triangles), process=False)


def area(mesh: Mesh) -> float:
    return float(merged(mesh).area)


def distance(mesh: Mesh, shape: trimesh.Trimesh) -> float:
    """Largest distance from points on the original surface to the simplified one."""
    points = trimesh.sample.sample_surface(shape, 2000, seed=1)[0]
    return float(cKDTree(trimesh.sample.sample_surface(merged(mesh), 40000, seed=2)[0]).query(points)[0].max())


@pytest.mark.parametrize(
    ("budget", "off", "volume"), [(4096, 0.004, 0.005), (1001, 0.01, 0.01), (300, 0.04, 0.04), (63, 0.12, 0.25)]
)
def test_closed_surface_stays_closed_and_near(budget: int, off: float, volume: float) -> None:
    shape = trimesh.creation.torus(0.5, 0.2, 120, 60)
    mesh, note = simplify(soup(shape), budget)
    result = merged(mesh)
    assert budget * 0.9 <= len(mesh) <= budget
    assert result.is_watertight
    assert result.euler_number == 0
    x, y, z = trimesh.sample.sample_surface(result, 5000, seed=1)[0].T
    assert np.abs(np.hypot(np.hypot(x, y) - 0.5, z) - 0.2).max() < off
    assert result.volume == pytest.approx(shape.volume, rel=volume)
    assert note == f"object 'm': 14,400 triangles simplified to {len(mesh):,}"


def test_flat_facets_cut_small_do_not_derail_the_quadrics(goldens: Path) -> None:
    """Every facet is a plane of 16 triangles, on which the minimum of a quadric is not unique."""
    bunny = trimesh.load(goldens / "scenes" / "objects" / "classical" / "bunny.obj", process=False)
    shape = bunny.subdivide().subdivide()
    mesh, _ = simplify(soup(shape), 300)
    assert merged(mesh).is_watertight
    assert len(mesh) >= 298
    assert distance(mesh, shape) < 0.02 * shape.scale


def test_within_the_budget_nothing_happens() -> None:
    mesh = soup(trimesh.creation.icosphere(2))
    assert simplify(mesh, len(mesh)) == (mesh, "")
    scene = Scene((mesh,))
    assert simplify_scene(scene, len(mesh)) is scene


def test_same_input_gives_same_bytes() -> None:
    mesh = soup(trimesh.creation.icosphere(4))
    one, two = simplify(mesh, 200)[0], simplify(mesh, 200)[0]
    assert one.triangles.tobytes() == two.triangles.tobytes()
    assert one.normals.tobytes() == two.normals.tobytes()


@pytest.mark.parametrize("budget", [200, 32])
def test_open_border_keeps_its_shape(budget: int) -> None:
    mesh, _ = simplify(Mesh("m", grid()), budget)
    assert len(mesh) <= budget
    assert area(mesh) == pytest.approx(1.0, abs=2e-4)
    outline = merged(mesh)
    assert {tuple(v) for v in np.round(outline.vertices, 3) + 0.0} >= {(0, 0, 0), (1, 0, 0), (0, 1, 0), (1, 1, 0)}
    np.testing.assert_allclose(mesh.triangles[..., 2], 0, atol=1e-4)


def test_curved_open_border_does_not_erode() -> None:
    """A bowl: the rim of a half sphere must stay where it is."""
    u, v = grid(48)[..., 0], grid(48)[..., 1]
    bowl = np.stack(
        [np.cos(2 * np.pi * u) * np.cos(1.5 * v), np.sin(2 * np.pi * u) * np.cos(1.5 * v), np.sin(1.5 * v)], axis=-1
    )
    bowl[np.isin(u, 1.0), 1] = 0
    bowl[..., 2] += 0.1
    mesh, _ = simplify(Mesh("m", bowl, smooth_normals(bowl)), 400)
    rim = merged(mesh)
    edges = rim.edges[trimesh.grouping.group_rows(rim.edges_sorted, require_count=1)]
    points = rim.vertices[np.unique(edges)]
    assert len(points) >= 8
    low = points[:, 2] < 1
    np.testing.assert_allclose(points[low, 2], 0.1, atol=0.01)
    np.testing.assert_allclose(np.linalg.norm(points[low, :2], axis=1), 1, atol=0.03)


def test_materials_stay_on_their_side_of_the_border() -> None:
    triangles = grid()
    left = triangles[:, :, 0].mean(axis=1) < 0.5
    materials = np.where(left[:, None], RED.row(), GREEN.row())
    mesh, _ = simplify(Mesh("m", triangles, materials=materials), 100)
    red = (mesh.materials == RED.row()).all(axis=1)
    assert (red | (mesh.materials == GREEN.row()).all(axis=1)).all()
    areas = trimesh.triangles.area(mesh.triangles)
    assert areas[red].sum() == pytest.approx(0.5, abs=1e-3)
    assert mesh.triangles[red][..., 0].max() <= 0.501
    assert mesh.triangles[~red][..., 0].min() >= 0.499


def test_colours_that_vary_like_a_texture_are_averaged() -> None:
    shape = trimesh.creation.icosphere(5)
    centre = shape.triangles.mean(axis=1)
    materials = np.tile(Material().row(), (len(centre), 1))
    materials[:, DIFFUSE] = 0.5 + 0.4 * centre
    # Noise that averaging removes.
    materials[:, 0] += np.random.default_rng(0).uniform(-0.1, 0.1, len(centre))
    mesh, _ = simplify(Mesh("m", shape.triangles.astype(np.float32), materials=materials), 300)
    expected = 0.5 + 0.4 * mesh.triangles.mean(axis=1)
    assert np.abs(mesh.materials[:, DIFFUSE] - expected).mean() < 0.03
    assert np.abs(mesh.materials[:, DIFFUSE] - expected).max() < 0.12


def test_emission_is_not_averaged() -> None:
    shape = trimesh.creation.icosphere(4)
    materials = np.tile(Material().row(), (len(shape.faces), 1))
    materials[:, 0] = np.random.default_rng(0).uniform(0, 1, len(shape.faces))
    glowing = shape.triangles.mean(axis=1)[:, 2] > 0.5
    materials[glowing, EMISSION] = 30.0
    mesh, _ = simplify(Mesh("m", shape.triangles.astype(np.float32), materials=materials), 400)
    assert set(np.unique(mesh.materials[:, EMISSION])) == {0.0, 30.0}
    share = trimesh.triangles.area(shape.triangles)[glowing].sum() / shape.area
    new = mesh.materials[:, 10] > 0
    assert trimesh.triangles.area(mesh.triangles)[new].sum() / area(mesh) == pytest.approx(share, abs=0.02)


def test_flat_shading_stays_flat_and_creases_stay_sharp() -> None:
    box = trimesh.creation.box((1, 0.7, 0.4)).subdivide().subdivide().subdivide().subdivide()
    for smooth in (False, True):
        mesh, _ = simplify(soup(box, smooth), 200)
        np.testing.assert_allclose(mesh.normals, flat_normals(mesh.triangles), atol=1e-3)
    ball, _ = simplify(soup(trimesh.creation.icosphere(4), smooth=False), 100)
    np.testing.assert_array_equal(ball.normals, flat_normals(ball.triangles))


def test_shading_of_a_cylinder_does_not_run_over_its_rim() -> None:
    shape = trimesh.creation.cylinder(radius=0.5, height=1, sections=96).subdivide().subdivide()
    mesh, _ = simplify(soup(shape), 150)
    face = flat_normals(mesh.triangles)[:, 0, 2]
    side = np.abs(face) < 0.5
    assert 20 < side.sum() < 130
    assert np.abs(mesh.normals[side][..., 2]).max() < 0.1
    assert np.abs(mesh.normals[~side][..., 2]).min() > 0.9


def test_smooth_shading_survives_a_strong_reduction() -> None:
    """Faces of a ball of 80 triangles meet at more than the crease angle, but must stay smooth."""
    mesh, _ = simplify(soup(trimesh.creation.icosphere(5)), 80)
    direction = mesh.triangles / np.linalg.norm(mesh.triangles, axis=-1, keepdims=True)
    assert (mesh.normals * direction).sum(-1).min() > 0.97
    np.testing.assert_allclose(np.linalg.norm(mesh.normals, axis=-1), 1, atol=1e-5)


def test_patches_become_their_mean_and_the_note_counts_them() -> None:
    triangles = grid(20)
    patches = np.ones((5, CHANNELS, PATCH_SIZE, PATCH_SIZE), np.float16)
    index = np.full(len(triangles), -1, np.int32)
    index[:5] = np.arange(5)
    mesh, note = simplify(Mesh("m", triangles, patches=patches, patch_index=index), 100)
    assert mesh.patches is None
    assert "5 texture patches replaced by their mean colour" in note


def test_soup_of_separate_parts_meets_the_budget() -> None:
    parts = [
        trimesh.creation.icosphere(1).apply_translation(4 * np.array([i, j, k])) for i, j, k in np.ndindex(6, 6, 6)
    ]
    mesh = soup(trimesh.util.concatenate(parts))
    result, note = simplify(mesh, 300)
    assert 0 < len(result) <= 300
    assert "17,280 triangles simplified to" in note


@settings(max_examples=15)
@given(st.integers(1, 60), st.integers(0, 5))
def test_random_soups_are_reduced_or_say_why(budget: int, seed: int) -> None:
    triangles = np.random.default_rng(seed).normal(size=(61, 3, 3)).astype(np.float32)
    triangles[3] = triangles[2]
    triangles[4, 1] = triangles[4, 0]
    mesh, note = simplify(Mesh("m", triangles), budget)
    assert np.isfinite(mesh.triangles).all()
    assert len(mesh) <= budget or "more than" in note


def test_budget_is_shared_and_lights_and_stage_are_left_alone() -> None:
    floor = Mesh("floor", grid(10))
    big = soup(trimesh.creation.icosphere(5), name="big")
    small = soup(trimesh.creation.icosphere(4, radius=0.1), name="small")
    plain = soup(trimesh.creation.box((2, 2, 2)), name="box")
    light = Light().mesh()
    scene = Scene((floor, big, small, plain, light), notes=("first",))
    result = simplify_scene(scene, 2048, keep=["floor"])
    objects = {mesh.name: mesh for mesh in result.objects}
    assert [mesh.name for mesh in result.objects] == ["floor", "big", "small", "box", "light"]
    assert 2048 * 0.98 <= len(result) <= 2048
    for mesh in (floor, plain, light):
        assert objects[mesh.name] is mesh
    assert len(objects["big"]) > 5 * len(objects["small"]) > 5 * 8
    assert result.notes[0] == "first"
    assert result.notes[1] == (
        f"object 'big': 20,480 triangles simplified to {len(objects['big']):,} (budget 2,048 for the whole scene)"
    )
    assert len(result.notes) == 3


def test_tiny_objects_keep_eight_triangles() -> None:
    tiny = [
        soup(trimesh.creation.icosphere(2, radius=1e-3).apply_translation([i, 0, 0]), name=f"t{i}") for i in range(10)
    ]
    result = simplify_scene(Scene((soup(trimesh.creation.icosphere(4), name="big"), *tiny)), 200)
    assert len(result) <= 200
    assert all(6 <= len(mesh) <= 12 for mesh in result.objects[1:])


def test_budget_errors_name_the_numbers() -> None:
    mesh = soup(trimesh.creation.icosphere(2))
    with pytest.raises(InputError, match="budget is 0"):
        simplify(mesh, 0)
    with pytest.raises(InputError, match="budget is -3"):
        simplify_scene(Scene((mesh,)), -3)
    with pytest.raises(InputError, match=r"budget 100 is too small.*200 triangles"):
        simplify_scene(Scene((Mesh("floor", grid(10)), mesh)), 100, keep=["floor"])


@pytest.mark.parametrize("max_edge", [0.5, 0.11, 0.07])
def test_subdivision_is_exact_and_watertight(max_edge: float) -> None:
    shape = trimesh.creation.icosphere(1)
    mesh, note = subdivide(soup(shape), max_edge)
    edges = np.linalg.norm(np.roll(mesh.triangles, -1, axis=1) - mesh.triangles, axis=2)
    assert edges.max() <= max_edge * 1.00001
    assert merged(mesh).is_watertight
    assert merged(mesh).volume == pytest.approx(shape.volume, rel=1e-6)
    assert f"80 triangles subdivided to {len(mesh):,}" in note
    np.testing.assert_allclose(np.linalg.norm(mesh.normals, axis=-1), 1, atol=1e-6)


def test_subdivision_of_thin_triangles_leaves_no_gaps() -> None:
    shape = trimesh.creation.box((1.0, 0.03, 0.4))
    mesh, _ = subdivide(soup(shape), 0.1)
    assert merged(mesh).is_watertight
    assert merged(mesh).is_winding_consistent
    assert merged(mesh).volume == pytest.approx(shape.volume, rel=1e-5)
    assert area(mesh) == pytest.approx(shape.area, rel=1e-6)


def test_subdivision_keeps_the_texture_where_it_was() -> None:
    """A patch that holds a linear function of position must give the same function on each piece."""
    i, j = np.meshgrid(np.arange(PATCH_SIZE), np.arange(PATCH_SIZE), indexing="ij")
    patch = np.zeros((1, CHANNELS, PATCH_SIZE, PATCH_SIZE), np.float16)
    patch[0, 0], patch[0, 1] = i / 32, j / 32
    patch[0, :, i + j > PATCH_SIZE] = 0
    triangle = np.array([[[0, 0, 0], [1, 0, 0], [0, 1, 0]]], np.float32)
    mesh, _ = subdivide(Mesh("m", triangle, patches=patch, patch_index=np.zeros(1, np.int32)), 0.4)
    assert mesh.patches is not None
    assert mesh.patch_index is not None
    assert len(mesh) > 8
    inside = i + j <= PATCH_SIZE
    weights = np.stack([32 - i[inside] - j[inside], i[inside], j[inside]], axis=1) / 32
    for number, corners in enumerate(mesh.triangles):
        position = weights @ corners[:, :2]
        # Texel 32 does not exist, so the last 1/32 toward corners 1 and 2 repeats its neighbour.
        expected = np.minimum(position, 31 / 32)
        values = mesh.patches[mesh.patch_index[number]][:2, inside].T
        np.testing.assert_allclose(values, expected, atol=2e-3)
        assert (mesh.patches[mesh.patch_index[number]][:, ~inside] == 0).all()


def test_subdivide_scene_fits_the_budget_or_says_so() -> None:
    scene = Scene((soup(trimesh.creation.box()), Light(size=3.0).mesh()))
    result = subdivide_scene(scene, "auto", 500)
    assert 12 < len(result) <= 500
    assert len(result.objects[1]) == 1
    assert "subdivided to" in result.notes[-1]
    assert subdivide_scene(scene, 10.0) is scene
    with pytest.raises(InputError, match=r"max_edge 0.01 needs .* the budget is 4,096"):
        subdivide_scene(scene, 0.01)
    with pytest.raises(InputError, match="more than 1,000,000 triangles"):
        subdivide_scene(scene, 1e-5)
    for wrong in (0, -1, float("nan")):
        with pytest.raises(InputError, match="max_edge"):
            subdivide_scene(scene, wrong)
    with pytest.raises(InputError, match="'small'"):
        subdivide_scene(scene, "small")
