"""Triangles that rays meet: the first surface along a ray, and whether anything is in the way. Embree, on the CPU.

Shapes: N triangles, S rays. Vectors are in world space, float32, laid out as in vectors.py.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Self

import numpy as np

from renderformer.data.appearance import Appearance
from renderformer.data.arrays import BoolArray, Float16Array, Float32Array, Int32Array, Int64Array
from renderformer.data.rays.vectors import dot, normalised, take
from renderformer.data.scene import EMISSION, Scene

# Rays start this far off a triangle, as a share of its largest coordinate: 256 roundings of float32, many times the
# error of a point on it. So any unit works, and small things in a large scene are lit in detail.
OFFSET = 2.0**-16


@dataclass(frozen=True)
class Hits:
    """Surface points that rays met: `rows` (S,) indices of the rays that hit, then per hit the triangle (S,), position,
    shading normal and geometric normal, both facing the ray's origin (S, 3), the direction to that origin, the weights
    of the triangle's second and third corner (S, 2), and how far off the surface rays start (S,)."""

    rows: Int64Array
    triangle: Int64Array
    position: Float32Array
    normal: Float32Array
    face_normal: Float32Array
    outgoing: Float32Array
    barycentric: Float32Array
    offset: Float32Array

    def take(self, index: Int64Array) -> Hits:
        """Those at an index (S',)."""
        return Hits(*(take(getattr(self, field.name), index) for field in fields(self)))

    @property
    def shadow_origins(self) -> Float32Array:
        """(S, 3) where rays that leave the surface start, a little off it."""
        return self.position + self.offset[:, None] * self.face_normal


class Surfaces:
    """The triangles of a scene, ready for ray casting. Queries may come from several threads.

    Args:
        triangles: (N, 3, 3) float32 world-space corners; normals: (N, 3, 3) vertex normals; materials: (N, 13) rows.
        patches: (K, 13, P, P) texture patches and (N,) index into them (-1: uniform), see `Scene.patches`, or None.
        appearance: textures and vertex colours, see `Scene.appearance`, or None; instead of patches.
        two_sided: (N,) whether lights shine from both sides, see `Mesh.two_sided`; None for no light.
    """

    def __init__(
        self,
        triangles: Float32Array,
        normals: Float32Array,
        materials: Float32Array,
        patches: tuple[Float16Array, Int32Array] | None = None,
        appearance: Appearance | None = None,
        two_sided: BoolArray | None = None,
    ) -> None:
        from embreex.mesh_construction import TriangleMesh
        from embreex.rtcore_scene import EmbreeScene

        self.triangles = np.ascontiguousarray(triangles, np.float32)
        # Tables from which columns are gathered: corners and vertex normals (N, 9), materials (N, 13).
        self.corners = np.asfortranarray(triangles.reshape(-1, 9), np.float32)
        self.normals = np.asfortranarray(normals.reshape(-1, 9), np.float32)
        self.materials = np.asfortranarray(materials, np.float32)
        self.patches = patches
        self.appearance = appearance
        self.two_sided = np.zeros(len(triangles), bool) if two_sided is None else np.asarray(two_sided)
        self._dark_behind = (self.materials[:, EMISSION] > 0).any(axis=1) & ~self.two_sided
        cross = np.cross(self.triangles[:, 1] - self.triangles[:, 0], self.triangles[:, 2] - self.triangles[:, 0])
        self.face_normals = np.asfortranarray(normalised(cross))
        self.areas = np.linalg.norm(cross, axis=1) / 2
        self.offsets = np.float32(OFFSET) * np.abs(self.corners).max(axis=1)
        self._scene = EmbreeScene()
        corners = self.triangles.reshape(-1, 3)
        self._mesh = TriangleMesh(self._scene, corners, np.arange(len(corners), dtype=np.int32).reshape(-1, 3))
        # The first query builds the tree; after it, queries may come from several threads.
        self._scene.run(np.zeros((1, 3), np.float32), np.array([[0, 0, 1]], np.float32))

    @classmethod
    def of(cls, scene: Scene) -> Self:
        """Those of a scene."""
        # A scene may mix meshes with patches and meshes with an appearance; baking serves both.
        patches = scene.patches if any(mesh.patches is not None for mesh in scene.objects) else None
        appearance = scene.appearance if patches is None else None
        return cls(scene.triangles, scene.normals, scene.materials, patches, appearance, scene.two_sided)

    def hits(self, origins: Float32Array, directions: Float32Array, spread: float = 0.0) -> tuple[Hits, Float32Array]:
        """First surface along each ray, and (S', 13) material rows of the points that were hit. A light that shines
        from its front alone does not emit where its back was hit.

        Args:
            origins, directions: (S, 3) float32; directions need not be unit.
            spread: width of what a ray stands for, over its length: textures are averaged over it.
        """
        rows, triangle, barycentric = self.first(origins, directions)
        directions = take(directions, rows)
        width = None
        if spread and self.appearance is not None:
            away = _blend(take(self.corners, triangle), *barycentric.T) - take(origins, rows)
            width = np.float32(spread) * np.sqrt(dot(away, away))
        position, normal, materials = self.points(triangle, barycentric, width)
        face_normal = take(self.face_normals, triangle)
        normal *= np.copysign(np.float32(1), -dot(normal, directions))[:, None]
        side = np.copysign(np.float32(1), -dot(face_normal, directions))
        face_normal *= side[:, None]
        materials[(side < 0) & self._dark_behind.take(triangle), EMISSION] = 0
        outgoing, offset = normalised(-directions), self.offsets.take(triangle)
        return Hits(rows, triangle, position, normal, face_normal, outgoing, barycentric, offset), materials

    def first(self, origins: Float32Array, directions: Float32Array) -> tuple[Int64Array, Int64Array, Float32Array]:
        """Where rays (S, 3) first meet a surface: indices of the rays that hit (S',), triangles (S',) and barycentric
        coordinates (S', 2) as in `Hits`."""
        result = self._scene.run(origins, directions, output=True)
        rows = np.flatnonzero(result["primID"] >= 0)
        triangle, u, v = (take(result[key], rows) for key in ("primID", "u", "v"))
        return rows, triangle.astype(np.int64), np.stack([u, v]).T

    def points(
        self, triangle: Int64Array, barycentric: Float32Array, width: Float32Array | None = None
    ) -> tuple[Float32Array, Float32Array, Float32Array]:
        """Position (S, 3), unit shading normal (S, 3) and material row (S, 13) of points of triangles (S,).

        Args:
            width: (S,) of what a point stands for, scene units: textures are averaged over it.
        """
        u, v = barycentric.T
        position = _blend(take(self.corners, triangle), u, v)
        normal = normalised(_blend(take(self.normals, triangle), u, v))
        # A vertex normal may be missing (zero); the face's stands in.
        missing = dot(normal, normal) == 0
        if missing.any():
            normal[missing] = take(self.face_normals, triangle[missing])
        return position, normal, self._materials_at(triangle, barycentric, width)

    def _materials_at(
        self, triangle: Int64Array, barycentric: Float32Array, width: Float32Array | None
    ) -> Float32Array:
        """(S, 13) rows at points of triangles (S,), arguments as in `points`."""
        rows = take(self.materials, triangle)
        if self.appearance is not None:
            share = None if width is None else width**2 / np.maximum(self.areas[triangle], np.float32(1e-30))
            return np.asfortranarray(self.appearance.values(triangle, barycentric, rows, share).rows)
        if self.patches is None:
            return rows
        u, v = barycentric.T
        patches, index = self.patches
        varying = np.flatnonzero(index[triangle] >= 0)
        side = patches.shape[-1]
        # Texel [i, j] lies i/side of the way toward corner 1 and j/side toward corner 2.
        i = np.clip(np.rint(u[varying] * side), 0, side - 1).astype(np.int64)
        j = np.clip(np.rint(v[varying] * side), 0, np.minimum(side - i, side - 1)).astype(np.int64)
        rows[varying] = patches[index[triangle[varying]], :, i, j]
        return rows

    def visible(self, origins: Float32Array, targets: Float32Array) -> BoolArray:
        """(S,) whether the segment from origin to target is free, leaving out a thousandth at the target's end."""
        blocked = self._scene.run(origins, targets - origins, 0.999, query="OCCLUDED")
        return np.asarray(blocked) < 0

    def met(self, origins: Float32Array, directions: Float32Array) -> BoolArray:
        """(S,) whether there is any surface along each ray; a hundredth of the cost of `hits` and shading."""
        return np.asarray(self._scene.run(origins, directions, query="OCCLUDED")) >= 0


def _blend(corners: Float32Array, u: Float32Array, v: Float32Array) -> Float32Array:
    """(S, 3) interpolation between three vectors, (S, 9), with weights 1 - u - v, u and v, each (S,)."""
    first = (1 - u - v)[:, None] * corners[:, :3]
    return first + u[:, None] * corners[:, 3:6] + v[:, None] * corners[:, 6:]
