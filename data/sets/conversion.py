"""Conversion of data sets of format 2, whose shards are uncompressed npz, to the current format."""

from __future__ import annotations

import os
import zipfile
from pathlib import Path

import numpy as np

from renderformer.data.errors import InputError
from renderformer.data.progress import Progress, silent
from renderformer.data.sets import shards
from renderformer.data.sets.manifest import (
    FORMAT,
    MANIFEST_FILE,
    Manifest,
    Recipe,
    parse_manifest,
    read_manifest,
    record_hashes,
    write_manifest,
)

OLD_FORMAT = 2


def convert_set(
    source: str | os.PathLike[str], folder: str | os.PathLike[str], progress: Progress = silent
) -> dict[str, int]:
    """Convert a data set of format 2 to the current format; the arrays stay the same to the bit.

    Args:
        source: folder of format 2; not changed.
        folder: created if missing; a partly converted set is completed.
        progress: called with ("shards", done, total).

    Returns:
        Counts: `shards` in total, and those `converted` by this call.

    Raises:
        InputError: `source` is no data set of format 2 or has a damaged shard, or `folder` holds another set.
    """
    source, folder = Path(source), Path(folder)
    old = _read_old(source)
    paths = sorted(source.glob("shard_*.npz"))
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
                _, arrays = shards.check_shard(path, old, _read_npz)
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
    if content.get("format") != OLD_FORMAT:
        problem = f"has format {content.get('format')}"
        raise InputError(folder / MANIFEST_FILE, problem, f"only data sets of format {OLD_FORMAT} are converted")
    return Manifest.read({**content, "format": FORMAT}, folder / MANIFEST_FILE)


def _read_npz(path: Path, recipe: Recipe) -> shards.Arrays:
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = {key: file[key] for key in shards.TYPES}
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        raise shards.unreadable(path, error) from None
    shards.check_arrays(path, arrays, recipe)
    return arrays
