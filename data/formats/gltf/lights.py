"""KHR_lights_punctual: point and spot lights of glTF as small emitting meshes, directional ones as suns.

A point light of I watts per steradian becomes an icosahedron that emits the same power evenly: a convex body of area S
and radiance L emits pi L S in all, so L = 4 I / S. A spot light becomes a disc of area A that faces its direction and
has the same intensity on its axis, L = I / A; it falls off with the cosine and not at the edge of the cone. Lights
keep their irradiance when a scene is scaled, because area and squared distance scale alike. A directional light of E
watts per square metre is a sun; with it comes an even sky, because a black one is nowhere.

glTF states candela and lux, and exporters mean different things by it: Blender writes 683 for a lamp of one watt per
steradian, three.js writes 1. `candela_per_watt` takes the number that suits the scene, for suns and other lights apart.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from renderformer.data.arrays import Float64Array, Int64Array
from renderformer.data.environment import Environment, Sun
from renderformer.data.errors import InputError
from renderformer.data.formats.gltf.document import Document
from renderformer.data.formats.gltf.nodes import Visit
from renderformer.data.formats.gltf.values import DAMAGED, extension, label_of, number, numbers, whole
from renderformer.data.formats.parts import Notes, Part
from renderformer.data.material import MAX_RADIANCE, Material

LIGHTS = "KHR_lights_punctual"
_MAX_LIGHTS = 1000
LUMENS_PER_WATT = 683.0
# A light has this radius times the diagonal of the scene, or more if its radiance would be above the limit.
_RADIUS, _BRIGHTEST = 0.004, 30_000.0
_LARGEST = 0.05
# The irradiance of a floor of albedo 0.5 and radiance 0.5, as the light of a stage gives it.
_USUAL = math.pi
_DISC_SIDES = 12
# The irradiance of a clear sky as a share of the sun's.
_SKY = 0.15


@dataclass(frozen=True)
class Punctual:
    """A light of a file in its scene, Y up.

    Attributes:
        kind: "point", "spot" or "directional".
        colour: linear RGB times intensity: candela, or lux of a directional light.
        position: (3,).
        direction: (3,) unit vector in which it shines.
    """

    name: str
    kind: str
    colour: Float64Array
    position: Float64Array
    direction: Float64Array


def punctual_lights(document: Document, visits: list[Visit], notes: Notes) -> list[Punctual]:
    """The lights of the nodes in the scene that shine at all; those beyond a limit are counted in the notes.

    Raises:
        InputError: a damaged light.
    """
    known = document.extension(LIGHTS).get("lights", [])
    lights: list[Punctual] = []
    for visit in visits:
        reference = extension(visit.node, LIGHTS, f"nodes[{visit.index}]")
        if reference is None:
            continue
        if len(lights) == _MAX_LIGHTS:
            notes.counts[f"lights left out, {_MAX_LIGHTS} are read"] += 1
            continue
        index = whole(reference, "light")
        if not isinstance(known, list) or index >= len(known) or not isinstance(known[index], dict):
            raise InputError("", f"refers to lights[{index}], which does not exist", DAMAGED)
        light = _light(known[index], index, visit)
        if light.colour.max() > 0:
            lights.append(light)
    return lights


def _light(entry: dict[str, Any], index: int, visit: Visit) -> Punctual:
    place = f"lights[{index}]"
    kind = entry.get("type")
    if kind not in ("point", "spot", "directional"):
        raise InputError("", f"{place} has the type {kind!r}", "expected point, spot or directional")
    colour = numbers(entry.get("color", [1, 1, 1]), 3, f"{place}.color")
    colour = colour * number(entry.get("intensity", 1.0), f"{place}.intensity")
    if colour.min() < 0:
        raise InputError("", f"{place} has the intensity {colour.tolist()}", "expected 0 or more")
    backward = visit.world[:3, 2]
    length = np.linalg.norm(backward)
    direction = -backward / length if length > 1e-12 else np.array([0.0, 0.0, -1.0])
    name = label_of(visit.node, label_of(entry, f"light_{index}"))
    return Punctual(name, kind, colour, visit.world[:3, 3], direction)


def candela_per_watt(lights: list[Punctual], centre: Float64Array) -> float:
    """1 or `LUMENS_PER_WATT`, whichever gives the centre of the scene an irradiance closer to the usual one.

    Args:
        centre: (3,) of the objects.
    """
    total = 0.0
    for light in lights:
        squared = 1.0 if light.kind == "directional" else float(((light.position - centre) ** 2).sum())
        total += float(light.colour.mean()) / max(squared, 1e-12)
    return 1.0 if total < _USUAL * math.sqrt(LUMENS_PER_WATT) else LUMENS_PER_WATT


def sky(lights: list[Punctual], lux: float) -> tuple[Environment | None, int]:
    """The surroundings, Z up, with the directional lights as suns, and how many of these had to be dimmed; None without
    such a light.

    Args:
        lux: per watt and square metre, see `candela_per_watt`.
    """
    suns, dimmed = [], 0
    for light in lights:
        irradiance = light.colour / lux
        dimmed += bool(irradiance.max() > MAX_RADIANCE)
        red, green, blue = np.minimum(irradiance, MAX_RADIANCE).tolist()
        x, y, z = (-light.direction).tolist()
        suns.append(Sun((x, -z, y), (red, green, blue)))
    if not suns:
        return None, 0
    red, green, blue = (_SKY / math.pi * np.sum([sun.irradiance for sun in suns], axis=0)).tolist()
    return Environment((red, green, blue), suns=tuple(suns), name="sky"), dimmed


def light_part(light: Punctual, diagonal: float, candela: float) -> tuple[Part, bool]:
    """A point or spot light as an emitting object, and whether it had to be dimmed.

    Args:
        diagonal: of the objects of the scene.
        candela: per watt and steradian of radiance, see `candela_per_watt`.
    """
    vertices, faces = _icosahedron() if light.kind == "point" else _disc(light.direction)
    edges = vertices[faces[:, 1:]] - vertices[faces[:, :1]]
    area = float(np.linalg.norm(np.cross(edges[:, 0], edges[:, 1]), axis=1).sum()) / 2
    per_area = (4 if light.kind == "point" else 1) * light.colour / (candela * area)
    needed = math.sqrt(float(per_area.max()) / _BRIGHTEST)
    radius = min(max(_RADIUS * diagonal, needed), _LARGEST * diagonal)
    radiance = per_area / radius**2
    dimmed = radiance.max() > _BRIGHTEST * 1.001
    radiance *= min(1.0, _BRIGHTEST / radiance.max())
    red, green, blue = radiance.tolist()
    material = Material((0.0, 0.0, 0.0), roughness=1.0, emission=(red, green, blue))
    return Part(light.name, light.position + radius * vertices, faces, material=material, two_sided=False), bool(dimmed)


def _icosahedron() -> tuple[Float64Array, Int64Array]:
    """Vertices (12, 3) on the unit sphere and faces (20, 3), counter-clockwise seen from outside."""
    golden = (1 + math.sqrt(5)) / 2
    corners = [(a, b) for a in (-1, 1) for b in (-golden, golden)]
    vertices = np.array([np.roll((0, a, b), shift) for shift in range(3) for a, b in corners], np.float64)
    # A face is three vertices at the distance of an edge, 2, from each other.
    near = np.isclose(np.linalg.norm(vertices[:, None] - vertices, axis=-1), 2)
    triples = itertools.combinations(range(12), 3)
    index = np.array([(i, j, k) for i, j, k in triples if near[i, j] and near[j, k] and near[k, i]], np.int64)
    a, b, c = (vertices[index[:, k]] for k in range(3))
    inward = (np.cross(b - a, c - a) * a).sum(axis=1) < 0
    index[inward] = index[inward][:, ::-1]
    return vertices / np.linalg.norm(vertices[0]), index


def _disc(direction: Float64Array) -> tuple[Float64Array, Int64Array]:
    """Vertices (K + 1, 3) of a disc of radius 1 about the origin that faces `direction`, and faces (K, 3)."""
    helper = np.eye(3)[np.abs(direction).argmin()]
    first = np.cross(helper, direction)
    first /= np.linalg.norm(first)
    second = np.cross(direction, first)
    angle = 2 * np.pi * np.arange(_DISC_SIDES) / _DISC_SIDES
    rim = np.cos(angle)[:, None] * first + np.sin(angle)[:, None] * second
    corner = np.arange(_DISC_SIDES)
    faces = np.stack([np.zeros(_DISC_SIDES, np.int64), 1 + corner, 1 + (corner + 1) % _DISC_SIDES], axis=1)
    return np.concatenate([np.zeros((1, 3)), rim]), faces
