"""Which axis of a mesh points up, Y or Z: its format's habit, its comments and its shape are weighed.

Every sign is a log odds, positive for Y, and the sum decides. The weights of shape were fitted by logistic regression
to meshes with known answers, the others were set by hand; `benchmarks/upright.py` measures, docs/formats.md has the
figures. Stability and symmetry as signs: Fu et al., "Upright Orientation of Man-Made Objects", 2008.

Frame: the file's own axes. Legend: N triangles, P sample points. Everything is deterministic.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Literal, TypeAlias

import numpy as np

from renderformer.data.arrays import Float32Array, Float64Array
from renderformer.data.errors import one_line
from renderformer.data.notes import Guess
from renderformer.data.scene import Scene

Axis: TypeAlias = Literal["y", "z"]
# An axis, "open" if a format has no habit, "known" if its reader turns objects to Z up.
Habit: TypeAlias = Literal["y", "z", "open", "known"]

# Triangles looked at, and points drawn on them.
_TRIANGLES, _POINTS = 50_000, 8192
# Cells along the longest side of the grid in which mirror images are compared, and directions in which the support
# polygon is measured.
_CELLS, _DIRECTIONS = 24, 32
# Lengths are shares of the longest side: this close to the lowest point is on the ground, this far below height 0 is
# clearly below it.
_CONTACT, _BELOW = 0.01, 0.05
# An object that tips over only beyond this slope stands safely.
_SAFE_SLOPE = 0.2
# The log odds of a format's habit, of a program that a comment names, and of a comment that states the axis.
_HABIT, _PROGRAM, _STATEMENT = 1.0, 1.0, 100.0

# Weight of each sign of shape, and the reason that a note gives. Where the mass is, high or low, is no sign: it was
# right for 40 % of the furniture and wrong for 46 %.
_SIGNS: Mapping[str, tuple[float, str]] = {
    "support": (0.95, "its centre of mass lies over a wide base"),
    "ground": (1.7, "no part of it is below height 0"),
    "tall": (1.75, "it is tall in this direction"),
    "level": (1.0, "more of its faces are level then"),
    "mirror": (0.9, "the other direction has mirror symmetry"),
}

_STATED = re.compile(r"\b([yz])[ -]?(?:axis )?(?:is )?up\b|\bup[ _-]?(?:axis)?\s*[:=]\s*([yz])\b", re.IGNORECASE)
_PROGRAMS = re.compile(
    r"(?P<z>freecad|openscad|autocad|solidworks)|blender|3ds ?max|guruware|units for non-parametric|rhino|sketchup|"
    r"zbrush|modo\b|maxon|cinema ?4d|houdini|wings ?3d|sweet home 3d|milkshape",
    re.IGNORECASE,
)


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

    The reason is the habit of the format if the habit won, else the strongest sign.

    Args:
        triangles: (N, 3, 3) corners, N >= 1.
        habit: the axis that is usual in the format.
        name: of the format.
        comments: what the file says about itself.
    """
    usual = f"{name} files usually are"
    odds = {usual: {"y": _HABIT, "z": -_HABIT}.get(habit, 0.0), **_signs_of_comments(comments, name)}
    for sign, value in signs_of_shape(triangles).items():
        weight, reason = _SIGNS[sign]
        odds[reason] = weight * value
    total = sum(odds.values())
    axis: Axis = "y" if total > 0 else "z"
    direction = 1 if total > 0 else -1
    strongest = max(odds, key=lambda reason: odds[reason] * direction)
    if odds[strongest] * direction <= 0:
        return Vertical(axis, "nothing speaks for Y", total)
    habit_won = odds[usual] * direction > 0 and odds[strongest] * direction < _STATEMENT
    return Vertical(axis, usual if habit_won else strongest, total)


def _signs_of_comments(comments: str, name: str) -> dict[str, float]:
    """Log odds for Y by reason, from what a file says of its axes and of the program that wrote it."""
    stated = _STATED.search(comments)
    if stated:
        return {"a comment in the file states it": _STATEMENT if (stated[1] or stated[2]) in "yY" else -_STATEMENT}
    program = _PROGRAMS.search(comments)
    if program is None:
        return {}
    # Programs turn their axes for OBJ; Blender and its like leave PLY and STL as they are.
    return {f"{program[0]} writes {name} files so": _PROGRAM if name == "OBJ" and not program["z"] else -_PROGRAM}


def signs_of_shape(triangles: Float32Array) -> dict[str, float]:
    """How much more each sign of an upright axis speaks for Y than for Z, in [-1, 1] ("support" in [-2, 2]).

    Args:
        triangles: (N, 3, 3) corners.

    Returns:
        By the names in `_SIGNS`; empty for a mesh without extent or area.
    """
    corners = triangles.reshape(-1, 3)
    # Ten times as fast as `corners.min(axis=0)`.
    low, high = (np.array([bound(corners[:, k]) for k in range(3)], np.float64) for bound in (np.min, np.max))
    size = float((high - low).max())
    if not size > 0:
        return {}
    sample = triangles[:: max(1, len(triangles) // _TRIANGLES)].astype(np.float64)
    sample = (sample - low) / size
    cross = np.cross(sample[:, 1] - sample[:, 0], sample[:, 2] - sample[:, 0])
    area = np.linalg.norm(cross, axis=1)
    if not area.sum() > 0:
        return {}
    points, extent = _points(sample, area), (high - low) / size
    values = []
    for axis in (1, 2):
        others = [k for k in range(3) if k != axis]
        level = np.abs(cross[:, axis]) > 0.98 * area
        values.append(
            {
                "support": _support(sample, points, axis),
                "ground": 1 - float(np.clip(-low[axis] / size / _BELOW, 0, 1)),
                "tall": min(1.0, float(extent[axis] / max(np.sqrt(extent[others].prod()), 0.02)) / 4),
                "level": float(area[level].sum() / area.sum()),
                "mirror": 1 - _mirror(points, axis, extent),
            }
        )
    y, z = values
    return {sign: y[sign] - z[sign] for sign in _SIGNS}


def _support(triangles: Float64Array, points: Float64Array, axis: int) -> float:
    """How far the object can be tilted before it falls, in [-1, 1]; negative if its centre of mass is not supported.

    Args:
        triangles: (N, 3, 3) with the ground at 0.
        points: (P, 3) evenly on the surface.
        axis: that points up.
    """
    others = [k for k in range(3) if k != axis]
    touching = triangles[triangles[..., axis] < _CONTACT][:, others]
    if not len(touching):
        return -1.0
    centre = points.mean(axis=0)
    # The distance from the border of a convex hull is the least over all directions.
    angles = np.arange(_DIRECTIONS) * (2 * np.pi / _DIRECTIONS)
    directions = np.stack([np.cos(angles), np.sin(angles)])
    margin = ((touching @ directions).max(axis=0) - centre[others] @ directions).min()
    return float(np.clip(margin / max(centre[axis], 1e-6) / _SAFE_SLOPE, -1, 1))


def _points(triangles: Float64Array, area: Float64Array) -> Float64Array:
    """(P, 3) points evenly spread over the area of triangles (N, 3, 3)."""
    share = (np.arange(_POINTS) + 0.5) / _POINTS
    chosen = triangles[np.searchsorted(np.cumsum(area / area.sum()), share).clip(max=len(area) - 1)]
    # Two coordinates of the R2 sequence, folded into the triangle.
    u, v = (np.arange(_POINTS)[:, None] * np.array([0.7548776662466927, 0.5698402909980532]) % 1).T
    fold = u + v > 1
    u, v = np.where(fold, 1 - u, u)[:, None], np.where(fold, 1 - v, v)[:, None]
    return np.asarray(chosen[:, 0] * (1 - u - v) + chosen[:, 1] * u + chosen[:, 2] * v)


def _mirror(points: Float64Array, axis: int, extent: Float64Array) -> float:
    """How well the middle of an axis mirrors the surface onto itself, in [0, 1]: 0 if up to 90 % of it falls on the
    surface, give or take a cell.

    Args:
        points: (P, 3) evenly on the surface.
        axis: across the mirror.
        extent: (3,) of the box from the origin.
    """
    # One cell is free around the grid, so that shifts do not wrap around.
    centred = points - extent / 2
    mirrored = np.where(np.arange(3) == axis, -centred, centred)
    cells, images = (((p + 0.5) * _CELLS).astype(np.int64).clip(0, _CELLS - 1) + 1 for p in (centred, mirrored))
    near = np.zeros((_CELLS + 2,) * 3, np.bool_)
    near[tuple(cells.T)] = True
    for k in range(3):
        near |= np.roll(near, 1, k) | np.roll(near, -1, k)
    return float(np.clip((near[tuple(images.T)].mean() - 0.9) / 0.1, 0, 1))


def upright(
    scene: Scene,
    up: Literal["auto", "y", "z"],
    habit: Habit,
    name: str,
    comments: str = "",
    place: str = "",
) -> Scene:
    """The scene turned to Z up, with a note about the choice and its reason if `up` is "auto".

    Args:
        scene: objects in the file's own axes; its cameras, and suns.
        up: the axis that points up, or "auto" for `choose_up`.
        habit, name, comments: see `choose_up`.
        place: of the note, the name of the file.
    """
    notes = scene.notes
    if up == "auto" and habit != "known":
        vertical = choose_up(scene.triangles, habit, name, comments)
        up, other = vertical.axis, "z" if vertical.axis == "y" else "y"
        line = one_line(f"{place}: {up.upper()} taken for up: {vertical.reason}; --up {other} changes it")
        notes = (*notes, Guess(line))
    if up != "y":
        return scene.replace(notes=notes)
    turn = np.array([[1.0, 0, 0, 0], [0, 0, -1, 0], [0, 1, 0, 0], [0, 0, 0, 1]])
    objects = tuple(mesh.transformed(turn) for mesh in scene.objects)
    cameras = tuple(camera.transformed(turn) for camera in scene.cameras)
    environment = scene.environment
    if environment is not None:
        turned = (turn[:3, :3] @ np.array([sun.direction for sun in environment.suns]).reshape(-1, 3).T).T.tolist()
        suns = [replace(sun, direction=(x, y, z)) for sun, (x, y, z) in zip(environment.suns, turned, strict=True)]
        environment = environment.replace(suns=tuple(suns))
    return scene.replace(objects=objects, cameras=cameras, notes=notes, environment=environment)
