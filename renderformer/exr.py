"""OpenEXR files of pictures: linear light, layers, and what the header tells."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from renderformer.aovs import AOVS, LIGHT, aov_of
from renderformer.data.arrays import AnyArray
from renderformer.data.camera import Camera
from renderformer.data.errors import InputError
from renderformer.data.formats import open_exr

_PREFIX = "renderformer."
# ITU-R BT.709 primaries and D65, for the `chromaticities` attribute.
_BT709 = (0.64, 0.33, 0.30, 0.60, 0.15, 0.06, 0.3127, 0.3290)


@dataclass(frozen=True, eq=False)
class Contents:
    """What a file holds.

    Attributes:
        pixels: (height, width, 3 or 4) float16 or float32, linear RGB and perhaps alpha.
        layers: by the names that `aov_of` knows, (height, width) or (height, width, 3).
        camera, metadata: for the header; metadata are strings and numbers, "exposure" in stops.
    """

    pixels: AnyArray
    layers: Mapping[str, AnyArray] = field(default_factory=dict)
    camera: Camera | None = None
    metadata: Mapping[str, Any] = field(default_factory=dict)


def write(path: Path, contents: Contents) -> None:
    """Write a file; each layer is named by convention, such as `normal.X`.

    Raises:
        OSError: writing fails.
    """
    channels: dict[str, AnyArray] = {"RGB" if contents.pixels.shape[2] == 3 else "RGBA": contents.pixels}
    for name, values in contents.layers.items():
        aov, planes = aov_of(name), np.moveaxis(np.atleast_3d(values), 2, 0)
        assert aov is not None
        channels |= {f"{name}.{letter}": plane for letter, plane in zip(aov.letters, planes, strict=True)}
    open_exr.write(path, channels, {**_header(contents), "chromaticities": _BT709})


def _header(contents: Contents) -> dict[str, Any]:
    """Camera, metadata and exposure as attributes."""
    header: dict[str, Any] = {_PREFIX + key: value for key, value in contents.metadata.items() if key != "exposure"}
    header["exposure"] = float(contents.metadata.get("exposure", 0.0))
    if contents.camera is not None:
        header["cameraToWorld"] = np.array(contents.camera.c2w)
        header["cameraFov"] = float(contents.camera.fov)
        header["cameraName"] = contents.camera.name
    return header


def read(path: Path) -> Contents:
    """Read a file; layers that `aov_of` does not know are left out.

    Raises:
        InputError: the file is damaged, or there are no channels R, G and B.
    """
    header, planes = open_exr.read(path)
    if not all(name in planes for name in "RGB"):
        raise InputError("", f"has the channels {', '.join(sorted(planes)) or '(none)'}", "expected R, G and B")
    metadata = {key.removeprefix(_PREFIX): value for key, value in header.items() if key.startswith(_PREFIX)}
    if "exposure" in header:
        metadata["exposure"] = header["exposure"]
    camera = None
    if "cameraToWorld" in header and "cameraFov" in header:
        camera = Camera(header["cameraToWorld"], header["cameraFov"], str(header.get("cameraName", "")))
    pixels = np.stack([planes[name] for name in ("RGBA" if "A" in planes else "RGB")], axis=-1)
    return Contents(pixels, _layers(planes), camera, metadata)


def _layers(planes: Mapping[str, AnyArray]) -> dict[str, AnyArray]:
    layers = {}
    lights = dict.fromkeys(channel.rpartition(".")[0] for channel in planes if channel.startswith(LIGHT))
    for name, aov in (*AOVS.items(), *((light, aov_of(light)) for light in lights)):
        assert aov is not None
        channels = [f"{name}.{letter}" for letter in aov.letters]
        if all(channel in planes for channel in channels):
            values = np.stack([planes[channel] for channel in channels], axis=-1)
            layers[name] = values if aov.channels else values[..., 0]
    return layers
