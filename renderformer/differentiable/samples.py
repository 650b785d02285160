"""Samples of a differentiable picture, frozen: surface points, rays to lights, lobes, links of the light cache.

tracing.py finds them, shading.py computes with them.

Shapes: N triangles, S surface points, L light triangles, Q rays, M surfels with 2 M sides. Frozen numbers are float64.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from scipy.sparse import csr_array
from torch import Tensor

from renderformer.data.arrays import AnyArray


@dataclass(frozen=True, eq=False)
class Surface:
    """S points of surfaces.

    Attributes:
        triangle: (S,); place: (S, 2) weights of its second and third corner.
        side, facing: (S,) 1 or -1, by which the normal of the triangle and that of its corners face the ray's origin.
        bend: (S, 3) what normal maps add to the normal.
        detail: (S, 13) what textures add to the row of the triangle.
        glows: (S,) whether emission shows; not on the back of a light.
        wider: (S,) what the rays' cones add to the square of alpha.
    """

    triangle: Tensor
    place: Tensor
    side: Tensor
    facing: Tensor
    bend: Tensor
    detail: Tensor
    glows: Tensor
    wider: Tensor


@dataclass(frozen=True, eq=False)
class Rays:
    """Q rays from points to points of lights: the numbers of both, barycentric weights (Q, 3) on the light, and the
    share of the light that arrives (Q,)."""

    point: Tensor
    light: Tensor
    weights: Tensor
    share: Tensor


@dataclass(frozen=True, eq=False)
class SkyRays:
    """Q rays from points to the environment: unit directions (Q, 3) and the light that each brings (Q, 3), over how
    many are expected there per solid angle."""

    point: Tensor
    direction: Tensor
    light: Tensor


@dataclass(frozen=True, eq=False)
class Gloss:
    """Samples of the specular lobes of S' of the points.

    Attributes:
        point: (S',) numbers of the points; offset: (S',) how far off the surface rays start.
        glints: rays to lights, where `share` is over how many rays of all kinds are expected per area of the light, for
            a light of area 1.
        sky: rays to the environment.
        start: (Q,) from which of the S' points reflected rays go; direction: (Q, 3) unit; expected: (Q,) how many per
            solid angle there.
        dark: (Q, 3) whether what they meet is not seen as a light, in each colour.
        met: what they meet.
    """

    point: Tensor
    offset: Tensor
    glints: Rays
    sky: SkyRays
    start: Tensor
    direction: Tensor
    expected: Tensor
    dark: Tensor
    met: Samples


@dataclass(frozen=True, eq=False)
class Samples:
    """S surface points and the rays that leave them.

    Attributes:
        lights: one ray for each pair of point and light, to no particular point.
        sky: (S, 3, 3) light of the environment, times a normal that of a white diffuse surface: irradiance / pi.
        sides: (S,) of the light cache at the points.
        gathered: (3 S, 2 M) the share of each side in what the points see, times their normals; None where the cache is
            looked up.
        gloss: of the lobes; None where there are none, or these are not followed.
        last: whether specular reflectance counts as diffuse, because lobes are not followed.
    """

    surface: Surface
    lights: Rays
    sky: Tensor
    sides: Tensor
    gathered: csr_array | None
    gloss: Gloss | None
    last: bool


@dataclass(frozen=True, eq=False)
class CameraSamples:
    """Samples that a camera sees: of which pixel, at which column and row of the picture, with what share (S,)."""

    samples: Samples
    pixel: Tensor
    x: Tensor
    y: Tensor
    share: Tensor


@dataclass(frozen=True, eq=False)
class Thrown:
    """Q paths of light by way of lobes, as `renderformer.data.rays.caustics.Paths`.

    Attributes:
        triangle: (Q,) on the way; detail: (Q, 3) what textures add to its specular colour.
        light: (Q,) number of the light, 0 for the environment; side: (Q,) met; weight: (Q,), 0 for the environment.
        sky: (Q, 3) what a path of the environment brings, 0 for others.
        shared: (2 M, 2 M).
    """

    triangle: Tensor
    detail: Tensor
    light: Tensor
    side: Tensor
    weight: Tensor
    sky: Tensor
    shared: csr_array


@dataclass(frozen=True, eq=False)
class FrozenCache:
    """A light cache: what it takes to solve it again.

    Attributes:
        count: 2 M; solved: (R,) which sides are.
        surface, lights: of those; sun: (R, 3, 3) light of the environment's bright part there.
        transport: (2 M, 2 M); sky, diffuse, reflectance: (2 M, 3); users: (M, N). See `Exchange`.
        thrown: what shiny surfaces throw back of the lights.
    """

    count: int
    solved: Tensor
    surface: Surface
    lights: Rays
    sun: Tensor
    transport: csr_array
    sky: Tensor
    diffuse: Tensor
    reflectance: Tensor
    users: csr_array
    thrown: Thrown


def fixed(array: AnyArray | Tensor) -> Tensor:
    """A tensor that no gradient flows to: integers and bools as they are, floats in float64."""
    tensor = torch.from_numpy(np.ascontiguousarray(array))
    return tensor.double() if tensor.is_floating_point() else tensor
