"""Procedural scenes of all kinds for training: on stages, in rooms, in a studio, outdoors, of one or of many objects.

A share of the scenes are those of `procedural_scene`. The others have materials of all kinds (`finishes`), lights
(`lamps`, `places`) and environments (`surroundings`). A small path-traced picture of each view settles how bright the
lights are, and whether a scene is drawn again: because a view is black, burnt out or blank.

World frame: Z up, scene units. A seed gives the same scene with the same versions of the packages; keep the order of
random draws, or raise `VERSION`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from renderformer.data.appearance import Appearance
from renderformer.data.arrays import Float64Array
from renderformer.data.camera import Camera, direction
from renderformer.data.environment import Environment
from renderformer.data.errors import InputError
from renderformer.data.geometry.stages import stage_kind
from renderformer.data.geometry.triangles import smooth_normals
from renderformer.data.material import DIELECTRIC, EMISSION, MAX_RADIANCE, Material, Textures
from renderformer.data.scene import Mesh, Scene
from renderformer.data.sets.finishes import finished, random_colour, random_roughness, rgb
from renderformer.data.sets.lamps import irradiance, light_meshes
from renderformer.data.sets.mitsuba import ReferenceScene
from renderformer.data.sets.patterns import coloured, leaf, random_pattern
from renderformer.data.sets.places import GAP, LOOK_TRIANGLES, PLACES, Place, Spot, place_lamps
from renderformer.data.sets.procedural_scenes import MAX_TRIANGLES, procedural_scene, stage_camera
from renderformer.data.sets.shapes import on_grid, random_shape
from renderformer.data.sets.surroundings import random_environment
from renderformer.data.sets.user_meshes import UserMesh
from renderformer.data.texture import Texture

# Recipe of the scenes; scenes of a seed are the same in one version.
VERSION = 1
# Share of the scenes of few and of several objects; the rest has 20 to 60.
FEW, SEVERAL = 0.5, 0.2
PLANT = 0.04
# Preview pictures: pixels on a side, samples, longest path.
SIDE, SAMPLES, DEPTH = 24, 16, 8
# Range of the radiance that three quarters of the pixels do not reach.
LEVEL = (0.35, 1.1)
# A view is drawn again if more than a share of it is darker than a share of that radiance, or lighter than a multiple,
# or if the pixels differ by less than a share of it.
BLACK, BURNT, BLANK = (0.03, 0.7), (6.0, 0.2), 0.08
ATTEMPTS = 30
# Of a camera from the spheres around objects, if that can be had.
CLEARANCE = 0.1


def varied_scene(
    seed: int, views: int = 4, max_triangles: int = MAX_TRIANGLES, meshes: Sequence[UserMesh] = ()
) -> Scene:
    """A scene of any kind with `views` cameras.

    Args:
        seed: the same seed gives the same scene (with the same versions of NumPy, Mitsuba, manifold3d, scikit-image and
            fast-simplification, and the same meshes).
        views: number of cameras.
        max_triangles: stage and lights included.
        meshes: of the user, for a third of the objects.

    Raises:
        InputError: a negative seed, no views, a budget under 64 triangles, or the extra `reference` is not installed.
    """
    if seed < 0 or views < 1 or max_triangles < 64:
        problem = f"seed {seed}, views {views}, max_triangles {max_triangles}"
        raise InputError("varied scene", problem, "expected seed >= 0, views >= 1, max_triangles >= 64")
    rng = np.random.Generator(np.random.PCG64([VERSION, seed]))
    kinds = list(PLACES)
    share = rng.random() - sum(weight for _, weight in PLACES.values())
    if share >= 0:
        return procedural_scene(seed, views, max_triangles, meshes)
    weights = np.array([PLACES[kind][1] for kind in kinds])
    kind = kinds[int(rng.choice(len(kinds), p=weights / weights.sum()))]
    for _ in range(ATTEMPTS):
        scene = _drawn(rng, kind, views, max_triangles, meshes)
        scene = None if scene is None else levelled(rng, scene)
        if scene is not None:
            return scene.replace(name=f"varied_{seed}")
    return procedural_scene(seed, views, max_triangles, meshes)


def scene_kind(scene: Scene) -> str:
    """The kind of surroundings by the names of the objects, one of `shards.STAGES`."""
    names = {mesh.name for mesh in scene.objects}
    for name, kind in (("sweep", "studio"), ("room_floor", "room"), ("ground", "ground")):
        if name in names:
            return kind
    return stage_kind(names)


def _drawn(
    rng: np.random.Generator, kind: str, views: int, max_triangles: int, meshes: Sequence[UserMesh]
) -> Scene | None:
    """A scene of a kind whose light is of any brightness; None if nothing fits."""
    count = _object_count(rng, kind, max_triangles)
    least = min(max_triangles, max(LOOK_TRIANGLES if kind == "look" else 64, 40 * count))
    total = round(math.exp(rng.uniform(math.log(least), math.log(max_triangles))))
    place = PLACES[kind][0](rng, total)
    environment = _environment(rng, place)
    lamps = place_lamps(rng, place, max(4, total // 5)) if _has_lamps(rng, place, environment) else []
    used = sum(len(mesh) for mesh in place.meshes) + sum(map(len, lamps))
    objects = _objects(rng, place, count, total - used, meshes)
    if not objects or used + sum(len(mesh) for mesh in objects) > max_triangles:
        return None
    lights: list[Mesh] = []
    if lamps:
        share = 1.0 if environment is None else float(rng.uniform(0.1, 0.9))
        lights = light_meshes(lamps, share * math.pi / max(irradiance(lamps, np.zeros(3)), 0.05))
        environment = None if environment is None else environment.replace(strength=1 - share)
    circles = _circles(objects)
    cameras = [_camera(rng, place, objects, circles, f"view_{i}") for i in range(views)]
    return Scene((*place.meshes, *objects, *lights), tuple(cameras), environment=environment)


def _object_count(rng: np.random.Generator, kind: str, max_triangles: int) -> int:
    choice = rng.random()
    if choice < FEW or kind == "none":
        count = int(rng.integers(1, 4))
    else:
        count = int(rng.integers(4, 11)) if choice < FEW + SEVERAL else int(rng.integers(20, 61))
    return min(count, max(1, max_triangles // 40))


def _environment(rng: np.random.Generator, place: Place) -> Environment | None:
    if place.sky == "never" or (place.sky == "maybe" and rng.random() < 0.45):
        return None
    if place.environment is not None:
        return place.environment
    return random_environment(rng, outdoors=place.kind == "ground" or (place.kind == "room" and rng.random() < 0.7))


def _has_lamps(rng: np.random.Generator, place: Place, environment: Environment | None) -> bool:
    """Whether there are lights beside an environment."""
    if environment is None or place.lamps:
        return True
    return bool(rng.random() < {"stage": 0.6, "studio": 0.35, "ground": 0.15, "none": 0.3, "room": 0.0}[place.kind])


def _objects(
    rng: np.random.Generator, place: Place, count: int, budget: int, user_meshes: Sequence[UserMesh]
) -> list[Mesh]:
    """Objects on the spots of a place, of at most `budget` triangles."""
    count = min(count, budget // 12)
    if count < 1:
        return []
    shares = rng.dirichlet(np.full(count, 3.0))
    areas = np.array([spot.area for spot in place.spots])
    taken: list[list[tuple[float, float, float]]] = [[] for _ in place.spots]
    meshes: list[Mesh] = []
    for i in range(count):
        number = int(rng.choice(len(areas), p=areas / areas.sum()))
        share = max(12, int(shares[i] * (budget - 12 * count)) + 12)
        mesh = _plant(rng, f"object_{i}_plant", share) if rng.random() < PLANT else _solid(rng, i, share, user_meshes)
        placed = _placed(rng, mesh, place.spots[number], count, taken[number])
        if placed is not None:
            meshes.append(placed if placed.appearance is not None else finished(rng, placed))
    return meshes


def _solid(rng: np.random.Generator, number: int, budget: int, user_meshes: Sequence[UserMesh]) -> Mesh:
    family, (vertices, faces) = random_shape(rng, budget, [mesh.shape for mesh in user_meshes])
    crease = float(rng.choice([0.0, 30.0, 60.0], p=[0.3, 0.3, 0.4]))
    triangles = on_grid(vertices)[faces]
    normals = smooth_normals(triangles, crease, faces)
    return Mesh(f"object_{number}_{family}", triangles.astype(np.float32), normals)


def _plant(rng: np.random.Generator, name: str, budget: int) -> Mesh:
    """Upright and drooping leaves around the vertical axis, cut out by a mask."""
    count = int(np.clip(rng.integers(4, 40), 2, budget // 2))
    square = np.array([[-0.5, 0, 0], [0.5, 0, 0], [0.5, 0, 1], [-0.5, 0, 1]])
    uv = np.array([[0, 1], [1, 1], [1, 0], [0, 0]], np.float32)
    order = [[0, 1, 2], [0, 2, 3]]
    leaves = []
    for _ in range(count):
        tilt, turn = math.radians(rng.uniform(0, 80)), rng.uniform(0, 2 * math.pi)
        points = square * [rng.uniform(0.2, 0.6), 1, rng.uniform(0.5, 1.2)]
        c, s = math.cos(tilt), math.sin(tilt)
        points = points @ np.array([[1, 0, 0], [0, c, s], [0, -s, c]])
        c, s = math.cos(turn), math.sin(turn)
        points = points @ np.array([[c, s, 0], [-s, c, 0], [0, 0, 1]]) + [0, 0, rng.uniform(0, 0.5)]
        leaves.append(points[order])
    side = int(rng.choice([64, 128]))
    green = rng.uniform(0.1, 0.6) * np.array([rng.uniform(0.2, 0.9), 1.0, rng.uniform(0.05, 0.5)])
    palette = np.array([green, green * rng.uniform(0.4, 1.2, 3)]) if rng.random() < 0.8 else _two_colours(rng)
    colour = coloured(random_pattern(rng, side).mix, np.clip(palette, 0.01, 0.9))
    base = Texture(np.concatenate([colour, leaf(rng, side)[..., None]], axis=2), wrap=("clamp", "clamp"))
    material = Material(
        (1.0,) * 3, (DIELECTRIC,) * 3, random_roughness(rng), metallic=0.0, textures=Textures(base), alpha_cutoff=0.5
    )
    triangles = on_grid(np.concatenate(leaves))
    appearance = Appearance.of(material, np.tile(uv[order], (count, 1, 1)))
    return Mesh(name, triangles.astype(np.float32), appearance=appearance)


def _two_colours(rng: np.random.Generator) -> Float64Array:
    return np.array([rgb(random_colour(rng)) for _ in range(2)])


def _placed(
    rng: np.random.Generator, mesh: Mesh, spot: Spot, count: int, circles: list[tuple[float, float, float]]
) -> Mesh | None:
    """The mesh, turned and scaled, on a spot outside the `circles` (x, y, radius), to which its own is added; None if
    there is no room."""
    turned = _turned(rng, mesh, upright=mesh.appearance is not None)
    low, high = np.array(spot.low), np.array(spot.high)
    width = float((high - low).max())
    size = width * float(np.exp(rng.uniform(*np.log(_size_range(count)))))
    extent = np.ptp(turned.bounds.astype(np.float64), axis=0)
    scale = min(size / extent.max(), 0.9 * spot.height / extent[2])
    reach = float(np.linalg.norm(turned.triangles[..., :2].astype(np.float64), axis=-1).max())
    scale = min(scale, 0.46 * float((high - low).min()) / reach)
    for attempt in range(40):
        if attempt % 10 == 9:
            scale *= 0.8
        radius = reach * scale
        spread = 0.5 if count == 1 else 1.0
        x, y = (low + high) / 2 + rng.uniform(-spread, spread, 2) * ((high - low) / 2 - radius)
        if all(math.hypot(x - a, y - b) > radius + r for a, b, r in circles):
            circles.append((x, y, radius))
            base = spot.floor + GAP
            if rng.random() < 0.06:
                base += rng.uniform(0, max(0.0, 0.9 * spot.height - scale * extent[2]))
            matrix = np.diag([scale, scale, scale, 1.0])
            matrix[:3, 3] = (x, y, base - scale * float(turned.bounds[0, 2]))
            return turned.transformed(matrix)
    return None


def _size_range(count: int) -> tuple[float, float]:
    """Of an object, in widths of its spot."""
    return (0.4, 0.85) if count == 1 else (0.25, 0.5) if count <= 3 else (0.12, 0.3) if count <= 10 else (0.06, 0.17)


def _turned(rng: np.random.Generator, mesh: Mesh, upright: bool) -> Mesh:
    """Centred, turned about the vertical axis, and sometimes in any direction."""
    angle = rng.uniform(0, 2 * math.pi)
    turn = np.array([[math.cos(angle), -math.sin(angle), 0], [math.sin(angle), math.cos(angle), 0], [0, 0, 1.0]])
    if rng.random() < 0.2 and not upright:
        q, r = np.linalg.qr(rng.normal(size=(3, 3)))
        q = q * np.sign(np.diag(r))
        turn = q if np.linalg.det(q) > 0 else q[:, [1, 0, 2]]
    matrix = np.eye(4)
    matrix[:3, :3] = turn
    moved = mesh.transformed(matrix)
    matrix = np.eye(4)
    matrix[:3, 3] = -moved.bounds.mean(axis=0)
    return moved.transformed(matrix)


def _circles(objects: Sequence[Mesh]) -> Float64Array:
    """(O, 4) middle and radius of a sphere around each object."""
    middles = np.array([mesh.bounds.mean(axis=0) for mesh in objects], np.float64)
    pairs = zip(objects, middles, strict=True)
    radii = [np.linalg.norm(mesh.triangles - middle, axis=-1).max() for mesh, middle in pairs]
    return np.column_stack([middles, np.array(radii)])


def _camera(
    rng: np.random.Generator, place: Place, objects: Sequence[Mesh], circles: Float64Array, name: str
) -> Camera:
    if place.stage is not None and rng.random() < 0.7:
        return stage_camera(rng, place.stage, list(objects), name)
    if place.kind == "room":
        return _inside_camera(rng, place.spots[0], circles, name)
    position, target, fov = _outside_view(rng, place, circles)
    for _ in range(12):
        if (np.linalg.norm(circles[:, :3] - position, axis=1) - circles[:, 3]).min() > CLEARANCE:
            break
        position, target, fov = _outside_view(rng, place, circles)
    return Camera.look_at(position.tolist(), target.tolist(), fov=fov, name=name)


def _outside_view(
    rng: np.random.Generator, place: Place, circles: Float64Array
) -> tuple[Float64Array, Float64Array, float]:
    """Position, target and angle of view of a camera that looks at the objects from around them."""
    target = circles[:, :3].mean(axis=0) if rng.random() < 0.6 else circles[rng.integers(len(circles)), :3]
    target = target + rng.normal(size=3) * 0.04
    radius = float((np.linalg.norm(circles[:, :3] - target, axis=1) + circles[:, 3]).max())
    fov = rng.uniform(25, 62)
    # So far that the objects fill the picture, or are somewhat nearer or farther.
    distance = radius / math.sin(math.radians(fov / 2)) * rng.uniform(0.55, 1.3)
    elevation = rng.uniform(2, 55) if place.kind != "none" else rng.uniform(-60, 70)
    position = target + distance * direction(rng.uniform(-place.reach, place.reach), elevation)
    if place.kind != "none":
        position[2] = max(position[2], place.spots[0].floor + 0.1)
    return position, target, float(fov)


def _inside_camera(rng: np.random.Generator, spot: Spot, circles: Float64Array, name: str) -> Camera:
    """A camera in a room, outside all objects, that looks across it."""
    low, high = np.array([*spot.low, spot.floor]), np.array([*spot.high, spot.floor + spot.height])
    best, found = -math.inf, None
    for _ in range(12):
        share = rng.random(3) * [1, 1, 0.6] + [0, 0, 0.25]
        # Cameras stand near the walls more often than in the middle.
        share[:2] = 0.5 + 0.5 * np.sign(share[:2] - 0.5) * np.abs(2 * share[:2] - 1) ** 0.4
        position = low + 0.05 + share * (high - low - 0.1)
        target = circles[rng.integers(len(circles)), :3] if rng.random() < 0.7 else circles[:, :3].mean(axis=0)
        target = target + rng.normal(size=3) * 0.05
        clear = float((np.linalg.norm(circles[:, :3] - position, axis=1) - circles[:, 3]).min())
        score = min(clear, 0.06) * 10 + float(np.linalg.norm(target - position))
        if score > best:
            best, found = score, (position, target)
    assert found is not None
    return Camera.look_at(found[0].tolist(), found[1].tolist(), fov=float(rng.uniform(45, 85)), name=name)


def levelled(rng: np.random.Generator, scene: Scene) -> Scene | None:
    """The scene with lights of a random brightness that suits the pictures; None if a view is not worth having."""
    target = math.exp(rng.uniform(*np.log(LEVEL)))
    reference = ReferenceScene(scene, DEPTH)
    pictures = [reference.render(camera, SIDE, SIDE, SAMPLES).mean(axis=2) for camera in scene.cameras]
    level = float(np.quantile(np.stack(pictures), 0.75))
    if not level > 1e-6:
        return None
    for picture in pictures:
        dark = (picture < BLACK[0] * level).mean() > BLACK[1]
        burnt = (picture > BURNT[0] * level).mean() > BURNT[1]
        if dark or burnt or np.minimum(picture, 2 * level).std() < BLANK * level:
            return None
    # In steps, so that the last digits of a picture do not matter.
    factor = 2.0 ** (round(8 * math.log2(target / level)) / 8)
    brightest = max(float(mesh.materials[:, EMISSION].max()) for mesh in scene.objects) * factor
    if brightest > MAX_RADIANCE:
        return None
    return scaled(scene, factor)


def scaled(scene: Scene, factor: float) -> Scene:
    """The scene with all lights brighter by a factor."""
    objects = []
    for mesh in scene.objects:
        if mesh.emits:
            rows = mesh.materials.copy()
            rows[:, EMISSION] *= factor
            mesh = replace(mesh, materials=rows)
        objects.append(mesh)
    environment = scene.environment
    if environment is not None:
        environment = environment.replace(strength=environment.strength * factor)
    return scene.replace(objects=tuple(objects), environment=environment)
