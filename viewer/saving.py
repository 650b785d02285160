"""What a session saves: scene, picture, lights, video, key frames."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from renderformer.data.camera_path import KEYS_SUFFIX, turntable
from renderformer.data.files import check_place
from renderformer.image import IMAGE_SUFFIXES
from renderformer.split import LIGHTS_SUFFIX
from renderformer.video import VIDEO_SUFFIXES, write_video

if TYPE_CHECKING:
    from renderformer.data.progress import Progress
    from renderformer.renderer import Cancel
    from renderformer.viewer.session import Session

# Frames per second of every video.
FPS = 24.0


def save(
    session: Session, path: Path, progress: Progress | None, cancel: Cancel | None, turn: float, mark: bool
) -> list[str]:
    """See `Session.save`."""
    version = session.version
    if path.name.lower().endswith(LIGHTS_SUFFIX):
        check_place(path)
        return session.split(progress, cancel).save(path, session.exposure)
    if path.suffix.lower() in IMAGE_SUFFIXES:
        check_place(path)
        tone_map, exposure = session.tone_map, session.exposure
        return session.render(progress, cancel).save(path, tone_map=tone_map, exposure=exposure)
    if path.name.lower().endswith(KEYS_SUFFIX):
        session.key_frames.save(path)
        if mark:
            session.mark_saved(path.name, version)
        return []
    if path.suffix.lower() in VIDEO_SUFFIXES:
        return _save_video(session, path, turn, progress, cancel)
    return _save_scene(session, path, mark)


def _save_scene(session: Session, path: Path, mark: bool) -> list[str]:
    with session.lock:
        version, scene, camera = session.version, session.result(), session.orbit.camera
        hidden = sum(not item.visible for item in session.document.items)
    others = [other for other in scene.cameras if other is not camera]
    lost = scene.replace(cameras=(camera, *others)).save(path)
    notes = [*lost.notes, *lost]
    if hidden:
        return [*notes, f"{hidden} hidden objects were left out"]
    if mark:
        session.mark_saved(path.name, version)
    return notes


def _save_video(
    session: Session, path: Path, turn: float, progress: Progress | None, cancel: Cancel | None
) -> list[str]:
    with session.lock:
        scene, view, size = session.document.scene, session.orbit.view, session.size
        tone_map, exposure = session.tone_map, session.exposure
        cameras = turntable(view, max(1, round(turn * FPS))) if turn else session.key_frames.cameras(FPS)
    lit = session.scheduler.lit(scene) or scene
    return write_video(path, session.renderer, lit, cameras, size, FPS, tone_map, exposure, progress, cancel)
