"""Meshes that emit, as lights that are moved, resized and coloured."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from renderformer.data.arrays import Float64Array
from renderformer.data.camera_path import Vector, vector
from renderformer.data.errors import InputError
from renderformer.data.scene import EMISSION, Light, Mesh
from renderformer.viewer.material_edits import edited
from renderformer.viewer.placement import Placement

# Angle in radians between one ring of new lights and the next.
TILT = math.pi / 8
# Share of its size by which a light is no longer what was wanted.
DISTORTED = 0.1


def light_of(mesh: Mesh) -> Light:
    """The light of a mesh that emits: exact for a single triangle, else with its centre and longest edge.

    The target is the point in front of the light nearest to the origin.
    """
    corners = _emitting(mesh)
    centre = corners.mean(axis=(0, 1))
    normal = np.cross(corners[0, 1] - corners[0, 0], corners[0, 2] - corners[0, 0])
    normal /= max(float(np.linalg.norm(normal)), 1e-30)
    distance = float(-centre @ normal)
    target = centre + normal * (distance if distance > 1e-3 else max(1.0, float(np.abs(centre).max())))
    emission = mesh.materials[:, EMISSION].max(axis=0)
    return Light(vector(centre), vector(target), _longest_edge(corners), vector(emission), mesh.name)


def _emitting(mesh: Mesh) -> Float64Array:
    """(N, 3, 3) corners of the triangles that emit."""
    return mesh.triangles[(mesh.materials[:, EMISSION] > 0).any(axis=1)].astype(np.float64)


def _longest_edge(corners: Float64Array) -> float:
    return float(np.linalg.norm(corners - np.roll(corners, 1, axis=1), axis=2).max())


def another(taken: Sequence[Vector]) -> Light:
    """A light for a scene in the trained box, apart from those whose centres are `taken`: above the middle, or else
    around that place, as far from the middle."""
    distance = math.dist(Light.position, (0.0, 0.0, 0.0))
    for step in itertools.count():
        # Rings about the vertical, farther down with each turn.
        polar, around = TILT * -(-step // 6), 2 * math.pi * (step % 6) / 6
        flat = distance * math.sin(polar)
        place = flat * math.cos(around), flat * math.sin(around), distance * math.cos(polar)
        if all(math.dist(place, other) > Light.size for other in taken) or polar > math.pi / 2:
            return Light(place)
    raise AssertionError


def hue(emission: float | Vector) -> Vector:
    """Linear RGB of a radiance, the largest channel 1."""
    rgb = np.broadcast_to(np.asarray(emission, np.float64), (3,))
    return vector(rgb / max(float(rgb.max()), 1e-30))


def coloured(mesh: Mesh, colour: Vector) -> Mesh:
    """A light of another hue."""
    if not max(colour) > 0:
        raise InputError(f"light {mesh.name!r}", "its colour is black", "hide it to switch it off")
    before = mesh.materials[:, EMISSION].max(axis=0).astype(np.float64)
    after = before.max() * np.array(hue(colour))
    if (before > 0).all():
        return mesh.dimmed(vector(after / before))
    return edited(mesh, emission=vector(after))


def moved(mesh: Mesh, position: Vector | None, size: float | None) -> Mesh:
    """A light with another centre or longest edge.

    Raises:
        InputError: a number out of range, or a light too small for its place.
    """
    light = light_of(mesh)
    if size is not None and not (math.isfinite(size) and size > 0):
        raise InputError(f"light {mesh.name!r}", f"size is {size}", "expected a positive number")
    if position is not None and not all(map(math.isfinite, position)):
        raise InputError(f"light {mesh.name!r}", f"position is {position}", "expected three finite numbers")
    position, size = position or light.position, size or light.size
    if len(mesh) == 1:
        triangle = replace(light, position=position, size=size).mesh()
        # Its material, not its shape; tangents belong to the shape.
        look = mesh.appearance and replace(mesh.appearance, tangents=None)
        kept = {key: getattr(mesh, key) for key in ("materials", "two_sided", "camera_sides")}
        result = replace(triangle, appearance=look, **kept)
    else:
        placement = Placement(vector(np.subtract(position, light.position)), scale=size / light.size)
        result = mesh.transformed(placement.matrix(light.position))
    if abs(_longest_edge(_emitting(result)) - size) > DISTORTED * size:
        problem = f"a size of {size:g} is lost to rounding at this place"
        raise InputError(f"light {mesh.name!r}", problem, "expected a larger one, or a place nearer to the origin")
    return result
