"""Import of scenes that were rendered elsewhere: scene JSON or H5 files with EXR pictures of their cameras.

Camera i of `room.h5` has the picture `room_view_i.exr`, as in the original program; a single camera also `room.exr`.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import numpy as np

from renderformer.data.arrays import Float32Array
from renderformer.data.errors import InputError
from renderformer.data.formats import SCENE_FORMATS, load_scene
from renderformer.data.progress import Progress
from renderformer.data.scene import EMISSION, Scene
from renderformer.data.sets.manifest import IMPORTED_SEED, Recipe, record_hashes, write_manifest
from renderformer.data.sets.shards import HALF_MAX, STAGES, pack_scenes, shard_path, write_shard

# Called with the name of a rejected scene or picture, and the reason.
Reject = Callable[[str, str], None]
SCENES_PER_SHARD = 32


@dataclass(frozen=True)
class _Source:
    """A scene file and the picture of each camera; None where there is no usable picture."""

    path: Path
    pictures: tuple[Path | None, ...]


def import_scenes(
    sources: Sequence[str | os.PathLike[str]],
    folder: str | os.PathLike[str],
    pictures: str | os.PathLike[str] | None,
    views: int | None,
    reject: Reject,
    progress: Progress,
) -> dict[str, int]:
    """Write a data set of scenes that were rendered elsewhere.

    Args:
        sources: scene JSON or H5 files, or folders of them; where a folder has both of one name, the H5 file is used.
        folder: new or empty.
        pictures: folder of the EXR files; None looks beside each scene.
        views: cameras of a stored scene; None takes the smallest number of pictures of a scene. A scene with more is
            stored several times, with other cameras each time.
        reject: called with the name of a rejected scene or picture and the reason: unreadable; a scene with texture
            patches, without pictures, or with light above the range of half floats; a picture that is not square or
            finite, or has another size than the first one; cameras left over that are fewer than `views`.
        progress: called with (stage, scenes done, scenes in total).

    Returns:
        Counts: source `scenes` used, `views`, and `stored scenes`.

    Raises:
        InputError: the folder is not empty, a source does not exist, or nothing is usable.
    """
    folder = Path(folder)
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise InputError(folder, "is not empty", "give a new folder")
    paths = list(dict.fromkeys(path for source in sources for path in _scene_files(Path(source), reject)))
    usable: list[_Source] = []
    size: int | None = None
    for done, path in enumerate(paths, 1):
        try:
            scene = _usable_scene(path)
            files = _pictures_of(path, len(scene.cameras), None if pictures is None else Path(pictures))
            accepted, size = _usable_pictures(files, size, reject)
            if not any(accepted):
                raise InputError(path, f"has no usable picture, such as {path.stem}_view_0.exr", "give their folder")
            usable.append(_Source(path, accepted))
        except InputError as error:
            reject(str(path), error.problem)
        progress("looking", done, len(paths))
    if not usable or size is None:
        remedy = "the lines above say why"
        raise InputError(folder, f"none of the {len(paths)} scenes can be imported, nothing written", remedy)
    fewest = min(sum(picture is not None for picture in source.pictures) for source in usable)
    return _write(folder, usable, size, views or fewest, reject, progress)


def _scene_files(source: Path, reject: Reject) -> list[Path]:
    if source.is_file():
        return [source]
    if not source.is_dir():
        raise InputError(source, "does not exist", "give scene JSON or H5 files, or folders of them")
    paths = sorted(path for path in source.rglob("*") if path.suffix.lower() in SCENE_FORMATS and path.is_file())
    binary = {path.with_suffix("") for path in paths if path.suffix.lower() != ".json"}
    for path in paths:
        if path.suffix.lower() == ".json" and path.with_suffix("") in binary:
            reject(str(path), "the H5 file of the same name is used")
    return [path for path in paths if path.suffix.lower() != ".json" or path.with_suffix("") not in binary]


def _usable_scene(path: Path) -> Scene:
    if path.suffix.lower() not in SCENE_FORMATS:
        raise InputError(path, "is not a scene JSON or H5 file", "give scene JSON or H5 files, or folders of them")
    scene = load_scene(path)
    brightest = float(scene.materials[:, EMISSION].max())
    if any(mesh.patches is not None for mesh in scene.objects):
        raise InputError(path, "has texture patches, which shards do not hold", "give it textures or uniform materials")
    if not scene.cameras:
        raise InputError(path, "has no cameras", "add the cameras of its pictures")
    if brightest > HALF_MAX:
        raise InputError(path, f"emits {brightest:g}, more than {HALF_MAX:g}", "scale its light down")
    return scene


def _pictures_of(path: Path, cameras: int, pictures: Path | None) -> list[Path]:
    """Paths of the pictures of a scene's cameras, which may not exist."""
    folder = path.parent if pictures is None else pictures
    files = [folder / f"{path.stem}_view_{i}.exr" for i in range(cameras)]
    single = folder / f"{path.stem}.exr"
    return [single] if cameras == 1 and single.is_file() and not files[0].is_file() else files


def _usable_pictures(files: list[Path], size: int | None, reject: Reject) -> tuple[tuple[Path | None, ...], int | None]:
    """The usable pictures, and their common size; the first usable picture sets it."""
    usable: list[Path | None] = []
    for file in files:
        try:
            height, width, _ = _read_picture(file).shape
            if height != width or (size is not None and height != size):
                expected = "a square" if size is None else f"{size} x {size}"
                raise InputError(file, f"has {width} x {height} pixels, expected {expected}", "give all one size")
            size = height
            usable.append(file)
        except InputError as error:
            reject(str(file), error.problem)
            usable.append(None)
    return tuple(usable), size


def _read_picture(path: Path) -> Float32Array:
    """(H, W, 3) linear radiance of an EXR file."""
    import OpenEXR

    if not path.is_file():
        raise InputError(path, "does not exist", "give the folder of the pictures")
    try:
        with OpenEXR.File(str(path), separate_channels=True) as file:
            channels = {name: np.asarray(channel.pixels, np.float32) for name, channel in file.channels().items()}
    except (RuntimeError, ValueError, TypeError, OSError) as error:
        problem = f"cannot be read as EXR ({str(error).splitlines()[0][:120]})"
        raise InputError(path, problem, "write it again") from None
    if not all(name in channels for name in "RGB"):
        names = ", ".join(sorted(channels)) or "none"
        raise InputError(path, f"has no R, G and B channels, only {names}", "write a colour picture")
    pixels = np.stack([channels[name] for name in "RGB"], axis=-1)
    if not np.isfinite(pixels).all() or pixels.min() < 0 or pixels.max() > HALF_MAX:
        problem = f"holds light that is not finite, negative, or more than {HALF_MAX:g}"
        raise InputError(path, problem, "render it again or scale its light down")
    return pixels


def _groups(sources: list[_Source], views: int, reject: Reject) -> Iterator[tuple[_Source, list[int]]]:
    """Each scene with the numbers of `views` of its cameras, once per full group of cameras."""
    for source in sources:
        cameras = [i for i, picture in enumerate(source.pictures) if picture is not None]
        count = len(cameras) // views * views
        if len(cameras) > count:
            unused = ", ".join(map(str, cameras[count:]))
            reject(str(source.path), f"cameras {unused} are fewer than {views} views and are left out")
        for start in range(0, count, views):
            yield source, cameras[start : start + views]


def _write(
    folder: Path, sources: list[_Source], size: int, views: int, reject: Reject, progress: Progress
) -> dict[str, int]:
    groups = list(_groups(sources, views, reject))
    if not groups:
        raise InputError(folder, f"no scene has {views} pictures, nothing written", "lower --views")
    recipe = Recipe(
        seed=IMPORTED_SEED, views=views, resolution=size, spp=0, batches=0, depth=0, max_triangles=0,
        scenes_per_shard=SCENES_PER_SHARD, imported=True,
    )  # fmt: skip
    write_manifest(folder, recipe, {"renderformer": version("renderformer")})
    hashes = {}
    for start in range(0, len(groups), SCENES_PER_SHARD):
        part = groups[start : start + SCENES_PER_SHARD]
        scenes, pictures = [], []
        for number, (source, cameras) in enumerate(part, start):
            scene = _usable_scene(source.path)
            scene = scene.replace(cameras=tuple(scene.cameras[i] for i in cameras))
            scenes.append((scene, IMPORTED_SEED + number, STAGES.index("other")))
            pictures.append(np.stack([_read_picture(file) for i in cameras if (file := source.pictures[i])]))
        path = shard_path(folder, start // SCENES_PER_SHARD)
        hashes[path.name] = write_shard(path, pack_scenes(scenes, pictures))
        progress("writing", start + len(part), len(groups))
    record_hashes(folder, hashes)
    used = {source.path for source, _ in groups}
    return {"scenes": len(used), "views": views * len(groups), "stored scenes": len(groups)}
