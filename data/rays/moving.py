"""Trees of scenes that differ in where one object is: that of the object and that of the rest are built once.

Rays are cast into both. The object's tree stays as it was built: rays are taken to its place. So hits differ from those
of a tree of the scene by rounding.

Shapes: N triangles, S rays, in any frame; float32.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np

from renderformer.data.arrays import BoolArray, Float32Array, Float64Array, Int32Array
from renderformer.data.geometry.triangles import blocks
from renderformer.data.rays.direct import LitSurfaces
from renderformer.data.rays.tree import Nearest, Tree
from renderformer.data.scene import Scene

# Scenes of fewer triangles get a tree of their own: it takes 2 µs for each, and casts in less time than two.
LARGE = 30_000
# An object of fewer triangles gets a new tree wherever it is; of a larger one, about so many corners tell how it moved.
SMALL, PROBES = 8_000, 3_000
# Largest difference between what a motion makes of triangles and where they are, as a share of their coordinates: some
# roundings.
ROUNDING = 4e-6


@dataclass(frozen=True)
class Motion:
    """An affine map of the triangles of a tree to where they are now: point -> linear @ point + offset, and how rays
    are taken back."""

    back: Float64Array
    offset: Float64Array

    @classmethod
    def between(cls, before: Float32Array, after: Float32Array) -> Motion | None:
        """That from triangles (N, 3, 3) to others; None if there is none, or if they all lie in a plane."""
        start, end = before.reshape(-1, 3), after.reshape(-1, 3)
        some = slice(None, None, max(1, len(start) // PROBES))
        known, moved = start[some].astype(np.float64), end[some].astype(np.float64)
        middle, there = known.mean(axis=0), moved.mean(axis=0)
        linear, _, rank, _ = np.linalg.lstsq(known - middle, moved - there, rcond=1e-6)
        if rank < 3 or np.linalg.matrix_rank(linear, 1e-9) < 3:
            return None
        offset = there - middle @ linear
        ends = (start.min(), start.max(), end.min(), end.max(), *offset)
        found = cls(np.linalg.inv(linear), offset)
        return found if found._leads(start, end, ROUNDING * float(np.abs(ends).max())) else None

    def _leads(self, start: Float32Array, end: Float32Array, error: float) -> bool:
        """Whether points (M, 3) move to others, but for an error."""
        linear, offset = np.linalg.inv(self.back).T.astype(np.float32), self.offset.astype(np.float32)[:, None]
        for part in blocks(len(start)):
            # Components one after the other, see vectors.py.
            moved = linear @ np.ascontiguousarray(start[part].T)
            moved += offset
            moved -= end[part].T
            if max(moved.max(), -moved.min()) > error:
                return False
        return True

    def rays(self, origins: Float32Array, directions: Float32Array) -> tuple[Float32Array, Float32Array]:
        """Rays (S, 3) taken to the place of the tree; lengths along them stay the same."""
        starts = (origins - self.offset) @ self.back
        return starts.astype(np.float32), (directions @ self.back).astype(np.float32)


class Joined(Tree):
    """The tree of an object, moved, and that of the rest of a scene.

    Args:
        part: of all triangles those of the object.
        motion: of the object; None where it is in its place.
    """

    def __init__(self, rest: Tree, own: Tree, part: slice, motion: Motion | None) -> None:
        self._rest, self._own, self._part, self._motion = rest, own, part, motion

    def nearest(
        self, origins: Float32Array, directions: Float32Array, end: Float32Array | float | None = None
    ) -> Nearest:
        triangle, u, v, ends = self._rest.nearest(origins, directions, end)
        start, count = np.int32(self._part.start), np.int32(self._part.stop - self._part.start)
        triangle = triangle + np.where(triangle >= start, count, np.int32(0))
        nearer = self._own.nearest(*self._taken(origins, directions), ends)
        rows = np.flatnonzero(nearer.triangle >= 0)
        triangle[rows] = nearer.triangle[rows] + start
        for values, others in ((u, nearer.u), (v, nearer.v), (ends, nearer.end)):
            values[rows] = others[rows]
        return Nearest(triangle, u, v, ends)

    def met(self, origins: Float32Array, directions: Float32Array, end: float | None = None) -> BoolArray:
        met = self._rest.met(origins, directions, end)
        rows = np.flatnonzero(~met)
        met[rows] = self._own.met(*self._taken(origins.take(rows, axis=0), directions.take(rows, axis=0)), end)
        return met

    def _taken(self, origins: Float32Array, directions: Float32Array) -> tuple[Float32Array, Float32Array]:
        return (origins, directions) if self._motion is None else self._motion.rays(origins, directions)


@dataclass(frozen=True, eq=False)
class _Apart:
    """An object, those of the triangles (N, 3, 3) in `part`, and the rest, with a tree each."""

    triangles: Float32Array
    part: slice
    rest: Tree
    own: Tree

    @classmethod
    def of(cls, triangles: Float32Array, part: slice, step: Callable[[], object] | None = None) -> _Apart:
        rest = np.concatenate([triangles[: part.start], triangles[part.stop :]])
        return cls(triangles, part, Tree(rest, step), Tree(triangles[part], step))

    def tree(self, triangles: Float32Array) -> Tree | None:
        """Of triangles among which the object alone has moved; None if others have, or if it has another shape."""
        known, part = self.triangles, self.part
        if not _alike_but(part, known, triangles):
            return None
        own = triangles[part]
        if np.array_equal(known[part], own):
            return Joined(self.rest, self.own, part, None)
        motion = Motion.between(known[part], own) if len(own) >= SMALL else None
        if motion is None and len(own) >= SMALL:
            return None
        return Joined(self.rest, self.own if motion else Tree(own), part, motion)


class MovingTrees:
    """Trees of scenes, for one whose object moves next. All methods may be called from any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._pool = ThreadPoolExecutor(1, "renderformer-tree")
        # What the trees are of, and they.
        self._of: tuple[Float32Array, slice] | None = None
        self._apart: Future[_Apart] | None = None
        self._closed = False

    def close(self) -> None:
        self._closed = True
        self._pool.shutdown(cancel_futures=True)

    def prepare(self, surfaces: LitSurfaces, number: int) -> None:
        """Build, on another thread, what `tree` needs when the object of a number will have moved."""
        if len(surfaces.triangles) >= LARGE and surfaces.object_index is not None:
            self._prepared(surfaces.triangles, surfaces.object_index, number)

    def tree(self, known: LitSurfaces, scene: Scene) -> Tree | None:
        """That of a scene with as many triangles as a known one, joined of trees of the moved object and the rest; None
        where several objects or none have moved, or where a new tree of all is no slower."""
        before, triangles, objects = known.triangles, scene.triangles, scene.object_index
        moved = np.flatnonzero((before != triangles).reshape(len(triangles), -1).any(axis=1))
        if len(triangles) < LARGE or not len(moved) or objects[moved[0]] != objects[moved[-1]]:
            return None
        apart = self._prepared(before, objects, int(objects[moved[0]]))
        try:
            return None if apart is None else apart.result().tree(triangles)
        except CancelledError:
            # Another object is wanted by now.
            return None

    def _prepared(self, triangles: Float32Array, objects: Int32Array, number: int) -> Future[_Apart] | None:
        """Trees of an object and of the rest, where these lie as in a scene."""
        start, stop = np.searchsorted(objects, [number, number + 1])
        part = slice(int(start), int(stop))
        with self._lock:
            if self._closed or part.start == part.stop or part.stop - part.start == len(triangles):
                return None
            if self._of is None or self._of[1] != part or not _alike_but(part, self._of[0], triangles):
                self._of = wanted = triangles, part
                self._apart = self._pool.submit(_Apart.of, triangles, part, lambda: self._check(wanted))
            return self._apart

    def _check(self, wanted: object) -> None:
        if self._closed or self._of is not wanted:
            raise CancelledError


def _alike_but(part: slice, triangles: Float32Array, others: Float32Array) -> bool:
    """Whether triangles (N, 3, 3) and others are the same outside a part of them."""
    if triangles is others:
        return True
    if len(triangles) != len(others):
        return False
    outside = slice(part.start), slice(part.stop, None)
    return all(np.array_equal(triangles[rest], others[rest]) for rest in outside)
