"""Stages: the walls of each kind, inside the box, facing the scene, without gaps."""

from __future__ import annotations

import numpy as np
import pytest

from renderformer.data.errors import InputError
from renderformer.data.geometry.stages import STAGE_KINDS, stage_meshes
from renderformer.data.scene import Material


@pytest.mark.parametrize(("kind", "count"), [("floor", 1), ("wall", 2), ("corner", 3), ("box", 4)])
@pytest.mark.parametrize("divisions", [2, 3, 4])
def test_walls_face_the_scene_and_fill_their_planes(kind: str, count: int, divisions: int) -> None:
    meshes = stage_meshes(kind, floor_height=-0.4, divisions=divisions)
    assert len(meshes) == count
    for mesh in meshes:
        assert len(mesh) == 2 * divisions**2
        assert np.abs(mesh.triangles).max() <= 0.5
        toward_centre = -mesh.triangles.mean(axis=1)
        assert (np.einsum("nk,nk->n", mesh.normals[:, 0], toward_centre) > 0).all()
        edges = mesh.triangles[:, 1:] - mesh.triangles[:, :1]
        area = 0.5 * np.linalg.norm(np.cross(edges[:, 0], edges[:, 1]), axis=-1)
        assert area.sum() == pytest.approx(1.0 if mesh.name == "floor" else 0.9, rel=1e-5)
        assert np.allclose(area, area[0], rtol=1e-4)


def test_stage_is_open_toward_the_camera_and_upward() -> None:
    for kind in STAGE_KINDS:
        for mesh in stage_meshes(kind):
            normal = mesh.normals[0, 0]
            assert normal[1] < 0.5
            assert normal[2] > -0.5


def test_side_material_and_height_are_what_was_asked_for() -> None:
    red = Material((0.6, 0.1, 0.1))
    meshes = {m.name: m for m in stage_meshes("corner", side="right", wall_top=0.2, materials={"wall_right": red})}
    assert sorted(meshes) == ["floor", "wall_back", "wall_right"]
    assert np.allclose(meshes["wall_right"].materials, red.row())
    assert np.allclose(meshes["wall_right"].triangles[..., 0], 0.5)
    assert meshes["wall_back"].bounds[1, 2] == pytest.approx(0.2)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"kind": "dome"}, "dome"),
        ({"kind": "corner", "side": "top"}, "top"),
        ({"kind": "floor", "divisions": 0}, "divisions is 0"),
        ({"kind": "wall", "wall_top": -0.5}, "wall_top"),
        ({"kind": "wall", "materials": {"ceiling": Material()}}, "ceiling"),
    ],
)
def test_wrong_arguments_are_refused_by_name(arguments: dict, message: str) -> None:
    with pytest.raises(InputError, match=message):
        stage_meshes(**arguments)
