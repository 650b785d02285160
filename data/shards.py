"""Data set shards: procedural scenes with their path-traced pictures, many to a file.

A folder holds `manifest.json` (the recipe) and `shard_00000.npz` and so on, uncompressed npz without pickle:

    triangles (T, 3, 3) f32 · normals (T, 3, 3) f16 · materials (T, 13) f16 · offsets (S + 1,) i64
    sizes (O,) i32 · size_offsets (S + 1,) i64 · stages (S,) i8
    c2w (S, V, 4, 4) f32 · fov (S, V) f32 · hdr (S, V, H, W, 3) f16 · seeds (S,) i64

S scenes, V views, T triangles and O objects of all scenes. Scene i owns triangles offsets[i] to offsets[i + 1], which
are its objects one after the other, with the numbers of triangles sizes[size_offsets[i]] to sizes[size_offsets[i + 1]];
stages[i] is an index into `STAGES`. Half floats cost at
most 2^-11 of a value, far less than the noise of the pictures; light sources (up to 6000) fit. 64 x 64 pictures take
24 KiB each. A shard is made from its index and the recipe alone, so several processes or machines can share a folder,
and a run that was stopped goes on where it was.
"""

from __future__ import annotations

import hashlib
import json
import math
import multiprocessing
import os
import threading
import time
import zipfile
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict, dataclass
from multiprocessing.connection import wait
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from renderformer.data.camera import Camera
from renderformer.data.errors import InputError
from renderformer.data.files import atomic_path
from renderformer.data.scene import Mesh, Scene
from renderformer.data.stages import STAGE_KINDS, stage_kind

FORMAT = 2
# What a scene stands on; "other" for scenes that were not made here.
STAGES = ("none", *STAGE_KINDS, "other")
# Held-out scenes have seeds from here on; training never reaches them.
HELD_OUT_SEED = 1_000_000_000
# Radiance above this would be infinite in float16.
HALF_MAX = 65000.0
# A picture is left out at a pixel where it exceeds the mean of the others by this much (see `robust_mean`).
FIREFLY_FACTOR, FIREFLY_OFFSET = 2.0, 0.1
KEYS = (
    "triangles", "normals", "materials", "offsets", "sizes", "size_offsets", "stages", "c2w", "fov", "hdr", "seeds",
)  # fmt: skip


@dataclass(frozen=True)
class Recipe:
    """What determines the content of every shard.

    Attributes:
        seed: of the first scene; scene k of the folder has seed + k.
        views: cameras per scene.
        resolution: pixels on a side of the square pictures.
        spp: samples per pixel, in `batches` pictures of equal share that are combined robustly (`robust_mean`).
        batches: 1 gives the plain average.
        depth: longest light path in segments (see `ReferenceScene`).
        scenes_per_shard: scenes in one file.
        max_triangles: of a scene, stage and lights included.
    """

    seed: int = 0
    views: int = 4
    resolution: int = 64
    spp: int = 64
    batches: int = 4
    depth: int = 5
    scenes_per_shard: int = 32
    max_triangles: int = 3000

    def __post_init__(self) -> None:
        for key, value in asdict(self).items():
            if value < (0 if key == "seed" else 1):
                raise InputError(f"data set: {key} is {value}, expected at least {0 if key == 'seed' else 1}")
        if self.spp % self.batches:
            raise InputError(f"data set: spp {self.spp} does not split into {self.batches} batches")
        share = self.spp // self.batches
        if math.isqrt(share) ** 2 != share:
            # Mitsuba's multijitter sampler would round it up, and the manifest would tell less than was spent.
            raise InputError(
                f"data set: {self.spp} spp in {self.batches} batches are {share} each, expected a square number"
            )

    @property
    def digest(self) -> str:
        """Short hash of the recipe."""
        return hashlib.sha256(json.dumps(asdict(self), sort_keys=True).encode()).hexdigest()[:16]


def robust_mean(batches: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """The average over independent pictures, leaving out per pixel the brightest one where it is a firefly.

    Caustics of small bright lights put a few samples of enormous weight into single pixels. Measured on 12 scenes at
    64 x 64 and 4 x 16 samples against 1280: 37.7 dB instead of 37.2 for the plain average, up to 2.5 dB on single
    scenes, worse on none by more than 0.1; it loses 0.5 % of the light.

    Args:
        batches: (K, H, W, 3) linear radiance; with K < 3 this is the plain average.

    Returns:
        (H, W, 3) float32.
    """
    count = len(batches)
    if count < 3:
        return batches.mean(axis=0, dtype=np.float64).astype(np.float32)
    level = batches.max(axis=-1)
    top = level.max(axis=0)
    others = (level.sum(axis=0) - top) / (count - 1)
    weight = np.where((level == top) & (level > FIREFLY_FACTOR * others + FIREFLY_OFFSET), 0.0, 1.0)[..., None]
    return np.asarray((batches * weight).sum(axis=0) / weight.sum(axis=0), np.float32)


def make_shard(recipe: Recipe, index: int) -> dict[str, npt.NDArray[Any]]:
    """The arrays of one shard (see the top of the file), made from its index alone in this process.

    Raises:
        ImportError: the extra `reference` is not installed.
    """
    from renderformer.data.procedural import procedural_scene
    from renderformer.data.reference import ReferenceScene

    first = recipe.seed + index * recipe.scenes_per_shard
    seeds = np.arange(first, first + recipe.scenes_per_shard, dtype=np.int64)
    parts: dict[str, list[Any]] = {
        key: [] for key in ("triangles", "normals", "materials", "sizes", "c2w", "fov", "hdr")
    }
    stages = []
    size, share = recipe.resolution, recipe.spp // recipe.batches
    for seed in seeds.tolist():
        scene = procedural_scene(seed, recipe.views, recipe.max_triangles)
        reference = ReferenceScene(scene, recipe.depth)
        pictures = [
            robust_mean(
                np.stack([reference.render(camera, size, size, share, seed=batch) for batch in range(recipe.batches)])
            )
            for camera in scene.cameras
        ]
        parts["triangles"].append(scene.triangles)
        parts["normals"].append(scene.normals.astype(np.float16))
        parts["materials"].append(scene.materials.astype(np.float16))
        parts["sizes"].append(np.array([len(mesh) for mesh in scene.objects], np.int32))
        stages.append(STAGES.index(stage_kind([mesh.name for mesh in scene.objects])))
        parts["c2w"].append(np.stack([camera.c2w for camera in scene.cameras]))
        parts["fov"].append(np.array([camera.fov for camera in scene.cameras], np.float32))
        parts["hdr"].append(np.minimum(np.stack(pictures), HALF_MAX).astype(np.float16))
    joined = {key: np.concatenate(parts[key]) for key in ("triangles", "normals", "materials", "sizes")}
    stacked = {key: np.stack(parts[key]) for key in ("c2w", "fov", "hdr")}
    return {
        **joined,
        **stacked,
        "offsets": np.cumsum([0, *map(len, parts["triangles"])], dtype=np.int64),
        "size_offsets": np.cumsum([0, *map(len, parts["sizes"])], dtype=np.int64),
        "stages": np.array(stages, np.int8),
        "seeds": seeds,
    }


def shard_path(folder: str | os.PathLike[str], index: int) -> Path:
    """Where shard `index` of a folder lies."""
    return Path(folder) / f"shard_{index:05d}.npz"


def _write_shard(folder: str, recipe: Recipe, index: int) -> tuple[int, float]:
    """Make and write one shard unless it is there; returns its index and the cpu-seconds it took."""
    path, start = shard_path(folder, index), time.process_time()
    if not path.exists():
        arrays = make_shard(recipe, index)
        with atomic_path(path) as temporary:
            np.savez(temporary, allow_pickle=False, **arrays)
    return index, time.process_time() - start


def generate(
    folder: str | os.PathLike[str],
    scenes: int,
    recipe: Recipe | None = None,
    workers: int = 1,
    shards: range | None = None,
    progress: Callable[[str, int, int], None] | None = None,
) -> list[int]:
    """Write the shards that hold `scenes` scenes; those that exist are kept, so a stopped run goes on.

    Args:
        folder: made if it does not exist; must hold the same recipe if it holds one.
        scenes: rounded up to whole shards.
        recipe: None takes the folder's own, or the default in a new folder.
        workers: processes, each single-threaded.
        shards: only these indices, for sharing the work between runs or machines; default all.
        progress: called with ("shards", done, total), those that were there already counted as done.

    Returns:
        Indices of the shards that this call made.

    Raises:
        InputError: counts that are not positive, another recipe in the folder, a folder that cannot be written.
        ImportError: the extra `reference` is not installed.
    """
    if scenes < 1 or workers < 1:
        raise InputError(f"data set: {scenes} scenes by {workers} workers, expected at least 1 of each")
    recipe = _settle_recipe(Path(folder), recipe)
    count = -(-scenes // recipe.scenes_per_shard)
    wanted = [index for index in (shards if shards is not None else range(count)) if 0 <= index < count]
    missing = [index for index in wanted if not shard_path(folder, index).exists()]
    made: list[int] = []
    if progress:
        progress("shards", len(wanted) - len(missing), len(wanted))
    for index, _ in _run(str(folder), recipe, missing, workers):
        made.append(index)
        if progress:
            progress("shards", len(wanted) - len(missing) + len(made), len(wanted))
    return sorted(made)


def _run(folder: str, recipe: Recipe, indices: list[int], workers: int) -> Iterator[tuple[int, float]]:
    if workers == 1 or len(indices) < 2:
        for index in indices:
            yield _write_shard(folder, recipe, index)
        return
    # Spawned, not forked: Mitsuba's thread pool does not survive a fork.
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(min(workers, len(indices)), context, initializer=_end_with_parent) as pool:
        try:
            for future in as_completed([pool.submit(_write_shard, folder, recipe, index) for index in indices]):
                yield future.result()
        finally:
            pool.shutdown(cancel_futures=True)


def _end_with_parent() -> None:
    """Ends this worker when its parent is killed, instead of leaving it to wait for work for ever."""
    parent = multiprocessing.parent_process()
    assert parent is not None

    def watch() -> None:
        wait([parent.sentinel])
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def _settle_recipe(folder: Path, recipe: Recipe | None) -> Recipe:
    """The recipe to use; written to the manifest of a new folder, compared with that of an old one."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"{folder}: cannot make this folder, {error.strerror or error}") from None
    manifest = folder / "manifest.json"
    if manifest.exists():
        old = read_recipe(folder)
        if recipe is not None and recipe != old:
            changed = [key for key, value in asdict(recipe).items() if asdict(old)[key] != value]
            raise InputError(
                f"{manifest}: the folder holds another recipe, {changed[0]} is {asdict(old)[changed[0]]} there and "
                f"{asdict(recipe)[changed[0]]} here; use the same values or another folder"
            )
        return old
    recipe = recipe or Recipe()
    content = {"format": FORMAT, "recipe": asdict(recipe), "digest": recipe.digest, "versions": _versions()}
    with atomic_path(manifest) as temporary:
        temporary.write_text(json.dumps(content, indent=1) + "\n")
    return recipe


def _versions() -> dict[str, str]:
    """Versions of everything that a scene or picture depends on."""
    from importlib.metadata import PackageNotFoundError, version

    found = {}
    for name in ("renderformer", "numpy", "mitsuba", "manifold3d", "scikit-image", "fast-simplification"):
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "not installed"
    return found


def read_recipe(folder: str | os.PathLike[str]) -> Recipe:
    """The recipe in a folder's manifest.

    Raises:
        InputError: no manifest, or one that is damaged or of another format.
    """
    path = Path(folder) / "manifest.json"
    try:
        content = json.loads(path.read_text())
    except FileNotFoundError:
        raise InputError(f"{path}: no such file; make a data set with `renderformer data generate {folder}`") from None
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: cannot be read ({error}); delete the folder and make the data set again") from None
    if not isinstance(content, dict) or content.get("format") != FORMAT or not isinstance(content.get("recipe"), dict):
        raise InputError(f"{path}: not the manifest of a data set of format {FORMAT}; make the data set again")
    known = set(asdict(Recipe()))
    odd = sorted(set(content["recipe"]) ^ known)
    if odd:
        raise InputError(f"{path}: recipe key {odd[0]!r} is missing or unknown; make the data set again")
    return Recipe(**content["recipe"])


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
        seed: of `procedural_scene`.
    """

    triangles: npt.NDArray[np.float32]
    normals: npt.NDArray[np.float16]
    materials: npt.NDArray[np.float16]
    sizes: npt.NDArray[np.int32]
    stage: str
    c2w: npt.NDArray[np.float32]
    fov: npt.NDArray[np.float32]
    hdr: npt.NDArray[np.float16]
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


class ShardReader:
    """The scenes of a data set folder, in the order of their seeds; shards stay in memory once read.

    Args:
        folder: with a manifest; may still be growing, see `refresh`.

    Raises:
        InputError: no or a damaged manifest.
    """

    def __init__(self, folder: str | os.PathLike[str]) -> None:
        self.folder = Path(folder)
        self.recipe = read_recipe(folder)
        self._shards: list[Path] = []
        self._loaded: dict[Path, dict[str, npt.NDArray[Any]]] = {}
        self.refresh()

    def refresh(self) -> int:
        """Look for new shards; returns the number of scenes. Indices of scenes may shift where a gap was filled."""
        self._shards = sorted(self.folder.glob("shard_*.npz"))
        return len(self)

    def __len__(self) -> int:
        return len(self._shards) * self.recipe.scenes_per_shard

    def scene(self, index: int) -> SceneArrays:
        """Scene `index`, 0 … len - 1.

        Raises:
            InputError: its shard is truncated or does not fit the manifest.
            IndexError: no such scene.
        """
        if not 0 <= index < len(self):
            raise IndexError(f"{self.folder}: scene {index} of {len(self)}")
        shard, i = divmod(index, self.recipe.scenes_per_shard)
        path = self._shards[shard]
        if path not in self._loaded:
            self._loaded[path] = read_shard(path, self.recipe)
        a = self._loaded[path]
        rows = slice(int(a["offsets"][i]), int(a["offsets"][i + 1]))
        sizes = a["sizes"][int(a["size_offsets"][i]) : int(a["size_offsets"][i + 1])]
        return SceneArrays(
            a["triangles"][rows],
            a["normals"][rows],
            a["materials"][rows],
            sizes,
            STAGES[int(a["stages"][i])],
            a["c2w"][i],
            a["fov"][i],
            a["hdr"][i],
            int(a["seeds"][i]),
        )


def read_shard(path: str | os.PathLike[str], recipe: Recipe) -> dict[str, npt.NDArray[Any]]:
    """The arrays of a shard, checked against the recipe.

    Raises:
        InputError: the file is missing, truncated, or has other shapes than the recipe says.
    """
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = {key: file[key] for key in KEYS}
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        raise InputError(f"{path}: not a readable shard ({error}); delete it and run `data generate` again") from None
    scenes, views, size = recipe.scenes_per_shard, recipe.views, recipe.resolution
    count = len(arrays["triangles"])
    expected: dict[str, tuple[int, ...]] = {
        "triangles": (count, 3, 3),
        "normals": (count, 3, 3),
        "materials": (count, 13),
        "offsets": (scenes + 1,),
        "sizes": (len(arrays["sizes"]),),
        "size_offsets": (scenes + 1,),
        "stages": (scenes,),
        "c2w": (scenes, views, 4, 4),
        "fov": (scenes, views),
        "hdr": (scenes, views, size, size, 3),
        "seeds": (scenes,),
    }
    for key, shape in expected.items():
        if arrays[key].shape != shape:
            raise InputError(f"{path}: {key} has shape {arrays[key].shape}, the manifest says {shape}; delete the file")
    whole = int(arrays["offsets"][-1]) == count == int(arrays["sizes"].sum())
    if not whole or int(arrays["size_offsets"][-1]) != len(arrays["sizes"]) or not np.isfinite(arrays["hdr"]).all():
        raise InputError(f"{path}: offsets or pictures are damaged; delete the file and run `data generate` again")
    return arrays
