"""What the quantised kernels can run on: GPUs, types and head widths."""

from __future__ import annotations

import os
from contextlib import AbstractContextManager, nullcontext
from importlib.util import find_spec
from typing import Any

import torch

DTYPES = (torch.float16, torch.bfloat16)
HEAD_DIMS = (64, 96, 128)
QK_DTYPES = ("int8", "fp8")
PV_ACCUMS = ("auto", "fp32", "fp32+fp16", "fp32+fp32")
# The tests compile the kernels for these architectures or for their nearest relative.
CAPABILITIES = ((8, 0), (8, 6), (8, 9), (9, 0), (10, 0), (10, 3), (12, 0), (12, 1))
# The GPU that Triton's interpreter stands for on the CPU.
INTERPRETED_CAPABILITY = (8, 9)


def interpreted() -> bool:
    """Whether Triton's interpreter stands in for a GPU; Triton reads the variable when a kernel is first imported."""
    return os.environ.get("TRITON_INTERPRET") == "1"


def capability(device: torch.device) -> tuple[int, int]:
    """The compute capability of a GPU; `INTERPRETED_CAPABILITY` for another device."""
    if device.type == "cuda":
        return torch.cuda.get_device_capability(device)
    return INTERPRETED_CAPABILITY


def on_device(device: torch.device) -> AbstractContextManager[Any]:
    """Make the tensors' GPU the current one: Triton launches kernels there."""
    return torch.cuda.device(device) if device.type == "cuda" else nullcontext()


def unsupported(device: torch.device) -> str:
    """Why the kernels cannot run on a device; "" where they can."""
    if find_spec("triton") is None:
        return "Triton is not installed (pip install triton)"
    if device.type == "cpu" and interpreted():
        return ""
    if device.type != "cuda" or torch.version.hip is not None:
        return f"device {str(device)!r} is not an NVIDIA GPU"
    major, minor = capability(device)
    if (major, minor) not in CAPABILITIES:
        supported = ", ".join(".".join(map(str, pair)) for pair in CAPABILITIES)
        return f"compute capability {major}.{minor} is not one of the supported {supported}"
    return ""


def pv_mode(pv_accum: str, device_capability: tuple[int, int]) -> str:
    """The key of `naive.RANGES` for a public `pv_accum` on a GPU.

    Raises:
        ValueError: an unknown value, or one that the GPU does not have.
    """
    if pv_accum not in PV_ACCUMS:
        raise ValueError(f"pv_accum {pv_accum!r} is unknown; use one of {', '.join(PV_ACCUMS)}")
    if device_capability < (8, 9):
        if pv_accum in ("auto", "fp32"):
            return "fp16"
        raise ValueError(f"pv_accum {pv_accum!r} needs E4M3 (compute capability 8.9 or later); use 'auto' or 'fp32'")
    if pv_accum == "auto":
        # By SageAttention2++ (2505.21136) the fp16 accumulator is twice as fast on Ada and consumer Blackwell; on
        # Hopper and sm_100 it is no faster. Not measured here.
        return "fp32+fp16" if device_capability in ((8, 9), (12, 0), (12, 1)) else "fp32+fp32"
    return pv_accum
