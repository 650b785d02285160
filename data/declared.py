"""Declared types: what a file or a set of options may hold is stated once, as a class, and read by pydantic.

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
    """The base of declared types: values are checked when an object is made, never changed, and refused as InputError.

    Types are strict (no text for a number, no number for a truth), but a list may stand for a tuple. Numbers are
    finite. Unknown keys are refused.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)
    # What an error calls an object that is made by its constructor.
    declared_place: ClassVar[str] = ""

    if not TYPE_CHECKING:

        def __init__(self, **values: Any) -> None:
            try:
                super().__init__(**_tuples(values))
            except ValidationError as error:
                raise refusal(error, type(self), self.declared_place) from None

        # Tells pydantic to read nested objects without this constructor, so that an error keeps its whole path.
        __init__.__pydantic_base_init__ = True

    @classmethod
    def read(cls, values: object, place: object) -> Self:
        """Make an object of parsed JSON or YAML.

        Args:
            values: key to value; missing keys take their defaults.
            place: what an error calls the source, for example the path of the file.

        Raises:
            InputError: not keys and values, an unknown key, or a value that is not allowed. The first of several.
        """
        if not isinstance(values, Mapping):
            raise InputError(place, f"holds {shown(values)}", "expected keys and values")
        try:
            return cls.model_validate(_tuples(values))
        except ValidationError as error:
            raise refusal(error, cls, place) from None

    def replace(self, **changes: Any) -> Self:
        """A copy with some values changed, which is checked like a new object."""
        return type(self)(**{name: getattr(self, name) for name in type(self).model_fields} | changes)

    @classmethod
    def from_keywords(cls, keywords: Mapping[str, Any]) -> Self:
        """Make an object of options by name, for callers that know where each option came from.

        Raises:
            InputError: an unknown name, or a value that is not allowed. Its place is the name of the option alone.
        """
        try:
            return cls.model_validate(_tuples(keywords))
        except ValidationError as error:
            path, cause = _first_cause(error, cls)
            if cause is not None:
                raise (cause.within(path[0]) if path else cause) from None
            key, problem, remedy = _finding(error, cls, null=False)
            inner = key.removeprefix(str(path[0])).lstrip(".")
            raise InputError(path[0], f"{inner} {problem}".lstrip(), remedy) from None


def refusal(error: ValidationError, kind: type[BaseModel], place: object) -> InputError:
    """The first of pydantic's findings as the one line that a user sees."""
    path, cause = _first_cause(error, kind)
    if cause is not None:
        # A rule about several values; it names them itself.
        where = ": ".join(filter(None, (str(place), _dotted(path))))
        return cause.within(where) if where else cause
    key, problem, remedy = _finding(error, kind)
    return InputError(place, f"{key} {problem}", remedy)


def _first_cause(error: ValidationError, kind: type[BaseModel]) -> tuple[list[str | int], InputError | None]:
    """The path of pydantic's first finding, and the InputError of a validator that it came from."""
    first = error.errors(include_url=False)[0]
    cause = first.get("ctx", {}).get("error")
    path, _ = _located(first["loc"], kind.model_json_schema())
    return path, cause if isinstance(cause, InputError) else None


def _finding(error: ValidationError, kind: type[BaseModel], null: bool = True) -> tuple[str, str, str]:
    """Key, problem and remedy of pydantic's first finding.

    Args:
        null: whether the remedy names null where it is allowed; as a keyword it is the same as nothing.
    """
    first, root = error.errors(include_url=False)[0], kind.model_json_schema()
    path, schema = _located(first["loc"], root)
    if first["type"] == "missing" and path and isinstance(path[-1], int):
        # A list that is too short lacks its last entries; what is wrong is its length.
        path, schema = _located(first["loc"][:-1], root)
    elif first["type"] == "missing":
        return _dotted(path), "is missing", f"add {expected(schema)}"
    if first["type"] == "extra_forbidden":
        known = _located(first["loc"][:-1], root)[1].get("properties", {})
        return _dotted(path), "is not a known key", f"known are {', '.join(known)}"
    if first["type"] == "string_type" and first["loc"][-1] == "[key]":
        return f"the key {shown(first['input'])} of {_dotted(path[:-1])}", "is not text", "put it in quotes"
    if not null and "anyOf" in schema:
        schema = {"anyOf": [branch for branch in schema["anyOf"] if branch.get("type") != "null"]}
    return _dotted(path), f"is {shown(first['input'])}", f"expected {expected(schema)}"


def _dotted(path: Sequence[str | int]) -> str:
    return "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in path).lstrip(".")


def shown(value: object) -> str:
    """A value as its file would have it, cut where it is long."""
    try:
        text = json.dumps(value, ensure_ascii=False)
    except (TypeError, ValueError):
        text = repr(value)
    return text if len(text) <= _MAX_SHOWN else f"{text[:_MAX_SHOWN]}…"


def expected(schema: Mapping[str, Any]) -> str:
    """What a JSON schema allows, in words; `WithJsonSchema({"words": …})` states them for a type of Python."""
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
    least, most = (schema.get(key, schema.get(f"exclusive{key.capitalize()}")) for key in ("minimum", "maximum"))
    above, below = "exclusiveMinimum" in schema, "exclusiveMaximum" in schema
    if least is not None and most is not None and not above and not below:
        return f"{words} from {least:.10g} to {most:.10g}"
    low = "" if least is None else f"{'above' if above else 'at least'} {least:.10g}"
    high = "" if most is None else f"{'below' if below else 'at most'} {most:.10g}"
    return " ".join([words, " and ".join(filter(None, (low, high)))]).strip()


def _expected_array(schema: Mapping[str, Any]) -> str:
    items = schema.get("prefixItems") or [schema.get("items", {})]
    plural = {"a whole number": "whole numbers", "a number": "numbers", "text": "texts"}
    element = expected(items[0])
    for one, many in plural.items():
        element = element.replace(one, many)
    least, most = schema.get("minItems"), schema.get("maxItems")
    count = f"{least} " if least is not None and least == most else ""
    return f"a list of {count}{element}"


def _tuples(values: Any) -> Any:
    """Parsed JSON or YAML with tuples for lists, as strict reading wants them; NumPy's arrays and numbers likewise."""
    if hasattr(values, "tolist"):
        values = values.tolist()
    if isinstance(values, Mapping):
        return {key: _tuples(value) for key, value in values.items()}
    return tuple(map(_tuples, values)) if isinstance(values, list) else values


def _resolved(schema: Mapping[str, Any], root: Mapping[str, Any]) -> Mapping[str, Any]:
    while "$ref" in schema:
        schema = root["$defs"][schema["$ref"].rpartition("/")[2]]
    return schema


def _located(location: Sequence[str | int], root: Mapping[str, Any]) -> tuple[list[str | int], Mapping[str, Any]]:
    """The keys and indices of a location that pydantic reports, and the part of a class's schema for what is there."""
    path: list[str | int] = []
    schema, in_branch = root, False
    for step in location:
        schema = _resolved(schema, root)
        branches = [_resolved(branch, root) for branch in schema.get("anyOf", [schema])]
        is_union = sum(branch.get("type") != "null" for branch in branches) > 1
        # Inside a union pydantic first names the branch that it tried; at a wrong key it adds "[key]".
        if (is_union and not in_branch) or step == "[key]":
            in_branch = True
            continue
        in_branch = False
        schema = next((inner for branch in branches if (inner := _step(branch, step)) is not None), {})
        path.append(step)
    return path, _resolved(schema, root)


def _step(schema: Mapping[str, Any], step: str | int) -> Mapping[str, Any] | None:
    if isinstance(step, int):
        fixed = schema.get("prefixItems", [])
        return fixed[step] if step < len(fixed) else schema.get("items")
    further = schema.get("additionalProperties")
    return schema.get("properties", {}).get(step, further if isinstance(further, Mapping) else None)
