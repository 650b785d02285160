"""Light of several groups of lights at once, kept apart: as if every group had colours of its own.

Light is linear. So quantities of light have C = 3 G channels for G groups, channel 3 g + k for colour k of group g.
What does not depend on lights is done once for all of them: rays from the camera, reflections, the gather, the links of
the light cache. Shadow rays go to the lights of each group as if there were no others. Where they go to all lights
anyhow, the sum over the groups is the light of one group of all lights, up to rounding; elsewhere it is as exact.

Shapes: N triangles, S surface points, G groups, C = 3 G channels of light. Vectors are laid out as in vectors.py.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from renderformer.data.arrays import AnyArray, Float32Array, Int64Array
from renderformer.data.rays.channels import RGB

# What a feature image holds of each group, after the channels of all light together.
PARTS = (
    RGB.emission, RGB.irradiance, RGB.indirect_irradiance, RGB.cached, RGB.direct, RGB.indirect, RGB.highlight,
    RGB.reflection,
)  # fmt: skip
# And the spread, which is no sum.
WIDTH = 3 * len(PARTS) + 1


@dataclass(frozen=True, eq=False)
class LightGroups:
    """Groups of the lights of a scene.

    Attributes:
        count: G; with one group all light is together, and light has its three colours.
        triangle: (N,) the group of each triangle, whatever for one that does not emit.
        environment: the group of the environment.
    """

    count: int = 1
    triangle: Int64Array = field(default_factory=lambda: np.zeros(0, np.int64))
    environment: int = 0

    @property
    def channels(self) -> int:
        """C."""
        return 3 * self.count

    @property
    def more_features(self) -> int:
        """Channels that a feature image has after those of all light together."""
        return WIDTH * self.count if self.count > 1 else 0

    def sent(self, emission: Float32Array, triangle: Int64Array) -> Float32Array:
        """(S, C) of the radiance (S, 3) that triangles (S,) emit."""
        if self.count == 1:
            return emission
        result = np.zeros((self.channels, len(emission)), np.float32)
        rows = np.flatnonzero(emission.any(axis=1))
        first = 3 * self.triangle[triangle[rows]]
        for colour in range(3):
            result[first + colour, rows] = emission[rows, colour]
        return result.T

    def from_environment(self, light: Float32Array) -> Float32Array:
        """(..., C) of light (..., 3) that the environment sends."""
        if self.count == 1:
            return light
        result = np.zeros((self.channels, *light.shape[:-1]), np.float32)
        result[3 * self.environment : 3 * self.environment + 3] = np.moveaxis(light, -1, 0)
        return np.moveaxis(result, 0, -1)

    def for_all(self, colour: AnyArray) -> AnyArray:
        """(S, C) of a property of surfaces (S, 3), such as their albedo, which is the same for every group."""
        return colour if self.count == 1 else colour.T[np.arange(self.channels) % 3].T

    def together(self, light: Float32Array) -> Float32Array:
        """(S, 3) sum over the groups of light (S, C)."""
        return light if self.count == 1 else light.T.reshape(self.count, 3, -1).sum(axis=0).T

    def spread(self, relative: Float32Array) -> Float32Array:
        """(..., G) mean over the colours of the relative deviation (..., C) of gathered light, or (..., 2 C) with that
        of the environment's soft part, which counts for its group."""
        apart = relative.reshape(*relative.shape[:-1], -1, self.count, 3).mean(axis=-1)
        mean: Float32Array = apart[..., 0, :].copy()
        mean[..., self.environment] = apart[..., self.environment].mean(axis=-1)
        return mean

    def features(self, parts: tuple[Float32Array, ...], spread: Float32Array) -> Float32Array:
        """(G * WIDTH, S) rows of a feature image, of light (S, C) in the order of `PARTS` and of its spread (S, G)."""
        rows = [light.T.reshape(self.count, 3, -1) for light in parts]
        return np.concatenate([*rows, spread.T[:, None]], axis=1).reshape(self.count * WIDTH, -1)


ONE_GROUP = LightGroups()


def channels_of_group(group: int) -> list[int]:
    """Which channels of a feature image with groups are the feature image under the lights of one group alone."""
    order, first = list(range(RGB.total)), RGB.total + WIDTH * group
    for number, part in enumerate(PARTS):
        order[part] = range(first + 3 * number, first + 3 * number + 3)
    order[RGB.spread] = [first + WIDTH - 1]
    return order
