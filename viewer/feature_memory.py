"""Memory of feature images that is used again: to get and to give back the 320 MB of one at 1920 x 1080 takes up to
0.25 and 0.15 s."""

from __future__ import annotations

import contextlib
import math
import mmap

import numpy as np

from renderformer.data.arrays import Float32Array

# Larger images are not kept, in bytes: those of 1920 x 1440 pixels are.
MOST = 512 << 20


class FeatureMemory:
    """See the module. An array holds until the next one is wanted."""

    def __init__(self) -> None:
        self._kept: Float32Array | None = None

    def array(self, shape: tuple[int, ...]) -> Float32Array:
        """An array of any content."""
        if self._kept is not None and self._kept.shape == shape:
            return self._kept
        # Before there is another one.
        self._kept = None
        array = _in_small_pages(shape)
        if array.nbytes <= MOST:
            self._kept = array
        return array


def _in_small_pages(shape: tuple[int, ...]) -> Float32Array:
    """An array in small pages of memory, which come one by one where it is written. Of large ones, the first window of
    a row would have to wait for all of the row: 0.1 to 0.25 CPU s at 1920 x 1080 on a virtual machine."""
    memory = mmap.mmap(-1, 4 * math.prod(shape))
    if hasattr(mmap, "MADV_NOHUGEPAGE"):
        # Kernels without large pages refuse.
        with contextlib.suppress(OSError):
            memory.madvise(mmap.MADV_NOHUGEPAGE)
    return np.frombuffer(memory, np.float32).reshape(shape)
