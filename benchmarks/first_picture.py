"""Time the first picture of a mesh of a million triangles by the command line, and the next one.

    python benchmarks/first_picture.py [--triangles 1000000] [--size 256] [--network]

The mesh is a ball with waves on it, as a binary PLY without normals. `wall_s` and `cpu_s` are of the whole process,
`renderformer render FILE`, from its start to its end; the others are stages by its clock. `view_s` is what every
further camera takes. Nothing is measured unless the picture is that of a coarser ball, give or take its facets.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import imageio.v3 as iio
import numpy as np
from common import report

# Triangles of the ball that the picture is compared with, and how alike the two must be, in dB.
COARSE, ALIKE = 100_000, 25.0


def write_ball(path: Path, triangles: int) -> None:
    """A ball with waves on it, of about so many triangles."""
    n = round((triangles / 2) ** 0.5)
    turn, polar = np.meshgrid(np.linspace(0, 2 * np.pi, n + 1), np.linspace(0, np.pi, n + 1), indexing="ij")
    radius = 1 + 0.08 * np.sin(9 * turn) * np.sin(7 * polar) + 0.02 * np.sin(61 * turn) * np.sin(53 * polar)
    flat = radius * np.sin(polar)
    points = np.stack([flat * np.cos(turn), flat * np.sin(turn), radius * np.cos(polar)], axis=-1)
    first = np.arange(n)[:, None] * (n + 1) + np.arange(n)
    a, b, c, d = first, first + n + 1, first + n + 2, first + 1
    faces = np.empty(2 * n * n, [("count", "u1"), ("corners", "<i4", 3)])
    faces["count"] = 3
    faces["corners"] = np.stack([np.stack([a, d, c], -1), np.stack([a, c, b], -1)]).reshape(-1, 3)
    vertex = "".join(f"property float {axis}\n" for axis in "xyz")
    path.write_bytes(
        f"ply\nformat binary_little_endian 1.0\nelement vertex {(n + 1) ** 2}\n{vertex}"
        f"element face {len(faces)}\nproperty list uchar int vertex_indices\nend_header\n".encode()
        + points.astype("<f4").tobytes()
        + faces.tobytes()
    )


def draw(mesh: Path, size: int, options: list[str]) -> dict[str, Any]:
    """What the command prints as JSON, with the "wall" and "cpu" seconds of its process."""
    code = "from renderformer.cli.main import main; main()"
    arguments = [
        "render",
        str(mesh),
        "-o",
        str(mesh.with_suffix(".png")),
        "--overwrite",
        "--json",
        "-r",
        f"{size}",
        *options,
    ]
    start, before = time.perf_counter(), os.times()
    done = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=False)
    wall, after = time.perf_counter() - start, os.times()
    if done.returncode:
        sys.exit(f"error: {done.stdout}{done.stderr}")
    cpu = after.children_user + after.children_system - before.children_user - before.children_system
    result: dict[str, Any] = json.loads(done.stdout)
    return {**result, "wall": wall, "cpu": cpu}


def check(mesh: Path, size: int, flags: list[str], triangles: int) -> None:
    """Exit with an error if the picture beside the mesh is not the one of a coarser ball of the same shape."""
    coarse = mesh.with_name("coarse.ply")
    write_ball(coarse, min(triangles, COARSE))
    draw(coarse, size, flags)
    pictures = (iio.imread(file.with_suffix(".png")).astype(np.float64) / 255 for file in (mesh, coarse))
    error = float(np.square(np.subtract(*pictures)).mean())
    decibels = -10 * np.log10(max(error, 1e-10))
    if decibels < ALIKE:
        sys.exit(f"error: the picture has {decibels:.1f} dB to that of a coarser ball, expected {ALIKE:g} or more")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--triangles", type=int, default=1_000_000)
    parser.add_argument("--size", type=int, default=256, help="edge of the picture in pixels")
    parser.add_argument("--network", action="store_true", help="draw with the embedded model")
    options = parser.parse_args()
    flags = ["--network" if options.network else "--no-network"]
    with tempfile.TemporaryDirectory() as folder:
        mesh = Path(folder) / "ball.ply"
        write_ball(mesh, options.triangles)
        first = draw(mesh, options.size, flags)
        check(mesh, options.size, flags, options.triangles)
    seconds = first["seconds"]
    row = {"triangles": first["triangles"], "pixels": f"{options.size}x{options.size}"}
    row |= {"wall_s": f"{first['wall']:.2f}", "cpu_s": f"{first['cpu']:.2f}"}
    row |= {f"{name.replace(' ', '_')}_s": f"{seconds[name]:.2f}" for name in ("load", "load model", "encode")}
    row["view_s"] = f"{seconds['cast rays'] + seconds['render']:.2f}"
    report("first_picture", [row])


if __name__ == "__main__":
    main()
