"""glTF 2.0 and GLB: geometry, nodes, materials and pictures, read directly.

trimesh reads glTF too, but it rounds the factors to 8 bits, ignores `sparse` and `normalized`, gives pieces of one mesh
random names and loses the children of camera nodes; here every number arrives as the file states it.
Every count of the file is checked against the bytes that are there before anything is allocated.
"""

from __future__ import annotations

import base64
import binascii
import json
import struct
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import unquote

import numpy as np

from renderformer.data.arrays import AnyArray, Float64Array, Int64Array
from renderformer.data.errors import InputError
from renderformer.data.formats.materials import NEUTRAL, Surface

_COMPONENTS = {5120: "<i1", 5121: "<u1", 5122: "<i2", 5123: "<u2", 5125: "<u4", 5126: "<f4"}
_WIDTHS = {"SCALAR": 1, "VEC2": 2, "VEC3": 3, "VEC4": 4, "MAT2": 4, "MAT3": 9, "MAT4": 16}
# Geometry that only these extensions can decode, or that would look wrong without them.
_UNREADABLE = {"KHR_draco_mesh_compression", "EXT_meshopt_compression", "KHR_meshopt_compression"}
# Of materials; what the others say is ignored, and told.
_KNOWN = {"KHR_materials_emissive_strength", "KHR_materials_pbrSpecularGlossiness", "KHR_materials_transmission"}
_MAX_DEPTH = 256
_WRAP = {33071: "clamp", 33648: "mirror", 10497: "repeat"}


@dataclass
class GltfTexture:
    """One texture reference: the bytes of the picture, and how it is laid on the surface."""

    picture: bytes
    scale: tuple[float, float] = (1.0, 1.0)
    offset: tuple[float, float] = (0.0, 0.0)
    rotation: float = 0.0
    wrap: tuple[str, str] = ("repeat", "repeat")


@dataclass
class GltfMaterial:
    """A surface and its textures by kind ("base", "metallic_roughness", "emission")."""

    surface: Surface = NEUTRAL
    textures: dict[str, GltfTexture] = field(default_factory=dict)
    uv_set: int = 0


@dataclass
class GltfPrimitive:
    """A triangle list placed in the file's world (Y up).

    Attributes:
        vertices: (V, 3) float64, already moved by the node.
        faces: (F, 3) int64 into the vertices.
        normals: (V, 3) or None.
        uv: (V, 2) or None, origin at the upper left.
        colors: (V, 3) linear RGB or None.
    """

    name: str
    vertices: Float64Array
    faces: Int64Array
    normals: Float64Array | None
    uv: Float64Array | None
    colors: Float64Array | None
    material: GltfMaterial


class GltfFile:
    """A parsed file; `primitives` walks its default scene.

    Args:
        data: the whole file, JSON or GLB.
        fetch: gives the bytes of a file named beside this one; raises for what it will not read.

    Raises:
        InputError: anything wrong with the file; the message does not yet name the file.
    """

    def __init__(self, data: bytes, fetch: Callable[[str], bytes]) -> None:
        self._fetch = fetch
        text, self._chunk = _split_glb(data)
        try:
            header = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise InputError("", f"the glTF header is not valid JSON ({error})") from None
        if not isinstance(header, dict):
            raise InputError("", "the glTF header is not a JSON object")
        self.header = header
        self.notes: list[str] = []
        version = str(self._get("asset").get("version", "2.0")) if isinstance(header.get("asset"), dict) else "2.0"
        if not version.startswith("2"):
            raise InputError("", f"is glTF {version}, expected 2.0", "export it again")
        needed = set(map(str, header.get("extensionsRequired", []))) & _UNREADABLE
        if needed:
            raise InputError("", f"needs the extension {sorted(needed)[0]}", "export it without compression")
        self._buffers: dict[int, bytes] = {}
        self._materials: dict[int, GltfMaterial] = {}

    def _get(self, kind: str, index: int | None = None) -> Any:
        """The header's entry, or item `index` of its list; a file that points outside is refused."""
        value = self.header.get(kind, {} if index is None else [])
        if index is None:
            return value
        known = isinstance(value, list) and isinstance(index, int) and 0 <= index < len(value)
        if not known or not isinstance(value[index], dict):
            raise InputError("", f"refers to {kind}[{index}], which does not exist", "the file is damaged")
        return value[index]

    def _buffer(self, index: int) -> bytes:
        if index not in self._buffers:
            uri = self._get("buffers", index).get("uri")
            if uri is None:
                if index != 0 or self._chunk is None:
                    raise InputError("", f"buffers[{index}] has no data", "the file is damaged")
                self._buffers[index] = self._chunk
            else:
                self._buffers[index] = self._uri(str(uri))
        return self._buffers[index]

    def _uri(self, uri: str) -> bytes:
        if uri.startswith("data:"):
            head, _, payload = uri.partition(",")
            if not head.endswith(";base64"):
                raise InputError("", f"holds a data URI that is not base64 ({head[:40]})")
            try:
                return base64.b64decode(payload)
            except (binascii.Error, ValueError) as error:
                raise InputError("", f"holds a damaged data URI ({error})") from None
        return self._fetch(unquote(uri))

    def _view(self, index: int) -> tuple[memoryview, int]:
        """The bytes of a buffer view, and its stride (0: packed)."""
        view = self._get("bufferViews", index)
        start, length = _count(view, "byteOffset", 0), _count(view, "byteLength")
        data = self._buffer(_count(view, "buffer"))
        if start + length > len(data):
            raise InputError(
                "",
                f"bufferViews[{index}] ends at byte {start + length}, but its buffer has {len(data)}",
                "the file is truncated",
            )
        return memoryview(data)[start : start + length], _count(view, "byteStride", 0)

    def _accessor(self, index: int, width: int | None = None) -> AnyArray:
        """(count, width) numbers; integers marked `normalized` become floats in [-1, 1]."""
        accessor = self._get("accessors", index)
        dtype = np.dtype(_COMPONENTS.get(accessor.get("componentType"), "V1"))
        columns = _WIDTHS.get(str(accessor.get("type")), 0)
        count = _count(accessor, "count")
        if dtype.kind == "V" or not columns or (width is not None and columns != width):
            raise InputError(
                "", f"accessors[{index}] has an unexpected type ({accessor.get('type')})", "the file is damaged"
            )
        if "bufferView" in accessor:
            values = self._strided(index, _count(accessor, "bufferView"), accessor, dtype, count, columns)
        elif count * columns * dtype.itemsize > 2**30 or "sparse" not in accessor:
            raise InputError("", f"accessors[{index}] has no data", "the file is damaged or needs an extension")
        else:
            values = np.zeros((count, columns), dtype)
        if "sparse" in accessor:
            values = self._sparse(accessor["sparse"], values, dtype)
        if accessor.get("normalized") and dtype.kind in "iu":
            return np.maximum(values.astype(np.float64) / np.iinfo(dtype).max, -1.0)
        return values

    def _strided(
        self, index: int, view_index: int, source: dict[str, Any], dtype: np.dtype[Any], count: int, columns: int
    ) -> AnyArray:
        data, stride = self._view(view_index)
        start, row = _count(source, "byteOffset", 0), dtype.itemsize * columns
        stride = stride or row
        if count and start + (count - 1) * stride + row > len(data):
            raise InputError("", f"accessors[{index}] reads past the end of its data", "the file is truncated")
        if not count:
            return np.zeros((0, columns), dtype)
        block = np.ndarray((count, columns), dtype, data, start, (stride, dtype.itemsize))
        return block.copy()

    def _sparse(self, sparse: dict[str, Any], values: AnyArray, dtype: np.dtype[Any]) -> AnyArray:
        if not (isinstance(sparse, dict) and all(isinstance(sparse.get(k), dict) for k in ("indices", "values"))):
            raise InputError("", "a sparse accessor is damaged")
        count, places, news = _count(sparse, "count"), sparse["indices"], sparse["values"]
        kind = np.dtype(_COMPONENTS.get(places.get("componentType"), "<u4"))
        where = self._strided(-1, _count(places, "bufferView"), places, kind, count, 1)[:, 0].astype(np.int64)
        if count and (where.min() < 0 or where.max() >= len(values)):
            raise InputError("", "a sparse accessor has an index out of range", "the file is damaged")
        values = values.copy()
        values[where] = self._strided(-1, _count(news, "bufferView"), news, dtype, count, values.shape[1])
        return values

    def primitives(self, limit: int) -> list[GltfPrimitive]:
        """Every triangle primitive of the default scene, once per node that shows it, in the file's order.

        Args:
            limit: refuse about this many triangles; twice as many triangles and vertices together.
        """
        found: list[GltfPrimitive] = []
        total, skipped, cache = 0, 0, {}
        for name, mesh_index, matrix in self._nodes():
            mesh = self._get("meshes", mesh_index)
            pieces = mesh.get("primitives", [])
            if not isinstance(pieces, list) or not all(isinstance(piece, dict) for piece in pieces):
                raise InputError("", f"meshes[{mesh_index}].primitives is not a list of objects")
            for number, piece in enumerate(pieces):
                if piece.get("mode", 4) not in (4, 5, 6):
                    skipped += 1
                    continue
                key = (mesh_index, number)
                if key not in cache:
                    cache[key] = self._primitive(piece)
                label = name or str(mesh.get("name") or f"mesh_{mesh_index}")
                # Vertices count too: a node may show many of them with few faces.
                total += len(cache[key].faces) + len(cache[key].vertices)
                if total > 2 * limit:
                    raise InputError("", f"places more than {limit} triangles", "simplify it")
                found.append(_placed(cache[key], label if len(pieces) == 1 else f"{label}_{number}", matrix))
        if skipped:
            self.notes.append(f"{skipped} primitives of points or lines ignored")
        if self.header.get("skins") or self.header.get("animations"):
            self.notes.append("skins and animations ignored, shapes are in the pose of the nodes")
        return found

    def _nodes(self) -> list[tuple[str, int, Float64Array]]:
        """(name, mesh, world matrix) of the nodes with a mesh, depth first."""
        nodes = self.header.get("nodes", [])
        if not isinstance(nodes, list):
            raise InputError("", "nodes is not a list")
        if self.header.get("scenes"):
            roots = self._get("scenes", self.header.get("scene", 0)).get("nodes", [])
        else:
            children = {c for n in nodes if isinstance(n, dict) for c in _indices(n, "children")}
            roots = [i for i in range(len(nodes)) if i not in children]
        found = []
        stack = [(i, np.eye(4), 0) for i in reversed(_indices({"nodes": roots}, "nodes"))]
        visits = 0
        while stack:
            index, parent, depth = stack.pop()
            visits += 1
            if depth > _MAX_DEPTH or visits > 4 * len(nodes) + 16:
                raise InputError("", "its nodes form a cycle or are shared too often", "the file is damaged")
            node = self._get("nodes", index)
            matrix = parent @ _local_matrix(node, index)
            if "mesh" in node:
                found.append((str(node.get("name") or ""), _count(node, "mesh"), matrix))
            stack += [(child, matrix, depth + 1) for child in reversed(_indices(node, "children"))]
        return found

    def _primitive(self, piece: dict[str, Any]) -> GltfPrimitive:
        if set(piece.get("extensions") or {}) & _UNREADABLE:
            raise InputError("", "holds compressed geometry", "export it without compression")
        attributes = piece.get("attributes")
        if not isinstance(attributes, dict) or "POSITION" not in attributes:
            raise InputError("", "a primitive has no POSITION", "the file is damaged")
        vertices = self._accessor(attributes["POSITION"], 3).astype(np.float64)
        if "indices" in piece:
            indices = self._accessor(piece["indices"], 1)[:, 0].astype(np.int64)
        else:
            indices = np.arange(len(vertices))
        material = self.material(piece["material"]) if "material" in piece else GltfMaterial()
        return GltfPrimitive(
            "",
            vertices,
            _faces(indices, piece.get("mode", 4)),
            self._attribute(attributes, "NORMAL", 3, len(vertices)),
            self._attribute(attributes, f"TEXCOORD_{material.uv_set}", 2, len(vertices)),
            self._attribute(attributes, "COLOR_0", None, len(vertices)),
            material,
        )

    def _attribute(self, attributes: dict[str, Any], key: str, width: int | None, count: int) -> Float64Array | None:
        if key not in attributes:
            return None
        values = self._accessor(attributes[key], width).astype(np.float64)
        if len(values) != count or values.shape[1] < (width or 3):
            raise InputError("", f"{key} has {len(values)} entries, POSITION has {count}", "the file is damaged")
        return values[:, : width or 3]

    def material(self, index: int) -> GltfMaterial:
        """Item `index` of the file's materials."""
        if index not in self._materials:
            self._materials[index] = self._read_material(self._get("materials", index), index)
        return self._materials[index]

    def _read_material(self, entry: dict[str, Any], index: int) -> GltfMaterial:
        label = f"material {entry.get('name') or index!r}"
        extensions = entry.get("extensions") or {}
        if not isinstance(extensions, dict):
            raise InputError("", f"materials[{index}].extensions is not an object")
        old = extensions.get("KHR_materials_pbrSpecularGlossiness")
        pbr = _object(entry, "pbrMetallicRoughness", index)
        strength = _object(extensions, "KHR_materials_emissive_strength", index).get("emissiveStrength", 1.0)
        emission = _numbers(entry.get("emissiveFactor", [0.0, 0.0, 0.0]), 3, f"materials[{index}].emissiveFactor")
        emission = emission * _numbers(strength, 1, f"materials[{index}].emissiveStrength")
        if emission.min() < 0 or emission.max() > 60000:
            raise InputError("", f"materials[{index}] emits {emission.tolist()}", "expected 0 … 60000")
        if isinstance(old, dict):
            base = _unit(old.get("diffuseFactor", [1.0] * 4), 4, index)
            gloss = _unit(old.get("glossinessFactor", 1.0), 1, index)[0]
            specular = _unit(old.get("specularFactor", [1.0] * 3), 3, index)
            surface = Surface(_rgb(base), _rgb(specular), 0.0, 1.0 - gloss, _rgb(emission))
            wanted = {"base": old.get("diffuseTexture"), "emission": entry.get("emissiveTexture")}
        else:
            base = _unit(pbr.get("baseColorFactor", [1.0] * 4), 4, index)
            metallic = _unit(pbr.get("metallicFactor", 1.0), 1, index)[0]
            roughness = _unit(pbr.get("roughnessFactor", 1.0), 1, index)[0]
            surface = Surface(_rgb(base), None, metallic, roughness, _rgb(emission))
            wanted = {
                "base": pbr.get("baseColorTexture"),
                "metallic_roughness": pbr.get("metallicRoughnessTexture"),
                "emission": entry.get("emissiveTexture"),
            }
        if base[3] < 1 or entry.get("alphaMode", "OPAQUE") != "OPAQUE" or "KHR_materials_transmission" in extensions:
            self.notes.append(f"{label}: transparency ignored")
        ignored: list[str] = [name for name in ("normalTexture", "occlusionTexture") if name in entry]
        if isinstance(old, dict) and "specularGlossinessTexture" in old:
            ignored.append("specularGlossinessTexture")
        ignored += sorted(set(extensions) - _KNOWN)
        if ignored:
            self.notes.append(f"{label}: {', '.join(ignored)} ignored")
        return self._textured(surface, wanted, label)

    def _textured(self, surface: Surface, wanted: dict[str, Any], label: str) -> GltfMaterial:
        material = GltfMaterial(surface)
        sets = []
        for kind, reference in wanted.items():
            if not isinstance(reference, dict):
                continue
            transform = (reference.get("extensions") or {}).get("KHR_texture_transform") or {}
            sets.append(transform.get("texCoord", reference.get("texCoord", 0)))
            if sets[-1] != sets[0]:
                self.notes.append(f"{label}: {kind} texture ignored, it has texture coordinates of its own")
                continue
            picture = self._picture(reference, f"{label}: {kind} texture")
            if picture is not None:
                scale = _numbers(transform.get("scale", [1.0, 1.0]), 2, "KHR_texture_transform.scale")
                offset = _numbers(transform.get("offset", [0.0, 0.0]), 2, "KHR_texture_transform.offset")
                rotation = _numbers(transform.get("rotation", 0.0), 1, "KHR_texture_transform.rotation")
                material.textures[kind] = GltfTexture(
                    picture, (scale[0], scale[1]), (offset[0], offset[1]), float(rotation[0]), self._wrap(reference)
                )
        material.uv_set = sets[0] if sets and isinstance(sets[0], int) else 0
        return material

    def _wrap(self, reference: dict[str, Any]) -> tuple[str, str]:
        """What happens outside the picture, along its width and its height."""
        texture = self._get("textures", reference.get("index"))
        sampler = self._get("samplers", texture["sampler"]) if "sampler" in texture else {}
        across, down = (str(_WRAP.get(sampler.get(key, 10497))) for key in ("wrapS", "wrapT"))
        return across, down

    def _picture(self, reference: dict[str, Any], label: str) -> bytes | None:
        texture = self._get("textures", reference.get("index"))
        source = texture.get("source")
        if source is None:
            source = ((texture.get("extensions") or {}).get("EXT_texture_webp") or {}).get("source")
        if source is None:
            self.notes.append(f"{label} ignored, its format is not supported")
            return None
        image = self._get("images", source)
        if "bufferView" in image:
            return bytes(self._view(_count(image, "bufferView"))[0])
        try:
            return self._uri(str(image.get("uri", "")))
        except InputError as error:
            self.notes.append(f"{label} ignored: {error}")
            return None


def _split_glb(data: bytes) -> tuple[bytes, bytes | None]:
    """The JSON and the binary chunk of a GLB file; a JSON file as it is."""
    if data[:4] != b"glTF":
        return data, None
    if len(data) < 20:
        raise InputError("", "is truncated inside the GLB header")
    version, length = struct.unpack_from("<II", data, 4)
    if version != 2:
        raise InputError("", f"is GLB version {version}, expected 2", "export it again")
    if length > len(data):
        raise InputError("is truncated", f"the GLB header says {length} bytes, the file has {len(data)}")
    chunks: dict[bytes, bytes] = {}
    position = 12
    while position + 8 <= length:
        size = struct.unpack_from("<I", data, position)[0]
        if position + 8 + size > length:
            raise InputError("is truncated", f"a GLB chunk of {size} bytes ends outside the file")
        chunks.setdefault(data[position + 4 : position + 8], data[position + 8 : position + 8 + size])
        position += 8 + size
    if b"JSON" not in chunks:
        raise InputError("", "has no JSON chunk", "the GLB file is damaged")
    return chunks[b"JSON"], chunks.get(b"BIN\x00")


def _count(entry: dict[str, Any], key: str, default: int | None = None) -> int:
    value = entry.get(key, default)
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value < 2**40:
        raise InputError("", f"{key} is {value!r}, expected a whole number", "the file is damaged")
    return value


def _indices(entry: dict[str, Any], key: str) -> list[int]:
    value = entry.get(key, [])
    if not isinstance(value, list) or not all(isinstance(i, int) for i in value):
        raise InputError("", f"{key} is not a list of numbers", "the file is damaged")
    return value


def _object(entry: dict[str, Any], key: str, index: int) -> dict[str, Any]:
    value = entry.get(key) or {}
    if not isinstance(value, dict):
        raise InputError("", f"materials[{index}].{key} is not an object")
    return value


def _numbers(value: Any, count: int, label: str) -> Float64Array:
    try:
        numbers = np.asarray(value, np.float64).reshape(-1)
    except (TypeError, ValueError):
        numbers = np.empty(0)
    if len(numbers) != count or not np.isfinite(numbers).all():
        raise InputError("", f"{label} is {value!r}", f"expected {count} finite numbers")
    return numbers


def _unit(value: Any, count: int, index: int) -> Float64Array:
    numbers = _numbers(value, count, f"a factor of materials[{index}]")
    if numbers.min() < 0 or numbers.max() > 1:
        raise InputError("", f"a factor of materials[{index}] is {numbers.tolist()}", "expected 0 … 1")
    return numbers


def _rgb(values: Float64Array) -> tuple[float, float, float]:
    return float(values[0]), float(values[1]), float(values[2])


def _local_matrix(node: dict[str, Any], index: int) -> Float64Array:
    """The node's own (4, 4) transform: `matrix`, or translation x rotation x scale."""
    if "matrix" in node:
        return _numbers(node["matrix"], 16, f"nodes[{index}].matrix").reshape(4, 4).T
    matrix = np.eye(4)
    x, y, z, w = _numbers(node.get("rotation", [0, 0, 0, 1]), 4, f"nodes[{index}].rotation")
    norm = x * x + y * y + z * z + w * w
    if norm < 1e-12:
        raise InputError("", f"nodes[{index}].rotation is zero", "expected a unit quaternion")
    s = 2 / norm
    matrix[:3, :3] = [
        [1 - s * (y * y + z * z), s * (x * y - z * w), s * (x * z + y * w)],
        [s * (x * y + z * w), 1 - s * (x * x + z * z), s * (y * z - x * w)],
        [s * (x * z - y * w), s * (y * z + x * w), 1 - s * (x * x + y * y)],
    ]
    matrix[:3, :3] *= _numbers(node.get("scale", [1, 1, 1]), 3, f"nodes[{index}].scale")
    matrix[:3, 3] = _numbers(node.get("translation", [0, 0, 0]), 3, f"nodes[{index}].translation")
    return matrix


def _faces(indices: Int64Array, mode: int) -> Int64Array:
    """(F, 3) from a triangle list (4), strip (5) or fan (6)."""
    if mode == 4:
        if len(indices) % 3:
            raise InputError(
                "", f"a triangle list has {len(indices)} indices, not a multiple of 3", "the file is damaged"
            )
        return indices.reshape(-1, 3)
    if len(indices) < 3:
        return np.empty((0, 3), np.int64)
    if mode == 6:
        return np.stack([np.full(len(indices) - 2, indices[0]), indices[1:-1], indices[2:]], axis=1)
    faces = np.stack([indices[:-2], indices[1:-1], indices[2:]], axis=1)
    faces[1::2] = faces[1::2, [1, 0, 2]]
    return faces


def _placed(source: GltfPrimitive, name: str, matrix: Float64Array) -> GltfPrimitive:
    """The primitive moved by a node; a mirroring node reverses the faces (glTF 3.7.4)."""
    linear = matrix[:3, :3]
    determinant = np.linalg.det(linear)
    normals = source.normals
    if normals is not None:
        # The cofactor matrix is the inverse transpose up to scale, and exists for flattening nodes too.
        cofactor = np.stack([np.cross(linear[(i + 1) % 3], linear[(i + 2) % 3]) for i in range(3)])
        normals = normals @ (cofactor.T * (np.sign(determinant) or 1.0))
    faces = source.faces if determinant >= 0 else source.faces[:, ::-1]
    vertices = source.vertices @ linear.T + matrix[:3, 3]
    return GltfPrimitive(name, vertices, faces, normals, source.uv, source.colors, source.material)
