"""Areas, face normals and closedness of triangles, compared with trimesh."""

from __future__ import annotations

import numpy as np
import trimesh
from numpy.testing import assert_allclose

from renderformer.data.geometry.triangles import (
    area_vectors,
    areas,
    face_normals,
    has_area,
    is_closed,
    open_edges,
    weld,
)


def test_areas_and_normals_agree_with_trimesh() -> None:
    mesh = trimesh.creation.torus(0.5, 0.2, 13, 7)
    assert_allclose(areas(mesh.triangles), mesh.area_faces, rtol=1e-9)
    assert_allclose(face_normals(mesh.triangles), mesh.face_normals, atol=1e-9)
    # The area vectors of a closed surface add up to zero.
    assert_allclose(area_vectors(mesh.triangles).sum(axis=0), 0, atol=1e-12)


def test_triangles_without_area_have_no_normal() -> None:
    line, point = [[0, 0, 0], [1, 1, 1], [3, 3, 3]], [[2, 2, 2]] * 3
    thin = [[0, 0, 0], [1, 0, 0], [1, 1e-30, 0]]
    triangles = np.array([line, point, thin], np.float32)
    assert has_area(triangles).tolist() == [False, False, True]
    assert_allclose(face_normals(triangles), [[0, 0, 0], [0, 0, 0], [0, 0, 1]])


def test_welding_restores_the_mesh() -> None:
    mesh = trimesh.creation.torus(0.5, 0.2, 13, 7)
    vertices, faces = weld(mesh.triangles)
    assert len(vertices) == len(mesh.vertices)
    assert_allclose(vertices[faces], mesh.triangles)


def test_a_closed_surface_has_no_open_edges() -> None:
    faces = np.asarray(trimesh.creation.icosphere(1).faces)
    assert is_closed(faces)
    assert len(open_edges(faces)) == 0
    # Without one triangle, its three edges are open.
    assert not is_closed(faces[1:])
    assert {frozenset(edge) for edge in open_edges(faces[1:]).tolist()} == {
        frozenset(edge) for edge in np.stack([faces[0], np.roll(faces[0], -1)], axis=1).tolist()
    }
    # A flipped triangle opens its edges too.
    turned = faces.copy()
    turned[0] = turned[0, ::-1]
    assert len(open_edges(turned)) == 3
    # Two copies of a body balance every edge, but are no surface.
    assert len(open_edges(np.concatenate([faces, faces]))) == 0
    assert not is_closed(np.concatenate([faces, faces]))
