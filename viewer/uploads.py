"""Uploads and downloads of the viewer's page."""

from __future__ import annotations

import contextlib
import io
import json
import os
import re
import tempfile
import zipfile
import zlib
from collections.abc import Container, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from renderformer.data.camera_path import KEYS_SUFFIX
from renderformer.data.errors import InputError
from renderformer.data.formats import MESH_FORMATS, SCENE_FORMATS
from renderformer.image import IMAGE_SUFFIXES
from renderformer.viewer.opening import ENVIRONMENT_SUFFIX

if TYPE_CHECKING:
    from renderformer.data.progress import Progress
    from renderformer.renderer import Cancel
    from renderformer.viewer.session import Session

# Most bytes of an unpacked archive, and most names in a line.
MAX_UNPACKED, MOST_NAMES = 2 << 30, 4
# Files that need no other.
ALONE = (".h5", ".glb", ".3mf", ".stl", ".off", *IMAGE_SUFFIXES, ENVIRONMENT_SUFFIX)
# Files that usually need others.
PARTS = (".json", ".gltf")
TOGETHER = "send a file at once with those that it names, or their folder, or a zip"


class Received:
    """What a page sent.

    Attributes:
        files: to be opened in this order.
        unused: names of files that came with them for nothing.
    """

    def __init__(self, *files: Path, unused: Sequence[str] = ()) -> None:
        self.files, self.unused = files, unused

    @property
    def note(self) -> str:
        """What a person should know of them; empty if there is nothing."""
        names = ", ".join(self.unused[:MOST_NAMES]) + (" …" if len(self.unused) > MOST_NAMES else "")
        return f"not used: {names}" if self.unused else ""


@contextlib.contextmanager
def private_folder() -> Iterator[Path]:
    """A temporary folder; the place of an InputError becomes relative to it."""
    with tempfile.TemporaryDirectory(prefix="renderformer-") as folder:
        try:
            yield Path(folder)
        except InputError as error:
            raise error.at(error.place.removeprefix(folder + os.sep)) from None


@contextlib.contextmanager
def received(name: str, content: bytes) -> Iterator[Received]:
    """An uploaded file on disk while the context is open; of an archive, what is to be opened in it.

    Args:
        name: from the page; only its suffix and harmless characters are used.

    Raises:
        InputError: as `unzipped`.
    """
    safe = re.sub(r"[^\w.-]+", "_", Path(name).name)[-100:].lstrip(".") or "upload"
    with private_folder() as folder:
        path = folder / safe
        path.write_bytes(content)
        if path.suffix.lower() == ".zip":
            yield unzipped(path)
            return
        try:
            yield Received(path)
        except InputError as error:
            if path.suffix.lower() not in PARTS:
                raise
            raise InputError(error.place, error.problem, "; ".join(filter(None, [error.remedy, TOGETHER]))) from None


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


def unzipped(path: Path) -> Received:
    """What is to be opened in an archive, unpacked beside it: a scene, a mesh with its files, or one other file.

    Raises:
        InputError: the archive is damaged, too large, or holds several such files or none.
    """
    folder = path.with_suffix("")
    try:
        with zipfile.ZipFile(path) as archive:
            if sum(item.file_size for item in archive.infolist()) > MAX_UNPACKED:
                raise InputError(path, f"unpacks to more than {MAX_UNPACKED >> 30} GiB", "open it on the command line")
            # zipfile removes path components that lead out of the folder.
            archive.extractall(folder)
    except InputError:
        raise
    except (zipfile.BadZipFile, OSError, EOFError, RuntimeError, NotImplementedError, ValueError, zlib.error) as error:
        raise InputError(path, f"cannot be unpacked ({error})", "check the file") from None
    return _chosen(path, folder)


def _chosen(archive: Path, folder: Path) -> Received:
    """The file to open in a folder: a scene before a mesh, and files before those in deeper folders."""
    files = [path for path in sorted(folder.rglob("*")) if path.is_file() and not _is_hidden(path.relative_to(folder))]
    meshes = _with(files, MESH_FORMATS)
    # Folders of meshes hold JSON files of other programs, too.
    scenes = [path for path in _with(files, SCENE_FORMATS) if not meshes or path.suffix != ".json" or _is_scene(path)]
    scenes = [path for path in scenes if not path.name.lower().endswith(KEYS_SUFFIX)]
    main = _highest(scenes) or _highest(meshes) or _highest(files)
    if len(main) != 1:
        names = ", ".join(path.name for path in main[:MOST_NAMES]) + (" …" if len(main) > MOST_NAMES else "")
        problem = f"holds {len(main)} files that could be opened ({names})" if main else "holds no file"
        raise InputError(archive, problem, "send one scene or mesh with its files at a time")
    rest = [path for path in files if path not in main]
    around = [path for path in rest if path.suffix.lower() == ENVIRONMENT_SUFFIX] if main[0] in meshes else []
    around = around if len(around) == 1 else []
    alone = main[0].suffix.lower() in ALONE
    return Received(main[0], *around, unused=[path.name for path in rest if alone and path not in around])


def _with(files: list[Path], suffixes: Container[str]) -> list[Path]:
    return [path for path in files if path.suffix.lower() in suffixes]


def _highest(files: list[Path]) -> list[Path]:
    """Those in the fewest folders."""
    fewest = min((len(path.parts) for path in files), default=0)
    return [path for path in files if len(path.parts) == fewest]


def _is_hidden(path: Path) -> bool:
    """Whether it is what systems put beside the files of a person."""
    return any(part.startswith((".", "__MACOSX")) for part in path.parts)


def _is_scene(path: Path) -> bool:
    try:
        content = json.loads(path.read_bytes())
    except (ValueError, RecursionError):
        return False
    return isinstance(content, dict) and "objects" in content
