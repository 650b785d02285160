"""Inputs of the commands: a path, or - for stdin."""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from renderformer.cli.options import flag

if TYPE_CHECKING:
    from renderformer.data.scene import Scene


def scene_format(source: str, form: str | None = None) -> str | None:
    """The scene format of an input, None for a bare mesh; `form` is the suffix of stdin."""
    from renderformer.data.formats import SCENE_FORMATS

    return SCENE_FORMATS.get(f".{form.lstrip('.')}".lower() if form else Path(source).suffix.lower())


def load(source: str, form: str | None = None, of_mesh: Mapping[str, Any] | None = None, **options: Any) -> Scene:
    """Load a path, or stdin with the suffix `form`.

    Args:
        of_mesh: arguments of `load_scene` for bare meshes.
        options: other arguments of `load_scene`.

    Raises:
        InputError: as `load_scene`; or `of_mesh` together with a scene file.
    """
    from renderformer.data.errors import InputError
    from renderformer.data.formats import load_scene

    kind = scene_format(source, form)
    if kind and of_mesh:
        names = ", ".join(map(flag, sorted(of_mesh)))
        raise InputError(name_of(source), f"{names} cannot be used, only with bare meshes", f"{kind} is a whole scene")
    options = {**(of_mesh or {}), **options}
    if source != "-":
        return load_scene(source, **options)
    with tempfile.TemporaryDirectory(prefix="renderformer-") as folder:
        path = Path(folder) / f"stdin.{(form or '').lower().lstrip('.')}"
        _save_stdin(path)
        try:
            return load_scene(path, **options)
        except InputError as error:
            # Keeps the part after the path, for example the name of an object.
            raise error.at(error.place.removeprefix(str(path)).lstrip(": ")).within("stdin") from None


def _save_stdin(path: Path) -> None:
    """Copy stdin to a file; endless input ends at the largest size of a file."""
    from renderformer.data.errors import InputError
    from renderformer.data.files import MAX_FILE_BYTES

    size = 0
    with path.open("wb") as file:
        while block := sys.stdin.buffer.read(2**20):
            size += len(block)
            if size > MAX_FILE_BYTES:
                raise InputError("stdin", f"has more than {MAX_FILE_BYTES / 2**30:g} GiB", "make it smaller")
            file.write(block)


def name_of(source: str) -> str:
    """The name of an input in errors and templates."""
    return "stdin" if source == "-" else str(Path(source))
