"""The light cache: light that surfaces receive by way of other surfaces, solved once for a scene.

Surfels, small flat pieces of surface, cover the triangles. Each casts fixed rays over its hemisphere once; a few steps
of Jacobi iteration over these links then carry light from surfel to surfel, bounce by bounce (radiosity). A picture
looks the light up where its rays arrive. Nothing depends on a camera or on random numbers, so the light stays in place
when the camera moves.

Surfels have about the same area, but far around the detail of a scene they grow with the distance from it, so that a
plain does not take those of a house (`Detail`).

A triangle is cut into k x k equal parts with a surfel in the middle of each. Triangles that are much smaller than a
surfel share one with their neighbours of like orientation. So the surfel of a point follows by arithmetic from its
triangle and barycentric coordinates. Every surfel has two sides; the back is solved only if a link arrives there, since
the insides of closed objects are never seen.

What shiny surfaces throw back of the lights is followed by itself (caustics.py). Other light they send back as if their
specular reflectance were diffuse: right in energy, wrong in direction.

Shapes: N triangles, M surfels, 2 M sides (all fronts, then all backs), R links per side, S points. Scene units; vectors
are laid out as in vectors.py. Light has C channels (light_groups.py).
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy.sparse import csr_array

from renderformer.data.arrays import BoolArray, Float32Array, Float64Array, Int64Array
from renderformer.data.geometry.detail import Detail
from renderformer.data.geometry.triangles import bounds, centroids
from renderformer.data.rays.caustics import Paths, shared, traced
from renderformer.data.rays.direct import CHUNK, LitSurfaces
from renderformer.data.rays.embree import Hits, Seen
from renderformer.data.rays.hemisphere import cosine_directions, oriented
from renderformer.data.rays.lights import r2_sequence
from renderformer.data.rays.vectors import TINY, dot, take
from renderformer.data.scene import DIFFUSE, EMISSION, ROUGHNESS, SPECULAR

# About how many surfels the area of a scene is divided into.
SURFELS = 4096
LINKS = 40
# Points of each light that a side sees.
SHADOW_RAYS = 4
BOUNCES = 16
# Most cuts along an edge of a triangle.
MAX_CUTS = 64
# Triangles below this share of a surfel's area share surfels.
SMALL = 0.5
# Of the grid whose cells group them, in cells.
GRID_SHIFT = 0.37
# Of the triangles of a group, that many may stand for it, by how many of VIEWS rays get as far as REACH cells.
CANDIDATES, VIEWS, REACH = 4, 8, 0.5
# Rounds in which the backs that new links arrive at are solved too.
ROUNDS = 3


@dataclass(frozen=True, eq=False)
class Surfels:
    """M surfels of a light cache.

    Attributes:
        position, normal: (M, 3), of the front.
        area: (M,).
        materials: (M, 13) rows.
        direct, indirect: (M, 2, 3) light on front and back that a white diffuse surface would send back, irradiance /
            pi; 0 on backs that no light cache ray has met.
    """

    position: Float32Array
    normal: Float32Array
    area: Float32Array
    materials: Float32Array
    direct: Float32Array
    indirect: Float32Array


@dataclass(frozen=True, eq=False)
class Exchange:
    """How the sides of a light cache light each other, to solve it for other materials and lights elsewhere:
    indirect = sky + thrown + transport @ (diffuse * direct + reflectance * indirect), where direct + indirect is
    irradiance / pi, and thrown = shared @ (sums over the paths that each side meets).

    Attributes:
        solved: (R,) the sides that links arrive at, others receive nothing; hits: their R points.
        transport: (2 M, 2 M), the share of each side in what each receives.
        sky: (2 M, C) light of the environment's soft part.
        diffuse, reflectance: (2 M, 3), of diffuse light alone and of all.
        users: (M, N) the weights of the triangles in the colours of each surfel.
        paths: of light that shiny surfaces throw back; shared: (2 M, 2 M), see caustics.py.
    """

    solved: Int64Array
    hits: Hits
    transport: csr_array
    sky: Float32Array
    diffuse: Float32Array
    reflectance: Float32Array
    users: csr_array
    paths: Paths
    shared: csr_array


class LightCache:
    """The solved light of a scene.

    Args:
        surfaces: of the scene.
        surfels: about how many; the cuts of whole triangles make up to half as many more.
        links: rays from each side.
        progress: called with sides done and sides to do, of one round after the other.
    """

    # Of the weight of cells in a gather, from which on they need no help.
    enough = np.inf

    def __init__(
        self,
        surfaces: LitSurfaces,
        surfels: int = SURFELS,
        links: int = LINKS,
        progress: Callable[[int, int], None] | None = None,
    ) -> None:
        self._surfaces = surfaces
        emits = (surfaces.materials[:, EMISSION] > 0).any(axis=1)
        # What a light reflects hardly shows beside what it emits: one surfel for each of its triangles is enough.
        middles = centroids(surfaces.triangles)
        coarse = Detail.of(surfaces.triangles).coarseness(middles) ** 2
        size = np.where(emits, 0, surfaces.areas / coarse).sum() / surfels * coarse
        self._cuts = np.ones(len(surfaces.areas), np.int64)
        if size.all():
            cuts = np.rint(np.sqrt(surfaces.areas / size)).astype(np.int64)
            self._cuts = np.where(emits, 1, np.clip(cuts, 1, MAX_CUTS))
        self._first, triangle, place = _placed(surfaces, self._cuts, size, middles)
        width = np.sqrt(surfaces.areas[triangle]).astype(np.float32) / self._cuts[triangle]
        self._sides = _Sides(surfaces, triangle, place, width)
        self._sides.average(surfaces, self._first)
        self._direct, self._sky = self._link(links, progress)
        self._throw()
        self.indirect, self.outgoing = self._solve()

    def split(self, surfaces: LitSurfaces) -> LightCache:
        """The same surfels and links with the light of groups of lights kept apart, as `surfaces` has them."""
        cache = copy.copy(self)
        cache._surfaces = surfaces
        cache._sky = surfaces.groups.from_environment(self._sky)
        cache._direct = cache._directly_lit()
        cache._thrown = cache._received(cache._paths.brought(surfaces))
        cache.indirect, cache.outgoing = cache._solve()
        return cache

    def surfels(self) -> Surfels:
        """The surfels and their light."""
        sides, count, area = self._sides, len(self._sides) // 2, self._areas()
        direct, indirect = self._direct + self._sky, self.indirect - self._sky
        both = (np.stack([light[:count], light[count:]], axis=1) for light in (direct, indirect))
        return Surfels(sides.position[:count], sides.normal[:count], area, sides.materials, *both)

    def _areas(self) -> Float32Array:
        """(M,) areas of the surfels."""
        surfaces, triangle = self._surfaces, self._sides.triangle[: len(self._sides) // 2]
        together = np.bincount(self._first, surfaces.areas, len(triangle))
        single = surfaces.areas[triangle] / self._cuts[triangle] ** 2
        return np.where(self._cuts[triangle] > 1, single, together).astype(np.float32)

    def exchange(self) -> Exchange:
        """How it was solved."""
        sides, areas, first = self._sides, self._surfaces.areas, self._first
        count, shared = len(sides) // 2, self._cuts == 1
        cut = np.flatnonzero(~shared[sides.triangle[:count]])
        surfel = np.concatenate([first[shared], cut])
        triangle = np.concatenate([np.flatnonzero(shared), sides.triangle[cut]])
        area = np.concatenate([np.maximum(areas[shared], TINY), np.ones(len(cut))])
        weight = area / np.bincount(surfel, area, count)[surfel]
        users = csr_array((weight, (surfel, triangle)), shape=(count, len(areas)))
        hits = sides.hits(self._linked)
        return Exchange(
            self._linked, hits, self._transport, self._sky, sides.diffuse, sides.reflectance, users, self._paths,
            self._shared,
        )  # fmt: skip

    def on(self, surfaces: LitSurfaces) -> LightCache:
        """The light on edited surfaces with as many triangles. Where these lie as before, it is solved again over the
        same links, for other materials and lights; else every part of a triangle keeps its light."""
        cache, before = copy.copy(self), self._surfaces
        cache._surfaces = surfaces
        if surfaces.materials is not before.materials and np.array_equal(surfaces.triangles, before.triangles):
            cache._relight(before)
        return cache

    def _relight(self, before: LitSurfaces) -> None:
        """Solve the light again after a change of materials or lights."""
        sides, surfaces, count = self._sides, self._surfaces, len(self._sides) // 2
        triangle, place = sides.triangle[:count], sides.place[:count]
        width = np.sqrt(surfaces.areas[triangle]).astype(np.float32) / self._cuts[triangle]
        self._sides = sides = _Sides(surfaces, triangle, place, width)
        sides.average(surfaces, self._first)
        lit = np.array_equal(surfaces.materials[:, EMISSION], before.materials[:, EMISSION])
        lit = lit and np.array_equal(surfaces.two_sided, before.two_sided)
        if not lit:
            self._direct = self._directly_lit()
        stay = self._paths_stay(before)
        if not (lit and stay):
            self._throw(self._paths if stay else None)
        self.indirect, self.outgoing = self._solve()

    def _throw(self, paths: Paths | None = None) -> None:
        """Follow what shiny surfaces throw back of the lights, along paths that are known."""
        sides, solved = self._sides, np.zeros(len(self._sides), bool)
        solved[self._linked] = True
        self._paths = paths or traced(self._surfaces, self.side_at, self.side_along, solved)
        brought = self._paths.brought(self._surfaces)
        known = np.where(solved, (self._direct + self._sky).sum(axis=1), -1)
        area = np.tile(self._areas(), 2)
        self._shared = shared(self._paths, brought.sum(axis=1), sides.position, sides.normal, area, known)
        self._thrown = self._received(brought)

    def _received(self, brought: Float32Array) -> Float32Array:
        """(2 M, C) irradiance / pi of what paths bring (Q, C), shared among neighbours."""
        side, count = self._paths.side, len(self._sides)
        sums = np.stack([np.bincount(side, channel, count) for channel in brought.T], axis=1).astype(np.float32)
        received: Float32Array = self._shared @ sums
        return received

    def _paths_stay(self, before: LitSurfaces) -> bool:
        """Whether what shiny surfaces throw back goes where it did on other surfaces with the same triangles."""
        surfaces = self._surfaces
        old, new = before.materials, surfaces.materials
        return (
            before.appearance is surfaces.appearance
            and np.array_equal(old[:, SPECULAR], new[:, SPECULAR])
            and np.array_equal(old[:, ROUGHNESS], new[:, ROUGHNESS])
            and np.array_equal(before.lights.triangle, surfaces.lights.triangle)
            and np.array_equal(before.two_sided, surfaces.two_sided)
        )

    def _directly_lit(self) -> Float32Array:
        """(2 M, C) direct irradiance / pi of all sides that links arrive at; 0 for others."""
        direct = np.zeros((len(self._sides), self._surfaces.groups.channels), np.float32)
        for part in np.array_split(self._linked, max(1, -(-len(self._linked) // CHUNK))):
            direct[part] = self._surfaces.irradiance(self._sides.hits(part), SHADOW_RAYS, part % 8)
        return direct

    def irradiance(self, hits: Hits, phase: Int64Array | None = None) -> Float32Array:
        """(S, C) radiance that a white diffuse surface would send back of indirect light and of the environment's soft
        part: irradiance / pi.

        Args:
            phase: (S,) small integers; points of a different phase look at different places up to half a surfel away,
                so that in their mean the surfels of a triangle blend.
        """
        return take(self.indirect, self.side_at(hits, phase))

    def thrown(self, hits: Hits, phase: Int64Array) -> Float32Array:
        """(S, C) as `irradiance`, of what shiny surfaces throw back of the lights alone: it is in no other light that
        surfaces send back."""
        return take(self._thrown, self.side_at(hits, phase))

    def irradiances(self, hits: Hits) -> tuple[Float32Array, Float32Array]:
        """The same of the soft part of the environment, and of light by way of other surfaces, each (S, 3)."""
        side = self.side_at(hits)
        sky = take(self._sky, side)
        return sky, take(self.indirect, side) - sky

    def side_at(self, hits: Hits, phase: Int64Array | None = None) -> Int64Array:
        """(S,) the sides at surface points, arguments as in `irradiance`."""
        behind = dot(take(self._surfaces.face_normals, hits.triangle), hits.face_normal) < 0
        place = hits.barycentric
        if phase is not None:
            away = take(r2_sequence(int(phase.max(initial=0)) + 1).astype(np.float32) - np.float32(0.5), phase)
            place = np.maximum(place + away / self._cuts[hits.triangle, None].astype(np.float32), 0)
            place = place / np.maximum(place.sum(axis=1, keepdims=True), 1)
        return self._side(hits.triangle, place, behind)

    def seen_along(
        self, origins: Float32Array, directions: Float32Array, solid_angle: float = 0.0
    ) -> tuple[Float32Array, Seen]:
        """(S, C) radiance, without emission, that surfaces send back along rays (S, 3), and which rays (S,) miss; along
        these it is that of the soft part of the environment, the mean over about `solid_angle`."""
        side = self.side_along(origins, directions)
        light = take(self.outgoing, np.maximum(side, 0))
        missed = np.flatnonzero(side < 0)
        light[missed] = self._beyond(take(directions, missed), solid_angle)
        return light, side < 0

    def _beyond(self, directions: Float32Array, solid_angle: float) -> Float32Array | float:
        """(S, C) radiance along rays (S, 3) that miss."""
        environment = self._surfaces.environment
        return 0.0 if environment is None else environment.soft(directions, solid_angle)

    def _side(self, triangle: Int64Array, barycentric: Float32Array, behind: BoolArray) -> Int64Array:
        """(S,) the sides at points of triangles."""
        part = _part(barycentric, self._cuts[triangle])
        return self._first[triangle] + part + np.where(behind, len(self._sides) // 2, 0)

    def side_along(self, origins: Float32Array, directions: Float32Array) -> Int64Array:
        """(S,) the sides that rays arrive at, -1 for a ray that misses."""
        rows, triangle, barycentric = self._surfaces.first(origins, directions)
        behind = dot(take(self._surfaces.face_normals, triangle), take(directions, rows)) > 0
        side = np.full(len(origins), -1)
        side[rows] = self._side(triangle, barycentric, behind)
        return side

    def _link(self, links: int, progress: Callable[[int, int], None] | None) -> tuple[Float32Array, Float32Array]:
        """Cast the links of all sides that links arrive at.

        Returns:
            (2 M, C) irradiance / pi of all sides: direct, and of the environment's soft part; 0 for others.
        """
        sides = self._sides
        direct, sky = np.zeros((2, len(sides), self._surfaces.groups.channels), np.float32)
        linked = np.full((len(sides), links), -1)
        solved = np.zeros(len(sides), bool)
        todo = np.arange(len(sides) // 2)
        for _ in range(ROUNDS):
            solved[todo] = True
            for part in np.array_split(todo, max(1, -(-len(todo) * links // CHUNK))):
                direct[part] = self._surfaces.irradiance(sides.hits(part), SHADOW_RAYS, part % 8)
                origins, directions, outward = sides.rays(part, links)
                side = np.where(outward, self.side_along(origins, directions), -1)
                linked[part] = side.reshape(len(part), links)
                missed = np.flatnonzero(outward & (side < 0))
                light = np.zeros((len(side), sky.shape[1]), np.float32)
                light[missed] = self._beyond(directions[missed], np.pi / links)
                sky[part] = light.reshape(len(part), links, light.shape[1]).mean(axis=1)
                if progress is not None:
                    progress(int(solved.sum()), len(sides))
            arrived = np.unique(linked[todo])
            todo = arrived[(arrived >= 0) & ~solved[arrived]]
            if not len(todo):
                break
        # What a side receives is the mean over its links; one that misses brings the environment's light, if any.
        hit = linked >= 0
        starts = np.concatenate([[0], np.cumsum(hit.sum(axis=1))])
        weights = np.full(starts[-1], 1 / links, np.float32)
        self._transport = csr_array((weights, linked[hit], starts), shape=(len(sides), len(sides)))
        self._linked = np.flatnonzero(solved)
        return direct, sky

    def _solve(self) -> tuple[Float32Array, Float32Array]:
        """(2 M, C) indirect irradiance / pi of all sides, with that of the environment's soft part, and the radiance
        that they send back."""
        groups, sides = self._surfaces.groups, self._sides
        reflectance = groups.for_all(sides.reflectance)
        received, sent = self._sky + self._thrown, groups.for_all(sides.diffuse) * self._direct
        indirect = received
        for _ in range(BOUNCES):
            indirect = received + self._transport @ (sent + reflectance * indirect)
        return indirect, sent + reflectance * indirect


class _Sides:
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


def _placed(
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
    triangle, place = np.repeat(large, counts), _centroids(number, np.repeat(cuts[large], counts))
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


def _part(barycentric: Float32Array, cuts: Int64Array) -> Int64Array:
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


def _centroids(part: Int64Array, cuts: Int64Array) -> Float32Array:
    """(S, 2) barycentric coordinates of the centroids of parts, the inverse of `_part`."""
    # Row r begins at part r (2 cuts - r); the root is corrected where rounding has crossed a border.
    row = (cuts - np.sqrt(np.maximum(cuts * cuts - part, 0))).astype(np.int64)
    row -= row * (2 * cuts - row) > part
    row += (row + 1) * (2 * cuts - row - 1) <= part
    column, overturned = np.divmod(part - row * (2 * cuts - row), 2)
    third = (1 + overturned) / 3
    return np.column_stack([(row + third) / cuts, (column + third) / cuts]).astype(np.float32)
