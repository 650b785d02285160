"""Memory that runs out: recognised, and foreseen."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

from renderformer.data.errors import InputError


def is_out_of_memory(error: BaseException) -> bool:
    """Whether `error` reports a failed allocation, of Python, NumPy or torch."""
    if isinstance(error, MemoryError):
        return True
    # By name, since torch may not be loaded. Its CPU allocator raises a plain RuntimeError.
    message = str(error).lower()
    return isinstance(error, RuntimeError) and (
        type(error).__name__ == "OutOfMemoryError" or "not enough memory" in message or "alloc" in message
    )


def check_memory(width: int, height: int, needed: float) -> None:
    """Raise InputError for a picture that takes more bytes than the machine has; Linux would end the process without a
    message."""
    try:
        memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, OSError, ValueError):
        return
    if needed > memory:
        raise InputError(
            "",
            f"out of memory with {width} x {height} pixels, which need about {needed / 2**30:.0f} GiB of "
            f"{memory / 2**30:.0f}",
            "use a smaller resolution",
        )


@contextmanager
def enough_memory(subject: str) -> Iterator[None]:
    """Raise InputError where memory runs out, with the subject that was too large."""
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
        remedy = "use a smaller resolution, fewer triangles or another device"
        raise InputError("", f"out of memory with {subject}", remedy) from error
