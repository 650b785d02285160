"""The range of scenes that a model was trained on."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

Span = tuple[float, float]
# Tolerance of all ranges, for the rounding of float16 materials and of coordinates in text files.
SLACK = 0.01


@dataclass(frozen=True)
class TrainedRange:
    """The scenes that a model draws well; the defaults describe the released models (spec scenes.md).

    Lengths are in scene units, angles in degrees. A span is (smallest, largest) of the training set, or wider where
    measurements show no loss. None or False switches a rule off, for example because pictures scale exactly with the
    light.

    Attributes:
        box: half the side of the cube around the origin that holds the objects.
        triangles: largest number of triangles in a scene; longest_edge: of a triangle.
        watertight: whether objects were closed.
        lights: largest number of light triangles; lights_outside: whether they stood outside the bounds of the objects.
        light_distance: from the origin; light_edge: longest edge of a light.
        emission: summed radiance of all lights; white_lights: whether lights had no colour.
        camera_distance: from the origin; cameras_outside: whether cameras stood outside the bounds of the objects.
        fov: full vertical angle of view.
        roughness: of every material; white_specular: whether specular reflectance had no colour.
    """

    box: float = 0.5
    triangles: int | None = 4096
    longest_edge: float | None = 0.4
    watertight: bool = True
    lights: int | None = 8
    lights_outside: bool = True
    light_distance: Span | None = (2.1, 2.7)
    light_edge: Span | None = (0.0707 * 2.0, 0.0707 * 2.5)
    emission: Span | None = (2500.0, 5000.0)
    white_lights: bool = True
    camera_distance: Span = (1.5, 2.0)
    cameras_outside: bool = True
    fov: Span = (30.0, 60.0)
    roughness: Span = (0.01, 1.0)
    white_specular: bool = True

    def scaled(self, factor: float) -> TrainedRange:
        """The same range of scenes in units in which every length is `factor` times as large a number."""

        def span(lengths: Span | None) -> Span | None:
            return None if lengths is None else (lengths[0] * factor, lengths[1] * factor)

        return replace(
            self,
            box=self.box * factor,
            longest_edge=None if self.longest_edge is None else self.longest_edge * factor,
            light_distance=span(self.light_distance),
            light_edge=span(self.light_edge),
            camera_distance=(self.camera_distance[0] * factor, self.camera_distance[1] * factor),
        )


# Of what was not trained, and so has no range.
ANYWHERE = TrainedRange(
    box=math.inf,
    triangles=None,
    longest_edge=None,
    watertight=False,
    lights=None,
    lights_outside=False,
    light_distance=None,
    light_edge=None,
    emission=None,
    white_lights=False,
    camera_distance=(0.0, math.inf),
    fov=(0.0, 180.0),
    roughness=(0.0, 1.0),
    white_specular=False,
    cameras_outside=False,
)
