"""Area, corners, edges and connected parts of triangles; smooth vertex normals with creases.

Triangles are soups (N, 3, 3) of corner positions, or faces (F, 3) that index V vertices.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from renderformer.data.arrays import AnyArray, BoolArray, Float32Array, Float64Array, Int64Array

CREASE_DEGREES = 30.0
# Triangles that are worked on at once: what is computed on the way stays in the cache of the processor.
_BLOCK = 1 << 13


def blocks(count: int) -> Iterator[slice]:
    """So many things part by part, each small enough for the cache."""
    return (slice(first, first + _BLOCK) for first in range(0, count, _BLOCK))


def in_blocks(triangles: AnyArray) -> Iterator[tuple[slice, Float64Array]]:
    """Triangles (N, 3, 3) part by part, each as (3 corners, 3 coordinates, n) float64; several times as fast to compute
    with as all at once."""
    for part in blocks(len(triangles)):
        yield part, np.array(triangles[part].transpose(1, 2, 0), np.float64, order="C")


def cross(a: Float64Array, b: Float64Array) -> Float64Array:
    """(3, n) cross products of vectors (3, n)."""
    return np.stack([a[1] * b[2] - a[2] * b[1], a[2] * b[0] - a[0] * b[2], a[0] * b[1] - a[1] * b[0]])


def products(a: AnyArray, b: AnyArray) -> AnyArray:
    """(n,) dot products of vectors (3, n)."""
    result: AnyArray = a[0] * b[0] + a[1] * b[1] + a[2] * b[2]
    return result


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
    vectors = np.empty((len(triangles), 3))
    for part, (first, second, third) in in_blocks(triangles):
        vectors[part] = cross(second - first, third - first).T / 2
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
    normals = np.zeros((len(triangles), 3))
    for part, (first, second, third) in in_blocks(triangles):
        vectors = cross(second - first, third - first) / 2
        area = np.sqrt(products(vectors, vectors))
        np.divide(vectors, area, out=normals[part].T, where=area > 0)
    return normals


def unit(vectors: AnyArray) -> AnyArray:
    """Vectors (n, 3) of length 1; zero stays."""
    length = np.sqrt(products(vectors.T, vectors.T))[:, None]
    length[length == 0] = 1
    return vectors / length


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
    start, end = faces.ravel(), faces[:, [1, 2, 0]].ravel()
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
    angles = np.empty((len(triangles), 3))
    for part, (a, b, c) in in_blocks(triangles):
        first, second, third = b - a, c - b, a - c
        # The sine at each corner, times its sides: twice the area.
        double = cross(first, second)
        sine = np.sqrt(products(double, double))
        for corner, (forward, backward) in enumerate(((first, third), (second, first), (third, second))):
            angles[part, corner] = np.arctan2(sine, 0.0 - products(forward, backward))
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
    if corners is None:
        corners = merge_corners(triangles)
    face = face_normals(triangles)
    columns = np.ascontiguousarray(face.T)
    fan = _fans(corners, columns, crease)
    angles = corner_angles(triangles)
    total = np.stack([np.bincount(fan, (column[:, None] * angles).ravel()) for column in columns])
    length = np.sqrt(products(total, total))
    mean = np.divide(total, length, out=np.zeros_like(total), where=length > 1e-12).T.astype(np.float32)
    normals = mean.take(fan, axis=0).reshape(-1, 3, 3)
    # A fan without a direction, as that of a triangle without area: faces keep their own.
    lost = np.flatnonzero(~(length > 1e-12).take(fan))
    normals.reshape(-1, 3)[lost] = face[lost // 3]
    return normals


def _fans(corners: Int64Array, normals: Float64Array, crease: float) -> Int64Array:
    """(3 N,) number of the fan of each corner: those of faces around a vertex that no crease separates.

    Args:
        corners: (N, 3) vertex at each corner; normals: (3, N) of the faces; crease: see `smooth_normals`.
    """
    from scipy.sparse import coo_matrix
    from scipy.sparse.csgraph import connected_components

    count = corners.size
    # Numbers of 32 bits are half as much to move.
    small: type[Any] = np.int32 if count < 2**31 else np.int64
    first, second = (half.astype(small) for half in half_edges(corners)[:2])
    first_face, second_face = first // 3, second // 3
    second_next = _following(second, second_face)
    cosine = products(normals.take(first_face, axis=1), normals.take(second_face, axis=1))
    # Consistently oriented neighbours run along their edge in opposite directions.
    opposite = corners.take(first) == corners.take(second_next)
    joined = np.flatnonzero((cosine > np.cos(np.radians(crease))) & opposite)
    first, second, first_face, second_next = (half.take(joined) for half in (first, second, first_face, second_next))
    ends = np.concatenate([first, _following(first, first_face)]), np.concatenate([second_next, second])
    graph = coo_matrix((np.ones(len(ends[0])), ends), shape=(count, count))
    fan: Int64Array = connected_components(graph, directed=False)[1]
    return fan


def _following(half: AnyArray, face: AnyArray) -> AnyArray:
    """(M,) the next half-edge of the same face."""
    return half + np.where(half - 3 * face < 2, 1, -2).astype(half.dtype)
