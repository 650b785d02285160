"""Measure the viewer's session, without a window: pictures a second while the camera moves; time from a move to its
picture; from the last move to the full one, with the steps on the way, and the CPU time of the longest piece of work,
which tells what is slow by itself from what has waited for a busy machine; time in which a move ends what is drawn;
memory over a thousand moves.

    python benchmarks/viewer_latency.py [--scene FILE] [--no-network | --model FOLDER] [--sizes 1280x720] [--moves 1000]
    python benchmarks/viewer_latency.py --against OTHER_CHECKOUT [--rounds 3] ...

The second form measures this program and that of another checkout in turn, each in a process of its own, and prints the
medians of both: so other programs slow both down alike. The load of the machine is printed, too.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import resource
import statistics
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Any

from common import ROOT, report

import renderformer as rf
from renderformer.viewer.session import Session

if TYPE_CHECKING:
    from renderformer.viewer.frames import Frame

# Rate at which a browser or a window reports pointer moves.
MOVES_PER_SECOND = 60.0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scene", default=str(ROOT / "examples" / "knot_room.json"))
    parser.add_argument("--model", default=None)
    parser.add_argument("--no-network", action="store_true")
    parser.add_argument("--sizes", nargs="+", default=("1280x720", "1920x1080"), metavar="WxH")
    parser.add_argument("--seconds", type=float, default=10.0, help="duration of the movement at each size")
    parser.add_argument("--patience", type=float, default=600.0, help="most seconds for a picture to become full")
    parser.add_argument("--moves", type=int, default=1000, help="moves of the memory measurement; 0 for none")
    parser.add_argument(
        "--against", metavar="FOLDER", help="a checkout of another version to measure in turn with this"
    )
    parser.add_argument("--rounds", type=int, default=3, help="measurements of each program with --against")
    parser.add_argument("--rows-only", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.against:
        compare(options.against, options.rounds)
        return
    scene = rf.Scene.load(options.scene)
    renderer = rf.Renderer.from_pretrained(options.model, network=not options.no_network)
    pieces = timed_pieces()
    rows = [measure(scene, renderer, size, options.seconds, options.patience, pieces) for size in options.sizes]
    growth = f"{memory(scene, renderer, options.moves):.0f}" if options.moves else "-"
    rows = [row | {"more MB": growth} for row in rows]
    if options.rows_only:
        print(json.dumps(rows))
        return
    report("viewer", rows)
    print(f"{renderer.name}, load {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores")


def compare(other: str, rounds: int) -> None:
    """Print the median rows of this program and of another checkout, measured in turn."""
    arguments = [part for part in sys.argv[1:] if part not in ("--against", other, f"--against={other}")]
    found: dict[str, list[list[dict[str, Any]]]] = {other: [], str(ROOT): []}
    for number in range(rounds):
        for folder, results in found.items():
            environment = os.environ | {"PYTHONPATH": folder}
            command = [sys.executable, __file__, *arguments, "--rows-only"]
            output = subprocess.run(command, env=environment, check=True, capture_output=True, text=True).stdout
            results.append(json.loads(output.splitlines()[-1]))
            print(f"round {number + 1}, {folder}, load {os.getloadavg()[0]:.1f}: {results[-1]}", flush=True)
    for folder, results in found.items():
        for same in zip(*results, strict=True):
            print(folder, {key: middle([row[key] for row in same]) for key in same[0]})


def middle(values: list[Any]) -> Any:
    """The median, or the last of values that are no numbers."""
    try:
        return statistics.median_low([float(value) for value in values])
    except ValueError:
        return values[-1]


def timed_pieces() -> list[float]:
    """CPU seconds of the pieces of full pictures from now on; none come in versions that know no pieces."""
    taken: list[float] = []
    try:
        from renderformer.viewer.pieces import Pieces
    except ImportError:
        return taken
    run = Pieces.run

    def timed_run(self: Pieces, kind: str, work: Any, index: Any, most: int) -> Any:
        def timed(part: Any) -> Any:
            started = time.thread_time()
            try:
                return work(part)
            finally:
                taken.append(time.thread_time() - started)

        return run(self, kind, timed, index, most)

    Pieces.run = timed_run  # type: ignore[method-assign]
    return taken


def measure(
    scene: rf.Scene, renderer: rf.Renderer, size: str, seconds: float, patience: float, pieces: list[float]
) -> dict[str, Any]:
    """The figures of one size (WxH); `pieces` as of `timed_pieces`."""
    width, height = map(int, size.split("x"))
    session = Session(scene, renderer, (width, height))
    frames: list[tuple[float, Frame]] = []
    session.on_frame = lambda frame: frames.append((time.monotonic(), frame))
    try:
        started = time.monotonic()
        session.request()
        while not frames:
            time.sleep(0.01)
        first = frames[0][0] - started
        move(session, 2.0)
        frames.clear()
        started = time.monotonic()
        move(session, seconds)
        stopped = time.monotonic()
        pieces.clear()
        moving = [frame for _, frame in frames]
        session.scheduler.wait(patience)
        times = [stopped, *(at for at, _ in frames if at > stopped)]
        steps = sorted(after - before for before, after in itertools.pairwise(times))
        latencies = sorted(frame.latency for frame in moving)
        return {
            "size": size,
            "first ms": f"{1000 * first:.0f}",
            "pictures/s": f"{len(moving) / (stopped - started):.1f}",
            "height": statistics.mode(frame.image.height for frame in moving) if moving else "-",
            "latency ms": f"{1000 * statistics.median(latencies):.0f}" if latencies else "-",
            "95% ms": f"{1000 * latencies[int(0.95 * len(latencies))]:.0f}" if latencies else "-",
            "step ms": f"{1000 * statistics.median(steps):.0f}",
            "95% step ms": f"{1000 * steps[int(0.95 * len(steps))]:.0f}",
            "longest ms": f"{1000 * steps[-1]:.0f}",
            "longest piece ms": f"{1000 * max(pieces):.0f}" if pieces else "-",
            "full after ms": f"{1000 * (times[-1] - stopped):.0f}" if frames[-1][1].final else "-",
            "end ms": f"{1000 * ending(session, frames):.0f}",
        }
    finally:
        session.close()


def ending(session: Session, frames: list[tuple[float, Frame]]) -> float:
    """Median seconds in which a move ends the drawing of the picture before: from the move to its coarse picture, less
    the time that this took."""
    waits = []
    for number in range(8):
        session.move(lambda orbit: orbit.orbit(1.0, 0.0))
        time.sleep(0.5 + 0.13 * number)
        count, moved = len(frames), time.monotonic()
        session.move(lambda orbit: orbit.orbit(1.0, 0.0))
        while not any(frame.camera is session.orbit.camera for _, frame in frames[count:]):
            time.sleep(0.001)
        at, frame = next(pair for pair in frames[count:] if pair[1].camera is session.orbit.camera)
        waits.append(at - moved - frame.seconds)
    return statistics.median(waits)


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
