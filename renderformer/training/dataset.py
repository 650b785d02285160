"""Training scenes and the batch of every step.

A batch is a function of the seed and the step: every process makes the same one, and a resumed run continues exactly.

Shapes: B scenes, N triangles (padded), V views, h x w pixels.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.utils.data import Dataset

from renderformer.data.arrays import Float16Array, Float32Array, Int64Array
from renderformer.data.errors import InputError
from renderformer.data.progress import Progress, silent
from renderformer.data.rays.channels import RGB
from renderformer.data.scene import DIFFUSE, EMISSION, SPECULAR
from renderformer.data.sets.manifest import read_manifest
from renderformer.data.sets.shards import HALF_MAX
from renderformer.training.features import CORNERS, LIGHT, MATERIAL, NORMALS, PreparedShard, prepared_shards

# Batches whose scenes are sorted by size together. A batch of 8 out of 640 scenes of 63 to 384 tokens, 255 in the mean,
# is padded to 272 tokens in the mean, without sorting to 383.
POOL = 8


@dataclass(frozen=True)
class Example:
    """One scene: triangles, normals (N, 3, 3), materials (N, 13), triangle_light (N, 5, 3), c2w (V, 4, 4), fov (V,),
    float32; pixels (V, h, w, 39), or 0 channels without ray casting, and hdr (V, h, w, 3), float16."""

    triangles: Float32Array
    normals: Float32Array
    materials: Float32Array
    triangle_light: Float32Array
    c2w: Float32Array
    fov: Float32Array
    pixels: Float16Array
    hdr: Float16Array


@dataclass(frozen=True)
class Batch:
    """A padded batch: triangles, normals (B, N, 3, 3), materials (B, N, 13), mask (B, N), triangle_light (B, N, 5, 3),
    c2w (B, V, 4, 4), fov (B, V, 1), pixels (B, V, h, w, 39), hdr (B, V, h, w, 3), all but the mask float32."""

    triangles: Tensor
    normals: Tensor
    materials: Tensor
    mask: Tensor
    triangle_light: Tensor
    c2w: Tensor
    fov: Tensor
    pixels: Tensor
    hdr: Tensor

    def to(self, device: torch.device) -> Batch:
        """The batch on a device, half floats as float32."""
        moved = {f.name: getattr(self, f.name).to(device, non_blocking=True) for f in fields(self)}
        return Batch(**{name: t.float() if t.dtype == torch.float16 else t for name, t in moved.items()})

    def pin_memory(self) -> Batch:
        """The batch in pinned memory; the DataLoader calls this."""
        return Batch(**{f.name: getattr(self, f.name).pin_memory() for f in fields(self)})


class TrainingSet(Sequence[Example]):
    """The scenes of a folder of shards with the inputs of a model, read from disk on use.

    Args:
        folder: written by `renderformer data generate`; `refresh` finds shards that appear later.
        workers: processes that make missing inputs (`renderformer.training.features`); 0 skips shards without inputs.
        limit: largest number of scenes.
        light_tokens: of the model's configuration; 0 for tokens that are the triangles.
        rays: whether to cast rays; a V1 model needs them only for the comparison with ray casting.

    Raises:
        InputError: no shard in the folder, or an unreadable one.
    """

    def __init__(
        self,
        folder: str | os.PathLike[str],
        workers: int = 1,
        limit: int | None = None,
        *,
        light_tokens: int = 0,
        rays: bool = True,
        progress: Progress = silent,
    ) -> None:
        self.folder = Path(folder)
        self.recipe = read_manifest(folder).recipe
        self.workers = workers
        self.limit = limit
        self.light_tokens, self.rays = light_tokens, rays
        self._shards: list[PreparedShard] = []
        self._ends = np.zeros(0, np.int64)
        self._counts = np.zeros(0, np.int64)
        self.refresh(progress)
        if not len(self):
            raise InputError(self.folder, "no finished shard here", "make some with `renderformer data generate`")

    def __len__(self) -> int:
        count = int(self._ends[-1]) if len(self._ends) else 0
        return count if self.limit is None else min(count, self.limit)

    @property
    def resolution(self) -> int:
        """Pixels on a side."""
        return self.recipe.resolution

    @property
    def token_counts(self) -> Int64Array:
        """(scenes,) triangle tokens of each scene."""
        return self._counts[: len(self)]

    def refresh(self, progress: Progress = silent) -> int:
        """Add new shards; returns the number of new scenes."""
        before = len(self)
        shards = None if self.limit is None else -(-(self.limit - before) // self.recipe.scenes_per_shard)
        known = {shard.path.stem for shard in self._shards}
        self._shards += prepared_shards(
            self.folder, self.recipe, known, self.light_tokens, self.rays, self.workers, shards, progress
        )
        self._ends = np.cumsum([len(shard) for shard in self._shards])
        self._counts = np.concatenate([np.diff(shard.offsets) for shard in self._shards] or [self._counts])
        return len(self) - before

    def __getitem__(self, index: int) -> Example:  # type: ignore[override]
        if not 0 <= index < len(self):
            raise IndexError(f"{self.folder}: scene {index} of {len(self)}")
        number = int(np.searchsorted(self._ends, index, side="right"))
        shard = self._shards[number]
        row = index - int(self._ends[number]) + len(shard)
        tokens = shard.tokens[shard.offsets[row] : shard.offsets[row + 1]]
        return Example(
            triangles=tokens[:, CORNERS].reshape(-1, 3, 3),
            normals=tokens[:, NORMALS].reshape(-1, 3, 3),
            materials=tokens[:, MATERIAL],
            triangle_light=tokens[:, LIGHT].reshape(-1, 5, 3),
            c2w=shard.c2w[row],
            fov=shard.fov[row],
            pixels=shard.images[row, ..., :-3],
            hdr=shard.images[row, ..., -3:],
        )


class Steps(Dataset[Batch]):
    """The batches of a training run; item k is the batch of step k.

    A step draws its scenes from one set, chosen in proportion to the sizes of the sets. At a larger resolution than the
    first set's it draws fewer views, for about equal pixels per step. No scene repeats within one pass over a set.

    Args:
        sets: of scenes.
        batch: scenes per step, over all processes.
        views: per scene, at the first set's resolution.
        augmented: whether to `augment` scenes and choose views; else a batch has all views.
        process, processes: index of this process and their number; each makes its part of a batch.
    """

    def __init__(
        self,
        sets: Sequence[TrainingSet],
        seed: int,
        batch: int,
        views: int,
        augmented: bool = True,
        process: int = 0,
        processes: int = 1,
    ) -> None:
        self.sets, self.seed, self.batch, self.views, self.augmented = sets, seed, batch, views, augmented
        self.process, self.processes = process, processes

    def __getitem__(self, step: int) -> Batch:
        sizes = np.array([len(scenes) for scenes in self.sets])
        index = int(np.random.default_rng([self.seed, 2, step]).choice(len(sizes), p=sizes / sizes.sum()))
        scenes = self.sets[index]
        rows = self._rows(scenes.token_counts, step)
        slots = range(self.process, self.batch, self.processes)
        examples = [scenes[int(rows[k])] for k in slots]
        if self.augmented:
            share = (self.sets[0][0].hdr.shape[1] / examples[0].hdr.shape[1]) ** 2
            views = max(1, round(self.views * share))
            # The random numbers of a scene do not depend on the process.
            examples = [
                augment(example, np.random.default_rng([self.seed, 4, step, k]), views)
                for k, example in zip(slots, examples, strict=True)
            ]
        return collate(examples, np.float16)

    def _rows(self, counts: Int64Array, step: int) -> Int64Array:
        """(batch,) scenes of a step, in a shuffled order in which each POOL of batches is sorted by token count."""
        steps_per_pass = max(1, len(counts) // self.batch)
        number, position = divmod(step, steps_per_pass)
        order = np.random.default_rng([self.seed, 1, number]).permutation(len(counts))
        if len(order) < self.batch:
            return np.resize(order, self.batch)
        pool, position = divmod(position, POOL)
        start, end = pool * POOL * self.batch, min((pool + 1) * POOL, steps_per_pass) * self.batch
        rows = order[start:end]
        rows = rows[np.argsort(counts[rows], kind="stable")].reshape(-1, self.batch)
        return rows[np.random.default_rng([self.seed, 3, number, pool]).permutation(len(rows))[position]]


def collate(examples: Sequence[Example], images: npt.DTypeLike = np.float32) -> Batch:
    """Pad scenes to the largest and stack them; `images` is the type of pixels and hdr."""
    size = max(len(example.triangles) for example in examples)

    def padded(key: str) -> Tensor:
        arrays = [getattr(example, key) for example in examples]
        out = np.zeros((len(arrays), size, *arrays[0].shape[1:]), np.float32)
        for row, array in zip(out, arrays, strict=True):
            row[: len(array)] = array
        return torch.from_numpy(out)

    def stacked(key: str, kind: npt.DTypeLike = np.float32) -> Tensor:
        return torch.from_numpy(np.stack([getattr(example, key) for example in examples]).astype(kind, copy=False))

    counts = torch.tensor([len(example.triangles) for example in examples])
    return Batch(
        triangles=padded("triangles"),
        normals=padded("normals"),
        materials=padded("materials"),
        mask=torch.arange(size)[None] < counts[:, None],
        triangle_light=padded("triangle_light"),
        c2w=stacked("c2w"),
        fov=stacked("fov")[..., None],
        pixels=stacked("pixels", images),
        hdr=stacked("hdr", images),
    )


def augment(example: Example, rng: np.random.Generator, views: int | None) -> Example:
    """A physically equivalent scene: rotated about z, perhaps mirrored, colour channels permuted, corners permuted
    cyclically, without feature images also with another exposure; with `views` random views, all for None.

    Feature images are in camera space: a rotation keeps them, a mirror flips them and the x of their vectors.
    """
    angle = rng.uniform(0, 2 * np.pi)
    world = np.array([[np.cos(angle), -np.sin(angle), 0], [np.sin(angle), np.cos(angle), 0], [0, 0, 1]], np.float32)
    mirror = bool(rng.random() < 0.5)
    flip = np.diag([-1.0, 1.0, 1.0]).astype(np.float32)
    if mirror:
        world = world @ flip
    channels = rng.permutation(3)
    selected = np.sort(rng.permutation(len(example.fov))[: views or len(example.fov)])
    tokens = light_tokens_of(example, rng)
    order = (np.arange(3)[None] + rng.integers(0, 3, len(tokens))[:, None]) % 3
    # A mirror reverses the orientation of the corners.
    order = order[:, ::-1] if mirror else order
    rows = tokens[:, None]
    c2w = example.c2w[selected].copy()
    # A mirrored camera frame is left-handed; a flip of its x axis makes it right-handed again.
    c2w[:, :3, :3] = world @ c2w[:, :3, :3] @ (flip if mirror else np.eye(3, dtype=np.float32))
    c2w[:, :3, 3] = c2w[:, :3, 3] @ world.T
    pixels, hdr = _permuted(example.pixels[selected], channels), example.hdr[selected][..., channels]
    if mirror:
        pixels, hdr = pixels[:, :, ::-1], hdr[:, :, ::-1]
        if pixels.shape[-1]:
            pixels[..., [RGB.normal.start, RGB.position.start]] *= -1
    materials = example.materials[tokens]
    for part in (DIFFUSE, SPECULAR, EMISSION):
        materials[:, part] = materials[:, part.start + channels]
    if not pixels.shape[-1]:
        # A model with feature images is invariant to the exposure.
        exposure = np.float32(2 ** rng.uniform(-0.5, 0.5))
        materials[:, EMISSION] *= exposure
        hdr = np.minimum(hdr * exposure, HALF_MAX)
    return Example(
        triangles=(example.triangles @ world.T)[rows, order],
        normals=(example.normals @ world.T)[rows, order],
        materials=materials,
        triangle_light=example.triangle_light[tokens][..., channels],
        c2w=c2w,
        fov=example.fov[selected],
        pixels=pixels,
        hdr=hdr,
    )


def light_tokens_of(example: Example, rng: np.random.Generator) -> Int64Array:
    """The tokens that a step takes of a scene: half of the light tokens, at random, which take half the time and teach
    that scenes may be cut differently; every triangle without feature images."""
    count = len(example.triangles)
    if not example.pixels.shape[-1]:
        return np.arange(count)
    return np.sort(rng.permutation(count)[: -(-count // 2)])


def _permuted(pixels: Float16Array, channels: Int64Array) -> Float16Array:
    """Feature images with their colour channels in another order."""
    order = torch.arange(pixels.shape[-1])
    if len(order):
        for part in RGB.by_colour:
            order[part] = part.start + torch.from_numpy(channels)
    # NumPy takes ten times as long.
    return torch.from_numpy(pixels).index_select(-1, order).numpy()
