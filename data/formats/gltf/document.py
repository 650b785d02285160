"""The header, buffers and accessors of a glTF or GLB file.

Counts are checked against the size of the data before memory is allocated.
"""

from __future__ import annotations

import base64
import binascii
import json
import struct
from collections.abc import Callable
from typing import Any
from urllib.parse import unquote

import numpy as np

from renderformer.data.arrays import AnyArray
from renderformer.data.errors import InputError
from renderformer.data.formats.gltf.compression import decoded_view, view_compression
from renderformer.data.formats.gltf.values import DAMAGED, extension, whole

_COMPONENTS = {5120: "<i1", 5121: "<u1", 5122: "<i2", 5123: "<u2", 5125: "<u4", 5126: "<f4"}
_WIDTHS = {"SCALAR": 1, "VEC2": 2, "VEC3": 3, "VEC4": 4, "MAT2": 4, "MAT3": 9, "MAT4": 16}
_TRUNCATED = "the file is truncated, export it again"
# Of an accessor without data, which is zero.
_MAX_ZEROS = 2**30


class Document:
    """A parsed file.

    Args:
        data: the whole file, JSON or GLB.
        fetch: reads a file by its name relative to this one; raises InputError if it cannot be read.

    Raises:
        InputError: the file is damaged or has another version; the place is empty, as in all methods.
    """

    def __init__(self, data: bytes, fetch: Callable[[str], bytes]) -> None:
        self._fetch = fetch
        text, self._chunk = _split_glb(data)
        try:
            header = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise InputError("", f"the glTF header is not valid JSON ({error})", DAMAGED) from None
        if not isinstance(header, dict):
            raise InputError("", "the glTF header is not a JSON object", DAMAGED)
        self.header: dict[str, Any] = header
        asset = header.get("asset")
        version = str(asset.get("version", "2.0")) if isinstance(asset, dict) else "2.0"
        if not version.startswith("2"):
            raise InputError("", f"is glTF {version}, expected 2.0", "export it again")
        self._buffers: dict[int, bytes] = {}
        self._decoded: dict[int, memoryview] = {}

    def get(self, kind: str, index: Any) -> dict[str, Any]:
        """Item `index` of a list of the header."""
        items = self.header.get(kind, [])
        valid = isinstance(items, list) and isinstance(index, int) and 0 <= index < len(items)
        if not valid or not isinstance(items[index], dict):
            raise InputError("", f"refers to {kind}[{index}], which does not exist", DAMAGED)
        item: dict[str, Any] = items[index]
        return item

    def extension(self, name: str) -> dict[str, Any]:
        """An extension of the whole file; empty if it has none of this name."""
        return extension(self.header, name, "the header") or {}

    def uri(self, uri: str) -> bytes:
        """The content of a data URI or of a file beside this one."""
        if uri.startswith("data:"):
            head, _, payload = uri.partition(",")
            if not head.endswith(";base64"):
                raise InputError("", f"holds a data URI that is not base64 ({head[:40]})", "export it again")
            try:
                return base64.b64decode(payload)
            except (binascii.Error, ValueError) as error:
                raise InputError("", f"holds a damaged data URI ({error})", DAMAGED) from None
        return self._fetch(unquote(uri))

    def view(self, index: int) -> tuple[memoryview, int]:
        """The bytes of a buffer view, decompressed, and its stride (0: packed)."""
        view = self.get("bufferViews", index)
        stride = whole(view, "byteStride", 0)
        compression = view_compression(view, index)
        if compression is None:
            return self._slice(view, f"bufferViews[{index}]"), stride
        if index not in self._decoded:
            encoded = self._slice(compression, f"bufferViews[{index}]")
            self._decoded[index] = decoded_view(compression, encoded, index)
        return self._decoded[index], stride

    def accessor(self, index: Any, width: int | None = None) -> AnyArray:
        """(count, width) numbers; integers marked `normalized` become floats in [-1, 1]."""
        accessor = self.get("accessors", index)
        dtype, columns, count = self.layout(index)
        if width is not None and columns != width:
            raise InputError("", f"accessors[{index}] has an unexpected type ({accessor.get('type')})", DAMAGED)
        if "bufferView" in accessor:
            values = self._strided(index, whole(accessor, "bufferView"), accessor, dtype, count, columns)
        elif count * columns * dtype.itemsize > _MAX_ZEROS or "sparse" not in accessor:
            raise InputError("", f"accessors[{index}] has no data", "the file is damaged or needs an extension")
        else:
            values = np.zeros((count, columns), dtype)
        if "sparse" in accessor:
            values = self._sparse(accessor["sparse"], values, dtype)
        return self.scaled(index, values)

    def layout(self, index: Any) -> tuple[np.dtype[Any], int, int]:
        """Type of the components, number of columns and of rows of an accessor."""
        accessor = self.get("accessors", index)
        dtype = np.dtype(_COMPONENTS.get(accessor.get("componentType"), "V1"))  # type: ignore[arg-type]
        columns = _WIDTHS.get(str(accessor.get("type")), 0)
        if dtype.kind == "V" or not columns:
            raise InputError("", f"accessors[{index}] has an unexpected type ({accessor.get('type')})", DAMAGED)
        return dtype, columns, whole(accessor, "count")

    def is_zero(self, index: Any) -> bool:
        """Whether an accessor has no data, so that all its numbers are zero."""
        accessor = self.get("accessors", index)
        return "bufferView" not in accessor and "sparse" not in accessor

    def scaled(self, index: Any, values: AnyArray) -> AnyArray:
        """The values as floats in [-1, 1] if the accessor says that its integers are `normalized`."""
        if self.get("accessors", index).get("normalized") and values.dtype.kind in "iu":
            return np.maximum(values.astype(np.float64) / np.iinfo(values.dtype).max, -1.0)
        return values

    def _buffer(self, index: int) -> bytes:
        if index not in self._buffers:
            uri = self.get("buffers", index).get("uri")
            if uri is not None:
                self._buffers[index] = self.uri(str(uri))
            elif index == 0 and self._chunk is not None:
                self._buffers[index] = self._chunk
            else:
                raise InputError("", f"buffers[{index}] has no data", DAMAGED)
        return self._buffers[index]

    def _slice(self, view: dict[str, Any], label: str) -> memoryview:
        """The bytes that `buffer`, `byteOffset` and `byteLength` name."""
        start, length = whole(view, "byteOffset", 0), whole(view, "byteLength")
        data = self._buffer(whole(view, "buffer"))
        if start + length > len(data):
            problem = f"{label} ends at byte {start + length}, but its buffer has {len(data)}"
            raise InputError("", problem, _TRUNCATED)
        return memoryview(data)[start : start + length]

    def _strided(
        self, index: Any, view_index: int, source: dict[str, Any], dtype: np.dtype[Any], count: int, columns: int
    ) -> AnyArray:
        data, stride = self.view(view_index)
        start, row = whole(source, "byteOffset", 0), dtype.itemsize * columns
        stride = stride or row
        if not count:
            return np.zeros((0, columns), dtype)
        if start + (count - 1) * stride + row > len(data):
            raise InputError("", f"accessors[{index}] reads past the end of its data", _TRUNCATED)
        return np.ndarray((count, columns), dtype, data, start, (stride, dtype.itemsize)).copy()

    def _sparse(self, sparse: Any, values: AnyArray, dtype: np.dtype[Any]) -> AnyArray:
        if not (isinstance(sparse, dict) and all(isinstance(sparse.get(k), dict) for k in ("indices", "values"))):
            raise InputError("", "a sparse accessor is damaged", "export it again")
        count, rows, changes = whole(sparse, "count"), sparse["indices"], sparse["values"]
        kind = np.dtype(_COMPONENTS.get(rows.get("componentType"), "<u4"))
        index = self._strided("sparse", whole(rows, "bufferView"), rows, kind, count, 1)[:, 0].astype(np.int64)
        if count and (index.min() < 0 or index.max() >= len(values)):
            raise InputError("", "a sparse accessor has an index out of range", DAMAGED)
        values[index] = self._strided("sparse", whole(changes, "bufferView"), changes, dtype, count, values.shape[1])
        return values


def _split_glb(data: bytes) -> tuple[bytes, bytes | None]:
    """The JSON and the binary chunk of a GLB file; a JSON file is returned unchanged."""
    if data[:4] != b"glTF":
        return data, None
    if len(data) < 20:
        raise InputError("", "is truncated inside the GLB header", "export it again")
    version, length = struct.unpack_from("<II", data, 4)
    if version != 2:
        raise InputError("", f"is GLB version {version}, expected 2", "export it again")
    if length > len(data):
        problem = f"is truncated, the GLB header says {length} bytes, the file has {len(data)}"
        raise InputError("", problem, "export it again")
    chunks: dict[bytes, bytes] = {}
    position = 12
    while position + 8 <= length:
        size = struct.unpack_from("<I", data, position)[0]
        if position + 8 + size > length:
            problem = f"is truncated, a GLB chunk of {size} bytes ends outside the file"
            raise InputError("", problem, "export it again")
        chunks.setdefault(data[position + 4 : position + 8], data[position + 8 : position + 8 + size])
        position += 8 + size
    if b"JSON" not in chunks:
        raise InputError("", "has no JSON chunk", DAMAGED)
    return chunks[b"JSON"], chunks.get(b"BIN\x00")
