"""Recognising that memory ran out."""


def is_out_of_memory(error: BaseException) -> bool:
    """Whether `error` reports a failed allocation, of Python, NumPy or torch."""
    if isinstance(error, MemoryError):
        return True
    # By name, since torch may not be loaded. Its CPU allocator raises a plain RuntimeError.
    message = str(error).lower()
    return isinstance(error, RuntimeError) and (
        type(error).__name__ == "OutOfMemoryError" or "not enough memory" in message or "alloc" in message
    )
