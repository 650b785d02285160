"""What scene JSON 1.0 and its extension have in common: numbers, paths, transforms, cameras, the folder of meshes."""

from __future__ import annotations

import math
import re
from pathlib import Path
from typing import Annotated, TypeAlias

import numpy as np
from pydantic import Field

from renderformer.data.arrays import Float64Array
from renderformer.data.declared import Declared, shown
from renderformer.data.errors import InputError
from renderformer.data.material import RGB

# Files that this program writes into the folder of a saved scene.
_WRITTEN = re.compile(r"\d{3,}_[A-Za-z0-9_.-]*\.(obj|ply|png|exr)")

Number: TypeAlias = Annotated[float, Field(ge=-1e30, le=1e30)]
Share: TypeAlias = Annotated[float, Field(ge=0, le=1)]
Radiance: TypeAlias = Annotated[float, Field(ge=0, le=60000)]
Vector: TypeAlias = tuple[Number, Number, Number]


class TransformEntry(Declared):
    """`transform` of an object: normalise, rotate about the world's X, Y and Z in degrees, scale, translate."""

    translation: Vector
    rotation: Vector
    scale: Vector
    normalize: bool = True

    def turn(self) -> Float64Array:
        """(3, 3) the rotation."""
        matrix = np.eye(3)
        for axis, angle in enumerate(self.rotation):
            matrix = rotation(axis, angle) @ matrix
        return matrix


def rotation(axis: int, degrees: float) -> Float64Array:
    """(3, 3) the rotation about a coordinate axis, with the roundings of the original program."""
    angle = math.radians(degrees)
    cosine, sine = np.cos(angle), np.sin(angle)
    following, last = (axis + 1) % 3, (axis + 2) % 3
    matrix = np.diag([cosine, cosine, cosine])
    # Not always 1.
    matrix[axis, axis] = cosine + (1 - cosine)
    matrix[following, last], matrix[last, following] = -sine, sine
    return matrix


def path_inside(text: str, key: str, folder: Path, kinds: tuple[str, ...], what: str) -> Path:
    """The checked path of a file that a scene names, which must be inside the folder of the scene.

    Args:
        key: of the path in the scene, for messages.
        kinds: allowed suffixes in lower case.
        what: the kind of file in words, such as "mesh".

    Raises:
        InputError: a URL, an absolute path, one that leaves the folder or does not exist, or another suffix.
    """
    key = f"{key} is {shown(text)}"
    if re.match(r"[a-zA-Z][a-zA-Z0-9+.-]+:", text):
        raise InputError("", f"{key}, a URL", f"copy the {what} beside the scene and give its relative path")
    relative = Path(text)
    if relative.is_absolute() or re.match(r"[a-zA-Z]:|\\", text):
        raise InputError("", f"{key}, an absolute path", "give it relative to the scene file")
    try:
        resolved = (folder / relative).resolve()
        inside = resolved.is_relative_to(folder)
        exists = inside and resolved.exists()
    # A cycle of links, a null byte, or a name that the system cannot hold.
    except (OSError, RuntimeError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)[:80]
        raise InputError("", f"{key}, which cannot be followed ({reason})", "check the path") from None
    if not inside:
        raise InputError("", f"{key}, outside the folder of the scene", f"copy the {what} into it")
    if not exists:
        raise InputError("", f"{key}, which does not exist", "check the path")
    if resolved.suffix.lower() not in kinds:
        raise InputError("", key, f"expected a {what} file ({', '.join(kinds)})")
    return folder / relative


def slug(name: str) -> str:
    """A name as a part of a file name."""
    return re.sub(r"[^A-Za-z0-9_.-]+", "_", name)[:60]


def check_folder(folder: Path, overwrite: bool) -> None:
    """Raise InputError if the folder cannot be written, or exists and was not written by this program."""
    if not folder.parent.is_dir():
        raise InputError(folder, f"cannot write, the folder {folder.parent} does not exist", "create it first")
    if folder.is_symlink() or folder.exists():
        only_ours = folder.is_dir() and all(_WRITTEN.fullmatch(item.name) for item in folder.iterdir())
        if not only_ours or folder.is_symlink():
            raise InputError(folder, "holds other files than saved meshes", "move it away or use another name")
        if not overwrite:
            raise InputError(folder, "exists", "allow overwriting or give another name")


def short(value: float) -> float:
    """The shortest decimal number with the same float32 value."""
    return float(str(np.float32(value)))


def short_colour(colour: RGB) -> RGB:
    """Each channel as `short`."""
    return short(colour[0]), short(colour[1]), short(colour[2])
