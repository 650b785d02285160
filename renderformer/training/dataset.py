"""Training scenes in memory: shards of `renderformer data generate` and the ray features of their views.

Features are cast once per shard and kept beside it (`features-<version>/`), so that a second run starts at once.

Shapes: B scenes, N triangles (padded), V views, h x w pixels.
"""

from __future__ import annotations

import itertools
import os
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from renderformer.data.camera import Camera
from renderformer.data.errors import InputError
from renderformer.data.files import atomic_path
from renderformer.data.raycast import RayCaster
from renderformer.data.shards import HALF_MAX, Recipe, read_recipe, read_shard

# Raise when the meaning of the ray features changes: cached ones are then cast anew.
FEATURE_VERSION = 3
GEOMETRY = ("triangles", "normals", "materials")
FloatArray = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Example:
    """One scene. triangles, normals (N, 3, 3), materials (N, 13), triangle_light (N, 2, 3) float32; c2w (V, 4, 4),
    fov (V,) float32; pixels (V, h, w, 29) and hdr (V, h, w, 3) float16."""

    triangles: npt.NDArray[np.float32]
    normals: npt.NDArray[np.float32]
    materials: npt.NDArray[np.float32]
    triangle_light: npt.NDArray[np.float32]
    c2w: npt.NDArray[np.float32]
    fov: npt.NDArray[np.float32]
    pixels: npt.NDArray[np.float16]
    hdr: npt.NDArray[np.float16]


@dataclass(frozen=True)
class Batch:
    """A padded batch on a device: triangles, normals (B, N, 3, 3), materials (B, N, 13), mask (B, N), triangle_light
    (B, N, 2, 3), c2w (B, V, 4, 4), fov (B, V, 1), pixels (B, V, h, w, 29), hdr (B, V, h, w, 3), all float32."""

    triangles: Tensor
    normals: Tensor
    materials: Tensor
    mask: Tensor
    triangle_light: Tensor
    c2w: Tensor
    fov: Tensor
    pixels: Tensor
    hdr: Tensor


def cast_features(
    geometry: tuple[FloatArray, FloatArray, FloatArray], cameras: list[Camera], size: int
) -> tuple[npt.NDArray[np.float16], npt.NDArray[np.float16]]:
    """(V, size, size, 29) feature images and (N, 2, 3) triangle light of one scene, float16.

    Args:
        geometry: triangles, normals and materials, as `RayCaster` takes them.
    """
    caster = RayCaster(*geometry)
    views = [caster.features(camera, size, size, threads=1) for camera in cameras]
    return _half(np.stack(views)), _half(caster.triangle_light())


def _half(values: npt.NDArray[np.float32]) -> npt.NDArray[np.float16]:
    return np.minimum(values, HALF_MAX).astype(np.float16)


def _cast_shard(shard: Path, recipe: Recipe, path: Path) -> None:
    arrays = read_shard(shard, recipe)
    pixels, light = [], []
    for i, (start, stop) in enumerate(itertools.pairwise(arrays["offsets"])):
        rows = slice(start, stop)
        triangles, normals, materials = (arrays[key][rows].astype(np.float32) for key in GEOMETRY)
        cameras = [Camera(c2w, float(fov)) for c2w, fov in zip(arrays["c2w"][i], arrays["fov"][i], strict=True)]
        own_pixels, own_light = cast_features((triangles, normals, materials), cameras, recipe.resolution)
        pixels.append(own_pixels)
        light.append(own_light)
    with atomic_path(path) as temporary:
        np.savez(temporary, pixels=np.stack(pixels), triangle_light=np.concatenate(light))


class TrainingSet:
    """All scenes of a folder of shards, with features, in memory.

    Args:
        folder: as written by `renderformer data generate`; more shards may appear in it while training runs, see
            `refresh`.
        limit: read at most this many scenes.

    Raises:
        InputError: no shard in the folder, or one that cannot be read.
    """

    def __init__(self, folder: str | os.PathLike[str], workers: int = 1, limit: int | None = None) -> None:
        self.folder = Path(folder)
        self.workers = workers
        self.limit = limit
        self.examples: list[Example] = []
        self._known: set[str] = set()
        self.refresh()
        if not self.examples:
            raise InputError(f"{self.folder}: no finished shard here; make some with `renderformer data generate`")

    def __len__(self) -> int:
        return len(self.examples)

    def refresh(self) -> int:
        """Read the shards that have appeared since; returns how many scenes they added."""
        before = len(self.examples)
        recipe = read_recipe(self.folder)
        names = [path.name for path in sorted(self.folder.glob("shard_*.npz")) if path.name not in self._known]
        cache = self.folder / f"features-{FEATURE_VERSION}"
        cache.mkdir(exist_ok=True)
        missing = [name for name in names if not (cache / name).exists()]
        if missing:
            with ProcessPoolExecutor(self.workers) as pool:
                for job in [pool.submit(_cast_shard, self.folder / name, recipe, cache / name) for name in missing]:
                    job.result()
        for name in names:
            if self.limit is not None and len(self.examples) >= self.limit:
                break
            self._known.add(name)
            self.examples.extend(_read(self.folder / name, recipe, cache / name))
        if self.limit is not None:
            del self.examples[self.limit :]
        return len(self.examples) - before


def _read(shard: Path, recipe: Recipe, cached: Path) -> list[Example]:
    arrays = read_shard(shard, recipe)
    with np.load(cached, allow_pickle=False) as features:
        pixels, light = features["pixels"], features["triangle_light"].astype(np.float32)
    return [
        Example(
            triangles=arrays["triangles"][start:stop],
            normals=arrays["normals"][start:stop].astype(np.float32),
            materials=arrays["materials"][start:stop].astype(np.float32),
            triangle_light=light[start:stop],
            c2w=arrays["c2w"][i],
            fov=arrays["fov"][i],
            pixels=pixels[i],
            hdr=arrays["hdr"][i],
        )
        for i, (start, stop) in enumerate(itertools.pairwise(arrays["offsets"]))
    ]


def collate(examples: list[Example], views: int | None = None, rng: np.random.Generator | None = None) -> Batch:
    """Pad scenes to the largest and stack them; with `rng`, augment each exactly and draw `views` of its views."""
    if rng is not None:
        examples = [augment(example, rng, views) for example in examples]
    most = max(len(example.triangles) for example in examples)

    def padded(key: str) -> Tensor:
        arrays = [getattr(example, key) for example in examples]
        out = np.zeros((len(arrays), most, *arrays[0].shape[1:]), np.float32)
        for row, array in zip(out, arrays, strict=True):
            row[: len(array)] = array
        return torch.from_numpy(out)

    def stacked(key: str) -> Tensor:
        return torch.from_numpy(np.stack([getattr(example, key) for example in examples]).astype(np.float32))

    counts = torch.tensor([len(example.triangles) for example in examples])
    return Batch(
        triangles=padded("triangles"),
        normals=padded("normals"),
        materials=padded("materials"),
        mask=torch.arange(most)[None] < counts[:, None],
        triangle_light=padded("triangle_light"),
        c2w=stacked("c2w"),
        fov=stacked("fov")[..., None],
        pixels=stacked("pixels"),
        hdr=stacked("hdr"),
    )


def augment(example: Example, rng: np.random.Generator, views: int | None) -> Example:
    """A physically equivalent scene: turned about z, perhaps mirrored, colour channels permuted, corners turned
    cyclically, `views` of its views.

    Feature images are in camera space: a turn leaves them alone, a mirror flips them and the x of their vectors.
    """
    angle = rng.uniform(0, 2 * np.pi)
    world = np.array(
        [[np.cos(angle), -np.sin(angle), 0], [np.sin(angle), np.cos(angle), 0], [0, 0, 1]], np.float32
    )
    mirror = bool(rng.random() < 0.5)
    flip = np.diag([-1.0, 1.0, 1.0]).astype(np.float32)
    if mirror:
        world = world @ flip
    colours = rng.permutation(3)
    chosen = np.sort(rng.permutation(len(example.fov))[: views or len(example.fov)])
    order = (np.arange(3)[None] + rng.integers(0, 3, len(example.triangles))[:, None]) % 3
    # A mirror turns the outside in; reversing the corners turns it back.
    order = order[:, ::-1] if mirror else order
    rows = np.arange(len(example.triangles))[:, None]
    c2w = example.c2w[chosen].copy()
    # A mirrored camera frame is left-handed; its own mirror image of x makes it right-handed again.
    c2w[:, :3, :3] = world @ c2w[:, :3, :3] @ (flip if mirror else np.eye(3, dtype=np.float32))
    c2w[:, :3, 3] = c2w[:, :3, 3] @ world.T
    pixels, hdr = example.pixels[chosen], example.hdr[chosen][..., colours]
    channels = np.arange(pixels.shape[-1])
    for start in (7, 10, 14, 17, 20, 23, 26):
        channels[start : start + 3] = start + colours
    pixels = pixels[..., channels]
    if mirror:
        pixels, hdr = pixels[:, :, ::-1].copy(), hdr[:, :, ::-1]
        pixels[..., [1, 4]] *= -1
    materials = example.materials.copy()
    for start in (0, 3, 10):
        materials[:, start : start + 3] = materials[:, start + colours]
    return Example(
        triangles=(example.triangles @ world.T)[rows, order],
        normals=(example.normals @ world.T)[rows, order],
        materials=materials,
        triangle_light=example.triangle_light[..., colours],
        c2w=c2w,
        fov=example.fov[chosen],
        pixels=pixels,
        hdr=hdr,
    )
