"""Evaluated scenes of Blender as messages for renderformer.

Legend: T triangles, V vertices, K instances.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from .arrays import name_of
from .images import Images
from .lights import environment_of, lamp_of, sun_of
from .materials import material_of
from .notes import Notes

# Objects that have a surface, evaluated as meshes.
SURFACES = ("MESH", "CURVE", "SURFACE", "META", "FONT")
# Objects that have no surface and never show in a picture.
UNSEEN = ("EMPTY", "CAMERA", "ARMATURE", "LATTICE", "SPEAKER", "LIGHT_PROBE")

# Kinds of rays that Blender can hide an object from, and that we do not tell apart; those of the camera we do.
RAYS = ("diffuse", "glossy", "shadow")


class Shape:
    """The triangles of an evaluated mesh, and the names of their arrays.

    Attributes:
        keys: values of an object's entry.
        slots: numbers of the material slots that the triangles use, in order.
        colors: (T, 3, 3) f32 linear colour attributes at the corners, by name; "" is the one for rendering.
    """

    def __init__(self, mesh: Any) -> None:
        mesh.calc_loop_triangles()
        found = mesh.loop_triangles
        count = len(found)
        self.arrays: dict[str, np.ndarray] = {}
        self.keys: dict[str, str] = {}
        points = np.empty(3 * len(mesh.vertices), np.float32)
        mesh.vertices.foreach_get("co", points)
        corners, loops = np.empty(3 * count, np.int32), np.empty(3 * count, np.int32)
        found.foreach_get("vertices", corners)
        found.foreach_get("loops", loops)
        normals, slots = np.empty(9 * count, np.float32), np.empty(count, np.int32)
        found.foreach_get("split_normals", normals)
        found.foreach_get("material_index", slots)
        triangles = points.reshape(-1, 3)[corners].reshape(count, 3, 3)
        chosen = _usable(triangles)
        self.dropped = int(count - chosen.sum())
        self.slots, number = np.unique(slots[chosen], return_inverse=True)
        layer = next((layer for layer in mesh.uv_layers if layer.active_render), None)
        parts = {"triangles": triangles, "normals": normals.reshape(count, 3, 3)}
        if layer is not None:
            uv = np.empty(2 * len(mesh.loops), np.float32)
            layer.data.foreach_get("uv", uv)
            parts["uv"] = np.nan_to_num(uv.reshape(-1, 2)[loops].reshape(count, 3, 2) * (1, -1) + (0, 1)).astype("f4")
        self.colors = {name: values[chosen] for name, values in _attributes(mesh, corners, loops).items()}
        for key, values in parts.items():
            self._put(key, values[chosen])
        self._put("material", number.astype(np.int32).reshape(-1))

    def __len__(self) -> int:
        return len(self.arrays[self.keys["material"]])

    def _put(self, key: str, values: np.ndarray) -> None:
        self.keys[key] = name_of(values)
        self.arrays[self.keys[key]] = np.ascontiguousarray(values)


def _attributes(mesh: Any, corners: np.ndarray, loops: np.ndarray) -> dict[str, np.ndarray]:
    """The `colors` of a shape: of points or corners of faces, bytes or floats."""
    found: dict[str, np.ndarray] = {}
    layers = getattr(mesh, "color_attributes", ())
    for layer in layers:
        if layer.domain not in ("POINT", "CORNER"):
            continue
        values = np.empty(4 * len(layer.data), np.float32)
        # Linear, of bytes too.
        layer.data.foreach_get("color", values)
        at = corners if layer.domain == "POINT" else loops
        found[layer.name] = np.nan_to_num(values.reshape(-1, 4)[at, :3].reshape(-1, 3, 3))
    shown = getattr(layers, "render_color_index", -1)
    if 0 <= shown < len(layers) and layers[shown].name in found:
        found[""] = found[layers[shown].name]
    return found


def _colours(shape: Shape, materials: list[dict[str, Any]], notes: Notes, place: str) -> dict[str, np.ndarray]:
    """The array `colors` (T, 3, 4) f32 of an object, by this name, if its materials have expressions of attributes;
    these are evaluated at the corners."""
    number = shape.arrays[shape.keys["material"]]
    result: np.ndarray | None = None
    for index, material in enumerate(materials):
        expression = material.get("colors")
        if expression is None:
            continue
        chosen = number == index
        known = {leaf: shape.colors.get(leaf.settings[0]) for leaf in expression.leaves("attribute")}
        for leaf in [leaf for leaf, values in known.items() if values is None]:
            called = f"called {leaf.settings[0]}" if leaf.settings[0] else "for rendering"
            notes.add(f"without a colour attribute of points or corners {called}, black is drawn", place)
        filled = {leaf: np.zeros((chosen.sum(), 3, 3)) if v is None else v[chosen] for leaf, v in known.items()}
        result = np.ones((len(shape), 3, 4), np.float32) if result is None else result
        values = expression.evaluate(filled)
        if bright := int((values > 1).any(axis=(1, 2)).sum()):
            notes.add(f"{bright} triangles that colour attributes make brighter than 1 are drawn as 1", place)
        result[chosen, :, :3] = np.clip(values, 0, 1)
    return {} if result is None else {"colors": result}


def _usable(triangles: np.ndarray) -> np.ndarray:
    """(T,) whether triangles have an area and finite corners."""
    with np.errstate(all="ignore"):
        cross = np.cross(triangles[:, 1] - triangles[:, 0], triangles[:, 2] - triangles[:, 0])
    return np.isfinite(triangles).all(axis=(1, 2)) & np.isfinite(cross).all(axis=1) & cross.any(axis=1)


class Exporter:
    """Makes scenes; shapes and images that did not change are kept from one to the next.

    Attributes:
        notes: lines about the last scene.
    """

    def __init__(self) -> None:
        self.notes: list[str] = []
        self._images = Images()
        self._shapes: dict[Any, Shape | None] = {}

    def forget(self, updates: Any) -> None:
        """Read again what changed, by the updates of a dependency graph."""
        for update in updates:
            original = getattr(update.id, "original", update.id)
            if getattr(original, "colorspace_settings", None) is not None:
                self._images.changed(original)
            elif update.is_updated_geometry or not hasattr(original, "matrix_world"):
                self._shapes = {key: shape for key, shape in self._shapes.items() if original not in key[1]}

    def scene(self, depsgraph: Any, space: Any = None) -> tuple[list[dict[str, Any]], Any, dict[str, np.ndarray]]:
        """The visible objects, the environment, and arrays by name, as `Client.send_scene` takes them.

        Args:
            space: the 3D view in which objects may be hidden; None for a final picture.
        """
        notes = Notes()
        arrays: dict[str, np.ndarray] = {}
        suns: list[dict[str, Any]] = []
        self._images.begin()
        used: dict[Any, Shape | None] = {}
        entries: dict[Any, dict[str, Any]] = {}
        places: dict[Any, list[np.ndarray]] = {}
        for instance in depsgraph.object_instances:
            item = instance.object
            if not instance.show_self or (space is not None and not instance.is_instance
                                          and not item.original.visible_in_viewport_get(space)):  # fmt: skip
                continue
            matrix = np.array(instance.matrix_world, np.float64)
            if item.type == "LIGHT":
                self._light(item, matrix, entries, places, arrays, suns, notes)
                continue
            if item.type not in SURFACES:
                if item.type not in UNSEEN:
                    notes.add(f"objects of type {item.type.lower()} are not drawn", item.name)
                continue
            if abs(np.linalg.det(matrix[:3, :3])) < 1e-30:
                notes.add("objects scaled to nothing are not drawn", item.name)
                continue
            # Geometry nodes make several shapes of one object.
            key = item.type, (item.original, item.original.data), item.data.as_pointer()
            if key not in used:
                used[key] = self._shapes[key] if key in self._shapes else self._shape(item)
                self._describe(key, item, used[key], entries, arrays, notes)
            if used[key] is not None:
                places.setdefault(key, []).append(matrix)
        self._shapes = used
        clear = bool(depsgraph.scene.render.film_transparent)
        environment = environment_of(depsgraph.scene.world, suns, clear, self._images, notes)
        names = _distinct([entry["name"] for entry in entries.values()])
        objects = [
            {**entry, "name": name, "instances": _put(np.stack(places[key]), arrays)}
            for name, (key, entry) in zip(names, entries.items(), strict=True)
        ]
        if depsgraph.scene.render.use_motion_blur:
            notes.add("motion blur is not drawn")
        self.notes = notes.lines
        return objects, environment, {**arrays, **self._images.arrays}

    def _shape(self, item: Any) -> Shape | None:
        """The shape of an object; None without a surface."""
        mesh = item.to_mesh()
        if mesh is None:
            return None
        try:
            shape = Shape(mesh)
        finally:
            item.to_mesh_clear()
        return shape if len(shape) else None

    def _describe(
        self, key: Any, item: Any, shape: Shape | None, entries: dict[Any, dict[str, Any]],
        arrays: dict[str, np.ndarray], notes: Notes,
    ) -> None:  # fmt: skip
        """Add the entry of an object with its materials."""
        if shape is None:
            return
        if not all(getattr(item, f"visible_{kind}", True) for kind in RAYS):
            notes.add("objects hidden from some rays are drawn for all", item.name)
        for kind in ("shadow_catcher", "holdout"):
            if getattr(item, f"is_{kind}", False):
                notes.add(f"{kind.replace('_', ' ')}s are drawn as other objects", item.name)
        if shape.dropped:
            notes.add(f"{shape.dropped} triangles without an area are left out", item.name)
        slots = [slot.material for slot in item.material_slots]
        used = [slots[min(slot, len(slots) - 1)] if slots else None for slot in shape.slots.tolist()]
        materials = [material_of(material, self._images, notes) for material in used]
        if "uv" not in shape.keys and any("textures" in material for material in materials):
            notes.add("textures of objects without a UV map are not drawn", item.name)
            materials = [{k: v for k, v in material.items() if k != "textures"} for material in materials]
        colours = {key: _put(values, arrays) for key, values in _colours(shape, materials, notes, item.name).items()}
        materials = [{k: v for k, v in material.items() if k != "colors"} for material in materials]
        entries[key] = {
            "name": item.name,
            "materials": materials,
            "camera_sides": _sides(item),
            **shape.keys,
            **colours,
        }
        arrays.update(shape.arrays)

    def _light(
        self, item: Any, matrix: np.ndarray, entries: dict[Any, dict[str, Any]], places: dict[Any, list[np.ndarray]],
        arrays: dict[str, np.ndarray], suns: list[dict[str, Any]], notes: Notes,
    ) -> None:  # fmt: skip
        """Add a light as a glowing object, or a sun."""
        if item.data.type == "SUN":
            sun = sun_of(item.data, matrix, notes, item.name)
            suns += [sun] if sun else []
            return
        lamp = lamp_of(item.data, matrix, notes, item.name)
        if lamp is None:
            return
        key = ("LIGHT", len(entries))
        dark = {"diffuse": [0.0] * 3, "roughness": 1.0}
        number = np.zeros(len(lamp.triangles), np.int32)
        number[lamp.glowing :] = 1
        entries[key] = {
            "name": item.name, "materials": [{**dark, "emissive": lamp.radiance}, dark],
            "triangles": _put(lamp.triangles, arrays), "material": _put(number, arrays),
            "camera_sides": _sides(item),
        }  # fmt: skip
        places[key] = [np.eye(4)]


def _sides(item: Any) -> str:
    """Whether the camera sees an object; Blender hides new lights from it."""
    return "both" if getattr(item, "visible_camera", True) else "none"


def _put(values: np.ndarray, arrays: dict[str, np.ndarray]) -> str:
    """Add an array; its name."""
    name = name_of(values)
    arrays[name] = np.ascontiguousarray(values)
    return name


def _distinct(names: list[str]) -> list[str]:
    """The names, with numbers at those that occurred before."""
    result: dict[str, None] = {}
    for name in names:
        unique, number = name, 2
        while unique in result:
            unique, number = f"{name} {number}", number + 1
        result[unique] = None
    return list(result)
