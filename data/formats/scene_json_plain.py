"""Version 1.0 of scene JSON (spec scenes.md), read as by the original converter and written for it.

Reading gives the same float32 values as the original, except for the order of the triangles inside a smooth object.
Writing keeps shapes, names, cameras and the order of objects. The format limits an object to one material, diffuse
colours to 8 bits, coordinates to eight decimals, and normals to "flat" or "smooth below 30 degrees"; the writer counts
and returns the differences. Corners share a vertex in the OBJ files only if their normals are equal, so that reading
smooths the same edges.

Legend: V vertices, F triangles of one object.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
from pydantic import Field

from renderformer.data.arrays import AnyArray, Float64Array, Int64Array
from renderformer.data.camera import Camera
from renderformer.data.declared import Declared
from renderformer.data.errors import InputError
from renderformer.data.formats import obj
from renderformer.data.formats.mesh_file import load_geometry
from renderformer.data.formats.parts import MAX_TRIANGLES
from renderformer.data.formats.scene_json_shared import (
    Number,
    Radiance,
    Share,
    TransformEntry,
    Vector,
    path_inside,
    rotation,
    short,
    short_colour,
    slug,
)
from renderformer.data.formats.shading import random_colours, shade_flat, shade_smooth
from renderformer.data.formats.table import MESH_FORMATS
from renderformer.data.geometry.light_sides import other_sides, with_sides
from renderformer.data.geometry.remesh import remesh
from renderformer.data.geometry.triangles import has_area
from renderformer.data.notes import Routine
from renderformer.data.scene import DIFFUSE, MAX_COORDINATE, Material, Mesh, Scene

VERSION = "1.0"
# Colours within this of a multiple of 1/255 count as 8-bit ones; half precision, as in H5, is off by less.
_COLOUR_TOLERANCE = 3e-4
_NORMAL_TOLERANCE = 1e-3
_MAX_PIECES = 4096


class MaterialEntry(Declared):
    """`material` of an object; `diffuse` is clipped to 0 … 1, or replaced by random colours if there is a seed."""

    diffuse: Vector
    specular: tuple[Share, Share, Share]
    roughness: Share
    emissive: tuple[Radiance, Radiance, Radiance]
    smooth_shading: bool
    rand_tri_diffuse_seed: Annotated[int, Field(ge=0, le=2**32 - 1)] | None = None
    random_diffuse_max: Share = 1.0
    random_diffuse_type: Literal["per-shading-group", "per-triangle"] = "per-shading-group"


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


def read(document: object, path: Path) -> Scene:
    """The scene of a parsed file.

    Returns:
        Objects in the order of the file, cameras named camera_0, camera_1 …; notes.

    Raises:
        InputError: a key or value that the format does not allow, or a mesh that cannot be read.
    """
    entry = SceneEntry.read(document, path)
    if not entry.objects:
        raise InputError("", "objects is empty", "a scene needs at least one object")
    folder = path.parent.resolve()
    # Paths and cameras are checked first because reading the meshes may take a while.
    paths = {name: mesh_path(item.mesh_path, name, folder) for name, item in entry.objects.items()}
    cameras = [camera_of(number, item) for number, item in enumerate(entry.cameras)]
    geometry = load_geometry(paths.values())
    notes: list[str] = []
    objects: list[Mesh] = []
    for name, item in entry.objects.items():
        objects.append(mesh_of(name, item, *geometry[paths[name]], notes))
        check_total(objects)
    name = path.stem if entry.scene_name is None else entry.scene_name
    return Scene(tuple(with_sides(objects)), tuple(cameras), name, tuple(notes))


def check_total(objects: list[Mesh]) -> None:
    """Raise InputError if the objects together have too many triangles."""
    if sum(map(len, objects)) > MAX_TRIANGLES:
        problem = f"the scene has more than {MAX_TRIANGLES} triangles"
        raise InputError(f"objects.{objects[-1].name}", problem, "simplify its meshes")


def mesh_path(text: str, name: str, folder: Path) -> Path:
    """The checked path of an object's mesh file."""
    return path_inside(text, f"objects.{name}.mesh_path", folder, tuple(MESH_FORMATS), "mesh")


def camera_of(number: int, entry: CameraEntry) -> Camera:
    """A camera of a file."""
    try:
        return Camera.look_at(entry.position, entry.look_at, entry.up, entry.fov, f"camera_{number}")
    except InputError as error:
        raise error.at(f"cameras[{number}]") from None


def mesh_of(name: str, entry: ObjectEntry, vertices: Float64Array, faces: Int64Array, notes: list[str]) -> Mesh:
    """The object with its transform, shading and colours; the order of the steps is the original's."""
    try:
        return _mesh(name, entry, vertices, faces, notes)
    except InputError as error:
        raise error.within(f"objects.{name}") from None


def _mesh(name: str, entry: ObjectEntry, vertices: Float64Array, faces: Int64Array, notes: list[str]) -> Mesh:
    label, file_name = f"objects.{name}", Path(entry.mesh_path).name
    seed = entry.material.rand_tri_diffuse_seed
    material = _material(entry.material, label, notes)
    if entry.transform.normalize:
        vertices = vertices - vertices.mean(axis=0)
        radius = np.linalg.norm(vertices, axis=1).max()
        if radius == 0:
            raise InputError("", f"all vertices of {file_name} are the same point", "export it again")
        vertices = vertices / (2 * radius)
    if entry.remesh:
        vertices, faces = remesh(vertices, faces, entry.remesh_target_face_num)
        notes.append(
            f"{label}: remeshed to {len(faces)} triangles ({entry.remesh_target_face_num} requested); not bit-equal to "
            "the original, which uses another library"
        )
    vertices, faces = _transformed(entry.transform, vertices, faces)
    # Random colours per triangle need separate triangles, which have flat normals.
    per_triangle = seed is not None and entry.material.random_diffuse_type == "per-triangle"
    smooth = entry.material.smooth_shading and not per_triangle
    triangles, normals, groups, _ = (shade_smooth if smooth else shade_flat)(vertices, faces)
    materials = np.tile(material.row(), (len(triangles), 1))
    if seed is not None:
        colours = random_colours(seed, entry.material.random_diffuse_max, int(groups.max()) + 1)
        materials[:, DIFFUSE] = colours[groups]
    keep = has_area(triangles)
    if not keep.all():
        notes.append(Routine(f"{label}: {int((~keep).sum())} zero-area triangles dropped"))
        if not keep.any():
            raise InputError("", f"no triangle of {file_name} has an area after the transform", "check scale")
    return Mesh(name, triangles[keep], normals[keep], materials[keep])


def _material(entry: MaterialEntry, label: str, notes: list[str]) -> Material:
    diffuse = np.array(entry.diffuse)
    if diffuse.min() < 0 or diffuse.max() > 1:
        notes.append(f"{label}.material.diffuse {diffuse.tolist()} clipped to 0 … 1, as the original converter does")
    if entry.rand_tri_diffuse_seed is not None and entry.random_diffuse_max == 0:
        raise InputError("material", "random_diffuse_max is 0", "expected more than 0 beside a seed")
    # The original truncates colours to 8 bits: 0.5 becomes 127 / 255.
    red, green, blue = (np.floor(np.clip(diffuse, 0, 1) * 255) / 255).tolist()
    return Material((red, green, blue), entry.specular, entry.roughness, entry.emissive)


def _transformed(entry: TransformEntry, vertices: Float64Array, faces: Int64Array) -> tuple[Float64Array, Int64Array]:
    for axis, angle in enumerate(entry.rotation):
        vertices = vertices @ rotation(axis, angle).T
    vertices = vertices * entry.scale + entry.translation
    largest = float(np.abs(vertices).max())
    if largest > MAX_COORDINATE:
        raise InputError("", f"the largest coordinate is {largest:.3g}, more than 1e9", "scale it down")
    mirrored = sum(factor < 0 for factor in entry.scale) % 2
    return vertices, faces[:, ::-1] if mirrored else faces


def write(scene: Scene, temporary: Path, folder: str, path: Path) -> tuple[SceneEntry, list[str]]:
    """Write the meshes of a scene.

    Args:
        temporary: where they are written; folder: the name that this folder gets beside `path`.

    Returns:
        The whole file, and lines about what the format cannot hold, with counts.

    Raises:
        InputError: too many materials, or a material out of range.
    """
    losses: Counter[str] = Counter()
    renamed = [number for number, camera in enumerate(scene.cameras) if camera.name not in ("", f"camera_{number}")]
    losses["names of cameras"] += len(renamed)
    objects: dict[str, ObjectEntry] = {}
    for number, (name, mesh, material) in enumerate(_pieces(scene, path, losses)):
        file = f"{number:03d}_{slug(name)}.obj"
        smooth = _write_geometry(temporary / file, mesh, losses)
        objects[name] = _object_entry(f"{folder}/{file}", material, smooth)
    cameras = tuple(map(camera_entry, scene.cameras))
    entry = SceneEntry(scene_name=scene.name, version="1.0", objects=objects, cameras=cameras)
    return entry, [*(f"{count} {loss}" for loss, count in losses.items() if count), *other_sides(scene.objects)]


def _pieces(scene: Scene, path: Path, losses: Counter[str]) -> Iterator[tuple[str, Mesh, Material]]:
    """(name, mesh, material) of pieces with one material; a mesh is split by material in order of appearance."""
    names = {mesh.name for mesh in scene.objects}
    total = 0
    for mesh in scene.objects:
        if mesh.patch_index is not None:
            losses["textured triangles flattened to their mean material"] += int((mesh.patch_index >= 0).sum())
        if mesh.appearance is not None:
            losses["textured triangles flattened to their mean material"] += int((mesh.appearance.index >= 0).sum())
        # Colours that round to the same 8 bits can share an object.
        rounded = mesh.materials.astype(np.float64)
        rounded[:, DIFFUSE] = np.round(rounded[:, DIFFUSE] * 255) / 255
        changed = np.abs(rounded[:, DIFFUSE] - mesh.materials[:, DIFFUSE]).max(axis=1) > _COLOUR_TOLERANCE
        losses["triangles with diffuse colours rounded to 8 bits"] += int(changed.sum())
        rows, first, row_index = np.unique(rounded, axis=0, return_index=True, return_inverse=True)
        total += len(rows)
        if total > _MAX_PIECES:
            raise InputError(path, f"the scene has more than {_MAX_PIECES} materials, one file each", "save it as .h5")
        if len(rows) > 1:
            losses["objects made from objects with several materials"] += len(rows)
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
                yield name, Mesh(name, mesh.triangles[keep], mesh.normals[keep], two_sided=mesh.sides(keep)), material


def _write_geometry(file: Path, mesh: Mesh, losses: Counter[str]) -> bool:
    """Write an OBJ file; returns whether smooth shading is closer to the mesh's normals than flat shading."""
    points = np.asarray(np.round(np.asarray(mesh.triangles, np.float64), 8) + 0.0, np.float64)
    keys = np.concatenate([points, np.round(mesh.normals.astype(np.float64), 4) + 0.0], axis=-1).reshape(-1, 6)
    _, first, corners = np.unique(keys, axis=0, return_index=True, return_inverse=True)
    vertices, faces = points.reshape(-1, 3)[first], corners.reshape(-1, 3)
    obj.write(file, vertices, faces)
    flat_errors = smooth_errors = _count_changed(mesh.normals, shade_flat(vertices, faces)[1])
    if flat_errors:
        _, normals, _, order = shade_smooth(vertices, faces)
        smooth_errors = _count_changed(mesh.normals[order], normals)
    losses["triangles get other normals when read"] += min(smooth_errors, flat_errors)
    return smooth_errors < flat_errors


def _count_changed(normals: AnyArray, others: AnyArray) -> int:
    """Number of triangles of which a normal differs."""
    return int((np.abs(normals - others) > _NORMAL_TOLERANCE).any((1, 2)).sum())


def _object_entry(mesh_path: str, material: Material, smooth: bool) -> ObjectEntry:
    steps = np.round(np.asarray(material.diffuse) * 255)
    # A quarter step is added so that the reader's truncation gives the same 8-bit colour.
    red, green, blue = (round(float(value), 6) for value in np.minimum((steps + 0.25) / 255, 1.0))
    zero = (0.0, 0.0, 0.0)
    return ObjectEntry(
        mesh_path=mesh_path,
        material=MaterialEntry(
            diffuse=(red, green, blue),
            specular=short_colour(material.specular),
            roughness=short(material.roughness),
            emissive=short_colour(material.emission),
            smooth_shading=smooth,
            rand_tri_diffuse_seed=None,
        ),
        transform=TransformEntry(translation=zero, rotation=zero, scale=(1.0, 1.0, 1.0), normalize=False),
    )


def camera_entry(camera: Camera) -> CameraEntry:
    """A camera as a file states it."""
    position, forward = camera.position.astype(np.float64), camera.forward.astype(np.float64)
    # The point on the view axis nearest to the origin, at least one unit ahead, so that the numbers are small.
    target = position + forward * max(1.0, float(-position @ forward))
    up = camera.c2w[:3, 1].astype(np.float64)
    return CameraEntry(position=position.tolist(), look_at=target.tolist(), up=up.tolist(), fov=camera.fov)
