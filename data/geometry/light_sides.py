"""From which sides the lights of a file shine that does not say so.

A light shines from its front, the side from which its corners run counter-clockwise (`Mesh.two_sided`). Many files have
lights that are wound the wrong way round, because the program that they were made for lights both sides. So lights of
files that say nothing shine from both sides where their front alone would leave the scene dark.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from renderformer.data.arrays import BoolArray, Float64Array
from renderformer.data.geometry.triangles import area_vectors, connected_parts
from renderformer.data.scene import EMISSION, Mesh

# The area vectors of a closed surface add up to zero; to less than this share of its area.
CLOSED = 1e-3


def with_sides(objects: Sequence[Mesh], stated: Mapping[str, bool | None] | None = None) -> list[Mesh]:
    """The objects of a scene with `two_sided` as the file states it, or else by a rule.

    By the rule a triangle that emits shines from both sides if it does already, if it belongs to a closed surface that
    is inside out, or to an open one and its front does not face the middle of the surfaces that do not emit, or if
    there is no such surface.

    Args:
        stated: `two_sided` of objects by name, None or left out where the file does not say.
    """
    said = {name: sides for name, sides in (stated or {}).items() if sides is not None}
    objects = [replace(mesh, two_sided=said[mesh.name]) if mesh.name in said else mesh for mesh in objects]
    if all(mesh.name in said or not mesh.emits for mesh in objects):
        return objects
    middle = _middle(objects)
    return [mesh if mesh.name in said else replace(mesh, two_sided=_unsaid(mesh, middle)) for mesh in objects]


def other_sides(objects: Sequence[Mesh]) -> list[str]:
    """A line about lights that a file which says nothing gives other sides than they have, or none."""
    pairs = zip(objects, with_sides([replace(mesh, two_sided=False) for mesh in objects]), strict=True)
    count = sum(int((_emits(mesh) & (mesh.two_sided != np.asarray(read.two_sided))).sum()) for mesh, read in pairs)
    return [f"{count} light triangles whose sides that shine are others when read"] if count else []


def hidden_sides(objects: Sequence[Mesh]) -> list[str]:
    """A line about objects that cameras do not see from everywhere, for files that cannot say so, or none."""
    count = sum(mesh.camera_sides != "both" for mesh in objects)
    return [f"{count} objects hidden from cameras on some sides will be seen"] if count else []


def _middle(objects: Sequence[Mesh]) -> Float64Array | None:
    """(3,) centre of the area of the surfaces that do not emit."""
    solid = [mesh.triangles[~_emits(mesh)].astype(np.float64) for mesh in objects]
    triangles = np.concatenate(solid)
    weight = np.linalg.norm(area_vectors(triangles), axis=1)
    return np.asarray(weight @ triangles.mean(axis=1) / weight.sum()) if weight.sum() > 0 else None


def _emits(mesh: Mesh) -> BoolArray:
    return np.asarray((mesh.materials[:, EMISSION] > 0).any(axis=1))


def _unsaid(mesh: Mesh, middle: Float64Array | None) -> BoolArray:
    """(N,) whether triangles shine from both sides by the rule."""
    both = np.array(np.broadcast_to(mesh.two_sided, len(mesh)))
    lights = np.flatnonzero(_emits(mesh))
    if len(lights):
        both[lights] |= _wrong_way_round(mesh.triangles[lights].astype(np.float64), middle)
    return both


def _wrong_way_round(triangles: Float64Array, middle: Float64Array | None) -> BoolArray:
    """(L,) whether the front of light triangles (L, 3, 3) alone would light nothing."""
    part = connected_parts(triangles)
    vectors, centres = area_vectors(triangles), triangles.mean(axis=1)
    total = np.stack([np.bincount(part, vectors[:, k]) for k in range(3)], axis=1)
    closed = np.linalg.norm(total, axis=1) < CLOSED * np.bincount(part, np.linalg.norm(vectors, axis=1))
    # Three times the volume, about a point near by, which keeps the digits of lights far from the origin.
    outward = np.einsum("lk,lk->l", vectors, centres - centres.mean(axis=0))
    inside_out = np.bincount(part, outward) < 0
    toward = np.zeros(len(triangles)) if middle is None else np.einsum("lk,lk->l", vectors, middle - centres)
    return np.where(closed[part], inside_out[part], toward <= 0)
