"""Drawing a scene once for each of its lights: `Renderer.split`, and picture by picture `Splitting`.

A model that casts rays shares what does not depend on lights: rays and links (`renderformer.data.rays.light_groups`).
To one that does not, every light is a scene of its own.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from renderformer.data.arrays import AnyArray, BoolArray, Float32Array, Float64Array
from renderformer.data.camera import Camera
from renderformer.data.errors import InputError
from renderformer.data.geometry.subdivide import cut
from renderformer.data.geometry.triangles import areas
from renderformer.data.progress import Progress, silent
from renderformer.data.rays.backdrop import composited
from renderformer.data.rays.channels import RGB
from renderformer.data.rays.light_groups import WIDTH, LightGroups, channels_of_group
from renderformer.data.rays.lights import Lights
from renderformer.data.scene import EMISSION, Mesh, Scene
from renderformer.image import Image
from renderformer.model import PhysicalModel
from renderformer.model.protocol import Encoded
from renderformer.split import Split

if TYPE_CHECKING:
    from renderformer.data.trained_range import TrainedRange
    from renderformer.renderer import Cancel, LitScene, Renderer

# Pictures of one camera; of more lights, the weakest share one.
MOST = 16
# Triangles into which a light is cut, at most, and by how much its edges may be longer than trained.
MOST_PIECES, SLACK = 64, 0.01
# Names of pictures that are not those of one object.
OTHERS, ENVIRONMENT = "others", "environment"


@dataclass(frozen=True)
class LightGroup:
    """Lights that share a picture: names of objects, and whether the environment is one of them."""

    name: str
    objects: frozenset[str] = frozenset()
    environment: bool = False

    def alone(self, scene: Scene) -> Scene:
        """The scene with its other lights switched off."""
        objects = tuple(mesh if mesh.name in self.objects else mesh.dimmed(0.0) for mesh in scene.objects)
        return scene.replace(objects=objects, environment=scene.environment if self.environment else None)


def light_groups(scene: Scene, most: int, surrounded: bool = True) -> list[LightGroup]:
    """The lights of a scene in its order, the environment last: every object that emits is one. Of more than `most`,
    the weakest share a group.

    Args:
        surrounded: whether an environment counts.

    Raises:
        InputError: a scene without light, or `most` is below 2.
    """
    if most < 2:
        raise InputError("", f"most is {most}", "expected at least 2 pictures")
    names = [mesh.name for mesh in scene.objects if mesh.emits]
    surrounded = surrounded and scene.environment is not None and not scene.environment.is_dark
    if not names and not surrounded:
        raise InputError(f"scene {scene.name!r}", "has no lights to split", "add one, or name an environment")
    room = most - surrounded
    weak: frozenset[str] = frozenset()
    if len(names) > room:
        powers = {mesh.name: _power(mesh) for mesh in scene.objects if mesh.emits}
        weak = frozenset(sorted(names, key=lambda name: -powers[name])[max(room - 1, 0) :])
    groups = [LightGroup(name, frozenset((name,))) for name in names if name not in weak]
    taken = set(names)
    if weak:
        groups.append(LightGroup(_unused(OTHERS, taken), weak))
    if surrounded:
        groups.append(LightGroup(_unused(ENVIRONMENT, taken), environment=True))
    return groups


def grouping_note(groups: Sequence[LightGroup]) -> tuple[str, ...]:
    """A line if several lights share a picture."""
    return tuple(
        f"{len(group.objects)} of {sum(len(g.objects) for g in groups)} lights, the weakest, share the picture "
        f"{group.name!r}"
        for group in groups
        if len(group.objects) > 1
    )


class Splitting:
    """A lit scene, and what draws it under each of its lights, for any number of cameras.

    Args:
        most: see `Renderer.split`.

    Attributes:
        lit: the scene under all lights.
        groups: the lights.
    """

    def __init__(
        self,
        renderer: Renderer,
        scene: Scene | LitScene,
        most: int = MOST,
        progress: Progress | None = None,
        cancel: Cancel | None = None,
    ) -> None:
        self._renderer = renderer
        self.groups = light_groups(scene if isinstance(scene, Scene) else scene.scene, most, renderer.casts_rays)
        self.lit = renderer.encode(scene, progress, cancel) if isinstance(scene, Scene) else scene
        self._scene = self.lit.unit.scene(self.lit.scene)
        self._caster = None
        if self.lit.caster is not None:
            index = self.lit.caster.object_index
            assert index is not None
            self._caster = self.lit.caster.split(_groups_of_triangles(self.groups, self._scene, index))
        self._encoded: dict[str, list[tuple[Encoded | None, float]]] = {}
        # By object, how its light was cut.
        self._cuts: dict[str, str] = {}

    def iterate(
        self,
        resolution: int | tuple[int, int],
        cameras: Camera | Sequence[Camera] | None = None,
        progress: Progress | None = None,
        cancel: Cancel | None = None,
        aovs: Sequence[str] = (),
    ) -> Iterator[Split]:
        """The pictures of each camera when they are ready; arguments and errors as of `Renderer.split`."""
        from renderformer.renderer import canceller

        renderer, report, check = self._renderer, progress or silent, canceller(cancel)
        size, views = renderer.checked_views(self.lit, resolution, cameras)
        renderer.check_memory(*size, 0 if self._caster is None else 4 * WIDTH * len(self.groups) * size[0] * size[1])
        for number, camera in enumerate(views):
            report("split", number, len(views))
            joint = next(renderer.iterate(self.lit, size, camera, None, cancel, aovs))
            yield self._of(joint, camera, report, check)
        report("split", len(views), len(views))

    def _of(self, joint: Image, camera: Camera, report: Progress, check: Callable[[], None]) -> Split:
        """The picture of a camera, split."""
        renderer, size = self._renderer, (joint.width, joint.height)
        moved = [self.lit.unit.camera(camera)]
        inputs = dict(renderer.look(self._caster, moved, *size, report, check))
        pixels = inputs.get("pixels")
        lights: dict[str, Float32Array] = {}
        for number, group in enumerate(self.groups):
            if pixels is not None and len(self.groups) > 1:
                inputs["pixels"] = pixels[..., channels_of_group(number)]
            parts = self._encodings(group, check)
            pictures = [renderer.draw(encoded, moved, *size, inputs, check)[0] / scale for encoded, scale in parts]
            picture: Float32Array = np.stack(pictures).sum(axis=0)
            if group.environment and pixels is not None:
                assert self.lit.scene.environment is not None
                covered = renderer.array(pixels[0, 0, : size[1], : size[0], RGB.mask])[..., 0]
                picture, _ = composited(picture, covered, self.lit.scene.environment, camera)
            lights[group.name] = picture
        return Split(joint, lights, (*grouping_note(self.groups), *self._cuts.values()))

    def _encodings(self, group: LightGroup, check: Callable[[], None]) -> list[tuple[Encoded | None, float]]:
        """The scene encoded under some lights, or under one part of them after the other, each with the factor that its
        light was given."""
        renderer = self._renderer
        if isinstance(renderer.model, PhysicalModel):
            return [(self.lit.encoded, 1.0)]
        if group.name not in self._encoded:
            trained = renderer.config.trained
            alone = group.alone(self._scene)
            if trained.lights_outside:
                alone = _without_dark_lamps(alone, self._scene, trained.box)
            alone = self._with_small_lights(alone, trained)
            scenes = [_in_range(scene, trained) for scene in _parts(alone, trained.lights)]
            encoded = [(renderer.encode_as_it_is(scene, check)[0], factor) for scene, factor in scenes]
            self._encoded[group.name] = encoded
        return self._encoded[group.name]

    def _with_small_lights(self, scene: Scene, trained: TrainedRange) -> Scene:
        """The scene with lights cut to the trained size, each into at most `MOST_PIECES`."""
        if trained.light_edge is None:
            return scene
        objects = []
        for mesh in scene.objects:
            smaller = _cut_light(mesh, trained.light_edge[1] * (1 + SLACK)) if mesh.emits else mesh
            if smaller is not mesh:
                before, after = _light_count(mesh), _light_count(smaller)
                self._cuts[mesh.name] = (
                    f"light {mesh.name!r}: {before} triangles cut into {after}, no larger than trained"
                )
            objects.append(smaller)
        return scene.replace(objects=tuple(objects))


def _light_count(mesh: Mesh) -> int:
    return int((mesh.materials[:, EMISSION] > 0).any(axis=1).sum())


def _cut_light(mesh: Mesh, edge: float) -> Mesh:
    """A light without triangles whose edges are longer, or as near to that as `MOST_PIECES` allow."""
    edge = max(edge, math.sqrt(float(areas(mesh.triangles).sum()) / MOST_PIECES))
    while True:
        finer = cut(mesh, functools.partial(_everywhere, edge))
        if _light_count(finer) <= max(MOST_PIECES, _light_count(mesh)):
            return finer
        edge *= 1.25


def _everywhere(edge: float, points: Float64Array) -> Float64Array:
    return np.full(points.shape[:-1], edge)


def _groups_of_triangles(groups: Sequence[LightGroup], scene: Scene, object_index: AnyArray) -> LightGroups:
    """The groups for rays at the triangles of a scene, whose objects are `object_index` (N,)."""
    number = {name: i for i, group in enumerate(groups) for name in group.objects}
    of_object = np.array([number.get(mesh.name, 0) for mesh in scene.objects])
    environment = next((i for i, group in enumerate(groups) if group.environment), 0)
    return LightGroups(len(groups), of_object[object_index], environment)


def _without_dark_lamps(scene: Scene, lit: Scene, box: float) -> Scene:
    """The scene without lamps around the trained box that shine in `lit` alone: a model that knows lights there would
    take them for objects."""

    def is_dark_lamp(mesh: Mesh, before: Mesh) -> bool:
        lamp = bool((before.materials[:, EMISSION] > 0).any(axis=1).all())
        return lamp and not mesh.emits and bool(np.abs(mesh.bounds).max() > box)

    pairs = zip(scene.objects, lit.objects, strict=True)
    return scene.replace(objects=tuple(mesh for mesh, before in pairs if not is_dark_lamp(mesh, before)))


def _parts(scene: Scene, most: int | None) -> Iterator[Scene]:
    """The scene under at most so many light triangles at a time."""
    lights = scene.light_triangles
    if most is None or len(lights) <= most:
        yield scene
        return
    for start in range(0, len(lights), most):
        on = np.zeros(len(scene), bool)
        on[lights[start : start + most]] = True
        first, objects = 0, []
        for mesh in scene.objects:
            objects.append(_with_light(mesh, on[first : first + len(mesh)]) if mesh.emits else mesh)
            first += len(mesh)
        yield scene.replace(objects=tuple(objects))


def _with_light(mesh: Mesh, on: BoolArray) -> Mesh:
    """The mesh of which only the triangles `on` (N,) emit; for models that know no textures."""
    rows, patches = mesh.materials.copy(), mesh.patches
    rows[~on, EMISSION] = 0
    if patches is not None and mesh.patch_index is not None:
        patches = patches.copy()
        patches[mesh.patch_index[~on & (mesh.patch_index >= 0)], EMISSION] = 0
    return replace(mesh, materials=rows, patches=patches)


def _in_range(scene: Scene, trained: TrainedRange) -> tuple[Scene, float]:
    """The scene with as much light as the model was trained on, and the factor that its light got."""
    total = float(scene.materials[:, EMISSION].max(axis=1).sum())
    if trained.emission is None or total <= 0:
        return scene, 1.0
    factor = float(np.clip(total, *trained.emission)) / total
    return scene.replace(objects=tuple(mesh.dimmed(factor) for mesh in scene.objects)), factor


def _power(mesh: Mesh) -> float:
    """Radiance times area of a light."""
    lights = Lights.of(Scene((mesh,)))
    return float((lights.area * lights.radiance.mean(axis=1)).sum())


def _unused(name: str, taken: set[str]) -> str:
    while name in taken:
        name += "_"
    return name
