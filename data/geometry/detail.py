"""Where the detail of a scene is: a house on a plain, a room under a dome. What lies far around it may be coarse.

Shapes: N triangles, M points.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from renderformer.data.arrays import AnyArray, Float64Array
from renderformer.data.geometry.subdivide import cut
from renderformer.data.geometry.triangles import in_blocks, products
from renderformer.data.scene import Scene

# Everything up to this many times as far as half of the triangles counts as detail, so a room does around a statue.
REACH = 16.0


@dataclass(frozen=True, eq=False)
class Detail:
    """A ball that holds the detail of a scene: centre (3,) and radius, in scene units."""

    centre: Float64Array
    radius: float

    @classmethod
    def of(cls, triangles: AnyArray) -> Detail:
        """The ball about the median of the triangles (N, 3, 3)."""
        middles = np.empty((3, len(triangles)))
        for part, (first, second, third) in in_blocks(triangles):
            middles[:, part] = (first + second + third) / 3
        centre = np.array([np.median(column) for column in middles])
        away = middles - centre[:, None]
        distance = np.sqrt(products(away, away))
        return cls(centre, REACH * float(np.median(distance)))

    def coarseness(self, points: AnyArray) -> Float64Array:
        """(M,) by what power of two things at points (M, 3) may be larger than inside the ball; 1 in it."""
        distance = np.linalg.norm(points - self.centre, axis=-1)
        if not self.radius > 0:
            return np.ones(len(points))
        return np.asarray(2.0 ** np.ceil(np.log2(np.maximum(distance / self.radius, 1.0))))

    def graded(self, scene: Scene) -> Scene:
        """The scene with triangles cut where they are larger than their distance from the detail, so that parts of them
        near it can be told from parts far away; the scene itself if it is all detail."""
        if not self.radius > 0 or np.ptp(scene.bounds, axis=0).max() <= 4 * self.radius:
            return scene

        def longest(points: Float64Array) -> Float64Array:
            return np.maximum(np.linalg.norm(points - self.centre, axis=-1), self.radius)

        return scene.replace(objects=tuple(cut(mesh, longest) for mesh in scene.objects))
