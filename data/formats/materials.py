"""Materials as mesh files state them, turned into the rows that the engine uses.

The engine's material is diffuse plus GGX specular without Fresnel (spec scenes.md), with diffuse + specular <= 1.

glTF, metallic-roughness, with base colour b, metallic m and the 4 % reflection of a common dielectric:
    diffuse = 0.96 b (1 - m)        specular = 0.04 (1 - m) + b m        roughness, emission as stated
so that diffuse + specular <= 1 always; roughness means the same in both (GGX alpha is its square).

`obj` says what becomes of the materials of MTL.

Colour space: factors of glTF are linear numbers, and so are its vertex colours (its specification, 3.7.2.1); colours of
PLY vertices, and colour textures, are sRGB.
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
    """What a file says about a surface, before textures and vertex colours.

    Attributes:
        base: linear RGB, glTF base colour or MTL Kd, in [0, 1].
        specular: linear RGB of the specular workflow (MTL); None for the metallic one (glTF).
        metallic: in [0, 1]; without meaning where `specular` is given.
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
        """(M, 13) material rows; each argument multiplies the surface's own value.

        Args:
            base, emission: linear RGB, (M, 3) or anything that broadcasts to it.
            metallic, roughness: (M,) or anything that broadcasts to it.
            count: M.
        """
        rows = np.empty((count, CHANNELS), np.float64)
        colour = np.clip(np.asarray(self.base) * np.asarray(base), 0, 1) * np.ones((count, 1))
        if self.specular is None:
            metal = np.clip(self.metallic * np.asarray(metallic), 0, 1) * np.ones(count)
            metal = metal[:, None]
            rows[:, DIFFUSE] = (1 - DIELECTRIC) * colour * (1 - metal)
            rows[:, SPECULAR] = DIELECTRIC * (1 - metal) + colour * metal
        else:
            rows[:, DIFFUSE] = colour
            specular = np.asarray(self.specular)
            room = (1 - colour) / np.maximum(specular, 1e-9)
            rows[:, SPECULAR] = specular * np.minimum(room.min(axis=1, keepdims=True), 1)
        rows[:, ROUGHNESS] = np.clip(self.roughness * np.asarray(roughness), 0, 1)
        rows[:, NORMAL] = (0.5, 0.5, 1.0)
        rows[:, EMISSION] = np.asarray(self.emission) * np.asarray(emission)
        return rows.astype(np.float32)


# A surface about which the file says nothing.
NEUTRAL = Surface(base=Material().diffuse, roughness=Material().roughness)
