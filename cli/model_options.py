"""The options of models: which one draws, and where it runs. Imported for `--help`: no NumPy, no torch."""

from __future__ import annotations

import enum
import functools
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer

from renderformer.cli.options import MODEL
from renderformer.data.trained_range import ANYWHERE, TrainedRange

_model = functools.partial(typer.Option, rich_help_panel=MODEL)


class Precision(enum.StrEnum):
    """Precisions of `renderformer.renderer`."""

    AUTO = "auto"
    FP32 = "fp32"
    BF16 = "bf16"
    FP16 = "fp16"


class Attention(enum.StrEnum):
    """Backends of `renderformer.kernels.backends`."""

    AUTO = "auto"
    SDPA = "sdpa"
    SAGE = "sage"


@dataclass(frozen=True)
class ModelFlags:
    """Which model, and where it runs; the fields but `model` are arguments of `Renderer.from_pretrained`."""

    model: Annotated[
        str | None,
        _model(
            metavar="FOLDER|ID",
            help="Folder with config.json and model.safetensors, or a Hub id.",
            show_default="ray casting and cached light alone",
        ),
    ] = None
    revision: Annotated[str | None, _model(metavar="NAME", help="Branch, tag or commit of a Hub id.")] = None
    offline: Annotated[bool, _model("--offline", help="Use only what was downloaded before.")] = False
    device: Annotated[str, _model(metavar="NAME", help="auto, cpu, cuda, cuda:1 or mps.")] = "auto"
    network: Annotated[
        bool | None,
        _model(
            "--network/--no-network",
            help="Correct pictures with the embedded network, or draw without any, by ray casting and cached light.",
            show_default="no network, unless a model is named",
        ),
    ] = None

    def arguments(self) -> dict[str, Any]:
        """Keyword arguments of `Renderer.from_pretrained`."""
        given = {name: value.value if isinstance(value, enum.Enum) else value for name, value in vars(self).items()}
        del given["model"]
        return given

    def trained(self) -> TrainedRange:
        """The range to set a mesh on a stage in, before the model is loaded; of a Hub id that of the released ones."""
        from renderformer.config import V1
        from renderformer.data.errors import InputError

        if self.model is None:
            return ANYWHERE
        from renderformer.checkpoints import read_config

        try:
            return read_config(Path(self.model)).trained
        except InputError:
            # A folder that cannot be read is refused when the model is loaded.
            return V1

    def framing(self, size: tuple[int, int]) -> dict[str, Any]:
        """Arguments of `load_scene` with which a bare mesh fills a picture of (width, height) pixels."""
        return {"trained": self.trained(), "aspect": min(max(size[0] / size[1], 1 / 64), 64.0)}


@dataclass(frozen=True)
class TriangleStageFlags(ModelFlags):
    """`ModelFlags`, and the arithmetic of the triangle stage."""

    precision: Annotated[Precision, _model(metavar="NAME", help="Of the triangle stage: auto, fp32, bf16 or fp16.")] = (
        Precision.AUTO
    )
    attention: Annotated[
        Attention,
        _model(
            metavar="NAME", help="Of the triangle stage: auto, sdpa (exact) or sage (8-bit, NVIDIA GPUs, fp16 or bf16)."
        ),
    ] = Attention.AUTO
