"""What a differentiable picture depends on, as tensors.

Shapes: N triangles of a scene, n of one object, V cameras. Scene units, world space, Z up.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from renderformer.data.camera import Camera
from renderformer.data.errors import InputError
from renderformer.data.scene import DIFFUSE, EMISSION, ROUGHNESS, SPECULAR, Mesh, Scene, flat_normals

# The materials of objects with textures may differ from those of the file by rounding.
SAME = 1e-5


@dataclass(frozen=True, eq=False)
class SceneTensors:
    """A scene as tensors; `with_object` and `with_cameras` put yours in their places.

    Attributes:
        scene: names, order and textures of the objects.
        vertices, normals: (N, 3, 3), as in `Scene.triangles` and `Scene.normals`.
        diffuse, specular, emission: (N, 3) linear RGB; emission is radiance.
        roughness: (N,).
        c2w: (V, 4, 4) camera to world, rigid, Blender's convention; fov: (V,) full vertical angle in degrees.

    A textured object has the mean of its textures over each triangle as its material; gradients are those to a number
    that is added everywhere on the triangle.
    """

    scene: Scene
    vertices: Tensor
    normals: Tensor
    diffuse: Tensor
    specular: Tensor
    roughness: Tensor
    emission: Tensor
    c2w: Tensor
    fov: Tensor

    @classmethod
    def of(
        cls,
        scene: Scene,
        cameras: Camera | Sequence[Camera] | None = None,
        dtype: torch.dtype = torch.float32,
    ) -> SceneTensors:
        """The tensors of a scene, on the CPU; they want no gradients.

        Args:
            cameras: the scene's by default.
            dtype: torch.float32 or torch.float64; pictures have that of `diffuse`.

        Raises:
            InputError: no cameras.
        """
        views = scene.cameras if cameras is None else (cameras,) if isinstance(cameras, Camera) else tuple(cameras)
        if not views:
            raise InputError(f"scene {scene.name!r}", "has no cameras", "give some, for example Camera.from_angles()")
        materials = scene.materials
        arrays = (
            scene.triangles, scene.normals, materials[:, DIFFUSE], materials[:, SPECULAR], materials[:, ROUGHNESS],
            materials[:, EMISSION], np.stack([camera.c2w for camera in views]),
            np.array([camera.fov for camera in views]),
        )  # fmt: skip
        return cls(scene, *(torch.tensor(array, dtype=dtype) for array in arrays))

    def with_object(
        self,
        name: str,
        *,
        diffuse: Tensor | None = None,
        specular: Tensor | None = None,
        roughness: Tensor | None = None,
        emission: Tensor | None = None,
        vertices: Tensor | None = None,
        normals: Tensor | None = None,
        offset: Tensor | None = None,
    ) -> SceneTensors:
        """The tensors with other values for one object, which gradients then flow to.

        Args:
            diffuse, specular, emission: (n, 3), one (3,) for the whole object, or one number.
            roughness: (n,), or one number.
            vertices: (n, 3, 3). Flat objects get new face normals; those with smooth normals keep them.
            normals: (n, 3, 3) unit.
            offset: (3,) by which the object is moved, a light for example.

        Raises:
            InputError: no object of that name, or a wrong shape.
        """
        start, count = self._place(name)
        if vertices is not None and normals is None and _is_flat(self._object(name)):
            corners = _expanded(name, "vertices", vertices, (count, 3, 3))
            normals = face_normals(corners)[:, None].expand(count, 3, 3)
        values = {
            "diffuse": (diffuse, (count, 3)),
            "specular": (specular, (count, 3)),
            "emission": (emission, (count, 3)),
            "roughness": (roughness, (count,)),
            "vertices": (vertices, (count, 3, 3)),
            "normals": (normals, (count, 3, 3)),
        }
        changes: dict[str, Any] = {
            key: _placed(getattr(self, key), start, _expanded(name, key, value, shape))
            for key, (value, shape) in values.items()
            if value is not None
        }
        result = replace(self, **changes)
        if offset is None:
            return result
        moved = result.vertices[start : start + count] + _expanded(name, "offset", offset, (3,)).to(self.vertices)
        return replace(result, vertices=_placed(result.vertices, start, moved))

    def with_cameras(self, c2w: Tensor | None = None, fov: Tensor | None = None) -> SceneTensors:
        """The tensors with other cameras.

        Args:
            c2w: (V, 4, 4), or one (4, 4); fov: (V,) degrees, or one number.

        Raises:
            InputError: a wrong shape.
        """
        poses = self.c2w if c2w is None else _tensor("cameras", "c2w", c2w).reshape(-1, *c2w.shape[-2:])
        if poses.shape[1:] != (4, 4):
            raise InputError("cameras", f"c2w has shape {tuple(poses.shape)}", "expected (V, 4, 4)")
        angles = self.fov if fov is None else _tensor("cameras", "fov", fov)
        if angles.ndim == 0 or len(angles) == 1:
            angles = angles.reshape(1).expand(len(poses))
        if angles.shape != (len(poses),):
            raise InputError("cameras", f"fov has shape {tuple(angles.shape)}", f"expected ({len(poses)},)")
        return replace(self, c2w=poses, fov=angles)

    def to_scene(self) -> Scene:
        """The scene with the present values, to draw it as any other, or to save it.

        Raises:
            InputError: values that no scene may have (a negative colour, a camera that is not rigid), or other colours
                of an object with textures.
        """
        meshes = [self._mesh(mesh, *self._place(mesh.name)) for mesh in self.scene.objects]
        named = dict(enumerate(camera.name for camera in self.scene.cameras))
        poses = zip(_numpy(self.c2w), _numpy(self.fov), strict=True)
        cameras = [Camera(c2w, float(fov), named.get(i, "")) for i, (c2w, fov) in enumerate(poses)]
        return self.scene.replace(objects=tuple(meshes), cameras=tuple(cameras))

    @property
    def wanted(self) -> tuple[str, ...]:
        """Names of the tensors that gradients flow to."""
        names = "vertices", "normals", "diffuse", "specular", "roughness", "emission", "c2w", "fov"
        return tuple(name for name in names if getattr(self, name).requires_grad)

    def _mesh(self, mesh: Mesh, start: int, count: int) -> Mesh:
        part = slice(start, start + count)
        rows = mesh.materials.copy()
        rows[:, DIFFUSE], rows[:, SPECULAR] = _numpy(self.diffuse[part]), _numpy(self.specular[part])
        rows[:, ROUGHNESS], rows[:, EMISSION] = _numpy(self.roughness[part]), _numpy(self.emission[part])
        changes: dict[str, Any] = {
            "triangles": _numpy(self.vertices[part]).astype(np.float32),
            "normals": _numpy(self.normals[part]).astype(np.float32),
        }
        textured = mesh.appearance is not None or mesh.patches is not None
        if not textured:
            return replace(mesh, materials=rows, **changes)
        if np.abs(rows - mesh.materials).max() > SAME * max(1.0, float(np.abs(mesh.materials).max())):
            remedy = "give it a plain material first: scene.with_object(mesh.with_material(Material()))"
            raise InputError(f"mesh {mesh.name!r}", "has textures, so its colours cannot be changed", remedy)
        return replace(mesh, **changes)

    def _object(self, name: str) -> Mesh:
        for mesh in self.scene.objects:
            if mesh.name == name:
                return mesh
        names = ", ".join(mesh.name for mesh in self.scene.objects[:20])
        raise InputError(f"scene {self.scene.name!r}", f"has no object {name!r}", f"its objects are: {names}")

    def _place(self, name: str) -> tuple[int, int]:
        """The first triangle of an object, and how many it has."""
        start = 0
        for mesh in self.scene.objects:
            if mesh is self._object(name):
                break
            start += len(mesh)
        return start, len(self._object(name))


def face_normals(vertices: Tensor) -> Tensor:
    """(N, 3) unit normals of triangles (N, 3, 3); zeros without area."""
    cross = torch.linalg.cross(vertices[:, 1] - vertices[:, 0], vertices[:, 2] - vertices[:, 0])
    square = (cross * cross).sum(-1, keepdim=True)
    return torch.where(square > 0, cross / torch.where(square > 0, square, 1).sqrt(), 0)


def _is_flat(mesh: Mesh) -> bool:
    return bool(np.abs(mesh.normals - flat_normals(mesh.triangles)).max() < 1e-4)


def _placed(whole: Tensor, start: int, part: Tensor) -> Tensor:
    """A tensor with other rows from `start` on."""
    return torch.cat([whole[:start], part.to(whole), whole[start + len(part) :]])


def _tensor(place: str, name: str, value: Any) -> Tensor:
    if not isinstance(value, Tensor):
        raise InputError(place, f"{name} is {str(value)[:60]!r}", "expected a torch tensor")
    return value


def _expanded(name: str, key: str, value: Any, shape: tuple[int, ...]) -> Tensor:
    """A tensor for the whole of an object, of one for all of it or for each triangle."""
    tensor = _tensor(f"mesh {name!r}", key, value)
    allowed = [shape] if key in ("vertices", "normals", "offset") else [shape, shape[1:], ()]
    if tuple(tensor.shape) not in allowed:
        expected = " or ".join(map(str, allowed))
        raise InputError(f"mesh {name!r}", f"{key} has shape {tuple(tensor.shape)}", f"expected {expected}")
    return tensor.expand(shape)


def _numpy(tensor: Tensor) -> np.ndarray[Any, Any]:
    return tensor.detach().cpu().numpy()
