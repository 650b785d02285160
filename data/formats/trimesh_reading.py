"""trimesh's readers, guarded: no files outside the folder of the mesh, no log lines, no numbers lost in silence."""

from __future__ import annotations

import io
import logging
import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
from trimesh.exchange.load import mesh_loaders
from trimesh.geometry import triangulate_quads
from trimesh.resolvers import FilePathResolver

from renderformer.data.arrays import Float64Array
from renderformer.data.colour import srgb_to_linear
from renderformer.data.errors import InputError
from renderformer.data.formats.parts import MeshFile, Notes, Part
from renderformer.data.formats.text import as_utf8


@contextmanager
def quiet() -> Iterator[None]:
    """No log lines of trimesh, and an error where NumPy stops reading numbers at the first bad word."""
    log = logging.getLogger("trimesh")
    level = log.level
    log.setLevel(logging.CRITICAL)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            warnings.filterwarnings("error", message=".*string or file could not be read.*")
            yield
    finally:
        log.setLevel(level)


class Folder(FilePathResolver):
    """The files beside a mesh file.

    Attributes:
        contents: the files that were read, by name.
        missing: why others could not be read, as lines for notes.
    """

    def __init__(self, file: MeshFile) -> None:
        super().__init__(str(file.path))
        self.contents: dict[str, bytes] = {}
        self.missing: list[str] = []

    def get(self, name: str) -> bytes:
        """The content of a file.

        Raises:
            OSError, ValueError: it does not exist, or must not be read.
        """
        if re.match(r"[a-zA-Z][a-zA-Z0-9+.-]+:", name):
            self.missing.append(f"{name!r} is a URL and is not fetched")
            raise FileNotFoundError(name)
        try:
            content = super().get(name)
            self.contents[name] = as_utf8(content) if name.lower().endswith(".mtl") else content
        except InputError:
            self.missing.append(f"{name!r} is not text and is not read")
            raise
        except ValueError:
            self.missing.append(f"{name!r} is outside the folder of the file and is not read")
            raise
        except OSError:
            self.missing.append(f"{name!r} is missing")
            raise
        return self.contents[name]


def read_with_trimesh(kind: str, data: bytes, file: MeshFile, folder: Folder | None = None, **options: Any) -> Any:
    """What trimesh's loader of a format returns, as keywords of `trimesh.Trimesh`.

    Args:
        kind: trimesh's name of the format.
        data: the content of the file, put right for trimesh.
        folder: where files that it refers to are read; the folder of the file if not given.
        options: of the loader.

    Returns:
        `{"geometry": {name: keywords}}` of the objects with faces, and "graph" and "base_frame" where the format has
        nodes.
    """
    folder = folder or Folder(file)
    loaded = mesh_loaders[kind](file_obj=io.BytesIO(data), file_type=kind, resolver=folder, **options)
    file.notes.lines += folder.missing
    if "geometry" not in loaded:
        loaded = {"geometry": {file.path.stem: loaded}}
    geometry = {name: keywords for name, keywords in loaded["geometry"].items() if len(keywords.get("faces", ()))}
    return {**loaded, "geometry": geometry}


def parts_of(geometry: dict[str, Any], notes: Notes) -> list[Part]:
    """The objects in the order of `geometry`, without materials."""
    return [part_of(name, keywords, notes) for name, keywords in geometry.items()]


def part_of(name: str, keywords: dict[str, Any], notes: Notes) -> Part:
    """One object, without its material, from keywords of `trimesh.Trimesh`.

    Raises:
        InputError: it has no triangles in three dimensions.
    """
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
    """Linear RGB per vertex or per face; 8-bit numbers and OBJ's 0 … 1 are sRGB."""
    for key, count in (("vertex_colors", vertices), ("face_colors", faces)):
        colors = keywords.get(key)
        if colors is None:
            continue
        colors, label = np.asarray(colors), key.replace("_", " ")
        if colors.ndim != 2 or colors.shape[1] < 3 or len(colors) != count:
            notes.lines.append(f"{label} ignored, there are {len(colors)} of them for {count}")
            continue
        scale = np.iinfo(colors.dtype).max if colors.dtype.kind in "iu" else 1.0
        values = colors[:, :3].astype(np.float64) / scale
        if not np.isfinite(values).all() or values.min() < 0 or values.max() > 1:
            notes.lines.append(f"{label} ignored, they are outside 0 … 1")
            continue
        return srgb_to_linear(values)
    return None
