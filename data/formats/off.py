"""OFF text files; colours are not read."""

from __future__ import annotations

import re

from renderformer.data.formats.parts import MeshFile, Part
from renderformer.data.formats.text import as_utf8, check_lines
from renderformer.data.formats.trimesh_reading import read_with_trimesh


def read(file: MeshFile) -> list[Part]:
    """The one object of the file.

    Raises:
        InputError: the file is not text, or is truncated.
    """
    data = as_utf8(file.data)
    counts, _, body = re.sub(rb"#[^\n]*", b"", data).partition(b"OFF")[2].lstrip().partition(b"\n")
    numbers = [int(word) for word in counts.split()[:2] if word.isdigit() and len(word) < 20]
    if len(numbers) == 2:
        check_lines(body, sum(numbers), "OFF")
    if data.lstrip().startswith(b"COFF"):
        file.notes.lines.append("colours of OFF files are not read")
    return read_with_trimesh("off", data, file).parts
