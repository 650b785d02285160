"""Many or large lights: a tree of light pieces, from which every surface point takes what matters to it.

Large light triangles are cut into pieces; a light that shines from both sides becomes two. The pieces are the leaves of
a balanced tree, whose nodes hold pieces that are near each other and face alike. A point descends until a node is small
as seen from it; there the node acts as one small light (lightcuts, Walter et al. 2005). If not all of a node faces the
point, a table says how much the node sends in a direction. The sum over these nodes is the unshadowed light. Shadow
rays go to points of pieces, drawn by what the nodes contribute: a systematic sample, so that it is spread over the
lights, and without random numbers.

Shapes: L lights, P = 2^D leaves, S surface points, Q pairs of a point and a node, or shadow rays. Vectors lie as in
vectors.py.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields

import numpy as np

from renderformer.data.arrays import BoolArray, Float32Array, Float64Array, Int64Array
from renderformer.data.rays.form_factor import triangle_form_factor
from renderformer.data.rays.lights import Lights
from renderformer.data.rays.vectors import TINY, dot, take, vectors

# About how many pieces the lights are cut into, and the most cuts along an edge of one.
PIECES, MAX_CUTS = 256, 16
# How much pieces count as apart that face opposite ways, of the extent of the lights.
TURNED = 0.1
# A node acts as one light where its radius is less than this share of its distance; of one that reaches below the
# horizon, this share.
SMALL, SMALL_AT_HORIZON = 0.3, 0.1
# The sine of the angle between the directions that pieces of a node face, below which not all need to face the point.
NARROW = 0.3
# The same share where the table of a node is asked, and the cells along an edge of the square of all directions.
SMALL_IN_TABLE, CELLS = 0.2, 8
# A node also acts as one light where it sends less than this share of all light, if its radius is less than this share
# of its distance.
LITTLE, NEAR = 0.02, 0.7
# Points that descend together: what they need fits into a processor's cache.
TOGETHER = 4096
# Levels of the tree that nobody stops at.
TOP = 4


@dataclass(frozen=True)
class Pairs:
    """Nodes where points stop, in the order of the points: which point (Q,), which node (Q,), and the mean over the
    colours of the light that it sends there, as irradiance / pi without shadows (Q,)."""

    row: Int64Array
    node: Int64Array
    light: Float32Array


@dataclass(frozen=True)
class Rays:
    """Shadow rays: from which point (Q,) to which light (Q,) and which point on it (Q, 3), how many rays are expected
    there per area (Q,), and the light, mean over the colours, that arrives through each if nothing is between (Q,)."""

    row: Int64Array
    light: Int64Array
    target: Float32Array
    density: Float32Array
    received: Float32Array

    def take(self, index: Int64Array) -> Rays:
        """Those at an index (Q',)."""
        return Rays(*(take(getattr(self, field.name), index) for field in fields(self)))

    @classmethod
    def joined(cls, parts: Sequence[Rays]) -> Rays:
        """All rays of several."""
        row, light, density, received = (
            np.concatenate([getattr(part, name) for part in parts]) for name in ("row", "light", "density", "received")
        )
        target = np.concatenate([part.target.T for part in parts], axis=1).T
        return cls(row, light, target, density, received)


def concentration(stops: list[Pairs], count: int) -> tuple[Float64Array, Float64Array]:
    """(S,) sum of the light at `count` points, mean over the colours, and the effective number of nodes that it comes
    from."""
    total, squares = np.zeros((2, count))
    for pairs in stops:
        total += np.bincount(pairs.row, pairs.light, count)
        squares += np.bincount(pairs.row, pairs.light.astype(np.float64) ** 2, count)
    return total, np.divide(total**2, squares, out=np.zeros(count), where=squares > 0)


@dataclass(frozen=True)
class _View:
    """How nodes lie as seen from points: the unit direction from node to point (Q, 3), the height of the node's centre
    over the point's surface, the node's radius, one over the distance, the radius over the distance, whether all of the
    node faces the point, and whether it acts as one small light there, (Q,) each."""

    toward: Float32Array
    height: Float32Array
    reach: Float32Array
    inverse: Float32Array
    sine: Float32Array
    whole: BoolArray
    small: BoolArray


class LightTree:
    """The tree over the lights of a scene."""

    def __init__(self, lights: Lights) -> None:
        corners, light = _pieces(lights)
        edges = corners[:, 1:] - corners[:, :1]
        across = np.cross(edges[:, 0], edges[:, 1]).astype(np.float64)
        length = np.linalg.norm(across, axis=1)
        radiance = lights.radiance[light].mean(axis=1, dtype=np.float64)
        normal = across / np.maximum(length, TINY)[:, None]
        centre = corners.mean(axis=1, dtype=np.float64)
        order = _ordered(centre, normal)
        self.depth = int(order.size).bit_length() - 1
        real = order >= 0
        order = np.maximum(order, 0)
        self._corners = np.asfortranarray(corners[order].reshape(-1, 9))
        self._normal = np.asfortranarray(normal[order].astype(np.float32))
        self._light = light[order]
        self._triangle = lights.triangle[self._light]
        power = np.where(real, radiance[order] * length[order] / 2, 0)
        self._radiance = radiance[order].astype(np.float32)
        self._until = np.concatenate([[0], np.cumsum(power)])
        colour = lights.radiance[self._light] * (power / np.maximum(radiance[order], TINY))[:, None]
        reach = np.linalg.norm(corners[order] - centre[order][:, None], axis=2).max(axis=1)
        self._table = _tables(normal[order] * power[:, None])
        self._build(power, centre[order], reach, normal[order], colour)

    def _build(
        self, power: Float64Array, centre: Float64Array, reach: Float64Array, normal: Float64Array, colour: Float64Array
    ) -> None:
        """Nodes level by level: the root is node 1, the children of node i are 2 i and 2 i + 1."""
        levels = [(power, centre, reach, normal * power[:, None], normal, np.zeros(len(power)), colour)]
        while len(levels[-1][0]) > 1:
            power, centre, reach, vector, axis, cone, colour = levels[-1]
            pair = power.reshape(-1, 2)
            total = pair.sum(axis=1)
            share = np.where(total[:, None] > 0, pair / np.maximum(total, TINY)[:, None], 0)
            middle = np.einsum("nk,nkd->nd", share, centre.reshape(-1, 2, 3))
            aside = np.linalg.norm(centre.reshape(-1, 2, 3) - middle[:, None], axis=2) + reach.reshape(-1, 2)
            vector = vector.reshape(-1, 2, 3).sum(axis=1)
            length = np.linalg.norm(vector, axis=1)
            mean = vector / np.maximum(length, TINY)[:, None]
            between = np.arccos(np.clip(np.einsum("nkd,nd->nk", axis.reshape(-1, 2, 3), mean), -1, 1))
            opening = np.where(
                length > 1e-6 * total, np.where(pair > 0, between + cone.reshape(-1, 2), 0).max(1), np.pi
            )
            levels.append(
                (total, middle, np.where(pair > 0, aside, 0).max(axis=1), vector, mean, np.minimum(opening, np.pi),
                 colour.reshape(-1, 2, 3).sum(axis=1))
            )  # fmt: skip
        empty = [np.zeros_like(values[:1]) for values in levels[0]]
        columns = [np.concatenate(parts) for parts in zip(empty, *levels[::-1], strict=True)]
        power, centre, reach, vector, axis, cone, colour = columns
        self._power = power.astype(np.float32)
        self._reach = reach.astype(np.float32)
        self._cone = np.stack([np.sin(cone), np.cos(cone)]).astype(np.float32)
        self._centre, self._vector, self._axis = (np.asfortranarray(v, np.float32) for v in (centre, vector, axis))
        self._colour = np.asfortranarray(colour / np.maximum(power, TINY)[:, None], np.float32)

    def stops(
        self, points: Float32Array, normals: Float32Array, triangles: Int64Array, little: float = LITTLE
    ) -> Iterator[Pairs]:
        """Where points (S, 3) with unit normals (S, 3) on triangles (S,) stop, level by level.

        A light does not light itself. A node that sends less than `little` of all light is small enough.
        """
        level = min(TOP, self.depth)
        node = np.tile(np.arange(2**level, 2 ** (level + 1)), len(points))
        row = np.repeat(np.arange(len(points)), 2**level)
        found = np.zeros(len(points))
        while len(row):
            live, view = self._view(points, normals, row, node)
            row, node = row[live], node[live]
            emitted = self._emitted(node, view)
            falloff = view.inverse**3 * np.float32(1 / np.pi)
            light: Float32Array = emitted * np.maximum(view.height, 0) * falloff
            stop = view.small
            if level == self.depth:
                near = np.flatnonzero(~stop)
                light[near] = self._exact(points, normals, row[near], node[near] - 2**level)
                light[self._triangle[node - 2**level] == triangles[row]] = 0
                stop = np.ones(len(row), bool)
            else:
                # Parts of the node see the point in other directions than its centre does.
                most = emitted + self._power.take(node) * view.sine / 2
                most *= np.maximum(view.height, view.reach) * falloff
                enough = (little * (found + np.bincount(row, light, len(points)))).astype(np.float32)
                stop = stop | (view.sine < NEAR) & (most < enough.take(row))
            found += np.bincount(row, light * stop, len(points))
            some = np.flatnonzero(stop & (light > 0))
            yield Pairs(row[some], node[some], light[some])
            on = np.flatnonzero(~stop)
            row = np.repeat(row[on], 2)
            node = np.repeat(2 * node[on], 2)
            node[1::2] += 1
            level += 1

    def _view(
        self, points: Float32Array, normals: Float32Array, row: Int64Array, node: Int64Array
    ) -> tuple[Int64Array, _View]:
        """The pairs (Q',) of points and nodes that may light them, and how they lie."""
        away: Float32Array = take(self._centre, node) - take(points, row)
        height, reach = dot(away, take(normals, row)), self._reach.take(node)
        square: Float32Array = np.maximum(dot(away, away), np.float32(TINY))
        inverse: Float32Array = np.reciprocal(np.sqrt(square))
        sine = np.minimum(reach * inverse, 1)
        toward = away * -inverse[:, None]
        facing = dot(toward, take(self._axis, node))
        cone = self._cone.take(node, axis=1)
        # Of the sum of two angles: that of the cone, and that under which the node is seen.
        cosine = np.sqrt(1 - sine * sine)
        wide = cone[0] * cosine + cone[1] * sine
        bounded = cone[1] * cosine - cone[0] * sine > 0
        live = np.flatnonzero((height > -reach) & ~(bounded & (facing < -wide)) & (self._power.take(node) > 0))
        whole = (bounded & (facing > wide)) | (cone[0] < NARROW) & (cone[1] > 0)
        small = (sine < np.where(whole, np.float32(SMALL), np.float32(SMALL_IN_TABLE))) & (
            (height > reach) | (sine < SMALL_AT_HORIZON)
        )
        toward = take(toward, live)
        return live, _View(toward, height[live], reach[live], inverse[live], sine[live], whole[live], small[live])

    def _emitted(self, node: Int64Array, view: _View) -> Float32Array:
        """(Q,) power over area that nodes send toward points, of nodes that face them as a whole or not."""
        emitted: Float32Array = np.maximum(dot(view.toward, take(self._vector, node)), 0)
        rest = np.flatnonzero(~view.whole)
        if len(rest):
            (left, across), (top, down) = (_cell(place) for place in _square(take(view.toward, rest)))
            table = self._table.reshape(-1)
            first = (node[rest] * (CELLS + 1) + left) * (CELLS + 1) + top
            near = table.take(first) * (1 - down) + table.take(first + 1) * down
            far = table.take(first + CELLS + 1) * (1 - down) + table.take(first + CELLS + 2) * down
            emitted[rest] = near * (1 - across) + far * across
        return emitted

    def _exact(self, points: Float32Array, normals: Float32Array, row: Int64Array, leaf: Int64Array) -> Float32Array:
        """(Q,) light of near leaves by their form factors."""
        if not len(row):
            return np.zeros(0, np.float32)
        flat = take(self._corners, leaf)
        corners = flat[:, :3], flat[:, 3:6], flat[:, 6:]
        return triangle_form_factor(take(points, row), take(normals, row), corners) * self._radiance[leaf]

    def unshadowed(self, stops: list[Pairs], count: int) -> Float32Array:
        """(S, 3) irradiance / pi of each colour at `count` points."""
        light = np.zeros((3, count))
        for pairs in stops:
            for k in range(3):
                light[k] += np.bincount(pairs.row, pairs.light * self._colour[pairs.node, k], count)
        return light.T.astype(np.float32)

    def drawn(
        self, points: Float32Array, normals: Float32Array, stops: list[Pairs], rays: Int64Array, phase: Int64Array
    ) -> Rays:
        """Shadow rays for points, `rays` (S,) for each, drawn by the light of the nodes where they stop.

        Args:
            phase: (S,) small integers; points of a different phase get different points on the lights.
        """
        total = np.zeros(len(points))
        for pairs in stops:
            total += np.bincount(pairs.row, pairs.light, len(points))
        # Rays stand at whole numbers on a line along which every node takes up its share.
        scale = np.where(total > 0, rays / np.maximum(total, TINY), 0)
        begin = (0.5 + phase * 0.6180339887498949) % 1
        parts = []
        for pairs in stops:
            if not len(pairs.row):
                continue
            length = pairs.light * scale[pairs.row]
            until = np.cumsum(length)
            first = np.flatnonzero(np.diff(pairs.row, prepend=-1))
            start = np.zeros(len(points))
            start[pairs.row[first]] = begin[pairs.row[first]] - (until[first] - length[first])
            end = start[pairs.row] + until
            last = np.append(first[1:], len(until)) - 1
            begin[pairs.row[last]] = end[last]
            lowest = np.floor(end - length)
            times = (np.floor(end) - lowest).astype(np.int64)
            some = np.flatnonzero(times)
            index = np.repeat(some, times[some])
            number = np.arange(len(index)) - np.repeat(np.cumsum(times[some]) - times[some], times[some]) + 1
            place = lowest[index] + number
            inside = (place - (end - length)[index]) / np.maximum(length[index], TINY)
            parts.append((index, inside, place, pairs, scale))
        return self._rays(points, normals, parts, phase)

    def _rays(self, points: Float32Array, normals: Float32Array, parts: list, phase: Int64Array) -> Rays:
        if not parts:
            none = np.zeros(0, np.int64)
            return Rays(none, none, np.zeros((0, 3), np.float32), np.zeros(0, np.float32), np.zeros(0, np.float32))
        row = np.concatenate([pairs.row[index] for index, _, _, pairs, _ in parts])
        node = np.concatenate([pairs.node[index] for index, _, _, pairs, _ in parts])
        light = np.concatenate([pairs.light[index] * scale[pairs.row[index]] for index, _, _, pairs, scale in parts])
        inside = np.clip(np.concatenate([part[1] for part in parts]), 0, 1)
        place = np.concatenate([part[2] for part in parts])
        # The leaves of a node lie side by side.
        level = np.frexp(node)[1] - 1
        first = (node - (1 << level)) << (self.depth - level)
        behind = first + (1 << (self.depth - level))
        begin, end = self._until[first], self._until[behind]
        at = begin + inside * (end - begin)
        leaf = np.clip(np.searchsorted(self._until, at, side="right") - 1, first, behind - 1)
        power = self._until[leaf + 1] - self._until[leaf]
        # A place at the very end may belong to a leaf without power.
        empty = power <= 0
        leaf[empty] = np.searchsorted(self._until, at[empty], side="left") - 1
        power = self._until[leaf + 1] - self._until[leaf]
        u = np.clip((at - self._until[leaf]) / power, 0, 1)
        v = (place * 0.7548776662466927 + phase[row] * 0.5698402909980532) % 1
        root = np.sqrt(u)
        weights = (1 - root, root * (1 - v), root * v)
        flat = take(self._corners, leaf)
        x, y, z = (sum(w * flat[:, 3 * i + k] for i, w in enumerate(weights)).astype(np.float32) for k in range(3))
        target = vectors(x, y, z)
        density = (light * self._radiance[leaf] / (end - begin)).astype(np.float32)
        toward = target - take(points, row)
        square = np.maximum(dot(toward, toward), np.float32(TINY))
        emitted = np.maximum(-dot(toward, take(self._normal, leaf)), 0)
        arriving = np.maximum(dot(toward, take(normals, row)), 0)
        received = emitted * arriving / square**2 * np.float32(1 / np.pi) * self._radiance[leaf] / density
        return Rays(row, self._light[leaf], target, density, received)


def _pieces(lights: Lights) -> tuple[Float32Array, Int64Array]:
    """(P', 3, 3) corners of the pieces of lights, whose fronts shine, and (P',) their lights."""
    both = np.flatnonzero(lights.two_sided)
    corners = np.concatenate([lights.corners, lights.corners[both][:, ::-1]])
    light = np.concatenate([np.arange(len(lights)), both])
    area = lights.area[light].astype(np.float64)
    cuts = np.clip(np.ceil(np.sqrt(area * PIECES / area.sum())), 1, MAX_CUTS).astype(np.int64)
    pieces, owners = [], []
    for count in np.unique(cuts):
        some = np.flatnonzero(cuts == count)
        pieces.append(np.einsum("pkc,ncx->npkx", _cut(int(count)), corners[some]).reshape(-1, 3, 3))
        owners.append(np.repeat(light[some], count**2))
    return np.concatenate(pieces).astype(np.float32), np.concatenate(owners)


def _cut(count: int) -> Float64Array:
    """(count^2, 3, 3) barycentric corners of the equal parts of a triangle, wound as it is."""
    i, j = (grid.reshape(-1) for grid in np.mgrid[:count, :count])
    upright = np.stack([np.stack([i, j], 1), np.stack([i + 1, j], 1), np.stack([i, j + 1], 1)], axis=1)[i + j < count]
    turned = np.stack([np.stack([i + 1, j], 1), np.stack([i + 1, j + 1], 1), np.stack([i, j + 1], 1)], axis=1)
    place = np.concatenate([upright, turned[i + j < count - 1]]) / count
    return np.concatenate([1 - place.sum(axis=2, keepdims=True), place], axis=2)


def _square(direction: Float32Array) -> tuple[Float32Array, Float32Array]:
    """Where unit directions (Q, 3) lie in the square of all directions, both coordinates from 0 to CELLS, (Q,): the
    faces of an octahedron, unfolded (Engelhardt and Dachsbacher 2008)."""
    x, y, z = direction.T
    total = np.abs(x) + np.abs(y) + np.abs(z)
    u, v = x / total, y / total
    below = z < 0
    folded_u, folded_v = np.copysign(1 - np.abs(v), u), np.copysign(1 - np.abs(u), v)
    half = np.float32(CELLS / 2)
    return (np.where(below, folded_u, u) + 1) * half, (np.where(below, folded_v, v) + 1) * half


def _cell(place: Float32Array) -> tuple[Int64Array, Float32Array]:
    """The cells that coordinates lie in, and where in them."""
    cell = np.clip(place.astype(np.int64), 0, CELLS - 1)
    return cell, place - cell.astype(np.float32)


def _tables(vectors: Float64Array) -> Float32Array:
    """(P, C + 1, C + 1) of the nodes above the leaves: what their leaves, with normals times power (P, 3), send in the
    directions of a grid over the square of all directions."""
    u, v = np.mgrid[: CELLS + 1, : CELLS + 1].reshape(2, -1) * (2 / CELLS) - 1
    z = 1 - np.abs(u) - np.abs(v)
    below = z < 0
    x = np.where(below, np.copysign(1 - np.abs(v), u), u)
    y = np.where(below, np.copysign(1 - np.abs(u), v), v)
    directions = np.stack([x, y, z]) / np.sqrt(x * x + y * y + z * z)
    level = np.maximum(vectors @ directions, 0).astype(np.float32)
    levels = []
    while len(level) > 1:
        level = level[::2] + level[1::2]
        levels.append(level)
    # Node 0 does not exist.
    kept = [np.zeros((1, (CELLS + 1) ** 2), np.float32), *levels[::-1]]
    return np.concatenate(kept).reshape(-1, CELLS + 1, CELLS + 1)


def _ordered(centre: Float64Array, normal: Float64Array) -> Int64Array:
    """Pieces (P',) in the order of the leaves (P,) of a balanced tree, -1 for none: halved again and again across where
    they are farthest apart, in place or in what they face."""
    extent = np.ptp(centre, axis=0).max()
    places = np.concatenate([centre, normal * (TURNED * extent if extent > 0 else 1)], axis=1)
    size = 1 << max(len(places) - 1, 0).bit_length()
    # No piece is beyond all others.
    places = np.concatenate([places, np.full((size - len(places), 6), np.inf)])
    order, real = np.arange(size), len(centre)
    while size > 1:
        groups = places[order].reshape(-1, size, 6)
        highest = np.where(np.isfinite(groups), groups, -np.inf).max(axis=1)
        lowest = np.minimum(groups.min(axis=1), highest)
        widest = np.where(np.isfinite(highest), highest - np.where(np.isfinite(highest), lowest, 0), 0).argmax(axis=1)
        values = np.take_along_axis(groups, widest[:, None, None], axis=2)[..., 0]
        order = np.take_along_axis(order.reshape(-1, size), values.argsort(axis=1, kind="stable"), axis=1).reshape(-1)
        size //= 2
    return np.where(order < real, order, -1)
