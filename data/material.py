"""Materials: the reflectance, emission and opacity of a surface, uniform or by textures.

A point of a surface has a material row of 13 channels: diffuse plus GGX specular without Fresnel, as the models were
trained (spec scenes.md). Factors and textures of a `Material` give the row of every point.

Legend: M points or triangles.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from renderformer.data.arrays import Float32Array
from renderformer.data.errors import InputError
from renderformer.data.texture import Texture

RGB = tuple[float, float, float]

CHANNELS = 13
# The thirteen channels of a material row, in the order of the model's texture input.
DIFFUSE, SPECULAR, ROUGHNESS, NORMAL, EMISSION = slice(0, 3), slice(3, 6), 6, slice(7, 10), slice(10, 13)
# Reflectance at normal incidence of a common dielectric (glTF 2.0, B.2).
DIELECTRIC = 0.04
MAX_RADIANCE = 60000.0


def checked_rgb(value: Any, place: str, name: str, upper: float) -> RGB:
    """Three numbers from 0 to `upper`.

    Raises:
        InputError: anything else.
    """
    try:
        rgb = np.broadcast_to(np.asarray(value, np.float64), (3,))
    except (TypeError, ValueError):
        raise InputError(place, f"{name} is {value!r}", "expected one number or three (linear RGB)") from None
    if not np.isfinite(rgb).all() or rgb.min() < 0 or rgb.max() > upper:
        raise InputError(place, f"{name} is {rgb.tolist()}", f"expected linear RGB between 0 and {upper:g}")
    return float(rgb[0]), float(rgb[1]), float(rgb[2])


@dataclass(frozen=True)
class Textures:
    """The images of a material; each multiplies a factor of it.

    Attributes:
        base: diffuse, or base colour of a metallic material; its alpha multiplies the material's.
        metallic_roughness: roughness in green, metallic in blue (glTF); linear.
        specular: specular reflectance.
        emission: emission.
        normal: tangent-space normals, linear; red to the right, green up, blue out of the surface (glTF).
    """

    base: Texture | None = None
    metallic_roughness: Texture | None = None
    specular: Texture | None = None
    emission: Texture | None = None
    normal: Texture | None = None

    @property
    def present(self) -> tuple[Texture, ...]:
        """Those that there are."""
        every = (self.base, self.metallic_roughness, self.specular, self.emission, self.normal)
        return tuple(texture for texture in every if texture is not None)

    @property
    def uv_sets(self) -> int:
        """How many sets of texture coordinates they need."""
        return max((texture.uv_set + 1 for texture in self.present), default=0)


@dataclass(frozen=True)
class Material:
    """A material: diffuse plus GGX specular without Fresnel, as the models were trained (spec scenes.md).

    Attributes:
        diffuse: linear RGB albedo in [0, 1], or one number for grey; the base colour b if `metallic` is a number.
        specular: linear RGB reflectance in [0, 1]; the models were trained with white specular and diffuse + specular
            <= 1. If `metallic` is a number: reflectance f of the dielectric part, 0.04 for most materials.
        roughness: in [0, 1]; GGX alpha is its square; the models were trained on 0.01 … 1.
        emission: linear RGB radiance, 0 … 60000; a positive value makes a light.
        metallic: None, or glTF's metallic m in [0, 1]: the reflectances are then (1 - f) (1 - m) b, diffuse, and
            f (1 - m) + b m, specular, where f is one number, the largest channel, in the first.
        textures: multiply the factors, see `Textures`. A mesh with a textured material needs texture coordinates.
        normal_scale: factor of the first two components of the normals in `textures.normal`.
        alpha: share of the rays that meet the surface; others pass.
        alpha_cutoff: a number makes points of less alpha invisible and others opaque; None lets a share pass.
        two_sided: whether a light emits on both sides, not only on its front. Both sides of every surface reflect.

    Raises:
        InputError: a value outside its range.
    """

    diffuse: RGB = (0.5, 0.5, 0.5)
    specular: RGB = (0.0, 0.0, 0.0)
    roughness: float = 0.5
    emission: RGB = (0.0, 0.0, 0.0)
    metallic: float | None = None
    textures: Textures = field(default_factory=Textures)
    normal_scale: float = 1.0
    alpha: float = 1.0
    alpha_cutoff: float | None = None
    two_sided: bool = False

    def __post_init__(self) -> None:
        object.__setattr__(self, "diffuse", checked_rgb(self.diffuse, "material", "diffuse", 1.0))
        object.__setattr__(self, "specular", checked_rgb(self.specular, "material", "specular", 1.0))
        object.__setattr__(self, "emission", checked_rgb(self.emission, "material", "emission", MAX_RADIANCE))
        for name, upper in (("roughness", 1.0), ("metallic", 1.0), ("alpha", 1.0), ("alpha_cutoff", 1e6)):
            object.__setattr__(self, name, _checked(getattr(self, name), name, upper))
        if not np.isfinite(self.normal_scale):
            raise InputError("material", f"normal_scale is {self.normal_scale}", "expected a finite number")

    @property
    def plain(self) -> bool:
        """Whether one material row holds everything about it, but for `two_sided`."""
        return not self.textures.present and not self.see_through

    @property
    def see_through(self) -> bool:
        """Whether rays may pass it."""
        base = self.textures.base
        return self.alpha < 1 or (base is not None and base.has_alpha)

    def row(self) -> Float32Array:
        """(13,) float32: diffuse, specular, roughness, normal (0.5, 0.5, 1: unused), emission; without textures."""
        if self.metallic is not None:
            row: Float32Array = self.rows()[0]
            return row
        return np.array([*self.diffuse, *self.specular, self.roughness, 0.5, 0.5, 1.0, *self.emission], np.float32)

    def rows(
        self,
        base: npt.ArrayLike = 1.0,
        metallic: npt.ArrayLike = 1.0,
        roughness: npt.ArrayLike = 1.0,
        emission: npt.ArrayLike = 1.0,
        specular: npt.ArrayLike = 1.0,
        count: int = 1,
    ) -> Float32Array:
        """(M, 13) rows of points where the factors are multiplied by the arguments.

        Without `metallic`, one factor scales the specular channels where diffuse + specular would exceed 1.

        Args:
            base, emission, specular: linear RGB that broadcast to (M, 3).
            metallic, roughness: numbers that broadcast to (M,).
            count: M.
        """
        columns = np.empty((CHANNELS, count), np.float32)
        colour = np.clip(_columns(base, self.diffuse), 0, 1)
        reflectance = np.clip(_columns(specular, self.specular), 0, 1)
        if self.metallic is not None:
            metal = np.clip(np.float32(self.metallic) * np.asarray(metallic, np.float32), 0, 1)
            columns[DIFFUSE] = (1 - reflectance.max(axis=0)) * (1 - metal) * colour
            columns[SPECULAR] = reflectance * (1 - metal) + colour * metal
        else:
            columns[DIFFUSE] = colour
            limit = ((1 - colour) / np.maximum(reflectance, np.float32(1e-9))).min(axis=0)
            columns[SPECULAR] = reflectance * np.minimum(limit, 1)
        columns[ROUGHNESS] = np.clip(np.float32(self.roughness) * np.asarray(roughness, np.float32), 0, 1)
        columns[NORMAL] = np.array([[0.5], [0.5], [1.0]])
        columns[EMISSION] = _columns(emission, self.emission)
        return columns.T

    def edited(self, **properties: Any) -> Material:
        """With other factors, and without the textures that multiply these.

        Args:
            properties: fields of this class.
        """
        named = {"diffuse": "base", "specular": "specular", "emission": "emission"}
        dropped: dict[str, Any] = {named[key]: None for key in properties if key in named}
        channels = self.textures.metallic_roughness
        if channels is not None and ("roughness" in properties or "metallic" in properties):
            pixels = channels.pixels.copy()
            pixels[..., [i for i, key in ((1, "roughness"), (2, "metallic")) if key in properties]] = 255
            dropped["metallic_roughness"] = replace(channels, pixels=pixels)
        return replace(self, textures=replace(self.textures, **dropped), **properties)

    @classmethod
    def from_row(cls, row: npt.ArrayLike) -> Material:
        """The inverse of `row`; the normal channels are dropped."""
        values = np.asarray(row, np.float64)
        d, s, e = values[DIFFUSE].tolist(), values[SPECULAR].tolist(), values[EMISSION].tolist()
        return cls((d[0], d[1], d[2]), (s[0], s[1], s[2]), float(values[ROUGHNESS]), (e[0], e[1], e[2]))


def _checked(value: Any, name: str, upper: float) -> float | None:
    """A number from 0 to `upper`; None where it is allowed."""
    if value is None and name in ("metallic", "alpha_cutoff"):
        return None
    try:
        number = float(value)
    except (TypeError, ValueError):
        raise InputError("material", f"{name} is {value!r}", "expected a number") from None
    if not 0 <= number <= upper:
        raise InputError("material", f"{name} is {value}", f"expected a number between 0 and {upper:g}")
    return number


def _columns(values: npt.ArrayLike, factor: RGB) -> Float32Array:
    """(3, M) or (3, 1) products of a factor with linear RGB that broadcasts to (M, 3)."""
    rgb = np.asarray(values, np.float32)
    factors: Float32Array = np.array(factor, np.float32)[:, None]
    return factors * (rgb.T if rgb.ndim == 2 else rgb.reshape(-1, 1))
