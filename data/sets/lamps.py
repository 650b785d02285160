"""Random lights: triangles far away, panels, many small lamps, spheres.

The lights of a scene are normalised to a total power of 1 (radiance times area, mean of the channels); what they are
worth in a scene is decided later. World frame: Z up, scene units.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from renderformer.data.arrays import Float32Array, Float64Array
from renderformer.data.camera import direction
from renderformer.data.geometry.triangles import area_vectors
from renderformer.data.scene import EMISSION, Light, Material, Mesh
from renderformer.data.sets.finishes import hue

# Share of the scenes whose lights are tinted, and of those whose lights have strong colours each.
TINTED, COLOURED = 0.35, 0.1


@dataclass(frozen=True)
class Lamp:
    """Triangles (N, 3, 3) that shine from their front, and their relative radiance (3,)."""

    triangles: Float64Array
    colour: Float64Array

    def __len__(self) -> int:
        return len(self.triangles)

    @property
    def power(self) -> float:
        """Area times mean radiance."""
        return float(np.linalg.norm(area_vectors(self.triangles), axis=1).sum() * self.colour.mean())


def light_meshes(lamps: Sequence[Lamp], power: float = 1.0) -> list[Mesh]:
    """The lights as objects that are `power` strong together."""
    factor = power / sum(lamp.power for lamp in lamps)
    return [
        Mesh(f"light_{i}", lamp.triangles.astype(np.float32), materials=_rows(lamp.colour * factor))
        for i, lamp in enumerate(lamps)
    ]


def _rows(radiance: Float64Array) -> Float32Array:
    row = Material((0.5, 0.5, 0.5), roughness=1.0).row()
    row[EMISSION] = radiance
    return row


def coloured(rng: np.random.Generator, shapes: Sequence[Float64Array], even: bool = False) -> list[Lamp]:
    """Lamps of these triangles with random colours and shares of the power; `even` for lamps of one kind."""
    choice = rng.random()
    common = hue(rng.random(), rng.uniform(0.05, 0.4)) if choice < TINTED else np.ones(3)
    lamps = []
    for triangles in shapes:
        strong = TINTED < choice < TINTED + COLOURED
        colour = hue(rng.random(), rng.uniform(0.4, 0.95)) if strong else common
        share = 1.0 if even else rng.uniform(0.4, 1.6)
        area = float(np.linalg.norm(area_vectors(triangles), axis=1).sum())
        lamps.append(Lamp(triangles, colour / colour.mean() * share * (1.0 if even else 1 / area)))
    return lamps


def panel(centre: Float64Array, toward: Float64Array, width: float, height: float, turn: float = 0.0) -> Float64Array:
    """(2, 3, 3) a rectangle whose front faces the direction `toward`."""
    normal = toward / np.linalg.norm(toward)
    helper = np.array([0.0, 1.0, 0.0]) if abs(normal[2]) > 0.9 else np.array([0.0, 0.0, 1.0])
    u = np.cross(helper, normal)
    u /= np.linalg.norm(u)
    v = np.cross(normal, u)
    u, v = math.cos(turn) * u + math.sin(turn) * v, -math.sin(turn) * u + math.cos(turn) * v
    a, b = u * width / 2, v * height / 2
    corners = centre + np.array([-a - b, a - b, a + b, -a + b])
    return np.asarray(corners[[[0, 1, 2], [0, 2, 3]]], np.float64)


def ball(centre: Float64Array, radius: float, finest: int) -> Float64Array:
    """(N, 3, 3) a sphere of at most `finest` triangles, 8 at least."""
    signs = [(x, y, z) for x in (1, -1) for y in (1, -1) for z in (1, -1)]
    faces = [np.diag(s)[[0, 1, 2] if s[0] * s[1] * s[2] > 0 else [0, 2, 1]] for s in signs]
    triangles = np.array(faces, np.float64)
    while 4 * len(triangles) <= finest:
        a, b, c = triangles[:, 0], triangles[:, 1], triangles[:, 2]
        ab, bc, ca = a + b, b + c, c + a
        parts = [[a, ab, ca], [ab, b, bc], [ca, bc, c], [ab, bc, ca]]
        triangles = np.concatenate([np.stack(part, axis=1) for part in parts])
        triangles /= np.linalg.norm(triangles, axis=2, keepdims=True)
    return np.asarray(centre + radius * triangles, np.float64)


def far_triangles(rng: np.random.Generator, most: int, reach: float) -> list[Lamp]:
    """One to eight small triangles far away, as the released models were trained with."""
    shapes = []
    for _ in range(1 + min(int(rng.geometric(0.45)) - 1, 7, most - 1)):
        elevation = math.degrees(math.asin(rng.uniform(math.sin(math.radians(20)), 1.0)))
        x, y, z = (rng.uniform(1.6, 2.7) * direction(rng.uniform(-reach, reach), elevation)).tolist()
        light = Light((x, y, z), size=0.0707 * float(rng.uniform(2.0, 3.5)), emission=1.0)
        shapes.append(light.mesh().triangles.astype(np.float64))
    return coloured(rng, shapes)


def panels(rng: np.random.Generator, most: int, reach: float) -> list[Lamp]:
    """One to three large panels around the scene."""
    shapes = []
    for _ in range(min(int(rng.integers(1, 4)), max(1, most // 2))):
        elevation = math.degrees(math.asin(rng.uniform(0.1, 1.0)))
        centre = rng.uniform(0.9, 2.2) * direction(rng.uniform(-reach, reach), elevation)
        toward = rng.normal(size=3) * 0.2 - centre
        width, height = np.exp(rng.uniform(math.log(0.12), math.log(1.1), 2))
        shapes.append(panel(centre, toward, width, height, rng.uniform(0, math.pi)))
    return coloured(rng, shapes)


def many_lamps(rng: np.random.Generator, most: int, reach: float) -> list[Lamp]:
    """4 to 40 small lamps: a grid above, a ring, or anywhere above."""
    count = int(np.clip(round(math.exp(rng.uniform(math.log(4), math.log(40)))), 4, max(4, most // 2)))
    size, kind = float(rng.uniform(0.02, 0.08)), rng.integers(3)
    if kind == 0:
        columns = max(2, round(math.sqrt(count)))
        places = np.array([(i % columns, i // columns) for i in range(count)], np.float64)
        places = (places + 0.5) / max(columns, -(-count // columns)) - 0.5
        height, spread = rng.uniform(0.55, 1.2), rng.uniform(0.6, 1.6)
        centres = np.column_stack([places * spread, np.full(count, height)])
    elif kind == 1:
        angles = np.linspace(-reach, reach, count, endpoint=False)
        height, radius = rng.uniform(5, 50), rng.uniform(1.0, 1.8)
        centres = np.array([radius * direction(angle, height) for angle in angles])
    else:
        rows = [(rng.uniform(-reach, reach), math.degrees(math.asin(rng.uniform(0.1, 1)))) for _ in range(count)]
        centres = np.array([rng.uniform(0.9, 1.8) * direction(*row) for row in rows])
    down = np.array([0.0, 0.0, -1.0])
    shapes = [panel(c, down if kind == 0 else -c, size, size, rng.uniform(0, math.pi)) for c in centres]
    if rng.random() < 0.5:
        shapes = [shape[:1] for shape in shapes]
    return coloured(rng, shapes, even=True)


OPEN: tuple[tuple[Callable[[np.random.Generator, int, float], list[Lamp]], float], ...] = (
    (far_triangles, 0.35),
    (panels, 0.35),
    (many_lamps, 0.3),
)


def open_lamps(rng: np.random.Generator, most: int, reach: float) -> list[Lamp]:
    """Lamps around and above a scene that is open there.

    Args:
        most: triangles.
        reach: azimuth in degrees from the front, up to which they stand.
    """
    return OPEN[int(rng.choice(len(OPEN), p=[weight for _, weight in OPEN]))][0](rng, most, reach)


def irradiance(lamps: Sequence[Lamp], point: Float64Array) -> float:
    """Of a surface at a point that faces each lamp, without shadows, in units of a power of 1."""
    total = 0.0
    for lamp in lamps:
        offset = point - lamp.triangles.mean(axis=1)
        distance = np.linalg.norm(offset, axis=1)
        facing = np.einsum("nk,nk->n", area_vectors(lamp.triangles), offset) / np.maximum(distance, 1e-6) ** 3
        total += float(np.maximum(facing, 0).sum() * lamp.colour.mean())
    return total / max(sum(lamp.power for lamp in lamps), 1e-12)
