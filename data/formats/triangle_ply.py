"""The triangles of a mesh as they are in memory, in a binary PLY file: the geometry of saved scenes.

Every triangle has three vertices of its own, so that order, normals, texture coordinates and colours come back exactly.
Only files whose header is one that `write` makes are read here; other PLY files are those of `ply`.

Legend: N triangles, K sets of texture coordinates with the origin at the upper left.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from renderformer.data.arrays import Float32Array, Int32Array
from renderformer.data.errors import InputError
from renderformer.data.formats.parts import MAX_TRIANGLES

MAX_SETS = 8
_COLOURS = ("linear_red", "linear_green", "linear_blue", "linear_alpha")
_TANGENTS = ("tangent_x", "tangent_y", "tangent_z", "tangent_w")
_OPTIONAL = (_COLOURS, _TANGENTS)
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
        material: (N,) number of each triangle's material.
        colors: (N, 3, 4) linear RGBA, or None.
        tangents: (N, 3, 4), see `Appearance.tangents`, or None.
    """

    corners: Float32Array
    normals: Float32Array
    uv: Float32Array
    material: Int32Array
    colors: Float32Array | None = None
    tangents: Float32Array | None = None


def write(path: Path, triangles: Triangles) -> None:
    """Write a file; an OSError is left to the caller."""
    count = len(triangles.corners)
    arrays = (triangles.corners, triangles.normals, triangles.uv, triangles.colors, triangles.tangents)
    columns = [array.reshape(3 * count, -1) for array in arrays if array is not None]
    faces = np.zeros(count, _FACE_TYPE)
    faces["count"], faces["corners"] = 3, np.arange(3 * count).reshape(-1, 3)
    faces["material"] = triangles.material
    names = _names(triangles.uv.shape[2], triangles.colors is not None, triangles.tangents is not None)
    vertices = np.concatenate(columns, axis=1).astype("<f4")
    path.write_bytes(_header(count, names) + vertices.tobytes() + faces.tobytes())


def read(data: bytes) -> Triangles | None:
    """The geometry of a file; None if its header is none that `write` makes.

    Raises:
        InputError: the file is truncated, too large or damaged.
    """
    found = _HEADER.match(data[:8192])
    if found is None:
        return None
    count, names = int(found[2]), re.findall(r"property float (\w+)\n", found[0].decode("latin-1"))
    sets, coloured, tangential = (sum(name[0] == "u" for name in names), *(group[0] in names for group in _OPTIONAL))
    header = _header(count, names)
    if names != _names(sets, coloured, tangential) or not data.startswith(header):
        return None
    if not 0 < count <= MAX_TRIANGLES or sets > MAX_SETS:
        raise InputError("", f"has {count} triangles and {sets} sets of texture coordinates", "save the scene again")
    size = len(header) + 12 * count * len(names) + count * _FACE_TYPE.itemsize
    if len(data) != size:
        problem = f"has {len(data)} bytes, its header promises {size}"
        raise InputError("", problem, "it is truncated, save the scene again")
    values = np.frombuffer(data, "<f4", 3 * count * len(names), len(header)).reshape(count, 3, -1)
    faces = np.frombuffer(data, _FACE_TYPE, count, len(header) + values.nbytes)
    if (faces["count"] != 3).any() or (faces["corners"].reshape(-1) != np.arange(3 * count)).any():
        raise InputError("", "its faces are not its vertices in order", "it is damaged, save the scene again")
    ends = np.cumsum([3, 3, 2 * sets, 4 * coloured])
    corners, normals, uv, colours, tangents = np.split(values, ends, axis=2)
    return Triangles(
        corners,
        normals,
        uv.reshape(count, 3, sets, 2),
        faces["material"].astype(np.int32),
        colours if coloured else None,
        tangents if tangential else None,
    )


_FACE_TYPE = np.dtype([("count", "u1"), ("corners", "<i4", 3), ("material", "<i4")])


def _names(sets: int, coloured: bool, tangential: bool) -> list[str]:
    """The properties of a vertex."""
    uv = [f"{axis}{number}" for number in range(sets) for axis in ("u", "v")]
    return ["x", "y", "z", "nx", "ny", "nz", *uv, *(_COLOURS if coloured else ()), *(_TANGENTS if tangential else ())]


def _header(count: int, names: list[str]) -> bytes:
    properties = "".join(f"property float {name}\n" for name in names)
    text = (
        "ply\nformat binary_little_endian 1.0\ncomment renderformer triangles\n"
        f"element vertex {3 * count}\n{properties}element face {count}\n"
        "property list uchar int vertex_indices\nproperty int material\nend_header\n"
    )
    return text.encode()
