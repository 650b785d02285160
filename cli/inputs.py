"""Reading what a command is given: a path, or - for stdin."""

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
    """The name of the scene format of an input, None for a bare mesh; `form` is the suffix of what stdin brings."""
    from renderformer.data.formats import SCENE_FORMATS

    return SCENE_FORMATS.get(f".{form.lstrip('.')}".lower() if form else Path(source).suffix.lower())


def load(source: str, form: str | None = None, of_mesh: Mapping[str, Any] | None = None, **options: Any) -> Scene:
    """`load_scene` of a path, or of stdin with the format `form`.

    Args:
        of_mesh: arguments of `load_scene` that apply to bare meshes.
        options: its other arguments.

    Raises:
        InputError: as `load_scene`; `of_mesh` for a scene file, which brings its own stage.
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
        path.write_bytes(sys.stdin.buffer.read())
        try:
            return load_scene(path, **options)
        except InputError as error:
            # What follows the path, for example the name of an object, stays.
            raise error.at(error.place.removeprefix(str(path)).lstrip(": ")).within("stdin") from None


def name_of(source: str) -> str:
    """An input as errors and templates call it."""
    return "stdin" if source == "-" else str(Path(source))
