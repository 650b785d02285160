"""Stages for bare meshes: the objects are scaled into a box, and a floor or walls, light and a camera are added.

For models that cast rays, the stage is a photographer's studio (docs/default-look.md); for the released models, a box
inside the range that they were trained on (spec scenes.md, last section). World frame: right-handed, Z up, scene units;
the box is [-0.5, 0.5]^3.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Annotated, Literal

import numpy as np
import numpy.typing as npt
from pydantic import Field, InstanceOf, WithJsonSchema, model_validator

from renderformer.data.arrays import AnyArray, BoolArray, Float32Array, Float64Array
from renderformer.data.camera import Camera, direction
from renderformer.data.declared import Declared
from renderformer.data.environment import Environment
from renderformer.data.environments import STUDIO_FLOOR, studio
from renderformer.data.errors import InputError
from renderformer.data.framing import Framing
from renderformer.data.geometry.stages import StageKind, backdrop, stage_meshes
from renderformer.data.geometry.triangles import bounds, centroids, connected_parts
from renderformer.data.notes import Guess, Routine
from renderformer.data.scene import DIFFUSE, EMISSION, SPECULAR, Light, Material, Mesh, Scene
from renderformer.data.trained_range import ANYWHERE, TrainedRange

# Of the released models.
TRAINED = TrainedRange()
# Albedo of the studio's floor under the objects.
FLOOR = 0.38
# For models that cast rays: a three-quarter view, from higher up the flatter the objects are. Elevations in degrees of
# objects whose height is this many times their width.
STUDIO_AZIMUTH = 35.0
HEIGHTS, ELEVATIONS = (0.0, 0.3, 1.0, 2.5), (48.0, 28.0, 20.0, 13.0)
# A warm white room with a red and a blue-green wall, so that pictures show colour bleeding.
WALLS: Mapping[str, Material] = {
    "floor": Material((0.66, 0.59, 0.49), roughness=0.9),
    "wall_back": Material((0.64, 0.58, 0.49), roughness=0.9),
    "wall_left": Material((0.56, 0.11, 0.07), roughness=0.9),
    "wall_right": Material((0.09, 0.34, 0.32), roughness=0.9),
}
# 32 triangles with edges of 0.35 per wall, inside the trained range.
WALL_DIVISIONS = 4
# For objects without a material: a cool colour in the warm room, a little glossy.
OBJECT_MATERIAL = Material((0.36, 0.46, 0.6), (0.18, 0.18, 0.18), 0.25)
DEFAULT_AZIMUTH, DEFAULT_ELEVATION, DEFAULT_DISTANCE, DEFAULT_FOV = 7.0, 16.0, 1.6, 40.0
# Without a frame, the camera of these defaults fills the picture with the default box.
TARGET_HEIGHT = -0.12
LIGHT_AZIMUTH, LIGHT_ELEVATION, LIGHT_DISTANCE = 16.0, 58.0, 2.4
LIGHT_SIZE = 0.0707 * 2.2
# Radiance of a floor of albedo 0.5 under the light alone.
FLOOR_LEVEL = 0.5
# Between the floor and the objects, so that coplanar triangles do not overlap.
REST_GAP = 5e-4


Unit = Annotated[float, Field(ge=0, le=1)]
Coordinate = Annotated[float, Field(ge=-100, le=100)]
Degrees = Annotated[float, Field(ge=-1e6, le=1e6)]
RGB = tuple[Unit, Unit, Unit]
Kind = Literal["studio", "none", StageKind]


class StageOptions(Declared):
    """Options of a stage; `Renderer.check` warns where they leave the trained range of a model.

    Attributes:
        stage: "studio" (a round floor that merges with a photographer's studio, `environments.studio`, turned with the
            camera; in another environment it fades out), "none" (no floor or walls, but the studio's light), "floor",
            "wall" (floor and back wall), "corner" (floor, back and one side wall) or "box" (floor, back and both side
            walls); these have a light triangle. "auto" is "studio", below the horizon "none"; but "box" where an option
            of the light or of a wall is given, and for the released models, to which an environment says nothing: they
            get a light triangle in every stage, and "auto" is a floor in an orbit and with cameras of the file.
        size: largest extent of all objects together in scene units, in [0.001, 1].
        rotation: degrees about the vertical, counter-clockwise seen from above.
        up: axis that points up once the file is read, "y", "z", or "auto": decided by the format, comments and shape
            (`renderformer.data.geometry.upright`), with a note. A Scene in memory is Z up, so "auto" leaves it.
        material: replaces the materials of all objects.
        seed: of the random diffuse colours (0.1 … 0.8) of connected parts; None keeps the colours.
        floor_color, back_color, left_color, right_color: linear RGB albedo of the floor (in a studio: in its middle)
            and the walls.
        light_position: (3,) centre of the light triangle; it faces the origin.
        light_strength: radiance of the light triangle; 0 for no light. Default: `balanced_strength`, about 2800; no
            light triangle in an environment unless one of the three is given.
        light_size: edge of the light triangle in scene units.
        azimuth, elevation: of the camera in degrees; azimuth 0 looks along +Y, see `Camera.from_angles`. None is a
            three-quarter view, from higher up the flatter the objects are; between walls, almost the front.
        distance: of the camera from the origin in scene units; None fills the picture with the objects.
        fov: full vertical angle of view in degrees; None chooses it.
        file_cameras: keep the cameras of the file, moved with its objects, after that of the stage.
        frame: whether a camera without a distance fills the picture with the objects (`renderformer.data.framing`);
            False shows the whole stage.
        aspect: width over height of the picture that is to be filled.
        all_around: fill the picture for every azimuth at once, for an orbit.
        extent: (M, 3) points, in the units and axes of the objects, that are scaled, put down and framed instead of
            those of the objects: the outermost of all frames of an animation (`renderformer.data.formats.animation`).
        trained: of the model that will draw: a camera that fills the picture stays in it. A limit of triangles marks
            the released models.

    Raises:
        InputError: a value out of range.
    """

    declared_place = "stage options"

    stage: Literal["auto", "studio", "none", StageKind] = "auto"
    size: Annotated[float, Field(ge=1e-3, le=1)] = 0.7
    rotation: Degrees = 0.0
    up: Literal["auto", "y", "z"] = "auto"
    material: Annotated[InstanceOf[Material], WithJsonSchema({"words": "a Material"})] | None = None
    seed: Annotated[int, Field(ge=0, le=2**64 - 1)] | None = None
    floor_color: RGB | None = None
    back_color: RGB | None = None
    left_color: RGB | None = None
    right_color: RGB | None = None
    light_position: tuple[Coordinate, Coordinate, Coordinate] | None = None
    light_strength: Annotated[float, Field(ge=0, le=60000)] | None = None
    light_size: Annotated[float, Field(ge=1e-6, le=10)] = LIGHT_SIZE
    azimuth: Degrees | None = None
    elevation: Annotated[float, Field(ge=-90, le=90)] | None = None
    distance: Annotated[float, Field(ge=1e-3, le=1000)] | None = None
    fov: Annotated[float, Field(ge=1, le=170)] | None = None
    file_cameras: bool = False
    frame: bool = True
    aspect: Annotated[float, Field(ge=1 / 64, le=64)] = 1.0
    all_around: bool = False
    extent: tuple[tuple[float, float, float], ...] | None = None
    trained: Annotated[InstanceOf[TrainedRange], WithJsonSchema({"words": "a TrainedRange"})] = ANYWHERE

    @model_validator(mode="after")
    def _check_light_position(self) -> StageOptions:
        if self.light_position is not None and not any(self.light_position):
            raise InputError("light_position", "is 0, 0, 0, the point that the light faces", "move it away")
        return self

    @property
    def casts_rays(self) -> bool:
        """Whether the model that will draw sees the light of an environment."""
        return self.trained.triangles is None

    @property
    def wants_light(self) -> bool:
        """Whether the light triangle is described, or said to be absent."""
        given = self.light_position is not None or self.light_strength is not None
        return given or self.light_size != LIGHT_SIZE

    def kind(self, environment: Environment | None) -> Kind:
        """The stage that "auto" stands for, in an environment or without one."""
        if self.stage != "auto":
            return self.stage
        surrounded = self.casts_rays and environment is not None and not environment.is_dark
        walls = any(color is not None for color in (self.back_color, self.left_color, self.right_color))
        if surrounded or (self.casts_rays and not (environment or walls or self.wants_light)):
            return "studio" if self.elevation is None or self.elevation >= 0 else "none"
        # Walls would keep out the light of an environment, and hide the mesh from cameras all around.
        return "floor" if self.all_around or self.file_cameras else "box"


def stage_scene(scene: Scene, options: StageOptions | None = None) -> Scene:
    """Set the objects of a bare mesh file on a stage.

    All objects together are turned upright, rotated about the vertical, scaled so that their largest extent is
    `options.size`, centred over the floor and put on it (without a stage: centred at the origin). Their emission is
    kept. Objects without a material (`Material()`) get `OBJECT_MATERIAL`.

    Args:
        scene: objects in any units, Z up (or Y up with `up="y"`).

    Returns:
        A Scene of the walls, the objects and the light, with a camera named "stage", and with `file_cameras` those of
        the file. The notes list the changes and warn about a badly placed camera or light.

    Raises:
        InputError: all objects together have no extent, or the camera is at its target.
    """
    options = options or StageOptions()
    environment = scene.environment
    surrounded = options.casts_rays and environment is not None and not environment.is_dark
    kind = options.kind(environment)
    notes = list(scene.notes)
    points: AnyArray = _points(_solid(scene.objects)) if options.extent is None else np.array(options.extent)
    matrix = _placement(scene, points, options, kind, notes)
    objects = [mesh.transformed(matrix) for mesh in scene.objects]
    points = _points(_solid(objects)) if options.extent is None else points @ matrix[:3, :3].T + matrix[:3, 3]
    objects = _with_materials(objects, options, notes)
    if options.seed is not None:
        objects = _with_random_colours(objects, options.seed, notes)
    names = {mesh.name for mesh in objects}
    azimuth, elevation = _angles(points, kind, options)
    walls = _walls(kind, options, surrounded)
    if environment is None and kind in ("studio", "none") and options.casts_rays and not options.wants_light:
        environment, surrounded = studio().replace(rotation=azimuth), True
    walls = [replace(mesh, name=_unused(mesh.name, names)) for mesh in walls]
    light = _light(options, _unused("light", names), surrounded)
    if light is None and not surrounded and not any(mesh.emits for mesh in objects):
        notes.append("no light: light_strength is 0 and no object emits, so the picture will be black")
    camera = _camera(points, walls, azimuth, elevation, options)
    notes += _warnings(objects, walls, light, camera)
    lights = [light.mesh()] if light else []
    cameras = (camera, *_file_cameras(scene, options, matrix, notes))
    return Scene((*walls, *objects, *lights), cameras, scene.name, tuple(notes), environment)


def _file_cameras(scene: Scene, options: StageOptions, matrix: Float64Array, notes: list[str]) -> list[Camera]:
    """The cameras of the file moved with its objects; none, and a note with their names, unless they are wanted."""
    if not options.file_cameras:
        if scene.cameras:
            names = ", ".join(camera.name for camera in scene.cameras[:4]) + " …" * (len(scene.cameras) > 4)
            line = f"{len(scene.cameras)} cameras of the file are not used (--camera NAME takes one): {names}"
            notes.append(Guess(line))
        return []
    moved = [camera.transformed(matrix) for camera in scene.cameras]
    return [replace(camera, name="stage (file)") if camera.name == "stage" else camera for camera in moved]


def _solid(objects: Sequence[Mesh]) -> list[Mesh]:
    """The objects without point and spot lights of the file, which are black but for their light; all if none is left.

    They neither count for the size of the scene nor get other materials.
    """
    solid = [mesh for mesh in objects if not _is_lamp(mesh)]
    return solid or list(objects)


def solid_points(scene: Scene) -> Float64Array:
    """(M, 3) corners of the objects that a stage scales and frames: all but point and spot lights."""
    return _points(_solid(scene.objects)).astype(np.float64)


def _points(objects: Sequence[Mesh]) -> Float32Array:
    """(M, 3) all corners."""
    points = [mesh.triangles.reshape(-1, 3) for mesh in objects]
    return np.concatenate(points) if len(points) > 1 else points[0]


def _is_lamp(mesh: Mesh) -> bool:
    rows = mesh.materials
    black = not rows[:, DIFFUSE].any() and not rows[:, SPECULAR].any()
    plain = mesh.patches is None and mesh.appearance is None
    return black and plain and bool((rows[:, EMISSION] > 0).any(axis=1).all())


def _placement(scene: Scene, points: AnyArray, options: StageOptions, kind: str, notes: list[str]) -> Float64Array:
    """(4, 4) the transform that rotates, scales and moves points (M, 3) into the box; computed in float64."""
    turn = np.array([[1.0, 0, 0], [0, 0, -1], [0, 1, 0]]) if options.up == "y" else np.eye(3)
    angle = math.radians(options.rotation)
    c, s = math.cos(angle), math.sin(angle)
    turn = np.array([[c, -s, 0], [s, c, 0], [0, 0, 1]]) @ turn
    low, high = bounds(points if (turn == np.eye(3)).all() else points @ turn.T).astype(np.float64)
    extent = float((high - low).max())
    if not extent > 0:
        problem = "all points of the mesh are the same, it has no extent to scale"
        raise InputError(f"scene {scene.name!r}", problem, "export it again")
    scale = options.size / extent
    anchor = (low + high) / 2
    target = np.zeros(3)
    if kind != "none":
        anchor[2], target[2] = low[2], -0.5 + REST_GAP
    matrix = np.eye(4)
    matrix[:3, :3] = scale * turn
    matrix[:3, 3] = target - scale * anchor
    shift = ", ".join(f"{v:.4g}" for v in matrix[:3, 3])
    steps = ["turned from Y up to Z up"] if options.up == "y" else []
    steps += [f"turned by {options.rotation:g} degrees"] if options.rotation else []
    steps += [f"scaled by {scale:.4g} and moved by ({shift})"]
    count = len(scene.objects)
    objects = f"object {scene.objects[0].name!r}" if count == 1 else f"{count} objects"
    notes.append(Routine(f"{objects} {', '.join(steps)} into the box"))
    return matrix


def _with_materials(objects: list[Mesh], options: StageOptions, notes: list[str]) -> list[Mesh]:
    if options.material is not None:
        return [mesh if _is_lamp(mesh) else mesh.with_material(options.material) for mesh in objects]
    textured = [mesh.patches is not None or mesh.appearance is not None for mesh in objects]
    neutral = [bool((mesh.materials == Material().row()).all()) for mesh in objects]
    bare = [flag and not look for flag, look in zip(neutral, textured, strict=True)]
    if any(bare):
        m = OBJECT_MATERIAL
        line = (
            f"{sum(bare)} of {len(objects)} objects have no material and got diffuse {m.diffuse[0]:g}, "
            f"{m.diffuse[1]:g}, {m.diffuse[2]:g}, specular {m.specular[0]:g}, roughness {m.roughness:g}"
        )
        notes.append(Routine(line))
    return [mesh.with_material(OBJECT_MATERIAL) if flag else mesh for mesh, flag in zip(objects, bare, strict=True)]


def _with_random_colours(objects: list[Mesh], seed: int, notes: list[str]) -> list[Mesh]:
    """One random diffuse colour per connected part, limited so that diffuse + specular <= 1."""
    generator = np.random.default_rng(seed)
    coloured, parts = [], 0
    for mesh in objects:
        if _is_lamp(mesh):
            coloured.append(mesh)
            continue
        part = connected_parts(mesh.triangles)
        colours = generator.uniform(0.1, 0.8, (part.max() + 1, 3))
        materials = mesh.materials.copy()
        materials[:, DIFFUSE] = np.minimum(colours[part], 1 - materials[:, SPECULAR])
        coloured.append(replace(mesh, materials=materials, patches=None, patch_index=None, appearance=None))
        parts += len(colours)
    textured = sum(mesh.patches is not None or mesh.appearance is not None for mesh in objects)
    dropped = f"; the textures of {textured} objects are not used" if textured else ""
    line = f"{parts} connected parts got random diffuse colours (seed {seed}){dropped}"
    notes.append(line if textured else Routine(line))
    return coloured


def _walls(kind: Kind, options: StageOptions, surrounded: bool) -> list[Mesh]:
    if kind == "none":
        return []
    if kind == "studio":
        middle = options.floor_color or FLOOR
        # Only the studio has the brightness of a floor at its horizon.
        walls = [backdrop(middle, middle if surrounded else STUDIO_FLOOR, fading=surrounded)]
    else:
        walls = stage_meshes(kind, divisions=WALL_DIVISIONS, materials=_wall_materials(options))
    # A model that casts rays looks through them from outside; the others know nothing of it.
    return [replace(wall, camera_sides="front") for wall in walls] if options.casts_rays else walls


def _angles(points: AnyArray, kind: Kind, options: StageOptions) -> tuple[float, float]:
    """Azimuth and elevation of the camera."""
    azimuth, elevation = DEFAULT_AZIMUTH, DEFAULT_ELEVATION
    if options.casts_rays and kind in ("studio", "none", "floor"):
        low, high = bounds(points).astype(np.float64)
        x, y, height = high - low
        azimuth = STUDIO_AZIMUTH
        elevation = float(np.interp(height / max(x, y, 1e-9), HEIGHTS, ELEVATIONS))
    return (
        azimuth if options.azimuth is None else options.azimuth,
        elevation if options.elevation is None else options.elevation,
    )


def _wall_materials(options: StageOptions) -> dict[str, Material]:
    colors = {
        "floor": options.floor_color,
        "wall_back": options.back_color,
        "wall_left": options.left_color,
        "wall_right": options.right_color,
    }
    changed = {name: replace(WALLS[name], diffuse=color) for name, color in colors.items() if color is not None}
    return {**WALLS, **changed}


def _unused(name: str, used: set[str]) -> str:
    """`name`, with "stage_" in front if an object already has this name."""
    while name in used:
        name = f"stage_{name}"
    return name


def _light(options: StageOptions, name: str, surrounded: bool) -> Light | None:
    if options.light_strength == 0 or (surrounded and not options.wants_light):
        return None
    position = LIGHT_DISTANCE * direction(LIGHT_AZIMUTH, LIGHT_ELEVATION)
    if options.light_position is not None:
        position = np.asarray(options.light_position, np.float64)
    strength = options.light_strength
    if strength is None:
        strength = balanced_strength(position, options.light_size)
    x, y, z = (float(v) for v in position)
    return Light((x, y, z), (0.0, 0.0, 0.0), options.light_size, strength, name)


def balanced_strength(position: npt.ArrayLike, size: float, floor_height: float = -0.5) -> float:
    """Radiance of a light triangle that gives the middle of a floor of albedo 0.5 a radiance of 0.5, limited to the
    trained range.

    Irradiance E = L A cos(floor) cos(light) / d^2 with the area A = sqrt(3) / 4 size^2; floor radiance = albedo E / pi.

    Args:
        position: (3,) of the light, which faces the origin, in scene units.
        size: edge of the triangle in scene units.
        floor_height: Z of the floor in scene units.
    """
    away = np.asarray(position, np.float64) - np.array([0, 0, floor_height])
    distance = float(np.linalg.norm(away))
    facing = float(away @ np.asarray(position, np.float64)) / (distance * float(np.linalg.norm(position)))
    # Without the limits a light near the horizon would overexpose upright surfaces.
    cosine = max(away[2] / distance, 0.35) * max(facing, 0.35)
    area = math.sqrt(3) / 4 * size**2
    brightest = TRAINED.emission[1] if TRAINED.emission else math.inf
    return float(min(FLOOR_LEVEL * math.pi / 0.5 * distance**2 / (area * cosine), brightest))


def _camera(points: AnyArray, walls: list[Mesh], azimuth: float, elevation: float, options: StageOptions) -> Camera:
    if options.frame and options.distance is None:
        framing = Framing(points, azimuth, elevation, options.aspect, options.all_around)
        # A model sees the scene so small that the stage fits into its box.
        reach = max((float(np.abs(mesh.bounds).max()) for mesh in walls), default=0.0)
        trained = options.trained.scaled(max(1.0, reach / options.trained.box))
        return framing.camera(options.fov, trained, "stage")
    middle = bounds(points).astype(np.float64).mean(axis=0)
    target = np.array([0.0, 0.0, TARGET_HEIGHT]) if walls else middle
    distance, fov = options.distance or DEFAULT_DISTANCE, options.fov or DEFAULT_FOV
    position = distance * direction(azimuth, elevation)
    if np.linalg.norm(position - target) < 1e-6:
        raise InputError("distance", f"is {distance:g}, which puts the camera at its target", "move it away")
    up = (0.0, 0.0, 1.0)
    backward = (position - target) / np.linalg.norm(position - target)
    if abs(backward[2]) > 0.99999:
        # Seen from straight above or below, up is the horizontal direction of the azimuth.
        x, y, _ = direction(azimuth, 0) * math.copysign(1, backward[2])
        up = (-x, -y, 0.0)
    return Camera.look_at(position.tolist(), target.tolist(), up, fov, "stage")


def _warnings(objects: list[Mesh], walls: list[Mesh], light: Light | None, camera: Camera) -> list[str]:
    """Notes about a camera or light behind a wall, and about objects that emit."""
    lines: list[str] = []
    places = [("camera", camera.position)]
    if light is not None:
        places.append(("light", np.asarray(light.position)))
    points = np.concatenate([centroids(mesh.triangles) for mesh in objects]).astype(np.float64)
    for label, position in places:
        for wall in walls:
            if label == "camera" and wall.camera_sides == "front":
                continue
            share = float(_hidden(points, np.asarray(position, np.float64), wall).mean())
            if share > 0.25:
                lines.append(
                    f"{wall.name!r} stands between the {label} and {share:.0%} of the objects; "
                    "move it, or choose another stage"
                )
    emitters = sum(mesh.emits and not _is_lamp(mesh) for mesh in objects)
    if emitters:
        lines.append(Routine(f"{emitters} objects emit light, which is kept"))
    return lines


def _hidden(points: Float64Array, eye: Float64Array, wall: Mesh) -> BoolArray:
    """(M,) whether an axis-aligned wall hides each of the points (M, 3) from `eye`."""
    low, high = (bound.astype(np.float64) for bound in wall.bounds)
    axis = int((high - low).argmin())
    span = eye[axis] - points[:, axis]
    t = np.divide(low[axis] - points[:, axis], span, out=np.full(len(points), -1.0), where=np.abs(span) > 1e-9)
    hits = points + t[:, None] * (eye - points)
    inside = ((hits >= low - 1e-6) & (hits <= high + 1e-6))[:, [k for k in range(3) if k != axis]].all(axis=1)
    return np.asarray((t > 1e-6) & (t < 1) & inside)
