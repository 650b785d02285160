"""glTF 2.0 and GLB: geometry, nodes, materials and textures, turned from Y up to Z up.

This module does not use trimesh, which rounds factors to 8 bits, ignores `sparse` and `normalized`, gives primitives
random names and loses the children of camera nodes. Counts are checked against the size of the data before memory is
allocated.
"""

from __future__ import annotations

import base64
import binascii
import json
import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any
from urllib.parse import unquote

import numpy as np

from renderformer.data.arrays import AnyArray, Float64Array, Int64Array, UInt8Array
from renderformer.data.errors import InputError
from renderformer.data.formats.parts import MeshFile, Part
from renderformer.data.formats.textures import PictureDecoder
from renderformer.data.formats.trimesh_reading import Folder
from renderformer.data.material import DIELECTRIC, RGB, Material, Textures
from renderformer.data.texture import Texture, Wrap

_COMPONENTS = {5120: "<i1", 5121: "<u1", 5122: "<i2", 5123: "<u2", 5125: "<u4", 5126: "<f4"}
_WIDTHS = {"SCALAR": 1, "VEC2": 2, "VEC3": 3, "VEC4": 4, "MAT2": 4, "MAT3": 9, "MAT4": 16}
# Extensions of compressed geometry, which is not read.
_UNREADABLE = {"KHR_draco_mesh_compression", "EXT_meshopt_compression", "KHR_meshopt_compression"}
# Extensions of materials; others are ignored, with a note.
_KNOWN = {"KHR_materials_emissive_strength", "KHR_materials_pbrSpecularGlossiness", "KHR_materials_transmission"}
_SPECULAR_GLOSSINESS = "KHR_materials_pbrSpecularGlossiness"
_MAX_NODES = 100_000
# glTF viewers must support two; more are allowed.
MAX_UV_SETS = 8
_WRAP: dict[Any, Wrap] = {33071: "clamp", 33648: "mirror", 10497: "repeat"}
_DAMAGED = "the file is damaged, export it again"


def read(file: MeshFile) -> Iterator[Part]:
    """The triangle primitives of the default scene, once per node that refers to them, in the file's order.

    A bare file keeps Y up, and its materials are not read.

    Raises:
        InputError: the file is damaged, or refers to a file or extension that cannot be read.
    """
    folder = Folder(file)

    def fetch(name: str) -> bytes:
        try:
            return folder.read(name)
        except InputError as error:
            raise InputError("", f"needs {error.problem}", error.remedy) from None

    document = GltfFile(file.data, fetch, file.notes.lines)
    for part in document.parts(with_materials=not file.bare):
        if not file.bare:
            # Y up to Z up: a quarter turn about X.
            part.vertices = part.vertices[:, [0, 2, 1]] * (1, -1, 1)
            part.normals = None if part.normals is None else part.normals[:, [0, 2, 1]] * (1, -1, 1)
        yield part


@dataclass
class GltfMaterial:
    """A material and how many sets of texture coordinates it needs."""

    material: Material | None = None
    uv_sets: int = 0


class GltfFile:
    """A parsed file; `parts` walks its default scene.

    Args:
        data: the whole file, JSON or GLB.
        fetch: reads a file by its name relative to this one; raises InputError if it cannot be read.
        notes: lines about ignored parts of the file are added here.

    Raises:
        InputError: the file is damaged or not supported; the place is empty.
    """

    def __init__(self, data: bytes, fetch: Callable[[str], bytes], notes: list[str]) -> None:
        self._fetch, self._notes = fetch, notes
        text, self._chunk = _split_glb(data)
        try:
            header = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise InputError("", f"the glTF header is not valid JSON ({error})", _DAMAGED) from None
        if not isinstance(header, dict):
            raise InputError("", "the glTF header is not a JSON object", _DAMAGED)
        self._header = header
        asset = header.get("asset")
        version = str(asset.get("version", "2.0")) if isinstance(asset, dict) else "2.0"
        if not version.startswith("2"):
            raise InputError("", f"is glTF {version}, expected 2.0", "export it again")
        required = set(map(str, header.get("extensionsRequired", []))) & _UNREADABLE
        if required:
            raise InputError("", f"needs the extension {min(required)}", "export it without compression")
        self._buffers: dict[int, bytes] = {}
        self._materials: dict[int, GltfMaterial] = {}
        # By image and whether it holds sRGB values.
        self._pixels: dict[tuple[int, bool], UInt8Array | None] = {}
        self._decoder = PictureDecoder(notes)

    def _get(self, kind: str, index: Any) -> Any:
        """Item `index` of a list of the header; InputError if it does not exist."""
        items = self._header.get(kind, [])
        valid = isinstance(items, list) and isinstance(index, int) and 0 <= index < len(items)
        if not valid or not isinstance(items[index], dict):
            raise InputError("", f"refers to {kind}[{index}], which does not exist", _DAMAGED)
        return items[index]

    def _buffer(self, index: int) -> bytes:
        if index not in self._buffers:
            uri = self._get("buffers", index).get("uri")
            if uri is not None:
                self._buffers[index] = self._uri(str(uri))
            elif index == 0 and self._chunk is not None:
                self._buffers[index] = self._chunk
            else:
                raise InputError("", f"buffers[{index}] has no data", _DAMAGED)
        return self._buffers[index]

    def _uri(self, uri: str) -> bytes:
        if uri.startswith("data:"):
            head, _, payload = uri.partition(",")
            if not head.endswith(";base64"):
                raise InputError("", f"holds a data URI that is not base64 ({head[:40]})", "export it again")
            try:
                return base64.b64decode(payload)
            except (binascii.Error, ValueError) as error:
                raise InputError("", f"holds a damaged data URI ({error})", _DAMAGED) from None
        return self._fetch(unquote(uri))

    def _view(self, index: int) -> tuple[memoryview, int]:
        """The bytes of a buffer view and its stride (0: packed)."""
        view = self._get("bufferViews", index)
        start, length = _count(view, "byteOffset", 0), _count(view, "byteLength")
        data = self._buffer(_count(view, "buffer"))
        if start + length > len(data):
            problem = f"bufferViews[{index}] ends at byte {start + length}, but its buffer has {len(data)}"
            raise InputError("", problem, "the file is truncated, export it again")
        return memoryview(data)[start : start + length], _count(view, "byteStride", 0)

    def _accessor(self, index: int, width: int | None = None) -> AnyArray:
        """(count, width) numbers; integers marked `normalized` become floats in [-1, 1]."""
        accessor = self._get("accessors", index)
        dtype = np.dtype(_COMPONENTS.get(accessor.get("componentType"), "V1"))
        columns = _WIDTHS.get(str(accessor.get("type")), 0)
        count = _count(accessor, "count")
        if dtype.kind == "V" or not columns or (width is not None and columns != width):
            raise InputError("", f"accessors[{index}] has an unexpected type ({accessor.get('type')})", _DAMAGED)
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
        if not count:
            return np.zeros((0, columns), dtype)
        if start + (count - 1) * stride + row > len(data):
            problem = f"accessors[{index}] reads past the end of its data"
            raise InputError("", problem, "the file is truncated, export it again")
        return np.ndarray((count, columns), dtype, data, start, (stride, dtype.itemsize)).copy()

    def _sparse(self, sparse: dict[str, Any], values: AnyArray, dtype: np.dtype[Any]) -> AnyArray:
        if not (isinstance(sparse, dict) and all(isinstance(sparse.get(k), dict) for k in ("indices", "values"))):
            raise InputError("", "a sparse accessor is damaged", "export it again")
        count, rows, changes = _count(sparse, "count"), sparse["indices"], sparse["values"]
        kind = np.dtype(_COMPONENTS.get(rows.get("componentType"), "<u4"))
        index = self._strided(-1, _count(rows, "bufferView"), rows, kind, count, 1)[:, 0].astype(np.int64)
        if count and (index.min() < 0 or index.max() >= len(values)):
            raise InputError("", "a sparse accessor has an index out of range", _DAMAGED)
        values = values.copy()
        values[index] = self._strided(-1, _count(changes, "bufferView"), changes, dtype, count, values.shape[1])
        return values

    def parts(self, with_materials: bool = True) -> Iterator[Part]:
        """The triangle primitives of the default scene, Y up, once per node that refers to them, in file order."""
        skipped, cache = 0, {}
        for name, mesh_index, matrix in self._nodes():
            mesh = self._get("meshes", mesh_index)
            primitives = mesh.get("primitives", [])
            if not isinstance(primitives, list) or not all(isinstance(entry, dict) for entry in primitives):
                raise InputError("", f"meshes[{mesh_index}].primitives is not a list of objects", _DAMAGED)
            label = name or str(mesh.get("name") or f"mesh_{mesh_index}")
            for number, primitive in enumerate(primitives):
                if primitive.get("mode", 4) not in (4, 5, 6):
                    skipped += 1
                    continue
                key = (mesh_index, number)
                if key not in cache:
                    cache[key] = self._primitive(primitive, with_materials)
                yield _placed(cache[key], label if len(primitives) == 1 else f"{label}_{number}", matrix)
        if skipped:
            self._notes.append(f"{skipped} primitives of points or lines ignored")
        if self._header.get("skins") or self._header.get("animations"):
            self._notes.append("skins and animations ignored, shapes are in the pose of the nodes")

    def _nodes(self) -> Iterator[tuple[str, int, Float64Array]]:
        """(name, mesh, world matrix) of the nodes with a mesh, depth first."""
        nodes = self._header.get("nodes", [])
        local: dict[int, Float64Array] = {}
        world: list[Float64Array] = []
        for index, parent in self._visits():
            node = nodes[index]
            if index not in local:
                local[index] = _local_matrix(node, index)
            world.append(local[index] if parent < 0 else world[parent] @ local[index])
            if "mesh" in node:
                yield str(node.get("name") or ""), _count(node, "mesh"), world[-1]

    def _visits(self) -> list[tuple[int, int]]:
        """The nodes of the default scene depth first, each with the position of its parent in this list, or -1.

        All nodes are counted before any is placed, so that cycles end early.
        """
        nodes = self._header.get("nodes", [])
        if not isinstance(nodes, list):
            raise InputError("", "nodes is not a list", _DAMAGED)
        if self._header.get("scenes"):
            roots = self._get("scenes", self._header.get("scene", 0)).get("nodes", [])
        else:
            inner = {child for node in nodes if isinstance(node, dict) for child in _indices(node, "children")}
            roots = [index for index in range(len(nodes)) if index not in inner]
        visits: list[tuple[int, int]] = []
        stack = [(index, -1) for index in reversed(_indices({"nodes": roots}, "nodes"))]
        count = len(stack)
        while stack:
            visits.append(stack.pop())
            children = _indices(self._get("nodes", visits[-1][0]), "children")
            count += len(children)
            if count > 4 * len(nodes) + 16:
                raise InputError("", "its nodes form a cycle or are shared too often", _DAMAGED)
            if count > _MAX_NODES:
                raise InputError("", f"places more than {_MAX_NODES} nodes", "join its meshes")
            stack += [(child, len(visits) - 1) for child in reversed(children)]
        return visits

    def _primitive(self, entry: dict[str, Any], with_material: bool) -> Part:
        """A primitive in the frame of its mesh, without a name."""
        if set(entry.get("extensions") or {}) & _UNREADABLE:
            raise InputError("", "holds compressed geometry", "export it without compression")
        attributes = entry.get("attributes")
        if not isinstance(attributes, dict) or "POSITION" not in attributes:
            raise InputError("", "a primitive has no POSITION", _DAMAGED)
        vertices = self._accessor(attributes["POSITION"], 3).astype(np.float64)
        if "indices" in entry:
            indices = self._accessor(entry["indices"], 1)[:, 0].astype(np.int64)
        else:
            indices = np.arange(len(vertices))
        material = self.material(entry["material"]) if with_material and "material" in entry else GltfMaterial()
        return Part(
            "",
            vertices,
            _faces(indices, entry.get("mode", 4)),
            self._attribute(attributes, "NORMAL", 3, len(vertices)),
            self._uv(attributes, material.uv_sets, len(vertices)),
            self._attribute(attributes, "COLOR_0", None, len(vertices)),
            material.material,
            two_sided="material" in entry and self._get("materials", entry["material"]).get("doubleSided") is True,
        )

    def _uv(self, attributes: dict[str, Any], sets: int, count: int) -> Float64Array | None:
        """(V, K, 2) the first K <= `sets` sets of texture coordinates, or None."""
        found = [self._attribute(attributes, f"TEXCOORD_{number}", 2, count) for number in range(sets)]
        present = [values for values in found if values is not None]
        return np.stack(present, axis=1) if present and len(present) == len(found) else None

    def _attribute(self, attributes: dict[str, Any], key: str, width: int | None, count: int) -> Float64Array | None:
        if key not in attributes:
            return None
        values = self._accessor(attributes[key], width).astype(np.float64)
        if len(values) != count or values.shape[1] < (width or 3):
            raise InputError("", f"{key} has {len(values)} entries, POSITION has {count}", _DAMAGED)
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
            raise InputError("", f"materials[{index}].extensions is not an object", _DAMAGED)
        glossiness = extensions.get(_SPECULAR_GLOSSINESS)
        emission = self._emission(entry, extensions, index)
        if isinstance(glossiness, dict):
            base = _unit(glossiness.get("diffuseFactor", [1.0] * 4), 4, index)
            gloss = _unit(glossiness.get("glossinessFactor", 1.0), 1, index)[0]
            specular = _unit(glossiness.get("specularFactor", [1.0] * 3), 3, index)
            material = Material(_rgb(base), _rgb(specular), 1.0 - gloss, emission)
            references = {"base": glossiness.get("diffuseTexture")}
        else:
            pbr = _object(entry, "pbrMetallicRoughness", index)
            base = _unit(pbr.get("baseColorFactor", [1.0] * 4), 4, index)
            metallic = _unit(pbr.get("metallicFactor", 1.0), 1, index)[0]
            roughness = _unit(pbr.get("roughnessFactor", 1.0), 1, index)[0]
            material = Material(_rgb(base), (DIELECTRIC,) * 3, roughness, emission, metallic)
            references = {
                "base": pbr.get("baseColorTexture"),
                "metallic_roughness": pbr.get("metallicRoughnessTexture"),
            }
        references["emission"] = entry.get("emissiveTexture")
        if base[3] < 1 or entry.get("alphaMode", "OPAQUE") != "OPAQUE" or "KHR_materials_transmission" in extensions:
            self._notes.append(f"{label}: transparency ignored")
        ignored: list[str] = [name for name in ("normalTexture", "occlusionTexture") if name in entry]
        if isinstance(glossiness, dict) and "specularGlossinessTexture" in glossiness:
            ignored.append("specularGlossinessTexture")
        ignored += sorted(set(extensions) - _KNOWN)
        if ignored:
            self._notes.append(f"{label}: {', '.join(ignored)} ignored")
        return self._textured(material, references, label)

    def _emission(self, entry: dict[str, Any], extensions: dict[str, Any], index: int) -> RGB:
        strength = _object(extensions, "KHR_materials_emissive_strength", index).get("emissiveStrength", 1.0)
        emission = _numbers(entry.get("emissiveFactor", [0.0, 0.0, 0.0]), 3, f"materials[{index}].emissiveFactor")
        emission = emission * _numbers(strength, 1, f"materials[{index}].emissiveStrength")
        if emission.min() < 0 or emission.max() > 60000:
            raise InputError("", f"materials[{index}] emits {emission.tolist()}", "expected 0 … 60000")
        return _rgb(emission)

    def _textured(self, material: Material, references: dict[str, Any], label: str) -> GltfMaterial:
        """A material with the textures of references."""
        pictures: dict[str, Texture] = {}
        uv_sets = []
        for kind, reference in references.items():
            if not isinstance(reference, dict):
                continue
            transform = (reference.get("extensions") or {}).get("KHR_texture_transform") or {}
            uv_sets.append(transform.get("texCoord", reference.get("texCoord", 0)))
            if not isinstance(uv_sets[-1], int) or not 0 <= uv_sets[-1] < MAX_UV_SETS:
                self._notes.append(f"{label}: {kind} texture ignored, it uses set {uv_sets[-1]!r:.20} of coordinates")
                continue
            matrix, srgb = _texture_matrix(transform), kind != "metallic_roughness"
            pixels = self._picture(reference, f"{label}: {kind} texture", f"{kind} texture", srgb)
            if pixels is not None:
                pictures[kind] = Texture(pixels, srgb, matrix, self._wrap(reference), uv_sets[-1])
        textures = Textures(**pictures)
        return GltfMaterial(replace(material, textures=textures), textures.uv_sets)

    def _wrap(self, reference: dict[str, Any]) -> tuple[Wrap, Wrap]:
        """Wrap modes along the width and the height of the picture."""
        texture = self._get("textures", reference.get("index"))
        sampler = self._get("samplers", texture["sampler"]) if "sampler" in texture else {}
        return _WRAP.get(sampler.get("wrapS"), "repeat"), _WRAP.get(sampler.get("wrapT"), "repeat")

    def _picture(self, reference: dict[str, Any], label: str, kind: str, srgb: bool) -> UInt8Array | None:
        """The pixels of a texture, decoded once for all materials that use it; None with a note if there are none."""
        texture = self._get("textures", reference.get("index"))
        source = texture.get("source")
        if source is None:
            source = ((texture.get("extensions") or {}).get("EXT_texture_webp") or {}).get("source")
        if source is None:
            self._notes.append(f"{label} ignored, its format is not supported")
            return None
        image = self._get("images", source)
        if (source, srgb) not in self._pixels:
            if "bufferView" in image:
                data = bytes(self._view(_count(image, "bufferView"))[0])
            else:
                try:
                    data = self._uri(str(image.get("uri", "")))
                except InputError as error:
                    self._notes.append(f"{label} ignored, {error.problem}")
                    return None
            self._pixels[source, srgb] = self._decoder.pixels(data, kind, srgb)
        return self._pixels[source, srgb]


def _split_glb(data: bytes) -> tuple[bytes, bytes | None]:
    """The JSON and the binary chunk of a GLB file; a JSON file is returned unchanged."""
    if data[:4] != b"glTF":
        return data, None
    if len(data) < 20:
        raise InputError("", "is truncated inside the GLB header", "export it again")
    version, length = struct.unpack_from("<II", data, 4)
    if version != 2:
        raise InputError("", f"is GLB version {version}, expected 2", "export it again")
    if length > len(data):
        problem = f"is truncated, the GLB header says {length} bytes, the file has {len(data)}"
        raise InputError("", problem, "export it again")
    chunks: dict[bytes, bytes] = {}
    position = 12
    while position + 8 <= length:
        size = struct.unpack_from("<I", data, position)[0]
        if position + 8 + size > length:
            problem = f"is truncated, a GLB chunk of {size} bytes ends outside the file"
            raise InputError("", problem, "export it again")
        chunks.setdefault(data[position + 4 : position + 8], data[position + 8 : position + 8 + size])
        position += 8 + size
    if b"JSON" not in chunks:
        raise InputError("", "has no JSON chunk", _DAMAGED)
    return chunks[b"JSON"], chunks.get(b"BIN\x00")


def _count(entry: dict[str, Any], key: str, default: int | None = None) -> int:
    value = entry.get(key, default)
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value < 2**40:
        raise InputError("", f"{key} is {value!r}, expected a whole number", _DAMAGED)
    return value


def _indices(entry: dict[str, Any], key: str) -> list[int]:
    value = entry.get(key, [])
    if not isinstance(value, list) or not all(isinstance(i, int) for i in value):
        raise InputError("", f"{key} is not a list of numbers", _DAMAGED)
    return value


def _object(entry: dict[str, Any], key: str, index: int) -> dict[str, Any]:
    value = entry.get(key) or {}
    if not isinstance(value, dict):
        raise InputError("", f"materials[{index}].{key} is not an object", _DAMAGED)
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


def _rgb(values: Float64Array) -> RGB:
    return float(values[0]), float(values[1]), float(values[2])


def _texture_matrix(transform: dict[str, Any]) -> Float64Array:
    """(2, 3) of KHR_texture_transform, applied to (u, v, 1)."""
    scale = _numbers(transform.get("scale", [1.0, 1.0]), 2, "KHR_texture_transform.scale")
    offset = _numbers(transform.get("offset", [0.0, 0.0]), 2, "KHR_texture_transform.offset")
    angle = float(_numbers(transform.get("rotation", 0.0), 1, "KHR_texture_transform.rotation")[0])
    cosine, sine = np.cos(angle), np.sin(angle)
    return np.column_stack([np.array([[cosine, sine], [-sine, cosine]]) * scale, offset])


def _local_matrix(node: dict[str, Any], index: int) -> Float64Array:
    """The (4, 4) transform of a node relative to its parent: `matrix`, or translation x rotation x scale."""
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
            raise InputError("", f"a triangle list has {len(indices)} indices, not a multiple of 3", _DAMAGED)
        return indices.reshape(-1, 3)
    if len(indices) < 3:
        return np.empty((0, 3), np.int64)
    if mode == 6:
        return np.stack([np.full(len(indices) - 2, indices[0]), indices[1:-1], indices[2:]], axis=1)
    faces = np.stack([indices[:-2], indices[1:-1], indices[2:]], axis=1)
    faces[1::2] = faces[1::2, [1, 0, 2]]
    return faces


def _placed(part: Part, name: str, matrix: Float64Array) -> Part:
    """The primitive transformed by a node; a mirroring node reverses the faces (glTF 3.7.4)."""
    linear = matrix[:3, :3]
    determinant = np.linalg.det(linear)
    normals = part.normals
    if normals is not None:
        # The cofactor matrix is the inverse transpose up to scale, and also exists for singular matrices.
        cofactor = np.cross(linear[[1, 2, 0]], linear[[2, 0, 1]])
        normals = normals @ (cofactor.T * (np.sign(determinant) or 1.0))
    faces = part.faces if determinant >= 0 else part.faces[:, ::-1]
    vertices = part.vertices @ linear.T + matrix[:3, 3]
    return replace(part, name=name, vertices=vertices, faces=faces, normals=normals)
