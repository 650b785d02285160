"""Rooms unlike those of the training, against Mitsuba + OIDN in equal time.

    python benchmarks/foreign_rooms.py FOLDER --references     # path traces what is missing; may be stopped any time
    python benchmarks/foreign_rooms.py FOLDER [--sheet SHEET.png]

The second prints a table of the rooms that have a reference. `furnished_rooms.py` builds them from furniture and
environments in the public domain, which `--references` loads into FOLDER if they are missing.

A reference is the mean of 16 pictures with seeds of their own, of which each pixel leaves out one that is an outlier
(`robust_mean`). `noise` is what it would have against a perfect picture, by the spread of the 16: no method can be
measured much beyond it.

Time is CPU time on one core for one picture with the preparation of its scene, see
`renderformer.evaluation.equal_time`. Mitsuba + OIDN has as much of it as the model that it stands beside.
"""

from __future__ import annotations

import argparse
import math
import sys
import time
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from common import ROOT, report
from furnished_rooms import ROOMS, Room, fetch
from PIL import Image, ImageDraw

import renderformer as rf
from renderformer.data.arrays import Float32Array
from renderformer.data.files import atomic_path
from renderformer.data.sets.generation import robust_mean
from renderformer.data.sets.mitsuba import ReferenceScene
from renderformer.evaluation.equal_time import Denoiser, Entry, race
from renderformer.evaluation.metrics import display, display_bytes, flip, psnr

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


@dataclass(frozen=True)
class Reference:
    """A picture (h, w, 3), the PSNR that its noise would have against a perfect one, and samples of a pixel."""

    picture: Float32Array
    noise: float
    spp: int

    @classmethod
    def read(cls, folder: Path, room: Room, size: int) -> Reference | None:
        """That of a room; None before it has enough pictures to tell outliers."""
        paths = [batch_path(folder, room, size, seed) for seed in range(PICTURES)]
        pictures = [np.load(path) for path in paths if path.exists()]
        if len(pictures) < 3:
            return None
        batches = np.stack(pictures)
        shown = display(torch.from_numpy(batches))
        error = float(shown.var(dim=0).mean()) / len(batches)
        return cls(robust_mean(batches), -10 * math.log10(max(error, 1e-10)), SPP * len(batches))


def judged(entry: Entry, reference: Reference) -> tuple[float, float]:
    """PSNR in decibels and FLIP of a picture."""
    pair = [torch.from_numpy(np.array(picture))[None] for picture in (entry.picture, reference.picture)]
    return float(psnr(*pair)), float(flip(*pair).mean())


def measure(
    folder: Path, room: Room, size: int, reference: Reference, denoise: Denoiser, models: dict[str, bool]
) -> tuple[list[Any], Any]:
    """A row of the table for each model, and labelled pictures for the sheet."""
    scene, rows = room.scene(folder), []
    tiles = [("reference", reference.picture)]
    for name, network in models.items():
        entries = race(renderer(network), denoise, scene, size, DEPTH, (1,))[1]
        row = {"room": room.name, "triangles": len(scene), "noise": f"{reference.noise:.1f}", "spp": reference.spp}
        row["model"] = name
        for method, key in (("model", "ours"), ("mitsuba_oidn", "oidn"), ("mitsuba_oidn_guided", "guided")):
            decibels, error = judged(entries[method], reference)
            row |= {f"{key}_s": f"{entries[method].seconds:.2f}", f"{key}_dB": f"{decibels:.2f}"}
            row[f"{key}_flip"] = f"{error:.4f}"
            label = name if key == "ours" else f"Mitsuba + OIDN{', guided' * (key == 'guided')}"
            if key == "ours" or not network:
                tiles.append((f"{label}, {decibels:.1f} dB", entries[method].picture))
        rows.append(row)
        print(row, flush=True)
    return rows, tiles


@cache
def renderer(network: bool) -> rf.Renderer:
    """The default model, or the light cache alone, warmed up: the first picture of a process takes longer."""
    made = rf.Renderer.from_pretrained(device="cpu", network=network)
    knot = rf.Scene.load(ROOT / "examples" / "knot_room.json")
    made.render(knot, 16, knot.cameras[0])
    return made


def means(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The rows, and below them the mean of each model's."""
    result = list(rows)
    for name in dict.fromkeys(row["model"] for row in rows):
        own = [row for row in rows if row["model"] == name]
        mean: dict[str, Any] = {"room": "mean", "model": name}
        for key in own[0]:
            if key not in mean:
                mean[key] = f"{np.mean([float(row[key]) for row in own]):.{4 if 'flip' in key else 2}f}"
        result.append({key: mean[key] for key in own[0]})
    return result


def draw_sheet(path: Path, strips: list[tuple[str, list[tuple[str, Float32Array]]]], size: int) -> None:
    """A strip of labelled pictures for each room."""
    gap, label = 4, 14
    columns = max(len(tiles) for _, tiles in strips)
    sheet = Image.new("RGB", (columns * (size + gap), len(strips) * (size + label)), "white")
    pen = ImageDraw.Draw(sheet)
    for row, (name, tiles) in enumerate(strips):
        for column, (text, picture) in enumerate(tiles):
            x, y = column * (size + gap), row * (size + label)
            sheet.paste(Image.fromarray(display_bytes(torch.from_numpy(np.array(picture)))), (x, y + label))
            pen.text((x + 1, y + 1), name if column == 0 else text, "black")
    sheet.save(path)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="for the packages and the references")
    parser.add_argument("--references", action="store_true", help="make the references")
    parser.add_argument("--size", type=int, default=128, help="edge of a picture in pixels")
    parser.add_argument("--pictures", type=int, default=PICTURES, help=f"of each reference, {SPP} samples each")
    parser.add_argument("--only", default="", help="rooms whose name contains this")
    parser.add_argument("--no-network", action="store_true", help="leave the default model out")
    parser.add_argument("--sheet", type=Path, help="a picture of all rooms as each method draws them")
    options = parser.parse_args()
    rooms = [room for room in ROOMS if options.only in room.name]
    if options.references:
        fetch(options.folder)
        trace(options.folder, rooms, options.size, options.pictures)
        return
    torch.set_num_threads(1)
    denoise, rows, strips = Denoiser(), [], []
    models = {"light cache": False} | ({} if options.no_network else {"network": True})
    for room in rooms:
        reference = Reference.read(options.folder, room, options.size)
        if reference is None:
            print(f"{room.name}: no reference yet")
            continue
        own, tiles = measure(options.folder, room, options.size, reference, denoise, models)
        rows += own
        strips.append((room.name, tiles))
    if not rows:
        sys.exit("error: there are no references; make them with --references")
    report("foreign_rooms", means(rows))
    if options.sheet:
        draw_sheet(options.sheet, strips, options.size)


if __name__ == "__main__":
    main()
