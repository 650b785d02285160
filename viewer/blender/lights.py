"""Lights and the world of Blender as glowing surfaces and the environment of renderformer.

Power is in watts, radiance in watts per square metre and steradian, as in Cycles.
"""

from __future__ import annotations

import itertools
import math
from typing import Any, NamedTuple

import numpy as np

from .images import Images
from .materials import MAX_RADIANCE
from .nodes import colour, source, value
from .notes import Notes

# Corners of a round light.
SIDES = 32
# Outputs of nodes that are the direction in which a world is seen.
DIRECTIONS = (("TEX_COORD", "Generated"), ("TEX_COORD", "Object"), ("NEW_GEOMETRY", "Position"))
# Degrees across.
LARGEST_SUN = 179.0
# A spot's lamp in sizes of the light; its shade in radii of the lamp: from the middle to the rim, and behind it. A soft
# edge of 7 degrees shows no grain; a gap keeps shadow rays, which end a thousandth before a light, on this side.
SPOT_SIZE, SHADE, SHADE_GAP = 0.2, 16.0, 4.0


class Lamp(NamedTuple):
    """A light as surfaces in the world: (T, 3, 3) f32 triangles, of which the first `glowing` shine with a radiance
    from their fronts, and the others are a black shade."""

    triangles: np.ndarray
    glowing: int
    radiance: list[float]


def lamp_of(light: Any, matrix: np.ndarray, notes: Notes, place: str) -> Lamp | None:
    """A light that is no sun; None if it sends no light.

    Args:
        matrix: (4, 4) f64 to the world.
    """
    power = _power(light, notes, place)
    if power.max() <= 0:
        return None
    # Without normalization the power is that of a square metre.
    per_area = power / math.pi
    if light.type == "AREA":
        surface = _area(light, matrix, notes, place)
        area = _area_of(surface)
        if not area > 0:
            notes.add("a light without an area is not drawn", place)
            return None
    else:
        area = float(per_area.max()) / (0.99 * MAX_RADIANCE)
        ball = _icosphere()
        least = math.sqrt(area / _area_of(ball))
        radius = max(light.shadow_soft_size * (SPOT_SIZE if light.type == "SPOT" else 1), least)
        surface = matrix[:3, 3] + radius * ball
        area = _area_of(surface)
    per_area = per_area / area if getattr(light, "normalize", True) else per_area
    if per_area.max() > MAX_RADIANCE:
        notes.add(f"light is dimmed to the radiance {MAX_RADIANCE:g}", place)
        per_area *= MAX_RADIANCE / per_area.max()
    count = len(surface)
    if light.type == "SPOT":
        notes.add("a spot is drawn as a smaller lamp in a black shade, whose edge is not the blend's", place)
        shade = _shade(light, radius) @ _turn(matrix).T + matrix[:3, 3]
        surface = np.concatenate([surface, shade])
    return Lamp(surface.astype(np.float32), count, [min(float(channel), MAX_RADIANCE) for channel in per_area])


def sun_of(light: Any, matrix: np.ndarray, notes: Notes, place: str) -> dict[str, Any] | None:
    """A sun lamp as a sun of the environment, in the frame of the world; None if it sends no light."""
    irradiance = _power(light, notes, place)
    if irradiance.max() <= 0:
        return None
    toward = matrix[:3, 2] / np.linalg.norm(matrix[:3, 2])
    angle = min(math.degrees(light.angle), LARGEST_SUN)
    return {"direction": toward.tolist(), "irradiance": irradiance.tolist(), "angle": angle}


def environment_of(
    world: Any, suns: list[dict[str, Any]], clear: bool, images: Images, notes: Notes
) -> dict[str, Any] | None:
    """The environment of a world and its suns; None if there is nothing around.

    Args:
        clear: whether pictures are transparent where nothing is.
    """
    entry: dict[str, Any] = {"color": [0.0] * 3}
    node = _background(world, notes)
    if world is not None and node is None:
        entry["color"] = [max(float(channel), 0.0) for channel in list(world.color)[:3]]
        if world.node_tree is not None and getattr(world, "use_nodes", True):
            entry["color"] = [0.0] * 3
    elif node is not None:
        entry = _surroundings(node, images, notes)
    if clear:
        entry["background"] = "transparent"
    dark = "image" not in entry and not any(entry["color"])
    if dark and not suns and not clear:
        return None
    strength, rotation = entry.get("strength", 1.0), entry.get("rotation", 0.0)
    if suns and not strength:
        entry = {"color": [0.0] * 3, "background": entry.get("background", "visible")}
        strength, rotation = 1.0, 0.0
    return {**entry, "suns": [_inside(sun, strength, rotation) for sun in suns]}


def _inside(sun: dict[str, Any], strength: float, rotation: float) -> dict[str, Any]:
    """A sun in the frame of an environment, which turns and multiplies it."""
    x, y, z = sun["direction"]
    c, s = math.cos(math.radians(rotation)), math.sin(math.radians(rotation))
    irradiance = [channel / strength for channel in sun["irradiance"]]
    return {**sun, "direction": [c * x + s * y, c * y - s * x, z], "irradiance": irradiance}


def _background(world: Any, notes: Notes) -> Any:
    """The background node of a world, None without."""
    if world is None or world.node_tree is None or not getattr(world, "use_nodes", True):
        return None
    output = world.node_tree.get_output_node("ALL") or world.node_tree.get_output_node("CYCLES")
    found = None if output is None else source(output.inputs["Surface"])
    if output is not None and source(output.inputs.get("Volume")) is not None:
        notes.add("a volume is not drawn", "world")
    if found is None:
        return None
    if found.node.type == "BACKGROUND":
        return found.node
    notes.add(f"{found.node.name.rstrip('.0123456789')} is not drawn", "world")
    inner = (source(socket) for socket in found.node.inputs.values())
    return next((link.node for link in inner if link is not None and link.node.type == "BACKGROUND"), None)


def _surroundings(node: Any, images: Images, notes: Notes) -> dict[str, Any]:
    """Colour or image of a background node."""
    strength = max(value(node, "Strength", 1.0, notes, "world"), 0.0)
    linked = source(node.inputs["Color"])
    if linked is None or linked.node.type != "TEX_ENVIRONMENT" or linked.node.image is None:
        rgb = colour(node.inputs["Color"], notes, "world")
        return {"color": [max(channel, 0.0) * strength for channel in rgb]}
    picture = linked.node
    if picture.projection != "EQUIRECTANGULAR":
        notes.add("an environment that is not equirectangular is not drawn", "world")
        return {"color": [0.0] * 3}
    name = images.radiance(picture.image)
    if name is None:
        notes.add("an image is missing and not drawn", f"{picture.image.name} of world")
        return {"color": [0.0] * 3}
    return {"image": name, "strength": strength, "rotation": _rotation(picture, notes)}


def _rotation(node: Any, notes: Notes) -> float:
    """Degrees about Z, counter-clockwise, by which an environment is turned."""
    found = source(node.inputs.get("Vector"))
    if found is None:
        return 0.0
    angle = 0.0
    if found.node.type == "MAPPING":
        mapping = found.node
        turn, scale = (list(mapping.inputs[name].default_value) for name in ("Rotation", "Scale"))
        if max(abs(turn[0]), abs(turn[1])) > 1e-6 or max(abs(size - 1) for size in scale) > 1e-6:
            notes.add("of a mapping, only the rotation about Z is drawn", "world")
        # Points are turned before they are looked up, so that the image turns the other way.
        angle = math.degrees(turn[2]) * (1 if mapping.vector_type == "TEXTURE" else -1)
        found = source(mapping.inputs.get("Vector"))
    if found is not None and (found.node.type, found.name) not in DIRECTIONS:
        notes.add(f"coordinates of {found.node.name.rstrip('.0123456789')} are not drawn", "world")
    return angle


def _power(light: Any, notes: Notes, place: str) -> np.ndarray:
    """(3,) power, or irradiance of a sun."""
    tint = np.array(list(light.color)[:3], np.float64) * light.energy * 2.0 ** getattr(light, "exposure", 0.0)
    if getattr(light, "use_temperature", False):
        tint *= np.array(list(light.temperature_color)[:3], np.float64)
    tree = getattr(light, "node_tree", None)
    if tree is not None and light.use_nodes:
        output = tree.get_output_node("ALL")
        found = None if output is None else source(output.inputs["Surface"])
        if found is None or found.node.type != "EMISSION":
            notes.add("nodes of a light are not drawn but for Emission", place)
        else:
            factor = value(found.node, "Strength", 1.0, notes, place)
            tint = tint * factor * np.array(colour(found.node.inputs["Color"], notes, place))
    if tint.min() < 0:
        notes.add("negative light is not drawn", place)
    return np.maximum(tint, 0.0)


def _area(light: Any, matrix: np.ndarray, notes: Notes, place: str) -> np.ndarray:
    """(T, 3, 3) the plane of an area light, which shines along -Z."""
    if getattr(light, "spread", math.pi) < math.pi - 1e-3:
        notes.add("the spread of a light is not drawn, it shines to all sides of its front", place)
    height = light.size_y if light.shape in ("RECTANGLE", "ELLIPSE") else light.size
    if light.shape in ("SQUARE", "RECTANGLE"):
        corners = np.array([(-1, -1), (-1, 1), (1, 1), (1, -1)]) / 2
    else:
        angle = -2 * np.pi * np.arange(SIDES) / SIDES
        corners = np.stack([np.cos(angle), np.sin(angle)], axis=1) / 2
    flat = np.concatenate([corners * (light.size, height), np.zeros((len(corners), 1))], axis=1)
    points = flat @ matrix[:3, :3].T + matrix[:3, 3]
    triangles = np.stack([np.broadcast_to(points[0], points[2:].shape), points[1:-1], points[2:]], axis=1)
    return triangles[:, ::-1] if np.linalg.det(matrix[:3, :3]) < 0 else triangles


def _turn(matrix: np.ndarray) -> np.ndarray:
    """(3, 3) axes of a matrix without its scale."""
    turn: np.ndarray = matrix[:3, :3] / np.linalg.norm(matrix[:3, :3], axis=0)
    return turn


def _shade(light: Any, radius: float) -> np.ndarray:
    """(T, 3, 3) what keeps the light of a ball at the origin inside the cone of a spot along -Z."""
    edge = light.spot_size / 2
    # The soft edge begins at a cosine of 1 - (1 - blend) (1 - cos edge); half of its power is outside of the middle.
    middle = math.acos(math.cos(edge) + (1 - math.cos(edge)) * light.spot_blend / 2)
    slant, gap = SHADE * radius, SHADE_GAP * radius
    profile = [(slant * math.sin(middle), -slant * math.cos(middle)), (gap, gap), (0.0, gap)]
    angle = 2 * np.pi * np.arange(SIDES + 1) / SIDES
    rings = [np.stack([r * np.cos(angle), r * np.sin(angle), np.full(SIDES + 1, z)], axis=1) for r, z in profile]
    outer, back, tip = rings
    corners = [(outer[:-1], outer[1:], back[1:]), (outer[:-1], back[1:], back[:-1]), (back[:-1], back[1:], tip[1:])]
    return np.concatenate([np.stack(triangle, axis=1) for triangle in corners])


def _icosphere() -> np.ndarray:
    """(80, 3, 3) triangles of a ball of radius 1, counter-clockwise seen from outside."""
    golden = (1 + math.sqrt(5)) / 2
    corners = [np.roll((0, a, b), k) for k in range(3) for a in (-1, 1) for b in (-golden, golden)]
    points = np.array(corners, np.float64)
    near = np.isclose(np.linalg.norm(points[:, None] - points, axis=-1), 2)
    faces = [
        t for t in itertools.combinations(range(12), 3) if near[t[0], t[1]] and near[t[1], t[2]] and near[t[0], t[2]]
    ]
    coarse = points[np.array(faces)] / np.linalg.norm(points[0])
    inward = np.einsum("tk,tk->t", np.cross(coarse[:, 1] - coarse[:, 0], coarse[:, 2] - coarse[:, 0]), coarse[:, 0]) < 0
    coarse[inward] = coarse[inward][:, ::-1]
    a, b, c = coarse.transpose(1, 0, 2)
    ab, bc, ca = ((p + q) / np.linalg.norm(p + q, axis=1, keepdims=True) for p, q in ((a, b), (b, c), (c, a)))
    return np.concatenate([np.stack(t, axis=1) for t in ((a, ab, ca), (ab, b, bc), (ca, bc, c), (ab, bc, ca))])


def _area_of(triangles: np.ndarray) -> float:
    cross = np.cross(triangles[:, 1] - triangles[:, 0], triangles[:, 2] - triangles[:, 0])
    return float(np.linalg.norm(cross, axis=1).sum() / 2)
