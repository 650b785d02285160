"""Triangles that rays meet: the first surface along a ray, and whether anything is in the way. Embree, on the CPU.

Shapes: N triangles, S rays. Vectors are in world space, float32, laid out as in vectors.py.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields, replace
from functools import cached_property
from typing import Any, Self, TypeAlias

import numpy as np

from renderformer.data.appearance import Appearance
from renderformer.data.arrays import AnyArray, BoolArray, Float16Array, Float32Array, Int32Array, Int64Array
from renderformer.data.rays.bumps import Bumps, upright
from renderformer.data.rays.tree import Tree, tree_of
from renderformer.data.rays.vectors import cross, dot, in_columns, normalised, take
from renderformer.data.rays.veil import BLENDED, FAINT, LAYERS, Veil
from renderformer.data.scene import EMISSION, Scene

# Whether points see one another, or the share of light that passes between them.
Seen: TypeAlias = BoolArray | Float32Array
# Of rays that hit: their indices, the triangles, and barycentric coordinates as in `Hits`.
Found: TypeAlias = tuple[Int64Array, Int64Array, Float32Array]
# Rays start this far off a triangle, as a share of its largest coordinate: 256 roundings of float32, many times the
# error of a point on it. So any unit works, and small things in a large scene are lit in detail.
OFFSET = 2.0**-16
# Least cosine that the area of a surface which a ray stands for grows by.
MIN_COSINE = 0.05
# Most planes of walls and floors that hide nothing from behind; decimals to which they are told apart; and how far off
# them, as a share of the scene, cameras are in front of them for sure.
MOST_PLANES, ROUNDED, NEAR_PLANE = 8, 5, 1e-3


@dataclass(frozen=True)
class Hits:
    """Surface points that rays met: `rows` (S,) indices of the rays that hit, then per hit the triangle (S,), position,
    shading normal and geometric normal, both facing the ray's origin (S, 3), the direction to that origin, the weights
    of the triangle's second and third corner (S, 2), how far off the surface rays start (S,), and the width of what the
    ray stands for there (S,), None for nothing."""

    rows: Int64Array
    triangle: Int64Array
    position: Float32Array
    normal: Float32Array
    face_normal: Float32Array
    outgoing: Float32Array
    barycentric: Float32Array
    offset: Float32Array
    width: Float32Array | None = None

    def take(self, index: Int64Array) -> Hits:
        """Those at an index (S',)."""
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        taken: dict[str, Any] = {key: None if value is None else take(value, index) for key, value in values.items()}
        return Hits(**taken)

    @property
    def shadow_origins(self) -> Float32Array:
        """(S, 3) where rays that leave the surface start, a little off it."""
        return self.position + self.offset[:, None] * self.face_normal


class Surfaces:
    """The triangles of a scene, ready for ray casting. Queries may come from several threads.

    Args:
        triangles: (N, 3, 3) float32 world-space corners; normals: (N, 3, 3) vertex normals; materials: (N, 13) rows.
        patches: (K, 13, P, P) texture patches and (N,) index into them (-1: uniform), see `Scene.patches`, or None.
        appearance: textures and vertex colours, see `Scene.appearance`, or None; not of triangles with a patch.
        two_sided: (N,) whether lights shine from both sides, see `Mesh.two_sided`; None for no light.
        tree: of the triangles, if it is known.
        unseen: (N, 2) whether cameras do not see front and back, see `Scene.unseen`; None if they see all.
    """

    def __init__(
        self,
        triangles: Float32Array,
        normals: Float32Array,
        materials: Float32Array,
        patches: tuple[Float16Array, Int32Array] | None = None,
        appearance: Appearance | None = None,
        two_sided: BoolArray | None = None,
        tree: Tree | None = None,
        unseen: BoolArray | None = None,
    ) -> None:
        self.triangles = np.ascontiguousarray(triangles, np.float32)
        # Tables from which columns are gathered: corners and vertex normals (N, 9), materials (N, 13).
        self.corners = in_columns(triangles.reshape(-1, 9))
        self.normals = in_columns(normals.reshape(-1, 9))
        self.materials = in_columns(materials)
        self.patches = patches
        self.appearance = appearance
        self.two_sided = np.zeros(len(triangles), bool) if two_sided is None else np.asarray(two_sided)
        self._dark_behind = (self.materials[:, EMISSION] > 0).any(axis=1) & ~self.two_sided
        first = self.corners[:, :3]
        double = cross(self.corners[:, 3:6] - first, self.corners[:, 6:] - first)
        self.face_normals = normalised(double)
        length: Float32Array = np.sqrt(dot(double, double))
        self.areas = length / np.float32(2)
        self.offsets = np.float32(OFFSET) * np.abs(self.corners).max(axis=1)
        self.tree = tree or tree_of(self.triangles)
        self._unseen = unseen
        self._veil: Veil | None = None
        self._bumps: Bumps | None = None
        if appearance is not None and appearance.see_through.any():
            self._veil = Veil(self, appearance)
        if appearance is not None and appearance.bumpy.any():
            self._bumps = Bumps(self.triangles, normals, appearance)

    @classmethod
    def of(cls, scene: Scene, tree: Tree | None = None) -> Self:
        """Those of a scene; `tree` is of its triangles, if it is known."""
        patches, appearance = None, scene.appearance
        if any(mesh.patches is not None for mesh in scene.objects):
            patches = scene.patches
        if patches is not None and appearance is not None:
            # Those that are baked from the appearance are for models that know no more.
            patches = patches[0], np.where(appearance.index >= 0, -1, patches[1]).astype(np.int32)
        sides, unseen = scene.two_sided, scene.unseen
        return cls(scene.triangles, scene.normals, scene.materials, patches, appearance, sides, tree, unseen)

    @property
    def sees_through(self) -> bool:
        """Whether there are surfaces that rays may pass."""
        return self._veil is not None

    @property
    def seen_type(self) -> type[Any]:
        """Of the numbers of `transmitted`."""
        return bool if self._veil is None else np.float32

    @property
    def notes(self) -> tuple[str, ...]:
        """A line if rays have met too many surfaces that rays may pass to get through."""
        if self._veil is None or not self._veil.exhausted:
            return ()
        return (f"light passes at most {LAYERS} transparent surfaces, which hides what is behind them",)

    def hits(
        self,
        origins: Float32Array,
        directions: Float32Array,
        spread: AnyArray | float = 0.0,
        width: AnyArray | float = 0.0,
    ) -> tuple[Hits, Float32Array]:
        """First surface along each ray, and (S', 13) material rows of the points that were hit. A light that shines
        from its front alone does not emit where its back was hit.

        Args:
            origins, directions: (S, 3) float32; directions need not be unit.
            spread: of the rays or of each (S,), by how much the width of what a ray stands for grows with its length;
                textures are averaged over that.
            width: of the rays or of each (S,) where they start, scene units.
        """
        return self._hits(directions, *self.first(origins, directions), origins, spread, width)

    def seen(
        self,
        origins: Float32Array,
        directions: Float32Array,
        spread: AnyArray | float = 0.0,
        width: AnyArray | float = 0.0,
    ) -> tuple[Hits, Float32Array]:
        """As `hits`, of rays of a camera, which does not see every side."""
        found = self._first_seen(origins, directions, self.first)
        return self._hits(directions, *found, origins, spread, width)

    def layers(
        self, origins: Float32Array, directions: Float32Array, spread: float
    ) -> Iterator[tuple[Hits, Float32Array, Float32Array | None]]:
        """As `seen`, one surface behind the other where rays go on: hits, material rows, and the share of each ray that
        meets the surface (S',); None for all of it. The last ones are met or not, as `hits` has it."""
        if self._veil is None:
            yield *self.seen(origins, directions, spread), None
            return
        veil, index, left = self._veil, np.arange(len(origins)), np.ones(len(origins), np.float32)
        travelled = np.zeros(len(origins), np.float32)
        for _ in range(BLENDED):
            found = self._first_seen(origins, directions, self._first_visible)
            width = np.float32(spread) * travelled
            hits, materials = self._hits(directions, *found, origins, spread, width)
            rows, alpha = hits.rows, np.ones(len(hits.rows), np.float32)
            thin = np.flatnonzero(veil.clear[hits.triangle])
            part = hits.take(thin)
            alpha[thin] = veil.alpha(part.triangle, part.barycentric, self._share(part.triangle, part.width))
            yield replace(hits, rows=index[rows]), materials, left[rows] * alpha
            onward = np.flatnonzero(left[rows] * (1 - alpha) > FAINT)
            if not len(onward):
                return
            index, left = index[rows[onward]], (left[rows] * (1 - alpha))[onward]
            away = take(hits.position, onward) - take(origins, rows[onward])
            travelled = travelled[rows[onward]] + np.sqrt(dot(away, away))
            directions = take(directions, rows[onward])
            origins = self.beyond(hits.triangle[onward], take(hits.barycentric, onward), directions)
        hits, materials = self.seen(origins, directions, spread, np.float32(spread) * travelled)
        yield replace(hits, rows=index[hits.rows]), materials, left[hits.rows]

    def _hits(
        self,
        directions: Float32Array,
        rows: Int64Array,
        triangle: Int64Array,
        barycentric: Float32Array,
        origins: Float32Array,
        spread: AnyArray | float,
        width: AnyArray | float,
    ) -> tuple[Hits, Float32Array]:
        """Hits and material rows of what rays met, see `first` and `hits`."""
        directions, face_normal = take(directions, rows), take(self.face_normals, triangle)
        outgoing = normalised(-directions)
        cosine = dot(face_normal, outgoing)
        side = np.copysign(np.float32(1), cosine)
        position, wide = self.positions(triangle, barycentric), None
        if self.appearance is not None and (np.ndim(spread) or np.ndim(width) or spread or width):
            away = position - take(origins, rows)
            wide = _at(width, rows) + _at(spread, rows) * np.sqrt(dot(away, away))
            # As a square of the surface that it covers.
            wide /= np.sqrt(np.maximum(np.abs(cosine), np.float32(MIN_COSINE)))
        normal, materials = self.looks(triangle, barycentric, wide)
        face_normal *= side[:, None]
        materials[(side < 0) & self._dark_behind.take(triangle), EMISSION] = 0
        facing = np.copysign(np.float32(1), dot(normal, outgoing))
        bumpy = None if self._bumps is None else np.flatnonzero(self._bumps.triangles[triangle])
        if bumpy is not None:
            facing[bumpy] = side[bumpy]
        normal *= facing[:, None]
        if bumpy is not None and len(bumpy):
            normal[bumpy] = upright(take(normal, bumpy), take(face_normal, bumpy), take(outgoing, bumpy))
        offset = self.offset(triangle)
        return Hits(rows, triangle, position, normal, face_normal, outgoing, barycentric, offset, wide), materials

    def first(self, origins: Float32Array, directions: Float32Array) -> Found:
        """Where rays (S, 3) first meet a surface: indices of the rays that hit (S',), triangles (S',) and barycentric
        coordinates (S', 2) as in `Hits`."""
        if self._veil is None:
            return self.tree.first(origins, directions)
        return self._veil.first(origins, directions, self._veil.sieved)

    def _first_visible(self, origins: Float32Array, directions: Float32Array) -> Found:
        """As `first`, of points that do not let all rays pass."""
        assert self._veil is not None
        return self._veil.first(origins, directions, self._veil.invisible)

    def _first_seen(
        self, origins: Float32Array, directions: Float32Array, first: Callable[[Float32Array, Float32Array], Found]
    ) -> Found:
        """What `first` finds along rays of a camera on a side that it sees."""
        rows, triangle, barycentric = first(origins, directions)
        if self._unseen is None or self._sees_all(origins):
            return rows, triangle, barycentric
        found, places = np.full(len(origins), -1), np.zeros((len(origins), 2), np.float32)
        found[rows], places[rows] = triangle, barycentric
        flagged = np.asarray(self._unseen.any(axis=1))
        for _ in range(LAYERS):
            rows = rows[flagged[found[rows]]]
            cosine = dot(take(self.face_normals, found[rows]), take(directions, rows))
            rows = rows[self._unseen[found[rows], (cosine > 0).astype(np.int64)]]
            if not len(rows):
                break
            onward = take(directions, rows)
            hit, triangle, barycentric = first(self.beyond(found[rows], places[rows], onward), onward)
            found[rows] = -1
            rows = rows[hit]
            found[rows], places[rows] = triangle, barycentric
        rows = np.flatnonzero(found >= 0)
        return rows, found[rows], places[rows]

    def _sees_all(self, origins: Float32Array) -> bool:
        """Whether cameras at points (S, 3) see no triangle from a side that they do not see; False if in doubt."""
        planes = self._one_sided
        return planes is not None and bool((origins @ planes[:3] > planes[3]).all())

    @cached_property
    def _one_sided(self) -> Float32Array | None:
        """(4, K) normals and offsets of planes in front of which cameras see all triangles, as inside of a room; None
        if there are no such or too many."""
        assert self._unseen is not None
        if self._unseen[:, 0].any():
            return None
        behind = np.flatnonzero(self._unseen[:, 1])
        normal, size = take(self.face_normals, behind), np.float32(np.abs(self.corners).max())
        offset = dot(normal, take(self.corners, behind)[:, :3]) / size
        planes = np.unique(np.round(np.column_stack([normal, offset]), ROUNDED), axis=0)
        if len(planes) > MOST_PLANES:
            return None
        planes[:, 3] = (planes[:, 3] + NEAR_PLANE) * size
        return planes.T.astype(np.float32)

    def beyond(self, triangle: Int64Array, barycentric: Float32Array, directions: Float32Array) -> Float32Array:
        """(S, 3) where rays start again that passed points of triangles."""
        face = take(self.face_normals, triangle)
        step = np.copysign(self.offset(triangle), dot(face, directions))
        return self.positions(triangle, barycentric) + step[:, None] * face

    def offset(self, triangle: Int64Array) -> Float32Array:
        """(S,) how far off triangles rays start."""
        return self.offsets.take(triangle)

    def positions(self, triangle: Int64Array, barycentric: Float32Array) -> Float32Array:
        """(S, 3) points of triangles (S,)."""
        return _blend(take(self.corners, triangle), *barycentric.T)

    def points(
        self, triangle: Int64Array, barycentric: Float32Array, width: Float32Array | None = None
    ) -> tuple[Float32Array, Float32Array, Float32Array]:
        """Position (S, 3), and normals and materials as `looks` gives them, of points of triangles (S,)."""
        return self.positions(triangle, barycentric), *self.looks(triangle, barycentric, width)

    def looks(
        self, triangle: Int64Array, barycentric: Float32Array, width: Float32Array | None = None
    ) -> tuple[Float32Array, Float32Array]:
        """Unit shading normals on the front (S, 3) and material rows (S, 13) of points of triangles (S,).

        Args:
            width: (S,) of what a point stands for, scene units: textures are averaged over it.
        """
        u, v = barycentric.T
        normal = normalised(_blend(take(self.normals, triangle), u, v))
        # A vertex normal may be missing (zero); the face's stands in.
        missing = dot(normal, normal) == 0
        if missing.any():
            normal[missing] = take(self.face_normals, triangle[missing])
        share = self._share(triangle, width)
        if self._bumps is not None:
            normal = self._bumps.turned(normal, triangle, barycentric, share)
        return normal, self._materials_at(triangle, barycentric, share)

    def _share(self, triangle: Int64Array, width: Float32Array | None) -> Float32Array | None:
        """(S,) share of the triangles' areas that squares of this width (S,) are."""
        return None if width is None else width * width / np.maximum(self.areas.take(triangle), np.float32(1e-30))

    def _materials_at(
        self, triangle: Int64Array, barycentric: Float32Array, share: Float32Array | None
    ) -> Float32Array:
        """(S, 13) rows at points of triangles (S,), each of which stands for a share (S,) of its triangle."""
        rows = take(self.materials, triangle)
        if self.appearance is not None:
            rows = self.appearance.values(triangle, barycentric, rows, share).rows
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
        """(S,) whether the segment from origin to target is free, leaving out a thousandth at the target's end. A
        surface that lets a share of the light through lets it pass or not."""
        if self._veil is None:
            return ~self.tree.met(origins, targets - origins, 0.999)
        return self._veil.free(origins, targets - origins, 0.999)

    def transmitted(self, origins: Float32Array, targets: Float32Array) -> Seen:
        """As `visible`, or where surfaces let a share of the light through, that share."""
        if self._veil is None:
            return self.visible(origins, targets)
        return self._veil.transmitted(origins, targets - origins, 0.999)

    def escaping(self, origins: Float32Array, directions: Float32Array) -> Seen:
        """(S,) whether each ray meets no surface, or the share of it that meets none."""
        if self._veil is None:
            return ~self.tree.met(origins, directions)
        return self._veil.transmitted(origins, directions)

    def met(self, origins: Float32Array, directions: Float32Array) -> Seen:
        """(S,) whether there is any surface along each ray of a camera, or the share of it that meets one; a hundredth
        of the cost of `seen` and shading."""
        if self._unseen is not None and not self._sees_all(origins):
            return self._met_seen(origins, directions)
        if self._veil is None:
            return self.tree.met(origins, directions)
        return 1 - self._veil.transmitted(origins, directions)

    def _met_seen(self, origins: Float32Array, directions: Float32Array) -> Seen:
        """As `met`, where a camera does not see every side."""
        left, index = np.ones(len(origins), np.float32), np.arange(len(origins))
        first = self.first if self._veil is None else self._first_visible
        for _ in range(LAYERS):
            rows, triangle, barycentric = self._first_seen(origins, directions, first)
            index, directions = index[rows], take(directions, rows)
            left[index] *= 0 if self._veil is None else 1 - self._veil.alpha(triangle, barycentric)
            if not (left[index] > FAINT).any():
                break
            origins = self.beyond(triangle, barycentric, directions)
        return left == 0 if self._veil is None else 1 - left


def _at(values: AnyArray | float, rows: Int64Array) -> AnyArray | np.float32:
    """Those of some rays, of numbers for all rays or for each."""
    return values[rows] if isinstance(values, np.ndarray) and values.ndim else np.float32(values)


def _blend(corners: Float32Array, u: Float32Array, v: Float32Array) -> Float32Array:
    """(S, 3) interpolation between three vectors, (S, 9), with weights 1 - u - v, u and v, each (S,)."""
    first = (1 - u - v)[:, None] * corners[:, :3]
    return first + u[:, None] * corners[:, 3:6] + v[:, None] * corners[:, 6:]
