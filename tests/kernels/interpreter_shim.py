"""Corrections of Triton's interpreter: conversions to 8 and 16 bits; run-time bounds of loops in Triton 3.6."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch


def torch_types() -> dict[Any, torch.dtype]:
    import triton.language as tl

    return {
        tl.float8e4nv: torch.float8_e4m3fn,
        tl.float16: torch.float16,
        tl.bfloat16: torch.bfloat16,
        tl.float32: torch.float32,
    }


def convert_float(x: np.ndarray, source: Any, target: Any, _rounding: Any) -> np.ndarray:
    """Replaces the interpreter's conversion, which neither carries into the exponent nor saturates.

    Conversions to E4M3 saturate as on a GPU (cvt.rn.satfinite); the others are torch's.
    """
    types = torch_types()
    bits = {8: torch.uint8, 16: torch.int16, 32: torch.int32}
    raw = torch.from_numpy(np.ascontiguousarray(x).view(f"i{x.itemsize}").copy())
    values = raw.view(types[source]).float()
    if target.primitive_bitwidth == 8:
        values = values.clamp(-448, 448)
    out = values.to(types[target]).view(bits[target.primitive_bitwidth]).numpy()
    return out.view(f"u{out.itemsize}").reshape(x.shape)


def patch_tensor(original: Callable[..., None]) -> Callable[..., None]:
    """Let the interpreter's tensors of one element convert to integers.

    Scalars are arrays of one element in Triton 3.6, which NumPy 2.4 and later do not convert to numbers.
    """

    def patch(tensor: Any, scope: Any) -> None:
        original(tensor, scope)
        scope.set_attr(tensor, "__index__", lambda self: int(self.handle.data.item()))

    return patch
