"""Other people's scenes and pictures as a data set: scene JSON or H5 files with EXR pictures of their cameras.

The original program writes the picture of camera i of `room.h5` to `room_view_i.exr`, which is what is looked for;
`room.exr` will do for a scene of one camera.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from renderformer.data.arrays import Float32Array
from renderformer.data.errors import InputError
from renderformer.data.formats import SCENE_FORMATS, load_scene
from renderformer.data.scene import EMISSION, Scene
from renderformer.data.sets.shards import (
    HALF_MAX,
    IMPORTED_SEED,
    STAGES,
    Recipe,
    pack_scenes,
    record_hashes,
    shard_path,
    write_manifest,
    write_shard,
)

SCENES_PER_SHARD = 32


@dataclass(frozen=True)
class _Found:
    """A scene file and the pictures of its first cameras; None where there is none that can be used."""

    path: Path
    cameras: int
    pictures: tuple[Path | None, ...]


def import_scenes(
    sources: Sequence[str | os.PathLike[str]],
    folder: str | os.PathLike[str],
    pictures: str | os.PathLike[str] | None,
    views: int | None,
    drop: Callable[[str, str], None],
    progress: Callable[[str, int, int], None],
) -> dict[str, int]:
    """Write a data set of scenes that were rendered elsewhere.

    Args:
        sources: scene JSON or H5 files, or folders of them; of two with one name in a folder, the H5 is taken.
        folder: new, or empty.
        pictures: folder of the EXR files; None looks beside each scene.
        views: cameras of a stored scene. None takes the smallest number of pictures that a scene has. A scene with more
            is stored several times, with other cameras each time.
        drop: called with the name of a scene or picture that is not used, and the reason: it cannot be read, holds
            texture patches or light that half floats cannot hold, has no picture, or one that is not square, of
            another size than the others, or not finite; or its scene has fewer cameras left than `views`.
        progress: called with the stage and the numbers of scenes done and in all.

    Returns:
        Counts: source `scenes` used, `views`, and `stored scenes`.

    Raises:
        InputError: the folder is not empty, a source does not exist, or nothing can be used.
    """
    folder = Path(folder)
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise InputError(folder, "is not empty", "give a new folder")
    paths = list(dict.fromkeys(path for source in sources for path in _scene_files(Path(source), drop)))
    found = []
    size: int | None = None
    for done, path in enumerate(paths, 1):
        try:
            scene = _usable_scene(path)
            files = _pictures_of(path, len(scene.cameras), None if pictures is None else Path(pictures))
            usable, size = _usable_pictures(files, size, drop)
            if not any(usable):
                raise InputError("", f"has no usable picture, such as {path.stem}_view_0.exr", "give their folder")
            found.append(_Found(path, len(scene.cameras), usable))
        except InputError as error:
            drop(str(path), error.problem)
        progress("looking", done, len(paths))
    if not found or size is None:
        raise InputError(folder, f"none of the {len(paths)} scenes can be imported, nothing written")
    group = views or min(sum(picture is not None for picture in one.pictures) for one in found)
    return _write(folder, found, size, group, drop, progress)


def _scene_files(source: Path, drop: Callable[[str, str], None]) -> list[Path]:
    if source.is_file():
        return [source]
    if not source.is_dir():
        raise InputError(source, "does not exist", "give scene JSON or H5 files, or folders of them")
    paths = sorted(path for path in source.rglob("*") if path.suffix.lower() in SCENE_FORMATS and path.is_file())
    binary = {path.with_suffix("") for path in paths if path.suffix.lower() != ".json"}
    for path in paths:
        if path.suffix.lower() == ".json" and path.with_suffix("") in binary:
            drop(str(path), "is there as H5 too, which is taken")
    return [path for path in paths if path.suffix.lower() != ".json" or path.with_suffix("") not in binary]


def _usable_scene(path: Path) -> Scene:
    if path.suffix.lower() not in SCENE_FORMATS:
        raise InputError("", "is not a scene JSON or H5 file")
    scene = load_scene(path)
    if scene.patches is not None:
        raise InputError("", "has texture patches, which shards do not hold", "give it uniform materials")
    if not scene.cameras:
        raise InputError("", "has no cameras")
    if scene.materials[:, EMISSION].max() > HALF_MAX:
        raise InputError(
            "", f"emits {scene.materials[:, EMISSION].max():g}, more than {HALF_MAX:g}", "scale light down"
        )
    return scene


def _pictures_of(path: Path, cameras: int, pictures: Path | None) -> list[Path]:
    """Where the pictures of a scene's cameras should be."""
    beside = path.parent if pictures is None else pictures
    files = [beside / f"{path.stem}_view_{i}.exr" for i in range(cameras)]
    single = beside / f"{path.stem}.exr"
    return [single] if cameras == 1 and single.is_file() and not files[0].is_file() else files


def _usable_pictures(
    files: list[Path], size: int | None, drop: Callable[[str, str], None]
) -> tuple[tuple[Path | None, ...], int | None]:
    """The pictures that can be used, and the size of all; the first one sets it."""
    usable: list[Path | None] = []
    for file in files:
        try:
            height, width, _ = _read_picture(file).shape
            if height != width or (size is not None and height != size):
                wanted = "a square" if size is None else f"{size} x {size}"
                raise InputError("", f"has {width} x {height} pixels, expected {wanted}", "one size per data set")
            size = height
            usable.append(file)
        except InputError as error:
            drop(str(file), str(error))
            usable.append(None)
    return tuple(usable), size


def _read_picture(path: Path) -> Float32Array:
    """(H, W, 3) linear radiance of an EXR file."""
    import OpenEXR

    if not path.is_file():
        raise InputError("", "does not exist")
    try:
        with OpenEXR.File(str(path), separate_channels=True) as file:
            channels = file.channels()
            if not all(name in channels for name in "RGB"):
                raise InputError("", f"has no R, G and B channels, only {', '.join(sorted(channels)) or 'none'}")
            pixels = np.stack([channels[name].pixels for name in "RGB"], axis=-1).astype(np.float32)
    except (RuntimeError, ValueError, TypeError, OSError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError("", f"cannot be read as EXR ({str(error).splitlines()[0][:120]})") from None
    if not np.isfinite(pixels).all() or pixels.min() < 0 or pixels.max() > HALF_MAX:
        raise InputError("", f"holds light that is not finite, negative, or more than {HALF_MAX:g}")
    return pixels


def _groups(found: list[_Found], views: int, drop: Callable[[str, str], None]) -> Iterator[tuple[_Found, list[int]]]:
    """Each scene as often as it has `views` pictures, with the numbers of the cameras."""
    for one in found:
        cameras = [i for i, picture in enumerate(one.pictures) if picture is not None]
        whole = len(cameras) // views * views
        if len(cameras) > whole:
            over = ", ".join(f"{i}" for i in cameras[whole:])
            drop(str(one.path), f"cameras {over} do not make {views} views more")
        for start in range(0, whole, views):
            yield one, cameras[start : start + views]


def _write(
    folder: Path,
    found: list[_Found],
    size: int,
    views: int,
    drop: Callable[[str, str], None],
    progress: Callable[[str, int, int], None],
) -> dict[str, int]:
    rows = list(_groups(found, views, drop))
    if not rows:
        raise InputError(folder, f"no scene has {views} pictures, nothing written", "lower --views")
    recipe = Recipe(
        seed=IMPORTED_SEED, views=views, resolution=size, spp=0, batches=0, depth=0, max_triangles=0,
        scenes_per_shard=SCENES_PER_SHARD, imported=True,
    )  # fmt: skip
    write_manifest(folder, recipe, _version())
    hashes = {}
    for start in range(0, len(rows), SCENES_PER_SHARD):
        part = rows[start : start + SCENES_PER_SHARD]
        scenes, pictures = [], []
        for number, (one, cameras) in enumerate(part, start):
            scene = _usable_scene(one.path)
            scene = scene.replace(cameras=tuple(scene.cameras[i] for i in cameras))
            scenes.append((scene, IMPORTED_SEED + number, STAGES.index("other")))
            pictures.append(np.stack([_read_picture(file) for i in cameras if (file := one.pictures[i])]))
        path = shard_path(folder, start // SCENES_PER_SHARD)
        hashes[path.name] = write_shard(path, pack_scenes(scenes, pictures))
        progress("writing", start + len(part), len(rows))
    record_hashes(folder, hashes)
    used = {one.path for one, _ in rows}
    return {"scenes": len(used), "views": views * len(rows), "stored scenes": len(rows)}


def _version() -> dict[str, Any]:
    from importlib.metadata import version

    return {"renderformer": version("renderformer")}
