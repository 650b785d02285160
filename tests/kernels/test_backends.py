"""Which attention runs: a named backend does what it says or raises; "auto" takes sage only where it was measured."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from renderformer.kernels import attention, backends
from renderformer.kernels.backends import REGISTRY, Backend, Call, auto_backend, choose, key_padding, refusal

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
    assert key_padding(mask[:1]) == (None, None)
    none, lengths = key_padding(mask)
    assert none is None
    assert lengths.dtype == torch.int32
    assert lengths.tolist() == [5, 2, 0]
    holes = ~mask
    assert key_padding(holes)[0] is holes
    assert key_padding(holes)[1] is None


@pytest.fixture
def on_hopper(monkeypatch: pytest.MonkeyPatch) -> None:
    """Kernels run on the device "cuda:0", which has compute capability 9.0."""
    monkeypatch.setattr(backends, "unsupported", lambda _: "")
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda *_: (9, 0))


@pytest.fixture
def measured(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(REGISTRY, "sage", replace(REGISTRY["sage"], fast_from_keys={(9, 0): 4096}))


GPU = torch.device("cuda", 0)


def test_auto_is_sdpa_here_and_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    x = heads()
    assert torch.equal(attention(x, x, x), attention(x, x, x, backend="sdpa"))
    monkeypatch.delenv("TRITON_INTERPRET")
    cpu = torch.device("cpu")
    assert auto_backend(cpu, torch.bfloat16) == "sdpa (no sage: device 'cpu' is not an NVIDIA GPU)"
    assert refusal("sage", cpu, torch.bfloat16) == "device 'cpu' is not an NVIDIA GPU"
    assert refusal("auto", cpu, torch.bfloat16) == refusal("sdpa", cpu, torch.bfloat16) == ""


@pytest.mark.usefixtures("on_hopper")
def test_without_a_measurement_auto_is_sdpa_on_a_gpu() -> None:
    assert auto_backend(GPU, torch.bfloat16) == "sdpa (sage was not measured to win on this GPU; it can be named)"


@pytest.mark.usefixtures("on_hopper", "measured")
def test_auto_says_from_which_length_it_takes_sage() -> None:
    assert auto_backend(GPU, torch.float32) == "sdpa (no sage: it takes fp16 or bf16, not float32)"
    assert auto_backend(GPU, torch.bfloat16) == "sage from 4096 keys on, below that sdpa"
    assert refusal("sage", GPU, torch.bfloat16, 32) == "head_dim 32 is not one of 64, 96, 128"


def test_a_backend_is_one_entry(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(call: Call) -> str:
        return "it is a test" if call.dtype == torch.float16 else ""

    def twice(_q: Tensor, _k: Tensor, v: Tensor, _call: Call) -> Tensor:
        return 2 * v

    monkeypatch.setitem(REGISTRY, "twice", Backend(refuse, 2, twice, fast_from_keys=None))
    monkeypatch.setattr(backends, "BACKENDS", ("auto", *REGISTRY))
    x = heads()
    assert torch.equal(attention(x, x, x, backend="twice"), 2 * x)
    assert torch.equal(attention(x, x, x), 2 * x)
    assert auto_backend(x.device, x.dtype) == "twice"
    assert "no twice: it is a test" in auto_backend(x.device, torch.float16)
    with pytest.raises(ValueError, match='"twice" cannot run this: it is a test; use "auto" or "sdpa"'):
        attention(x.half(), x.half(), x.half(), backend="twice")


def test_auto_leaves_masks_that_sage_cannot_take_to_sdpa(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[Tensor | None] = []

    def sage(q: Tensor, _k: Tensor, _v: Tensor, call: Call) -> Tensor:
        calls.append(call.lengths)
        return q

    monkeypatch.setitem(REGISTRY, "sage", replace(REGISTRY["sage"], attend=sage, fast_from_keys=None))
    monkeypatch.setattr(backends, "unsupported", lambda _: "")
    x = heads()
    whole, holes = torch.ones(2, 70, dtype=torch.bool), torch.rand(2, 70) < 0.5
    attention(x, x, x, key_mask_BS=whole)
    attention(x, x, x)
    assert calls == [None, None]
    attention(x, x, x, key_mask_BS=holes)
    attention(x, x, x, pair_mask_BTS=torch.ones(2, 70, 70, dtype=torch.bool))
    assert len(calls) == 2


@pytest.mark.usefixtures("on_hopper")
def test_auto_needs_a_measured_gpu_length_type_and_no_gradient(
    monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> None:
    def takes_sage(**changes: Any) -> bool:
        call = Call(GPU, torch.bfloat16, head_dim=128, queries=4096, keys=4096)
        return choose("auto", replace(call, **changes)) is REGISTRY["sage"]

    # Nothing has been measured.
    assert not takes_sage()
    request.getfixturevalue("measured")
    assert takes_sage()
    assert not takes_sage(queries=4095, keys=4095)
    # The view stage's cross-attention.
    assert not takes_sage(queries=4095)
    assert not takes_sage(dtype=torch.float32)
    assert not takes_sage(head_dim=32)
    assert not takes_sage(gradients=True)
    assert not takes_sage(device=torch.device("cpu"))
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda *_: (8, 0))
    assert not takes_sage()


def test_without_triton_everything_but_the_kernels_works() -> None:
    code = """
import sys
sys.modules["triton"] = None
import torch
from renderformer.kernels import attention, sageattn
from renderformer.kernels.backends import auto_backend
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
