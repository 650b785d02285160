"""Pictures of files that are not ours, as `renderformer render` makes them, on contact sheets to look at one by one.

`foreign_files.tsv` lists package, file, kinds and what the picture should show. The files come with packages of others
and are not part of this repository. Unpack each package into FOLDER/PACKAGE:

* `apt-get download`, `dpkg-deb -x`: assimp-testmodels, libcgal-demo (and its data.tar.gz), glmark2-data, minetest-data,
  qt3d5-examples, sweethome3d-furniture (its .sh3f files are ZIP archives, each unpacked to a folder of its name).
* `apt-get source --download-only`, `tar xf --strip-components=1`: draco, tinygltf.
* `pip download --no-deps`, `unzip`: pybullet, robosuite, pymeshlab, pyvista, gymnasium_robotics.
* `npm pack`, `tar xf`: @webxr-input-profiles/assets into webxr; @pmndrs/assets into pmndrs, whose models/*.glb.js hold
  the GLB as base64 (and hdri/*.exr.js environments).
* FOLDER/derived: `gltfpack -cc` of draco's Duck.glb and `gltfpack` of Lantern.gltf, `gltf-transform draco` of
  Lantern.gltf, `webp` of Fox.gltf, `metalrough` of SpecGlossVsMetalRough.gltf; draco's bun_zipper.ply split twice.

    python benchmarks/foreign.py FOLDER [--network] [--only PATTERN] [-- options of `renderformer render`]

Pictures, sheets and results.tsv go to FOLDER/pictures/NAME. A file with a line in results.tsv is not drawn again.
`seconds` are of the wall clock, `cpu` of the processor. Brightness is the mean of the sRGB picture in [0, 1], of all
and of the object alone; `covers` is the share of the frame that the object covers, `touches` whether it reaches the
frame's edge.
"""

from __future__ import annotations

import argparse
import csv
import fnmatch
import io
import json
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
from PIL import Image, ImageDraw

from renderformer.cli import inputs
from renderformer.cli.main import app
from renderformer.data.geometry.stages import WALL_NAMES
from renderformer.data.rays.embree import Surfaces
from renderformer.data.scene import Scene

LIST = Path(__file__).with_name("foreign_files.tsv")
TIME_LIMIT = 300
COLUMNS, ROWS, LABEL = 6, 5, 34


@dataclass
class Row:
    """What a render did; `status` is "ok", "refused" (one line) or "failed" (anything else)."""

    package: str
    file: str
    kinds: str
    wanted: str
    status: str = "failed"
    seconds: float = 0.0
    cpu: float = 0.0
    triangles: int = 0
    brightness: float = 0.0
    object_brightness: float = 0.0
    covers: float = 0.0
    touches: bool = False
    notes: int = 0
    lines: str = ""

    @property
    def picture(self) -> str:
        """Name of the picture's file."""
        return f"{self.package}/{self.file}".replace("/", "__") + ".png"


class TooSlowError(Exception):
    """A render took longer than TIME_LIMIT."""


def listed(folder: Path, pattern: str) -> Iterator[Row]:
    """The listed files that are in the folder and match the pattern."""
    with LIST.open(encoding="utf-8", newline="") as lines:
        for package, name, kinds, wanted in csv.reader(lines, delimiter="\t"):
            words = (f"{package}/{name}", *kinds.split())
            if (folder / package / name).is_file() and any(fnmatch.fnmatch(word, pattern) for word in words):
                yield Row(package, name, kinds, wanted)


def draw(row: Row, path: Path, picture: Path, options: list[str]) -> None:
    """Render a file by the program in this process and fill the row."""
    scenes: list[Scene] = []

    def load(*given: Any, **named: Any) -> Scene:
        scenes.append(original(*given, **named))
        return scenes[-1]

    original, out, errors = inputs.load, io.StringIO(), io.StringIO()
    started, cpu = time.perf_counter(), time.process_time()
    command = ["render", str(path), "-o", str(picture), "--overwrite", "--json", *options]
    signal.alarm(TIME_LIMIT)
    try:
        with mock.patch.object(inputs, "load", load), redirect_stdout(out), redirect_stderr(errors):
            app(command, standalone_mode=False)
        result = json.loads(out.getvalue())
    except BaseException as error:
        if isinstance(error, KeyboardInterrupt):
            raise
        result = {"status": "failed", "error": f"internal error, {type(error).__name__}: {error} {errors.getvalue()}"}
    finally:
        signal.alarm(0)
    row.seconds, row.cpu = round(time.perf_counter() - started, 1), round(time.process_time() - cpu, 1)
    lines = [result["error"]] if "error" in result else result["notes"] + result["warnings"]
    row.lines, row.notes = " | ".join(lines).replace(str(path), path.name), len(lines)
    row.status = "ok" if result["status"] == "ok" else "failed" if "internal error" in row.lines else "refused"
    if row.status == "ok":
        row.triangles = result["triangles"]
        measure(row, picture, scenes[-1])


def measure(row: Row, picture: Path, scene: Scene) -> None:
    """Brightness and framing of a picture."""
    with Image.open(picture) as image:
        grey = np.asarray(image.convert("L")) / 255
    mask = object_mask(scene, *grey.shape)
    row.brightness = round(float(grey.mean()), 3)
    row.object_brightness = round(float(grey[mask].mean()), 3) if mask.any() else 0.0
    row.covers = round(float(mask.mean()), 3)
    row.touches = bool(mask[[0, -1]].any() or mask[:, [0, -1]].any())


def object_mask(scene: Scene, height: int, width: int) -> np.ndarray:
    """(H, W) where the first surface is neither the stage's nor its light."""
    y, x = np.mgrid[:height, :width] + 0.5
    camera = scene.cameras[0]
    directions = camera.rays(x.ravel(), y.ravel(), width, height).T.astype(np.float32)
    origins = np.broadcast_to(camera.position, directions.shape).astype(np.float32)
    rows, triangle, _ = Surfaces(scene.triangles, scene.normals, scene.materials).first(origins, directions)
    staged = np.array([mesh.name in (*WALL_NAMES, "light") for mesh in scene.objects])
    mask = np.zeros(height * width, bool)
    mask[rows] = ~staged[scene.object_index[triangle]]
    return mask.reshape(height, width)


def read(results: Path) -> dict[str, Row]:
    """The finished rows by picture."""
    if not results.is_file():
        return {}
    with results.open(encoding="utf-8", newline="") as lines:
        rows = [Row(**line) for line in csv.DictReader(lines, delimiter="\t")]  # type: ignore[arg-type]
    return {row.picture: row for row in rows}


def append(results: Path, row: Row) -> None:
    """Write a row, below the names of the columns."""
    new = not results.exists()
    with results.open("a", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, [field.name for field in fields(Row)], delimiter="\t")
        if new:
            writer.writeheader()
        writer.writerow(asdict(row))


def write_sheets(out: Path, rows: list[Row], size: int) -> list[Path]:
    """Pages of labelled pictures; a refusal is shown as text."""
    pages: list[Path] = []
    for start in range(0, len(rows), COLUMNS * ROWS):
        page = Image.new("RGB", (COLUMNS * (size + 4), ROWS * (size + LABEL)), "white")
        pen = ImageDraw.Draw(page)
        for place, row in enumerate(rows[start : start + COLUMNS * ROWS]):
            x, y = place % COLUMNS * (size + 4), place // COLUMNS * (size + LABEL)
            if row.status == "ok":
                with Image.open(out / row.picture) as image:
                    page.paste(image.convert("RGB").resize((size, size)), (x, y))
            else:
                words = "\n".join(row.lines[i : i + size // 6] for i in range(0, 300, size // 6))
                pen.text((x, y), f"{row.status.upper()}\n{words}", "red" if row.status == "failed" else "black")
            name = "/".join(Path(row.file).parts[-2:])[-(size // 7) :]
            label = f"{start + place + 1} {name}\n{row.kinds[:18]}, {row.cpu} s, {row.notes} notes"
            pen.text((x, y + size), label, "black")
        pages.append(out / f"sheet_{len(pages) + 1:02d}.png")
        page.save(pages[-1])
    return pages


def summary(rows: list[Row]) -> str:
    """Counts and medians in a few lines."""
    drawn = [row for row in rows if row.status == "ok"]
    counts = {status: sum(row.status == status for row in rows) for status in ("ok", "refused", "failed")}
    lines = [", ".join(f"{count} {status}" for status, count in counts.items())]
    for name in ("seconds", "cpu", "notes", "brightness", "object_brightness", "covers"):
        values = np.array([float(getattr(row, name)) for row in drawn] or [0.0])
        low, median, high = np.quantile(values, [0.05, 0.5, 0.95])
        lines.append(f"{name:18} 5 % {low:7.2f}   median {median:7.2f}   95 % {high:7.2f}")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description="Render files of others and make contact sheets.")
    parser.add_argument("folder", type=Path, help="a folder with the unpacked packages")
    parser.add_argument("--size", type=int, default=160, help="edge of a picture in pixels")
    parser.add_argument("--only", default="*", help="a pattern for PACKAGE/FILE or a kind, such as '*duck*' or glass")
    parser.add_argument("--network", action="store_true", help="draw with the embedded model")
    parser.add_argument("--name", help="of the folder of pictures; default: network or no-network")
    parser.add_argument("options", nargs="*", help="further options of `renderformer render`, after --")
    arguments = parser.parse_args()
    out = arguments.folder / "pictures" / (arguments.name or ("network" if arguments.network else "no-network"))
    out.mkdir(parents=True, exist_ok=True)
    options = ["--resolution", str(arguments.size), "--network" if arguments.network else "--no-network"]
    done = read(out / "results.tsv")
    rows = list(listed(arguments.folder, arguments.only))
    signal.signal(signal.SIGALRM, too_slow)
    for row in rows:
        if row.picture not in done:
            draw(row, arguments.folder / row.package / row.file, out / row.picture, options + arguments.options)
            append(out / "results.tsv", row)
            print(f"{row.status:8}{row.cpu:6} s  {row.package}/{row.file}", file=sys.stderr)
    finished = read(out / "results.tsv")
    rows = [finished[row.picture] for row in rows]
    for page in write_sheets(out, rows, arguments.size):
        print(page)
    print(summary(rows))


def too_slow(*_: object) -> None:
    raise TooSlowError(f"more than {TIME_LIMIT} s")


if __name__ == "__main__":
    main()
