"""Where a model runs, and with which arithmetic."""

from __future__ import annotations

from contextlib import ExitStack

import torch
from torch import Tensor, nn

from renderformer.arithmetic import Digest
from renderformer.data.arrays import AnyArray, Float32Array
from renderformer.data.errors import InputError
from renderformer.kernels.backends import BACKENDS, auto_backend, refusal
from renderformer.model.protocol import Model

PRECISIONS = ("auto", "fp32", "bf16", "fp16")
DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


class Tensors:
    """A network on a device, see `renderformer.arithmetic.Arithmetic`.

    Raises:
        InputError: an unavailable device, an unknown precision or attention, or "sage" where it cannot run.
    """

    def __init__(self, model: Model, device: str, precision: str, attention: str) -> None:
        self._device = device_of(device)
        self.device = str(self._device)
        self.precision = precision_of(precision, self._device)
        self.attention = attention_of(attention, self._device, DTYPES[self.precision], model.config.head_dim)
        assert isinstance(model, nn.Module)
        model.to(self._device).eval()
        model.set_attention_backend(self.attention)
        self._model: nn.Module = model

    def given(self, array: AnyArray) -> Tensor:
        """The array on the device; on a CPU a writeable array shares its memory."""
        return torch.from_numpy(array if array.flags.writeable else array.copy()).to(self._device)

    def array(self, values: Tensor) -> Float32Array:
        """See `Arithmetic`."""
        result: Float32Array = values.float().cpu().numpy()
        return result

    def running(self, precision: str = "fp32") -> ExitStack:
        """See `Arithmetic`; nothing is kept for gradients."""
        stack = ExitStack()
        stack.enter_context(torch.inference_mode())
        stack.enter_context(torch.autocast(self._device.type, DTYPES[precision], enabled=precision != "fp32"))
        return stack

    def add_weights(self, to: Digest) -> None:
        """See `Arithmetic`."""
        for name, tensor in sorted(self._model.state_dict().items()):
            to.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
            to.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().data)


def attention_report(device: str = "auto") -> dict[str, str]:
    """The default precision and attention of each stage on a device, with the reason.

    Returns:
        "device", "triangle_stage" and "view_stage", in words.

    Raises:
        InputError: an unavailable device.
    """
    selected = device_of(device)
    precision = precision_of("auto", selected)
    return {
        "device": str(selected),
        "triangle_stage": f"{precision}, {auto_backend(selected, DTYPES[precision])}",
        "view_stage": "fp32, sdpa (always exact)",
    }


def device_of(name: str) -> torch.device:
    """The device that "auto", "cpu", "cuda", "cuda:1" or "mps" names.

    Raises:
        InputError: it is unknown, or not available here.
    """
    available = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if name == "auto":
        return torch.device("cuda" if available["cuda"] else "mps" if available["mps"] else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError:
        raise InputError("", f"device {name!r} is unknown", "use auto, cpu, cuda or mps") from None
    if device.type not in available:
        raise InputError("", f"device {name!r} is not supported", "use auto, cpu, cuda or mps")
    if not available[device.type] or (device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count()):
        names = ", ".join(kind for kind, usable in available.items() if usable)
        raise InputError("", f"device {name!r} is not available on this machine", f"available: {names}")
    return device


def precision_of(name: str, device: torch.device) -> str:
    """The precision of the triangle stage, "fp32", "bf16" or "fp16", that one of `PRECISIONS` names on a device.

    Raises:
        InputError: it is unknown.
    """
    if name not in PRECISIONS:
        raise InputError("", f"precision {name!r} is unknown", f"use one of {', '.join(PRECISIONS)}")
    if name != "auto":
        return name
    # bf16 has the range of float32. On CPUs and MPS it gains little and is not always supported.
    return "bf16" if device.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False) else "fp32"


def attention_of(name: str, device: torch.device, dtype: torch.dtype, head_dim: int) -> str:
    """The name of an attention backend, if it can run.

    Raises:
        InputError: it is unknown or cannot run.
    """
    if name not in BACKENDS:
        raise InputError("", f"attention {name!r} is unknown", f"use one of {', '.join(BACKENDS)}")
    reason = refusal(name, device, dtype, head_dim)
    if reason:
        raise InputError("", f"attention {name!r} cannot run here: {reason}", "use auto or sdpa")
    return name
