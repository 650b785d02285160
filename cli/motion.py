"""The options of a sequence; a wrong value is wrong usage. Imported for `--help`: no NumPy, no torch."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from renderformer.cli import outputs
from renderformer.cli.options import wrong

if TYPE_CHECKING:
    from renderformer.data.camera import Camera
    from renderformer.sequences.frames import FrameRange

sequence_option = functools.partial(typer.Option, rich_help_panel="Sequence")
FPS = 24.0


@dataclass(frozen=True)
class MotionFlags:
    """What moves from frame to frame, and which frames are drawn."""

    turntable: Annotated[
        int | None,
        sequence_option(
            "--turntable", "--orbit", min=1, max=10_000, metavar="N", help="N frames of one turn around the object."
        ),
    ] = None
    camera_path: Annotated[
        Path | None, sequence_option(metavar="FILE", help="Fly along key frames that the viewer saved (JSON).")
    ] = None
    animation: Annotated[
        str | None,
        sequence_option(
            metavar="NAME|INDEX",
            help="Of a glTF file. Without a turn or a path, the first one plays.",
        ),
    ] = None
    time: Annotated[
        float | None, sequence_option(min=0, metavar="SECONDS", help="Pose a glTF file at this time instead.")
    ] = None
    frames: Annotated[
        str | None,
        sequence_option(
            metavar="A..B[/STEP]", help="Which frames, such as 0..119/2; the last is included.", show_default="all"
        ),
    ] = None
    fps: Annotated[
        float | None,
        sequence_option(
            min=0.01, max=1000, metavar="N", help="Frames per second, of videos, paths, animations.", show_default="24"
        ),
    ] = None
    watch: Annotated[bool, sequence_option("--watch", help="Render again when an input changes, until Ctrl-C.")] = False

    def wanted(self, templates: Sequence[str], inputs: Sequence[str]) -> bool:
        """Whether the inputs are drawn as a sequence."""
        from renderformer.sequences.frames import stands_for_files

        moves = self.turntable is not None or self.camera_path is not None or self.frames is not None
        framed = any(outputs.is_video(template) or "frame" in outputs.fields_of(template) for template in templates)
        return moves or framed or any(map(stands_for_files, inputs))

    def check_still(self) -> None:
        """Raise wrong usage for options that have no effect on a picture."""
        if self.fps is not None:
            raise wrong("is for sequences; name a video, or {frame}, with -o", "--fps")
        if self.animation is not None and self.time is None:
            raise wrong("needs --time for a picture; for a sequence name a video, or {frame}, with -o", "--animation")

    def range(self) -> FrameRange:
        """The frames to draw."""
        from renderformer.data.errors import InputError
        from renderformer.sequences.frames import FrameRange

        try:
            return FrameRange() if self.frames is None else FrameRange.parse(self.frames)
        except InputError as error:
            raise wrong(f"{error.problem}; {error.remedy}", "--frames") from None

    def path(self) -> list[Camera]:
        """The cameras of the path, one for each frame; none without a path.

        Raises:
            InputError: a file that cannot be read, or fewer than two keys.
        """
        from renderformer.data.camera_path import CameraPath

        if self.camera_path is None:
            return []
        from renderformer.data.errors import InputError

        try:
            return CameraPath.load(self.camera_path).cameras(self.fps or FPS)
        except InputError as error:
            raise error.at(self.camera_path) from None

    def posed(self) -> dict[str, Any]:
        """Arguments of `load_scene` for a file that rests."""
        if self.time is None:
            return {}
        return {"time": self.time, "animation": self.animation or ""}
