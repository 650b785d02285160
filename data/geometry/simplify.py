"""Fewer triangles where a scene has more than the budget, smaller ones where they are too large.

Simplification is quadric edge collapse (fast-simplification). Open borders and the lines between two materials are held
by quadrics of planes that stand on them, so they keep their shape while they lose vertices.

Shapes: N triangles, V distinct corner positions, F decimated triangles. Units: those of the scene.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace

import numpy as np

from renderformer.data.arrays import BoolArray, Float16Array, Float32Array, Float64Array, Int32Array, Int64Array
from renderformer.data.errors import InputError
from renderformer.data.geometry.triangles import area_vectors, areas, face_normals, merge_corners
from renderformer.data.rays.lighting import Lights
from renderformer.data.scene import EMISSION, MAX_PATCHES, PATCH_SIZE, Mesh, Scene, flat_normals, triangle_mask

DEFAULT_BUDGET = 4096
# No object is asked to become coarser than an octahedron.
MIN_TRIANGLES = 8
# A light of the trained kind is one triangle; emitting objects up to this size are lights, not glowing models.
LIGHT_TRIANGLES = 64
# The library collapses edges below a threshold that grows as the round + 3 to this power. A small power is more
# careful and stalls earlier (spec training.md: retry at 6, then 9; the default is 7).
AGGRESSIVENESS = (6.0, 9.0)
# The threshold is absolute. At this radius the first rounds only take edges that lie in a plane.
WORKING_RADIUS = 100.0
# The quadrics of a plane have no single best point, and rounding then throws vertices far along it. A shift of every
# vertex by this part of the radius prevents it: a bunny with each face cut in sixteen (91k triangles) reduced to 300
# is off by 0.0043 of its size in the mean instead of 0.0215, and stays watertight, which it does not without.
JITTER = 1e-5
# Where more of the edges than this lie between materials, the colours are a texture, and no line of them is held.
BORDER_SHARE = 0.25
# A corner takes the original normals that are within 60 degrees of its face.
NORMAL_COSINE = 0.5
MAX_NORMALS = 64
AUTO_EDGE = 0.25
MAX_SUBDIVIDED = 1_000_000


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
    corners = merge_corners(mesh.triangles)
    solid = np.flatnonzero((corners != np.roll(corners, 1, axis=1)).all(axis=1))
    points = np.empty((corners.max() + 1, 3))
    points[corners.ravel()] = mesh.triangles.reshape(-1, 3)
    label, textured = _material_labels(mesh.materials, corners, solid)
    points, faces, source, cluster = _decimate(points, corners[solid], label[solid], budget)
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
    one, two, _ = _half_edges(corners[solid])
    if (label[solid[one // 3]] != label[solid[two // 3]]).sum() <= BORDER_SHARE * len(one):
        return label, False
    return np.unique(materials[:, EMISSION], axis=0, return_inverse=True)[1].ravel(), True


def _half_edges(faces: Int64Array) -> tuple[Int64Array, Int64Array, Int64Array]:
    """Half-edges (3 * triangle + corner, from that corner to the next): two (M,) that lie on one edge, and the (K,)
    that have no partner."""
    start, end = faces.ravel(), np.roll(faces, -1, axis=1).ravel()
    key = np.minimum(start, end) * (int(faces.max(initial=0)) + 1) + np.maximum(start, end)
    order = np.argsort(key, kind="stable")
    same = key[order][1:] == key[order][:-1]
    alone = np.ones(len(key), bool)
    alone[1:] &= ~same
    alone[:-1] &= ~same
    return order[:-1][same], order[1:][same], order[alone]


def _fins(points: Float64Array, faces: Int64Array, label: Int64Array) -> tuple[Float64Array, Int64Array]:
    """Extra vertices and triangles that stand upright on open borders and between materials.

    The library adds the plane of every triangle to the quadrics of its corners; a fin so charges for each step aside
    from the border. It collapses into its foot at no cost in the first round, and what is left of it is dropped later.
    """
    one, two, alone = _half_edges(faces)
    differ = label[one // 3] != label[two // 3]
    half = np.concatenate([alone, one[differ], two[differ]])
    start, end = faces.ravel()[half], np.roll(faces, -1, axis=1).ravel()[half]
    upright = face_normals(points[faces[half // 3]])
    edge = points[end] - points[start]
    top = points[start] + edge / 2 + upright * np.linalg.norm(edge, axis=1, keepdims=True)
    fins = np.stack([end, start, len(points) + np.arange(len(half))], axis=1)
    return np.concatenate([points, top]), np.concatenate([faces, fins])


def _decimate(
    points: Float64Array, faces: Int64Array, label: Int64Array, budget: int
) -> tuple[Float64Array, Int64Array, Int64Array, Int64Array]:
    """Edge collapse down to `budget` triangles.

    Returns:
        (V', 3) positions, (F, 3) faces, (F,) the original triangle each was, (V,) the new vertex of each old one
        or -1 where nothing is left of it.
    """
    lowest, highest = points.min(axis=0), points.max(axis=0)
    centre = (lowest + highest) / 2
    # Extents that span many orders of magnitude would leave no edge above the smallest threshold.
    scale = WORKING_RADIUS / max(float(np.linalg.norm(highest - lowest)) / 2, 1e-30)
    working = (points - centre) * scale
    working += np.random.default_rng(0).uniform(-JITTER, JITTER, working.shape) * WORKING_RADIUS
    cluster = np.arange(len(points))
    source = np.arange(len(faces))
    for aggressiveness in AGGRESSIVENESS:
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


def _collapse(
    points: Float64Array, faces: Int64Array, label: Int64Array, budget: int, aggressiveness: float
) -> tuple[Float64Array, Int64Array, Int64Array, Int64Array]:
    """One run of the library; returns as `_decimate`."""
    import fast_simplification

    finned_points, finned = _fins(points, faces, label)
    new_points, new_faces, collapses = fast_simplification.simplify(
        finned_points,
        finned.astype(np.int32),
        target_count=budget,
        agg=aggressiveness,
        return_collapses=True,
    )
    # Replaying the collapses tells which vertex became which; the library keeps the order of what is left.
    root = np.arange(len(finned_points))
    for stays, goes in np.asarray(collapses).reshape(-1, 2)[::-1].tolist():
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


def _merge_cells(
    points: Float64Array, faces: Int64Array, budget: int
) -> tuple[Float64Array, Int64Array, Int64Array, Int64Array]:
    """The last resort for a mesh of many small parts, which edge collapse cannot join: the vertices of a grid cell
    become one, with the finest grid that meets the budget. Returns as `_decimate`."""
    lowest, extent = points.min(axis=0), float(np.ptp(points, axis=0).max())
    fine, coarse = 0.0, extent
    best: tuple[Float64Array, Int64Array, Int64Array, Int64Array] | None = None
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
    wanted = np.flatnonzero(np.repeat(rounded[source], 3))
    vertex = faces.ravel()[wanted]
    # Of a vertex that stands for many, a regular choice is enough; it bounds the memory for meshes of millions.
    total_count = first[vertex + 1] - first[vertex]
    count = np.minimum(total_count, MAX_NORMALS)
    corner = np.repeat(np.arange(len(wanted)), count)
    step = np.arange(count.sum()) - np.repeat(np.cumsum(count) - count, count)
    old = order[first[vertex][corner] + step * total_count[corner] // count[corner]]
    normals = mesh.normals.reshape(-1, 3)[old]
    face = flat.reshape(-1, 3)[wanted]
    near = (normals * face[corner]).sum(axis=1) > NORMAL_COSINE
    weight = np.where(near, areas(mesh.triangles)[old // 3], 0.0)
    total = np.stack([np.bincount(corner, weight * normals[:, k], len(wanted)) for k in range(3)], axis=1)
    length = np.linalg.norm(total, axis=1, keepdims=True)
    result = flat.reshape(-1, 3).copy()
    result[wanted] = np.divide(total, length, out=face.astype(np.float64), where=length > 0)
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
    free = [mesh for mesh in scene.objects if mesh.name not in keep and not _is_light(mesh)]
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


def proxy(scene: Scene, budget: int = 384) -> Scene:
    """A coarse stand-in of a scene, for a model with few tokens that sees the full geometry through its rays.

    As `simplify_scene`, but a scene of many objects becomes one, more than 64 light triangles are drawn from by power,
    and a budget below the number of lights is raised.
    """
    lights = [mesh for mesh in scene.objects if _is_light(mesh)]
    free = [mesh for mesh in scene.objects if not _is_light(mesh)]
    if len(scene) > budget and sum(len(mesh) for mesh in lights) > LIGHT_TRIANGLES:
        lights = [_fewer_lights(lights)]
        scene = scene.replace(objects=(*free, *lights))
    budget = max(budget, sum(len(mesh) for mesh in lights) + MIN_TRIANGLES)
    if len(scene) > budget and len(free) * MIN_TRIANGLES > budget - sum(len(mesh) for mesh in lights):
        one = Mesh(
            "objects",
            np.concatenate([mesh.triangles for mesh in free]),
            np.concatenate([mesh.normals for mesh in free]),
            np.concatenate([mesh.materials for mesh in free]),
        )
        names = {mesh.name for mesh in lights}
        while one.name in names:
            one = replace(one, name=one.name + "_")
        scene = scene.replace(objects=(one, *lights))
    return simplify_scene(scene, budget)


def _fewer_lights(lights: list[Mesh]) -> Mesh:
    """Some of the light triangles, drawn by power and made brighter, so that they send as much light as all."""
    triangles, rows = (np.concatenate([getattr(mesh, key) for mesh in lights]) for key in ("triangles", "materials"))
    drawn = Lights.from_triangles(triangles, rows[:, EMISSION]).drawn(LIGHT_TRIANGLES)
    chosen = rows[drawn.triangle]
    chosen[:, EMISSION] *= drawn.weight[:, None]
    return Mesh(lights[0].name, triangles[drawn.triangle], materials=chosen)


def _is_light(mesh: Mesh) -> bool:
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
    wanting = np.ones(len(counts), bool)
    while wanting.any():
        rest = budget - shares[~wanting].sum()
        fair = np.maximum(rest * weight / weight[wanting].sum(), least)
        # Objects below the floor of the share, or that need less than it, are settled; the others divide what is left.
        settled = wanting & ((np.asarray(counts) <= fair) | (fair <= least))
        if not settled.any():
            shares[wanting] = fair[wanting].astype(int)
            break
        shares[settled] = np.minimum(np.asarray(counts), np.maximum(fair.astype(int), least))[settled]
        wanting &= ~settled
    return [int(share) for share in shares]


def subdivide(mesh: Mesh, max_edge: float) -> tuple[Mesh, str]:
    """Cut triangles until no edge is longer than `max_edge`; neighbours are cut alike, so no cracks open.

    Positions, normals and texture patches are interpolated.

    Returns:
        The mesh, and a line for `Scene.notes`; the same mesh and "" when nothing was too long.

    Raises:
        InputError: max_edge is not positive, or would make more than a million triangles.
    """
    if not max_edge > 0:
        raise InputError(
            f"object {mesh.name!r}", f"max_edge is {max_edge}", "expected a positive length in scene units"
        )
    if areas(mesh.triangles).sum() > MAX_SUBDIVIDED * max_edge**2:
        raise InputError(
            f"object {mesh.name!r}",
            f"max_edge {max_edge:g} would make more than {MAX_SUBDIVIDED:,} triangles",
            "give a larger one",
        )
    # Each corner of a piece: its position, and its weights in the original triangle. Both neighbours of an edge halve
    # it from the same numbers, so they agree on the point to the last bit.
    weights = np.broadcast_to(np.eye(3), mesh.triangles.shape)
    pieces, source = np.concatenate([mesh.triangles.astype(np.float64), weights], axis=2), np.arange(len(mesh))
    while True:
        long = np.linalg.norm((np.roll(pieces, -1, axis=1) - pieces)[..., :3], axis=2) > max_edge
        if not long.any():
            break
        pieces, source = _split(pieces, source, long)
        if len(pieces) > MAX_SUBDIVIDED:
            raise InputError(
                f"object {mesh.name!r}",
                f"max_edge {max_edge:g} makes more than {MAX_SUBDIVIDED:,} triangles",
                "give a larger one",
            )
    if len(pieces) == len(mesh):
        return mesh, ""
    normals = pieces[..., 3:] @ mesh.normals[source].astype(np.float64)
    length = np.linalg.norm(normals, axis=-1, keepdims=True)
    normals = np.divide(normals, length, out=np.zeros_like(normals), where=length > 0)
    materials, patches, index, dropped = _cut_patches(mesh, pieces[..., 3:], source)
    note = (
        f"object {mesh.name!r}: {len(mesh):,} triangles subdivided to {len(pieces):,}, no edge longer than {max_edge:g}"
    )
    if dropped:
        note += f"; {dropped:,} texture patches replaced by their mean colour, the pieces would need too much memory"
    return Mesh(mesh.name, pieces[..., :3].astype(np.float32), normals, materials, patches, index), note


def _split(pieces: Float64Array, source: Int64Array, long: BoolArray) -> tuple[Float64Array, Int64Array]:
    """Halve the marked edges (edge k runs from corner k to k + 1) of all pieces, which keep their order."""
    count = long.sum(axis=1)
    # Turn each piece so that one long edge is edge 0, and of two long edges the second is edge 1.
    turn = np.where(count == 2, long.argmin(axis=1) + 1, long.argmax(axis=1))
    order = (turn[:, None] + np.arange(3)) % 3
    v = np.take_along_axis(pieces, order[..., None], axis=1)
    points = np.concatenate([v, (v + np.roll(v, -1, axis=1)) / 2], axis=1)
    # Corners 0 … 2, middles of the edges 3 … 5.
    templates = {
        0: [[0, 1, 2]],
        1: [[0, 3, 2], [3, 1, 2]],
        2: [[3, 1, 4], [0, 3, 4], [0, 4, 2]],
        3: [[0, 3, 5], [3, 1, 4], [5, 4, 2], [3, 4, 5]],
    }
    cut, owner = [], []
    for number, template in templates.items():
        rows = np.flatnonzero(count == number)
        # Pieces that stay whole keep their first corner too.
        chosen = points[rows] if number else pieces[rows]
        cut.append(chosen[:, np.array(template)].reshape(-1, *pieces.shape[1:]))
        owner.append(np.repeat(rows, len(template)))
    rank = np.argsort(np.concatenate(owner), kind="stable")
    return np.concatenate(cut)[rank], source[np.concatenate(owner)[rank]]


def _cut_patches(
    mesh: Mesh, weights: Float64Array, source: Int64Array
) -> tuple[Float32Array, Float16Array | None, Int32Array | None, int]:
    """Materials, patches and patch index of pieces with the corners `weights` (M, 3, 3) in their original triangle, and
    how many patches were dropped."""
    materials = mesh.materials[source]
    if mesh.patches is None or mesh.patch_index is None:
        return materials, None, None, 0
    textured = np.flatnonzero(mesh.patch_index[source] >= 0)
    if len(textured) > MAX_PATCHES:
        return materials, None, None, int((mesh.patch_index >= 0).sum())
    mask = triangle_mask()
    first, second = np.nonzero(mask)
    texel = np.stack([PATCH_SIZE - first - second, first, second], axis=1) / PATCH_SIZE
    patches = np.zeros((len(textured), *mesh.patches.shape[1:]), np.float16)
    for number, piece in enumerate(textured):
        at = (texel @ weights[piece])[:, 1:] * PATCH_SIZE
        values = _interpolated(mesh.patches[mesh.patch_index[source[piece]]], at)
        patches[number, :, mask] = values
        materials[piece] = values.mean(axis=0)
    index = np.full(len(source), -1, np.int32)
    index[textured] = np.arange(len(textured))
    return materials, patches, index, 0


def _interpolated(patch: Float16Array, at: Float64Array) -> Float32Array:
    """(S, 13) values of one patch (13, 32, 32) at (S, 2) fractional texel positions inside the triangle, linear in each
    half of a texel cell, so that nothing from outside the triangle comes in."""
    low = np.minimum(np.floor(at).astype(np.int64), PATCH_SIZE - 1)
    high = np.minimum(low + 1, PATCH_SIZE - 1)
    f, g = (at - low).T
    f, g = np.clip(f, 0, 1), np.clip(g, 0, 1)
    values = patch.astype(np.float32).transpose(1, 2, 0)
    lower = f + g <= 1
    corner = np.where(lower[:, None], values[low[:, 0], low[:, 1]], values[high[:, 0], high[:, 1]])
    right, up = values[high[:, 0], low[:, 1]], values[low[:, 0], high[:, 1]]
    a, b = np.where(lower, f, 1 - g)[:, None], np.where(lower, g, 1 - f)[:, None]
    return np.asarray(corner * (1 - a - b) + right * a + up * b, np.float32)


def subdivide_scene(scene: Scene, max_edge: float | str = "auto", budget: int = DEFAULT_BUDGET) -> Scene:
    """Cut the large triangles of a scene, see `subdivide`; lights stay as they are.

    Args:
        max_edge: longest edge in scene units, or "auto": 0.25, longer where the budget asks for it.
        budget: most triangles afterwards.

    Returns:
        The scene with a note for each object that changed.

    Raises:
        InputError: max_edge is neither a positive number nor "auto", or it needs more triangles than the budget.
    """
    automatic = max_edge == "auto"
    try:
        length = AUTO_EDGE if automatic else float(max_edge)
    except ValueError:
        raise InputError(
            "subdivide", f"max_edge is {max_edge!r}", "expected a length in scene units or 'auto'"
        ) from None
    while True:
        results = [(mesh, "") if _is_light(mesh) else subdivide(mesh, length) for mesh in scene.objects]
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
