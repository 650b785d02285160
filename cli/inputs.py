"""Reading what a command is given: a path, or - for stdin."""

from __future__ import annotations

import re
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from renderformer.cli.options import SIZES, wrong

if TYPE_CHECKING:
    from renderformer.data.scene import Scene


def load(source: str, suffix: str | None = None, **options: Any) -> Scene:
    """`load_scene` of a path, or of stdin with the format `suffix`.

    Raises:
        InputError: as `load_scene`; stage options that were given for a scene file, which brings its own stage.
    """
    from renderformer.data.errors import InputError
    from renderformer.data.formats import SCENE_FORMATS, load_scene

    if source != "-":
        kind = SCENE_FORMATS.get(Path(source).suffix.lower())
        unfit = sorted(set(options) - set(SIZES)) if options.get("stage") != "raw" else []
        if kind and unfit:
            names = ", ".join("--" + name.replace("_", "-") for name in unfit)
            raise InputError(source, f"{names} cannot be used, only with bare meshes", f"{kind} is a whole scene")
        return load_scene(source, **options)
    suffix = (suffix or "").lower().lstrip(".")
    if not re.fullmatch(r"[a-z0-9]{1,8}", suffix):
        raise wrong(f"{suffix!r} is not a format such as glb", "--format")
    with tempfile.TemporaryDirectory(prefix="renderformer-") as folder:
        path = Path(folder) / f"stdin.{suffix}"
        path.write_bytes(sys.stdin.buffer.read())
        try:
            return load(str(path), **options)
        except InputError as error:
            raise error.at(error.place.replace(str(path), "stdin")) from None
