"""The environment behind the objects of one view, as it is in the finished picture, for pixels as they are drawn.

Shapes: M pixels.
"""

from __future__ import annotations

import numpy as np

from renderformer.data.arrays import Float32Array, Int64Array
from renderformer.data.camera import Camera
from renderformer.data.environment import Environment
from renderformer.data.rays.backdrop import backdrop
from renderformer.data.rays.channels import RGB
from renderformer.model.physical import first_answer


class Backdrop:
    """What is seen between and beside the objects. Calls for different pixels may come from several threads.

    Args:
        environment: None for none.
        camera: in the units of the scene.
        width, height: of the picture in pixels.
    """

    def __init__(self, environment: Environment | None, camera: Camera, width: int, height: int) -> None:
        self._camera, self._size = camera, (height, width)
        self._environment = environment if environment is not None and environment.background == "visible" else None
        if self._environment is not None:
            self._radiance = np.zeros((height, width, 3), np.float32)
            self._known = np.zeros((height, width), bool)

    def at(self, x: Int64Array, y: Int64Array) -> Float32Array:
        """(M, 3) radiance of a visible environment in pixels at column x and row y, both (M,); it is kept."""
        assert self._environment is not None
        new = np.flatnonzero(~self._known[y, x])
        if len(new):
            place = y[new], x[new]
            self._radiance[place] = backdrop(self._environment, self._camera, x[new], y[new], self._size)
            self._known[place] = True
        return self._radiance[y, x]

    def seen(self, x: Int64Array, y: Int64Array, features: Float32Array) -> Float32Array:
        """(M, 4) radiance, and coverage, of a feature image (M, F) with what is behind it, without a network."""
        picture: Float32Array = np.concatenate([first_answer(features), features[:, RGB.mask]], axis=1)
        if self._environment is not None:
            open_ = np.flatnonzero(picture[:, 3] < 1)
            picture[open_, :3] += (1 - picture[open_, 3:]) * self.at(x[open_], y[open_])
        return picture
