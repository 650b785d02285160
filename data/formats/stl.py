"""STL, binary or text; Z up, as in slicers for 3D printing.

The two bytes after a triangle of a binary file hold its colour in two ways, both with 5 bits for a channel. Magics has
red in the lowest bits, a colour of the whole object in the header, and the highest bit where a triangle has that one.
VisCAM and others have blue in the lowest bits, and the highest bit where a triangle has a colour.
"""

from __future__ import annotations

import numpy as np

from renderformer.data.arrays import Float64Array
from renderformer.data.colour import linear_to_srgb, srgb_to_linear
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
    parts = read_with_trimesh("stl", data, file).parts
    if len(file.data) == length and len(parts) == 1 and len(parts[0].faces) == count:
        parts[0].colors = _colors(file.data, count)
    return parts


def _colors(data: bytes, count: int) -> Float64Array | None:
    """(F, 3) linear colours of the triangles of a binary file, or None if it has none; they are sRGB."""
    words = np.ndarray((count,), "<u2", data, 84 + 48, (50,)).astype(np.int64)
    low, middle, high = (words >> shift & 31 for shift in (0, 5, 10))
    marked = words >= 1 << 15
    header = data[:80].partition(b"COLOR=")[2]
    if len(header) >= 3:
        colors = np.stack([low, middle, high], axis=1) / 31
        colors[marked] = np.frombuffer(header, np.uint8, 3) / 255
    elif marked.any():
        colors = np.stack([high, middle, low], axis=1) / 31
        colors[~marked] = linear_to_srgb(np.array([0.5]))
    else:
        return None
    return srgb_to_linear(colors)
