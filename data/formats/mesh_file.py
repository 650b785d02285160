"""Read mesh files of any format as scenes or as bare geometry."""

from __future__ import annotations

import logging
import os
import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Literal, TypeAlias

import numpy as np

from renderformer.data.arrays import Float64Array, Int64Array
from renderformer.data.errors import InputError
from renderformer.data.files import MAX_FILE_BYTES, read_bytes
from renderformer.data.formats.assembly import assemble
from renderformer.data.formats.parts import MeshFile, Part, limited
from renderformer.data.formats.table import MESH_FORMATS, format_of, with_format_hint
from renderformer.data.formats.text import header_comments
from renderformer.data.geometry.upright import upright
from renderformer.data.material import Material
from renderformer.data.scene import Scene

# Vertices (V, 3) and faces (F, 3).
Geometry: TypeAlias = tuple[Float64Array, Int64Array]


def load_mesh_file(
    path: str | os.PathLike[str],
    up: Literal["auto", "y", "z"] | None = None,
    material: Material | None = None,
    time: float | None = None,
    animation: str = "",
) -> Scene:
    """Read a bare mesh file.

    Args:
        path: a file of a format in `MESH_FORMATS`.
        up: the axis that points up once the file is read, or "auto" to decide by the file, with a note; None keeps the
            axes (glTF is always turned to Z up).
        material: replaces the materials and vertex colours of the file.
        time, animation: pose at this time, in seconds, of an animation of the file by name or index; the first one if
            empty.

    Returns:
        A Scene in the units of the file, turned to Z up, with the cameras of the file; objects in the order of the file
        with unique names. Usable vertex normals of the file are kept; without them edges below 30 degrees are smooth.
        The notes count what was dropped, moved or ignored.

    Raises:
        InputError: the file cannot be read or has no usable triangle, or there is no such animation.
    """
    file = _open(Path(path), material=material)
    if time is not None and not hasattr(file.format.load(), "animation_length"):
        raise InputError(path, f"has no animation, {file.format.name} holds none", "leave out the time, or give a .glb")
    file.time, file.animation = time, animation
    try:
        parts = _parts(file)
        if material is not None:
            parts = [replace(part, material=material, colors=None, rows=None) for part in parts]
        scene = assemble(parts, file)
    except InputError as error:
        raise with_format_hint(error, file.path, file.data) from None
    if up is None:
        return scene
    return upright(scene, up, file.format.up, file.format.name, header_comments(file.data), file.path.name)


def animation_length(path: str | os.PathLike[str], animation: str = "") -> float | None:
    """Seconds of an animation of a mesh file by name or index, the first one if empty; None if the file has none.

    Raises:
        InputError: the file cannot be read, or there is no such animation.
    """
    file = _open(Path(path))
    module = file.format.load()
    if not hasattr(module, "animation_length"):
        if animation:
            raise InputError(path, f"no animation {animation!r}, {file.format.name} holds none", "give a .glb or .gltf")
        return None
    file.animation = animation
    try:
        seconds: float | None = module.animation_length(file)
    except InputError as error:
        raise with_format_hint(error, file.path, file.data) from None
    return seconds


def load_geometry(paths: Iterable[Path]) -> dict[Path, Geometry]:
    """The geometry of mesh files as `trimesh.load(path, process=False, force="mesh")` returns it: vertices are not
    merged, objects are joined, glTF keeps its axes.

    Returns:
        For each path (V, 3) float64 vertices and (F, 3) faces.

    Raises:
        InputError: a file cannot be read, has no triangles, or NaN, infinite or huge coordinates.
    """
    return {path: _join(_open(path, bare=True)) for path in dict.fromkeys(paths)}


def _join(file: MeshFile) -> Geometry:
    try:
        parts = _parts(file)
        for part in parts:
            part.check()
    except InputError as error:
        raise with_format_hint(error, file.path, file.data) from None
    offsets = np.cumsum([0, *(len(part.vertices) for part in parts[:-1])])
    faces = np.concatenate([part.faces + offset for part, offset in zip(parts, offsets, strict=True)])
    return np.concatenate([part.vertices for part in parts]), faces


def _open(path: Path, bare: bool = False, material: Material | None = None) -> MeshFile:
    file_format = format_of(path)
    if file_format.contents != "mesh":
        raise InputError(path, f"is a {file_format.name} file, expected a mesh file", f"use {', '.join(MESH_FORMATS)}")
    return MeshFile(path, read_bytes(path, MAX_FILE_BYTES), file_format, bare, material)


def _parts(file: MeshFile) -> list[Part]:
    """At least one object with faces; exceptions of the libraries become InputErrors."""
    try:
        with _quiet():
            parts = limited(file.format.load().read(file))
    except InputError:
        raise
    except MemoryError:
        raise InputError("", "needs more memory than there is", "simplify the mesh") from None
    except Exception as error:
        reason = " ".join(str(error).split())[:160] or type(error).__name__
        raise InputError("", f"cannot be read as {file.format.name} ({reason})", "export it again") from error
    if not parts:
        raise InputError("", "has no triangles", "export it with faces")
    return parts


@contextmanager
def _quiet() -> Iterator[None]:
    """Silence trimesh's log and warnings, but make NumPy's warning about text that is not a number an error."""
    log = logging.getLogger("trimesh")
    level = log.level
    log.setLevel(logging.CRITICAL)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            warnings.filterwarnings("error", message=".*string or file could not be read.*")
            yield
    finally:
        log.setLevel(level)
