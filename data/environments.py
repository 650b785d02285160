"""Environments of our own, by name, made of formulas: a studio, a sky at noon, a sunset.

They are as bright as the stage's light: a white surface that faces up sends back about as much as it does there.
World frame, azimuth and elevation as in `renderformer.data.camera`.

Shapes: (H, W) texels.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from renderformer.data.arrays import Float64Array
from renderformer.data.camera import direction
from renderformer.data.environment import RGB, Environment, Sun, image_directions, texel_solid_angles

HEIGHT, WIDTH = 256, 512
# Albedo of the floor that the studio's walls grow out of.
STUDIO_FLOOR = 0.07
# The height, as the sine of the elevation, below which the floor's brightness fades into the walls.
_SWEEP = 0.25


def studio() -> Environment:
    """A dim grey room for a camera at azimuth 0: a large softbox from the left, a weaker one from the right, two from
    behind. Its horizon and its ground are as bright as a diffuse floor of `STUDIO_FLOOR` in this light, so that the
    border of such a floor cannot be seen."""
    away = image_directions(HEIGHT, WIDTH)
    image = _graded(away[..., 2], (0.14, 0.14, 0.14), (0.17, 0.17, 0.17), (0.08, 0.08, 0.08))
    for azimuth, elevation, width, height, colour in (
        (-45, 45, 50, 50, (4.0, 3.88, 3.7)),
        (60, 22, 50, 60, (1.15, 1.19, 1.25)),
        (148, 38, 26, 56, (5.2, 5.2, 5.4)),
        (-140, 28, 12, 70, (2.8, 2.8, 2.8)),
    ):
        image = image + _softbox(away, azimuth, elevation, width, height) * np.array(colour)
    return Environment(_with_floor(image, away[..., 2]).astype(np.float32), name="studio")


def _with_floor(image: Float64Array, up: Float64Array) -> Float64Array:
    """The image (H, W, 3), whose ground and horizon have the radiance L of a diffuse floor of albedo a under it: with
    the irradiance E of the walls and the share e of a floor's sky that the horizon takes up, L = a (E / pi + e L)."""
    share = 1 - np.clip(up / _SWEEP, 0, 1)
    share = (share**2 * (3 - 2 * share))[..., None]
    cosine = (np.maximum(up, 0) * texel_solid_angles(HEIGHT, WIDTH)[:, None] / np.pi)[..., None]
    received = ((1 - share) * image * cosine).sum(axis=(0, 1))
    radiance = STUDIO_FLOOR * received / (1 - STUDIO_FLOOR * float((share * cosine).sum()))
    result: Float64Array = (1 - share) * image + share * radiance
    return result


def sky() -> Environment:
    """A clear sky with the sun at noon, from the left, over light ground."""
    sun = direction(-40, 48)
    away = image_directions(HEIGHT, WIDTH)
    image = _graded(away[..., 2], (0.30, 0.27, 0.23), (0.80, 0.92, 1.05), (0.16, 0.34, 0.78))
    return Environment(
        (image + _glow(away, sun, ((12, 1.6), (3, 6.0)), (1.0, 0.95, 0.85))).astype(np.float32),
        suns=(Sun(_triple(sun), (3.0, 2.8, 2.5)),),
        name="sky",
    )


def sunset() -> Environment:
    """A low warm sun from the right, a glowing horizon and a violet sky."""
    sun = direction(70, 9)
    away = image_directions(HEIGHT, WIDTH)
    image = _graded(away[..., 2], (0.15, 0.12, 0.12), (1.4, 0.75, 0.39), (0.21, 0.24, 0.54), bend=0.45)
    # The horizon opposite to the sun is cooler.
    facing = 0.5 + 0.5 * (away[..., :2] @ (sun[:2] / np.linalg.norm(sun[:2])))[..., None]
    low = np.exp(-np.abs(away[..., 2:]) / 0.25)
    image = image * (1 - low * (1 - facing) * np.array([0.6, 0.35, -0.1]))
    glow = _glow(away, sun, ((25, 1.3), (7, 6.0)), (1.0, 0.55, 0.22))
    return Environment(
        (image + glow).astype(np.float32), suns=(Sun(_triple(sun), (6.3, 3.1, 1.2), 1.0),), name="sunset"
    )


# By the names that the command line takes.
ENVIRONMENTS: dict[str, Callable[[], Environment]] = {"studio": studio, "sky": sky, "sunset": sunset}


def _graded(up: Float64Array, ground: RGB, horizon: RGB, zenith: RGB, bend: float = 0.6) -> Float64Array:
    """(H, W, 3) a sky over ground; with a low bend the colours of the horizon stay near it."""
    share = np.abs(up) ** bend
    above = np.array(horizon) + share[..., None] * (np.array(zenith) - np.array(horizon))
    # The ground fades into the haze of the horizon within a few degrees.
    haze = np.exp(np.minimum(up, 0) / 0.03)[..., None]
    below = np.array(ground) + haze * (np.array(horizon) - np.array(ground))
    return np.where(up[..., None] > 0, above, below)


def _softbox(away: Float64Array, azimuth: float, elevation: float, width: float, height: float) -> Float64Array:
    """(H, W, 1) a rectangle of some degrees with soft borders, brightest in its middle."""
    middle, side = direction(azimuth, elevation), direction(azimuth + 90, 0)
    depth = np.maximum(away @ middle, 1e-6)
    x = np.abs(away @ side) / depth / np.tan(np.radians(width / 2))
    y = np.abs(away @ np.cross(middle, side)) / depth / np.tan(np.radians(height / 2))
    border = 0.06
    inside = np.clip((1 - np.maximum(x, y)) / border + 0.5, 0, 1)
    shape = inside**2 * (3 - 2 * inside) * (1 - 0.3 * np.clip(x * x + y * y, 0, 1))
    return (shape * (away @ middle > 0))[..., None]


def _glow(away: Float64Array, sun: Float64Array, parts: tuple[tuple[float, float], ...], colour: RGB) -> Float64Array:
    """(H, W, 3) light around a sun: for each part degrees at which it has fallen to 1 / e, and radiance."""
    angle = np.degrees(np.arccos(np.clip(away @ sun, -1, 1)))[..., None]
    brightness = sum(radiance * np.exp(-((angle / degrees) ** 2)) for degrees, radiance in parts)
    return brightness * np.array(colour)


def _triple(vector: Float64Array) -> RGB:
    x, y, z = (float(value) for value in vector)
    return x, y, z
