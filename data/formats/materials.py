"""Materials as mesh files state them, turned into the rows that the engine uses.

The engine's material is diffuse plus GGX specular without Fresnel (spec scenes.md), with diffuse + specular <= 1.

glTF, metallic-roughness, with base colour b, metallic m and the 4 % reflection of a common dielectric:
    diffuse = 0.96 b (1 - m)        specular = 0.04 (1 - m) + b m        roughness, emission as stated
so that diffuse + specular <= 1 always; roughness means the same in both (GGX alpha is its square).

MTL: diffuse = Kd, or map_Kd where there is one (exporters leave Kd black or grey beside it), emission = Ke. The Phong
exponent Ns becomes GGX alpha = sqrt(2 / (Ns + 2)) (Walter et al., "Microfacet Models for Refraction through Rough
Surfaces", 2007), so roughness = (2 / (Ns + 2)) ** 0.25. Ks, where the illumination model has a highlight, is the
brightness of the middle of the highlight, Ks / pi cos^Ns, and not the share of light that is reflected: the normalised
Blinn-Phong lobe (Ns + 8) / (8 pi) of the same brightness there has specular = Ks 8 / (Ns + 8). It is at least 0.08 Ks,
as where Ks states the reflection of a dielectric (0.5 for 4 %); that alone where Ns is 0, which stands for none.
A white or grey Ks stays so where Kd + Ks > 1: all its channels are scaled down by one factor.

Colour space: factors of glTF and of MTL are linear numbers; glTF vertex colours are linear (its specification,
3.7.2.1); colours of PLY and OBJ vertices, and colour textures, are sRGB.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from renderformer.data.arrays import Float32Array
from renderformer.data.scene import CHANNELS, DIFFUSE, EMISSION, NORMAL, ROUGHNESS, SPECULAR, Material

RGB = tuple[float, float, float]
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


def surface_from_mtl(values: dict[str, Any]) -> tuple[Surface, list[str]]:
    """A Surface from the lower-case keys of one MTL material, and what had to be changed.

    Args:
        values: `kd`, `ks` and `ke` as lists of numbers (or of their text), `ns`, `illum`, `d`, `tr`.
    """
    said: list[str] = []
    kd = _rgb(values, "kd", 0.8, said)
    ks = _rgb(values, "ks", 0.0, said)
    # Illumination models 0 and 1 are a constant colour and plain Lambert: Ks does not apply there.
    if _number(values.get("illum"), 2.0) < 2:
        ks = (0.0, 0.0, 0.0)
    exponent = max(0.0, _number(values.get("ns"), 0.0))
    share = max(2 * DIELECTRIC, 8 / (exponent + 8)) if exponent else 2 * DIELECTRIC
    ks = (ks[0] * share, ks[1] * share, ks[2] * share)
    if any(d + s > 1 for d, s in zip(kd, ks, strict=True)):
        said.append("specular scaled down so that Kd + Ks <= 1")
    if _number(values.get("d"), 1.0) < 1 or _number(values.get("tr"), 0.0) > 0:
        said.append("transparency ignored")
    maps = sorted(key for key in values if key.startswith(("map_", "bump", "norm", "disp", "refl")) and key != "map_kd")
    if maps:
        said.append(f"{', '.join(maps)} ignored")
    surface = Surface(
        base=kd,
        specular=ks,
        roughness=(2.0 / (exponent + 2.0)) ** 0.25,
        emission=_rgb(values, "ke", 0.0, said, upper=60000.0),
    )
    return surface, said


def _number(value: Any, default: float) -> float:
    try:
        number = float(np.asarray(value, np.float64).reshape(-1)[0])
    except (TypeError, ValueError, IndexError):
        return default
    return number if np.isfinite(number) else default


def _rgb(values: dict[str, Any], key: str, default: float, said: list[str], upper: float = 1.0) -> RGB:
    """The colour `key`, grey `default` where there is none; what had to be changed goes to `said`."""
    if values.get(key) is None:
        return default, default, default
    try:
        numbers = np.broadcast_to(np.asarray(values[key], np.float64), (3,))
    except (TypeError, ValueError):
        numbers = np.full(3, np.nan)
    if not np.isfinite(numbers).all():
        said.append(f"{key.capitalize()} is not three numbers, {default:g} taken instead")
        return default, default, default
    red, green, blue = np.clip(numbers, 0, upper).tolist()
    if (red, green, blue) != tuple(numbers.tolist()):
        said.append(f"{key.capitalize()} clipped to 0 … {upper:g}")
    return red, green, blue
