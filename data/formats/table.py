"""The table of scene and mesh formats. Each format is a module of this folder and an entry of `TABLE`.

The module of a mesh format has `read(file: MeshFile) -> list[Part]`, see `parts`. The module of a scene format has
`read(path) -> Scene`, and `write(scene, path, overwrite) -> list[str]` if the format is writable. Modules are imported
on first use.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any, Literal

from renderformer.data.errors import InputError


@dataclass(frozen=True)
class Format:
    """One file format.

    Attributes:
        name: for messages.
        suffixes: in lower case; the first is the usual one.
        module: in `renderformer.data.formats`, with the format's `read` and `write`.
        contents: "mesh" (objects in the file's own units, which get a stage) or "scene".
        signature: whether the bytes of a file (at least the first 64 KiB) look like this format.
        up: the axis of a mesh file that usually points up; "open" if neither is usual, "known" if the format states it
            and the reader turns objects to Z up.
        writable: whether scenes can be saved in it.
    """

    name: str
    suffixes: tuple[str, ...]
    module: str
    contents: Literal["mesh", "scene"]
    signature: Callable[[bytes], bool]
    up: Literal["y", "z", "open", "known"] = "known"
    writable: bool = False

    def load(self) -> Any:
        """The module of the format."""
        return import_module(f"{__package__}.{self.module}")


def _matches(pattern: bytes) -> Callable[[bytes], bool]:
    """Whether the first bytes match a regular expression."""
    return lambda data: re.match(pattern, data[:512]) is not None


def _is_obj(data: bytes) -> bool:
    return bool(re.search(rb"(?m)^v\s+[-+\d.]", data[:65536]) and re.search(rb"(?m)^f\s+\d", data))


def _is_text_stl(data: bytes) -> bool:
    # Binary STL has no signature.
    return data[:512].lstrip()[:6].lower() == b"solid " and b"facet" in data[:2048]


def _is_gltf(data: bytes) -> bool:
    return data[:512].lstrip()[:1] == b"{" and b'"asset"' in data and b'"version"' in data and b'"objects"' not in data


def _is_scene_json(data: bytes) -> bool:
    return data[:512].lstrip()[:1] == b"{" and not _is_gltf(data)


# Signatures are tried from last to first because the signature of OBJ is the weakest.
TABLE = (
    Format("OBJ", (".obj",), "obj", "mesh", _is_obj, up="y"),
    Format("PLY", (".ply",), "ply", "mesh", _matches(rb"\s*(?i:ply)"), up="open"),
    Format("STL", (".stl",), "stl", "mesh", _is_text_stl, up="z"),
    Format("OFF", (".off",), "off", "mesh", _matches(rb"\s*C?OFF\s"), up="y"),
    Format("GLB", (".glb",), "gltf", "mesh", _matches(b"glTF")),
    Format("glTF", (".gltf",), "gltf", "mesh", _is_gltf),
    Format("3MF", (".3mf",), "threemf", "mesh", _matches(b"PK"), up="z"),
    Format("scene JSON", (".json",), "scene_json", "scene", _is_scene_json, writable=True),
    Format("scene H5", (".h5", ".hdf5"), "scene_h5", "scene", _matches(b"\x89HDF"), writable=True),
)
MESH_FORMATS = {suffix: entry.name for entry in TABLE if entry.contents == "mesh" for suffix in entry.suffixes}
SCENE_FORMATS = {suffix: entry.name for entry in TABLE if entry.contents == "scene" for suffix in entry.suffixes}


def format_of(path: Path) -> Format:
    """The format that the suffix of `path` names.

    Raises:
        InputError: no format has that suffix.
    """
    suffix = path.suffix.lower()
    for entry in TABLE:
        if suffix in entry.suffixes:
            return entry
    suffixes = ", ".join(entry.suffixes[0] for entry in TABLE)
    raise InputError(path, f"{path.suffix or 'a name without suffix'} is not a mesh or scene format", f"use {suffixes}")


def with_format_hint(error: InputError, path: Path, data: bytes) -> InputError:
    """The error of a file, with a remedy if the content looks like another format than the suffix names.

    Args:
        data: the content, or its first 64 KiB.
    """
    error = error.within(path)
    detected = next((entry for entry in reversed(TABLE) if entry.signature(data)), None)
    suffix = path.suffix.lower()
    # JSON that is not scene JSON is probably damaged glTF.
    if detected is None or suffix in detected.suffixes or (detected.name == "scene JSON" and suffix == ".gltf"):
        return error
    remedy = f"the content looks like {detected.name}, rename it to {path.stem}{detected.suffixes[0]}"
    return InputError(error.place, error.problem, remedy)
