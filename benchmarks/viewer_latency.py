"""How fast the viewer answers: coarse pictures a second while the camera moves, time from a move to its picture, time
to the full picture once it is still, and memory over a thousand moves; through the controller, without a window.

    python benchmarks/viewer_latency.py [--scene examples/knot_room.json] [--resolutions 128 1024] [--moves 1000]

The load of the machine is told before and after: other programs take from the same cores.
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

# Of the pointer, as a browser or a window reports it.
MOVES_PER_SECOND = 60.0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scene", default=str(ROOT / "examples" / "knot_room.json"))
    parser.add_argument("--model", default=None)
    parser.add_argument("--resolutions", type=int, nargs="+", default=RESOLUTIONS)
    parser.add_argument("--seconds", type=float, default=10.0, help="of movement per resolution")
    parser.add_argument("--moves", type=int, default=1000, help="for the memory")
    options = parser.parse_args()
    scene, renderer = rf.Scene.load(options.scene), rf.Renderer.from_pretrained(options.model)
    print(f"load {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores")
    rows = [measure(scene, renderer, side, options.seconds) for side in options.resolutions]
    report("viewer_latency", rows)
    if options.moves:
        grown = memory(scene, renderer, options.moves)
        print(f"load {os.getloadavg()[0]:.1f}")
        print(f"largest memory grew by {grown:.0f} MB over {options.moves} moves after {options.moves} to warm up")


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
        moved, spent = list(frames), stopped - started
        session.scheduler.wait()
        latencies = sorted(frame.latency for frame in moved)
        return {
            "side": side,
            "pictures/s": f"{len(moved) / spent:.1f}",
            "coarse side": statistics.mode(min(f.image.width, f.image.height) for f in moved) if moved else "-",
            "latency ms": f"{1000 * statistics.median(latencies):.0f}" if moved else "-",
            "95% ms": f"{1000 * latencies[int(0.95 * len(latencies))]:.0f}" if moved else "-",
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
    """MB by which the largest resident size grows in the second half of twice as many moves."""
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
