"""Cameras that fill a picture with an object, whatever its shape and that of the picture.

World frame: Z up, any units. Shapes: M points.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from renderformer.data.arrays import AnyArray, BoolArray, Float64Array, Int64Array
from renderformer.data.camera import Camera, direction
from renderformer.data.geometry.triangles import blocks, bounds
from renderformer.data.trained_range import ANYWHERE, TrainedRange

# The share of the picture that an object fills, of its width or of its height.
FILL = 0.78
# Vertical angle of view in degrees that is neither flat nor distorted.
FOV = 35.0
# The least distance of the camera from the nearest point, as a share of the object: for needles seen along their axis.
CLEARANCE = 0.1
_STEPS = 20
# Points of which only the outermost are kept.
_MANY = 2000
# Into which a convex polygon is cut to tell what is inside.
_COLUMNS = 4096


@dataclass(frozen=True, eq=False)
class Framing:
    """A direction to look from at points, and a shape of the picture.

    Attributes:
        points: (M, 3) of the object, world space.
        azimuth, elevation: in degrees, where the camera stands, see `Camera.from_angles`.
        aspect: width of the picture over its height.
        all_around: frame the object from every azimuth at once, for an orbit.
    """

    points: AnyArray
    azimuth: float = 0.0
    elevation: float = 20.0
    aspect: float = 1.0
    all_around: bool = False

    def camera(self, fov: float | None = None, trained: TrainedRange = ANYWHERE, name: str = "") -> Camera:
        """The camera from which the object fills the picture, up to a margin, with its outline in the middle.

        Args:
            fov: vertical angle of view in degrees; None chooses it.
            trained: of a model. Where the angle may be chosen, it and the distance stay in this range; a small object
                then fills less of the picture. One that no camera of the range holds is seen from farther away.
        """
        if fov is not None:
            return self._looking(self._offset(fov), fov, name)
        near, far = trained.camera_distance
        narrow, wide = trained.fov
        fov = min(max(FOV, narrow), wide)
        offset = self._offset(fov)
        reach = self._reach(offset)
        if not near <= reach <= far:
            # The wider the angle, the nearer the camera.
            low, high = (narrow, fov) if reach < near else (fov, wide)
            for _ in range(_STEPS):
                fov = (low + high) / 2
                if self._reach(self._offset(fov)) < (near if reach < near else far):
                    high = fov
                else:
                    low = fov
            fov = low if reach < near else high
            offset = self._no_nearer(self._offset(fov), near)
        return self._looking(offset, fov, name)

    @cached_property
    def _middle(self) -> Float64Array:
        middle: Float64Array = bounds(np.asarray(self.points)).astype(np.float64).mean(axis=0)
        return middle

    @cached_property
    def _axes(self) -> Float64Array:
        """(3, 3) right, up and backward of the camera, in columns."""
        eye = direction(self.azimuth, self.elevation)
        up: AnyArray = np.array([0.0, 0.0, 1.0])
        if abs(self.elevation) > 89.9:
            # Seen from straight above or below, up is the horizontal direction of the azimuth.
            up = -direction(self.azimuth, 0) * math.copysign(1, self.elevation)
        return Camera.look_at(eye, up=up).c2w[:3, :3].astype(np.float64)

    @cached_property
    def _local(self) -> Float64Array:
        """(3, M) the points in the axes of the camera, from the middle."""
        points = np.asarray(self.points).reshape(-1, 3)
        local = np.empty((3, len(points)))
        for part in blocks(len(points)):
            moved = points[part].astype(np.float64) - self._middle
            local[:, part] = moved.T if self.all_around else self._axes.T @ moved.T
        if not self.all_around:
            right, up, depth = local
            return local[:, np.union1d(_outermost(right, depth), _outermost(up, depth))]
        radius, height = np.hypot(local[0], local[1]), local[2]
        outer = _outermost(radius, height)
        radius, height = radius[outer], height[outer]
        turns = np.radians(np.arange(0, 360, 15))
        ring = [np.stack([radius * np.cos(a), radius * np.sin(a), height]) for a in turns]
        return np.asarray(self._axes.T @ np.concatenate(ring, axis=1))

    def _offset(self, fov: float) -> Float64Array:
        """(3,) of the camera from the middle in its own axes: the nearest place from which every point is inside."""
        depth = self._local[2]
        half = FILL * math.tan(math.radians(fov) / 2)
        slopes = half * self.aspect, half
        needed = [np.ptp(self._planes(axis, slope)) / (2 * slope) for axis, slope in enumerate(slopes)]
        nearest = depth.max() + CLEARANCE * np.ptp(self._local, axis=1).max()
        place = np.array([0.0, 0.0, max(*needed, nearest)])
        for axis, slope in enumerate(slopes):
            # Seen from that far away the object needs a smaller slope across, which converges since it lies before it.
            for _ in range(_STEPS):
                slope = np.ptp(self._planes(axis, slope)) / (2 * place[2])
            place[axis] = self._planes(axis, slope).mean()
        return place

    def _planes(self, axis: int, slope: float) -> Float64Array:
        """(2,) where the planes of the lower and the upper border of the picture, which touch the object, meet the
        plane of its middle. Half their distance over the slope is how far the camera stands, their mean its place."""
        across, depth = self._local[axis], self._local[2]
        return np.array([(across - slope * depth).min(), (across + slope * depth).max()])

    def _reach(self, offset: Float64Array) -> float:
        """Distance of the camera from the origin."""
        return float(np.linalg.norm(self._middle + self._axes @ offset))

    def _no_nearer(self, offset: Float64Array, near: float) -> Float64Array:
        """The camera moved back until it is this far from the origin."""
        backward, position = self._axes[:, 2], self._middle + self._axes @ offset
        wanted = max(float(np.linalg.norm(position)), near)
        along = float(position @ backward)
        rest = wanted**2 - float(position @ position) + along**2
        return offset + np.array([0, 0, math.sqrt(max(rest, 0.0)) - along])

    def _looking(self, offset: Float64Array, fov: float, name: str) -> Camera:
        c2w = np.eye(4)
        c2w[:3, :3], c2w[:3, 3] = self._axes, self._middle + self._axes @ offset
        return Camera(c2w.astype(np.float32), fov, name)


def _outermost(x: Float64Array, y: Float64Array) -> Int64Array:
    """Indices of the corners of the convex hull of many points (M,) in a plane; of all if they are few or on a line."""
    every = np.arange(len(x))
    if len(x) < _MANY:
        return every
    from scipy.spatial import ConvexHull, QhullError

    try:
        some = every[:: len(x) // _MANY]
        inner = some[ConvexHull(np.column_stack([x[some], y[some]])).vertices]
        rest = np.flatnonzero(_outside(x, y, x[inner], y[inner]))
        return np.asarray(rest[ConvexHull(np.column_stack([x[rest], y[rest]])).vertices])
    except QhullError:
        return every


def _outside(x: Float64Array, y: Float64Array, hull_x: Float64Array, hull_y: Float64Array) -> BoolArray:
    """(M,) whether points are not certainly inside a convex polygon of corners (K,) in any order."""
    order = np.argsort(hull_x, kind="stable")
    corner_x, corner_y = hull_x[order], hull_y[order]
    chord = np.interp(corner_x, corner_x[[0, -1]], corner_y[[0, -1]])
    ends = np.isin(np.arange(len(order)), (0, len(order) - 1))
    edges = np.linspace(corner_x[0], corner_x[-1], _COLUMNS + 1)
    chains = ends | (corner_y < chord), ends | (corner_y > chord)
    lower, upper = (np.interp(edges, corner_x[chain], corner_y[chain]) for chain in chains)
    low, high = np.maximum(lower[:-1], lower[1:]), np.minimum(upper[:-1], upper[1:])
    column = np.floor((x - edges[0]) * (_COLUMNS / (edges[-1] - edges[0]))).astype(np.int32)
    beside = (column < 0) | (column >= _COLUMNS)
    column[beside] = 0
    return np.asarray(beside | (y <= low.take(column)) | (y >= high.take(column)))
