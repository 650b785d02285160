"""The channels of feature images by name: where each quantity stands in the last axis.

A feature image is what the rays of a camera hit and the light there (`RayCaster.features`). Radiometric channels
are linear radiance averaged over all samples of a pixel, a miss counting as 0; normal, position and roughness are
averaged over the samples that hit.
"""

from __future__ import annotations

from typing import NamedTuple


class Channels(NamedTuple):
    """The layout of a feature image, a slice for each quantity.

    Attributes:
        mask: share of the samples that hit.
        normal: camera space, facing the camera; position: camera space, scene units.
        diffuse, specular, roughness, emission: the material.
        irradiance: direct light that a white diffuse surface would reflect.
        direct: the same times the diffuse albedo, sample by sample.
        highlight: direct light in the specular lobe.
        reflection: what the specular lobe sees of other surfaces.
        indirect_irradiance: light by way of other surfaces that a white diffuse surface would reflect; 0 without a
            light cache, and reflection then shows none.
        indirect: the same times the diffuse albedo, sample by sample.
    """

    mask: slice
    normal: slice
    position: slice
    diffuse: slice
    specular: slice
    roughness: slice
    emission: slice
    irradiance: slice
    direct: slice
    highlight: slice
    reflection: slice
    indirect_irradiance: slice
    indirect: slice

    @property
    def total(self) -> int:
        """How many channels an image has."""
        return int(self[-1].stop)

    @property
    def light(self) -> tuple[slice, ...]:
        """What adds up to the picture that rays alone give."""
        return self.emission, self.direct, self.indirect, self.highlight, self.reflection

    @property
    def geometry(self) -> tuple[slice, ...]:
        """What is averaged over the samples that hit."""
        return self.normal, self.position, self.roughness

    @property
    def by_colour(self) -> tuple[slice, ...]:
        """What has a channel for each colour."""
        return (
            self.diffuse, self.specular, self.emission, self.irradiance, self.direct, self.highlight, self.reflection,
            self.indirect_irradiance, self.indirect,
        )  # fmt: skip


def _layout(colours: int) -> Channels:
    """The layout of an image with that many colour channels."""
    widths = dict.fromkeys(Channels._fields, colours) | {"mask": 1, "normal": 3, "position": 3, "roughness": 1}
    ends = [sum(list(widths.values())[: i + 1]) for i in range(len(widths))]
    return Channels(*(slice(end - width, end) for end, width in zip(ends, widths.values(), strict=True)))


# As rays are cast: 35 channels.
RGB = _layout(3)
# Of one colour channel, as the embedded model draws it: 17 channels.
MONOCHROME = _layout(1)
