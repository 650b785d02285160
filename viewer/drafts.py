"""Pictures that grow while a person waits: rough ones of light that is known already, drawn again pixel by pixel.

A draft has one sample a pixel, at first of every S-th pixel of every S-th row, S being the stride. Each finer stride
divides the one before, and keeps its samples. Indirect light comes straight from the light cache, without a gather.

Shapes: M pixels, h x w picture, h' x w' pixels of a stride. Cameras are in the units of the model.
"""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Executor, Future, wait

import numpy as np

from renderformer.data.arrays import Float32Array, Int64Array
from renderformer.data.camera import Camera
from renderformer.data.environment import Environment
from renderformer.data.geometry.detail import Detail
from renderformer.data.rays.embree import Hits
from renderformer.data.rays.moving import MovingTrees
from renderformer.data.rays.pixels import Pixels
from renderformer.data.rays.raycast import RayCaster, processors
from renderformer.data.rays.specular import specular
from renderformer.data.rays.vectors import normalised
from renderformer.data.scene import DIFFUSE, EMISSION, Scene
from renderformer.image import Image
from renderformer.viewer.frames import Changes
from renderformer.viewer.pieces import LONGEST, TooLong, limited
from renderformer.viewer.watched import Window

# Each stride with the one after it.
FINER = {48: 24, 32: 16, 24: 12, 16: 8, 12: 6, 8: 4, 6: 3, 4: 2, 3: 1, 2: 1}
STRIDES = (1, *sorted(FINER))
# Pixels that one thread draws at once: few leave more to Python than to the processor, 32,768 are four times as fast as
# 4,096; but all threads should have some. Fewer where they take long, at least some.
LEAST_PART, PART, FEW = 4096, 32768, 512
# CPU seconds that a thread should draw at once, at least.
BRIEF = 0.05
# Phases over whose mean the surfels of a triangle blend.
PHASES = 4
# Relative difference of two sums of the same numbers; rows that are worked on at once, to fit the processor's caches.
ROUNDING, ROWS = 1e-5, 64


def _offsets() -> dict[int, int]:
    """For each stride the column and row of its first pixel: near the middle, and on a pixel of the next stride."""
    offsets = {1: 0}
    for stride in STRIDES[1:]:
        places = np.arange(offsets[FINER[stride]], stride, FINER[stride])
        offsets[stride] = int(places[np.abs(places - (stride - 1) / 2).argmin()])
    return offsets


OFFSETS = _offsets()


class Draft:
    """A growing picture of a scene from one camera.

    Args:
        caster: of the scene, with a light cache.
        environment: that is seen behind the objects; None for none.
        width, height: of the picture in pixels.
        stride: of the first pixels; one of `STRIDES`.
        pool: runs the work; the result does not depend on how.
        clock: seconds.

    Attributes:
        stride: of the present pixels.
    """

    def __init__(
        self,
        caster: RayCaster,
        environment: Environment | None,
        camera: Camera,
        width: int,
        height: int,
        stride: int,
        pool: Executor,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._caster, self._environment, self._camera = caster, environment, camera
        self.width, self.height, self.stride = width, height, stride
        self._pool, self._clock = pool, clock
        # CPU seconds of a pixel.
        self._cost = 0.0
        # Since `take_changes`: windows of `radiance` in which pixels are new, None for all of it; and the stride then.
        self._changed: list[Window] | None = None
        self._taken = stride
        rows, columns = self._grid(stride)
        # Apart, as the picture that is shown is of the radiance itself.
        self._radiance, self._coverage = np.zeros((rows, columns, 3), np.float32), np.zeros((rows, columns), np.float32)
        self._todo = np.arange(rows * columns)
        self.grow(math.inf, math.inf, math.inf)

    @staticmethod
    def stride_of(width: int, height: int, most: float) -> int:
        """The least stride with at most so many pixels; the largest one if there is none."""
        fitting = (stride for stride in STRIDES if -(-width // stride) * -(-height // stride) <= most)
        return next(fitting, STRIDES[-1])

    def put(self, x: Int64Array, y: Int64Array, values: Float32Array) -> None:
        """Replace pixels of a finished draft at columns x (M,) and rows y (M,) by radiance and coverage (M, 4)."""
        self._touch(x.min(), y.min(), x.max() + 1, y.max() + 1)
        self._take(y * self.width + x, values)

    def _take(self, index: Int64Array, values: Float32Array) -> None:
        """Set pixels of the present stride, by their number (M,), to radiance and coverage (M, 4)."""
        self._radiance.reshape(-1, 3)[index] = values[:, :3]
        self._coverage.reshape(-1)[index] = values[:, 3]

    @property
    def finished(self) -> bool:
        """Whether every pixel has its sample."""
        return self.stride == 1 and not len(self._todo)

    @property
    def span(self) -> tuple[float, float]:
        """Columns and rows of `radiance` that the picture covers; the last ones in part."""
        return self.width / self.stride, self.height / self.stride

    @property
    def radiance(self) -> Float32Array:
        """(h', w', 3) linear radiance; between samples of the stride before, where there is no sample yet. A view that
        changes as the draft grows."""
        return self._radiance

    @property
    def alpha(self) -> Float32Array | None:
        """(h', w') coverage, where the environment is not what is seen behind; else None."""
        clear = self._environment is not None and self._environment.is_clear
        return self._coverage if clear else None

    @property
    def background(self) -> tuple[float, float, float] | None:
        """The colour behind the objects, if it is one."""
        return None if self._environment is None else self._environment.backdrop

    def grow(self, seconds: float, pace: float, longest: float = LONGEST) -> int:
        """Draw further pixels of the present stride for about so long, at least some; if it has all, only some of the
        next finer one, since going there and showing it take long.

        Args:
            pace: expected pixels a second.
            longest: most CPU seconds of a thread for what it draws at once.

        Returns:
            how many.
        """
        if not len(self._todo):
            self._refine()
            seconds = min(seconds, 0.0)
        end, count, size = self._clock() + seconds, 0, self._part(max(seconds, 0.0), pace)
        running: deque[tuple[Int64Array, Future[Float32Array]]] = deque()
        left: list[Int64Array] = []
        try:
            while running or (count < len(self._todo) and (not count or self._clock() < end)):
                while len(running) < processors() and count < len(self._todo) and (not count or self._clock() < end):
                    piece = self._todo[count : count + size]
                    running.append((piece, self._pool.submit(self._drawn, piece, longest)))
                    count += len(piece)
                piece, drawn = running.popleft()
                values = drawn.result()
                left.append(piece[len(values) :])
                piece = piece[: len(values)]
                self._take(piece, values)
                columns = self._coverage.shape[1]
                self._touch(0, piece[0] // columns, columns, piece[-1] // columns + 1)
        finally:
            # Else what was given up would delay the next picture.
            wait(values for _, values in running)
        self._todo = np.concatenate([*left, self._todo[count:]])
        return count - sum(map(len, left))

    def take_changes(self) -> Changes | None:
        """What has changed since the last call; None for the first one."""
        windows, before = self._changed, self._taken
        self._changed, self._taken = [], self.stride
        if windows is None:
            return None
        return Changes(tuple(windows), self.stride / before, (OFFSETS[self.stride] - OFFSETS[before]) / before)

    def changes_to(self, image: Image) -> Changes | None:
        """As `take_changes`, for a picture that replaces a finished draft: where it differs by more than rounding."""
        if self._changed is None or (image.alpha is None) != (self.alpha is None):
            return None

        def compare(top: int) -> None:
            rows = slice(top, top + ROWS)
            known, new = self._radiance[rows], image.hdr[rows]
            differs = (np.abs(new - known) > ROUNDING * np.abs(known)).any(axis=2)
            if image.alpha is not None:
                differs |= np.abs(image.alpha[rows] - self._coverage[rows]) > ROUNDING
            y, x = np.nonzero(differs)
            if len(x):
                self._touch(x.min(), top + y.min(), x.max() + 1, top + y.max() + 1)

        list(self._pool.map(compare, range(0, self.height, ROWS)))
        return self.take_changes()

    def _touch(self, left: int, top: int, right: int, bottom: int) -> None:
        if self._changed is not None:
            self._changed.append((int(left), int(top), int(right), int(bottom)))

    def _part(self, seconds: float, pace: float) -> int:
        """Pixels that one thread draws at once; all threads draw at most so many in the time that there is."""
        least = min(max(BRIEF / max(self._cost, 1e-9), FEW), LEAST_PART)
        pixels = min(len(self._todo), seconds * pace if seconds else 0.0) / processors()
        return math.ceil(min(max(pixels, least), PART))

    def _grid(self, stride: int) -> tuple[int, int]:
        return -(-self.height // stride), -(-self.width // stride)

    def _refine(self) -> None:
        """Go to the next finer stride: interpolate, and keep the samples."""
        before, known = self.stride, np.concatenate([self._radiance, self._coverage[..., None]], axis=2)
        self.stride = stride = FINER[before]
        rows, columns = self._grid(stride)
        self._radiance, self._coverage = np.empty((rows, columns, 3), np.float32), np.empty((rows, columns), np.float32)

        def widen(top: int) -> None:
            tall = _along(known, range(top, min(top + ROWS, rows)), stride, before, 0)
            part = _along(tall, range(columns), stride, before, 1)
            self._radiance[top : top + ROWS], self._coverage[top : top + ROWS] = part[..., :3], part[..., 3]

        list(self._pool.map(widen, range(0, rows, ROWS)))
        step, first = before // stride, (OFFSETS[before] - OFFSETS[stride]) // stride
        for image, kept in ((self._radiance, known[..., :3]), (self._coverage, known[..., 3])):
            place = image[first::step, first::step]
            place[:] = kept[: place.shape[0], : place.shape[1]]
        new = np.ones((rows, columns), bool)
        new[first::step, first::step] = False
        self._todo = np.flatnonzero(new)
        if self._changed:
            # They are of another stride.
            self._changed = None

    def _drawn(self, piece: Int64Array, longest: float) -> Float32Array:
        """(M', 4) radiance and coverage of pixels by their number (M,) in the picture of the present stride; if all of
        them take too long, of the first ones alone."""
        started, place = time.thread_time(), OFFSETS[self.stride]
        y, x = np.divmod(piece, self._grid(self.stride)[1])
        part = Pixels(self._camera, self.width, self.height, self.stride * x + place, self.stride * y + place)
        try:
            with limited(longest if len(piece) > FEW else math.inf):
                values = shaded(self._caster, self._environment, part)
            self._cost = (time.thread_time() - started) / len(piece)
            return values
        except TooLong:
            return self._drawn(piece[: -(-len(piece) // 4)], longest)


def shaded(caster: RayCaster, environment: Environment | None, part: Pixels) -> Float32Array:
    """(M, 4) radiance of the light cache's picture in the middle of pixels, with one shadow ray a light and the
    environment behind; and coverage."""
    origins, directions = part.rays(1)
    result = np.zeros((len(part), 4), np.float32)
    for hits, materials, share in caster.layers(origins, directions, part.pixel_width):
        light = _light(caster, hits, materials)
        values = np.concatenate([light, np.ones((len(light), 1), np.float32)], axis=1)
        result[hits.rows] += values if share is None else values * share[:, None]
    return behind(result, environment, part)


def _light(caster: RayCaster, hits: Hits, materials: Float32Array) -> Float32Array:
    """(S, 3) radiance of surface points toward the camera."""
    assert caster.cache is not None
    phase = np.zeros(len(hits.rows), np.int64)
    direct, distant = caster.direct(hits, 1, phase), caster.distant(hits, 1, phase)
    light = direct.reflected
    if distant is not None:
        light = light + distant.reflected(hits.normal)
    for number in range(PHASES):
        light = light + caster.cache.irradiance(hits, phase + number) / np.float32(PHASES)
    highlight, reflection = specular(caster, hits, materials, direct, 1, phase, cache=caster.cache, distant=distant)
    radiance: Float32Array = materials[:, EMISSION] + light * materials[:, DIFFUSE] + highlight + reflection
    return radiance


def _along(image: Float32Array, numbers: range, stride: int, before: int, axis: int) -> Float32Array:
    """An image of one stride interpolated along an axis at some places of a finer stride, by their numbers."""
    place = (OFFSETS[stride] - OFFSETS[before] + stride * np.asarray(numbers)) / before
    place = np.clip(place, 0, image.shape[axis] - 1)
    low = np.minimum(place.astype(np.int64), max(image.shape[axis] - 2, 0))
    share = (place - low).astype(np.float32).reshape((-1, 1, 1) if axis == 0 else (1, -1, 1))
    high = np.minimum(low + 1, image.shape[axis] - 1)
    return (1 - share) * image.take(low, axis) + share * image.take(high, axis)


def relit(scene: Scene, known: RayCaster, trees: MovingTrees | None = None) -> RayCaster | None:
    """A caster of an edited scene with the indirect light that is known of the scene before, see `LightCache.on`; None
    where that has another number of triangles, or no light cache. Direct light is exact.

    Args:
        trees: of scenes in which an object moves.
    """
    if known.cache is None:
        return None
    if len(scene) != len(known.triangles):
        # As large triangles were cut.
        scene = Detail.of(scene.triangles).graded(scene)
    if len(scene) != len(known.triangles):
        return None
    same = np.array_equal(known.triangles, scene.triangles)
    caster = RayCaster.of(scene, known.tree if same else None if trees is None else trees.tree(known, scene))
    caster.cache = known.cache.on(caster)
    return caster


def behind(picture: Float32Array, environment: Environment | None, part: Pixels) -> Float32Array:
    """(M, 4) radiance and coverage of pixels with the environment behind the objects, if it is visible."""
    if environment is not None and environment.background == "visible":
        _, directions = part.rays(1)
        open_ = np.flatnonzero(picture[:, 3] < 1)
        toward = normalised(directions[open_])
        picture[open_, :3] += (1 - picture[open_, 3:]) * environment.radiance(toward, part.pixel_width**2)
    return picture
