"""Scene JSON 1.0: agreement with the original converter, and scenes that survive being saved and read."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import trimesh
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal

from renderformer.data.camera import Camera
from renderformer.data.errors import InputError
from renderformer.data.formats import save_scene
from renderformer.data.formats.scene_json import read as read_scene_json
from renderformer.data.geometry.light_sides import with_sides
from renderformer.data.geometry.triangles import smooth_normals
from renderformer.data.scene import DIFFUSE, Light, Material, Mesh, Scene

GOLDEN_SCENES = [
    *(f"mini/{name}" for name in ("color_ramp", "colors", "normals", "seeds", "xform")),
    *(f"scenes/{name}" for name in ("cbox", "cbox-bunny", "init-template", "veach-mis")),
]


def order(triangles: np.ndarray) -> np.ndarray:
    """An order of the triangles that does not depend on theirs; equal corners must have been rounded to equal."""
    return np.lexsort(np.round(triangles.reshape(-1, 9).astype(np.float64), 5).T)


def same_triangles(mesh: Mesh, triangles: np.ndarray, normals: np.ndarray, position: float, direction: float) -> None:
    """The same multiset of triangles, corners in the same order, within the tolerances."""
    ours, theirs = order(mesh.triangles), order(triangles)
    assert_allclose(mesh.triangles[ours], triangles[theirs], rtol=0, atol=position)
    assert_allclose(mesh.normals[ours], normals[theirs], rtol=0, atol=direction)


@pytest.mark.parametrize("name", GOLDEN_SCENES)
def test_agrees_with_the_original_converter(goldens: Path, name: str) -> None:
    scene = read_scene_json(goldens / f"{name}.json")
    document = json.loads((goldens / f"{name}.json").read_text())
    assert [mesh.name for mesh in scene.objects] == list(document["objects"])
    with h5py.File(goldens / f"{name}.h5") as file:
        triangles, normals, texture = file["triangles"][:], file["vn"][:], file["texture"][:]
        assert_allclose([camera.c2w for camera in scene.cameras], file["c2w"][:], rtol=0, atol=1e-6)
        assert_allclose([camera.fov for camera in scene.cameras], file["fov"][:], rtol=1e-6)
    assert len(triangles) == len(scene)
    start = 0
    for mesh in scene.objects:
        span = slice(start, start + len(mesh))
        start += len(mesh)
        same_triangles(mesh, triangles[span], normals[span], 2e-7, 1e-4)
        rows = mesh.materials[order(mesh.triangles)].astype(np.float16)
        assert_array_equal(rows, texture[span][order(triangles[span]), :, 0, 0])


def write(folder: Path, mesh: trimesh.Trimesh | str, **changes: Any) -> Path:
    """A scene of one object "thing" with the given mesh; changes go to its material, transform or top."""
    text = mesh if isinstance(mesh, str) else trimesh.exchange.obj.export_obj(mesh, include_normals=False)
    (folder / "a.obj").write_text(text)
    entry: dict[str, Any] = {
        "mesh_path": "a.obj",
        "material": {
            "diffuse": [0.5, 0.25, 1.0],
            "specular": [0.1, 0.1, 0.1],
            "emissive": [0, 0, 0],
            "roughness": 0.5,
            "smooth_shading": False,
        },
        "transform": {"translation": [0, 0, 0], "rotation": [0, 0, 0], "scale": [1, 1, 1], "normalize": False},
    }
    for key, value in changes.items():
        place = next((p for p in ("material", "transform") if key in entry[p] or key.startswith("ran")), None)
        (entry[place] if place else entry)[key] = value
    camera = {"position": [0, -2, 0], "look_at": [0, 0, 0], "up": [0, 0, 1], "fov": 37.5}
    path = folder / "a.json"
    path.write_text(json.dumps({"version": "1.0", "objects": {"thing": entry}, "cameras": [camera]}))
    return path


def test_diffuse_is_cut_to_eight_bits(tmp_path: Path) -> None:
    scene = read_scene_json(write(tmp_path, trimesh.creation.box()))
    assert_allclose(scene.materials[0, DIFFUSE], np.array([127, 63, 255]) / 255, rtol=1e-6)


def test_first_colours_of_seed_42(tmp_path: Path) -> None:
    path = write(tmp_path, trimesh.creation.box(), rand_tri_diffuse_seed=42, random_diffuse_max=0.5)
    scene = read_scene_json(path)
    assert_allclose(scene.materials[:2, DIFFUSE] * 255, [[102, 51, 92], [14, 106, 71]], rtol=1e-6)


def test_the_upper_end_of_random_colours_is_rounded_up(tmp_path: Path) -> None:
    """0.3 x 256 is 76.8; the generator draws below 77, so that 76 occurs."""
    ball = trimesh.creation.icosphere(subdivisions=3)
    scene = read_scene_json(write(tmp_path, ball, rand_tri_diffuse_seed=5, random_diffuse_max=0.3))
    assert_allclose(scene.materials[:, DIFFUSE].max() * 255, 76, rtol=1e-6)


def test_camera_matrix_of_the_specification(tmp_path: Path) -> None:
    scene = read_scene_json(write(tmp_path, trimesh.creation.box()))
    expected = [[1, 0, 0, 0], [0, 0, -1, -2], [0, 1, 0, 0], [0, 0, 0, 1]]
    assert_allclose(scene.cameras[0].c2w, expected, atol=1e-7)


def test_rotation_is_about_x_then_y_then_z_of_the_world(tmp_path: Path) -> None:
    """A point on +Y goes to +Z about X, to +X about Y, and to +Y about Z."""
    text = "v 0 1 0\nv 0 1 0.1\nv 0 1.1 0\nf 1 2 3\n"
    scene = read_scene_json(write(tmp_path, text, rotation=[90, 90, 90]))
    assert_allclose(scene.triangles[0, 0], [0, 1, 0], atol=1e-6)
    scene = read_scene_json(write(tmp_path, text, rotation=[90, 90, 0], scale=[2, 3, 4], translation=[5, 6, 7]))
    assert_allclose(scene.triangles[0, 0], [7, 6, 7], atol=1e-6)


def test_normalize_counts_every_vertex_and_gives_radius_one_half(tmp_path: Path) -> None:
    text = "v 0 0 0\nv 1 0 0\nv 0 1 0\nv 4 4 8\nv 0 0 1\nf 1 2 3\nf 1 2 5\nf 2 3 4\n"
    scene = read_scene_json(write(tmp_path, text, normalize=True))
    points = scene.triangles.reshape(-1, 3).astype(np.float64)
    assert_allclose(np.linalg.norm(np.unique(points.round(6), axis=0), axis=1).max(), 0.5, atol=1e-6)
    assert_allclose(np.unique(points.round(6), axis=0).mean(axis=0), 0, atol=1e-6)


def test_a_mirroring_scale_keeps_the_outside_outside(tmp_path: Path) -> None:
    scene = read_scene_json(write(tmp_path, trimesh.creation.icosphere(), scale=[1, -1, 1]))
    assert ((scene.normals * scene.triangles).sum(-1) > 0.9).all()


def test_a_mesh_of_several_materials_is_joined_as_trimesh_does(tmp_path: Path) -> None:
    """The original lets trimesh join the parts; their order decides which random colour each gets."""
    text = "".join(f"v {x} {y} {z}\n" for x in (0, 1) for y in (0, 1) for z in (0, 1))
    text += "usemtl b\nf 1 2 3\nusemtl a\nf 5 6 7 8\nusemtl c\no x\nf 2 3 4\nusemtl b\nf 1 5 6\n"
    scene = read_scene_json(write(tmp_path, text, rand_tri_diffuse_seed=1))
    joined = trimesh.load(tmp_path / "a.obj", process=False, force="mesh")
    assert_allclose(scene.triangles, joined.triangles)


@pytest.mark.parametrize("suffix", ["ply", "stl", "off", "glb", "3mf"])
def test_other_mesh_formats_keep_their_axes(tmp_path: Path, suffix: str) -> None:
    """The original hands every file to trimesh, which leaves glTF Y up."""
    source = trimesh.creation.icosphere(subdivisions=1)
    source.apply_transform(np.diag([1.0, 0.5, 0.2, 1.0]))
    path = write(tmp_path, source, mesh_path=f"a.{suffix}")
    source.export(tmp_path / f"a.{suffix}")
    joined = trimesh.load(tmp_path / f"a.{suffix}", process=False, force="mesh")
    assert_allclose(read_scene_json(path).triangles, joined.triangles, atol=1e-7)


def test_zero_area_triangles_are_dropped_with_a_count(tmp_path: Path) -> None:
    scene = read_scene_json(write(tmp_path, "v 0 0 0\nv 1 0 0\nv 0 1 0\nv 2 0 0\nf 1 2 3\nf 1 2 4\n"))
    assert len(scene) == 1
    assert any("objects.thing: 1 zero-area triangles dropped" in note for note in scene.notes)


@pytest.mark.parametrize(("shape", "target"), [("sphere", 500), ("box", 2048)])
def test_remesh_gives_even_triangles_of_the_same_shape(tmp_path: Path, shape: str, target: int) -> None:
    source = {
        "sphere": trimesh.creation.icosphere(subdivisions=4),
        "box": trimesh.creation.box(),
    }[shape]
    scene = read_scene_json(write(tmp_path, source, remesh=True, remesh_target_face_num=target))
    assert 0.8 * target <= len(scene) <= target
    mesh = trimesh.Trimesh(scene.triangles.reshape(-1, 3), np.arange(3 * len(scene)).reshape(-1, 3))
    mesh.merge_vertices(digits_vertex=6)
    assert mesh.is_watertight
    assert_allclose(mesh.volume, source.volume, rtol=0.02)
    assert_allclose(mesh.area, source.area, rtol=0.02)
    # The large triangles of the box are gone.
    ideal = np.sqrt(source.area / target * 4 / np.sqrt(3))
    lengths = mesh.edges_unique_length
    assert np.mean((lengths > 0.3 * ideal) & (lengths < 2 * ideal)) > 0.9
    assert any("not bit-equal to the original" in note for note in scene.notes)


def smooth_and_flat_scene() -> Scene:
    ball = trimesh.creation.icosphere(subdivisions=2, radius=0.3).triangles
    pipe = trimesh.creation.cylinder(0.1, 0.6, sections=24).triangles + [0.3, 0.1, 0]
    colours = np.tile(Material(0.2).row(), (len(pipe), 1))
    colours[::3] = Material((0.6, 0.2, 0.2), (0.1, 0.1, 0.1), 0.3).row()
    return Scene(
        (
            Mesh("ball / ü", ball, smooth_normals(ball), Material((0.8, 0.4, 0.2), (0.1, 0.1, 0.1), 0.123)),
            Mesh("flat", ball + [0, 0, 0.6], materials=Material(0.4)),
            Mesh("pipe", pipe, None, colours),
            Light((0.5, 0.5, 2.0), emission=(3000, 2000, 1000)).mesh(),
        ),
        (Camera.from_angles(30, 40, 1.8, fov=45.5), Camera.look_at((0.3, -1.9, 0.2), (0.1, 0.2, 0.3), fov=33)),
        "smooth and flat",
    )


def test_saved_scene_is_the_same_scene(tmp_path: Path) -> None:
    scene = smooth_and_flat_scene()
    notes = save_scene(scene, tmp_path / "out.json", version="1.0")
    again = read_scene_json(tmp_path / "out.json")
    assert again.name == scene.name
    assert [mesh.name for mesh in again.objects] == ["ball / ü", "flat", "pipe", "pipe_1", "light"]
    assert notes == ["2 objects made from objects with several materials"]
    for name in ("ball / ü", "flat", "light"):
        before = next(mesh for mesh in scene.objects if mesh.name == name)
        after = next(mesh for mesh in again.objects if mesh.name == name)
        same_triangles(after, before.triangles, before.normals, 1e-8, 1e-3)
        assert_allclose(after.materials, before.materials[: len(after)], rtol=1e-6)
    for ours, theirs in zip(scene.cameras, again.cameras, strict=True):
        assert_allclose(ours.c2w, theirs.c2w, atol=1e-6)
        assert ours.fov == theirs.fov


def test_what_the_format_cannot_hold_is_counted(tmp_path: Path) -> None:
    ball = trimesh.creation.icosphere(subdivisions=1).triangles
    odd = np.tile(np.array([0, 0, 1], np.float32), (len(ball), 3, 1))
    patches = np.full((1, 13, 32, 32), 0.25, np.float16)
    index = np.full(len(ball), -1, np.int32)
    index[3] = 0
    scene = Scene(
        (
            Mesh("odd", ball, odd, Material(0.4)),
            Mesh("colour", ball, materials=Material(0.3)),
            Mesh("patched", ball, None, Material(0.4).row(), patches, index),
        ),
        (Camera.from_angles(name="front"), Camera.from_angles(90), Camera.from_angles(180, name="camera_2")),
    )
    notes = save_scene(scene, tmp_path / "out.json", version="1.0")
    assert "80 triangles get other normals when read" in notes
    assert "80 triangles with diffuse colours rounded to 8 bits" in notes
    assert "1 textured triangles flattened to their mean material" in notes
    assert "1 names of cameras" in notes


@settings(max_examples=25, suppress_health_check=list(HealthCheck))
@given(seed=st.integers(0, 2**32 - 1), objects=st.integers(1, 4), steps=st.lists(st.integers(0, 255), min_size=3))
def test_random_scenes_survive(
    tmp_path_factory: pytest.TempPathFactory, seed: int, objects: int, steps: list[int]
) -> None:
    random = np.random.default_rng(seed)
    meshes = []
    for number in range(objects):
        triangles = random.normal(size=(int(random.integers(1, 20)), 3, 3)).astype(np.float32)
        red, green, blue = np.roll(steps, number)[:3] / 255
        shine, glow = tuple(random.random(3)), tuple(random.random(3))
        material = Material((red, green, blue), shine, float(random.random()), glow)
        meshes.append(Mesh(f"m{number}", triangles, materials=material))
    camera = Camera.from_angles(*random.uniform([0, -80, 1], [360, 80, 3]), fov=float(random.uniform(10, 90)))
    path = tmp_path_factory.mktemp("random") / "scene.json"
    meshes = with_sides(meshes)
    assert save_scene(Scene(tuple(meshes), (camera,)), path) == []
    again = read_scene_json(path)
    assert_allclose(again.triangles, np.concatenate([mesh.triangles for mesh in meshes]), rtol=0, atol=1e-7)
    assert_allclose(again.normals, np.concatenate([mesh.normals for mesh in meshes]), rtol=0, atol=1e-4)
    assert_allclose(again.materials, np.concatenate([mesh.materials for mesh in meshes]), rtol=1e-6, atol=1e-7)
    assert_allclose(again.cameras[0].c2w, camera.c2w, atol=1e-6)
    # What was read once is at the format's precision: from there on nothing changes.
    assert save_scene(again, path) == []
    third = read_scene_json(path)
    assert_array_equal(third.triangles, again.triangles)
    assert_array_equal(third.materials, again.materials)


def test_saving_twice_replaces_and_overwrite_is_respected(tmp_path: Path) -> None:
    scene = smooth_and_flat_scene()
    save_scene(scene, tmp_path / "out.json", version="1.0")
    save_scene(Scene(scene.objects[:1], scene.cameras), tmp_path / "out.json")
    assert sorted(item.name for item in tmp_path.iterdir()) == ["out.json", "out_meshes"]
    assert [item.name for item in (tmp_path / "out_meshes").iterdir()] == ["000_ball_.obj"]
    before = {item: item.read_bytes() for item in tmp_path.rglob("*.*") if item.is_file()}
    with pytest.raises(InputError, match="exists"):
        save_scene(scene, tmp_path / "out.json", overwrite=False)
    assert before == {item: item.read_bytes() for item in tmp_path.rglob("*.*") if item.is_file()}


def test_a_folder_of_the_user_is_not_replaced(tmp_path: Path) -> None:
    (tmp_path / "out_meshes").mkdir()
    (tmp_path / "out_meshes" / "diary.txt").write_text("mine")
    with pytest.raises(InputError, match="holds other files"):
        save_scene(smooth_and_flat_scene(), tmp_path / "out.json")
    assert [item.name for item in tmp_path.rglob("*")] == ["out_meshes", "diary.txt"]


def test_a_failure_in_the_middle_leaves_what_was_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    scene = smooth_and_flat_scene()
    path = tmp_path / "out.json"
    save_scene(Scene(scene.objects[:1], scene.cameras), path)
    before = {item: item.read_bytes() for item in tmp_path.rglob("*") if item.is_file()}

    def fail(*_: Any, **__: Any) -> str:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("renderformer.data.formats.scene_json.json.dumps", fail)
    with pytest.raises(InputError, match="cannot write, No space left"):
        save_scene(scene, path)
    assert before == {item: item.read_bytes() for item in tmp_path.rglob("*") if item.is_file()}
    assert sorted(item.name for item in tmp_path.iterdir()) == ["out.json", "out_meshes"]
