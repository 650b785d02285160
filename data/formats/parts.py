"""The input and output types of mesh format readers.

Legend: V vertices, F triangles of one object.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from renderformer.data.arrays import Float32Array, Float64Array, Int64Array
from renderformer.data.camera import Camera
from renderformer.data.environment import Environment
from renderformer.data.errors import InputError, one_line
from renderformer.data.formats.table import Format
from renderformer.data.material import Material
from renderformer.data.notes import reworded
from renderformer.data.scene import MAX_COORDINATE

MAX_TRIANGLES = 20_000_000


class Notes:
    """Changes and omissions during reading.

    Attributes:
        lines: one sentence per event, of the kinds of `renderformer.data.notes`; repeated ones are reported once.
        counts: number of events by description, which is of such a kind too.
    """

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.counts: Counter[str] = Counter()

    def report(self, path: Path) -> tuple[str, ...]:
        """One line per sentence and per count, each with the name of the file."""
        counted = [reworded(event, f"{count} {event}") for event, count in self.counts.items() if count]
        lines = [*dict.fromkeys(self.lines), *counted]
        return tuple(reworded(line, one_line(f"{path.name}: {line}")) for line in lines)


@dataclass
class MeshFile:
    """A mesh file to be read.

    Attributes:
        path: of the file; files that it refers to are in the same folder.
        data: content of the file.
        format: the format that the suffix names.
        bare: whether only vertices and faces are needed, in the axes of the file and in trimesh's order of objects.
        material: replaces those of the file, which then need not be read; or None.
        time, animation: pose at a time in seconds of an animation by name or index, the first one if empty; None for
            the pose of the file.
        notes: changed by the reader.
        cameras: of the file, added by the reader, in the frame of its parts.
        environment: of the file, set by the reader, in the frame of its parts; or None.
    """

    path: Path
    data: bytes
    format: Format
    bare: bool = False
    material: Material | None = None
    time: float | None = None
    animation: str = ""
    notes: Notes = field(default_factory=Notes)
    cameras: list[Camera] = field(default_factory=list)
    environment: Environment | None = None


@dataclass
class Part:
    """One object of a mesh file.

    Attributes:
        name: not always unique.
        vertices: (V, 3) in the units and axes of the file; readers of formats that state their vertical axis turn it
            to Z, unless `MeshFile.bare`.
        faces: (F, 3) indices into the vertices, counter-clockwise seen from outside.
        normals: (V, 3) of any length, or None.
        uv: (V, K, 2) texture coordinates with the origin at the upper left, K sets; or None.
        colors: linear RGB or RGBA that multiplies the material, (V, 3 or 4) or (F, 3 or 4), or None.
        material: of all faces; None if the file gives none.
        rows: (F, 13) material rows instead of material and colors, or None.
        two_sided: whether its light shines from both sides; None if the file does not say.
        tangents: (V, 4) for normal maps, see `Appearance.tangents`, or None.
    """

    name: str
    vertices: Float64Array
    faces: Int64Array
    normals: Float64Array | None = None
    uv: Float64Array | None = None
    colors: Float64Array | None = None
    material: Material | None = None
    rows: Float32Array | None = None
    two_sided: bool | None = None
    tangents: Float64Array | None = None

    def check(self) -> None:
        """Check indices and coordinates.

        Raises:
            InputError: an index out of range, or a coordinate that is not finite or beyond 1e9.
        """
        place, count = f"object {self.name!r}", len(self.vertices)
        outside = self.faces[(self.faces < 0) | (self.faces >= count)]
        if len(outside):
            problem = f"a face refers to vertex {outside[0]}, but there are {count}"
            raise InputError(place, problem, "export it again")
        bad = int((~np.isfinite(self.vertices).all(axis=1)).sum())
        if bad:
            raise InputError(place, f"{bad} vertices are NaN or infinite", "repair the mesh")
        largest = float(np.abs(self.vertices).max(initial=0))
        if largest > MAX_COORDINATE:
            raise InputError(place, f"the largest coordinate is {largest:.3g}, more than 1e9", "scale it down")


def limited(parts: Iterable[Part]) -> list[Part]:
    """The parts with faces; the sum is limited because the nodes of a small file can repeat an object very often.

    Raises:
        InputError: too many triangles or vertices in all.
    """
    chosen, total = [], 0
    for part in parts:
        # Vertices count too because an object with few faces may have many.
        total += len(part.faces) + len(part.vertices)
        if total > 2 * MAX_TRIANGLES:
            raise InputError("", f"places more than {MAX_TRIANGLES} triangles", "simplify it")
        if len(part.faces):
            chosen.append(part)
    return chosen
