"""A tree over triangles that tells which of them rays meet: Embree, on the CPU.

Shapes: N triangles, S rays, in any frame; float32.
"""

from __future__ import annotations

import numpy as np

from renderformer.data.arrays import BoolArray, Float32Array, Int32Array, Int64Array


class Tree:
    """Triangles (N, 3, 3) ready for ray casting. Queries may come from several threads."""

    def __init__(self, triangles: Float32Array) -> None:
        from embreex.mesh_construction import TriangleMesh
        from embreex.rtcore_scene import EmbreeScene

        self._scene = EmbreeScene()
        # embreex copies one number after the other, which takes several times as long as the tree.
        self._mesh = TriangleMesh(self._scene, *shared(triangles))
        # The first query builds the tree; after it, queries may come from several threads.
        self._scene.run(np.zeros((1, 3), np.float32), np.array([[0, 0, 1]], np.float32))

    def first(
        self, origins: Float32Array, directions: Float32Array, end: float | None = None
    ) -> tuple[Int64Array, Int64Array, Float32Array]:
        """Where rays (S, 3) first meet a triangle: indices of the rays that hit (S',), triangles (S',) and weights of
        their second and third corner (S', 2).

        Args:
            end: of the rays, in lengths of their directions; None for none.
        """
        result = self._scene.run(origins, directions, end, output=True)
        rows = np.flatnonzero(result["primID"] >= 0)
        triangle, u, v = (result[key].take(rows) for key in ("primID", "u", "v"))
        return rows, triangle.astype(np.int64), np.stack([u, v]).T

    def met(self, origins: Float32Array, directions: Float32Array, end: float | None = None) -> BoolArray:
        """(S,) whether rays meet any triangle, arguments as in `first`; at a fraction of its cost."""
        return np.asarray(self._scene.run(origins, directions, end, query="OCCLUDED")) >= 0


def shared(triangles: Float32Array) -> tuple[Float32Array, Int32Array]:
    """Vertices (V, 3) and faces (N, 3) of triangles (N, 3, 3). Most corners at one place share a vertex, not all:
    that is quick, and rays meet the same."""
    x, y, z = columns = np.ascontiguousarray(triangles.reshape(-1, 3).T)
    count = len(x)
    bits = max(count.bit_length(), 1)
    slot = np.zeros(count, np.uint32)
    # Zero turns -0 into 0.
    for column in columns:
        slot ^= (column + np.float32(0)).view(np.uint32)
        slot *= np.uint32(0x85EBCA6B)
        slot ^= slot >> np.uint32(15)
    slot = slot * np.uint32(0xC2B2AE35) >> np.uint32(32 - bits)
    # The last corner of each slot stands for those at its place.
    last = np.empty(1 << bits, np.int32)
    every = np.arange(count, dtype=np.int32)
    last[slot] = every
    vertex = last.take(slot)
    same = (x.take(vertex) == x) & (y.take(vertex) == y) & (z.take(vertex) == z)
    vertex = np.where(same, vertex, every)
    used = np.zeros(count, bool)
    used[vertex] = True
    number = np.cumsum(used, dtype=np.int32) - 1
    return np.ascontiguousarray(columns[:, used].T), number.take(vertex).reshape(-1, 3)
