"""How the surface of a mesh looks where one material row per triangle does not say it: textures and vertex colours.

Legend: N triangles, M of them, K sets of texture coordinates, S points on triangles. Barycentric coordinates (S, 2) are
the weights of the second and third corner.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, fields, replace
from functools import cached_property
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from renderformer.data.arrays import AnyArray, BoolArray, Float32Array, Float64Array, Int32Array, Int64Array, owned
from renderformer.data.errors import InputError
from renderformer.data.material import CHANNELS, EMISSION, Material
from renderformer.data.texture import Texture

# Texture coordinates beyond this have no digits left for the place inside an image.
MAX_UV = 1e6
# Points on a triangle whose mean its material row is: the centroids of SIDE^2 equal parts, or of as many more, up to
# MOST_SIDE^2, as make MEAN_POINTS on all triangles.
SIDE, MOST_SIDE, MEAN_POINTS = 4, 16, 2**18
# A triangle whose mean emission is below this share of its material's is no light: textures that are black hold noise.
FAINT = 2e-3
# Points evaluated at once.
_CHUNK = 1 << 17


class Values(NamedTuple):
    """What an appearance is at S points: (S, 13) material rows, and (S,) share of the rays that meet the surface."""

    rows: Float32Array
    alpha: Float32Array


@dataclass(frozen=True, eq=False)
class Appearance:
    """Materials of N triangles with their texture coordinates and vertex colours.

    Attributes:
        materials: at least one.
        index: (N,) int32, the material of each triangle; -1 where the triangle's material row says all.
        uv: (N, 3, K, 2) float32 texture coordinates of the corners, K >= 0; (N, 3, 2) is one set. Origin at the upper
            left.
        colors: (N, 3, 4) float32 linear RGBA at the corners, which multiply base colour and alpha, or None; (N, 3, 3)
            is opaque.
        tangents: (N, 3, 4) float32 tangents at the corners as in glTF, in the frame of the mesh, for normal maps: unit
            vectors in which u grows, and 1 or -1, so that it times normal x tangent is up in the image. None, or zeros
            for a triangle: as texture coordinates have it.

    Raises:
        InputError: arrays that do not fit each other, values that are not finite, a texture whose set of texture
            coordinates does not exist.
    """

    materials: tuple[Material, ...]
    index: Int32Array
    uv: Float32Array
    colors: Float32Array | None = None
    tangents: Float32Array | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "materials", tuple(self.materials))
        index = owned(self.index, np.int32)
        if index.ndim != 1 or index.min(initial=0) < -1 or index.max(initial=-1) >= len(self.materials):
            problem = "index does not fit the materials"
            raise InputError("appearance", problem, f"expected numbers between -1 and {len(self.materials) - 1}")
        count = len(index)
        uv = owned(self.uv, np.float32)
        uv = uv[:, :, None] if uv.ndim == 3 else uv
        if uv.ndim != 4 or uv.shape[:2] != (count, 3) or uv.shape[3] != 2:
            raise InputError("appearance", f"uv has shape {uv.shape}", f"expected ({count}, 3, K, 2)")
        # False where any of the numbers is NaN.
        if not (uv.min(initial=0) >= -MAX_UV and uv.max(initial=0) <= MAX_UV):
            problem = f"uv is not finite or beyond {MAX_UV:g}"
            raise InputError("appearance", problem, "repair the texture coordinates")
        needed = max((material.textures.uv_sets for material in self.materials), default=0)
        if needed > uv.shape[2]:
            problem = f"a texture uses set {needed - 1} of the texture coordinates, there are {uv.shape[2]}"
            raise InputError("appearance", problem, "give them, or another uv_set")
        colors = None if self.colors is None else _rgba(self.colors, count)
        tangents = None if self.tangents is None else owned(self.tangents, np.float32)
        if tangents is not None and (tangents.shape != (count, 3, 4) or not np.isfinite(tangents).all()):
            problem = f"tangents of shape {tangents.shape} do not fit or are not finite"
            raise InputError("appearance", problem, f"expected ({count}, 3, 4) finite numbers")
        for key, values in (("index", index), ("uv", uv), ("colors", colors), ("tangents", tangents)):
            if values is not None:
                values.setflags(write=False)
            object.__setattr__(self, key, values)

    @classmethod
    def of(cls, material: Material, uv: npt.ArrayLike, colors: npt.ArrayLike | None = None) -> Appearance:
        """One material for all triangles; uv (N, 3, 2) or (N, 3, K, 2)."""
        corners = np.asarray(uv, np.float32)
        color = None if colors is None else np.asarray(colors, np.float32)
        return cls((material,), np.zeros(len(corners), np.int32), corners, color)

    def __len__(self) -> int:
        return len(self.index)

    @cached_property
    def see_through(self) -> BoolArray:
        """(N,) whether rays may pass a triangle."""
        passing = np.array([material.see_through for material in self.materials] + [False])
        clear = passing[self.index]
        if self.colors is not None:
            clear |= (self.index >= 0) & (self.colors[..., 3] < 1).any(axis=1)
        return np.asarray(clear)

    @cached_property
    def bumpy(self) -> BoolArray:
        """(N,) whether a triangle has a normal map."""
        mapped = np.array([material.textures.normal is not None for material in self.materials] + [False])
        return np.asarray(mapped[self.index])

    @cached_property
    def uv_tables(self) -> Float32Array:
        """(K, 3, 2, N) texture coordinates, one after the other in memory by triangle."""
        return np.ascontiguousarray(self.uv.transpose(2, 1, 3, 0))

    @cached_property
    def uv_areas(self) -> Float32Array:
        """(K, N) areas of the triangles in texture coordinates."""
        (a, b), (c, d) = ((self.uv_tables[:, i] - self.uv_tables[:, 0]).transpose(1, 0, 2) for i in (1, 2))
        return np.abs(a * d - b * c) * np.float32(0.5)

    @cached_property
    def color_table(self) -> Float32Array:
        """(3, 4, N) vertex colours, one after the other in memory by triangle."""
        assert self.colors is not None
        return np.ascontiguousarray(self.colors.transpose(1, 2, 0))

    @cached_property
    def digest(self) -> bytes:
        """A hash of all that it consists of."""
        total = hashlib.blake2b(digest_size=16)
        for material in self.materials:
            factors = {f.name: getattr(material, f.name) for f in fields(material) if f.name != "textures"}
            total.update(repr(factors).encode())
            for f in fields(material.textures):
                texture: Texture | None = getattr(material.textures, f.name)
                total.update(b"-" if texture is None else texture.digest)
        for array in (self.index, self.uv, self.colors, self.tangents):
            total.update(b"-" if array is None else array.tobytes())
        return total.digest()

    def edited(self, **properties: Any) -> Appearance:
        """With other factors of all materials, see `Material.edited`; vertex colours go with the diffuse colour."""
        materials = tuple(material.edited(**properties) for material in self.materials)
        return replace(self, materials=materials, colors=None if "diffuse" in properties else self.colors)

    def take(self, triangles: AnyArray) -> Appearance:
        """That of some triangles (M,), by number or as a mask."""
        return replace(
            self, index=self.index[triangles], uv=self.uv[triangles], **self._corners(lambda corner: corner[triangles])
        )

    def cut(self, source: Int64Array, weights: Float64Array) -> Appearance:
        """That of pieces of triangles: (M,) the triangle of each, and (M, 3, 3) barycentric weights of its corners."""
        mixed = np.asarray(weights, np.float32)
        uv = np.einsum("mij,mjkc->mikc", mixed, self.uv[source])
        others = self._corners(lambda values: np.einsum("mij,mjc->mic", mixed, values[source]))
        return replace(self, index=self.index[source], uv=uv, **others)

    def transformed(self, linear: Float64Array) -> Appearance:
        """That of a mesh after a linear (3, 3) transform; a mirroring one exchanges the second and third corner."""
        result = self
        if self.tangents is not None:
            vectors = self.tangents[..., :3].astype(np.float64) @ linear.T
            length = np.linalg.norm(vectors, axis=-1, keepdims=True)
            vectors = np.divide(vectors, length, out=np.zeros_like(vectors), where=length > 0)
            sign = np.sign(np.linalg.det(linear)) * self.tangents[..., 3:]
            result = replace(self, tangents=np.concatenate([vectors, sign], axis=2).astype(np.float32))
        return result.turned_over() if np.linalg.det(linear) < 0 else result

    def turned_over(self) -> Appearance:
        """With the second and third corner exchanged."""
        order = [0, 2, 1]
        return replace(self, uv=self.uv[:, order], **self._corners(lambda values: values[:, order]))

    def _corners(self, change: Callable[[Float32Array], Float32Array]) -> dict[str, Any]:
        """Changed colours and tangents, where there are any."""
        arrays = {"colors": self.colors, "tangents": self.tangents}
        return {key: None if values is None else change(values) for key, values in arrays.items()}

    def values(
        self, triangle: Int64Array, barycentric: AnyArray, rows: Float32Array, share: Float32Array | None = None
    ) -> Values:
        """Material and opacity at points.

        Args:
            triangle: (S,); barycentric: (S, 2).
            rows: (S, 13) material rows of those triangles, kept where `index` is -1.
            share: (S,) of a triangle's area that a point stands for; 0 or None for a mathematical point.
        """
        columns, alpha = np.array(rows.T, np.float32), np.ones(len(triangle), np.float32)
        for material, chosen in self._groups(triangle):
            points = self._points(triangle, barycentric, share, chosen)
            found = self._rows(material, points)
            columns[:, chosen], alpha[chosen] = found.T, self._alpha(material, points)
        return Values(columns.T, alpha)

    def alpha(self, triangle: Int64Array, barycentric: AnyArray, share: Float32Array | None = None) -> Float32Array:
        """(S,) share of the rays that meet the surface at points; arguments as in `values`."""
        alpha = np.ones(len(triangle), np.float32)
        for material, chosen in self._groups(triangle):
            alpha[chosen] = self._alpha(material, self._points(triangle, barycentric, share, chosen))
        return alpha

    def bumps(
        self, triangle: Int64Array, barycentric: AnyArray, share: Float32Array | None = None
    ) -> tuple[Int64Array, Float32Array]:
        """Which points have a normal map, (S',) by number, and the normals of it there (S', 3), not of unit length, in
        tangent frames; arguments as in `values`."""
        numbers, vectors = [], []
        for material, chosen in self._groups(triangle):
            texture = material.textures.normal
            if texture is None:
                continue
            normal = self._points(triangle, barycentric, share, chosen).sample(texture)[:, :3] * np.float32(2) - 1
            normal[:, :2] *= np.float32(material.normal_scale)
            numbers.append(np.arange(len(triangle)) if isinstance(chosen, slice) else chosen)
            vectors.append(normal.T)
        if not numbers:
            return np.empty(0, np.int64), np.empty((0, 3), np.float32)
        return np.concatenate(numbers), np.concatenate(vectors, axis=1).T

    def _groups(self, triangle: Int64Array) -> Iterator[tuple[Material, Int64Array | slice]]:
        """The materials of points of triangles (S,), and which points each has."""
        kind = self.index.take(triangle)
        if not len(kind):
            return
        if (kind == kind[0]).all():
            if kind[0] >= 0:
                yield self.materials[kind[0]], slice(None)
            return
        order = np.argsort(kind.astype(np.int16) if len(self.materials) < 2**15 else kind, kind="stable")
        starts = np.flatnonzero(np.diff(kind[order], prepend=-2))
        for start, end in pairwise([*starts, len(order)]):
            number = kind[order[start]]
            if number >= 0:
                yield self.materials[number], order[start:end]

    def _points(
        self, triangle: Int64Array, barycentric: AnyArray, share: Float32Array | None, chosen: Int64Array | slice
    ) -> _Points:
        places = barycentric.T[:, chosen].astype(np.float32, copy=False)
        return _Points(self, triangle[chosen], places, None if share is None else share[chosen])

    def _rows(self, material: Material, points: _Points) -> Float32Array:
        """(S, 13) material rows of points with this material."""
        textures, factors = material.textures, {}
        base: Float32Array | None = None
        if textures.base is not None:
            base = points.sample(textures.base, slice(0, 3))
        if self.colors is not None:
            vertex = points.color(slice(0, 3))
            base = vertex if base is None else base * vertex
        if base is not None:
            factors["base"] = base
        if textures.metallic_roughness is not None:
            channels = points.sample(textures.metallic_roughness, slice(1, 3)).T
            factors["roughness"], factors["metallic"] = channels
        for key in ("emission", "specular"):
            texture: Texture | None = getattr(textures, key)
            if texture is not None:
                factors[key] = points.sample(texture, slice(0, 3))
        return material.rows(**factors, count=len(points.triangle))

    def _alpha(self, material: Material, points: _Points) -> Float32Array:
        """(S,) share of the rays that meet points with this material."""
        alpha: AnyArray = np.array(material.alpha, np.float32)
        base, cutoff = material.textures.base, material.alpha_cutoff
        if self.colors is not None:
            alpha = alpha * points.color(slice(3, 4))[:, 0]
        if base is not None and base.has_alpha:
            # The mean over an area may lie on one side of the cutoff where its parts lie on both.
            alpha = alpha * points.sample(base, slice(3, 4), None if cutoff is None else 0.0)[:, 0]
        return alpha if cutoff is None else (alpha >= cutoff).astype(np.float32)

    def mean_rows(self, rows: Float32Array) -> Float32Array:
        """(N, 13) material rows, the means over the triangles, weighted by alpha; `rows` (N, 13) where `index` is -1.

        Emission is that of the triangle as a whole, less where rays pass, and zero where a texture is black but for
        noise.
        """
        result = np.array(rows, np.float32)
        varying = np.flatnonzero(self.index >= 0)
        places = centroids(min(max(SIDE, math.isqrt(MEAN_POINTS // max(len(varying), 1))), MOST_SIDE))
        for part in np.array_split(varying, max(1, -(-len(varying) * len(places) // _CHUNK))):
            triangle = np.repeat(part, len(places))
            share = np.full(len(triangle), 1 / len(places), np.float32)
            found = self.values(triangle, np.tile(places, (len(part), 1)), result[triangle], share)
            alpha = found.alpha.reshape(len(part), len(places), 1)
            points = found.rows.reshape(len(part), len(places), CHANNELS)
            weight = np.maximum(alpha, np.float32(FAINT))
            result[part] = (points * weight).sum(axis=1, dtype=np.float64) / weight.sum(axis=1, dtype=np.float64)
            result[part, EMISSION] = (points[..., EMISSION] * alpha).mean(axis=1, dtype=np.float64)
        glow = np.array([max(material.emission) for material in self.materials], np.float32)
        faint = varying[result[varying, EMISSION].max(axis=1) < np.float32(FAINT) * glow[self.index[varying]]]
        result[faint, EMISSION] = 0
        return result


class _Points:
    """Points of S triangles of an appearance: barycentric coordinates (2, S) and share (S,) of the area, as in
    `Appearance.values`."""

    def __init__(
        self, appearance: Appearance, triangle: Int64Array, places: Float32Array, share: Float32Array | None
    ) -> None:
        self.triangle = triangle
        self._appearance, self._places, self._share = appearance, places, share
        self._uv: dict[int, Float32Array] = {}

    def sample(self, texture: Texture, channels: slice = slice(None), level: float | None = None) -> Float32Array:
        """(S, C) linear values of a texture, from the level that the points ask for, or this one."""
        number = texture.uv_set
        if number not in self._uv:
            self._uv[number] = self._mixed(self._appearance.uv_tables[number])
        if level is not None or self._share is None:
            return texture.sample(self._uv[number], level or 0.0, channels)
        texels = self._appearance.uv_areas[number].take(self.triangle) * np.float32(texture.texel_scale) * self._share
        return texture.sample(self._uv[number], texture.level(texels), channels)

    def color(self, channels: slice) -> Float32Array:
        """(S, C) vertex colours."""
        return self._mixed(self._appearance.color_table[:, channels])

    def _mixed(self, corners: Float32Array) -> Float32Array:
        """(S, C) interpolation in a table (3, C, N) of the corners."""
        (u, v), triangle = self._places, self.triangle
        first, second, third = (corner.take(triangle, axis=1) for corner in corners)
        return (first * (1 - u - v) + second * u + third * v).T


def joined(appearances: Sequence[Appearance | None], counts: Sequence[int]) -> Appearance | None:
    """That of several meshes one after the other, with numbers of triangles; None if none has one."""
    present = [item for item in appearances if item is not None]
    if not present:
        return None
    sets = max(item.uv.shape[2] for item in present)
    coloured, tangential = (any(getattr(item, key) is not None for item in present) for key in ("colors", "tangents"))
    # Equal materials are one, so that more points are looked up at once.
    materials: dict[Material, int] = {}
    total = sum(counts)
    index, uv = np.full(total, -1, np.int32), np.zeros((total, 3, sets, 2), np.float32)
    colors = np.ones((total, 3, 4), np.float32) if coloured else None
    tangents = np.zeros((total, 3, 4), np.float32) if tangential else None
    first = 0
    for item, count in zip(appearances, counts, strict=True):
        part = slice(first, first + count)
        first += count
        if item is None:
            continue
        numbers = [materials.setdefault(material, len(materials)) for material in item.materials]
        index[part] = np.array([*numbers, -1], np.int32)[item.index]
        uv[part, :, : item.uv.shape[2]] = item.uv
        if colors is not None and item.colors is not None:
            colors[part] = item.colors
        if tangents is not None and item.tangents is not None:
            tangents[part] = item.tangents
    for values in (index, uv, colors, tangents):
        if values is not None:
            values.setflags(write=False)
    return Appearance(tuple(materials), index, uv, colors, tangents)


def centroids(side: int) -> Float32Array:
    """(side^2, 2) barycentric coordinates of the centroids of the equal parts of a triangle."""
    upright = [(i + 1 / 3, j + 1 / 3) for i in range(side) for j in range(side - i)]
    overturned = [(i + 2 / 3, j + 2 / 3) for i in range(side - 1) for j in range(side - 1 - i)]
    return np.array(upright + overturned, np.float32) / np.float32(side)


def _rgba(values: npt.ArrayLike, count: int) -> Float32Array:
    colors = owned(values, np.float32)
    if colors.shape == (count, 3, 3):
        colors = np.concatenate([colors, np.ones((count, 3, 1), np.float32)], axis=2)
    if colors.shape != (count, 3, 4):
        raise InputError("appearance", f"colors have shape {colors.shape}", f"expected ({count}, 3, 4)")
    # False where any of the numbers is NaN.
    if not (colors.min(initial=0) >= 0 and colors.max(initial=0) < np.inf):
        raise InputError("appearance", "colors are negative or not finite", "expected linear RGBA from 0 to 1")
    return colors
