"""Bare mesh files: OBJ (+MTL), PLY, STL, OFF, glTF/GLB and 3MF, read into a Scene of objects in the file's own units.

glTF is read by `gltf`, the others by trimesh, whose resolver does not leave the folder of the file
and does not fetch URLs. What becomes of materials and colours is told in `materials`, what becomes of textures in
`textures`. glTF stands Y up and is turned to Z up; the other formats do not
say and are taken as Z up.

Legend: V vertices, F triangles of one object.
"""

from __future__ import annotations

import io
import logging
import os
import re
import warnings
import zipfile
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from renderformer.data.arrays import BoolArray, Float32Array, Float64Array, Int64Array
from renderformer.data.colour import srgb_to_linear
from renderformer.data.errors import InputError, one_line
from renderformer.data.formats.materials import NEUTRAL, Surface, surface_from_mtl
from renderformer.data.formats.obj import as_utf8, material_notes, object_names, plain_obj
from renderformer.data.formats.ply import check_lines, even_ply
from renderformer.data.formats.textures import Textures, bake_patches
from renderformer.data.geometry.triangles import smooth_normals, unique_rows
from renderformer.data.scene import MAX_COORDINATE, Mesh, Scene

FORMATS = {
    ".obj": "OBJ",
    ".ply": "PLY",
    ".stl": "STL",
    ".off": "OFF",
    ".glb": "GLB",
    ".gltf": "glTF",
    ".3mf": "3MF",
}
MAX_FILE_BYTES = 4 * 2**30
MAX_TRIANGLES = 20_000_000
_MAX_GROUPS = 256
# A file whose middle is further away than this many times its size loses bits of float32, so it is moved.
_FAR = 16.0
# Sines below this are triangles without area: float32 coordinates cannot tell them from a line.
_FLAT = 1e-6


@dataclass
class _Part:
    """One object as the file has it.

    vertices (V, 3), faces (F, 3), normals (V, 3) or None, uv (V, 2) with the origin at the upper left or None, colors
    linear RGB (V, 3) or (F, 3) or None.
    """

    name: str
    vertices: Float64Array
    faces: Int64Array
    normals: Float64Array | None = None
    uv: Float64Array | None = None
    colors: Float64Array | None = None
    surface: Surface = NEUTRAL
    textures: Textures | None = None


class _Tally:
    """Counts of what happened, told once per kind."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        self.lines: list[str] = []

    def notes(self, path: Path) -> list[str]:
        """One line per kind of event."""
        counted = [f"{count} {what}" for what, count in self.counts.items() if count]
        return [one_line(f"{path.name}: {line}") for line in [*dict.fromkeys(self.lines), *counted]]


def load_mesh_file(path: str | os.PathLike[str]) -> Scene:
    """Read a bare mesh file.

    Args:
        path: an .obj, .ply, .stl, .off, .glb, .gltf or .3mf file.

    Returns:
        A Scene without cameras, in the units of the file, Z up; objects in the order of the file under unique names.
        Vertex normals of the file are kept where they are usable, else edges below 30 degrees are smooth. Its
        notes count what was dropped, moved or ignored.

    Raises:
        InputError: the file cannot be read or has no usable triangle; the line names the file and the remedy.
    """
    path = Path(path)
    suffix = path.suffix.lower()
    if suffix not in FORMATS:
        raise InputError(path, f"{path.suffix or 'a name without suffix'} is not a mesh format", f"use {_known()}")
    data = read_bytes(path)
    tally = _Tally()
    if suffix in (".glb", ".gltf"):
        parts = _guarded(path, data, lambda: _gltf_parts(path, data, tally))
    else:
        parts = _guarded(path, data, lambda: _trimesh_parts(path, data, tally))
    try:
        return _assemble(path, parts, tally)
    except InputError as error:
        hint = _mislabelled(path, data) if "has no triangles" in str(error) else ""
        raise InputError(path, f"{error}{hint}") from None


def load_geometry(path: Path) -> tuple[Float64Array, Int64Array]:
    """The bare geometry of a mesh file, as `trimesh.load(path, process=False, force="mesh")` gives it: vertices are not
    merged, objects are joined, glTF keeps its axes.

    Returns:
        (V, 3) float64 vertices, (F, 3) faces.

    Raises:
        InputError: the file cannot be read, has no triangles, or NaN, infinite or huge coordinates.
    """
    data = read_bytes(path)
    parts = _guarded(path, data, lambda: _bare_parts(path, data))
    if not parts:
        raise InputError(path, "has no triangles", f"export it with faces{_mislabelled(path, data)}")
    try:
        for part in parts:
            _check_part(part)
    except InputError as error:
        raise error.within(path) from None
    offsets = np.cumsum([0, *(len(part.vertices) for part in parts[:-1])])
    faces = np.concatenate([part.faces + offset for part, offset in zip(parts, offsets, strict=True)])
    return np.concatenate([part.vertices for part in parts]), faces


def _bare_parts(path: Path, data: bytes) -> list[_Part]:
    if path.suffix.lower() not in (".glb", ".gltf"):
        return _trimesh_parts(path, data, _Tally(), plain=True)
    parts = _gltf_parts(path, data, _Tally(), plain=True)
    for part in parts:
        part.vertices = part.vertices[:, [0, 2, 1]] * (1, 1, -1)
    return parts


def _guarded(path: Path, data: bytes, read: Callable[[], list[_Part]]) -> list[_Part]:
    """What `read` returns; whatever the damage made it raise becomes one line about the file."""
    try:
        with _quiet():
            return [part for part in read() if len(part.faces)]
    except InputError as error:
        raise InputError(path, f"{error}{_mislabelled(path, data)}") from None
    except MemoryError:
        raise InputError(path, "needs more memory than there is", "simplify the mesh") from None
    except Exception as error:
        reason = " ".join(str(error).split())[:160] or type(error).__name__
        kind = FORMATS[path.suffix.lower()]
        raise InputError(
            path, f"cannot be read as {kind} ({reason})", f"export it again{_mislabelled(path, data)}"
        ) from error


def read_bytes(path: Path, limit: int = MAX_FILE_BYTES) -> bytes:
    """The content of an existing, readable, non-empty regular file.

    Raises:
        InputError: anything else; the line names the file.
    """
    if not path.exists():
        raise InputError(path, "does not exist", "check the path")
    if not path.is_file():
        raise InputError(path, "is not a file", "give a mesh or scene file")
    try:
        size = path.stat().st_size
        if size > limit:
            raise InputError(path, f"has {size / 2**30:.1f} GiB, more than the {limit / 2**30:.0f} GiB that are read")
        data = path.read_bytes()
    except OSError as error:
        raise InputError(path, f"cannot be read, {error.strerror or error}") from None
    if not data:
        raise InputError(path, "is empty", "export it again")
    return data


def sniff(data: bytes) -> str | None:
    """The format that the first bytes show, as a suffix; None if they show none."""
    head = data[:512].lstrip()
    if data[:4] == b"glTF":
        return ".glb"
    if data[:4] == b"\x89HDF":
        return ".h5"
    if data[:2] == b"PK":
        return ".3mf"
    if head[:3].lower() == b"ply":
        return ".ply"
    if re.match(rb"C?OFF\s", head):
        return ".off"
    if head[:1] == b"{":
        return ".gltf" if b'"asset"' in data and b'"version"' in data and b'"objects"' not in data else ".json"
    if head[:6].lower() == b"solid " and b"facet" in data[:2048]:
        return ".stl"
    if re.search(rb"(?m)^v\s+[-+\d.]", data[:65536]) and re.search(rb"(?m)^f\s+\d", data):
        return ".obj"
    return None


def _known() -> str:
    return ", ".join([*FORMATS, ".json", ".h5"])


def _mislabelled(path: Path, data: bytes) -> str:
    found = sniff(data)
    if found is None or found == path.suffix.lower() or (found == ".json" and path.suffix.lower() == ".gltf"):
        return ""
    return f"; the content looks like {FORMATS.get(found, found[1:].upper())}, rename it to {path.stem}{found}"


@contextmanager
def _quiet() -> Iterator[None]:
    """No log lines of trimesh, and an error where NumPy stops reading numbers at the first bad word."""
    log = logging.getLogger("trimesh")
    level = log.level
    log.setLevel(logging.CRITICAL)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            warnings.filterwarnings("error", message=".*string or file could not be read.*")
            yield
    finally:
        log.setLevel(level)


def _resolver(path: Path) -> Any:
    """trimesh's resolver of the file's folder, which keeps what it gave and why it could not give the rest."""
    from trimesh.resolvers import FilePathResolver

    class Recorder(FilePathResolver):
        def __init__(self, source: str) -> None:
            super().__init__(source)
            self.missing: list[str] = []
            self.given: dict[str, bytes] = {}

        def get(self, name: str) -> bytes:
            if re.match(r"[a-zA-Z][a-zA-Z0-9+.-]+:", name):
                self.missing.append(f"{name!r} is a URL and is not fetched")
                raise FileNotFoundError(name)
            try:
                content = super().get(name)
                self.given[name] = as_utf8(content) if name.lower().endswith(".mtl") else content
            except InputError:
                self.missing.append(f"{name!r} is not text and is not read")
                raise
            except ValueError:
                self.missing.append(f"{name!r} is outside the folder of the file and is not read")
                raise
            except OSError:
                self.missing.append(f"{name!r} is missing")
                raise
            return self.given[name]

    return Recorder(str(path))


def _gltf_parts(path: Path, data: bytes, tally: _Tally, plain: bool = False) -> list[_Part]:
    """Objects of a glTF file, Z up; without their textures if `plain`."""
    from renderformer.data.formats.gltf import GltfFile

    resolver = _resolver(path)

    def fetch(name: str) -> bytes:
        try:
            found: bytes = resolver.get(name)
        except (OSError, ValueError):
            raise InputError("", f"needs {resolver.missing[-1]}", "put it beside the file") from None
        return found

    file = GltfFile(data, fetch)
    parts = []
    for one in file.primitives(MAX_TRIANGLES):
        # Y up to Z up: a quarter turn about X.
        vertices = one.vertices[:, [0, 2, 1]] * (1, -1, 1)
        normals = None if one.normals is None else one.normals[:, [0, 2, 1]] * (1, -1, 1)
        sources = {} if plain else one.material.textures
        textures = Textures.from_gltf(sources, tally.lines) if sources else None
        parts.append(_Part(one.name, vertices, one.faces, normals, one.uv, one.colors, one.material.surface, textures))
    tally.lines += file.notes
    return parts


def _trimesh_parts(path: Path, data: bytes, tally: _Tally, plain: bool = False) -> list[_Part]:
    """Objects of an OBJ, PLY, STL, OFF or 3MF file; if `plain`, an OBJ is split by material only, and none is read."""
    from trimesh.exchange.load import mesh_loaders
    from trimesh.scene.transforms import SceneGraph

    kind = path.suffix.lower()[1:]
    options: dict[str, Any] = {}
    resolver = _resolver(path)
    if kind in ("obj", "off") or (kind == "stl" and not _is_binary_stl(data)):
        data = as_utf8(data)
    if kind == "obj":
        data = plain_obj(data, tally.lines)
        # Groups are objects where the file has no others; very many of them are something else.
        grouped = not re.search(rb"(?m)^o ", data) and data.count(b"\ng ") <= _MAX_GROUPS
        split = {"split_objects": True, "split_groups": grouped, "group_material": True}
        options = {"skip_materials": True} if plain else split
    elif kind == "3mf":
        check_3mf(data)
    elif kind == "ply":
        data = even_ply(data, tally.lines)
    elif kind == "off":
        _check_off(data)
        if data.lstrip()[:4] == b"COFF":
            tally.lines.append("colours of OFF files are not read")
    loaded = mesh_loaders[kind](file_obj=io.BytesIO(data), file_type=kind, resolver=resolver, **options)
    tally.lines += resolver.missing
    if kind == "obj" and not plain:
        tally.lines += material_notes(data, resolver.given)
    if "geometry" not in loaded:
        loaded = {"geometry": {path.stem: loaded}}
    geometry = {name: value for name, value in loaded["geometry"].items() if len(value.get("faces", ()))}
    if kind == "obj" and not plain:
        # trimesh hands out the objects of an OBJ last to first.
        geometry = dict(reversed(geometry.items()))
        geometry = object_names(geometry, path.name, path.stem)
        return [_from_kwargs(name, kwargs, kind, tally) for name, kwargs in geometry.items()]
    if not loaded.get("graph"):
        return [_from_kwargs(name, kwargs, kind, tally) for name, kwargs in geometry.items()]
    graph = SceneGraph(base_frame=loaded.get("base_frame", "world"))
    for edge in loaded["graph"]:
        graph.update(**edge)
    # trimesh's graph has an order of its own; the file's is that of its objects.
    nodes = [edge["frame_to"] for edge in loaded["graph"] if edge.get("geometry") in geometry]
    place = {name: number for number, name in enumerate(geometry)}
    parts: list[_Part] = []
    total = 0
    for node in sorted(nodes, key=lambda node: place[graph.get(node)[1]]):
        matrix, name = graph.get(node)
        part = _from_kwargs(str(node), geometry[name], kind, tally)
        total += len(part.faces) + len(part.vertices)
        if total > 2 * MAX_TRIANGLES:
            raise InputError("", f"places more than {MAX_TRIANGLES} triangles", "simplify it")
        part.vertices = part.vertices @ matrix[:3, :3].T + matrix[:3, 3]
        if np.linalg.det(matrix[:3, :3]) < 0:
            part.faces = part.faces[:, ::-1]
        parts.append(part)
    return parts


def _is_binary_stl(data: bytes) -> bool:
    """Whether the file has the length that the header of a binary STL promises.

    Raises:
        InputError: it has not, and it is not text either.
    """
    count = int.from_bytes(data[80:84], "little")
    if len(data) == 84 + 50 * count:
        return True
    if b"\0" in data:
        raise InputError(
            "",
            f"is not text, and not a whole binary STL: {count} triangles in its header make {84 + 50 * count} "
            f"bytes, the file has {len(data)}",
        )
    return False


def _check_off(data: bytes) -> None:
    """Refuse text that ends early, which trimesh takes for a smaller mesh."""
    counts, _, body = re.sub(rb"#[^\n]*", b"", data).partition(b"OFF")[2].lstrip().partition(b"\n")
    numbers = [int(word) for word in counts.split()[:2] if word.isdigit() and len(word) < 20]
    if len(numbers) == 2:
        check_lines(body, sum(numbers), "OFF")


def check_3mf(data: bytes, limit: int = 2**30) -> None:
    """Refuse archives that grow beyond `limit` bytes, and components that multiply without end.

    Raises:
        InputError: not a ZIP archive, too large when unpacked, or too many copies of components.
    """
    from lxml import etree  # type: ignore[import-untyped]
    from trimesh.exchange.common import XML_PARSER_OPTIONS

    try:
        archive = zipfile.ZipFile(io.BytesIO(data))
    except (zipfile.BadZipFile, ValueError) as error:
        raise InputError("", f"is not a 3MF archive ({error})") from None
    total = sum(info.file_size for info in archive.infolist())
    if total > limit:
        raise InputError("", f"unpacks to {total} bytes, more than the {limit} that are read")
    model = next((n for n in archive.namelist() if "3d/3dmodel.model" in n.lower()), None)
    if model is None:
        raise InputError("", "is a ZIP archive without 3D/3dmodel.model, so it is not a 3MF file")
    children: dict[str, list[str]] = {}
    items: list[str] = []
    with archive.open(model) as stream:
        tags = ("{*}object", "{*}item")
        for _, element in etree.iterparse(stream, events=("end",), tag=tags, **XML_PARSER_OPTIONS):
            if element.tag.endswith("item"):
                items.append(element.get("objectid", ""))
            else:
                inner = [c.get("objectid", "") for c in element.iter("{*}component")]
                children[element.get("id", "")] = inner
            if not element.tag.endswith("item"):
                element.clear()
    copies: dict[str, int] = {}

    def count(identity: str, depth: int) -> int:
        if depth > 64:
            raise InputError("", "its components contain each other", "the file is damaged")
        if identity not in copies:
            copies[identity] = 1 + sum(count(child, depth + 1) for child in children.get(identity, []))
        return copies[identity]

    if sum(count(item, 0) for item in items) > 100_000:
        raise InputError("", "places more than 100000 copies of its components", "export it as one mesh")


def _from_kwargs(name: str, kwargs: dict[str, Any], kind: str, tally: _Tally) -> _Part:
    """A part from what a loader of trimesh returns for one object."""
    from trimesh.geometry import triangulate_quads

    vertices = np.asarray(kwargs["vertices"], np.float64)
    faces = triangulate_quads(kwargs["faces"])
    if faces.ndim != 2 or faces.shape[1] != 3 or vertices.ndim != 2 or vertices.shape[1] != 3:
        raise InputError("", f"object {name!r} has faces of shape {faces.shape}, expected triangles", "export it again")
    part = _Part(name, vertices, faces.astype(np.int64))
    normals = kwargs.get("vertex_normals")
    if normals is not None and np.shape(normals) == vertices.shape:
        part.normals = np.asarray(normals, np.float64)
    visual = kwargs.get("visual")
    material = getattr(visual, "material", None)
    image = getattr(material, "image", None)
    # trimesh gives texture coordinates without a picture a grey one of its own, which has no file format.
    image = image if getattr(image, "format", None) else None
    if kind == "obj" and material is not None and (material.kwargs or image is not None):
        part.surface, said = surface_from_mtl(material.kwargs)
        tally.lines += [f"material {material.name!r}: {what}" for what in said]
    uv = getattr(visual, "uv", None)
    if image is not None and uv is not None and np.shape(uv) == (len(vertices), 2):
        # trimesh keeps the origin of texture coordinates at the lower left.
        part.uv = np.asarray(uv, np.float64) * (1, -1) + (0, 1)
        part.textures = Textures.from_image(image, tally.lines)
        # MTL multiplies Kd and map_Kd, but exporters leave Kd black or grey beside a map, and viewers ignore it then.
        part.surface = replace(part.surface, base=(1.0, 1.0, 1.0))
    part.colors = _colors(kwargs, len(vertices), len(faces), tally)
    return part


def _colors(kwargs: dict[str, Any], vertices: int, faces: int, tally: _Tally) -> Float64Array | None:
    """Linear RGB per vertex or per face; 8-bit numbers and OBJ's 0 … 1 are sRGB."""
    for key, count in (("vertex_colors", vertices), ("face_colors", faces)):
        colors = kwargs.get(key)
        if colors is None:
            continue
        colors = np.asarray(colors)
        if colors.ndim != 2 or colors.shape[1] < 3 or len(colors) != count:
            tally.lines.append(f"{key.replace('_', ' ')} ignored, there are {len(colors)} of them for {count}")
            continue
        scale = np.iinfo(colors.dtype).max if colors.dtype.kind in "iu" else 1.0
        values = colors[:, :3].astype(np.float64) / scale
        if not np.isfinite(values).all() or values.min() < 0 or values.max() > 1:
            tally.lines.append(f"{key.replace('_', ' ')} ignored, they are outside 0 … 1")
            continue
        return srgb_to_linear(values)
    return None


def _assemble(path: Path, parts: list[_Part], tally: _Tally) -> Scene:
    """Checked, centred, cleaned meshes under unique names."""
    if not parts:
        raise InputError("", "has no triangles", "export it with faces")
    for part in parts:
        _check_part(part)
    low = np.min([part.vertices[part.faces].min((0, 1)) for part in parts], axis=0)
    high = np.max([part.vertices[part.faces].max((0, 1)) for part in parts], axis=0)
    centre = (low + high) / 2
    if np.abs(centre).max() > _FAR * (high - low).max():
        tally.lines.append(
            f"moved to the origin by {_triple(-centre)}, since float32 would lose detail so far away from it"
        )
    else:
        centre = np.zeros(3)
    used: Counter[str] = Counter()
    objects = []
    for part in parts:
        while used[part.name]:
            used[part.name] += 1
            part.name = f"{part.name}_{used[part.name]}"
        used[part.name] += 1
        mesh = _mesh(part, centre, tally)
        if mesh is not None:
            objects.append(mesh)
    if not objects:
        raise InputError(
            "", f"has no triangles with an area ({tally.counts['zero-area triangles dropped']} were dropped)"
        )
    return Scene(tuple(objects), name=path.stem, notes=tuple(tally.notes(path)))


def _triple(values: Float64Array) -> str:
    return "(" + ", ".join(f"{value:.6g}" for value in values) + ")"


def _check_part(part: _Part) -> None:
    low, high = int(part.faces.min()), int(part.faces.max())
    if low < 0 or high >= len(part.vertices):
        bad = low if low < 0 else high
        raise InputError(
            f"object {part.name!r}",
            f"a face refers to vertex {bad}, but there are {len(part.vertices)}",
            "export it again",
        )
    if not np.isfinite(part.vertices).all():
        bad = int((~np.isfinite(part.vertices).all(axis=1)).sum())
        raise InputError(f"object {part.name!r}", f"{bad} vertices are NaN or infinite", "repair the mesh")
    largest = float(np.abs(part.vertices).max())
    if largest > MAX_COORDINATE:
        raise InputError(
            f"object {part.name!r}", f"the largest coordinate is {largest:.3g}, more than 1e9", "scale it down"
        )


def _mesh(part: _Part, centre: Float64Array, tally: _Tally) -> Mesh | None:
    """The part as a Mesh without zero-area and duplicate triangles; None if nothing is left."""
    points = (part.vertices - centre).astype(np.float32)
    triangles = points[part.faces]
    keep = _sound(triangles, tally)
    if not keep.any():
        return None
    corners = unique_rows(points)[1][part.faces[keep]]
    first = _first_of_each(corners)
    tally.counts["duplicate triangles dropped"] += len(corners) - len(first)
    chosen = np.flatnonzero(keep)[first]
    triangles, corners, faces = triangles[chosen], corners[first], part.faces[chosen]
    count = len(faces)
    normals = _file_normals(part, faces, triangles, tally)
    if normals is None:
        normals = smooth_normals(triangles, corners=corners)
    base: npt.ArrayLike = 1.0
    if part.colors is not None:
        per_face = len(part.colors) == len(part.faces) and len(part.colors) != len(part.vertices)
        base = part.colors[chosen] if per_face else part.colors[faces].mean(axis=1)
        if not per_face:
            spread = np.ptp(part.colors[faces], axis=1).max(axis=1)
            tally.counts["triangles whose vertex colours differ, averaged"] += int((spread > 1 / 255).sum())
    surface = part.surface
    if part.colors is not None and surface is NEUTRAL:
        surface = Surface((1.0, 1.0, 1.0), roughness=NEUTRAL.roughness)
    materials = surface.rows(base=base, count=count)
    patches = index = None
    if part.textures is not None and part.uv is not None:
        materials, patches, index = bake_patches(surface, part.textures, part.uv[faces], base, tally.counts)
    return Mesh(part.name, triangles, normals, materials, patches, index)


def _sound(triangles: Float32Array, tally: _Tally) -> BoolArray:
    """(F,) whether a triangle has an area that float32 can tell."""
    edges = np.roll(triangles, -1, axis=1).astype(np.float64) - triangles
    area = np.linalg.norm(np.cross(edges[:, 0], edges[:, 1]), axis=-1)
    longest = (edges**2).sum(-1).max(axis=1)
    sound: BoolArray = (longest > 0) & (area > _FLAT * longest)
    tally.counts["zero-area triangles dropped"] += int((~sound).sum())
    return sound


def _first_of_each(corners: Int64Array) -> Int64Array:
    """Indices, ascending, of the first triangle of each set with the same corners in the same turning sense."""
    start = corners.argmin(axis=1)[:, None]
    turned = np.take_along_axis(corners, (start + np.arange(3)) % 3, axis=1)
    return np.sort(unique_rows(turned)[0])


def _file_normals(part: _Part, faces: Int64Array, triangles: Float32Array, tally: _Tally) -> Float32Array | None:
    """(F, 3, 3) unit normals of the file, or None where it has none or they cannot be right."""
    if part.normals is None:
        return None
    normals = part.normals[faces]
    if not np.isfinite(normals).all():
        raise InputError(f"object {part.name!r}", "vertex normals are NaN or infinite", "repair the mesh")
    length = np.linalg.norm(normals, axis=-1, keepdims=True)
    normals = np.divide(normals, length, out=np.zeros_like(normals), where=length > 1e-12)
    face = np.cross(triangles[:, 1] - triangles[:, 0], triangles[:, 2] - triangles[:, 0])
    wrong = ((normals * face[:, None]).sum(-1) <= 0).any(axis=1)
    if wrong.mean() > 0.05:
        tally.lines.append(
            f"object {part.name!r}: vertex normals ignored, {int(wrong.sum())} of {len(wrong)} triangles face away "
            "from them; smoothed anew"
        )
        return None
    if wrong.any():
        fixed = smooth_normals(triangles)
        normals[wrong] = fixed[wrong]
        tally.counts["triangles with vertex normals that face away, smoothed anew"] += int(wrong.sum())
    return normals.astype(np.float32)
