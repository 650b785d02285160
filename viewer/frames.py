"""What a front end asks the scheduler for, and the pictures that come back."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from renderformer.data.camera import Camera
    from renderformer.data.scene import Scene
    from renderformer.image import Image
    from renderformer.viewer.watched import Window


class Changes(NamedTuple):
    """How a picture differs from the one before it.

    Attributes:
        windows: left, top, right and bottom in pixels, outside of which nothing is new.
        scale, shift: pixel n of a row or column lies at scale * n + shift of the picture before; outside of the
            windows, the picture is interpolated there.
    """

    windows: tuple[Window, ...]
    scale: float = 1.0
    shift: float = 0.0


@dataclass(frozen=True, eq=False)
class Frame:
    """A finished picture.

    Attributes:
        image: its pixels may still change, unless it is final.
        request: number of the request; newer requests have larger numbers.
        camera, size: of the request; the picture may be smaller than `size`.
        scene: fingerprint of the scene.
        final: whether the picture has the full size.
        encode_seconds: of the view-independent stage, 0 if it was cached.
        seconds: of the view stage.
        requested: time of the request by the scheduler's clock.
        latency: seconds from the request to the picture.
        notes: of the view-independent stage.
        tag: of the request.
        span: columns and rows of the image that the view shows, the last ones in part; None for all of it.
        changes: since the frame before, whose `serial` is one less; None where nothing is alike.
    """

    image: Image
    request: int
    camera: Camera
    size: tuple[int, int]
    scene: str
    final: bool
    encode_seconds: float
    seconds: float
    requested: float
    latency: float
    notes: tuple[str, ...] = ()
    tag: Any = None
    span: tuple[float, float] | None = None
    changes: Changes | None = None
    serial: int = 0


@dataclass(frozen=True, eq=False)
class Request:
    """What somebody wants to see.

    Attributes:
        number: newer requests have larger numbers.
        key: fingerprint of the scene.
        size: full (width, height) in pixels.
        time: by the scheduler's clock.
        tag: passed on to the frames.
        coarse: whether coarse pictures come first.
    """

    number: int
    scene: Scene
    key: str
    camera: Camera
    size: tuple[int, int]
    time: float
    tag: Any
    coarse: bool

    def same(self, key: str, camera: Camera, size: tuple[int, int]) -> bool:
        """Whether another request would give the same picture."""
        there = camera is self.camera or (camera.fov == self.camera.fov and np.array_equal(camera.c2w, self.camera.c2w))
        return there and (key, size) == (self.key, self.size)
