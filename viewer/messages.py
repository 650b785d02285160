"""Messages between `renderformer serve` and the program that started it, and the scenes in them.

A message is its length in eight bytes (little-endian) and so many bytes of safetensors: arrays by name, of which
`message` holds the UTF-8 text of a JSON object. docs/blender.md describes the objects.

Legend: T triangles of a geometry, K instances of it.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping
from dataclasses import replace
from typing import Annotated, Any, BinaryIO, Literal

import numpy as np
import numpy.typing as npt
from PIL import Image
from pydantic import Field
from safetensors import SafetensorError
from safetensors.numpy import load, save

from renderformer.data.appearance import Appearance, joined
from renderformer.data.arrays import AnyArray, Float32Array, Float64Array, UInt8Array
from renderformer.data.camera import Camera
from renderformer.data.declared import Declared
from renderformer.data.environment import MAX_STRENGTH, BackgroundKind, Environment, Sun
from renderformer.data.errors import InputError
from renderformer.data.formats.scene_json_environment import Light, SunEntry
from renderformer.data.formats.scene_json_full import MaterialEntry, TextureEntry
from renderformer.data.formats.scene_json_shared import Number
from renderformer.data.formats.textures import PictureDecoder
from renderformer.data.material import Material, Textures
from renderformer.data.scene import CameraSides, Mesh, Scene
from renderformer.data.texture import Texture
from renderformer.renderer import MAX_SIDE

# A longer message is damaged.
MAX_BYTES = 1 << 36
JSON = "message"
Arrays = dict[str, AnyArray]
_Side = Annotated[int, Field(ge=1, le=MAX_SIDE)]
_Row = tuple[Number, Number, Number, Number]


class GeometryEntry(Declared):
    """Objects of one shape; each value is the name of an array.

    Attributes:
        triangles: (T, 3, 3) f32 corners, counter-clockwise seen from outside.
        normals: (T, 3, 3) f32 at the corners; None for those of the faces.
        uv: (T, 3, 2) f32, origin at the upper left; None without.
        colors: (T, 3, 4) f32 linear RGBA at the corners, which multiply base colour and alpha; None without.
        material: (T,) i32 numbers in `materials` of the object.
        instances: (K, 4, 4) f64 from here to the world.
        camera_sides: see `Mesh.camera_sides`.
    """

    name: str
    triangles: str
    normals: str | None = None
    uv: str | None = None
    colors: str | None = None
    material: str
    instances: str
    materials: Annotated[tuple[MaterialEntry, ...], Field(min_length=1)]
    camera_sides: CameraSides = "both"


class SurroundingsEntry(Declared):
    """The environment; `image` names an array (H, W, 3) f32."""

    image: str | None = None
    color: tuple[Light, Light, Light] = (0.0, 0.0, 0.0)
    strength: Annotated[float, Field(ge=0, le=MAX_STRENGTH)] = 1.0
    rotation: Number = 0.0
    background: BackgroundKind = "visible"
    suns: tuple[SunEntry, ...] = ()


class SceneMessage(Declared):
    """A whole scene. Textures of materials are as in scene JSON 1.0+renderformer, with names of arrays as paths; arrays
    that an earlier scene brought need not come again."""

    do: Literal["scene"]
    objects: tuple[GeometryEntry, ...]
    environment: SurroundingsEntry | None = None


class FrameMessage(Declared):
    """Asks for pictures of the newest scene.

    Attributes:
        number: is repeated by the answers.
        c2w, fov: see `Camera`, of the picture of `width` x `height` pixels, of which `window` is sent: left, top, right
            and bottom; None for all of it.
        growing: whether coarse pictures come before the final one.
    """

    do: Literal["frame"]
    number: int
    c2w: tuple[_Row, _Row, _Row, _Row]
    fov: float
    width: _Side
    height: _Side
    window: tuple[int, int, int, int] | None = None
    growing: bool = True

    def camera(self) -> Camera:
        """The camera of the whole picture."""
        return Camera(np.array(self.c2w, np.float32), self.fov, "view")

    def part(self) -> tuple[int, int, int, int]:
        """Left, top, right and bottom of the part that is sent.

        Raises:
            InputError: it does not lie in the picture.
        """
        left, top, right, bottom = self.window or (0, 0, self.width, self.height)
        if not (0 <= left < right <= self.width and 0 <= top < bottom <= self.height):
            problem = f"window is {[left, top, right, bottom]}"
            raise InputError("frame", problem, f"expected a part of {self.width} x {self.height} pixels")
        return left, top, right, bottom


def packed(message: Mapping[str, Any], arrays: Mapping[str, AnyArray] | None = None) -> bytes:
    """The bytes of a message, its length first."""
    text = np.frombuffer(json.dumps(message, allow_nan=False).encode(), np.uint8)
    content = save({**{name: np.ascontiguousarray(a) for name, a in (arrays or {}).items()}, JSON: text})
    return struct.pack("<Q", len(content)) + content


def read(stream: BinaryIO) -> tuple[dict[str, Any], Arrays] | None:
    """The next message and its arrays; None at the end of the stream.

    Raises:
        InputError: what comes is no message. What follows cannot be read then.
    """
    head = stream.read(8)
    if not head:
        return None
    length = struct.unpack("<Q", head)[0] if len(head) == 8 else MAX_BYTES + 1
    if length > MAX_BYTES:
        raise InputError("message", "the stream holds no messages", "start renderformer serve from a program")
    content = stream.read(length)
    if len(content) < length:
        return None
    try:
        arrays = load(content)
        message = json.loads(arrays.pop(JSON).tobytes())
    except (SafetensorError, ValueError, LookupError, RecursionError) as error:
        raise InputError("message", f"is damaged ({error})"[:200]) from None
    if not isinstance(message, dict):
        raise InputError("message", "is no JSON object")
    return message, arrays


class SceneReader:
    """Makes scenes of messages; arrays, textures and meshes that did not change are kept from one to the next."""

    def __init__(self) -> None:
        self._arrays: Arrays = {}
        self._textures: dict[str, Texture] = {}
        self._meshes: dict[str, Mesh] = {}
        self._used: set[str] = set()
        self._notes: list[str] = []

    def scene(self, message: SceneMessage, arrays: Arrays) -> Scene:
        """The scene of a message.

        Raises:
            InputError: no objects, values out of range, or arrays that are missing or do not fit.
        """
        self._arrays.update(arrays)
        self._used, self._notes = set(), []
        self._decoder = PictureDecoder(self._notes)
        textures, meshes = self._textures, self._meshes
        self._textures, self._meshes = {}, {}
        objects = []
        for entry in message.objects:
            try:
                objects.append(self._mesh(entry, textures, meshes))
            except InputError as error:
                raise error.within(f"object {entry.name!r}") from None
        if not objects:
            raise InputError("scene", "has no surfaces", "add an object that is a mesh")
        environment = None if message.environment is None else self._environment(message.environment)
        self._arrays = {name: self._arrays[name] for name in self._used}
        return Scene(tuple(objects), name="scene", notes=tuple(self._notes), environment=environment)

    def _array(self, name: str, kind: npt.DTypeLike, *shape: int | None) -> AnyArray:
        """An array by name, of a type and a shape in which None is any length."""
        array = self._arrays.get(name)
        if array is None:
            raise InputError("", f"the array {name!r} is missing", "send it")
        fits = len(array.shape) == len(shape) and all(b in (None, a) for a, b in zip(array.shape, shape, strict=True))
        if array.dtype != kind or not fits:
            raise InputError("", f"the array {name!r} is {array.dtype} of shape {array.shape}", "send another")
        self._used.add(name)
        return array

    def _mesh(self, entry: GeometryEntry, textures: dict[str, Texture], meshes: dict[str, Mesh]) -> Mesh:
        key = entry.model_dump_json()
        triangles: Float32Array = self._array(entry.triangles, np.float32, None, 3, 3)
        count = len(triangles)
        normals = None if entry.normals is None else self._array(entry.normals, np.float32, count, 3, 3)
        uv = None if entry.uv is None else self._array(entry.uv, np.float32, count, 3, 2)
        colors = None if entry.colors is None else self._array(entry.colors, np.float32, count, 3, 4)
        number = self._array(entry.material, np.int32, count)
        places = self._array(entry.instances, np.float64, None, 4, 4)
        materials = [self._material(material, textures) for material in entry.materials]
        if key not in meshes:
            if len(number) and not 0 <= number.min() <= number.max() < len(materials):
                raise InputError("", "a triangle has a material that does not exist", f"there are {len(materials)}")
            mesh = _placed(_shaped(entry.name, triangles, normals, uv, colors, number, materials), places)
            meshes[key] = replace(mesh, camera_sides=entry.camera_sides)
        self._meshes[key] = meshes[key]
        return meshes[key]

    def _material(self, entry: MaterialEntry, known: dict[str, Texture]) -> Material:
        images = {} if entry.textures is None else dict(entry.textures)
        textures = {kind: self._texture(item, known) for kind, item in images.items() if item is not None}
        return Material(
            entry.diffuse, entry.specular, entry.roughness, entry.emissive, entry.metallic, Textures(**textures),
            entry.normal_scale, entry.alpha, entry.alpha_cutoff, entry.two_sided,
        )  # fmt: skip

    def _texture(self, entry: TextureEntry, known: dict[str, Texture]) -> Texture:
        key = entry.model_dump_json()
        pixels: UInt8Array = self._array(entry.path, np.uint8, None, None, None)
        if key not in known:
            srgb = True if entry.srgb is None else entry.srgb
            reduced = self._decoder.pixels(_picture(pixels), "texture", srgb, alpha=True)
            if reduced is None:
                raise InputError("", self._notes.pop(), "use another picture")
            matrix = None if entry.matrix is None else np.array(entry.matrix, np.float64)
            known[key] = Texture(reduced, srgb, matrix, entry.wrap, entry.uv_set)
        self._textures[key] = known[key]
        return known[key]

    def _environment(self, entry: SurroundingsEntry) -> Environment:
        try:
            image: Any = entry.color if entry.image is None else self._array(entry.image, np.float32, None, None, 3)
            suns = tuple(Sun(sun.direction, sun.irradiance, sun.angle) for sun in entry.suns)
            return Environment(image, entry.strength, entry.rotation, entry.background, suns)
        except InputError as error:
            raise error.within("environment") from None


def _picture(pixels: UInt8Array) -> Image.Image:
    if not pixels.size or pixels.shape[2] not in (3, 4):
        raise InputError("", f"a texture has shape {pixels.shape}", "expected (H, W, 3) or (H, W, 4)")
    return Image.fromarray(pixels)


def _shaped(
    name: str,
    triangles: Float32Array,
    normals: Float32Array | None,
    uv: Float32Array | None,
    colors: Float32Array | None,
    number: AnyArray,
    materials: list[Material],
) -> Mesh:
    """The mesh of an object before it is placed."""
    sides = np.array([material.two_sided for material in materials])[number]
    given: Any = normals
    if colors is None and all(material.plain for material in materials):
        rows = np.stack([material.row() for material in materials])[number]
        return Mesh(name, triangles, given, rows, two_sided=sides)
    corners = np.zeros((len(triangles), 3, 0, 2), np.float32) if uv is None else uv
    look = Appearance(tuple(materials), number, corners, colors)
    return Mesh(name, triangles, given, appearance=look, two_sided=sides)


def _placed(mesh: Mesh, places: Float64Array) -> Mesh:
    """The instances of a mesh as one; mirrored ones come last."""
    if not len(places):
        raise InputError("", "has no instances", "send at least one")
    size = np.linalg.det(places[:, :3, :3]) if np.isfinite(places).all() else np.zeros(1)
    if np.abs(size).min() < 1e-30:
        raise InputError("", "an instance has a matrix that cannot be used", "send invertible ones of finite numbers")
    mirrored = int((size < 0).sum())
    groups = [_copied(mesh, places[size > 0])]
    if mirrored:
        groups.append(_copied(_turned_over(mesh), places[size < 0]))
    corners, normals, rows = (np.concatenate(parts) for parts in zip(*groups, strict=True))
    looks = [mesh.appearance] * (len(places) - mirrored)
    looks += [None if mesh.appearance is None else mesh.appearance.turned_over()] * mirrored
    return Mesh(
        mesh.name,
        corners,
        normals,
        rows,
        appearance=joined(looks, [len(mesh)] * len(places)),
        two_sided=mesh.sides(np.tile(np.arange(len(mesh)), len(places))),
    )


def _copied(mesh: Mesh, places: Float64Array) -> tuple[Float32Array, Float32Array, Float32Array]:
    """Corners, normals and material rows of the copies of a mesh."""
    turns, points, normals = places[:, :3, :3], mesh.triangles.reshape(-1, 3), mesh.normals.reshape(-1, 3)
    corners = points @ turns.swapaxes(1, 2) + places[:, None, :3, 3]
    normals = normals @ np.linalg.inv(turns)
    length = np.linalg.norm(normals, axis=-1, keepdims=True)
    normals = np.divide(normals, length, out=np.zeros_like(normals), where=length > 0)
    rows = np.tile(mesh.materials, (len(places), 1))
    return corners.reshape(-1, 3, 3).astype(np.float32), normals.reshape(-1, 3, 3).astype(np.float32), rows


def _turned_over(mesh: Mesh) -> Mesh:
    """The mesh with the second and third corner exchanged, which a mirror turns back."""
    order = [0, 2, 1]
    return replace(mesh, triangles=mesh.triangles[:, order], normals=mesh.normals[:, order])
