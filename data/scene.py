"""Scenes: triangles in world space with one material row per triangle, and cameras.

World frame: right-handed, Z up, scene units; the released models were trained with the scene inside [-0.5, 0.5]^3.
Shapes: N triangles, P = 32 texels on the side of a triangle's texture patch.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, Literal, cast, get_args

import numpy as np
import numpy.typing as npt

from renderformer.data.appearance import Appearance, joined
from renderformer.data.arrays import AnyArray, BoolArray, Float16Array, Float32Array, Int32Array, Int64Array, owned
from renderformer.data.camera import Camera
from renderformer.data.environment import Environment
from renderformer.data.errors import InputError
from renderformer.data.files import Losses
from renderformer.data.geometry.triangles import blocks, bounds, face_normals, unit
from renderformer.data.material import CHANNELS as CHANNELS
from renderformer.data.material import DIFFUSE as DIFFUSE
from renderformer.data.material import EMISSION as EMISSION
from renderformer.data.material import MAX_RADIANCE, checked_rgb
from renderformer.data.material import NORMAL as NORMAL
from renderformer.data.material import RGB as RGB
from renderformer.data.material import ROUGHNESS as ROUGHNESS
from renderformer.data.material import SPECULAR as SPECULAR
from renderformer.data.material import Material as Material

PATCH_SIZE = 32
# Larger coordinates lose all detail in float32 when the scene is scaled to the unit size of the models.
MAX_COORDINATE = 1e9
# Sides of an object that cameras see; other rays see both.
CameraSides = Literal["both", "front", "none"]
CAMERA_SIDES = get_args(CameraSides)


def flat_normals(triangles: AnyArray) -> Float32Array:
    """Unit face normals repeated at the three corners.

    Args:
        triangles: (N, 3, 3) corner positions, counter-clockwise seen from outside.

    Returns:
        (N, 3, 3) float32; zeros for a triangle without area.
    """
    return np.repeat(face_normals(triangles)[:, None], 3, axis=1).astype(np.float32)


@dataclass(frozen=True, eq=False)
class Mesh:
    """A named object: separate triangles in world space with materials. A mesh that emits is a light.

    Attributes:
        name: unique in a scene.
        triangles: (N, 3, 3) float32 corner positions, counter-clockwise seen from outside, scene units.
        normals: (N, 3, 3) float32 unit vertex normals; default: face normals.
        materials: (N, 13) float32 material rows, see `Material.row`; one row (13,) or a plain `Material` is repeated.
            Default: the means of `appearance` over the triangles, else those of `Material()`.
        patches: (K, 13, 32, 32) float16 texture patches of the triangles whose material varies, or None.
            Entry [0, 0] belongs to corner 0, the first axis runs toward corner 1, the second toward corner 2;
            entries with i + j > 32 are outside the triangle and 0.
        patch_index: (N,) int32, the patch of each triangle, -1 if its material is uniform; None without patches.
            The material row of a triangle with a patch is the mean of the patch.
        appearance: textures and vertex colours, or None; a mesh with patches has none.
        two_sided: whether lights shine from both sides and not from the front alone, the side from which their corners
            run counter-clockwise; a bool or one for each triangle, (N,). A `Material` may say so, too.
        camera_sides: the sides that cameras see, by models that cast rays: "both"; "front", as of a wall through which
            one looks into a room; or "none", as of a lamp. Light, shadows and mirrors know no difference.

    Raises:
        InputError: wrong shapes or types, no triangles, values that are not finite or beyond 1e9, negative materials.
    """

    name: str
    triangles: Float32Array
    normals: Float32Array = field(default=cast("Float32Array", None))
    materials: Float32Array = field(default=cast("Float32Array", None))
    patches: Float16Array | None = None
    patch_index: Int32Array | None = None
    appearance: Appearance | None = None
    two_sided: bool | BoolArray = False
    camera_sides: CameraSides = "both"

    def __post_init__(self) -> None:
        place = f"mesh {self.name!r}"
        if self.camera_sides not in CAMERA_SIDES:
            problem = f"camera_sides is {self.camera_sides!r}"
            raise InputError(place, problem, f"expected one of {', '.join(CAMERA_SIDES)}")
        triangles = owned(self.triangles, np.float32)
        if triangles.ndim != 3 or triangles.shape[1:] != (3, 3):
            raise InputError(place, f"triangles have shape {triangles.shape}", "expected (N, 3, 3)")
        count = len(triangles)
        if not count:
            raise InputError(place, "has no triangles", "give it at least one")
        _check_coordinates(triangles, f"{place}: triangles")
        normals = flat_normals(triangles) if self.normals is None else owned(self.normals, np.float32)
        if normals.shape != triangles.shape:
            raise InputError(place, f"normals have shape {normals.shape}", f"expected {triangles.shape}")
        _check_coordinates(normals, f"{place}: normals")
        self._check_appearance(place, count)
        materials = self._rows(place, count)
        if materials.shape != (count, CHANNELS):
            raise InputError(place, f"materials have shape {materials.shape}", f"expected ({count}, {CHANNELS})")
        _check_materials(materials, f"{place}: materials")
        patches, patch_index = self._checked_patches(place, count)
        sides = self._sides(place, count)
        for key, values in (
            ("triangles", triangles),
            ("normals", normals),
            ("materials", materials),
            ("patches", patches),
            ("patch_index", patch_index),
        ):
            if values is not None:
                values.setflags(write=False)
            object.__setattr__(self, key, values)
        object.__setattr__(self, "two_sided", sides)

    def _sides(self, place: str, count: int) -> bool | BoolArray:
        """`two_sided` by the arguments, one bool where it is the same for all triangles."""
        sides, given = np.array(self.two_sided), cast(Any, self.materials)
        if sides.dtype != bool or sides.shape not in ((), (count,)):
            problem = f"two_sided has type {sides.dtype} and shape {sides.shape}"
            raise InputError(place, problem, f"expected True, False or {count} of them")
        if self.appearance is not None:
            # The last is for triangles that the row alone describes.
            said = np.array([*(material.two_sided for material in self.appearance.materials), False])
            sides = sides | said[self.appearance.index]
        elif isinstance(given, Material):
            sides = sides | given.two_sided
        if (sides == sides.flat[0]).all():
            return bool(sides.flat[0])
        sides.setflags(write=False)
        return sides

    def _rows(self, place: str, count: int) -> Float32Array:
        """The material rows that the arguments mean, in a shape that is not checked."""
        given: Any = self.materials
        if given is None and self.appearance is not None:
            return self.appearance.mean_rows(np.tile(Material().row(), (count, 1)))
        given = Material() if given is None else given
        if isinstance(given, Material):
            if not given.plain:
                remedy = "give Appearance.of(material, uv) as appearance"
                raise InputError(place, "its material has textures or lets rays pass", remedy)
            given = given.row()
        rows = owned(given, np.float32)
        return np.tile(rows, (count, 1)) if rows.shape == (CHANNELS,) else rows

    def _check_appearance(self, place: str, count: int) -> None:
        if self.appearance is None:
            return
        if len(self.appearance) != count:
            problem = f"its appearance has {len(self.appearance)} triangles, the mesh {count}"
            raise InputError(place, problem, "give as many")
        if self.patches is not None:
            raise InputError(place, "has texture patches and an appearance", "give one of them")

    def _checked_patches(self, place: str, count: int) -> tuple[Float16Array | None, Int32Array | None]:
        if self.patches is None and self.patch_index is None:
            return None, None
        if self.patches is None or self.patch_index is None:
            raise InputError(place, "has only one of patches and patch_index", "give both")
        patches, index = np.array(self.patches, np.float16), np.array(self.patch_index, np.int32)
        if patches.shape[1:] != (CHANNELS, PATCH_SIZE, PATCH_SIZE):
            raise InputError(place, f"patches have shape {patches.shape}", "expected (K, 13, 32, 32)")
        if index.shape != (count,) or index.min() < -1 or index.max() >= len(patches):
            expected = f"expected {count} numbers between -1 and {len(patches) - 1}"
            raise InputError(place, "patch_index does not fit the triangles and patches", expected)
        _check_materials(patches, f"{place}: patches")
        return patches, index

    def __len__(self) -> int:
        return len(self.triangles)

    @cached_property
    def emits(self) -> bool:
        """Whether any triangle is a light."""
        return bool((self.materials[:, EMISSION] > 0).any())

    @cached_property
    def bounds(self) -> Float32Array:
        """(2, 3) float32 minimum and maximum coordinates, not to be written to."""
        low_high: Float32Array = bounds(self.triangles)
        low_high.setflags(write=False)
        return low_high

    def sides(self, index: AnyArray) -> bool | BoolArray:
        """`two_sided` of the triangles at an index (N',)."""
        return self.two_sided if isinstance(self.two_sided, bool) else self.two_sided[index]

    def with_material(self, material: Material) -> Mesh:
        """The same geometry with one uniform material."""
        materials: Any = material
        return replace(self, materials=materials, patches=None, patch_index=None, appearance=None)

    def dimmed(self, factor: float | RGB) -> Mesh:
        """The mesh with its emission, and that of its materials, times a number or linear RGB; textures stay."""
        rows, patches, look = self.materials.copy(), self.patches, self.appearance
        rows[:, EMISSION] *= np.asarray(factor, np.float32)
        if patches is not None:
            patches = patches.copy()
            patches[:, EMISSION] *= np.broadcast_to(np.asarray(factor, np.float16), (3,))[:, None, None]
        if look is not None:
            glows = [np.multiply(material.emission, factor).tolist() for material in look.materials]
            materials = (replace(m, emission=glow) for m, glow in zip(look.materials, glows, strict=True))
            look = replace(look, materials=tuple(materials))
        return replace(self, materials=rows, patches=patches, appearance=look)

    def transformed(self, matrix: npt.ArrayLike) -> Mesh:
        """The mesh transformed by an affine (4, 4) matrix, normals by its inverse transpose. A mirroring matrix also
        swaps two corners of each triangle, which keeps the outside outside."""
        m = np.asarray(matrix, np.float64)
        if m.shape != (4, 4) or not np.isfinite(m).all() or abs(np.linalg.det(m[:3, :3])) < 1e-30:
            remedy = "expected an invertible (4, 4) matrix of finite numbers"
            raise InputError(f"mesh {self.name!r}", "the transform cannot be used", remedy)
        triangles, normals = np.empty_like(self.triangles), np.empty_like(self.normals)
        back = np.linalg.inv(m[:3, :3])
        for part in blocks(len(self)):
            triangles[part] = (self.triangles[part].reshape(-1, 3) @ m[:3, :3].T + m[:3, 3]).reshape(-1, 3, 3)
            normals[part] = unit(self.normals[part].reshape(-1, 3) @ back).reshape(-1, 3, 3)
        patches = self.patches
        appearance = None if self.appearance is None else self.appearance.transformed(m[:3, :3])
        if np.linalg.det(m[:3, :3]) < 0:
            triangles, normals = triangles[:, [0, 2, 1]], normals[:, [0, 2, 1]]
            patches = None if patches is None else patches.swapaxes(2, 3)
        triangles.setflags(write=False)
        normals.setflags(write=False)
        changes: dict[str, Any] = {"normals": normals, "patches": patches, "appearance": appearance}
        return replace(self, triangles=triangles, **changes)


def _check_coordinates(values: AnyArray, place: str) -> None:
    # The smallest and the largest of numbers one of which is NaN are NaN.
    if not values.size or (values.min() >= -MAX_COORDINATE and values.max() <= MAX_COORDINATE):
        return
    if not np.isfinite(values).all():
        bad = int((~np.isfinite(values)).sum())
        raise InputError(place, f"{bad} values are NaN or infinite", "repair the source file")
    largest = float(np.abs(values).max(initial=0))
    if largest > MAX_COORDINATE:
        raise InputError(place, f"the largest value is {largest:.3g}, more than 1e9", "scale the model down")


def _check_materials(rows: AnyArray, place: str) -> None:
    """Check rows (N, 13) or patches (N, 13, P, P); only the normal's channels may be negative."""
    _check_coordinates(rows, place)
    if rows.min(initial=0) >= 0:
        return
    channels = (("diffuse", DIFFUSE), ("specular", SPECULAR), ("roughness", ROUGHNESS), ("emission", EMISSION))
    for name, channel in channels:
        lowest = float(rows[:, channel].min(initial=0))
        if lowest < 0:
            raise InputError(place, f"{name} goes down to {lowest:.3g}", "expected 0 or more")


@dataclass(frozen=True)
class Light:
    """A small equilateral light triangle, the only kind of light that the released models were trained with.

    Attributes:
        position: (3,) centre in the world; trained at a distance of 2.1 … 2.7 from the origin.
        target: (3,) the point that the light faces.
        size: length of an edge in scene units; trained on 0.0707 x (2.0 … 2.5).
        emission: radiance, one number (white) or linear RGB; trained on a sum of 2500 … 5000 over all lights.

    Raises:
        InputError: position and target coincide, size is not positive, emission is out of range or zero.
    """

    position: tuple[float, float, float] = (0.0, 0.0, 2.1)
    target: tuple[float, float, float] = (0.0, 0.0, 0.0)
    size: float = 0.17
    emission: float | RGB = 3500.0
    name: str = "light"

    def __post_init__(self) -> None:
        self.mesh()

    def mesh(self) -> Mesh:
        """The light as a one-triangle mesh whose front faces the target."""
        place = f"light {self.name!r}"
        if not 0 < self.size <= MAX_COORDINATE:
            raise InputError(place, f"size is {self.size}", "expected a positive number up to 1e9")
        emission = checked_rgb(self.emission, place, "emission", MAX_RADIANCE)
        if max(emission) <= 0:
            raise InputError(place, "emission is 0", "expected a positive number")
        backward = np.asarray(self.target, np.float64) - np.asarray(self.position, np.float64)
        # Any up vector works that is not parallel to the direction.
        up = (0.0, 1.0, 0.0) if abs(backward[2]) > 0.9 * np.linalg.norm(backward) else (0.0, 0.0, 1.0)
        frame = Camera.look_at(np.asarray(self.position) + backward, self.position, up, name=self.name).c2w[:3, :3]
        angles = np.radians([90.0, 210.0, 330.0])
        corners = self.size / np.sqrt(3) * np.stack([np.cos(angles), np.sin(angles), np.zeros(3)], axis=1)
        triangle = corners @ frame.T.astype(np.float64) + np.asarray(self.position)
        material = Material((1.0, 1.0, 1.0), (0.0, 0.0, 0.0), 1.0, emission)
        return Mesh(self.name, triangle[None].astype(np.float32), materials=material.row())


@dataclass(frozen=True, eq=False)
class Scene:
    """Objects (including lights) in file order, and cameras.

    Attributes:
        objects: at least one Mesh; the names are unique.
        cameras: may be empty; `renderer.render` then needs cameras as an argument.
        name: of the scene.
        notes: lines about everything that loading changed (dropped, simplified, moved …), with counts.
        environment: what surrounds the objects and lights them, or None.

    Raises:
        InputError: no objects, or two objects with the same name.
    """

    objects: tuple[Mesh, ...]
    cameras: tuple[Camera, ...] = ()
    name: str = "scene"
    notes: tuple[str, ...] = ()
    environment: Environment | None = None

    def __post_init__(self) -> None:
        for key in ("objects", "cameras", "notes"):
            object.__setattr__(self, key, tuple(getattr(self, key)))
        if not self.objects:
            raise InputError(f"scene {self.name!r}", "has no objects", "give it at least one")
        names = [mesh.name for mesh in self.objects]
        if len(set(names)) < len(names):
            name = min(name for name in names if names.count(name) > 1)
            raise InputError(f"scene {self.name!r}", f"the object name {name!r} is used twice", "names must be unique")

    def __len__(self) -> int:
        return sum(len(mesh) for mesh in self.objects)

    @cached_property
    def triangles(self) -> Float32Array:
        """(N, 3, 3) float32 corners of all objects, in order."""
        return np.concatenate([mesh.triangles for mesh in self.objects])

    @cached_property
    def normals(self) -> Float32Array:
        """(N, 3, 3) float32 vertex normals of all objects, in order."""
        return np.concatenate([mesh.normals for mesh in self.objects])

    @cached_property
    def materials(self) -> Float32Array:
        """(N, 13) float32 material rows of all objects, in order."""
        return np.concatenate([mesh.materials for mesh in self.objects])

    @cached_property
    def two_sided(self) -> BoolArray:
        """(N,) whether a light shines from both sides and not from its front alone, of all triangles, in order."""
        return np.concatenate([np.broadcast_to(mesh.two_sided, len(mesh)) for mesh in self.objects])

    @cached_property
    def unseen(self) -> BoolArray | None:
        """(N, 2) whether cameras do not see front and back of all triangles, in order; None if they see all."""
        if all(mesh.camera_sides == "both" for mesh in self.objects):
            return None
        flags = [(mesh.camera_sides == "none", mesh.camera_sides != "both") for mesh in self.objects]
        return np.repeat(np.array(flags), [len(mesh) for mesh in self.objects], axis=0)

    @cached_property
    def object_index(self) -> Int32Array:
        """(N,) int32 index of the object of each triangle."""
        return np.repeat(np.arange(len(self.objects), dtype=np.int32), [len(mesh) for mesh in self.objects])

    @cached_property
    def appearance(self) -> Appearance | None:
        """Textures and vertex colours of all triangles, in order; None if no object has any."""
        return joined([mesh.appearance for mesh in self.objects], [len(mesh) for mesh in self.objects])

    @cached_property
    def patches(self) -> tuple[Float16Array, Int32Array] | None:
        """(K, 13, 32, 32) float16 texture patches of all objects and (N,) int32 index into them; None without patches.

        Those of an object with an appearance are baked from it; see `renderformer.data.geometry.patches.patches_of`.
        """
        from renderformer.data.geometry.patches import patches_of

        found = [patches_of(mesh) for mesh in self.objects]
        if all(patches is None for patches, _ in found):
            return None
        patches, index, offset = [], [], 0
        for own, number in found:
            index.append(np.where(number < 0, -1, number + offset).astype(np.int32))
            if own is not None:
                patches.append(own)
                offset += len(own)
        return np.concatenate(patches), np.concatenate(index)

    @property
    def light_triangles(self) -> Int64Array:
        """Indices of the triangles that emit."""
        return np.flatnonzero((self.materials[:, EMISSION] > 0).any(axis=1))

    @property
    def is_dark(self) -> bool:
        """Whether neither a triangle nor the environment sends light."""
        return not any(mesh.emits for mesh in self.objects) and (self.environment is None or self.environment.is_dark)

    @property
    def bounds(self) -> Float32Array:
        """(2, 3) float32 minimum and maximum coordinates of all objects."""
        return bounds(self.triangles)

    def replace(self, **changes: Any) -> Scene:
        """A copy with some attributes changed."""
        return replace(self, **changes)

    def with_object(self, mesh: Mesh) -> Scene:
        """The scene with one object added; it replaces an object of the same name."""
        objects = {item.name: item for item in self.objects} | {mesh.name: mesh}
        return self.replace(objects=tuple(objects.values()))

    @classmethod
    def load(cls, path: str | os.PathLike[str], **options: Any) -> Scene:
        """Read any scene or mesh file; see `renderformer.data.formats.load_scene` for the options."""
        from renderformer.data.formats import load_scene

        return load_scene(path, **options)

    def save(
        self, path: str | os.PathLike[str], overwrite: bool = True, version: Literal["auto", "1.0"] = "auto"
    ) -> Losses:
        """Write scene JSON (with mesh files beside it) or scene H5, chosen by the suffix.

        Args:
            version: of scene JSON; "1.0" writes what the original program reads, "auto" an extension of it where 1.0
                cannot hold the scene, and says so in `notes` of the result.

        Returns:
            Lines about what the file cannot hold, with counts; empty if reading the file gives the same scene.
        """
        from renderformer.data.formats import save_scene

        return save_scene(self, path, overwrite, version)

    @classmethod
    def from_pytorch3d(cls, meshes: Any, cameras: Any = None, **options: Any) -> Scene:
        """A scene from PyTorch3D objects (duck-typed); see `renderformer.data.formats.pytorch3d.from_pytorch3d`."""
        from renderformer.data.formats.pytorch3d import from_pytorch3d

        return from_pytorch3d(meshes, cameras, **options)

    def to_pytorch3d(self) -> tuple[Any, Any]:
        """(Meshes, cameras) of PyTorch3D; see `renderformer.data.formats.pytorch3d.to_pytorch3d`."""
        from renderformer.data.formats.pytorch3d import to_pytorch3d

        return to_pytorch3d(self)


def combine(scenes: Sequence[Scene], name: str = "scene") -> Scene:
    """Join objects, cameras and notes of several scenes; repeated object names get a number. The environment is that of
    the first scene that has one."""
    objects: list[Mesh] = []
    used: set[str] = set()
    for mesh in (mesh for scene in scenes for mesh in scene.objects):
        unique, number = mesh.name, 2
        while unique in used:
            unique, number = f"{mesh.name}_{number}", number + 1
        used.add(unique)
        objects.append(mesh if unique == mesh.name else replace(mesh, name=unique))
    cameras = tuple(camera for scene in scenes for camera in scene.cameras)
    environment = next((scene.environment for scene in scenes if scene.environment is not None), None)
    return Scene(tuple(objects), cameras, name, tuple(note for scene in scenes for note in scene.notes), environment)
