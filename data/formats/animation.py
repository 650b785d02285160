"""Meshes that are the frames of an animation: one placement on the stage for all of them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np

from renderformer.data.arrays import Float64Array
from renderformer.data.errors import InputError
from renderformer.data.formats.mesh_file import load_mesh_file
from renderformer.data.progress import Progress, silent
from renderformer.data.staging import solid_points

# Directions in which the outermost points are kept.
_DIRECTIONS = 128


def common_stage(
    frames: Sequence[tuple[Path, float | None]],
    up: Literal["auto", "y", "z"] = "auto",
    animation: str = "",
    progress: Progress = silent,
) -> dict[str, Any]:
    """Options of `load_scene` with which all frames are scaled, put down and framed alike.

    Args:
        frames: a mesh file for each frame, and a time in its animation or None, see `load_scene`.
        up: see `StageOptions.up`; "auto" decides by the first frame.
        animation: name or index, see `load_scene`.
        progress: called with ("measure", frames done, all frames).

    Returns:
        `up`, and `extent`, the outermost points of all frames. Files that cannot be read are left out: drawing them
        will say why.

    Raises:
        InputError: no file can be read; the error of the first one.
    """
    problem: InputError | None = None
    extent: Float64Array | None = None
    for done, (path, time) in enumerate(frames):
        progress("measure", done, len(frames))
        try:
            if extent is None and up == "auto":
                up = _vertical(path)
            points = solid_points(load_mesh_file(path, up, time=time, animation=animation))
        except InputError as error:
            problem = problem or error
            continue
        extent = _outermost(points if extent is None else np.concatenate([extent, points]))
    if extent is None:
        assert problem is not None
        raise problem
    return {"up": up, "extent": extent.tolist()}


def _vertical(path: Path) -> Literal["y", "z"]:
    """The axis that "auto" takes for up."""
    before, after = load_mesh_file(path).triangles, load_mesh_file(path, "auto").triangles
    return "z" if np.array_equal(before, after) else "y"


def _outermost(points: Float64Array) -> Float64Array:
    """The points (M, 3) that lie farthest in some of many directions, in their order."""
    index = np.arange(_DIRECTIONS) + 0.5
    height, turn = 1 - 2 * index / _DIRECTIONS, index * np.pi * (1 + 5**0.5)
    radius = np.sqrt(1 - height**2)
    around = np.stack([radius * np.cos(turn), radius * np.sin(turn), height])
    directions = np.concatenate([around, np.eye(3), -np.eye(3)], axis=1)
    return points[np.unique((points @ directions).argmax(axis=0))]
