"""The error of a model against pictures without noise, estimated with two independent references of each view.

    python benchmarks/clean_references.py DATA FOLDER [--network]

DATA is a data set of `renderformer data generate`. FOLDER keeps second references of its views, made with other seeds
of the sampler, as many samples and the same path length, where they are missing; the command may be stopped any time.

Against a reference with noise a perfect picture has a finite PSNR: `noise` is that of the references in DATA, from the
difference of the two. Their noise is independent, so the mean product of a picture's differences from both is its
squared error without it: `clean dB`.

The mean over few paths is no estimate where rare paths carry much of the light (what a polished object throws on a
rough floor): most pixels are too dark, some are far too bright. Pixels within REACH of one whose brightest picture of
BATCHES is more than twice as bright as the mean of the others count as unsure; `sure dB` leaves them out.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import torch
from common import decibels, report
from scipy.ndimage import maximum_filter

import renderformer as rf
from renderformer.data.arrays import BoolArray, Float32Array
from renderformer.data.files import atomic_path
from renderformer.data.sets.generation import fireflies, robust_mean
from renderformer.data.sets.mitsuba import ReferenceScene
from renderformer.data.sets.shards import ShardReader
from renderformer.evaluation.metrics import display

# Pictures that a second reference is the mean of, from the first seed on; sets have small seeds.
BATCHES, SEED = 4, 100
# Pixels.
REACH = 3


def second(folder: Path, reader: ShardReader, index: int) -> Float32Array:
    """(V, BATCHES, h, w, 3) pictures of the views of a scene, read or made."""
    path = folder / f"{index:03d}.npy"
    if not path.exists():
        recipe, scene = reader.recipe, reader.scene(index).to_scene()
        tracer, size, share = ReferenceScene(scene, recipe.depth), recipe.resolution, recipe.spp // BATCHES
        views = [
            [tracer.render(camera, size, size, share, SEED + batch) for batch in range(BATCHES)]
            for camera in scene.cameras
        ]
        path.parent.mkdir(parents=True, exist_ok=True)
        with atomic_path(path) as temporary:
            np.save(temporary, np.array(views, np.float32))
        print(f"scene {index}: second references made", flush=True)
    pictures: Float32Array = np.load(path)
    return pictures


def unsure(batches: Float32Array) -> BoolArray:
    """(h, w) pixels of a reference (BATCHES, h, w, 3) near one with an outlier."""
    near: BoolArray = maximum_filter(fireflies(batches.mean(axis=-1)).any(axis=0), 2 * REACH + 1)
    return near


def main() -> None:
    parser = argparse.ArgumentParser(description="Error of a model without the noise of the references.")
    parser.add_argument("data", type=Path, help="data set")
    parser.add_argument("folder", type=Path, help="second references")
    parser.add_argument("--network", action="store_true", help="the embedded network, not the light cache alone")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    renderer = (
        rf.Renderer.from_pretrained(device="cpu") if arguments.network else rf.Renderer.from_pretrained(network=False)
    )
    reader = ShardReader(arguments.data)
    rows = []
    for i in range(len(reader)):
        arrays, again = reader.scene(i), second(arguments.folder, reader, i)
        scene = arrays.to_scene()
        images = renderer.render(scene, reader.recipe.resolution)
        for image, stored, batches in zip(images, arrays.hdr, again, strict=True):
            drawn, one, other = (
                display(torch.from_numpy(np.array(x, np.float32))).double().numpy()
                for x in (image.hdr, stored, robust_mean(batches))
            )
            sure = ~unsure(batches)
            product = ((drawn - one) * (drawn - other)).mean(axis=-1)
            rows.append(
                {
                    "dB": decibels(((drawn - one) ** 2).mean()),
                    "noise": decibels(((one - other) ** 2).mean() / 2),
                    "clean dB": decibels(product.mean()),
                    "sure": sure.mean(),
                    "sure dB": decibels(product[sure].mean()),
                }
            )
        print(i, *(f"{key} {value:.2f}" for key, value in rows[-1].items()), flush=True)
    columns = {key: np.array([row[key] for row in rows]) for key in rows[0]}
    table = [
        {"over views": name, **{key: f"{of(values):.2f}" for key, values in columns.items()}}
        for name, of in (("mean", np.mean), ("median", np.median), ("worst", np.min))
    ]
    report(
        "clean_references",
        [
            {"data": arguments.data.name, "views": len(rows), "spp": reader.recipe.spp, "model": renderer.name, **row}
            for row in table
        ],
    )


if __name__ == "__main__":
    main()
