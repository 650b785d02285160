"""Where the objects of a varied scene stand: stages, rooms seen from inside, a studio's sweep, open ground, nowhere.

World frame: Z up, scene units; objects stand inside [-0.5, 0.5]^3. Shapes: N triangles.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field, replace

import numpy as np

from renderformer.data.arrays import Float64Array
from renderformer.data.camera import direction
from renderformer.data.environment import Environment
from renderformer.data.environments import STUDIO_FLOOR
from renderformer.data.geometry.stages import backdrop
from renderformer.data.geometry.triangles import smooth_normals
from renderformer.data.scene import Material, Mesh
from renderformer.data.sets.finishes import FLOOR, OBJECT, WALL, finished, random_material, rgb
from renderformer.data.sets.lamps import Lamp, ball, coloured, open_lamps, panel
from renderformer.data.sets.procedural_scenes import HALF, Stage, random_stage
from renderformer.data.sets.surroundings import named_environment

# Least triangles of a scene on the stage of bare meshes, whose floor has 1,008.
LOOK_TRIANGLES = 1300
# Between the floor and what stands on it.
GAP = 5e-4
# How a room is lit, with weights: panels and lamps inside, an environment through windows or where a wall is missing,
# and only by way of walls: from behind a partition, from a cove under the ceiling, from behind a screen.
ROOM_LIGHTS = {
    "panels": 0.26,
    "spheres": 0.14,
    "window": 0.2,
    "open": 0.08,
    "corner": 0.14,
    "cove": 0.1,
    "screen": 0.08,
}


@dataclass(frozen=True)
class Spot:
    """A horizontal rectangle on which objects stand: x and y from `low` to `high` at the height `floor`, under a free
    height."""

    low: tuple[float, float]
    high: tuple[float, float]
    floor: float
    height: float

    @property
    def area(self) -> float:
        return (self.high[0] - self.low[0]) * (self.high[1] - self.low[1])


@dataclass(frozen=True)
class Place:
    """Surroundings of objects.

    Attributes:
        kind: "stage", "room", "studio", "ground" or "none".
        meshes: with their materials.
        spots: where objects stand; the first is the main one.
        lamps: lights that belong to the place.
        sky: whether an environment lights it: "always", "maybe", "never".
        environment: the one that does, or None for any.
        reach: azimuth in degrees from the front, up to which cameras and lights may stand outside.
        stage: of a stage.
    """

    kind: str
    meshes: list[Mesh]
    spots: list[Spot]
    lamps: list[Lamp] = field(default_factory=list)
    sky: str = "maybe"
    environment: Environment | None = None
    reach: float = 180.0
    stage: Stage | None = None


def sheet(name: str, corner: Float64Array, u: Float64Array, v: Float64Array, rows: int, columns: int) -> Mesh:
    """A rectangle of rows x columns squares whose front faces u x v."""
    s, t = (np.arange(count + 1) / count for count in (columns, rows))
    points = corner + s[None, :, None] * u + t[:, None, None] * v
    a, b, c, d = points[:-1, :-1], points[:-1, 1:], points[1:, 1:], points[1:, :-1]
    triangles = np.stack([np.stack([a, b, c], 2), np.stack([a, c, d], 2)], 2).reshape(-1, 3, 3)
    return Mesh(name, triangles.astype(np.float32))


def slab(name: str, low: Float64Array, high: Float64Array) -> Mesh:
    """A box of 12 triangles."""
    low, high = np.asarray(low, np.float64), np.asarray(high, np.float64)
    faces = []
    for axis in range(3):
        others = [(axis + 1) % 3, (axis + 2) % 3]
        u, v = (np.eye(3)[k] * (high - low)[k] for k in others)
        top = np.where(np.eye(3)[axis] > 0, high, low)
        faces += [sheet("", top, u, v, 1, 1).triangles, sheet("", low, v, u, 1, 1).triangles]
    return Mesh(name, np.concatenate(faces))


def _together(name: str, meshes: list[Mesh]) -> Mesh:
    return Mesh(name, np.concatenate([mesh.triangles for mesh in meshes]))


def _divisions(rng: np.random.Generator, sheets: int, budget: int) -> int:
    possible = [d for d in (1, 2, 3, 4) if 2 * d * d * sheets <= 0.35 * budget] or [1]
    return int(rng.choice(possible))


def stage_place(rng: np.random.Generator, budget: int) -> Place:
    """Floor and walls around the objects, open to the front and above."""
    stage = random_stage(rng, budget)
    meshes = [finished(rng, mesh, FLOOR if mesh.name == "floor" else WALL) for mesh in stage.meshes]
    spot = Spot((-HALF, -HALF), (HALF, HALF), stage.floor_height, HALF - stage.floor_height)
    reach = 75.0 if stage.walls else 180.0
    return Place("stage", meshes, [spot], reach=reach, stage=stage)


def studio_place(rng: np.random.Generator, budget: int) -> Place:
    """A floor that turns into a back wall without a seam, as photographers use."""
    across, steps = (1, 4) if budget < 200 else (int(rng.integers(1, 4)), int(rng.integers(5, 10)))
    floor, width = -HALF, rng.uniform(1.2, 3.0)
    front, back, top, radius = (
        rng.uniform(-3, -1.2),
        rng.uniform(0.6, 1.2),
        rng.uniform(0.4, 1.5),
        rng.uniform(0.2, 0.6),
    )
    angles = np.arange(steps + 1) * (math.pi / 2 / steps)
    profile = np.array(
        [
            (front, 0.0),
            *np.column_stack([back - radius + radius * np.sin(angles), radius - radius * np.cos(angles)]),
            (back, radius + top),
        ]
    )
    x = np.linspace(-width, width, across + 1)
    grid = np.array([[(a, y, floor + z) for a in x] for y, z in profile])
    a, b, c, d = grid[:-1, :-1], grid[:-1, 1:], grid[1:, 1:], grid[1:, :-1]
    triangles = np.stack([np.stack([a, b, c], 2), np.stack([a, c, d], 2)], 2).reshape(-1, 3, 3)
    number = np.arange((len(profile)) * (across + 1)).reshape(len(profile), -1)
    corners = [number[:-1, :-1], number[:-1, 1:], number[1:, 1:], number[1:, :-1]]
    faces = np.stack([np.stack(corners[:3], 2), np.stack([corners[0], *corners[2:]], 2)], 2).reshape(-1, 3)
    mesh = Mesh("sweep", triangles.astype(np.float32), smooth_normals(triangles, 40.0, faces))
    if rng.random() < 0.75:
        grey = rng.uniform(0.25, 0.9) if rng.random() < 0.8 else rng.uniform(0.04, 0.25)
        colour = rgb(grey * rng.uniform(0.94, 1.0, 3))
        mesh = mesh.with_material(Material(colour, roughness=float(rng.uniform(0.5, 1.0))))
    else:
        mesh = mesh.with_material(random_material(rng, FLOOR))
    spot = Spot((-HALF, -HALF), (HALF, min(HALF, back - radius)), floor, 2 * HALF)
    return Place("studio", [mesh], [spot], sky="always", reach=65.0)


def look_place(rng: np.random.Generator, budget: int) -> Place:
    """The stage of bare meshes, a round floor in its studio or in another environment; with few triangles, another."""
    if budget < LOOK_TRIANGLES:
        return studio_place(rng, budget)
    middle = rng.uniform(0.15, 0.8) * (np.ones(3) if rng.random() < 0.5 else rng.uniform(0.6, 1.0, 3))
    known = rng.random() < 0.6
    floor = backdrop(middle, STUDIO_FLOOR if known else middle, fading=not known)
    environment = named_environment(rng, "studio") if known else None
    spot = Spot((-HALF, -HALF), (HALF, HALF), -HALF, 2 * HALF)
    return Place("studio", [replace(floor, name="sweep")], [spot], sky="always", environment=environment)


def ground_place(rng: np.random.Generator, budget: int) -> Place:
    """Ground to all sides, perhaps with a wall."""
    size = math.exp(rng.uniform(math.log(1.0), math.log(8.0)))
    rows = _divisions(rng, 2, budget)
    corner, sides = np.array([-size, -size, -HALF]), 2 * size * np.eye(3)
    meshes = [finished(rng, sheet("ground", corner, sides[0], sides[1], rows, rows), FLOOR)]
    reach = 180.0
    if rng.random() < 0.2:
        low, high = [-size, HALF + 0.05, -HALF], [size, HALF + 0.15, rng.uniform(-0.2, 0.6)]
        meshes.append(finished(rng, slab("ground_wall", np.array(low), np.array(high)), WALL))
        reach = 70.0
    return Place("ground", meshes, [Spot((-HALF, -HALF), (HALF, HALF), -HALF, 2 * HALF)], sky="always", reach=reach)


def bare_place(rng: np.random.Generator, budget: int) -> Place:
    """Nothing."""
    return Place("none", [], [Spot((-HALF, -HALF), (HALF, HALF), -HALF, 2 * HALF)], sky="always")


def room_place(rng: np.random.Generator, budget: int) -> Place:
    """A closed box that is lit from inside, through windows, or only by way of its walls."""
    light = str(rng.choice(list(ROOM_LIGHTS), p=list(ROOM_LIGHTS.values())))
    half = np.array([rng.uniform(0.3, HALF), rng.uniform(0.3, HALF), rng.uniform(0.2, 0.4)])
    meshes = _shell(rng, half, light, _divisions(rng, 6, budget))
    spots = [Spot((-half[0] + 0.02, -half[1] + 0.02), (half[0] - 0.02, half[1] - 0.02), -half[2], 2 * half[2] - 0.06)]
    lamps: list[Lamp] = []
    if light == "corner":
        lamps, partition, spots = _behind_partition(rng, half)
        meshes.append(finished(rng, partition, WALL))
    elif light == "screen":
        lamps, screen = _behind_screen(rng, half)
        meshes.append(finished(rng, screen, OBJECT))
    elif light not in ("window", "open"):
        lamps = {"panels": _ceiling_panels, "spheres": _spheres, "cove": _cove}[light](rng, half, budget // 4)
    elif rng.random() < 0.3:
        lamps = _ceiling_panels(rng, half, budget // 4)
    if rng.random() < 0.25 and light != "corner" and budget > 200:
        shelf, spot = _shelf(rng, half)
        meshes.append(finished(rng, shelf, OBJECT))
        spots.append(spot)
    return Place("room", meshes, spots, lamps, "always" if light in ("window", "open") else "never")


def _shell(rng: np.random.Generator, half: Float64Array, light: str, rows: int) -> list[Mesh]:
    """The six sides of a room, from inside; one may be missing or have windows."""
    meshes = []
    # Left, right, back or front, but never the floor.
    opening = int(rng.integers(4)) if light in ("window", "open") else -1
    shared = random_material(rng, WALL)
    alike = rng.random() < 0.5
    for side, (axis, sign) in enumerate(((0, -1), (0, 1), (1, 1), (1, -1), (2, 1), (2, -1))):
        if side == opening and light == "open":
            continue
        u_axis, v_axis = ((axis + 1) % 3, (axis + 2) % 3) if sign < 0 else ((axis + 2) % 3, (axis + 1) % 3)
        u, v = (2 * half[k] * np.eye(3)[k] for k in (u_axis, v_axis))
        corner = -half.copy()
        corner[axis] = sign * half[axis]
        name = ("room_left", "room_right", "room_back", "room_front", "room_ceiling", "room_floor")[side]
        mesh = _with_windows(rng, name, corner, u, v) if side == opening else sheet(name, corner, u, v, rows, rows)
        if side == 4 and rng.random() < 0.7:
            grey = float(rng.uniform(0.6, 0.9))
            meshes.append(mesh.with_material(Material((grey,) * 3, roughness=0.9)))
        elif side < 4 and alike:
            meshes.append(mesh.with_material(shared))
        else:
            meshes.append(finished(rng, mesh, FLOOR if side == 5 else WALL))
    return meshes


def _with_windows(rng: np.random.Generator, name: str, corner: Float64Array, u: Float64Array, v: Float64Array) -> Mesh:
    """A wall with one to three openings side by side."""
    upright = v if abs(v[2]) > 0 else u
    along = u if upright is v else v
    count = int(rng.integers(1, 4))
    low, high = sorted(rng.uniform(0.05, 0.95, 2))
    low, high = min(low, 0.6), max(high, min(low, 0.6) + 0.3)
    share = rng.uniform(0.5, 0.9) / count
    edges = [0.0]
    for i in range(count):
        middle = (i + 0.5) / count
        edges += [middle - share / 2, middle + share / 2]
    edges.append(1.0)

    def part(start: tuple[float, float], end: tuple[float, float]) -> Mesh:
        base = corner + start[0] * along + start[1] * upright
        a, b = (end[0] - start[0]) * along, (end[1] - start[1]) * upright
        return sheet("", base, *((a, b) if along is u else (b, a)), 1, 1)

    parts = [part((0, 0), (1, low)), part((0, high), (1, 1))] if high < 1 else [part((0, 0), (1, low))]
    parts += [part((edges[i], low), (edges[i + 1], high)) for i in range(0, len(edges), 2)]
    return _together(name, parts)


def _ceiling_panels(rng: np.random.Generator, half: Float64Array, most: int) -> list[Lamp]:
    """Panels or rows of small lamps under the ceiling, or panels on the walls."""
    down = np.array([0.0, 0.0, -1.0])
    if rng.random() < 0.4 and most >= 8:
        count = int(rng.integers(4, min(40, most // 2) + 1))
        columns = max(2, round(math.sqrt(count * half[0] / half[1])))
        rows = -(-count // columns)
        size = rng.uniform(0.02, 0.06)
        places = [((i % columns + 0.5) / columns * 2 - 1, (i // columns + 0.5) / rows * 2 - 1) for i in range(count)]
        centres = [np.array([x * half[0], y * half[1], half[2] - 0.004]) for x, y in places]
        return coloured(rng, [panel(centre, down, size, size) for centre in centres], even=True)
    shapes = []
    for _ in range(int(rng.integers(1, 4))):
        width, height = np.exp(rng.uniform(math.log(0.06), math.log(0.5), 2))
        if rng.random() < 0.7:
            room = half - 0.55 * max(width, height)
            x, y = (rng.uniform(-max(r, 0), max(r, 0)) for r in room[:2])
            shapes.append(panel(np.array([x, y, half[2] - 0.004]), down, width, height))
        else:
            axis, sign = int(rng.integers(2)), int(rng.choice([-1, 1]))
            centre = rng.uniform(-0.6, 0.6, 3) * half
            centre[axis] = sign * (half[axis] - 0.01)
            height = min(height, half[2])
            shapes.append(panel(centre, -sign * np.eye(3)[axis], min(width, half[1 - axis]), height))
    return coloured(rng, shapes)


def _spheres(rng: np.random.Generator, half: Float64Array, most: int) -> list[Lamp]:
    count = int(rng.integers(1, 4))
    finest = int(rng.choice([32, 128])) if most >= 128 * count else 8
    shapes = []
    for _ in range(count):
        radius = rng.uniform(0.025, 0.09)
        x, y = rng.uniform(-0.8, 0.8, 2) * (half[:2] - radius)
        shapes.append(ball(np.array([x, y, rng.uniform(0.1, 0.95) * (half[2] - radius)]), radius, finest))
    return coloured(rng, shapes)


def _cove(rng: np.random.Generator, half: Float64Array, most: int) -> list[Lamp]:
    """Strips along walls, which shine up to the ceiling."""
    shapes: list[Float64Array] = []
    up = np.array([0.0, 0.0, 1.0])
    for axis, sign in ((0, -1), (0, 1), (1, 1), (1, -1)):
        if rng.random() < 0.6 or not shapes:
            depth, drop = rng.uniform(0.04, 0.12), rng.uniform(0.05, 0.15)
            centre = np.array([0.0, 0.0, half[2] - drop])
            centre[axis] = sign * (half[axis] - depth / 2 - 0.005)
            sides = [0.0, 0.0]
            sides[axis], sides[1 - axis] = depth, 1.8 * half[1 - axis] - 0.2
            # A panel that faces up has its width along x.
            shapes.append(panel(centre, up, sides[0], sides[1]))
    return coloured(rng, shapes, even=True)


def _behind_partition(rng: np.random.Generator, half: Float64Array) -> tuple[list[Lamp], Mesh, list[Spot]]:
    """A wall across the room with a passage; lamps on one side, objects and cameras on the other."""
    x = rng.uniform(0.1, 0.4) * half[0]
    side = int(rng.choice([-1, 1]))
    gap, back = rng.uniform(0.35, 0.7) * half[1], int(rng.choice([-1, 1]))
    ends = sorted((-back * half[1], back * (half[1] - gap)))
    thick = 0.02
    low, high = [side * x - thick / 2, ends[0], -half[2]], [side * x + thick / 2, ends[1], half[2]]
    partition = slab("room_partition", np.array(low), np.array(high))
    centre = np.array([side * (x + half[0]) / 2, -back * half[1] * rng.uniform(0.0, 0.6), half[2] - 0.004])
    width, height = 0.7 * (half[0] - x), rng.uniform(0.2, 0.6) * half[1]
    shape = panel(centre, np.array([0.0, 0.0, -1.0]), width, height)
    if rng.random() < 0.4:
        shape = ball(centre * [1, 1, 0] + [0, 0, rng.uniform(-0.3, 0.6) * half[2]], rng.uniform(0.04, 0.09), 32)
    xs = sorted((side * (x - 0.03), -side * (half[0] - 0.02)))
    spot = Spot((xs[0], -half[1] + 0.02), (xs[1], half[1] - 0.02), -half[2], 2 * half[2] - 0.06)
    return coloured(rng, [shape]), partition, [spot]


def _behind_screen(rng: np.random.Generator, half: Float64Array) -> tuple[list[Lamp], Mesh]:
    """A lamp that a plate hides from most of the room; it shines at a wall."""
    axis, sign = int(rng.integers(2)), int(rng.choice([-1, 1]))
    inward = -sign * np.eye(3)[axis]
    width, height = rng.uniform(0.15, 0.4), rng.uniform(0.1, 0.3)
    centre = np.array([0.0, 0.0, rng.uniform(0.0, 0.5) * half[2]])
    centre[1 - axis] = rng.uniform(-0.4, 0.4) * half[1 - axis]
    centre[axis] = sign * (half[axis] - rng.uniform(0.1, 0.2))
    extent = np.zeros(3)
    extent[axis], extent[1 - axis], extent[2] = 0.01, width * 0.65, height * 0.65
    middle = centre + inward * 0.015
    screen = slab("room_screen", middle - extent, middle + extent)
    return coloured(rng, [panel(centre, -inward, width, height)]), screen


def _shelf(rng: np.random.Generator, half: Float64Array) -> tuple[Mesh, Spot]:
    """A board along a side of the room, or a table in it."""
    depth, width, z = rng.uniform(0.15, 0.3), rng.uniform(0.3, 0.9) * half[0], rng.uniform(-0.5, 0.1) * half[2]
    y = half[1] - 0.01 - depth / 2 if rng.random() < 0.6 else rng.uniform(-0.3, 0.3) * half[1]
    x = rng.uniform(-0.2, 0.2) * half[0]
    low, high = np.array([x - width, y - depth / 2, z - 0.02]), np.array([x + width, y + depth / 2, z])
    low[:2], high[:2] = np.maximum(low[:2], -half[:2] + 0.01), np.minimum(high[:2], half[:2] - 0.01)
    spot = Spot((low[0], low[1]), (high[0], high[1]), z, half[2] - z - 0.06)
    return slab("room_shelf", low, high), spot


def sphere_lamps(rng: np.random.Generator, most: int) -> list[Lamp]:
    """Spheres between and above the objects of an open place."""
    shapes = []
    for _ in range(int(rng.integers(1, 5))):
        centre = rng.uniform(0.75, 1.2) * direction(rng.uniform(-90, 90), rng.uniform(25, 85))
        shapes.append(ball(centre, rng.uniform(0.03, 0.15), max(8, most // 5)))
    return coloured(rng, shapes)


def place_lamps(rng: np.random.Generator, place: Place, most: int) -> list[Lamp]:
    """The lamps of an open place, of at most about `most` triangles."""
    if place.kind == "room":
        return place.lamps
    return sphere_lamps(rng, min(most, 160)) if rng.random() < 0.12 else open_lamps(rng, most, place.reach)


# Each with its share of the scenes; the rest are scenes of `procedural_scene`.
PLACES: dict[str, tuple[Callable[[np.random.Generator, int], Place], float]] = {
    "stage": (stage_place, 0.25),
    "room": (room_place, 0.25),
    "studio": (studio_place, 0.09),
    "look": (look_place, 0.08),
    "ground": (ground_place, 0.13),
    "none": (bare_place, 0.05),
}
