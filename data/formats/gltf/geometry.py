"""Triangle primitives of glTF as parts of a scene, posed and placed.

Legend: V vertices, F triangles of a primitive.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from renderformer.data.arrays import AnyArray, Float64Array, Int64Array
from renderformer.data.errors import InputError
from renderformer.data.formats.gltf.compression import DRACO, DracoPrimitive
from renderformer.data.formats.gltf.document import Document
from renderformer.data.formats.gltf.materials import Materials
from renderformer.data.formats.gltf.nodes import MAX_NODES, Nodes, Visit, instances
from renderformer.data.formats.gltf.skins import Points, influences, joint_matrices, morphed, skinned
from renderformer.data.formats.gltf.values import DAMAGED, child, entries, label_of, whole
from renderformer.data.formats.parts import Notes, Part
from renderformer.data.material import Material


@dataclass
class Primitive:
    """A triangle primitive in the frame of its mesh.

    Attributes:
        attributes: (V, K) arrays by name, as floats.
        faces: (F, 3).
        entry: of the header.
        material: of the file, or None.
        opaque: whether the material ignores the alpha of vertex colours.
        binding: joints (V, 4) and weights (V, 4) of each set; empty for a rigid primitive.
    """

    attributes: dict[str, Float64Array]
    faces: Int64Array
    entry: dict[str, Any]
    material: Material | None
    opaque: bool
    binding: tuple[list[AnyArray], list[AnyArray]]


class Geometry:
    """The triangle primitives of a file.

    Args:
        materials: of the file; None reads vertices and faces alone, without skins and morph targets.
        notes: counts of what is left out are added here.
    """

    def __init__(self, document: Document, nodes: Nodes, materials: Materials | None, notes: Notes) -> None:
        self._document, self._nodes, self._materials, self._notes = document, nodes, materials, notes
        self._primitives: dict[tuple[int, int], Primitive | None] = {}
        self._joints: dict[int, Float64Array] = {}
        self._placed = 0

    def parts(self, visits: list[Visit]) -> Iterator[Part]:
        """The primitives of the nodes in the scene, Y up, once per node that refers to them, in file order.

        Raises:
            InputError: a damaged mesh or skin.
        """
        for visit in visits:
            if "mesh" not in visit.node:
                continue
            number = whole(visit.node, "mesh")
            mesh = self._document.get("meshes", number)
            primitives = entries(mesh, "primitives", f"meshes[{number}]")
            label = label_of(visit.node, label_of(mesh, f"mesh_{number}"))
            for world in self._placements(visit):
                for position, entry in enumerate(primitives):
                    primitive = self._primitive((number, position), entry)
                    if primitive is not None:
                        name = label if len(primitives) == 1 else f"{label}_{position}"
                        yield self._posed(primitive, mesh, replace(visit, world=world), name)

    def _placements(self, visit: Visit) -> Float64Array:
        """(I, 4, 4) world matrices of a node's mesh; their number is limited over the file."""
        matrices = instances(self._document, visit)
        self._placed += len(matrices)
        if self._placed > MAX_NODES:
            raise InputError("", f"places more than {MAX_NODES} meshes", "join them")
        return matrices

    def _posed(self, primitive: Primitive, mesh: dict[str, Any], visit: Visit, name: str) -> Part:
        """The primitive in the pose of a node."""
        if self._materials is None:
            return _placed(_part(primitive, primitive.attributes, name), visit.world)
        attributes = primitive.attributes
        targets = entries(primitive.entry, "targets", "a primitive")
        if targets:
            weights = self._nodes.weights(visit.index, mesh, len(targets))
            attributes = morphed(self._document, attributes, targets, weights)
        part = _part(primitive, attributes, name)
        if "skin" not in visit.node or not primitive.binding[0]:
            return _placed(part, visit.world)
        # The transform of a skinned node itself has no effect (glTF 2.0, 3.7.3.3).
        number = whole(visit.node, "skin")
        if number not in self._joints:
            self._joints[number] = joint_matrices(self._document, self._nodes, number)
        matrices = self._joints[number]
        index, weight, loose = influences(*primitive.binding, len(matrices))
        self._notes.counts["vertices of skins without weights, moved with their first joint"] += loose
        return skinned(part, matrices, index, weight)

    def _primitive(self, key: tuple[int, int], entry: dict[str, Any]) -> Primitive | None:
        if key not in self._primitives:
            self._primitives[key] = self._read(entry)
        primitive = self._primitives[key]
        if primitive is None:
            self._notes.counts["primitives of points or lines ignored"] += 1
        return primitive

    def _read(self, entry: dict[str, Any]) -> Primitive | None:
        """A primitive, None if it has no triangles."""
        mode = entry.get("mode", 4)
        if mode not in (4, 5, 6):
            return None
        source = _Attributes(self._document, entry)
        vertices = source.read("POSITION", 3)
        faces = source.faces(len(vertices), mode)
        attributes = {"POSITION": vertices}
        material, opaque = None, True
        if self._materials is not None:
            if "material" in entry:
                material = self._materials.get(entry["material"])
                opaque = self._materials.opaque(entry["material"])
            sets = [(name, 2) for name in _uv_names(material)]
            bumpy = material is not None and material.textures.normal is not None
            for name, width in (("NORMAL", 3), *[("TANGENT", 4)] * bumpy, *sets, ("COLOR_0", None)):
                if name in source.names:
                    attributes[name] = source.read(name, width, len(vertices))
        if "COLOR_0" in attributes:
            attributes["COLOR_0"] = self._clipped(attributes["COLOR_0"])
        joints, weights = [], []
        number = 0
        while f"JOINTS_{number}" in source.names and f"WEIGHTS_{number}" in source.names:
            joints.append(source.read(f"JOINTS_{number}", 4, len(vertices)))
            weights.append(source.read(f"WEIGHTS_{number}", 4, len(vertices)))
            number += 1
        return Primitive(attributes, faces, entry, material, opaque, (joints, weights))

    def _clipped(self, colors: Float64Array) -> Float64Array:
        outside = ~((colors >= 0) & (colors <= 1)).all(axis=1)
        self._notes.counts["vertex colours outside 0 … 1 clipped"] += int(outside.sum())
        return np.clip(np.nan_to_num(colors, nan=1.0), 0, 1)


class _Attributes:
    """The attributes and indices of a primitive, compressed or not.

    Attributes:
        names: accessors by the names of the attributes.
    """

    def __init__(self, document: Document, entry: dict[str, Any]) -> None:
        self._document, self._entry = document, entry
        self.names = child(entry, "attributes", "a primitive")
        if "POSITION" not in self.names:
            raise InputError("", "a primitive has no POSITION", DAMAGED)
        extensions = child(entry, "extensions", "a primitive")
        self._draco: DracoPrimitive | None = None
        if DRACO in extensions:
            compressed = child(extensions, DRACO, "a primitive")
            self._draco = DracoPrimitive(document.view(whole(compressed, "bufferView"))[0], compressed)

    def read(self, name: str, width: int | None, count: int | None = None) -> Float64Array:
        """(count, width) floats; a width of None is 3 or 4."""
        accessor = self.names[name]
        if self._draco is not None and name in self._draco:
            values = self._draco.attribute(name)
            expected = self._document.layout(accessor)[1:]
            if values.shape != expected[::-1]:
                raise InputError("", f"Draco's {name} has the shape {values.shape}, not {expected[::-1]}", DAMAGED)
            values = self._document.scaled(accessor, values)
        else:
            values = self._document.accessor(accessor, width)
        columns = values.shape[1]
        if (count is not None and len(values) != count) or columns not in ((3, 4) if width is None else (width,)):
            raise InputError("", f"{name} has {len(values)} entries of {columns}, POSITION has {count}", DAMAGED)
        return values.astype(np.float64)

    def faces(self, count: int, mode: int) -> Int64Array:
        """(F, 3) indices into `count` vertices."""
        if self._draco is not None:
            return self._draco.faces
        if "indices" not in self._entry:
            return _faces(np.arange(count), mode)
        return _faces(self._document.accessor(self._entry["indices"], 1)[:, 0].astype(np.int64), mode)


def _part(primitive: Primitive, attributes: dict[str, Float64Array], name: str) -> Part:
    return Part(
        name,
        attributes["POSITION"],
        primitive.faces,
        attributes.get("NORMAL"),
        _uv(primitive, attributes),
        _colors(primitive, attributes),
        primitive.material,
        two_sided=primitive.material is not None and primitive.material.two_sided,
        tangents=attributes.get("TANGENT"),
    )


def _uv_names(material: Material | None) -> list[str]:
    """The attributes of the sets of texture coordinates up to the last that a material uses."""
    return [f"TEXCOORD_{number}" for number in range(0 if material is None else material.textures.uv_sets)]


def _uv(primitive: Primitive, attributes: dict[str, Float64Array]) -> Float64Array | None:
    """(V, K, 2) the texture coordinates that the material needs; NaN in sets that it uses and the primitive lacks."""
    material, names = primitive.material, _uv_names(primitive.material)
    if material is None or not names or not any(name in attributes for name in names):
        return None
    used = {f"TEXCOORD_{texture.uv_set}" for texture in material.textures.present}
    count = len(attributes["POSITION"])
    lacking = {name: np.full((count, 2), np.nan if name in used else 0.0) for name in names if name not in attributes}
    return np.stack([{**lacking, **attributes}[name] for name in names], axis=1)


def _colors(primitive: Primitive, attributes: dict[str, Float64Array]) -> Float64Array | None:
    """(V, 3) vertex colours, or (V, 4) for a material with opacity; between 0 and 1."""
    colors = attributes.get("COLOR_0")
    if colors is None:
        return None
    if primitive.opaque:
        return colors[:, :3]
    alpha = colors[:, 3:] if colors.shape[1] == 4 else np.ones((len(colors), 1))
    return np.concatenate([colors[:, :3], alpha], axis=1)


def _placed(part: Part, matrix: Float64Array) -> Part:
    """The part transformed by a node; a mirroring node reverses the faces (glTF 2.0, 3.7.4)."""
    faces = part.faces[:, ::-1] if np.linalg.det(matrix[:3, :3]) < 0 else part.faces
    points = Points(part.vertices, part.normals, part.tangents).moved(matrix[None, :3])
    return replace(part, vertices=points.vertices, faces=faces, normals=points.normals, tangents=points.tangents)


def _faces(indices: Int64Array, mode: int) -> Int64Array:
    """(F, 3) from a triangle list (4), strip (5) or fan (6)."""
    if mode == 4:
        if len(indices) % 3:
            raise InputError("", f"a triangle list has {len(indices)} indices, not a multiple of 3", DAMAGED)
        return indices.reshape(-1, 3)
    if len(indices) < 3:
        return np.empty((0, 3), np.int64)
    if mode == 6:
        return np.stack([np.full(len(indices) - 2, indices[0]), indices[1:-1], indices[2:]], axis=1)
    faces = np.stack([indices[:-2], indices[1:-1], indices[2:]], axis=1)
    faces[1::2] = faces[1::2, [1, 0, 2]]
    return faces
