"""Scene H5 (spec scenes.md): the input arrays of the original program's model.

triangles (N, 3, 3) · vn (N, 3, 3) · texture (N, 13, 32, 32) · c2w (V, 4, 4) · fov (V,) degrees. A texture patch that is
constant on its triangle (i + j <= 32) and zero outside becomes a material row; others stay patches. The format has no
names: runs of triangles with equal materials become objects, in the order of the file.

Legend: N triangles, V cameras, K patches.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from renderformer.data.arrays import BoolArray, Float16Array, Float32Array, Int32Array
from renderformer.data.camera import Camera
from renderformer.data.errors import InputError
from renderformer.data.files import atomic_path, check_readable, open_input
from renderformer.data.formats.table import with_format_hint
from renderformer.data.geometry.light_sides import hidden_sides, other_sides, with_sides
from renderformer.data.geometry.patches import triangle_mask
from renderformer.data.material import Material
from renderformer.data.scene import CHANNELS, EMISSION, PATCH_SIZE, Mesh, Scene

# Patches read at once: 512 are 14 MB; up to four times as many if the chunks of the file are longer.
_SLAB = 512
# The patches of more triangles would need over 25 GB in the file.
MAX_TRIANGLES = 1_000_000
_MAX_CHUNK_BYTES = 2**30
# h5py reads about 30,000 chunks a second and needs 6 KiB for each; smaller chunks are refused if there are many.
_MAX_CHUNKS = 16384
_MIN_CHUNK_BYTES = 2048
# A file with more runs of equal materials has colours per triangle, so the runs are not objects.
_MAX_OBJECTS = 256
_SHAPES: dict[str, tuple[int, ...]] = {
    "triangles": (3, 3),
    "vn": (3, 3),
    "texture": (CHANNELS, PATCH_SIZE, PATCH_SIZE),
    "c2w": (4, 4),
    "fov": (),
}
_HALF_MAX = 65504.0
_AGAIN = "convert the scene again"


def read(path: Path) -> Scene:
    """Read a scene H5 file.

    Returns:
        Objects named object_0, light_1 … in the order of the file; cameras named camera_0 …; notes about unknown
        datasets, textures outside the triangle, rounded textures, and missing cameras or lights.

    Raises:
        InputError: not HDF5, truncated, a dataset that is missing or has the wrong shape or type, NaN.
    """
    check_readable(path)
    try:
        with h5py.File(path, "r") as file:
            return _read(path, file)
    except InputError as error:
        raise error.within(path) from None
    except MemoryError:
        raise InputError(path, "needs more memory than there is", "use fewer triangles") from None
    # h5py raises OSError, KeyError, RuntimeError or ValueError, depending on the damage.
    except Exception as error:
        problem = f"cannot be read as scene H5 ({' '.join(str(error).split())[:160]})"
        with open_input(path) as stream:
            head = stream.read(65536)
        raise with_format_hint(InputError("", problem, _AGAIN), path, head) from error


def _read(path: Path, file: Any) -> Scene:
    sets = {key: _dataset(file, key) for key in _SHAPES}
    count, views = len(sets["triangles"]), len(sets["c2w"])
    for key, total in (("vn", count), ("texture", count), ("fov", views)):
        if len(sets[key]) != total:
            reference = "c2w" if key == "fov" else "triangles"
            raise InputError("", f"{key} has {len(sets[key])} entries, {reference} has {total}", _AGAIN)
    if not 1 <= count <= MAX_TRIANGLES:
        raise InputError("", f"triangles has {count} entries", f"expected 1 … {MAX_TRIANGLES}")
    notes = [f"unknown dataset {key!r} ignored" for key in sorted(set(file) - set(_SHAPES))]
    triangles, normals = sets["triangles"][...].astype(np.float32), sets["vn"][...].astype(np.float32)
    materials, patches, index = _materials(sets["texture"], count, notes)
    objects = with_sides(list(_objects(triangles, normals, materials, patches, index)))
    cameras = []
    for number, (c2w, fov) in enumerate(zip(sets["c2w"][...], sets["fov"][...].reshape(-1), strict=True)):
        try:
            cameras.append(Camera(c2w, float(fov), f"camera_{number}"))
        except InputError as error:
            raise error.at(f"cameras[{number}]") from None
    if not cameras:
        notes.append("has no cameras; give one to render it")
    return Scene(tuple(objects), tuple(cameras), path.stem, tuple(f"{path.name}: {note}" for note in notes))


def _dataset(file: Any, key: str) -> Any:
    """The checked dataset `key`; data in other files is an error."""
    if key not in file:
        raise InputError("", f"the dataset {key!r} is missing (the file has {sorted(file)[:8]})", _AGAIN)
    if isinstance(file.get(key, getlink=True), h5py.ExternalLink):
        raise InputError("", f"{key} lies in another file, which is not read", _AGAIN)
    dataset = file[key]
    if not isinstance(dataset, h5py.Dataset):
        raise InputError("", f"{key} is a group, expected a dataset", _AGAIN)
    if dataset.external or dataset.is_virtual:
        raise InputError("", f"{key} lies in another file, which is not read", _AGAIN)
    entry_shape = _SHAPES[key]
    # Some writers store fov with a last axis of 1, like the model's input.
    shape = dataset.shape[:1] if key == "fov" and dataset.shape[1:] == (1,) else dataset.shape
    if shape is None or len(shape) != len(entry_shape) + 1 or shape[1:] != entry_shape:
        expected = ", ".join(["N" if key in ("triangles", "vn", "texture") else "V", *map(str, entry_shape)])
        raise InputError("", f"{key} has shape {dataset.shape}, expected ({expected})", _AGAIN)
    if dataset.dtype.kind != "f":
        raise InputError("", f"{key} holds {dataset.dtype}, expected floating point numbers", _AGAIN)
    if dataset.chunks and np.prod(dataset.chunks, dtype=float) * dataset.dtype.itemsize > _MAX_CHUNK_BYTES:
        raise InputError("", f"{key} is stored in chunks of more than 1 GiB", _AGAIN)
    # Each chunk costs memory and time beside its data.
    count = math.prod(-(-size // chunk) for size, chunk in zip(dataset.shape, dataset.chunks or (), strict=False))
    if dataset.chunks and count > _MAX_CHUNKS + dataset.size * dataset.dtype.itemsize // _MIN_CHUNK_BYTES:
        problem = f"{key} is stored in {count} chunks of {'x'.join(map(str, dataset.chunks))}"
        raise InputError("", problem, f"convert the scene again with chunks of at least {_MIN_CHUNK_BYTES // 1024} KiB")
    if dataset.dtype.itemsize > 8 or len(dataset) > MAX_TRIANGLES:
        problem = f"{key} has {len(dataset)} entries of {dataset.dtype}, more than can be read"
        raise InputError("", problem, "use fewer triangles")
    return dataset


def _materials(texture: Any, count: int, notes: list[str]) -> tuple[Float32Array, Float16Array | None, Int32Array]:
    """(N, 13) rows, (K, 13, 32, 32) patches of varying triangles or None, (N,) index into them or -1."""
    mask = triangle_mask()
    rows = np.empty((count, CHANNELS), np.float32)
    index = np.full(count, -1, np.int32)
    slabs: list[Float16Array] = []
    total = outside = rounded = 0
    # Whole chunks of the file, so that each is unpacked only once.
    step = min(max(_SLAB, texture.chunks[0] if texture.chunks else 0), 4 * _SLAB)
    for start in range(0, count, step):
        raw = texture[start : start + step]
        if not np.isfinite(raw).all() or np.abs(raw).max() > _HALF_MAX:
            raise InputError("", "texture holds NaN, infinite or too large values", _AGAIN)
        slab = raw.astype(np.float16)
        rounded += 0 if raw.dtype == np.float16 else int((slab.astype(raw.dtype) != raw).any((1, 2, 3)).sum())
        inside = slab[:, :, mask]
        spills: BoolArray = np.any(slab[:, :, ~mask] != 0, axis=(1, 2))
        varies: BoolArray = np.any(inside != inside[:, :, :1], axis=(1, 2)) | spills
        outside += int(spills.sum())
        rows[start : start + len(slab)] = slab[:, :, 0, 0]
        rows[start : start + len(slab)][varies] = inside[varies].mean(axis=2, dtype=np.float32)
        index[start : start + len(slab)][varies] = total + np.arange(int(varies.sum()))
        total += int(varies.sum())
        if varies.any():
            slabs.append(slab[varies])
    if outside:
        notes.append(f"{outside} texture patches are not zero outside their triangle (i + j > 32), left unchanged")
    if rounded:
        notes.append(f"{rounded} texture patches rounded to half precision")
    return rows, np.concatenate(slabs) if slabs else None, index


def _objects(
    triangles: Float32Array,
    normals: Float32Array,
    materials: Float32Array,
    patches: Float16Array | None,
    index: Int32Array,
) -> Iterator[Mesh]:
    """One mesh per run of equal materials; if there are too many, per run of emitting or other triangles."""
    textured = index >= 0
    emits: BoolArray = np.any(materials[:, EMISSION] > 0, axis=1)
    same: BoolArray = textured[1:] | (materials[1:] == materials[:-1]).all(axis=1)
    same &= (textured[1:] == textured[:-1]) & (emits[1:] == emits[:-1])
    starts = np.flatnonzero(~same) + 1
    if len(starts) >= _MAX_OBJECTS:
        starts = np.flatnonzero(emits[1:] != emits[:-1]) + 1
    if len(starts) >= _MAX_OBJECTS:
        starts = starts[:0]
    for number, run in enumerate(np.split(np.arange(len(triangles)), starts)):
        name = f"{'light' if emits[run].all() else 'object'}_{number}"
        patched = index[run][index[run] >= 0]
        if patches is None or not len(patched):
            yield Mesh(name, triangles[run], normals[run], materials[run])
            continue
        first, end = patched[0], patched[-1] + 1
        renumbered = np.where(index[run] >= 0, index[run] - first, -1).astype(np.int32)
        yield Mesh(name, triangles[run], normals[run], materials[run], patches[first:end], renumbered)


def write(scene: Scene, path: Path, overwrite: bool = True) -> list[str]:
    """Write a scene H5 file, whole or not at all, over an existing file; the same scene gives the same bytes.

    Returns:
        Lines about what the format cannot hold.

    Raises:
        InputError: the file cannot be written, or a material exceeds half precision.
    """
    rows = scene.materials
    largest = float(np.abs(rows).max())
    if largest > _HALF_MAX:
        raise InputError(path, f"a material holds {largest:g}, H5 textures end at {_HALF_MAX:g}", "lower the emission")
    count = len(scene)
    with atomic_path(path) as temporary, h5py.File(temporary, "w") as file:
        file.create_dataset("triangles", data=scene.triangles, compression="gzip")
        file.create_dataset("vn", data=scene.normals, compression="gzip")
        slab = min(count, _SLAB)
        texture = file.create_dataset(
            "texture",
            (count, *_SHAPES["texture"]),
            np.float16,
            # Small tiles of many triangles are constant, so they compress best.
            chunks=(slab, 1, 8, 8),
            compression="gzip",
        )
        for start in range(0, count, slab):
            texture[start : start + slab] = _patches(scene, slice(start, start + slab))
        c2w = np.array([camera.c2w for camera in scene.cameras], np.float32).reshape(-1, 4, 4)
        fov = np.array([camera.fov for camera in scene.cameras], np.float32)
        for key, value in (("c2w", c2w), ("fov", fov)):
            file.create_dataset(key, data=value, **({"compression": "gzip"} if len(value) else {}))
    losses = ["H5 has no names: the names of the scene, the objects and the cameras are lost"]
    rounded = int((rows.astype(np.float16) != rows).any(axis=1).sum())
    if rounded:
        losses.append(f"{rounded} triangles with materials rounded to half precision")
    return [*losses, *_baked(scene), *other_sides(scene.objects), *hidden_sides(scene.objects)]


def _baked(scene: Scene) -> list[str]:
    """Lines about appearances and the environment, which the format cannot hold as they are."""
    looks = [mesh.appearance for mesh in scene.objects if mesh.appearance is not None]
    kinds = [(look, np.array([*look.materials, None], object)) for look in looks]

    def count(matches: Callable[[Material], bool]) -> int:
        """Triangles whose material matches."""
        flags = (np.array([m is not None and matches(m) for m in materials])[look.index] for look, materials in kinds)
        return sum(int(chosen.sum()) for chosen in flags)

    counts = {
        "triangles with textures or vertex colours baked into patches of 32 x 32 texels": count(lambda material: True),
        "triangles without their normal maps": count(lambda material: material.textures.normal is not None),
        "triangles that let rays pass are opaque": sum(int(look.see_through.sum()) for look in looks),
    }
    lines = [f"{number} {text}" for text, number in counts.items() if number]
    return lines if scene.environment is None else [*lines, "the environment is not saved"]


def _patches(scene: Scene, rows: slice) -> Float16Array:
    """(M, 13, 32, 32) texture of some triangles."""
    values = scene.materials[rows].astype(np.float16)
    slab = values[:, :, None, None] * triangle_mask()
    if scene.patches is not None:
        patches, index = scene.patches
        slab[index[rows] >= 0] = patches[index[rows][index[rows] >= 0]]
    return slab.astype(np.float16)
