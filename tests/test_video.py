"""Videos of camera paths."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from renderformer.data.camera_path import View, turntable
from renderformer.data.errors import InputError
from renderformer.image import Image
from renderformer.renderer import Cancelled
from renderformer.video import write_video


def grey(lit: Any, size: tuple[int, int], cameras: Any, progress: Any, cancel: Any) -> Any:
    """A renderer whose pictures get brighter from frame to frame."""
    for number, camera in enumerate(cameras):
        progress("cast rays", 1, 2)
        if cancel is not None and cancel():
            raise Cancelled
        yield Image(np.full((size[1], size[0], 3), (number + 1) / len(cameras), np.float32), camera)


RENDERER: Any = SimpleNamespace(iterate=grey)


def test_a_video_has_every_frame_and_says_what_it_cut(tmp_path: Path) -> None:
    import imageio.v2 as imageio

    path = tmp_path / "turn.mp4"
    done: list[tuple[str, int, int]] = []
    cameras = turntable(View(), 12)
    notes = write_video(
        path,
        RENDERER,
        None,
        cameras,
        (65, 48),
        12,
        "none",
        progress=lambda *now: done.append(now),  # type: ignore[arg-type]
    )
    assert len(notes) == 1
    assert "65 x 48 to 64 x 48" in notes[0]
    assert done[-1] == ("video", 12, 12)
    # Within a picture, too.
    assert done[:2] == [("video", 0, 12), ("video", 1, 12)]
    assert done.count(("video", 5, 12)) == 2
    frames = [np.asarray(frame) for frame in imageio.get_reader(path)]
    assert [frame.shape for frame in frames] == [(48, 64, 3)] * 12
    levels = [frame.mean() for frame in frames]
    assert levels == sorted(levels)
    assert levels[-1] > 250
    assert [item.name for item in tmp_path.iterdir()] == ["turn.mp4"]


def test_a_video_that_is_given_up_or_cannot_be_leaves_no_file(tmp_path: Path) -> None:
    def stop(stage: str, done: int, total: int) -> None:
        raise KeyboardInterrupt

    cameras = turntable(View(), 3)
    with pytest.raises(KeyboardInterrupt):
        write_video(tmp_path / "a.mp4", RENDERER, None, cameras, 32, progress=stop)  # type: ignore[arg-type]
    with pytest.raises(Cancelled):
        write_video(tmp_path / "a.mp4", RENDERER, None, cameras, 32, cancel=lambda: True)  # type: ignore[arg-type]
    for name, frames, message in (
        ("a.avi", cameras, "end the name in .mp4"),
        ("no/a.mp4", cameras, "does not exist"),
        ("a.mp4", [], "needs cameras"),
    ):
        with pytest.raises(InputError, match=message):
            write_video(tmp_path / name, RENDERER, None, frames, 32)  # type: ignore[arg-type]
    assert list(tmp_path.iterdir()) == []


def test_a_video_shows_the_colour_of_the_background(tmp_path: Path) -> None:
    import imageio.v3 as iio

    def covered(lit: Any, size: tuple[int, int], cameras: Any, progress: Any, cancel: Any) -> Any:
        for camera in cameras:
            alpha = np.zeros(size[::-1], np.float32)
            yield Image(np.zeros((size[1], size[0], 3), np.float32), camera, alpha=alpha, background="#ff8000")

    renderer: Any = SimpleNamespace(iterate=covered)
    assert write_video(tmp_path / "a.gif", renderer, None, turntable(View(), 2), (16, 16)) == []  # type: ignore[arg-type]
    assert (iio.imread(tmp_path / "a.gif", plugin="pillow")[0] == (255, 128, 0)).all()


def test_a_video_says_that_it_holds_no_alpha(tmp_path: Path) -> None:
    def clear(lit: Any, size: tuple[int, int], cameras: Any, progress: Any, cancel: Any) -> Any:
        for camera in cameras:
            yield Image(np.zeros((size[1], size[0], 3), np.float32), camera, alpha=np.zeros(size[::-1], np.float32))

    renderer: Any = SimpleNamespace(iterate=clear)
    notes = write_video(tmp_path / "a.mp4", renderer, None, turntable(View(), 3), 32)  # type: ignore[arg-type]
    assert notes == [f"{tmp_path / 'a.mp4'}: a video holds no alpha, the background of 3 pictures is black"]
