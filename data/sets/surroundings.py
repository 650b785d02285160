"""Random environments: even light, gradients, studios with softboxes, skies with a sun.

Their light is about that of a radiance of 1 from all of the upper half; images are small and held by half floats.

World frame: Z up. Shapes: H x W texels.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from renderformer.data.arrays import AnyArray, Float64Array
from renderformer.data.camera import direction
from renderformer.data.environment import Environment, Sun, image_directions, resized, texel_solid_angles
from renderformer.data.environments import ENVIRONMENTS
from renderformer.data.sets.finishes import hue, rgb

HEIGHT, WIDTH = 64, 128


def random_environment(rng: np.random.Generator, outdoors: bool = False) -> Environment:
    """An environment of any kind; `outdoors` for skies, mostly."""
    kinds = list(KINDS)
    weights = np.array([KINDS[name][1 + outdoors] for name in kinds])
    kind = kinds[int(rng.choice(len(kinds), p=weights / weights.sum()))]
    return _normalised(rng, kind, *KINDS[kind][0](rng))


def named_environment(rng: np.random.Generator, name: str) -> Environment:
    """One of those that the command line knows, turned at random."""
    return _normalised(rng, name, *_small(ENVIRONMENTS[name]()))


def _normalised(rng: np.random.Generator, kind: str, image: Float64Array, suns: tuple[Sun, ...]) -> Environment:
    level = _level(image, suns)
    small = (image / level).astype(np.float16).astype(np.float32)
    suns = tuple(Sun(sun.direction, rgb_of(sun.colour / level), sun.angle) for sun in suns)
    background = "visible" if rng.random() < 0.93 else "invisible"
    rotation = float(round(rng.uniform(0, 360), 2))
    return Environment(small, 1.0, rotation, "visible" if background == "visible" else "invisible", suns, kind)


def rgb_of(colour: AnyArray) -> tuple[float, float, float]:
    """Three floats."""
    r, g, b = (float(v) for v in colour)
    return r, g, b


def _level(image: Float64Array, suns: tuple[Sun, ...]) -> float:
    """Mean radiance of the upper half, suns spread over it."""
    half = np.asarray(image[: max(1, len(image) // 2)], np.float64)
    weight = np.broadcast_to(texel_solid_angles(*image.shape[:2])[: len(half), None], half.shape[:2])
    mean = float((half.mean(axis=2) * weight).sum() / weight.sum())
    return max(mean + sum(float(sun.colour.mean()) * sun.direction[2] for sun in suns) / math.pi, 1e-3)


Found = tuple[Float64Array, tuple[Sun, ...]]


def _tint(rng: np.random.Generator, most: float) -> Float64Array:
    return hue(rng.random(), rng.uniform(0, most))


def _constant(rng: np.random.Generator) -> Found:
    return _tint(rng, 0.35)[None, None] + 0.0, ()


def _gradient(rng: np.random.Generator) -> Found:
    ground, horizon, zenith = (rgb(rng.uniform(0.05, 1.0) * _tint(rng, 0.5)) for _ in range(3))
    return np.asarray(resized(np.asarray(Environment.gradient(ground, horizon, zenith).image), HEIGHT, 1)), ()


def _studio(rng: np.random.Generator) -> Found:
    """A dim room with one to five softboxes."""
    away = image_directions(HEIGHT, WIDTH)
    image = rng.uniform(0.03, 0.4) * (1 + rng.uniform(-0.4, 0.6) * away[..., 2:]) * _tint(rng, 0.15)
    for _ in range(int(rng.integers(1, 6))):
        middle, side = direction(rng.uniform(-180, 180), rng.uniform(-5, 85)), rng.normal(size=3)
        side = np.cross(middle, side)
        side /= np.linalg.norm(side)
        depth = np.maximum(away @ middle, 1e-6)
        widths = np.tan(np.radians(rng.uniform(4, 40, 2)))
        x = np.abs(away @ side) / depth / widths[0]
        y = np.abs(away @ np.cross(middle, side)) / depth / widths[1]
        inside = np.clip((1 - np.maximum(x, y)) / rng.uniform(0.05, 0.4) + 0.5, 0, 1) * (away @ middle > 0)
        image = image + inside[..., None] * rng.uniform(1, 12) * _tint(rng, 0.4 if rng.random() < 0.25 else 0.1)
    return image, ()


def _sky(rng: np.random.Generator) -> Found:
    """A sky with a sun, over ground."""
    elevation = math.degrees(math.asin(rng.uniform(math.sin(math.radians(6)), math.sin(math.radians(75)))))
    toward = direction(rng.uniform(-180, 180), elevation)
    low = math.exp(-elevation / 15)
    zenith = np.array([0.2, 0.38, 0.8]) * rng.uniform(0.5, 1.0)
    horizon = (1 - low) * np.array([0.8, 0.9, 1.0]) + low * np.array([1.1, 0.65, 0.35])
    away = image_directions(HEIGHT, WIDTH)
    up = away[..., 2:]
    sky = horizon + np.abs(up) ** rng.uniform(0.4, 0.8) * (zenith - horizon)
    glow = np.exp(-((1 - (away @ toward)[..., None]) / rng.uniform(0.004, 0.08)))
    colour = (1 - low) * np.array([1.0, 0.94, 0.85]) + low * np.array([1.0, 0.55, 0.25])
    sky = sky + rng.uniform(0.5, 4) * glow * colour
    image = np.where(up > 0, sky, rng.uniform(0.08, 0.4) * _tint(rng, 0.3) * horizon)
    strength = rng.uniform(0.5, 5.0) * colour
    return image, (Sun(rgb_of(toward), rgb_of(strength), float(rng.choice([0.5, 1.0, 3.0]))),)


def _overcast(rng: np.random.Generator) -> Found:
    up = image_directions(HEIGHT, WIDTH)[..., 2:]
    sky = (1 + 2 * np.maximum(up, 0)) / 3 * _tint(rng, 0.12)
    return np.where(up > 0, sky, rng.uniform(0.1, 0.5) * _tint(rng, 0.3)), ()


def _known(rng: np.random.Generator) -> Found:
    """One of the environments that the command line knows by name."""
    return _small(list(ENVIRONMENTS.values())[rng.integers(len(ENVIRONMENTS))]())


def _small(environment: Environment) -> Found:
    return np.asarray(resized(np.asarray(environment.image), HEIGHT, WIDTH), np.float64), environment.suns


# Each with its weight indoors and outdoors.
KINDS: dict[str, tuple[Callable[[np.random.Generator], Found], float, float]] = {
    "constant": (_constant, 1.0, 0.3),
    "gradient": (_gradient, 1.0, 0.7),
    "studio": (_studio, 3.0, 0.7),
    "sky": (_sky, 1.0, 3.0),
    "overcast": (_overcast, 0.5, 1.0),
    "known": (_known, 1.5, 1.0),
}
