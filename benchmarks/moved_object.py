"""Measure how a dragged object is followed in scenes of several sizes: the processor's time until the first picture
after a move, all threads together, and what the window's thread spends; pictures a second during a drag; and the time
from the end of a drag until all is as `render` draws it.

    python benchmarks/moved_object.py [--triangles 5000 80000 320000] [--size 640x480] [--seconds 4]

One row moves the large object of a scene, one the small object beside it. PYTHONPATH chooses another checkout.
"""

from __future__ import annotations

import argparse
import os
import statistics
import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
from common import ROOT, report

import renderformer as rf
from renderformer.viewer.panel import Panel
from renderformer.viewer.placement import Placement
from renderformer.viewer.session import Session

if TYPE_CHECKING:
    from renderformer.viewer.frames import Frame

# Triangles of the small object.
FEW = 500
MOVES_PER_SECOND = 60.0
# Single moves of which the median is taken.
MOVES = 7


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--triangles", type=int, nargs="+", default=(5000, 80_000, 320_000))
    parser.add_argument("--size", default="640x480", metavar="WxH")
    parser.add_argument("--seconds", type=float, default=4.0, help="of a drag")
    parser.add_argument("--patience", type=float, default=300.0, help="most seconds for a picture to become full")
    options = parser.parse_args()
    width, height = map(int, options.size.split("x"))
    renderer = rf.Renderer.from_pretrained(network=False)
    rows = []
    for triangles in options.triangles:
        for name in ("large", "small"):
            session = Session(a_scene(triangles), renderer, (width, height))
            try:
                rows.append(measure(session, name, options.seconds, options.patience))
            finally:
                session.close()
    report("moved_object", rows)
    print(f"load {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores")


def a_scene(triangles: int) -> rf.Scene:
    """A room with an object of nearly all triangles and a small one."""
    room = rf.Scene.load(ROOT / "examples" / "knot_room.json")
    objects = [mesh for mesh in room.objects if mesh.name != "knot"]
    large = triangles - FEW - sum(map(len, objects))
    objects += [a_ball("large", large, (0.0, 0.1, -0.2), 0.2), a_ball("small", FEW, (0.3, -0.2, -0.3), 0.08)]
    return room.replace(objects=tuple(objects))


def a_ball(name: str, triangles: int, centre: tuple[float, float, float], radius: float) -> rf.Mesh:
    """A dented ball of about so many triangles."""
    side = round((triangles / 2) ** 0.5)
    u, v = np.meshgrid(np.linspace(0, np.pi, side + 1), np.linspace(0, 2 * np.pi, side + 1), indexing="ij")
    away = radius * (1 + 0.1 * np.sin(7 * u) * np.cos(5 * v))
    places = np.stack([away * np.sin(u) * np.cos(v), away * np.sin(u) * np.sin(v), away * np.cos(u)], -1) + centre
    a, b, c, d = places[:-1, :-1], places[1:, :-1], places[1:, 1:], places[:-1, 1:]
    corners = np.concatenate([np.stack(three, -2).reshape(-1, 3, 3) for three in ((a, b, c), (a, c, d))])
    return rf.Mesh(name, corners.astype(np.float32))


def measure(session: Session, name: str, seconds: float, patience: float) -> dict[str, Any]:
    frames: list[tuple[float, float, Frame]] = []
    session.on_frame = lambda frame: frames.append((time.monotonic(), time.process_time(), frame))
    session.request()
    session.scheduler.wait(patience)
    Panel(session).choose(name)
    # What a person needs to take a handle.
    time.sleep(2.0)
    session.document.begin_stroke()
    firsts, edits, walls = [], [], []
    for number in range(MOVES):
        count, at, spent, own = len(frames), time.monotonic(), time.process_time(), time.thread_time()
        move(session, name, 0.01 * (number + 1))
        edits.append(time.thread_time() - own)
        while len(frames) == count:
            time.sleep(0.001)
        firsts.append(frames[count][1] - spent)
        walls.append(frames[count][0] - at)
        time.sleep(0.3)
    count, started = len(frames), time.monotonic()
    while time.monotonic() < started + seconds:
        move(session, name, 0.1 * np.sin(time.monotonic()))
        time.sleep(1 / MOVES_PER_SECOND)
    stopped = time.monotonic()
    rate = (len(frames) - count) / (stopped - started)
    session.document.end_stroke()
    session.request()
    session.scheduler.wait(patience)
    return {
        "triangles": sum(len(item.base) for item in session.document.items),
        "moved": len(session.document[name].base),
        "first move CPU ms": f"{1000 * firsts[0]:.0f}",
        "next CPU ms": f"{1000 * statistics.median(firsts[1:]):.0f}",
        "window's CPU ms": f"{1000 * statistics.median(edits):.0f}",
        "wall ms": f"{1000 * statistics.median(walls[1:]):.0f}",
        "pictures/s": f"{rate:.1f}",
        "final after s": f"{frames[-1][0] - stopped:.1f}" if frames[-1][2].final else "-",
    }


def move(session: Session, name: str, along: float) -> None:
    start = session.document[name].placement
    place: Placement = replace(start, translation=(along, 0.0, 0.0), rotation=(0.0, 0.0, 90 * along))
    session.edit(lambda document: document.place(name, place))


if __name__ == "__main__":
    main()
