"""Materials of Blender as those of renderformer: Principled BSDF, and what is like it."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from .expressions import Expression, NotDrawnError, Reader, factors
from .images import Images
from .nodes import WRAP, image_node, rgb, source, uv_matrix, value
from .notes import Notes

# What Blender shows without a material.
PLAIN: dict[str, Any] = {"diffuse": [0.8, 0.8, 0.8], "metallic": 0.0, "specular": [0.04, 0.04, 0.04], "roughness": 0.5}
MAX_RADIANCE = 60000.0
# Of thin clear glass, as renderformer reads it from glTF: the share of the light that it mirrors.
GLASS = 0.1
# Inputs of the Principled BSDF that are not drawn, with what people call them.
NOT_DRAWN = {
    "Subsurface Weight": "subsurface scattering", "Coat Weight": "coat", "Sheen Weight": "sheen",
    "Anisotropic": "anisotropy", "Thin Film Thickness": "thin film",
}  # fmt: skip


def material_of(material: Any, images: Images, notes: Notes) -> dict[str, Any]:
    """The entry of a material, as in scene JSON 1.0+renderformer.

    Args:
        material: of Blender, or None.

    Returns:
        Besides, as "colors", the `Expression` of colour attributes that multiplies the base colour, if there is one.
    """
    if material is None:
        return dict(PLAIN)
    tree = material.node_tree if getattr(material, "use_nodes", True) else None
    if tree is None:
        red, green, blue, *_ = material.diffuse_color
        return {**PLAIN, "diffuse": _share((red, green, blue)), "metallic": material.metallic,
                "roughness": material.roughness}  # fmt: skip
    output = tree.get_output_node("ALL") or tree.get_output_node("CYCLES") or tree.get_output_node("EEVEE")
    found = None if output is None else source(output.inputs["Surface"])
    place = material.name
    node = None if found is None else _drawn(found.node, notes, place)
    if output is not None and source(output.inputs.get("Displacement")) is not None:
        notes.add("displacement is not drawn", place)
    if node is None:
        return {**PLAIN, "diffuse": [0.0] * 3, "specular": [0.0] * 3}
    return _KINDS[node.type](node, images, notes, place)


def _drawn(node: Any, notes: Notes, place: str) -> Any:
    """The first shader that can be drawn, of this one and those that it mixes; None without any."""
    if node.type in _KINDS:
        return node
    notes.add(f"{node.name.rstrip('.0123456789')} is not drawn", place)
    for socket in node.inputs.values():
        found = source(socket) if socket.type == "SHADER" else None
        inner = None if found is None else _drawn(found.node, notes, place)
        if inner is not None:
            return inner
    return None


def _principled(node: Any, images: Images, notes: Notes, place: str) -> dict[str, Any]:
    def number(name: str, default: float) -> float:
        return value(node, name, default, notes, place)

    for name, words in NOT_DRAWN.items():
        socket = node.inputs.get(name)
        if socket is not None and (source(socket) is not None or socket.default_value > 0):
            notes.add(f"{words} is not drawn", place)
    index, level = max(number("IOR", 1.5), 1.0), max(number("Specular IOR Level", 0.5), 0.0)
    reflectance = min(((index - 1) / (index + 1)) ** 2 * 2 * level, 1.0)
    entry = {"specular": [reflectance] * 3, **_base(node, images, notes, place)}
    _add_numbers(entry, node, images, notes, place)
    strength = number("Emission Strength", 0.0)
    if strength > 0 and "Emission Color" in node.inputs:
        _add_light(entry, node.inputs["Emission Color"], strength, images, notes, place)
    _add_normals(entry, node, images, notes, place)
    transmitted = _unit(number("Transmission Weight", 0.0))
    if transmitted and entry["metallic"] < 1:
        notes.add("refraction is not drawn, thin glass is", place)
        left = 1 - (1 - GLASS) * transmitted
        mirror = GLASS * transmitted / left
        entry["specular"] = [_unit((1 - mirror) * reflectance + mirror)] * 3
        entry["alpha"] = entry.get("alpha", 1.0) * left
    return entry


def _base(node: Any, images: Images, notes: Notes, place: str) -> dict[str, Any]:
    """Base colour and opacity."""
    opacity = node.inputs.get("Alpha")
    found = None if opacity is None else image_node(opacity)
    clear = found[0].image if found and found[1] == "Alpha" else None
    painted = _painted(node.inputs["Base Color"], images, notes, place, clear)
    entry = painted.entry()
    if not painted.clear:
        share = 1.0 if opacity is None else _unit(value(node, "Alpha", 1.0, notes, place))
        entry |= {} if share == 1 else {"alpha": share}
    return entry


def _add_numbers(entry: dict[str, Any], node: Any, images: Images, notes: Notes, place: str) -> None:
    """Roughness and metallic, of images or not."""
    names = ("Roughness", "Metallic")
    reader = Reader()
    found = [_of_images(node.inputs[name], reader) for name in names]
    lies = [None if part is None else _common(part, reader, notes, place) for part in found]
    found = [part if where is not None else None for part, where in zip(found, lies, strict=True)]
    if None not in found and lies[0] != lies[1]:
        # One texture holds both.
        notes.add("an image at Metallic that lies otherwise than that at Roughness is not drawn", place)
        found[1] = None
    leaves = [leaf for part in found if part is not None for leaf in part.leaves("image")]
    used = {leaf: reader.images[leaf].image for leaf in leaves}
    texture = images.roughness_metallic(found, used) if used else None
    if used and texture is None:
        notes.add("an image is missing and not drawn", f"roughness or metallic of {place}")
        found = [None, None]
    for name, part, default in zip(names, found, (0.5, 0.0), strict=True):
        entry[name.lower()] = 1.0 if part is not None else _unit(value(node, name, default, notes, place))
    if texture is not None:
        where = lies[0] if found[0] is not None else lies[1]
        entry.setdefault("textures", {})["metallic_roughness"] = {"path": texture, "srgb": False, **(where or {})}


def _of_images(socket: Any, reader: Reader) -> Expression | None:
    """What is made of images alone at an input; None for anything else."""
    try:
        found = reader.read(socket)
    except NotDrawnError:
        return None
    return found if found.places == {"image"} else None


def _common(expression: Expression, reader: Reader, notes: Notes, place: str) -> dict[str, Any] | None:
    """How all images of an expression lie; None with a note if they lie in different ways."""
    first, *others = (_lies(reader.images[leaf], notes, place) for leaf in expression.leaves("image"))
    if all(other == first for other in others):
        return first
    notes.add("images that lie in different ways are not mixed, the value of the input is drawn", place)
    return None


def _add_light(entry: dict[str, Any], socket: Any, strength: float, images: Images, notes: Notes, place: str) -> None:
    """Emission, from both sides as Blender has it."""
    painted = _painted(socket, images, notes, place)
    if painted.colors is not None:
        notes.add(f"colour attributes at {socket.name} are not drawn, its colour is", place)
        painted = Painted(tint=rgb(socket.default_value))
    found = painted.texture
    radiance = [max(channel, 0.0) * strength for channel in painted.tint]
    if max(radiance) <= 0:
        return
    if max(radiance) > MAX_RADIANCE:
        notes.add(f"emission is dimmed to the radiance {MAX_RADIANCE:g}", place)
        radiance = [channel * MAX_RADIANCE / max(radiance) for channel in radiance]
    entry |= {"emissive": [min(channel, MAX_RADIANCE) for channel in radiance], "two_sided": True}
    if found:
        entry.setdefault("textures", {})["emission"] = found


def _add_normals(entry: dict[str, Any], node: Any, images: Images, notes: Notes, place: str) -> None:
    """A normal map in tangent space; bumps are not drawn."""
    linked = source(node.inputs.get("Normal"))
    if linked is None:
        return
    image = image_node(linked.node.inputs["Color"]) if linked.node.type == "NORMAL_MAP" else None
    if image is None or getattr(linked.node, "space", "TANGENT") != "TANGENT":
        notes.add(f"{linked.node.name.rstrip('.0123456789')} at Normal is not drawn", place)
        return
    found = _texture(image[0], images, notes, place, False)
    if found:
        entry.setdefault("textures", {})["normal"] = {**found, "srgb": False}
        entry["normal_scale"] = value(linked.node, "Strength", 1.0, notes, place)


class Painted(NamedTuple):
    """A colour of a surface: the product of what is there, and whether the texture holds the wanted alpha."""

    tint: tuple[float, float, float] = (1.0, 1.0, 1.0)
    texture: dict[str, Any] | None = None
    colors: Expression | None = None
    clear: bool = False

    def entry(self) -> dict[str, Any]:
        """As base colour of a material."""
        textures = {} if self.texture is None else {"textures": {"base": self.texture}}
        return {"diffuse": _share(self.tint), **textures, **({} if self.colors is None else {"colors": self.colors})}


def _painted(socket: Any, images: Images, notes: Notes, place: str, clear: Any = None) -> Painted:
    """The colour of an input; of nodes that are not evaluated a note, and its own colour.

    Args:
        clear: the image whose alpha is wanted, too.
    """
    reader = Reader()
    plain = Painted(rgb(socket.default_value))
    try:
        parts = factors(reader.read(socket))
        if parts is None:
            raise NotDrawnError("a mix of images and colour attributes")
    except NotDrawnError as error:
        notes.add(f"{error} at {socket.name} is not drawn, its colour is", place)
        return plain
    first, colors = parts
    if first is None:
        return Painted(colors=colors)
    if not first.places:
        return Painted(rgb((first.evaluate({}) + np.zeros(3)).tolist()), colors=colors)
    used = {leaf: reader.images[leaf] for leaf in first.leaves("image")}
    alpha = any(node.image == clear for node in used.values())
    if first.kind == "image" and first.settings[-1] != "Alpha":
        texture = _texture(used[first], images, notes, place, alpha)
    else:
        texture = _made(first, reader, images, notes, place, clear if alpha else None)
    return plain if texture is None else Painted((1.0, 1.0, 1.0), texture, colors, alpha)


def _made(
    expression: Expression, reader: Reader, images: Images, notes: Notes, place: str, clear: Any
) -> dict[str, Any] | None:
    """The texture of what nodes make of images; None if it cannot be made."""
    where = _common(expression, reader, notes, place)
    used = {leaf: reader.images[leaf].image for leaf in expression.leaves("image")}
    found = None if where is None else images.evaluated(expression, used, clear)
    if where is None or found is None:
        if where is not None:
            notes.add("an image is missing and not drawn", f"{next(iter(used.values())).name} of {place}")
        return None
    if found[1]:
        notes.add(f"{found[1]} pixels of images that nodes make brighter than 1 are drawn as 1", place)
    return {"path": found[0], "srgb": True, **where}


def _texture(node: Any, images: Images, notes: Notes, place: str, alpha: bool) -> dict[str, Any] | None:
    """The texture of an image node; None if its image cannot be read."""
    found = images.texture(node.image, alpha)
    if found is None:
        notes.add("an image is missing and not drawn", f"{node.image.name} of {place}")
        return None
    return {"path": found[0], "srgb": found[1], **_lies(node, notes, place)}


def _lies(node: Any, notes: Notes, place: str) -> dict[str, Any]:
    """How the image of a node lies on a surface."""
    if getattr(node, "interpolation", "Linear") == "Closest":
        notes.add("images shown by their closest pixels are drawn smooth", place)
    if node.extension == "CLIP":
        notes.add("images that end at their border are continued", place)
    side = WRAP.get(node.extension, "repeat")
    matrix = uv_matrix(node, notes, place)
    return {"wrap": [side, side], **({} if matrix is None else {"matrix": matrix})}


def _diffuse(node: Any, images: Images, notes: Notes, place: str) -> dict[str, Any]:
    return _like(node, {"specular": [0.0] * 3, "metallic": 0.0, "roughness": 1.0}, images, notes, place)


def _glossy(node: Any, images: Images, notes: Notes, place: str) -> dict[str, Any]:
    roughness = _unit(value(node, "Roughness", 0.5, notes, place))
    return _like(node, {"specular": [0.04] * 3, "metallic": 1.0, "roughness": roughness}, images, notes, place)


def _like(node: Any, entry: dict[str, Any], images: Images, notes: Notes, place: str) -> dict[str, Any]:
    """A shader with nothing but a colour."""
    entry |= _painted(node.inputs["Color"], images, notes, place).entry()
    _add_normals(entry, node, images, notes, place)
    return entry


def _emission(node: Any, images: Images, notes: Notes, place: str) -> dict[str, Any]:
    entry: dict[str, Any] = {"diffuse": [0.0] * 3, "specular": [0.0] * 3, "roughness": 1.0}
    _add_light(entry, node.inputs["Color"], value(node, "Strength", 1.0, notes, place), images, notes, place)
    return entry


_KINDS = {
    "BSDF_PRINCIPLED": _principled, "BSDF_DIFFUSE": _diffuse, "BSDF_GLOSSY": _glossy, "EMISSION": _emission,
}  # fmt: skip


def _unit(number: float) -> float:
    return min(max(number, 0.0), 1.0)


def _share(colour: tuple[float, float, float]) -> list[float]:
    return [_unit(channel) for channel in colour]
