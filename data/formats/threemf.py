"""3MF: a ZIP archive of XML, Z up."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
from lxml import etree  # type: ignore[import-untyped]
from trimesh.exchange.common import XML_PARSER_OPTIONS
from trimesh.scene.transforms import SceneGraph

from renderformer.data.errors import InputError
from renderformer.data.formats.parts import MeshFile, Part
from renderformer.data.formats.threemf_materials import Looks
from renderformer.data.formats.trimesh_reading import read_with_trimesh

MAX_UNPACKED_BYTES = 2**30
# XML takes 36 bytes of memory for each of its own. That of meshes compresses by 4 to 20.
_MAX_RATIO = 50
_SMALL_BYTES = 4 * 2**20
_MAX_DEPTH = 64
_MAX_COPIES = 100_000
# trimesh names the copies of one object in a time that grows with the square of their number: 10,000 take 28 s.
_MAX_REPEATS = 4000


def read(file: MeshFile) -> Iterator[Part]:
    """The objects of the file, once per item that refers to them, in the order of the objects.

    Raises:
        InputError: the file is not a ZIP archive, is too large when unpacked, or repeats components too often.
    """
    _check_copies(file.data)
    objects = read_with_trimesh("3mf", file.data, file)
    coloured = {part.name: [part] for part in objects.parts}
    if not file.bare:
        with zipfile.ZipFile(io.BytesIO(file.data)) as archive:
            looks = Looks(archive, file)
            coloured = {part.name: looks.pieces(part) for part in objects.parts}
    if not objects.graph:
        yield from (piece for pieces in coloured.values() for piece in pieces)
        return
    graph = SceneGraph(base_frame=objects.base_frame)
    for edge in objects.graph:
        graph.update(**edge)
    nodes = [edge["frame_to"] for edge in objects.graph if edge.get("geometry") in coloured]
    # trimesh's graph does not keep the order of the objects.
    order = {name: number for number, name in enumerate(coloured)}
    for node in sorted(nodes, key=lambda node: order[str(graph.get(node)[1])]):
        matrix, name = graph.get(node)
        for number, part in enumerate(pieces := coloured[str(name)]):
            faces = part.faces[:, ::-1] if np.linalg.det(matrix[:3, :3]) < 0 else part.faces
            title = str(node) if len(pieces) == 1 else f"{node}_{number}"
            yield replace(part, name=title, vertices=part.vertices @ matrix[:3, :3].T + matrix[:3, 3], faces=faces)


def _check_copies(data: bytes) -> None:
    """Raise InputError for archives that unpack to too many bytes and components that repeat too often."""
    try:
        archive = zipfile.ZipFile(io.BytesIO(data))
    except (zipfile.BadZipFile, ValueError) as error:
        raise InputError("", f"is not a 3MF archive ({error})", "export it again") from None
    size = sum(info.file_size for info in archive.infolist())
    if size > MAX_UNPACKED_BYTES:
        problem = f"unpacks to {size} bytes, more than the {MAX_UNPACKED_BYTES} that are read"
        raise InputError("", problem, "simplify the mesh")
    if size > max(_SMALL_BYTES, _MAX_RATIO * len(data)):
        problem = f"unpacks to {size} bytes, more than {_MAX_RATIO} times its size"
        raise InputError("", problem, "export it again")
    model = next((name for name in archive.namelist() if "3d/3dmodel.model" in name.lower()), None)
    if model is None:
        problem = "is a ZIP archive without 3D/3dmodel.model, so it is not a 3MF file"
        raise InputError("", problem, "check that the suffix names the format")
    components, items = _components(archive, model)
    copies: dict[str, int] = {}

    def count(identity: str, depth: int) -> int:
        if depth > _MAX_DEPTH:
            raise InputError("", "its components contain each other", "the file is damaged, export it again")
        if identity not in copies:
            copies[identity] = 1 + sum(count(child, depth + 1) for child in components.get(identity, []))
        return copies[identity]

    total = sum(count(item, 0) for item in items)
    limit = _MAX_COPIES if total - len(copies) <= _MAX_REPEATS else _MAX_REPEATS
    if total > limit:
        raise InputError("", f"places more than {limit} copies of its components", "export it as one mesh")


def _components(archive: zipfile.ZipFile, model: str) -> tuple[dict[str, list[str]], list[str]]:
    """The ids of the components of each object, and the ids of the objects of the build items."""
    components: dict[str, list[str]] = {}
    items: list[str] = []
    with archive.open(model) as stream:
        tags = ("{*}object", "{*}item")
        for _, element in etree.iterparse(stream, events=("end",), tag=tags, **XML_PARSER_OPTIONS):
            if element.tag.endswith("item"):
                items.append(element.get("objectid", ""))
                continue
            inner = [component.get("objectid", "") for component in element.iter("{*}component")]
            components[element.get("id", "")] = inner
            element.clear()
    return components, items
