"""A tree over triangles that tells which of them rays meet: Embree, on the CPU.

Shapes: N triangles, S rays, in any frame; float32.
"""

from __future__ import annotations

import numpy as np

from renderformer.data.arrays import BoolArray, Float32Array, Int64Array


class Tree:
    """Triangles (N, 3, 3) ready for ray casting. Queries may come from several threads."""

    def __init__(self, triangles: Float32Array) -> None:
        from embreex.mesh_construction import TriangleMesh
        from embreex.rtcore_scene import EmbreeScene

        self._scene = EmbreeScene()
        corners = triangles.reshape(-1, 3)
        self._mesh = TriangleMesh(self._scene, corners, np.arange(len(corners), dtype=np.int32).reshape(-1, 3))
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
