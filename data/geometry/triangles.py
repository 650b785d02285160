"""Area, corners, edges and connected parts of triangles; smooth vertex normals with creases.

Triangles are soups (N, 3, 3) of corner positions, or faces (F, 3) that index V vertices.
"""

from __future__ import annotations

import numpy as np

from renderformer.data.arrays import AnyArray, BoolArray, Float32Array, Float64Array, Int64Array

CREASE_DEGREES = 30.0


def bounds(points: AnyArray) -> AnyArray:
    """(2, 3) smallest and largest coordinates of points (..., 3); ten times as fast as `points.min(axis=0)`."""
    columns = points.reshape(-1, 3).T
    return np.array([[bound(column) for column in columns] for bound in (np.min, np.max)])


def centroids(triangles: AnyArray) -> AnyArray:
    """(N, 3) middles of triangles (N, 3, 3); four times as fast as `triangles.mean(axis=1)`."""
    middles: AnyArray = (triangles[:, 0] + triangles[:, 1] + triangles[:, 2]) / triangles.dtype.type(3)
    return middles


def unique_rows(rows: AnyArray) -> tuple[Int64Array, Int64Array]:
    """The distinct rows of an array, in an order that depends only on their values.

    Args:
        rows: (M, K) floats (compared with ==; no NaN) or integers.

    Returns:
        (U,) index of the first occurrence of each distinct row, (M,) number of each row's distinct row.
    """
    # Adding zero turns -0.0 into 0.0, so that equal numbers have equal bits.
    bits = np.ascontiguousarray(rows + 0).view(np.dtype(f"u{rows.dtype.itemsize}")).astype(np.uint64)
    # Sorting 64-bit hashes takes a tenth of the time of sorting rows.
    key = np.zeros(len(rows), np.uint64)
    for column in bits.T:
        key = (key ^ column) * np.uint64(0x9E3779B97F4A7C15)
        key ^= key >> np.uint64(29)
    first, inverse = _unique(key)
    if (rows[first[inverse]] == rows).all():
        return first, inverse
    # Two distinct rows have the same hash: a chance of one in a million for a million rows.
    _, first, inverse = np.unique(bits, axis=0, return_index=True, return_inverse=True)
    return first, inverse.reshape(-1)


def _unique(key: AnyArray) -> tuple[Int64Array, Int64Array]:
    """As `unique_rows`, of numbers (M,)."""
    # Not stable, which is several times as fast.
    order = np.argsort(key)
    ordered = key[order]
    new = np.ones(len(key), bool)
    new[1:] = ordered[1:] != ordered[:-1]
    starts = np.flatnonzero(new)
    first = np.minimum.reduceat(order, starts) if len(key) else order
    inverse = np.empty(len(key), np.int64)
    inverse[order] = np.cumsum(new) - 1
    return first, inverse


def _stable_order(key: Int64Array, size: int) -> Int64Array:
    """(M,) the order that sorts numbers below `size`, equal ones by place."""
    bits = max(len(key) - 1, 0).bit_length()
    if size > 2 ** (63 - bits):
        return np.argsort(key, kind="stable")
    # Numbers with their places in the lowest bits sort several times as fast as places by their numbers.
    packed = (key << bits) + np.arange(len(key))
    packed.sort()
    return packed & (2**bits - 1)


def area_vectors(triangles: AnyArray) -> Float64Array:
    """(N, 3) normal of each triangle with its area as length.

    Args:
        triangles: (N, 3, 3) corner positions, counter-clockwise seen from outside.
    """
    corners = np.asarray(triangles, np.float64)
    vectors: Float64Array = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]) / 2
    return vectors


def areas(triangles: AnyArray) -> Float64Array:
    """(N,) area of each triangle (N, 3, 3)."""
    result: Float64Array = np.linalg.norm(area_vectors(triangles), axis=-1)
    return result


def has_area(triangles: AnyArray) -> BoolArray:
    """(N,) whether each triangle (N, 3, 3) has an area other than zero."""
    return np.asarray((area_vectors(triangles) != 0).any(axis=1))


def face_normals(triangles: AnyArray) -> Float64Array:
    """(N, 3) unit normal of each triangle (N, 3, 3); zero for one without area."""
    vectors = area_vectors(triangles)
    area = np.linalg.norm(vectors, axis=-1, keepdims=True)
    return np.divide(vectors, area, out=np.zeros_like(vectors), where=area > 0)


def merge_corners(triangles: AnyArray) -> Int64Array:
    """(N, 3) number of the vertex at each corner of triangles (N, 3, 3); exactly equal positions are one vertex."""
    return unique_rows(triangles.reshape(-1, 3))[1].reshape(-1, 3)


def weld(triangles: AnyArray) -> tuple[Float64Array, Int64Array]:
    """(V, 3) vertices and (N, 3) faces of triangles (N, 3, 3); exactly equal positions are one vertex."""
    faces = merge_corners(triangles)
    vertices = np.empty((int(faces.max()) + 1, 3))
    vertices[faces] = triangles
    return vertices, faces


def half_edges(faces: Int64Array) -> tuple[Int64Array, Int64Array, Int64Array]:
    """Pairs of half-edges of faces (F, 3); half-edge 3 * face + corner runs from that corner to the next.

    Returns:
        (M,) and (M,) two half-edges of the same edge, (K,) half-edges without a partner.
    """
    start, end = faces.ravel(), np.roll(faces, -1, axis=1).ravel()
    size = int(faces.max(initial=0)) + 1
    key = np.minimum(start, end) * size + np.maximum(start, end)
    order = _stable_order(key, size * size)
    ordered = key[order]
    same = ordered[1:] == ordered[:-1]
    unpaired = np.ones(len(key), bool)
    unpaired[1:] &= ~same
    unpaired[:-1] &= ~same
    return order[:-1][same], order[1:][same], order[unpaired]


def open_edges(faces: Int64Array) -> Int64Array:
    """(K, 2) vertices of the edges that faces (F, 3) do not use equally often in both directions."""
    start, end = faces.ravel(), np.roll(faces, -1, axis=1).ravel()
    size = int(faces.max(initial=0)) + 1
    key, index = np.unique(np.minimum(start, end) * size + np.maximum(start, end), return_inverse=True)
    # The sign of an edge from a vertex to itself is zero, so that it counts as balanced.
    balance = np.bincount(index.ravel(), np.sign(end - start))
    return np.stack([key // size, key % size], axis=1)[balance != 0]


def is_closed(faces: Int64Array) -> bool:
    """Whether every directed edge of faces (F, 3) occurs once, and once in the other direction."""
    directed = faces.ravel() * (int(faces.max(initial=0)) + 1) + np.roll(faces, -1, axis=1).ravel()
    return len(np.unique(directed)) == len(directed) and not len(open_edges(faces))


def connected_parts(triangles: AnyArray) -> Int64Array:
    """(N,) number of the part of each triangle (N, 3, 3), in order of first appearance; triangles with a common corner
    position belong to one part."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    corners = merge_corners(triangles)
    start, end = corners.ravel(), np.roll(corners, -1, axis=1).ravel()
    size = int(corners.max()) + 1
    label = connected_components(coo_array((np.ones(len(start)), (start, end)), (size, size)), directed=False)[1]
    _, first, part = np.unique(label[corners[:, 0]], return_index=True, return_inverse=True)
    return np.argsort(np.argsort(first))[part.ravel()]


def corner_angles(triangles: AnyArray) -> Float64Array:
    """(N, 3) interior angles of triangles (N, 3, 3) in radians; zero beside an edge without length."""
    corners = np.asarray(triangles, np.float64)
    first, second, third = corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 1], corners[:, 0] - corners[:, 2]
    # The sine at each corner, times its sides: twice the area.
    sine = np.linalg.norm(np.cross(first, second), axis=-1)
    pairs = (first, third), (second, first), (third, second)
    cosine = np.stack([0.0 - np.einsum("ij,ij->i", forward, backward) for forward, backward in pairs], axis=-1)
    angles: Float64Array = np.arctan2(sine[:, None], cosine)
    return angles


def smooth_normals(
    triangles: AnyArray, crease: float = CREASE_DEGREES, corners: Int64Array | None = None
) -> Float32Array:
    """Unit vertex normals: the mean, weighted by angle, over the faces around a corner that no crease separates.

    Args:
        triangles: (N, 3, 3) corner positions, counter-clockwise seen from outside, any units.
        crease: edges between face normals that differ by this many degrees or more stay sharp.
        corners: (N, 3) vertex at each corner; None takes `merge_corners`.

    Returns:
        (N, 3, 3) float32; zeros at a triangle without area that has no smooth neighbour.
    """
    from scipy.sparse import coo_matrix
    from scipy.sparse.csgraph import connected_components

    points = np.asarray(triangles, np.float64)
    if corners is None:
        corners = merge_corners(triangles)
    count = len(points)
    face = face_normals(points)

    start, end = corners.ravel(), np.roll(corners, -1, axis=1).ravel()
    first, second, _ = half_edges(corners)
    cosine = (face[first // 3] * face[second // 3]).sum(-1)
    # Consistently oriented neighbours run along their edge in opposite directions.
    joined = (cosine > np.cos(np.radians(crease))) & (start[first] == end[second])
    first, second = first[joined], second[joined]
    first_next, second_next = 3 * (first // 3) + (first + 1) % 3, 3 * (second // 3) + (second + 1) % 3
    links = np.concatenate([first, first_next]), np.concatenate([second_next, second])
    graph = coo_matrix((np.ones(len(links[0]), np.int8), links), shape=(3 * count, 3 * count))
    fan = connected_components(graph, directed=False)[1]

    weighted = (face[:, None] * corner_angles(points)[..., None]).reshape(-1, 3)
    total = np.stack([np.bincount(fan, weighted[:, axis]) for axis in range(3)], axis=-1)[fan]
    length = np.linalg.norm(total, axis=-1, keepdims=True)
    flat = np.repeat(face, 3, axis=0)
    return np.divide(total, length, out=flat, where=length > 1e-12).reshape(-1, 3, 3).astype(np.float32)
