"""Scenes from the objects of mesh files: checked, centred, cleaned, with unique names.

Legend: V vertices, F triangles of one object.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import fields, replace

import numpy as np

from renderformer.data.appearance import MAX_UV, Appearance
from renderformer.data.arrays import BoolArray, Float32Array, Float64Array, Int32Array, Int64Array
from renderformer.data.errors import InputError
from renderformer.data.formats.joining import MAX_OBJECTS, joined
from renderformer.data.formats.parts import MeshFile, Notes, Part
from renderformer.data.geometry.light_sides import with_sides
from renderformer.data.geometry.triangles import bounds, cross, in_blocks, products, smooth_normals, unique_rows
from renderformer.data.material import Material
from renderformer.data.notes import Routine
from renderformer.data.scene import Mesh, Scene

NO_AREA = Routine("zero-area triangles dropped")
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
        dropped = file.notes.counts[NO_AREA]
        raise InputError("", f"has no triangles with an area ({dropped} were dropped)", "export it again")
    said = {part.name: bool(part.material and part.material.two_sided) or part.two_sided for part in parts}
    objects = with_sides(objects, said)
    shift = np.eye(4)
    shift[:3, 3] = -centre
    cameras = tuple(camera.transformed(shift) for camera in file.cameras) if centre.any() else tuple(file.cameras)
    return Scene(tuple(objects), cameras, file.path.stem, file.notes.report(file.path), file.environment)


def _far_centre(parts: list[Part], notes: Notes) -> Float64Array:
    """(3,) the centre of all parts if they are too far from the origin for float32, else zeros."""
    low, high = bounds(np.concatenate([bounds(_used(part)) for part in parts]))
    centre: Float64Array = (low + high) / 2
    if np.abs(centre).max() <= _FAR * (high - low).max():
        return np.zeros(3)
    shift = ", ".join(f"{value:.6g}" for value in -centre)
    notes.lines.append(Routine(f"moved to the origin by ({shift}), because float32 loses detail far away from it"))
    return centre


def _used(part: Part) -> Float64Array:
    """(U, 3) the vertices that faces refer to."""
    used = np.zeros(len(part.vertices), bool)
    used[part.faces] = True
    return part.vertices if used.all() else part.vertices[used]


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
    valid = np.flatnonzero(_nonzero_area(points.take(part.faces, axis=0), notes))
    if not len(valid):
        return None
    corners = unique_rows(points)[1].take(part.faces.take(valid, axis=0))
    first = _first_unique(corners)
    notes.counts[Routine("duplicate triangles dropped")] += len(corners) - len(first)
    chosen, corners = valid.take(first), corners.take(first, axis=0)
    faces = part.faces.take(chosen, axis=0)
    triangles = points.take(faces, axis=0)
    normals = _file_normals(part, faces, triangles, notes)
    if normals is None:
        normals = smooth_normals(triangles, corners=corners)
    if part.rows is not None:
        return Mesh(part.name, triangles, normals, part.rows[chosen])
    material = part.material or (Material() if part.colors is None else Material((1.0, 1.0, 1.0)))
    material = _drawable(material, 0 if part.uv is None else part.uv.shape[1], notes)
    colors = _corner_colors(part, chosen)
    if material.plain and (colors is None or _uniform(colors)):
        base = 1.0 if colors is None else colors[..., :3].mean(axis=1)
        return Mesh(part.name, triangles, normals, material.rows(base=base, count=len(faces)))
    uv, index = _corner_uv(part, faces, notes)
    rgba, tangents = None if colors is None else colors.astype(np.float32), _corner_tangents(part, material, faces)
    appearance = Appearance((material,), index, uv, rgba, tangents)
    rows = appearance.mean_rows(material.rows(count=len(faces)))
    return Mesh(part.name, triangles, normals, rows, appearance=appearance)


def _drawable(material: Material, sets: int, notes: Notes) -> Material:
    """The material without the textures that use more sets of texture coordinates than there are."""
    textures = material.textures
    missing = [f.name for f in fields(textures) if (texture := getattr(textures, f.name)) and texture.uv_set >= sets]
    notes.counts["textures ignored, the mesh has no texture coordinates for them"] += len(missing)
    return replace(material, textures=replace(textures, **dict.fromkeys(missing))) if missing else material


def _corner_colors(part: Part, chosen: Int64Array) -> Float64Array | None:
    """(M, 3, 3 or 4) linear colours at the corners of the chosen triangles, or None if the part has none."""
    if part.colors is None:
        return None
    if len(part.colors) == len(part.faces) and len(part.colors) != len(part.vertices):
        return np.repeat(part.colors[chosen, None], 3, axis=1)
    corners: Float64Array = part.colors[part.faces[chosen]]
    return corners


def _uniform(colors: Float64Array) -> bool:
    """Whether corner colours (M, 3, C) are opaque and nearly the same over each triangle, for less than an 8-bit
    step."""
    opaque = colors.shape[2] < 4 or bool((colors[..., 3] >= 1).all())
    return opaque and bool((np.ptp(colors, axis=1) <= 1 / 255).all())


def _corner_tangents(part: Part, material: Material, faces: Int64Array) -> Float32Array | None:
    """(M, 3, 4) tangents of the file at the corners of triangles, zero where they cannot be used; None without."""
    if part.tangents is None or material.textures.normal is None:
        return None
    tangents = part.tangents[faces]
    length = np.linalg.norm(tangents[..., :3], axis=-1, keepdims=True)
    usable = np.isfinite(tangents).all(axis=-1, keepdims=True) & (length > 1e-12)
    unit = np.where(usable, tangents, 0.0) / np.where(usable, length, 1.0)
    sign = np.where(usable & (tangents[..., 3:] < 0), -1.0, 1.0)
    return np.concatenate([unit[..., :3], sign], axis=-1).astype(np.float32)


def _corner_uv(part: Part, faces: Int64Array, notes: Notes) -> tuple[Float32Array, Int32Array]:
    """(M, 3, K, 2) texture coordinates of triangles, and (M,) index 0, or -1 where they cannot be used: there the
    factors of the material stay."""
    index = np.zeros(len(faces), np.int32)
    if part.uv is None:
        return np.zeros((len(faces), 3, 0, 2), np.float32), index
    uv = part.uv[faces]
    usable = np.asarray((np.abs(uv) <= MAX_UV).all(axis=(1, 2, 3)))
    notes.counts["triangles with unusable texture coordinates, texture ignored there"] += int((~usable).sum())
    index[~usable] = -1
    return np.where(usable[:, None, None, None], uv, 0).astype(np.float32), index


def _nonzero_area(triangles: Float32Array, notes: Notes) -> BoolArray:
    """(F,) whether a triangle has an area in float32."""
    valid = np.empty(len(triangles), bool)
    for part, (a, b, c) in in_blocks(triangles):
        first, second, third = b - a, c - b, a - c
        double = cross(first, second)
        longest = np.maximum(np.maximum(products(first, first), products(second, second)), products(third, third))
        valid[part] = (longest > 0) & (np.sqrt(products(double, double)) > _FLAT * longest)
    notes.counts[NO_AREA] += int((~valid).sum())
    return valid


def _first_unique(corners: Int64Array) -> Int64Array:
    """Ascending indices of the first of all triangles with the same corners and orientation."""
    a, b, c = corners.T
    least = np.minimum(np.minimum(a, b), c)
    # The corner after the least and the one before it.
    after, before = (
        np.where(a == least, b, np.where(b == least, c, a)),
        np.where(a == least, c, np.where(b == least, a, b)),
    )
    size = int(corners.max(initial=0)) + 1
    if size**3 < 2**63:
        key = (least * size + after) * size + before
        ordered = np.sort(key)
        # Most files have no duplicates, and only to sort is several times as fast as to sort with places.
        if (ordered[1:] != ordered[:-1]).all():
            return np.arange(len(corners))
    return np.sort(unique_rows(np.column_stack([least, after, before]))[0])


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
        notes.counts[Routine("triangles with vertex normals that face away, recomputed")] += count
    return normals.astype(np.float32)
