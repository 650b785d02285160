"""Pictures split by lights: one for each light, whose sum is the picture under all of them; relighting them.

Light is linear, so a picture under other strengths and colours of the same lights is a weighted sum of the split ones.
A file of them is an EXR: its RGB channels are the picture under all lights, the layer "light.NAME" that under one.
"""

from __future__ import annotations

import fnmatch
import json
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from types import MappingProxyType

import numpy as np

from renderformer.aovs import LIGHT, aov_of
from renderformer.data.arrays import Float32Array
from renderformer.data.errors import InputError
from renderformer.data.material import checked_rgb
from renderformer.image import Image

RGB = tuple[float, float, float]
# Factor of a light's colour, at most.
MAX_FACTOR = 1e6
# The end of the names of split pictures that the viewer saves.
LIGHTS_SUFFIX = "lights.exr"
_NAMES = "lights"


@dataclass(frozen=True, eq=False)
class Split:
    """The picture of one camera, split by lights.

    Attributes:
        joint: the picture under all lights, as it is drawn without splitting.
        lights: name -> (height, width, 3) float32 linear light of that light alone. The environment's also shows what
            is behind the objects.
        notes: what was grouped, with counts.

    Raises:
        InputError: no lights, or one of another size.
    """

    joint: Image
    lights: Mapping[str, Float32Array]
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not self.lights:
            raise InputError("split", "has no lights", "give at least one")
        lights = {name: Image(light).hdr for name, light in self.lights.items()}
        for name, light in lights.items():
            if light.shape != self.joint.hdr.shape:
                problem = f"light {name!r} has shape {light.shape}"
                raise InputError("split", problem, f"expected {self.joint.hdr.shape}")
        object.__setattr__(self, "lights", MappingProxyType(lights))
        object.__setattr__(self, "notes", tuple(self.notes))

    @cached_property
    def error(self) -> float:
        """By how much the sum of the lights misses the joint picture: mean absolute difference over the mean."""
        difference = sum(self.lights.values()) - self.joint.hdr
        scale = float(np.abs(self.joint.hdr).mean(dtype=np.float64))
        return float(np.abs(difference).mean(dtype=np.float64)) / scale if scale > 0 else 0.0

    @property
    def image(self) -> Image:
        """The joint picture with a layer for each light, to be saved by `Image.save`."""
        names = _layers(list(self.lights))
        layers = {LIGHT + layer: self.lights[name] for name, layer in names.items()}
        facts = {**self.joint.metadata, _NAMES: json.dumps(names)}
        if self.joint.background is not None and self.joint.alpha is not None:
            # The file's picture has no alpha; this layer and the colour tell it.
            layers["background"] = self.joint.on_background(np.zeros_like(self.joint.hdr))
            facts["background"] = json.dumps(self.joint.background)
        return replace(self.joint, metadata=facts, layers={**self.joint.layers, **layers})

    def summary(self) -> str:
        """A line about the lights and by how much their sum misses the joint picture."""
        percent = 100 * self.error
        count = f"{len(self.lights)} light{'s' * (len(self.lights) > 1)}"
        return f"{count} ({', '.join(self.lights)}), whose sum differs from the joint picture by {percent:.2g} %"

    def light(self, name: str) -> Image:
        """The picture under one light.

        Raises:
            InputError: an unknown name.
        """
        return self._picture(self.lights[self._match(name)[0]])

    def relight(self, factors: Mapping[str, float | RGB] | None = None, *, only: bool = False) -> Image:
        """The picture under changed lights, a weighted sum.

        Args:
            factors: by name of a light, or a pattern such as "lamp*" for several: how many times as strong, one number
                or linear RGB; 0 switches it off. A later one replaces an earlier one.
            only: switches off all lights that are not named.

        Raises:
            InputError: a name that no light has, or a factor that is negative, not finite or above a million.
        """
        weights = dict.fromkeys(self.lights, (0.0, 0.0, 0.0) if only else (1.0, 1.0, 1.0))
        for name, factor in (factors or {}).items():
            weight = checked_rgb(factor, f"light {name!r}", "factor", MAX_FACTOR)
            weights.update(dict.fromkeys(self._match(name), weight))
        total = np.zeros_like(self.joint.hdr)
        for name, weight in weights.items():
            if any(weight):
                total += self.lights[name] * np.array(weight, np.float32)
        return self._picture(total)

    def _match(self, name: str) -> list[str]:
        """The lights of a name or pattern."""
        found = [name] if name in self.lights else fnmatch.filter(self.lights, name)
        if not found:
            raise InputError(f"light {name!r}", "there is no such light", f"there are: {', '.join(self.lights)}")
        return found

    def _picture(self, hdr: Float32Array) -> Image:
        """A picture of the same view, with those layers that do not depend on light."""
        layers = {name: layer for name, layer in self.joint.layers.items() if not _is_light(name)}
        return replace(self.joint, hdr=hdr, layers=layers)

    def save(
        self, path: str | os.PathLike[str], exposure: float = 0.0, half: bool = True, overwrite: bool = True
    ) -> list[str]:
        """Write an EXR whole or not at all: the joint picture, and a layer for each light.

        Args:
            path: ends in .exr.
            exposure: stops, of all pictures.
            half: 16-bit floats (True) or 32-bit.
            overwrite: whether an existing file may be replaced.

        Returns:
            Warnings about clipped pixels, with counts.

        Raises:
            InputError: as `Image.save`.
        """
        path = Path(path)
        if path.suffix.lower() != ".exr":
            raise InputError(path, "holds no layers of lights", "end the name in .exr")
        return self.image.save(path, exposure=exposure, half=half, overwrite=overwrite)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Split:
        """Read the file that `save` wrote.

        Raises:
            InputError: a missing or damaged file, or one without layers of lights.
        """
        image = Image.load(path)
        try:
            names = json.loads(str(image.metadata[_NAMES]))
            lights = {str(name): image.layers[LIGHT + layer] for name, layer in names.items()}
        except (KeyError, TypeError, AttributeError, ValueError):
            remedy = "write one with: renderformer render SCENE --split-lights -o FILE.exr"
            raise InputError(path, "has no layers of lights", remedy) from None
        others = {name: layer for name, layer in image.layers.items() if not name.startswith(LIGHT)}
        try:
            return cls(_off_its_background(replace(image, layers=others)), lights)
        except InputError as error:
            raise error.within(path) from None


def _off_its_background(image: Image) -> Image:
    """The picture of a file with alpha and background apart, and without what the header tells about the split."""
    facts = {key: value for key, value in image.metadata.items() if key not in (_NAMES, "background")}
    try:
        colour = np.array(json.loads(str(image.metadata.get("background", "null"))), np.float32)
    except ValueError:
        colour = np.zeros(0, np.float32)
    image, layer = replace(image, metadata=facts), image.layers.get("background")
    # Behind black, alpha makes no difference.
    if layer is None or colour.shape != (3,) or not colour.max() > 0:
        return image
    channel = int(colour.argmax())
    alpha = np.clip(1 - layer[..., channel] / colour[channel], 0, 1)
    return replace(image, hdr=image.hdr - layer, alpha=alpha, background=tuple(colour.tolist()))


def _is_light(layer: str) -> bool:
    aov = aov_of(layer)
    return aov is not None and aov.light


def _layers(names: list[str]) -> dict[str, str]:
    """Layers of names, without dots and other characters that have a meaning in the names of channels."""
    layers: dict[str, str] = {}
    for name in names:
        plain = re.sub(r"[^A-Za-z0-9_+-]+", "_", name)[:60] or "light"
        unique, number = plain, 2
        while unique in layers.values():
            unique, number = f"{plain}_{number}", number + 1
        layers[name] = unique
    return layers
