"""The options of scenes: stage, environment, cameras; a wrong value is wrong usage.

Imported for `--help`: no NumPy, no torch.
"""

from __future__ import annotations

import enum
import functools
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from renderformer.cli.options import (
    CAMERA,
    ENVIRONMENT,
    STAGE,
    TRAINED,
    TRIANGLES,
    check_stage,
    flag,
    read_material,
    read_numbers,
    refused,
    span,
    wrong,
)

if TYPE_CHECKING:
    from renderformer.cameras import CameraChoice
    from renderformer.data.camera import Camera
    from renderformer.data.scene import Scene

_camera, _stage, _triangles, _environment = (
    functools.partial(typer.Option, rich_help_panel=panel) for panel in (CAMERA, STAGE, TRIANGLES, ENVIRONMENT)
)


class Stage(enum.StrEnum):
    """Stages of `renderformer.data.staging`."""

    AUTO = "auto"
    STUDIO = "studio"
    NONE = "none"
    FLOOR = "floor"
    WALL = "wall"
    CORNER = "corner"
    BOX = "box"


class Up(enum.StrEnum):
    """The axis that points up in a mesh file."""

    AUTO = "auto"
    Y = "y"
    Z = "z"


@dataclass(frozen=True)
class StageFlags:
    """Arguments of `load_scene`."""

    stage: Annotated[
        Stage | None,
        _stage(
            metavar="KIND",
            help="What the mesh stands on: studio, none, floor, wall, corner, box. auto is studio; with options of the "
            "light, and for a released model, box or, for an orbit, floor.",
            show_default="auto",
        ),
    ] = None
    size: Annotated[float | None, _stage(metavar="UNITS", help="Largest extent, at most 1.")] = None
    rotation: Annotated[
        float | None, _stage(metavar="DEGREES", help="About the vertical, counter-clockwise from above.")
    ] = None
    up: Annotated[
        Up | None,
        _stage(
            metavar="y|z|auto",
            help="Axis that points up once the file is read; auto decides by format, comments and shape, with a note.",
            show_default="auto",
        ),
    ] = None
    light_position: Annotated[
        str | None,
        _stage(metavar="X,Y,Z", help=f"Centre of the light, Z up; trained {span(TRAINED.light_distance)} away."),
    ] = None
    light_strength: Annotated[
        float | None,
        _stage(
            metavar="RADIANCE",
            help=f"Of the light; 0 for none; trained on {span(TRAINED.emission)}.",
            show_default="balanced",
        ),
    ] = None
    light_size: Annotated[
        float | None,
        _stage(metavar="UNITS", help=f"Edge of the light triangle; trained on {span(TRAINED.light_edge)}."),
    ] = None
    material: Annotated[
        str | None,
        _stage(metavar="KEY=VALUE …", help='For the whole mesh: "diffuse=0.8,0.1,0.1 specular=0.2 roughness=0.3".'),
    ] = None
    seed: Annotated[
        int | None, _stage(min=0, metavar="N", help="Random colour for each connected part; nothing else is random.")
    ] = None
    budget: Annotated[
        int | None,
        _triangles(
            min=1,
            metavar="N",
            help="Most triangles; objects above it are simplified, and a note says so.",
            show_default=f"{TRAINED.triangles} for a mesh that a released model draws, else no limit",
        ),
    ] = None
    subdivide: Annotated[bool, _triangles("--subdivide", help="Cut large triangles into smaller ones.")] = False

    def of_mesh(self) -> dict[str, Any]:
        """The options for bare meshes as arguments of `load_scene`, without those that were left out."""
        values = {name: value for name, value in vars(self).items() if name not in ("budget", "subdivide")}
        arguments = {
            name: value.value if isinstance(value, enum.Enum) else value
            for name, value in values.items()
            if value is not None
        }
        if self.light_position is not None:
            arguments["light_position"] = read_numbers(self.light_position, "--light-position")
        if self.material is not None:
            arguments["material"] = read_material(self.material)
        check_stage(arguments)
        return arguments

    def of_every_file(self) -> dict[str, Any]:
        """The options for meshes and scene files as arguments of `load_scene`, without those that were left out."""
        return ({"budget": self.budget} if self.budget else {}) | ({"subdivide": True} if self.subdivide else {})


@dataclass(frozen=True)
class EnvironmentFlags:
    """What surrounds and lights a scene."""

    environment: Annotated[
        str | None,
        _environment(
            metavar="NAME|COLOUR|FILE",
            help="Light from all around: studio, sky, sunset, a colour such as #ffffff or white, or an .hdr or .exr "
            "picture of all directions. It replaces the stage's light and walls unless they are asked for.",
            show_default="studio for a mesh",
        ),
    ] = None
    environment_strength: Annotated[
        float | None, _environment(min=0, max=1e6, metavar="FACTOR", help="Of its light.", show_default="1")
    ] = None
    environment_rotation: Annotated[
        float | None, _environment(metavar="DEGREES", help="About the vertical, counter-clockwise from above.")
    ] = None
    background: Annotated[
        str | None,
        _environment(
            metavar="KIND|COLOUR",
            help="Behind objects and stage: visible (the environment), invisible (black), transparent (alpha in png "
            "and exr; with --stage none of the mesh alone), or a colour: #202020, white, linear r,g,b.",
            show_default="visible",
        ),
    ] = None

    def _changes(self) -> dict[str, Any]:
        """Attributes of `Environment` that were given; a wrong value is wrong usage."""
        from renderformer.data.environment import Environment
        from renderformer.data.errors import InputError

        options = {
            "strength": "--environment-strength",
            "rotation": "--environment-rotation",
            "background": "--background",
        }
        values = (self.environment_strength, self.environment_rotation, self.background)
        changes: dict[str, Any] = {k: v for k, v in zip(options, values, strict=True) if v is not None}
        for name, value in changes.items():
            try:
                Environment(0.0, **{name: value})
            except InputError as error:
                raise refused(error, options[name]) from None
        return changes

    def arguments(self) -> dict[str, Any]:
        """The environment as an argument of `load_scene`, if one was named; a wrong value is wrong usage."""
        from renderformer.data.environment import Environment
        from renderformer.data.errors import InputError

        changes = self._changes()
        if self.environment is None:
            return {}
        try:
            return {"environment": Environment.of(self.environment).replace(**changes)}
        except InputError as error:
            # A file that cannot be read is no wrong usage.
            if error.place == str(Path(self.environment)):
                raise
            raise refused(error, "--environment") from None

    def applied(self, scene: Scene) -> Scene:
        """The scene with the changes to the environment of its file, if none was named."""
        from renderformer.data.environment import Environment
        from renderformer.data.errors import InputError

        changes = self._changes()
        if self.environment is not None or not changes:
            return scene
        if scene.environment is None and changes.keys() != {"background"}:
            name = min(changes.keys() - {"background"})
            raise InputError(flag(f"environment_{name}"), "there is no environment", "name one with --environment")
        # Without an environment, a background is that of a dark one.
        return scene.replace(environment=(scene.environment or Environment(0.0)).replace(**changes))


@dataclass(frozen=True)
class CameraFlags:
    """The cameras to render."""

    camera: Annotated[
        list[str] | None,
        _camera(metavar="NAME|INDEX", help="Of the scene, or of a glTF file; may be repeated.", show_default="all"),
    ] = None
    azimuth: Annotated[
        float | None,
        _camera(metavar="DEGREES", help="Counter-clockwise from above; 0 is the front.", show_default="35 for a mesh"),
    ] = None
    elevation: Annotated[
        float | None,
        _camera(metavar="DEGREES", help="Above the horizon, -90 … 90.", show_default="by the shape of a mesh"),
    ] = None
    distance: Annotated[
        float | None, _camera(metavar="UNITS", help=f"From the middle; trained on {span(TRAINED.camera_distance)}.")
    ] = None
    fov: Annotated[
        float | None, _camera(metavar="DEGREES", help=f"Vertical angle of view; trained on {span(TRAINED.fov)}.")
    ] = None
    frame: Annotated[
        bool, _camera("--frame/--no-frame", help="Fill the picture with a bare mesh, or show its whole stage.")
    ] = True

    def choice(self, turntable: int | None = None, path: Sequence[Camera] = ()) -> CameraChoice:
        """The choice; names together with options for new cameras are wrong usage.

        Args:
            turntable: number of cameras of a turn.
            path: cameras of a path.
        """
        from renderformer.cameras import CameraChoice

        names = ("azimuth", "elevation", "distance", "fov")
        angles = {name: getattr(self, name) for name in names if getattr(self, name) is not None}
        if self.camera and (angles or turntable or path):
            raise wrong("cannot be combined with a turn, a path or angles, which make new cameras", "--camera")
        if path and (angles or turntable):
            raise wrong("cannot be combined with --turntable or angles, it has its own views", "--camera-path")
        check_stage(angles)
        return CameraChoice(tuple(self.camera or ()), angles, turntable, tuple(path))
