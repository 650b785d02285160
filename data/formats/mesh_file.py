"""A mesh file of any format, as a scene of its objects or as bare geometry."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np

from renderformer.data.arrays import Float64Array, Int64Array
from renderformer.data.errors import InputError
from renderformer.data.files import read_bytes
from renderformer.data.formats.assembly import assemble
from renderformer.data.formats.parts import MeshFile, Part, limited
from renderformer.data.formats.table import MESH_FORMATS, format_of, refused
from renderformer.data.formats.trimesh_reading import quiet
from renderformer.data.scene import Scene

MAX_FILE_BYTES = 4 * 2**30


def load_mesh_file(path: str | os.PathLike[str]) -> Scene:
    """Read a bare mesh file.

    Args:
        path: a file of a format in `MESH_FORMATS`.

    Returns:
        A Scene without cameras, in the units of the file, Z up; objects in the order of the file under unique names.
        Vertex normals of the file are kept where they are usable, else edges below 30 degrees are smooth. Its
        notes count what was dropped, moved or ignored.

    Raises:
        InputError: the file cannot be read or has no usable triangle; the line names the file and the remedy.
    """
    file = _opened(Path(path))
    try:
        return assemble(_parts(file), file)
    except InputError as error:
        raise refused(error, file.path, file.data) from None


def load_geometry(path: Path) -> tuple[Float64Array, Int64Array]:
    """The bare geometry of a mesh file, as `trimesh.load(path, process=False, force="mesh")` gives it: vertices are not
    merged, objects are joined, glTF keeps its axes.

    Returns:
        (V, 3) float64 vertices, (F, 3) faces.

    Raises:
        InputError: the file cannot be read, has no triangles, or NaN, infinite or huge coordinates.
    """
    file = _opened(path, bare=True)
    try:
        parts = _parts(file)
        for part in parts:
            part.check()
    except InputError as error:
        raise refused(error, path, file.data) from None
    offsets = np.cumsum([0, *(len(part.vertices) for part in parts[:-1])])
    faces = np.concatenate([part.faces + offset for part, offset in zip(parts, offsets, strict=True)])
    return np.concatenate([part.vertices for part in parts]), faces


def _opened(path: Path, bare: bool = False) -> MeshFile:
    if path.suffix.lower() not in MESH_FORMATS:
        suffixes = ", ".join(MESH_FORMATS)
        problem = f"{path.suffix or 'a name without suffix'} is not a mesh format"
        raise InputError(path, problem, f"use {suffixes}")
    return MeshFile(path, read_bytes(path, MAX_FILE_BYTES), bare)


def _parts(file: MeshFile) -> list[Part]:
    """At least one object with faces; whatever the damage made a library raise becomes an InputError."""
    file_format = format_of(file.path)
    try:
        with quiet():
            parts = limited(file_format.read(file))
    except InputError:
        raise
    except MemoryError:
        raise InputError("", "needs more memory than there is", "simplify the mesh") from None
    except Exception as error:
        reason = " ".join(str(error).split())[:160] or type(error).__name__
        raise InputError("", f"cannot be read as {file_format.name} ({reason})", "export it again") from error
    if not parts:
        raise InputError("", "has no triangles", "export it with faces")
    return parts
