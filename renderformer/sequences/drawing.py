"""Draw the frames of scenes, and encode their files in memory."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

from renderformer.data.camera import Camera
from renderformer.data.errors import InputError
from renderformer.data.progress import Progress, silent
from renderformer.data.scene import Scene
from renderformer.image import Image, SaveSettings
from renderformer.splitting import Splitting

if TYPE_CHECKING:
    from renderformer.renderer import LitScene, Renderer

Size: TypeAlias = tuple[int, int]


@dataclass(frozen=True)
class Style:
    """How pictures are drawn.

    Attributes:
        size: (width, height) in pixels.
        aovs: layers beside the pictures, see `Renderer.render`.
        split_lights: a layer for each light, too, see `Renderer.split`.
    """

    size: Size
    aovs: tuple[str, ...] = ()
    split_lights: bool = False

    def light(self, renderer: Renderer, scene: Scene, progress: Progress = silent) -> Lit:
        """The view-independent stage of a scene.

        Raises:
            InputError: as `Renderer.encode` and `Renderer.split`.
        """
        if self.split_lights:
            splitting = Splitting(renderer, scene, progress=progress)
            return Lit(self, renderer, splitting.lit, splitting)
        return Lit(self, renderer, renderer.encode(scene, progress=progress), None)


@dataclass(frozen=True)
class Lit:
    """A scene that is drawn in a style, from any number of cameras."""

    style: Style
    renderer: Renderer
    scene: LitScene
    splitting: Splitting | None

    @property
    def notes(self) -> tuple[str, ...]:
        """Of the view-independent stage."""
        return self.scene.notes

    def pictures(self, cameras: Sequence[Camera], progress: Progress = silent) -> Iterator[tuple[Image, list[str]]]:
        """The picture of each camera, and notes, one after the other."""
        size, aovs = self.style.size, self.style.aovs
        if self.splitting is None:
            for image in self.renderer.iterate(self.scene, size, cameras, progress, aovs=aovs):
                yield image, []
        else:
            for split in self.splitting.iterate(size, cameras, progress, aovs=aovs):
                yield split.image, [*split.notes, split.summary()]


@dataclass(frozen=True)
class Output:
    """A file of one frame.

    Attributes:
        path: its suffix names the format.
        settings: see `Image.save`.
        opaque: leave out alpha, for a video.
    """

    path: Path
    settings: SaveSettings
    opaque: bool = False

    def encode(self, image: Image) -> tuple[bytes, list[str]]:
        """The bytes of the file, and notes."""
        image = image.suited(self.path)
        if self.opaque and image.is_clear:
            image = replace(image, alpha=None)
        data, notes = image.to_bytes(self.path.suffix, self.settings)
        return data, [f"{self.path}: {note}" for note in notes]


@dataclass(frozen=True)
class Shot:
    """A frame to draw.

    Attributes:
        frame: its position in the list of frames.
        outputs: its files.
    """

    frame: int
    camera: Camera
    outputs: tuple[Output, ...]


@dataclass(frozen=True)
class Scenery:
    """A scene, and the frames that show it."""

    scene: Scene
    shots: tuple[Shot, ...]


@dataclass(frozen=True)
class Drawn:
    """A frame that is ready.

    Attributes:
        files: the content of each of `Shot.outputs`.
        notes: of the files and of the model.
        clear: whether the picture is transparent.
        seconds: of the view stage and of encoding the files.
        problem: why there is no picture, or None.
    """

    shot: Shot
    files: tuple[bytes, ...] = ()
    notes: tuple[str, ...] = ()
    clear: bool = False
    seconds: float = 0.0
    problem: InputError | None = None


def encoded(shot: Shot, image: Image, notes: Iterable[str], started: float) -> Drawn:
    """A frame of its picture.

    Args:
        started: `time.perf_counter()` when drawing began.
    """
    files = [output.encode(image) for output in shot.outputs]
    lines = (*notes, *_noise(image), *(note for _, more in files for note in more))
    seconds = time.perf_counter() - started
    return Drawn(shot, tuple(data for data, _ in files), lines, image.is_clear, seconds)


def _noise(image: Image) -> list[str]:
    """The noise of a path traced picture."""
    noise = image.metadata.get("noise")
    return [f"noise {noise:.2g} of 1 in display values"] if noise else []


def draw(
    renderer: Renderer, style: Style, sceneries: Iterable[Scenery], progress: Progress = silent
) -> Iterator[Drawn]:
    """Draw frames in this process: the view-independent stage once for a scene."""
    for scenery in sceneries:
        done = 0
        try:
            lit = style.light(renderer, scenery.scene, progress)
            cameras = [shot.camera for shot in scenery.shots]
            started = time.perf_counter()
            pictures = lit.pictures(cameras, progress)
            for shot, (image, notes) in zip(scenery.shots, pictures, strict=True):
                yield encoded(shot, image, notes if done else (*lit.notes, *notes), started)
                done += 1
                started = time.perf_counter()
        except InputError as error:
            for shot in scenery.shots[done:]:
                yield Drawn(shot, problem=error)
