"""A model compared with path tracing in equal time, with and without a denoiser.

Time is the CPU time of this process, with one thread for torch, ray casting, Mitsuba and OIDN. So other processes on a
busy machine do not count. The time to prepare the scene counts, the time to load programs and weights does not.

Mitsuba runs as `scalar_rgb` with the sampler and the path length of the references. It has other seeds, since equal
seeds would repeat the noise of the reference. Its sample count is the nearest valid one to the model's time; the report
shows the measured time.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import torch

from renderformer.data.arrays import Float32Array, Float64Array, UInt8Array
from renderformer.data.errors import InputError
from renderformer.data.progress import Progress, silent
from renderformer.data.scene import Scene
from renderformer.data.sets.manifest import Recipe
from renderformer.data.sets.mitsuba import ReferenceScene, load_mitsuba
from renderformer.data.sets.shards import ShardReader
from renderformer.evaluation.metrics import display_bytes, flip, psnr, ssim
from renderformer.renderer import Renderer

T = TypeVar("T")

# Pictures per preparation of the scene: one, and a short camera move.
VIEWS = (1, 8)
# Samples of the denoiser's albedo and normals, a separate pass, since Mitsuba is three times as slow when it makes them
# with the picture. Fewer samples gave no gain (one scene at 256 px).
GUIDE_SPP = 4
PILOT_SPP = 4
# The references have small seeds.
SEED = 1000
RIVALS = ("mitsuba", "mitsuba_oidn", "mitsuba_oidn_guided")


@dataclass(frozen=True)
class Contest:
    """Cost and quality of one picture, for S scenes.

    Attributes:
        views: pictures that share the preparation of the scene.
        results: (S,) for "model" and each of RIVALS: "seconds" of CPU time per picture, "spp" (0 for the model),
            "psnr", "ssim" and "flip".
        pictures: (S, h, w, 3) uint8 display values of "reference", "model" and each of RIVALS.
    """

    views: int
    results: dict[str, dict[str, Float64Array]]
    pictures: dict[str, UInt8Array]


class Denoiser:
    """Intel's Open Image Denoise, on one thread of the CPU.

    Raises:
        InputError: pyoidn is not installed, or fails on this machine.
    """

    def __init__(self) -> None:
        try:
            import pyoidn
        except ImportError:
            remedy = "pip install 'renderformer[denoise]'"
            raise InputError("OIDN", "pyoidn is not installed", remedy) from None
        self._oidn = pyoidn
        self._device = pyoidn.Device(pyoidn.OIDN_DEVICE_TYPE_CPU)
        self._device.set_int("numThreads", 1)
        # By default OIDN binds the calling thread to a core.
        self._device.set_bool("setAffinity", False)
        self._device.commit()
        self._check()

    def __call__(self, picture: Float32Array, guides: tuple[Float32Array, Float32Array] | None = None) -> Float32Array:
        """Denoise a picture (h, w, 3) of linear radiance; `guides` are its albedo and normals, (h, w, 3) each."""
        oidn = self._oidn
        denoised = np.zeros_like(picture, order="C")
        images = {oidn.OIDN_IMAGE_COLOR: picture, oidn.OIDN_IMAGE_OUTPUT: denoised}
        if guides is not None:
            images |= {oidn.OIDN_IMAGE_ALBEDO: guides[0], oidn.OIDN_IMAGE_NORMAL: guides[1]}
        images = {name: np.ascontiguousarray(image, np.float32) for name, image in images.items()}
        with oidn.Filter(self._device, oidn.OIDN_FILTER_TYPE_RT) as denoiser:
            for name, image in images.items():
                denoiser.set_image(name, image, oidn.OIDN_FORMAT_FLOAT3)
            denoiser.set_bool("hdr", True)
            denoiser.commit()
            denoiser.execute()
        self._check()
        return denoised

    def _check(self) -> None:
        error = self._device.get_error()
        if error is not None:
            raise InputError("OIDN", error, "leave out --compare-mitsuba")


def timed(run: Callable[[], T]) -> tuple[T, float]:
    """The result of a call, and its CPU seconds."""
    start = time.process_time()
    result = run()
    return result, time.process_time() - start


def samples_for(seconds: float, per_sample: float) -> int:
    """The sample count nearest to `seconds`, at least 1, among the products of two near numbers that Mitsuba's
    multijitter sampler does not round."""
    ideal = max(1.0, seconds / max(per_sample, 1e-9))
    rows = math.isqrt(int(ideal))
    counts = (rows**2, rows * (rows + 1), rows * (rows + 2), (rows + 1) ** 2)
    return min(counts, key=lambda count: abs(math.log(count / ideal)))


def compare(renderer: Renderer, reader: ShardReader, count: int, progress: Progress = silent) -> list[Contest]:
    """Compare methods on the first view of the first `count` scenes, at the resolution of the data.

    Returns:
        A Contest for each of VIEWS.

    Raises:
        InputError: Mitsuba or OIDN is not installed.
    """
    load_mitsuba()
    # Imported data has no path length.
    depth = reader.recipe.depth or Recipe().depth
    denoise, size = Denoiser(), reader.recipe.resolution
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    races, references = [], []
    try:
        # The first picture of a process takes longer.
        scene = reader.scene(0).to_scene()
        race(renderer, denoise, scene, 16, depth)
        renderer.render(scene, size, scene.cameras[0])
        for i in range(count):
            arrays = reader.scene(i)
            races.append(race(renderer, denoise, arrays.to_scene(), size, depth))
            references.append(arrays.hdr[0].astype(np.float32))
            progress("equal time", i + 1, count)
    finally:
        torch.set_num_threads(threads)
    return [_contest(views, [race[views] for race in races], np.stack(references)) for views in VIEWS]


def _contest(views: int, scenes: list[dict[str, Entry]], references: Float32Array) -> Contest:
    truth = torch.from_numpy(references)
    results, pictures = {}, {"reference": display_bytes(truth)}
    for method in scenes[0]:
        entries = [scene[method] for scene in scenes]
        drawn = torch.from_numpy(np.stack([entry.picture for entry in entries]))
        results[method] = {
            "seconds": np.array([entry.seconds for entry in entries]),
            "spp": np.array([float(entry.spp) for entry in entries]),
            "psnr": psnr(drawn, truth).double().numpy(),
            "ssim": ssim(drawn, truth).double().numpy(),
            "flip": flip(drawn, truth).mean(axis=(1, 2), dtype=np.float64),
        }
        pictures[method] = display_bytes(drawn)
    return Contest(views, results, pictures)


@dataclass(frozen=True)
class Entry:
    """One picture of one method, with its cost."""

    picture: Float32Array
    seconds: float
    spp: int = 0


class _PathTracer:
    """Mitsuba with one scene and its first camera, and the CPU seconds of its parts."""

    def __init__(self, scene: Scene, depth: int, size: int, denoise: Denoiser) -> None:
        self._camera, self._size, self._denoise = scene.cameras[0], size, denoise
        self._scene, self._loading = timed(lambda: ReferenceScene(scene, depth))
        self._guides, self._guiding = timed(lambda: self._scene.guides(self._camera, size, size, GUIDE_SPP, SEED))
        pilot, seconds = timed(lambda: self._render(PILOT_SPP))
        self._per_sample = seconds / PILOT_SPP
        self._denoising = timed(lambda: denoise(pilot, self._guides))[1]

    def _render(self, spp: int) -> Float32Array:
        return self._scene.render(self._camera, self._size, self._size, spp, SEED)

    def entry(self, rival: str, budget: float, views: int) -> Entry:
        """The picture of one of RIVALS in about `budget` CPU seconds per picture."""
        fixed = self._loading / views
        if rival == "mitsuba":
            spp = samples_for(budget - fixed, self._per_sample)
            picture, seconds = timed(lambda: self._render(spp))
            return Entry(picture, fixed + seconds, spp)
        guides = None
        if rival == "mitsuba_oidn_guided":
            guides, fixed = self._guides, fixed + self._guiding
        spp = samples_for(budget - fixed - self._denoising, self._per_sample)
        picture, seconds = timed(lambda: self._denoise(self._render(spp), guides))
        return Entry(picture, fixed + seconds, spp)


def race(
    renderer: Renderer, denoise: Denoiser, scene: Scene, size: int, depth: int, counts: Sequence[int] = VIEWS
) -> dict[int, dict[str, Entry]]:
    """The pictures of every method, "model" and RIVALS, from the first camera of a scene.

    Args:
        size: edge in pixels; depth: longest path in segments.
        counts: of pictures that share the preparation of the scene; the result has the entries of each.
    """
    lit, preparing = timed(lambda: renderer.encode(scene))
    picture, drawing = timed(lambda: renderer.render(lit, size, scene.cameras[0])[0].hdr)
    tracer = _PathTracer(scene, depth, size, denoise)
    results = {}
    for views in counts:
        budget = preparing / views + drawing
        rivals = {rival: tracer.entry(rival, budget, views) for rival in RIVALS}
        results[views] = {"model": Entry(picture, budget), **rivals}
    return results
