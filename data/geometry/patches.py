"""Texture patches, the (13, 32, 32) materials over one triangle that V1 models read: baking, subdivision.

Texel [i, j] is the material at the point with the barycentric weights (1 - (i + j) / 32, i / 32, j / 32).
"""

from __future__ import annotations

import numpy as np

from renderformer.data.arrays import BoolArray, Float16Array, Float32Array, Float64Array, Int32Array, Int64Array
from renderformer.data.scene import CHANNELS, PATCH_SIZE, Mesh, Scene

# More patches than this would need over 400 MB; larger meshes get one mean colour per triangle.
MAX_PATCHES = 16384
# A triangle is uniform if no channel varies by more than one 8-bit step.
_UNIFORM = 1 / 255
# Triangles baked at once; the arrays of a chunk stay below 100 MB.
_CHUNK = 256


def triangle_mask(size: int = PATCH_SIZE) -> BoolArray:
    """(size, size) whether a texel lies in the triangle: i + j <= size."""
    steps = np.arange(size)
    mask: BoolArray = steps[:, None] + steps[None] <= size
    return mask


def texel_weights() -> Float64Array:
    """(S, 3) barycentric weights of the corners at the texels of `triangle_mask`."""
    first, second = np.nonzero(triangle_mask())
    return np.asarray(np.stack([PATCH_SIZE - first - second, first, second], axis=1) / PATCH_SIZE)


def patches_of(mesh: Mesh) -> tuple[Float16Array | None, Int32Array]:
    """Patches of a mesh, its own or baked from its appearance: (K, 13, 32, 32) or None, and (N,) index, -1 for none.

    Triangles whose material does not vary get none, nor do those of a mesh with more than `MAX_PATCHES` that may.
    """
    index = np.full(len(mesh), -1, np.int32)
    if mesh.patches is not None and mesh.patch_index is not None:
        return mesh.patches, mesh.patch_index
    textured = _textured(mesh)
    if not 0 < len(textured) <= MAX_PATCHES:
        return None, index
    chunks: list[Float16Array] = []
    total = 0
    for part in np.array_split(textured, range(_CHUNK, len(textured), _CHUNK)):
        points = _texels(mesh, part)
        varies = (np.ptp(points, axis=1) > _UNIFORM).any(axis=1)
        patches = np.zeros((int(varies.sum()), CHANNELS, PATCH_SIZE, PATCH_SIZE), np.float16)
        patches[:, :, triangle_mask()] = points[varies].swapaxes(1, 2)
        index[part[varies]] = total + np.arange(len(patches))
        chunks.append(patches)
        total += len(patches)
    return (np.concatenate(chunks) if total else None), index


def patch_notes(scene: Scene) -> tuple[str, ...]:
    """A line if patches do not show all that the appearances of a scene say."""
    looking = [mesh for mesh in scene.objects if mesh.appearance is not None]
    coarse = sum(len(_textured(mesh)) > MAX_PATCHES for mesh in looking)
    parts = (
        [f"{coarse} objects with over {MAX_PATCHES:,} textured triangles get one colour per triangle"] if coarse else []
    )
    for name, flag in (("normal maps", "bumpy"), ("transparency", "see_through")):
        count = sum(bool(getattr(mesh.appearance, flag).any()) for mesh in looking)
        parts += [f"{name} of {count} objects ignored"] if count else []
    return ("by this model, " + ", ".join(parts),) if parts else ()


def _textured(mesh: Mesh) -> Int64Array:
    """(M,) the triangles of a mesh whose material may vary."""
    return np.flatnonzero(mesh.appearance.index >= 0) if mesh.appearance is not None else np.empty(0, np.int64)


def _texels(mesh: Mesh, triangles: Int64Array) -> Float32Array:
    """(M, S, 13) material rows of some triangles (M,) of a mesh at the S texels of the mask."""
    assert mesh.appearance is not None
    weights = texel_weights()
    triangle = np.repeat(triangles, len(weights))
    # A texel stands for a square of 1 / 32 of the legs, and a triangle is half of a square.
    share = np.full(len(triangle), 2 / PATCH_SIZE**2, np.float32)
    places = np.tile(weights[:, 1:], (len(triangles), 1))
    rows = mesh.appearance.values(triangle, places, mesh.materials[triangle], share).rows
    return rows.reshape(len(triangles), len(weights), CHANNELS)


def cut_patches(
    mesh: Mesh, weights: Float64Array, source: Int64Array
) -> tuple[Float32Array, Float16Array | None, Int32Array | None, int]:
    """Materials and patches of the pieces of a subdivided mesh.

    Args:
        mesh: N triangles.
        weights: (M, 3, 3) barycentric weights of each piece's corners in its original triangle.
        source: (M,) original triangle of each piece.

    Returns:
        (M, 13) materials, (P, 13, 32, 32) patches or None, (M,) patch index or None, and the number of patches of
        `mesh` that were dropped because the pieces would need more than `MAX_PATCHES`.
    """
    materials = mesh.materials[source]
    if mesh.patches is None or mesh.patch_index is None:
        return materials, None, None, 0
    textured = np.flatnonzero(mesh.patch_index[source] >= 0)
    if len(textured) > MAX_PATCHES:
        return materials, None, None, int((mesh.patch_index >= 0).sum())
    mask, texel = triangle_mask(), texel_weights()
    patches = np.zeros((len(textured), *mesh.patches.shape[1:]), np.float16)
    for number, piece in enumerate(textured):
        positions = (texel @ weights[piece])[:, 1:] * PATCH_SIZE
        values = _interpolated(mesh.patches[mesh.patch_index[source[piece]]], positions)
        patches[number, :, mask] = values
        materials[piece] = values.mean(axis=0)
    index = np.full(len(source), -1, np.int32)
    index[textured] = np.arange(len(textured))
    return materials, patches, index, 0


def _interpolated(patch: Float16Array, positions: Float64Array) -> Float32Array:
    """(S, 13) values of a patch at (S, 2) fractional texel positions, linear in each half of a texel cell, because the
    other half may lie outside the triangle."""
    low = np.minimum(np.floor(positions).astype(np.int64), PATCH_SIZE - 1)
    high = np.minimum(low + 1, PATCH_SIZE - 1)
    f, g = np.clip(positions - low, 0, 1).T
    values = patch.astype(np.float32).transpose(1, 2, 0)
    lower = f + g <= 1
    corner = np.where(lower[:, None], values[low[:, 0], low[:, 1]], values[high[:, 0], high[:, 1]])
    right, up = values[high[:, 0], low[:, 1]], values[low[:, 0], high[:, 1]]
    a, b = np.where(lower, f, 1 - g)[:, None], np.where(lower, g, 1 - f)[:, None]
    return np.asarray(corner * (1 - a - b) + right * a + up * b, np.float32)
