"""Light from all around a scene: an image of what is seen far away in every direction, and suns.

World frame: Z up. An image (H, W, 3) is equirectangular: its first row is around the zenith, its middle column looks
along +X, and columns to the right turn clockwise seen from above (+X, -Y, -X, +Y), as in Blender and three.js. A
rotation turns all of it about Z, counter-clockwise seen from above. Radiance is linear, with BT.709 primaries.

Shapes: S directions. A pyramid holds an image and its halves down to one texel.
"""

from __future__ import annotations

import copy
import math
import os
from dataclasses import dataclass, fields, replace
from functools import cached_property
from typing import Any, Literal

import numpy as np

from renderformer.data.arrays import AnyArray, Float32Array, Float64Array
from renderformer.data.colour import RGB, display_colour
from renderformer.data.errors import InputError

BackgroundKind = Literal["visible", "invisible", "transparent"]
BACKGROUNDS: tuple[BackgroundKind, ...] = ("visible", "invisible", "transparent")
# Rows of the image of a gradient.
GRADIENT_ROWS = 256
MAX_STRENGTH = 1e6
SUN_ANGLE = 0.53


@dataclass(frozen=True)
class Sun:
    """A light so far away that it shines from one direction.

    Attributes:
        direction: (3,) toward the sun, in the frame of the environment; need not be unit.
        irradiance: linear RGB or one number, of a surface that faces the sun.
        angle: degrees across; 0 gives hard shadows.

    Raises:
        InputError: no direction, or a value out of range.
    """

    direction: RGB
    irradiance: float | RGB = 3.0
    angle: float = SUN_ANGLE

    def __post_init__(self) -> None:
        direction = np.asarray(self.direction, np.float64)
        if direction.shape != (3,) or not np.isfinite(direction).all() or not direction.any():
            raise InputError("sun", f"direction is {self.direction!r}", "expected three numbers, not all 0")
        x, y, z = (direction / np.linalg.norm(direction)).tolist()
        object.__setattr__(self, "direction", (x, y, z))
        object.__setattr__(self, "irradiance", _colour(self.irradiance, "sun", "irradiance"))
        if not 0 <= self.angle < 180:
            raise InputError("sun", f"angle is {self.angle:g}", "expected degrees from 0 to 180")

    @property
    def colour(self) -> Float32Array:
        """(3,) the irradiance."""
        return np.array(self.irradiance, np.float32)

    @property
    def solid_angle(self) -> float:
        """Of the disc, in steradians."""
        return 4 * math.pi * math.sin(math.radians(self.angle) / 4) ** 2


@dataclass(frozen=True, eq=False)
class Environment:
    """What surrounds a scene and lights it.

    Attributes:
        image: (H, W, 3) float32 radiance, see the module; a number or linear RGB is the same radiance all around.
        strength: factor of the radiance, suns included.
        rotation: degrees about Z, suns included.
        background: "visible", "invisible" (the environment lights, and what is behind the objects is black),
            "transparent" (so are pictures, where nothing is hit), or the colour that is seen there and is no light:
            text (`colour_of`) or linear RGB from 0 to 1, which is kept.
        suns: lights beside the image.
        name: for messages.
        notes: what reading it changed, with counts.

    Raises:
        InputError: a wrong shape, values that are negative or not finite, an option out of range.
    """

    image: Float32Array | float | RGB = 1.0
    strength: float = 1.0
    rotation: float = 0.0
    background: BackgroundKind | RGB | str = "visible"
    suns: tuple[Sun, ...] = ()
    name: str = "environment"
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        place = f"environment {self.name!r}"
        if np.ndim(self.image) <= 1:
            image = np.array(_colour(self.image, place, "the colour"), np.float32)[None, None]
        else:
            image = np.array(self.image, np.float32, order="C")
        if image.ndim != 3 or image.shape[2] != 3 or not image.size:
            raise InputError(place, f"the image has shape {image.shape}", "expected (height, width, 3)")
        wrong = int((~(np.isfinite(image) & (image >= 0))).any(axis=2).sum())
        if wrong:
            problem = f"{wrong} of {image.shape[0] * image.shape[1]} pixels are negative or not finite"
            raise InputError(place, problem, "repair the image")
        image.setflags(write=False)
        object.__setattr__(self, "image", image)
        self._check_settings()

    def _check_settings(self) -> None:
        """Check and convert all but the image."""
        place = f"environment {self.name!r}"
        if not (math.isfinite(self.strength) and 0 <= self.strength <= MAX_STRENGTH):
            raise InputError(place, f"strength is {self.strength:g}", f"expected a number from 0 to {MAX_STRENGTH:g}")
        if not math.isfinite(self.rotation):
            raise InputError(place, f"rotation is {self.rotation:g}", "expected degrees")
        object.__setattr__(self, "background", _background(self.background, place))
        object.__setattr__(self, "suns", tuple(self.suns))
        object.__setattr__(self, "notes", tuple(self.notes))

    @classmethod
    def gradient(cls, ground: float | RGB, horizon: float | RGB, zenith: float | RGB, **options: Any) -> Environment:
        """From the ground straight below by way of the horizon to the zenith; linear in the height of the direction."""
        colours = [_colour(value, "environment", name) for name, value in (
            ("ground", ground), ("horizon", horizon), ("zenith", zenith))]  # fmt: skip
        height = np.cos(np.pi * (np.arange(GRADIENT_ROWS) + 0.5) / GRADIENT_ROWS)
        channels = [np.interp(height, (-1, 0, 1), values) for values in zip(*colours, strict=True)]
        return cls(np.stack(channels, axis=-1)[:, None].astype(np.float32), **{"name": "gradient", **options})

    @classmethod
    def load(cls, path: str | os.PathLike[str], **options: Any) -> Environment:
        """Read an equirectangular image, .hdr or .exr; see `renderformer.data.formats.environment_image`.

        Args:
            options: strength, rotation, background, suns.

        Raises:
            InputError: a missing, damaged or too large file.
        """
        from renderformer.data.formats.environment_image import load_environment

        return replace(load_environment(path), **options)

    @classmethod
    def of(cls, source: str, **options: Any) -> Environment:
        """The environment that a text names: one of `renderformer.data.environments` such as "studio", a colour
        such as "#ffffff" (sRGB), or a file.

        Raises:
            InputError: neither of them.
        """
        from renderformer.data.formats.environment_image import environment_of

        return replace(environment_of(source), **options)

    def replace(self, **changes: Any) -> Environment:
        """A copy with some attributes changed; it shares the image, which may be large, and does not check it again."""
        if "image" in changes or changes.keys() - {field.name for field in fields(self)}:
            return replace(self, **changes)
        changed = copy.copy(self)
        for name, value in changes.items():
            object.__setattr__(changed, name, value)
        changed._check_settings()
        return changed

    @property
    def is_dark(self) -> bool:
        """Whether no light comes from it."""
        lit = bool(np.any(self.image)) or any(sun.colour.any() for sun in self.suns)
        return self.strength == 0 or not lit

    @property
    def backdrop(self) -> RGB | None:
        """The colour of the background, if it is one."""
        return self.background if isinstance(self.background, tuple) else None

    @property
    def is_clear(self) -> bool:
        """Whether the environment is not what is behind the objects: pictures have alpha, or a colour there."""
        return self.background == "transparent" or self.backdrop is not None

    @property
    def to_local(self) -> Float32Array:
        """(3, 3) rotation that turns world directions into the frame of the image and the suns."""
        angle = math.radians(self.rotation)
        c, s = math.cos(angle), math.sin(angle)
        return np.array([[c, s, 0], [-s, c, 0], [0, 0, 1]], np.float32)

    @cached_property
    def _pyramid(self) -> list[Float32Array]:
        assert isinstance(self.image, np.ndarray)
        return pyramid(self.image)

    def radiance(self, directions: Float32Array, solid_angle: float = 0.0) -> Float32Array:
        """(S, 3) radiance seen along unit world directions (S, 3), of the image and the discs of the suns.

        Args:
            solid_angle: over which the image is averaged, in steradians.
        """
        local = directions @ self.to_local.T
        radiance = looked_up(self._pyramid, local, solid_angle)
        for sun in self.suns:
            if sun.angle > 0:
                inside = local @ np.array(sun.direction, np.float32) > math.cos(math.radians(sun.angle / 2))
                radiance[inside] += sun.colour / np.float32(sun.solid_angle)
        return radiance * np.float32(self.strength)


def _background(value: Any, place: str) -> BackgroundKind | RGB:
    for kind in BACKGROUNDS:
        if isinstance(value, str) and value == kind:
            return kind
    try:
        return display_colour(value, place, "background")
    except InputError as error:
        raise InputError(place, error.problem, f"{error.remedy}; or {', '.join(BACKGROUNDS)}") from None


def _colour(value: Any, place: str, name: str) -> RGB:
    """Three numbers of one or three."""
    try:
        red, green, blue = np.broadcast_to(np.asarray(value, np.float64), (3,)).tolist()
    except (TypeError, ValueError):
        raise InputError(place, f"{name} is {value!r}", "expected one number or three (linear RGB)") from None
    if not all(math.isfinite(v) and v >= 0 for v in (red, green, blue)):
        raise InputError(place, f"{name} is {value!r}", "expected linear RGB of 0 or more")
    return red, green, blue


def image_directions(height: int, width: int) -> Float64Array:
    """(height, width, 3) unit directions, in the frame of the environment, of the middles of an image's texels."""
    polar = np.pi * (np.arange(height) + 0.5) / height
    turn = np.pi - 2 * np.pi * (np.arange(width) + 0.5) / width
    sine = np.sin(polar)[:, None]
    flat = np.broadcast_to(np.cos(polar)[:, None], (height, width))
    return np.stack([sine * np.cos(turn), sine * np.sin(turn), flat], axis=-1)


def texel_solid_angles(height: int, width: int) -> Float64Array:
    """(height,) solid angle of a texel of each row; all texels together cover 4 pi."""
    borders = np.cos(np.pi * np.arange(height + 1) / height)
    return -np.diff(borders) * 2 * np.pi / width


def resized(image: Float32Array, height: int, width: int) -> Float32Array:
    """A smaller image; each texel is the mean over the solid angle that it covers."""
    light = image * texel_solid_angles(*image.shape[:2])[:, None, None]
    # Along the columns, solid angle grows as the cosine of the polar angle falls.
    fine, coarse = (1 - np.cos(np.pi * np.arange(count + 1) / count) for count in (image.shape[0], height))
    light = _binned(light, fine, coarse, 0)
    fine, coarse = (np.arange(count + 1) / count for count in (image.shape[1], width))
    light = _binned(light, fine, coarse, 1)
    return (light / texel_solid_angles(height, width)[:, None, None]).astype(np.float32)


def _binned(values: AnyArray, borders: Float64Array, coarse: Float64Array, axis: int) -> Float64Array:
    """Sums over coarser bins of values that are spread evenly between their borders along an axis."""
    if len(borders) == len(coarse):
        return values
    total = np.cumsum(values, axis=axis, dtype=np.float64)
    total = np.concatenate([np.zeros_like(total.take([0], axis)), total], axis)
    below = np.clip(np.searchsorted(borders, coarse, side="right") - 1, 0, len(borders) - 2)
    share = (coarse - borders[below]) / (borders[below + 1] - borders[below])
    share = share.reshape([-1 if i == axis else 1 for i in range(values.ndim)])
    cumulated = (1 - share) * total.take(below, axis) + share * total.take(below + 1, axis)
    result: Float64Array = np.diff(cumulated, axis=axis)
    return result


def pyramid(image: Float32Array) -> list[Float32Array]:
    """The image, and images of half the size until one texel is left."""
    levels = [image]
    while max(levels[-1].shape[:2]) > 1:
        height, width, _ = levels[-1].shape
        levels.append(resized(levels[-1], -(-height // 2), -(-width // 2)))
    return levels


def looked_up(levels: list[Float32Array], directions: Float32Array, solid_angle: Float32Array | float) -> Float32Array:
    """(S, 3) values of a pyramid along unit directions (S, 3) in its frame, bilinear.

    Args:
        solid_angle: (S,) or one number; the mean is over about that many steradians.
    """
    height, width, channels = levels[0].shape
    if height * width == 1:
        return np.tile(levels[0].reshape(1, channels), (len(directions), 1))
    polar = np.arccos(np.clip(directions[:, 2], -1, 1)) * np.float32(1 / np.pi)
    turn = 0.5 - np.arctan2(directions[:, 1], directions[:, 0]) * np.float32(0.5 / np.pi)
    # Texels at the equator count; the narrow ones at the poles are averaged less. One column stands for a whole turn.
    texel = 2 * math.pi**2 / (height * (width if width > 1 else 2 * height))
    level = np.clip(0.5 * np.log2(np.maximum(solid_angle, 1e-12) / texel), 0, len(levels) - 1)
    if np.ndim(level) == 0:
        fine = int(level)
        part = float(level) - fine
        values = _bilinear(levels[fine], turn, polar)
        return values if part < 1e-3 else (1 - part) * values + part * _bilinear(levels[fine + 1], turn, polar)
    values = np.zeros((len(directions), channels), np.float32)
    below = level.astype(np.int64)
    share = (level - below).astype(np.float32)
    for fine in np.unique(below):
        rows = np.flatnonzero(below == fine)
        values[rows] = (1 - share[rows, None]) * _bilinear(levels[fine], turn[rows], polar[rows])
        rows = rows[share[rows] > 0]
        if len(rows):
            values[rows] += share[rows, None] * _bilinear(levels[fine + 1], turn[rows], polar[rows])
    return values


def _bilinear(image: Float32Array, turn: Float32Array, polar: Float32Array) -> Float32Array:
    """(S, channels) of an image at shares of its width and height; columns wrap around, rows end at the poles."""
    height, width, channels = image.shape
    x, y = turn * np.float32(width) - np.float32(0.5), polar * np.float32(height) - np.float32(0.5)
    left, top = np.floor(x), np.floor(y)
    right_share, low_share = (x - left)[:, None], (y - top)[:, None]
    columns = [(left.astype(np.int64) + i) % width for i in (0, 1)]
    rows = [np.clip(top.astype(np.int64) + i, 0, height - 1) * width for i in (0, 1)]
    flat = image.reshape(-1, channels)
    above = (1 - right_share) * flat.take(rows[0] + columns[0], axis=0) + right_share * flat.take(
        rows[0] + columns[1], axis=0
    )
    below = (1 - right_share) * flat.take(rows[1] + columns[0], axis=0) + right_share * flat.take(
        rows[1] + columns[1], axis=0
    )
    result: Float32Array = (1 - low_share) * above + low_share * below
    return result
