"""Random materials of all kinds, with their textures and texture coordinates, as appearances of meshes.

Shapes: N triangles of a mesh. Colours are linear RGB.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from renderformer.data.appearance import Appearance
from renderformer.data.arrays import Float32Array, Float64Array
from renderformer.data.geometry.triangles import face_normals
from renderformer.data.material import DIELECTRIC, RGB, Material, Textures
from renderformer.data.scene import Mesh
from renderformer.data.sets.patterns import coloured, leaf, normals, random_pattern, roughness_bytes
from renderformer.data.texture import Texture

# Roughness is drawn evenly on a logarithmic scale, and twice as often in the first range, where models are worst.
ROUGHNESS, OFTEN = (0.03, 1.0), (0.05, 0.3)
# Base colours of metals: gold, copper, brass, silver, aluminium, iron, titanium, chrome.
METALS = (
    (1.0, 0.77, 0.34), (0.95, 0.64, 0.54), (0.89, 0.7, 0.36), (0.97, 0.96, 0.91), (0.91, 0.92, 0.92),
    (0.56, 0.57, 0.58), (0.54, 0.5, 0.45), (0.55, 0.55, 0.56),
)  # fmt: skip
# Kinds of material, and shares of them on objects, on floors and on walls.
KINDS = ("matt", "plastic", "dielectric", "metal", "coloured")
SHARES, FLOOR_SHARES, WALL_SHARES = (
    (0.25, 0.25, 0.2, 0.23, 0.07),
    (0.5, 0.17, 0.27, 0.06, 0.0),
    (0.68, 0.1, 0.19, 0.03, 0.0),
)
SIDES = (64, 96, 128, 192, 256)
# Share of the objects by how they look beside their material; the rest is uniform.
TEXTURED, COLOURED, CUT_OUT = 0.45, 0.08, 0.02
# Size of one repetition of a texture in scene units, on objects and around them.
PERIOD, WIDE_PERIOD = (0.08, 0.7), (0.2, 1.2)


@dataclass(frozen=True)
class Surroundings:
    """Where a surface is: on an object, or part of a floor, wall or ground."""

    floor: bool = False
    wall: bool = False

    @property
    def any(self) -> bool:
        return self.floor or self.wall


OBJECT, FLOOR, WALL = Surroundings(), Surroundings(floor=True), Surroundings(wall=True)


def random_roughness(rng: np.random.Generator) -> float:
    """Twice as dense on a logarithmic scale in `OFTEN` as in the rest of `ROUGHNESS`."""
    low, start, end, high = (math.log(v) for v in (ROUGHNESS[0], *OFTEN, ROUGHNESS[1]))
    weights = np.array([start - low, 2 * (end - start), high - end])
    part = int(rng.choice(3, p=weights / weights.sum()))
    return float(np.exp(rng.uniform(*((low, start), (start, end), (end, high))[part])))


def random_colour(rng: np.random.Generator) -> Float64Array:
    """(3,) albedo: grey, pastel or saturated."""
    value = rng.uniform(0.25, 0.92)
    choice = rng.random()
    if choice < 0.25:
        return np.full(3, rng.uniform(0.06, 0.9))
    return value * hue(rng.random(), rng.uniform(0.15, 0.6) if choice < 0.6 else rng.uniform(0.7, 0.98))


def hue(turn: float, saturation: float) -> Float64Array:
    """(3,) colour of value 1 of a hue in turns."""
    channels = np.clip(np.abs((turn * 6 + np.array([0.0, 4.0, 2.0])) % 6 - 3) - 1, 0, 1)
    return np.asarray(1 - saturation * (1 - channels), np.float64)


def random_material(rng: np.random.Generator, where: Surroundings = OBJECT) -> Material:
    """A uniform material: matt, plastic, dielectric, metal, or with coloured gloss."""
    kind = str(rng.choice(KINDS, p=FLOOR_SHARES if where.floor else WALL_SHARES if where.wall else SHARES))
    colour = _wall_colour(rng) if where.any else random_colour(rng)
    if kind == "matt":
        return Material(rgb(colour), roughness=float(rng.uniform(0.6, 1.0)))
    if kind == "dielectric":
        return Material(rgb(colour), (DIELECTRIC,) * 3, random_roughness(rng), metallic=0.0)
    if kind == "metal":
        base = np.array(METALS[rng.integers(len(METALS))]) if rng.random() < 0.7 else 0.95 * hue(rng.random(), 0.6)
        return Material(rgb(base), (DIELECTRIC,) * 3, random_roughness(rng), metallic=1.0)
    specular = np.full(3, rng.uniform(0.5, 0.9) if rng.random() < 0.25 else rng.uniform(0.05, 0.5))
    if kind == "coloured":
        specular = specular * hue(rng.random(), rng.uniform(0.3, 0.95))
    return Material(rgb(colour * (1 - specular.max())), rgb(specular), random_roughness(rng))


def _wall_colour(rng: np.random.Generator) -> Float64Array:
    if rng.random() < 0.6:
        return np.asarray(np.full(3, rng.uniform(0.3, 0.85)) * rng.uniform(0.9, 1.0, 3), np.float64)
    return random_colour(rng)


def finished(rng: np.random.Generator, mesh: Mesh, where: Surroundings = OBJECT) -> Mesh:
    """The mesh with a random material: uniform, textured, with vertex colours, or cut out by a mask."""
    material = random_material(rng, where)
    choice = rng.random()
    if choice < TEXTURED:
        return textured(rng, mesh, material, where)
    if choice < TEXTURED + COLOURED and not where.any:
        return _with_colours(rng, mesh, material)
    if choice < TEXTURED + COLOURED + CUT_OUT and not where.any:
        return cut_out(rng, mesh)
    return mesh.with_material(material)


def textured(rng: np.random.Generator, mesh: Mesh, material: Material, where: Surroundings = OBJECT) -> Mesh:
    """The mesh with pictures of base colour, roughness and normals, one of them at least."""
    side = int(rng.choice(SIDES, p=(0.25, 0.2, 0.3, 0.15, 0.1)))
    pattern = random_pattern(rng, side, where.any)
    maps: dict[str, Texture] = {}
    shown, rough, bumpy = rng.random() < 0.85, rng.random() < 0.3, rng.random() < 0.3
    if shown or not (rough or bumpy):
        maps["base"] = Texture(coloured(pattern.mix, _palette(rng, material)))
        material = replace(material, diffuse=(1.0, 1.0, 1.0))
    if rough and max(material.rows()[0, 3:6]) > 0:
        low, high = sorted((random_roughness(rng), random_roughness(rng)))
        maps["metallic_roughness"] = Texture(roughness_bytes(pattern.mix, low, high), srgb=False)
        material = replace(material, roughness=1.0)
    if bumpy and np.ptp(pattern.height) > 0:
        maps["normal"] = Texture(normals(pattern.height, float(rng.uniform(0.05, 0.35))), srgb=False)
    if not maps:
        return mesh.with_material(material)
    material = replace(material, textures=Textures(**maps))
    period = math.exp(rng.uniform(*np.log(WIDE_PERIOD if where.any else PERIOD)))
    return _looking(mesh, Appearance.of(material, _uv(rng, mesh, period, where)))


def _palette(rng: np.random.Generator, material: Material) -> Float64Array:
    """(K, 3) colours around that of a material, or far from it; dimmed where its gloss takes light."""
    base = np.array(material.diffuse)
    metal = material.metallic == 1
    limit = 1.0 if material.metallic is not None else 1 - max(material.specular)
    colours = [base]
    for _ in range(int(rng.integers(1, 4))):
        near = rng.random() < 0.6 or metal
        colours.append(base * rng.uniform(0.35, 1.3) if near else random_colour(rng) * limit)
    order = rng.permutation(len(colours))
    return np.clip(np.array(colours)[order], 0.01, 0.95 * limit)


def _with_colours(rng: np.random.Generator, mesh: Mesh, material: Material) -> Mesh:
    """Vertex colours: a gradient, waves of bands, or random corners."""
    points = mesh.triangles.astype(np.float64)
    low, high = mesh.bounds.astype(np.float64)
    axis = rng.normal(size=3)
    place = (points - low) / np.maximum(high - low, 1e-9) @ (axis / np.abs(axis).sum())
    place = (place - place.min()) / max(float(np.ptp(place)), 1e-9)
    if rng.random() < 0.4:
        place = np.abs((place * float(rng.integers(1, 5))) % 2 - 1)
    palette = _palette(rng, material)
    steps = place * (len(palette) - 1)
    first = np.minimum(steps.astype(np.int64), len(palette) - 2)
    share = (steps - first)[..., None]
    colours = (1 - share) * palette[first] + share * palette[first + 1]
    # Rounded as files store them.
    colours = np.rint(colours * 255) / 255
    material = replace(material, diffuse=(1.0, 1.0, 1.0))
    return _looking(mesh, Appearance.of(material, np.zeros((len(mesh), 3, 0, 2)), colours.astype(np.float32)))


def cut_out(rng: np.random.Generator, mesh: Mesh) -> Mesh:
    """A mesh with holes: leaves, a lattice or a perforated plate."""
    side = int(rng.choice(SIDES[:3]))
    colour = coloured(random_pattern(rng, side).mix, _palette(rng, Material(rgb(random_colour(rng)))))
    base = Texture(np.concatenate([colour, leaf(rng, side)[..., None]], axis=2))
    roughness, gloss = random_roughness(rng), (DIELECTRIC,) * 3
    material = Material((1.0,) * 3, gloss, roughness, metallic=0.0, textures=Textures(base), alpha_cutoff=0.5)
    return _looking(mesh, Appearance.of(material, _uv(rng, mesh, float(rng.uniform(0.1, 0.4)), OBJECT)))


def _looking(mesh: Mesh, appearance: Appearance) -> Mesh:
    return Mesh(mesh.name, mesh.triangles, mesh.normals, appearance=appearance)


def _uv(rng: np.random.Generator, mesh: Mesh, period: float, where: Surroundings) -> Float32Array:
    """(N, 3, 2) texture coordinates, one repetition in about `period` scene units."""
    if where.any:
        makers: tuple[Callable[..., Float64Array], ...] = (_box_uv,)
    else:
        makers = (_box_uv, _box_uv, _planar_uv, _round_uv, _triangle_uv)
    uv = makers[rng.integers(len(makers))](rng, mesh, period)
    return np.asarray(uv, np.float32)


def _box_uv(rng: np.random.Generator, mesh: Mesh, period: float) -> Float64Array:
    """Along the two axes that a triangle faces least."""
    points = mesh.triangles.astype(np.float64) / period + rng.random(3)
    main = np.abs(face_normals(mesh.triangles.astype(np.float64))).argmax(axis=1)
    # The vertical axis is the second where there is one, and pictures have their first row on top.
    axes = np.array([[1, 2], [0, 2], [0, 1]])[main]
    return np.asarray(np.take_along_axis(points, axes[:, None].repeat(3, 1), axis=2) * [1, -1], np.float64)


def _planar_uv(rng: np.random.Generator, mesh: Mesh, period: float) -> Float64Array:
    q, _ = np.linalg.qr(rng.normal(size=(3, 3)))
    return np.asarray(mesh.triangles.astype(np.float64) @ np.round(q[:, :2], 6) / period, np.float64)


def _round_uv(rng: np.random.Generator, mesh: Mesh, period: float) -> Float64Array:
    """Around the vertical axis through the middle of the mesh, a whole number of times."""
    points = mesh.triangles.astype(np.float64) - mesh.bounds.mean(axis=0)
    radius = max(float(np.linalg.norm(points[..., :2], axis=-1).max()), 1e-6)
    turns = max(1, round(2 * math.pi * radius / period))
    angle = np.arctan2(points[..., 1], points[..., 0]) / (2 * math.pi)
    # The corners of a triangle are less than half a turn apart.
    angle = angle + np.round(angle[:, :1] - angle)
    return np.round(np.stack([angle * turns, -points[..., 2] / period], axis=-1), 6)


def _triangle_uv(rng: np.random.Generator, mesh: Mesh, period: float) -> Float64Array:
    """Each triangle shows its own part of the picture, as atlases have it."""
    edges = np.linalg.norm(mesh.triangles[:, [1, 2]].astype(np.float64) - mesh.triangles[:, :1], axis=2)
    size = np.minimum(edges / period, 1.0)
    corners = np.zeros((len(mesh), 3, 2))
    corners[:, 1, 0], corners[:, 2, 1] = size.T
    return np.round(corners + rng.random((len(mesh), 1, 2)), 6)


def rgb(values: Any) -> RGB:
    """Three floats in [0, 1]."""
    r, g, b = (float(v) for v in np.clip(values, 0, 1))
    return r, g, b
