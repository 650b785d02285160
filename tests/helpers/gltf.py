"""glTF files made by hand."""

from __future__ import annotations

import base64
import json
import struct
from pathlib import Path
from typing import Any

import numpy as np

_KINDS = {"f4": 5126, "u1": 5121, "i1": 5120, "u2": 5123, "i2": 5122, "u4": 5125}
_TYPES = {1: "SCALAR", 2: "VEC2", 3: "VEC3", 4: "VEC4", 16: "MAT4"}
CORNERS = np.array([[0, 0, 0], [1, 0, 0], [0, 1, 0]], np.float32)


class Gltf:
    """A document under construction: `document` is its header, of which keys may be added."""

    def __init__(self, **header: Any) -> None:
        self.document: dict[str, Any] = {"asset": {"version": "2.0"}, "scene": 0, "scenes": [{"nodes": [0]}], **header}
        self.data = b""

    def add(self, kind: str, entry: dict[str, Any]) -> int:
        """The number of a new item of a list of the header."""
        items: list[Any] = self.document.setdefault(kind, [])
        items.append(entry)
        return len(items) - 1

    def view(self, data: bytes, **keys: Any) -> int:
        """The number of a new buffer view."""
        entry = {"buffer": 0, "byteOffset": len(self.data), "byteLength": len(data), **keys}
        self.data += data + bytes(-len(data) % 4)
        return self.add("bufferViews", entry)

    def accessor(self, values: Any, kind: str = "f4", **keys: Any) -> int:
        """The number of a new accessor of (N,) or (N, K) values; (N, 4, 4) matrices are stored by columns."""
        array = np.asarray(values)
        array = array.swapaxes(1, 2).reshape(-1, 16) if array.ndim == 3 else array.reshape(len(array), -1)
        view = self.view(array.astype(f"<{kind}").tobytes())
        layout = {"componentType": _KINDS[kind], "count": len(array), "type": _TYPES[array.shape[1]]}
        return self.add("accessors", {"bufferView": view, **layout, **keys})

    def mesh(self, attributes: dict[str, int] | None = None, mesh: dict[str, Any] | None = None, **keys: Any) -> int:
        """The number of a new mesh of one primitive, by default the triangle `CORNERS`."""
        accessors = {"POSITION": self.accessor(CORNERS)} if attributes is None else attributes
        return self.add("meshes", {"primitives": [{"attributes": accessors, **keys}], **(mesh or {})})

    def save(self, path: Path) -> Path:
        """Write .gltf with its data inside, or .glb."""
        buffer: dict[str, Any] = {"byteLength": len(self.data)}
        if path.suffix == ".gltf":
            buffer["uri"] = "data:application/octet-stream;base64," + base64.b64encode(self.data).decode()
        text = json.dumps({**self.document, "buffers": [buffer, *self.document.get("buffers", [])]}).encode()
        if path.suffix == ".gltf":
            path.write_bytes(text)
            return path
        text += b" " * (-len(text) % 4)
        chunks = (
            struct.pack("<I4s", len(text), b"JSON") + text + struct.pack("<I4s", len(self.data), b"BIN\0") + self.data
        )
        path.write_bytes(struct.pack("<4sII", b"glTF", 2, 12 + len(chunks)) + chunks)
        return path


def turned(points: Any) -> np.ndarray:
    """Y up to Z up."""
    return np.asarray(points)[..., [0, 2, 1]] * (1, -1, 1)
