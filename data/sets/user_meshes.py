"""The user's meshes as objects of procedural scenes: closed, welded, of at most 3,000 triangles."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from renderformer.data.arrays import Float32Array
from renderformer.data.errors import InputError
from renderformer.data.geometry.triangles import is_closed, weld
from renderformer.data.progress import Progress, silent
from renderformer.data.scene import Mesh
from renderformer.data.sets.shapes import Shape, volume

# Triangles of the largest scene, so that no object needs more.
MAX_TRIANGLES = 3000


@dataclass(frozen=True, eq=False)
class UserMesh:
    """A closed mesh with outward faces, centred, with a bounding box whose longest side is 1.

    Attributes:
        name: path of the file relative to the folder, with slashes.
        digest: SHA-256 of the triangles in the file.
        triangles: (N, 3, 3) float32.
    """

    name: str
    digest: str
    triangles: Float32Array

    def shape(self, budget: int) -> Shape | None:
        """Welded vertices and faces of at most `budget` triangles; None if the simplified mesh is not closed."""
        from renderformer.data.geometry.simplify import simplify

        return _closed(simplify(Mesh(self.name, self.triangles), budget)[0].triangles, budget)


def load_user_meshes(
    folder: str | os.PathLike[str], reject: Callable[[str, str], None], progress: Progress = silent
) -> list[UserMesh]:
    """Load the usable mesh files of a folder and its subfolders, in the order of their names.

    Args:
        folder: with files of `MESH_FORMATS`; others are ignored. All objects of a file become one mesh; Z is up (glTF
            is rotated).
        reject: called with the name of a rejected file and the reason: it is unreadable, or not closed (every edge
            between two faces of consistent orientation) before or after simplification.
        progress: called with ("meshes", files done, files in total).

    Raises:
        InputError: the folder does not exist or has no usable mesh.
    """
    from renderformer.data.formats import MESH_FORMATS
    from renderformer.data.formats.mesh_file import load_mesh_file

    folder = Path(folder)
    if not folder.is_dir():
        raise InputError(folder, "is not a folder", "give one with mesh files")
    paths = sorted(path for path in folder.rglob("*") if path.suffix.lower() in MESH_FORMATS and path.is_file())
    meshes = []
    for done, path in enumerate(paths, 1):
        name = path.relative_to(folder).as_posix()
        try:
            triangles = np.concatenate([mesh.triangles for mesh in load_mesh_file(path).objects])
            meshes.append(_user_mesh(name, triangles))
        except InputError as error:
            reject(name, error.problem)
        progress("meshes", done, len(paths))
    if not meshes:
        raise InputError(folder, f"none of the {len(paths)} mesh files here can be used", "give closed meshes")
    return meshes


def _user_mesh(name: str, triangles: Float32Array) -> UserMesh:
    digest = hashlib.sha256(np.ascontiguousarray(triangles, "<f4").tobytes()).hexdigest()
    low, high = triangles.min((0, 1)).astype(np.float64), triangles.max((0, 1)).astype(np.float64)
    points = ((triangles - (low + high) / 2) / (high - low).max()).astype(np.float32)
    welded = _closed(points, len(points))
    if welded is None:
        raise InputError("", "is not closed, or its faces are not consistently oriented", "repair it")
    if volume(*welded) < 0:
        points = points[:, ::-1]
    mesh = UserMesh(name, digest, np.ascontiguousarray(points))
    if len(points) > MAX_TRIANGLES:
        coarse = mesh.shape(MAX_TRIANGLES)
        if coarse is None:
            raise InputError("", f"is not closed when it is simplified to {MAX_TRIANGLES} triangles", "simplify it")
        mesh = UserMesh(name, digest, coarse[0][coarse[1]].astype(np.float32))
    return mesh


def _closed(triangles: Float32Array, budget: int) -> Shape | None:
    """The triangles (N, 3, 3), welded; None unless they are closed and at most `budget`."""
    vertices, faces = weld(triangles)
    return (vertices, faces) if len(faces) <= budget and is_closed(faces) else None
