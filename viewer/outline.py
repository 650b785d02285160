"""Where an object is in the picture, for an outline of what is selected: rays against the object alone, so that it
follows camera and drags at once, and shows what is hidden behind others.

Legend: S cells of a grid over the part of the picture that the object may cover.
"""

from __future__ import annotations

import time
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from PIL import Image as Pillow
from PIL import ImageFilter

from renderformer.data.arrays import BoolArray, Float32Array, Float64Array
from renderformer.data.rays.tree import Tree
from renderformer.data.scene import Mesh
from renderformer.viewer.document import Item
from renderformer.viewer.gizmo import Lens

# Half a line in pixels, and pixels over which the shape is softened to draw it smoothly.
HALF, SOFT = 1.3, 5
# Seconds that rays may take while something moves, and when it rests; rays a second before any were cast.
SECONDS, RESTING, PACE = 0.02, 0.2, 2e6
# Coarsest cells in pixels.
COARSEST = 6
# Corners of a mesh of which the bounds in the picture are taken; of a larger one, those of its box.
CORNERS = 30_000
# Triangles up to which the tree is built at once, and not on a thread.
AT_ONCE = 20_000


@dataclass(frozen=True, eq=False)
class Outline:
    """A line around an object in a part of the picture.

    Attributes:
        left, top: of the part, in pixels.
        cover: (h, w) float32 share of each pixel that the line covers.
    """

    left: int
    top: int
    cover: Float32Array


class Outliner:
    """Outlines of one object after the other; keeps what was computed of the last one."""

    def __init__(self) -> None:
        self._shape: _Shape | None = None
        # The last outline and what it is of.
        self._known: tuple[tuple[object, ...], Outline] | None = None
        self._pool = ThreadPoolExecutor(1, "renderformer-outline")
        # Rays a second.
        self._pace = PACE

    def close(self) -> None:
        self._pool.shutdown(cancel_futures=True)

    @property
    def pending(self) -> bool:
        """Whether the outline of the last object waits for its tree."""
        return self._shape is not None and not self._shape.tree.done()

    def outline(self, item: Item, lens: Lens, resting: bool = True) -> Outline | None:
        """The outline of an object; None where it is not in the picture, or while its tree is being built.

        Args:
            resting: whether it may take longer and be finer.
        """
        key = item, lens.camera, lens.width, lens.height, resting
        if self._known is not None and self._known[0] == key:
            return self._known[1]
        if self._shape is None or self._shape.mesh is not item.base:
            self._shape = _Shape(item.base, self._pool)
        bounds = self._shape.bounds(item, lens)
        if bounds is None or not self._shape.tree.done():
            return None
        left, top, right, bottom = bounds
        step = self._step((right - left) * (bottom - top), RESTING if resting else SECONDS)
        columns, rows = -(-(right - left) // step), -(-(bottom - top) // step)
        x, y = np.meshgrid(left + step * (np.arange(columns) + 0.5), top + step * (np.arange(rows) + 0.5))
        started = time.perf_counter()
        inside = self._shape.met(item, lens, x.reshape(-1), y.reshape(-1)).reshape(rows, columns)
        self._pace = (self._pace + inside.size / max(time.perf_counter() - started, 1e-6)) / 2
        outline = Outline(left, top, _line(inside, step)[: bottom - top, : right - left])
        self._known = key, outline
        return outline

    def _step(self, pixels: int, seconds: float) -> int:
        """Side of the cells, so that rays against them take so long."""
        return int(np.clip(np.ceil(np.sqrt(pixels / max(self._pace * seconds, 1.0))), 1, COARSEST))


class _Shape:
    """A mesh before its placement, near the origin whatever its unit.

    Attributes:
        tree: of its triangles, built on a thread of `pool` if it takes long.
    """

    def __init__(self, mesh: Mesh, pool: ThreadPoolExecutor) -> None:
        self.mesh = mesh
        low, high = mesh.bounds.astype(np.float64)
        self._middle, self._size = (low + high) / 2, max(float((high - low).max()), 1e-30)
        triangles = np.ascontiguousarray((mesh.triangles - self._middle) / self._size, np.float32)
        # Where it may be seen.
        self._corners = mesh.triangles.reshape(-1, 3).astype(np.float64)
        if len(self._corners) > CORNERS:
            self._corners = np.array([np.where([i & 1, i & 2, i & 4], high, low) for i in range(8)])
        self.tree: Future[Tree]
        if len(mesh) > AT_ONCE:
            self.tree = pool.submit(Tree, triangles)
        else:
            self.tree = Future()
            self.tree.set_result(Tree(triangles))

    def bounds(self, item: Item, lens: Lens) -> tuple[int, int, int, int] | None:
        """Left, top, right and bottom in pixels of the part of a picture that holds the placed mesh and a little around
        it; None where there is nothing."""
        matrix, width, height = item.matrix, int(lens.width), int(lens.height)
        pixels, depth = lens.project(self._corners @ matrix[:3, :3].T + matrix[:3, 3])
        if not (depth > 0).any():
            return None
        if (depth <= 0).any():
            # It may go on anywhere beside the camera.
            return 0, 0, width, height
        left, top = np.clip(np.floor(pixels.min(axis=0)) - SOFT, 0, (width, height)).astype(int).tolist()
        right, bottom = np.clip(np.ceil(pixels.max(axis=0)) + SOFT, 0, (width, height)).astype(int).tolist()
        return (left, top, right, bottom) if right > left and bottom > top else None

    def met(self, item: Item, lens: Lens, x: Float64Array, y: Float64Array) -> BoolArray:
        """(S,) whether the rays through pixels meet the placed mesh."""
        back = np.linalg.inv(item.matrix)
        origin = (back[:3, :3] @ lens.camera.position + back[:3, 3] - self._middle) / self._size
        directions = back[:3, :3] @ lens.camera.rays(x, y, lens.width, lens.height)
        directions /= np.linalg.norm(directions, axis=0)
        origins = np.tile(origin.astype(np.float32), (len(x), 1))
        return self.tree.result().met(origins, np.ascontiguousarray(directions.T, np.float32))


def _line(inside: BoolArray, step: int) -> Float32Array:
    """(h, w) share of each pixel that a line around cells (rows, columns) of so many pixels on a side covers."""
    rows, columns = inside.shape
    side = max(SOFT, 2 * step + 1)
    shape = Pillow.fromarray(inside).convert("L")
    shape = shape.resize((columns * step, rows * step), Pillow.Resampling.BILINEAR)
    # Over a straight edge, the mean of a square rises evenly from 0 to 1 within its side.
    soft = np.asarray(shape.filter(ImageFilter.BoxBlur((side - 1) / 2)), np.float32) / 255
    cover: Float32Array = np.clip(HALF + 0.5 - np.abs(soft - 0.5) * side, 0, 1)
    return cover
