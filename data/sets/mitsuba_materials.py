"""Textures, vertex colours, transparency and normal maps of reference pictures: an appearance in Mitsuba's words.

Mitsuba's plugins combine no two pictures, so the reflectances are computed at the pixels of the largest texture of a
material and interpolated there; between pixels that differs a little from an interpolation of the textures themselves.

Shapes: M triangles, H x W pixels.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from renderformer.data.appearance import Appearance
from renderformer.data.arrays import AnyArray, Float32Array, Int64Array
from renderformer.data.errors import InputError
from renderformer.data.geometry.tangents import corner_tangents
from renderformer.data.material import DIFFUSE, EMISSION, ROUGHNESS, SPECULAR, Material
from renderformer.data.scene import Mesh
from renderformer.data.texture import Texture

# A GGX lobe below this is a mirror, in which too few samples hit a light triangle.
MIN_ALPHA = 1e-3
# The edge of a mask is drawn with this many pixels per pixel of its picture, or as many as make MASK_SIDE.
MASK_DETAIL, MASK_SIDE = 8, 2048


@dataclass(frozen=True)
class Piece:
    """Triangles of a mesh that one Mitsuba shape holds.

    Attributes:
        triangles: (M,) by number.
        bsdf: a dictionary for Mitsuba; radiance: that of an area light, or None.
        uv: (M, 3, 2) texture coordinates, v down, or None.
        attributes: (3 M, C) values at the corners by name.
    """

    triangles: Int64Array
    bsdf: dict[str, Any]
    radiance: Any
    uv: Float32Array | None
    attributes: dict[str, Float32Array]


def pieces(mi: Any, mesh: Mesh) -> Iterator[Piece]:
    """The triangles of a mesh that have an appearance, by material.

    Args:
        mi: the mitsuba module.

    Raises:
        InputError: textures of one material that do not lie on one another, wrap modes that differ between the axes, or
            textures and vertex colours together.
    """
    appearance = mesh.appearance
    assert appearance is not None
    for number in np.unique(appearance.index[appearance.index >= 0]):
        chosen = np.flatnonzero(appearance.index == number)
        material = appearance.materials[number]
        if appearance.colors is not None:
            if material.textures.present:
                problem = "has textures and vertex colours together"
                raise InputError(f"object {mesh.name!r}", problem, "bake them into one texture")
            yield _coloured(mesh, material, appearance, chosen)
            continue
        if not material.textures.present:
            yield Piece(chosen, *_looks(mi, material, None), None, {})
            continue
        layout = _layout(mesh, material)
        assert layout.matrix is not None
        matrix = layout.matrix.astype(np.float32)
        uv: Float32Array = appearance.uv[chosen][:, :, layout.uv_set] @ matrix[:, :2].T + matrix[:, 2]
        if material.textures.normal is None:
            yield Piece(chosen, *_looks(mi, material, layout), uv, {})
            continue
        upright = corner_tangents(mesh.triangles[chosen], mesh.normals[chosen], uv)[:, 0, 3] > 0
        for side, sign in ((upright, 1), (~upright, -1)):
            if side.any():
                yield Piece(chosen[side], *_looks(mi, material, layout, sign), uv[side], {})


def see_through(mesh: Mesh) -> bool:
    """Whether rays may pass triangles of a mesh."""
    return mesh.appearance is not None and bool(mesh.appearance.see_through.any())


def _layout(mesh: Mesh, material: Material) -> Texture:
    """A texture that lies as all textures of a material do."""
    first = material.textures.present[0]
    for texture in material.textures.present:
        assert texture.matrix is not None
        assert first.matrix is not None
        same = texture.uv_set == first.uv_set and (texture.matrix == first.matrix).all()
        if not same or texture.wrap != first.wrap or texture.wrap[0] != texture.wrap[1]:
            problem = "the textures of a material lie in different ways, or wrap differently along width and height"
            raise InputError(f"object {mesh.name!r}", problem, "reference pictures need them alike")
    return first


def _looks(mi: Any, material: Material, layout: Texture | None, handed: int = 1) -> tuple[dict[str, Any], Any]:
    """(bsdf, radiance or None) of a material.

    Args:
        handed: 1, or -1 where the image is seen mirrored.
    """
    textures = material.textures
    height, width = (1, 1) if layout is None else np.max([t.pixels.shape[:2] for t in textures.present], axis=0)

    def bitmap(values: AnyArray, filtered: str = "bilinear") -> dict[str, Any]:
        assert layout is not None
        picture = mi.Bitmap(np.ascontiguousarray(values, np.float32))
        return {"type": "bitmap", "bitmap": picture, "raw": True, "filter_type": filtered, "wrap_mode": layout.wrap[0]}

    def source(values: AnyArray) -> Any:
        """A constant where (H W, C) values are all alike."""
        if (values == values[0]).all():
            first = np.asarray(values[0], np.float64)
            return {"type": "rgb", "value": first.tolist()} if len(first) == 3 else float(first[0])
        return bitmap(values.reshape(height, width, -1))

    rows = _rows(material, height, width)
    weight = rows[:, SPECULAR].max(axis=1, keepdims=True)
    diffuse = {"type": "diffuse", "reflectance": source(_share(rows[:, DIFFUSE], 1 - weight))}
    bsdf = diffuse
    if weight.any():
        glossy = {
            "type": "roughconductor",
            "material": "none",
            "distribution": "ggx",
            "alpha": source(np.maximum(rows[:, ROUGHNESS, None] ** 2, MIN_ALPHA)),
            "specular_reflectance": source(_share(rows[:, SPECULAR], weight)),
        }
        bsdf = {"type": "blendbsdf", "weight": source(weight), "first": diffuse, "second": glossy}
    if textures.normal is not None:
        normal = _grid(textures.normal, height, width)[:, :3] * 2 - 1
        normal *= np.array([material.normal_scale, handed * material.normal_scale, 1])
        normal /= np.maximum(np.linalg.norm(normal, axis=1, keepdims=True), 1e-9)
        picture = bitmap((normal / 2 + 0.5).reshape(height, width, 3))
        bsdf = {"type": "normalmap", "normalmap": picture, "bsdf": bsdf}
    bsdf = {"type": "twosided", "bsdf": bsdf}
    if material.see_through:
        opacity: Any = material.alpha
        if textures.base is not None and textures.base.has_alpha:
            opacity = bitmap(*_opacity(material, height, width))
        elif material.alpha_cutoff is not None:
            opacity = float(material.alpha >= material.alpha_cutoff)
        bsdf = {"type": "mask", "opacity": opacity, "bsdf": bsdf}
    radiance = rows[:, EMISSION]
    return bsdf, source(radiance) if radiance.any() else None


def _coloured(mesh: Mesh, material: Material, appearance: Appearance, chosen: Int64Array) -> Piece:
    """Triangles with vertex colours and no textures."""
    corners = np.repeat(chosen, 3)
    places = np.tile(np.array([[0, 0], [1, 0], [0, 1]], np.float32), (len(chosen), 1))
    rows, alpha = appearance.values(corners, places, mesh.materials[corners])
    weight = rows[:, SPECULAR].max(axis=1, keepdims=True)
    attributes = {
        "vertex_reflectance": _share(rows[:, DIFFUSE], 1 - weight),
        "vertex_weight": weight,
        "vertex_specular": _share(rows[:, SPECULAR], weight),
        "vertex_opacity": alpha[:, None],
    }
    source = {name: {"type": "mesh_attribute", "name": name} for name in attributes}
    bsdf: dict[str, Any] = {"type": "diffuse", "reflectance": source["vertex_reflectance"]}
    if weight.any():
        glossy = {
            "type": "roughconductor",
            "material": "none",
            "distribution": "ggx",
            "alpha": max(material.roughness**2, MIN_ALPHA),
            "specular_reflectance": source["vertex_specular"],
        }
        bsdf = {"type": "blendbsdf", "weight": source["vertex_weight"], "first": bsdf, "second": glossy}
    bsdf = {"type": "twosided", "bsdf": bsdf}
    if (alpha < 1).any():
        bsdf = {"type": "mask", "opacity": source["vertex_opacity"], "bsdf": bsdf}
    radiance = {"type": "rgb", "value": list(material.emission)} if max(material.emission) > 0 else None
    return Piece(chosen, bsdf, radiance, None, attributes)


def _rows(material: Material, height: int, width: int) -> Float32Array:
    """(H W, 13) material rows at the pixels of the textures."""
    textures, factors = material.textures, {}
    for key in ("base", "emission", "specular"):
        if (texture := getattr(textures, key)) is not None:
            factors[key] = _grid(texture, height, width)[:, :3]
    if textures.metallic_roughness is not None:
        channels = _grid(textures.metallic_roughness, height, width)
        factors["roughness"], factors["metallic"] = channels[:, 1], channels[:, 2]
    return material.rows(**factors, count=height * width)


def _grid(texture: Texture, height: int, width: int) -> Float32Array:
    """(H W, C) values of a texture at the centres of the pixels of a picture in its place."""
    v, u = ((np.arange(size) + 0.5) / size for size in (height, width))
    places = np.stack(np.meshgrid(u, v), axis=-1).reshape(-1, 2)
    return replace(texture, matrix=None).sample(places)


def _opacity(material: Material, height: int, width: int) -> tuple[Float32Array, str]:
    """(H, W, 1) opacity of a picture with alpha, and how to filter it."""
    base = material.textures.base
    assert base is not None
    if material.alpha_cutoff is None:
        return material.alpha * _grid(base, height, width)[:, 3].reshape(height, width, 1), "bilinear"
    detail = max(1, min(MASK_DETAIL, MASK_SIDE // max(height, width)))
    alpha = material.alpha * _grid(base, detail * height, detail * width)[:, 3]
    mask = (alpha >= material.alpha_cutoff).astype(np.float32)
    return mask.reshape(detail * height, detail * width, 1), "nearest"


def _share(colours: Float32Array, weight: Float32Array) -> Float32Array:
    """Reflectances of a lobe that a blend weights by `weight`."""
    return np.where(weight > 1e-3, np.minimum(colours / np.maximum(weight, 1e-3), 1), 0).astype(np.float32)
