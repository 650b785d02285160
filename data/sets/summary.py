"""Statistics of a data set."""

from __future__ import annotations

import os
from collections import Counter
from typing import Any

import numpy as np

from renderformer.data.arrays import AnyArray, Float16Array
from renderformer.data.errors import InputError
from renderformer.data.progress import Progress, silent
from renderformer.data.scene import DIFFUSE, EMISSION, ROUGHNESS, SPECULAR
from renderformer.data.sets.manifest import UNKNOWN_IF_IMPORTED, read_manifest
from renderformer.data.sets.shards import ShardReader

GAMMA = 2.2


def encoding_error(hdr: Float16Array) -> float:
    """Expected mean square error of clamp(x, 0, 1)^(1/2.2) from rounding x to half floats.

    Assumes that x is uniformly distributed within half a step of the stored number.

    Args:
        hdr: linear radiance, any shape.
    """
    value = hdr.astype(np.float64)
    # Zero is stored exactly.
    half = np.where(hdr == 0, 0, np.spacing(np.abs(hdr)).astype(np.float64) / 2)
    low, high = (np.clip(v, 0, 1) ** (1 / GAMMA) for v in (value - half, value + half))
    return float(((high - low) ** 2).mean() / 12)


def summary(folder: str | os.PathLike[str], progress: Progress = silent) -> dict[str, Any]:
    """Statistics of all scenes of a data set folder.

    Returns:
        Numbers, ranges [lowest, highest] in the units of `Scene`, and dicts of counts by name; can be written as JSON.

    Raises:
        InputError: no data set, no shard, or a damaged one.
    """
    reader, manifest = ShardReader(folder), read_manifest(folder)
    if not len(reader):
        raise InputError(folder, "has no finished shard", "make some with `renderformer data generate`")
    recipe = manifest.recipe
    unknown = UNKNOWN_IF_IMPORTED if recipe.imported else ()
    views, size = len(reader) * recipe.views, sum(path.stat().st_size for path in reader.paths)
    return {
        "source": "imported" if recipe.imported else "held out" if recipe.held_out else "training",
        "recipe": recipe.model_dump(exclude={"imported", *unknown}),
        "versions": manifest.versions,
        "user meshes": len(manifest.meshes),
        "shards": len(reader.paths),
        "hashes recorded": len(manifest.shards),
        "scenes": len(reader),
        "views": views,
        "bytes": size,
        "bytes per view": size / views,
        **_scan(reader, progress),
    }


def _scan(reader: ShardReader, progress: Progress) -> dict[str, Any]:
    """The statistics that need the scenes' arrays."""
    stages: Counter[str] = Counter()
    lights: Counter[int] = Counter()
    ranges: dict[str, list[float]] = {}
    errors, triangles, pixels = [], [], 0

    def widen(key: str, values: AnyArray) -> None:
        if values.size:
            low, high = ranges.get(key, [np.inf, -np.inf])
            ranges[key] = [min(low, float(values.min())), max(high, float(values.max()))]

    for i in range(len(reader)):
        scene = reader.scene(i)
        rows = scene.materials.astype(np.float32)
        glows = (rows[:, EMISSION] > 0).any(axis=1)
        stages[scene.stage] += 1
        lights[int(glows.sum())] += 1
        triangles.append(len(rows))
        errors.append(encoding_error(scene.hdr))
        pixels += scene.hdr.nbytes
        widen("roughness of specular", rows[(rows[:, SPECULAR] > 0).any(axis=1) & ~glows, ROUGHNESS])
        widen("diffuse", rows[~glows, DIFFUSE])
        widen("emission of a light", rows[glows, EMISSION])
        widen("camera distance", np.linalg.norm(scene.c2w[:, :3, 3], axis=1))
        widen("field of view", scene.fov)
        widen("radiance", scene.hdr)
        progress("scenes", i + 1, len(reader))
    return {
        "of these pictures": pixels / (len(reader) * reader.recipe.views),
        "half floats cost, dB": -10 * np.log10(max(float(np.mean(errors)), 1e-30)),
        "triangles": [min(triangles), int(np.median(triangles)), max(triangles)],
        **ranges,
        "scenes by lights": {str(key): lights[key] for key in sorted(lights)},
        "scenes by stage": dict(stages.most_common()),
    }
