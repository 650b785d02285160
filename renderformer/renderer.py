"""Scenes to pictures: `Renderer.encode` lights a scene once, `Renderer.render` draws it from many cameras."""

from __future__ import annotations

import hashlib
import json
import math
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from renderformer.arithmetic import Arithmetic, Arrays, check_unused
from renderformer.buffers import Buffers
from renderformer.check import check_scene
from renderformer.config import Config
from renderformer.data.arrays import Float32Array
from renderformer.data.camera import Camera
from renderformer.data.errors import InputError
from renderformer.data.notes import Routine
from renderformer.data.progress import Progress, silent
from renderformer.data.rays.channels import RGB
from renderformer.data.scene import Scene
from renderformer.data.unit_size import AS_IT_IS, UnitSize
from renderformer.image import Image
from renderformer.memory import check_memory, enough_memory
from renderformer.model import PhysicalModel
from renderformer.model.protocol import Encoded, Model, Prepared
from renderformer.splitting import MOST

if TYPE_CHECKING:
    from torch import Tensor

    from renderformer.data.rays.raycast import RayCaster
    from renderformer.differentiable.drawing import TracedRays
    from renderformer.differentiable.tensors import SceneTensors
    from renderformer.split import Split

Cancel = Callable[[], bool]
MAX_SIDE = 16384
# Working memory of the views that are drawn together.
DECODE_BYTES = 1 << 30


class Cancelled(Exception):  # noqa: N818 - not an error
    """The caller's `cancel` stopped the work."""


@dataclass(frozen=True, eq=False)
class LitScene:
    """A scene after the view-independent stage, for any number of cameras.

    Attributes:
        scene: the encoded scene; its cameras are the default ones.
        encoded: the model's triangle tokens, a batch of one; None without a network.
        caster: casts rays at the scene, in the units of the model; None for a model without feature images.
        notes: changes that the model made to the scene, with counts.
        unit: from the units of the scene to those of the model.
    """

    scene: Scene
    encoded: Encoded | None
    caster: RayCaster | None
    notes: tuple[str, ...] = ()
    unit: UnitSize = AS_IT_IS


class Renderer:
    """A model on a device.

    Attributes:
        model: the network, in evaluation mode; its weights stay float32. Or the model without one.
        device: "cpu", "cuda:0" or "mps".
        precision: of the triangle stage, "fp32", "bf16" or "fp16". The view stage is always fp32 (spec/model.md), since
            lower precision visibly hurts it.
        attention: of the triangle stage, "auto", "sdpa" (exact) or "sage" (8-bit products on NVIDIA GPUs,
            docs/kernels.md). The view stage is always exact.

    Raises:
        InputError: an unavailable device, an unknown precision or attention, or "sage" where it cannot run. A choice
            that has no effect without a network.
    """

    def __init__(
        self,
        model: Model,
        device: str = "auto",
        precision: str = "auto",
        name: str = "",
        attention: str = "auto",
    ) -> None:
        self.model: Model = model
        self._arithmetic = _arithmetic(model, device, precision, attention)
        self.device, self.precision = self._arithmetic.device, self._arithmetic.precision
        self.attention = self._arithmetic.attention
        self.name = name

    @classmethod
    def from_pretrained(
        cls,
        source: str | os.PathLike[str] | None = None,
        *,
        revision: str | None = None,
        device: str = "auto",
        precision: str = "auto",
        attention: str = "auto",
        offline: bool = False,
        network: bool | None = None,
    ) -> Renderer:
        """Load a model: a folder with config.json and model.safetensors, or a Hub id; without one, ray casting and the
        light cache alone draw, on the CPU.

        Args:
            network: whether a network draws or corrects pictures, by default where a model is named; True without a
                name is the embedded network.

        Raises:
            InputError: the model cannot be found or read; see `renderformer.checkpoints.load_model`. An option is given
                that has no effect without a network.
        """
        if network is None:
            network = source is not None
        if not network:
            check_unused(model=source, revision=revision)
            return cls(PhysicalModel(), device, precision, "light cache", attention)
        # Here, because torch takes seconds to load.
        from renderformer.checkpoints import load_model

        model = load_model(source, revision=revision, offline=offline)
        return cls(model, device, precision, "embedded" if source is None else os.fspath(source), attention)

    @property
    def config(self) -> Config:
        """The model's configuration."""
        return self.model.config

    @cached_property
    def digest(self) -> str:
        """A hash of the configuration and the weights, 32 hex digits."""
        total = hashlib.sha256(json.dumps(self.config.to_dict(), sort_keys=True, default=str).encode())
        self._arithmetic.add_weights(total)
        return total.hexdigest()[:32]

    def check(self, scene: Scene) -> list[str]:
        """Warnings where a scene leaves the trained range of this model, each with the remedy."""
        return check_scene(scene, self.config.trained, self.casts_rays, self._unit(scene))

    def _unit(self, scene: Scene) -> UnitSize:
        return UnitSize.of(scene, self.config.trained.box)

    @property
    def casts_rays(self) -> bool:
        """Whether the model is given feature images, which hold the light of an environment."""
        return "pixels" in self.model.view_inputs

    def encode(self, scene: Scene, progress: Progress | None = None, cancel: Cancel | None = None) -> LitScene:
        """The view-independent stage, in the units of the model: scenes may have any (`UnitSize`).

        Args:
            progress: called with (stage, done, total).
            cancel: called between layers and between chunks of rays; True raises Cancelled.

        Raises:
            InputError: the scene is too large for the memory of the device.
            Cancelled: `cancel` returned True.
        """
        report, check = progress or silent, canceller(cancel)
        report("encode", 0, 1)
        unit = self._unit(scene)
        encoded, prepared = self.encode_as_it_is(unit.scene(scene), check)
        report("encode", 1, 1)
        notes = (*self._moved(unit), *prepared.notes)
        if scene.environment is not None and not scene.environment.is_dark and not self.casts_rays:
            notes = (*notes, "the environment is not drawn, this model knows no light but triangles; try --no-network")
        return LitScene(scene, encoded, prepared.caster, notes, unit)

    def encode_as_it_is(self, scene: Scene, check: Callable[[], None]) -> tuple[Encoded | None, Prepared]:
        """A scene in the units of the model, encoded, and what it was encoded from."""
        prepared = self.model.prepare(scene, lambda done, total: check())
        inputs = {name: self._arithmetic.given(array) for name, array in prepared.inputs.items()}
        with self._arithmetic.running(self.precision), enough_memory(f"{prepared.token_count:,} triangles"):
            return self.model.encode(**inputs, before_layer=check), prepared

    def _moved(self, unit: UnitSize) -> tuple[str, ...]:
        """A note about a scene that was moved into the trained box."""
        box = self.config.trained.box
        if not unit.changes or math.isinf(box):
            return ()
        shift = ", ".join(f"{-unit.scale * value:.4g}" for value in unit.centre)
        return (Routine(f"drawn scaled by {unit.scale:.4g} and moved by ({shift}), into the trained box of ±{box:g}"),)

    def render(
        self,
        scene: Scene | LitScene,
        resolution: int | tuple[int, int] = 512,
        cameras: Camera | Sequence[Camera] | None = None,
        progress: Progress | None = None,
        cancel: Cancel | None = None,
        aovs: Sequence[str] = (),
    ) -> list[Image]:
        """Draw a scene, one Image per camera.

        Args:
            scene: a scene, or its result of `encode`.
            resolution: pixels on a side, or (width, height), from 1 to 16384. The field of view is vertical.
            cameras: the scene's cameras by default.
            progress: called with (stage, done, total).
            cancel: called between views, between layers and between chunks of rays; True raises Cancelled.
            aovs: names of `renderformer.aovs.AOVS`, the layers to make beside the pictures: `Image.layers`.

        Raises:
            InputError: no cameras, a size out of range, an unknown layer, or too little memory.
            Cancelled: `cancel` returned True.
        """
        return list(self.iterate(scene, resolution, cameras, progress, cancel, aovs))

    def iterate(
        self,
        scene: Scene | LitScene,
        resolution: int | tuple[int, int] = 512,
        cameras: Camera | Sequence[Camera] | None = None,
        progress: Progress | None = None,
        cancel: Cancel | None = None,
        aovs: Sequence[str] = (),
    ) -> Iterator[Image]:
        """As `render`, but yields each picture when it is ready."""
        (width, height), views = self.checked_views(scene, resolution, cameras)
        self.check_memory(width, height)
        lit = scene if isinstance(scene, LitScene) else self.encode(scene, progress, cancel)
        report, check = progress or silent, canceller(cancel)
        buffers = Buffers(aovs, lit.scene, lit.unit, lit.caster)
        views_at_once = self._views_at_once(width, height)
        report("render", 0, len(views))
        for start in range(0, len(views), views_at_once):
            chunk = views[start : start + views_at_once]
            check()
            moved = [lit.unit.camera(camera) for camera in chunk]
            inputs = self.look(lit.caster, moved, width, height, report, check)
            report("render", start, len(views))
            pictures = self.draw(lit.encoded, moved, width, height, inputs, check)
            for number, (camera, hdr) in enumerate(zip(chunk, pictures, strict=True)):
                pixels = inputs["pixels"][0, number, :height, :width] if self.casts_rays else None
                features = None if pixels is None else self.array(pixels)
                yield self._image(lit, camera, hdr, features, buffers)
            report("render", start + len(chunk), len(views))

    def _image(
        self,
        lit: LitScene,
        camera: Camera,
        drawn: Float32Array,
        features: Float32Array | None,
        buffers: Buffers,
    ) -> Image:
        """What the model drew with what is behind it, and its layers.

        Args:
            drawn: (height, width, 3); features: (height, width, 39), None of a model that casts no rays.
        """
        picture, alpha, size, environment = drawn, None, (drawn.shape[1], drawn.shape[0]), lit.scene.environment
        if environment is not None and features is not None:
            assert lit.caster is not None
            covered = features[..., RGB.mask][..., 0]
            picture, alpha = lit.caster.composited(drawn, covered, environment, camera)
        elif environment is not None and environment.is_clear:
            alpha = buffers.covered(camera, *size)
        backdrop = None if environment is None else environment.backdrop
        metadata = {"model": self.name, "precision": self.precision, **buffers.metadata}
        image = Image(picture, camera, metadata, alpha, background=backdrop)
        if not buffers.names:
            return image
        network = None if isinstance(self.model, PhysicalModel) else drawn
        behind = image.on_background(picture) - drawn
        return replace(image, layers=buffers.layers(camera, size, features, network, behind))

    def checked_views(
        self,
        scene: Scene | LitScene,
        resolution: int | tuple[int, int],
        cameras: Camera | Sequence[Camera] | None,
    ) -> tuple[tuple[int, int], tuple[Camera, ...]]:
        """Width and height, and the cameras to draw from.

        Raises:
            InputError: as `render`.
        """
        size = _size(resolution)
        if not isinstance(scene, Scene | LitScene):
            raise InputError("", f"scene is {str(scene)[:80]!r}", "expected a Scene; read a file with Scene.load")
        source = scene.scene if isinstance(scene, LitScene) else scene
        views = source.cameras if cameras is None else (cameras,) if isinstance(cameras, Camera) else tuple(cameras)
        if not views:
            raise InputError(f"scene {source.name!r}", "has no cameras", "give some, for example Camera.from_angles()")
        return size, views

    def split(
        self,
        scene: Scene | LitScene,
        resolution: int | tuple[int, int] = 512,
        cameras: Camera | Sequence[Camera] | None = None,
        progress: Progress | None = None,
        cancel: Cancel | None = None,
        aovs: Sequence[str] = (),
        *,
        most: int = MOST,
    ) -> list[Split]:
        """Draw a scene split by its lights, one Split per camera: one picture for each light, whose sum is the picture
        under all of them. An object that emits is a light, and so is the environment.

        Args:
            scene, resolution, cameras, progress, cancel, aovs: as in `render`.
            most: pictures of one camera; of more lights, the weakest share one, and a note says so.

        Raises:
            InputError: as `render`, or a scene without light.
            Cancelled: `cancel` returned True.
        """
        from renderformer.splitting import Splitting

        splitting = Splitting(self, scene, most, progress, cancel)
        return list(splitting.iterate(resolution, cameras, progress, cancel, aovs))

    def render_tensors(
        self, tensors: SceneTensors, resolution: int | tuple[int, int] = 512, rays: TracedRays | None = None
    ) -> Tensor:
        """Draw a scene that is given as tensors; gradients flow to those that want them, see docs/gradients.md.

        They reach materials, lights, vertices and cameras, by light directly from lights, by highlights and reflections
        and by the light cache. None come from what a change uncovers or hides: outlines, the borders of shadows, which
        part of a light is seen, the surface behind. A reflected ray keeps its direction. Textures, the environment and
        what a network is told of the scene stay as they are. V1 models give gradients to all that they are told.

        Args:
            tensors: the scene, its cameras, and what to differentiate by.
            resolution: as in `render`.
            rays: those of `trace` of such tensors, to use again while nothing moves far; traced at the present values
                by default. V1 models have none.

        Returns:
            (V, height, width, 3) linear radiance of V cameras, in the type and on the device of `tensors.diffuse`. At
            the values of the trace it is the picture that `render` draws.

        Raises:
            InputError: values that no scene may have, rays of other tensors, more than 256 light triangles, or textures
                for a V1 model.
        """
        from renderformer.differentiable.drawing import draw

        return draw(self, tensors, _size(resolution), rays)

    def trace(self, tensors: SceneTensors, resolution: int | tuple[int, int] = 512) -> TracedRays:
        """Find what the rays of the cameras meet at the present values of tensors, for `render_tensors`.

        Raises:
            InputError: as there, or a V1 model.
        """
        from renderformer.differentiable.drawing import trace

        return trace(self, tensors, _size(resolution))

    def look(
        self,
        caster: RayCaster | None,
        cameras: Sequence[Camera],
        width: int,
        height: int,
        report: Progress,
        check: Callable[[], None],
    ) -> dict[str, Any]:
        """The inputs of `Model.view` for V cameras, by name, each (1, V, ...), as the model takes them."""

        def step(done: int, total: int) -> None:
            check()
            report("cast rays", done, total)

        with enough_memory(f"{width} x {height} pixels"):
            views = [self.model.look(caster, camera, width, height, step) for camera in cameras]
            # The features of one view may be gigabytes, so a single view is not copied.
            stacks = {k: np.stack([v[k] for v in views]) if len(views) > 1 else views[0][k][None] for k in views[0]}
            return {name: self._arithmetic.given(array[None]) for name, array in stacks.items()}

    def draw(
        self,
        encoded: Encoded | None,
        cameras: Sequence[Camera],
        width: int,
        height: int,
        inputs: Mapping[str, Any],
        check: Callable[[], None],
    ) -> Float32Array:
        """(V, height, width, 3) pictures of V cameras."""
        c2w = self._arithmetic.given(np.stack([camera.c2w for camera in cameras])[None])
        fov = self._arithmetic.given(np.array([[[camera.fov] for camera in cameras]], np.float32))
        with self._arithmetic.running(), enough_memory(f"{width} x {height} pixels"):
            hdr = self.model.view(encoded, c2w, fov, height, width, **inputs, before_layer=check)
            # A model with alpha draws it as a fourth channel.
            return self.array(hdr[0, ..., :3])

    def _views_at_once(self, width: int, height: int) -> int:
        """How many views fit in DECODE_BYTES."""
        # A CPU gains nothing from more views, and it rounds by batch size: a picture would depend on the other views.
        if self._on_cpu:
            return 1
        return max(1, int(DECODE_BYTES // self.model.bytes_per_view(width, height)))

    def check_memory(self, width: int, height: int, more: float = 0.0) -> None:
        """Raise InputError for a picture larger than the memory, with so many bytes beside it."""
        if self._on_cpu:
            check_memory(width, height, self.model.bytes_per_view(width, height) + more)

    def array(self, values: Any) -> Float32Array:
        """Inputs or outputs of the model as an array."""
        return self._arithmetic.array(values)

    @property
    def _on_cpu(self) -> bool:
        return self.device.startswith("cpu")


def _arithmetic(model: Model, device: str, precision: str, attention: str) -> Arithmetic:
    """What a model computes with.

    Raises:
        InputError: see `Renderer`.
    """
    if isinstance(model, PhysicalModel):
        check_unused(device=device, precision=precision, attention=attention)
        return Arrays()
    # Here, because torch takes seconds to load.
    from renderformer.devices import Tensors

    return Tensors(model, device, precision, attention)


def canceller(cancel: Cancel | None) -> Callable[[], None]:
    """A function that raises Cancelled once `cancel` returns True."""

    def check() -> None:
        if cancel is not None and cancel():
            raise Cancelled

    return check


def _size(resolution: int | tuple[int, int]) -> tuple[int, int]:
    sides = tuple(resolution) if isinstance(resolution, tuple | list) else (resolution, resolution)
    if len(sides) != 2 or not all(isinstance(n, int | np.integer) and 1 <= n <= MAX_SIDE for n in sides):
        raise InputError(
            "", f"resolution is {resolution!r}", f"expected one number or (width, height) from 1 to {MAX_SIDE}"
        )
    return int(sides[0]), int(sides[1])
