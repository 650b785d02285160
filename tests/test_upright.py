"""The axis that points up: habit of the format, comments, and shape; every choice is in a note."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import pytest
import trimesh

from renderformer.data.arrays import Float32Array
from renderformer.data.errors import InputError
from renderformer.data.formats import load_scene
from renderformer.data.formats.table import TABLE
from renderformer.data.formats.text import header_comments
from renderformer.data.geometry.upright import Habit, choose_up, signs_of_shape, upright
from renderformer.data.scene import Mesh, Scene
from renderformer.data.staging import StageOptions, stage_scene

# From Z up to Y up.
TO_Y = np.array([[1.0, 0, 0, 0], [0, 0, 1, 0], [0, -1, 0, 0], [0, 0, 0, 1]])


def boxes(*parts: tuple[tuple[float, float, float], tuple[float, float, float]]) -> trimesh.Trimesh:
    """Boxes by size and middle."""
    made = [trimesh.creation.box(size) for size, _ in parts]
    for shape, (_, middle) in zip(made, parts, strict=True):
        shape.apply_translation(middle)
    return trimesh.util.concatenate(made)


def chair() -> trimesh.Trimesh:
    legs = [((0.05, 0.05, 0.45), (x, y, 0.225)) for x in (-0.2, 0.2) for y in (-0.2, 0.2)]
    return boxes(*legs, ((0.45, 0.45, 0.05), (0, 0, 0.47)), ((0.45, 0.05, 0.5), (0, 0.2, 0.75)))


def pot() -> trimesh.Trimesh:
    """A body of revolution with a foot, a belly and a knob, and a spout on one side."""
    profile = np.array([[0, 0], [0.35, 0], [0.35, 0.05], [0.5, 0.3], [0.4, 0.6], [0.1, 0.65], [0.1, 0.75], [0, 0.75]])
    body, spout = trimesh.creation.revolve(profile, sections=32), trimesh.creation.box((0.4, 0.1, 0.1))
    spout.apply_translation((0.6, 0, 0.4))
    return trimesh.util.concatenate([body, spout])


def figure() -> trimesh.Trimesh:
    """Head, trunk, arms and legs, and feet that point to -Y; left and right are mirror images."""
    sides = [
        part
        for side in (-1, 1)
        for part in (
            ((0.16, 0.16, 0.8), (side * 0.12, 0, 0.4)),
            ((0.16, 0.36, 0.08), (side * 0.12, -0.1, 0.04)),
            ((0.1, 0.1, 0.7), (side * 0.32, 0, 1.1)),
        )
    ]
    return boxes(*sides, ((0.5, 0.25, 0.65), (0, 0, 1.12)), ((0.24, 0.24, 0.28), (0, 0, 1.6)))


def triangles(shape: trimesh.Trimesh, axis: str = "z") -> Float32Array:
    shape = shape.copy()
    if axis == "y":
        shape.apply_transform(TO_Y)
    return np.asarray(shape.triangles, np.float32)


@pytest.mark.parametrize("shift", [0.0, -0.4])
@pytest.mark.parametrize("axis", ["y", "z"])
@pytest.mark.parametrize("shape", [chair(), pot(), figure()], ids=["chair", "pot", "figure"])
def test_shape_alone_tells_what_is_up(shape: trimesh.Trimesh, axis: str, shift: float) -> None:
    shape.apply_translation((0.1, 0.2, shift))
    vertical = choose_up(triangles(shape, axis), "open")
    assert vertical.axis == axis
    assert vertical.reason != "nothing speaks for Y"


def test_signs_of_the_two_axes_are_opposite() -> None:
    """Exchanging Y and Z negates every sign, so no axis is preferred."""
    shape = figure()
    standing = signs_of_shape(triangles(shape))
    exchanged = signs_of_shape(np.ascontiguousarray(triangles(shape)[..., [0, 2, 1]]))
    assert exchanged == pytest.approx({sign: -value for sign, value in standing.items()}, abs=0.02)
    assert all(-2 <= value <= 2 for value in standing.values())


def test_an_unbalanced_base_speaks_against_an_axis() -> None:
    """An L on its short side would fall over."""
    hook = boxes(((0.1, 0.1, 0.4), (0, 0, 0.2)), ((0.1, 0.8, 0.1), (0, 0.45, 0.35)))
    assert signs_of_shape(triangles(hook))["support"] > 0


def test_the_mirrored_axis_is_not_up() -> None:
    """A wedge with its equal sides at +Y and -Y has Z for up, as far as symmetry goes."""
    wedge = trimesh.creation.extrude_triangulation([[-0.5, 0], [0.5, 0], [0, 1]], [[0, 1, 2]], 1.0)
    wedge.apply_transform(np.array([[0, 0, 1.0, 0], [1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 0, 1]]))
    assert signs_of_shape(triangles(wedge))["mirror"] < -0.5


@pytest.mark.parametrize(("habit", "axis"), [("y", "y"), ("z", "z"), ("open", "z")])
def test_a_cube_says_nothing_so_the_habit_decides(habit: Habit, axis: str) -> None:
    vertical = choose_up(triangles(trimesh.creation.box()), habit, "OBJ")
    assert vertical.axis == axis
    assert vertical.reason == ("OBJ files usually are" if habit != "open" else "nothing speaks for Y")


def test_a_lying_cylinder_is_left_lying_by_the_habit() -> None:
    cylinder = trimesh.creation.cylinder(0.3, 0.8)
    lying = triangles(cylinder)[..., [2, 0, 1]]
    assert choose_up(lying, "y", "OBJ").axis == "y"
    assert choose_up(lying, "z", "STL").axis == "z"


def test_a_flat_plate_lies() -> None:
    plate = trimesh.creation.box((1, 1, 0.02))
    plate.apply_translation((0, 0, 0.01))
    assert choose_up(triangles(plate), "y", "OBJ").axis == "z"
    assert choose_up(triangles(plate, "y"), "z", "STL").axis == "y"


@pytest.mark.parametrize("shape", [np.zeros((3, 3, 3)), np.full((1, 3, 3), 7.0), np.eye(3)[None] * [0, 0, 1]])
def test_meshes_without_extent_or_area_follow_the_habit(shape: Float32Array) -> None:
    assert choose_up(np.asarray(shape, np.float32), "y", "OBJ").axis == "y"


@pytest.mark.parametrize(
    ("name", "text", "axis"),
    [
        ("OBJ", "# Blender v2.79 (sub 0) OBJ File: ''\n# www.blender.org\n", "y"),
        ("PLY", "ply\nformat ascii 1.0\ncomment Created by Blender 2.79 - www.blender.org\n", "z"),
        ("PLY", "ply\ncomment Y-up\n", "y"),
        ("OBJ", "# Blender 4.1\n# up axis: Z\n", "z"),
        ("OBJ", "# exported with Z up\n", "z"),
        ("OBJ", "# FreeCAD v0.20\n", "z"),
        ("OFF", "OFF # y is up\n", None),
        ("STL", "Exported from Blender-3.6.0".ljust(80, "\0"), "z"),
        ("OBJ", "mtllib blender_z_up.mtl\no z up\n", None),
        ("OBJ", "# the cup is grey, XYZ upper\n", None),
    ],
)
def test_comments_are_read(name: str, text: str, axis: str | None) -> None:
    """A cube has no shape that speaks; the habit is open, and None stands for no sign."""
    vertical = choose_up(triangles(trimesh.creation.box()), "open", name, header_comments(text.encode()))
    assert vertical.axis == (axis or "z")
    assert (vertical.odds == 0) == (axis is None)


def test_a_stated_axis_outweighs_everything() -> None:
    vertical = choose_up(triangles(chair(), "y"), "y", "OBJ", " Z up")
    assert (vertical.axis, vertical.reason) == ("z", "a comment in the file states it")


def saved(tmp_path: Path, name: str, shape: trimesh.Trimesh, axis: str) -> Path:
    path = tmp_path / name
    shape = shape.copy()
    if axis == "y":
        shape.apply_transform(TO_Y)
    shape.export(path)
    return path


SUFFIXES = [entry.suffixes[0] for entry in TABLE if entry.contents == "mesh" and entry.up != "known"]


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("axis", ["y", "z"])
def test_a_chair_stands_and_one_note_says_why(tmp_path: Path, suffix: str, axis: str) -> None:
    path = saved(tmp_path, f"chair{suffix}", chair(), axis)
    scene = load_scene(path, stage="none")
    notes = [note for note in scene.notes if "taken for up" in note]
    extent = np.ptp(np.concatenate([m.triangles for m in scene.objects if m.name != "light"]).reshape(-1, 3), axis=0)
    assert extent[2] == pytest.approx(extent.max())
    assert len(notes) == 1
    assert notes[0].startswith(f"{path.name}: {axis.upper()} taken for up: ")
    assert notes[0].endswith(f"; --up {'z' if axis == 'y' else 'y'} changes it")
    assert load_scene(path, stage="none", up="auto").notes == scene.notes


def test_gltf_states_its_axis(tmp_path: Path) -> None:
    """A chair on its back stays there, without a note."""
    scene = load_scene(saved(tmp_path, "chair.glb", chair(), "z"), stage="none")
    extent = np.ptp(scene.objects[0].triangles.reshape(-1, 3), axis=0)
    assert extent[1] == pytest.approx(extent.max())
    assert not any("taken for up" in note for note in scene.notes)


@pytest.mark.parametrize("axis", ["y", "z"])
def test_a_given_axis_is_taken_without_a_note(tmp_path: Path, axis: str) -> None:
    path = saved(tmp_path, "chair.obj", chair(), "z")
    scene = load_scene(path, stage="none", up=axis)
    assert not any("taken for up" in note for note in scene.notes)
    extent = np.ptp(scene.objects[0].triangles.reshape(-1, 3), axis=0)
    assert extent[2 if axis == "z" else 1] == pytest.approx(extent.max())


def test_raw_keeps_the_axes_unless_up_is_given(tmp_path: Path) -> None:
    path = saved(tmp_path, "chair.obj", chair(), "y")
    kept, turned = (load_scene(path, stage="raw", **options).triangles for options in ({}, {"up": "auto"}))
    np.testing.assert_array_equal(kept[..., [0, 2, 1]] * np.float32([1, -1, 1]), turned)
    np.testing.assert_array_equal(load_scene(path, stage="raw", up="y").triangles, turned)
    with pytest.raises(InputError, match="^up: is"):
        load_scene(path, stage="raw", up="x")


def test_normals_turn_with_the_mesh() -> None:
    mesh = Mesh("chair", triangles(chair(), "y"))
    turned = upright(Scene((mesh,)), "y", "y", "OBJ").objects[0]
    across = np.cross(turned.triangles[:, 1] - turned.triangles[:, 0], turned.triangles[:, 2] - turned.triangles[:, 0])
    np.testing.assert_allclose(turned.normals[:, 0], across / np.linalg.norm(across, axis=1, keepdims=True), atol=1e-5)


def test_a_scene_in_memory_is_z_up() -> None:
    scene = Scene((Mesh("chair", triangles(chair(), "y")),))
    auto, z = (stage_scene(scene, StageOptions(**options)) for options in ({}, {"up": "z"}))
    np.testing.assert_array_equal(auto.triangles, z.triangles)
    assert StageOptions().up == "auto"


def test_a_million_triangles_are_judged_within_the_time_budget() -> None:
    """0.2 s of processor time is the budget; five times that, for machines that are busy."""
    many = np.tile(triangles(chair()), (1_000_000 // 72 + 1, 1, 1))
    start = time.process_time()
    first = choose_up(many, "y", "OBJ")
    assert time.process_time() - start < 1.0
    assert first == choose_up(many, "y", "OBJ")
    assert first.axis == "z"
