"""Values of a viewer on disk, exact and incremental: a file of JSON, and a file for each array, named by its content.

Only what changed since the last snapshot of a folder is written. Values are None, bool, int, float, str, tuples, dicts,
NumPy arrays, and the dataclasses of `KINDS`; an object that occurs twice is stored once.
"""

from __future__ import annotations

import hashlib
import io
import json
import re
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np

from renderformer.data.appearance import Appearance
from renderformer.data.arrays import AnyArray
from renderformer.data.camera import Camera
from renderformer.data.camera_path import Key, View
from renderformer.data.environment import Environment, Sun
from renderformer.data.errors import InputError, one_line
from renderformer.data.files import MAX_CONFIG_BYTES, MAX_FILE_BYTES, atomic_path, read_bytes
from renderformer.data.material import Material, Textures
from renderformer.data.scene import Mesh
from renderformer.data.texture import Texture
from renderformer.data.unit_size import UnitSize
from renderformer.viewer.document import Item, SceneState
from renderformer.viewer.placement import Placement
from renderformer.viewer.surroundings import Surroundings

KINDS: dict[str, type[Any]] = {
    kind.__name__: kind
    for kind in (
        Appearance, Camera, Environment, Item, Key, Material, Mesh, Placement, SceneState, Sun, Surroundings, Texture,
        Textures, UnitSize, View,
    )
}  # fmt: skip
# The value that names the snapshot for a person.
TITLE = "title"
VALUES, ARRAYS, SUFFIX = "values.json", "arrays", ".npy"
# Fields that are not stored: the scene as it was opened is that of the other fields.
LEFT_OUT = {"SceneState": {"original"}}
REMEDY = "discard it"


class Snapshots:
    """Writes values into a folder, each snapshot in place of the last one, whole whenever the process may end.

    Args:
        folder: is made if it is missing.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        (folder / ARRAYS).mkdir(parents=True, exist_ok=True)
        # The arrays of the last snapshot by id, with the names of their files.
        self._known: dict[int, tuple[AnyArray, str]] = {}

    def write(self, values: dict[str, Any]) -> None:
        """Write named values.

        Raises:
            InputError: a place that cannot be written.
        """
        encoder = _Encoder(self._known)
        content = {"version": 1, "values": {name: encoder.value(value) for name, value in values.items()}}
        names = {name for _, name in encoder.arrays.values()}
        present = {path.name for path in (self._folder / ARRAYS).iterdir()}
        for array, name in encoder.arrays.values():
            if name not in present:
                with atomic_path(self._folder / ARRAYS / name) as path, path.open("wb") as stream:
                    np.lib.format.write_array(stream, np.asarray(array), allow_pickle=False)
        # The arrays are there when the file that names them is.
        with atomic_path(self._folder / VALUES) as path:
            path.write_text(json.dumps({**content, "objects": encoder.objects}))
        for name in present - names:
            (self._folder / ARRAYS / name).unlink(missing_ok=True)
        self._known = encoder.arrays


class _Encoder:
    """Values as JSON. Objects are numbered, each after those that it consists of."""

    def __init__(self, known: dict[int, tuple[AnyArray, str]]) -> None:
        self._known = known
        self._numbers: dict[int, int] = {}
        self.objects: list[dict[str, Any]] = []
        self.arrays: dict[int, tuple[AnyArray, str]] = {}

    def value(self, value: Any) -> Any:
        if isinstance(value, np.generic):
            value = value.item()
        if value is None or isinstance(value, bool | int | float | str):
            return value
        if isinstance(value, tuple | list):
            return [self.value(part) for part in value]
        if isinstance(value, Mapping):
            return {"map": [[self.value(key), self.value(part)] for key, part in value.items()]}
        if isinstance(value, np.ndarray):
            return {"array": self._name(value)}
        if id(value) not in self._numbers:
            kind = type(value).__name__
            if KINDS.get(kind) is not type(value):
                raise TypeError(f"{kind} is not a kind of snapshots")
            names = [field.name for field in fields(value) if field.name not in LEFT_OUT.get(kind, ())]
            entry = {"kind": kind, "fields": {name: self.value(getattr(value, name)) for name in names}}
            self._numbers[id(value)] = len(self.objects)
            self.objects.append(entry)
        return {"object": self._numbers[id(value)]}

    def _name(self, array: AnyArray) -> str:
        known = self._known.get(id(array)) or self.arrays.get(id(array)) or (array, file_name(array))
        self.arrays[id(array)] = known
        return known[1]


def file_name(array: AnyArray) -> str:
    """The name of the file of an array, a hash of its content."""
    total = hashlib.blake2b(f"{array.dtype.str} {array.shape}".encode(), digest_size=16)
    total.update(np.ascontiguousarray(array).reshape(-1).view(np.uint8).data)
    return total.hexdigest() + SUFFIX


def read(folder: Path) -> dict[str, Any]:
    """The values of the last snapshot in a folder.

    Raises:
        InputError: there is none, or it is damaged.
    """
    path = folder / VALUES
    try:
        content = json.loads(read_bytes(path, MAX_CONFIG_BYTES).decode())
        objects: list[Any] = []
        arrays: dict[str, AnyArray] = {}

        def value(stored: Any) -> Any:
            if isinstance(stored, list):
                return tuple(value(part) for part in stored)
            if not isinstance(stored, dict):
                return stored
            if "map" in stored:
                return {value(key): value(part) for key, part in stored["map"]}
            if "array" in stored:
                name = stored["array"]
                if name not in arrays:
                    arrays[name] = _array(folder, name)
                return arrays[name]
            return objects[stored["object"]]

        for entry in content["objects"]:
            parts = {name: value(part) for name, part in entry["fields"].items()}
            objects.append(KINDS[entry["kind"]](**parts))
        return {name: value(stored) for name, stored in content["values"].items()}
    except InputError as error:
        raise InputError(path, f"is damaged or of another version ({error.place}: {error.problem})", REMEDY) from None
    except (ValueError, TypeError, LookupError, AttributeError, RecursionError, MemoryError) as error:
        raise InputError(path, f"is damaged or of another version ({one_line(str(error))[:200]})", REMEDY) from None


def title(folder: Path) -> str:
    """The value `TITLE` of the last snapshot in a folder; empty without one.

    Raises:
        InputError: there is no snapshot, or it is damaged.
    """
    path = folder / VALUES
    try:
        found = json.loads(read_bytes(path, MAX_CONFIG_BYTES).decode())["values"].get(TITLE, "")
    except (ValueError, TypeError, LookupError, AttributeError, RecursionError) as error:
        raise InputError(path, f"is damaged or of another version ({one_line(str(error))[:200]})", REMEDY) from None
    return found if isinstance(found, str) else ""


def _array(folder: Path, name: str) -> AnyArray:
    """The array of a file.

    Raises:
        InputError: the file is missing or damaged.
    """
    if not re.fullmatch(rf"[0-9a-f]{{32}}\{SUFFIX}", name):
        raise InputError(name[:60], "is not the name of an array", REMEDY)
    content = read_bytes(folder / ARRAYS / name, MAX_FILE_BYTES)
    array: AnyArray = np.lib.format.read_array(io.BytesIO(content), allow_pickle=False)
    if file_name(array) != name:
        raise InputError(name, "holds something else", REMEDY)
    return array
