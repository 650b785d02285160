"""The nodes of a glTF file: the default scene, and world matrices in a pose.

Matrices are (4, 4) float64 and Y up, as in the file.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from renderformer.data.arrays import Float64Array
from renderformer.data.errors import InputError
from renderformer.data.formats.gltf.document import Document
from renderformer.data.formats.gltf.values import DAMAGED, child, extension, indices, numbers

INSTANCING = "EXT_mesh_gpu_instancing"
MAX_NODES = 100_000


@dataclass
class Pose:
    """Values that replace those of a node.

    Attributes:
        transform: translation (3,), rotation (4,) as a quaternion x, y, z, w, and scale (3,), by name.
        weights: (T,) of the morph targets, or None.
    """

    transform: dict[str, Float64Array] = field(default_factory=dict)
    weights: Float64Array | None = None


@dataclass(frozen=True)
class Visit:
    """A node of the default scene at one of its places.

    Attributes:
        index: of the node.
        node: of the header.
        world: matrix from the node to the scene.
    """

    index: int
    node: dict[str, Any]
    world: Float64Array


class Nodes:
    """The nodes of a file in one pose.

    Args:
        poses: by the index of the node; other nodes are as in the file.
    """

    def __init__(self, document: Document, poses: Mapping[int, Pose]) -> None:
        self._document, self._poses = document, poses
        self._local: dict[int, Float64Array] = {}
        self._world: dict[int, Float64Array] = {}
        self._parents: dict[int, int] | None = None

    def visits(self) -> list[Visit]:
        """The nodes of the default scene, depth first.

        Raises:
            InputError: a cycle, too many nodes, or a damaged node.
        """
        visits: list[Visit] = []
        for index, parent in self._order():
            local = self._local_matrix(index)
            world = local if parent < 0 else visits[parent].world @ local
            visits.append(Visit(index, self._document.get("nodes", index), world))
            self._world.setdefault(index, world)
        return visits

    def world(self, index: int) -> Float64Array:
        """The world matrix of a node at its first place, in the default scene if it is there (after `visits`)."""
        chain: list[int] = []
        while index not in self._world and len(chain) <= MAX_NODES:
            chain.append(index)
            parent = self._parent(index)
            if parent is None:
                break
            index = parent
        if len(chain) > MAX_NODES:
            raise InputError("", "its nodes form a cycle", DAMAGED)
        matrix = self._world.get(index, np.eye(4))
        for number in reversed(chain):
            matrix = matrix @ self._local_matrix(number)
            self._world[number] = matrix
        return matrix

    def weights(self, index: int, mesh: dict[str, Any], targets: int) -> Float64Array:
        """(targets,) weights of the morph targets of a node's mesh: posed, of the node, of the mesh, or 0."""
        pose = self._poses.get(index)
        node = self._document.get("nodes", index)
        value = node.get("weights", mesh.get("weights"))
        posed = pose is not None and pose.weights is not None
        given = pose.weights if posed else numbers(value or [], None, f"the weights of nodes[{index}]")  # type: ignore[union-attr]
        weights = np.zeros(targets)
        assert given is not None
        weights[: len(given)] = given[:targets]
        return weights

    def _order(self) -> list[tuple[int, int]]:
        """The nodes of the default scene depth first, each with the position of its parent in this list, or -1.

        All nodes are counted before any is placed, so that cycles end early.
        """
        document = self._document
        nodes = document.header.get("nodes", [])
        if not isinstance(nodes, list):
            raise InputError("", "nodes is not a list", DAMAGED)
        if document.header.get("scenes"):
            roots = document.get("scenes", document.header.get("scene", 0)).get("nodes", [])
        else:
            inner = {index for node in nodes if isinstance(node, dict) for index in indices(node, "children")}
            roots = [index for index in range(len(nodes)) if index not in inner]
        order: list[tuple[int, int]] = []
        stack = [(index, -1) for index in reversed(indices({"nodes": roots}, "nodes"))]
        count = len(stack)
        while stack:
            order.append(stack.pop())
            children = indices(document.get("nodes", order[-1][0]), "children")
            count += len(children)
            if count > 4 * len(nodes) + 16:
                raise InputError("", "its nodes form a cycle or are shared too often", DAMAGED)
            if count > MAX_NODES:
                raise InputError("", f"places more than {MAX_NODES} nodes", "join its meshes")
            stack += [(child, len(order) - 1) for child in reversed(children)]
        return order

    def _parent(self, index: int) -> int | None:
        if self._parents is None:
            nodes = self._document.header.get("nodes", [])
            known = [(i, node) for i, node in enumerate(nodes) if isinstance(node, dict)]
            self._parents = {inner: i for i, node in known for inner in indices(node, "children")}
        return self._parents.get(index)

    def _local_matrix(self, index: int) -> Float64Array:
        if index not in self._local:
            pose = self._poses.get(index, Pose())
            self._local[index] = _local_matrix(self._document.get("nodes", index), pose.transform, f"nodes[{index}]")
        return self._local[index]


def _local_matrix(node: dict[str, Any], posed: Mapping[str, Float64Array], place: str) -> Float64Array:
    """The transform of a node relative to its parent: `matrix`, or translation x rotation x scale."""
    if "matrix" in node and not posed:
        return numbers(node["matrix"], 16, f"{place}.matrix").reshape(4, 4).T
    values = {**node, **posed}
    matrix = np.eye(4)
    x, y, z, w = numbers(values.get("rotation", [0, 0, 0, 1]), 4, f"{place}.rotation")
    norm = x * x + y * y + z * z + w * w
    if norm < 1e-12:
        raise InputError("", f"{place}.rotation is zero", "expected a unit quaternion")
    s = 2 / norm
    matrix[:3, :3] = [
        [1 - s * (y * y + z * z), s * (x * y - z * w), s * (x * z + y * w)],
        [s * (x * y + z * w), 1 - s * (x * x + z * z), s * (y * z - x * w)],
        [s * (x * z - y * w), s * (y * z + x * w), 1 - s * (x * x + y * y)],
    ]
    matrix[:3, :3] *= numbers(values.get("scale", [1, 1, 1]), 3, f"{place}.scale")
    matrix[:3, 3] = numbers(values.get("translation", [0, 0, 0]), 3, f"{place}.translation")
    return matrix


def instances(document: Document, visit: Visit) -> Float64Array:
    """(I, 4, 4) world matrices of the copies of a node's mesh by EXT_mesh_gpu_instancing, or of the node alone.

    Raises:
        InputError: an accessor of another size than the others, or values that are not finite.
    """
    place = f"nodes[{visit.index}]"
    entry = extension(visit.node, INSTANCING, place)
    if entry is None:
        return visit.world[None]
    accessors = child(entry, "attributes", place)
    widths = {"TRANSLATION": 3, "ROTATION": 4, "SCALE": 3}
    values = {name: document.accessor(accessors[name], width) for name, width in widths.items() if name in accessors}
    counts = {len(array) for array in values.values()}
    if len(counts) != 1 or max(counts) > MAX_NODES or not all(np.isfinite(array).all() for array in values.values()):
        raise InputError("", f"{place} has {sorted(counts)} instances", f"expected one number up to {MAX_NODES}")
    names = {name: name.lower() for name in values}
    copies = [
        _local_matrix({}, {names[name]: array[row].astype(np.float64) for name, array in values.items()}, place)
        for row in range(max(counts))
    ]
    return visit.world @ np.stack(copies) if copies else np.empty((0, 4, 4))
