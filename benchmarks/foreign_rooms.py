"""Rooms unlike those of the training, against Mitsuba + OIDN in equal time.

    python benchmarks/foreign_rooms.py FOLDER --references     # path traces what is missing; may be stopped any time
    python benchmarks/foreign_rooms.py FOLDER [-o SHEET.png]   # the table of the rooms whose references are complete

`furnished_rooms.py` builds the rooms from furniture and environments in the public domain, which `--references` loads
into FOLDER if they are missing. A reference is 16 pictures with seeds of their own, of which each pixel leaves out one that
is an outlier (`robust_mean`). Its noise is that of their mean: the squared error that their spread predicts, as a
PSNR. No method can be measured much beyond that.

Time is CPU time on one core, see `renderformer.evaluation.equal_time`: one picture with the preparation of its scene.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import numpy as np
import torch
from common import report
from furnished_rooms import ROOMS, Room, fetch
from PIL import Image, ImageDraw

import renderformer as rf
from renderformer.data.arrays import Float32Array
from renderformer.data.files import atomic_path
from renderformer.data.sets.generation import robust_mean
from renderformer.data.sets.mitsuba import ReferenceScene
from renderformer.evaluation.metrics import display

# A reference is the mean of pictures of their own seeds, SPP samples each.
DEPTH, PICTURES, SPP = 16, 16, 64


def batch_path(folder: Path, room: Room, size: int, seed: int) -> Path:
    """Where one picture of a reference is kept."""
    name = room.name.replace(",", "").replace(" ", "_")
    return folder / "references" / f"{name}_{size}px_{seed}.npy"


def trace(folder: Path, rooms: list[Room], size: int, count: int) -> None:
    """Path trace those of the first `count` pictures of each reference that are missing."""
    for room in rooms:
        paths = {seed: batch_path(folder, room, size, seed) for seed in range(count)}
        missing = {seed: path for seed, path in paths.items() if not path.exists()}
        if not missing:
            continue
        start, scene = time.process_time(), room.scene(folder)
        tracer = ReferenceScene(scene, DEPTH)
        for seed, path in missing.items():
            picture = tracer.render(scene.cameras[0], size, size, SPP, seed)
            path.parent.mkdir(exist_ok=True)
            with atomic_path(path) as temporary:
                np.save(temporary, picture)
        print(f"{room.name}: {len(missing)} pictures in {time.process_time() - start:.0f} CPU s", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="for the packages and the references")
    parser.add_argument("--references", action="store_true", help="make the references")
    parser.add_argument("--size", type=int, default=128, help="edge of a picture in pixels")
    parser.add_argument("--pictures", type=int, default=PICTURES, help=f"of each reference, {SPP} samples each")
    parser.add_argument("--only", default="", help="rooms whose name contains this")
    options = parser.parse_args()
    rooms = [room for room in ROOMS if options.only in room.name]
    if options.references:
        fetch(options.folder)
        trace(options.folder, rooms, options.size, options.pictures)
        return


if __name__ == "__main__":
    main()
