"""Scenes on disk: scene JSON with mesh files beside it, or scene H5.

JSON keeps shape, order of objects, names and cameras; it holds one material per object, diffuse colours of 8 bits,
coordinates of eight decimals, and normals only as far as "smooth below 30 degrees" or "flat" can express them. What
that changes is counted and returned. Vertices are shared in the OBJ files exactly where the scene's normals agree, so
that the reader's smoothing stops where the scene's does.

Legend: F triangles of one object.
"""

from __future__ import annotations

import json
import os
import re
import secrets
import shutil
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from renderformer.data.arrays import AnyArray, BoolArray
from renderformer.data.camera import Camera
from renderformer.data.errors import InputError
from renderformer.data.files import atomic_path
from renderformer.data.formats.scene_h5 import write_scene_h5
from renderformer.data.formats.scene_json import VERSION, shade_flat, shade_smooth
from renderformer.data.geometry.triangles import has_area
from renderformer.data.scene import DIFFUSE, Material, Mesh, Scene

# Colours within this of a multiple of 1/255 count as 8-bit ones; half precision, as in H5, is off by less.
_COLOUR_TOLERANCE = 3e-4
_NORMAL_TOLERANCE = 1e-3
_MAX_PIECES = 4096
_MESH_NAME = re.compile(r"\d{3,}_[A-Za-z0-9_.-]*\.obj")


def save_scene(scene: Scene, path: str | os.PathLike[str], overwrite: bool = True) -> list[str]:
    """Write a scene as .json (with a folder NAME_meshes beside it) or .h5, whole or not at all.

    Args:
        overwrite: whether files that exist are replaced.

    Returns:
        Lines that tell what the format could not hold, with counts; empty when reading it back gives the same scene.

    Raises:
        InputError: another suffix, a file that exists without `overwrite`, a place that cannot be written, a
            scene that the format cannot hold at all.
    """
    path = Path(path)
    suffix = path.suffix.lower()
    if suffix not in (".json", ".h5", ".hdf5"):
        raise InputError(path, f"{suffix or 'a name without suffix'} is not a scene format", "write .json or .h5")
    if path.exists() and not overwrite:
        raise InputError(path, "exists", "allow overwriting or give another name")
    return _save_json(scene, path, overwrite) if suffix == ".json" else write_scene_h5(scene, path)


def _save_json(scene: Scene, path: Path, overwrite: bool) -> list[str]:
    lost: Counter[str] = Counter()
    named = [number for number, camera in enumerate(scene.cameras) if camera.name not in ("", f"camera_{number}")]
    lost["names of cameras"] += len(named)
    pieces = list(_pieces(scene, path, lost))
    folder = path.with_name(f"{path.stem}_meshes")
    _check_folder(folder, overwrite)
    objects: dict[str, Any] = {}
    with _new_folder(folder) as temporary:
        for number, (name, mesh, material) in enumerate(pieces):
            slug = re.sub(r"[^A-Za-z0-9_.-]+", "_", name)[:60]
            file = f"{number:03d}_{slug}.obj"
            smooth = _write_obj(temporary / file, mesh, lost)
            objects[name] = _entry(f"{folder.name}/{file}", material, smooth)
        document = {
            "scene_name": scene.name,
            "version": VERSION,
            "objects": objects,
            "cameras": [_camera(camera) for camera in scene.cameras],
        }
        with _swapped(temporary, folder), atomic_path(path) as target:
            target.write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")
    return [f"{count} {what}" for what, count in lost.items() if count]


def _pieces(scene: Scene, path: Path, lost: Counter[str]) -> Iterator[tuple[str, Mesh, Material]]:
    """(name, mesh, material), each of one material; a mesh of several falls into pieces, in order of appearance."""
    taken = {mesh.name for mesh in scene.objects}
    total = 0
    for mesh in scene.objects:
        if mesh.patch_index is not None:
            lost["textured triangles flattened to their mean material"] += int((mesh.patch_index >= 0).sum())
        # Colours that become the same 8 bits can share an object.
        held = mesh.materials.astype(np.float64)
        held[:, DIFFUSE] = np.round(held[:, DIFFUSE] * 255) / 255
        moved = np.abs(held[:, DIFFUSE] - mesh.materials[:, DIFFUSE]).max(axis=1) > _COLOUR_TOLERANCE
        lost["triangles with diffuse colours rounded to 8 bits"] += int(moved.sum())
        rows, first, which = np.unique(held, axis=0, return_index=True, return_inverse=True)
        order = np.argsort(first)
        total += len(rows)
        if total > _MAX_PIECES:
            raise InputError(path, f"the scene has more than {_MAX_PIECES} materials, one file each", "save it as .h5")
        if len(rows) > 1:
            lost["pieces made of objects with several materials"] += len(rows)
        for number, row in enumerate(order):
            name = mesh.name
            while number and name in taken:
                name, number = f"{mesh.name}_{number}", number + 1
            taken.add(name)
            try:
                material = Material.from_row(rows[row])
            except InputError as error:
                raise InputError(path, f"object {mesh.name!r}: {error}") from None
            chosen = which.reshape(-1) == row
            keep = chosen & has_area(mesh.triangles)
            lost["zero-area triangles left out"] += int(chosen.sum() - keep.sum())
            if keep.any():
                yield name, Mesh(name, mesh.triangles[keep], mesh.normals[keep]), material


def _write_obj(file: Path, mesh: Mesh, lost: Counter[str]) -> bool:
    """Write the geometry; whether smooth shading comes closer to the mesh's normals than flat shading."""
    points = np.asarray(np.round(np.asarray(mesh.triangles, np.float64), 8) + 0.0, np.float64)
    keys = np.concatenate([points, np.round(mesh.normals.astype(np.float64), 4) + 0.0], axis=-1).reshape(-1, 6)
    _, first, corners = np.unique(keys, axis=0, return_index=True, return_inverse=True)
    vertices, faces = points.reshape(-1, 3)[first], corners.reshape(-1, 3)
    lines = ["v {:.8f} {:.8f} {:.8f}".format(*vertex) for vertex in vertices]
    lines += ["f {} {} {}".format(*face) for face in faces + 1]
    file.write_text("\n".join(lines) + "\n", encoding="ascii")
    off_flat = _off(mesh.normals, shade_flat(vertices, faces)[1])
    off_smooth = off_flat
    if off_flat.any():
        _, normals, _, order = shade_smooth(vertices, faces)
        off_smooth = _off(mesh.normals[order], normals)
    smooth = bool(off_smooth.sum() < off_flat.sum())
    lost["triangles get other normals when read"] += int(min(off_smooth.sum(), off_flat.sum()))
    return smooth


def _off(wanted: AnyArray, given: AnyArray) -> BoolArray:
    """(F,) whether a normal of the triangle differs."""
    return np.asarray((np.abs(wanted - given) > _NORMAL_TOLERANCE).any((1, 2)))


def _entry(mesh_path: str, material: Material, smooth: bool) -> dict[str, Any]:
    steps = np.round(np.asarray(material.diffuse) * 255)
    # The reader cuts off; a quarter step above the colour survives that and any rounding.
    diffuse = np.minimum((steps + 0.25) / 255, 1.0)
    return {
        "mesh_path": mesh_path,
        "material": {
            "diffuse": [round(float(value), 6) for value in diffuse],
            "specular": [_short(value) for value in material.specular],
            "roughness": _short(material.roughness),
            "emissive": [_short(value) for value in material.emission],
            "smooth_shading": smooth,
            "rand_tri_diffuse_seed": None,
        },
        "transform": {
            "translation": [0.0, 0.0, 0.0],
            "rotation": [0.0, 0.0, 0.0],
            "scale": [1.0, 1.0, 1.0],
            "normalize": False,
        },
    }


def _short(value: float) -> float:
    """The shortest decimal that is the same float32."""
    return float(str(np.float32(value)))


def _camera(camera: Camera) -> dict[str, Any]:
    position, forward = camera.position.astype(np.float64), camera.forward.astype(np.float64)
    # The point of view nearest to the origin, so that the numbers are small; at least one unit ahead.
    target = position + forward * max(1.0, float(-position @ forward))
    up = camera.c2w[:3, 1].astype(np.float64)
    return {"position": position.tolist(), "look_at": target.tolist(), "up": up.tolist(), "fov": camera.fov}


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


@contextmanager
def _new_folder(folder: Path) -> Iterator[Path]:
    """A temporary folder beside `folder`, deleted at the end if it is still there."""
    temporary = folder.with_name(f".{folder.name}.{secrets.token_hex(4)}.tmp")
    try:
        temporary.mkdir()
        yield temporary
    except OSError as error:
        raise InputError(folder, f"cannot write, {error.strerror or error}") from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


@contextmanager
def _swapped(temporary: Path, folder: Path) -> Iterator[None]:
    """Put the temporary folder in the place of `folder`; back again if the block fails."""
    old = folder.with_name(f"{temporary.name}.old")
    existed = folder.exists()
    if existed:
        os.replace(folder, old)
    os.replace(temporary, folder)
    try:
        yield
    except BaseException:
        os.replace(folder, temporary)
        if existed:
            os.replace(old, folder)
        raise
    shutil.rmtree(old, ignore_errors=True)
