"""Attention behind one function; no knowledge of scenes. Imports torch, and triton where a kernel is launched.

attention             from heads, by any backend
projected_attention   from projections, with norm and rotation fused, where a backend does that
sageattn              SageAttention's call
"""

from typing import Any

from renderformer.kernels.backends import BACKENDS, attention, projected_attention
from renderformer.kernels.sage.quantise import Projection

__all__ = ["BACKENDS", "Projection", "attention", "projected_attention", "sageattn"]


def __getattr__(name: str) -> Any:
    # Registering the operator costs time that most programs need not spend.
    if name == "sageattn":
        from renderformer.kernels.sage.operator import sageattn

        return sageattn
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
