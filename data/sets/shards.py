"""Data set shards: scenes with their path-traced pictures, many to a file.

A folder holds `manifest.json` (recipe, versions, hashes) and `shard_00000.npz` and so on, uncompressed npz without
pickle:

    triangles (T, 3, 3) f32 · normals (T, 3, 3) f16 · materials (T, 13) f16 · offsets (S + 1,) i64
    sizes (O,) i32 · size_offsets (S + 1,) i64 · stages (S,) i8
    c2w (S, V, 4, 4) f32 · fov (S, V) f32 · hdr (S, V, H, W, 3) f16 · seeds (S,) i64

S scenes, V views, T triangles and O objects of all scenes. Scene i owns triangles offsets[i] to offsets[i + 1], which
are its objects one after the other, with the numbers of triangles sizes[size_offsets[i]] to sizes[size_offsets[i + 1]];
stages[i] is an index into `STAGES`. Half floats cost at most 2^-11 of a value, far less than the noise of the pictures;
light sources (up to 6000) fit. A 64 x 64 picture takes 24 KiB. Shards are made by `generation` and `importing`.
"""

from __future__ import annotations

import hashlib
import json
import math
import multiprocessing
import os
import struct
import threading
import zipfile
from dataclasses import asdict, dataclass
from multiprocessing.connection import wait
from pathlib import Path
from typing import IO, Any

import numpy as np

from renderformer.data.arrays import AnyArray, Float16Array, Float32Array, Int32Array
from renderformer.data.camera import Camera
from renderformer.data.errors import InputError
from renderformer.data.files import atomic_path
from renderformer.data.geometry.stages import STAGE_KINDS
from renderformer.data.scene import Mesh, Scene

FORMAT = 2
# What a scene stands on; "other" for scenes that were not made here.
STAGES = ("none", *STAGE_KINDS, "other")
# Training scenes have seeds below the first of these, held-out ones from there on; imported ones, which have no seed,
# are numbered from the second. `Recipe.check_range` holds every folder to its own range.
HELD_OUT_SEED, IMPORTED_SEED = 1_000_000_000, 2_000_000_000
# Radiance above this would be infinite in float16.
HALF_MAX = 65000.0
_DTYPES = {
    "triangles": "<f4", "normals": "<f2", "materials": "<f2", "offsets": "<i8", "sizes": "<i4", "size_offsets": "<i8",
    "stages": "|i1", "c2w": "<f4", "fov": "<f4", "hdr": "<f2", "seeds": "<i8",
}  # fmt: skip
KEYS = tuple(_DTYPES)
Arrays = dict[str, AnyArray]


@dataclass(frozen=True)
class Recipe:
    """What determines the content of every shard, apart from user meshes, whose hashes the manifest holds.

    Attributes:
        seed: of the first scene; scene k of the folder has seed + k.
        views: cameras per scene.
        resolution: pixels on a side of the square pictures.
        spp: samples per pixel, in `batches` pictures of equal share that are combined robustly
            (`generation.robust_mean`).
        batches: 1 gives the plain average.
        depth: longest light path in segments (see `ReferenceScene`).
        scenes_per_shard: scenes in one file; the last file of an imported set may have fewer.
        max_triangles: of a scene, stage and lights included.
        imported: the scenes were made elsewhere (`renderformer data import`); then spp, batches, depth and
            max_triangles are 0, not known.
    """

    seed: int = 0
    views: int = 4
    resolution: int = 64
    spp: int = 64
    batches: int = 4
    depth: int = 5
    scenes_per_shard: int = 32
    max_triangles: int = 3000
    imported: bool = False

    def __post_init__(self) -> None:
        unknown = ("spp", "batches", "depth", "max_triangles") if self.imported else ()
        for key, value in asdict(self).items():
            least = 0 if key in ("seed", "imported", *unknown) else 1
            if value < least:
                raise InputError("data set", f"{key} is {value}", f"expected at least {least}")
            if key in unknown and value:
                raise InputError("data set", f"{key} is {value}", "expected 0 (not known) for an imported set")
        if self.imported:
            return
        if self.spp % self.batches:
            raise InputError("data set", f"spp {self.spp} does not split into {self.batches} batches")
        share = self.spp // self.batches
        if math.isqrt(share) ** 2 != share:
            # Mitsuba's multijitter sampler would round it up, and the manifest would tell less than was spent.
            raise InputError(
                "data set", f"{self.spp} spp in {self.batches} batches are {share} each", "expected a square number"
            )

    @property
    def digest(self) -> str:
        """Short hash of the recipe."""
        # Without the key that sets from before do not have: caches are found by this.
        known = {key: value for key, value in asdict(self).items() if key != "imported" or value}
        return hashlib.sha256(json.dumps(known, sort_keys=True).encode()).hexdigest()[:16]

    @property
    def held_out(self) -> bool:
        """Whether the scenes have seeds that training must not use."""
        return HELD_OUT_SEED <= self.seed < IMPORTED_SEED

    def check_range(self, scenes: int) -> None:
        """Raise InputError where that many scenes would run into the seeds of another kind of set."""
        end = self.seed + scenes
        limit = next((limit for limit in (HELD_OUT_SEED, IMPORTED_SEED) if self.seed < limit), None)
        if self.imported == (limit is not None) or (limit is not None and end > limit):
            raise InputError(
                "data set",
                f"seeds {self.seed} to {end - 1} are not of one kind; training has 0 to {HELD_OUT_SEED - 1}, "
                f"held-out scenes the {IMPORTED_SEED - HELD_OUT_SEED} after those",
                "lower --seed or --scenes",
            )


def shard_path(folder: str | os.PathLike[str], index: int) -> Path:
    """Where shard `index` of a folder lies."""
    return Path(folder) / f"shard_{index:05d}.npz"


def shard_paths(folder: str | os.PathLike[str]) -> list[Path]:
    """The finished shards of a folder, in the order of their scenes."""
    return sorted(Path(folder).glob("shard_*.npz"))


def write_shard(path: Path, arrays: Arrays) -> str:
    """Write a shard, whole or not at all.

    Returns:
        The SHA-256 of the file; the same arrays give the same bytes.
    """
    with atomic_path(path) as temporary:
        np.savez(temporary, allow_pickle=False, **arrays)
        return file_hash(temporary)


def pack_scenes(scenes: list[tuple[Scene, int, int]], pictures: list[Float32Array]) -> Arrays:
    """The arrays of a shard.

    Args:
        scenes: each with its seed and the index of its stage in `STAGES`; all with the same number of cameras, V.
        pictures: (V, H, W, 3) linear radiance for each.
    """
    parts: dict[str, list[Any]] = {key: [] for key in ("triangles", "normals", "materials", "sizes", "c2w", "fov")}
    for scene, _, _ in scenes:
        parts["triangles"].append(scene.triangles)
        parts["normals"].append(scene.normals.astype(np.float16))
        parts["materials"].append(scene.materials.astype(np.float16))
        parts["sizes"].append(np.array([len(mesh) for mesh in scene.objects], np.int32))
        parts["c2w"].append(np.stack([camera.c2w for camera in scene.cameras]))
        parts["fov"].append(np.array([camera.fov for camera in scene.cameras], np.float32))
    joined = {key: np.concatenate(parts[key]) for key in ("triangles", "normals", "materials", "sizes")}
    stacked = {key: np.stack(parts[key]) for key in ("c2w", "fov")}
    return {
        **joined,
        **stacked,
        "hdr": np.stack([np.minimum(views, HALF_MAX).astype(np.float16) for views in pictures]),
        "offsets": np.cumsum([0, *map(len, parts["triangles"])], dtype=np.int64),
        "size_offsets": np.cumsum([0, *map(len, parts["sizes"])], dtype=np.int64),
        "stages": np.array([stage for _, _, stage in scenes], np.int8),
        "seeds": np.array([seed for _, seed, _ in scenes], np.int64),
    }


def file_hash(path: str | os.PathLike[str]) -> str:
    """SHA-256 of a file, as `sha256sum` prints it."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def read_manifest(folder: str | os.PathLike[str]) -> dict[str, Any]:
    """The checked content of a folder's manifest: format, recipe, digest, versions; `meshes` (name: SHA-256) where user
    meshes were used, `shards` (name: SHA-256) as far as recorded.

    Raises:
        InputError: no manifest, or one that is damaged or of another format.
    """
    path = Path(folder) / "manifest.json"
    try:
        content = json.loads(path.read_text())
    except FileNotFoundError:
        raise InputError(
            path, "no such file", f"make a data set with `renderformer data generate --out {folder}`"
        ) from None
    except (OSError, ValueError) as error:
        raise InputError(path, f"cannot be read ({error})", "delete the folder and make the data set again") from None
    if not isinstance(content, dict) or content.get("format") != FORMAT or not isinstance(content.get("recipe"), dict):
        raise InputError(path, f"not the manifest of a data set of format {FORMAT}", "make the data set again")
    # Sets that were made before there were imported ones do not have the key.
    content["recipe"].setdefault("imported", False)
    odd = sorted(set(content["recipe"]) ^ set(asdict(Recipe())))
    if odd:
        raise InputError(path, f"recipe key {odd[0]!r} is missing or unknown", "make the data set again")
    for key, kind in asdict(Recipe()).items():
        if type(content["recipe"][key]) is not type(kind):
            raise InputError(path, f"recipe key {key!r} is {content['recipe'][key]!r}", "make the data set again")
    for key in ("versions", "meshes", "shards"):
        known = content.setdefault(key, {})
        if not isinstance(known, dict) or not all(isinstance(value, str) for value in known.values()):
            raise InputError(path, f"{key!r} is damaged", "make the data set again")
    return content


def read_recipe(folder: str | os.PathLike[str]) -> Recipe:
    """The recipe in a folder's manifest.

    Raises:
        InputError: no manifest, or one that is damaged or of another format.
    """
    return Recipe(**read_manifest(folder)["recipe"])


def write_manifest(
    folder: str | os.PathLike[str], recipe: Recipe, versions: dict[str, str], meshes: dict[str, str] | None = None
) -> None:
    """The manifest of a new folder, which is made where it does not exist."""
    _make_folder(Path(folder))
    content: dict[str, Any] = {
        "format": FORMAT, "recipe": asdict(recipe), "digest": recipe.digest, "versions": versions,
    }  # fmt: skip
    _write_json(Path(folder) / "manifest.json", content | ({"meshes": meshes} if meshes else {}))


def record_hashes(folder: str | os.PathLike[str], hashes: dict[str, str]) -> None:
    """Add shards (file name: SHA-256) to the manifest.

    Machines that do this at the same time may lose each other's entries; `verify` adds what is missing.
    """
    content = read_manifest(folder)
    if hashes.items() <= content["shards"].items():
        return
    content["shards"] = dict(sorted((content["shards"] | hashes).items()))
    _write_json(Path(folder) / "manifest.json", {key: value for key, value in content.items() if value})


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(folder, f"cannot make this folder, {error.strerror or error}") from None


def _write_json(path: Path, content: dict[str, Any]) -> None:
    with atomic_path(path) as temporary:
        temporary.write_text(json.dumps(content, indent=1) + "\n")


def verify(folder: str | os.PathLike[str]) -> dict[str, int]:
    """Read every shard of a folder, compare it with its hash in the manifest, and record those that have none.

    Returns:
        Counts: `shards`, `scenes`, how many hashes were `recorded` now, and `missing` shards below the last.

    Raises:
        InputError: a shard that is damaged, does not fit the manifest, or is not the one that was recorded.
    """
    known, recipe, paths = read_manifest(folder)["shards"], read_recipe(folder), shard_paths(folder)
    new, scenes = {}, 0
    for path in paths:
        arrays = read_shard(path, recipe)
        scenes += len(arrays["seeds"])
        digest = file_hash(path)
        if known.get(path.name, digest) != digest:
            raise InputError(path, "is not the file that the manifest has recorded", "delete it and make it again")
        if path.name not in known:
            new[path.name] = digest
    names = {path.name for path in paths}
    lost = sorted(set(known) - names)
    if lost:
        raise InputError(Path(folder) / lost[0], "recorded in the manifest but not there", "make it again")
    record_hashes(folder, new)
    end = int(paths[-1].stem.removeprefix("shard_")) + 1 if paths else 0
    return {"shards": len(paths), "scenes": scenes, "recorded": len(new), "missing": end - len(paths)}


@dataclass(frozen=True)
class SceneArrays:
    """One scene of a shard: N triangles, V views.

    Attributes:
        triangles: (N, 3, 3) float32 world space.
        normals: (N, 3, 3) float16.
        materials: (N, 13) float16 rows, see `Material.row`.
        sizes: (O,) int32 triangles of each object, in their order.
        stage: one of `STAGES`.
        c2w: (V, 4, 4) float32.
        fov: (V,) float32 degrees.
        hdr: (V, H, W, 3) float16 linear radiance.
        seed: of `procedural_scene`; from `IMPORTED_SEED` on the number of an imported scene.
    """

    triangles: Float32Array
    normals: Float16Array
    materials: Float16Array
    sizes: Int32Array
    stage: str
    c2w: Float32Array
    fov: Float32Array
    hdr: Float16Array
    seed: int

    def to_scene(self) -> Scene:
        """The scene with its objects and cameras, as a renderer takes it."""
        normals, materials = self.normals.astype(np.float32), self.materials.astype(np.float32)
        ends = np.cumsum(self.sizes)
        objects = tuple(
            Mesh(f"object_{i}", self.triangles[start:end], normals[start:end], materials[start:end])
            for i, (start, end) in enumerate(zip(ends - self.sizes, ends, strict=True))
        )
        cameras = tuple(
            Camera(c2w, float(fov), name=f"view_{i}")
            for i, (c2w, fov) in enumerate(zip(self.c2w, self.fov, strict=True))
        )
        return Scene(objects, cameras, f"seed_{self.seed}")


def scene_of(arrays: Arrays, index: int) -> SceneArrays:
    """One scene of a shard's arrays."""
    a = arrays
    rows = slice(int(a["offsets"][index]), int(a["offsets"][index + 1]))
    sizes = a["sizes"][int(a["size_offsets"][index]) : int(a["size_offsets"][index + 1])]
    return SceneArrays(
        a["triangles"][rows],
        a["normals"][rows],
        a["materials"][rows],
        sizes,
        STAGES[int(a["stages"][index])],
        a["c2w"][index],
        a["fov"][index],
        a["hdr"][index],
        int(a["seeds"][index]),
    )


@dataclass(frozen=True)
class _Stored:
    """An array in a shard: where its numbers start in the file, and what they are."""

    start: int
    dtype: np.dtype[Any]
    shape: tuple[int, ...]

    def rows(self, file: IO[bytes], first: int, end: int) -> AnyArray:
        """Rows first to end."""
        count = (end - first) * math.prod(self.shape[1:])
        file.seek(self.start + first * math.prod(self.shape[1:]) * self.dtype.itemsize)
        values = np.fromfile(file, self.dtype, count)
        if len(values) < count:
            raise ValueError("it ends too early")
        return values.reshape(end - first, *self.shape[1:])


class ShardReader:
    """The scenes of a data set folder, in the order of their seeds.

    Keeps only where things lie, and reads a scene's part of a file when asked for it: a folder may be far larger than
    the memory, and any number of processes may read it. Checks shapes, offsets and that the pictures are finite;
    `verify` finds a changed bit. `paths` are the shards.

    Args:
        folder: with a manifest; may still be growing, see `refresh`.

    Raises:
        InputError: no or a damaged manifest.
    """

    def __init__(self, folder: str | os.PathLike[str]) -> None:
        self.folder = Path(folder)
        self.recipe = read_recipe(folder)
        self.paths: list[Path] = []
        self._known: dict[Path, tuple[dict[str, _Stored], Arrays]] = {}
        self._count = 0
        self.refresh()

    def refresh(self) -> int:
        """Look for new shards; returns the number of scenes. Indices of scenes may shift where a gap was filled."""
        self.paths = shard_paths(self.folder)
        self._count = len(self.paths) * self.recipe.scenes_per_shard
        if self.recipe.imported and self.paths:
            # Only the last shard of an imported set may be short.
            last = len(self._index(self.paths[-1])[1]["seeds"])
            self._count += last - self.recipe.scenes_per_shard
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
        path = self.paths[shard]
        stored, small = self._index(path)
        start, end = (int(v) for v in small["offsets"][i : i + 2])
        first, last = (int(v) for v in small["size_offsets"][i : i + 2])
        try:
            with open(path, "rb") as file:
                triangles, normals, materials = (
                    stored[key].rows(file, start, end) for key in ("triangles", "normals", "materials")
                )
                sizes = stored["sizes"].rows(file, first, last)
                c2w, fov, hdr = (stored[key].rows(file, i, i + 1)[0] for key in ("c2w", "fov", "hdr"))
        except (OSError, ValueError) as error:
            raise _unreadable(path, error) from None
        if not np.isfinite(hdr).all() or sizes.sum() != end - start:
            raise _damaged(path)
        return SceneArrays(
            triangles, normals, materials, sizes, STAGES[int(small["stages"][i])], c2w, fov, hdr, int(small["seeds"][i])
        )

    def _index(self, path: Path) -> tuple[dict[str, _Stored], Arrays]:
        """Where the arrays of a shard lie, and those with a number or two per scene."""
        if path not in self._known:
            try:
                stored = _layout(path)
                _check_layout(path, {key: (a.shape, a.dtype) for key, a in stored.items()}, self.recipe)
                with open(path, "rb") as file:
                    small = {
                        key: stored[key].rows(file, 0, stored[key].shape[0])
                        for key in ("offsets", "size_offsets", "stages", "seeds")
                    }
            except InputError:
                raise
            except (OSError, ValueError, KeyError, EOFError, struct.error, zipfile.BadZipFile) as error:
                raise _unreadable(path, error) from None
            _check_offsets(path, small, stored["triangles"].shape[0], stored["sizes"].shape[0])
            self._known[path] = stored, small
        return self._known[path]


def _layout(path: Path) -> dict[str, _Stored]:
    """Where the arrays of an uncompressed npz lie in the file."""
    found = {}
    with zipfile.ZipFile(path) as archive, open(path, "rb") as file:
        for key in KEYS:
            info = archive.getinfo(f"{key}.npy")
            if info.compress_type != zipfile.ZIP_STORED:
                raise ValueError(f"{key} is compressed")
            # The local header ends with the name and an extra field, whose lengths stand at bytes 26 to 30.
            file.seek(info.header_offset)
            name, extra = struct.unpack("<26xHH", file.read(30))
            file.seek(info.header_offset + 30 + name + extra)
            version = np.lib.format.read_magic(file)
            if version != (1, 0):
                raise ValueError(f"{key} has npy version {version}")
            shape, by_column, dtype = np.lib.format.read_array_header_1_0(file)
            if by_column:
                raise ValueError(f"{key} is stored by columns")
            found[key] = _Stored(file.tell(), dtype, shape)
    return found


def read_shard(path: str | os.PathLike[str], recipe: Recipe) -> Arrays:
    """All arrays of a shard, checked against the recipe and the file's own checksums.

    Raises:
        InputError: the file is missing, truncated, or has other shapes than the recipe says.
    """
    path = Path(path)
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = {key: file[key] for key in KEYS}
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        raise _unreadable(path, error) from None
    _check_layout(path, {key: (a.shape, a.dtype) for key, a in arrays.items()}, recipe)
    _check_offsets(path, arrays, len(arrays["triangles"]), len(arrays["sizes"]))
    per_scene = np.add.reduceat(arrays["sizes"], arrays["size_offsets"][:-1])
    if not np.isfinite(arrays["hdr"]).all() or not np.array_equal(per_scene, np.diff(arrays["offsets"])):
        raise _damaged(path)
    return arrays


def _check_layout(path: Path, found: dict[str, tuple[tuple[int, ...], np.dtype[Any]]], recipe: Recipe) -> None:
    shape = {key: value[0] for key, value in found.items()}
    scenes, views, size = recipe.scenes_per_shard, recipe.views, recipe.resolution
    if recipe.imported and shape["seeds"] and 0 < shape["seeds"][0] < scenes:
        scenes = shape["seeds"][0]
    count, objects = (shape[key][0] if shape[key] else 0 for key in ("triangles", "sizes"))
    expected: dict[str, tuple[int, ...]] = {
        "triangles": (count, 3, 3),
        "normals": (count, 3, 3),
        "materials": (count, 13),
        "offsets": (scenes + 1,),
        "sizes": (objects,),
        "size_offsets": (scenes + 1,),
        "stages": (scenes,),
        "c2w": (scenes, views, 4, 4),
        "fov": (scenes, views),
        "hdr": (scenes, views, size, size, 3),
        "seeds": (scenes,),
    }
    for key, wanted in expected.items():
        if shape[key] != wanted:
            raise InputError(path, f"{key} has shape {shape[key]}, the manifest says {wanted}", "delete the file")
        if found[key][1] != np.dtype(_DTYPES[key]):
            raise InputError(path, f"{key} holds {found[key][1]}, expected {_DTYPES[key]}", "delete the file")


def _check_offsets(path: Path, arrays: Arrays, triangles: int, objects: int) -> None:
    for key, total in (("offsets", triangles), ("size_offsets", objects)):
        offsets = arrays[key]
        if offsets[0] != 0 or offsets[-1] != total or (np.diff(offsets) < 1).any():
            raise _damaged(path)
    if not ((arrays["stages"] >= 0) & (arrays["stages"] < len(STAGES))).all():
        raise _damaged(path)


def end_with_parent() -> None:
    """Ends this worker process when its parent is killed, instead of leaving it to wait for work for ever."""
    parent = multiprocessing.parent_process()
    assert parent is not None

    def watch() -> None:
        wait([parent.sentinel])
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def _unreadable(path: Path, error: Exception) -> InputError:
    return InputError(path, f"not a readable shard ({error})", "delete it and make it again")


def _damaged(path: Path) -> InputError:
    return InputError(path, "offsets or pictures are damaged", "delete the file and make it again")
