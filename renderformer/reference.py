"""Path-traced pictures by Mitsuba 3, drawn as a `Renderer` draws: same scene, cameras, background and layers."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from renderformer.aovs import checked
from renderformer.buffers import Buffers
from renderformer.data.camera import Camera
from renderformer.data.colour import linear_to_srgb
from renderformer.data.errors import InputError
from renderformer.data.geometry.triangles import face_normals
from renderformer.data.progress import Progress, silent
from renderformer.data.rays.backdrop import composited, coverage
from renderformer.data.rays.raycast import RayCaster, processors
from renderformer.data.scene import Scene
from renderformer.data.sets.mitsuba import ReferenceScene, load_mitsuba
from renderformer.data.unit_size import UnitSize
from renderformer.image import Image

# Longest path in segments: closed rooms lose a fifth of their light at 5.
DEPTH = 16
# Samples of a pixel that are drawn at once, and how often at least, so that their differences tell the noise.
TOGETHER, PARTS = 64, 4


@dataclass(frozen=True, eq=False)
class TracedScene:
    """A scene in Mitsuba, for any number of cameras.

    Attributes:
        scene: its cameras are the default ones.
        notes: how its pictures differ from those of a `Renderer`.
    """

    scene: Scene
    mitsuba: ReferenceScene
    notes: tuple[str, ...] = ()


class PathTracer:
    """Draws scenes by path tracing, on the CPU.

    Args:
        spp: samples per pixel, at least; the sampler takes products of two near numbers only.
        depth: longest path in segments: 1 shows only emission, 2 adds direct light, and so on.
        seed: another one gives independent noise.

    Raises:
        InputError: Mitsuba is not installed, or a number that is not positive.
    """

    name, device, precision, attention = "Mitsuba", "cpu", "fp32", "none"

    def __init__(self, spp: int = 256, depth: int = DEPTH, seed: int = 0) -> None:
        if spp < 1 or depth < 1 or seed < 0:
            raise InputError("reference", f"spp {spp}, depth {depth}, seed {seed}", "expected positive numbers")
        load_mitsuba(processors())
        self.depth, self.seed = depth, seed
        self.parts = min(spp, max(PARTS, -(-spp // TOGETHER)))
        self.share = _kept(-(-spp // self.parts))

    @property
    def digest(self) -> str:
        """Text that tells all that its pictures depend on."""
        import mitsuba

        return f"Mitsuba {mitsuba.__version__} spp {self.spp} depth {self.depth} seed {self.seed}"

    @property
    def spp(self) -> int:
        """Samples of a pixel in all."""
        return self.parts * self.share

    def check(self, scene: Scene) -> list[str]:
        """No warnings: nothing was trained."""
        return []

    def encode(self, scene: Scene, progress: Progress | None = None) -> TracedScene:
        """Hand a scene to Mitsuba.

        Raises:
            InputError: what Mitsuba cannot draw, see `ReferenceScene`.
        """
        return TracedScene(scene, ReferenceScene(scene, self.depth, processors()), _in_the_way(scene))

    def iterate(
        self,
        lit: TracedScene,
        resolution: tuple[int, int],
        cameras: Sequence[Camera],
        progress: Progress | None = None,
        aovs: Sequence[str] = (),
    ) -> Iterator[Image]:
        """Draw the pictures of cameras one after the other.

        Args:
            resolution: (width, height) in pixels.
            progress: called with ("trace paths", samples done, samples of all pictures).
            aovs: as of `Renderer.render`; `indirect` is what path tracing finds more than the cast rays.

        Yields:
            Images whose metadata have "spp" and "noise": its standard deviation in display values (0 … 1), root mean
            square over the pixels, estimated from the samples; without it at 1 sample.
        """
        report, names = progress or silent, checked(aovs)
        for number, camera in enumerate(cameras):
            halves = np.zeros((2, resolution[1], resolution[0], 3))
            for part in range(self.parts):
                report("trace paths", number * self.spp + part * self.share, len(cameras) * self.spp)
                seed = self.seed * self.parts + part
                halves[part % 2] += lit.mitsuba.render(camera, *resolution, self.share, seed)
            yield self._image(lit.scene, camera, halves, names)

    def _image(self, scene: Scene, camera: Camera, halves: np.ndarray, aovs: tuple[str, ...]) -> Image:
        """The mean of the samples, whose sums of the even and the odd parts are (2, h, w, 3)."""
        traced = (halves.sum(axis=0) / self.parts).astype(np.float32)
        metadata: dict[str, str | float] = {"model": self.name, "spp": self.spp, "depth": self.depth}
        if self.parts > 1:
            odd = self.parts // 2
            metadata["noise"] = _noise(halves[0] / (self.parts - odd), halves[1] / odd)
        unit = UnitSize.of(scene)
        caster = RayCaster.of(unit.scene(scene)) if aovs or scene.environment is not None else None
        alpha, seen, size = None, np.zeros_like(traced), (traced.shape[1], traced.shape[0])
        if caster is not None and scene.environment is not None:
            covered = coverage(caster, unit.camera(camera), *size)
            seen, alpha = composited(seen, covered, scene.environment, camera)
        buffers = Buffers(aovs, scene, unit, caster)
        backdrop = None if scene.environment is None else scene.environment.backdrop
        image = Image(traced, camera, metadata | buffers.metadata, alpha, background=backdrop)
        if not aovs:
            return image
        return replace(image, layers=buffers.layers(camera, size, None, traced - seen, image.on_background(seen)))


def _in_the_way(scene: Scene) -> tuple[str, ...]:
    """A line about objects of which a camera faces a side that it should not see."""
    names: set[str] = set()
    for camera in scene.cameras:
        for mesh in (mesh for mesh in scene.objects if mesh.camera_sides != "both"):
            toward = (face_normals(mesh.triangles) * (camera.position - mesh.triangles[:, 0])).sum(axis=1)
            if mesh.camera_sides == "none" or (toward < 0).any():
                names.add(mesh.name)
    if not names:
        return ()
    return (f"{', '.join(sorted(names))}: hidden from cameras, but Mitsuba draws it",)


def _kept(count: int) -> int:
    """The least number of samples from `count` on that Mitsuba's multijitter sampler does not round up."""
    rows = math.isqrt(count)
    return rows * -(-count // rows)


def _noise(first: np.ndarray, second: np.ndarray) -> float:
    """Standard deviation of the mean of two pictures (h, w, 3) with independent noise, in display values."""
    shown = (linear_to_srgb(np.clip(half, 0, 1)) for half in (first, second))
    return float(np.sqrt((np.subtract(*shown) ** 2).mean()) / 2)
