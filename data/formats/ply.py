"""PLY, text or binary; files that trimesh cannot read correctly are converted first."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np

from renderformer.data.arrays import AnyArray, Float64Array
from renderformer.data.errors import InputError
from renderformer.data.formats.folder import Folder
from renderformer.data.formats.parts import MeshFile, Part
from renderformer.data.formats.text import check_lines
from renderformer.data.formats.textures import PictureDecoder
from renderformer.data.formats.trimesh_reading import read_with_trimesh
from renderformer.data.material import Material, Textures
from renderformer.data.texture import Texture

_NAMES = "char int8 uchar uint8 short int16 ushort uint16 int int32 uint uint32 float float32 double float64"
_CODES = "i1 i1 u1 u1 i2 i2 u2 u2 i4 i4 u4 u4 f4 f4 f8 f8"
_TYPES = dict(zip(_NAMES.encode().split(), _CODES.split(), strict=True))


# The header of triangles and nothing else, as programs write most large files.
_PLAIN = re.compile(
    rb"ply\nformat binary_(little|big)_endian 1\.0\n(?:comment(?! TextureFile)[ -~]*\n|obj_info[ -~]*\n)*"
    rb"element vertex (\d{1,9})\nproperty (float|float32|double|float64) x\nproperty \3 y\nproperty \3 z\n"
    rb"(property \3 nx\nproperty \3 ny\nproperty \3 nz\n)?"
    rb"element face (\d{1,9})\nproperty list (?:uchar|uint8) (int|int32|uint|uint32) vertex_(?:indices|index)\n"
    rb"end_header\n"
)
# Properties of vertices that are texture coordinates.
_UV_NAMES = (("texture_u", "texture_v"), ("u", "v"), ("s", "t"))


def read(file: MeshFile) -> list[Part]:
    """The one object of the file, once per picture if its faces name several; a bare file is never divided.

    Raises:
        InputError: the header promises more elements than the file can hold, or the file is truncated.
    """
    plain = _plain(file)
    if plain is not None:
        return [plain]
    data = _with_triangles(file.data, file.notes.lines)
    if file.bare:
        return read_with_trimesh("ply", data, file, skip_materials=True).parts
    objects = read_with_trimesh("ply", data, file, skip_materials=True, fix_texture=False)
    header = data.partition(b"end_header")[0]
    names = [name.strip() for name in re.findall(rb"(?m)^comment TextureFile[ \t](.*)$", header)]
    if len(objects.parts) != 1:
        return objects.parts
    elements = objects.keywords[0].get("metadata", {}).get("_ply_raw", {})
    if not names or file.material is not None:
        return [_with_uv(objects.parts[0], elements)]
    return list(_textured(objects.parts[0], elements, names, file))


def _plain(file: MeshFile) -> Part | None:
    """The object of a file of triangles without properties but positions and normals; None of another file."""
    header = _PLAIN.match(file.data)
    if header is None:
        return None
    order, vertices, number, normals, faces, index = header.groups()
    end = "<" if order == b"little" else ">"
    vertex = np.dtype((end + _TYPES[number], 3 if normals is None else 6))
    face = np.dtype([("count", "u1"), ("corners", end + _TYPES[index], 3)])
    start, middle = header.end(), header.end() + int(vertices) * vertex.itemsize
    if not int(faces) or middle + int(faces) * face.itemsize != len(file.data):
        return None
    rows = np.frombuffer(file.data, face, int(faces), middle)
    if (rows["count"] != 3).any():
        return None
    points = (
        np.frombuffer(file.data[start:middle], vertex.base).reshape(int(vertices), *vertex.shape).astype(np.float64)
    )
    part = Part(file.path.stem, np.ascontiguousarray(points[:, :3]), rows["corners"].astype(np.int64))
    if normals is not None:
        part.normals = np.ascontiguousarray(points[:, 3:])
    return part


def _textured(part: Part, elements: Any, names: list[bytes], file: MeshFile) -> Iterator[Part]:
    """The part with its picture, or a piece of it for each of several."""
    part = _with_uv(part, elements)
    folder, decoder = Folder(file), PictureDecoder(file.notes.lines)
    number = _property(elements.get("face"), "texnumber")
    several = len(names) > 1 and number is not None and number.shape == (len(part.faces),)
    for index, name in enumerate(names if several else names[:1]):
        chosen = number == index if several and number is not None else np.ones(len(part.faces), bool)
        if not chosen.any():
            continue
        material, colors = _material(name.decode("utf-8", "replace"), folder, decoder), part.colors
        if colors is not None and len(colors) == len(part.faces) != len(part.vertices):
            colors = colors[chosen]
        title = part.name if not several else f"{part.name}_{index}"
        yield replace(part, name=title, faces=part.faces[chosen], colors=colors, material=material)
    if several and number is not None and (lost := int(((number < 0) | (number >= len(names))).sum())):
        file.notes.counts["triangles left out, their texnumber names no picture"] += lost
    file.notes.lines += folder.missing


def _material(name: str, folder: Folder, decoder: PictureDecoder) -> Material | None:
    """White with the picture; None if it cannot be read."""
    try:
        data = folder.get(name)
    except InputError:
        return None
    pixels = decoder.pixels(data, "texture", name=name)
    return None if pixels is None else Material((1.0, 1.0, 1.0), textures=Textures(base=Texture(pixels)))


def _with_uv(part: Part, elements: Any) -> Part:
    """The part with texture coordinates; those of faces give each triangle vertices of its own."""
    corners = _property(elements.get("face"), "texcoord")
    if corners is not None and corners.shape == (len(part.faces), 6):
        chosen = part.faces.reshape(-1)
        colors = part.colors
        if colors is not None and len(colors) == len(part.vertices):
            colors = colors[chosen]
        elif colors is not None:
            colors = np.repeat(colors, 3, axis=0)
        normals = None if part.normals is None else part.normals[chosen]
        faces, uv = np.arange(len(chosen)).reshape(-1, 3), _upper_left(corners.reshape(-1, 2))
        return replace(part, vertices=part.vertices[chosen], faces=faces, normals=normals, colors=colors, uv=uv)
    for names in _UV_NAMES:
        u, v = (_property(elements.get("vertex"), name) for name in names)
        if u is not None and v is not None and u.shape == v.shape == (len(part.vertices),):
            return replace(part, uv=_upper_left(np.column_stack([u, v])))
    return part


def _upper_left(uv: AnyArray) -> Float64Array:
    """(V, 1, 2) texture coordinates with the origin at the upper left, of those (V, 2) with it at the lower left."""
    return (uv.astype(np.float64) * (1, -1) + (0, 1))[:, None]


def _property(element: Any, name: str) -> AnyArray | None:
    """A property of trimesh's parsed element, or None."""
    data = element.get("data") if element else None
    try:
        values = data[name] if data is not None else None
    except (KeyError, ValueError, IndexError):
        return None
    if values is None:
        return None
    array = np.asarray(values)
    # Lists of a binary file have their length in front; numbers of a text file are columns.
    array = array["f1"] if array.dtype.names else array
    return array.reshape(-1) if array.ndim == 2 and array.shape[1] == 1 else array


def _with_triangles(data: bytes, notes: list[str]) -> bytes:
    """The file; polygons of a binary file are cut into triangles if their numbers of corners differ."""
    header, mark, body = data.partition(b"end_header")
    if mark and not header.isascii():
        # Comments may contain any bytes, but trimesh decodes the header as UTF-8.
        header = re.sub(rb"[^\x00-\x7f]", b"?", header)
        data = header + mark + body
    counts = [(name.decode(), int(n[:20])) for name, n in re.findall(rb"(?m)^element\s+(\w+)\s+(\d+)", header)]
    for name, count in counts:
        if count > len(data):
            problem = f"its header promises {count} {name} entries, but the file has {len(data)} bytes"
            raise InputError("", problem, "export it again")
    if b"format ascii" in header:
        check_lines(body, sum(count for _, count in counts), "PLY")
        return data
    if [name for name, _ in counts] != ["vertex", "face"]:
        return data
    end = ">" if b"binary_big_endian" in header else "<"
    vertex, face = (
        [line.split()[1:] for line in part.splitlines()[1:] if line.startswith(b"property")]
        for part in re.split(rb"(?m)^element\s+", header)[1:]
    )
    lists = [words for words in face if words[0] == b"list"]
    if len(lists) != 1 or face[0] is not lists[0] or len(lists[0]) != 4:
        return data
    if not {*(words[0] for words in [*vertex, *face[1:]]), *face[0][1:3]} <= set(_TYPES):
        return data
    row, extra = (sum(np.dtype(_TYPES[words[0]]).itemsize for words in part) for part in (vertex, face[1:]))
    length, index = (np.dtype(end + _TYPES[word]) for word in face[0][1:3])
    body = body[body.find(b"\n") + 1 :]
    start = row * counts[0][1]
    polygons = _polygons(body, start, counts[1][1], length, index, extra)
    if len({len(polygon) for polygon in polygons}) < 2:
        return data
    if extra:
        notes.append("properties of faces ignored, because faces differ in their number of corners")
    packed = _triangles(polygons, end)
    before_faces = header[: header.rindex(b"element")]
    tail = b"element face %d\nproperty list uchar int vertex_indices\nend_header\n" % len(packed)
    return before_faces + tail + body[:start] + packed.tobytes()


def _polygons(
    body: bytes, start: int, count: int, length: np.dtype[Any], index: np.dtype[Any], extra: int
) -> list[AnyArray]:
    """The corners of `count` polygons, each followed by `extra` bytes; empty if all have the size of the first."""
    if start + length.itemsize > len(body):
        raise InputError("", "is truncated, it ends before its faces", "export it again")
    first = int(np.frombuffer(body, length, 1, start)[0])
    if start + count * (length.itemsize + first * index.itemsize + extra) == len(body):
        return []
    polygons = []
    for number in range(count):
        if start + length.itemsize > len(body):
            raise InputError("", f"is truncated, it ends in face {number} of {count}", "export it again")
        corners = int(np.frombuffer(body, length, 1, start)[0])
        start += length.itemsize
        if corners < 3:
            raise InputError("", f"face {number} of {count} has {corners} corners", "export it again")
        if start + corners * index.itemsize > len(body):
            problem = f"is truncated, it ends in face {number} of {count}, of {corners} corners"
            raise InputError("", problem, "export it again")
        polygons.append(np.frombuffer(body, index, corners, start))
        start += corners * index.itemsize + extra
    if start > len(body):
        raise InputError("", "is truncated, it ends in its last face", "export it again")
    return polygons


def _triangles(polygons: list[AnyArray], end: str) -> AnyArray:
    """The polygons cut into triangle fans, as binary PLY rows."""
    fans = [np.stack([np.full(len(p) - 2, p[0]), p[1:-1], p[2:]], axis=1) for p in polygons]
    triangles = np.concatenate(fans)
    packed = np.zeros(len(triangles), [("count", "u1"), ("corners", f"{end}i4", 3)])
    packed["count"], packed["corners"] = 3, triangles
    return packed
