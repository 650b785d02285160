"""Statistics of a data set."""

from __future__ import annotations

import os
from collections import Counter
from typing import Any

import numpy as np

from renderformer.data.arrays import AnyArray, Float16Array, Float32Array
from renderformer.data.errors import InputError
from renderformer.data.progress import Progress, silent
from renderformer.data.scene import DIFFUSE, EMISSION, ROUGHNESS, SPECULAR
from renderformer.data.sets.details import Details, unpacked
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
    reader, manifest = _filled(folder), read_manifest(folder)
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


def contact_sheet(folder: str | os.PathLike[str], scenes: int, progress: Progress = silent) -> Float32Array:
    """(H, W, 3) linear radiance: the first view of scenes that are spread evenly over a data set, in rows of about
    twice as many as there are rows.

    Raises:
        InputError: no data set, no shard, or a damaged one.
    """
    reader = _filled(folder)
    numbers = np.unique(np.linspace(0, len(reader) - 1, min(scenes, len(reader))).round().astype(int))
    size, columns = reader.recipe.resolution, int(np.ceil(np.sqrt(2 * len(numbers))))
    sheet = np.zeros((-(-len(numbers) // columns) * size, min(columns, len(numbers)) * size, 3), np.float32)
    for place, number in enumerate(numbers):
        row, column = divmod(place, columns)
        sheet[row * size : (row + 1) * size, column * size : (column + 1) * size] = reader.scene(int(number)).hdr[0]
        progress("scenes", place + 1, len(numbers))
    return sheet


def _filled(folder: str | os.PathLike[str]) -> ShardReader:
    reader = ShardReader(folder)
    if not len(reader):
        raise InputError(folder, "has no finished shard", "make some with `renderformer data generate`")
    return reader


def _scan(reader: ShardReader, progress: Progress) -> dict[str, Any]:
    """The statistics that need the scenes' arrays."""
    stages: Counter[str] = Counter()
    lights: Counter[int] = Counter()
    ranges: dict[str, list[float]] = {}
    content: Counter[str] = Counter()
    errors, triangles, objects, details, pixels = [], [], [], 0, 0

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
        objects.append(len(scene.sizes))
        details += len(scene.details)
        content.update(_content(unpacked(scene.details.tobytes())))
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
        "of details": details / (len(reader) * reader.recipe.views),
        "half floats cost, dB": -10 * np.log10(max(float(np.mean(errors)), 1e-30)),
        "triangles": [min(triangles), int(np.median(triangles)), max(triangles)],
        "objects": [min(objects), int(np.median(objects)), max(objects)],
        **ranges,
        "scenes by lights": {str(key): lights[key] for key in sorted(lights)},
        "scenes by stage": dict(stages.most_common()),
        "scenes with": dict(content.most_common()),
    }


def _content(details: Details) -> set[str]:
    """What a scene has beside material rows."""
    materials = [material for appearance in details.appearances.values() for material in appearance.materials]
    found = {
        "environment": details.environment is not None,
        "textures": any(material.textures.present for material in materials),
        "normal maps": any(material.textures.normal is not None for material in materials),
        "masks": any(material.see_through for material in materials),
        "vertex colours": any(appearance.colors is not None for appearance in details.appearances.values()),
    }
    return {name for name, present in found.items() if present}
