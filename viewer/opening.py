"""What a session opens: scenes and meshes, pictures to compare with, environments, key frames."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from renderformer.data.camera_path import KEYS_SUFFIX, CameraPath
from renderformer.data.trained_range import TrainedRange
from renderformer.data.unit_size import UnitSize
from renderformer.image import IMAGE_SUFFIXES
from renderformer.renderer import Cancelled
from renderformer.viewer.display import Reference
from renderformer.viewer.fingerprints import fingerprint

if TYPE_CHECKING:
    from renderformer.data.scene import Scene
    from renderformer.renderer import Cancel
    from renderformer.viewer.session import Session

# A picture in this format is of all directions; one in EXR may be any.
ENVIRONMENT_SUFFIX = ".hdr"


def load(path: str | os.PathLike[str], trained: TrainedRange) -> Scene:
    """A scene from a file. A bare mesh gets a stage without walls, which would hide it as the camera turns, and a
    camera that fits from all sides; for a model of the range `trained`.

    Raises:
        InputError: as `load_scene`.
    """
    from renderformer.data.formats import SCENE_FORMATS, load_scene

    if Path(path).suffix.lower() in SCENE_FORMATS:
        return load_scene(path, trained=trained)
    return load_scene(path, trained=trained, all_around=True)


def open_file(session: Session, path: Path, cancel: Cancel | None) -> tuple[str, list[str]]:
    """See `Session.open`."""
    if path.suffix.lower() == ENVIRONMENT_SUFFIX:
        return "neural", session.open_environment(path, cancel)
    if path.suffix.lower() in IMAGE_SUFFIXES:
        session.reference = Reference.load(path)
        return "difference", []
    if path.name.lower().endswith(KEYS_SUFFIX):
        keys = CameraPath.load(path)
        session.edit_tour(f"open {path.name}", lambda: setattr(session, "key_frames", keys))
        session.mark_saved(path.name, session.version)
        return "neural", []
    scene = load(path, session.renderer.config.trained)
    if cancel is not None and cancel():
        raise Cancelled
    # Hashed and measured before the lock is taken, for which the front end waits.
    fingerprint(scene)
    unit = UnitSize.of(scene, TrainedRange().box)
    with session.lock:
        session.document.open(scene)
        session.start_at(scene.cameras, unit)
        session.request()
        return "neural", session.notes
