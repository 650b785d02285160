"""Fewer triangles where a mesh or a scene has more than the budget.

Shapes: N triangles, V distinct corner positions, F triangles after decimation. Units: those of the scene.
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
# No object is asked to become coarser than an octahedron.
MIN_TRIANGLES = 8
# A light of the trained kind is one triangle; emitting objects up to this size are lights, not glowing models.
LIGHT_TRIANGLES = 64
# Where more of the edges than this lie between materials, the colours are a texture, and no line of them is held.
BORDER_SHARE = 0.25
# A corner takes the original normals that are within 60 degrees of its face.
NORMAL_COSINE = 0.5
MAX_NORMALS = 64


def simplify(mesh: Mesh, budget: int) -> tuple[Mesh, str]:
    """Reduce one mesh to at most `budget` triangles (few more where it falls into many parts, the note says so).

    Corners at exactly equal positions are one vertex. A triangle keeps the material of the original triangle that it
    came from; where materials vary like a texture, the mean over the area that it stands for. Flat triangles stay flat,
    smooth ones take the mean of the original normals around each corner. Texture patches become their mean colour.

    Returns:
        The mesh, and a line for `Scene.notes`; the same mesh and "" when it is within the budget.

    Raises:
        InputError: the budget is not positive.
    """
    if budget < 1:
        raise InputError(f"object {mesh.name!r}", f"triangle budget is {budget}", "expected a positive number")
    if len(mesh) <= budget:
        return mesh, ""
    points, corners = weld(mesh.triangles)
    solid = np.flatnonzero((corners != np.roll(corners, 1, axis=1)).all(axis=1))
    label, textured = _material_labels(mesh.materials, corners, solid)
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
    normals = _carried_normals(mesh, corners, cluster, faces, source, triangles)
    note = f"object {mesh.name!r}: {len(mesh):,} triangles simplified to {len(faces):,}"
    if len(faces) > budget:
        note += f" (more than the {budget:,} asked for: it consists of many separate parts)"
    if mesh.patch_index is not None:
        note += f"; {int((mesh.patch_index >= 0).sum()):,} texture patches replaced by their mean colour"
    return Mesh(mesh.name, triangles, normals, materials), note


def _material_labels(materials: Float32Array, corners: Int64Array, solid: Int64Array) -> tuple[Int64Array, bool]:
    """(N,) group of each triangle, and whether the materials vary like a texture.

    The groups differ in material where there are few borders between them, else only in emission.
    """
    _, label = np.unique(materials, axis=0, return_inverse=True)
    label = label.ravel()
    if label.max() == 0:
        return label, False
    one, two, _ = half_edges(corners[solid])
    if (label[solid[one // 3]] != label[solid[two // 3]]).sum() <= BORDER_SHARE * len(one):
        return label, False
    return np.unique(materials[:, EMISSION], axis=0, return_inverse=True)[1].ravel(), True


def _mean_materials(
    mesh: Mesh, corners: Int64Array, cluster: Int64Array, faces: Int64Array, source: Int64Array
) -> Float32Array:
    """(F, 13) rows, the mean over the original triangles around the three corners, weighted by area; triangles of
    another emission do not count."""
    _, glow = np.unique(mesh.materials[:, EMISSION], axis=0, return_inverse=True)
    glow = glow.ravel()
    owner = cluster[corners].ravel()
    # Each (new vertex, emission) has its own mean.
    key, size = owner * (glow.max() + 1) + np.repeat(glow, 3), (int(faces.max()) + 1) * (glow.max() + 1)
    weight = np.where(owner < 0, 0.0, np.repeat(areas(mesh.triangles), 3))
    key = np.maximum(key, 0)
    rows = np.repeat(mesh.materials, 3, axis=0)
    total = np.stack([np.bincount(key, weight * rows[:, c], size) for c in range(rows.shape[1])], axis=1)
    where = faces * (glow.max() + 1) + glow[source][:, None]
    area = np.bincount(key, weight, size)[where].sum(axis=1)
    mean = total[where].sum(axis=1) / np.where(area > 0, area, 1)[:, None]
    materials = np.where(area[:, None] > 0, mean, mesh.materials[source]).astype(np.float32)
    materials[:, EMISSION] = mesh.materials[source][:, EMISSION]
    return materials


def _carried_normals(
    mesh: Mesh,
    corners: Int64Array,
    cluster: Int64Array,
    faces: Int64Array,
    source: Int64Array,
    triangles: Float32Array,
) -> Float32Array:
    """(F, 3, 3) vertex normals: of the face where the original triangle was flat, else the mean of the original normals
    around the corner that lie within 60 degrees of the face, weighted by area, so that creases stay."""
    flat = flat_normals(triangles)
    rounded = np.abs(mesh.normals - flat_normals(mesh.triangles)).max(axis=(1, 2)) > 1e-3
    if not rounded[source].any():
        return flat
    owner = cluster[corners].ravel()
    order = np.argsort(owner, kind="stable")
    order = order[np.searchsorted(owner[order], 0) :]
    first = np.searchsorted(owner[order], np.arange(faces.max() + 2))
    # One entry for each pair of a new corner and an old corner that went into its vertex.
    rounded_corners = np.flatnonzero(np.repeat(rounded[source], 3))
    vertex = faces.ravel()[rounded_corners]
    # Of a vertex that stands for many, a regular choice is enough; it bounds the memory for meshes of millions.
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
    """Bring a scene within the triangle budget; lights and the objects named in `keep` count but are not touched.

    What is left of the budget is shared in proportion to the size of objects (the root of their area, a quarter of it
    for planes); an object that needs less than its share leaves the rest to the others.

    Returns:
        The same scene when it is within the budget, else one with a note for each object that changed.

    Raises:
        InputError: the budget is not positive, or what is kept alone exceeds it.
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
    shares = _shares([len(mesh) for mesh in free], [_need(mesh) for mesh in free], budget - fixed)
    changed: dict[str, Mesh] = {}
    notes = []
    for mesh, share in zip(free, shares, strict=True):
        changed[mesh.name], note = simplify(mesh, share)
        if note:
            notes.append(f"{note} (budget {budget:,} for the whole scene)")
    objects = tuple(changed.get(mesh.name, mesh) for mesh in scene.objects)
    return scene.replace(objects=objects, notes=(*scene.notes, *notes))


def is_light(mesh: Mesh) -> bool:
    """Whether a mesh is a light, which is never simplified or cut, and not a glowing model."""
    return mesh.emits and len(mesh) <= LIGHT_TRIANGLES


def _need(mesh: Mesh) -> float:
    """Weight of an object in the shares: the root of its area, a quarter of that for a plane, whose triangles show no
    shape."""
    vectors = area_vectors(mesh.triangles)
    area = float(np.linalg.norm(vectors, axis=1).sum())
    flatness = float(np.linalg.norm(vectors.sum(axis=0))) / max(area, 1e-30)
    return area**0.5 * (1 - 0.75 * flatness)


def _shares(counts: list[int], weights: list[float], budget: int) -> list[int]:
    """Triangles for each object: all of its own where they are fewer than its share, at least `MIN_TRIANGLES` where the
    budget allows."""
    least = min(MIN_TRIANGLES, budget // max(len(counts), 1))
    shares = np.minimum(counts, least)
    weight = np.maximum(np.asarray(weights, np.float64), 1e-12)
    unsettled = np.ones(len(counts), bool)
    while unsettled.any():
        rest = budget - shares[~unsettled].sum()
        fair = np.maximum(rest * weight / weight[unsettled].sum(), least)
        # Objects below the floor of the share, or that need less than it, are settled; the others divide what is left.
        settled = unsettled & ((np.asarray(counts) <= fair) | (fair <= least))
        if not settled.any():
            shares[unsettled] = fair[unsettled].astype(int)
            break
        shares[settled] = np.minimum(np.asarray(counts), np.maximum(fair.astype(int), least))[settled]
        unsettled &= ~settled
    return [int(share) for share in shares]
