"""The environment of a scene in the extension of scene JSON."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, TypeAlias, cast

import numpy as np
from pydantic import Field, model_validator

from renderformer.data.arrays import Float32Array
from renderformer.data.declared import Declared
from renderformer.data.environment import GRADIENT_ROWS, MAX_STRENGTH, RGB, SUN_ANGLE, BackgroundKind, Environment, Sun
from renderformer.data.environments import ENVIRONMENTS
from renderformer.data.errors import InputError
from renderformer.data.formats import open_exr
from renderformer.data.formats.environment_image import SUFFIXES, load_environment
from renderformer.data.formats.scene_json_shared import Number, Vector, path_inside, short

Light: TypeAlias = Annotated[float, Field(ge=0, le=1e30)]
Share: TypeAlias = Annotated[float, Field(ge=0, le=1)]


class SunEntry(Declared):
    """One of the suns of an environment, see `renderformer.data.environment.Sun`."""

    direction: Vector
    irradiance: tuple[Light, Light, Light]
    angle: Annotated[float, Field(ge=0, lt=180)] = SUN_ANGLE


class GradientEntry(Declared):
    """An environment whose radiance depends on the height, see `Environment.gradient`."""

    ground: tuple[Light, Light, Light]
    horizon: tuple[Light, Light, Light]
    zenith: tuple[Light, Light, Light]


class EnvironmentEntry(Declared):
    """`environment`: one of an image (.hdr or .exr in the folder of the scene), a colour, a gradient, and the name of
    one of `renderformer.data.environments`; the rest is that of `Environment`."""

    image: str | None = None
    color: tuple[Light, Light, Light] | None = None
    gradient: GradientEntry | None = None
    preset: str | None = None
    strength: Annotated[float, Field(ge=0, le=MAX_STRENGTH)] = 1.0
    rotation: Number = 0.0
    background: BackgroundKind | tuple[Share, Share, Share] = "visible"
    suns: tuple[SunEntry, ...] | None = None
    name: str | None = None

    @model_validator(mode="after")
    def _check_kind(self) -> EnvironmentEntry:
        if sum(value is not None for value in (self.image, self.color, self.gradient, self.preset)) != 1:
            raise InputError("", "has not exactly one of image, color, gradient and preset", "give one of them")
        if self.preset is not None and self.preset not in ENVIRONMENTS:
            raise InputError("preset", f"is {self.preset[:60]!r}", f"expected one of {', '.join(ENVIRONMENTS)}")
        return self


def environment_of(entry: EnvironmentEntry, folder: Path) -> Environment:
    """The environment of a scene in a folder; its notes are those of its image.

    Raises:
        InputError: an image that cannot be read, or values that do not fit.
    """
    if entry.image is not None:
        path = path_inside(entry.image, "environment.image", folder, SUFFIXES, "light probe")
        try:
            environment = load_environment(path)
        except InputError as error:
            raise error.at(f"environment.image {path.name}") from None
    elif entry.preset is not None:
        environment = ENVIRONMENTS[entry.preset]()
    elif entry.gradient is not None:
        environment = Environment.gradient(entry.gradient.ground, entry.gradient.horizon, entry.gradient.zenith)
    else:
        assert entry.color is not None
        environment = Environment(entry.color)
    changes: dict[str, Any] = {} if entry.name is None else {"name": entry.name}
    if entry.suns is not None:
        changes["suns"] = tuple(Sun(sun.direction, sun.irradiance, sun.angle) for sun in entry.suns)
    try:
        return environment.replace(
            strength=entry.strength, rotation=entry.rotation, background=entry.background, **changes
        )
    except InputError as error:
        raise error.at("environment") from None


def environment_entry(environment: Environment, temporary: Path, folder: str) -> EnvironmentEntry:
    """The environment as a file states it; an image is written as .exr unless it is a colour, a gradient or ours.

    Args:
        temporary: where it is written; folder: the name that this folder gets beside the scene.
    """
    values: dict[str, Any] = {"name": environment.name}
    image = np.asarray(environment.image)
    preset = ENVIRONMENTS[environment.name]() if environment.name in ENVIRONMENTS else None
    known = preset is not None and np.array_equal(np.asarray(preset.image), image)
    gradient = _gradient(image)
    if known and preset is not None:
        values["preset"] = environment.name
    elif image.shape[:2] == (1, 1):
        values["color"] = tuple(short(value) for value in image[0, 0])
    elif gradient is not None:
        values["gradient"] = gradient
    else:
        open_exr.write(temporary / "000_environment.exr", {"RGB": image})
        values["image"] = f"{folder}/000_environment.exr"
    suns = tuple(
        SunEntry(direction=sun.direction, irradiance=cast("RGB", sun.irradiance), angle=sun.angle)
        for sun in environment.suns
    )
    if suns != () or known:
        values["suns"] = suns
    defaults = EnvironmentEntry.model_fields
    for key in ("strength", "rotation", "background"):
        if getattr(environment, key) != defaults[key].default:
            values[key] = getattr(environment, key)
    return EnvironmentEntry(**values)


def _gradient(image: Float32Array) -> GradientEntry | None:
    """The gradient that gives an image, or None."""
    if image.shape[:2] != (GRADIENT_ROWS, 1):
        return None
    height = np.cos(np.pi * (np.arange(GRADIENT_ROWS) + 0.5) / GRADIENT_ROWS)
    shares = np.stack([np.interp(height, (-1, 0, 1), unit) for unit in np.eye(3)], axis=1)
    found = np.maximum(np.linalg.lstsq(shares, image[:, 0].astype(np.float64), rcond=None)[0], 0)
    ground, horizon, zenith = ([float(f"{value:.6g}") for value in colour] for colour in found)
    entry = GradientEntry.read({"ground": ground, "horizon": horizon, "zenith": zenith}, "gradient")
    again = np.asarray(Environment.gradient(entry.ground, entry.horizon, entry.zenith).image)
    return entry if np.allclose(again, image, rtol=2e-6, atol=1e-9) else None
