"""Areas and face normals of triangle soups, compared with trimesh."""

from __future__ import annotations

import numpy as np
import trimesh
from numpy.testing import assert_allclose

from renderformer.data.geometry.triangles import area_vectors, areas, face_normals, has_area


def test_areas_and_normals_agree_with_trimesh() -> None:
    mesh = trimesh.creation.torus(0.5, 0.2, 13, 7)
    assert_allclose(areas(mesh.triangles), mesh.area_faces, rtol=1e-9)
    assert_allclose(face_normals(mesh.triangles), mesh.face_normals, atol=1e-9)
    # The vector areas of a closed surface add up to nothing.
    assert_allclose(area_vectors(mesh.triangles).sum(axis=0), 0, atol=1e-12)


def test_triangles_without_area_have_no_normal() -> None:
    line, point = [[0, 0, 0], [1, 1, 1], [3, 3, 3]], [[2, 2, 2]] * 3
    thin = [[0, 0, 0], [1, 0, 0], [1, 1e-30, 0]]
    triangles = np.array([line, point, thin], np.float32)
    assert has_area(triangles).tolist() == [False, False, True]
    assert_allclose(face_normals(triangles), [[0, 0, 0], [0, 0, 0], [0, 0, 1]])
