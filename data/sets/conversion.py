"""Conversion of data sets of older formats to the current one: of format 3, whose shards have no details and do not say
from which sides lights shine, and of format 2, whose shards are the same as uncompressed npz."""

from __future__ import annotations

import os
import zipfile
from pathlib import Path

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load_file

from renderformer.data.errors import InputError
from renderformer.data.geometry.light_sides import with_sides
from renderformer.data.progress import Progress, silent
from renderformer.data.scene import Mesh
from renderformer.data.sets import shards
from renderformer.data.sets.manifest import (
    FORMAT,
    MANIFEST_FILE,
    OLD_FORMATS,
    Manifest,
    Recipe,
    parse_manifest,
    read_manifest,
    record_hashes,
    write_manifest,
)

# Arrays that old shards lack.
NEW = ("two_sided", "details", "detail_offsets")


def convert_set(
    source: str | os.PathLike[str], folder: str | os.PathLike[str], progress: Progress = silent
) -> dict[str, int]:
    """Convert a data set of an old format to the current format; the arrays that it has stay the same to the bit.

    Args:
        source: folder of format 2 or 3; not changed.
        folder: created if missing; a partly converted set is completed.
        progress: called with ("shards", done, total).

    Returns:
        Counts: `shards` in total, and those `converted` by this call.

    Raises:
        InputError: `source` is no data set of format 2 or 3, or has a damaged shard, or `folder` holds another set.
    """
    source, folder = Path(source), Path(folder)
    old = _read_old(source)
    npz = parse_manifest(source)["format"] == 2
    paths = sorted(source.glob(f"shard_*.{'npz' if npz else 'safetensors'}"))
    shards.check_complete(source, old, paths)
    if not (folder / MANIFEST_FILE).exists():
        write_manifest(folder, old.recipe, old.versions, old.meshes)
    new = read_manifest(folder)
    if (new.recipe, new.versions, new.meshes) != (old.recipe, old.versions, old.meshes):
        raise InputError(folder, f"holds another data set than {source}", "give another folder")
    shards.remove_leftovers(folder)
    hashes, converted = {}, 0
    try:
        for done, path in enumerate(paths, 1):
            target = folder / path.with_suffix(".safetensors").name
            if not target.exists():
                _, arrays = shards.check_shard(path, old, _read_npz if npz else _read_safetensors)
                hashes[target.name] = shards.write_shard(target, arrays)
                converted += 1
            elif target.name not in new.shards:
                hashes[target.name], _ = shards.check_shard(target, new)
            progress("shards", done, len(paths))
    finally:
        record_hashes(folder, hashes)
    return {"shards": len(paths), "converted": converted}


def _read_old(folder: Path) -> Manifest:
    content = parse_manifest(folder)
    if content.get("format") not in OLD_FORMATS:
        problem = f"has format {content.get('format')}"
        raise InputError(folder / MANIFEST_FILE, problem, "only data sets of the formats 2 and 3 are converted")
    return Manifest.read({**content, "format": FORMAT}, folder / MANIFEST_FILE)


def _read_npz(path: Path, recipe: Recipe) -> shards.Arrays:
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = {key: file[key] for key in shards.TYPES if key not in NEW}
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        raise shards.unreadable(path, error) from None
    return _upgraded(path, arrays, recipe)


def _read_safetensors(path: Path, recipe: Recipe) -> shards.Arrays:
    try:
        stored = load_file(path)
        arrays = {key: stored[key] for key in shards.TYPES if key not in NEW}
    except (OSError, SafetensorError, KeyError) as error:
        raise shards.unreadable(path, error) from None
    return _upgraded(path, arrays, recipe)


def _upgraded(path: Path, arrays: shards.Arrays, recipe: Recipe) -> shards.Arrays:
    """The arrays of an old shard in the current format, checked."""
    scenes = len(arrays["seeds"]) if arrays["seeds"].ndim else 0
    empty: shards.Arrays = {"details": np.empty(0, np.uint8), "detail_offsets": np.zeros(scenes + 1, np.int64)}
    arrays = {**arrays, **empty, "two_sided": np.zeros(len(arrays["triangles"]), bool)}
    shards.check_arrays(path, arrays, recipe)
    sides = [
        [np.broadcast_to(mesh.two_sided, len(mesh)) for mesh in with_sides(_objects(shards.scene_of(arrays, i)))]
        for i in range(scenes)
    ]
    return {**arrays, "two_sided": np.concatenate([side for scene in sides for side in scene])}


def _objects(scene: shards.SceneArrays) -> tuple[Mesh, ...]:
    return scene.to_scene().objects
