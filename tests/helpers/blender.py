"""Stand-ins of Blender's data, as far as the add-on reads them, for machines without Blender."""

from __future__ import annotations

import math
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import numpy as np


class Column(list[Any]):
    """A collection whose items have numbers, read all at once as `foreach_get` does."""

    def __init__(self, length: int, **columns: Any) -> None:
        super().__init__(range(length))
        self._columns = columns

    def foreach_get(self, name: str, target: np.ndarray) -> None:
        target[:] = np.asarray(self._columns[name]).reshape(-1)


def mesh(triangles: Any, normals: Any, uv: Any = None, slots: Any = None) -> SimpleNamespace:
    """A mesh of T triangles (T, 3, 3) with normals and texture coordinates of their corners."""
    points = np.asarray(triangles, np.float32)
    count = len(points)
    corners = np.arange(3 * count)
    layers = []
    if uv is not None:
        layers = [SimpleNamespace(active_render=True, data=Column(3 * count, uv=uv))]
    found = Column(
        count, vertices=corners, loops=corners, split_normals=normals,
        material_index=np.zeros(count, int) if slots is None else slots,
    )  # fmt: skip
    return SimpleNamespace(
        vertices=Column(3 * count, co=points), loop_triangles=found, uv_layers=layers, loops=Column(3 * count),
        calc_loop_triangles=lambda: None,
    )  # fmt: skip


class Attributes(list[Any]):
    """Colour attributes of a mesh, of which the first is for rendering."""

    render_color_index = 0


def attributes(layers: dict[str, tuple[str, np.ndarray]]) -> Attributes:
    """Colour attributes by name, each with its domain and RGBA values."""
    return Attributes(
        SimpleNamespace(name=name, domain=domain, data=Column(len(values), color=values))
        for name, (domain, values) in layers.items()
    )


class Thing:
    """An object. `reads` counts how often its mesh was made."""

    def __init__(self, name: str, kind: str, data: Any, materials: Any = (), shape: Any = None) -> None:
        self.name, self.type, self.original = name, kind, self
        self.data, self._shape = data, shape
        self.material_slots = [SimpleNamespace(material=material) for material in materials]
        self.matrix_world, self.reads = np.eye(4), 0

    def to_mesh(self) -> Any:
        self.reads += 1
        return self._shape

    def to_mesh_clear(self) -> None:
        pass

    def visible_in_viewport_get(self, space: Any) -> bool:
        return self.name not in space.hidden


class Data:
    """The mesh of an object."""

    def as_pointer(self) -> int:
        return id(self)


def solid(name: str, shape: Any, *materials: Any) -> Thing:
    """An object with a mesh."""
    return Thing(name, "MESH", Data(), materials, shape)


def light(kind: str, **values: Any) -> SimpleNamespace:
    """A light of 100 W, or of 1 W/m2 if it is a sun."""
    defaults: dict[str, Any] = {
        "type": kind, "energy": 1.0 if kind == "SUN" else 100.0, "color": (1.0, 1.0, 1.0), "shape": "SQUARE",
        "size": 1.0, "size_y": 0.5, "shadow_soft_size": 0.1, "spot_size": 0.8, "spot_blend": 0.15, "angle": 0.01,
        "node_tree": None, "spread": math.pi, "use_nodes": False,
    }  # fmt: skip
    return SimpleNamespace(**(defaults | values))


def instance(item: Thing, matrix: Any = None, copy: bool = False) -> SimpleNamespace:
    """An object at its place, or a copy of it at another."""
    place = np.asarray(item.matrix_world if matrix is None else matrix)
    return SimpleNamespace(object=item, show_self=True, is_instance=copy, matrix_world=place)


def depsgraph(*instances: SimpleNamespace, world: Any = None, clear: bool = False) -> SimpleNamespace:
    """An evaluated scene."""
    render = SimpleNamespace(film_transparent=clear, use_motion_blur=False)
    scene = SimpleNamespace(render=render, world=world, camera=None)
    layer = SimpleNamespace(name="Layer")
    return SimpleNamespace(object_instances=instances, scene=scene, view_layer=layer, updates=())


class Node:
    """A node. Inputs are given by name with a value; a `Node` or a pair (node, output) instead of a value is a link."""

    def __init__(self, kind: str, inputs: dict[str, Any] | None = None, **values: Any) -> None:
        self.type, self.name, self.image = kind, kind.replace("_", " ").title(), None
        vars(self).update(values)
        self.inputs = {name: self._socket(name, value) for name, value in (inputs or {}).items()}

    @staticmethod
    def _socket(name: str, value: Any) -> SimpleNamespace:
        node, output = value if isinstance(value, tuple) and isinstance(value[0], Node) else (value, "Color")
        if not isinstance(node, Node):
            return SimpleNamespace(name=name, type="VALUE", is_linked=False, links=[], default_value=value)
        other = SimpleNamespace(node=node, name=output)
        kind = "SHADER" if "BSDF" in node.type or node.type.endswith("SHADER") else "RGBA"
        links = [SimpleNamespace(from_socket=other, is_muted=False)]
        default = (0.3, 0.3, 0.3, 1.0) if "Color" in name else 0.3
        return SimpleNamespace(name=name, type=kind, is_linked=True, links=links, default_value=default)


def principled(**inputs: Any) -> Node:
    """A Principled BSDF with Blender's values; keys have underscores for spaces."""
    values: dict[str, Any] = {
        "Base Color": (0.8, 0.8, 0.8, 1.0), "Metallic": 0.0, "Roughness": 0.5, "IOR": 1.5, "Alpha": 1.0,
        "Specular IOR Level": 0.5, "Transmission Weight": 0.0, "Subsurface Weight": 0.0, "Coat Weight": 0.0,
        "Emission Color": (1.0, 1.0, 1.0, 1.0), "Emission Strength": 0.0, "Normal": (0.0, 0.0, 0.0),
    }  # fmt: skip
    given = {name.replace("_", " "): value for name, value in inputs.items()}
    return Node("BSDF_PRINCIPLED", values | given)


def tree(node: Node | None) -> SimpleNamespace:
    """A node tree with this node at the surface of its output."""
    output = Node("OUTPUT", {"Surface": 0.0 if node is None else node})
    return SimpleNamespace(get_output_node=lambda kind: output)


def material(node: Node | None, name: str = "paint") -> SimpleNamespace:
    """A material of one shader."""
    return SimpleNamespace(name=name, use_nodes=True, node_tree=tree(node))


def world(node: Node) -> SimpleNamespace:
    """A world of one shader."""
    return SimpleNamespace(color=(0.05, 0.05, 0.05), use_nodes=True, node_tree=tree(node))


class Image:
    """An image of values (H, W, 4), row 0 at the top."""

    def __init__(self, values: Any, space: str = "sRGB", is_float: bool = False, name: str = "image") -> None:
        pixels = np.asarray(values, np.float32)
        self.size, self.channels = (pixels.shape[1], pixels.shape[0]), 4
        self.name, self.is_float, self.has_data = name, is_float, True
        self.colorspace_settings = SimpleNamespace(name=space)
        self.original, self.reads, self._values = self, 0, pixels[::-1].reshape(-1)

    @property
    def pixels(self) -> Image:
        return self

    def __iter__(self) -> Iterator[float]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)

    def foreach_get(self, target: np.ndarray) -> None:
        self.reads += 1
        target[:] = self._values


def picture(image: Image, vector: Any = (0.0, 0.0, 0.0), extension: str = "REPEAT") -> Node:
    """An image texture."""
    return Node("TEX_IMAGE", {"Vector": vector}, image=image, extension=extension, projection="FLAT")


def mapping(location: Any, rotation: Any, scale: Any, source: Any, kind: str = "POINT") -> Node:
    """A mapping node."""
    inputs = {"Vector": source, "Location": location, "Rotation": rotation, "Scale": scale}
    return Node("MAPPING", inputs, vector_type=kind)


def projection(
    width: int, height: int, lens: float = 50.0, shift: Any = (0.0, 0.0), sensor: float = 36.0
) -> np.ndarray:
    """The (4, 4) projection of a camera whose sensor fits the longer side, worked out on the sensor: the picture's
    plane at the focal length, moved by a share of its longer side."""
    longer = max(width, height)
    half = np.array([width, height]) / longer * sensor / 2
    middle = np.asarray(shift) * sensor
    (left, bottom), (right, top) = middle - half, middle + half
    near, far = 1.0, 100.0
    scale = near / lens
    left, right, bottom, top = (value * scale for value in (left, right, bottom, top))
    return np.array([
        [2 * near / (right - left), 0, (right + left) / (right - left), 0],
        [0, 2 * near / (top - bottom), (top + bottom) / (top - bottom), 0],
        [0, 0, -(far + near) / (far - near), -2 * far * near / (far - near)],
        [0, 0, -1, 0],
    ])  # fmt: skip
