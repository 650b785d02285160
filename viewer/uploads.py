"""Files that a page of the viewer sends and gets."""

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
    from renderformer.renderer import Cancel, Progress
    from renderformer.viewer.session import Session

# Bytes that a scene may unpack to.
MAX_UNPACKED = 2 << 30
# What is dropped on the page goes the way of the upload button, whose input is the first one of the page. An `onload`,
# since a script in a page's text does not run.
DROP = """<img hidden alt="" src="data:image/gif;base64,R0lGODlhAQABAAAAACwAAAAAAQABAAA=" onload="
window.ondragover = event => event.preventDefault();
window.ondrop = event => {
  event.preventDefault();
  const input = document.querySelector('input[type=file]');
  if (!input || !event.dataTransfer.files.length) return;
  const files = new DataTransfer();
  files.items.add(event.dataTransfer.files[0]);
  input.files = files.files;
  input.dispatchEvent(new Event('change', {bubbles: true}));
};">"""


@contextlib.contextmanager
def private_folder() -> Iterator[Path]:
    """A temporary folder. An InputError that passes through gives its place inside the folder, whose name means nothing
    to a person."""
    with tempfile.TemporaryDirectory(prefix="renderformer-") as folder:
        try:
            yield Path(folder)
        except InputError as error:
            # Places go from the outside in, so that they begin with the path.
            raise error.at(error.place.removeprefix(folder + os.sep)) from None


@contextlib.contextmanager
def received(name: str, content: bytes) -> Iterator[Path]:
    """A file that a page sent, on disk as long as the context is open; of an archive the scene JSON in it.

    Args:
        name: by the page; only its suffix and harmless letters of it are used.

    Raises:
        InputError: the archive is damaged, holds no or several scenes, or too much.
    """
    safe = re.sub(r"[^\w.-]+", "_", Path(name).name)[-100:].lstrip(".") or "upload"
    with private_folder() as folder:
        path = folder / safe
        path.write_bytes(content)
        yield unzipped(path) if path.suffix.lower() == ".zip" else path


def saved(
    session: Session, name: str, turn: float = 0.0, progress: Progress | None = None, cancel: Cancel | None = None
) -> tuple[str, bytes, list[str]]:
    """What `Session.save` writes, for a page that can be sent one file: its name, its content, and notes.

    Scene JSON, which has its meshes beside it, becomes an archive.
    """
    with private_folder() as folder:
        path = folder / name
        notes = [note.replace(f"{path}: ", "") for note in session.save(path, progress, cancel, turn)]
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
    """The scene JSON of an archive as `zipped` makes it, unpacked beside the archive.

    Raises:
        InputError: it is damaged, holds no or several scenes, or too much.
    """
    folder = path.with_suffix("")
    try:
        with zipfile.ZipFile(path) as archive:
            if sum(item.file_size for item in archive.infolist()) > MAX_UNPACKED:
                raise InputError(path, f"unpacks to more than {MAX_UNPACKED >> 30} GiB", "open it on the command line")
            scenes = [name for name in archive.namelist() if re.fullmatch(r"[^/\\]+\.json", name)]
            if len(scenes) != 1:
                raise InputError(path, f"holds {len(scenes)} scene JSON files, expected one", "send its .glb or .h5")
            # zipfile drops what would lead out of the folder.
            archive.extractall(folder)
    except InputError:
        raise
    except (zipfile.BadZipFile, OSError, EOFError, RuntimeError, NotImplementedError, ValueError, zlib.error) as error:
        raise InputError(path, f"cannot be unpacked ({error})", "check the file") from None
    return folder / scenes[0]
