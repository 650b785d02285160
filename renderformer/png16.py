"""PNG files of 16 bits per channel."""

from __future__ import annotations

import struct
import zlib

import numpy as np
import numpy.typing as npt


def png16_bytes(pixels: npt.NDArray[np.uint16]) -> bytes:
    """A 16-bit PNG (ISO/IEC 15948) of (height, width, 3) values, or 4 with alpha; Pillow and imageio write only 8 bits
    of colour."""
    height, width, channels = pixels.shape

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    # Filter type 2 (up) keeps the difference to the row above, byte by byte, which zlib packs much better.
    rows = np.frombuffer(pixels.astype(">u2").tobytes(), np.uint8).reshape(height, 2 * channels * width)
    filtered = np.diff(rows, axis=0, prepend=np.zeros_like(rows[:1]))
    data = np.concatenate([np.full((height, 1), 2, np.uint8), filtered], axis=1).tobytes()
    header = struct.pack(">IIBBBBB", width, height, 16, 2 if channels == 3 else 6, 0, 0, 0)
    chunks = (chunk(b"IHDR", header), chunk(b"sRGB", b"\0"), chunk(b"IDAT", zlib.compress(data)), chunk(b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)
