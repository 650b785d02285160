"""Version "1.0+renderformer" of scene JSON: objects with textures, texture coordinates, normals and several materials
in full precision, named cameras, and an environment.

An object as in version 1.0, whose material has `smooth_shading`, is read as there. Other objects keep what their mesh
file says, but for a `material` or `materials` in the scene. Geometry is saved as in `triangle_ply`, so a scene that was
read is the scene that was saved.

Legend: N triangles of an object.
"""

from __future__ import annotations

from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Annotated, Any, Final, Literal

import numpy as np
from PIL import Image
from pydantic import Field, model_validator

from renderformer.data.appearance import Appearance, joined
from renderformer.data.arrays import BoolArray, Int32Array, UInt8Array
from renderformer.data.camera import Camera
from renderformer.data.declared import Declared
from renderformer.data.errors import InputError
from renderformer.data.files import MAX_FILE_BYTES, read_bytes
from renderformer.data.formats import scene_json_plain as plain
from renderformer.data.formats import triangle_ply
from renderformer.data.formats.mesh_file import load_geometry, load_mesh_file
from renderformer.data.formats.scene_json_environment import EnvironmentEntry, environment_entry, environment_of
from renderformer.data.formats.scene_json_shared import (
    Number,
    Radiance,
    Share,
    TransformEntry,
    Vector,
    path_inside,
    short,
    short_colour,
    slug,
)
from renderformer.data.formats.textures import PictureDecoder
from renderformer.data.formats.triangle_ply import MAX_SETS, Triangles
from renderformer.data.geometry.light_sides import with_sides
from renderformer.data.material import Material, Textures
from renderformer.data.scene import CameraSides, Mesh, Scene
from renderformer.data.texture import Texture

VERSION: Final = "1.0+renderformer"
PICTURES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tga", ".tif", ".tiff")
MAX_MATERIALS = 100_000
_SRGB = ("base", "specular", "emission")
Wrapping = Literal["repeat", "clamp", "mirror"]


class TextureEntry(Declared):
    """A texture of a material; `path` is relative to the folder of the scene."""

    path: str
    srgb: bool | None = None
    wrap: tuple[Wrapping, Wrapping] = ("repeat", "repeat")
    matrix: tuple[Vector, Vector] | None = None
    uv_set: Annotated[int, Field(ge=0, lt=MAX_SETS)] = 0


class TexturesEntry(Declared):
    """`textures` of a material, see `renderformer.data.material.Textures`."""

    base: TextureEntry | None = None
    metallic_roughness: TextureEntry | None = None
    specular: TextureEntry | None = None
    emission: TextureEntry | None = None
    normal: TextureEntry | None = None


class MaterialEntry(Declared):
    """A material, see `renderformer.data.material.Material`; `vertex_colors`: whether those of the mesh multiply it."""

    diffuse: tuple[Share, Share, Share] = (0.5, 0.5, 0.5)
    specular: tuple[Share, Share, Share] = (0.0, 0.0, 0.0)
    roughness: Share = 0.5
    emissive: tuple[Radiance, Radiance, Radiance] = (0.0, 0.0, 0.0)
    metallic: Share | None = None
    textures: TexturesEntry | None = None
    normal_scale: Number = 1.0
    alpha: Share = 1.0
    alpha_cutoff: Annotated[float, Field(ge=0, le=1e6)] | None = None
    two_sided: bool = False
    vertex_colors: bool = True


class PlacingEntry(TransformEntry):
    """`transform`, whose keys may be left out."""

    translation: Vector = (0.0, 0.0, 0.0)
    rotation: Vector = (0.0, 0.0, 0.0)
    scale: Vector = (1.0, 1.0, 1.0)


class ObjectEntry(Declared):
    """One of `objects`; without `material` and `materials` it has those of its mesh file."""

    mesh_path: str
    material: MaterialEntry | None = None
    materials: Annotated[tuple[MaterialEntry, ...], Field(max_length=MAX_MATERIALS)] | None = None
    transform: PlacingEntry | None = None
    camera_sides: CameraSides = "both"


class CameraEntry(Declared):
    """One of `cameras`: position, look_at and up as in version 1.0, or `c2w`, see `Camera`."""

    name: str | None = None
    position: Vector | None = None
    look_at: Vector | None = None
    up: Vector | None = None
    c2w: tuple[tuple[Number, Number, Number, Number], ...] | None = None
    fov: Number

    @model_validator(mode="after")
    def _check_place(self) -> CameraEntry:
        given = [value is not None for value in (self.position, self.look_at, self.up)]
        if (self.c2w is not None) == any(given) or (any(given) and not all(given)):
            raise InputError("", "has another place than position, look_at and up, or c2w", "give the three, or c2w")
        return self


class SceneEntry(Declared):
    """A whole file."""

    scene_name: str | None = None
    version: Literal["1.0+renderformer"]
    objects: dict[str, dict[str, Any]]
    cameras: tuple[CameraEntry, ...] = ()
    environment: EnvironmentEntry | None = None


def read(document: object, path: Path) -> Scene:
    """The scene of a parsed file.

    Raises:
        InputError: a key or value that the format does not allow, or a file that cannot be read.
    """
    entry = SceneEntry.read(document, path)
    if not entry.objects:
        raise InputError("", "objects is empty", "a scene needs at least one object")
    reader = _Reader(path.parent.resolve())
    cameras = [_camera(number, item) for number, item in enumerate(entry.cameras)]
    environment = None
    if entry.environment is not None:
        environment = environment_of(entry.environment, reader.folder)
        reader.notes += environment.notes
    objects: list[Mesh] = []
    # Sides of lights that the file states; version 1.0 does not.
    sides: dict[str, Any] = {}
    for name, values in entry.objects.items():
        material = values.get("material")
        if isinstance(material, dict) and "smooth_shading" in material:
            objects.append(reader.plain_object(name, values))
        else:
            objects.append(reader.object(name, values))
            sides[name] = objects[-1].two_sided
        plain.check_total(objects)
    title = path.stem if entry.scene_name is None else entry.scene_name
    return Scene(tuple(with_sides(objects, sides)), tuple(cameras), title, tuple(reader.notes), environment)


def _camera(number: int, entry: CameraEntry) -> Camera:
    name = f"camera_{number}" if entry.name is None else entry.name
    try:
        if entry.c2w is not None:
            if len(entry.c2w) != 4:
                raise InputError("", f"c2w has {len(entry.c2w)} rows", "expected 4")
            return Camera(np.array(entry.c2w, np.float32), entry.fov, name)
        assert entry.position is not None
        assert entry.look_at is not None
        assert entry.up is not None
        return Camera.look_at(entry.position, entry.look_at, entry.up, entry.fov, name)
    except InputError as error:
        raise error.at(f"cameras[{number}]") from None


@dataclass
class _Reader:
    """Reads the objects of a scene; pictures are decoded once."""

    folder: Path
    notes: list[str] = field(default_factory=list)
    _decoded: dict[tuple[Path, bool, bool], UInt8Array] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._decoder = PictureDecoder(self.notes)
        self._bytes_left = MAX_FILE_BYTES

    def plain_object(self, name: str, values: dict[str, Any]) -> Mesh:
        """An object as in version 1.0."""
        entry = plain.ObjectEntry.read(values, f"objects.{name}")
        mesh_path = plain.mesh_path(entry.mesh_path, name, self.folder)
        return plain.mesh_of(name, entry, *load_geometry([mesh_path])[mesh_path], self.notes)

    def object(self, name: str, values: dict[str, Any]) -> Mesh:
        """An object of the extension."""
        label = f"objects.{name}"
        entry = ObjectEntry.read(values, label)
        if entry.material is not None and entry.materials is not None:
            raise InputError(label, "has material and materials", "give one of them")
        mesh_path = plain.mesh_path(entry.mesh_path, name, self.folder)
        given = (entry.material,) if entry.material is not None else entry.materials
        materials = None if given is None else [self._material(item, f"{label}.material") for item in given]
        coloured = [item.vertex_colors for item in given or ()]
        try:
            exact = self._triangles(mesh_path)
            mesh = self._foreign(name, mesh_path, entry, materials) if exact is None else None
            if exact is not None:
                mesh = _mesh(name, exact, materials or [Material()], coloured or [True])
            assert mesh is not None
            mesh = mesh if entry.transform is None else _placed(mesh, entry.transform)
            return replace(mesh, camera_sides=entry.camera_sides)
        except InputError as error:
            raise error.within(label) from None

    def _triangles(self, path: Path) -> Triangles | None:
        """The geometry of a saved mesh; None for other files."""
        if path.suffix.lower() != ".ply":
            return None
        try:
            return triangle_ply.read(read_bytes(path, MAX_FILE_BYTES))
        except InputError as error:
            raise error.within(path.name) from None

    def _foreign(self, name: str, path: Path, entry: ObjectEntry, materials: list[Material] | None) -> Mesh:
        """The objects of any mesh file as one."""
        if entry.materials is not None:
            problem = f"has materials, but the triangles of {path.name} have no numbers of them"
            raise InputError("", problem, "give material, or neither for the materials of the mesh file")
        scene = load_mesh_file(path, material=None if materials is None else materials[0])
        self.notes += [note for note in scene.notes if note not in self.notes]
        meshes = scene.objects
        return Mesh(
            name,
            scene.triangles,
            scene.normals,
            scene.materials,
            appearance=joined([mesh.appearance for mesh in meshes], [len(mesh) for mesh in meshes]),
            two_sided=scene.two_sided,
        )

    def _material(self, entry: MaterialEntry, label: str) -> Material:
        textures = Textures()
        if entry.textures is not None:
            named = {f.name: getattr(entry.textures, f.name) for f in fields(Textures)}
            textures = Textures(**{
                kind: self._texture(item, kind, f"{label}.textures.{kind}")
                for kind, item in named.items() if item is not None
            })  # fmt: skip
        return Material(
            entry.diffuse,
            entry.specular,
            entry.roughness,
            entry.emissive,
            entry.metallic,
            textures,
            entry.normal_scale,
            entry.alpha,
            entry.alpha_cutoff,
            entry.two_sided,
        )

    def _texture(self, entry: TextureEntry, kind: str, label: str) -> Texture:
        srgb = kind in _SRGB if entry.srgb is None else entry.srgb
        path = path_inside(entry.path, f"{label}.path", self.folder, PICTURES, "picture")
        key = (path, srgb, kind == "base")
        if key not in self._decoded:
            data = read_bytes(path, self._bytes_left)
            self._bytes_left -= len(data)
            pixels = self._decoder.pixels(data, "texture", srgb, kind == "base", path.name)
            if pixels is None:
                raise InputError(f"{label}.path", self.notes.pop(), "give another picture")
            self._decoded[key] = pixels
        matrix = None if entry.matrix is None else np.array(entry.matrix, np.float64)
        return Texture(self._decoded[key], srgb, matrix, entry.wrap, entry.uv_set)


def _mesh(name: str, triangles: Triangles, materials: list[Material], coloured: list[bool]) -> Mesh:
    """The object of saved triangles.

    Args:
        coloured: whether the colours of the vertices multiply a material.
    """
    index = triangles.material
    if index.min() < 0 or index.max() >= len(materials):
        problem = f"a triangle has material {index.max() if index.max() >= len(materials) else index.min()}"
        raise InputError("", problem, f"there are {len(materials)}")
    # A row says all of the others.
    varying = [not m.plain or (c and triangles.colors is not None) for m, c in zip(materials, coloured, strict=True)]
    rows = np.stack([material.row() for material in materials])[index]
    sides = np.array([material.two_sided for material in materials])[index]
    if not np.array(varying)[index].any():
        return Mesh(name, triangles.corners, triangles.normals, rows, two_sided=sides)
    number = np.where(varying, np.cumsum(varying) - 1, -1).astype(np.int32)
    chosen = tuple(material for material, varies in zip(materials, varying, strict=True) if varies)
    appearance = Appearance(chosen, number[index], triangles.uv, triangles.colors, triangles.tangents)
    rows = appearance.mean_rows(rows)
    return Mesh(name, triangles.corners, triangles.normals, rows, appearance=appearance, two_sided=sides)


def _placed(mesh: Mesh, entry: TransformEntry) -> Mesh:
    """The mesh normalised, turned, scaled and moved."""
    matrix = np.eye(4)
    if entry.normalize:
        points = np.unique(mesh.triangles.reshape(-1, 3).astype(np.float64), axis=0)
        centre = points.mean(axis=0)
        radius = float(np.linalg.norm(points - centre, axis=1).max())
        if radius == 0:
            raise InputError("", "all vertices are the same point", "export the mesh again")
        matrix = np.diag([1.0, 1.0, 1.0, 2 * radius]) / (2 * radius)
        matrix[:3, 3] = -centre / (2 * radius)
    step = np.eye(4)
    step[:3, :3] = np.asarray(entry.scale)[:, None] * entry.turn()
    step[:3, 3] = entry.translation
    return mesh.transformed(step @ matrix)


def losses(scene: Scene) -> list[str]:
    """Lines about what the format cannot hold, with counts."""
    patched = sum(int((mesh.patch_index >= 0).sum()) for mesh in scene.objects if mesh.patch_index is not None)
    return [f"{patched} textured triangles flattened to their mean material"] if patched else []


def write(scene: Scene, temporary: Path, folder: str, path: Path) -> SceneEntry:
    """Write the meshes and pictures of a scene.

    Args:
        temporary: where they are written; folder: the name that this folder gets beside `path`.

    Returns:
        The whole file.

    Raises:
        InputError: too many materials, or a material out of range.
    """
    pictures = _Pictures(temporary, folder)
    objects: dict[str, Any] = {}
    for place, mesh in enumerate(scene.objects):
        file = f"{place:03d}_{slug(mesh.name)}.ply"
        try:
            triangles, materials = _split(mesh)
        except InputError as error:
            raise error.within(f"object {mesh.name!r}").within(path) from None
        entries, number = _distinct([_material_entry(*material, pictures) for material in materials])
        triangle_ply.write(temporary / file, replace(triangles, material=number[triangles.material]))
        named: dict[str, Any] = {"material": entries[0]} if len(entries) == 1 else {"materials": tuple(entries)}
        if mesh.camera_sides != "both":
            named["camera_sides"] = mesh.camera_sides
        entry = ObjectEntry(mesh_path=f"{folder}/{file}", **named)
        objects[mesh.name] = entry.model_dump(exclude_unset=True)
    cameras = tuple(_camera_entry(number, camera) for number, camera in enumerate(scene.cameras))
    around = {}
    if scene.environment is not None:
        around["environment"] = environment_entry(scene.environment, temporary, folder)
    return SceneEntry(scene_name=scene.name, version=VERSION, objects=objects, cameras=cameras, **around)


def _split(mesh: Mesh) -> tuple[Triangles, list[tuple[Material, bool]]]:
    """The geometry of a mesh, and its materials in the order of their first triangles, each with whether vertex colours
    multiply it. There is one for each combination of material and sides."""
    look, count = mesh.appearance, len(mesh)
    sides: BoolArray = np.broadcast_to(mesh.two_sided, count)
    kind = np.full(count, -1, np.int64) if look is None else look.index.astype(np.int64)
    rows, row_of = np.unique(mesh.materials, axis=0, return_inverse=True)
    # Triangles that their row describes count after the materials of the appearance.
    key = np.where(kind >= 0, kind, row_of.reshape(-1) + len(look.materials if look else ())) * 2 + sides
    present, first, number = np.unique(key, return_index=True, return_inverse=True)
    if len(present) > MAX_MATERIALS:
        raise InputError("", f"has {len(present)} materials", f"join them to at most {MAX_MATERIALS}")
    order = np.argsort(first)
    number = np.argsort(order)[number.reshape(-1)]
    materials: list[tuple[Material, bool]] = []
    for triangle in first[order]:
        if kind[triangle] < 0:
            material, coloured = Material.from_row(mesh.materials[triangle]), False
        else:
            assert look is not None
            material, coloured = look.materials[kind[triangle]], True
            if material.plain and look.colors is None:
                material, coloured = Material.from_row(material.rows()[0]), False
        materials.append((replace(material, two_sided=bool(sides[triangle])), coloured))
    uv = np.zeros((count, 3, 0, 2), np.float32) if look is None else look.uv
    colors, tangents = (None, None) if look is None else (look.colors, look.tangents)
    return Triangles(mesh.triangles, mesh.normals, uv, number.astype(np.int32), colors, tangents), materials


def _distinct(entries: list[MaterialEntry]) -> tuple[list[MaterialEntry], Int32Array]:
    """The different ones of some entries, and the number there of each."""
    found: dict[str, int] = {}
    chosen: list[MaterialEntry] = []
    number = np.zeros(len(entries), np.int32)
    for place, entry in enumerate(entries):
        key = entry.model_dump_json(exclude_unset=True)
        if key not in found:
            found[key] = len(chosen)
            chosen.append(entry)
        number[place] = found[key]
    return chosen, number


@dataclass
class _Pictures:
    """Writes the pictures of a scene once each."""

    temporary: Path
    folder: str
    _written: dict[bytes, str] = field(default_factory=dict)

    def path(self, texture: Texture, kind: str) -> str:
        """Of a texture's picture, relative to the scene."""
        key = Texture(texture.pixels).digest
        if key not in self._written:
            file = f"{len(self._written):03d}_{kind}.png"
            Image.fromarray(texture.pixels).save(self.temporary / file, compress_level=3)
            self._written[key] = f"{self.folder}/{file}"
        return self._written[key]


def _material_entry(material: Material, coloured: bool, pictures: _Pictures) -> MaterialEntry:
    """Only what differs from the defaults, but for the main numbers; those of material rows in the fewest digits."""
    shortest = material.plain and material.metallic is None and not coloured
    values: dict[str, Any] = {
        "diffuse": short_colour(material.diffuse) if shortest else material.diffuse,
        "specular": short_colour(material.specular) if shortest else material.specular,
        "roughness": short(material.roughness) if shortest else material.roughness,
        "emissive": short_colour(material.emission) if shortest else material.emission,
    }
    optional = {
        "metallic": material.metallic,
        "normal_scale": material.normal_scale,
        "alpha": material.alpha,
        "alpha_cutoff": material.alpha_cutoff,
        "two_sided": material.two_sided,
        "vertex_colors": coloured,
    }
    values |= {key: value for key, value in optional.items() if value != MaterialEntry.model_fields[key].default}
    named = {f.name: getattr(material.textures, f.name) for f in fields(Textures)}
    textures = {kind: _texture_entry(item, kind, pictures) for kind, item in named.items() if item is not None}
    if textures:
        values["textures"] = TexturesEntry(**textures)
    return MaterialEntry(**values)


def _texture_entry(texture: Texture, kind: str, pictures: _Pictures) -> TextureEntry:
    assert texture.matrix is not None
    values: dict[str, Any] = {"path": pictures.path(texture, kind)}
    if texture.srgb != (kind in _SRGB):
        values["srgb"] = texture.srgb
    if texture.wrap != ("repeat", "repeat"):
        values["wrap"] = texture.wrap
    if (texture.matrix != np.eye(2, 3)).any():
        values["matrix"] = tuple(map(tuple, texture.matrix.tolist()))
    if texture.uv_set:
        values["uv_set"] = texture.uv_set
    return TextureEntry(**values)


def _camera_entry(number: int, camera: Camera) -> CameraEntry:
    """As in version 1.0 if that is exact."""
    values: dict[str, Any] = {} if camera.name == f"camera_{number}" else {"name": camera.name}
    entry = CameraEntry(**values, **plain.camera_entry(camera).model_dump())
    if (_camera(number, entry).c2w == camera.c2w).all():
        return entry
    values["c2w"] = [[short(value) for value in row] for row in camera.c2w.tolist()]
    return CameraEntry(**values, fov=camera.fov)
