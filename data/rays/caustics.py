"""Light that shiny surfaces throw on others (caustics), followed from the lights on.

Points all over the shiny surfaces look at the lights. What each receives of a light leaves along one sample of its lobe
and lights the surfel that it meets (light tracing, Arvo 1986). Where the light of few paths matters, a surfel shares
that of its neighbours, the more of them the fewer paths arrive (density estimation as in photon maps, Jensen 1996).

Shapes: P points on shiny surfaces, Q paths, M surfels with 2 M sides, C channels of light (light_groups.py). Vectors
are laid out as in vectors.py.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from scipy.sparse import csr_array
from scipy.spatial import cKDTree

from renderformer.data.arrays import AnyArray, BoolArray, Float32Array, Int64Array
from renderformer.data.rays.direct import LitSurfaces
from renderformer.data.rays.embree import Hits
from renderformer.data.rays.ggx import Lobe, ggx_masking, ggx_visible_normal
from renderformer.data.rays.vectors import TINY, dot, normalised, take
from renderformer.data.scene import EMISSION, ROUGHNESS, SPECULAR

# About how many paths start, and the fewest points that they start from.
PATHS, POINTS = 65536, 1024
# Phases of the points' shadow rays.
PHASES = 8
# The generalised golden ratio of four dimensions: its powers make a sequence that fills them evenly.
RATIO = 1.1673039782614187
# The number of a light that is not a triangle: the environment.
SKY = -1
# A surfel shares the light of so many neighbours that chance changes all of its light by no more than this share; at
# most so many, whose normals are this near to its own.
CHANCE, NEIGHBOURS, ALIKE = 0.005, 12, 0.8


@dataclass(frozen=True, eq=False)
class Paths:
    """Q paths from lights by way of P points on shiny surfaces to sides of surfels.

    Attributes:
        triangle: (P,) where the points lie; place: (P, 2) weights of its second and third corner.
        point: (Q,) on the way; light: (Q,) number of the light triangle, `SKY` for the environment; side: (Q,) met.
        weight: (Q,) irradiance / pi times area that a path brings for a radiance and a specular colour of 1.
        sky: (Q, C) flux of the environment, for which the weight holds; 0 for others.
    """

    triangle: Int64Array
    place: Float32Array
    point: Int64Array
    light: Int64Array
    side: Int64Array
    weight: Float32Array
    sky: Float32Array

    def specular(self, surfaces: LitSurfaces) -> Float32Array:
        """(P, 3) specular colours of the points."""
        return surfaces.looks(self.triangle, self.place, np.zeros(len(self.triangle), np.float32))[1][:, SPECULAR]

    def brought(self, surfaces: LitSurfaces) -> Float32Array:
        """(Q, C) irradiance / pi times area, under the present lights and specular colours of the surfaces."""
        groups, lights = surfaces.groups, surfaces.lights
        light = groups.from_environment(self.sky) if self.sky.shape[1] < groups.channels else self.sky
        lamps = np.flatnonzero(self.light != SKY)
        if len(lamps):
            number = self.light[lamps]
            light = light.copy()
            light[lamps] = groups.sent(lights.radiance[number], lights.triangle[number])
        colour = take(self.specular(surfaces), self.point)
        brought: Float32Array = self.weight[:, None] * light * groups.for_all(colour)
        return brought


def traced(
    surfaces: LitSurfaces, side_at: Callable[..., Int64Array], side_along: Callable[..., Int64Array], solved: BoolArray
) -> Paths:
    """The paths of a scene.

    Args:
        side_at, side_along: of the light cache.
        solved: (2 M,) which sides are lit at all.
    """
    hits, share = _points(surfaces, side_at, solved)
    roughness = surfaces.looks(hits.triangle, hits.barycentric, np.zeros(len(share), np.float32))[1][:, ROUGHNESS]
    sequence = (0.5 + np.arange(len(share))[:, None] * RATIO ** -np.arange(3.0, 5.0)) % 1
    found = []
    for point, light, toward, received, sky in _received(surfaces, hits):
        lobe = Lobe.at(take(hits.normal, point), toward, roughness[point])
        # Every light has a shift of its own, so that the light of several is spread evenly, too.
        u, v = ((sequence[point].T + light * RATIO ** -np.arange(1.0, 3.0)[:, None]) % 1).astype(np.float32)
        half = ggx_visible_normal(lobe.view, lobe.alpha, u, v)
        away = 2 * dot(lobe.view, half)[:, None] * half - lobe.view
        directions = lobe.to_world(away)
        weight = received * np.maximum(lobe.view[:, 2], 0) * ggx_masking(away[:, 2], lobe.alpha) * share[point]
        # Vertex normals send some of them into the surface.
        out = np.flatnonzero((weight > 0) & (dot(directions, take(hits.face_normal, point)) > 0))
        side = side_along(take(hits.shadow_origins, point[out]), take(directions, out))
        met = np.flatnonzero(side >= 0)
        out, side = out[met], side[met]
        found.append((point[out], light[out], side, weight[out] / np.float32(np.pi), sky[out]))
    nothing = np.zeros(0, np.int64)
    none = (nothing, nothing, nothing, np.zeros(0, np.float32), np.zeros((0, surfaces.groups.channels), np.float32))
    columns = [np.concatenate(column) for column in zip(none, *found, strict=True)]
    return Paths(hits.triangle, hits.barycentric, *columns)


def _points(surfaces: LitSurfaces, side_at: Callable[..., Int64Array], solved: BoolArray) -> tuple[Hits, Float32Array]:
    """P points all over the shiny surfaces, on sides that are lit at all, and the area that each stands for (P,)."""
    dark = ~(surfaces.materials[:, EMISSION] > 0).any(axis=1)
    mirrors = surfaces.areas * surfaces.materials[:, SPECULAR].max(axis=1) * dark
    ends = np.cumsum(mirrors, dtype=np.float64)
    lights = _count(surfaces)
    count = max(POINTS, PATHS // lights) if ends[-1] > 0 and lights else 0
    number = np.arange(count)
    triangle = np.minimum(np.searchsorted(ends, (number + 0.5) / max(count, 1) * ends[-1]), len(ends) - 1)
    chance = mirrors[triangle] * np.float32(count / max(ends[-1], TINY))
    share = surfaces.areas[triangle] / np.maximum(chance, np.float32(TINY))
    u, v = ((0.5 + number * RATIO ** -np.arange(1.0, 3.0)[:, None]) % 1).astype(np.float32)
    place = np.stack([np.sqrt(u) * (1 - v), np.sqrt(u) * v], axis=1)
    position, normal, _ = surfaces.points(triangle, place, np.zeros(count, np.float32))
    face = take(surfaces.face_normals, triangle)
    normal = normal * np.copysign(np.float32(1), dot(normal, face))[:, None]
    fronts = Hits(number, triangle, position, normal, face, face, place, surfaces.offset(triangle))
    backs = Hits(number, triangle, position, -normal, -face, -face, place, surfaces.offset(triangle))
    behind = np.flatnonzero(solved[side_at(backs)]) if count else number
    return _joined(fronts, backs.take(behind)), np.concatenate([share, share[behind]])


def _joined(first: Hits, second: Hits) -> Hits:
    names = ("triangle", "position", "normal", "face_normal", "outgoing", "barycentric", "offset")
    both = {name: np.concatenate([getattr(first, name), getattr(second, name)]) for name in names}
    return Hits(np.arange(len(both["offset"])), **both)


def _count(surfaces: LitSurfaces) -> int:
    """Shadow rays from each point."""
    sky = 0 if surfaces.environment is None else surfaces.environment.bright_points(1)
    return (len(surfaces.lights) if surfaces.asks_every_light else 4) + sky


def _received(
    surfaces: LitSurfaces, hits: Hits
) -> Iterator[tuple[Int64Array, Int64Array, Float32Array, Float32Array, Float32Array]]:
    """What points receive: which of them (Q,), of which light (Q,), from where (Q, 3), the irradiance for a radiance of
    1 if they faced it (Q,), and the flux of the environment (Q, C)."""
    phase, lights = np.arange(len(hits.rows)) % PHASES, surfaces.lights
    channels = surfaces.groups.channels
    for rays in surfaces.direct(hits, 1, phase).rays():
        toward = rays.target - take(hits.position, rays.row)
        square = np.maximum(dot(toward, toward), np.float32(TINY))
        toward = normalised(toward)
        cosine = np.abs(dot(toward, np.atleast_2d(lights.normal[rays.light])))
        light = np.broadcast_to(np.asarray(rays.light, np.int64), rays.row.shape)
        received: Float32Array = (rays.share * cosine / (square * rays.density)).astype(np.float32)
        yield rays.row, light, toward, received, np.zeros((len(light), channels), np.float32)
    distant = surfaces.distant(hits, 1, phase)
    if distant is None:
        return
    for seen, direction, flux in zip(distant.seen, distant.points.direction, distant.points.flux, strict=True):
        row = np.flatnonzero(seen)
        turn = phase[row]
        share = np.asarray(seen[row], np.float32)
        yield row, np.full(len(row), SKY), take(direction, turn), share, take(flux, turn)


def shared(
    paths: Paths, light: AnyArray, position: Float32Array, normal: Float32Array, area: Float32Array, known: Float32Array
) -> csr_array:
    """(2 M, 2 M) what each side takes of the sums of `Paths.brought` at all sides, its own and those of neighbours.

    Args:
        light: (Q,) brought, the sum of its channels.
        position, normal: (2 M, 3); area: (2 M,).
        known: (2 M,) other light that sides receive, the sum of its channels; negative where nothing arrives.
    """
    count = len(area)
    if not len(light):
        return csr_array((count, count), dtype=np.float32)
    power, square = (np.bincount(paths.side, light**k, count) for k in (1, 2))
    # Where no path arrives, one might have.
    square_of_one = np.mean(light, dtype=np.float64) ** 2
    area, lit = np.maximum(area, np.float32(TINY)), np.flatnonzero(known >= 0)

    def sure(powers: AnyArray, squares: AnyArray, areas: AnyArray, others: AnyArray) -> BoolArray:
        return np.asarray(np.sqrt(squares + square_of_one) <= CHANCE * (powers + areas * others))

    alone = sure(power, square, area, known)[lit]
    single, several = lit[alone], lit[~alone]
    rows, columns, weights = [single], [single], [1 / area[single]]
    if len(several):
        # Backs are at the same place as their fronts, so the tree tells normals apart, too.
        places = np.concatenate([position, 2 * np.sqrt(np.median(area[lit])) * normal], axis=1)
        near = cKDTree(places[lit]).query(places[several], min(NEIGHBOURS, len(lit)))[1]
        near = lit[near.reshape(len(several), -1)]
        alike = np.einsum("snk,sk->sn", normal[near], normal[several]) > ALIKE
        areas, powers, squares = (np.cumsum(values[near] * alike, axis=1) for values in (area, power, square))
        enough = sure(powers, squares, areas, known[several, None])
        enough[:, -1] = True
        last = enough.argmax(axis=1)
        used = alike & (np.arange(near.shape[1]) <= last[:, None])
        rows.append(np.repeat(several, used.sum(axis=1)))
        columns.append(near[used])
        weights.append(np.repeat(1 / areas[np.arange(len(several)), last], used.sum(axis=1)))
    weight, row, column = (np.concatenate(parts) for parts in (weights, rows, columns))
    return csr_array((weight.astype(np.float32), (row, column)), shape=(count, count))
