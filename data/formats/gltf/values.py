"""Checked values of a glTF header, whose every key may be missing or have the wrong type."""

from __future__ import annotations

from typing import Any

import numpy as np

from renderformer.data.arrays import Float64Array
from renderformer.data.errors import InputError

DAMAGED = "the file is damaged, export it again"


def whole(entry: dict[str, Any], key: str, default: int | None = None) -> int:
    """A whole number from 0 to 2^40."""
    value = entry.get(key, default)
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value < 2**40:
        raise InputError("", f"{key} is {value!r}, expected a whole number", DAMAGED)
    return value


def indices(entry: dict[str, Any], key: str) -> list[int]:
    """A list of whole numbers; empty without the key."""
    value = entry.get(key, [])
    if not isinstance(value, list) or not all(isinstance(i, int) for i in value):
        raise InputError("", f"{key} is not a list of numbers", DAMAGED)
    return value


def entries(entry: dict[str, Any], key: str, place: str) -> list[dict[str, Any]]:
    """A list of objects; empty without the key."""
    value = entry.get(key, [])
    if not isinstance(value, list) or not all(isinstance(item, dict) for item in value):
        raise InputError("", f"{place}.{key} is not a list of objects", DAMAGED)
    return value


def child(entry: dict[str, Any], key: str, place: str) -> dict[str, Any]:
    """An object inside an object; empty without the key."""
    value = entry.get(key) or {}
    if not isinstance(value, dict):
        raise InputError("", f"{place}.{key} is not an object", DAMAGED)
    return value


def extension(entry: dict[str, Any], name: str, place: str) -> dict[str, Any] | None:
    """The extension of an object, None if it has none of this name."""
    extensions = child(entry, "extensions", place)
    return child(extensions, name, f"{place}.extensions") if name in extensions else None


def numbers(value: Any, count: int | None, label: str) -> Float64Array:
    """(count,) finite numbers; any count for None."""
    try:
        values = np.asarray(value, np.float64).reshape(-1)
    except (TypeError, ValueError):
        values = np.full(1, np.nan)
    if count not in (None, len(values)) or not np.isfinite(values).all():
        raise InputError("", f"{label} is {value!r}", f"expected {'' if count is None else f'{count} '}finite numbers")
    return values


def number(value: Any, label: str) -> float:
    """One finite number."""
    return float(numbers(value, 1, label)[0])


def label_of(entry: dict[str, Any], fallback: str) -> str:
    """The name of a node, mesh, camera …, or the fallback."""
    return str(entry.get("name") or fallback)
