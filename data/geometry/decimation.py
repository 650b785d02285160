"""Decimation of indexed triangles by quadric edge collapse (fast-simplification).

Open borders and the lines between two materials are held by quadrics of planes that stand on them, so they keep their
shape while they lose vertices.

Shapes: V vertices, F triangles before, V' and F' after.
"""

from __future__ import annotations

import numpy as np

from renderformer.data.arrays import AnyArray, Float64Array, Int64Array
from renderformer.data.geometry.triangles import face_normals, half_edges

# The library collapses edges below a threshold that grows as the round + 3 to this power. A small power is more
# careful and stalls earlier (spec training.md: retry at 6, then 9; the default is 7).
AGGRESSIVENESS = (5.0, 6.0, 9.0)
# The threshold is absolute. At this radius the first rounds only take edges that lie in a plane.
WORKING_RADIUS = 100.0
# The quadrics of a plane have no single best point, and rounding then throws vertices far along it. A shift of every
# vertex by this part of the radius prevents it: a bunny with each face cut in sixteen (91k triangles) reduced to 300
# is off by 0.0043 of its size in the mean instead of 0.0215, and stays watertight, which it does not without.
JITTER = 1e-5

# (V', 3) positions, (F', 3) faces, (F',) the original triangle of each, (V,) the new vertex of each old one, -1 for one
# that is gone.
Decimated = tuple[Float64Array, Int64Array, Int64Array, Int64Array]


def decimate_closed(vertices: Float64Array, faces: Int64Array, budget: int) -> tuple[Float64Array, Int64Array]:
    """A closed surface of one material with at most `budget` faces, or as near to it as the library comes.

    Args:
        vertices: (V, 3), about unit-sized; faces: (F, 3).
    """
    if len(faces) <= budget:
        return vertices, faces
    for aggressiveness in AGGRESSIVENESS:
        points, triangles, _ = _collapse_edges(vertices, faces, budget, aggressiveness)
        if len(triangles) <= budget:
            break
    return np.asarray(points, np.float64), np.asarray(triangles, np.int64)


def decimate(points: Float64Array, faces: Int64Array, label: Int64Array, budget: int) -> Decimated:
    """Edge collapse down to `budget` triangles of any surface; borders between labels stay.

    Args:
        points: (V, 3), any units; faces: (F, 3); label: (F,) material of each triangle.
    """
    lowest, highest = points.min(axis=0), points.max(axis=0)
    centre = (lowest + highest) / 2
    # Extents that span many orders of magnitude would leave no edge above the smallest threshold.
    scale = WORKING_RADIUS / max(float(np.linalg.norm(highest - lowest)) / 2, 1e-30)
    working = (points - centre) * scale
    working += np.random.default_rng(0).uniform(-JITTER, JITTER, working.shape) * WORKING_RADIUS
    cluster = np.arange(len(points))
    source = np.arange(len(faces))
    for aggressiveness in AGGRESSIVENESS[1:]:
        step = _collapse(working, faces, label[source], budget, aggressiveness)
        # Far below the budget means that whole parts were folded flat and dropped.
        if 2 * len(step[1]) < budget:
            break
        working, faces, kept, moved = step
        source, cluster = source[kept], np.where(cluster < 0, -1, moved[cluster])
        if len(faces) <= budget:
            break
    if len(faces) > budget:
        working, faces, kept, moved = _merge_cells(working, faces, budget)
        source, cluster = source[kept], np.where(cluster < 0, -1, moved[cluster])
    return working / scale + centre, faces, source, cluster


def _fins(points: Float64Array, faces: Int64Array, label: Int64Array) -> tuple[Float64Array, Int64Array]:
    """Extra vertices and triangles that stand upright on open borders and between materials.

    The library adds the plane of every triangle to the quadrics of its corners; a fin so charges for each step aside
    from the border. It collapses into its foot at no cost in the first round, and what is left of it is dropped later.
    """
    one, two, alone = half_edges(faces)
    differ = label[one // 3] != label[two // 3]
    half = np.concatenate([alone, one[differ], two[differ]])
    start, end = faces.ravel()[half], np.roll(faces, -1, axis=1).ravel()[half]
    upright = face_normals(points[faces[half // 3]])
    edge = points[end] - points[start]
    top = points[start] + edge / 2 + upright * np.linalg.norm(edge, axis=1, keepdims=True)
    fins = np.stack([end, start, len(points) + np.arange(len(half))], axis=1)
    return np.concatenate([points, top]), np.concatenate([faces, fins])


def _collapse_edges(
    points: AnyArray, faces: Int64Array, budget: int, aggressiveness: float
) -> tuple[AnyArray, AnyArray, AnyArray]:
    """One run of the library: points, faces, and the (K, 2) vertices that stay and go in each collapse."""
    import fast_simplification

    new_points, new_faces, collapses = fast_simplification.simplify(
        points, faces.astype(np.int32), target_count=budget, agg=aggressiveness, return_collapses=True
    )
    return new_points, new_faces, np.asarray(collapses).reshape(-1, 2)


def _collapse(
    points: Float64Array, faces: Int64Array, label: Int64Array, budget: int, aggressiveness: float
) -> Decimated:
    """One run of the library with the borders held."""
    finned_points, finned = _fins(points, faces, label)
    new_points, new_faces, collapses = _collapse_edges(finned_points, finned, budget, aggressiveness)
    # Replaying the collapses tells which vertex became which; the library keeps the order of what is left.
    root = np.arange(len(finned_points))
    for stays, goes in collapses[::-1].tolist():
        root[goes] = root[stays]
    mapped = root[finned]
    alive = (mapped != np.roll(mapped, 1, axis=1)).all(axis=1)
    used = np.zeros(len(finned_points), bool)
    used[mapped[alive]] = True
    number = np.cumsum(used) - 1
    assert int(alive.sum()) == len(new_faces), "the library's collapses do not explain its triangles"
    kept = np.flatnonzero(alive[: len(faces)])
    faces = number[mapped[kept]]
    kept_faces = _without_folds(faces)
    root = root[: len(points)]
    moved = np.where(used[root], number[root], -1)
    return np.asarray(new_points, np.float64), faces[kept_faces], kept[kept_faces], moved


def _without_folds(faces: Int64Array) -> Int64Array:
    """Indices of the triangles that stay when those are dropped that lie on another one: pairs that face each other
    enclose nothing and go both, copies but for one."""
    _, group = np.unique(np.sort(faces, axis=1), axis=0, return_inverse=True)
    group = group.ravel()
    first = faces.argmin(axis=1)
    turned = np.take_along_axis(faces, (first[:, None] + 1) % 3, 1) > np.take_along_axis(
        faces, (first[:, None] + 2) % 3, 1
    )
    sign = np.where(turned[:, 0], -1, 1)
    balance = np.bincount(group, sign)[group]
    # Of a group the first triangle that has the sign of the balance stays.
    candidate = np.flatnonzero(np.sign(balance) == sign)
    return np.sort(candidate[np.unique(group[candidate], return_index=True)[1]])


def _merge_cells(points: Float64Array, faces: Int64Array, budget: int) -> Decimated:
    """The last resort for a mesh of many small parts, which edge collapse cannot join: the vertices of a grid cell
    become one, with the finest grid that meets the budget."""
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
    if best is None:
        everything = np.arange(len(faces))
        return points, faces, everything, np.arange(len(points))
    return best
