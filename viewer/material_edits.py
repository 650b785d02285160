"""Materials of whole objects: their mean, and edits of single properties that keep the others and their textures."""

from __future__ import annotations

import weakref
from dataclasses import replace
from typing import Any

import numpy as np

from renderformer.data.appearance import Appearance
from renderformer.data.arrays import Float64Array
from renderformer.data.camera_path import Vector, vector
from renderformer.data.errors import InputError
from renderformer.data.scene import DIFFUSE, EMISSION, PATCH_SIZE, ROUGHNESS, SPECULAR, Material, Mesh

# Channels of a material row by the fields of `Material` that a row holds.
_CHANNELS = {
    "diffuse": DIFFUSE,
    "specular": SPECULAR,
    "roughness": slice(ROUGHNESS, ROUGHNESS + 1),
    "emission": EMISSION,
}
BLACK, WHITE = (0.0, 0.0, 0.0), (1.0, 1.0, 1.0)


# The mean of each live mesh; they never change.
_MEANS: weakref.WeakKeyDictionary[Mesh, Material] = weakref.WeakKeyDictionary()


def mean_material(mesh: Mesh) -> Material:
    """The mean material of a mesh, without textures."""
    mean = _MEANS.get(mesh)
    if mean is None:
        mean = _MEANS[mesh] = _mean_of(mesh)
    return mean


def _mean_of(mesh: Mesh) -> Material:
    row = Material.from_row(mesh.materials.mean(axis=0, dtype=np.float64).clip(0, None))
    mean = replace(row, two_sided=bool(np.any(mesh.two_sided)))
    return mean if mesh.appearance is None else _mean(mean, mesh, mesh.appearance)


def as_strong(colour: Vector, mean: float) -> Vector:
    """A colour of the hue of another with this mean; paler where a channel would exceed 1."""
    before = np.asarray(colour, np.float64)
    if not before.mean() > 0:
        return mean, mean, mean
    after = before * (mean / before.mean())
    excess = float(after.max() - mean)
    share = min(1.0, (1 - mean) / excess) if excess > 0 else 1.0
    return vector(np.clip(mean + (after - mean) * share, 0, 1))


def as_bright(emission: Vector, most: float) -> Vector:
    """A radiance of the hue of another, whose largest channel is `most`."""
    before = np.asarray(emission, np.float64)
    return vector(before * (most / before.max())) if before.max() > 0 else (most, most, most)


def edited(mesh: Mesh, **properties: Any) -> Mesh:
    """A mesh with other properties, fields of `Material`, on all triangles; others and their textures stay.

    Raises:
        InputError: a value out of range, or one that texture patches cannot hold.
    """
    row = Material(**properties).row()
    rows, look = mesh.materials.copy(), mesh.appearance
    patches = None if mesh.patches is None else mesh.patches.copy()
    inside = np.add.outer(np.arange(PATCH_SIZE), np.arange(PATCH_SIZE)) <= PATCH_SIZE
    for channels in (_CHANNELS[key] for key in properties if key in _CHANNELS):
        rows[:, channels] = row[channels]
        if patches is not None:
            patches[:, channels] = row[channels, None, None] * inside
    if properties.keys() - _CHANNELS.keys() - {"two_sided"}:
        if patches is not None:
            problem = f"has texture patches of a scene H5, which hold no {' or '.join(properties)}"
            raise InputError(f"object {mesh.name!r}", problem, "open the mesh that the scene was made from")
        look = _full(mesh)
    if look is not None:
        look = look.edited(**properties)
        rows = look.mean_rows(rows)
    sides = properties.get("two_sided", mesh.two_sided)
    return replace(mesh, materials=rows, patches=patches, appearance=look, two_sided=sides)


def _full(mesh: Mesh) -> Appearance:
    """The appearance of a mesh, in which every triangle has a material; equal ones share it."""
    look, count = mesh.appearance, len(mesh)
    if look is None:
        look = Appearance((Material(),), np.full(count, -1, np.int32), np.zeros((count, 3, 0, 2), np.float32))
    alone = np.flatnonzero(look.index < 0)
    if not len(alone):
        return look
    rows, number = np.unique(mesh.materials[alone], axis=0, return_inverse=True)
    index = look.index.copy()
    index[alone] = len(look.materials) + number.reshape(-1)
    return replace(look, materials=(*look.materials, *map(Material.from_row, rows)), index=index)


def _mean(row: Material, mesh: Mesh, look: Appearance) -> Material:
    """The mean material of a mesh with an appearance; its mean row holds neither opacity nor what metals hide."""
    index = look.index[look.index >= 0]
    if not len(index):
        return row
    share = np.bincount(index, minlength=len(look.materials)) / len(mesh)
    alpha = float(share @ [material.alpha for material in look.materials] + (1 - share.sum()))
    row = replace(row, alpha=min(alpha, 1.0))
    if len(index) == len(mesh) and all(material.textures.emission is None for material in look.materials):
        # Rows hold what is left of it where rays pass.
        row = replace(row, emission=vector(share @ [material.emission for material in look.materials]))
    if all(material.metallic is None for material in look.materials):
        return row
    bare = replace(
        look, materials=tuple(replace(material, metallic=None, specular=BLACK) for material in look.materials)
    )
    base = _mean_diffuse(mesh, bare)
    # With a white base and no dielectric part, what is not metallic is diffuse.
    metal = _mean_diffuse(mesh, replace(look, materials=tuple(map(_white, look.materials)), colors=None))
    specular = share @ [material.specular for material in look.materials]
    rest = 1 - share.sum()
    return replace(
        row,
        diffuse=vector(np.clip(base, 0, 1)),
        specular=vector(np.clip(specular + rest * np.array(row.specular), 0, 1)),
        metallic=float(np.clip(1 - metal.mean(), 0, 1)),
    )


def _white(material: Material) -> Material:
    textures = replace(material.textures, base=None, specular=None)
    return replace(material, diffuse=WHITE, specular=BLACK, textures=textures)


def _mean_diffuse(mesh: Mesh, look: Appearance) -> Float64Array:
    """(3,) the mean of diffuse in the middles of the triangles that have a material."""
    triangles = np.flatnonzero(look.index >= 0)
    middle = np.full((len(triangles), 2), 1 / 3, np.float32)
    share = np.ones(len(triangles), np.float32)
    rows = look.values(triangles, middle, mesh.materials[triangles], share).rows
    result: Float64Array = rows[:, DIFFUSE].mean(axis=0, dtype=np.float64)
    return result
