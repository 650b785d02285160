"""Texture patches, the (13, 32, 32) materials over one triangle: the mask of their texels, subdivision.

Texel [i, j] is the material at the point with the barycentric weights (1 - (i + j) / 32, i / 32, j / 32).
"""

from __future__ import annotations

import numpy as np

from renderformer.data.arrays import BoolArray, Float16Array, Float32Array, Float64Array, Int32Array, Int64Array
from renderformer.data.scene import PATCH_SIZE, Mesh

# More patches than this would need over 400 MB; larger meshes get one mean colour per triangle.
MAX_PATCHES = 16384


def triangle_mask(size: int = PATCH_SIZE) -> BoolArray:
    """(size, size) whether a texel lies in the triangle: i + j <= size."""
    steps = np.arange(size)
    mask: BoolArray = steps[:, None] + steps[None] <= size
    return mask


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
    mask = triangle_mask()
    first, second = np.nonzero(mask)
    texel = np.stack([PATCH_SIZE - first - second, first, second], axis=1) / PATCH_SIZE
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
