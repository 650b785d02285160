"""One door for every scene and mesh file."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from renderformer.data.errors import InputError
from renderformer.data.scene import Scene

SCENE_FORMATS = {".json": "scene JSON", ".h5": "scene H5", ".hdf5": "scene H5"}


def load_scene(
    path: str | os.PathLike[str], *, budget: int = 4096, stage: str = "auto", **stage_options: Any
) -> Scene:
    """Read any scene or mesh file.

    Scene JSON and scene H5 load as they are. A bare mesh (OBJ, PLY, STL, OFF, GLB, glTF, 3MF) is normalised, set on a
    stage, lit, and given a camera, see `renderformer.data.staging`.

    Args:
        path: the file; its suffix names the format.
        budget: most triangles of a staged scene; above it the mesh is simplified, and the notes say so.
        stage: what a bare mesh is set on, see `StageOptions.stage`; "raw" returns the objects of the file as
            they are: its units, no light, no camera.
        stage_options: further fields of `StageOptions`.

    Returns:
        A Scene whose notes tell everything that was changed.

    Raises:
        InputError: the file is missing, damaged, or holds what the format does not allow; one line with the remedy.
    """
    path = Path(path)
    kind = SCENE_FORMATS.get(path.suffix.lower())
    if kind is not None:
        if stage != "auto" and stage != "raw":
            raise InputError(f"{path}: stage {stage!r} applies to bare meshes; a {kind} file brings its own scene")
        if kind == "scene JSON":
            from renderformer.data.scene_json import read_scene_json

            return read_scene_json(path)
        from renderformer.data.scene_h5 import read_scene_h5

        return read_scene_h5(path)
    from renderformer.data.meshfiles import load_mesh_file

    scene = load_mesh_file(path)
    if stage == "raw":
        return scene
    from renderformer.data.staging import StageOptions, stage_scene

    return stage_scene(scene, StageOptions(stage=stage, budget=budget, **stage_options))
