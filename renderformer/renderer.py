"""Scenes to pictures: the object layer over the model.

Two stages, as in the paper: `Renderer.encode` lights the triangles once, `Renderer.render` draws them for many cameras.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from renderformer.check import check_scene
from renderformer.checkpoints import load_model
from renderformer.config import ModelConfig
from renderformer.data.camera import Camera
from renderformer.data.errors import InputError
from renderformer.data.rays.raycast import RayCaster, lit_tokens
from renderformer.data.scene import Scene
from renderformer.image import Image
from renderformer.kernels.backends import BACKENDS, auto_backend, refusal
from renderformer.model import Encoded, RenderFormer
from renderformer.model.shading import coarsening

Progress = Callable[[str, int, int], None]
MAX_SIDE = 16384
# Views are decoded together up to this estimate of working memory.
DECODE_BYTES = 1 << 30
PRECISIONS = ("auto", "fp32", "bf16", "fp16")
_DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


@dataclass(frozen=True, eq=False)
class LitScene:
    """A scene after the view-independent stage; any number of cameras can be rendered from it.

    Attributes:
        scene: what was encoded; its cameras are the default ones.
        encoded: the model's triangle tokens, a batch of one.
        caster: casts the rays of a model with `ray_features`, else None.
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
        model: RenderFormer,
        device: str = "auto",
        precision: str = "auto",
        name: str = "",
        attention: str = "auto",
    ) -> None:
        self.device = _device(device)
        self.precision = _precision(precision, self.device)
        self.attention = _attention(attention, self.device, _DTYPES[self.precision], model.config.head_dim)
        self.model = model.to(self.device).eval()
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
    ) -> Renderer:
        """Load a model: nothing for the embedded one, a folder with config.json and model.safetensors, or a Hub id.

        Raises:
            InputError: the model cannot be found or read; see `renderformer.checkpoints.load_model`.
        """
        model = load_model(source, revision=revision, offline=offline)
        return cls(model, device, precision, "embedded" if source is None else os.fspath(source), attention)

    @property
    def config(self) -> ModelConfig:
        """The model's configuration."""
        return self.model.config

    def check(self, scene: Scene) -> list[str]:
        """Lines that tell where a scene leaves the range that models were trained on, with the remedy."""
        return check_scene(scene)

    @torch.inference_mode()
    def encode(self, scene: Scene, progress: Progress | None = None) -> LitScene:
        """The view-independent stage.

        A model whose configuration names `token_triangles` gets a simplified copy of a larger mesh for its tokens; its
        rays still see every triangle.

        Raises:
            InputError: the scene is too large for the memory of the device.
        """
        report = progress or _silent
        report("encode", 0, 1)
        notes: tuple[str, ...] = ()
        caster, tokens, light = None, scene, None
        if self.config.ray_features != "none":
            caster, tokens, triangle_light = lit_tokens(scene, self.config.token_triangles)
            light = self._tensor(triangle_light)
            if tokens is not scene:
                notes = (f"{len(scene):,} triangles are seen by rays, a copy of {len(tokens):,} lights the scene",)
            if caster.light_count > len(caster.lights):
                few = f"{len(caster.lights)} of {caster.light_count:,} light triangles, drawn by power"
                notes += (f"shadow rays go to {few}",)
        patches = tokens.patches if self.config.texture_encode_patch_size > 1 else None
        with self._autocast(), _memory(f"{len(tokens):,} triangles"):
            encoded = self.model.encode(
                self._tensor(tokens.triangles),
                self._tensor(tokens.materials),
                torch.ones(1, len(tokens), dtype=torch.bool, device=self.device),
                self._tensor(tokens.normals),
                patches=None if patches is None else torch.from_numpy(patches[0].copy()).to(self.device),
                patch_index=None if patches is None else self._tensor(patches[1]),
                triangle_light=light,
            )
        report("encode", 1, 1)
        return LitScene(scene, encoded, caster, notes)

    def render(
        self,
        scene: Scene | LitScene,
        resolution: int | tuple[int, int] = 512,
        cameras: Camera | Sequence[Camera] | None = None,
        progress: Progress | None = None,
    ) -> list[Image]:
        """Draw a scene, one Image per camera.

        Args:
            scene: a scene, or what `encode` returned for it.
            resolution: pixels on a side, or (width, height); any size from 1 to 16384. The field of view is vertical.
            cameras: the scene's own by default.
            progress: called with (stage, done, total).

        Raises:
            InputError: no cameras, a size out of range, or too little memory.
        """
        return list(self.iterate(scene, resolution, cameras, progress))

    def iterate(
        self,
        scene: Scene | LitScene,
        resolution: int | tuple[int, int] = 512,
        cameras: Camera | Sequence[Camera] | None = None,
        progress: Progress | None = None,
    ) -> Iterator[Image]:
        """`render`, one picture after the other as they become ready."""
        width, height = _size(resolution)
        if not isinstance(scene, Scene | LitScene):
            raise InputError("", f"scene is {str(scene)[:80]!r}, expected a Scene", "read a file with Scene.load")
        source = scene.scene if isinstance(scene, LitScene) else scene
        views = source.cameras if cameras is None else (cameras,) if isinstance(cameras, Camera) else tuple(cameras)
        if not views:
            raise InputError(f"scene {source.name!r}", "has no cameras", "give some, for example Camera.from_angles()")
        self._check_memory(width, height)
        lit = scene if isinstance(scene, LitScene) else self.encode(scene, progress)
        report = progress or _silent
        step = self._views_at_once(width, height)
        report("render", 0, len(views))
        for start in range(0, len(views), step):
            chunk = views[start : start + step]
            pixels = None if lit.caster is None else self._cast(lit.caster, chunk, width, height, progress)
            report("render", start, len(views))
            for camera, hdr in zip(chunk, self._draw(lit.encoded, chunk, width, height, pixels), strict=True):
                yield Image(hdr, camera, {"model": self.name, "precision": self.precision})
            report("render", start + len(chunk), len(views))

    def _cast(
        self, caster: RayCaster, cameras: Sequence[Camera], width: int, height: int, progress: Progress | None
    ) -> Tensor:
        """(1, V, h, w, 29) feature images of V cameras on the covering grid."""
        report = None if progress is None else lambda done, total: progress("cast rays", done, total)
        with _memory(f"{width} x {height} pixels"):
            cover = self.config.size_multiple
            images = [caster.features(c, width, height, cover=cover, progress=report) for c in cameras]
            # One view's features may be gigabytes, so they are not copied.
            return self._tensor(np.stack(images) if len(images) > 1 else images[0][None])

    @torch.inference_mode()
    def _draw(
        self, encoded: Encoded, cameras: Sequence[Camera], width: int, height: int, pixels: Tensor | None
    ) -> np.ndarray:
        """(V, height, width, 3) pictures of V cameras."""
        c2w = self._tensor(np.stack([camera.c2w for camera in cameras]))
        fov = self._tensor(np.array([[camera.fov] for camera in cameras], np.float32))
        with _memory(f"{width} x {height} pixels"):
            hdr = self.model.view(encoded, c2w, fov, height, width, pixels=pixels)
            # A model with alpha draws it as a fourth channel; the picture is the first three.
            return hdr[0, ..., :3].float().cpu().numpy()

    def _views_at_once(self, width: int, height: int) -> int:
        """How many views fit the budget, by the widest activations of the decoder.

        One on a CPU: it gains nothing from more, and its matrix products round differently by their size, so that a
        picture would depend on its company in the last digits.
        """
        if self.device.type == "cpu":
            return 1
        return max(1, int(DECODE_BYTES // self._bytes_per_view(width, height)))

    def _bytes_per_view(self, width: int, height: int) -> float:
        """An estimate from the widest activations."""
        config = self.config
        channels: float = 2 * config.dpt_features if config.use_dpt_decoder else 16
        drawn = width * height
        if config.output == "shading":
            # Three monochrome pictures and their feature images: 754 numbers per pixel that the network draws, and 205
            # per pixel that it is brought up to, measured on a CPU with pictures of 512 x 512.
            shrunk = coarsening(height, width) ** 2
            channels, drawn = 205 + 750 / shrunk if shrunk > 1 else 750, drawn // shrunk
        tokens = drawn / config.patch_size**2 * config.view_transformer_ffn_hidden_dim
        return 4 * (width * height * channels + 3 * tokens)

    def _check_memory(self, width: int, height: int) -> None:
        """Refuse what cannot fit: Linux grants the memory and ends the process when it is used, without a word."""
        try:
            there = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
        except (AttributeError, OSError, ValueError):
            return
        needed = self._bytes_per_view(width, height)
        if self.device.type == "cpu" and needed > there:
            raise InputError(
                f"out of memory with {width} x {height} pixels",
                f"they need about {needed / 2**30:.0f} GiB of {there / 2**30:.0f}",
                "use a smaller resolution",
            )

    def _tensor(self, array: np.ndarray) -> Tensor:
        """A batch of one on the device; on a CPU it shares the memory of an array that may be written."""
        return torch.from_numpy(array if array.flags.writeable else array.copy()).to(self.device)[None]

    def _autocast(self) -> torch.autocast:
        return torch.autocast(self.device.type, _DTYPES[self.precision], enabled=self.precision != "fp32")


def attention_report(device: str = "auto") -> dict[str, str]:
    """Which attention each stage takes on a device when nothing is named, and why.

    Returns:
        "device", "triangle_stage" and "view_stage", in words.

    Raises:
        InputError: a device that is not there.
    """
    found = _device(device)
    precision = _precision("auto", found)
    return {
        "device": str(found),
        "triangle_stage": f"{precision}, {auto_backend(found, _DTYPES[precision])}",
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


def _size(resolution: int | tuple[int, int]) -> tuple[int, int]:
    sides = tuple(resolution) if isinstance(resolution, tuple | list) else (resolution, resolution)
    if len(sides) != 2 or not all(isinstance(n, int | np.integer) and 1 <= n <= MAX_SIDE for n in sides):
        raise InputError(
            "", f"resolution is {resolution!r}", f"expected one number or (width, height) from 1 to {MAX_SIDE}"
        )
    return int(sides[0]), int(sides[1])


def _device(name: str) -> torch.device:
    found = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if name == "auto":
        return torch.device("cuda" if found["cuda"] else "mps" if found["mps"] else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError:
        raise InputError("", f"device {name!r} is unknown", "use auto, cpu, cuda or mps") from None
    if device.type not in found:
        raise InputError("", f"device {name!r} is not supported", "use auto, cpu, cuda or mps")
    there = [kind for kind, present in found.items() if present]
    if not found[device.type] or (device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count()):
        raise InputError("", f"device {name!r} is not available on this machine", f"available: {', '.join(there)}")
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
        raise InputError(f"attention {name!r} cannot run here", reason, "use auto or sdpa")
    return name
