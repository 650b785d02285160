"""Attention behind one function; no knowledge of scenes. Imports torch (and, later, triton) only."""

from renderformer.kernels.attention import BACKENDS, attention

__all__ = ["BACKENDS", "attention"]
