"""Which attention runs: a named backend does what it says or raises; "auto" takes sage only where it was measured."""

from __future__ import annotations

import importlib
import subprocess
import sys
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor

from renderformer.kernels import attention

# The package has the function under this name.
dispatch = importlib.import_module("renderformer.kernels.attention")
pytestmark = pytest.mark.filterwarnings("ignore::RuntimeWarning")


def heads(tokens: int = 70, batch: int = 2) -> Tensor:
    return torch.randn(batch, 2, tokens, 64, generator=torch.Generator().manual_seed(tokens)).bfloat16()


def test_sage_by_name_is_the_quantised_attention() -> None:
    pytest.importorskip("triton", reason="Triton is not installed")
    x = heads()
    mask = torch.arange(70) < torch.tensor([70, 33])[:, None]
    ours = attention(x, x, x, key_mask_BS=mask, backend="sage")
    exact = attention(x, x, x, key_mask_BS=mask, backend="sdpa")
    distance = float((ours - exact).float().abs().sum() / exact.float().abs().sum())
    assert 0.005 < distance < 0.05


def test_sage_by_name_never_falls_back() -> None:
    pytest.importorskip("triton", reason="Triton is not installed")
    x = heads()
    holes = torch.ones(2, 70, dtype=torch.bool)
    holes[1, 5] = False
    with pytest.raises(ValueError, match="padding at the end only"):
        attention(x, x, x, key_mask_BS=holes, backend="sage")
    with pytest.raises(ValueError, match=r"no pair mask \(got one of shape \(2, 70, 70\)\)"):
        attention(x, x, x, pair_mask_BTS=torch.ones(2, 70, 70, dtype=torch.bool), backend="sage")
    with pytest.raises(ValueError, match="say the same in two ways"):
        attention(x, x, x, key_mask_BS=holes, key_lengths_B=torch.tensor([70, 33]))
    with pytest.raises(ValueError, match="head_dim 32"):
        attention(x[..., :32], x[..., :32], x[..., :32], backend="sage")


def test_lengths_are_the_mask_they_stand_for() -> None:
    x = heads()
    lengths = torch.tensor([70, 33], dtype=torch.int32)
    mask = torch.arange(70) < lengths[:, None]
    for backend in ("sdpa", "sage"):
        by_lengths = attention(x, x, x, key_lengths_B=lengths, backend=backend)
        assert torch.equal(by_lengths, attention(x, x, x, key_mask_BS=mask, backend=backend))


def test_key_padding_is_nothing_lengths_or_a_mask() -> None:
    mask = torch.arange(5) < torch.tensor([5, 2, 0])[:, None]
    assert dispatch.key_padding(mask[:1]) == (None, None)
    none, lengths = dispatch.key_padding(mask)
    assert none is None
    assert lengths.dtype == torch.int32
    assert lengths.tolist() == [5, 2, 0]
    holes = ~mask
    assert dispatch.key_padding(holes)[0] is holes
    assert dispatch.key_padding(holes)[1] is None


def test_auto_is_sdpa_here_and_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    from renderformer.kernels import sage

    x = heads()
    assert torch.equal(attention(x, x, x), attention(x, x, x, backend="sdpa"))
    monkeypatch.delenv("TRITON_INTERPRET")
    cpu, gpu = torch.device("cpu"), torch.device("cuda", 0)
    assert dispatch.auto_backend(cpu, torch.bfloat16) == "sdpa (no sage: device 'cpu' is not an NVIDIA GPU)"
    monkeypatch.setattr(sage, "unsupported", lambda _: None)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda *_: (9, 0))
    assert "not measured" in dispatch.auto_backend(gpu, torch.bfloat16)
    assert dispatch.auto_backend(gpu, torch.float32) == "sdpa (no sage: it takes fp16 or bf16, not float32)"
    monkeypatch.setattr(dispatch, "SAGE_FROM_KEYS", {(9, 0): 4096})
    assert dispatch.auto_backend(gpu, torch.bfloat16) == "sage from 4096 keys on, below that sdpa"
    assert dispatch.sage_refusal(gpu, torch.bfloat16, 32) == "head_dim 32 is not one of 64, 96, 128"


def test_auto_leaves_masks_that_sage_cannot_take_to_sdpa(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[Tensor | None] = []

    def sage(q: Tensor, _k: Tensor, _v: Tensor, lengths_B: Tensor | None) -> Tensor:
        calls.append(lengths_B)
        return q

    monkeypatch.setattr(dispatch, "_sage", sage)
    monkeypatch.setattr(dispatch, "_sage_wins", lambda *_: True)
    x = heads()
    whole, holes = torch.ones(2, 70, dtype=torch.bool), torch.rand(2, 70) < 0.5
    attention(x, x, x, key_mask_BS=whole)
    attention(x, x, x)
    assert calls == [None, None]
    attention(x, x, x, key_mask_BS=holes)
    attention(x, x, x, pair_mask_BTS=torch.ones(2, 70, 70, dtype=torch.bool))
    assert len(calls) == 2


def test_auto_needs_a_measured_gpu_length_type_and_no_gradient(monkeypatch: pytest.MonkeyPatch) -> None:
    from renderformer.kernels import sage

    def on_gpu(queries: int = 4096, width: int = 128, **changes: Any) -> SimpleNamespace:
        facts = {"shape": (1, 6, queries, width), "dtype": torch.bfloat16, "requires_grad": False}
        return SimpleNamespace(**facts | {"device": torch.device("cuda", 0)} | changes)

    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda *_: (9, 0))
    monkeypatch.setattr(sage, "unsupported", lambda _: None)
    x, short = on_gpu(), on_gpu(4095)
    # Nothing has been measured.
    assert not dispatch._sage_wins(x, x, x)
    monkeypatch.setattr(dispatch, "SAGE_FROM_KEYS", {(9, 0): 4096})
    assert dispatch._sage_wins(x, x, x)
    # Few keys; the view stage's cross-attention; full precision; another head; training; another GPU; the CPU.
    assert not dispatch._sage_wins(short, short, short)
    assert not dispatch._sage_wins(short, x, x)
    assert not dispatch._sage_wins(*[on_gpu(dtype=torch.float32)] * 3)
    assert not dispatch._sage_wins(*[on_gpu(width=32)] * 3)
    assert not dispatch._sage_wins(on_gpu(requires_grad=True), x, x)
    assert not dispatch._sage_wins(*[on_gpu(device=torch.device("cpu"))] * 3)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda *_: (8, 0))
    assert not dispatch._sage_wins(x, x, x)


def test_without_triton_everything_but_the_kernels_works() -> None:
    code = """
import sys
sys.modules["triton"] = None
import torch
from renderformer.kernels import attention, sageattn
from renderformer.kernels.attention import auto_backend
x = torch.randn(1, 2, 5, 64).bfloat16()
attention(x, x, x)
print(auto_backend(x.device, x.dtype))
try:
    sageattn(x, x, x)
except ValueError as error:
    print(error)
"""
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.split("\n")[:2] == [
        "sdpa (no sage: Triton is not installed (pip install triton))",
        "quantised attention cannot run here: Triton is not installed (pip install triton)",
    ]
