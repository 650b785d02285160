"""The counts at the start of a Draco stream, read before memory is allocated for them.

Draco Bitstream Specification 2.2, sections 3 and 4: header, metadata, connectivity.
"""

from __future__ import annotations

from renderformer.data.errors import InputError
from renderformer.data.formats.gltf.values import DAMAGED

_METADATA_FLAG = 0x8000
_SEQUENTIAL = 0
# Levels of metadata inside metadata.
_MAX_DEPTH = 32


def counts(stream: bytes) -> tuple[int, int]:
    """Numbers of faces and of vertices that the stream announces; zeros for versions before 2.2.

    Raises:
        InputError: the stream is no Draco mesh or ends early.
    """
    reader = _Reader(stream)
    if reader.take(5) != b"DRACO":
        raise InputError("", "a compressed primitive is not a Draco stream", DAMAGED)
    major, minor, kind, method = reader.take(4)
    flags = int.from_bytes(reader.take(2), "little")
    if (major, minor) < (2, 2) or kind != 1:
        return 0, 0
    if flags & _METADATA_FLAG:
        for _ in range(reader.varint()):
            reader.varint()
            _skip_metadata(reader)
        _skip_metadata(reader)
    if method == _SEQUENTIAL:
        faces, vertices = reader.varint(), reader.varint()
    else:
        # The kind of traversal.
        reader.take(1)
        vertices, faces = reader.varint(), reader.varint()
    return faces, vertices


def _skip_metadata(reader: _Reader, depth: int = 0) -> None:
    if depth > _MAX_DEPTH:
        raise InputError("", "the metadata of a Draco stream is nested too deeply", DAMAGED)
    for _ in range(reader.varint()):
        reader.take(reader.take(1)[0])
        reader.take(reader.varint())
    for _ in range(reader.varint()):
        reader.take(reader.take(1)[0])
        _skip_metadata(reader, depth + 1)


class _Reader:
    """Bytes and variable-length integers from the start of a stream."""

    def __init__(self, data: bytes) -> None:
        self._data, self._position = data, 0

    def take(self, count: int) -> bytes:
        part = self._data[self._position : self._position + count]
        if len(part) < count:
            raise InputError("", "a Draco stream ends inside its header", DAMAGED)
        self._position += count
        return part

    def varint(self) -> int:
        value = 0
        for shift in range(0, 70, 7):
            byte = self.take(1)[0]
            value |= (byte & 127) << shift
            if byte < 128:
                return value
        raise InputError("", "a Draco stream holds a damaged number", DAMAGED)
