"""Surfels, small flat pieces of surface: where they lie on the triangles of a scene, and their two sides.

A triangle is cut into k x k equal parts with a surfel in the middle of each. Triangles that are much smaller than a
surfel share one with their neighbours of like orientation. So the surfel of a point follows by arithmetic from its
triangle and barycentric coordinates.

Shapes: N triangles, M surfels, S points. Scene units; vectors are laid out as in vectors.py.
"""

from __future__ import annotations

import math

import numpy as np

from renderformer.data.arrays import BoolArray, Float32Array, Float64Array, Int64Array
from renderformer.data.geometry.triangles import bounds
from renderformer.data.rays.direct import LitSurfaces
from renderformer.data.rays.embree import Hits
from renderformer.data.rays.hemisphere import cosine_directions, oriented
from renderformer.data.rays.lights import r2_sequence
from renderformer.data.rays.vectors import dot, take
from renderformer.data.scene import DIFFUSE, SPECULAR

# Triangles below this share of a surfel's area share surfels.
SMALL = 0.5
# Of the grid whose cells group them, in cells.
GRID_SHIFT = 0.37
# Of the triangles of a group, that many may stand for it, by how many of VIEWS rays get as far as REACH cells.
CANDIDATES, VIEWS, REACH = 4, 8, 0.5


class Sides:
    """Fronts and backs of M surfels of a width (M,): in which triangle (M,) at which barycentric coordinates (M, 2)."""

    def __init__(self, surfaces: LitSurfaces, triangle: Int64Array, place: Float32Array, width: Float32Array) -> None:
        position, normal, materials = surfaces.points(triangle, place, width)
        face = take(surfaces.face_normals, triangle)
        # Both normals on one side of the surface.
        normal = normal * np.copysign(np.float32(1), dot(normal, face))[:, None]
        self.materials = materials
        self.triangle = np.tile(triangle, 2)
        self.place = np.tile(place, (2, 1))
        self.position = np.tile(position, (2, 1))
        self._offset = np.tile(surfaces.offset(triangle), 2)
        self.normal = np.concatenate([normal, -normal])
        self._face = np.concatenate([face, -face])
        self.diffuse, self.reflectance = (np.tile(colour, (2, 1)) for colour in _colours(materials))

    def __len__(self) -> int:
        return len(self.triangle)

    def average(self, surfaces: LitSurfaces, first: Int64Array) -> None:
        """Give surfels that several triangles share the mean colours of those.

        Args:
            first: (N,) number of the first surfel of each triangle.
        """
        count = len(self) // 2
        users = np.bincount(first, minlength=count)
        sharing = np.flatnonzero(users[first] > 1)
        surfel, area = first[sharing], surfaces.areas[sharing].astype(np.float64)
        together = np.flatnonzero(users > 1)
        whole = np.maximum(np.bincount(surfel, area, count)[together, None], 1e-30)
        every = _colours(surfaces.materials[sharing])
        for values, colours in zip((self.diffuse, self.reflectance), every, strict=True):
            total = np.stack([np.bincount(surfel, area * channel, count) for channel in colours.T], axis=1)
            values[together] = values[count + together] = total[together] / whole

    def hits(self, part: Int64Array) -> Hits:
        """The surface points of some sides, seen from straight above."""
        face = self._face[part]
        return Hits(
            np.arange(len(part)), self.triangle[part], self.position[part], self.normal[part], face, face,
            self.place[part], self._offset[part],
        )  # fmt: skip

    def rays(self, part: Int64Array, count: int) -> tuple[Float32Array, Float32Array, BoolArray]:
        """Origins and directions (S * count, 3) of rays over the hemispheres of some sides, denser toward the normal as
        the cosine is, and which (S * count,) leave the surface: vertex normals send some into it. Every side shifts the
        sequence by its number, so that neighbours do not share an error."""
        shift = np.stack([part * 0.6180339887498949, part * 0.4142135623730951], axis=-1) % 1
        local = cosine_directions((r2_sequence(count).astype(np.float32)[None] + shift[:, None]).reshape(-1, 2) % 1)
        origins = np.repeat(self.hits(part).shadow_origins, count, axis=0)
        directions = oriented(np.repeat(self.normal[part], count, axis=0), local)
        return origins, directions, dot(directions, np.repeat(self._face[part], count, axis=0)) > 0


def _colours(materials: Float32Array) -> tuple[Float32Array, Float32Array]:
    """(S, 3) diffuse and whole reflectance of rows (S, 13), which send no more back than arrives."""
    diffuse = materials[:, DIFFUSE]
    return np.minimum(diffuse, 1), np.minimum(diffuse + materials[:, SPECULAR], 1)


def placed(
    surfaces: LitSurfaces, cuts: Int64Array, size: Float64Array, middles: Float32Array
) -> tuple[Int64Array, Int64Array, Float32Array]:
    """Where surfels of areas of about `size` (N,) lie on triangles with centroids `middles` (N, 3): (N,) number of the
    first one of each triangle, (M,) their triangles and (M, 2) barycentric coordinates."""
    small = surfaces.areas < SMALL * size
    large = np.flatnonzero(~small)
    counts = cuts[large] ** 2
    first = np.zeros(len(cuts), np.int64)
    first[large] = np.cumsum(counts) - counts
    number = np.arange(counts.sum()) - np.repeat(first[large], counts)
    triangle, place = np.repeat(large, counts), part_centroids(number, np.repeat(cuts[large], counts))
    little = np.flatnonzero(small)
    if len(little):
        group, chosen = _groups(surfaces, little, np.sqrt(size[little]), middles)
        first[little] = len(triangle) + group
        triangle = np.concatenate([triangle, chosen])
        place = np.concatenate([place, np.full((len(chosen), 2), 1 / 3, np.float32)])
    return first, triangle, place


def _groups(
    surfaces: LitSurfaces, triangles: Int64Array, cell: Float64Array, middles: Float32Array
) -> tuple[Int64Array, Int64Array]:
    """Triangles grouped by the cell, of size `cell` (S,), of a grid that their centroid, of `middles` (N, 3), lies in
    and by the axis that they face most.

    Returns:
        (S,) the group of each of the triangles (S,), and the triangle that stands for each group.
    """
    # The grid begins beside the corner of the scene, so that walls and floors do not lie on its planes.
    from_corner = middles.take(triangles, axis=0) - bounds(surfaces.triangles)[0]
    place = np.floor(from_corner / cell[:, None] + GRID_SHIFT).astype(np.int64)
    grid = np.unique(cell, return_inverse=True)[1]
    normal = surfaces.face_normals[triangles]
    axis = np.abs(normal).argmax(axis=1)
    facing = 2 * axis + (np.take_along_axis(normal, axis[:, None], axis=1)[:, 0] < 0)
    group = numbered((*place.T, facing, grid))
    reach = np.zeros(group.max() + 1)
    reach[group] = cell
    return group, _in_sight(surfaces, triangles, group, REACH * reach)


def _in_sight(surfaces: LitSurfaces, triangles: Int64Array, group: Int64Array, reach: Float64Array) -> Int64Array:
    """(G,) of the triangles (S,) of each group one of a few, the more often the more of its view is free as far as
    `reach` (G,): what lies under a blanket or in its folds is seldom seen, and should not stand for it."""
    areas = surfaces.areas[triangles]
    # By group and then by area: numbers that are not negative sort as their bits do.
    order = np.argsort(group << 32 | areas.view(np.int32), kind="stable")
    total = np.cumsum(areas[order], dtype=np.float64)
    ends = total[np.searchsorted(group[order], np.arange(len(reach)), side="right") - 1]
    starts = np.concatenate([[0.0], ends[:-1]])
    local = cosine_directions(r2_sequence(VIEWS).astype(np.float32))
    candidates, free = [], np.full((CANDIDATES, len(reach)), 1e-3)
    for k in range(CANDIDATES):
        place = np.searchsorted(total, starts + (k + 0.5) / CANDIDATES * (ends - starts))
        candidates.append(triangles[order[np.minimum(place, len(order) - 1)]])
        hits = _middles(surfaces, candidates[-1])
        for direction in local:
            away = oriented(hits.face_normal, np.broadcast_to(direction, hits.position.shape))
            target = hits.shadow_origins + away * reach[:, None].astype(np.float32)
            free[k] += surfaces.transmitted(hits.shadow_origins, target)
    # By turns, so that together they are lit as what is seen of all groups.
    turn = np.arange(len(reach)) * 0.6180339887498949 % 1
    choice = (np.cumsum(free, axis=0) < turn * free.sum(axis=0)).sum(axis=0)
    return np.stack(candidates)[choice, np.arange(len(reach))]


def _middles(surfaces: LitSurfaces, triangle: Int64Array) -> Hits:
    """The centroids of triangles (S,), seen from straight above."""
    place = np.full((len(triangle), 2), 1 / 3, np.float32)
    position, _, _ = surfaces.points(triangle, place, np.zeros(len(triangle), np.float32))
    face = take(surfaces.face_normals, triangle)
    return Hits(np.arange(len(triangle)), triangle, position, face, face, face, place, surfaces.offset(triangle))


def numbered(columns: tuple[Int64Array, ...]) -> Int64Array:
    """(S,) number of each row's distinct row in ascending order, for columns (S,) of numbers from 0 on."""
    sizes = [int(column.max()) + 1 for column in columns]
    if math.prod(sizes) < 2**63:
        inverse = np.unique(np.ravel_multi_index(columns, sizes), return_inverse=True)[1]
    else:
        inverse = np.unique(np.column_stack(columns), axis=0, return_inverse=True)[1]
    return inverse.reshape(-1)


def part_at(barycentric: Float32Array, cuts: Int64Array) -> Int64Array:
    """Number of the part, of cuts x cuts equal ones, that a point of a triangle lies in. Rows of parts run along the
    third corner's axis, from the edge of the first and third corner; in a row, upright and overturned parts alternate.

    Args:
        barycentric: (S, 2) weights of the second and third corner; cuts: (S,).
    """
    u, v = (np.clip(barycentric[:, i] * cuts, 0, None) for i in (0, 1))
    row = np.minimum(u.astype(np.int64), cuts - 1)
    column = np.minimum(v.astype(np.int64), cuts - 1 - row)
    overturned = (u - row + v - column > 1) & (column < cuts - 1 - row)
    return row * (2 * cuts - row) + 2 * column + overturned


def part_centroids(part: Int64Array, cuts: Int64Array) -> Float32Array:
    """(S, 2) barycentric coordinates of the centroids of parts, the inverse of `part_at`."""
    # Row r begins at part r (2 cuts - r); the root is corrected where rounding has crossed a border.
    row = (cuts - np.sqrt(np.maximum(cuts * cuts - part, 0))).astype(np.int64)
    row -= row * (2 * cuts - row) > part
    row += (row + 1) * (2 * cuts - row - 1) <= part
    column, overturned = np.divmod(part - row * (2 * cuts - row), 2)
    third = (1 + overturned) / 3
    return np.column_stack([(row + third) / cuts, (column + third) / cuts]).astype(np.float32)
