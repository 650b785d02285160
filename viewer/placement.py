"""How an object of the document is moved. World frame: right-handed, Z up, scene units."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from renderformer.data.arrays import Float64Array
from renderformer.data.camera_path import Vector
from renderformer.data.errors import InputError


@dataclass(frozen=True)
class Placement:
    """How an object is moved: scaled and rotated about the centre of its bounds, then translated.

    Attributes:
        translation: in scene units.
        rotation: degrees about X, then Y, then Z.
        scale: positive factor.
        stretch: positive factors along the axes of the object, times `scale`.
    """

    translation: Vector = (0.0, 0.0, 0.0)
    rotation: Vector = (0.0, 0.0, 0.0)
    scale: float = 1.0
    stretch: Vector = (1.0, 1.0, 1.0)

    @property
    def axes(self) -> Float64Array:
        """(3, 3) the axes of the object in the world, as columns."""
        from scipy.spatial.transform import Rotation

        return np.asarray(Rotation.from_euler("xyz", self.rotation, degrees=True).as_matrix())

    def matrix(self, centre: npt.ArrayLike) -> Float64Array:
        """(4, 4) matrix, world to world; `centre` is (3,).

        Raises:
            InputError: a factor is not a positive number.
        """
        for factor in (self.scale, *self.stretch):
            if not (math.isfinite(factor) and factor > 0):
                raise InputError("placement", f"scale is {factor}", "expected a positive number")
        pivot = np.asarray(centre, np.float64)
        linear = self.axes * (self.scale * np.asarray(self.stretch))
        matrix = np.eye(4)
        matrix[:3, :3] = linear
        matrix[:3, 3] = pivot - linear @ pivot + np.asarray(self.translation)
        return matrix
