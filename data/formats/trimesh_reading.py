"""Read mesh files with trimesh; files outside the folder of the mesh are not read."""

from __future__ import annotations

import io
import os
import re
import unicodedata
from dataclasses import dataclass
from itertools import islice
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from trimesh.exchange.load import mesh_loaders
from trimesh.geometry import triangulate_quads
from trimesh.resolvers import FilePathResolver

from renderformer.data.arrays import Float64Array
from renderformer.data.colour import srgb_to_linear
from renderformer.data.errors import InputError
from renderformer.data.files import MAX_FILE_BYTES, read_bytes
from renderformer.data.formats.parts import MeshFile, Notes, Part
from renderformer.data.formats.text import as_utf8
from renderformer.data.notes import Routine

_BESIDE = "put it beside the file"
_OTHER_CASE = Routine("files found although capital letters in their names differ")
# Names of a folder that are compared with one that does not exist.
_MAX_NAMES = 10_000


class Folder(FilePathResolver):
    """The files beside a mesh file.

    A name may have backslashes, a folder of another machine in front, or capital letters where the file has small ones;
    the last is counted in the notes of the file.

    Attributes:
        contents: the files that were read, by name.
        missing: notes about files that could not be read.
    """

    def __init__(self, file: MeshFile) -> None:
        super().__init__(str(file.path))
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

    def _located(self, name: str) -> tuple[Path | None, str]:
        """The path of a file that exists, or None and the problem."""
        problem = f"{_shown(name)} is missing"
        plain = name.strip().replace("\\", "/")
        spellings = dict.fromkeys((name.strip(), plain, plain.lstrip("/"), PurePosixPath(plain).name))
        for number, spelling in enumerate(spellings):
            try:
                path = self.absolute(spelling)
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
        folder = Path(self.parent)
        steps = PurePosixPath(name).parts
        if not steps or ".." in steps:
            return None
        try:
            for step in steps:
                other = self._listed(folder).get(_folded(step))
                if other is None:
                    return None
                folder /= other
            return self.absolute(str(folder.relative_to(self.parent)))
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


@dataclass
class TrimeshObjects:
    """The objects with faces that a loader of trimesh returns.

    Attributes:
        parts: the objects, without materials.
        keywords: arguments of `trimesh.Trimesh` for each object, including its material.
        graph: edges of the scene graph from `base_frame`; empty if the format has none.
        contents: files beside the mesh file that were read, by name.
    """

    parts: list[Part]
    keywords: list[dict[str, Any]]
    graph: list[dict[str, Any]]
    base_frame: str
    contents: dict[str, bytes]


def read_with_trimesh(
    kind: str, data: bytes, file: MeshFile, folder: Folder | None = None, **options: Any
) -> TrimeshObjects:
    """Read a file with a loader of trimesh.

    Args:
        kind: trimesh's name of the format.
        data: the content of the file, normalised for trimesh.
        folder: of the file; its notes about missing files are the caller's.
        options: of the loader.

    Raises:
        InputError: an object has no triangles in three dimensions. trimesh itself raises many kinds of exceptions.
    """
    resolver = folder or Folder(file)
    loaded = mesh_loaders[kind](file_obj=io.BytesIO(data), file_type=kind, resolver=resolver, **options)
    if folder is None:
        file.notes.lines += resolver.missing
    geometry = loaded.get("geometry", {file.path.stem: loaded})
    geometry = {name: keywords for name, keywords in geometry.items() if np.size(keywords.get("faces", ()))}
    return TrimeshObjects(
        [_part(name, keywords, file.notes) for name, keywords in geometry.items()],
        list(geometry.values()),
        loaded.get("graph", []),
        loaded.get("base_frame", "world"),
        resolver.contents,
    )


def _part(name: str, keywords: dict[str, Any], notes: Notes) -> Part:
    vertices = np.asarray(keywords["vertices"], np.float64)
    faces = triangulate_quads(keywords["faces"])
    if faces.ndim != 2 or faces.shape[1] != 3 or vertices.ndim != 2 or vertices.shape[1] != 3:
        problem = f"has faces of shape {faces.shape}, expected triangles"
        raise InputError(f"object {name!r}", problem, "export it again")
    part = Part(name, vertices, faces.astype(np.int64), colors=_colors(keywords, len(vertices), len(faces), notes))
    normals = keywords.get("vertex_normals")
    if normals is not None and np.shape(normals) == vertices.shape:
        part.normals = np.asarray(normals, np.float64)
    return part


def _colors(keywords: dict[str, Any], vertices: int, faces: int, notes: Notes) -> Float64Array | None:
    """Linear RGB or RGBA per vertex or per face; integers and OBJ's 0 … 1 are sRGB, alpha is linear."""
    for key, count in (("vertex_colors", vertices), ("face_colors", faces)):
        colors = keywords.get(key)
        if colors is None:
            continue
        colors, label = np.asarray(colors), key.replace("_", " ")
        if colors.ndim != 2 or colors.shape[1] < 3 or len(colors) != count:
            notes.lines.append(f"{label} ignored, there are {len(colors)}, expected {count}")
            continue
        scale = np.iinfo(colors.dtype).max if colors.dtype.kind in "iu" else 1.0
        values = colors[:, :4].astype(np.float64) / scale
        if values.max() > 1 and values.max() <= 255 and (values == np.round(values)).all():
            values /= 255
        if not np.isfinite(values).all() or values.min() < 0 or values.max() > 1:
            notes.lines.append(f"{label} ignored, they are outside 0 … 1")
            continue
        return _linear(values, label, notes)
    return None


def _linear(values: Float64Array, label: str, notes: Notes) -> Float64Array:
    """Linear colours of sRGB ones; alpha stays where any is positive."""
    colors = srgb_to_linear(values[:, :3])
    if values.shape[1] < 4 or (values[:, 3] == 1).all():
        return colors
    if not values[:, 3].any():
        notes.lines.append(f"the alpha of {label} ignored, all are 0")
        return colors
    return np.column_stack([colors, values[:, 3]])
