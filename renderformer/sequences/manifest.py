"""The manifest beside the pictures of a sequence: what they were made of, with hashes, settings and times.

A picture is up to date if its file exists and its key is that of now: a hash of everything that it depends on.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field

from renderformer.data.declared import Declared
from renderformer.data.errors import InputError
from renderformer.data.files import MAX_FILE_BYTES, State, atomic_path, open_input, state_of

# A picture of a run that is not done yet.
UNDONE = ""


class FileRecord(Declared):
    """An input file.

    Attributes:
        size, changed: in bytes, and time of the last change in nanoseconds.
        sha256: of its content; empty if it changed while it was read.
    """

    size: int
    changed: int
    sha256: str


class PictureRecord(Declared):
    """A picture, or a video.

    Attributes:
        key: hash of what it depends on; empty if it is not drawn yet.
        seconds: of drawing it; of a video, of joining it.
        drawn: local time when it was ready, ISO 8601.
    """

    key: str = UNDONE
    seconds: Annotated[float, Field(ge=0)] = 0.0
    drawn: str = ""


class Content(Declared):
    """The content of the file.

    Attributes:
        version: of renderformer, that drew last.
        model: name, digest, device, precision and attention.
        settings: the options of the command that have an effect on the pictures.
        inputs: by path, as given on the command line or in a file.
        sources: files that a mesh or scene file refers to, and itself, by its path.
        stage: that all frames of an animation share (`common_stage`), and a hash of the files that it was measured at.
        pictures: by path from the folder of the manifest.
        videos: by path from the folder of the manifest.
    """

    format: Literal[1] = 1
    version: str = ""
    model: dict[str, str] = {}
    settings: dict[str, Any] = {}
    inputs: dict[str, FileRecord] = {}
    sources: dict[str, tuple[str, ...]] = {}
    stage: dict[str, Any] = {}
    pictures: dict[str, PictureRecord] = {}
    videos: dict[str, PictureRecord] = {}


def digest(value: object) -> str:
    """A hash of a JSON value, 32 hex digits."""
    text = json.dumps(value, sort_keys=True, default=str)
    return hashlib.sha256(text.encode("utf-8", "backslashreplace")).hexdigest()[:32]


class Manifest:
    """A manifest in memory, which `save` writes whole.

    Args:
        path: of the file, which may not exist.

    Raises:
        InputError: the file is damaged.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        content = Content()
        if path.exists():
            with open_input(path, MAX_FILE_BYTES) as stream:
                data = stream.read()
            try:
                content = Content.read(json.loads(data), path)
            except (ValueError, RecursionError) as error:
                problem = error.problem if isinstance(error, InputError) else f"is not JSON ({error})"
                raise InputError(
                    path, problem, "it is no manifest of a sequence; delete it, or give another -o"
                ) from None
        self.version, self.model, self.settings = content.version, content.model, content.settings
        self.inputs, self.sources = dict(content.inputs), dict(content.sources)
        self.stage, self.pictures, self.videos = content.stage, dict(content.pictures), dict(content.videos)

    def save(self) -> None:
        """Write the file."""
        names = Content.model_fields.keys() - {"format"}
        content = Content(**{name: getattr(self, name) for name in names})
        with atomic_path(self.path) as temporary:
            temporary.write_text(json.dumps(content.model_dump(), indent=1) + "\n")

    def name_of(self, path: Path) -> str:
        """A path as the manifest names it."""
        folder = self.path.parent
        return path.relative_to(folder).as_posix() if path.is_relative_to(folder) else path.as_posix()

    def owns(self, path: Path) -> bool:
        """Whether a file is of this or an earlier run."""
        name = self.name_of(path)
        return name in self.pictures or name in self.videos

    def is_current(self, path: Path, key: str) -> bool:
        """Whether a file exists and depends on what the key was made of."""
        record = self.pictures.get(self.name_of(path)) or self.videos.get(self.name_of(path))
        return record is not None and record.key == key != UNDONE and path.is_file()

    def record_files(self, source: Path, files: Mapping[Path, State]) -> None:
        """Remember which files a source was read from, and their hashes.

        Args:
            files: with their states when they were opened.
        """
        for path, state in files.items():
            self._record(path, state)
        self.sources[str(source)] = tuple(sorted(map(str, files)))

    def _record(self, path: Path, state: State) -> None:
        known = self.inputs.get(str(path))
        if known is not None and (known.size, known.changed) == state and known.sha256:
            return
        content = _sha256(path) if state_of(path) == state else ""
        unchanged = state_of(path) == state
        self.inputs[str(path)] = FileRecord(size=state[0], changed=state[1], sha256=content if unchanged else "")

    def hashes(self, source: Path) -> dict[str, str] | None:
        """The hashes by now of the files that a source was last read from; None if that is not known.

        A file of the same size and time of change is not read again.
        """
        names = self.sources.get(str(source))
        if names is None:
            return None
        found = {}
        for name in names:
            state = state_of(Path(name))
            if state is None:
                return None
            self._record(Path(name), state)
            found[name] = self.inputs[name].sha256
        return found if all(found.values()) else None

    def states(self, source: Path) -> list[tuple[Path, State]]:
        """The files that a source was last read from, with their states by then."""
        names = self.sources.get(str(source), ())
        return [(Path(name), (self.inputs[name].size, self.inputs[name].changed)) for name in names]


def _sha256(path: Path) -> str:
    total = hashlib.sha256()
    with open_input(path) as stream:
        while block := stream.read(2**20):
            total.update(block)
    return total.hexdigest()
