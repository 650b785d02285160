"""STL, binary or text; Z up, as in slicers for 3D printing."""

from __future__ import annotations

from renderformer.data.errors import InputError
from renderformer.data.formats.parts import MeshFile, Part
from renderformer.data.formats.text import as_utf8
from renderformer.data.formats.trimesh_reading import read_with_trimesh


def read(file: MeshFile) -> list[Part]:
    """The one object of a binary file, or the solids of a text file.

    Raises:
        InputError: the file is neither text nor as long as its binary header promises.
    """
    count = int.from_bytes(file.data[80:84], "little")
    length, data = 84 + 50 * count, file.data
    if len(data) != length:
        if b"\0" in data:
            header = f"{count} triangles in its header make {length} bytes, the file has {len(data)}"
            problem = f"is not text, and not a complete binary STL: {header}"
            raise InputError("", problem, "export it again")
        data = as_utf8(data)
    return read_with_trimesh("stl", data, file).parts
