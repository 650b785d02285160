"""Morph targets and skins of glTF: vertices as posed.

Legend: V vertices, J joints of a skin, K influences of a vertex.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np

from renderformer.data.arrays import AnyArray, Float64Array, Int64Array
from renderformer.data.errors import InputError
from renderformer.data.formats.gltf.document import Document
from renderformer.data.formats.gltf.nodes import Nodes
from renderformer.data.formats.gltf.values import DAMAGED, indices
from renderformer.data.formats.parts import Part

# Vertices skinned at once; their matrices take 25 MB.
_CHUNK = 2**18
# Displacements of vertices added up for one primitive.
_MAX_DISPLACED = 10**9


def morphed(
    document: Document,
    base: Mapping[str, Float64Array],
    targets: list[dict[str, Any]],
    weights: Float64Array,
) -> dict[str, Float64Array]:
    """Attributes plus the weighted displacements of the morph targets; normals are not normalised.

    Args:
        base: (V, K) attributes by name.
        targets: accessors by the name of the attribute.
        weights: (len(targets),).

    Raises:
        InputError: an accessor is damaged or has another size than the attribute.
    """
    result = {name: values.copy() for name, values in base.items()}
    if np.count_nonzero(weights) * len(base["POSITION"]) > _MAX_DISPLACED:
        raise InputError("", f"has {np.count_nonzero(weights)} morph targets at once", "export it in one pose")
    for target, weight in zip(targets, weights, strict=True):
        if weight == 0:
            continue
        for name in target.keys() & result.keys():
            if document.is_zero(target[name]):
                continue
            change = document.accessor(target[name])
            if len(change) != len(result[name]):
                problem = f"a morph target has {len(change)} of {name}, the primitive {len(result[name])}"
                raise InputError("", problem, DAMAGED)
            columns = min(change.shape[1], result[name].shape[1])
            result[name][:, :columns] += weight * change[:, :columns]
    return result


def joint_matrices(document: Document, nodes: Nodes, index: Any) -> Float64Array:
    """(J, 4, 4) matrices from a skinned mesh to the scene: the joint's world matrix times its inverse bind matrix."""
    skin = document.get("skins", index)
    joints = indices(skin, "joints")
    if not joints:
        raise InputError("", f"skins[{index}] has no joints", DAMAGED)
    worlds = np.stack([nodes.world(joint) for joint in joints])
    if "inverseBindMatrices" not in skin:
        return worlds
    values = document.accessor(skin["inverseBindMatrices"], 16).astype(np.float64)
    if len(values) < len(joints) or not np.isfinite(values).all():
        problem = f"skins[{index}] has {len(joints)} joints and {len(values)} usable inverse bind matrices"
        raise InputError("", problem, DAMAGED)
    # Matrices are stored by columns.
    result: Float64Array = worlds @ values[: len(joints)].reshape(-1, 4, 4).swapaxes(1, 2)
    return result


def influences(joints: list[AnyArray], weights: list[AnyArray], count: int) -> tuple[Int64Array, Float64Array, int]:
    """Joints and weights of the vertices.

    Args:
        joints, weights: (V, 4) of each set.
        count: of the joints of the skin.

    Returns:
        (V, K) indices, (V, K) weights with the sum 1, and the number of vertices without weights, which follow their
        first joint.

    Raises:
        InputError: an index out of range where the weight is not 0, or a weight that is not finite.
    """
    index = np.concatenate(joints, axis=1).astype(np.int64)
    weight = np.maximum(np.concatenate(weights, axis=1).astype(np.float64), 0)
    if not np.isfinite(weight).all():
        raise InputError("", "weights of a skin are NaN or infinite", DAMAGED)
    total = weight.sum(axis=1)
    loose = total < 1e-9
    weight[loose, 0] = 1
    index = np.where(weight > 0, index, 0)
    if len(index) and (index.min() < 0 or index.max() >= count):
        raise InputError("", f"a vertex refers to joint {index.max()}, but its skin has {count}", DAMAGED)
    return index, weight / weight.sum(axis=1, keepdims=True), int(loose.sum())


class Points(NamedTuple):
    """Vertices (V, 3), and normals (V, 3) and tangents (V, 4) of any length, or None."""

    vertices: Float64Array
    normals: Float64Array | None
    tangents: Float64Array | None

    def rows(self, rows: slice) -> Points:
        """Some of the points."""
        normals, tangents = (None if values is None else values[rows] for values in self[1:])
        return Points(self.vertices[rows], normals, tangents)

    def moved(self, matrices: Float64Array) -> Points:
        """The points after matrices (V or 1, 3, 4). A mirroring one changes the sign of a tangent, so that up in the
        image stays up."""
        linear = matrices[:, :, :3]
        sign = np.where(np.linalg.det(linear) < 0, -1.0, 1.0)[:, None]
        normals, tangents = self.normals, self.tangents
        if normals is not None:
            normals = _applied(cofactors(linear), normals) * sign
        if tangents is not None:
            tangents = np.concatenate([_applied(linear, tangents[:, :3]), tangents[:, 3:] * sign], axis=1)
        return Points(_applied(linear, self.vertices) + matrices[:, :, 3], normals, tangents)


def skinned(part: Part, matrices: Float64Array, index: Int64Array, weight: Float64Array) -> Part:
    """A mesh in the scene by linear blend skinning.

    Args:
        part: the mesh in its own frame.
        matrices: (J, 4, 4), see `joint_matrices`.
        index, weight: (V, K), see `influences`.
    """
    points, pieces, mirrored = Points(part.vertices, part.normals, part.tangents), [], 0
    for start in range(0, len(part.vertices), _CHUNK):
        rows = slice(start, start + _CHUNK)
        blend = np.zeros((len(part.vertices[rows]), 3, 4))
        for column in range(index.shape[1]):
            used = np.flatnonzero(weight[rows, column])
            blend[used] += weight[rows, column][used, None, None] * matrices[index[rows, column][used], :3]
        pieces.append(points.rows(rows).moved(blend))
        mirrored += int((np.linalg.det(blend[:, :, :3]) < 0).sum())
    if not pieces:
        return part
    # Where most of a mesh is mirrored its faces are inside out.
    faces = part.faces[:, ::-1] if 2 * mirrored > len(part.vertices) else part.faces
    vertices = np.concatenate([piece.vertices for piece in pieces])
    normals = _concatenated([piece.normals for piece in pieces])
    tangents = _concatenated([piece.tangents for piece in pieces])
    return replace(part, vertices=vertices, normals=normals, tangents=tangents, faces=faces)


def _concatenated(arrays: list[Float64Array | None]) -> Float64Array | None:
    present = [values for values in arrays if values is not None]
    return np.concatenate(present) if present else None


def _applied(matrices: Float64Array, vectors: Float64Array) -> Float64Array:
    """(V, 3) of (V or 1, 3, 3) and (V, 3)."""
    if len(matrices) == 1:
        return vectors @ matrices[0].T
    result: Float64Array = np.einsum("vij,vj->vi", matrices, vectors)
    return result


def cofactors(linear: Float64Array) -> Float64Array:
    """(..., 3, 3) the inverse transposes times the determinants, which exist for singular matrices, too."""
    rows = [np.cross(linear[..., (i + 1) % 3, :], linear[..., (i + 2) % 3, :]) for i in range(3)]
    return np.stack(rows, axis=-2)
