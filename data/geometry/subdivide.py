"""Subdivision of large triangles in meshes and scenes."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from renderformer.data.arrays import BoolArray, Float64Array, Int64Array
from renderformer.data.errors import InputError
from renderformer.data.geometry.patches import cut_patches
from renderformer.data.geometry.simplify import DEFAULT_BUDGET, is_light
from renderformer.data.geometry.triangles import areas
from renderformer.data.notes import Routine
from renderformer.data.scene import Mesh, Scene
from renderformer.data.trained_range import TrainedRange
from renderformer.data.unit_size import UnitSize

AUTO_EDGE = 0.25
MAX_SUBDIVIDED = 1_000_000


def subdivide(mesh: Mesh, max_edge: float) -> tuple[Mesh, str]:
    """Cut triangles until no edge is longer than `max_edge` (scene units).

    Neighbours cut their common edge at the same point, so no cracks open. Positions, normals and texture patches are
    interpolated.

    Returns:
        The mesh and a line for `Scene.notes`; the same mesh and "" when no edge is too long.

    Raises:
        InputError: max_edge is not positive, or would make more than a million triangles.
    """
    if not max_edge > 0:
        raise InputError(
            f"object {mesh.name!r}", f"max_edge is {max_edge}", "expected a positive length in scene units"
        )
    too_many = InputError(
        f"object {mesh.name!r}",
        f"max_edge {max_edge:g} makes more than {MAX_SUBDIVIDED:,} triangles",
        "give a larger max_edge",
    )
    if areas(mesh.triangles).sum() > MAX_SUBDIVIDED * max_edge**2:
        raise too_many
    fine = cut(mesh, lambda points: np.full(points.shape[:-1], max_edge), too_many)
    if fine is mesh:
        return mesh, ""
    note = (
        f"object {mesh.name!r}: {len(mesh):,} triangles subdivided to {len(fine):,}, no edge longer than {max_edge:g}"
    )
    dropped = 0 if mesh.patch_index is None or fine.patches is not None else int((mesh.patch_index >= 0).sum())
    if dropped:
        note += f"; {dropped:,} texture patches replaced by their mean colour, the pieces would need too much memory"
    return fine, note if dropped else Routine(note)


def cut(mesh: Mesh, longest: Callable[[Float64Array], Float64Array], too_many: InputError | None = None) -> Mesh:
    """Cut triangles until no edge is longer than `longest` allows.

    Args:
        longest: gives the longest edge allowed (...) with its middle at points (..., 3).
        too_many: raised above a million triangles; None keeps what is cut until then.

    Returns:
        The mesh; the same one when no edge is too long.
    """
    # (M, 3, 6): position of each corner and its weights in the original triangle. Both neighbours of an edge halve it
    # from the same numbers, so their points are equal to the bit.
    weights = np.broadcast_to(np.eye(3), mesh.triangles.shape)
    pieces, source = np.concatenate([mesh.triangles.astype(np.float64), weights], axis=2), np.arange(len(mesh))
    while True:
        start, end = pieces[..., :3], np.roll(pieces[..., :3], -1, axis=1)
        long = np.linalg.norm(end - start, axis=2) > longest((start + end) / 2)
        if not long.any():
            break
        finer, sources = _split(pieces, source, long)
        if len(finer) > MAX_SUBDIVIDED:
            if too_many is None:
                break
            raise too_many
        pieces, source = finer, sources
    if len(pieces) == len(mesh):
        return mesh
    normals = pieces[..., 3:] @ mesh.normals[source].astype(np.float64)
    length = np.linalg.norm(normals, axis=-1, keepdims=True)
    normals = np.divide(normals, length, out=np.zeros_like(normals), where=length > 0)
    materials, patches, index, _ = cut_patches(mesh, pieces[..., 3:], source)
    appearance = None if mesh.appearance is None else mesh.appearance.cut(source, pieces[..., 3:])
    triangles, sides = pieces[..., :3].astype(np.float32), mesh.sides(source)
    return Mesh(mesh.name, triangles, normals, materials, patches, index, appearance, sides, mesh.camera_sides)


def _split(pieces: Float64Array, source: Int64Array, long: BoolArray) -> tuple[Float64Array, Int64Array]:
    """Halve the edges marked in `long` (edge k runs from corner k to k + 1); pieces stay in the order of `source`."""
    count = long.sum(axis=1)
    # Turn each piece so that one long edge is edge 0, and of two long edges the second is edge 1.
    turn = np.where(count == 2, long.argmin(axis=1) + 1, long.argmax(axis=1))
    turned = (turn[:, None] + np.arange(3)) % 3
    v = np.take_along_axis(pieces, turned[..., None], axis=1)
    points = np.concatenate([v, (v + np.roll(v, -1, axis=1)) / 2], axis=1)
    # Corners 0 … 2, middles of the edges 3 … 5.
    templates = {
        0: [[0, 1, 2]],
        1: [[0, 3, 2], [3, 1, 2]],
        2: [[3, 1, 4], [0, 3, 4], [0, 4, 2]],
        3: [[0, 3, 5], [3, 1, 4], [5, 4, 2], [3, 4, 5]],
    }
    cut, parents = [], []
    for number, template in templates.items():
        rows = np.flatnonzero(count == number)
        # Uncut pieces keep their first corner.
        corners = points[rows] if number else pieces[rows]
        cut.append(corners[:, np.array(template)].reshape(-1, *pieces.shape[1:]))
        parents.append(np.repeat(rows, len(template)))
    parent = np.concatenate(parents)
    order = np.argsort(parent, kind="stable")
    return np.concatenate(cut)[order], source[parent[order]]


def subdivide_scene(scene: Scene, max_edge: float | str = "auto", budget: int = DEFAULT_BUDGET) -> Scene:
    """Cut the large triangles of a scene, except its lights; see `subdivide`.

    Args:
        scene: the scene.
        max_edge: longest edge in scene units, or "auto": 0.25 in a scene of unit size, and more where the budget
            requires it.
        budget: largest number of triangles afterwards.

    Returns:
        The scene with a note for each object that changed.

    Raises:
        InputError: max_edge is neither a positive number nor "auto", or it needs more triangles than the budget.
    """
    automatic = max_edge == "auto"
    try:
        length = AUTO_EDGE / UnitSize.of(scene, TrainedRange().box).scale if automatic else float(max_edge)
    except (TypeError, ValueError):
        raise InputError(
            "subdivide", f"max_edge is {max_edge!r}", "expected a length in scene units or 'auto'"
        ) from None
    while True:
        results = [(mesh, "") if is_light(mesh) else subdivide(mesh, length) for mesh in scene.objects]
        total = sum(len(mesh) for mesh, _ in results)
        if total <= budget or not any(note for _, note in results):
            break
        if not automatic:
            raise InputError(
                f"scene {scene.name!r}",
                f"max_edge {length:g} needs {total:,} triangles, the budget is {budget:,}",
                "give a larger max_edge, or 'auto'",
            )
        length *= 1.25
    notes = [note for _, note in results if note]
    return scene.replace(objects=tuple(mesh for mesh, _ in results), notes=(*scene.notes, *notes)) if notes else scene


def quarter(vertices: Float64Array, faces: Int64Array) -> tuple[Float64Array, Int64Array]:
    """Cut each face (F, 3) into four at the middles of its edges.

    `trimesh.remesh.subdivide` orders the corners in another way, which changes the last bits of normals; the scene of
    a seed must stay the same to the bit.
    """
    edges = np.sort(faces[:, [[0, 1], [1, 2], [2, 0]]], axis=-1).reshape(-1, 2)
    unique, index = np.unique(edges, axis=0, return_inverse=True)
    ab, bc, ca = index.reshape(-1, 3).T + len(vertices)
    a, b, c = faces.T
    quarters = [[a, ab, ca], [b, bc, ab], [c, ca, bc], [ab, bc, ca]]
    cut = np.concatenate([np.stack(corners, axis=1) for corners in quarters])
    return np.concatenate([vertices, vertices[unique].mean(axis=1)]), cut
