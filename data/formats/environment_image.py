"""Pictures of environments: equirectangular, in linear light, .hdr (Radiance) or .exr (OpenEXR)."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np

from renderformer.data.arrays import AnyArray, Float32Array
from renderformer.data.colour import colour_of
from renderformer.data.environment import Environment
from renderformer.data.environments import ENVIRONMENTS
from renderformer.data.errors import InputError
from renderformer.data.files import check_readable, read_bytes
from renderformer.data.formats import open_exr, radiance_hdr

SUFFIXES = (".hdr", ".pic", ".exr")
# 8192 x 4096, 400 MB of float32.
MAX_PIXELS = 1 << 25
MAX_BYTES = 1 << 30
# What is brighter than this, or infinite, is no light but a number that went wrong; the largest half float stands in.
MAX_RADIANCE, MAX_HALF = 1e8, 65504.0


def environment_of(source: str) -> Environment:
    """See `Environment.of`."""
    if source in ENVIRONMENTS:
        return ENVIRONMENTS[source]()
    colour = colour_of(source)
    if colour is not None:
        return Environment(colour, name=source)
    if not Path(source).suffix and not Path(source).exists():
        remedy = f"expected {', '.join(ENVIRONMENTS)}, a colour such as #ffffff, or an .hdr or .exr file"
        raise InputError("environment", f"is {source[:60]!r}", remedy)
    return load_environment(source)


def load_environment(path: str | os.PathLike[str]) -> Environment:
    """Read a picture of all directions, in the orientation of `renderformer.data.environment`.

    Returns:
        An environment with notes: pixels that are not numbers, negative or too bright, with counts, and an aspect that
        is not 2:1.

    Raises:
        InputError: a missing, damaged or too large file, or another format.
    """
    path = Path(path)
    suffix = path.suffix.lower()
    if suffix not in SUFFIXES:
        raise InputError(path, f"is no environment ({suffix or 'no suffix'})", f"give a {', '.join(SUFFIXES)} file")
    try:
        if suffix == ".exr":
            check_readable(path, MAX_BYTES)
            pixels = _read_exr(path)
        else:
            pixels = radiance_hdr.read(read_bytes(path, MAX_BYTES), MAX_PIXELS)
    except InputError as error:
        raise error.at(path) from None
    image, notes = _repaired(pixels)
    height, width, _ = image.shape
    if width != 2 * height:
        notes.append(f"{width} x {height} pixels are not twice as wide as high; taken for all directions")
    return Environment(image, name=path.name, notes=tuple(f"{path.name}: {note}" for note in notes))


def _read_exr(path: Path) -> AnyArray:
    """(H, W, 3) pixels; a grey picture has three equal channels."""
    _, channels = open_exr.read(path, MAX_PIXELS)
    names = "RGB" if all(name in channels for name in "RGB") else "YYY"
    if not all(name in channels for name in names):
        listed = ", ".join(sorted(channels)[:8]) or "(none)"
        raise InputError("", f"has the channels {listed}", "expected R, G and B, or Y")
    picked = [channels[name] for name in names]
    if len({channel.shape for channel in picked}) > 1:
        raise InputError("", "its channels differ in size", "export it again")
    return np.stack(picked, axis=-1)


def _repaired(pixels: AnyArray) -> tuple[Float32Array, list[str]]:
    """Pixels that are light, and lines about those that were not, with counts."""
    image, notes = np.array(pixels, np.float32), []
    total = image.shape[0] * image.shape[1]
    for wrong, text, value in (
        (np.isnan(image), "are not numbers and count as black", 0.0),
        (image < 0, "are negative and count as black", 0.0),
        (image > MAX_RADIANCE, f"are brighter than {MAX_RADIANCE:g} and count as {MAX_HALF:g}", MAX_HALF),
    ):
        count = int(wrong.any(axis=2).sum())
        if count:
            notes.append(f"{count} of {total} pixels {text}")
            image[wrong] = value
    return image, notes
