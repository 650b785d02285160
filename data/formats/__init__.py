"""Scene and mesh files: one module per format with its reader and writer, listed in `table`.

`load_scene` and `save_scene` read and write all formats.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from renderformer.data.environment import Environment
from renderformer.data.errors import InputError
from renderformer.data.files import Losses
from renderformer.data.formats.table import MESH_FORMATS, SCENE_FORMATS, Format, format_of
from renderformer.data.scene import Scene

if TYPE_CHECKING:
    from renderformer.data.staging import StageOptions

__all__ = ["MESH_FORMATS", "SCENE_FORMATS", "load_scene", "save_scene"]


def load_scene(
    path: str | os.PathLike[str],
    *,
    budget: int | None = None,
    subdivide: bool | float | str = False,
    stage: str = "auto",
    environment: Environment | None = None,
    time: float | None = None,
    animation: str = "",
    **stage_options: Any,
) -> Scene:
    """Read any scene or mesh file.

    Scene JSON and scene H5 load unchanged. A bare mesh (OBJ, PLY, STL, OFF, GLB, glTF, 3MF) is scaled and set on a
    stage with light and a camera, see `renderformer.data.staging`.

    Args:
        path: the file; its suffix names the format.
        budget: largest number of triangles in the scene; larger objects are simplified, with a note. Default: no limit,
            but for a staged mesh that of the range `trained`.
        subdivide: edges longer than this, in scene units, are split; True chooses a length, False splits none.
        stage: of a bare mesh, see `StageOptions.stage`; "raw" returns the objects in the units of the file, without
            light and camera, and in its axes unless `up` is given.
        environment: what surrounds and lights the scene, instead of the environment of the file.
        time, animation: pose a mesh at this time, in seconds, of an animation of its file by name or index, the first
            one if empty.
        stage_options: other fields of `StageOptions`. A mesh for a released model (V1) needs `trained=TrainedRange()`;
            scene files ignore `trained`.

    Returns:
        A Scene whose notes list all changes.

    Raises:
        InputError: the file is missing or damaged, or holds values that the format does not allow; an option is
            unknown, out of range or does not apply to the file.
    """
    path = Path(path)
    if path.is_dir():
        raise InputError(path, "is a folder", "give a mesh or scene file")
    if not path.suffix and not path.exists():
        raise InputError(path, "does not exist", "check the path")
    file_format = format_of(path)
    # Options are checked before the file is read, which may take a while.
    options = _stage_options(path, file_format, stage, stage_options)
    up = stage_options.get("up") if options is None else options.up
    scene = _read(path, file_format, up, time, animation)
    if environment is not None:
        scene = scene.replace(environment=environment, notes=(*scene.notes, *environment.notes))
    elif scene.environment is not None and options is not None:
        # The suns of a file turn with its objects.
        rotation = scene.environment.rotation + options.rotation
        scene = scene.replace(environment=scene.environment.replace(rotation=rotation))
    stage_names: tuple[str, ...] = ()
    if options is not None:
        # Reading has turned the objects.
        scene, stage_names = _staged(scene, options.replace(up="z"))
    elif file_format.contents == "scene" and scene.is_dark:
        note = f"{path.name}: has no lights, neither an object that emits nor an environment; the picture will be black"
        scene = scene.replace(notes=(*scene.notes, note))
    limit = options.trained.triangles if budget is None and options is not None else budget
    return _resized(scene, limit, subdivide, stage_names)


def _stage_options(path: Path, file_format: Format, stage: str, keywords: dict[str, Any]) -> StageOptions | None:
    """The checked options of a stage; None if the file gets no stage."""
    if file_format.contents == "scene":
        names = [
            *([f"stage {stage!r}"] if stage not in ("auto", "raw") else []),
            *sorted(keywords.keys() - {"trained"}),
        ]
        if names:
            remedy = f"leave it out, a {file_format.name} file is a complete scene"
            raise InputError(path, f"{names[0]} applies to bare meshes only", remedy)
        return None
    if stage == "raw":
        others = sorted(keywords.keys() - {"up", "trained"})
        if others:
            raise InputError(path, f"{others[0]} applies to staged meshes only", "leave out stage 'raw'")
        if "up" not in keywords:
            return None
    from renderformer.data.staging import StageOptions

    options = StageOptions.from_keywords(keywords if stage == "raw" else {"stage": stage, **keywords})
    return None if stage == "raw" else options


def _read(
    path: Path, file_format: Format, up: Literal["auto", "y", "z"] | None, time: float | None, animation: str
) -> Scene:
    if file_format.contents == "scene":
        if time is not None:
            raise InputError(path, f"has no animation, {file_format.name} holds none", "leave out the time")
        scene: Scene = file_format.load().read(path)
        return scene
    from renderformer.data.formats.mesh_file import load_mesh_file

    return load_mesh_file(path, up, time=time, animation=animation)


def _staged(scene: Scene, options: StageOptions) -> tuple[Scene, tuple[str, ...]]:
    """The scene on its stage, and the names of the objects that the stage added."""
    from renderformer.data.staging import stage_scene

    names = {mesh.name for mesh in scene.objects}
    scene = stage_scene(scene, options)
    return scene, tuple(mesh.name for mesh in scene.objects if mesh.name not in names)


def _resized(scene: Scene, budget: int | None, subdivide: bool | float | str, keep: tuple[str, ...]) -> Scene:
    """Simplify all objects but `keep` to the budget, if there is one, then subdivide."""
    from renderformer.data.geometry.simplify import DEFAULT_BUDGET, simplify_scene
    from renderformer.data.geometry.subdivide import subdivide_scene

    if budget is not None:
        scene = simplify_scene(scene, budget, keep)
    if subdivide is False:
        return scene
    most = budget or max(DEFAULT_BUDGET, 2 * len(scene))
    return subdivide_scene(scene, "auto" if subdivide is True else subdivide, most)


def save_scene(
    scene: Scene, path: str | os.PathLike[str], overwrite: bool = True, version: Literal["auto", "1.0"] = "auto"
) -> Losses:
    """Write a scene as .json (with a folder NAME_meshes beside it) or .h5, whole or not at all.

    Args:
        overwrite: whether files that exist are replaced.
        version: of scene JSON; "auto" takes an extension of 1.0 where 1.0 cannot hold the scene, and says so in the
            notes of the result.

    Returns:
        Lines about what the file cannot hold, with counts; empty if reading the file gives the same scene.

    Raises:
        InputError: an unknown suffix, an existing file without `overwrite`, a path that cannot be written, or a scene
            that the format cannot hold.
    """
    path = Path(path)
    suffix = path.suffix.lower()
    if suffix not in SCENE_FORMATS or not format_of(path).writable:
        raise InputError(path, f"{suffix or 'a name without suffix'} is not a scene format", "write .json or .h5")
    if path.exists() and not overwrite:
        raise InputError(path, "exists", "allow overwriting or give another name")
    options = {} if version == "auto" else {"version": version}
    if options and suffix != ".json":
        raise InputError(path, f"version {version} is one of scene JSON", "write .json, or leave it out")
    return Losses.of(format_of(path).load().write(scene, path, overwrite, **options))
