"""OpenEXR files as a header and channels by name, by the OpenEXR library itself."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from renderformer.data.arrays import AnyArray
from renderformer.data.errors import InputError, one_line


def write(path: Path, channels: Mapping[str, AnyArray], header: Mapping[str, Any] | None = None) -> None:
    """Write channels (h, w), or "RGB" (h, w, 3) and "RGBA" (h, w, 4), of float16 or float32.

    Raises:
        OSError: writing fails.
    """
    import OpenEXR

    storage = {"compression": OpenEXR.ZIP_COMPRESSION, "type": OpenEXR.scanlineimage}
    # OpenEXR ignores strides.
    planes = {name: np.ascontiguousarray(pixels) for name, pixels in channels.items()}
    try:
        with OpenEXR.File({**(header or {}), **storage}, planes) as file:
            file.write(str(path))
    except RuntimeError as error:
        # OpenEXR reports a full disk this way; atomic_path turns an OSError into an InputError.
        raise OSError(str(error)) from None


def read(path: Path, most: int | None = None) -> tuple[dict[str, Any], dict[str, AnyArray]]:
    """The header and the channels (h, w) of the first part.

    Args:
        most: pixels; a file of more is refused before they are read.

    Raises:
        InputError: the file is damaged or has too many pixels; its place is empty.
    """
    import OpenEXR

    try:
        with OpenEXR.File(str(path), header_only=True) as file:
            low, high = file.header()["dataWindow"]
        width, height = (int(b) - int(a) + 1 for a, b in zip(low, high, strict=True))
        if most is not None and not 0 < width * height <= most:
            raise InputError("", f"has {width} x {height} pixels", f"expected at most {most:,} in all")
        with OpenEXR.File(str(path), separate_channels=True) as file:
            # Closing the file clears what it gave.
            header = dict(file.header())
            channels = {name: np.array(channel.pixels) for name, channel in file.channels().items()}
    except InputError:
        raise
    except (RuntimeError, ValueError, KeyError, TypeError, OSError) as error:
        reason = one_line(str(error))[:160] or type(error).__name__
        raise InputError("", f"cannot be read ({reason})", "the file is damaged") from None
    return header, channels
