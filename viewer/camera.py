"""The camera of the viewer: it turns about a target, stays where the models were trained, and remembers views.

World frame: right-handed, Z up, scene units; angles in degrees, as in `Camera.from_angles`.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from renderformer.data.camera import Camera, angles, direction
from renderformer.data.errors import InputError
from renderformer.data.trained_range import TrainedRange

_V1 = TrainedRange()
BOX, CAMERA_DISTANCE, FOV = _V1.box, _V1.camera_distance, _V1.fov
Vector = tuple[float, float, float]
# What `check_scene` forgives, too: room for coordinates that went through a text file.
_SLACK = 0.01
_ROUNDING = 1e-9
# Differences of cameras that nobody made: in scene units, and of the field of view in degrees.
NEAR_UNITS, NEAR_DEGREES = 2e-3, 0.05
# Where the camera may go when it is free: distance from its target in scene units, field of view in degrees.
FREE_DISTANCE = (1e-3, 1e3)
FREE_FOV = (1.0, 170.0)


@dataclass(frozen=True)
class View:
    """Where a camera on a sphere around `target` stands; see `Camera.from_angles`. `fov` is vertical, in degrees."""

    azimuth: float = 0.0
    elevation: float = 20.0
    distance: float = 1.75
    target: Vector = (0.0, 0.0, 0.0)
    fov: float = 37.5

    def camera(self, name: str = "") -> Camera:
        """The camera that stands there."""
        return Camera.from_angles(self.azimuth, self.elevation, self.distance, self.target, self.fov, name)

    def near(self, other: View) -> bool:
        """Whether both show the same up to what is lost when a browser reports a camera back."""
        first, second = self.camera().c2w, other.camera().c2w
        return bool(np.abs(first - second).max() < NEAR_UNITS and abs(self.fov - other.fov) < NEAR_DEGREES)

    @property
    def direction(self) -> Vector:
        """(3,) unit world direction from the target to the camera."""
        x, y, z = direction(self.azimuth, self.elevation).tolist()
        return x, y, z

    @property
    def origin_distance(self) -> float:
        """Of the camera from the world's origin; models are trained on a range of it."""
        return math.dist((0, 0, 0), [t + self.distance * d for t, d in zip(self.target, self.direction, strict=True)])

    @classmethod
    def of(cls, camera: Camera, depth: float = 0.0) -> View:
        """The view of any camera; its roll is dropped.

        Args:
            depth: how far ahead the target is. By default it is the point of the line of sight nearest to the origin,
                or one unit ahead if that lies behind.
        """
        position, forward = camera.position.astype(np.float64), camera.forward.astype(np.float64)
        depth = depth or -float(position @ forward)
        depth = depth if depth > 1e-3 else 1.0
        target = position + depth * forward
        azimuth, elevation = angles(-forward)
        if abs(elevation) >= 89.99:
            # Straight up or down, the azimuth is where the top of the picture points.
            up = camera.c2w[:3, 1].astype(np.float64)
            azimuth = math.degrees(math.atan2(-up[0] * math.copysign(1.0, elevation), up[1]))
        return cls(azimuth, elevation, depth, (float(target[0]), float(target[1]), float(target[2])), camera.fov)


class OrbitCamera:
    """A view that mouse and keys move. Not safe to use from several threads at once.

    Args:
        trained: what the model was trained on.

    Attributes:
        limited: whether the camera is kept in the range that the model was trained on: its distance from the origin,
            its target inside the box of the scene, its field of view. It starts as off for a camera that stands
            outside.
        bookmarks: named views.
    """

    def __init__(
        self,
        start: Camera | View | None = None,
        limited: bool | None = None,
        trained: TrainedRange = TrainedRange(),  # noqa: B008 - frozen
    ) -> None:
        self._trained = trained
        self._camera = start if isinstance(start, Camera) else None
        self._view = View.of(start) if isinstance(start, Camera) else start or View()
        self._home = self._view, self._camera
        self._clamped = ""
        self.bookmarks: dict[str, View] = {}
        self._limited = not outside(self._view, trained) if limited is None else limited
        if self._limited:
            self._clamp_start()

    def _clamp_start(self) -> None:
        inside = _into_range(self._view, self._trained)
        if inside != self._view and outside(self._view, self._trained):
            self.view = self._view

    @property
    def limited(self) -> bool:
        return self._limited

    @limited.setter
    def limited(self, value: bool) -> None:
        self._limited, self._clamped = value, ""
        if value:
            self._clamp_start()

    @property
    def view(self) -> View:
        """Where the camera stands; setting it clamps."""
        return self._view

    @view.setter
    def view(self, view: View) -> None:
        numbers = (view.azimuth, view.elevation, view.distance, *view.target, view.fov)
        if not all(map(math.isfinite, numbers)):
            raise InputError("camera", f"{view} holds values that are not finite")
        # A free camera may look straight down, too, but not turn over.
        free = replace(
            view,
            azimuth=math.remainder(view.azimuth, 360.0),
            elevation=_clip(view.elevation, -90, 90),
            distance=_clip(view.distance, *FREE_DISTANCE),
            fov=_clip(view.fov, *FREE_FOV),
        )
        clamped = _into_range(free, self._trained) if self._limited else free
        self._clamped = _clamped_text(free, clamped, self._trained)
        if clamped != self._view:
            self._view, self._camera = clamped, None

    @property
    def camera(self) -> Camera:
        """The camera; until it is moved, exactly the one that was given, roll and all."""
        if self._camera is None:
            self._camera = self._view.camera("view")
        return self._camera

    @property
    def warning(self) -> str:
        """One line about the limits: what the last move was held at, or where a free camera leaves the trained range;
        empty inside."""
        if self._limited:
            return self._clamped
        return "; ".join(outside(self._view, self._trained))

    def orbit(self, azimuth: float, elevation: float) -> None:
        """Turn by degrees about the target."""
        self.view = replace(
            self._view, azimuth=self._view.azimuth + azimuth, elevation=self._view.elevation + elevation
        )

    def pan(self, right: float, up: float) -> None:
        """Move camera and target in the plane of the picture, by fractions of the picture's height at the target."""
        height = 2 * self._view.distance * math.tan(math.radians(self._view.fov) / 2)
        axes = self._view.camera().c2w[:3, :2].astype(np.float64)
        moved = np.asarray(self._view.target) + height * (right * axes[:, 0] + up * axes[:, 1])
        self.view = replace(self._view, target=(float(moved[0]), float(moved[1]), float(moved[2])))

    def dolly(self, factor: float) -> None:
        """Multiply the distance from the target; below 1 is nearer."""
        if not factor > 0:
            raise InputError("camera", f"dolly factor is {factor}", "expected a positive number")
        self.view = replace(self._view, distance=self._view.distance * factor)

    def zoom(self, degrees: float) -> None:
        """Widen the field of view by degrees."""
        self.view = replace(self._view, fov=self._view.fov + degrees)

    def turntable(self, seconds: float, degrees_per_second: float = 30.0) -> None:
        """Turn as far as a turntable does in this time."""
        self.orbit(seconds * degrees_per_second, 0.0)

    def home(self) -> None:
        """Back to where it started."""
        view, exact = self._home
        self.view = view
        if self._view == view:
            self._camera = exact

    def bookmark(self, name: str = "") -> str:
        """Remember the view; the name that it was given."""
        if not name:
            name = next(f"view {n}" for n in itertools.count(1) if f"view {n}" not in self.bookmarks)
        self.bookmarks[name] = self._view
        return name

    def recall(self, name: str) -> None:
        """Go to a bookmark."""
        self.view = self._marked(name)

    def forget(self, name: str) -> None:
        """Delete a bookmark."""
        self._marked(name)
        del self.bookmarks[name]

    def _marked(self, name: str) -> View:
        if name not in self.bookmarks:
            known = ", ".join(self.bookmarks) or "none"
            raise InputError("camera", f"no bookmark {name!r}", f"there are: {known}")
        return self.bookmarks[name]


def outside(view: View, trained: TrainedRange) -> list[str]:
    """Lines that tell where a view leaves the trained range; empty inside."""
    lines = []
    distance, (near, far), (narrow, wide) = view.origin_distance, trained.camera_distance, trained.fov
    if not _within(distance, trained.camera_distance):
        lines.append(f"the camera stands {distance:.3g} from the origin, trained on {near:g} … {far:g}")
    if not _within(view.fov, trained.fov):
        lines.append(f"the fov is {view.fov:.3g} degrees, trained on {narrow:g} … {wide:g}")
    return lines


def _within(value: float, span: tuple[float, float]) -> bool:
    return span[0] * (1 - _SLACK) <= value <= span[1] * (1 + _SLACK)


def _into_range(view: View, trained: TrainedRange) -> View:
    """The nearest view of the same direction in the trained range."""
    target, box = view.target, trained.box
    if max(map(abs, target)) > box:
        target = (_clip(target[0], -box, box), _clip(target[1], -box, box), _clip(target[2], -box, box))
    moved = replace(view, target=target, fov=_clip(view.fov, *trained.fov))
    low, high = trained.camera_distance
    if moved.origin_distance < low - _ROUNDING:
        return replace(moved, distance=_reach(target, view.direction, low))
    if moved.origin_distance > high + _ROUNDING:
        return replace(moved, distance=_reach(target, view.direction, high))
    return moved


def _reach(target: Sequence[float], direction: Sequence[float], radius: float) -> float:
    """How far from a target inside the sphere about the origin its surface is in a unit direction."""
    along = sum(t * d for t, d in zip(target, direction, strict=True))
    return -along + math.sqrt(along**2 + radius**2 - sum(t**2 for t in target))


def _clamped_text(free: View, clamped: View, trained: TrainedRange) -> str:
    """One line about what the trained range changed of a view; empty if nothing."""
    held = []
    if free.target != clamped.target:
        held.append(f"target inside ±{trained.box:g}")
    elif free.distance != clamped.distance:
        held.append(f"distance from the origin at {clamped.origin_distance:.3g}")
    if free.fov != clamped.fov:
        held.append(f"fov at {clamped.fov:g} degrees")
    return f"held in the trained range: {', '.join(held)}; free the camera to go on" if held else ""


def _clip(value: float, low: float, high: float) -> float:
    return min(max(value, low), high)
