"""The interface of a model for rendering, training and evaluation.

    prepared = model.prepare(scene)
    encoded = model.encode(**prepared.inputs)
    inputs = model.look(prepared.caster, camera, width, height)
    picture = model.view(encoded, c2w, fov, height, width, **inputs)

`prepare` and `look` return NumPy arrays, which the caller passes to `encode` and `view` as tensors of the same names; a
model without a network takes the arrays themselves. Training stores them beside the pictures and passes those that
`scene_inputs` and `view_inputs` name.

Shape suffixes: B scenes, N triangles, R registers, T = R + N tokens, D width, V views, h x w pixels.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from renderformer.config import Config
from renderformer.data.arrays import AnyArray, Float32Array

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from renderformer.data.camera import Camera
    from renderformer.data.rays.raycast import RayCaster
    from renderformer.data.scene import Scene

# Called with (done, total); an exception from it stops the work.
Step = Callable[[int, int], None]
# Called before each layer; an exception from it stops the stage.
BeforeLayer = Callable[[], None]


@dataclass(frozen=True)
class Encoded:
    """A batch of lit scenes, for any number of views.

    Attributes:
        tokens: (B, T, D) float32, registers first.
        positions_world: (B, T, 9) float32, three vertices of each triangle in scene units; the mean vertex of the
            scene for a register.
        mask: (B, T) bool, True for registers and real triangles.
    """

    tokens: Tensor
    positions_world: Tensor
    mask: Tensor


@dataclass(frozen=True, eq=False)
class Prepared:
    """The inputs of a model for one scene.

    Attributes:
        inputs: arguments of `encode` by name, for a batch of one.
        caster: casts rays at the scene, for `look`; None for a model without feature images.
        notes: changes that the model made to the scene, with counts.
    """

    inputs: Mapping[str, AnyArray]
    caster: RayCaster | None = None
    notes: tuple[str, ...] = ()

    @property
    def token_count(self) -> int:
        """Number of triangle tokens."""
        return int(self.inputs["triangles"].shape[1])


class Model(Protocol):
    """See the module. Every implementation with a network is an `nn.Module`.

    Attributes:
        scene_inputs: arguments of `encode` beyond geometry, mask and materials.
        view_inputs: arguments of `view` beyond the encoded scenes, the cameras and the size.
    """

    @property
    def scene_inputs(self) -> tuple[str, ...]: ...

    @property
    def view_inputs(self) -> tuple[str, ...]: ...

    @property
    def config(self) -> Config: ...

    @property
    def device(self) -> torch.device: ...

    def set_attention_backend(self, backend: str) -> None:
        """Choose the attention of the triangle stage: "auto", "sdpa" or "sage" (`renderformer.kernels.backends`).

        The view stage always runs SDPA in float32.

        Raises:
            ValueError: an unknown name.
        """

    def set_recompute(self, on: bool) -> None:
        """Switch gradient checkpointing: less memory and a third more time in training."""

    def prepare(self, scene: Scene, step: Step | None = None) -> Prepared:
        """The inputs of `encode` for a scene; `step` is called between parts of the work."""
        ...

    # Properties, since the models differ in the arguments that `scene_inputs` and `view_inputs` name.
    @property
    def encode(self) -> Callable[..., Encoded | None]:
        """The view-independent stage: (triangles, texture, mask, vn, **inputs, before_layer) -> Encoded; None without a
        network."""

    @property
    def view(self) -> Callable[..., Any]:
        """The view-dependent stage: (encoded, c2w, fov, height, width, **inputs, before_layer) -> (B, V, h, w, C)."""

    def look(
        self, caster: RayCaster | None, camera: Camera, width: int, height: int, step: Step | None = None
    ) -> Mapping[str, Float32Array]:
        """The inputs of `view` for one camera, by name; `step` is called between parts of the work."""
        ...

    def bytes_per_view(self, width: int, height: int) -> float:
        """Estimated working memory of one view, from the widest activations."""
        ...
