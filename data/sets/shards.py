"""Data set shards: files of many scenes with their path-traced pictures.

A data set folder holds `manifest.json` (see `manifest`) and `shard_00000.safetensors` and so on, with the arrays

    triangles (T, 3, 3) f32 · normals (T, 3, 3) f16 · materials (T, 13) f16 · two_sided (T,) bool · offsets (S + 1,) i64
    sizes (O,) i32 · size_offsets (S + 1,) i64 · stages (S,) i8 · details (D,) u8 · detail_offsets (S + 1,) i64
    c2w (S, V, 4, 4) f32 · fov (S, V) f32 · hdr (S, V, H, W, 3) f16 · seeds (S,) i64

S scenes, V views, T triangles, O objects and D bytes of details of all scenes. Scene i has the triangles offsets[i] to
offsets[i + 1], one object after the other; sizes[size_offsets[i]] to sizes[size_offsets[i + 1]] are the triangle counts
of its objects, and stages[i] is an index into `STAGES`. Its details (see the module of this name) are textures, vertex
colours, environment and names. Half floats have a relative error of at most 2^-11, far less than the noise of the
pictures, and hold the emission of lights (up to 65,000); `as_stored` is a scene that they hold exactly. `generation`
and `rendered_scenes` make shards.
"""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from renderformer.data.arrays import AnyArray, BoolArray, Float16Array, Float32Array, Int32Array, UInt8Array
from renderformer.data.camera import Camera
from renderformer.data.errors import InputError
from renderformer.data.files import atomic_path
from renderformer.data.geometry.stages import STAGE_KINDS
from renderformer.data.progress import Progress, silent
from renderformer.data.scene import Mesh, Scene
from renderformer.data.sets.details import packed, unpacked
from renderformer.data.sets.manifest import Manifest, Recipe, read_manifest, record_hashes

# Kinds of stage; "other" for imported scenes. New ones come last, because shards hold numbers.
STAGES = ("none", *STAGE_KINDS, "other", "room", "studio", "ground")
# Largest stored radiance, just below the largest float16.
HALF_MAX = 65000.0
# Types of the arrays, as safetensors names them.
TYPES = {
    "triangles": "F32", "normals": "F16", "materials": "F16", "offsets": "I64", "sizes": "I32", "size_offsets": "I64",
    "stages": "I8", "c2w": "F32", "fov": "F32", "hdr": "F16", "seeds": "I64", "two_sided": "BOOL", "details": "U8",
    "detail_offsets": "I64",
}  # fmt: skip
_TYPE_NAMES = {np.dtype(np.float32): "F32", np.dtype(np.float16): "F16", np.dtype(np.int64): "I64",
               np.dtype(np.int32): "I32", np.dtype(np.int8): "I8", np.dtype(np.uint8): "U8",
               np.dtype(np.bool_): "BOOL"}  # fmt: skip
# Arrays with one number per scene, or one more.
_SMALL = ("offsets", "size_offsets", "detail_offsets", "stages", "seeds")
# Temporary files older than this, in seconds, are left over from killed runs.
STALE = 3600.0
Arrays = dict[str, AnyArray]


def shard_path(folder: str | os.PathLike[str], index: int) -> Path:
    """Path of shard `index` of a folder."""
    return Path(folder) / f"shard_{index:05d}.safetensors"


def shard_paths(folder: str | os.PathLike[str]) -> list[Path]:
    """The finished shards of a folder, in the order of their scenes."""
    return sorted(Path(folder).glob("shard_*.safetensors"))


def seed_range(folder: str | os.PathLike[str]) -> range:
    """The seeds of a folder's scenes, including those of missing shards before the last one.

    Raises:
        InputError: no or a damaged manifest.
    """
    recipe, paths = read_manifest(folder).recipe, shard_paths(folder)
    end = _index_of(paths[-1]) + 1 if paths else 0
    return range(recipe.seed, recipe.seed + end * recipe.scenes_per_shard)


def _index_of(path: Path) -> int:
    return int(path.stem.removeprefix("shard_"))


def write_shard(path: Path, arrays: Arrays) -> str:
    """Write a shard, completely or not at all.

    Returns:
        The SHA-256 of the file; the same arrays give the same bytes.
    """
    content = save(arrays)
    with atomic_path(path) as temporary:
        temporary.write_bytes(content)
    return hashlib.sha256(content).hexdigest()


def as_stored(scene: Scene) -> Scene:
    """The scene that comes back from a shard: with normals and material rows that half floats hold, and angles of view
    that float32 holds."""
    objects = [
        replace(mesh, **{key: getattr(mesh, key).astype(np.float16) for key in ("normals", "materials")})
        for mesh in scene.objects
    ]
    cameras = [replace(camera, fov=float(np.float32(camera.fov))) for camera in scene.cameras]
    return scene.replace(objects=tuple(objects), cameras=tuple(cameras))


def pack_scenes(scenes: list[tuple[Scene, int, int]], pictures: list[Float32Array]) -> Arrays:
    """The arrays of a shard.

    Args:
        scenes: each with its seed and the index of its stage in `STAGES`; all with the same number of cameras, V.
        pictures: (V, H, W, 3) linear radiance for each.

    Raises:
        InputError: a scene has texture patches.
    """
    joint = ("triangles", "normals", "materials", "sizes", "two_sided", "details")
    parts: dict[str, list[Any]] = {key: [] for key in (*joint, "c2w", "fov")}
    for scene, _, _ in scenes:
        parts["two_sided"].append(scene.two_sided)
        parts["details"].append(np.frombuffer(packed(scene), np.uint8))
        parts["triangles"].append(scene.triangles)
        parts["normals"].append(scene.normals.astype(np.float16))
        parts["materials"].append(scene.materials.astype(np.float16))
        parts["sizes"].append(np.array([len(mesh) for mesh in scene.objects], np.int32))
        parts["c2w"].append(np.stack([camera.c2w for camera in scene.cameras]))
        parts["fov"].append(np.array([camera.fov for camera in scene.cameras], np.float32))
    joined = {key: np.concatenate(parts[key]) for key in joint}
    stacked = {key: np.stack(parts[key]) for key in ("c2w", "fov")}
    return {
        **joined,
        **stacked,
        "hdr": np.stack([np.minimum(views, HALF_MAX).astype(np.float16) for views in pictures]),
        "offsets": np.cumsum([0, *map(len, parts["triangles"])], dtype=np.int64),
        "size_offsets": np.cumsum([0, *map(len, parts["sizes"])], dtype=np.int64),
        "detail_offsets": np.cumsum([0, *map(len, parts["details"])], dtype=np.int64),
        "stages": np.array([stage for _, _, stage in scenes], np.int8),
        "seeds": np.array([seed for _, seed, _ in scenes], np.int64),
    }


def file_hash(path: str | os.PathLike[str]) -> str:
    """SHA-256 of a file, as `sha256sum` prints it."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def check_shard(
    path: Path, manifest: Manifest, read: Callable[[Path, Recipe], Arrays] | None = None
) -> tuple[str, Arrays]:
    """The SHA-256 and the arrays of a shard; `read` replaces `read_shard` for another file format.

    Raises:
        InputError: the shard is damaged, does not fit the recipe, or has another hash than in the manifest.
    """
    try:
        digest = file_hash(path)
    except OSError as error:
        raise unreadable(path, error) from None
    if manifest.shards.get(path.name, digest) != digest:
        raise InputError(path, "has another hash than in the manifest", "delete it and make it again")
    return digest, (read or read_shard)(path, manifest.recipe)


def check_complete(folder: Path, manifest: Manifest, paths: Sequence[Path]) -> None:
    """Raise InputError if a shard that is recorded in the manifest is not among `paths`."""
    missing = sorted(set(manifest.shards) - {path.name for path in paths})
    if missing:
        raise InputError(folder / missing[0], "recorded in the manifest, but missing", "make it again")


def remove_leftovers(folder: Path) -> None:
    """Delete the temporary files of killed runs."""
    for leftover in folder.glob(".shard_*.tmp.safetensors"):
        if time.time() - leftover.stat().st_mtime > STALE:
            leftover.unlink(missing_ok=True)


def verify(folder: str | os.PathLike[str], progress: Progress = silent) -> dict[str, int]:
    """Read every shard of a folder, compare it with its hash in the manifest, and record missing hashes.

    Returns:
        Counts: `shards`, `scenes`, hashes `recorded` by this call, and `missing` shards before the last one.

    Raises:
        InputError: a shard that is damaged, does not fit the recipe, or has another hash than in the manifest.
    """
    manifest, paths = read_manifest(folder), shard_paths(folder)
    new, scenes = {}, 0
    for done, path in enumerate(paths, 1):
        digest, arrays = check_shard(path, manifest)
        scenes += len(arrays["seeds"])
        if path.name not in manifest.shards:
            new[path.name] = digest
        progress("shards", done, len(paths))
    check_complete(Path(folder), manifest, paths)
    record_hashes(folder, new)
    end = _index_of(paths[-1]) + 1 if paths else 0
    return {"shards": len(paths), "scenes": scenes, "recorded": len(new), "missing": end - len(paths)}


@dataclass(frozen=True)
class SceneArrays:
    """One scene of a shard: N triangles, V views.

    Attributes:
        triangles: (N, 3, 3) float32 world space.
        normals: (N, 3, 3) float16.
        materials: (N, 13) float16 rows, see `Material.row`.
        two_sided: (N,) whether a light shines from both sides.
        sizes: (O,) int32 number of triangles of each object.
        details: bytes, see `renderformer.data.sets.details`.
        stage: one of `STAGES`.
        c2w: (V, 4, 4) float32.
        fov: (V,) float32 degrees.
        hdr: (V, H, W, 3) float16 linear radiance.
        seed: of `procedural_scene`, or `IMPORTED_SEED` plus the number of an imported scene.
    """

    triangles: Float32Array
    normals: Float16Array
    materials: Float16Array
    two_sided: BoolArray
    sizes: Int32Array
    details: UInt8Array
    stage: str
    c2w: Float32Array
    fov: Float32Array
    hdr: Float16Array
    seed: int

    def to_scene(self) -> Scene:
        """The scene with its objects and cameras.

        Raises:
            InputError: the details are damaged.
        """
        details = unpacked(self.details.tobytes())
        names = details.objects or tuple(f"object_{i}" for i in range(len(self.sizes)))
        views = details.cameras or tuple(f"view_{i}" for i in range(len(self.fov)))
        if len(names) != len(self.sizes) or len(views) != len(self.fov):
            raise InputError("", "the details of a scene are those of another", "make the file again")
        ends = np.cumsum(self.sizes)
        objects = [
            Mesh(
                name,
                self.triangles[start:end],
                self.normals[start:end].astype(np.float32),
                self.materials[start:end].astype(np.float32),
                appearance=details.appearances.get(i),
                two_sided=self.two_sided[start:end],
            )
            for i, (name, start, end) in enumerate(zip(names, ends - self.sizes, ends, strict=True))
        ]
        cameras = [Camera(c2w, float(fov), name) for c2w, fov, name in zip(self.c2w, self.fov, views, strict=True)]
        name = details.name or f"seed_{self.seed}"
        return Scene(tuple(objects), tuple(cameras), name, environment=details.environment)


def scene_of(arrays: Mapping[str, Any], index: int) -> SceneArrays:
    """One scene of a shard's arrays, which may be safetensors slices that read the file when indexed."""
    rows = slice(*map(int, arrays["offsets"][index : index + 2]))
    objects = slice(*map(int, arrays["size_offsets"][index : index + 2]))
    details = slice(*map(int, arrays["detail_offsets"][index : index + 2]))
    # safetensors documents slices only, no bare index.
    scene = slice(index, index + 1)
    return SceneArrays(
        **{key: arrays[key][rows] for key in ("triangles", "normals", "materials", "two_sided")},
        sizes=arrays["sizes"][objects],
        # An empty slice of an empty array is an error in safetensors.
        details=arrays["details"][details] if details.stop > details.start else np.empty(0, np.uint8),
        stage=STAGES[int(arrays["stages"][index])],
        **{key: arrays[key][scene][0] for key in ("c2w", "fov", "hdr")},
        seed=int(arrays["seeds"][index]),
    )


class ShardReader:
    """The scenes of a data set folder, in the order of their seeds.

    Reads only the requested scene from its file and caches nothing, so a folder may be larger than the memory. Checks
    shapes, offsets and that the pictures are finite, but not the hash; see `verify`. `paths` are the shards.

    Args:
        folder: with a manifest; may still be growing, see `refresh`.

    Raises:
        InputError: no or a damaged manifest.
    """

    def __init__(self, folder: str | os.PathLike[str]) -> None:
        self.folder = Path(folder)
        self.recipe = read_manifest(folder).recipe
        self.paths: list[Path] = []
        self._count = 0
        self.refresh()

    def refresh(self) -> int:
        """Look for new shards; returns the number of scenes. A new shard before others shifts the later scenes."""
        self.paths = shard_paths(self.folder)
        self._count = len(self.paths) * self.recipe.scenes_per_shard
        if self.recipe.imported and self.paths:
            # The last shard of an imported set may have fewer scenes.
            with _opened(self.paths[-1], self.recipe) as stored:
                self._count += len(stored["seeds"]) - self.recipe.scenes_per_shard
        return self._count

    def __len__(self) -> int:
        return self._count

    def scene(self, index: int) -> SceneArrays:
        """Scene `index`, 0 … len - 1.

        Raises:
            InputError: its shard is truncated or does not fit the manifest.
            IndexError: no such scene.
        """
        if not 0 <= index < len(self):
            raise IndexError(f"{self.folder}: scene {index} of {len(self)}")
        shard, i = divmod(index, self.recipe.scenes_per_shard)
        with _opened(self.paths[shard], self.recipe) as stored:
            scene = scene_of(stored, i)
        if not np.isfinite(scene.hdr).all() or scene.sizes.sum() != len(scene.triangles):
            raise _damaged(self.paths[shard])
        return scene


@contextmanager
def _opened(path: Path, recipe: Recipe) -> Iterator[dict[str, Any]]:
    """The arrays of an open shard: `_SMALL` in memory, the others as slices that read the file when indexed."""
    try:
        with safe_open(path, "np") as file:
            stored: dict[str, Any] = {key: file.get_slice(key) for key in TYPES}
            shapes = {key: tuple(part.get_shape()) for key, part in stored.items()}
            _check_layout(path, shapes, {key: part.get_dtype() for key, part in stored.items()}, recipe)
            stored |= {key: file.get_tensor(key) for key in _SMALL}
            _check_offsets(path, stored, {key: shapes[key][0] for key in ("triangles", "sizes", "details")})
            yield stored
    except (OSError, SafetensorError) as error:
        raise unreadable(path, error) from None


def read_shard(path: str | os.PathLike[str], recipe: Recipe) -> Arrays:
    """All arrays of a shard, checked against the recipe.

    Raises:
        InputError: the file is missing or truncated, or has other shapes than those of the recipe.
    """
    path = Path(path)
    try:
        with safe_open(path, "np") as file:
            arrays = {key: file.get_tensor(key) for key in TYPES}
    except (OSError, SafetensorError) as error:
        raise unreadable(path, error) from None
    check_arrays(path, arrays, recipe)
    return arrays


def check_arrays(path: Path, arrays: Arrays, recipe: Recipe) -> None:
    """Raise InputError if the arrays of the shard at `path` do not fit the recipe or each other."""
    types = {key: _TYPE_NAMES.get(array.dtype, str(array.dtype)) for key, array in arrays.items()}
    _check_layout(path, {key: array.shape for key, array in arrays.items()}, types, recipe)
    _check_offsets(path, arrays, {key: len(arrays[key]) for key in ("triangles", "sizes", "details")})
    per_scene = np.add.reduceat(arrays["sizes"], arrays["size_offsets"][:-1])
    if not np.isfinite(arrays["hdr"]).all() or not np.array_equal(per_scene, np.diff(arrays["offsets"])):
        raise _damaged(path)


def _check_layout(path: Path, shapes: dict[str, tuple[int, ...]], types: dict[str, str], recipe: Recipe) -> None:
    scenes, views, size = recipe.scenes_per_shard, recipe.views, recipe.resolution
    if recipe.imported and shapes["seeds"] and 0 < shapes["seeds"][0] < scenes:
        scenes = shapes["seeds"][0]
    count, objects, details = (shapes[key][0] if shapes[key] else 0 for key in ("triangles", "sizes", "details"))
    expected: dict[str, tuple[int, ...]] = {
        "triangles": (count, 3, 3),
        "normals": (count, 3, 3),
        "materials": (count, 13),
        "two_sided": (count,),
        "offsets": (scenes + 1,),
        "details": (details,),
        "detail_offsets": (scenes + 1,),
        "sizes": (objects,),
        "size_offsets": (scenes + 1,),
        "stages": (scenes,),
        "c2w": (scenes, views, 4, 4),
        "fov": (scenes, views),
        "hdr": (scenes, views, size, size, 3),
        "seeds": (scenes,),
    }
    for key, shape in expected.items():
        if shapes[key] != shape:
            raise InputError(path, f"{key} has shape {shapes[key]}, the manifest says {shape}", "delete the file")
        if types[key] != TYPES[key]:
            raise InputError(path, f"{key} holds {types[key]}, expected {TYPES[key]}", "delete the file")


def _check_offsets(path: Path, arrays: Arrays, lengths: dict[str, int]) -> None:
    counted = (("offsets", "triangles", 1), ("size_offsets", "sizes", 1), ("detail_offsets", "details", 0))
    for key, name, least in counted:
        offsets = arrays[key]
        if offsets[0] != 0 or offsets[-1] != lengths[name] or (np.diff(offsets) < least).any():
            raise _damaged(path)
    if not ((arrays["stages"] >= 0) & (arrays["stages"] < len(STAGES))).all():
        raise _damaged(path)


def unreadable(path: Path, error: Exception) -> InputError:
    return InputError(path, f"not a readable shard ({error})", "delete it and make it again")


def _damaged(path: Path) -> InputError:
    return InputError(path, "offsets or pictures are damaged", "delete the file and make it again")
