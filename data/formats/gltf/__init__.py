"""glTF 2.0 and GLB: geometry as posed, materials, lights and cameras, turned from Y up to Z up.

This package does not use trimesh, which rounds factors to 8 bits, ignores `sparse` and `normalized`, gives primitives
random names and loses the children of camera nodes.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from renderformer.data.arrays import Float64Array
from renderformer.data.errors import InputError
from renderformer.data.formats.folder import Folder
from renderformer.data.formats.gltf.animation import duration, first_frame, pose_at
from renderformer.data.formats.gltf.cameras import cameras
from renderformer.data.formats.gltf.compression import DRACO
from renderformer.data.formats.gltf.document import Document
from renderformer.data.formats.gltf.geometry import Geometry
from renderformer.data.formats.gltf.lights import LIGHTS, Punctual, candela_per_watt, light_part, punctual_lights, sky
from renderformer.data.formats.gltf.materials import Materials
from renderformer.data.formats.gltf.nodes import INSTANCING, Nodes
from renderformer.data.formats.parts import MeshFile, Part

# A quarter turn about X, from Y up to Z up.
# Extensions that a file may require; of materials, all: what is not drawn is told.
_READ = {
    DRACO,
    INSTANCING,
    LIGHTS,
    "EXT_meshopt_compression",
    "KHR_meshopt_compression",
    "KHR_mesh_quantization",
    "KHR_texture_transform",
}
_TOLD = ("KHR_materials_", "KHR_texture_basisu", "EXT_texture_")
_TURN = np.array([[1.0, 0, 0, 0], [0, 0, -1, 0], [0, 1, 0, 0], [0, 0, 0, 1]])


def read(file: MeshFile) -> Iterator[Part]:
    """The triangle primitives of the default scene, once per node that refers to them, in file order, then the lights.

    Cameras are added to the file. A bare file keeps Y up and the pose of its nodes; it has no materials, lights and
    cameras.

    Raises:
        InputError: the file is damaged, or refers to a file or extension that cannot be read.
    """
    document = _document(file)
    if file.bare:
        nodes = Nodes(document, {})
        yield from Geometry(document, nodes, None, file.notes).parts(nodes.visits())
        return
    required = document.header.get("extensionsRequired")
    names = {str(name)[:60] for name in required} if isinstance(required, list) else set()
    unread = sorted(name for name in names - _READ if not name.startswith(_TOLD))
    if unread:
        file.notes.lines.append(
            f"needs {', '.join(unread[:4])}, which is not read; parts of it may be missing or wrong"
        )
    if file.time is None:
        poses, animation = first_frame(document)
    else:
        poses, animation = pose_at(document, file.animation, file.time)
    nodes = Nodes(document, poses)
    visits = nodes.visits()
    bounds = _Bounds()
    materials = Materials(document, file.notes)
    geometry = Geometry(document, nodes, materials, file.notes)
    for part in geometry.parts(visits):
        bounds.add(part)
        yield _turned(part)
    file.cameras += [camera.transformed(_TURN) for camera in cameras(document, visits, file.notes)]
    lights = punctual_lights(document, visits, file.notes) if bounds.diagonal > 0 else []
    suns = [light for light in lights if light.kind == "directional"]
    lamps = [light for light in lights if light.kind != "directional"]
    lux, candela = candela_per_watt(suns, bounds.centre), candela_per_watt(lamps, bounds.centre)
    file.environment, dimmed = sky(suns, lux)
    for light in lamps:
        part, weaker = light_part(light, bounds.diagonal, candela)
        dimmed += weaker
        yield _turned(part)
    file.notes.counts["lights of the file dimmed, they are brighter than can be drawn"] += dimmed
    when = "in the first frame" if file.time is None else f"{file.time:.4g} s after the start"
    posed = f"posed as {when} of the animation {animation!r}" if poses else ""
    # One line, because a file that has all of this is still an ordinary file.
    facts = [posed, _note(lights, max(lux, candela)), materials.note()]
    file.notes.lines += ["; ".join(filter(None, facts))] if any(facts) else []


def animation_length(file: MeshFile) -> float | None:
    """Seconds of `MeshFile.animation`; None for a file without animations.

    Raises:
        InputError: there is no such animation, or the file is damaged.
    """
    return duration(_document(file), file.animation)


def _document(file: MeshFile) -> Document:
    folder = Folder(file)

    def fetch(name: str) -> bytes:
        try:
            return folder.read(name)
        except InputError as error:
            raise InputError("", f"needs {error.problem}", error.remedy) from None

    return Document(file.data, fetch)


def _note(lights: list[Punctual], candela: float) -> str:
    """What became of the lights; empty without lights."""
    if not lights:
        return ""
    spots = sum(light.kind == "spot" for light in lights)
    suns = sum(light.kind == "directional" for light in lights)
    remarks = [f"{candela:g} candela a watt"] * (candela != 1)
    remarks += [f"{spots} spots drawn without their cones"] * bool(spots)
    remarks += [f"{suns} suns with a sky"] * bool(suns)
    return f"{len(lights)} lights of the file" + (f" ({', '.join(remarks)})" if remarks else "")


def _turned(part: Part) -> Part:
    """The part turned from Y up to Z up."""
    part.vertices = part.vertices[:, [0, 2, 1]] * (1, -1, 1)
    part.normals = None if part.normals is None else part.normals[:, [0, 2, 1]] * (1, -1, 1)
    part.tangents = None if part.tangents is None else part.tangents[:, [0, 2, 1, 3]] * (1, -1, 1, 1)
    return part


class _Bounds:
    """The box around the vertices of faces, in the axes of the file."""

    def __init__(self) -> None:
        self._low, self._high = np.full(3, np.inf), np.full(3, -np.inf)

    def add(self, part: Part) -> None:
        inside = (part.faces >= 0) & (part.faces < len(part.vertices))
        points = part.vertices[part.faces[inside]]
        if len(points):
            self._low = np.minimum(self._low, points.min(axis=0))
            self._high = np.maximum(self._high, points.max(axis=0))

    @property
    def centre(self) -> Float64Array:
        result: Float64Array = (self._low + self._high) / 2
        return result

    @property
    def diagonal(self) -> float:
        """0 without faces or with vertices that are not finite."""
        size = float(np.linalg.norm(self._high - self._low)) if (self._high >= self._low).all() else 0.0
        return size if np.isfinite(size) else 0.0
