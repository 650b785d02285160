"""Read files up to a size limit; write files and folders whole or not at all."""

from __future__ import annotations

import os
import secrets
import shutil
import stat
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import BinaryIO

from renderformer.data.errors import InputError

# A mesh file, and all files beside it that it refers to, have at most this size.
MAX_FILE_BYTES = 4 * 2**30
# Settings in JSON or YAML.
MAX_CONFIG_BYTES = 64 * 2**20
_KINDS = (
    (stat.S_ISDIR, "is a folder"),
    (stat.S_ISFIFO, "is a named pipe"),
    (stat.S_ISSOCK, "is a socket"),
    (stat.S_ISCHR, "is a device"),
    (stat.S_ISBLK, "is a device"),
)
# Size in bytes and time of the last change in nanoseconds.
State = tuple[int, int]
_recorded: ContextVar[dict[Path, State] | None] = ContextVar("recorded", default=None)


@contextmanager
def files_read() -> Iterator[dict[Path, State]]:
    """Yield a mapping to which every file that `open_input` opens in this thread is added, with its state by then."""
    outer = _recorded.get()
    files: dict[Path, State] = {}
    token = _recorded.set(files)
    try:
        yield files
    finally:
        _recorded.reset(token)
        if outer is not None:
            outer.update(files)


def state_of(path: Path) -> State | None:
    """Size and time of the last change of a file; None if there is none."""
    try:
        status = path.stat()
    except (OSError, ValueError):
        return None
    return status.st_size, status.st_mtime_ns


def open_input(path: Path, limit: int | None = None) -> BinaryIO:
    """Open a file that a user or another file names, for reading. Pipes, sockets and devices are not waited for.

    Args:
        limit: the largest size in bytes; None for any size.

    Raises:
        InputError: the file is missing, not a regular file, empty, too large or not readable.
    """
    try:
        _check_status(path, path.stat(), limit)
        # A path can become a pipe after the check; opening a pipe waits for a writer unless it is non-blocking.
        number = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
        stream = os.fdopen(number, "rb")
        try:
            status = os.fstat(number)
            _check_status(path, status, limit)
        except InputError:
            stream.close()
            raise
        recorded = _recorded.get()
        if recorded is not None:
            recorded[path] = status.st_size, status.st_mtime_ns
        return stream
    except InputError:
        raise
    except (FileNotFoundError, NotADirectoryError):
        raise InputError(path, "does not exist", "check the path") from None
    # No permission, a cycle of links, a name that the system cannot hold, or a null byte.
    except (OSError, ValueError) as error:
        raise _unreadable(path, error) from None


def _unreadable(path: Path, error: Exception) -> InputError:
    remedy = "check its permissions" if isinstance(error, PermissionError) else "check the path"
    return InputError(path, f"cannot be read, {getattr(error, 'strerror', None) or error}", remedy)


def _check_status(path: Path, status: os.stat_result, limit: int | None) -> None:
    """Raise InputError unless this is the status of a regular file of 1 … `limit` bytes."""
    if not stat.S_ISREG(status.st_mode):
        kind = next((text for matches, text in _KINDS if matches(status.st_mode)), "is not a regular file")
        raise InputError(path, kind, "give a regular file")
    if not status.st_size:
        raise InputError(path, "is empty", "export it again")
    if limit is not None and status.st_size > limit:
        problem = f"has {status.st_size / 2**30:.1f} GiB, more than the {limit / 2**30:g} GiB that are read"
        raise InputError(path, problem, "make it smaller")


def check_readable(path: Path, limit: int | None = None) -> int:
    """The size of a file in bytes; raises InputError as `open_input`."""
    with open_input(path, limit) as stream:
        return os.fstat(stream.fileno()).st_size


def read_bytes(path: Path, limit: int) -> bytes:
    """Read a file of at most `limit` bytes; raises InputError as `open_input`."""
    with open_input(path, limit) as stream:
        try:
            # The size keeps a file that grows while it is read within the limit.
            return stream.read(os.fstat(stream.fileno()).st_size)
        except OSError as error:
            raise _unreadable(path, error) from None
        except MemoryError:
            raise InputError(path, "needs more memory than there is", "make it smaller") from None


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


def state_folder() -> Path:
    """Where programs of this person keep their state; it may be missing."""
    import platformdirs

    return Path(platformdirs.user_state_dir("renderformer", appauthor=False))


class Losses(list[str]):
    """Lines about what a saved file cannot hold; empty if reading it gives the same scene.

    Attributes:
        notes: lines about what else happened.
    """

    def __init__(self, lines: Iterable[str] = (), notes: Iterable[str] = ()) -> None:
        super().__init__(lines)
        self.notes = tuple(notes)

    @classmethod
    def of(cls, lines: Iterable[str]) -> Losses:
        """The lines, which may be Losses already."""
        return lines if isinstance(lines, Losses) else cls(lines)
