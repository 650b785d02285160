"""Kernels without a GPU: Triton's interpreter, with its conversions to 8 and 16 bits and its loops put right."""

from __future__ import annotations

import os

# Read when a kernel is decorated, so before anything imports the kernels.
os.environ["TRITON_INTERPRET"] = "1"

import pytest
from interpreter_shim import convert_float, patch_tensor


@pytest.fixture(autouse=True)
def _exact_conversions(monkeypatch: pytest.MonkeyPatch) -> None:
    try:
        from triton.runtime import interpreter
    except ImportError:
        # The tests that need it skip themselves.
        return
    monkeypatch.setattr(interpreter, "_convert_float", convert_float)
    monkeypatch.setattr(interpreter, "_patch_lang_tensor", patch_tensor(interpreter._patch_lang_tensor))
