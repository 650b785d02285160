"""Scenes to pictures: the object layer over the model.

Two stages, as in the paper: `Renderer.encode` lights the triangles once, `Renderer.render` draws them for many cameras.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np
import torch
from torch import Tensor, nn

from renderformer.check import check_scene
from renderformer.checkpoints import load_model
from renderformer.config import Config
from renderformer.data.arrays import AnyArray, Float32Array
from renderformer.data.camera import Camera
from renderformer.data.errors import InputError
from renderformer.data.scene import Scene
from renderformer.image import Image
from renderformer.kernels.backends import BACKENDS, auto_backend, refusal
from renderformer.model import Encoded, Model, PhysicalModel

if TYPE_CHECKING:
    from renderformer.data.rays.raycast import RayCaster

Progress = Callable[[str, int, int], None]
Cancel = Callable[[], bool]
MAX_SIDE = 16384
# Views are decoded together up to this estimate of working memory.
DECODE_BYTES = 1 << 30
PRECISIONS = ("auto", "fp32", "bf16", "fp16")
_DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


class Cancelled(Exception):  # noqa: N818 - not an error
    """Work that the caller's `cancel` stopped."""


@dataclass(frozen=True, eq=False)
class LitScene:
    """A scene after the view-independent stage; any number of cameras can be rendered from it.

    Attributes:
        scene: what was encoded; its cameras are the default ones.
        encoded: the model's triangle tokens, a batch of one.
        caster: casts rays at the scene, where the model needs them.
        notes: what encoding changed, with counts (for example, that the model's tokens stand for a simplified mesh).
    """

    scene: Scene
    encoded: Encoded
    caster: RayCaster | None
    notes: tuple[str, ...] = ()


class Renderer:
    """A model on a device.

    Attributes:
        model: the network, in evaluation mode; its weights stay float32.
        device: "cpu", "cuda" or "mps", as a torch.device.
        precision: "fp32", "bf16" or "fp16", of the triangle stage; the view stage is always fp32 (spec model.md), as
            lower precision visibly hurts it.
        attention: "auto", "sdpa" (exact) or "sage" (8-bit products on NVIDIA GPUs, docs/kernels.md), of the triangle
            stage; the view stage is always exact. Set in the model.

    Raises:
        InputError: a device that is not there, a precision or attention that is unknown, or "sage" where it cannot run.
    """

    def __init__(
        self,
        model: Model,
        device: str = "auto",
        precision: str = "auto",
        name: str = "",
        attention: str = "auto",
    ) -> None:
        self.device = _device(device)
        self.precision = _precision(precision, self.device)
        self.attention = _attention(attention, self.device, _DTYPES[self.precision], model.config.head_dim)
        assert isinstance(model, nn.Module)
        self.model: Model = model.to(self.device).eval()
        self.model.set_attention_backend(self.attention)
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
        network: bool = True,
    ) -> Renderer:
        """Load a model: nothing for the embedded one, a folder with config.json and model.safetensors, or a Hub id.

        Args:
            network: False draws with ray casting and the light cache alone, on the CPU; then there is no model to name.

        Raises:
            InputError: the model cannot be found or read; see `renderformer.checkpoints.load_model`. A model is named
                although none is to be used.
        """
        if not network:
            if source is not None:
                raise InputError("", f"without a network, the model {os.fspath(source)!r} is not used", "leave it out")
            return cls(PhysicalModel(), "cpu", "fp32", "light cache", "sdpa")
        model = load_model(source, revision=revision, offline=offline)
        return cls(model, device, precision, "embedded" if source is None else os.fspath(source), attention)

    @property
    def config(self) -> Config:
        """The model's configuration."""
        return self.model.config

    def check(self, scene: Scene) -> list[str]:
        """Lines that say where a scene leaves the range that this model was trained on, each with the remedy."""
        return check_scene(scene, self.config.trained)

    @torch.inference_mode()
    def encode(self, scene: Scene, progress: Progress | None = None, cancel: Cancel | None = None) -> LitScene:
        """The view-independent stage.

        Args:
            progress: called with (stage, done, total).
            cancel: asked between layers and between chunks of rays whether to stop; True raises Cancelled.

        Raises:
            InputError: the scene is too large for the memory of the device.
            Cancelled: `cancel` returned True.
        """
        report, check = progress or _silent, _check_of(cancel)
        report("encode", 0, 1)
        prepared = self.model.prepare(scene, lambda done, total: check())
        inputs = {name: self._tensor(array) for name, array in prepared.inputs.items()}
        with self._autocast(), _memory(f"{prepared.token_count:,} triangles"):
            encoded = self.model.encode(**inputs, before_layer=check)
        report("encode", 1, 1)
        return LitScene(scene, encoded, prepared.caster, prepared.notes)

    def render(
        self,
        scene: Scene | LitScene,
        resolution: int | tuple[int, int] = 512,
        cameras: Camera | Sequence[Camera] | None = None,
        progress: Progress | None = None,
        cancel: Cancel | None = None,
    ) -> list[Image]:
        """Draw a scene, one Image per camera.

        Args:
            scene: a scene, or what `encode` returned for it.
            resolution: pixels on a side, or (width, height); any size from 1 to 16384. The field of view is vertical.
            cameras: the scene's own by default.
            progress: called with (stage, done, total).
            cancel: asked between views, between layers and between chunks of rays whether to stop; True raises
                Cancelled.

        Raises:
            InputError: no cameras, a size out of range, or too little memory.
            Cancelled: `cancel` returned True.
        """
        return list(self.iterate(scene, resolution, cameras, progress, cancel))

    def iterate(
        self,
        scene: Scene | LitScene,
        resolution: int | tuple[int, int] = 512,
        cameras: Camera | Sequence[Camera] | None = None,
        progress: Progress | None = None,
        cancel: Cancel | None = None,
    ) -> Iterator[Image]:
        """`render`, one picture after the other as they become ready."""
        width, height = _size(resolution)
        if not isinstance(scene, Scene | LitScene):
            raise InputError("", f"scene is {str(scene)[:80]!r}", "expected a Scene; read a file with Scene.load")
        source = scene.scene if isinstance(scene, LitScene) else scene
        views = source.cameras if cameras is None else (cameras,) if isinstance(cameras, Camera) else tuple(cameras)
        if not views:
            raise InputError(f"scene {source.name!r}", "has no cameras", "give some, for example Camera.from_angles()")
        self._check_memory(width, height)
        lit = scene if isinstance(scene, LitScene) else self.encode(scene, progress, cancel)
        report, check = progress or _silent, _check_of(cancel)
        step = self._views_at_once(width, height)
        report("render", 0, len(views))
        for start in range(0, len(views), step):
            chunk = views[start : start + step]
            check()
            seen = self._look(lit.caster, chunk, width, height, report, check)
            report("render", start, len(views))
            pictures = self._draw(lit.encoded, chunk, width, height, seen, check)
            for camera, hdr in zip(chunk, pictures, strict=True):
                yield Image(hdr, camera, {"model": self.name, "precision": self.precision})
            report("render", start + len(chunk), len(views))

    def _look(
        self,
        caster: RayCaster | None,
        cameras: Sequence[Camera],
        width: int,
        height: int,
        report: Progress,
        check: Callable[[], None],
    ) -> dict[str, Tensor]:
        """What the model takes of V cameras beyond their frames: its arguments by name, (1, V, ...)."""

        def step(done: int, total: int) -> None:
            check()
            report("cast rays", done, total)

        with _memory(f"{width} x {height} pixels"):
            views = [self.model.look(caster, camera, width, height, step) for camera in cameras]
            # One view's features may be gigabytes, so they are not copied.
            stacks = {k: np.stack([v[k] for v in views]) if len(views) > 1 else views[0][k][None] for k in views[0]}
            return {name: self._tensor(array[None]) for name, array in stacks.items()}

    @torch.inference_mode()
    def _draw(
        self,
        encoded: Encoded,
        cameras: Sequence[Camera],
        width: int,
        height: int,
        seen: Mapping[str, Tensor],
        check: Callable[[], None],
    ) -> Float32Array:
        """(V, height, width, 3) pictures of V cameras."""
        c2w = self._tensor(np.stack([camera.c2w for camera in cameras])[None])
        fov = self._tensor(np.array([[[camera.fov] for camera in cameras]], np.float32))
        with _memory(f"{width} x {height} pixels"):
            hdr = self.model.view(encoded, c2w, fov, height, width, **seen, before_layer=check)
            # A model with alpha draws it as a fourth channel; the picture is the first three.
            picture: Float32Array = hdr[0, ..., :3].float().cpu().numpy()
            return picture

    def _views_at_once(self, width: int, height: int) -> int:
        """How many views fit the budget, by the widest activations of the decoder.

        One on a CPU: it gains nothing from more, and its matrix products round differently by their size, so that a
        picture would depend on its company in the last digits.
        """
        if self.device.type == "cpu":
            return 1
        return max(1, int(DECODE_BYTES // self.model.bytes_per_view(width, height)))

    def _check_memory(self, width: int, height: int) -> None:
        """Refuse what cannot fit: Linux grants the memory, and ends the process when it is used."""
        try:
            memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
        except (AttributeError, OSError, ValueError):
            return
        needed = self.model.bytes_per_view(width, height)
        if self.device.type == "cpu" and needed > memory:
            raise InputError(
                "",
                f"out of memory with {width} x {height} pixels, which need about {needed / 2**30:.0f} GiB of "
                f"{memory / 2**30:.0f}",
                "use a smaller resolution",
            )

    def _tensor(self, array: AnyArray) -> Tensor:
        """On the device; on a CPU it shares the memory of an array that may be written."""
        return torch.from_numpy(array if array.flags.writeable else array.copy()).to(self.device)

    def _autocast(self) -> torch.autocast:
        return torch.autocast(self.device.type, _DTYPES[self.precision], enabled=self.precision != "fp32")


def attention_report(device: str = "auto") -> dict[str, str]:
    """Which attention each stage takes on a device when nothing is named, and why.

    Returns:
        "device", "triangle_stage" and "view_stage", in words.

    Raises:
        InputError: a device that is not there.
    """
    chosen = _device(device)
    precision = _precision("auto", chosen)
    return {
        "device": str(chosen),
        "triangle_stage": f"{precision}, {auto_backend(chosen, _DTYPES[precision])}",
        "view_stage": "fp32, sdpa (always exact)",
    }


class _memory:  # noqa: N801 - used as a context manager, named like contextlib's
    """Turn running out of memory into one line that says what was too large."""

    def __init__(self, what: str) -> None:
        self.what = what

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> Literal[False]:
        # Torch reports a failed allocation on the CPU as a plain RuntimeError.
        short = isinstance(error, MemoryError | torch.OutOfMemoryError) or (
            isinstance(error, RuntimeError) and "alloc" in str(error).lower()
        )
        if short:
            raise InputError(
                "", f"out of memory with {self.what}", "use a smaller resolution, fewer triangles or another device"
            ) from error
        return False


def _silent(stage: str, done: int, total: int) -> None:
    """No progress wanted."""


def _check_of(cancel: Cancel | None) -> Callable[[], None]:
    """What raises Cancelled once `cancel` returns True."""

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


def _device(name: str) -> torch.device:
    present = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if name == "auto":
        return torch.device("cuda" if present["cuda"] else "mps" if present["mps"] else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError:
        raise InputError("", f"device {name!r} is unknown", "use auto, cpu, cuda or mps") from None
    if device.type not in present:
        raise InputError("", f"device {name!r} is not supported", "use auto, cpu, cuda or mps")
    if not present[device.type] or (device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count()):
        available = ", ".join(kind for kind, usable in present.items() if usable)
        raise InputError("", f"device {name!r} is not available on this machine", f"available: {available}")
    return device


def _precision(name: str, device: torch.device) -> str:
    if name not in PRECISIONS:
        raise InputError("", f"precision {name!r} is unknown", f"use one of {', '.join(PRECISIONS)}")
    if name != "auto":
        return name
    # bf16 has the range of float32; on CPUs and MPS the gain is small and support varies.
    return "bf16" if device.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False) else "fp32"


def _attention(name: str, device: torch.device, dtype: torch.dtype, head_dim: int) -> str:
    if name not in BACKENDS:
        raise InputError("", f"attention {name!r} is unknown", f"use one of {', '.join(BACKENDS)}")
    reason = refusal(name, device, dtype, head_dim)
    if reason:
        raise InputError("", f"attention {name!r} cannot run here: {reason}", "use auto or sdpa")
    return name
