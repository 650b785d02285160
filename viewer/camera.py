"""The camera of the viewer: it orbits a target, stays in the trained range, and stores bookmarks.

World frame: right-handed, Z up, scene units; angles in degrees, as in `Camera.from_angles`.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from renderformer.data.camera import Camera
from renderformer.data.camera_path import Vector, View, vector
from renderformer.data.errors import InputError
from renderformer.data.trained_range import TrainedRange
from renderformer.data.unit_size import AS_IT_IS, UnitSize

# Tolerance of the trained range, as in `check_scene`: room for coordinates that were rounded in a text file.
_SLACK = 0.01
_ROUNDING = 1e-9
# Limits of a free camera: distance from its target in a scene of unit size, field of view in degrees.
FREE_DISTANCE = (1e-3, 1e3)
FREE_FOV = (1.0, 170.0)


class OrbitCamera:
    """A view that mouse and keys move. Not thread-safe.

    Args:
        trained: the trained range of the model.
        unit: from the units of the scene to those of the model.

    Attributes:
        limited: whether the camera stays in the trained range: its distance from the origin, its target and its field
            of view. By default off for a camera that starts outside the range.
        bookmarks: named views.
    """

    def __init__(
        self,
        start: Camera | View | None = None,
        limited: bool | None = None,
        trained: TrainedRange = TrainedRange(),  # noqa: B008 - frozen
        unit: UnitSize = AS_IT_IS,
    ) -> None:
        # In the units of the scene, about its middle.
        self._trained, self._unit = trained.scaled(1 / unit.scale), unit
        self._camera = start if isinstance(start, Camera) else None
        if start is None:
            start = View(distance=View.distance / unit.scale).moved(unit.centre)
        self._view = View.of(start, unit=unit) if isinstance(start, Camera) else start
        self._home = self._view, self._camera
        self._clamped = ""
        self.bookmarks: dict[str, View] = {}
        self._limited = not self._outside() if limited is None else limited
        if self._limited:
            self._clamp_start()

    def _clamp_start(self) -> None:
        if self._into_range(self._view) != self._view and self._outside():
            self.view = self._view

    def _outside(self) -> list[str]:
        return outside(self._view.moved(self._unit.centre, -1), self._trained)

    def _into_range(self, view: View) -> View:
        """The nearest view of the same direction in the trained range; the view itself if it is inside."""
        relative = view.moved(self._unit.centre, -1)
        inside = _into_range(relative, self._trained)
        return view if inside == relative else inside.moved(self._unit.centre)

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
        """The present view; a new value is clamped.

        Raises:
            InputError: values that are not finite.
        """
        return self._view

    @view.setter
    def view(self, view: View) -> None:
        numbers = (view.azimuth, view.elevation, view.distance, *view.target, view.fov)
        if not all(map(math.isfinite, numbers)):
            raise InputError("camera", f"{view} holds values that are not finite")
        free = replace(
            view,
            azimuth=math.remainder(view.azimuth, 360.0),
            elevation=_clip(view.elevation, -90, 90),
            distance=_clip(view.distance, *(limit / self._unit.scale for limit in FREE_DISTANCE)),
            fov=_clip(view.fov, *FREE_FOV),
        )
        clamped = self._into_range(free) if self._limited else free
        self._clamped = _clamped_text(free, clamped, self._trained, clamped.moved(self._unit.centre, -1))
        if clamped != self._view:
            self._view, self._camera = clamped, None

    @property
    def camera(self) -> Camera:
        """The camera of the view; until the first move, the start camera itself with its roll."""
        if self._camera is None:
            self._camera = self._view.camera("view")
        return self._camera

    @property
    def warning(self) -> str:
        """One line: how the last move was clamped, or how a free camera leaves the trained range; empty inside."""
        return self._clamped if self._limited else "; ".join(self._outside())

    def orbit(self, azimuth: float, elevation: float) -> None:
        """Turn by degrees about the target."""
        view = self._view
        self.view = replace(view, azimuth=view.azimuth + azimuth, elevation=view.elevation + elevation)

    def pan(self, right: float, up: float) -> None:
        """Move camera and target in the plane of the picture, by fractions of the picture's height at the target."""
        height = 2 * self._view.distance * math.tan(math.radians(self._view.fov) / 2)
        axes = self._view.camera().c2w[:3, :2].astype(np.float64)
        target = np.asarray(self._view.target) + height * (right * axes[:, 0] + up * axes[:, 1])
        self.view = replace(self._view, target=vector(target))

    def aim(self, target: Vector) -> str:
        """Turn about another target; frees a camera whose trained range does not hold it, and says so."""
        view = replace(self._view, target=target)
        self.view = view
        if self._view.target == target:
            return ""
        self.limited = False
        self.view = view
        return "the camera is free now: the trained range does not reach there"

    def dolly(self, factor: float) -> None:
        """Multiply the distance from the target by a positive factor."""
        if not factor > 0:
            raise InputError("camera", f"dolly factor is {factor}", "expected a positive number")
        self.view = replace(self._view, distance=self._view.distance * factor)

    def zoom(self, degrees: float) -> None:
        """Widen the field of view by degrees."""
        self.view = replace(self._view, fov=self._view.fov + degrees)

    def turntable(self, seconds: float, degrees_per_second: float = 30.0) -> None:
        """Turn by the angle of a turntable in this time."""
        self.orbit(seconds * degrees_per_second, 0.0)

    def home(self) -> None:
        """Return to the start."""
        view, exact = self._home
        self.view = view
        if self._view == view:
            self._camera = exact

    def go(self, camera: Camera) -> None:
        """Look through a camera, with its roll."""
        view = View.of(camera, unit=self._unit)
        self.view = view
        if self._view == replace(view, azimuth=self._view.azimuth):
            self._camera = camera

    def bookmark(self, name: str = "") -> str:
        """Store the view; returns the name of the bookmark."""
        if not name:
            name = next(f"view {n}" for n in itertools.count(1) if f"view {n}" not in self.bookmarks)
        self.bookmarks[name] = self._view
        return name

    def recall(self, name: str) -> None:
        """Go to a bookmark."""
        self.view = self._bookmarked(name)

    def forget(self, name: str) -> None:
        """Delete a bookmark."""
        self._bookmarked(name)
        del self.bookmarks[name]

    def _bookmarked(self, name: str) -> View:
        if name not in self.bookmarks:
            if not self.bookmarks:
                raise InputError("bookmarks", "there are none", "add one")
            raise InputError("camera", f"no bookmark {name!r}", f"there are: {', '.join(self.bookmarks)}")
        return self.bookmarks[name]


def outside(view: View, trained: TrainedRange) -> list[str]:
    """One line for each value of a view, about the middle of the scene, outside the trained range."""
    lines = []
    distance, (near, far), (narrow, wide) = view.origin_distance, trained.camera_distance, trained.fov
    if not _within(distance, trained.camera_distance):
        lines.append(f"the camera stands {distance:.3g} from the middle, trained on {near:.3g} … {far:.3g}")
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
        return replace(moved, distance=_distance_to_sphere(target, view.direction, low))
    if moved.origin_distance > high + _ROUNDING:
        return replace(moved, distance=_distance_to_sphere(target, view.direction, high))
    return moved


def _distance_to_sphere(target: Sequence[float], direction: Sequence[float], radius: float) -> float:
    """Distance from a target inside a sphere about the origin to its surface in a unit direction."""
    along = sum(t * d for t, d in zip(target, direction, strict=True))
    return -along + math.sqrt(along**2 + radius**2 - sum(t**2 for t in target))


def _clamped_text(free: View, clamped: View, trained: TrainedRange, relative: View) -> str:
    """One line that names the clamped values; empty if there are none. `relative` is seen from the middle."""
    changes = []
    if free.target != clamped.target:
        changes.append(f"target inside ±{trained.box:g}")
    elif free.distance != clamped.distance:
        changes.append(f"distance from the middle at {relative.origin_distance:.3g}")
    if free.fov != clamped.fov:
        changes.append(f"fov at {clamped.fov:g} degrees")
    return f"held in the trained range: {', '.join(changes)}; free the camera to go on" if changes else ""


def _clip(value: float, low: float, high: float) -> float:
    return min(max(value, low), high)
