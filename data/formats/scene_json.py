"""Scene JSON 1.0 (spec scenes.md): read the way the original converter reads it, and written for it.

The scene that is read is the original's to the last bit of float32, up to the order of the triangles inside a smooth
object. The format keeps shape, order of objects, names and cameras; it holds one material per object, diffuse colours
of 8 bits, coordinates of eight decimals, and normals only as far as "smooth below 30 degrees" or "flat" can express
them. What writing changes is counted and returned. Vertices are shared in the OBJ files exactly where the scene's
normals agree, so that the reader's smoothing stops where the scene's does.

Legend: V vertices, F triangles of one object.
"""

from __future__ import annotations

import json
import math
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Literal, TypeAlias

import numpy as np
from pydantic import Field
from trimesh.transformations import rotation_matrix

from renderformer.data.arrays import AnyArray, BoolArray, Float64Array, Int64Array
from renderformer.data.camera import Camera
from renderformer.data.declared import Declared, shown
from renderformer.data.errors import InputError, one_line
from renderformer.data.files import atomic_path, new_folder, read_bytes, swapped
from renderformer.data.formats import obj
from renderformer.data.formats.mesh_file import load_geometry
from renderformer.data.formats.parts import MAX_TRIANGLES
from renderformer.data.formats.shading import random_colours, shade_flat, shade_smooth
from renderformer.data.formats.table import MESH_FORMATS, refused
from renderformer.data.geometry.remesh import remesh
from renderformer.data.geometry.triangles import has_area
from renderformer.data.scene import DIFFUSE, EMISSION, MAX_COORDINATE, RGB, Material, Mesh, Scene

MAX_JSON_BYTES = 256 * 2**20
# Colours within this of a multiple of 1/255 count as 8-bit ones; half precision, as in H5, is off by less.
_COLOUR_TOLERANCE = 3e-4
_NORMAL_TOLERANCE = 1e-3
_MAX_PIECES = 4096
_MESH_NAME = re.compile(r"\d{3,}_[A-Za-z0-9_.-]*\.obj")

Number: TypeAlias = Annotated[float, Field(ge=-1e30, le=1e30)]
Share: TypeAlias = Annotated[float, Field(ge=0, le=1)]
Radiance: TypeAlias = Annotated[float, Field(ge=0, le=60000)]
Vector: TypeAlias = tuple[Number, Number, Number]


class MaterialEntry(Declared):
    """`material` of an object. `diffuse` outside 0 … 1 is clipped; a seed gives random colours instead."""

    diffuse: Vector
    specular: tuple[Share, Share, Share]
    roughness: Share
    emissive: tuple[Radiance, Radiance, Radiance]
    smooth_shading: bool
    rand_tri_diffuse_seed: Annotated[int, Field(ge=0, le=2**32 - 1)] | None = None
    random_diffuse_max: Share = 1.0
    random_diffuse_type: Literal["per-shading-group", "per-triangle"] = "per-shading-group"


class TransformEntry(Declared):
    """`transform` of an object: normalised, turned about X, Y and Z of the world by degrees, scaled, moved."""

    translation: Vector
    rotation: Vector
    scale: Vector
    normalize: bool = True


class ObjectEntry(Declared):
    """One of `objects`; `mesh_path` is relative to the folder of the scene."""

    mesh_path: str
    material: MaterialEntry
    transform: TransformEntry
    remesh: bool = False
    remesh_target_face_num: Annotated[int, Field(ge=4, le=1_000_000)] = 2048


class CameraEntry(Declared):
    """One of `cameras`; `fov` is the vertical angle in degrees."""

    position: Vector
    look_at: Vector
    up: Vector
    fov: Number


class SceneEntry(Declared):
    """A whole file."""

    scene_name: str | None = None
    version: Literal["1.0"]
    objects: dict[str, ObjectEntry]
    cameras: tuple[CameraEntry, ...] = ()


def read(path: Path) -> Scene:
    """Read a scene JSON file and the meshes beside it.

    Returns:
        Objects in the order of the file, cameras named camera_0, camera_1 …; a scene without cameras or lights loads
        with a note.

    Raises:
        InputError: anything that the format does not allow, or a mesh that cannot be read; the line names the file, the
            key and the value.
    """
    data = read_bytes(path, MAX_JSON_BYTES)
    try:
        entry = _parsed(data, path)
    except InputError as error:
        raise refused(error, path, data) from None
    try:
        return _scene(entry, path)
    except InputError as error:
        raise error.within(path) from None


def _parsed(data: bytes, path: Path) -> SceneEntry:
    try:
        document = json.loads(data.decode("utf-8-sig"), object_pairs_hook=_unique_keys)
        entry = SceneEntry.read(document, path)
    except UnicodeDecodeError:
        raise InputError("", "is not text in UTF-8, so it is not scene JSON", "check the file") from None
    except json.JSONDecodeError as error:
        problem = f"is not valid JSON, line {error.lineno} column {error.colno}: {error.msg}"
        raise InputError("", problem, "repair it or export it again") from None
    except InputError:
        raise
    # A number with more digits than Python converts.
    except ValueError as error:
        raise InputError("", f"is not valid JSON: {error}", "repair it or export it again") from None
    except RecursionError:
        raise InputError("", "is nested too deeply to be scene JSON", "check the file") from None
    if not entry.objects:
        raise InputError("", "objects is empty", "a scene needs at least one object")
    return entry


def _unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    values: dict[str, Any] = {}
    for key, value in pairs:
        if key in values:
            raise InputError("", f"the key {key!r} stands twice in one object", "rename one")
        values[key] = value
    return values


def _scene(entry: SceneEntry, path: Path) -> Scene:
    folder = path.parent.resolve()
    # Everything is checked before the first mesh is read, which may take a while.
    paths = {name: _mesh_path(item.mesh_path, name, folder) for name, item in entry.objects.items()}
    cameras = [_camera(number, item) for number, item in enumerate(entry.cameras)]
    geometry = load_geometry(paths.values())
    notes: list[str] = []
    objects: list[Mesh] = []
    for name, item in entry.objects.items():
        try:
            objects.append(_mesh(name, item, *geometry[paths[name]], notes))
        except InputError as error:
            raise error.within(f"objects.{name}") from None
        if sum(map(len, objects)) > MAX_TRIANGLES:
            problem = f"the scene has more than {MAX_TRIANGLES} triangles"
            raise InputError(f"objects.{name}", problem, "simplify its meshes")
    if not cameras:
        notes.append("has no cameras; give one to render it")
    if not any((mesh.materials[:, EMISSION] > 0).any() for mesh in objects):
        notes.append("has no lights (no object emits); the picture will be black")
    name = path.stem if entry.scene_name is None else entry.scene_name
    return Scene(tuple(objects), tuple(cameras), name, tuple(one_line(f"{path.name}: {note}") for note in notes))


def _mesh_path(text: str, name: str, folder: Path) -> Path:
    """The mesh file, which must lie in the folder of the scene or below it."""
    key = f"objects.{name}.mesh_path is {shown(text)}"
    if re.match(r"[a-zA-Z][a-zA-Z0-9+.-]+:", text):
        raise InputError("", f"{key}, a URL", "copy the mesh beside the scene and give its relative path")
    relative = Path(text)
    if relative.is_absolute() or re.match(r"[a-zA-Z]:|\\", text):
        raise InputError("", f"{key}, an absolute path", "give it relative to the scene file")
    try:
        resolved = (folder / relative).resolve()
        inside = resolved.is_relative_to(folder)
        exists = inside and resolved.is_file()
    # A cycle of links, a null byte, or a name that the system cannot hold.
    except (OSError, RuntimeError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)[:80]
        raise InputError("", f"{key}, which cannot be followed ({reason})", "check the path") from None
    if not inside:
        raise InputError("", f"{key}, outside the folder of the scene", "copy the mesh into it")
    if not exists:
        raise InputError("", f"{key}, which does not exist", "check the path")
    if resolved.suffix.lower() not in MESH_FORMATS:
        raise InputError("", key, f"expected a mesh file ({', '.join(MESH_FORMATS)})")
    return folder / relative


def _camera(number: int, entry: CameraEntry) -> Camera:
    try:
        return Camera.look_at(entry.position, entry.look_at, entry.up, entry.fov, f"camera_{number}")
    except InputError as error:
        raise error.at(f"cameras[{number}]") from None


def _mesh(name: str, entry: ObjectEntry, vertices: Float64Array, faces: Int64Array, notes: list[str]) -> Mesh:
    """The object with its transform, shading and colours, in the order of steps of the original."""
    label, file_name = f"objects.{name}", Path(entry.mesh_path).name
    look, seed = entry.material, entry.material.rand_tri_diffuse_seed
    material = _material(look, label, notes)
    if entry.transform.normalize:
        vertices = vertices - vertices.mean(axis=0)
        radius = np.linalg.norm(vertices, axis=1).max()
        if radius == 0:
            raise InputError("", f"all vertices of {file_name} are the same point", "export it again")
        vertices = vertices / (2 * radius)
    if entry.remesh:
        vertices, faces = remesh(vertices, faces, entry.remesh_target_face_num)
        notes.append(
            f"{label}: remeshed to {len(faces)} triangles (asked for {entry.remesh_target_face_num}); not bit-equal to "
            "the original, which uses another library"
        )
    vertices, faces = _transformed(entry.transform, vertices, faces)
    # Colours per triangle need triangles of their own, which shade flat.
    smooth = look.smooth_shading and (seed is None or look.random_diffuse_type == "per-shading-group")
    triangles, normals, groups, _ = (shade_smooth if smooth else shade_flat)(vertices, faces)
    materials = np.tile(material.row(), (len(triangles), 1))
    if seed is not None:
        materials[:, DIFFUSE] = random_colours(seed, look.random_diffuse_max, int(groups.max()) + 1)[groups]
    keep = has_area(triangles)
    if not keep.all():
        notes.append(f"{label}: {int((~keep).sum())} zero-area triangles dropped")
        if not keep.any():
            raise InputError("", f"no triangle of {file_name} has an area after the transform", "check scale")
    return Mesh(name, triangles[keep], normals[keep], materials[keep])


def _material(entry: MaterialEntry, label: str, notes: list[str]) -> Material:
    diffuse = np.array(entry.diffuse)
    if diffuse.min() < 0 or diffuse.max() > 1:
        notes.append(f"{label}.material.diffuse {diffuse.tolist()} clipped to 0 … 1, as the original converter does")
    if entry.rand_tri_diffuse_seed is not None and entry.random_diffuse_max == 0:
        raise InputError("material", "random_diffuse_max is 0", "expected more than 0 beside a seed")
    # An 8-bit colour, cut off and not rounded: 0.5 becomes 127 / 255.
    red, green, blue = (np.floor(np.clip(diffuse, 0, 1) * 255) / 255).tolist()
    return Material((red, green, blue), entry.specular, entry.roughness, entry.emissive)


def _transformed(entry: TransformEntry, vertices: Float64Array, faces: Int64Array) -> tuple[Float64Array, Int64Array]:
    for axis, angle in zip(np.eye(3), entry.rotation, strict=True):
        vertices = vertices @ np.asarray(rotation_matrix(math.radians(angle), axis))[:3, :3].T
    vertices = vertices * entry.scale + entry.translation
    largest = float(np.abs(vertices).max())
    if largest > MAX_COORDINATE:
        raise InputError("", f"the largest coordinate is {largest:.3g}, more than 1e9", "scale it down")
    mirrored = sum(factor < 0 for factor in entry.scale) % 2
    return vertices, faces[:, ::-1] if mirrored else faces


def write(scene: Scene, path: Path, overwrite: bool = True) -> list[str]:
    """Write a scene as JSON with a folder NAME_meshes of OBJ files beside it, whole or not at all.

    Args:
        overwrite: whether a folder that exists is replaced.

    Returns:
        Lines that tell what the format could not hold, with counts; empty when reading it back gives the same scene.

    Raises:
        InputError: a place that cannot be written, or too many materials.
    """
    losses: Counter[str] = Counter()
    renamed = [number for number, camera in enumerate(scene.cameras) if camera.name not in ("", f"camera_{number}")]
    losses["names of cameras"] += len(renamed)
    pieces = list(_pieces(scene, path, losses))
    folder = path.with_name(f"{path.stem}_meshes")
    _check_folder(folder, overwrite)
    objects: dict[str, ObjectEntry] = {}
    with new_folder(folder) as temporary:
        for number, (name, mesh, material) in enumerate(pieces):
            slug = re.sub(r"[^A-Za-z0-9_.-]+", "_", name)[:60]
            file = f"{number:03d}_{slug}.obj"
            smooth = _write_geometry(temporary / file, mesh, losses)
            objects[name] = _object_entry(f"{folder.name}/{file}", material, smooth)
        cameras = tuple(map(_camera_entry, scene.cameras))
        entry = SceneEntry(scene_name=scene.name, version="1.0", objects=objects, cameras=cameras)
        text = json.dumps(entry.model_dump(exclude_unset=True), indent=2) + "\n"
        with swapped(temporary, folder), atomic_path(path) as target:
            target.write_text(text, encoding="utf-8")
    return [f"{count} {loss}" for loss, count in losses.items() if count]


def _pieces(scene: Scene, path: Path, losses: Counter[str]) -> Iterator[tuple[str, Mesh, Material]]:
    """(name, mesh, material), each of one material; a mesh of several falls into pieces, in order of appearance."""
    names = {mesh.name for mesh in scene.objects}
    total = 0
    for mesh in scene.objects:
        if mesh.patch_index is not None:
            losses["textured triangles flattened to their mean material"] += int((mesh.patch_index >= 0).sum())
        # Colours that become the same 8 bits can share an object.
        rounded = mesh.materials.astype(np.float64)
        rounded[:, DIFFUSE] = np.round(rounded[:, DIFFUSE] * 255) / 255
        moved = np.abs(rounded[:, DIFFUSE] - mesh.materials[:, DIFFUSE]).max(axis=1) > _COLOUR_TOLERANCE
        losses["triangles with diffuse colours rounded to 8 bits"] += int(moved.sum())
        rows, first, row_index = np.unique(rounded, axis=0, return_index=True, return_inverse=True)
        total += len(rows)
        if total > _MAX_PIECES:
            raise InputError(path, f"the scene has more than {_MAX_PIECES} materials, one file each", "save it as .h5")
        if len(rows) > 1:
            losses["pieces made of objects with several materials"] += len(rows)
        for number, row in enumerate(np.argsort(first)):
            name = mesh.name
            while number and name in names:
                name, number = f"{mesh.name}_{number}", number + 1
            names.add(name)
            try:
                material = Material.from_row(rows[row])
            except InputError as error:
                raise error.within(f"object {mesh.name!r}").within(path) from None
            chosen = row_index.reshape(-1) == row
            keep = chosen & has_area(mesh.triangles)
            losses["zero-area triangles left out"] += int(chosen.sum() - keep.sum())
            if keep.any():
                yield name, Mesh(name, mesh.triangles[keep], mesh.normals[keep]), material


def _write_geometry(file: Path, mesh: Mesh, losses: Counter[str]) -> bool:
    """Write an OBJ file; whether smooth shading comes closer to the mesh's normals than flat shading."""
    points = np.asarray(np.round(np.asarray(mesh.triangles, np.float64), 8) + 0.0, np.float64)
    keys = np.concatenate([points, np.round(mesh.normals.astype(np.float64), 4) + 0.0], axis=-1).reshape(-1, 6)
    _, first, corners = np.unique(keys, axis=0, return_index=True, return_inverse=True)
    vertices, faces = points.reshape(-1, 3)[first], corners.reshape(-1, 3)
    obj.write(file, vertices, faces)
    off_flat = off_smooth = _differs(mesh.normals, shade_flat(vertices, faces)[1])
    if off_flat.any():
        _, normals, _, order = shade_smooth(vertices, faces)
        off_smooth = _differs(mesh.normals[order], normals)
    losses["triangles get other normals when read"] += int(min(off_smooth.sum(), off_flat.sum()))
    return bool(off_smooth.sum() < off_flat.sum())


def _differs(normals: AnyArray, others: AnyArray) -> BoolArray:
    """(F,) whether a normal of the triangle differs."""
    return np.asarray((np.abs(normals - others) > _NORMAL_TOLERANCE).any((1, 2)))


def _object_entry(mesh_path: str, material: Material, smooth: bool) -> ObjectEntry:
    steps = np.round(np.asarray(material.diffuse) * 255)
    # The reader cuts off; a quarter step above the colour survives that and any rounding.
    red, green, blue = (round(float(value), 6) for value in np.minimum((steps + 0.25) / 255, 1.0))
    still = (0.0, 0.0, 0.0)
    return ObjectEntry(
        mesh_path=mesh_path,
        material=MaterialEntry(
            diffuse=(red, green, blue),
            specular=_short_colour(material.specular),
            roughness=_short(material.roughness),
            emissive=_short_colour(material.emission),
            smooth_shading=smooth,
            rand_tri_diffuse_seed=None,
        ),
        transform=TransformEntry(translation=still, rotation=still, scale=(1.0, 1.0, 1.0), normalize=False),
    )


def _short(value: float) -> float:
    """The shortest decimal that is the same float32."""
    return float(str(np.float32(value)))


def _short_colour(colour: RGB) -> RGB:
    return _short(colour[0]), _short(colour[1]), _short(colour[2])


def _camera_entry(camera: Camera) -> CameraEntry:
    position, forward = camera.position.astype(np.float64), camera.forward.astype(np.float64)
    # The point of view nearest to the origin, so that the numbers are small; at least one unit ahead.
    target = position + forward * max(1.0, float(-position @ forward))
    up = camera.c2w[:3, 1].astype(np.float64)
    return CameraEntry(position=position.tolist(), look_at=target.tolist(), up=up.tolist(), fov=camera.fov)


def _check_folder(folder: Path, overwrite: bool) -> None:
    """Refuse a place that cannot be written, and a folder that this module did not write."""
    if not folder.parent.is_dir():
        raise InputError(folder, f"cannot write, the folder {folder.parent} does not exist", "create it first")
    if folder.is_symlink() or folder.exists():
        ours = folder.is_dir() and all(_MESH_NAME.fullmatch(item.name) for item in folder.iterdir())
        if not ours or folder.is_symlink():
            raise InputError(folder, "holds other things than saved meshes", "move it away or use another name")
        if not overwrite:
            raise InputError(folder, "exists", "allow overwriting or give another name")
