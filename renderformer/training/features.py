"""The inputs of a model for a data set, made once per shard, stored beside it and read by memory mapping.

The sets need not fit in memory. The files are in `<folder>/features-<version>-<light tokens>/`, or in
`pictures-<version>/` for a model without feature images:

    shard_00000.images.npy  (S, V, h, w, 39 + 3) f16: feature image (`RayCaster.features`), HDR picture; without
                            feature images (S, V, h, w, 3)
    shard_00000.tokens.npy  (T, 46) f32: three corners, three normals, material row, cached light (`LightTokens`)
    shard_00000.npz         the index: offsets (S + 1,) of the scenes' tokens, c2w (S, V, 4, 4), fov (S, V), recipe

The index is written last, so it exists only beside whole files.

Scenes that are lit are in the units of rays (`UnitSize`). Shapes: S scenes of V views in a shard, T tokens of all its
scenes.
"""

from __future__ import annotations

import zipfile
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from renderformer.data.arrays import AnyArray, Float16Array, Float32Array
from renderformer.data.errors import InputError
from renderformer.data.files import atomic_path, make_folder
from renderformer.data.progress import Progress, silent
from renderformer.data.rays.channels import RGB
from renderformer.data.rays.raycast import RayCaster
from renderformer.data.rays.tokens import LightTokens
from renderformer.data.scene import Scene
from renderformer.data.sets.manifest import Recipe
from renderformer.data.sets.shards import HALF_MAX, read_shard, scene_of, shard_paths
from renderformer.data.sets.workers import run_jobs
from renderformer.data.unit_size import UnitSize

# Raise it when the meaning of the features changes, so that no old files are used.
FEATURE_VERSION = 15
# Columns of the tokens.
CORNERS, NORMALS, MATERIAL, LIGHT = slice(0, 9), slice(9, 18), slice(18, 31), slice(31, 46)


@dataclass(frozen=True)
class Inputs:
    """The inputs of a model for one scene: tokens (N, 46), images (V, size, size, 39) half floats, c2w (V, 4, 4)."""

    tokens: Float32Array
    images: Float16Array
    c2w: Float32Array


def cast_scene(scene: Scene, light_tokens: int, size: int, rays: bool) -> Inputs:
    """The inputs for a scene.

    Args:
        light_tokens: see `ShadingConfig`; 0 for tokens that are the triangles, without light.
        rays: whether to light the scene and cast rays; else the images have no channels.
    """
    images = np.zeros((len(scene.cameras), size, size, 0), np.float16)
    if rays:
        lit = UnitSize.of(scene).scene(scene)
        caster = RayCaster.lit(lit)
        views = [caster.features(camera, size, size, threads=1) for camera in lit.cameras]
        images = np.minimum(np.stack(views), HALF_MAX).astype(np.float16)
        if light_tokens:
            tokens = LightTokens.of(caster.solved, light_tokens)
            columns = _columns(tokens.triangles, tokens.vertex_normals, tokens.materials, tokens.light)
            return Inputs(columns, images, _c2w(lit))
    columns = _columns(scene.triangles, scene.normals, scene.materials, np.zeros((len(scene), 5, 3), np.float32))
    return Inputs(columns, images, _c2w(scene))


def _c2w(scene: Scene) -> Float32Array:
    return np.stack([camera.c2w for camera in scene.cameras])


def _columns(*parts: Float32Array) -> Float32Array:
    return np.concatenate([part.reshape(len(part), -1) for part in parts], axis=1).astype(np.float32)


class PreparedShard:
    """The inputs of the scenes of one shard, memory mapped.

    Raises:
        InputError: the files are damaged.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            with np.load(path, allow_pickle=False) as file:
                self.offsets, self.c2w, self.fov = file["offsets"], file["c2w"], file["fov"]
                self.recipe = str(file["recipe"])
        except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
            raise InputError(path, f"cannot be read ({error})", f"delete {path.parent} and start again") from None

    def __reduce__(self) -> tuple[Any, ...]:
        # Pickled by path, since a memory map is pickled by content.
        return PreparedShard, (self.path,)

    def __len__(self) -> int:
        return len(self.offsets) - 1

    @cached_property
    def images(self) -> Float16Array:
        return self._mapped(".images.npy")

    @cached_property
    def tokens(self) -> Float32Array:
        return self._mapped(".tokens.npy")

    def _mapped(self, suffix: str) -> AnyArray:
        path = self.path.with_suffix(suffix)
        try:
            return np.asarray(np.load(path, mmap_mode="r", allow_pickle=False))
        except (OSError, ValueError, EOFError) as error:
            raise InputError(path, f"cannot be read ({error})", f"delete {path.parent} and start again") from None


def _prepare(shard: Path, recipe: Recipe, index: Path, light_tokens: int, rays: bool) -> Path:
    """Write the inputs of a shard; returns the path of their index."""
    arrays = read_shard(shard, recipe)
    channels = (RGB.total if rays else 0) + 3
    images = np.empty((*arrays["hdr"].shape[:4], channels), np.float16)
    rows, c2w = [], []
    for i in range(len(images)):
        inputs = cast_scene(scene_of(arrays, i).to_scene(), light_tokens, recipe.resolution, rays)
        images[i, ..., :-3], images[i, ..., -3:] = inputs.images, arrays["hdr"][i]
        rows.append(inputs.tokens)
        c2w.append(inputs.c2w)
    with atomic_path(index.with_suffix(".images.npy")) as temporary:
        np.save(temporary, images)
    with atomic_path(index.with_suffix(".tokens.npy")) as temporary:
        np.save(temporary, np.concatenate(rows))
    offsets = np.cumsum([0, *map(len, rows)])
    with atomic_path(index) as temporary:
        np.savez(temporary, offsets=offsets, c2w=np.stack(c2w), fov=arrays["fov"], recipe=recipe.digest)
    return index


def prepared_shards(
    folder: Path,
    recipe: Recipe,
    known: set[str],
    light_tokens: int,
    rays: bool,
    workers: int,
    limit: int | None = None,
    progress: Progress = silent,
) -> list[PreparedShard]:
    """The shards of a folder except those whose stem is in `known`; makes missing inputs.

    Args:
        light_tokens: see `cast_scene`.
        rays: whether to cast rays.
        workers: processes of one thread each; 0 skips shards without inputs.
        limit: largest number of shards.
        progress: called with ("cast rays", shards done, shards to do).

    Raises:
        InputError: an unreadable shard, or an unwritable folder.
    """
    name = f"features-{FEATURE_VERSION}-{light_tokens}" if rays else f"pictures-{FEATURE_VERSION}"
    cache = folder / name
    make_folder(cache)
    paths = [path for path in shard_paths(folder) if path.stem not in known][:limit]
    caches = [cache / f"{path.stem}.npz" for path in paths]
    ready: dict[Path, PreparedShard] = {}
    for index in caches:
        if index.exists() and (shard := PreparedShard(index)).recipe == recipe.digest:
            ready[index] = shard
    jobs = [
        (path, recipe, index, light_tokens, rays)
        for path, index in zip(paths, caches, strict=True)
        if workers and index not in ready
    ]
    if jobs:
        progress("cast rays", 0, len(jobs))
    for done, index in enumerate(run_jobs(_prepare, jobs, workers), 1):
        ready[index] = PreparedShard(index)
        progress("cast rays", done, len(jobs))
    return [ready[index] for index in caches if index in ready]
