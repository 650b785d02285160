"""Matt surfaces of a data set against light tracing, which finds what shiny surfaces throw on them (caustics).

    python benchmarks/thrown_light.py DATA [--side 64] [--paths 5000]

DATA is a data set of `renderformer data generate`. Its references follow paths from the camera, which seldom find the
light of a lamp by way of a mirror: most pixels are too dark, some far too bright. Here Mitsuba follows paths from the
lights instead, so many for each pixel of the first view of each scene, in two independent halves: the mean product of a
picture's differences from both is its squared error without their noise. Only pixels count that are matt all over and
below white, in display values.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import torch
from common import decibels, report

import renderformer as rf
from renderformer.data.arrays import AnyArray, BoolArray, Float32Array
from renderformer.data.rays.channels import RGB
from renderformer.data.sets.mitsuba import ReferenceScene
from renderformer.data.sets.shards import SceneArrays, ShardReader
from renderformer.evaluation.metrics import display

# Pictures of each half, with seeds of their own.
PASSES = 4
# Most that the medians of both kinds of references differ by.
AGREE = 0.05


def light_traced(scene: rf.Scene, depth: int, side: int, paths: int) -> list[Float32Array]:
    """Two independent pictures (side, side, 3) of the first camera."""
    tracer, share = ReferenceScene(scene, depth), max(1, paths // (2 * PASSES))
    return [
        np.mean([tracer.light_traced(scene.cameras[0], side, side, share, seed) for seed in seeds], axis=0)
        for seeds in (range(PASSES), range(PASSES, 2 * PASSES))
    ]


def matt(renderer: rf.Renderer, scene: rf.Scene, side: int) -> tuple[Float32Array, BoolArray]:
    """The picture (side, side, 3), and which of its pixels are matt."""
    lit = renderer.encode(scene)
    assert lit.caster is not None
    features = lit.caster.features(lit.unit.camera(scene.cameras[0]), side, side)
    whole: AnyArray = (features[..., RGB.mask] == 1).all(axis=2) & (features[..., RGB.emission] == 0).all(axis=2)
    picture = renderer.render(lit, side, scene.cameras[0])[0].hdr
    return picture, whole & (features[..., RGB.specular] == 0).all(axis=2) & (picture < 1).all(axis=2)


def error(picture: Float32Array, halves: list[Float32Array], counted: BoolArray) -> float:
    """Mean squared error of display values."""
    drawn, one, other = (shown(image)[counted] for image in (picture, *halves))
    return float(((drawn - one) * (drawn - other)).mean())


def shown(picture: Float32Array) -> AnyArray:
    """Display values."""
    return display(torch.from_numpy(np.array(picture))).double().numpy()


def reduced(picture: Float32Array, side: int) -> Float32Array:
    times = len(picture) // side
    return picture.reshape(side, times, side, times, 3).mean(axis=(1, 3))


def main() -> None:
    parser = argparse.ArgumentParser(description="Matt surfaces against light tracing.")
    parser.add_argument("data", type=Path, help="data set")
    parser.add_argument("--side", type=int, default=64, help="pixels on a side")
    parser.add_argument("--paths", type=int, default=5000, help="for each pixel")
    arguments = parser.parse_args()
    renderer, reader = rf.Renderer.from_pretrained(network=False), ShardReader(arguments.data)
    if reader.recipe.resolution % arguments.side:
        parser.error(f"--side {arguments.side} does not divide the {reader.recipe.resolution} pixels of the set")
    errors = []
    for index in range(len(reader)):
        read: SceneArrays = reader.scene(index)
        scene = read.to_scene()
        picture, counted = matt(renderer, scene, arguments.side)
        halves = light_traced(scene, reader.recipe.depth, arguments.side, arguments.paths)
        counted &= (np.mean(halves, axis=0) < 1).all(axis=2)
        if not counted.any():
            continue
        reference = reduced(read.hdr[0].astype(np.float32), arguments.side)
        traced, stored = (np.median(image[counted]) for image in (np.mean(halves, axis=0), reference))
        if abs(traced / stored - 1) > AGREE:
            raise SystemExit(f"scene {index}: paths from the lights and from the camera do not agree")
        errors.append([error(image, halves, counted) for image in (picture, reference)])
        ours, theirs = map(decibels, errors[-1])
        print(
            f"scene {index}: light cache {ours:.1f} dB, reference {theirs:.1f} dB, {counted.mean():.0%} of the pixels"
        )
    rows = []
    for name, values in zip(("light cache", "references"), np.transpose(errors), strict=True):
        every = [decibels(value) for value in values]
        rows.append(
            {
                "picture": name, "scenes": len(every), "side": arguments.side, "paths": arguments.paths,
                "mean_db": f"{np.mean(every):.2f}", "worst_db": f"{min(every):.2f}",
                "ratio": f"{np.mean(values) / np.mean(errors, axis=0)[1]:.3f}",
            }
        )  # fmt: skip
    report("thrown_light", rows)


if __name__ == "__main__":
    main()
