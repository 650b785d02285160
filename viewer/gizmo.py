"""The handles over the picture that move, turn and scale an object, and what a drag of them does. No front end.

World frame as everywhere; positions in a picture are pixels right and down from its upper left corner.
Legend: N points.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal, TypeAlias

import numpy as np

from renderformer.data.arrays import AnyArray, Float64Array
from renderformer.data.camera import Camera
from renderformer.data.camera_path import vector
from renderformer.viewer.placement import Placement

Mode = Literal["move", "turn", "scale"]
MODES: tuple[Mode, ...] = ("move", "turn", "scale")
AXES = "xyz"
# What is none of the axes: along the picture, about the line of sight, all axes at once.
FREE = "free"
# Lengths in pixels: of an axis, the radius of the free ring of a turn, half a side of the free handle of a move, how
# near the pointer has to come.
LENGTH, OUTER, SQUARE, REACH = 90.0, 110.0, 9.0, 8.0
# Pixels from the middle at which an axis starts, so that the free handle can be hit.
START = 18.0
# Cosine between an axis and the line of sight from which on its arrow is too short to be dragged, and between a ring's
# axis and the line of sight up to which the ring is too thin.
END_ON, EDGE_ON = 0.985, 0.12
# A drag holds where an axis would have to come nearer to the camera, or go farther, than by this factor of the depth.
NEAREST, FARTHEST = 0.02, 50.0
# Factors of one drag.
SMALLEST, LARGEST = 0.01, 100.0
# Steps of a drag that snaps: degrees, factors; moves take the power of ten below the length of an axis, times this.
SNAP_DEGREES, SNAP_FACTOR, SNAP_MOVE = 15.0, 0.1, 0.1
RING_POINTS = 64

Point: TypeAlias = tuple[float, float]


@dataclass(frozen=True, eq=False)
class Lens:
    """A camera and the size of its picture in pixels."""

    camera: Camera
    width: float
    height: float

    @property
    def focal(self) -> float:
        """Pixels per unit of length at depth one."""
        return self.height / 2 / math.tan(math.radians(self.camera.fov) / 2)

    @property
    def rotation(self) -> Float64Array:
        """(3, 3) right, up and backward in the world, as columns."""
        return self.camera.c2w[:3, :3].astype(np.float64)

    def project(self, points: AnyArray) -> tuple[Float64Array, Float64Array]:
        """Pixels (N, 2) of world points (N, 3), and their depths (N,) along the view axis; pixels of points behind the
        camera are NaN."""
        local = (np.asarray(points, np.float64) - self.camera.position) @ self.rotation
        depth = -local[:, 2]
        scale = self.focal / np.where(depth > 0, depth, np.nan)
        pixels = np.stack([self.width / 2 + local[:, 0] * scale, self.height / 2 - local[:, 1] * scale], axis=1)
        return pixels, depth

    def ray(self, point: Point) -> Float64Array:
        """(3,) world direction through a pixel, scaled to depth 1."""
        return self.camera.rays(*point, self.width, self.height)


@dataclass(frozen=True, eq=False)
class Handle:
    """One handle of a gizmo.

    Attributes:
        name: "x", "y", "z" or `FREE`.
        line: (N, 2) pixels of its line.
        tip: "arrow", "box" or "" at the last point of the line.
        filled: whether a press inside the line takes it, too.
    """

    name: str
    line: Float64Array
    tip: Literal["arrow", "box", ""] = ""
    filled: bool = False

    def distance(self, point: Point) -> float:
        """Pixels from a point; infinite for an empty handle."""
        inside = self.filled and (self.line.min(axis=0) <= point).all() and (point <= self.line.max(axis=0)).all()
        return 0.0 if inside else _distance(self.line, point)


@dataclass(frozen=True, eq=False)
class Gizmo:
    """The handles of a mode about a point.

    Attributes:
        centre: (3,) world point.
        axes: (3, 3) unit axes as columns.
    """

    lens: Lens
    mode: Mode
    centre: Float64Array
    axes: Float64Array

    @classmethod
    def of(cls, lens: Lens, mode: Mode, centre: Float64Array, placement: Placement) -> Gizmo | None:
        """Moves and turns follow the axes of the world, stretches those of the object; None where the centre is behind
        the camera."""
        _, depth = lens.project(centre[None])
        if not depth[0] > 0:
            return None
        return cls(lens, mode, centre, placement.axes if mode == "scale" else np.eye(3))

    @property
    def middle(self) -> Point:
        """The centre in pixels."""
        pixels, _ = self.lens.project(self.centre[None])
        return float(pixels[0, 0]), float(pixels[0, 1])

    @property
    def depth(self) -> float:
        """Of the centre, along the view axis."""
        return float(self.lens.project(self.centre[None])[1][0])

    @property
    def sight(self) -> Float64Array:
        """(3,) unit direction from the camera to the centre."""
        away = self.centre - self.lens.camera.position
        return np.asarray(away / np.linalg.norm(away))

    @property
    def pixel(self) -> float:
        """Length in the world of a pixel at the centre."""
        return self.depth / self.lens.focal

    @property
    def size(self) -> float:
        """Factor of all lengths in pixels: less than 1 in small pictures."""
        return min(1.0, min(self.lens.width, self.lens.height) / (3 * OUTER))

    def axis(self, name: str) -> Float64Array:
        """(3,) the direction of an axis; for `FREE` the line of sight."""
        return self.sight if name == FREE else self.axes[:, AXES.index(name)]

    def offered(self, name: str) -> bool:
        """Whether an axis lies so that it can be dragged: not end-on, and a ring not edge-on."""
        if name == FREE:
            return True
        cosine = abs(float(self.axis(name) @ self.sight))
        return cosine > EDGE_ON if self.mode == "turn" else cosine < END_ON

    @property
    def handles(self) -> list[Handle]:
        """Those that can be dragged; the first are drawn first."""
        make: Callable[[str], Handle] = self._ring if self.mode == "turn" else self._arm
        handles = [self._free(), *(make(name) for name in AXES if self.offered(name))]
        return [handle for handle in handles if len(handle.line) > 1]

    def at(self, point: Point) -> str:
        """The handle at a point, empty for none; of several the nearest."""
        near = [(handle.distance(point), handle.name) for handle in self.handles]
        distance, name = min(near, default=(math.inf, ""))
        return name if distance <= REACH else ""

    def _free(self) -> Handle:
        if self.mode == "move":
            corners = np.array([(-1, -1), (1, -1), (1, 1), (-1, 1), (-1, -1)])
            return Handle(FREE, self.middle + self.size * SQUARE * corners, filled=True)
        radius = self.size * (OUTER if self.mode == "turn" else START)
        angles = np.linspace(0, 2 * np.pi, RING_POINTS + 1)
        return Handle(FREE, self.middle + radius * np.stack([np.cos(angles), np.sin(angles)], axis=1))

    def _arm(self, name: str) -> Handle:
        ends = self.size * np.array([START, LENGTH])[:, None] * self.pixel * self.axis(name)
        pixels, depth = self.lens.project(self.centre + ends)
        return Handle(name, pixels if (depth > 0).all() else pixels[:0], "arrow" if self.mode == "move" else "box")

    def _ring(self, name: str) -> Handle:
        """The half of a circle that faces the camera; all of one that is seen end-on."""
        normal, sight, turn = self.axis(name), self.sight, np.pi
        if abs(normal @ sight) > END_ON:
            sight, turn = np.roll(normal, 1), 2 * np.pi
        across = np.cross(normal, sight)
        across /= np.linalg.norm(across)
        toward = np.cross(across, normal)
        toward = -toward if toward @ sight > 0 else toward
        angles = np.linspace(0, turn, RING_POINTS + 1)[:, None]
        radius = self.size * LENGTH * self.pixel
        points = self.centre + radius * (np.cos(angles) * across + np.sin(angles) * toward)
        pixels, depth = self.lens.project(points)
        return Handle(name, pixels[depth > 0])


class Drag:
    """What dragging one handle does to a placement.

    Args:
        start: the placement at the press.
        name: the handle; another one takes over with `constrain`.
        point: where it was pressed.

    Attributes:
        text: what the drag has done so far, for the person.
    """

    def __init__(self, gizmo: Gizmo, start: Placement, name: str, point: Point) -> None:
        self.gizmo, self.start, self.name = gizmo, start, name
        self.placement, self.text = start, ""
        self._from = self._last = point
        # Degrees so far, which may be more than one turn.
        self._angle = 0.0

    def constrain(self, name: str) -> Placement:
        """Go on along another axis, if it can be dragged from this view."""
        if self.gizmo.offered(name) and name != self.name:
            self.name, self._angle, self.placement = name, 0.0, self.start
            last, self._last = self._last, self._from
            self.to(last)
        return self.placement

    def to(self, point: Point, snap: bool = False) -> Placement:
        """The placement where the pointer is now; the one before where this means nothing, as past the horizon.

        Args:
            snap: whether to take round steps.
        """
        make = {"move": self._moved, "turn": self._turned, "scale": self._scaled}[self.gizmo.mode]
        made = make(point, snap)
        self._last = point
        if made is not None:
            self.placement, self.text = made
        return self.placement

    def _moved(self, point: Point, snap: bool) -> tuple[Placement, str] | None:
        gizmo = self.gizmo
        if self.name == FREE:
            right, down = np.subtract(point, self._from) * gizmo.pixel
            away = gizmo.lens.rotation[:, 0] * right - gizmo.lens.rotation[:, 1] * down
        else:
            length = self._along(point, self._from)
            if length is None:
                return None
            away = gizmo.axis(self.name) * length
        if snap:
            step = SNAP_MOVE * 10.0 ** math.floor(math.log10(LENGTH * gizmo.pixel))
            away = np.round(away / step) * step
        text = f"move by {', '.join(f'{part:.3g}' for part in away)} units"
        return replace(self.start, translation=vector(np.add(self.start.translation, away))), text

    def _along(self, point: Point, origin: Point) -> float | None:
        """Length along the axis from where one pixel is nearest to it to where another is; None past its horizon."""
        first, last = self._place(origin), self._place(point)
        return None if first is None or last is None else last - first

    def _place(self, point: Point) -> float | None:
        """Where on the axis, from the centre, the point of its line nearest to a pixel lies."""
        gizmo, lens = self.gizmo, self.gizmo.lens
        local = gizmo.axis(self.name) @ lens.rotation
        middle, depth = np.array(gizmo.middle), gizmo.depth
        offset = (middle - (lens.width / 2, lens.height / 2)) / lens.focal
        # Derivative of the pixel by the length at the centre, times the depth.
        slope = lens.focal * np.array([local[0] + offset[0] * local[2], -local[1] + offset[1] * local[2]])
        speed = float(np.linalg.norm(slope))
        if speed <= 0:
            return None
        pixels = float((np.asarray(point) - middle) @ slope) / speed
        # The depth at a length t is depth - t local[2], so pixels = t speed / (depth - t local[2]).
        nearness = speed + pixels * local[2]
        if nearness <= 0:
            return None
        length = pixels * depth / nearness
        there = depth - length * local[2]
        return length if NEAREST * depth < there < FARTHEST * depth else None

    def _turned(self, point: Point, snap: bool) -> tuple[Placement, str] | None:
        from scipy.spatial.transform import Rotation

        axis = self.gizmo.axis(self.name)
        first, last = self._spoke(self._from, axis), self._spoke(point, axis)
        if first is None or last is None:
            return None
        angle = math.degrees(math.atan2(np.cross(first, last) @ axis, first @ last))
        self._angle += math.remainder(angle - self._angle, 360.0)
        shown = round(self._angle / SNAP_DEGREES) * SNAP_DEGREES if snap else self._angle
        turn = Rotation.from_rotvec(np.radians(shown) * axis)
        return replace(self.start, rotation=euler(turn.as_matrix() @ self.start.axes)), f"turn by {shown:.1f} degrees"

    def _spoke(self, point: Point, axis: Float64Array) -> Float64Array | None:
        """(3,) from the centre to where the ray through a pixel meets the plane of the ring."""
        direction = self.gizmo.lens.ray(point)
        away = self.gizmo.centre - self.gizmo.lens.camera.position
        slope = float(direction @ axis)
        depth = float(away @ axis) / slope if slope else math.inf
        if not 0 < depth < FARTHEST * self.gizmo.depth:
            return None
        spoke = depth * direction - away
        return spoke if np.linalg.norm(spoke) > 0 else None

    def _scaled(self, point: Point, snap: bool) -> tuple[Placement, str] | None:
        gizmo, factor = self.gizmo, 0.0
        first, last = (None, None) if self.name == FREE else (self._place(self._from), self._place(point))
        if first is not None and last is not None and first * 4 > gizmo.size * LENGTH * gizmo.pixel:
            factor = last / first
        else:
            # Also along an axis, where the pointer was not on its arm.
            factor = math.dist(point, gizmo.middle) / max(math.dist(self._from, gizmo.middle), 1.0)
        if snap:
            factor = round(factor / SNAP_FACTOR) * SNAP_FACTOR
        if not SMALLEST <= factor <= LARGEST:
            return None
        text = f"scale by {factor:.3g}"
        if self.name == FREE:
            return replace(self.start, scale=self.start.scale * factor), text
        stretch = np.array(self.start.stretch)
        stretch[AXES.index(self.name)] *= factor
        return replace(self.start, stretch=vector(stretch)), text


def euler(matrix: AnyArray) -> tuple[float, float, float]:
    """Degrees about X, then Y, then Z of a rotation (3, 3), as in `Placement`."""
    # By hand, since scipy warns where X and Z turn alike; there, Z stays 0.
    sine = -float(np.clip(matrix[2, 0], -1, 1))
    if abs(sine) > 1 - 1e-12:
        x = math.atan2(-matrix[1, 2], matrix[1, 1])
        return math.degrees(x), math.degrees(math.asin(sine)), 0.0
    x, z = math.atan2(matrix[2, 1], matrix[2, 2]), math.atan2(matrix[1, 0], matrix[0, 0])
    return math.degrees(x), math.degrees(math.asin(sine)), math.degrees(z)


def _distance(line: Float64Array, point: Point) -> float:
    """Pixels from a point to a line (N, 2)."""
    if len(line) < 2:
        return math.inf
    start, step = line[:-1], np.diff(line, axis=0)
    along = ((point - start) * step).sum(axis=1) / np.maximum((step**2).sum(axis=1), 1e-12)
    nearest = start + np.clip(along, 0, 1)[:, None] * step
    return float(np.linalg.norm(nearest - point, axis=1).min())
