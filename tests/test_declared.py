"""Declared types: values, copies, and one line for every refusal."""

from __future__ import annotations

from typing import Annotated, Literal

import numpy as np
import pytest
from pydantic import Field, model_validator

from renderformer.data.declared import Declared
from renderformer.data.errors import InputError


class Surface(Declared):
    colour: tuple[float, float, float] = (0.5, 0.5, 0.5)
    roughness: Annotated[float, Field(ge=0, le=1)]


class Noise(Declared):
    declared_place = "noise"

    samples: Annotated[int, Field(ge=1, le=65536)] = 256
    strength: Annotated[float, Field(gt=0)] = 1.0
    filter: Literal["box", "gaussian"] = "box"
    on: bool = True
    layers: tuple[int, ...] | None = None
    surfaces: dict[str, Surface] = {}
    level: float | Literal["auto"] = "auto"
    version: Literal["1.0"] = "1.0"

    @model_validator(mode="after")
    def _fits(self) -> Noise:
        if self.filter == "box" and self.samples == 7:
            raise InputError("", "samples 7 does not go with filter box", "use another filter")
        return self


def test_values_are_read_and_lists_stand_for_tuples() -> None:
    noise = Noise.read({"samples": 4, "layers": [1, 2], "surfaces": {"a": {"roughness": 1}}}, "noise.json")
    assert noise == Noise(samples=4, layers=(1, 2), surfaces={"a": Surface(roughness=1.0)})
    assert noise.surfaces["a"].colour == (0.5, 0.5, 0.5)


def test_a_changed_copy_is_checked() -> None:
    noise = Noise(samples=4, surfaces={"a": Surface(roughness=1.0)})
    assert noise.replace(samples=5) == Noise(samples=5, surfaces={"a": Surface(roughness=1.0)})
    assert noise.samples == 4
    with pytest.raises(InputError, match="noise: samples is 0; expected"):
        noise.replace(samples=0)


@pytest.mark.parametrize(
    ("values", "line"),
    [
        ([1], "f: holds [1]; expected keys and values"),
        ({"samples": 0}, "f: samples is 0; expected a whole number from 1 to 65536"),
        ({"samples": 1.5}, "f: samples is 1.5; expected a whole number from 1 to 65536"),
        ({"samples": True}, "f: samples is true; expected a whole number from 1 to 65536"),
        ({"samples": "3"}, 'f: samples is "3"; expected a whole number from 1 to 65536'),
        ({"strength": 0}, "f: strength is 0; expected a number above 0"),
        ({"strength": True}, "f: strength is true; expected a number above 0"),
        ({"strength": float("nan")}, "f: strength is NaN; expected a number above 0"),
        ({"filter": "tent"}, 'f: filter is "tent"; expected one of box, gaussian'),
        ({"on": 1}, "f: on is 1; expected true or false"),
        ({"layers": "12"}, 'f: layers is "12"; expected a list of whole numbers or null'),
        ({"layers": [1, "2"]}, 'f: layers[1] is "2"; expected a whole number'),
        (
            {"sample": 3},
            "f: sample is not a known key; known are samples, strength, filter, on, layers, surfaces, level, version",
        ),
        ({"surfaces": {"a": {}}}, "f: surfaces.a.roughness is missing; add a number from 0 to 1"),
        ({"surfaces": {"a": {"roughness": 2}}}, "f: surfaces.a.roughness is 2; expected a number from 0 to 1"),
        (
            {"surfaces": {"a": {"roughness": 0, "colour": [1, 2]}}},
            "f: surfaces.a.colour is [1, 2]; expected a list of 3 numbers",
        ),
        # Key names of users that pydantic uses for its own attributes.
        ({"surfaces": {"float": {}}}, "f: surfaces.float.roughness is missing; add a number from 0 to 1"),
        ({"surfaces": {"a[1]": {"roughness": 2}}}, "f: surfaces.a[1].roughness is 2; expected a number from 0 to 1"),
        ({"surfaces": {1: {"roughness": 0}}}, "f: the key 1 of surfaces is not text; put it in quotes"),
        ({"level": "high"}, 'f: level is "high"; expected a number or "auto"'),
        ({"version": 1.0}, 'f: version is 1.0; expected "1.0"'),
        ({"samples": 7}, "f: samples 7 does not go with filter box; use another filter"),
    ],
)
def test_what_is_not_allowed_is_refused_in_one_line(values: object, line: str) -> None:
    with pytest.raises(InputError) as refused:
        Noise.read(values, "f")
    assert str(refused.value) == line


@pytest.mark.parametrize(
    ("values", "place", "line"),
    [
        ({"samples": 0}, "samples", "samples: is 0; expected a whole number from 1 to 65536"),
        ({"layers": [1, "2"]}, "layers", 'layers: [1] is "2"; expected a whole number'),
        ({"surfaces": {"a": {}}}, "surfaces", "surfaces: a.roughness is missing; add a number from 0 to 1"),
        (
            {"sample": 3},
            "sample",
            "sample: is not a known key; known are samples, strength, filter, on, layers, surfaces, level, version",
        ),
        ({"samples": 7}, "", "samples 7 does not go with filter box; use another filter"),
    ],
)
def test_the_place_of_a_refused_keyword_is_its_name(values: dict[str, object], place: str, line: str) -> None:
    with pytest.raises(InputError) as refused:
        Noise.from_keywords(values)
    assert (refused.value.place, str(refused.value)) == (place, line)


def test_arrays_stand_for_tuples() -> None:
    assert Noise.read({"layers": np.arange(2), "strength": np.float32(0.5)}, "f") == Noise(layers=(0, 1), strength=0.5)


def test_the_constructor_refuses_in_the_same_words() -> None:
    with pytest.raises(InputError, match=r"^noise: samples is 0; expected a whole number from 1 to 65536$"):
        Noise(samples=0)
    with pytest.raises(InputError, match=r"^noise: samples 7 does not go"):
        Noise(samples=7)
