"""The triangles of a mesh as they are in memory, in a binary PLY file: the geometry of saved scenes.

Every triangle has three vertices of its own, so that order, normals, texture coordinates and colours come back exactly.
Only files whose header is one that `write` makes are read here; other PLY files are those of `ply`.

Legend: N triangles, K sets of texture coordinates with the origin at the upper left.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from renderformer.data.arrays import Float32Array, Int32Array
from renderformer.data.errors import InputError
from renderformer.data.formats.parts import MAX_TRIANGLES

MAX_SETS = 8
_COLOURS = ("linear_red", "linear_green", "linear_blue", "linear_alpha")
_HEADER = re.compile(
    rb"ply\nformat binary_little_endian 1\.0\ncomment renderformer triangles\nelement vertex (\d{1,9})\n"
    rb"(?:property float \w{1,16}\n){6,64}element face (\d{1,9})\n"
)


@dataclass(frozen=True)
class Triangles:
    """Geometry of N triangles.

    Attributes:
        corners, normals: (N, 3, 3).
        uv: (N, 3, K, 2).
        colors: (N, 3, 4) linear RGBA, or None.
        material: (N,) number of each triangle's material.
    """

    corners: Float32Array
    normals: Float32Array
    uv: Float32Array
    colors: Float32Array | None
    material: Int32Array


def write(path: Path, triangles: Triangles) -> None:
    """Write a file; an OSError is left to the caller."""
    count, sets = len(triangles.corners), triangles.uv.shape[2]
    vertices = np.zeros(3 * count, _vertex_type(sets, triangles.colors is not None))
    columns = [triangles.corners.reshape(-1, 3), triangles.normals.reshape(-1, 3), triangles.uv.reshape(3 * count, -1)]
    if triangles.colors is not None:
        columns.append(triangles.colors.reshape(-1, 4))
    vertices.view("<f4").reshape(3 * count, -1)[:] = np.concatenate(columns, axis=1)
    faces = np.zeros(count, _FACE_TYPE)
    faces["count"], faces["corners"] = 3, np.arange(3 * count).reshape(-1, 3)
    faces["material"] = triangles.material
    header = _header(count, sets, triangles.colors is not None)
    path.write_bytes(header + vertices.tobytes() + faces.tobytes())


def read(data: bytes) -> Triangles | None:
    """The geometry of a file; None if its header is none that `write` makes.

    Raises:
        InputError: the file is truncated, too large or damaged.
    """
    found = _HEADER.match(data[:8192])
    if found is None:
        return None
    count, names = int(found[2]), re.findall(rb"property float (\w+)\n", found[0])
    coloured = names[-4:] == [name.encode() for name in _COLOURS]
    sets = (len(names) - (10 if coloured else 6)) // 2
    header = _header(count, sets, coloured)
    if not data.startswith(header):
        return None
    vertex = _vertex_type(sets, coloured)
    size = len(header) + 3 * count * vertex.itemsize + count * _FACE_TYPE.itemsize
    if not 0 < count <= MAX_TRIANGLES or sets > MAX_SETS:
        raise InputError("", f"has {count} triangles and {sets} sets of texture coordinates", "save the scene again")
    if len(data) != size:
        problem = f"has {len(data)} bytes, its header promises {size}"
        raise InputError("", problem, "it is truncated, save the scene again")
    values = np.frombuffer(data, "<f4", 3 * count * len(vertex.names or ()), len(header)).reshape(count, 3, -1)
    faces = np.frombuffer(data, _FACE_TYPE, count, len(header) + values.nbytes)
    if (faces["count"] != 3).any() or (faces["corners"].reshape(-1) != np.arange(3 * count)).any():
        raise InputError("", "its faces are not its vertices in order", "it is damaged, save the scene again")
    corners, normals, uv, colours = np.split(values, [3, 6, 6 + 2 * sets], axis=2)
    uv = uv.reshape(count, 3, sets, 2)
    return Triangles(corners, normals, uv, colours if coloured else None, faces["material"].astype(np.int32))


_FACE_TYPE = np.dtype([("count", "u1"), ("corners", "<i4", 3), ("material", "<i4")])


def _names(sets: int, coloured: bool) -> list[str]:
    """The properties of a vertex."""
    uv = [f"{axis}{number}" for number in range(sets) for axis in ("u", "v")]
    return ["x", "y", "z", "nx", "ny", "nz", *uv, *(_COLOURS if coloured else ())]


def _vertex_type(sets: int, coloured: bool) -> np.dtype[Any]:
    return np.dtype([(name, "<f4") for name in _names(sets, coloured)])


def _header(count: int, sets: int, coloured: bool) -> bytes:
    properties = "".join(f"property float {name}\n" for name in _names(sets, coloured))
    text = (
        "ply\nformat binary_little_endian 1.0\ncomment renderformer triangles\n"
        f"element vertex {3 * count}\n{properties}element face {count}\n"
        "property list uchar int vertex_indices\nproperty int material\nend_header\n"
    )
    return text.encode()
