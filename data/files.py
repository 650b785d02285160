"""Output files that appear whole or not at all."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from renderformer.data.errors import InputError


def check_place(path: Path) -> None:
    """Raise InputError where a file could not be written: a missing or protected folder, or a folder of that name."""
    if path.is_dir():
        raise InputError(path, "cannot write, this is a folder", "give a file name")
    if not path.parent.is_dir():
        raise InputError(path, f"cannot write, the folder {path.parent} does not exist", "create it first")
    if not os.access(path.parent, os.W_OK):
        raise InputError(path, f"cannot write, no permission to write in {path.parent}")


@contextmanager
def atomic_path(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Yield a temporary path beside `path`; rename it over `path` on success, delete it on failure.

    The temporary name keeps the suffix of `path`, since writers choose the format by it.

    Raises:
        InputError: the folder does not exist or cannot be written, or `path` is a folder.
    """
    path = Path(path)
    check_place(path)
    temporary = path.with_name(f".{path.stem[:100]}.{secrets.token_hex(4)}.tmp{path.suffix}")
    try:
        yield temporary
        os.replace(temporary, path)
    except OSError as error:
        # NumPy, for one, tells only how much it could write.
        reason = error.strerror or f"{error}; see whether the disk is full"
        raise InputError(path, f"cannot write, {reason}") from error
    finally:
        temporary.unlink(missing_ok=True)
