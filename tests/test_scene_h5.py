"""Scene H5: the original's files to the last bit, both ways."""

from __future__ import annotations

import tracemalloc
from pathlib import Path

import h5py
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.testing import assert_array_equal

from renderformer.data.camera import Camera
from renderformer.data.errors import InputError
from renderformer.data.formats import save_scene
from renderformer.data.formats.scene_h5 import read as read_scene_h5
from renderformer.data.formats.scene_json import read as read_scene_json
from renderformer.data.geometry.light_sides import with_sides
from renderformer.data.geometry.patches import triangle_mask
from renderformer.data.scene import Light, Material, Mesh, Scene

KEYS = ("triangles", "vn", "texture", "c2w", "fov")


@pytest.mark.parametrize("name", ["mini/color_ramp", "mini/seeds", "mini/xform", "scenes/init-template"])
def test_goldens_are_written_as_they_were_read(goldens: Path, tmp_path: Path, name: str) -> None:
    scene = read_scene_h5(goldens / f"{name}.h5")
    save_scene(scene, tmp_path / "out.h5")
    with h5py.File(goldens / f"{name}.h5") as theirs, h5py.File(tmp_path / "out.h5") as ours:
        assert sorted(ours) == sorted(KEYS)
        for key in KEYS:
            assert ours[key].dtype == theirs[key].dtype
            assert_array_equal(ours[key][...], theirs[key][...])


def test_json_and_h5_of_one_scene_agree(goldens: Path) -> None:
    ours, theirs = read_scene_json(goldens / "scenes/veach-mis.json"), read_scene_h5(goldens / "scenes/veach-mis.h5")
    assert len(ours) == len(theirs)
    assert_array_equal(ours.light_triangles, theirs.light_triangles)
    assert_array_equal(ours.materials.astype(np.float16), theirs.materials.astype(np.float16))
    # Runs of one material are the objects; neighbours of one material become one object.
    assert 1 < len(theirs.objects) <= len(ours.objects)


@st.composite
def scenes(draw: st.DrawFn) -> Scene:
    random = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    meshes = []
    for number in range(draw(st.integers(1, 4))):
        count = draw(st.integers(1, 20))
        triangles = random.normal(size=(count, 3, 3)).astype(np.float32)
        normals = random.normal(size=(count, 3, 3)).astype(np.float32)
        rows = random.random((count, 13)).astype(np.float16)
        if draw(st.booleans()):
            rows[:] = rows[0]
        if draw(st.booleans()):
            rows[:, 10:] = 0
        patches = index = None
        if draw(st.booleans()):
            chosen = np.flatnonzero(random.random(count) < 0.5)
            if len(chosen):
                patches = (random.random((len(chosen), 13, 32, 32)) * triangle_mask()).astype(np.float16)
                index = np.full(count, -1, np.int32)
                index[chosen] = random.permutation(len(chosen))
        meshes.append(Mesh(f"m{number}", triangles, normals, rows.astype(np.float32), patches, index))
    cameras = tuple(
        Camera.from_angles(*random.uniform([0, -80, 1], [360, 80, 3]), fov=float(np.float32(random.uniform(10, 90))))
        for _ in range(draw(st.integers(0, 3)))
    )
    return Scene(tuple(with_sides(meshes)), cameras)


@settings(max_examples=30, suppress_health_check=list(HealthCheck))
@given(scene=scenes())
def test_random_scenes_survive_exactly(tmp_path_factory: pytest.TempPathFactory, scene: Scene) -> None:
    path = tmp_path_factory.mktemp("h5") / "a.h5"
    told = save_scene(scene, path)
    assert told == ["H5 has no names: the names of the scene, the objects and the cameras are lost"]
    again = read_scene_h5(path)
    assert_array_equal(again.triangles, scene.triangles)
    assert_array_equal(again.normals, scene.normals)
    uniform = np.ones(len(scene), bool) if scene.patches is None else scene.patches[1] < 0
    assert_array_equal(again.materials[uniform], scene.materials[uniform])
    for ours, theirs in zip(again.cameras, scene.cameras, strict=True):
        assert_array_equal(ours.c2w, theirs.c2w)
        assert ours.fov == theirs.fov
    assert (again.patches is None) == (scene.patches is None)
    if scene.patches is not None and again.patches is not None:
        assert_array_equal(again.patches[1] < 0, uniform)
        assert_array_equal(again.patches[0][again.patches[1][~uniform]], scene.patches[0][scene.patches[1][~uniform]])
    data = path.read_bytes()
    save_scene(scene, path)
    assert path.read_bytes() == data


def test_old_files_with_doubles(tmp_path: Path) -> None:
    triangles = np.random.default_rng(0).normal(size=(5, 3, 3))
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["triangles"], file["vn"] = triangles, np.ones((5, 3, 3)) / np.sqrt(3)
        file["texture"] = (
            (Material(0.25, emission=1.0).row()[None, :, None, None] * triangle_mask())
            .astype(np.float16)
            .repeat(5, axis=0)
        )
        file["c2w"] = Camera.from_angles().c2w[None].astype(np.float64)
        file["fov"] = np.array([[30.0]])
        file["extra"] = np.zeros(3)
    scene = read_scene_h5(tmp_path / "a.h5")
    assert_array_equal(scene.triangles, triangles.astype(np.float32))
    assert scene.cameras[0].fov == 30
    assert scene.patches is None
    assert any("unknown dataset 'extra' ignored" in note for note in scene.notes)


def test_a_patch_that_is_not_zero_outside_is_kept_and_told(tmp_path: Path) -> None:
    """The model reads those texels, so they must stay."""
    mesh = Mesh("a", np.eye(3, dtype=np.float32)[None], materials=Material(0.25))
    save_scene(Scene((mesh,)), tmp_path / "a.h5")
    with h5py.File(tmp_path / "a.h5", "r+") as file:
        full = np.broadcast_to(file["texture"][:, :, :1, :1], (1, 13, 32, 32)).copy()
        file["texture"][...] = full
    scene = read_scene_h5(tmp_path / "a.h5")
    assert scene.patches is not None
    assert_array_equal(scene.patches[0], full)
    assert any("1 texture patches are not zero outside" in note for note in scene.notes)


def test_colours_per_triangle_do_not_become_objects(tmp_path: Path) -> None:
    random = np.random.default_rng(1)
    rows = np.tile(Material(0.1).row(), (2000, 1))
    rows[:, :3] = random.random((2000, 3)).astype(np.float16)
    mesh = Mesh("a", random.normal(size=(2000, 3, 3)), materials=rows)
    save_scene(Scene((mesh, Light().mesh())), tmp_path / "a.h5")
    scene = read_scene_h5(tmp_path / "a.h5")
    assert [len(mesh) for mesh in scene.objects] == [2000, 1]
    assert scene.objects[1].name.startswith("light")


def test_memory_stays_small(tmp_path: Path) -> None:
    """3000 triangles have 80 MB of texture; reading and writing hold a slab of it."""
    mesh = Mesh("a", np.random.default_rng(0).normal(size=(3000, 3, 3)), materials=Material(0.5))
    scene = Scene((mesh,), (Camera.from_angles(),))
    tracemalloc.start()
    try:
        save_scene(scene, tmp_path / "a.h5")
        read_scene_h5(tmp_path / "a.h5")
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 60e6
    assert (tmp_path / "a.h5").stat().st_size < 2e6


def test_rounding_to_half_precision_is_told(tmp_path: Path) -> None:
    triangles = np.eye(3, dtype=np.float32)[None].repeat(3, axis=0)
    rows = np.stack([Material(value).row() for value in (0.1, 0.25, 0.5)])
    rows[:, 6] = 0.5
    notes = save_scene(Scene((Mesh("a", triangles, materials=rows),)), tmp_path / "a.h5")
    assert notes[1:] == ["1 triangles with materials rounded to half precision"]


def test_negative_materials_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.h5"
    save_scene(Scene((Mesh("a", np.eye(3, dtype=np.float32)[None]),)), path)
    with h5py.File(path, "a") as file:
        file["texture"][:, 11] = -2 * triangle_mask()
    with pytest.raises(InputError, match=r"a\.h5: .*emission goes down to -2"):
        read_scene_h5(path)


def test_emission_beyond_half_precision_is_refused(tmp_path: Path) -> None:
    rows = Material(0.5).row()
    rows[10:] = 1e5
    scene = Scene((Mesh("a", np.eye(3)[None], materials=rows),))
    with pytest.raises(InputError, match="lower the emission"):
        save_scene(scene, tmp_path / "a.h5")
    assert not list(tmp_path.iterdir())
