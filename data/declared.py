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


def refusal(error: ValidationError, kind: type[BaseModel], place: object) -> InputError:
    """The first of pydantic's findings as the one line that a user sees."""
    first = error.errors(include_url=False)[0]
    path = [step for step in first["loc"] if isinstance(step, int) or not _is_branch(step)]
    if first["type"] == "missing" and path and isinstance(path[-1], int):
        # A list that is too short lacks its last entries; what is wrong is its length.
        path.pop()
    elif first["type"] == "missing":
        wanted = expected(_schema_at(kind.model_json_schema(), path))
        return InputError(place, f"{_dotted(path)} is missing", f"add {wanted}")
    key, schema = _dotted(path), kind.model_json_schema()
    cause = first.get("ctx", {}).get("error")
    if isinstance(cause, InputError):
        # A rule about several values; it names them itself.
        where = f"{place}: {key}" if key and place else key or place
        return cause.within(where) if where else cause
    if first["type"] == "extra_forbidden":
        known = _resolved(_schema_at(schema, path[:-1]), schema).get("properties", {})
        return InputError(place, f"{key} is not a known key", f"known are {', '.join(known)}")
    return InputError(place, f"{key} is {shown(first['input'])}", f"expected {expected(_schema_at(schema, path))}")


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
    """What a JSON schema allows, in words."""
    if "enum" in schema or "const" in schema:
        choices = schema.get("enum", [schema.get("const")])
        return ("one of " if len(choices) > 1 else "") + ", ".join(map(str, choices))
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
    """Parsed JSON or YAML with tuples for lists, as strict reading wants them."""
    if isinstance(values, Mapping):
        return {key: _tuples(value) for key, value in values.items()}
    return tuple(map(_tuples, values)) if isinstance(values, list) else values


def _is_branch(step: str) -> bool:
    """Whether a step of pydantic's path names the branch of a union, which no file holds."""
    return step in ("int", "float", "str", "bool", "none", "nullable") or "[" in step


def _resolved(schema: Mapping[str, Any], root: Mapping[str, Any]) -> Mapping[str, Any]:
    while "$ref" in schema:
        schema = root["$defs"][schema["$ref"].rpartition("/")[2]]
    return schema


def _schema_at(root: Mapping[str, Any], path: Sequence[str | int]) -> Mapping[str, Any]:
    """The part of a class's schema that says what may stand at a path."""
    found: Mapping[str, Any] = root
    for step in path:
        found = _resolved(found, root)
        branches = [_resolved(branch, root) for branch in found.get("anyOf", [found])]
        found = next((next_ for branch in branches if (next_ := _step(branch, step)) is not None), {})
    return _resolved(found, root)


def _step(schema: Mapping[str, Any], step: str | int) -> Mapping[str, Any] | None:
    if isinstance(step, int):
        fixed = schema.get("prefixItems", [])
        return fixed[step] if step < len(fixed) else schema.get("items")
    further = schema.get("additionalProperties")
    return schema.get("properties", {}).get(step, further if isinstance(further, Mapping) else None)
