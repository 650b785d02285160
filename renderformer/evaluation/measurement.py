"""Scores of a model on a data set, beside those of the light cache without a network.

Views of one scene share its light, so scenes are the independent samples: means and confidence intervals are over the
per-scene means.

Shapes: S scenes, V views of a scene, h x w pixels.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from renderformer.data.arrays import Float16Array, Float64Array, UInt8Array
from renderformer.data.errors import InputError
from renderformer.data.progress import Progress, silent
from renderformer.data.scene import EMISSION, ROUGHNESS, SPECULAR
from renderformer.data.sets.shards import SceneArrays, ShardReader
from renderformer.evaluation.metrics import display_bytes, flip, psnr, relative_mse, ssim
from renderformer.model import Model, PhysicalModel
from renderformer.model.physical import first_answer
from renderformer.renderer import Renderer
from renderformer.training.dataset import Batch, Example, TrainingSet, collate

Scores = dict[str, Float64Array]
METHODS = ("model", "light_cache")
METRICS = ("psnr", "ssim", "flip", "relative_mse")


def predict(model: Model, batch: Batch) -> Tensor:
    """(B, V, h, w, C) pictures of a batch: the channels of its light in a model of separate channels, else three; then
    alpha, where the model draws it."""
    scene_inputs = {name: getattr(batch, name) for name in model.scene_inputs}
    view_inputs = {name: getattr(batch, name) for name in model.view_inputs}
    encoded = model.encode(batch.triangles, batch.materials, batch.mask, batch.normals, **scene_inputs)
    height, width = batch.hdr.shape[2:4]
    return model.view(encoded, batch.c2w, batch.fov, height, width, **view_inputs)


@torch.inference_mode()
def evaluate(model: Model, data: Sequence[Example], progress: Progress = silent) -> Scores:
    """Scores of a model: (S V,) arrays `psnr` (dB) and `ssim`."""
    psnrs, ssims = [], []
    for i in range(len(data)):
        batch = collate([data[i]]).to(model.device)
        picture, reference = predict(model, batch)[0, ..., :3].float(), batch.hdr[0]
        psnrs.append(psnr(picture, reference))
        ssims.append(ssim(picture, reference))
        progress("evaluate", i + 1, len(data))
    return {"psnr": _joined(psnrs), "ssim": _joined(ssims)}


@torch.inference_mode()
def first_scores(data: Sequence[Example]) -> Scores:
    """Scores of the pictures without a network, as of `evaluate`; the data needs feature images."""
    batches = (collate([data[i]]) for i in range(len(data)))
    pairs = [(first_answer(batch.pixels[0]), batch.hdr[0]) for batch in batches]
    return {"psnr": _joined([psnr(*pair) for pair in pairs]), "ssim": _joined([ssim(*pair) for pair in pairs])}


def _joined(parts: list[Tensor]) -> Float64Array:
    return torch.cat(parts).double().cpu().numpy()


@dataclass(frozen=True)
class SceneFacts:
    """The properties by which scenes are grouped.

    Attributes:
        seed: of the scene.
        stage: name of its surroundings.
        lights: number of light triangles.
        triangles: number of all triangles.
        roughness: of the shiniest surface, None in a scene without specular surfaces.
    """

    seed: int
    stage: str
    lights: int
    triangles: int
    roughness: float | None

    @classmethod
    def of(cls, scene: SceneArrays) -> SceneFacts:
        emits = (scene.materials[:, EMISSION] > 0).any(axis=1)
        glossy = (scene.materials[:, SPECULAR] > 0).any(axis=1) & ~emits
        roughness = float(scene.materials[glossy, ROUGHNESS].min()) if glossy.any() else None
        return cls(scene.seed, scene.stage, int(emits.sum()), len(scene.triangles), roughness)


@dataclass(frozen=True)
class Measurement:
    """The results on one set of scenes.

    Attributes:
        folder: of the set.
        resolution: pixels on a side.
        scenes: facts of the S scenes.
        scores: (S, V) for each of METHODS and METRICS.
        pictures: (S, V, h, w, 3) uint8 display values of "reference" and METHODS; may be empty.
        errors: (S, V, h, w) FLIP maps of METHODS; may be empty.
    """

    folder: Path
    resolution: int
    scenes: tuple[SceneFacts, ...]
    scores: dict[str, dict[str, Float64Array]]
    pictures: dict[str, UInt8Array]
    errors: dict[str, Float16Array]

    @property
    def views(self) -> int:
        """Number of views per scene."""
        return self.scores["model"]["psnr"].shape[1]

    def per_scene(self, method: str, metric: str) -> Float64Array:
        """(S,) means over the views."""
        return self.scores[method][metric].mean(axis=1)

    def gain(self) -> Float64Array:
        """(S,) PSNR of the model minus that of the light cache alone, dB."""
        return self.per_scene("model", "psnr") - self.per_scene("light_cache", "psnr")


@torch.inference_mode()
def measure(model: Model, data: TrainingSet, pictures: bool = False, progress: Progress = silent) -> Measurement:
    """Score a model and the light cache on each view.

    Args:
        model: on the CPU.
        data: with feature images, also for a model without them.
        pictures: whether to return pictures and error maps, 11 bytes per pixel and view.

    Raises:
        InputError: flip-evaluator is not installed, or the model gives values that are not finite.
    """
    reader = ShardReader(data.folder)
    scores: dict[str, dict[str, list[Float64Array]]] = {m: {k: [] for k in METRICS} for m in METHODS}
    images: dict[str, list[UInt8Array]] = {name: [] for name in ("reference", *METHODS)}
    errors: dict[str, list[Float16Array]] = {method: [] for method in METHODS}
    for i in range(len(data)):
        batch = collate([data[i]])
        reference = batch.hdr[0]
        cached = first_answer(batch.pixels)[0]
        drawn = cached if isinstance(model, PhysicalModel) else predict(model, batch)[0, ..., :3].float()
        if not drawn.isfinite().all():
            place = f"{data.folder}: scene {i}"
            raise InputError(place, "the model's picture is not finite", "give a model with usable weights")
        drawings = {"model": drawn, "light_cache": cached}
        for method, picture in drawings.items():
            maps = flip(picture, reference)
            scores[method]["psnr"].append(psnr(picture, reference).double().numpy())
            scores[method]["ssim"].append(ssim(picture, reference).double().numpy())
            scores[method]["flip"].append(maps.mean(axis=(1, 2), dtype=np.float64))
            scores[method]["relative_mse"].append(relative_mse(picture, reference).numpy())
            if pictures:
                errors[method].append(maps.astype(np.float16))
        if pictures:
            for method, picture in {"reference": reference, **drawings}.items():
                images[method].append(display_bytes(picture))
        progress("evaluate", i + 1, len(data))
    return Measurement(
        folder=data.folder,
        resolution=reader.recipe.resolution,
        scenes=tuple(SceneFacts.of(reader.scene(i)) for i in range(len(data))),
        scores={m: {k: np.stack(values) for k, values in by_metric.items()} for m, by_metric in scores.items()},
        pictures={m: np.stack(values) for m, values in images.items() if values},
        errors={m: np.stack(values) for m, values in errors.items() if values},
    )


def measure_folder(
    renderer: Renderer, folder: Path, limit: int | None, pictures: bool, progress: Progress = silent
) -> Measurement:
    """Measure a renderer's model on at most `limit` scenes of a data set, and cast missing rays.

    Raises:
        InputError: as `measure`, or an unreadable data set.
    """
    workers, tokens = torch.get_num_threads(), renderer.config.light_tokens
    scenes = TrainingSet(folder, workers, limit, light_tokens=tokens, progress=progress)
    return measure(renderer.model, scenes, pictures, progress)


def interval(values: Float64Array) -> tuple[float, float | None]:
    """Mean of independent values and half its 95 % confidence interval (Student's t), None for a single value."""
    mean = float(values.mean())
    if len(values) < 2:
        return mean, None
    from scipy.stats import t

    return mean, float(t.ppf(0.975, len(values) - 1) * values.std(ddof=1) / math.sqrt(len(values)))


# Upper ends of the groups, each with its name.
LIGHTS = ((1, "1"), (2, "2"), (4, "3 to 4"), (8, "5 to 8"), (math.inf, "more than 8"))
TRIANGLES = ((127, "up to 127"), (383, "128 to 383"), (1023, "384 to 1,023"), (math.inf, "1,024 and more"))
ROUGHNESS_GROUPS = ((0.1, "up to 0.1"), (0.3, "0.1 to 0.3"), (math.inf, "over 0.3"))
NO_GLOSS = "nothing glossy"


def groups(scenes: Sequence[SceneFacts]) -> dict[str, dict[str, list[int]]]:
    """Indices of the scenes by stage, light count, roughness of the shiniest surface, and triangle count, without empty
    groups."""

    def named(value: float, ends: Sequence[tuple[float, str]]) -> str:
        return next(name for end, name in ends if value <= end)

    kinds: dict[str, tuple[list[str], Callable[[SceneFacts], str]]] = {
        "stage": (sorted({s.stage for s in scenes}), lambda s: s.stage),
        "lights": ([name for _, name in LIGHTS], lambda s: named(s.lights, LIGHTS)),
        "roughness": (
            [*(name for _, name in ROUGHNESS_GROUPS), NO_GLOSS],
            lambda s: NO_GLOSS if s.roughness is None else named(s.roughness, ROUGHNESS_GROUPS),
        ),
        "triangles": ([name for _, name in TRIANGLES], lambda s: named(s.triangles, TRIANGLES)),
    }
    members = {
        kind: {name: [i for i, scene in enumerate(scenes) if of(scene) == name] for name in names}
        for kind, (names, of) in kinds.items()
    }
    return {kind: {name: rows for name, rows in by_name.items() if rows} for kind, by_name in members.items()}
