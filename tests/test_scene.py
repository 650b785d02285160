"""Scene, Mesh, Material, Light and Camera: refusals, copies of their arrays, joining."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from numpy.testing import assert_allclose

from renderformer.data.camera import Camera
from renderformer.data.errors import InputError
from renderformer.data.scene import EMISSION, Light, Material, Mesh, Scene, combine

TRIANGLE = np.array([[[0, 0, 0], [2, 0, 0], [0, 1, 0]]], np.float32)


def rows(channel: int, value: float) -> np.ndarray:
    row = Material().row()
    row[channel] = value
    return row


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Mesh("a", TRIANGLE[:0]), "no triangles"),
        (lambda: Mesh("a", TRIANGLE[0]), r"shape \(3, 3\)"),
        (lambda: Mesh("a", TRIANGLE * np.nan), "9 values are NaN"),
        (lambda: Mesh("a", TRIANGLE * 1e10), "more than 1e9"),
        (lambda: Mesh("a", TRIANGLE, materials=np.zeros((2, 13))), "materials have shape"),
        (lambda: Mesh("a", TRIANGLE, materials=rows(1, -0.5)), "diffuse goes down to -0.5"),
        (lambda: Mesh("a", TRIANGLE, materials=rows(3, -0.5)), "specular goes down to -0.5"),
        (lambda: Mesh("a", TRIANGLE, materials=rows(6, -0.5)), "roughness goes down to -0.5"),
        (lambda: Mesh("a", TRIANGLE, materials=rows(12, -0.5)), "emission goes down to -0.5"),
        (lambda: Mesh("a", TRIANGLE, patch_index=np.zeros(1, np.int32)), "give both"),
        (lambda: Material((1.5, 0, 0)), r"diffuse is \[1.5, 0.0, 0.0\]"),
        (lambda: Material(roughness=math.nan), "roughness is nan"),
        (lambda: Light(size=math.inf).mesh(), "size is inf"),
        (lambda: Light(emission=0).mesh(), "emission is 0"),
        (lambda: Light((0, 0, 0)).mesh(), "same point"),
        (lambda: Camera(np.diag([1, 1, -1, 1])), "not a rigid transform"),
        (lambda: Camera(np.eye(4), 180), "fov is 180"),
        (lambda: Camera(np.eye(4), "wide"), "fov is 'wide'"),  # type: ignore[arg-type]
        (lambda: Camera.look_at((0, 0, 2), up=(0, 0, 1)), "parallel"),
        (lambda: Camera.orbit(0), "count is 0"),
        (lambda: Scene(()), "no objects"),
        (lambda: Scene((Mesh("a", TRIANGLE), Mesh("a", TRIANGLE))), "'a' is used twice"),
        (lambda: Scene.load(Path(__file__).parent), "is a folder"),
    ],
)
def test_what_cannot_be_drawn_is_refused_in_one_line(make: Callable[[], object], message: str) -> None:
    with pytest.raises(InputError, match=message) as caught:
        make()
    assert "\n" not in str(caught.value)


def test_values_are_copied_and_locked() -> None:
    source = TRIANGLE.copy()
    mesh = Mesh("a", source)
    source[:] = 7
    assert_allclose(mesh.triangles, TRIANGLE)
    with pytest.raises(ValueError, match="read-only"):
        mesh.triangles[0, 0, 0] = 1
    with pytest.raises(ValueError, match="read-only"):
        Camera.from_angles().c2w[0, 0] = 1


def test_a_mirrored_mesh_keeps_its_outside() -> None:
    mirrored = Mesh("a", TRIANGLE).transformed(np.diag([-1, 1, 1, 1]))
    assert_allclose(mirrored.normals, [[[0, 0, 1]] * 3])
    again = Mesh("a", mirrored.triangles)
    assert_allclose(again.normals, mirrored.normals)


def test_a_light_faces_its_target() -> None:
    position = np.array([0.6, -1.2, 1.9])
    mesh = Light(tuple(position), size=0.2).mesh()
    assert_allclose(mesh.triangles.mean(axis=(0, 1)), position, atol=1e-6)
    assert_allclose(mesh.normals[0, 0], -position / np.linalg.norm(position), atol=1e-6)
    edges = np.linalg.norm(mesh.triangles[0] - np.roll(mesh.triangles[0], 1, axis=0), axis=1)
    assert_allclose(edges, 0.2, rtol=1e-5)
    assert_allclose(mesh.materials[0, EMISSION], 3500)


def test_joined_scenes_keep_every_object_under_a_name_of_its_own() -> None:
    first = Scene((Mesh("a", TRIANGLE), Mesh("a_2", TRIANGLE)), notes=("first",))
    second = Scene((Mesh("a", TRIANGLE + 1),), (Camera.from_angles(),), notes=("second",))
    joined = combine([first, second])
    assert [mesh.name for mesh in joined.objects] == ["a", "a_2", "a_3"]
    assert joined.notes == ("first", "second")
    assert len(joined.cameras) == 1


def test_a_mesh_shares_no_array_that_others_can_write_to() -> None:
    corners = np.eye(3, dtype=np.float32)[None].repeat(2, axis=0)
    view = corners[:1]
    view.setflags(write=False)
    mesh, of_view = Mesh("a", corners), Mesh("b", view)
    corners[:] = 7
    assert mesh.triangles.max() == of_view.triangles.max() == 1
    assert mesh.with_material(Material(0.5)).triangles is mesh.triangles
