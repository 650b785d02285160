"""What the plain arrays of a shard do not hold of a scene: names, textures, vertex colours, the environment.

The details of a scene are bytes: a zlib stream of safetensors with a table `scene` in JSON and the arrays it refers to,

    texture<i> (H, W, 3 or 4) u8 · environment (H, W, 3) · <object>.index (N,) i32
    <object>.uv (N, 3, K, 2) · <object>.colors, <object>.tangents (N, 3, 4)

where numbers are half floats if these hold them exactly, else float32. No bytes at all mean a scene without textures
and environment whose objects are named by their numbers.

Shapes: N triangles of an object, K sets of texture coordinates.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from typing import Any

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load, save

from renderformer.data.appearance import Appearance
from renderformer.data.arrays import AnyArray
from renderformer.data.environment import Environment, Sun
from renderformer.data.errors import InputError
from renderformer.data.material import Material, Textures
from renderformer.data.scene import Scene
from renderformer.data.texture import Texture

# Larger details are damaged or hostile.
MAX_BYTES = 1 << 28
_FACTORS = tuple(f.name for f in fields(Material) if f.name != "textures")
_PLAIN = Material()


@dataclass(frozen=True)
class Details:
    """The details of a scene with the names of its objects and cameras; `None` where they are numbers."""

    name: str | None = None
    objects: tuple[str, ...] | None = None
    cameras: tuple[str, ...] | None = None
    appearances: dict[int, Appearance] = field(default_factory=dict)
    environment: Environment | None = None


def packed(scene: Scene) -> bytes:
    """The details of a scene.

    Raises:
        InputError: the scene has texture patches, or more than 256 MiB of details.
    """
    for mesh in scene.objects:
        if mesh.patches is not None:
            problem = "has texture patches, which shards do not hold"
            raise InputError(f"object {mesh.name!r}", problem, "give it an appearance or uniform materials")
    tables = _Tables()
    table: dict[str, Any] = {
        "name": scene.name,
        "objects": [mesh.name for mesh in scene.objects],
        "cameras": [camera.name for camera in scene.cameras],
        "appearances": {
            str(number): tables.appearance(number, mesh.appearance)
            for number, mesh in enumerate(scene.objects)
            if mesh.appearance is not None
        },
        "materials": tables.materials,
    }
    if scene.environment is not None:
        table["environment"] = _environment_table(scene.environment)
        tables.arrays["environment"] = _smallest(np.asarray(scene.environment.image))
    text = json.dumps(table, separators=(",", ":")).encode()
    content = save({**tables.arrays, "scene": np.frombuffer(text, np.uint8)})
    if len(content) > MAX_BYTES:
        raise InputError(f"scene {scene.name!r}", f"has {len(content)} bytes of textures", "make them smaller")
    return zlib.compress(content)


def unpacked(content: bytes) -> Details:
    """The inverse of `packed`.

    Raises:
        InputError: the bytes are damaged; the place is empty.
    """
    if not content:
        return Details()
    try:
        stream = zlib.decompressobj()
        arrays = load(stream.decompress(content, MAX_BYTES))
        table = json.loads(arrays["scene"].tobytes().decode())
        return _details(table, arrays)
    except (zlib.error, SafetensorError, ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
        raise InputError("", f"details of a scene are damaged ({error})", "make the file again") from None


class _Tables:
    """Collects the materials of a scene, and arrays by name."""

    def __init__(self) -> None:
        self.arrays: dict[str, AnyArray] = {}
        self.materials: list[dict[str, Any]] = []
        self._materials: dict[Material, int] = {}
        self._images: dict[tuple[tuple[int, ...], bytes], int] = {}

    def appearance(self, number: int, appearance: Appearance) -> list[int]:
        """Stores the arrays of an object; returns the numbers of its materials."""
        self.arrays[f"{number}.index"] = appearance.index
        for key in ("uv", "colors", "tangents"):
            values = getattr(appearance, key)
            if values is not None:
                self.arrays[f"{number}.{key}"] = _smallest(values)
        return [self._material(material) for material in appearance.materials]

    def _material(self, material: Material) -> int:
        if material not in self._materials:
            self._materials[material] = len(self.materials)
            entry = {key: getattr(material, key) for key in _FACTORS}
            entry = {key: value for key, value in entry.items() if value != getattr(_PLAIN, key)}
            textures = {f.name: getattr(material.textures, f.name) for f in fields(Textures)}
            maps = {key: self._texture(texture) for key, texture in textures.items() if texture is not None}
            self.materials.append({**entry, "textures": maps})
        return self._materials[material]

    def _texture(self, texture: Texture) -> list[Any]:
        key = (texture.pixels.shape, texture.pixels.tobytes())
        number = self._images.setdefault(key, len(self._images))
        self.arrays[f"texture{number}"] = np.ascontiguousarray(texture.pixels)
        assert texture.matrix is not None
        return [number, texture.srgb, texture.matrix.tolist(), list(texture.wrap), texture.uv_set]


def _smallest(values: AnyArray) -> AnyArray:
    """The values as half floats if these hold them exactly."""
    with np.errstate(over="ignore"):
        half = values.astype(np.float16)
    return np.ascontiguousarray(half if np.array_equal(half, values) else values)


def _environment_table(environment: Environment) -> dict[str, Any]:
    keys = ("strength", "rotation", "background", "name", "notes")
    suns = [[sun.direction, sun.irradiance, sun.angle] for sun in environment.suns]
    return {**{key: getattr(environment, key) for key in keys}, "suns": suns}


def _details(table: dict[str, Any], arrays: dict[str, AnyArray]) -> Details:
    materials = [_material(entry, arrays) for entry in table["materials"]]
    appearances = {
        int(number): _appearance(int(number), [materials[i] for i in used], arrays)
        for number, used in table["appearances"].items()
    }
    environment = None
    if "environment" in table:
        entry = dict(table["environment"])
        suns = tuple(Sun(tuple(direction), tuple(colour), angle) for direction, colour, angle in entry.pop("suns"))
        environment = Environment(arrays["environment"].astype(np.float32), suns=suns, **entry)
    return Details(str(table["name"]), _names(table["objects"]), _names(table["cameras"]), appearances, environment)


def _names(values: Sequence[Any]) -> tuple[str, ...]:
    return tuple(str(value) for value in values)


def _appearance(number: int, materials: list[Material], arrays: dict[str, AnyArray]) -> Appearance:
    parts = {key: arrays.get(f"{number}.{key}") for key in ("colors", "tangents")}
    return Appearance(tuple(materials), arrays[f"{number}.index"], arrays[f"{number}.uv"], **parts)


def _material(entry: dict[str, Any], arrays: dict[str, AnyArray]) -> Material:
    factors = {key: value for key, value in entry.items() if key != "textures"}
    maps = {
        key: Texture(arrays[f"texture{number}"], srgb, np.array(matrix, np.float64), (wrap[0], wrap[1]), uv_set)
        for key, (number, srgb, matrix, wrap, uv_set) in entry["textures"].items()
    }
    return Material(**factors, textures=Textures(**maps))
