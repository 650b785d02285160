"""Which axis of a mesh points up, Y or Z: its format's habit, its comments and its shape are weighed.

Every sign is a log odds, positive for Y, and the sum decides. The weights of shape were fitted by logistic regression to
meshes with known answers (`benchmarks/upright.py`, docs/formats.md). Compare Fu et al., "Upright Orientation of
Man-Made Objects", 2008, for stability and symmetry as signs.

Frame: the file's own axes. Legend: N triangles, P sample points. Everything is deterministic.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np

from renderformer.data.arrays import Float32Array, Float64Array
from renderformer.data.scene import Scene

Axis: TypeAlias = Literal["y", "z"]
# An axis, "open" if a format has no habit, "known" if its reader turns objects to Z up.
Habit: TypeAlias = Literal["y", "z", "open", "known"]

# Triangles looked at, and points drawn on them.
_TRIANGLES, _POINTS = 50_000, 8192
# Cells along each axis of the grid in which halves are compared, and directions in which a support polygon is measured.
_CELLS, _DIRECTIONS = 12, 32
# Points this close to the lowest one, as a share of the largest extent, touch the ground.
_CONTACT = 0.01
# An object that tips over beyond this tangent stands safely.
_SAFE_TILT = 0.25
# The log odds of a format's habit, and of a program's default that a comment names.
_HABIT, _PROGRAM = 2.0, 2.0

# Weight of each sign of shape, and the reason that a note gives.
_SIGNS: Mapping[str, tuple[float, str]] = {
    "ground": (1.0, "it stands at height 0"),
    "stable": (1.0, "its centre of mass lies over its base"),
    "flat": (1.0, "it stands on a flat base"),
    "low": (1.0, "most of its mass is near the ground"),
    "mirror": (1.0, "it has mirror symmetry in the other direction"),
    "level": (1.0, "more of its faces are level"),
    "offset": (1.0, "it is centred in the other directions"),
    "thin": (1.0, "it is flat"),
    "square": (1.0, "its outline from above is as wide as deep"),
}

_STATED = re.compile(r"\b([yz])[ -]?(?:axis )?(?:is )?up\b|\bup[ _-]?(?:axis)?\s*[:=]\s*([yz])\b", re.IGNORECASE)
_Y_PROGRAMS = re.compile(
    r"blender|3ds ?max|guruware|units for non-parametric|rhino|sketchup|zbrush|modo\b|maxon|cinema ?4d|houdini|wings ?3d|"
    r"sweet home 3d|daz|poser",
    re.IGNORECASE,
)
_Z_PROGRAMS = re.compile(r"freecad|openscad|autocad|solidworks|gazebo", re.IGNORECASE)


@dataclass(frozen=True)
class Vertical:
    """The axis that is taken for up.

    Attributes:
        axis: "y" or "z".
        reason: of the choice, for a note.
        odds: log odds for Y over Z.
    """

    axis: Axis
    reason: str
    odds: float


def choose_up(triangles: Float32Array, habit: Habit, name: str = "", comments: str = "") -> Vertical:
    """The axis that points up.

    Args:
        triangles: (N, 3, 3) corners, N >= 1.
        habit: the axis that is usual in the format.
        name: of the format.
        comments: what the file says about itself.
    """
    stated = _STATED.search(comments)
    if stated:
        axis: Axis = "y" if (stated[1] or stated[2]).lower() == "y" else "z"
        return Vertical(axis, "a comment in the file states it", 99.0 if axis == "y" else -99.0)
    odds = {f"{name} files usually are": {"y": _HABIT, "z": -_HABIT}.get(habit, 0.0)}
    program = _program(comments, name)
    if program is not None:
        odds[f"{program[0]} writes {name} files so"] = program[1]
    for sign, value in signs_of_shape(triangles).items():
        weight, reason = _SIGNS[sign]
        odds[reason] = weight * value
    total = sum(odds.values())
    axis = "y" if total > 0 else "z"
    # A reason is given in the order habit, program, shape: the first that is strong enough, else the strongest.
    direction = 1 if axis == "y" else -1
    habitual, strongest = next(iter(odds)), max(odds, key=lambda reason: odds[reason] * direction)
    reason = habitual if odds[habitual] * direction > 0 else strongest
    if odds[reason] * direction <= 0:
        reason = "nothing speaks for the other axis"
    return Vertical(axis, reason, total)


def _program(comments: str, name: str) -> tuple[str, float] | None:
    """The program that a comment names, and the log odds of its default."""
    match = _Z_PROGRAMS.search(comments)
    if match:
        return match[0], -_PROGRAM
    match = _Y_PROGRAMS.search(comments)
    if match is None:
        return None
    # Blender's exporters of PLY and STL keep its own axes, those of OBJ turn them.
    return match[0], _PROGRAM if name == "OBJ" else -_PROGRAM


def signs_of_shape(triangles: Float32Array) -> dict[str, float]:
    """How much more each sign of an upright axis speaks for Y than for Z, in [-1, 1].

    Args:
        triangles: (N, 3, 3) corners.
    """
    corners = triangles.reshape(-1, 3)
    low, high = corners.min(axis=0).astype(np.float64), corners.max(axis=0).astype(np.float64)
    size = float((high - low).max())
    if not size > 0:
        return {}
    sample = triangles[:: max(1, len(triangles) // _TRIANGLES)].astype(np.float64)
    sample, low, high = (sample - low) / size, low / size, high / size
    cross = np.cross(sample[:, 1] - sample[:, 0], sample[:, 2] - sample[:, 0])
    area = np.linalg.norm(cross, axis=1)
    if not area.sum() > 0:
        return {}
    points = _points(sample, area)
    y, z = (_signs_of_axis(axis, sample, cross, area, points, low, high) for axis in (1, 2))
    return {sign: y[sign] - z[sign] for sign in y}


def _signs_of_axis(
    axis: int,
    triangles: Float64Array,
    cross: Float64Array,
    area: Float64Array,
    points: Float64Array,
    low: Float64Array,
    high: Float64Array,
) -> dict[str, float]:
    """The signs that one axis points up, in [0, 1].

    Args:
        triangles: (N, 3, 3) in a box from the origin whose longest side is 1.
        cross: (N, 3) normals with a length of twice the area.
        area: (N,) their lengths.
        points: (P, 3) evenly on the surface.
        low, high: (3,) bounds in the file's frame, in units of the largest extent.
    """
    extent = high - low
    others = [k for k in range(3) if k != axis]
    heights = triangles[..., axis]
    centre = points.mean(axis=0)
    touching = triangles[heights < _CONTACT][:, others]
    tilt = _margin(touching, centre[others]) / max(centre[axis], 1e-6)
    bottom = (heights < _CONTACT).all(axis=1)
    footprint = max(float(extent[others].prod()), 1e-3)
    level = np.abs(cross[:, axis]) > 0.98 * area
    return {
        "ground": float(abs(low[axis]) < _CONTACT),
        "stable": float(np.clip(tilt / _SAFE_TILT, 0, 1)),
        "flat": float(min(1.0, area[bottom & level].sum() / 2 / footprint)),
        "low": float(1 - centre[axis] / max(extent[axis], 1e-6)),
        "mirror": 1 - _symmetry(points, axis, extent),
        "level": float(area[level].sum() / area.sum()),
        "offset": float(abs(low[axis] + high[axis]) / 2 > 2 * _CONTACT),
        "thin": float(1 - extent[axis]),
        "square": float(max(0.0, 1 - 10 * abs(extent[others[0]] - extent[others[1]]))),
    }


def _points(triangles: Float64Array, area: Float64Array) -> Float64Array:
    """(P, 3) points evenly spread over the area of triangles (N, 3, 3)."""
    share = (np.arange(_POINTS) + 0.5) / _POINTS
    chosen = triangles[np.searchsorted(np.cumsum(area / area.sum()), share).clip(max=len(area) - 1)]
    # Two coordinates of the R2 sequence, folded into the triangle.
    u, v = (np.arange(_POINTS)[:, None] * np.array([0.7548776662466927, 0.5698402909980532]) % 1).T
    fold = u + v > 1
    u, v = np.where(fold, 1 - u, u)[:, None], np.where(fold, 1 - v, v)[:, None]
    return np.asarray(chosen[:, 0] * (1 - u - v) + chosen[:, 1] * u + chosen[:, 2] * v)


def _margin(touching: Float64Array, centre: Float64Array) -> float:
    """Distance of the centre (2,) from the border of the convex hull of points (K, 2); negative outside."""
    if not len(touching):
        return -1.0
    angles = np.arange(_DIRECTIONS) * (2 * np.pi / _DIRECTIONS)
    directions = np.stack([np.cos(angles), np.sin(angles)])
    return float(((touching @ directions).max(axis=0) - centre @ directions).min())


def _symmetry(points: Float64Array, axis: int, extent: Float64Array) -> float:
    """The share of the surface that a mirror across the middle of an axis maps onto the surface, in [0, 1]."""
    cells = (points / np.maximum(extent, 1e-6) * _CELLS).astype(np.int64).clip(0, _CELLS - 1)
    counts = np.bincount(cells @ [_CELLS**2, _CELLS, 1], minlength=_CELLS**3).reshape((_CELLS,) * 3)
    return float(np.minimum(counts, np.flip(counts, axis)).sum() / len(points))


def upright(scene: Scene, up: Literal["auto", "y", "z"], habit: Habit, name: str, comments: str = "") -> Scene:
    """The scene turned to Z up, with a note about the choice and its reason if `up` is "auto".

    Args:
        scene: objects in the file's own axes; its cameras are not turned.
        up: the axis that points up, or "auto" for `choose_up`.
        habit, name, comments: see `choose_up`.
    """
    notes = scene.notes
    if up == "auto" and habit != "known":
        vertical = choose_up(scene.triangles, habit, name, comments)
        up, other = vertical.axis, "z" if vertical.axis == "y" else "y"
        notes = (*notes, f"{up.upper()} taken for up: {vertical.reason}; --up {other} changes it")
    if up != "y":
        return scene.replace(notes=notes)
    turn = np.array([[1.0, 0, 0, 0], [0, 0, -1, 0], [0, 1, 0, 0], [0, 0, 0, 1]])
    return scene.replace(objects=tuple(mesh.transformed(turn) for mesh in scene.objects), notes=notes)
