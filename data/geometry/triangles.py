"""Area, corners, edges and connected parts of triangles; vertex normals that are smooth but for creases.

Triangles are soups (N, 3, 3) of corner positions, or faces (F, 3) that name V vertices.
"""

from __future__ import annotations

import numpy as np

from renderformer.data.arrays import AnyArray, BoolArray, Float32Array, Float64Array, Int64Array

CREASE_DEGREES = 30.0


def unique_rows(rows: AnyArray) -> tuple[Int64Array, Int64Array]:
    """The distinct rows of an array of numbers, in an order that depends only on them.

    Args:
        rows: (M, K) floats (equal means ==; no NaN) or integers.

    Returns:
        (U,) index of the first of each distinct row, (M,) which of them each row is.
    """
    # Adding zero turns -0.0 into 0.0, so that equal numbers have equal bits.
    bits = np.ascontiguousarray(rows + 0).view(np.dtype(f"u{rows.dtype.itemsize}")).astype(np.uint64)
    # One sort of a 64-bit hash takes a tenth of the time of sorting rows.
    key = np.zeros(len(rows), np.uint64)
    for column in bits.T:
        key = (key ^ column) * np.uint64(0x9E3779B97F4A7C15)
        key ^= key >> np.uint64(29)
    _, first, inverse = np.unique(key, return_index=True, return_inverse=True)
    if (rows[first[inverse]] == rows).all():
        return first, inverse
    # Two rows with one hash: one chance in a million for a million rows.
    _, first, inverse = np.unique(bits, axis=0, return_index=True, return_inverse=True)
    return first, inverse.reshape(-1)


def area_vectors(triangles: AnyArray) -> Float64Array:
    """(N, 3) normal of each triangle, as long as its area.

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
    """(N,) whether the corners of a triangle (N, 3, 3) are not in one line."""
    return np.asarray((area_vectors(triangles) != 0).any(axis=1))


def face_normals(triangles: AnyArray) -> Float64Array:
    """(N, 3) unit normal of each triangle (N, 3, 3); zero for one without area."""
    vectors = area_vectors(triangles)
    area = np.linalg.norm(vectors, axis=-1, keepdims=True)
    return np.divide(vectors, area, out=np.zeros_like(vectors), where=area > 0)


def merge_corners(triangles: AnyArray) -> Int64Array:
    """(N, 3) number of the distinct position at each corner; positions are the same only when they are equal.

    Args:
        triangles: (N, 3, 3) corner positions.
    """
    return unique_rows(triangles.reshape(-1, 3))[1].reshape(-1, 3)


def weld(triangles: AnyArray) -> tuple[Float64Array, Int64Array]:
    """(V, 3) vertices and (N, 3) faces of triangles (N, 3, 3); corners at exactly equal positions are one vertex."""
    faces = merge_corners(triangles)
    vertices = np.empty((int(faces.max()) + 1, 3))
    vertices[faces] = triangles
    return vertices, faces


def half_edges(faces: Int64Array) -> tuple[Int64Array, Int64Array, Int64Array]:
    """Half-edges of faces (F, 3), numbered 3 * face + corner, from that corner to the next: two (M,) that lie on one
    edge, and the (K,) that have no partner."""
    start, end = faces.ravel(), np.roll(faces, -1, axis=1).ravel()
    key = np.minimum(start, end) * (int(faces.max(initial=0)) + 1) + np.maximum(start, end)
    order = np.argsort(key, kind="stable")
    same = key[order][1:] == key[order][:-1]
    alone = np.ones(len(key), bool)
    alone[1:] &= ~same
    alone[:-1] &= ~same
    return order[:-1][same], order[1:][same], order[alone]


def open_edges(faces: Int64Array) -> Int64Array:
    """(K, 2) vertices of the edges that faces (F, 3) do not run through equally often in both directions."""
    start, end = faces.ravel(), np.roll(faces, -1, axis=1).ravel()
    size = int(faces.max(initial=0)) + 1
    key, index = np.unique(np.minimum(start, end) * size + np.maximum(start, end), return_inverse=True)
    # An edge without length runs in no direction.
    balance = np.bincount(index.ravel(), np.sign(end - start))
    return np.stack([key // size, key % size], axis=1)[balance != 0]


def is_closed(faces: Int64Array) -> bool:
    """Whether every directed edge of faces (F, 3) is met by exactly one in the other direction."""
    directed = faces.ravel() * (int(faces.max(initial=0)) + 1) + np.roll(faces, -1, axis=1).ravel()
    return len(np.unique(directed)) == len(directed) and not len(open_edges(faces))


def connected_parts(triangles: AnyArray) -> Int64Array:
    """(N,) number of the part of each triangle, in order of first appearance; triangles that share a corner position
    belong to one part.

    Args:
        triangles: (N, 3, 3) corner positions.
    """
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    corners = merge_corners(triangles)
    start, end = corners.ravel(), np.roll(corners, -1, axis=1).ravel()
    size = int(corners.max()) + 1
    label = connected_components(coo_array((np.ones(len(start)), (start, end)), (size, size)), directed=False)[1]
    _, first, part = np.unique(label[corners[:, 0]], return_index=True, return_inverse=True)
    return np.argsort(np.argsort(first))[part.ravel()]


def corner_angles(triangles: AnyArray) -> Float64Array:
    """(N, 3) interior angles in radians; zero at a corner whose edge has no length."""
    corners = np.asarray(triangles, np.float64)
    forward = np.roll(corners, -1, axis=1) - corners
    backward = np.roll(corners, 1, axis=1) - corners
    sine = np.linalg.norm(np.cross(forward, backward), axis=-1)
    angles: Float64Array = np.arctan2(sine, (forward * backward).sum(-1))
    return angles


def smooth_normals(
    triangles: AnyArray, crease: float = CREASE_DEGREES, corners: Int64Array | None = None
) -> Float32Array:
    """Unit vertex normals, averaged by angle over the faces that meet at a corner without a crease between them.

    Args:
        triangles: (N, 3, 3) corner positions, counter-clockwise seen from outside, any units.
        crease: edges where the face normals differ by this many degrees or more stay sharp.
        corners: (N, 3) number of the position at each corner, see `merge_corners`, if already known.

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
    one, two, _ = half_edges(corners)
    # Neighbours that agree about the outside list their edge in opposite order.
    cosine = (face[one // 3] * face[two // 3]).sum(-1)
    joined = (cosine > np.cos(np.radians(crease))) & (start[one] == end[two])
    one, two = one[joined], two[joined]
    one_next, two_next = 3 * (one // 3) + (one + 1) % 3, 3 * (two // 3) + (two + 1) % 3
    links = np.concatenate([one, one_next]), np.concatenate([two_next, two])
    graph = coo_matrix((np.ones(len(links[0]), np.int8), links), shape=(3 * count, 3 * count))
    fan = connected_components(graph, directed=False)[1]

    weighted = (face[:, None] * corner_angles(points)[..., None]).reshape(-1, 3)
    total = np.stack([np.bincount(fan, weighted[:, axis]) for axis in range(3)], axis=-1)[fan]
    length = np.linalg.norm(total, axis=-1, keepdims=True)
    flat = np.repeat(face, 3, axis=0)
    return np.divide(total, length, out=flat, where=length > 1e-12).reshape(-1, 3, 3).astype(np.float32)
