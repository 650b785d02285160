"""Compressed geometry of glTF: Draco primitives and meshopt buffer views, by the packages DracoPy and meshopt.

Both packages are in the extra `compression`. Counts that a file announces are checked against the size of its
compressed data before a decoder sees them.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

import numpy as np

from renderformer.data.arrays import AnyArray, Int64Array
from renderformer.data.errors import InputError
from renderformer.data.formats.gltf.draco_header import counts
from renderformer.data.formats.gltf.values import DAMAGED, child, whole
from renderformer.data.formats.parts import MAX_TRIANGLES

DRACO = "KHR_draco_mesh_compression"
_MESHOPT = ("KHR_meshopt_compression", "EXT_meshopt_compression")
# The most bytes that a byte of a meshopt stream stands for: 256 rows of 4 bytes may be one control byte.
_MESHOPT_RATIO = 1024
# Of a decoded buffer view, in bytes; the decoder has the same limit.
_MAX_DECODED = 2**30
# Draco stores about 7 triangles of a flat grid in a byte, the most regular mesh that there is.
_TRIANGLES_PER_BYTE = 1024


def _decoder(package: str, what: str) -> Any:
    try:
        return import_module(package)
    except ImportError:
        remedy = "pip install 'renderformer[compression]', or export it without compression"
        raise InputError("", f"holds geometry compressed by {what}, and {package} is not installed", remedy) from None


def view_compression(view: dict[str, Any], index: int) -> dict[str, Any] | None:
    """The meshopt extension of a buffer view, None if it is not compressed."""
    extensions = child(view, "extensions", f"bufferViews[{index}]")
    name = next((name for name in _MESHOPT if name in extensions), None)
    return None if name is None else child(extensions, name, f"bufferViews[{index}]")


def decoded_view(entry: dict[str, Any], data: memoryview, index: int) -> memoryview:
    """The bytes of a buffer view compressed by meshopt.

    Args:
        entry: its extension.
        data: the compressed bytes.

    Raises:
        InputError: the data is damaged, or the decoder is not installed.
    """
    place = f"bufferViews[{index}]"
    count, stride = whole(entry, "count"), whole(entry, "byteStride")
    mode, filter_name = str(entry.get("mode")), str(entry.get("filter", "NONE"))
    _check_meshopt(place, mode, filter_name, count, stride, len(data))
    meshopt = _decoder("meshopt", "meshopt")
    if not count:
        return memoryview(b"")
    try:
        values = meshopt.decode_gltf_buffer(bytes(data), count, stride, mode, filter_name)
    except (RuntimeError, ValueError) as error:
        raise InputError("", f"{place} cannot be decompressed ({error})", DAMAGED) from None
    return memoryview(values.tobytes())


def _check_meshopt(place: str, mode: str, filter_name: str, count: int, stride: int, size: int) -> None:
    rows = tuple(range(4, 257, 4))
    strides = {"ATTRIBUTES": rows, "TRIANGLES": (2, 4), "INDICES": (2, 4)}.get(mode, ())
    if stride not in strides or (mode == "TRIANGLES" and count % 3):
        problem = f"{place} is compressed as {count} {mode} of {stride} bytes, which meshopt does not have"
        raise InputError("", problem, DAMAGED)
    filters = {"NONE": strides, "OCTAHEDRAL": (4, 8), "QUATERNION": (8,), "EXPONENTIAL": rows, "COLOR": (4, 8)}
    if stride not in filters.get(filter_name, ()) or (mode != "ATTRIBUTES" and filter_name != "NONE"):
        problem = f"{place} has the filter {filter_name} on {stride} bytes of {mode}, which is not read"
        raise InputError("", problem, "export it without compression")
    # Each triangle and each index of a sequence takes a byte at least.
    most = {"ATTRIBUTES": _MESHOPT_RATIO * size, "TRIANGLES": 3 * size * stride, "INDICES": size * stride}[mode]
    if count * stride > min(most, _MAX_DECODED):
        problem = f"{place} announces {count * stride} bytes in {size} compressed ones"
        raise InputError("", problem, DAMAGED)


class DracoPrimitive:
    """A decoded primitive.

    Args:
        data: the Draco stream.
        entry: the extension of the primitive, with the number of each attribute by its name.

    Attributes:
        faces: (F, 3).

    Raises:
        InputError: the data is damaged, or the decoder is not installed.
    """

    def __init__(self, data: memoryview, entry: dict[str, Any]) -> None:
        package = _decoder("DracoPy", "Draco")
        stream = bytes(data)
        announced = counts(stream)
        if max(announced) > min(_TRIANGLES_PER_BYTE * len(stream), MAX_TRIANGLES):
            problem = f"a Draco primitive announces {max(announced)} faces or vertices in {len(stream)} bytes"
            raise InputError("", problem, DAMAGED)
        try:
            mesh = package.decode(stream)
        # The package raises several kinds.
        except Exception as error:
            reason = " ".join(str(error).split())[:100]
            raise InputError("", f"a Draco primitive cannot be decompressed ({reason})", DAMAGED) from None
        if not hasattr(mesh, "faces"):
            raise InputError("", "a Draco primitive is a cloud of points", "export it as triangles")
        self.faces: Int64Array = np.asarray(mesh.faces, np.int64).reshape(-1, 3)
        self._numbers = child(entry, "attributes", DRACO)
        self._arrays: dict[int, AnyArray] = {item["unique_id"]: np.asarray(item["data"]) for item in mesh.attributes}

    def __contains__(self, name: str) -> bool:
        return name in self._numbers

    def attribute(self, name: str) -> AnyArray:
        """(V, K) numbers as stored: integers are not scaled."""
        number = self._numbers[name]
        if not isinstance(number, int) or number not in self._arrays:
            raise InputError("", f"a Draco primitive has no attribute {number!r} for {name}", DAMAGED)
        values = self._arrays[number]
        return values.reshape(len(values), -1)
