"""OBJ text put into the form that trimesh reads rightly, and what it passes over in silence."""

from __future__ import annotations

import codecs
import io
import re
from collections import defaultdict
from typing import Any

from renderformer.data.errors import InputError


def as_utf8(data: bytes) -> bytes:
    """Text in UTF-8 without a byte order mark. Other bytes are taken as Latin-1, in which older programs write names
    and comments; numbers are the same in both.

    Raises:
        InputError: it is not text.
    """
    if b"\0" in data:
        raise InputError("", "is not text", "check that the suffix names the format")
    try:
        data.decode()
    except UnicodeDecodeError:
        return data.decode("latin-1").encode()
    return data.removeprefix(codecs.BOM_UTF8)


def plain_obj(data: bytes, notes: list[str]) -> bytes:
    """OBJ text without tabs, indents, comments behind numbers, and indices that count backwards.

    A negative index counts from the last vertex before its face; trimesh counts from the end of the file.

    Raises:
        InputError: the index 0, or a negative one before the first vertex.
    """
    if len(re.findall(rb"(?m)^mtllib\s", data)) > 1:
        notes.append("has several mtllib lines, only the first is read")
    data = re.sub(rb"(?m)^ +", b"", data.replace(b"\t", b" "))
    data = re.sub(rb"(?m)^([vf][^\n#]*)#.*$", rb"\1", data)
    if re.search(rb"(?m)^f(?: [^\n]*)? 0[/ \r\n]", data):
        raise InputError("", "a face refers to vertex 0, but OBJ counts from 1", "export it again")
    if not re.search(rb"(?m)^f[^\n]*[ /]-\d", data):
        return data
    seen = {b"v": 0, b"vt": 0, b"vn": 0}
    lines = data.replace(b"\\\n", b" ").split(b"\n")
    for number, line in enumerate(lines):
        words = line.split()
        if not words:
            continue
        if words[0] in seen:
            seen[words[0]] += 1
        elif words[0] == b"f" and b"-" in line:
            lines[number] = b"f " + b" ".join(_absolute(word, tuple(seen.values())) for word in words[1:])
    return b"\n".join(lines)


def _absolute(word: bytes, counts: tuple[int, ...]) -> bytes:
    fields = []
    for text, count in zip(word.split(b"/"), counts, strict=False):
        value = int(text) if text else 0
        if value < 0 and value + count < 0:
            raise InputError("", f"a face refers to vertex {value}, but only {count} come before it", "export it again")
        fields.append(text if value >= 0 else b"%d" % (value + count + 1))
    return b"/".join(fields)


def object_names(geometry: dict[str, Any], file_name: str, stem: str) -> dict[str, Any]:
    """trimesh's objects without the suffix of the material where an object has one only, and without the file's."""
    short: dict[str, list[str]] = defaultdict(list)
    for name, kwargs in geometry.items():
        material = getattr(getattr(kwargs.get("visual"), "material", None), "name", None)
        bare = name[: -len(f"_{material}")] if material and name.endswith(f"_{material}") else name
        short[bare or name].append(name)
    names = {full: bare if len(fulls) == 1 else full for bare, fulls in short.items() for full in fulls}
    return {stem if names[old] == file_name else names[old]: kwargs for old, kwargs in geometry.items()}


def material_notes(data: bytes, given: dict[str, bytes]) -> list[str]:
    """What trimesh passes over in silence: pictures that it cannot open, and materials that no MTL file defines.

    Args:
        data: the OBJ file.
        given: the files beside it that were read, by name.
    """
    from PIL import Image

    notes = []
    defined: set[bytes] = set()
    for name, content in given.items():
        if name.lower().endswith(".mtl"):
            defined |= set(re.findall(rb"(?m)^\s*newmtl[ \t]+(.*?)\s*$", content))
            continue
        try:
            Image.open(io.BytesIO(content)).close()
        # Pillow raises many kinds for damaged pictures and for decompression bombs.
        except Exception as error:
            notes.append(f"texture {name!r} ignored, it cannot be decoded ({' '.join(str(error).split())[:100]})")
    unknown = set(re.findall(rb"(?m)^usemtl[ \t]+(.*?)\s*$", data)) - defined
    if unknown:
        example = sorted(unknown)[0].decode("utf-8", "replace")[:60]
        notes.append(f"{len(unknown)} materials are named but not defined in an MTL file ({example!r}), grey instead")
    return notes
