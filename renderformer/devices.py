"""Where a model runs, and with which arithmetic."""

from __future__ import annotations

import os

import torch

from renderformer.data.errors import InputError
from renderformer.kernels.backends import BACKENDS, auto_backend, refusal

PRECISIONS = ("auto", "fp32", "bf16", "fp16")
DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
# Choices that are those of pictures without a network.
_WITHOUT_NETWORK = {"device": ("auto", "cpu"), "precision": ("auto", "fp32"), "attention": ("auto", "sdpa")}


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


def check_unused(**options: str | os.PathLike[str] | None) -> None:
    """Refuse options that have no effect without a network.

    Raises:
        InputError: one is given.
    """
    for name, value in options.items():
        if value is not None and value not in _WITHOUT_NETWORK.get(name, ()):
            problem = f"without a network, {name} {os.fspath(value)!r} is not used"
            raise InputError("", problem, "leave it out, or ask for the network (--network, network=True)")
