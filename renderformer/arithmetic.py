"""What the stages of a renderer compute with: NumPy arrays, or tensors on a device (`renderformer.devices`)."""

from __future__ import annotations

import os
from contextlib import AbstractContextManager, nullcontext
from typing import Any, Protocol

from renderformer.data.arrays import AnyArray, Float32Array
from renderformer.data.errors import InputError

# Choices that are those of pictures without a network.
_WITHOUT_NETWORK = {"device": ("auto", "cpu"), "precision": ("auto", "fp32"), "attention": ("auto", "sdpa")}


class Digest(Protocol):
    """A hash of hashlib."""

    def update(self, data: bytes | memoryview, /) -> None: ...


class Arithmetic(Protocol):
    """Where a model runs, and what its `encode` and `view` are given.

    Attributes:
        device, precision, attention: see `renderformer.renderer.Renderer`.
    """

    device: str
    precision: str
    attention: str

    def given(self, array: AnyArray) -> Any:
        """The array as the model takes it."""

    def array(self, values: Any) -> Float32Array:
        """What a model returned, float32."""
        ...

    def running(self, precision: str = "fp32") -> AbstractContextManager[Any]:
        """The surroundings of a stage that runs with a precision."""
        ...

    def add_weights(self, to: Digest) -> None:
        """Add the weights of the model to a hash, with their names, types and shapes."""


class Arrays:
    """Arithmetic without a network: NumPy on the CPU, without loading torch."""

    device = "cpu"
    precision = "fp32"
    attention = "sdpa"

    def given(self, array: AnyArray) -> AnyArray:
        """See `Arithmetic`."""
        return array

    def array(self, values: Float32Array) -> Float32Array:
        """See `Arithmetic`."""
        return values

    def running(self, precision: str = "fp32") -> AbstractContextManager[Any]:
        """See `Arithmetic`."""
        return nullcontext()

    def add_weights(self, to: Digest) -> None:
        """See `Arithmetic`; there are none."""


def check_unused(**options: str | os.PathLike[str] | None) -> None:
    """Refuse options that have no effect without a network.

    Raises:
        InputError: one is given.
    """
    for name, value in options.items():
        if value is not None and value not in _WITHOUT_NETWORK.get(name, ()):
            problem = f"without a network, {name} {os.fspath(value)!r} is not used"
            raise InputError("", problem, "leave it out, or ask for the network (--network, network=True)")
