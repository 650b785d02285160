"""Measure the viewer's session, without a window: coarse pictures a second while the camera moves, time from a move to
its picture, time from the last move to the full picture, and growth of memory over a thousand moves.

    python benchmarks/viewer_latency.py [--scene examples/knot_room.json] [--resolutions 128 1024] [--moves 1000]

Prints the load of the machine before and after, as other programs slow it down.
"""

from __future__ import annotations

import argparse
import os
import resource
import statistics
import time
from typing import Any

from common import ROOT, report

import renderformer as rf
from renderformer.viewer.scheduler import Frame
from renderformer.viewer.session import RESOLUTIONS, Session

# Rate at which a browser or a window reports pointer moves.
MOVES_PER_SECOND = 60.0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scene", default=str(ROOT / "examples" / "knot_room.json"))
    parser.add_argument("--model", default=None)
    parser.add_argument("--resolutions", type=int, nargs="+", default=RESOLUTIONS)
    parser.add_argument("--seconds", type=float, default=10.0, help="duration of the movement at each resolution")
    parser.add_argument("--moves", type=int, default=1000, help="moves of the memory measurement; 0 for none")
    options = parser.parse_args()
    scene, renderer = rf.Scene.load(options.scene), rf.Renderer.from_pretrained(options.model)
    print(f"load {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores")
    rows = [measure(scene, renderer, side, options.seconds) for side in options.resolutions]
    report("viewer_latency", rows)
    if options.moves:
        growth = memory(scene, renderer, options.moves)
        print(f"load {os.getloadavg()[0]:.1f}")
        print(f"largest memory grew by {growth:.0f} MB over {options.moves} moves after {options.moves} to warm up")


def measure(scene: rf.Scene, renderer: rf.Renderer, side: int, seconds: float) -> dict[str, Any]:
    session = Session(scene, renderer, side)
    frames: list[Frame] = []
    session.on_frame = frames.append
    try:
        session.request()
        session.scheduler.wait()
        move(session, 2.0)
        frames.clear()
        started = time.monotonic()
        move(session, seconds)
        stopped = time.monotonic()
        moving_frames, duration = list(frames), stopped - started
        session.scheduler.wait()
        latencies = sorted(frame.latency for frame in moving_frames)
        return {
            "side": side,
            "pictures/s": f"{len(moving_frames) / duration:.1f}",
            "coarse side": statistics.mode(min(f.image.width, f.image.height) for f in moving_frames)
            if latencies
            else "-",
            "latency ms": f"{1000 * statistics.median(latencies):.0f}" if latencies else "-",
            "95% ms": f"{1000 * latencies[int(0.95 * len(latencies))]:.0f}" if latencies else "-",
            "full after ms": f"{1000 * (time.monotonic() - stopped):.0f}",
        }
    finally:
        session.close()


def move(session: Session, seconds: float) -> None:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        session.move(lambda orbit: orbit.orbit(1.0, 0.0))
        time.sleep(1 / MOVES_PER_SECOND)


def memory(scene: rf.Scene, renderer: rf.Renderer, moves: int) -> float:
    """Growth of the peak resident size, in MB, over a number of moves after as many to warm up."""
    session = Session(scene, renderer, 64)
    peaks = []
    try:
        for _ in range(2):
            for _ in range(moves):
                session.move(lambda orbit: orbit.orbit(1.0, 0.0))
                time.sleep(0.005)
            session.scheduler.wait()
            peaks.append(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
        return peaks[1] - peaks[0]
    finally:
        session.close()


if __name__ == "__main__":
    main()
