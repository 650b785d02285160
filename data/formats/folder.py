"""The files beside a mesh file; those outside its folder are not read."""

from __future__ import annotations

import os
import re
import unicodedata
from itertools import islice
from pathlib import Path, PurePosixPath

from renderformer.data.errors import InputError
from renderformer.data.files import MAX_FILE_BYTES, read_bytes
from renderformer.data.formats.parts import MeshFile
from renderformer.data.formats.text import as_utf8
from renderformer.data.notes import Routine

_BESIDE = "put it beside the file"
_OTHER_CASE = Routine("files found although capital letters in their names differ")
# Names of a folder that are compared with one that does not exist.
_MAX_NAMES = 10_000


class Folder:
    """The files beside a mesh file; a resolver for the loaders of trimesh.

    A name may have backslashes, a folder of another machine in front, or capital letters where the file has small ones;
    the last is counted in the notes of the file.

    Attributes:
        contents: the files that were read, by name.
        missing: notes about files that could not be read.
    """

    def __init__(self, file: MeshFile) -> None:
        self.file_name = file.path.name
        self._parent = Path(os.path.abspath(file.path)).parent
        self.contents: dict[str, bytes] = {}
        self.missing: list[str] = []
        self._bytes_left = MAX_FILE_BYTES
        self._counts = file.notes.counts
        self._respelled: set[str] = set()
        self._names: dict[Path, dict[str, str]] = {}

    def get(self, name: str) -> bytes:
        """The content of a file, which stays in `contents`; raises InputError as `read`."""
        if name not in self.contents:
            self.contents[name] = self.read(name)
        return self.contents[name]

    def __getitem__(self, name: str) -> bytes:
        return self.get(name)

    def read(self, name: str) -> bytes:
        """The content of a file; MTL becomes UTF-8.

        Raises:
            InputError: the name is a URL, or the file is missing, outside the folder, not a regular file, too large,
                or not text. The place is empty; `missing` has the problem.
        """
        try:
            content = self._read(name)
        except InputError as error:
            self.missing.append(error.problem)
            raise
        self._bytes_left -= len(content)
        return content

    def _read(self, name: str) -> bytes:
        if re.match(r"[a-zA-Z][a-zA-Z0-9+.-]+:", name):
            raise InputError("", f"{_shown(name)} is a URL and is not fetched", _BESIDE)
        path, problem = self._located(name)
        if path is None:
            raise InputError("", problem, _BESIDE)
        try:
            content = read_bytes(path, self._bytes_left)
            return as_utf8(content) if name.lower().endswith(".mtl") else content
        except InputError as error:
            raise InputError("", f"{_shown(name)} {error.problem} and is not read", error.remedy) from None

    def has(self, name: str) -> bool:
        """Whether there is such a file, perhaps one that cannot be read."""
        return self._located(name)[0] is not None

    def _inside(self, name: str) -> Path:
        """The path of a name; raises ValueError if it is outside the folder."""
        parent = self._parent.resolve()
        path = (parent / name.strip()).resolve()
        path.relative_to(parent)
        return path

    def _located(self, name: str) -> tuple[Path | None, str]:
        """The path of a file that exists, or None and the problem."""
        problem = f"{_shown(name)} is missing"
        plain = name.strip().replace("\\", "/")
        spellings = dict.fromkeys((name.strip(), plain, plain.lstrip("/"), PurePosixPath(plain).name))
        for number, spelling in enumerate(spellings):
            try:
                path = self._inside(spelling)
                if path.exists():
                    return path, ""
            # A cycle of links, or a name that the system cannot hold.
            except (OSError, RuntimeError):
                continue
            except ValueError:
                if not number:
                    problem = f"{_shown(name)} is outside the folder of the file and is not read"
        for spelling in spellings:
            if other := self._other_case(spelling):
                self._respelled.add(name)
                self._counts[_OTHER_CASE] = len(self._respelled)
                return other, ""
        return None, problem

    def _other_case(self, name: str) -> Path | None:
        """The file whose name differs in capital letters or in the encoding of accents, if there is one."""
        folder = self._parent
        steps = PurePosixPath(name).parts
        if not steps or ".." in steps:
            return None
        try:
            for step in steps:
                other = self._listed(folder).get(_folded(step))
                if other is None:
                    return None
                folder /= other
            return self._inside(str(folder.relative_to(self._parent)))
        except (OSError, RuntimeError, ValueError):
            return None

    def _listed(self, folder: Path) -> dict[str, str]:
        """The names in a folder by their spelling without capital letters."""
        if folder not in self._names:
            with os.scandir(folder) as entries:
                names = sorted((entry.name for entry in islice(entries, _MAX_NAMES)), reverse=True)
            self._names[folder] = {_folded(name): name for name in names}
        return self._names[folder]


def _shown(name: str) -> str:
    return repr(name if len(name) <= 120 else f"{name[:119]}…")


def _folded(name: str) -> str:
    return unicodedata.normalize("NFC", name).casefold()
