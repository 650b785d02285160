"""STL, binary or text; Z up, as the slicers of 3D printers take it."""

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
            problem = (
                f"is not text, and not a whole binary STL: {count} triangles in its header make {length} bytes, the "
                f"file has {len(data)}"
            )
            raise InputError("", problem, "export it again")
        data = as_utf8(data)
    return read_with_trimesh("stl", data, file).parts
