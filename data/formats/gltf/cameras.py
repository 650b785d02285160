"""The perspective cameras of a glTF file."""

from __future__ import annotations

from typing import Any

import numpy as np

from renderformer.data.arrays import Float64Array
from renderformer.data.camera import Camera
from renderformer.data.errors import InputError
from renderformer.data.formats.gltf.document import Document
from renderformer.data.formats.gltf.nodes import Visit
from renderformer.data.formats.gltf.values import child, label_of, number, whole
from renderformer.data.formats.parts import Notes
from renderformer.data.scene import MAX_COORDINATE

_MAX_CAMERAS = 1000


def cameras(document: Document, visits: list[Visit], notes: Notes) -> list[Camera]:
    """The perspective cameras of the nodes in the scene, Y up, with unique names; others are counted in the notes.

    The vertical angle of view is kept; the aspect ratio is that of the picture.

    Raises:
        InputError: a damaged camera.
    """
    result: list[Camera] = []
    used: set[str] = set()
    for visit in visits:
        if "camera" not in visit.node:
            continue
        if len(result) == _MAX_CAMERAS:
            notes.counts[f"cameras left out, {_MAX_CAMERAS} are read"] += 1
            continue
        index = whole(visit.node, "camera")
        entry = document.get("cameras", index)
        if entry.get("type") != "perspective":
            notes.counts["orthographic cameras not drawn"] += 1
            continue
        c2w = _rigid(visit.world)
        if c2w is None:
            notes.counts["cameras without a direction or too far away not drawn"] += 1
            continue
        name = _unused(label_of(visit.node, label_of(entry, f"camera_{index}")), used)
        result.append(Camera(c2w.astype(np.float32), _fov(entry, index), name))
    return result


def _unused(name: str, used: set[str]) -> str:
    unique, count = name, 2
    while unique in used:
        unique, count = f"{name}_{count}", count + 1
    used.add(unique)
    return unique


def _fov(entry: dict[str, Any], index: int) -> float:
    """Degrees."""
    value = number(child(entry, "perspective", f"cameras[{index}]").get("yfov"), f"cameras[{index}].yfov")
    degrees = float(np.degrees(value))
    if not 0 < degrees < 180:
        raise InputError("", f"cameras[{index}].yfov is {value:g}", "expected radians between 0 and pi")
    return degrees


def _rigid(world: Float64Array) -> Float64Array | None:
    """(4, 4) camera to world with the position, view direction and up of a node; None without them."""
    backward, up = world[:3, 2], world[:3, 1]
    right = np.cross(up, backward)
    lengths = np.linalg.norm(backward), np.linalg.norm(right)
    if min(lengths) < 1e-12 or np.abs(world[:3, 3]).max() > MAX_COORDINATE:
        return None
    backward, right = backward / lengths[0], right / lengths[1]
    c2w = np.eye(4)
    c2w[:3] = np.stack([right, np.cross(backward, right), backward, world[:3, 3]], axis=1)
    return c2w
