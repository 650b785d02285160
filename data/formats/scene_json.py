"""Scene JSON 1.0 (spec scenes.md), read the way the original converter reads it.

The result is the original's to the last bit of float32, up to the order of the triangles inside a smooth object:
geometry passes through decimal text with eight places there, so positions are rounded to 1e-8 here, and normals are
computed from the rounded positions.

Legend: V vertices, F triangles of one object.
"""

from __future__ import annotations

import json
import math
import os
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from renderformer.data.arrays import Float32Array, Float64Array, Int64Array
from renderformer.data.camera import Camera
from renderformer.data.errors import InputError, one_line
from renderformer.data.formats.meshes import FORMATS, MAX_TRIANGLES, load_geometry, read_bytes, sniff
from renderformer.data.geometry.remesh import remesh
from renderformer.data.geometry.triangles import CREASE_DEGREES, has_area
from renderformer.data.scene import EMISSION, Material, Mesh, Scene

VERSION = "1.0"
# The original writes its meshes as OBJ text with this many decimals before it reads them back.
_DECIMALS = 8
_MAX_JSON_BYTES = 256 * 2**20


@dataclass(frozen=True)
class _Object:
    """One checked entry of `objects`."""

    mesh: Path
    material: Material
    smooth: bool
    seed: int | None
    random_max: float
    per_triangle: bool
    translation: Float64Array
    rotation: Float64Array
    scale: Float64Array
    normalize: bool
    remesh: bool
    faces: int


def read_scene_json(path: str | os.PathLike[str]) -> Scene:
    """Read a scene JSON file and the meshes beside it.

    Returns:
        Objects in the order of the file, cameras named camera_0, camera_1 …; a scene without cameras or lights loads
        with a note.

    Raises:
        InputError: anything that the format does not allow, or a mesh that cannot be read; the line names the file, the
            key and the value.
    """
    path = Path(path)
    document = _parse(path)
    try:
        return _scene(path, document)
    except InputError as error:
        raise error.within(path) from None


def _parse(path: Path) -> dict[str, Any]:
    data = read_bytes(path, _MAX_JSON_BYTES)
    try:
        document = json.loads(data.decode("utf-8-sig"), object_pairs_hook=_unique_keys)
    except UnicodeDecodeError:
        found = sniff(data)
        hint = f"; the content looks like {found[1:].upper()}, rename it to {path.stem}{found}" if found else ""
        raise InputError(path, f"is not text in UTF-8, so it is not scene JSON{hint or '; check the file'}") from None
    except json.JSONDecodeError as error:
        raise InputError(path, f"is not valid JSON, line {error.lineno} column {error.colno}: {error.msg}") from None
    except RecursionError:
        raise InputError(path, "is nested too deeply to be scene JSON") from None
    except InputError as error:
        raise error.within(path) from None
    if not isinstance(document, dict):
        raise InputError(path, f"holds {_shown(document)}", "expected an object with version, objects and cameras")
    if "asset" in document and "objects" not in document:
        raise InputError(path, "is glTF and not scene JSON", f"rename it to {path.stem}.gltf")
    return document


def _unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in pairs:
        if key in found:
            raise InputError("", f"the key {key!r} stands twice in one object", "rename one")
        found[key] = value
    return found


def _scene(path: Path, document: dict[str, Any]) -> Scene:
    top = _Keys(document, "", {"scene_name", "version", "objects", "cameras"})
    version = top.get("version", _any)
    if version != VERSION:
        raise InputError("", f"version is {_shown(version)}", f'expected "{VERSION}"')
    entries = top.get("objects", _mapping)
    if not entries:
        raise InputError("", "objects is empty", "a scene needs at least one object")
    notes: list[str] = []
    folder = path.parent.resolve()
    checked = {name: _checked_object(name, entry, folder, notes) for name, entry in entries.items()}
    cameras = [_camera(index, entry) for index, entry in enumerate(top.get("cameras", _list, []))]
    cache: dict[Path, tuple[Float64Array, Int64Array]] = {}
    objects: list[Mesh] = []
    for name, entry in checked.items():
        if entry.mesh not in cache:
            cache[entry.mesh] = load_geometry(entry.mesh)
        objects.append(_mesh(name, entry, *cache[entry.mesh], notes))
        if sum(map(len, objects)) > MAX_TRIANGLES:
            raise InputError(
                f"objects.{name}", f"the scene has more than {MAX_TRIANGLES} triangles", "simplify its meshes"
            )
    if not cameras:
        notes.append("has no cameras; give one to render it")
    if not any((mesh.materials[:, EMISSION] > 0).any() for mesh in objects):
        notes.append("has no lights (no object emits); the picture will be black")
    name = top.get("scene_name", _string, path.stem)
    return Scene(tuple(objects), tuple(cameras), name, tuple(one_line(f"{path.name}: {note}") for note in notes))


class _Keys:
    """Checked access to one JSON object; `where` is its path from the top."""

    def __init__(self, value: Any, where: str, known: set[str]) -> None:
        self._prefix = f"{where}." if where else ""
        if not isinstance(value, dict):
            raise InputError("", f"{where} is {_shown(value)}", "expected an object")
        for key in value:
            if key not in known:
                raise InputError(
                    "",
                    f"{self._prefix}{key} is not a key of scene JSON {VERSION}",
                    f"expected {', '.join(sorted(known))}",
                )
        self._value = value

    def get(self, key: str, kind: Callable[[Any, str], Any], default: Any = ...) -> Any:
        """The value of `key`, checked by `kind`; `default` if it is absent and a default is given."""
        if key not in self._value:
            if default is ...:
                raise InputError("", f"{self._prefix}{key} is missing", "add it")
            return default
        return kind(self._value[key], f"{self._prefix}{key}")


def _shown(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 60 else text[:57] + "..."


def _any(value: Any, where: str) -> Any:
    return value


def _mapping(value: Any, where: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise InputError("", f"{where} is {_shown(value)}", "expected an object")
    return value


def _list(value: Any, where: str) -> list[Any]:
    if not isinstance(value, list):
        raise InputError("", f"{where} is {_shown(value)}", "expected a list")
    return value


def _string(value: Any, where: str) -> str:
    if not isinstance(value, str):
        raise InputError("", f"{where} is {_shown(value)}", "expected text")
    return value


def _bool(value: Any, where: str) -> bool:
    if not isinstance(value, bool):
        raise InputError("", f"{where} is {_shown(value)}", "expected true or false")
    return value


def _number(value: Any, where: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise InputError("", f"{where} is {_shown(value)}", "expected a number")
    if not abs(value) <= 1e30:
        raise InputError("", f"{where} is {_shown(value)}", "expected a finite number")
    return float(value)


def _between(low: float, high: float) -> Callable[[Any, str], float]:
    def check(value: Any, where: str) -> float:
        number = _number(value, where)
        if not low <= number <= high:
            raise InputError("", f"{where} is {number:g}", f"expected a number from {low:g} to {high:g}")
        return number

    return check


def _integer(low: int, high: int) -> Callable[[Any, str], int]:
    def check(value: Any, where: str) -> int:
        if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
            raise InputError("", f"{where} is {_shown(value)}", f"expected a whole number from {low} to {high}")
        return value

    return check


def _optional(kind: Callable[[Any, str], Any]) -> Callable[[Any, str], Any]:
    return lambda value, where: None if value is None else kind(value, where)


def _triple(kind: Callable[[Any, str], float] = _number) -> Callable[[Any, str], Float64Array]:
    def check(value: Any, where: str) -> Float64Array:
        if not isinstance(value, list) or len(value) != 3:
            raise InputError("", f"{where} is {_shown(value)}", "expected three numbers")
        return np.array([kind(item, f"{where}[{index}]") for index, item in enumerate(value)])

    return check


def _choice(*names: str) -> Callable[[Any, str], str]:
    def check(value: Any, where: str) -> str:
        if value not in names:
            raise InputError("", f"{where} is {_shown(value)}", f"expected {' or '.join(names)}")
        return str(value)

    return check


def _checked_object(name: str, entry: Any, folder: Path, notes: list[str]) -> _Object:
    where = f"objects.{name}"
    top = _Keys(entry, where, {"mesh_path", "material", "transform", "remesh", "remesh_target_face_num"})
    m = _Keys(
        top.get("material", _mapping),
        f"{where}.material",
        {
            *("diffuse", "specular", "emissive", "roughness", "smooth_shading"),
            *("rand_tri_diffuse_seed", "random_diffuse_max", "random_diffuse_type"),
        },
    )
    t = _Keys(top.get("transform", _mapping), f"{where}.transform", {"translation", "rotation", "scale", "normalize"})
    diffuse = m.get("diffuse", _triple())
    if diffuse.min() < 0 or diffuse.max() > 1:
        notes.append(f"{where}.material.diffuse {diffuse.tolist()} clipped to 0 … 1, as the original converter does")
    # An 8-bit colour, cut off and not rounded: 0.5 becomes 127 / 255.
    diffuse = np.floor(np.clip(diffuse, 0, 1) * 255) / 255
    specular = m.get("specular", _triple(_between(0, 1)))
    emission = m.get("emissive", _triple(_between(0, 60000)))
    seed = m.get("rand_tri_diffuse_seed", _optional(_integer(0, 2**32 - 1)), None)
    random_max = m.get("random_diffuse_max", _between(0, 1), 1.0)
    if seed is not None and random_max == 0:
        raise InputError("", f"{where}.material.random_diffuse_max is 0", "expected more than 0 beside a seed")
    kind = m.get("random_diffuse_type", _choice("per-shading-group", "per-triangle"), "per-shading-group")
    return _Object(
        mesh=_mesh_path(top.get("mesh_path", _string), f"{where}.mesh_path", folder),
        material=Material(tuple(diffuse), tuple(specular), m.get("roughness", _between(0, 1)), tuple(emission)),
        smooth=m.get("smooth_shading", _bool),
        seed=seed,
        random_max=random_max,
        per_triangle=kind == "per-triangle",
        translation=t.get("translation", _triple()),
        rotation=t.get("rotation", _triple()),
        scale=t.get("scale", _triple()),
        normalize=t.get("normalize", _bool, True),
        remesh=top.get("remesh", _bool, False),
        faces=top.get("remesh_target_face_num", _integer(4, 1_000_000), 2048),
    )


def _mesh_path(text: str, where: str, folder: Path) -> Path:
    """The mesh file, which must lie in the folder of the scene or below it."""
    if re.match(r"[a-zA-Z][a-zA-Z0-9+.-]+:", text):
        raise InputError(
            "", f"{where} is {_shown(text)}, a URL", "copy the mesh beside the scene and give its relative path"
        )
    relative = Path(text)
    if relative.is_absolute() or re.match(r"[a-zA-Z]:|\\", text):
        raise InputError("", f"{where} is {_shown(text)}, an absolute path", "give it relative to the scene file")
    try:
        resolved = (folder / relative).resolve()
        inside = resolved.is_relative_to(folder)
        exists = inside and resolved.is_file()
    # A cycle of links, a null byte, or a name that the system cannot hold.
    except (OSError, RuntimeError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)[:80]
        raise InputError(
            "", f"{where} is {_shown(text)}, which cannot be followed ({reason})", "check the path"
        ) from None
    if not inside:
        raise InputError("", f"{where} is {_shown(text)}, outside the folder of the scene", "copy the mesh into it")
    if not exists:
        raise InputError("", f"{where} is {_shown(text)}, which does not exist", "check the path")
    if resolved.suffix.lower() not in FORMATS:
        raise InputError("", f"{where} is {_shown(text)}", f"expected a mesh file ({', '.join(FORMATS)})")
    return folder / relative


def _camera(index: int, entry: Any) -> Camera:
    where = f"cameras[{index}]"
    keys = _Keys(entry, where, {"position", "look_at", "up", "fov"})
    position, target, up = (keys.get(key, _triple()) for key in ("position", "look_at", "up"))
    fov = keys.get("fov", _number)
    try:
        return Camera.look_at(position, target, up, fov, f"camera_{index}")
    except InputError as error:
        raise error.at(where) from None


def _mesh(name: str, entry: _Object, vertices: Float64Array, faces: Int64Array, notes: list[str]) -> Mesh:
    """The object with its transform, shading and colours, in the order of steps of the original."""
    label = f"objects.{name}"
    if entry.normalize:
        vertices = vertices - vertices.mean(axis=0)
        radius = np.linalg.norm(vertices, axis=1).max()
        if radius == 0:
            raise InputError(label, f"all vertices of {entry.mesh.name} are the same point", "export it again")
        vertices = vertices / (2 * radius)
    if entry.remesh:
        try:
            vertices, faces = remesh(vertices, faces, entry.faces)
        except InputError as error:
            raise error.within(label) from None
        notes.append(
            f"{label}: remeshed to {len(faces)} triangles (asked for {entry.faces}); not bit-equal to the original, "
            "which uses another library"
        )
    for axis, angle in zip(np.eye(3), entry.rotation, strict=True):
        vertices = vertices @ _rotation(axis, math.radians(angle)).T
    vertices = vertices * entry.scale + entry.translation
    if np.abs(vertices).max() > 1e9:
        largest = float(np.abs(vertices).max())
        raise InputError(label, f"the largest coordinate is {largest:.3g}, more than 1e9", "scale it down")
    if (entry.scale < 0).sum() % 2:
        faces = faces[:, ::-1]
    # Colours per triangle need triangles of their own, which shade flat.
    smooth = entry.smooth and not (entry.seed is not None and entry.per_triangle)
    triangles, normals, groups = (shade_smooth if smooth else shade_flat)(vertices, faces)[:3]
    materials = np.tile(entry.material.row(), (len(triangles), 1))
    if entry.seed is not None:
        materials[:, :3] = _random_colours(entry.seed, entry.random_max, int(groups.max()) + 1)[groups]
    keep = has_area(triangles)
    if not keep.all():
        notes.append(f"{label}: {int((~keep).sum())} zero-area triangles dropped")
        if not keep.any():
            raise InputError(label, f"no triangle of {entry.mesh.name} has an area after the transform", "check scale")
    return Mesh(name, triangles[keep], normals[keep], materials[keep])


def _rotation(axis: Float64Array, angle: float) -> Float64Array:
    from trimesh.transformations import rotation_matrix

    return np.asarray(rotation_matrix(angle, axis))[:3, :3]


def _as_text(vertices: Float64Array, faces: Int64Array) -> Any:
    """A trimesh of the vertices as they come back from decimal text."""
    from trimesh import Trimesh

    return Trimesh(np.round(vertices, _DECIMALS), faces, process=False)


def shade_smooth(
    vertices: Float64Array, faces: Int64Array
) -> tuple[Float32Array, Float32Array, Int64Array, Int64Array]:
    """What `smooth_shading: true` makes of a mesh.

    Args:
        vertices: (V, 3); faces are smoothed across edges whose vertices they share.
        faces: (F, 3).

    Returns:
        (F, 3, 3) triangles and normals, (F,) the shading group of each triangle, (F,) its number before the reordering.
    """
    from trimesh import Trimesh
    from trimesh.graph import connected_component_labels, smooth_shade

    split = smooth_shade(Trimesh(vertices, faces, process=False), angle=math.radians(CREASE_DEGREES))
    order = np.hstack(split.metadata.get("original_components", [np.arange(len(faces))]))
    mesh = _as_text(split.vertices, split.faces)
    groups = connected_component_labels(mesh.face_adjacency, node_count=len(mesh.faces))
    triangles, normals = mesh.vertices[mesh.faces], mesh.vertex_normals[mesh.faces]
    return triangles.astype(np.float32), normals.astype(np.float32), groups, order


def shade_flat(vertices: Float64Array, faces: Int64Array) -> tuple[Float32Array, Float32Array, Int64Array]:
    """What `smooth_shading: false` makes of a mesh: triangles, face normals, and each triangle a group of its own."""
    count = len(faces)
    mesh = _as_text(vertices[faces].reshape(-1, 3), np.arange(3 * count).reshape(-1, 3))
    triangles, normals = mesh.vertices[mesh.faces], mesh.vertex_normals[mesh.faces]
    return triangles.astype(np.float32), normals.astype(np.float32), np.arange(count)


def _random_colours(seed: int, upper: float, count: int) -> Float32Array:
    """(count, 3) colours of the original's generator."""
    # The format is defined by the legacy generator; a new one would give other colours.
    generator = np.random.RandomState(seed)  # noqa: NPY002
    # One call per part and one call for all draw the same numbers.
    colours = generator.randint(0, math.ceil(256 * upper), (count, 3))
    return (colours / 255).astype(np.float32)
