"""Radiance pictures (.hdr, .pic): RGBE pixels, flat or run-length encoded (Ward, "Real Pixels", 1991).

Rows run from the top and pixels from the left ("-Y height +X width"), as every common program writes them.
"""

from __future__ import annotations

import re

import numpy as np
import numpy.typing as npt

from renderformer.data.arrays import Float32Array
from renderformer.data.errors import InputError

MAGIC = (b"#?RADIANCE", b"#?RGBE")
HEADER_BYTES = 65536
_SIZE = re.compile(rb"([-+][XY]) +(\d{1,9}) +([-+][XY]) +(\d{1,9}) *\n")
_DAMAGED = "the file is damaged"


def read(data: bytes, max_pixels: int) -> Float32Array:
    """(H, W, 3) float32 linear RGB.

    Raises:
        InputError: another format, other rows than from top to bottom, more than `max_pixels`, or missing data.
    """
    if not data.startswith(MAGIC):
        raise InputError("", "is not a Radiance picture (it does not start with #?RADIANCE)", _DAMAGED)
    end = data.find(b"\n\n", 0, HEADER_BYTES)
    size = _SIZE.match(data, end + 2) if end >= 0 else None
    if size is None:
        raise InputError("", "has no size after its header", _DAMAGED)
    header = data[:end].decode("latin-1")
    if "FORMAT=32-bit_rle_xyze" in header:
        raise InputError("", "holds XYZ colours", "export it as RGBE")
    if (size[1], size[3]) != (b"-Y", b"+X"):
        order = b" ".join((size[1], size[3])).decode()
        raise InputError("", f"is stored in the order {order}", "export it from top to bottom and left to right")
    height, width = int(size[2]), int(size[4])
    if not 0 < height * width <= max_pixels:
        raise InputError("", f"has {width} x {height} pixels", f"expected at most {max_pixels:,} in all")
    rgbe = _pixels(data, size.end(), height, width)
    exposure = float(np.prod([float(x) for x in re.findall(r"^EXPOSURE= *([0-9.eE+-]+)\s*$", header, re.M)] or [1.0]))
    if not (np.isfinite(exposure) and exposure > 0):
        raise InputError("", "EXPOSURE is not a positive number", _DAMAGED)
    # A mantissa of 8 bits and an exponent with an offset of 128; an exponent of 0 is black.
    scale = np.where(rgbe[..., 3:] > 0, np.ldexp(1.0, rgbe[..., 3:].astype(np.int32) - 136), 0)
    return np.asarray(rgbe[..., :3] * (scale / exposure), np.float32)


def _pixels(data: bytes, start: int, height: int, width: int) -> npt.NDArray[np.uint8]:
    """(H, W, 4) mantissas and exponents."""
    if not (8 <= width < 32768 and data[start : start + 2] == b"\x02\x02" and data[start + 2 : start + 3] < b"\x80"):
        flat = np.frombuffer(data, np.uint8, offset=start)
        if len(flat) < height * width * 4:
            raise InputError("", f"ends after {len(flat) // 4} of {height * width} pixels", _DAMAGED)
        pixels = flat[: height * width * 4].reshape(height, width, 4)
        if (pixels[..., :3] == 1).all(axis=-1).any():
            raise InputError("", "uses the run lengths of before 1991", "export it again")
        return pixels
    rows = np.empty((height, 4, width), np.uint8)
    for row in range(height):
        start = _unpacked_row(data, start, rows[row], row)
    return rows.transpose(0, 2, 1)


def _unpacked_row(data: bytes, start: int, row: npt.NDArray[np.uint8], number: int) -> int:
    """Unpack a row into (4, W), one component after the other; returns where the next row starts."""
    width = row.shape[1]
    if data[start : start + 4] != bytes((2, 2, width >> 8, width & 255)):
        raise InputError("", f"row {number} does not start as it should", _DAMAGED)
    start += 4
    parts: list[bytes] = []
    for _ in range(4):
        done = 0
        while done < width:
            if start + 1 >= len(data):
                raise InputError("", f"ends in row {number}", _DAMAGED)
            count = data[start]
            if count > 128:
                count -= 128
                parts.append(data[start + 1 : start + 2] * count)
                start += 2
            else:
                parts.append(data[start + 1 : start + 1 + count])
                start += 1 + count
            done += count
            if not count or done > width or start > len(data):
                raise InputError("", f"row {number} holds a run of {count} pixels that does not fit", _DAMAGED)
    row.reshape(-1)[:] = np.frombuffer(b"".join(parts), np.uint8)
    return start
