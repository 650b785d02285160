"""One door for every scene and mesh file."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from renderformer.data.errors import InputError, one_line
from renderformer.data.geometry.simplify import DEFAULT_BUDGET
from renderformer.data.scene import Scene

# Formats that do not name their vertical axis and whose files often have Y up; STL and 3MF come from printing, Z up.
_MOSTLY_Y_UP = (".obj", ".ply", ".off")
SCENE_FORMATS = {".json": "scene JSON", ".h5": "scene H5", ".hdf5": "scene H5"}


def load_scene(
    path: str | os.PathLike[str],
    *,
    budget: int | None = None,
    subdivide: bool | float | str = False,
    stage: str = "auto",
    **stage_options: Any,
) -> Scene:
    """Read any scene or mesh file.

    Scene JSON and scene H5 load as they are. A bare mesh (OBJ, PLY, STL, OFF, GLB, glTF, 3MF) is normalised, set on a
    stage, lit, and given a camera, see `renderformer.data.staging`.

    Args:
        path: the file; its suffix names the format.
        budget: most triangles of the scene; above it the objects are simplified, and the notes say so. By default 4096
            for a bare mesh, no limit for a scene file.
        subdivide: longest edge that is left whole, in scene units, or True to choose one; False leaves all whole.
        stage: what a bare mesh is set on, see `StageOptions.stage`; "raw" returns the objects of the file as
            they are: its units, no light, no camera.
        stage_options: further fields of `StageOptions`.

    Returns:
        A Scene whose notes tell everything that was changed.

    Raises:
        InputError: the file is missing, damaged, or holds what the format does not allow; an option that does not
            exist, does not apply to the file, or is out of range; one line with the remedy.
    """
    path = Path(path)
    if path.is_dir():
        raise InputError(path, "is a folder", "give a mesh or scene file")
    kind = SCENE_FORMATS.get(path.suffix.lower())
    if kind is None:
        scene, walls = _load_mesh(path, stage, stage_options)
        limit = budget if budget is not None or stage == "raw" else DEFAULT_BUDGET
    else:
        given = [*([f"stage {stage!r}"] if stage not in ("auto", "raw") else []), *sorted(stage_options)]
        if given:
            raise InputError(path, f"{given[0]} applies to bare meshes", f"a {kind} file brings its own scene")
        scene, walls, limit = _load_scene_file(path, kind), (), budget
    return _resized(scene, limit, subdivide, walls)


def _load_scene_file(path: Path, kind: str) -> Scene:
    if kind == "scene JSON":
        from renderformer.data.formats.scene_json import read_scene_json

        return read_scene_json(path)
    from renderformer.data.formats.scene_h5 import read_scene_h5

    return read_scene_h5(path)


def _load_mesh(path: Path, stage: str, stage_options: dict[str, Any]) -> tuple[Scene, tuple[str, ...]]:
    """The scene of a mesh file, and the names of what the stage added to it."""
    from renderformer.data.formats.meshes import load_mesh_file
    from renderformer.data.staging import StageOptions, stage_scene

    # Options are checked before the file is read, which may take a while.
    options = None if stage == "raw" else StageOptions.from_keywords({"stage": stage, **stage_options})
    scene = load_mesh_file(path)
    if options is None:
        if stage_options:
            raise InputError(path, f"{min(stage_options)} applies to a staged mesh", "leave out stage 'raw'")
        return scene, ()
    if path.suffix.lower() in _MOSTLY_Y_UP and "up" not in stage_options:
        # Exporters differ, and turning on a guess would turn what is right.
        hint = f"{path.name}: does not say which axis points up, taken as Z; if it lies on its side, give up y (--up y)"
        scene = scene.replace(notes=(*scene.notes, one_line(hint)))
    own = {mesh.name for mesh in scene.objects}
    scene = stage_scene(scene, options)
    return scene, tuple(mesh.name for mesh in scene.objects if mesh.name not in own)


def _resized(scene: Scene, budget: int | None, subdivide: bool | float | str, keep: tuple[str, ...]) -> Scene:
    from renderformer.data.geometry.simplify import simplify_scene
    from renderformer.data.geometry.subdivide import subdivide_scene

    if budget is not None:
        scene = simplify_scene(scene, budget, keep)
    if subdivide is False:
        return scene
    return subdivide_scene(scene, "auto" if subdivide is True else subdivide, budget or DEFAULT_BUDGET)
