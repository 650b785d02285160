"""Flicker: how much more a model's pictures change from view to view than those of a path tracer.

    python benchmarks/flicker.py [--model runs/mine/model | --no-network] [--scenes 5] [--views 48] [--resolution 64]

A camera goes around held-out procedural scenes: a full turn if there are no walls, else the 150 degrees from which
walls do not hide the scene. m is the model's picture, r the reference's (display values, clamp(x, 0, 1)^(1/2.2)), d the
difference of neighbouring views:

    motion   mean |d r|
    flicker  mean |d m - d r| / motion of the model; `no network`: the same of the light cache alone
    noise    flicker of a perfect picture, since references are noisy: half of mean |d r1 - d r2| / motion, for two
             references with independent seeds, whose mean is r

References have 64 samples a pixel; they are made once and stored in datasets/flicker.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from common import ROOT, report

import renderformer as rf
from renderformer.data.files import atomic_path
from renderformer.data.geometry.stages import stage_kind
from renderformer.data.sets.manifest import HELD_OUT_SEED
from renderformer.data.sets.mitsuba import ReferenceScene
from renderformer.data.sets.procedural_scenes import procedural_scene
from renderformer.evaluation.metrics import display

# Not used by the held-out sets.
FIRST_SEED = HELD_OUT_SEED + 500_000
SPP, DEPTH = 64, 16
WITHOUT_WALLS = ("none", "floor")

Frames = npt.NDArray[np.float32]


def cameras(scene: rf.Scene, views: int) -> list[rf.Camera]:
    """Views on a circle around the scene, as far as its walls allow."""
    if stage_of(scene) in WITHOUT_WALLS:
        return rf.Camera.orbit(views, elevation=25, fov=40)
    return rf.Camera.orbit(views, elevation=25, fov=40, start=-75, sweep=150)


def stage_of(scene: rf.Scene) -> str:
    return stage_kind(mesh.name for mesh in scene.objects)


def references(scene: rf.Scene, path: list[rf.Camera], size: int, file: Path) -> Frames:
    """(2, V, h, w, 3) path-traced views with two seeds, read from `file`, or made and written to it."""
    if not file.exists():
        tracer = ReferenceScene(scene, DEPTH)
        pictures = [[tracer.render(camera, size, size, SPP, seed) for camera in path] for seed in (0, 1)]
        with atomic_path(file) as temporary:
            np.save(temporary, np.array(pictures, np.float16))
    frames = np.load(file, allow_pickle=False).astype(np.float32)
    assert frames.shape == (2, len(path), size, size, 3), f"{file} has another shape, delete it"
    return frames


def steps(frames: Frames) -> Frames:
    """(V - 1, h, w, 3) change of the display values from view to view."""
    return np.diff(display(torch.from_numpy(frames)).numpy(), axis=0)


def measure(renderer: rf.Renderer, scene: rf.Scene, path: list[rf.Camera], truth: Frames) -> dict[str, float]:
    """motion, flicker, no network and noise, as above."""
    size = truth.shape[2]
    model, plain = (
        np.stack([image.hdr for image in each.render(scene, size, path)])
        for each in (renderer, rf.Renderer.from_pretrained(network=False))
    )
    first, second = steps(truth[0]), steps(truth[1])
    mean = (first + second) / 2
    motion = float(np.abs(mean).mean())
    return {
        "motion": motion,
        "flicker": float(np.abs(steps(model) - mean).mean()) / motion,
        "no network": float(np.abs(steps(plain) - mean).mean()) / motion,
        "noise": float(np.abs(first - second).mean()) / 2 / motion,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", help="folder or Hub id, the embedded model by default")
    parser.add_argument("--no-network", action="store_true", help="ray casting and the light cache alone")
    parser.add_argument("--scenes", type=int, default=5)
    parser.add_argument("--views", type=int, default=48)
    parser.add_argument("--resolution", type=int, default=64)
    options = parser.parse_args()

    renderer = rf.Renderer.from_pretrained(options.model, network=not options.no_network)
    folder = ROOT / "datasets" / "flicker"
    folder.mkdir(parents=True, exist_ok=True)
    rows, results = [], []
    for seed in range(FIRST_SEED, FIRST_SEED + options.scenes):
        scene = procedural_scene(seed)
        path = cameras(scene, options.views)
        file = folder / f"{seed}-{options.views}-{options.resolution}-{DEPTH}.npy"
        truth = references(scene, path, options.resolution, file)
        results.append(measure(renderer, scene, path, truth))
        rows.append({"scene": str(seed), "stage": stage_of(scene), "triangles": len(scene)})
        print(f"{seed}: {results[-1]}", file=sys.stderr)
    rows.append({"scene": "mean", "stage": "", "triangles": ""})
    results.append({key: float(np.mean([result[key] for result in results])) for key in results[0]})
    settings = {"model": renderer.name, "views": options.views, "pixels": options.resolution}
    report(
        "flicker",
        [
            {**row, **settings, **{key: f"{value:.4f}" for key, value in result.items()}}
            for row, result in zip(rows, results, strict=True)
        ],
    )


if __name__ == "__main__":
    main()
