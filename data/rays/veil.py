"""Triangles that some rays pass: masks, which are cut out, and surfaces that let a share of the rays through.

Whether a ray passes a point of a surface that lets a share through is drawn from the point itself: the surface is a
fixed sieve, the same for every ray, thread and picture. Shadow rays and outlines know the share that comes through all
surfaces on their way.

Shapes: S rays or points. World space, float32.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import numpy as np

from renderformer.data.appearance import Appearance
from renderformer.data.arrays import BoolArray, Float32Array, Int64Array
from renderformer.data.rays.tree import Tree, tree_of
from renderformer.data.rays.vectors import take

# Most surfaces that a ray passes; what is behind them is not seen.
LAYERS = 64
# A ray is at its end when less than this share of it is left.
FAINT = 1 / 256
# Surfaces in a row that are drawn one over the other, each by its share; further ones are sieves.
BLENDED = 4


class Shape(Protocol):
    """What a veil needs of `Surfaces`."""

    triangles: Float32Array
    tree: Tree

    def beyond(self, triangle: Int64Array, barycentric: Float32Array, directions: Float32Array) -> Float32Array: ...


class Veil:
    """The triangles of a scene that rays may pass.

    Attributes:
        clear: (N,) which of the scene's triangles those are.
        exhausted: whether a ray has met more than `LAYERS` of them.
    """

    def __init__(self, surfaces: Shape, appearance: Appearance) -> None:
        self.clear = appearance.see_through
        self.exhausted = False
        self._surfaces, self._appearance = surfaces, appearance
        self._numbers = np.flatnonzero(self.clear)
        self._tree = tree_of(surfaces.triangles[self._numbers])
        self._solid = tree_of(surfaces.triangles[~self.clear]) if not self.clear.all() else None

    def alpha(self, triangle: Int64Array, barycentric: Float32Array, share: Float32Array | None = None) -> Float32Array:
        """(S,) share of the rays that do not pass points of triangles (S,), see `Appearance.alpha`."""
        return self._appearance.alpha(triangle, barycentric, share)

    def sieved(self, triangle: Int64Array, barycentric: Float32Array) -> BoolArray:
        """(S,) whether rays pass points of triangles, drawn from the points."""
        return np.asarray(_drawn(triangle, barycentric) >= self.alpha(triangle, barycentric))

    def invisible(self, triangle: Int64Array, barycentric: Float32Array) -> BoolArray:
        """(S,) whether all rays pass points of triangles."""
        return np.asarray(self.alpha(triangle, barycentric) <= FAINT)

    def first(
        self,
        origins: Float32Array,
        directions: Float32Array,
        passes: Callable[[Int64Array, Float32Array], BoolArray],
    ) -> tuple[Int64Array, Int64Array, Float32Array]:
        """As `Tree.first`, of the triangles of the whole scene, with those points left out that rays pass."""
        found = np.full(len(origins), -1)
        places = np.zeros((2, len(origins)), np.float32)
        rows, triangle, barycentric = self._surfaces.tree.first(origins, directions)
        found[rows], places[:, rows] = triangle, barycentric.T
        for _ in range(LAYERS):
            veiled = rows[self.clear[triangle]]
            rows = veiled[passes(found[veiled], places[:, veiled].T)]
            if not len(rows):
                break
            onward = take(directions, rows)
            starts = self._surfaces.beyond(found[rows], places[:, rows].T, onward)
            found[rows] = -1
            hit, triangle, barycentric = self._surfaces.tree.first(starts, onward)
            rows = rows[hit]
            found[rows], places[:, rows] = triangle, barycentric.T
        else:
            self.exhausted = True
        rows = np.flatnonzero(found >= 0)
        return rows, found[rows], places[:, rows].T

    def transmitted(self, origins: Float32Array, directions: Float32Array, end: float | None = None) -> Float32Array:
        """(S,) share of rays (S, 3) that meets nothing until an end, in lengths of their directions."""
        left = np.ones(len(origins), np.float32)
        if self._solid is not None:
            left[self._solid.met(origins, directions, end)] = 0
        rows = np.flatnonzero(left)
        starts, ends = take(origins, rows), take(origins, rows) + take(directions, rows)
        onward = take(directions, rows)
        for _ in range(LAYERS):
            hit, number, barycentric = self._tree.first(starts, onward, end)
            rows, ends, onward, triangle = rows[hit], take(ends, hit), take(onward, hit), self._numbers[number]
            left[rows] *= 1 - self.alpha(triangle, barycentric)
            more = np.flatnonzero(left[rows] > FAINT)
            if not len(more):
                break
            rows, ends, onward = rows[more], take(ends, more), take(onward, more)
            starts = self._surfaces.beyond(triangle[more], take(barycentric, more), onward)
            if end is not None:
                onward = ends - starts
        else:
            self.exhausted = True
        left[left <= FAINT] = 0
        return left

    def free(self, origins: Float32Array, directions: Float32Array, end: float) -> BoolArray:
        """(S,) whether rays (S, 3) meet nothing until an end; those that lose a share are drawn by where they run."""
        share = self.transmitted(origins, directions, end)
        doubtful = np.flatnonzero((share > 0) & (share < 1))
        result: BoolArray = share > 0
        starts, onward = take(origins, doubtful), take(directions, doubtful)
        result[doubtful] = share[doubtful] > _drawn(np.arange(len(doubtful)), starts[:, :2] + onward[:, 1:])
        return result


def _drawn(triangle: Int64Array, barycentric: Float32Array) -> Float32Array:
    """(S,) numbers in [0, 1), as random as their points: a hash of them."""
    u, v = (np.ascontiguousarray(part).view(np.uint32) for part in barycentric.T.astype(np.float32))
    key = u * np.uint32(0x9E3779B1) ^ v * np.uint32(0x85EBCA77) ^ triangle.astype(np.uint32) * np.uint32(0xC2B2AE3D)
    for shift, factor in ((15, 0x2C1B3C6D), (12, 0x297A2D39)):
        key = (key ^ (key >> np.uint32(shift))) * np.uint32(factor)
    return ((key ^ (key >> np.uint32(15))) >> np.uint32(8)).astype(np.float32) * np.float32(2**-24)
