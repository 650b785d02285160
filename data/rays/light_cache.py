"""The light cache: light that surfaces receive by way of other surfaces, solved once for a scene.

Surfels, small flat pieces of surface, cover the triangles. Each casts fixed rays over its hemisphere once; a few steps
of Jacobi iteration over these links then carry light from surfel to surfel, bounce by bounce (radiosity). A picture
looks the light up where its rays arrive. Nothing depends on a camera or on random numbers, so the light stays in place
when the camera moves.

Surfels have about the same area, but far around the detail of a scene they grow with the distance from it, so that a
plain does not take those of a house (`Detail`).

The surfel of a point follows by arithmetic from its triangle and barycentric coordinates (surfels.py). Every surfel has
two sides; the back is solved only if a link arrives there, since the insides of closed objects are never seen.

What shiny surfaces throw back of the lights is followed by itself (caustics.py). Other light they send back as if their
specular reflectance were diffuse: right in energy, wrong in direction.

Shapes: N triangles, M surfels, 2 M sides (all fronts, then all backs), R links per side, S points. Scene units; vectors
are laid out as in vectors.py. Light has C channels (light_groups.py).
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy.sparse import csr_array

from renderformer.data.arrays import BoolArray, Float32Array, Int64Array
from renderformer.data.geometry.detail import Detail
from renderformer.data.geometry.triangles import centroids
from renderformer.data.rays.caustics import Paths, shared, traced
from renderformer.data.rays.direct import CHUNK, LitSurfaces
from renderformer.data.rays.embree import Hits, Seen
from renderformer.data.rays.lights import r2_sequence
from renderformer.data.rays.surfels import Sides, part_at, placed
from renderformer.data.rays.vectors import TINY, dot, take
from renderformer.data.scene import EMISSION, ROUGHNESS, SPECULAR

# About how many surfels the area of a scene is divided into.
SURFELS = 4096
LINKS = 40
# Points of each light that a side sees.
SHADOW_RAYS = 4
BOUNCES = 16
# Most cuts along an edge of a triangle.
MAX_CUTS = 64
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
        self._first, triangle, place = placed(surfaces, self._cuts, size, middles)
        width = np.sqrt(surfaces.areas[triangle]).astype(np.float32) / self._cuts[triangle]
        self._sides = Sides(surfaces, triangle, place, width)
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
        self._sides = sides = Sides(surfaces, triangle, place, width)
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
        part = part_at(barycentric, self._cuts[triangle])
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
