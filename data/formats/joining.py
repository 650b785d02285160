"""Joining of many small objects of a mesh file, each of which would cost the time of a large one.

Legend: V vertices, F triangles of one object.
"""

from __future__ import annotations

from collections.abc import Hashable

import numpy as np

from renderformer.data.arrays import AnyArray
from renderformer.data.errors import InputError
from renderformer.data.formats.parts import Notes, Part
from renderformer.data.material import Material
from renderformer.data.notes import Routine

# An object takes about 2 ms to load and 20 ms to simplify.
MAX_OBJECTS = 256
# Of textured or coloured objects with different materials.
MAX_MATERIALS = 1024


def joined(parts: list[Part], notes: Notes) -> list[Part]:
    """Fewer parts with the same triangles in about the same order, and a note.

    Parts without textures and vertex colours become one part with a material row per triangle; others are joined if
    they have the same material. Lights are not joined with other objects.

    Raises:
        InputError: more than `MAX_MATERIALS` different textured or coloured materials.
    """
    groups: dict[Hashable, list[Part]] = {}
    for part in parts:
        groups.setdefault(_kind(part), []).append(part)
    if len(groups) > MAX_MATERIALS:
        problem = f"has {len(parts)} objects with {len(groups)} different textured or coloured materials"
        raise InputError("", problem, f"join them to at most {MAX_MATERIALS}")
    line = f"{len(parts)} objects joined to {len(groups)} because there are more than {MAX_OBJECTS}"
    notes.lines.append(Routine(line))
    return [_join(group) for group in groups.values()]


def _kind(part: Part) -> Hashable:
    """Equal for parts that can be joined."""
    # Texture coordinates of plain parts do not count.
    sets = None if part.uv is None or _plain(part) else part.uv.shape[1]
    arrays = (part.normals is None, part.tangents is None, sets, _layout(part), part.two_sided)
    if _plain(part):
        material = part.material or Material()
        return *arrays, max(material.emission) > 0, material.two_sided
    return *arrays, part.material


def _plain(part: Part) -> bool:
    """Whether a material row says all."""
    return part.colors is None and (part.material is None or part.material.plain)


def _layout(part: Part) -> str:
    """Whether colours belong to vertices or faces."""
    if part.colors is None:
        return "none"
    return "faces" if len(part.colors) == len(part.faces) != len(part.vertices) else "vertices"


def _join(group: list[Part]) -> Part:
    first = group[0]
    if len(group) == 1:
        return first
    offsets = np.cumsum([0, *(len(part.vertices) for part in group[:-1])])
    rows = None
    if _plain(first):
        materials = [part.material or Material() for part in group]
        row = {material: material.rows() for material in set(materials)}
        rows = np.concatenate([
            np.repeat(row[material], len(part.faces), axis=0) for part, material in zip(group, materials, strict=True)
        ])  # fmt: skip
    return Part(
        f"{first.name} and {len(group) - 1} more",
        np.concatenate([part.vertices for part in group]),
        np.concatenate([part.faces + offset for part, offset in zip(group, offsets, strict=True)]),
        _concatenated([part.normals for part in group]),
        None if _plain(first) else _concatenated([part.uv for part in group]),
        _concatenated([part.colors for part in group]),
        first.material,
        rows,
        first.two_sided,
        _concatenated([part.tangents for part in group]),
    )


def _concatenated(arrays: list[AnyArray | None]) -> AnyArray | None:
    chosen = [array for array in arrays if array is not None]
    return np.concatenate(chosen) if chosen else None
