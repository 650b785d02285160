"""Nodes of Blender: what a socket gets."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from .notes import Notes

# How Blender's images go on beside their border.
WRAP = {"REPEAT": "repeat", "EXTEND": "clamp", "CLIP": "clamp", "MIRROR": "mirror"}


def source(socket: Any) -> Any:
    """The socket at the other end of a link, past reroutes and muted nodes; None without a link, or past a muted node
    that passes nothing on, where Blender takes the value of the socket itself."""
    while socket is not None and socket.is_linked and not getattr(socket.links[0], "is_muted", False):
        found = socket.links[0].from_socket
        if found.node.type == "REROUTE":
            socket = found.node.inputs[0]
        elif getattr(found.node, "mute", False):
            passed = [link.from_socket for link in found.node.internal_links if link.to_socket == found]
            socket = passed[0] if passed else None
        else:
            return found
    return None


def value(node: Any, name: str, default: float, notes: Notes, place: str) -> float:
    """The number of an input; what is linked to it is not drawn."""
    socket = node.inputs.get(name)
    if socket is None:
        return default
    found = source(socket)
    if found is None:
        return float(socket.default_value)
    if found.node.type == "VALUE":
        return float(found.default_value)
    notes.add(f"what is linked to {name} is not drawn, its value is", place)
    return float(socket.default_value)


def colour(socket: Any, notes: Notes, place: str) -> tuple[float, float, float]:
    """The colour of an input, linear; what is linked to it is not drawn, unless it is a colour too."""
    found = source(socket)
    if found is not None and found.node.type == "RGB":
        return rgb(found.default_value)
    if found is not None:
        notes.add(f"{found.node.name.rstrip('.0123456789')} at {socket.name} is not drawn, its colour is", place)
    return rgb(socket.default_value)


def image_node(socket: Any) -> tuple[Any, str] | None:
    """The image texture that is linked to an input, and the output of it: Color or Alpha; None for anything else."""
    found = source(socket)
    if found is None or found.node.type != "TEX_IMAGE" or found.node.image is None:
        return None
    return found.node, found.name


def uv_matrix(node: Any, notes: Notes, place: str) -> list[list[float]] | None:
    """How the texture coordinates of a mesh lie in an image: two rows that are applied to (u, v, 1), origin at the
    upper left; None for as they are."""
    if getattr(node, "projection", "FLAT") != "FLAT":
        notes.add("a box or ball projection of an image is not drawn, texture coordinates are", place)
    found = source(node.inputs.get("Vector"))
    matrix = np.eye(3)
    if found is not None and found.node.type == "MAPPING":
        mapping = found.node
        found = source(mapping.inputs.get("Vector"))
        matrix = _mapping(mapping, notes, place)
    _check_coordinates(found, notes, place)
    flip = np.array([[1.0, 0, 0], [0, -1, 1], [0, 0, 1]])
    result = flip @ matrix @ flip
    return None if np.allclose(result, np.eye(3)) else result[:2].tolist()


def _check_coordinates(found: Any, notes: Notes, place: str) -> None:
    """Note coordinates that are none of the mesh's own."""
    if found is None:
        return
    node = found.node
    if node.type == "UVMAP" and node.uv_map:
        notes.add("a UV map that a node names is not looked up, the one for rendering is", place)
    elif node.type != "UVMAP" and not (node.type == "TEX_COORD" and found.name == "UV"):
        notes.add(f"texture coordinates of {node.name.rstrip('.0123456789')} are not drawn, the UV map is", place)


def _mapping(node: Any, notes: Notes, place: str) -> np.ndarray:
    """(3, 3) what a mapping node does to (u, v, 1)."""
    kind = getattr(node, "vector_type", "POINT")
    if kind not in ("POINT", "TEXTURE"):
        notes.add("a mapping that is neither of points nor of textures is not drawn", place)
        return np.eye(3)
    (x, y, _), turn, (across, up, _) = (node.inputs[name].default_value for name in ("Location", "Rotation", "Scale"))
    if abs(turn[0]) > 1e-6 or abs(turn[1]) > 1e-6:
        notes.add("a mapping's rotation about X and Y is not drawn", place)
    cosine, sine = math.cos(turn[2]), math.sin(turn[2])
    matrix = np.array([[cosine * across, -sine * up, x], [sine * across, cosine * up, y], [0, 0, 1]])
    if kind == "POINT":
        return matrix
    return np.linalg.inv(matrix) if abs(np.linalg.det(matrix)) > 1e-12 else np.eye(3)


def rgb(values: Any) -> tuple[float, float, float]:
    """The first three numbers of a colour."""
    red, green, blue = (float(v) for v in list(values)[:3])
    return red, green, blue
