"""Run the kernels without a GPU, in Triton's interpreter with corrected conversions and loops."""

from __future__ import annotations

import os

# Triton reads it when a kernel is decorated, so set it before the kernels are imported.
os.environ["TRITON_INTERPRET"] = "1"

import pytest
from interpreter_shim import convert_float, patch_tensor


@pytest.fixture(autouse=True)
def _exact_conversions(monkeypatch: pytest.MonkeyPatch) -> None:
    try:
        from triton.runtime import interpreter
    except ImportError:
        # Tests that need Triton are skipped.
        return
    monkeypatch.setattr(interpreter, "_convert_float", convert_float)
    monkeypatch.setattr(interpreter, "_patch_lang_tensor", patch_tensor(interpreter._patch_lang_tensor))
