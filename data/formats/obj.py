"""OBJ with MTL materials. The text is normalised first, because trimesh does not read all of OBJ correctly.

Materials are those of `mtl`. Vertex colours are sRGB.
"""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np

from renderformer.data.arrays import AnyArray
from renderformer.data.errors import InputError
from renderformer.data.formats.folder import Folder
from renderformer.data.formats.mtl import Library
from renderformer.data.formats.parts import MeshFile, Part
from renderformer.data.formats.text import as_utf8
from renderformer.data.formats.trimesh_reading import read_with_trimesh

# In a file with more groups the groups are not objects.
_MAX_GROUPS = 256
# trimesh's name of the list of materials; a file beside the mesh hardly has it.
_NAMES = "renderformer names of materials"


def read(file: MeshFile) -> list[Part]:
    """The objects of the file, split by material; groups are objects if the file names no objects.

    A bare file is split by material only, and MTL files are not read.

    Raises:
        InputError: the file is not text, or has an index out of range.
    """
    data = _normalise(as_utf8(file.data))
    if file.bare:
        return read_with_trimesh("obj", data, file, skip_materials=True).parts
    folder = Folder(file)
    library = Library(folder, file.notes)
    statements = re.findall(rb"(?m)^mtllib +(.*)$", data) if file.material is None else []
    for statement in dict.fromkeys(statement.strip() for statement in statements):
        library.read(statement.decode(), file.path.stem)
    # trimesh reads one MTL file and no options. It gets the names of the materials, and splits objects by them.
    data = _with_all_coordinates(data, library.textured)
    folder.contents[_NAMES] = "".join(f"newmtl {name}\n" for name in library.names).encode()
    data = f"mtllib {_NAMES}\n".encode() + re.sub(rb"(?m)^mtllib\b.*$", b"", data)
    grouped = not re.search(rb"(?m)^o ", data) and data.count(b"\ng ") <= _MAX_GROUPS
    options = {"split_objects": True, "split_groups": grouped, "group_material": True}
    objects = read_with_trimesh("obj", data, file, folder, **options)
    # trimesh returns the objects of an OBJ last to first.
    parts, visuals = objects.parts[::-1], [keywords.get("visual") for keywords in objects.keywords[::-1]]
    for part, visual in zip(parts, visuals, strict=True):
        _add_material(part, visual, library)
    if file.material is None:
        used = {b" ".join(name.split()).decode() for name in re.findall(rb"(?m)^usemtl +(.*)$", data)}
        library.report(used - {""})
    _shorten_names(parts, visuals, file.path)
    return parts


def write(path: Path, vertices: AnyArray, faces: AnyArray) -> None:
    """Write bare geometry, vertices (V, 3) with eight decimals and faces (F, 3)."""
    lines = ["v {:.8f} {:.8f} {:.8f}".format(*vertex) for vertex in vertices]
    lines += ["f {} {} {}".format(*face) for face in faces + 1]
    path.write_text("\n".join(lines) + "\n", encoding="ascii")


def _add_material(part: Part, visual: Any, library: Library) -> None:
    """Set the material and texture coordinates of a part from trimesh's `visual`."""
    part.material = library.material(getattr(getattr(visual, "material", None), "name", None) or "")
    uv = getattr(visual, "uv", None)
    if uv is not None and np.shape(uv) == (len(part.vertices), 2):
        # trimesh keeps the origin of texture coordinates at the lower left.
        part.uv = (np.asarray(uv, np.float64) * (1, -1) + (0, 1))[:, None]


def _with_all_coordinates(data: bytes, textured: set[str]) -> bytes:
    """OBJ text in which all faces of a textured material have texture coordinates, or none has any.

    Faces without them get one that is no number. trimesh would drop the coordinates of all.
    """
    if not (re.search(rb"(?m)^f +\d+(?: |//)", data) and re.search(rb"(?m)^f +\d+/\d", data)):
        return data
    lines = data.split(b"\n")
    mapped: set[bytes] = set()
    plain: dict[bytes, list[int]] = {}
    material = b""
    for number, line in enumerate(lines):
        if line.startswith(b"usemtl "):
            material = b" ".join(line.split()[1:])
        elif line.startswith(b"f "):
            if re.match(rb"f +\d+/\d", line):
                mapped.add(material)
            else:
                plain.setdefault(material, []).append(number)
    chosen = [number for name in mapped & plain.keys() if name.decode() in textured for number in plain[name]]
    if not chosen:
        return data
    coordinates = [line for line in lines if line.startswith(b"vt ")]
    for number in chosen:
        words = (word.split(b"/") for word in lines[number].split()[1:])
        corners = (b"/".join([vertex, b"%d" % (len(coordinates) + 1), *rest[1:]]) for vertex, *rest in words)
        lines[number] = b"f " + b" ".join(corners)
    return b"\n".join([*lines, b" ".join([b"vt", *[b"nan"] * (len(coordinates[0].split()) - 1)]), b""])


def _normalise(data: bytes) -> bytes:
    """OBJ text without tabs, indents, comments after numbers, and negative indices.

    A negative index counts back from the last vertex before the face; trimesh counts from the end of the file.

    Raises:
        InputError: the index 0, or a negative one before the first vertex.
    """
    data = re.sub(rb"(?m)^ +", b"", data.replace(b"\t", b" "))
    data = re.sub(rb"(?m)^([vf][^\n#]*)#.*$", rb"\1", data)
    if re.search(rb"(?m)^f(?: [^\n]*)? 0[/ \r\n]", data):
        raise InputError("", "a face refers to vertex 0, but OBJ counts from 1", "export it again")
    if not re.search(rb"(?m)^f[^\n]*[ /]-\d", data):
        return data
    counts = {b"v": 0, b"vt": 0, b"vn": 0}
    lines = data.replace(b"\\\n", b" ").split(b"\n")
    for number, line in enumerate(lines):
        words = line.split()
        if not words:
            continue
        if words[0] in counts:
            counts[words[0]] += 1
        elif words[0] == b"f" and b"-" in line:
            lines[number] = b"f " + b" ".join(_absolute(word, tuple(counts.values())) for word in words[1:])
    return b"\n".join(lines)


def _absolute(word: bytes, counts: tuple[int, ...]) -> bytes:
    fields = []
    for text, count in zip(word.split(b"/"), counts, strict=False):
        value = int(text) if text else 0
        if value < 0 and value + count < 0:
            raise InputError("", f"a face refers to vertex {value}, but only {count} come before it", "export it again")
        fields.append(text if value >= 0 else b"%d" % (value + count + 1))
    return b"/".join(fields)


def _shorten_names(parts: list[Part], visuals: list[Any], path: Path) -> None:
    """Remove the material from the name of an object with one material, and the suffix of the file from its name."""
    materials = [getattr(getattr(visual, "material", None), "name", None) for visual in visuals]
    short_names = [
        (material and part.name.removesuffix(f"_{material}")) or part.name
        for part, material in zip(parts, materials, strict=True)
    ]
    counts = Counter(short_names)
    for part, short_name in zip(parts, short_names, strict=True):
        name = short_name if counts[short_name] == 1 else part.name
        part.name = path.stem if name == path.name else name
