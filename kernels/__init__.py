"""Attention behind one function; no knowledge of scenes. Imports torch, and triton where a kernel is launched."""

from typing import Any

from renderformer.kernels.attention import BACKENDS, attention

__all__ = ["BACKENDS", "attention", "sageattn"]


def __getattr__(name: str) -> Any:
    # Registering the operator costs time that most programs need not spend.
    if name == "sageattn":
        from renderformer.kernels.sage import sageattn

        return sageattn
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
