"""Read files up to a size limit; write files and folders whole or not at all."""

from __future__ import annotations

import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from renderformer.data.errors import InputError


def check_readable(path: Path) -> int:
    """Return the size of a file in bytes.

    Raises:
        InputError: the file does not exist, is not a regular file, or is empty.
    """
    if not path.exists():
        raise InputError(path, "does not exist", "check the path")
    if not path.is_file():
        raise InputError(path, "is not a file", "give a mesh or scene file")
    size = path.stat().st_size
    if not size:
        raise InputError(path, "is empty", "export it again")
    return size


def read_bytes(path: Path, limit: int) -> bytes:
    """Read a file of at most `limit` bytes.

    Raises:
        InputError: the file is missing, empty, too large or not readable.
    """
    try:
        size = check_readable(path)
        if size > limit:
            problem = f"has {size / 2**30:.1f} GiB, more than the {limit / 2**30:g} GiB that are read"
            raise InputError(path, problem, "make it smaller")
        return path.read_bytes()
    except OSError as error:
        raise InputError(path, f"cannot be read, {error.strerror or error}", "check its permissions") from None


def check_place(path: Path) -> None:
    """Raise InputError if `path` is a folder, or if its parent folder is missing or not writable."""
    if path.is_dir():
        raise InputError(path, "cannot write, this is a folder", "give a file name")
    if not path.parent.is_dir():
        raise InputError(path, f"cannot write, the folder {path.parent} does not exist", "create it first")
    if not os.access(path.parent, os.W_OK):
        raise InputError(path, f"cannot write, no permission to write in {path.parent}", "choose another folder")


@contextmanager
def atomic_path(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Yield a temporary path beside `path`; rename it over `path` on success, delete it on failure.

    The temporary name keeps the suffix of `path`, because writers choose the format by it.

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
        # NumPy's errors have no strerror and only state the number of items written.
        reason = error.strerror or f"{error}; see whether the disk is full"
        raise InputError(path, f"cannot write, {reason}") from error
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def new_folder(folder: Path) -> Iterator[Path]:
    """Yield a temporary folder beside `folder`, and delete it at the end unless it was moved.

    Raises:
        InputError: the temporary folder cannot be created or written.
    """
    temporary = folder.with_name(f".{folder.name}.{secrets.token_hex(4)}.tmp")
    try:
        temporary.mkdir()
        yield temporary
    except OSError as error:
        raise InputError(folder, f"cannot write, {error.strerror or error}") from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


@contextmanager
def swapped(temporary: Path, folder: Path) -> Iterator[None]:
    """Replace `folder` by the temporary folder; undo this if the block fails."""
    old = folder.with_name(f"{temporary.name}.old")
    existed = folder.exists()
    if existed:
        os.replace(folder, old)
    os.replace(temporary, folder)
    try:
        yield
    except BaseException:
        os.replace(folder, temporary)
        if existed:
            os.replace(old, folder)
        raise
    shutil.rmtree(old, ignore_errors=True)


def make_folder(folder: Path) -> None:
    """Make a folder and its parents where they are missing; raise InputError where that fails."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(folder, f"cannot make this folder, {error.strerror or error}") from None
