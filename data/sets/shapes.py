"""Random closed shapes for procedural scenes: primitives, superquadrics, CSG, SDFs, extrusions, blobs, rocks, knots.

A shape is (vertices (V, 3) float64, faces (F, 3) int64), counter-clockwise seen from outside, about unit-sized. Needs
the extra `reference` (manifold3d, scikit-image). A seed must give the same shape to the bit: keep the order of random
draws.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from renderformer.data.arrays import AnyArray, Float64Array, Int64Array
from renderformer.data.errors import InputError
from renderformer.data.geometry.decimation import decimate_closed
from renderformer.data.geometry.subdivide import quarter
from renderformer.data.geometry.triangles import is_closed

Shape = tuple[Float64Array, Int64Array]
Maker = Callable[[np.random.Generator, int], Shape]

# Share of the user's meshes among the shapes, if there are any.
MESH_SHARE = 1 / 3
# Smallest area of a face; smaller ones have no normal in float32.
MIN_AREA = 1e-7
# Coordinates are rounded to multiples of this. The last bits of sines and roots differ between platforms and must not
# influence a decision.
GRID = 2.0**-20


def random_shape(
    rng: np.random.Generator, budget: int, meshes: Sequence[Callable[[int], Shape | None]] = ()
) -> tuple[str, Shape]:
    """Draw shapes until one is closed and has at most `budget` faces; returns its family's name and the shape.

    Args:
        rng: source of all draws.
        budget: number of faces, at least 12.
        meshes: the user's meshes as functions of the budget, drawn as the family "mesh" for a share of `MESH_SHARE`.

    Raises:
        InputError: the extra `reference` is not installed.
    """
    names = list(FAMILIES)
    weights = np.array([FAMILIES[name][1] for name in names])
    for _ in range(50):
        # No draw without meshes, so that the scene of a seed stays the same.
        if meshes and rng.random() < MESH_SHARE:
            shape = meshes[int(rng.integers(len(meshes)))](budget)
            if shape is None:
                continue
            name, vertices, faces = "mesh", on_grid(shape[0]), shape[1]
        else:
            name = names[rng.choice(len(names), p=weights / weights.sum())]
            vertices, faces = FAMILIES[name][0](rng, budget)
            vertices, faces = decimate_closed(on_grid(vertices), faces, budget)
        # Cut half of the coarse shapes finer, so that flat sides of many triangles occur too.
        while 0 < 4 * len(faces) <= budget and rng.random() < 0.5:
            vertices, faces = quarter(vertices, faces)
        if not 4 <= len(faces) <= budget or not is_closed(faces):
            continue
        if volume(vertices, faces) > 1e-4 and _smallest_area(vertices, faces) > MIN_AREA:
            return name, (vertices, faces)
    return "box", _from_manifold(_manifold3d().Manifold.cube((1.0, 1.0, 1.0), True))


def on_grid(vertices: Float64Array) -> Float64Array:
    """Coordinates rounded to multiples of `GRID`; those below 8 are exact in float32."""
    return np.asarray(np.round(vertices / GRID) * GRID, np.float64)


def volume(vertices: Float64Array, faces: Int64Array) -> float:
    """Signed volume; positive when the faces look outward."""
    a, b, c = (vertices[faces[:, i]] for i in range(3))
    return float(np.einsum("nk,nk->", a, np.cross(b, c)) / 6)


def _smallest_area(vertices: Float64Array, faces: Int64Array) -> float:
    a, b, c = (vertices[faces[:, i]] for i in range(3))
    return float(np.linalg.norm(np.cross(b - a, c - a), axis=1).min() / 2)


def _manifold3d() -> Any:
    try:
        import manifold3d
    except ImportError as error:
        remedy = "pip install 'renderformer[reference]'"
        raise InputError("procedural scenes", "manifold3d is not installed", remedy) from error
    return manifold3d


def _from_manifold(solid: Any) -> Shape:
    mesh = solid.to_mesh()
    return np.asarray(mesh.vert_properties, np.float64)[:, :3], np.asarray(mesh.tri_verts, np.int64)


def _segments(rng: np.random.Generator, budget: int, low: int = 6) -> int:
    """Random number of sides of a round shape, larger for a larger budget."""
    return int(np.clip(rng.integers(low, 28 + budget // 40), 3, max(4, budget // 6)))


def _box(rng: np.random.Generator, budget: int) -> Shape:
    cube = _manifold3d().Manifold.cube(tuple(rng.uniform(0.35, 1.0, 3)), True)
    # Cut edges give triangles of similar size, as the models need.
    cuts = int(rng.integers(1, 4 + math.isqrt(budget // 100)))
    return _from_manifold(cube.refine(cuts) if 12 * cuts**2 <= budget else cube)


def _cylinder(rng: np.random.Generator, budget: int) -> Shape:
    top = rng.choice([1.0, 1.0, 0.0, float(rng.uniform(0.3, 0.8))])
    sides = int(rng.integers(3, 9)) if rng.random() < 0.4 else _segments(rng, budget, 10)
    return _from_manifold(_manifold3d().Manifold.cylinder(rng.uniform(0.5, 1.4), 0.5, 0.5 * top, sides, True))


def _ellipsoid(rng: np.random.Generator, budget: int) -> Shape:
    # A manifold3d sphere of 4 n segments has 8 n^2 faces.
    n = max(1, math.isqrt(budget // 8))
    scale = np.ones(3) if rng.random() < 0.5 else rng.uniform(0.5, 1.0, 3)
    return _from_manifold(_manifold3d().Manifold.sphere(0.5, 4 * n).scale(tuple(scale)))


def _capsule(rng: np.random.Generator, budget: int) -> Shape:
    m = _manifold3d().Manifold
    n = max(1, math.isqrt(budget // 10))
    length = rng.uniform(0.3, 0.9)
    ends = [m.sphere(r, 4 * n).translate((0, 0, z)) for r, z in ((0.3, 0.0), (0.3 * rng.uniform(0.5, 1.0), length))]
    return _from_manifold(m.batch_hull(ends))


def _torus(rng: np.random.Generator, budget: int) -> Shape:
    around = max(5, int(math.sqrt(budget / 2 * 2.2)))
    across = max(3, min(int(rng.integers(4, 12 + budget // 100)), budget // (2 * around)))
    section = _manifold3d().CrossSection.circle(rng.uniform(0.1, 0.22), across).translate((0.36, 0.0))
    return _from_manifold(_manifold3d().Manifold.revolve(section, around))


def _lathe(rng: np.random.Generator, budget: int) -> Shape:
    """A vase or spindle: a random profile turned about the vertical axis."""
    steps = int(rng.integers(3, 8 + min(8, budget // 150)))
    around = int(np.clip(budget // (2 * steps + 2), 5, 72))
    radii = np.clip(0.3 + 0.16 * math.sqrt(5 / steps) * np.cumsum(rng.normal(size=steps + 1)), 0.08, 0.55)
    heights = np.linspace(0, rng.uniform(0.6, 1.2), steps + 1)
    profile = np.concatenate([[[0, 0]], np.stack([radii, heights], 1), [[0, heights[-1]]]])
    return _from_manifold(_manifold3d().Manifold.revolve(_manifold3d().CrossSection([profile]), around))


def _superquadric(rng: np.random.Generator, budget: int) -> Shape:
    n = max(2, math.isqrt(budget // 8))
    vertices, faces = _from_manifold(_manifold3d().Manifold.sphere(1.0, 4 * n))
    e1, e2 = rng.uniform(0.2, 2.2, 2)
    planar = np.maximum(np.linalg.norm(vertices[:, :2], axis=1, keepdims=True), 1e-9)
    direction = vertices[:, :2] / planar
    level = np.clip(vertices[:, 2:], -1, 1)

    def power(x: Float64Array, e: float) -> Float64Array:
        return np.asarray(np.sign(x) * np.abs(x) ** e, np.float64)

    shaped = np.concatenate([power(direction, e2) * power(np.minimum(planar, 1.0), e1), power(level, e1)], axis=1)
    return 0.5 * shaped * rng.uniform(0.5, 1.0, 3), faces


def _random_solid(rng: np.random.Generator, segments: int) -> Any:
    m = _manifold3d().Manifold
    kind = rng.integers(3)
    if kind == 0:
        return m.cube(tuple(rng.uniform(0.4, 0.9, 3)), True)
    if kind == 1:
        return m.sphere(rng.uniform(0.3, 0.5), 4 * max(2, segments // 4))
    return m.cylinder(rng.uniform(0.5, 1.1), rng.uniform(0.2, 0.4), -1.0, segments, True)


def _csg(rng: np.random.Generator, budget: int) -> Shape:
    segments = 8 if budget < 100 else 12 if budget < 600 else 24
    solid = _random_solid(rng, segments)
    for _ in range(int(rng.integers(1, 3))):
        angles = rng.choice([0.0, 45.0, 90.0], 3)
        other = _random_solid(rng, segments).rotate(tuple(angles)).translate(tuple(rng.uniform(-0.35, 0.35, 3)))
        choice = rng.random()
        solid = solid + other if choice < 0.5 else solid - other if choice < 0.9 else solid ^ other
    return _from_manifold(_largest(solid))


def _largest(solid: Any) -> Any:
    parts = solid.decompose()
    return max(parts, key=lambda part: float(part.volume())) if parts else solid


def _furniture(rng: np.random.Generator, _budget: int) -> Shape:
    """Tables, stairs, arches and stacked boxes: straight parts that meet at right angles."""
    m = _manifold3d().Manifold
    kind = rng.integers(4)
    if kind == 0:
        w, d, h, t = rng.uniform(0.6, 1.0), rng.uniform(0.5, 0.9), rng.uniform(0.4, 0.9), rng.uniform(0.08, 0.16)
        legs = [m.cube((t, t, h)).translate((x, y, 0)) for x in (0.0, w - t) for y in (0.0, d - t)]
        return _from_manifold(m.batch_boolean([m.cube((w, d, t)).translate((0, 0, h - t)), *legs], _add()))
    if kind == 1:
        steps = int(rng.integers(3, 6))
        width = rng.uniform(0.4, 1.0)
        boxes = [m.cube((1 - i / steps, width, (i + 1) / steps)).translate((i / steps, 0, 0)) for i in range(steps)]
        return _from_manifold(m.batch_boolean(boxes, _add()))
    if kind == 2:
        w, h, d = rng.uniform(0.7, 1.1), rng.uniform(0.6, 1.1), rng.uniform(0.25, 0.6)
        hole = m.cylinder(2 * d, 0.3 * w, -1.0, 12, True).rotate((90.0, 0.0, 0.0)).translate((0, 0, 0.4 * h))
        gate = m.cube((0.6 * w, 2 * d, 0.8 * h), True)
        return _from_manifold(m.cube((w, d, h), True).translate((0, 0, h / 2)) - hole - gate)
    boxes, z, size = [], 0.0, rng.uniform(0.7, 1.0)
    for _ in range(int(rng.integers(2, 5))):
        h = rng.uniform(0.12, 0.4)
        box = m.cube((size, size * rng.uniform(0.6, 1.0), h), True).rotate((0.0, 0.0, rng.uniform(0, 90)))
        boxes.append(box.translate((0, 0, z + h / 2)))
        z, size = z + 0.99 * h, size * rng.uniform(0.5, 0.85)
    return _from_manifold(m.batch_boolean(boxes, _add()))


def _add() -> Any:
    return _manifold3d().OpType.Add


# Outlines in the unit square, counter-clockwise. Letters and signs have convex and concave corners.
OUTLINES: dict[str, list[tuple[float, float]]] = {
    "L": [(0, 0), (0.7, 0), (0.7, 0.25), (0.25, 0.25), (0.25, 1), (0, 1)],
    "T": [(0.37, 0), (0.63, 0), (0.63, 0.75), (1, 0.75), (1, 1), (0, 1), (0, 0.75), (0.37, 0.75)],
    "U": [(0, 0), (0.8, 0), (0.8, 1), (0.55, 1), (0.55, 0.25), (0.25, 0.25), (0.25, 1), (0, 1)],
    "E": [(0, 0), (0.7, 0), (0.7, 0.2), (0.25, 0.2), (0.25, 0.4), (0.6, 0.4), (0.6, 0.6), (0.25, 0.6), (0.25, 0.8),
          (0.7, 0.8), (0.7, 1), (0, 1)],
    "F": [(0, 0), (0.25, 0), (0.25, 0.4), (0.6, 0.4), (0.6, 0.6), (0.25, 0.6), (0.25, 0.8), (0.7, 0.8), (0.7, 1),
          (0, 1)],
    "H": [(0, 0), (0.25, 0), (0.25, 0.4), (0.6, 0.4), (0.6, 0), (0.85, 0), (0.85, 1), (0.6, 1), (0.6, 0.6), (0.25, 0.6),
          (0.25, 1), (0, 1)],
    "N": [(0, 0), (0.2, 0), (0.2, 0.65), (0.6, 0), (0.8, 0), (0.8, 1), (0.6, 1), (0.6, 0.35), (0.2, 1), (0, 1)],
    "cross": [(0.35, 0), (0.65, 0), (0.65, 0.35), (1, 0.35), (1, 0.65), (0.65, 0.65), (0.65, 1), (0.35, 1),
              (0.35, 0.65), (0, 0.65), (0, 0.35), (0.35, 0.35)],
    "arrow": [(0, 0.35), (0.55, 0.35), (0.55, 0.05), (1, 0.5), (0.55, 0.95), (0.55, 0.65), (0, 0.65)],
    "bolt": [(0.2, 0), (0.75, 0.55), (0.5, 0.55), (0.8, 1), (0.35, 1), (0.15, 0.45), (0.4, 0.45)],
}  # fmt: skip


def _outline(rng: np.random.Generator) -> Any:
    section = _manifold3d().CrossSection
    kind = rng.integers(5)
    if kind <= 1:
        name = list(OUTLINES)[rng.integers(len(OUTLINES))]
        return section([np.array(OUTLINES[name]) - 0.5])
    if kind == 2:
        points = int(rng.integers(4, 9))
        radii = np.where(np.arange(2 * points) % 2, rng.uniform(0.2, 0.38), 0.5)
        return section([_polar(radii)])
    if kind == 3:
        teeth = int(rng.integers(6, 11))
        radii = np.where(np.arange(4 * teeth) % 4 < 2, 0.5, 0.38)
        return section([_polar(radii)]) - section.circle(rng.uniform(0.08, 0.2), 8)
    return section([_polar(rng.uniform(0.25, 0.5, int(rng.integers(5, 12))))])


def _polar(radii: Float64Array) -> Float64Array:
    angles = np.arange(len(radii)) * (2 * math.pi / len(radii))
    return np.stack([radii * np.cos(angles), radii * np.sin(angles)], axis=1)


def _extrusion(rng: np.random.Generator, _budget: int) -> Shape:
    twisted = rng.random() < 0.25
    taper = rng.uniform(0.3, 1.0) if rng.random() < 0.25 else 1.0
    solid = _outline(rng).extrude(
        rng.uniform(0.15, 0.5) if not twisted else rng.uniform(0.5, 1.0),
        4 if twisted else 0,
        float(rng.uniform(-90, 90)) if twisted else 0.0,
        (taper, taper),
    )
    # Some stand upright like a sign.
    return _from_manifold(solid.rotate((90.0, 0.0, 0.0)) if not twisted and rng.random() < 0.6 else solid)


def _rock(rng: np.random.Generator, budget: int) -> Shape:
    points = rng.normal(size=(int(rng.integers(8, max(9, min(300, budget // 2)))), 3))
    points /= np.linalg.norm(points, axis=1, keepdims=True)
    points *= rng.uniform(0.35, 0.5, (len(points), 1)) * rng.uniform(0.6, 1.0, 3)
    return _from_manifold(_manifold3d().Manifold.hull_points(points))


def _waves(rng: np.random.Generator, points: Float64Array, count: int, frequency: float) -> Float64Array:
    directions = rng.normal(size=(count, 3)) * frequency
    return np.sin(points @ directions.T + rng.uniform(0, 2 * math.pi, count)).mean(axis=1)


def _blob(rng: np.random.Generator, budget: int) -> Shape:
    n = max(3, math.isqrt(budget // 8) + (budget < 400))
    vertices, faces = _from_manifold(_manifold3d().Manifold.sphere(1.0, 4 * n))
    bumps = _waves(rng, vertices, 4, rng.uniform(1.0, 2.6))
    return 0.45 * vertices * (1 + rng.uniform(0.3, 0.9) * bumps)[:, None] * rng.uniform(0.7, 1.0, 3), faces


def _terrain(rng: np.random.Generator, budget: int) -> Shape:
    """A height field on a base."""
    n = max(1, math.isqrt(budget // 12))
    plate = _manifold3d().Manifold.cube((1.0, 1.0, 0.1), True).refine(n)
    vertices, faces = _from_manifold(plate)
    flat = vertices * [1, 1, 0]
    height = 0.25 + 0.35 * _waves(rng, flat, 3, rng.uniform(2.0, 5.0))
    # Scale each column from the flat base to its height, so that the rows of the sides stay separate.
    vertices[:, 2] = (vertices[:, 2] + 0.05) / 0.1 * np.maximum(height, 0.03)
    return vertices, faces


def _sdf(rng: np.random.Generator, budget: int) -> Shape:
    """A smooth union of balls and rounded boxes, sometimes hollowed, by marching cubes."""
    from skimage.measure import marching_cubes

    n = 22 if budget < 800 else 30
    axis = np.linspace(-1, 1, n)
    grid = np.stack(np.meshgrid(axis, axis, axis, indexing="ij"), axis=-1)
    distance = np.full((n, n, n), 4.0)
    sharpness = rng.uniform(5, 14)
    parts = []
    for _ in range(int(rng.integers(2, 6))):
        centre, radius = rng.uniform(-0.5, 0.5, 3), rng.uniform(0.18, 0.42)
        offset = grid - centre
        if rng.random() < 0.6:
            parts.append(np.linalg.norm(offset, axis=-1) - radius)
        else:
            outside = np.maximum(np.abs(offset) - rng.uniform(0.4, 1.0, 3) * radius, 0)
            parts.append(np.linalg.norm(outside, axis=-1) - 0.12)
    distance = -np.log(sum(np.exp(-sharpness * part) for part in parts)) / sharpness
    if rng.random() < 0.3:
        hollow = rng.uniform(0.15, 0.35) - np.linalg.norm(grid - rng.uniform(-0.5, 0.5, 3), axis=-1)
        distance = np.maximum(distance, hollow)
    distance = np.pad(distance[1:-1, 1:-1, 1:-1], 1, constant_values=1.0)
    if distance.min() >= 0:
        return np.zeros((3, 3)), np.zeros((0, 3), np.int64)
    vertices, faces, _, _ = marching_cubes(distance, 0.0, spacing=(1.2 / n,) * 3, gradient_direction="ascent")
    return _oriented(np.asarray(vertices, np.float64), np.asarray(faces, np.int64))


def _knot(rng: np.random.Generator, budget: int) -> Shape:
    """A torus knot or a wavy ring: a closed tube around a curve."""
    p, q = ((2, 3), (3, 2), (1, 3), (1, 4), (2, 5))[rng.integers(5)]
    across = int(rng.integers(4, 7 + budget // 400))
    along = budget // (2 * across)
    if along < 10 * p:
        return _torus(rng, budget)
    t = np.arange(along) * (2 * math.pi / along)

    def curve(s: AnyArray) -> Float64Array:
        r = 0.34 + 0.14 * np.cos(q * s)
        return np.stack([r * np.cos(p * s), r * np.sin(p * s), 0.16 * np.sin(q * s)], axis=1)

    centre, tangent = curve(t), curve(t + 1e-4) - curve(t - 1e-4)
    tangent /= np.linalg.norm(tangent, axis=1, keepdims=True)
    # Horizontal and orthogonal to the tangent, so that the tube closes without a twist.
    side = np.cross(tangent, [0.0, 0.0, 1.0])
    side /= np.maximum(np.linalg.norm(side, axis=1, keepdims=True), 1e-6)
    other = np.cross(side, tangent)
    angles = np.arange(across) * (2 * math.pi / across)
    radius = rng.uniform(0.06, 0.1)
    ring = np.cos(angles)[:, None] * side[:, None] + np.sin(angles)[:, None] * other[:, None]
    vertices = (centre[:, None] + radius * ring).reshape(-1, 3)
    return _oriented(vertices, _tube_faces(along, across))


def _tube_faces(along: int, across: int) -> Int64Array:
    i, j = np.meshgrid(np.arange(along), np.arange(across), indexing="ij")
    k, m = (i + 1) % along, (j + 1) % across
    a, b, c, d = i * across + j, k * across + j, k * across + m, i * across + m
    return np.stack([np.stack([a, b, c], -1), np.stack([a, c, d], -1)], 2).reshape(-1, 3)


def _oriented(vertices: Float64Array, faces: Int64Array) -> Shape:
    return (vertices, faces if volume(vertices, faces) > 0 else faces[:, ::-1])


# Each family with its function and weight.
FAMILIES: dict[str, tuple[Maker, float]] = {
    "box": (_box, 1.2),
    "cylinder": (_cylinder, 1.2),
    "ellipsoid": (_ellipsoid, 1.2),
    "capsule": (_capsule, 0.5),
    "torus": (_torus, 0.8),
    "lathe": (_lathe, 0.8),
    "superquadric": (_superquadric, 1.0),
    "csg": (_csg, 1.2),
    "furniture": (_furniture, 1.0),
    "extrusion": (_extrusion, 1.2),
    "rock": (_rock, 0.5),
    "blob": (_blob, 1.0),
    "terrain": (_terrain, 0.4),
    "sdf": (_sdf, 1.0),
    "knot": (_knot, 0.8),
}
