"""Conversion of the materials of mesh files to material rows.

A material row is diffuse plus GGX specular without Fresnel (spec scenes.md), with diffuse + specular <= 1.

glTF (metallic-roughness) with base colour b, metallic m and the 4 % reflectance of a common dielectric:
    diffuse = 0.96 b (1 - m)        specular = 0.04 (1 - m) + b m        roughness and emission unchanged
Roughness has the same meaning in both: its square is GGX alpha. `obj` describes MTL.

Colour space: factors and vertex colours of glTF are linear (glTF 2.0, 3.7.2.1); vertex colours of PLY and colour
textures are sRGB.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from renderformer.data.arrays import Float32Array
from renderformer.data.scene import CHANNELS, DIFFUSE, EMISSION, NORMAL, RGB, ROUGHNESS, SPECULAR, Material

DIELECTRIC = 0.04


@dataclass(frozen=True)
class Surface:
    """The material factors of a surface, without textures and vertex colours.

    Attributes:
        base: linear RGB, glTF base colour or MTL Kd, in [0, 1].
        specular: linear RGB of the specular workflow (MTL), or None for the metallic workflow (glTF).
        metallic: in [0, 1]; not used with `specular`.
        roughness: in [0, 1].
        emission: linear RGB radiance.
    """

    base: RGB = (0.5, 0.5, 0.5)
    specular: RGB | None = (0.0, 0.0, 0.0)
    metallic: float = 0.0
    roughness: float = 0.5
    emission: RGB = (0.0, 0.0, 0.0)

    def rows(
        self,
        base: npt.ArrayLike = 1.0,
        metallic: npt.ArrayLike = 1.0,
        roughness: npt.ArrayLike = 1.0,
        emission: npt.ArrayLike = 1.0,
        count: int = 1,
    ) -> Float32Array:
        """(M, 13) material rows; each argument multiplies the factor of the surface.

        Args:
            base, emission: linear RGB that broadcasts to (M, 3).
            metallic, roughness: numbers that broadcast to (M,).
            count: M.
        """
        rows = np.empty((count, CHANNELS), np.float64)
        colour = np.clip(np.asarray(self.base) * np.asarray(base), 0, 1) * np.ones((count, 1))
        if self.specular is None:
            metal = (np.clip(self.metallic * np.asarray(metallic), 0, 1) * np.ones(count))[:, None]
            rows[:, DIFFUSE] = (1 - DIELECTRIC) * colour * (1 - metal)
            rows[:, SPECULAR] = DIELECTRIC * (1 - metal) + colour * metal
        else:
            rows[:, DIFFUSE] = colour
            specular = np.asarray(self.specular)
            limit = (1 - colour) / np.maximum(specular, 1e-9)
            rows[:, SPECULAR] = specular * np.minimum(limit.min(axis=1, keepdims=True), 1)
        rows[:, ROUGHNESS] = np.clip(self.roughness * np.asarray(roughness), 0, 1)
        rows[:, NORMAL] = (0.5, 0.5, 1.0)
        rows[:, EMISSION] = np.asarray(self.emission) * np.asarray(emission)
        return rows.astype(np.float32)


# The surface of a part without a material.
NEUTRAL = Surface(base=Material().diffuse, roughness=Material().roughness)
