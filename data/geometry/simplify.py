"""Simplification of meshes and scenes to a triangle budget.

Shapes: N triangles, F triangles after decimation.
"""

from __future__ import annotations

from collections.abc import Collection

import numpy as np

from renderformer.data.arrays import Float32Array, Int64Array
from renderformer.data.errors import InputError
from renderformer.data.geometry.decimation import decimate
from renderformer.data.geometry.triangles import area_vectors, areas, half_edges, weld
from renderformer.data.scene import EMISSION, Mesh, Scene, flat_normals

DEFAULT_BUDGET = 4096
# The smallest share of an object, an octahedron.
MIN_TRIANGLES = 8
# Emitting objects of up to this many triangles count as lights, larger ones as glowing models.
LIGHT_TRIANGLES = 64
# If a larger share of the edges lies between materials, the colours count as a texture, whose borders may move.
BORDER_SHARE = 0.25
# A corner averages the original normals within 60 degrees of its face, at most this many.
NORMAL_COSINE = 0.5
MAX_NORMALS = 64


def simplify(mesh: Mesh, budget: int) -> tuple[Mesh, str]:
    """Reduce a mesh to at most `budget` triangles, or a few more where it consists of many parts.

    Corners at exactly equal positions are one vertex. A triangle keeps the material of its original triangle, or takes
    the mean over its area where materials vary like a texture. Flat triangles stay flat, smooth ones take the mean of
    the original normals around each corner. Texture patches become their mean colour.

    Returns:
        The mesh and a line for `Scene.notes`; the same mesh and "" when it is within the budget.

    Raises:
        InputError: the budget is not positive, or too small for the mesh.
    """
    if budget < 1:
        raise InputError(f"object {mesh.name!r}", f"triangle budget is {budget}", "expected a positive number")
    if len(mesh) <= budget:
        return mesh, ""
    points, corners = weld(mesh.triangles)
    solid = np.flatnonzero((corners != np.roll(corners, 1, axis=1)).all(axis=1))
    label, textured = _material_labels(mesh, corners, solid)
    points, faces, source, cluster = decimate(points, corners[solid], label[solid], budget)
    source = solid[source]
    if not len(faces):
        raise InputError(
            f"object {mesh.name!r}",
            f"cannot be simplified from {len(mesh)} to {budget} triangles",
            "give a larger budget or simplify it in a modelling program",
        )
    materials = mesh.materials[source]
    if textured:
        materials = _mean_materials(mesh, corners, cluster, faces, source)
    triangles = points[faces].astype(np.float32)
    normals = _vertex_normals(mesh, corners, cluster, faces, source, triangles)
    note = f"object {mesh.name!r}: {len(mesh):,} triangles simplified to {len(faces):,}"
    if len(faces) > budget:
        note += f" (more than the {budget:,} asked for: it consists of many separate parts)"
    if mesh.patch_index is not None:
        note += f"; {int((mesh.patch_index >= 0).sum()):,} texture patches replaced by their mean colour"
    if mesh.appearance is not None:
        count = int((mesh.appearance.index >= 0).sum())
        note += f"; textures and vertex colours of {count:,} triangles replaced by their mean"
    sides, seen = mesh.sides(source), mesh.camera_sides
    return Mesh(mesh.name, triangles, normals, materials, two_sided=sides, camera_sides=seen), note


def _material_labels(mesh: Mesh, corners: Int64Array, solid: Int64Array) -> tuple[Int64Array, bool]:
    """(N,) group of each triangle, and whether the materials vary like a texture.

    Triangles of a group share the material, or only the emission and its sides where the materials vary like a texture.
    """
    sides = np.broadcast_to(mesh.two_sided, len(mesh))
    _, label = np.unique(np.column_stack([mesh.materials, sides]), axis=0, return_inverse=True)
    label = label.ravel()
    if label.max() == 0:
        return label, False
    first, second, _ = half_edges(corners[solid])
    if (label[solid[first // 3]] != label[solid[second // 3]]).sum() <= BORDER_SHARE * len(first):
        return label, False
    glow = np.column_stack([mesh.materials[:, EMISSION], sides])
    return np.unique(glow, axis=0, return_inverse=True)[1].ravel(), True


def _mean_materials(
    mesh: Mesh, corners: Int64Array, cluster: Int64Array, faces: Int64Array, source: Int64Array
) -> Float32Array:
    """(F, 13) mean over the original triangles of the same emission around the three corners, weighted by area."""
    _, glow = np.unique(mesh.materials[:, EMISSION], axis=0, return_inverse=True)
    glow = glow.ravel()
    vertex = cluster[corners].ravel()
    # One mean for each pair of a new vertex and an emission.
    key, size = vertex * (glow.max() + 1) + np.repeat(glow, 3), (int(faces.max()) + 1) * (glow.max() + 1)
    weight = np.where(vertex < 0, 0.0, np.repeat(areas(mesh.triangles), 3))
    key = np.maximum(key, 0)
    rows = np.repeat(mesh.materials, 3, axis=0)
    total = np.stack([np.bincount(key, weight * rows[:, c], size) for c in range(rows.shape[1])], axis=1)
    keys = faces * (glow.max() + 1) + glow[source][:, None]
    area = np.bincount(key, weight, size)[keys].sum(axis=1)
    mean = total[keys].sum(axis=1) / np.where(area > 0, area, 1)[:, None]
    materials = np.where(area[:, None] > 0, mean, mesh.materials[source]).astype(np.float32)
    materials[:, EMISSION] = mesh.materials[source][:, EMISSION]
    return materials


def _vertex_normals(
    mesh: Mesh, corners: Int64Array, cluster: Int64Array, faces: Int64Array, source: Int64Array, triangles: Float32Array
) -> Float32Array:
    """(F, 3, 3) face normals where the original triangle was flat, else the mean, weighted by area, of the original
    normals around each corner within 60 degrees of the face, which keeps creases."""
    flat = flat_normals(triangles)
    rounded = np.abs(mesh.normals - flat_normals(mesh.triangles)).max(axis=(1, 2)) > 1e-3
    if not rounded[source].any():
        return flat
    new_vertex = cluster[corners].ravel()
    order = np.argsort(new_vertex, kind="stable")
    order = order[np.searchsorted(new_vertex[order], 0) :]
    first = np.searchsorted(new_vertex[order], np.arange(faces.max() + 2))
    # One entry for each pair of a new corner and an old corner that was merged into its vertex.
    rounded_corners = np.flatnonzero(np.repeat(rounded[source], 3))
    vertex = faces.ravel()[rounded_corners]
    # Evenly spaced old corners suffice for a vertex with many; this bounds the memory for meshes of millions.
    total_count = first[vertex + 1] - first[vertex]
    count = np.minimum(total_count, MAX_NORMALS)
    corner = np.repeat(np.arange(len(rounded_corners)), count)
    step = np.arange(count.sum()) - np.repeat(np.cumsum(count) - count, count)
    old = order[first[vertex][corner] + step * total_count[corner] // count[corner]]
    normals = mesh.normals.reshape(-1, 3)[old]
    face = flat.reshape(-1, 3)[rounded_corners]
    near = (normals * face[corner]).sum(axis=1) > NORMAL_COSINE
    weight = np.where(near, areas(mesh.triangles)[old // 3], 0.0)
    total = np.stack([np.bincount(corner, weight * normals[:, k], len(rounded_corners)) for k in range(3)], axis=1)
    length = np.linalg.norm(total, axis=1, keepdims=True)
    result = flat.reshape(-1, 3).copy()
    result[rounded_corners] = np.divide(total, length, out=face.astype(np.float64), where=length > 0)
    return result.reshape(-1, 3, 3)


def simplify_scene(scene: Scene, budget: int = DEFAULT_BUDGET, keep: Collection[str] = ()) -> Scene:
    """Bring a scene within the triangle budget.

    Lights and the objects named in `keep` count but do not change. The other objects share the remaining budget in
    proportion to their size (the root of their area, a quarter of it for planes). An object with fewer triangles than
    its share stays as it is, and the others get the difference.

    Returns:
        The same scene when it is within the budget, else one with a note for each object that changed.

    Raises:
        InputError: the budget is not positive, or too small for the unchanged objects.
    """
    if budget < 1:
        raise InputError(f"scene {scene.name!r}", f"triangle budget is {budget}", "expected a positive number")
    if len(scene) <= budget:
        return scene
    free = [mesh for mesh in scene.objects if mesh.name not in keep and not is_light(mesh)]
    fixed = len(scene) - sum(len(mesh) for mesh in free)
    if fixed + len(free) > budget:
        raise InputError(
            f"scene {scene.name!r}",
            f"the triangle budget {budget:,} is too small: lights and stage have {fixed:,} triangles and there "
            f"are {len(free):,} other objects",
            "give a larger budget",
        )
    shares = _shares([len(mesh) for mesh in free], [_weight(mesh) for mesh in free], budget - fixed)
    changed: dict[str, Mesh] = {}
    notes = []
    for mesh, share in zip(free, shares, strict=True):
        changed[mesh.name], note = simplify(mesh, share)
        if note:
            notes.append(f"{note} (budget {budget:,} for the whole scene)")
    objects = tuple(changed.get(mesh.name, mesh) for mesh in scene.objects)
    return scene.replace(objects=objects, notes=(*scene.notes, *notes))


def is_light(mesh: Mesh) -> bool:
    """Whether a mesh is a light, which is never simplified or subdivided, and not a glowing model."""
    return mesh.emits and len(mesh) <= LIGHT_TRIANGLES


def _weight(mesh: Mesh) -> float:
    """The root of the mesh's area; a quarter of it for a plane, which needs few triangles to show its shape."""
    vectors = area_vectors(mesh.triangles)
    area = float(np.linalg.norm(vectors, axis=1).sum())
    flatness = float(np.linalg.norm(vectors.sum(axis=0))) / max(area, 1e-30)
    return area**0.5 * (1 - 0.75 * flatness)


def _shares(counts: list[int], weights: list[float], budget: int) -> list[int]:
    """Triangles of each object: at most its count, and at least `MIN_TRIANGLES` where count and budget allow."""
    minimum = min(MIN_TRIANGLES, budget // max(len(counts), 1))
    shares = np.minimum(counts, minimum)
    weight = np.maximum(np.asarray(weights, np.float64), 1e-12)
    unsettled = np.ones(len(counts), bool)
    while unsettled.any():
        remaining = budget - shares[~unsettled].sum()
        fair = np.maximum(remaining * weight / weight[unsettled].sum(), minimum)
        # Settle objects at the minimum and those with fewer triangles than their share; the others share the remainder.
        settled = unsettled & ((np.asarray(counts) <= fair) | (fair <= minimum))
        if not settled.any():
            shares[unsettled] = fair[unsettled].astype(int)
            break
        shares[settled] = np.minimum(np.asarray(counts), np.maximum(fair.astype(int), minimum))[settled]
        unsettled &= ~settled
    return [int(share) for share in shares]
