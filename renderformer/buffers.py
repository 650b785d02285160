"""The layers of a picture (aovs.py): what each pixel shows, and the parts of its light.

Shapes: h x w pixels. World space, scene units.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import cached_property

import numpy as np

from renderformer.aovs import checked
from renderformer.data.arrays import Float32Array, Int64Array
from renderformer.data.camera import Camera
from renderformer.data.errors import InputError
from renderformer.data.rays.backdrop import coverage
from renderformer.data.rays.channels import RGB
from renderformer.data.rays.direct import CHUNK
from renderformer.data.rays.embree import Hits, Surfaces
from renderformer.data.rays.pixels import Pixels
from renderformer.data.rays.raycast import RayCaster
from renderformer.data.scene import Scene
from renderformer.data.unit_size import UnitSize

# Depth where nothing is hit, as in Blender.
NOTHING = 1e10
# The largest number up to which float32 holds all integers.
MAX_NUMBER = 1 << 24
# Those of the surface behind the middle of a pixel: between two surfaces a mean would lie on neither.
_AT_CENTRES = {"depth", "position", "object", "triangle"}
# Those that add up to the picture, besides `indirect`.
_CAST = {"direct": RGB.direct, "highlight": RGB.highlight, "reflection": RGB.reflection, "emission": RGB.emission}


class Buffers:
    """Makes the layers of one scene, for any number of cameras.

    Args:
        names: of AOVS.
        scene: in its own units; `unit` leads to those of the model.
        caster: of the model, in its units, or None if it casts no rays.

    Raises:
        InputError: an unknown name, or more triangles or objects than a layer can number.
    """

    def __init__(self, names: Sequence[str], scene: Scene, unit: UnitSize, caster: RayCaster | None = None) -> None:
        self.names = checked(names)
        if "triangle" in self.names and len(scene) > MAX_NUMBER:
            problem = f"the layer triangle can number {MAX_NUMBER:,} triangles, the scene has {len(scene):,}"
            raise InputError("aovs", problem, "leave it out")
        self._scene, self._unit, self._given = scene, unit, caster

    @property
    def metadata(self) -> dict[str, str]:
        """What the header of a file tells about the layers: the names of the objects, as JSON."""
        return {"objects": json.dumps([mesh.name for mesh in self._scene.objects])} if "object" in self.names else {}

    def layers(
        self,
        camera: Camera,
        size: tuple[int, int],
        features: Float32Array | None = None,
        network: Float32Array | None = None,
        behind: Float32Array | None = None,
    ) -> dict[str, Float32Array]:
        """The layers of one picture, by name, (h, w) or (h, w, 3) float32.

        Args:
            camera: in the units of the scene; size: (width, height) in pixels.
            features: (h, w, 39) feature image of the camera, if there is one already.
            network: (h, w, 3) what a network drew; its indirect light is what that is more than the cast rays.
            behind: (h, w, 3) what of the picture is environment or background seen behind the surfaces; None for
                nothing.
        """
        result: dict[str, Float32Array] = {}
        if not _AT_CENTRES.isdisjoint(self.names):
            result |= self._at_centres(camera, *size)
        if not _AT_CENTRES.issuperset(self.names):
            if features is None:
                features = self._caster.features(self._unit.camera(camera), *size)
            result |= _of_features(features, camera, network)
        result["background"] = np.zeros((*size[::-1], 3), np.float32) if behind is None else behind
        return {name: np.ascontiguousarray(result[name], np.float32) for name in self.names}

    def covered(self, camera: Camera, width: int, height: int) -> Float32Array:
        """(height, width) share of each pixel in which there is any surface."""
        return coverage(self._surfaces, self._unit.camera(camera), width, height)

    @cached_property
    def _caster(self) -> RayCaster:
        # A model without ray casting knows no environment.
        return self._given or RayCaster.of(self._unit.scene(self._scene.replace(environment=None)))

    @cached_property
    def _surfaces(self) -> Surfaces:
        """Every triangle under its own number; a model may have cut or simplified them."""
        return self._caster if self._given is None else Surfaces.of(self._unit.scene(self._scene))

    @cached_property
    def _objects(self) -> Int64Array:
        """(N,) number of the object of each triangle, from 1."""
        sizes = [len(mesh) for mesh in self._scene.objects]
        return np.repeat(np.arange(1, len(sizes) + 1), sizes)

    def _at_centres(self, camera: Camera, width: int, height: int) -> dict[str, Float32Array]:
        depth = np.full(height * width, NOTHING, np.float32)
        position = np.zeros((height * width, 3), np.float32)
        number, triangle = np.zeros((2, height * width), np.float32)
        y, x = (grid.reshape(-1) for grid in np.mgrid[:height, :width])
        pixels = Pixels(self._unit.camera(camera), width, height, x, y)
        for part in np.array_split(np.arange(len(pixels)), max(1, -(-len(pixels) // CHUNK))):
            hits = self._first(pixels.take(part))
            rows = part[hits.rows]
            points = self._unit.back(hits.position)
            depth[rows] = (points - camera.position) @ camera.forward.astype(np.float64)
            position[rows] = points
            number[rows], triangle[rows] = self._objects[hits.triangle], hits.triangle + 1
        grids = {"depth": depth, "position": position, "object": number, "triangle": triangle}
        return {name: values.reshape(height, width, *values.shape[1:]) for name, values in grids.items()}

    def _first(self, pixels: Pixels) -> Hits:
        """The first surface behind the middle of each pixel that is not invisible."""
        hits: Hits = next(self._surfaces.layers(*pixels.rays(1), pixels.pixel_width))[0]
        return hits


def _of_features(features: Float32Array, camera: Camera, network: Float32Array | None) -> dict[str, Float32Array]:
    """The layers that are averages over pixels; those of a surface are 0 where there is none, as light is."""
    layers = {name: features[..., part] for name, part in _CAST.items()}
    rest = features[..., RGB.indirect] if network is None else network - np.sum(list(layers.values()), axis=0)
    normal = features[..., RGB.normal] @ camera.c2w[:3, :3].T
    albedo = features[..., RGB.diffuse] + features[..., RGB.specular]
    return layers | {"indirect": rest, "normal": normal * features[..., RGB.mask], "albedo": albedo}
