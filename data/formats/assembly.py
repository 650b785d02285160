"""Scenes from the objects of mesh files: checked, centred, cleaned, with unique names.

Legend: V vertices, F triangles of one object.
"""

from __future__ import annotations

from collections import Counter

import numpy as np
import numpy.typing as npt

from renderformer.data.arrays import BoolArray, Float32Array, Float64Array, Int64Array
from renderformer.data.errors import InputError
from renderformer.data.formats.joining import MAX_OBJECTS, joined
from renderformer.data.formats.materials import NEUTRAL, Surface
from renderformer.data.formats.parts import MeshFile, Notes, Part
from renderformer.data.formats.textures import bake_patches
from renderformer.data.geometry.triangles import smooth_normals, unique_rows
from renderformer.data.scene import Mesh, Scene

# Objects are moved to the origin if their distance to it is more than this many times their size.
_FAR = 16.0
# The smallest ratio of double area to squared longest edge of a triangle that float32 distinguishes from a line.
_FLAT = 1e-6


def assemble(parts: list[Part], file: MeshFile) -> Scene:
    """A scene of at least one part with faces, named after the file.

    Raises:
        InputError: a part is damaged, or no triangle has an area.
    """
    for part in parts:
        part.check()
    centre = _far_centre(parts, file.notes)
    if len(parts) > MAX_OBJECTS:
        parts = joined(parts, file.notes)
    _number_names(parts)
    objects = [mesh for part in parts if (mesh := _mesh(part, centre, file.notes)) is not None]
    if not objects:
        dropped = file.notes.counts["zero-area triangles dropped"]
        raise InputError("", f"has no triangles with an area ({dropped} were dropped)", "export it again")
    return Scene(tuple(objects), name=file.path.stem, notes=file.notes.report(file.path))


def _far_centre(parts: list[Part], notes: Notes) -> Float64Array:
    """(3,) the centre of all parts if they are too far from the origin for float32, else zeros."""
    low = np.min([part.vertices[part.faces].min((0, 1)) for part in parts], axis=0)
    high = np.max([part.vertices[part.faces].max((0, 1)) for part in parts], axis=0)
    centre: Float64Array = (low + high) / 2
    if np.abs(centre).max() <= _FAR * (high - low).max():
        return np.zeros(3)
    shift = ", ".join(f"{value:.6g}" for value in -centre)
    notes.lines.append(f"moved to the origin by ({shift}), because float32 loses detail far away from it")
    return centre


def _number_names(parts: list[Part]) -> None:
    """Append numbers to repeated names."""
    used: Counter[str] = Counter()
    for part in parts:
        while used[part.name]:
            used[part.name] += 1
            part.name = f"{part.name}_{used[part.name]}"
        used[part.name] += 1


def _mesh(part: Part, centre: Float64Array, notes: Notes) -> Mesh | None:
    """The part as a Mesh without zero-area and duplicate triangles; None if nothing is left."""
    points = (part.vertices - centre).astype(np.float32)
    valid = _nonzero_area(points[part.faces], notes)
    if not valid.any():
        return None
    corners = unique_rows(points)[1][part.faces[valid]]
    first = _first_unique(corners)
    notes.counts["duplicate triangles dropped"] += len(corners) - len(first)
    chosen, corners = np.flatnonzero(valid)[first], corners[first]
    faces = part.faces[chosen]
    triangles = points[faces]
    normals = _file_normals(part, faces, triangles, notes)
    if normals is None:
        normals = smooth_normals(triangles, corners=corners)
    colors = _face_colors(part, chosen, notes)
    surface = part.surface
    if part.colors is not None and surface is NEUTRAL:
        surface = Surface((1.0, 1.0, 1.0), roughness=NEUTRAL.roughness)
    if part.textures is None or part.uv is None:
        materials = surface.rows(base=colors, count=len(faces)) if part.rows is None else part.rows[chosen]
        return Mesh(part.name, triangles, normals, materials)
    materials, patches, index = bake_patches(surface, part.textures, part.uv[faces], colors, notes.counts)
    return Mesh(part.name, triangles, normals, materials, patches, index)


def _face_colors(part: Part, chosen: Int64Array, notes: Notes) -> npt.ArrayLike:
    """(M, 3) linear RGB of the chosen triangles, or 1 if the part has no colours."""
    if part.colors is None:
        return 1.0
    if len(part.colors) == len(part.faces) and len(part.colors) != len(part.vertices):
        return part.colors[chosen]
    colors = part.colors[part.faces[chosen]]
    spread = np.ptp(colors, axis=1).max(axis=1)
    notes.counts["triangles whose vertex colours differ, averaged"] += int((spread > 1 / 255).sum())
    return np.asarray(colors.mean(axis=1))


def _nonzero_area(triangles: Float32Array, notes: Notes) -> BoolArray:
    """(F,) whether a triangle has an area in float32."""
    edges = np.roll(triangles, -1, axis=1).astype(np.float64) - triangles
    area = np.linalg.norm(np.cross(edges[:, 0], edges[:, 1]), axis=-1)
    longest = (edges**2).sum(-1).max(axis=1)
    valid: BoolArray = (longest > 0) & (area > _FLAT * longest)
    notes.counts["zero-area triangles dropped"] += int((~valid).sum())
    return valid


def _first_unique(corners: Int64Array) -> Int64Array:
    """Ascending indices of the first of all triangles with the same corners and orientation."""
    start = corners.argmin(axis=1)[:, None]
    rolled = np.take_along_axis(corners, (start + np.arange(3)) % 3, axis=1)
    return np.sort(unique_rows(rolled)[0])


def _file_normals(part: Part, faces: Int64Array, triangles: Float32Array, notes: Notes) -> Float32Array | None:
    """(F, 3, 3) unit normals of the file, or None if it has none or too many face inward."""
    if part.normals is None:
        return None
    normals = part.normals[faces]
    if not np.isfinite(normals).all():
        raise InputError(f"object {part.name!r}", "vertex normals are NaN or infinite", "repair the mesh")
    length = np.linalg.norm(normals, axis=-1, keepdims=True)
    normals = np.divide(normals, length, out=np.zeros_like(normals), where=length > 1e-12)
    outward = np.cross(triangles[:, 1] - triangles[:, 0], triangles[:, 2] - triangles[:, 0])
    wrong = ((normals * outward[:, None]).sum(-1) <= 0).any(axis=1)
    count = int(wrong.sum())
    if wrong.mean() > 0.05:
        reason = f"{count} of {len(wrong)} triangles face away from them"
        notes.lines.append(f"object {part.name!r}: vertex normals ignored and recomputed, {reason}")
        return None
    if count:
        normals[wrong] = smooth_normals(triangles)[wrong]
        notes.counts["triangles with vertex normals that face away, recomputed"] += count
    return normals.astype(np.float32)
