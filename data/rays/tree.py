"""A tree over triangles that tells which of them rays meet: Embree, on the CPU.

Shapes: N triangles, S rays, in any frame; float32.
"""

from __future__ import annotations

import hashlib
import weakref
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from renderformer.data.arrays import AnyArray, BoolArray, Float32Array, Int32Array, Int64Array

# Triangles that embreex takes at once, in 40 ms in which no other thread of Python runs.
PIECE = 16384
# The trees that are in use, by digests of their triangles.
_KNOWN: weakref.WeakValueDictionary[bytes, Tree] = weakref.WeakValueDictionary()


class Nearest(NamedTuple):
    """What rays meet first: triangles (S,), -1 for none; the weights of their second and third corner, (S,) each; and
    where, in lengths of the directions of the rays (S,)."""

    triangle: AnyArray
    u: Float32Array
    v: Float32Array
    end: Float32Array


class Tree:
    """Triangles (N, 3, 3) ready for ray casting. Queries may come from several threads.

    Args:
        step: called from time to time while the tree is being built; an exception from it ends that.
    """

    def __init__(self, triangles: Float32Array, step: Callable[[], object] | None = None) -> None:
        from embreex.mesh_construction import TriangleMesh
        from embreex.rtcore_scene import EmbreeScene

        self._scene = EmbreeScene()
        # embreex copies one number after the other, which takes several times as long as the tree.
        self._meshes = []
        for start in range(0, len(triangles), PIECE):
            if step is not None:
                step()
            self._meshes.append(TriangleMesh(self._scene, *shared(triangles[start : start + PIECE])))
        # The first query builds the tree; after it, queries may come from several threads.
        self._scene.run(np.zeros((1, 3), np.float32), np.array([[0, 0, 1]], np.float32))

    def nearest(
        self, origins: Float32Array, directions: Float32Array, end: Float32Array | float | None = None
    ) -> Nearest:
        """What rays (S, 3) meet first.

        Args:
            end: of the rays, or of each (S,), in lengths of their directions; None for none.
        """
        result = self._scene.run(origins, directions, end, output=True)
        triangle = result["primID"]
        if len(self._meshes) > 1:
            # Both are -1 where there is nothing.
            triangle = triangle + np.int32(PIECE) * np.maximum(result["geomID"], 0)
        return Nearest(triangle, result["u"], result["v"], result["tfar"])

    def first(
        self, origins: Float32Array, directions: Float32Array, end: float | None = None
    ) -> tuple[Int64Array, Int64Array, Float32Array]:
        """Where rays (S, 3) first meet a triangle: indices of the rays that hit (S',), triangles (S',) and weights of
        their second and third corner (S', 2).

        Args:
            end: of the rays, in lengths of their directions; None for none.
        """
        found = self.nearest(origins, directions, end)
        rows = np.flatnonzero(found.triangle >= 0)
        triangle, u, v = (values.take(rows) for values in found[:3])
        return rows, triangle.astype(np.int64), np.stack([u, v]).T

    def met(self, origins: Float32Array, directions: Float32Array, end: float | None = None) -> BoolArray:
        """(S,) whether rays meet any triangle, arguments as in `first`; at a fraction of its cost."""
        return np.asarray(self._scene.run(origins, directions, end, query="OCCLUDED")) >= 0


def tree_of(triangles: Float32Array, step: Callable[[], object] | None = None) -> Tree:
    """A tree, arguments as of `Tree`: the one of the same triangles that somebody uses, or a new one. To read triangles
    takes a hundredth of the time."""
    key = hashlib.blake2b(np.ascontiguousarray(triangles).data, digest_size=16).digest()
    known = _KNOWN.get(key)
    if known is None:
        known = _KNOWN[key] = Tree(triangles, step)
    return known


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
