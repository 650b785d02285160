"""Normal maps: shading normals turned by the textures of a surface.

Shapes: N triangles, S points. Vectors are in world space, float32, laid out as in vectors.py.
"""

from __future__ import annotations

import numpy as np

from renderformer.data.appearance import Appearance
from renderformer.data.arrays import BoolArray, Float32Array, Int64Array
from renderformer.data.geometry.tangents import corner_tangents
from renderformer.data.rays.vectors import cross, dot, normalised, take

# Least cosine between a mapped normal and the ray that meets it, and between the mirrored ray and the face.
GRAZING = 0.02
# Halvings that find how far a normal turns back.
HALVINGS = 6


class Bumps:
    """The normal maps of triangles with corners and vertex normals (N, 3, 3) and an appearance.

    Attributes:
        triangles: (N,) which have one.
    """

    def __init__(self, triangles: Float32Array, normals: Float32Array, appearance: Appearance) -> None:
        self.triangles: BoolArray = appearance.bumpy
        self._appearance = appearance
        # Corner tangents (N, 12), zero where there is no normal map.
        self._tangents = np.zeros((12, len(triangles)), np.float32).T
        mapped = np.flatnonzero(self.triangles)
        computed = np.zeros((len(mapped), 3, 4), np.float32)
        kind = appearance.index[mapped]
        for number in np.unique(kind):
            texture = appearance.materials[number].textures.normal
            assert texture is not None
            assert texture.matrix is not None
            part = np.flatnonzero(kind == number)
            uv = appearance.uv[mapped[part], :, texture.uv_set] @ texture.matrix[:, :2].T
            computed[part] = corner_tangents(triangles[mapped[part]], normals[mapped[part]], uv)
        if appearance.tangents is not None:
            given = appearance.tangents[mapped]
            computed = np.where(given[..., :3].any(axis=2, keepdims=True), given, computed)
        self._tangents[mapped] = computed.reshape(-1, 12)

    def turned(
        self, normal: Float32Array, triangle: Int64Array, barycentric: Float32Array, share: Float32Array | None
    ) -> Float32Array:
        """Unit normals (S, 3), changed in place, turned by the maps at points of triangles; arguments as in
        `Appearance.bumps`."""
        rows, local = self._appearance.bumps(triangle, barycentric, share)
        if not len(rows):
            return normal
        corners = take(self._tangents, triangle[rows])
        u, v = barycentric[rows].T
        flat = (1 - u - v)[:, None] * corners[:, :4] + u[:, None] * corners[:, 4:8] + v[:, None] * corners[:, 8:]
        up = take(normal, rows)
        along = flat[:, :3]
        along = normalised(along - dot(along, up)[:, None] * up)
        across = cross(up, along) * np.copysign(np.float32(1), flat[:, 3])[:, None]
        turned = local[:, 0, None] * along + local[:, 1, None] * across + local[:, 2, None] * up
        # A map may hold a vector without length, and texture coordinates may show no direction.
        known = (dot(turned, turned) > 0) & (dot(along, along) > 0)
        normal[rows] = np.where(known[:, None], normalised(turned), up)
        return normal


def upright(normal: Float32Array, face: Float32Array, outgoing: Float32Array) -> Float32Array:
    """Mapped normals (S, 3), turned toward those of the faces, which face the viewer, where the viewer would see them
    from behind or the mirrored ray would run into the surface."""
    bad = np.flatnonzero(~_usable(normal, face, outgoing))
    if not len(bad):
        return normal
    mapped, faces, view = take(normal, bad), take(face, bad), take(outgoing, bad)
    share, step = np.ones(len(bad), np.float32), np.float32(0.5)
    for _ in range(HALVINGS):
        trial = share - step
        share = np.where(_usable(_between(mapped, faces, trial), faces, view), trial, share)
        step *= np.float32(0.5)
    normal[bad] = _between(mapped, faces, share)
    return normal


def _between(mapped: Float32Array, face: Float32Array, share: Float32Array) -> Float32Array:
    return normalised(mapped + share[:, None] * (face - mapped))


def _usable(normal: Float32Array, face: Float32Array, outgoing: Float32Array) -> BoolArray:
    """(S,) whether normals can be shaded."""
    cosine, flat = dot(normal, outgoing), dot(face, outgoing)
    # Where the face itself is seen edge-on no normal does better than its own.
    least = np.minimum(np.float32(GRAZING), np.float32(0.9) * flat)
    return np.asarray((cosine >= least) & (2 * cosine * dot(normal, face) - flat >= least))
