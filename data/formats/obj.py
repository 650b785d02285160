"""OBJ with MTL materials. The text is normalised first, because trimesh does not read all of OBJ correctly.

Conversion of MTL:
* diffuse = Kd, or map_Kd if there is one (exporters often leave Kd black or grey beside it); emission = Ke.
* The Phong exponent Ns becomes GGX alpha = sqrt(2 / (Ns + 2)) (Walter et al., "Microfacet Models for Refraction through
  Rough Surfaces", 2007), so roughness = (2 / (Ns + 2)) ** 0.25.
* specular = Ks 8 / (Ns + 8) if the illumination model has a highlight. Ks is the peak brightness of the lobe
  Ks / pi cos^Ns, not its reflectance; the normalised Blinn-Phong lobe (Ns + 8) / (8 pi) of this reflectance has the
  same peak. The minimum is 0.08 Ks, because some files use Ks 0.5 for the 4 % of a dielectric; it is also the value
  for Ns = 0, which stands for no exponent.
* If Kd + Ks > 1, one factor scales all channels of Ks, so that a grey highlight stays grey.

Colour space: Kd, Ks and Ke are linear; vertex colours and textures are sRGB.
"""

from __future__ import annotations

import io
import re
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from renderformer.data.arrays import AnyArray, UInt8Array
from renderformer.data.errors import InputError
from renderformer.data.formats.parts import MeshFile, Notes, Part
from renderformer.data.formats.text import as_utf8
from renderformer.data.formats.textures import PictureDecoder
from renderformer.data.formats.trimesh_reading import read_with_trimesh
from renderformer.data.material import DIELECTRIC, RGB, Material, Textures
from renderformer.data.texture import Texture

# In a file with more groups the groups are not objects.
_MAX_GROUPS = 256


def read(file: MeshFile) -> list[Part]:
    """The objects of the file, split by material; groups are objects if the file names no objects.

    A bare file is split by material only, and MTL files are not read.

    Raises:
        InputError: the file is not text, or has an index out of range.
    """
    data = _normalise(as_utf8(file.data), file.notes.lines)
    if file.bare:
        return read_with_trimesh("obj", data, file, skip_materials=True).parts
    grouped = not re.search(rb"(?m)^o ", data) and data.count(b"\ng ") <= _MAX_GROUPS
    options = {"split_objects": True, "split_groups": grouped, "group_material": True}
    objects = read_with_trimesh("obj", data, file, **options)
    file.notes.lines += _material_notes(data, objects.contents)
    # trimesh returns the objects of an OBJ last to first.
    parts, visuals = objects.parts[::-1], [keywords.get("visual") for keywords in objects.keywords[::-1]]
    decoder = PictureDecoder(file.notes.lines)
    # The objects of a material share its picture.
    pixels = cache(lambda name: decoder.pixels(objects.contents[name], "texture"))
    for part, visual in zip(parts, visuals, strict=True):
        _add_material(part, visual, file.notes, pixels)
    _shorten_names(parts, visuals, file.path)
    return parts


def write(path: Path, vertices: AnyArray, faces: AnyArray) -> None:
    """Write bare geometry, vertices (V, 3) with eight decimals and faces (F, 3)."""
    lines = ["v {:.8f} {:.8f} {:.8f}".format(*vertex) for vertex in vertices]
    lines += ["f {} {} {}".format(*face) for face in faces + 1]
    path.write_text("\n".join(lines) + "\n", encoding="ascii")


def _add_material(part: Part, visual: Any, notes: Notes, read_pixels: Callable[[str], UInt8Array | None]) -> None:
    """Set the surface and texture of a part from trimesh's `visual`; `read_pixels` takes the name of a picture."""
    material = getattr(visual, "material", None)
    image = getattr(material, "image", None)
    # An image without a format is trimesh's grey default for texture coordinates without a picture.
    image = image if getattr(image, "format", None) else None
    if material is not None and (material.kwargs or image is not None):
        part.material, changes = material_from_mtl(material.kwargs)
        notes.lines += [f"material {material.name!r}: {change}" for change in changes]
    uv = getattr(visual, "uv", None)
    if image is not None and uv is not None and np.shape(uv) == (len(part.vertices), 2):
        # trimesh keeps the origin of texture coordinates at the lower left.
        part.uv = (np.asarray(uv, np.float64) * (1, -1) + (0, 1))[:, None]
        pixels = read_pixels(image.info["file_path"])
        textures = Textures() if pixels is None else Textures(base=Texture(pixels))
        # MTL multiplies Kd and map_Kd, but exporters often leave Kd black or grey and viewers ignore it.
        part.material = replace(part.material or Material(), diffuse=(1.0, 1.0, 1.0), textures=textures)


def material_from_mtl(values: dict[str, Any]) -> tuple[Material, list[str]]:
    """The Material of an MTL material, and lines about changed values.

    Args:
        values: `kd`, `ks` and `ke` as lists of numbers or text, `ns`, `illum`, `d`, `tr`; keys in lower case.
    """
    changes: list[str] = []
    kd = _rgb(values, "kd", 0.8, changes)
    ks = _rgb(values, "ks", 0.0, changes)
    # Illumination models 0 and 1 (constant colour, Lambert) do not use Ks.
    if _number(values.get("illum"), 2.0) < 2:
        ks = (0.0, 0.0, 0.0)
    exponent = max(0.0, _number(values.get("ns"), 0.0))
    factor = max(2 * DIELECTRIC, 8 / (exponent + 8)) if exponent else 2 * DIELECTRIC
    ks = (ks[0] * factor, ks[1] * factor, ks[2] * factor)
    if any(d + s > 1 for d, s in zip(kd, ks, strict=True)):
        changes.append("specular scaled down so that Kd + Ks <= 1")
    if _number(values.get("d"), 1.0) < 1 or _number(values.get("tr"), 0.0) > 0:
        changes.append("transparency ignored")
    maps = sorted(key for key in values if key.startswith(("map_", "bump", "norm", "disp", "refl")) and key != "map_kd")
    if maps:
        changes.append(f"{', '.join(maps)} ignored")
    material = Material(
        diffuse=kd,
        specular=ks,
        roughness=(2.0 / (exponent + 2.0)) ** 0.25,
        emission=_rgb(values, "ke", 0.0, changes, upper=60000.0),
    )
    return material, changes


def _number(value: Any, default: float) -> float:
    try:
        number = float(np.asarray(value, np.float64).reshape(-1)[0])
    except (TypeError, ValueError, IndexError):
        return default
    return number if np.isfinite(number) else default


def _rgb(values: dict[str, Any], key: str, default: float, changes: list[str], upper: float = 1.0) -> RGB:
    """The colour `key`, or grey `default`; adds lines about changed values to `changes`."""
    if values.get(key) is None:
        return default, default, default
    try:
        numbers = np.broadcast_to(np.asarray(values[key], np.float64), (3,))
    except (TypeError, ValueError):
        numbers = np.full(3, np.nan)
    if not np.isfinite(numbers).all():
        changes.append(f"{key.capitalize()} is not three numbers, replaced by {default:g}")
        return default, default, default
    red, green, blue = np.clip(numbers, 0, upper).tolist()
    if (red, green, blue) != tuple(numbers.tolist()):
        changes.append(f"{key.capitalize()} clipped to 0 … {upper:g}")
    return red, green, blue


def _normalise(data: bytes, notes: list[str]) -> bytes:
    """OBJ text without tabs, indents, comments after numbers, and negative indices.

    A negative index counts back from the last vertex before the face; trimesh counts from the end of the file.

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


def _material_notes(data: bytes, contents: dict[str, bytes]) -> list[str]:
    """Notes about what trimesh ignores without a message: unreadable pictures and undefined materials.

    Args:
        data: the OBJ file.
        contents: the files beside it that were read, by name.
    """
    notes = []
    defined: set[bytes] = set()
    for name, content in contents.items():
        if name.lower().endswith(".mtl"):
            defined |= set(re.findall(rb"(?m)^\s*newmtl[ \t]+(.*?)\s*$", content))
            continue
        try:
            Image.open(io.BytesIO(content)).close()
        # Pillow raises many kinds of exceptions for damaged pictures and decompression bombs.
        except Exception as error:
            notes.append(f"texture {name!r} ignored, it cannot be decoded ({' '.join(str(error).split())[:100]})")
    unknown = set(re.findall(rb"(?m)^usemtl[ \t]+(.*?)\s*$", data)) - defined
    if unknown:
        example = min(unknown).decode("utf-8", "replace")[:60]
        notes.append(f"{len(unknown)} materials are named but not defined in an MTL file ({example!r}), grey instead")
    return notes
