"""The frames of a sequence: inputs in order, times, cameras, and the range that is drawn."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from renderformer.data.camera_path import MAX_FRAMES
from renderformer.data.errors import InputError
from renderformer.data.formats import MESH_FORMATS, SCENE_FORMATS

_PATTERN = re.compile(r"[*?]|\[.+\]")


@dataclass(frozen=True)
class FrameRange:
    """Some of the frames: from the first to the last, which is included, every `step`-th.

    Attributes:
        last: None for the last of the sequence.
    """

    first: int = 0
    last: int | None = None
    step: int = 1

    @classmethod
    def parse(cls, text: str) -> FrameRange:
        """The range of "0..119", "0..119/2", "10.." or "7".

        Raises:
            InputError: other text, or a range without frames; its place is empty.
        """
        match = re.fullmatch(r"(\d{1,6})(\.\.(\d{1,6})?)?(?:/(\d{1,6}))?", text.strip())
        if match is None:
            raise InputError("", f"{text!r} is not a range of frames", "write 0..119, 0..119/2, 10.. or 7")
        first, last = int(match[1]), int(match[3]) if match[3] else None
        last, step = (last if match[2] else first), int(match[4] or 1)
        if step < 1 or (last is not None and last < first):
            raise InputError("", f"{text!r} holds no frames", "write the lower number first, and a step of 1 or more")
        return cls(first, last, step)

    def numbers(self, count: int) -> range:
        """The numbers of the frames, of `count` frames from 0.

        Raises:
            InputError: a frame that does not exist; its place is empty.
        """
        last = count - 1 if self.last is None else self.last
        if self.first >= count or last >= count:
            problem = f"frame {max(self.first, last)} does not exist"
            raise InputError("", problem, f"the frames are 0 … {count - 1}" if count > 1 else "there is frame 0 alone")
        return range(self.first, last + 1, self.step)


@dataclass(frozen=True)
class Frame:
    """One frame.

    Attributes:
        number: in the sequence, from 0.
        source: the scene or mesh file that it shows.
        time: in the animation of the file, in seconds; None for the file as it is.
        camera: index of the camera, among those that are chosen for its scene.
    """

    number: int
    source: Path
    time: float | None = None
    camera: int = 0


@dataclass(frozen=True)
class Kind:
    """What files of a folder or a pattern are taken.

    Attributes:
        name: for messages.
        suffixes: of the files.
    """

    name: str
    suffixes: tuple[str, ...]

    def takes(self, path: Path) -> bool:
        """Whether a path is such a file, and neither hidden nor a manifest."""
        hidden = path.name.startswith(".") or path.name.endswith("manifest.json")
        return path.suffix.lower() in self.suffixes and path.is_file() and not hidden


SCENES = Kind("mesh or scene", (*MESH_FORMATS, *SCENE_FORMATS))


def expand_inputs(inputs: Sequence[str], kind: Kind = SCENES) -> list[Path]:
    """The files that inputs name: files, folders of meshes or scenes, and patterns such as "meshes/*.obj".

    Files of a folder or pattern are in the order of the numbers in their names.

    Args:
        kind: of the files, if not meshes and scenes.

    Raises:
        InputError: a folder or pattern without such files, or a folder with files of several formats.
    """
    files: list[Path] = []
    for item in inputs:
        path = Path(item)
        if path.is_dir():
            files += files_of_folder(path, kind)
        elif _PATTERN.search(item) and not path.exists():
            files += _of_pattern(item, kind)
        else:
            files.append(path)
    if len(files) > MAX_FRAMES:
        raise InputError("", f"{len(files):,} inputs, at most {MAX_FRAMES:,}", "draw them in parts")
    return files


def stands_for_files(item: str) -> bool:
    """Whether an input is a folder or a pattern."""
    return Path(item).is_dir() or bool(_PATTERN.search(item) and not Path(item).exists())


def files_of_folder(folder: Path, kind: Kind = SCENES) -> list[Path]:
    """The files of a folder, see `expand_inputs`."""
    found = [path for path in folder.iterdir() if kind.takes(path)]
    suffixes = sorted({path.suffix.lower() for path in found})
    if not found:
        raise InputError(folder, f"holds no {kind.name} files", f"it may hold {', '.join(kind.suffixes)}")
    if len(suffixes) > 1:
        remedy = f"give a pattern, such as '{folder}/*{suffixes[0]}'"
        raise InputError(folder, f"holds {' and '.join(suffixes)} files", remedy)
    return sorted(found, key=_natural)


def _of_pattern(pattern: str, kind: Kind) -> list[Path]:
    # Relative to the first part without wildcards, since pathlib has no absolute patterns.
    parts = Path(pattern).parts
    fixed = next(index for index, part in enumerate(parts) if _PATTERN.search(part))
    root = Path(*parts[:fixed])
    try:
        found = [path for path in root.glob(str(Path(*parts[fixed:]))) if kind.takes(path)]
    except ValueError as error:
        raise InputError(pattern, f"is not a pattern ({error})", "write folder/*.obj") from None
    if not found:
        raise InputError(pattern, f"matches no {kind.name} file", "check the path")
    return sorted(found, key=_natural)


def _natural(path: Path) -> list[tuple[int, int, str]]:
    """Sorts frame_9 before frame_10."""
    parts = re.split(r"(\d+)", str(path))
    return [(0, int(part), part) if part.isdecimal() else (1, 0, part) for part in parts]


def plan_frames(
    sources: Sequence[Path],
    times: Sequence[float],
    cameras: int,
    turning: bool,
    every_camera: bool = False,
    chosen: FrameRange = FrameRange(),  # noqa: B008 - frozen
) -> list[Frame]:
    """The frames of a sequence.

    The longest of inputs, animation, turn and camera path decides how many there are; the others start over.

    Args:
        sources: the files; several are one frame each.
        times: of the frames of the animation in a single file; empty without one.
        cameras: how many cameras a scene has: those of a turn or a path, or those that were chosen.
        turning: whether the cameras are those of a turn or a path, one for each frame.
        every_camera: draw each frame from every chosen camera, not from the first alone.
        chosen: which of them.

    Raises:
        InputError: a frame that does not exist, or too many frames.
    """
    shown = max(len(sources), len(times))
    # A scene that does not move shows one camera in each frame.
    through = turning or shown == 1
    count = max(shown, cameras) if through else shown
    if count > MAX_FRAMES:
        raise InputError("", f"{count:,} frames, at most {MAX_FRAMES:,}", "make it shorter")
    frames = []
    for number in chosen.numbers(count):
        source = sources[number % len(sources)]
        time = times[number % len(times)] if times else None
        views = [number % cameras] if through else range(cameras if every_camera else 1)
        frames += [Frame(number, source, time, view) for view in views]
    return frames
