"""Colours and textures of 3MF files: base materials, colour groups and texture coordinates of triangles.

Legend: F triangles of an object, V vertices.
"""

from __future__ import annotations

import re
import zipfile
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from lxml import etree  # type: ignore[import-untyped]
from trimesh.exchange.common import XML_PARSER_OPTIONS

from renderformer.data.arrays import Float64Array, Int64Array
from renderformer.data.colour import srgb_to_linear
from renderformer.data.formats.parts import MeshFile, Part
from renderformer.data.formats.textures import PictureDecoder
from renderformer.data.material import Material, Textures
from renderformer.data.texture import Texture, Wrap

_MARKS = (b"colorgroup", b"basematerials", b"texture2dgroup")
_TILES: dict[str, Wrap] = {"wrap": "repeat", "mirror": "mirror", "clamp": "clamp", "none": "clamp"}
# Of triangles without a property, as that of meshes without a material.
_GREY = (0.5, 0.5, 0.5, 1.0)


@dataclass
class Look:
    """Colours of the triangles of a mesh.

    Attributes:
        colors: (F, 3, 4) linear RGBA at the corners.
        uv: (F, 3, 2) texture coordinates with the origin at the lower left.
        picture: (F,) number of the texture of each triangle, or -1.
        textures: path in the archive and wrap modes of each texture.
    """

    colors: Float64Array
    uv: Float64Array
    picture: Int64Array
    textures: list[tuple[str, tuple[Wrap, Wrap]]]


@dataclass
class _Resources:
    """The groups of properties of a model file by their numbers."""

    colors: dict[str, list[tuple[float, ...]]] = field(default_factory=dict)
    coordinates: dict[str, tuple[str, list[tuple[float, float]]]] = field(default_factory=dict)
    textures: dict[str, tuple[str, tuple[Wrap, Wrap]]] = field(default_factory=dict)


class Looks:
    """The looks of the meshes of an archive, found by their geometry; empty if it has no colours."""

    def __init__(self, archive: zipfile.ZipFile, file: MeshFile) -> None:
        self._archive, self._notes = archive, file.notes.lines
        self._decoder = PictureDecoder(file.notes.lines)
        self._materials: dict[tuple[str, tuple[Wrap, Wrap]], Material | None] = {}
        # Objects of equal shape come in the order of the file.
        self._found: dict[bytes, list[Look]] = defaultdict(list)
        for name in archive.namelist():
            if name.lower().endswith(".model") and any(mark in archive.read(name) for mark in _MARKS):
                self._read(name)

    def _read(self, name: str) -> None:
        resources = _Resources()
        with self._archive.open(name) as stream:
            tags = tuple(
                f"{{*}}{tag}" for tag in ("basematerials", "colorgroup", "texture2d", "texture2dgroup", "object")
            )
            for _, element in etree.iterparse(stream, events=("end",), tag=tags, **XML_PARSER_OPTIONS):
                kind = etree.QName(element).localname
                if kind == "object":
                    for mesh in element.iter("{*}mesh"):
                        key, look = _look(mesh, element.get("pid"), element.get("pindex"), resources)
                        if look is not None:
                            self._found[key].append(look)
                else:
                    _add(element, kind, resources)
                element.clear()

    def pieces(self, part: Part) -> list[Part]:
        """The part with its colours, cut by texture."""
        waiting = self._found.get(_key(part.vertices, part.faces))
        if not waiting:
            return [part]
        look = waiting.pop(0)
        return list(self._pieces(part, look))

    def _pieces(self, part: Part, look: Look) -> Iterator[Part]:
        for number in np.unique(look.picture):
            chosen = look.picture == number
            corners = part.faces[chosen].reshape(-1)
            piece = replace(
                part,
                vertices=part.vertices[corners],
                faces=np.arange(len(corners)).reshape(-1, 3),
                normals=None if part.normals is None else part.normals[corners],
                colors=look.colors[chosen].reshape(-1, 4),
            )
            if number >= 0 and (material := self._material(*look.textures[number])) is not None:
                # Textures of 3MF have their origin at the lower left.
                piece.uv = (look.uv[chosen].reshape(-1, 2) * (1, -1) + (0, 1))[:, None]
                piece.material = material
            yield piece

    def _material(self, path: str, wrap: tuple[Wrap, Wrap]) -> Material | None:
        """White with a picture of the archive; None if it cannot be read."""
        if (path, wrap) not in self._materials:
            names = {name.lower().lstrip("/"): name for name in self._archive.namelist()}
            name, pixels = names.get(path.lower().lstrip("/")), None
            if name is None:
                self._notes.append(f"texture {path[:120]!r} is missing")
            else:
                pixels = self._decoder.pixels(self._archive.read(name), "texture", alpha=True, name=path)
            material = None
            if pixels is not None:
                material = Material((1.0, 1.0, 1.0), textures=Textures(base=Texture(pixels, wrap=wrap)))
            self._materials[path, wrap] = material
        return self._materials[path, wrap]


def _add(element: Any, kind: str, resources: _Resources) -> None:
    """Add a group of properties."""
    identity = element.get("id", "")
    if kind == "basematerials":
        resources.colors[identity] = [_color(base.get("displaycolor")) for base in element.iter("{*}base")]
    elif kind == "colorgroup":
        resources.colors[identity] = [_color(color.get("color")) for color in element.iter("{*}color")]
    elif kind == "texture2d":
        tiles = [_TILES.get(element.get(f"tilestyle{axis}", "wrap"), "repeat") for axis in "uv"]
        resources.textures[identity] = (element.get("path", ""), (tiles[0], tiles[1]))
    else:
        pairs = [(float(item.get("u", 0)), float(item.get("v", 0))) for item in element.iter("{*}tex2coord")]
        resources.coordinates[identity] = (element.get("texid", ""), pairs)


def _color(text: str | None) -> tuple[float, ...]:
    """Linear RGBA of #RRGGBB or #RRGGBBAA, which is sRGB."""
    if text is None or not re.fullmatch(r"#[0-9A-Fa-f]{6}([0-9A-Fa-f]{2})?", text.strip()):
        return _GREY
    red, green, blue, *alpha = (value / 255 for value in bytes.fromhex(text.strip()[1:]))
    return (*srgb_to_linear([red, green, blue]).tolist(), *(alpha or [1.0]))


def _look(mesh: Any, pid: str | None, pindex: str | None, resources: _Resources) -> tuple[bytes, Look | None]:
    """The key of a mesh, and its look; None if no triangle has one."""
    points = [[float(item.get(axis, 0)) for axis in "xyz"] for item in mesh.iter("{*}vertex")]
    triangles = list(mesh.iter("{*}triangle"))
    faces = np.array([[int(item.get(f"v{i}", 0)) for i in (1, 2, 3)] for item in triangles], np.int64).reshape(-1, 3)
    count = len(faces)
    look = Look(np.tile(_GREY, (count, 3, 1)), np.zeros((count, 3, 2)), np.full(count, -1), [])
    numbers: dict[str, int] = {}
    coloured = False
    for place, item in enumerate(triangles):
        group = item.get("pid", pid)
        first = item.get("p1", pindex if item.get("pid") is None else None) or "0"
        corners = [int(first), int(item.get("p2", first)), int(item.get("p3", first))]
        colors = resources.colors.get(group or "", [])
        texture, pairs = resources.coordinates.get(group or "", ("", []))
        if colors and max(corners) < len(colors) and min(corners) >= 0:
            look.colors[place] = [colors[corner] for corner in corners]
            coloured = True
        elif texture in resources.textures and max(corners) < len(pairs) and min(corners) >= 0:
            if group not in numbers:
                numbers[group or ""] = len(look.textures)
                look.textures.append(resources.textures[texture])
            look.colors[place], look.uv[place] = 1.0, [pairs[corner] for corner in corners]
            look.picture[place] = numbers[group or ""]
            coloured = True
    return _key(np.array(points, np.float64).reshape(-1, 3), faces), look if coloured else None


def _key(vertices: Float64Array, faces: Int64Array) -> bytes:
    return np.ascontiguousarray(vertices).tobytes() + b"|" + np.ascontiguousarray(faces).tobytes()
