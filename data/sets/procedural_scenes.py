"""Procedural scenes for training: random objects on a stage, within the range of spec scenes.md.

World frame: right-handed, Z up, scene units, everything but lights and cameras inside [-0.5, 0.5]^3. The stage is open
toward -Y; lights stand in front of it or above, and face it. Shapes: N triangles, M points.

A seed must give the same scene to the bit: keep the order of random draws.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from renderformer.data.arrays import BoolArray, Float32Array, Float64Array
from renderformer.data.camera import Camera, direction
from renderformer.data.errors import InputError
from renderformer.data.geometry.stages import stage_meshes
from renderformer.data.geometry.triangles import smooth_normals
from renderformer.data.scene import DIFFUSE, Light, Material, Mesh, Scene
from renderformer.data.sets.shapes import Shape, on_grid, random_shape
from renderformer.data.sets.user_meshes import UserMesh
from renderformer.data.trained_range import TrainedRange

# The range of the released models, so that one data set serves every model.
TRAINED = TrainedRange()
assert TRAINED.light_distance is not None
assert TRAINED.light_edge is not None
HALF, CAMERA_DISTANCE, FOV, ROUGHNESS_RANGE = TRAINED.box, TRAINED.camera_distance, TRAINED.fov, TRAINED.roughness
LIGHT_DISTANCE, LIGHT_EDGE = TRAINED.light_distance, TRAINED.light_edge
MIN_TRIANGLES, MAX_TRIANGLES = 40, 3000
CAMERA_ELEVATION = (5.0, 50.0)
LIGHT_ELEVATION = (25.0, 90.0)
TOTAL_EMISSION = (1000.0, 4000.0)
# Shares of the scenes with 1, 2, ... lights.
LIGHT_COUNTS = (0.38, 0.22, 0.14, 0.08, 0.06, 0.04, 0.04, 0.04)
# Range of the objects' mean irradiance / pi (the radiance at albedo 1); outside it, they are black or overexposed.
LEVEL = (0.4, 3.0)
# Gap under a resting object, so that its base and the floor do not lie in one plane.
REST_GAP = 5e-4
GREY_WALL = (0.3, 0.8)
WALL_COLOURS = ((0.63, 0.06, 0.05), (0.14, 0.45, 0.09), (0.09, 0.16, 0.6), (0.6, 0.42, 0.08), (0.4, 0.1, 0.5))


@dataclass(frozen=True)
class Stage:
    """A stage, and the planes of its walls as (axis, coordinate)."""

    meshes: list[Mesh]
    floor_height: float
    wall_top: float
    walls: tuple[tuple[int, float], ...]

    def hidden(self, points: Float64Array, eye: Float64Array) -> BoolArray:
        """(M,) whether a wall is between each of the points (M, 3) and `eye` (3,)."""
        blocked = np.zeros(len(points), bool)
        for axis, value in self.walls:
            span = eye[axis] - points[:, axis]
            t = np.divide(value - points[:, axis], span, out=np.full(len(points), -1.0), where=np.abs(span) > 1e-9)
            hits = points + t[:, None] * (eye - points)
            height = hits[:, 2]
            inside = (np.abs(hits[:, 1 - axis]) < HALF) & (height > self.floor_height) & (height < self.wall_top)
            blocked |= (t > 1e-4) & (t < 1) & inside
        return blocked


def procedural_scene(
    seed: int, views: int = 4, max_triangles: int = MAX_TRIANGLES, meshes: Sequence[UserMesh] = ()
) -> Scene:
    """A scene of 1 to 3 objects on a stage, 1 to 8 lights and `views` cameras, with at least 40 triangles.

    Args:
        seed: the same seed gives the same scene (with the same versions of NumPy, manifold3d, scikit-image and
            fast-simplification, and the same meshes).
        views: number of cameras.
        max_triangles: stage and lights included; the number of triangles is about log-uniform up to it.
        meshes: of the user, for a third of the objects.

    Returns:
        A Scene whose objects are the stage's walls, the objects and the lights, in this order.

    Raises:
        InputError: a negative seed, no views, a budget under 64 triangles, or the extra `reference` is not installed.
    """
    if seed < 0 or views < 1 or max_triangles < 64:
        raise InputError(
            "procedural scene",
            f"seed {seed}, views {views}, max_triangles {max_triangles}",
            "expected seed >= 0, views >= 1, max_triangles >= 64",
        )
    rng = np.random.Generator(np.random.PCG64(seed))
    total = round(_log_uniform(rng, 64, max_triangles))
    light_count = 1 + int(rng.choice(len(LIGHT_COUNTS), p=LIGHT_COUNTS))
    while True:
        stage = random_stage(rng, total - light_count)
        surroundings = sum(len(mesh) for mesh in stage.meshes) + light_count
        objects = _objects(rng, stage, total - surroundings, meshes)
        if objects and surroundings + sum(len(mesh) for mesh in objects) >= MIN_TRIANGLES:
            break
    points = np.concatenate([mesh.triangles.reshape(-1, 3) for mesh in objects]).astype(np.float64)
    normals = np.concatenate([mesh.normals.reshape(-1, 3) for mesh in objects]).astype(np.float64)
    lights = _lights(rng, stage, light_count, points, normals)
    cameras = [stage_camera(rng, stage, objects, f"view_{i}") for i in range(views)]
    return Scene((*stage.meshes, *objects, *lights), tuple(cameras), f"procedural_{seed}")


def _log_uniform(rng: np.random.Generator, low: float, high: float) -> float:
    return float(np.exp(rng.uniform(math.log(low), math.log(high))))


def random_stage(rng: np.random.Generator, total: int) -> Stage:
    kind = str(rng.choice(["none", "floor", "wall", "corner", "box"], p=[0.03, 0.2, 0.22, 0.25, 0.3]))
    side = "left" if rng.random() < 0.5 else "right"
    floor_height = -HALF if rng.random() < 0.6 else float(rng.uniform(-HALF, -0.2))
    wall_top = HALF if rng.random() < 0.7 else float(rng.uniform(0.1, HALF))
    walls: dict[str, tuple[tuple[int, float], ...]] = {
        "none": (),
        "floor": (),
        "wall": ((1, HALF),),
        "corner": ((1, HALF), (0, -HALF if side == "left" else HALF)),
        "box": ((1, HALF), (0, -HALF), (0, HALF)),
    }
    if kind == "none":
        return Stage([], floor_height, wall_top, ())
    count = 1 + len(walls[kind])
    possible = [d for d in (2, 3, 4) if 2 * d * d * count <= 0.45 * total] or [2]
    divisions = int(rng.choice(possible))
    names = ("floor", "wall_back", "wall_left", "wall_right")
    materials = {name: _wall_material(rng, name) for name in names}
    meshes = stage_meshes(
        kind, floor_height=floor_height, wall_top=wall_top, divisions=divisions, side=side, materials=materials
    )
    return Stage([_tiled(rng, mesh) for mesh in meshes], floor_height, wall_top, walls[kind])


def _wall_material(rng: np.random.Generator, name: str) -> Material:
    """Mostly diffuse; side walls are mostly coloured, floors mostly grey and sometimes polished."""
    coloured = rng.random() < {"floor": 0.25, "wall_back": 0.35}.get(name, 0.75)
    if not coloured:
        colour = np.full(3, rng.uniform(*GREY_WALL)) * rng.uniform(0.94, 1.0, 3)
    elif rng.random() < 0.6:
        colour = np.array(WALL_COLOURS[rng.integers(len(WALL_COLOURS))]) * rng.uniform(0.8, 1.3)
    else:
        colour = _colour(rng)
    glossy = rng.random() < (0.25 if name == "floor" else 0.06)
    specular = float(rng.uniform(0.05, 0.5)) if glossy else 0.0
    roughness = _log_uniform(rng, 0.08, 0.6) if glossy else float(rng.uniform(0.6, 1.0))
    return _material(np.clip(colour, 0, 0.95) * (1 - specular), specular, roughness)


def _tiled(rng: np.random.Generator, mesh: Mesh) -> Mesh:
    """The wall, rarely with triangles of different brightness."""
    if rng.random() > 0.05:
        return mesh
    rows = mesh.materials.copy()
    rows[:, DIFFUSE] = np.clip(rows[:, DIFFUSE] * rng.uniform(0.4, 1.1, (len(rows), 1)), 0, 1 - rows[:, 3:4])
    return replace(mesh, materials=rows)


def _colour(rng: np.random.Generator) -> Float64Array:
    """(3,) linear albedo: grey, pastel or saturated."""
    value = rng.uniform(0.3, 0.92)
    choice = rng.random()
    if choice < 0.25:
        return np.full(3, rng.uniform(0.08, 0.92))
    saturation = rng.uniform(0.15, 0.6) if choice < 0.5 else rng.uniform(0.75, 0.98)
    hue = rng.random() * 6
    channels = np.clip(np.abs((hue + np.array([0.0, 4.0, 2.0])) % 6 - 3) - 1, 0, 1)
    return np.asarray(value * (1 - saturation * (1 - channels)), np.float64)


def _material(colour: Float64Array, specular: float, roughness: float) -> Material:
    r, g, b = (float(c) for c in colour)
    return Material((r, g, b), (specular, specular, specular), roughness)


def _object_rows(rng: np.random.Generator, centres: Float64Array) -> Float32Array:
    """(N, 13) material rows of an object's triangles with these centres (N, 3)."""
    specular, roughness = 0.0, float(rng.uniform(0.6, 1.0))
    if rng.random() < 0.5:
        specular = float(rng.uniform(0.5, 0.95) if rng.random() < 0.25 else rng.uniform(0.04, 0.5))
        roughness = _log_uniform(rng, *ROUGHNESS_RANGE)
    rows = np.tile(_material(_colour(rng) * (1 - specular), specular, roughness).row(), (len(centres), 1))
    if rng.random() < 0.15:
        colours = [_colour(rng) for _ in range(4)]
        if rng.random() < 0.5:
            palette = np.array(colours)[rng.integers(4, size=len(centres))]
        else:
            # Bands of colour, as if the object had parts.
            height = centres @ rng.normal(size=3)
            rank = np.argsort(np.argsort(height, kind="stable")) / max(1, len(centres))
            palette = np.array(colours)[np.minimum((rank * 4).astype(int), 3)]
        rows[:, DIFFUSE] = palette * (1 - specular)
    return rows


def _objects(rng: np.random.Generator, stage: Stage, budget: int, user_meshes: Sequence[UserMesh]) -> list[Mesh]:
    count = 1 + int(rng.choice(3, p=[0.35, 0.4, 0.25]))
    count = max(1, min(count, budget // 12))
    shares = rng.dirichlet(np.full(count, 4.0))
    meshes: list[Mesh] = []
    circles: list[tuple[float, float, float]] = []
    for i in range(count):
        share = max(12, int(shares[i] * (budget - 12 * count)) + 12)
        family, shape = random_shape(rng, share, [mesh.shape for mesh in user_meshes])
        vertices = _place(rng, stage, shape, count, circles)
        if vertices is None:
            continue
        crease = float(rng.choice([0.0, 30.0, 60.0], p=[0.35, 0.25, 0.4]))
        faces = shape[1]
        triangles = on_grid(vertices)[faces]
        meshes.append(
            Mesh(
                f"object_{i}_{family}",
                triangles.astype(np.float32),
                smooth_normals(triangles, crease, faces),
                _object_rows(rng, triangles.mean(axis=1)),
            )
        )
    return meshes


def _rotation(rng: np.random.Generator) -> Float64Array:
    """(3, 3) about the vertical axis; 14 % of the objects are also tilted, 14 % turned in any direction."""
    angle = rng.uniform(0, 2 * math.pi)
    c, s = math.cos(angle), math.sin(angle)
    turn = np.array([[c, -s, 0], [s, c, 0], [0, 0, 1.0]])
    choice = rng.random()
    if choice < 0.72:
        return turn
    if choice < 0.86:
        t = math.radians(rng.uniform(-40, 40))
        return turn @ np.array([[1, 0, 0], [0, math.cos(t), -math.sin(t)], [0, math.sin(t), math.cos(t)]])
    q, r = np.linalg.qr(rng.normal(size=(3, 3)))
    q = q * np.sign(np.diag(r))
    return q if np.linalg.det(q) > 0 else q[:, [1, 0, 2]]


def _place(
    rng: np.random.Generator, stage: Stage, shape: Shape, count: int, circles: list[tuple[float, float, float]]
) -> Float64Array | None:
    """Vertices (V, 3) of a shape on the stage outside the `circles` (x, y, radius), to which its own is added; None if
    there is no room."""
    vertices = shape[0] @ _rotation(rng).T
    vertices = vertices - (vertices.min(axis=0) + vertices.max(axis=0)) / 2
    room = HALF - stage.floor_height
    size = rng.uniform(*((0.5, 0.9), (0.35, 0.65), (0.28, 0.5))[count - 1])
    vertices = vertices * (size / np.ptp(vertices, axis=0).max())
    vertices *= min(1.0, 0.92 * room / np.ptp(vertices[:, 2]), 0.46 / np.linalg.norm(vertices[:, :2], axis=1).max())
    for attempt in range(60):
        if attempt % 15 == 14:
            vertices = vertices * 0.8
        radius = float(np.linalg.norm(vertices[:, :2], axis=1).max())
        spread = (HALF - radius) * (0.5 if count == 1 else 0.95)
        x, y = rng.uniform(-spread, spread, 2)
        if all(math.hypot(x - a, y - b) > radius + r for a, b, r in circles):
            circles.append((x, y, radius))
            base = stage.floor_height + REST_GAP
            if rng.random() < 0.12:
                base += rng.uniform(0, max(0.0, 0.95 * room - np.ptp(vertices[:, 2])))
            return np.asarray(vertices + [x, y, base - vertices[:, 2].min()], np.float64)
    return None


def _lights(
    rng: np.random.Generator, stage: Stage, count: int, points: Float64Array, normals: Float64Array
) -> list[Mesh]:
    """Light triangles that walls rarely hide, with a total emission that lights `points` (M, 3) within `LEVEL`."""
    lights: list[Light] = []
    shares = rng.dirichlet(np.full(count, 4.0))
    total = _log_uniform(rng, *TOTAL_EMISSION)
    for attempt in range(40):
        positions = [_light_position(rng, stage, points) for _ in range(count)]
        sizes = LIGHT_EDGE[0] * rng.uniform(1.0, LIGHT_EDGE[1] / LIGHT_EDGE[0], count)
        level = 0.0
        for position, share, size in zip(positions, shares, sizes, strict=True):
            area = math.sqrt(3) / 4 * size**2
            level += share * total * area * float(_irradiance(stage, position, points, normals).mean()) / math.pi
        # Scale the emission if the level is almost right, else draw other positions.
        target = float(np.clip(level, *LEVEL))
        if attempt == 39 or 0.3 < target / max(level, 1e-9) < 3:
            total = float(np.clip(total * target / max(level, 1e-9), 0.5 * TOTAL_EMISSION[0], 1.5 * TOTAL_EMISSION[1]))
            break
    for i, (position, share, size) in enumerate(zip(positions, shares, sizes, strict=True)):
        x, y, z = (float(v) for v in position)
        lights.append(Light((x, y, z), (0.0, 0.0, 0.0), float(size), share * total, f"light_{i}"))
    return [light.mesh() for light in lights]


def _light_position(rng: np.random.Generator, stage: Stage, points: Float64Array) -> Float64Array:
    reach = 90.0 if stage.walls else 180.0
    position = LIGHT_DISTANCE[0] * direction(0, 60)
    for _ in range(40):
        # Uniform over the sphere, not over the angle, which would favour the zenith.
        low, high = (math.sin(math.radians(e)) for e in LIGHT_ELEVATION)
        elevation = math.degrees(math.asin(rng.uniform(low, high)))
        position = rng.uniform(*LIGHT_DISTANCE) * direction(rng.uniform(-reach, reach), elevation)
        if stage.hidden(points, position).mean() < 0.3:
            break
    return position


def _irradiance(stage: Stage, position: Float64Array, points: Float64Array, normals: Float64Array) -> Float64Array:
    """(M,) irradiance per radiance and area of a small light that faces the origin; only walls cast shadows."""
    offset = position - points
    squared = np.einsum("nk,nk->n", offset, offset)
    to_light = offset / np.sqrt(squared)[:, None]
    facing = np.clip(to_light @ (position / np.linalg.norm(position)), 0, None)
    cosine = np.clip(np.einsum("nk,nk->n", to_light, normals), 0, None)
    return np.where(stage.hidden(points, position), 0.0, cosine * facing / squared)


def stage_camera(rng: np.random.Generator, stage: Stage, objects: list[Mesh], name: str) -> Camera:
    """A camera that looks near an object or the middle of all, from where walls hide almost nothing."""
    reach = 75.0 if stage.walls else 180.0
    corners = HALF * np.array([[x, y] for x in (-1.0, 1.0) for y in (-1.0, 1.0)])
    floor = np.concatenate([0.9 * corners, np.full((4, 1), stage.floor_height)], axis=1)
    points = np.concatenate([*(mesh.triangles.reshape(-1, 3) for mesh in objects), floor]).astype(np.float64)
    middle = np.mean([mesh.bounds.mean(axis=0) for mesh in objects], axis=0)
    for _ in range(40):
        elevation = rng.uniform(*CAMERA_ELEVATION)
        position = rng.uniform(*CAMERA_DISTANCE) * direction(rng.uniform(-reach, reach), elevation)
        if stage.hidden(points, position).mean() < 0.03:
            break
    else:
        position = 1.75 * direction(0, 20)
    centre = objects[rng.integers(len(objects))].bounds.mean(axis=0)
    target = (middle if rng.random() < 0.7 else centre) * rng.uniform(0.3, 1.0) + rng.normal(size=3) * 0.04
    return Camera.look_at(position.tolist(), target.tolist(), fov=float(rng.uniform(*FOV)), name=name)
