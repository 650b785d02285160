"""Rooms unlike those of the training, against Mitsuba + OIDN in equal time.

    python benchmarks/foreign_rooms.py FOLDER --references     # path traces what is missing; may be stopped any time
    python benchmarks/foreign_rooms.py FOLDER [-o SHEET.png]   # the table of the rooms whose references are complete

`furnished_rooms.py` builds the rooms from furniture and environments in the public domain, which `--references` loads
into FOLDER if they are missing. A reference is four pictures with seeds of their own, of which each pixel leaves out
one that is an outlier (`robust_mean`). Its noise is that of their mean: the squared error that their spread predicts,
as a PSNR. No method can be measured much beyond that.

Time is CPU time on one core, see `renderformer.evaluation.equal_time`: one picture with the preparation of its scene.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import numpy as np
from furnished_rooms import ROOMS, Room, fetch

from renderformer.data.files import atomic_path
from renderformer.data.sets.mitsuba import ReferenceScene

BATCHES, DEPTH = 4, 16


def batch_path(folder: Path, room: Room, size: int, spp: int, seed: int) -> Path:
    return folder / "references" / f"{room.name.replace(' ', '_').replace(',', '')}_{size}px_{spp}spp_{seed}.npy"


def trace(folder: Path, rooms: list[Room], size: int, spp: int) -> None:
    """Path trace the batches that are missing, the first of all rooms first."""
    for seed in range(BATCHES):
        for room in rooms:
            path = batch_path(folder, room, size, spp // BATCHES, seed)
            if path.exists():
                continue
            path.parent.mkdir(exist_ok=True)
            start, scene = time.process_time(), room.scene(folder)
            picture = ReferenceScene(scene, DEPTH).render(scene.cameras[0], size, size, spp // BATCHES, seed)
            with atomic_path(path) as temporary:
                np.save(temporary, picture)
            print(f"{path.name}: {time.process_time() - start:.0f} s", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="for the packages and the references")
    parser.add_argument("--references", action="store_true", help="make the references")
    parser.add_argument("--size", type=int, default=128, help="edge of a picture in pixels")
    parser.add_argument("--spp", type=int, default=1024, help="samples of a reference, four batches together")
    parser.add_argument("--only", default="", help="rooms whose name contains this")
    options = parser.parse_args()
    rooms = [room for room in ROOMS if options.only in room.name]
    if options.references:
        fetch(options.folder)
        trace(options.folder, rooms, options.size, options.spp)
        return


if __name__ == "__main__":
    main()
