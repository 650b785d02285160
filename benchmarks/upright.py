"""How often `--up auto` finds the axis that points up, on files with known answers.

`upright_files.tsv` lists package, file and answer. The files come with packages of others and are not part of this
repository. Unpack each package into FOLDER/PACKAGE: `apt-get download` and `dpkg-deb -x` for libcgal-demo (and its
data.tar.gz), assimp-testmodels, glmark2-data, qt3d5-examples, minetest-data, prusa-slicer, cura and
sweethome3d-furniture (its .sh3f files are ZIP archives, each unpacked to a folder of its name);
`pip download --no-deps` and `unzip` for robosuite, pyvista, pymeshfix and gymnasium_robotics.

    python benchmarks/upright.py FOLDER

Answers: for furniture what its catalogue states, for others what a picture of both choices shows. The weights were
fitted to the lines with "fit" and to other furniture that the list does not name.
"""

from __future__ import annotations

import argparse
import csv
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

from renderformer.data.errors import InputError
from renderformer.data.formats.mesh_file import load_mesh_file
from renderformer.data.formats.table import format_of
from renderformer.data.formats.text import header_comments
from renderformer.data.geometry.upright import choose_up

LIST = Path(__file__).with_name("upright_files.tsv")


def listed(folder: Path) -> Iterator[tuple[str, Path, str, bool]]:
    """Package, path, answer and whether the file was fitted to, of the listed files that are in the folder."""
    with LIST.open(encoding="utf-8", newline="") as lines:
        for package, name, answer, use in csv.reader(lines, delimiter="\t"):
            path = folder / package / name
            if path.is_file():
                yield package, path, answer, use == "fit"


def measured(path: Path, answer: str) -> dict[str, bool]:
    """Whether each way finds the answer; a tie counts as Z, as in the program."""
    file_format = format_of(path)
    triangles = load_mesh_file(path).triangles
    comments = header_comments(path.read_bytes()[:2048])
    return {
        "habit": ("y" if file_format.up == "y" else "z") == answer,
        "shape": choose_up(triangles, "open").axis == answer,
        "auto": choose_up(triangles, file_format.up, file_format.name, comments).axis == answer,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description="Measure --up auto on files with known answers.")
    parser.add_argument("folder", type=Path, help="a folder with the unpacked packages")
    parser.add_argument("--wrong", action="store_true", help="name the files that auto gets wrong")
    arguments = parser.parse_args()
    rows: dict[str, list[dict[str, bool]]] = defaultdict(list)
    for package, path, answer, fitted in listed(arguments.folder):
        try:
            row = measured(path, answer)
        except InputError as error:
            print(f"left out: {error}")
            continue
        for group in (package, path.suffix.lower(), "fitted to" if fitted else "not fitted to", "all"):
            rows[group].append(row)
        if arguments.wrong and not row["auto"]:
            print(f"wrong: {package} {path.name}, {answer.upper()} is up")
    print(f"{'':24}{'files':>6}{'habit':>8}{'shape':>8}{'auto':>8}")
    for group, results in rows.items():
        shares = "".join(
            f"{sum(row[way] for row in results) / len(results):8.0%}" for way in ("habit", "shape", "auto")
        )
        print(f"{group:24}{len(results):6}{shares}")


if __name__ == "__main__":
    main()
