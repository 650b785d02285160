"""The animations of a glTF file: poses of its nodes at a time.

Times are in seconds from the start of the animation, as players count them.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from renderformer.data.arrays import Float64Array
from renderformer.data.errors import InputError
from renderformer.data.formats.gltf.document import Document
from renderformer.data.formats.gltf.nodes import Pose
from renderformer.data.formats.gltf.values import DAMAGED, child, numbers, whole

_WIDTHS = {"translation": 3, "rotation": 4, "scale": 3, "weights": 1}


def first_frame(document: Document) -> tuple[dict[int, Pose], str]:
    """The pose of the first key frame of the first animation, and the animation's name.

    Players start with it. Only files with skins or morph targets are posed: there the nodes alone often give a pose
    that is meant for modelling. Channels that repeat the value of their node are left out.

    Returns:
        Poses by the index of the node; empty if nothing changes.
    """
    if not document.header.get("animations") or not _deforms(document):
        return {}, ""
    return _Animation(document, 0).poses(None)


def pose_at(document: Document, name: str, time: float) -> tuple[dict[int, Pose], str]:
    """The pose at a time of an animation, and the animation's name; before its start and after its end it rests.

    Args:
        name: of the animation, or its index; the first one if empty.

    Raises:
        InputError: there is no such animation, or it is damaged.
    """
    return _Animation(document, _find(document, name)).poses(time)


def duration(document: Document, name: str) -> float | None:
    """Seconds until the last key of an animation; None if the file has none and `name` is empty.

    Raises:
        InputError: there is no such animation, or it is damaged.
    """
    if not name and not document.header.get("animations"):
        return None
    return _Animation(document, _find(document, name)).duration()


def _find(document: Document, name: str) -> int:
    names = [str(item.get("name") or "") for item in _objects(document.header, "animations")]
    if name in names and name:
        return names.index(name)
    index = int(name or 0) if (name or "0").isdecimal() else len(names)
    if index >= len(names):
        listed = ", ".join(f"{number} {text}".rstrip() for number, text in enumerate(names)) or "none"
        raise InputError("", f"no animation {name or '0'!r}", f"it has: {listed[:200]}")
    return index


class _Animation:
    """An animation of a file."""

    def __init__(self, document: Document, number: int) -> None:
        self._document, self._entry = document, document.get("animations", number)
        self._place, self._name = f"animations[{number}]", str(self._entry.get("name") or number)

    def poses(self, time: float | None) -> tuple[dict[int, Pose], str]:
        """The poses at a time, or of the first keys, and the name."""
        poses: dict[int, Pose] = {}
        for channel in _objects(self._entry, "channels"):
            self._pose(channel, time, poses)
        return poses, self._name

    def duration(self) -> float:
        ends = [self._times(sampler)[-1] for sampler in _objects(self._entry, "samplers")]
        return float(max(ends, default=0.0))

    def _pose(self, channel: dict[str, Any], time: float | None, poses: dict[int, Pose]) -> None:
        target = child(channel, "target", f"{self._place}.channels")
        path = target.get("path")
        if path not in _WIDTHS or "node" not in target:
            return
        index = whole(target, "node")
        node = self._document.get("nodes", index)
        samplers = _objects(self._entry, "samplers")
        number = whole(channel, "sampler")
        if number >= len(samplers):
            raise InputError("", f"{self._place} refers to sampler {number}, which does not exist", DAMAGED)
        keys = self._values(samplers[number], path)
        value = (
            keys[0, 1]
            if time is None
            else _interpolated(keys, self._times(samplers[number]), samplers[number], path, time)
        )
        if not np.isfinite(value).all():
            raise InputError("", f"{self._place} has a {path} that is not finite", DAMAGED)
        if path == "weights":
            mesh = self._document.get("meshes", node["mesh"]) if "mesh" in node else {}
            if not _same(node.get("weights", mesh.get("weights")), value, [0.0] * len(value)):
                poses.setdefault(index, Pose()).weights = value
            return
        default = {"translation": [0.0] * 3, "rotation": [0.0, 0.0, 0.0, 1.0], "scale": [1.0] * 3}[path]
        if "matrix" in node or not _same(node.get(path), value, default):
            poses.setdefault(index, Pose()).transform[path] = value

    def _values(self, sampler: dict[str, Any], path: str) -> Float64Array:
        """(keys, 3, columns): incoming tangent, value and outgoing tangent at each key; no tangents but for splines."""
        count = self._document.layout(sampler.get("input"))[2]
        values = self._document.accessor(sampler.get("output")).astype(np.float64)
        parts = 3 if sampler.get("interpolation") == "CUBICSPLINE" else 1
        rows = len(values) // (parts * count) if path == "weights" and count else 1
        if not count or not rows or values.shape[1] != _WIDTHS[path] or len(values) < parts * rows:
            raise InputError("", f"{self._place} has no value of the {path} for its first key", DAMAGED)
        count = min(count, len(values) // (parts * rows))
        keys = values[: count * parts * rows].reshape(count, parts, -1)
        return keys if parts == 3 else np.concatenate([np.zeros_like(keys), keys, np.zeros_like(keys)], axis=1)

    def _times(self, sampler: dict[str, Any]) -> Float64Array:
        """(keys,) increasing."""
        times = self._document.accessor(sampler.get("input"), 1)[:, 0].astype(np.float64)
        if not len(times) or not np.isfinite(times).all() or (np.diff(times) < 0).any() or times[0] < 0:
            raise InputError("", f"the times of {self._place} do not increase from 0", DAMAGED)
        return times


def _interpolated(
    keys: Float64Array, times: Float64Array, sampler: dict[str, Any], path: str, time: float
) -> Float64Array:
    """(columns,) the value at a time (glTF 2.0, appendix C)."""
    times = times[: len(keys)]
    left = int(np.clip(np.searchsorted(times, time, side="right") - 1, 0, len(times) - 1))
    right = min(left + 1, len(times) - 1)
    span = times[right] - times[left]
    share = float(np.clip((time - times[left]) / span, 0, 1)) if span > 0 else 0.0
    before, after = keys[left, 1], keys[right, 1]
    kind = sampler.get("interpolation", "LINEAR")
    if kind == "STEP":
        return before if share < 1 else after
    if kind == "CUBICSPLINE":
        return _hermite(before, span * keys[left, 2], after, span * keys[right, 0], share)
    return _slerp(before, after, share) if path == "rotation" else before + share * (after - before)


def _hermite(
    start: Float64Array, leaving: Float64Array, end: Float64Array, arriving: Float64Array, t: float
) -> Float64Array:
    """The cubic with these values and slopes at 0 and 1."""
    a, b = 2 * t**3 - 3 * t**2 + 1, t**3 - 2 * t**2 + t
    c, d = 3 * t**2 - 2 * t**3, t**3 - t**2
    return np.asarray(a * start + b * leaving + c * end + d * arriving)


def _slerp(start: Float64Array, end: Float64Array, t: float) -> Float64Array:
    """The rotation between two quaternions, the short way."""
    lengths = np.linalg.norm(start), np.linalg.norm(end)
    if min(lengths) < 1e-12:
        return start
    a, b = start / lengths[0], end / lengths[1]
    cosine = float(a @ b)
    if cosine < 0:
        b, cosine = -b, -cosine
    angle = np.arccos(min(cosine, 1.0))
    if angle < 1e-6:
        return np.asarray(a + t * (b - a))
    return np.asarray((np.sin((1 - t) * angle) * a + np.sin(t * angle) * b) / np.sin(angle))


def _objects(entry: dict[str, Any], key: str) -> list[dict[str, Any]]:
    value = entry.get(key, [])
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []


def _deforms(document: Document) -> bool:
    """Whether a mesh of the file is skinned or has morph targets."""
    primitives = [p for mesh in _objects(document.header, "meshes") for p in _objects(mesh, "primitives")]
    return bool(document.header.get("skins")) or any(primitive.get("targets") for primitive in primitives)


def _same(given: Any, value: Float64Array, default: list[float]) -> bool:
    values = numbers(given if given else default, None, "a value of a node")
    return len(values) == len(value) and bool(np.allclose(values, value, atol=1e-6))
