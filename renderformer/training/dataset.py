"""Training scenes and the batch of every step.

A batch is a function of the seed and the step, so that it does not matter which process makes it, and a run that was
stopped goes on as if it had not been.

Shapes: B scenes, N triangles (padded), V views, h x w pixels.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
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

# Batches among which scenes are sorted by size. Of 640 scenes of 255 tokens in the mean (63 to 384), a batch of 8 is
# padded to 272 with it and to 383 without.
POOL = 8


@dataclass(frozen=True)
class Example:
    """One scene. triangles, normals (N, 3, 3), materials (N, 13), triangle_light (N, 2, 3) float32; c2w (V, 4, 4),
    fov (V,) float32; pixels (V, h, w, 29) and hdr (V, h, w, 3) float16. Without rays, pixels has 0 channels."""

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
    """A padded batch: triangles, normals (B, N, 3, 3), materials (B, N, 13), mask (B, N), triangle_light (B, N, 2, 3),
    c2w (B, V, 4, 4), fov (B, V, 1), pixels (B, V, h, w, 29), hdr (B, V, h, w, 3), all but the mask float32."""

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
        """On that device; half floats become float32 there."""
        moved = {f.name: getattr(self, f.name).to(device, non_blocking=True) for f in fields(self)}
        return Batch(**{name: t.float() if t.dtype == torch.float16 else t for name, t in moved.items()})

    def pin_memory(self) -> Batch:
        """In memory from which a GPU copies on its own; called by the DataLoader."""
        return Batch(**{f.name: getattr(self, f.name).pin_memory() for f in fields(self)})

    def first_channel(self) -> Batch:
        """With the light and the pictures of the first colour channel alone."""
        return replace(self, triangle_light=self.triangle_light[..., :1], hdr=self.hdr[..., :1])


class TrainingSet(Sequence[Example]):
    """All scenes of a folder of shards, with what a model is given of them; on disk until they are used.

    Args:
        folder: as written by `renderformer data generate`; more shards may appear in it while training runs, see
            `refresh`.
        workers: processes that make what is missing (see `renderformer.training.features`); 0 leaves out what is not
            ready, for the processes of a run that wait for the first one to make it.
        limit: use at most this many scenes.
        token_triangles: of the model's configuration.
        rays: whether to cast rays; a V1 model needs them only to be measured beside ray casting.

    Raises:
        InputError: no shard in the folder, or one that cannot be read.
    """

    def __init__(
        self,
        folder: str | os.PathLike[str],
        workers: int = 1,
        limit: int | None = None,
        *,
        token_triangles: int,
        rays: bool = True,
        progress: Progress = silent,
    ) -> None:
        self.folder = Path(folder)
        self.recipe = read_manifest(folder).recipe
        self.workers = workers
        self.limit = limit
        self.token_triangles, self.rays = token_triangles, rays
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
        """Pixels on a side of the pictures."""
        return self.recipe.resolution

    @property
    def token_counts(self) -> Int64Array:
        """(scenes,) triangles that the tokens of each scene stand for."""
        return self._counts[: len(self)]

    def refresh(self, progress: Progress = silent) -> int:
        """Take in the shards that have appeared since; returns how many scenes they added."""
        before = len(self)
        most = None if self.limit is None else -(-(self.limit - before) // self.recipe.scenes_per_shard)
        known = {shard.path.stem for shard in self._shards}
        self._shards += prepared_shards(
            self.folder, self.recipe, known, self.token_triangles, self.rays, self.workers, most, progress
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
            triangle_light=tokens[:, LIGHT].reshape(-1, 2, 3),
            c2w=shard.c2w[row],
            fov=shard.fov[row],
            pixels=shard.images[row, ..., :-3],
            hdr=shard.images[row, ..., -3:],
        )


class Steps(Dataset[Batch]):
    """The batches of a training run: item k is that of step k.

    A step takes its scenes from one of the sets, drawn in proportion to their sizes, and from as many views of each
    scene as bring it to about the pixels of a step at the first set's resolution. No scene repeats within one pass over
    a set.

    Args:
        sets: of scenes; the first one's resolution is what `views` refers to.
        batch: scenes a step, over all processes; views: of each scene.
        augmented: whether scenes are changed in ways that keep them exact (`augment`); else all their views are taken.
        process, processes: which part of the scenes of a step are made here.
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
        sizes = np.array([len(part) for part in self.sets])
        chosen = int(np.random.default_rng([self.seed, 2, step]).choice(len(sizes), p=sizes / sizes.sum()))
        scenes = self.sets[chosen]
        rows = self._rows(scenes.token_counts, step)
        places = range(self.process, self.batch, self.processes)
        examples = [scenes[int(rows[k])] for k in places]
        if self.augmented:
            share = (self.sets[0][0].hdr.shape[1] / examples[0].hdr.shape[1]) ** 2
            views = max(1, round(self.views * share))
            # Each scene has its own random numbers, whichever process it falls to.
            examples = [
                augment(example, np.random.default_rng([self.seed, 4, step, k]), views)
                for k, example in zip(places, examples, strict=True)
            ]
        return collate(examples, np.float16)

    def _rows(self, counts: Int64Array, step: int) -> Int64Array:
        """(batch,) scenes of a step. A pass goes over a shuffled order; of each stretch of POOL batches, scenes of like
        numbers of tokens are put together, so that little is padded."""
        in_pass = max(1, len(counts) // self.batch)
        number, place = divmod(step, in_pass)
        order = np.random.default_rng([self.seed, 1, number]).permutation(len(counts))
        if len(order) < self.batch:
            return np.resize(order, self.batch)
        pool, place = divmod(place, POOL)
        start, end = pool * POOL * self.batch, min((pool + 1) * POOL, in_pass) * self.batch
        rows = order[start:end]
        rows = rows[np.argsort(counts[rows], kind="stable")].reshape(-1, self.batch)
        return rows[np.random.default_rng([self.seed, 3, number, pool]).permutation(len(rows))[place]]


def collate(examples: Sequence[Example], images: npt.DTypeLike = np.float32) -> Batch:
    """Pad scenes to the largest and stack them; `images` is the type of pixels and hdr, half for a batch that is still
    to travel (`Batch.to`)."""
    most = max(len(example.triangles) for example in examples)

    def padded(key: str) -> Tensor:
        arrays = [getattr(example, key) for example in examples]
        out = np.zeros((len(arrays), most, *arrays[0].shape[1:]), np.float32)
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
        mask=torch.arange(most)[None] < counts[:, None],
        triangle_light=padded("triangle_light"),
        c2w=stacked("c2w"),
        fov=stacked("fov")[..., None],
        pixels=stacked("pixels", images),
        hdr=stacked("hdr", images),
    )


def augment(example: Example, rng: np.random.Generator, views: int | None) -> Example:
    """A physically equivalent scene: turned about z, perhaps mirrored, colour channels permuted, corners turned
    cyclically, without feature images also under more or less light; `views` of its views, None for all.

    Feature images are in camera space: a turn leaves them alone, a mirror flips them and the x of their vectors.
    """
    angle = rng.uniform(0, 2 * np.pi)
    world = np.array([[np.cos(angle), -np.sin(angle), 0], [np.sin(angle), np.cos(angle), 0], [0, 0, 1]], np.float32)
    mirror = bool(rng.random() < 0.5)
    flip = np.diag([-1.0, 1.0, 1.0]).astype(np.float32)
    if mirror:
        world = world @ flip
    channels = rng.permutation(3)
    chosen = np.sort(rng.permutation(len(example.fov))[: views or len(example.fov)])
    order = (np.arange(3)[None] + rng.integers(0, 3, len(example.triangles))[:, None]) % 3
    # A mirror turns the outside in; reversing the corners turns it back.
    order = order[:, ::-1] if mirror else order
    rows = np.arange(len(example.triangles))[:, None]
    c2w = example.c2w[chosen].copy()
    # A mirrored camera frame is left-handed; its own mirror image of x makes it right-handed again.
    c2w[:, :3, :3] = world @ c2w[:, :3, :3] @ (flip if mirror else np.eye(3, dtype=np.float32))
    c2w[:, :3, 3] = c2w[:, :3, 3] @ world.T
    pixels, hdr = _permuted(example.pixels[chosen], channels), example.hdr[chosen][..., channels]
    if mirror:
        pixels, hdr = pixels[:, :, ::-1], hdr[:, :, ::-1]
        if pixels.shape[-1]:
            pixels[..., [RGB.normal.start, RGB.position.start]] *= -1
    materials = example.materials.copy()
    for part in (DIFFUSE, SPECULAR, EMISSION):
        materials[:, part] = materials[:, part.start + channels]
    if not pixels.shape[-1]:
        # A model that takes feature images is invariant to the exposure.
        exposure = np.float32(2 ** rng.uniform(-0.5, 0.5))
        materials[:, EMISSION] *= exposure
        hdr = np.minimum(hdr * exposure, HALF_MAX)
    return Example(
        triangles=(example.triangles @ world.T)[rows, order],
        normals=(example.normals @ world.T)[rows, order],
        materials=materials,
        triangle_light=example.triangle_light[..., channels],
        c2w=c2w,
        fov=example.fov[chosen],
        pixels=pixels,
        hdr=hdr,
    )


def _permuted(pixels: Float16Array, channels: Int64Array) -> Float16Array:
    """Feature images with their colour channels in another order."""
    order = torch.arange(pixels.shape[-1])
    if len(order):
        for part in RGB.by_colour:
            order[part] = part.start + torch.from_numpy(channels)
    # NumPy takes ten times as long for this.
    return torch.from_numpy(pixels).index_select(-1, order).numpy()
