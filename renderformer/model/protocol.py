"""What rendering, training and evaluation need of a model, whichever it is.

    given = model.prepare(scene)                                # NumPy: what the model takes of a scene
    encoded = model.encode(**given.inputs)                      # the view-independent stage, as tensors
    seen = model.look(given.caster, camera, width, height)      # NumPy: what it takes of a camera
    picture = model.view(encoded, c2w, fov, height, width, **seen)

`prepare` and `look` name their arrays as `encode` and `view` name their arguments. Training keeps such arrays of a
scene beside its pictures and hands over those that `scene_inputs` and `view_inputs` name.

Shape suffixes: B scenes, N triangles, R registers, T = R + N tokens, D width, V views, h x w pixels.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import torch
from torch import Tensor

from renderformer.config import Config
from renderformer.data.arrays import AnyArray, Float32Array

if TYPE_CHECKING:
    from renderformer.data.camera import Camera
    from renderformer.data.rays.raycast import RayCaster
    from renderformer.data.scene import Scene

# Called with parts done and parts in all; an exception from it stops the work.
Step = Callable[[int, int], None]


@dataclass(frozen=True)
class Encoded:
    """A batch of lit scenes; any number of views can be drawn from it.

    Attributes:
        tokens: (B, T, D) float32, registers first.
        positions_world: (B, T, 9) float32, three vertices of each triangle in scene units; registers stand at the
            mean of their scene.
        mask: (B, T) bool, True for registers and real triangles.
    """

    tokens: Tensor
    positions_world: Tensor
    mask: Tensor


@dataclass(frozen=True, eq=False)
class Prepared:
    """A scene as a model takes it.

    Attributes:
        inputs: arguments of `encode` by name, for a batch of one.
        caster: casts the rays of the scene's cameras, where the model needs them.
        notes: what preparing changed, with counts.
    """

    inputs: Mapping[str, AnyArray]
    caster: RayCaster | None = None
    notes: tuple[str, ...] = ()

    @property
    def token_count(self) -> int:
        """Triangles that the tokens stand for."""
        return int(self.inputs["triangles"].shape[1])


class Model(Protocol):
    """See the module. Every implementation is an `nn.Module`.

    Attributes:
        scene_inputs, view_inputs: names of the arguments that `encode` and `view` take beyond the geometry, the
            materials and the cameras.
        separate_channels: whether each colour channel is drawn on its own, so that training may draw one of them. The
            picture then has the channels of the direct light that `encode` is given.
    """

    @property
    def scene_inputs(self) -> tuple[str, ...]: ...

    @property
    def view_inputs(self) -> tuple[str, ...]: ...

    @property
    def separate_channels(self) -> bool: ...

    @property
    def config(self) -> Config: ...

    @property
    def device(self) -> torch.device: ...

    def set_attention_backend(self, backend: str) -> None:
        """Choose what `renderformer.kernels.backends` runs in the triangle stage: "auto", "sdpa" or "sage".

        The view stage is always exact (SDPA); it runs in float32.

        Raises:
            ValueError: an unknown name.
        """

    def set_recompute(self, on: bool) -> None:
        """Whether training makes the layers' activations again in the backward pass instead of keeping them (gradient
        checkpointing): less memory for a third more time."""

    def prepare(self, scene: Scene, step: Step | None = None) -> Prepared:
        """What `encode` takes of a scene; `step` is called between parts of the work."""
        ...

    # The arguments after the common ones differ between the models; `scene_inputs` and `view_inputs` name them.
    @property
    def encode(self) -> Callable[..., Encoded]:
        """The view-independent stage: (triangles, texture, mask, vn, **inputs, before_layer) -> Encoded."""

    @property
    def view(self) -> Callable[..., Tensor]:
        """The view-dependent stage: (encoded, c2w, fov, height, width, **seen, before_layer) -> (B, V, h, w, C)."""

    def look(
        self, caster: RayCaster | None, camera: Camera, width: int, height: int, step: Step | None = None
    ) -> Mapping[str, Float32Array]:
        """What `view` takes of a camera, one view, by name; `step` is called between parts of the work."""
        ...

    def bytes_per_view(self, width: int, height: int) -> float:
        """An estimate of the working memory of one view of so many pixels, from the widest activations."""
        ...
