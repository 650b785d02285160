"""Declared types: classes that state the allowed values of a file or a set of options, checked by pydantic.

A class states types, ranges and choices in its annotations:

    class Noise(Declared):
        samples: Annotated[int, Field(ge=1, le=65536)] = 256
        filter: Literal["box", "gaussian"] = "box"

    Noise.read({"samples": 0}, "noise.yaml")
    InputError: noise.yaml: samples is 0; expected a whole number from 1 to 65536

Rules about several values together are `model_validator(mode="after")` methods that raise `InputError`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Self

from pydantic import BaseModel, ConfigDict, ValidationError

from renderformer.data.errors import InputError

_SCALARS = {"integer": "a whole number", "number": "a number", "boolean": "true or false", "string": "text",
            "object": "keys and values", "null": "null"}  # fmt: skip
_MAX_SHOWN = 60


class Declared(BaseModel):
    """Base class of declared types: immutable, checked when an object is made; wrong values raise InputError.

    Types are strict (no text for a number, no number for a boolean), but lists are accepted for tuples. Numbers must
    be finite. Unknown keys are errors.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)
    # The place of errors that the constructor raises.
    declared_place: ClassVar[str] = ""

    if not TYPE_CHECKING:

        def __init__(self, **values: Any) -> None:
            try:
                super().__init__(**_tuples(values))
            except ValidationError as error:
                raise _input_error(error, type(self), self.declared_place) from None

        # Makes pydantic read nested objects without this constructor, so that errors keep their whole path.
        __init__.__pydantic_base_init__ = True

    @classmethod
    def read(cls, values: object, place: object) -> Self:
        """Make an object from parsed JSON or YAML.

        Args:
            values: a mapping; missing keys take their defaults.
            place: of errors, for example the path of the file.

        Raises:
            InputError: `values` is not a mapping, or holds an unknown key or a value that is not allowed. Only the
                first error is reported.
        """
        if not isinstance(values, Mapping):
            raise InputError(place, f"holds {shown(values)}", "expected keys and values")
        try:
            return cls.model_validate(_tuples(values))
        except ValidationError as error:
            raise _input_error(error, cls, place) from None

    def replace(self, **changes: Any) -> Self:
        """A copy with some values changed and checked."""
        return type(self)(**{name: getattr(self, name) for name in type(self).model_fields} | changes)

    @classmethod
    def from_keywords(cls, keywords: Mapping[str, Any]) -> Self:
        """Make an object from keyword options.

        Raises:
            InputError: an unknown name, or a value that is not allowed; its place is the name of the option.
        """
        try:
            return cls.model_validate(_tuples(keywords))
        except ValidationError as error:
            path, cause = _first_cause(error, cls)
            if cause is not None:
                raise (cause.within(path[0]) if path else cause) from None
            key, problem, remedy = _explanation(error, cls, null=False)
            inner = key.removeprefix(str(path[0])).lstrip(".")
            raise InputError(path[0], f"{inner} {problem}".lstrip(), remedy) from None


def _input_error(error: ValidationError, kind: type[BaseModel], place: object) -> InputError:
    """The first of pydantic's errors as an InputError."""
    path, cause = _first_cause(error, kind)
    if cause is not None:
        outer = ": ".join(filter(None, (str(place), _dotted(path))))
        return cause.within(outer) if outer else cause
    key, problem, remedy = _explanation(error, kind)
    return InputError(place, f"{key} {problem}", remedy)


def _first_cause(error: ValidationError, kind: type[BaseModel]) -> tuple[list[str | int], InputError | None]:
    """The path of pydantic's first error, and the InputError if a validator of ours raised it."""
    first = error.errors(include_url=False)[0]
    cause = first.get("ctx", {}).get("error")
    path, _ = _locate(first["loc"], kind.model_json_schema())
    return path, cause if isinstance(cause, InputError) else None


def _explanation(error: ValidationError, kind: type[BaseModel], null: bool = True) -> tuple[str, str, str]:
    """Key, problem and remedy of pydantic's first error; `null`: whether the remedy may name null as a value."""
    first, root = error.errors(include_url=False)[0], kind.model_json_schema()
    path, schema = _locate(first["loc"], root)
    if first["type"] == "missing" and path and isinstance(path[-1], int):
        # pydantic reports the missing entry of a list that is too short; the message is about the list.
        path, schema = _locate(first["loc"][:-1], root)
    elif first["type"] == "missing":
        return _dotted(path), "is missing", f"add {expected(schema)}"
    if first["type"] == "extra_forbidden":
        known = _locate(first["loc"][:-1], root)[1].get("properties", {})
        return _dotted(path), "is not a known key", f"known are {', '.join(known)}"
    if first["type"] == "string_type" and first["loc"][-1] == "[key]":
        return f"the key {shown(first['input'])} of {_dotted(path[:-1])}", "is not text", "put it in quotes"
    if not null and "anyOf" in schema:
        schema = {"anyOf": [branch for branch in schema["anyOf"] if branch.get("type") != "null"]}
    return _dotted(path), f"is {shown(first['input'])}", f"expected {expected(schema)}"


def _dotted(path: Sequence[str | int]) -> str:
    return "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in path).lstrip(".")


def shown(value: object) -> str:
    """A value as JSON, or as `repr` if it has no JSON, cut at 60 characters."""
    try:
        text = json.dumps(value, ensure_ascii=False)
    except (TypeError, ValueError):
        text = repr(value)
    return text if len(text) <= _MAX_SHOWN else f"{text[:_MAX_SHOWN]}…"


def expected(schema: Mapping[str, Any]) -> str:
    """The values that a JSON schema allows, in words; for other types, `WithJsonSchema({"words": …})` gives them."""
    if "words" in schema:
        return str(schema["words"])
    if "enum" in schema or "const" in schema:
        choices = schema.get("enum", [schema.get("const")])
        return shown(choices[0]) if len(choices) == 1 else f"one of {', '.join(map(str, choices))}"
    if "anyOf" in schema:
        return " or ".join(dict.fromkeys(expected(branch) for branch in schema["anyOf"]))
    if schema.get("type") == "array":
        return _expected_array(schema)
    words = _SCALARS.get(schema.get("type", ""), "another value")
    if "minimum" in schema and "maximum" in schema:
        return f"{words} from {schema['minimum']:.10g} to {schema['maximum']:.10g}"
    names = {"minimum": "at least", "exclusiveMinimum": "above", "maximum": "at most", "exclusiveMaximum": "below"}
    bounds = " and ".join(f"{name} {schema[key]:.10g}" for key, name in names.items() if key in schema)
    return f"{words} {bounds}".strip()


def _expected_array(schema: Mapping[str, Any]) -> str:
    items = schema.get("prefixItems") or [schema.get("items", {})]
    plural = {"a whole number": "whole numbers", "a number": "numbers", "text": "texts"}
    element = expected(items[0])
    for singular, words in plural.items():
        element = element.replace(singular, words)
    shortest, longest = schema.get("minItems"), schema.get("maxItems")
    count = f"{shortest} " if shortest is not None and shortest == longest else ""
    return f"a list of {count}{element}"


def _tuples(values: Any) -> Any:
    """Lists and NumPy values as the tuples and numbers that strict types require."""
    if hasattr(values, "tolist"):
        values = values.tolist()
    if isinstance(values, Mapping):
        return {key: _tuples(value) for key, value in values.items()}
    return tuple(map(_tuples, values)) if isinstance(values, list) else values


def _resolved(schema: Mapping[str, Any], root: Mapping[str, Any]) -> Mapping[str, Any]:
    while "$ref" in schema:
        schema = root["$defs"][schema["$ref"].rpartition("/")[2]]
    return schema


def _locate(location: Sequence[str | int], root: Mapping[str, Any]) -> tuple[list[str | int], Mapping[str, Any]]:
    """The keys and indices of a location that pydantic reports, and the part of the schema `root` at this location."""
    path: list[str | int] = []
    schema, in_branch = root, False
    for step in location:
        schema = _resolved(schema, root)
        branches = [_resolved(branch, root) for branch in schema.get("anyOf", [schema])]
        is_union = sum(branch.get("type") != "null" for branch in branches) > 1
        # pydantic's locations also name the branch of a union, and "[key]" after a wrong key.
        if (is_union and not in_branch) or step == "[key]":
            in_branch = True
            continue
        in_branch = False
        schema = next((inner for branch in branches if (inner := _child(branch, step)) is not None), {})
        path.append(step)
    return path, _resolved(schema, root)


def _child(schema: Mapping[str, Any], step: str | int) -> Mapping[str, Any] | None:
    if isinstance(step, int):
        items = schema.get("prefixItems", [])
        return items[step] if step < len(items) else schema.get("items")
    default = schema.get("additionalProperties")
    return schema.get("properties", {}).get(step, default if isinstance(default, Mapping) else None)
