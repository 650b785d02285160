"""Uploads and downloads of the viewer's page."""

from __future__ import annotations

import contextlib
import io
import os
import re
import tempfile
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from renderformer.data.errors import InputError

if TYPE_CHECKING:
    from renderformer.data.progress import Progress
    from renderformer.renderer import Cancel
    from renderformer.viewer.session import Session

# Most bytes of an unpacked archive.
MAX_UNPACKED = 2 << 30


@contextlib.contextmanager
def private_folder() -> Iterator[Path]:
    """A temporary folder; the place of an InputError becomes relative to it."""
    with tempfile.TemporaryDirectory(prefix="renderformer-") as folder:
        try:
            yield Path(folder)
        except InputError as error:
            raise error.at(error.place.removeprefix(folder + os.sep)) from None


@contextlib.contextmanager
def received(name: str, content: bytes) -> Iterator[Path]:
    """An uploaded file on disk while the context is open; for an archive, the scene JSON in it.

    Args:
        name: from the page; only its suffix and harmless characters are used.

    Raises:
        InputError: as `unzipped`.
    """
    safe = re.sub(r"[^\w.-]+", "_", Path(name).name)[-100:].lstrip(".") or "upload"
    with private_folder() as folder:
        path = folder / safe
        path.write_bytes(content)
        yield unzipped(path) if path.suffix.lower() == ".zip" else path


def saved(
    session: Session, name: str, turn: float = 0.0, progress: Progress | None = None, cancel: Cancel | None = None
) -> tuple[str, bytes, list[str]]:
    """Name, content and notes of a file that `Session.save` writes; scene JSON becomes an archive with its meshes.

    The scene counts as saved only once the page has it, which the caller marks.
    """
    with private_folder() as folder:
        path = folder / name
        notes = [note.replace(f"{path}: ", "") for note in session.save(path, progress, cancel, turn, mark=False)]
        if path.suffix == ".json":
            return path.with_suffix(".zip").name, zipped(folder), notes
        return name, path.read_bytes(), notes


def zipped(folder: Path) -> bytes:
    """All files of a folder as an archive."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for path in sorted(folder.rglob("*")):
            archive.write(path, path.relative_to(folder))
    return buffer.getvalue()


def unzipped(path: Path) -> Path:
    """The scene JSON of an archive by `zipped`, unpacked beside the archive.

    Raises:
        InputError: the archive is damaged, too large, or does not hold exactly one scene.
    """
    folder = path.with_suffix("")
    try:
        with zipfile.ZipFile(path) as archive:
            if sum(item.file_size for item in archive.infolist()) > MAX_UNPACKED:
                raise InputError(path, f"unpacks to more than {MAX_UNPACKED >> 30} GiB", "open it on the command line")
            scenes = [name for name in archive.namelist() if re.fullmatch(r"[^/\\]+\.json", name)]
            if len(scenes) != 1:
                raise InputError(path, f"holds {len(scenes)} scene JSON files, expected one", "send its .glb or .h5")
            # zipfile removes path components that lead out of the folder.
            archive.extractall(folder)
    except InputError:
        raise
    except (zipfile.BadZipFile, OSError, EOFError, RuntimeError, NotImplementedError, ValueError, zlib.error) as error:
        raise InputError(path, f"cannot be unpacked ({error})", "check the file") from None
    return folder / scenes[0]
