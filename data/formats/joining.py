"""Joining of many small objects of a mesh file, each of which would cost the time of a large one.

Legend: V vertices, F triangles of one object.
"""

from __future__ import annotations

from collections.abc import Hashable

import numpy as np

from renderformer.data.arrays import AnyArray
from renderformer.data.errors import InputError
from renderformer.data.formats.parts import Notes, Part

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
    notes.lines.append(f"{len(parts)} objects joined to {len(groups)} because there are more than {MAX_OBJECTS}")
    return [_join(group) for group in groups.values()]


def _kind(part: Part) -> Hashable:
    """Equal for parts that can be joined."""
    arrays = (part.normals is None, part.uv is None, _layout(part))
    if part.textures is None and part.colors is None:
        return *arrays, max(part.surface.emission) > 0
    return *arrays, part.surface, id(part.textures)


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
    if first.textures is None and first.colors is None:
        row = {surface: surface.rows() for surface in {part.surface for part in group}}
        rows = np.concatenate([np.repeat(row[part.surface], len(part.faces), axis=0) for part in group])
    return Part(
        f"{first.name} and {len(group) - 1} more",
        np.concatenate([part.vertices for part in group]),
        np.concatenate([part.faces + offset for part, offset in zip(group, offsets, strict=True)]),
        _concatenated([part.normals for part in group]),
        _concatenated([part.uv for part in group]),
        _concatenated([part.colors for part in group]),
        first.surface,
        first.textures,
        rows,
    )


def _concatenated(arrays: list[AnyArray | None]) -> AnyArray | None:
    chosen = [array for array in arrays if array is not None]
    return np.concatenate(chosen) if chosen else None
