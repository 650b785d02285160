"""Time a picture by the embedded model and by path tracing (Mitsuba 3, `scalar_rgb`) of the same scene.

    python benchmarks/render_speed.py [--scene examples/knot_room.json] [--resolutions 64 128 256 512]

Exits with an error if the picture has less than 25 dB to a path-traced one (PSNR of clamp(x, 0, 1)^(1/2.2) at 64 px).
`ratio` is the time of path tracing at 64 samples per pixel over the model's, both on all cores.
"""

from __future__ import annotations

import argparse
import os
import sys

import torch
from common import ROOT, report, seconds

import renderformer as rf
from renderformer.data.sets.mitsuba import ReferenceScene
from renderformer.evaluation.metrics import psnr


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scene", default=str(ROOT / "examples" / "knot_room.json"))
    parser.add_argument("--resolutions", type=int, nargs="+", default=[64, 128, 256, 512])
    options = parser.parse_args()

    scene = rf.Scene.load(options.scene)
    camera = scene.cameras[0]
    renderer = rf.Renderer.from_pretrained()
    reference = ReferenceScene(scene, threads=len(os.sched_getaffinity(0)))
    pictures = renderer.render(scene, 64, camera)[0].hdr, reference.render(camera, 64, 64, 1024)
    decibels = float(psnr(*(torch.tensor(picture)[None] for picture in pictures)))
    print(f"{options.scene}: {len(scene):,} triangles, {decibels:.1f} dB from 1024 spp at 64 px")
    if decibels < 25:
        sys.exit("error: the picture is too far from the path-traced one; nothing was timed")

    encode = seconds(lambda: renderer.encode(scene))
    lit = renderer.encode(scene)
    rows = []
    for side in options.resolutions:
        view = seconds(lambda side=side: renderer.render(lit, side, camera))
        traced = seconds(lambda side=side: reference.render(camera, side, side, 64), repeats=1)
        rows.append(
            {
                "pixels": f"{side}x{side}",
                "encode_s": f"{encode:.3f}",
                "view_s": f"{view:.3f}",
                "total_s": f"{encode + view:.3f}",
                "mitsuba_64spp_s": f"{traced:.3f}",
                "ratio": f"{traced / (encode + view):.1f}",
            }
        )
    report("render_speed", rows)


if __name__ == "__main__":
    main()
