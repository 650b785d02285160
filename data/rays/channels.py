"""The channels of feature images by name: where each quantity stands in the last axis.

A feature image is what the rays of a camera hit and the light there (`RayCaster.features`). Radiometric channels
are linear radiance averaged over all samples of a pixel, a miss counting as 0; normal, position and roughness are
averaged over the samples that hit.
"""

from __future__ import annotations

from itertools import accumulate
from typing import NamedTuple


class Channels(NamedTuple):
    """The layout of a feature image, a slice for each quantity.

    Attributes:
        mask: share of the samples that hit.
        normal: camera space, facing the camera; position: camera space, scene units.
        diffuse, specular, roughness, emission: the material.
        irradiance: direct light that a white diffuse surface would reflect.
        indirect_irradiance: light by way of other surfaces that a white diffuse surface would reflect, by the final
            gather; 0 without a light cache, and reflection then shows none. cached: the same, looked up in the cache.
        spread: standard deviation of the gathered light among the neighbouring cells, over its mean.
        direct, indirect: irradiance and indirect irradiance times the diffuse albedo, sample by sample.
        highlight: direct light in the specular lobe.
        reflection: what the specular lobe sees of other surfaces.
    """

    mask: slice
    normal: slice
    position: slice
    diffuse: slice
    specular: slice
    roughness: slice
    emission: slice
    irradiance: slice
    indirect_irradiance: slice
    cached: slice
    spread: slice
    direct: slice
    indirect: slice
    highlight: slice
    reflection: slice

    @property
    def total(self) -> int:
        """How many channels an image has."""
        return int(self[-1].stop)

    @property
    def geometry(self) -> tuple[slice, ...]:
        """What is averaged over the samples that hit."""
        return self.normal, self.position, self.roughness

    @property
    def light(self) -> tuple[slice, ...]:
        """What adds up to the picture that rays alone give."""
        return self.emission, self.direct, self.indirect, self.highlight, self.reflection

    @property
    def by_colour(self) -> tuple[slice, ...]:
        """What has a channel for each colour."""
        return tuple(part for part, name in zip(self, self._fields, strict=True) if name not in _WIDTHS)


_WIDTHS = {"mask": 1, "normal": 3, "position": 3, "roughness": 1, "spread": 1}


def _layout() -> Channels:
    widths = [_WIDTHS.get(name, 3) for name in Channels._fields]
    ends = list(accumulate(widths))
    return Channels(*(slice(end - width, end) for end, width in zip(ends, widths, strict=True)))


RGB = _layout()
