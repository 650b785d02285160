"""Decimation of indexed triangles by quadric edge collapse (fast-simplification).

Extra triangles that stand on open borders and on borders between materials make it costly to move these borders.

Shapes: V vertices, F triangles before, V' and F' after.
"""

from __future__ import annotations

import numpy as np

from renderformer.data.arrays import AnyArray, Float64Array, Int64Array
from renderformer.data.geometry.triangles import face_normals, half_edges

# The library collapses edges of a cost below a threshold, which grows as (round + 3) to this power. A small power is
# more accurate but may stop above the budget (spec training.md: retry at 6, then 9; the default is 7).
AGGRESSIVENESS = (5.0, 6.0, 9.0)
# The threshold is absolute. At this radius of the mesh the first rounds collapse only edges within a plane.
WORKING_RADIUS = 100.0
# The quadrics of a plane have no unique minimum, so rounding errors can move vertices far along it. A random shift of
# every vertex by up to this share of the radius prevents that: a bunny with each face cut into sixteen (91k triangles),
# reduced to 300, has a mean error of 0.0043 of its size instead of 0.0215, and only with the shift stays watertight.
JITTER = 1e-5

# (V', 3) positions, (F', 3) faces, (F',) original triangle of each face, (V,) new vertex of each original vertex or -1.
Decimated = tuple[Float64Array, Int64Array, Int64Array, Int64Array]


def decimate_closed(vertices: Float64Array, faces: Int64Array, budget: int) -> tuple[Float64Array, Int64Array]:
    """Reduce a closed surface of one material to at most `budget` faces, or as few as the library reaches.

    Args:
        vertices: (V, 3), about unit-sized.
        faces: (F, 3).
        budget: number of faces.
    """
    if len(faces) <= budget:
        return vertices, faces
    for aggressiveness in AGGRESSIVENESS:
        points, triangles, _ = _collapse_edges(vertices, faces, budget, aggressiveness)
        if len(triangles) <= budget:
            break
    return np.asarray(points, np.float64), np.asarray(triangles, np.int64)


def decimate(points: Float64Array, faces: Int64Array, label: Int64Array, budget: int) -> Decimated:
    """Reduce any surface to at most `budget` triangles; borders between labels keep their shape.

    Args:
        points: (V, 3), any units.
        faces: (F, 3).
        label: (F,) material of each triangle.
        budget: number of triangles; exceeded only where no clustering of vertices meets it.
    """
    lowest, highest = points.min(axis=0), points.max(axis=0)
    centre = (lowest + highest) / 2
    scale = WORKING_RADIUS / max(float(np.linalg.norm(highest - lowest)) / 2, 1e-30)
    working = (points - centre) * scale
    working += np.random.default_rng(0).uniform(-JITTER, JITTER, working.shape) * WORKING_RADIUS
    cluster = np.arange(len(points))
    source = np.arange(len(faces))
    for aggressiveness in AGGRESSIVENESS[1:]:
        step = _collapse(working, faces, label[source], budget, aggressiveness)
        # A result far below the budget has lost whole parts, which were folded flat.
        if 2 * len(step[1]) < budget:
            break
        working, faces, rows, vertex_map = step
        source, cluster = source[rows], np.where(cluster < 0, -1, vertex_map[cluster])
        if len(faces) <= budget:
            break
    if len(faces) > budget:
        working, faces, rows, vertex_map = _merge_cells(working, faces, budget)
        source, cluster = source[rows], np.where(cluster < 0, -1, vertex_map[cluster])
    return working / scale + centre, faces, source, cluster


def _fins(points: Float64Array, faces: Int64Array, label: Int64Array) -> tuple[Float64Array, Int64Array]:
    """The mesh with a fin, an upright triangle, on each open border edge and each edge between materials.

    The library adds the plane of every triangle to the quadrics of its corners, so a fin puts a cost on moving its edge
    sideways. A fin's top collapses into its edge at no cost in the first round. `_collapse` drops the fins.
    """
    first, second, unpaired = half_edges(faces)
    differ = label[first // 3] != label[second // 3]
    half = np.concatenate([unpaired, first[differ], second[differ]])
    start, end = faces.ravel()[half], np.roll(faces, -1, axis=1).ravel()[half]
    upright = face_normals(points[faces[half // 3]])
    edge = points[end] - points[start]
    top = points[start] + edge / 2 + upright * np.linalg.norm(edge, axis=1, keepdims=True)
    fins = np.stack([end, start, len(points) + np.arange(len(half))], axis=1)
    return np.concatenate([points, top]), np.concatenate([faces, fins])


def _collapse_edges(
    points: AnyArray, faces: Int64Array, budget: int, aggressiveness: float
) -> tuple[AnyArray, AnyArray, AnyArray]:
    """Run the library; returns points, faces, and (K, 2) the vertex that stays and the one removed in each collapse."""
    import fast_simplification

    new_points, new_faces, collapses = fast_simplification.simplify(
        points, faces.astype(np.int32), target_count=budget, agg=aggressiveness, return_collapses=True
    )
    return new_points, new_faces, np.asarray(collapses).reshape(-1, 2)


def _collapse(
    points: Float64Array, faces: Int64Array, label: Int64Array, budget: int, aggressiveness: float
) -> Decimated:
    """Run the library on the mesh with fins."""
    finned_points, finned = _fins(points, faces, label)
    new_points, new_faces, collapses = _collapse_edges(finned_points, finned, budget, aggressiveness)
    # The library returns no vertex map; its collapses give one. It keeps the order of the remaining vertices and faces.
    root = np.arange(len(finned_points))
    for target, removed in collapses[::-1].tolist():
        root[removed] = root[target]
    mapped = root[finned]
    alive = (mapped != np.roll(mapped, 1, axis=1)).all(axis=1)
    used = np.zeros(len(finned_points), bool)
    used[mapped[alive]] = True
    number = np.cumsum(used) - 1
    assert int(alive.sum()) == len(new_faces), "the library's collapses do not explain its triangles"
    source = np.flatnonzero(alive[: len(faces)])
    faces = number[mapped[source]]
    rows = _without_folds(faces)
    root = root[: len(points)]
    vertex_map = np.where(used[root], number[root], -1)
    return np.asarray(new_points, np.float64), faces[rows], source[rows], vertex_map


def _without_folds(faces: Int64Array) -> Int64Array:
    """Sorted indices of the faces (F, 3) that remain when, among faces with the same three corners, pairs of opposite
    orientation cancel out and copies are dropped."""
    _, group = np.unique(np.sort(faces, axis=1), axis=0, return_inverse=True)
    group = group.ravel()
    # Two faces with the same corners have the same orientation if the corners after their lowest have the same order.
    lowest = faces.argmin(axis=1)
    second, third = np.take_along_axis(faces, (lowest[:, None] + [1, 2]) % 3, 1).T
    sign = np.where(second > third, -1, 1)
    balance = np.bincount(group, sign)[group]
    # The first face of each group that has the sign of the balance.
    candidates = np.flatnonzero(np.sign(balance) == sign)
    return np.sort(candidates[np.unique(group[candidates], return_index=True)[1]])


def _merge_cells(points: Float64Array, faces: Int64Array, budget: int) -> Decimated:
    """Merge the vertices of each cell of the finest grid that meets the budget.

    Only this reduces a mesh of many small parts, which edge collapse cannot join. Returns the input where no grid does.
    """
    lowest, extent = points.min(axis=0), float(np.ptp(points, axis=0).max())
    fine, coarse = 0.0, extent
    best: Decimated | None = None
    for _ in range(12):
        size = (fine + coarse) / 2
        cell = np.floor((points - lowest) / size).astype(np.int64)
        cluster = np.unique(cell, axis=0, return_inverse=True)[1].ravel()
        merged = cluster[faces]
        alive = np.flatnonzero((merged != np.roll(merged, 1, axis=1)).all(axis=1))
        alive = alive[_without_folds(merged[alive])]
        if not 0 < len(alive) <= budget:
            fine, coarse = (size, coarse) if len(alive) else (fine, size)
            continue
        coarse = size
        centres = np.stack([np.bincount(cluster, points[:, axis]) for axis in range(3)], axis=1)
        best = centres / np.bincount(cluster)[:, None], merged[alive], alive, cluster
    return best or (points, faces, np.arange(len(faces)), np.arange(len(points)))
