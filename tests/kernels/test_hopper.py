"""The Gluon main loop for Hopper, its source run by `gluon_interpreter` in random orders, and who may take it."""

from __future__ import annotations

import dataclasses
import math
import sys
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor

pytest.importorskip("triton", reason="Triton is not installed")
from gluon_interpreter import SOURCE, interpreted_hopper

import renderformer.kernels
from renderformer.kernels import quantise, sage
from renderformer.kernels.quantise import Quantised, quantise_heads
from renderformer.kernels.reference import exact_attention
from renderformer.kernels.sage import GLUON_TILES, attend_quantised

pytestmark = pytest.mark.filterwarnings("ignore::RuntimeWarning")


def quantised_inputs(
    tokens: int, keys: int, width: int = 64, heads: int = 1, key_heads: int = 1, batch: int = 1, **options: Any
) -> tuple[Quantised, tuple[Tensor, Tensor, Tensor]]:
    generator = torch.Generator().manual_seed(tokens + keys)
    q = torch.randn(batch, heads, tokens, width, generator=generator).bfloat16()
    k, v = torch.randn(2, batch, key_heads, keys, width, generator=generator).bfloat16()
    return quantise_heads(q, k, v, sm_scale=width**-0.5, smooth_k=False, pv="fp32+fp32", **options), (q, k, v)


def attend(
    monkeypatch: pytest.MonkeyPatch, quantised: Quantised, shape: torch.Size, *, seed: int = 0, stages: int = 4,
    splits: int | None = None, path: str = "gluon", source: str | None = None,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    hopper = interpreted_hopper(seed, source)
    monkeypatch.setattr(quantise, "INTERPRETED_CAPABILITY", (9, 0))
    monkeypatch.setitem(sys.modules, "renderformer.kernels.hopper", hopper)
    monkeypatch.setattr(renderformer.kernels, "hopper", hopper, raising=False)
    monkeypatch.setattr(sage, "without_gluon", lambda *_: None)
    out = torch.full(shape, math.nan)
    tiles = dataclasses.replace(GLUON_TILES, stages=stages) if path == "gluon" else None
    return out, attend_quantised(quantised, out, with_lse=True, splits=splits, path=path, tiles=tiles)


def distance(ours: Tensor, exact: Tensor) -> float:
    return float((ours - exact).abs().sum() / exact.abs().sum())


def check(monkeypatch: pytest.MonkeyPatch, tokens: int, keys: int, **options: Any) -> Tensor:
    """Like the plain kernel, but for the order of the tiles: P is rounded relative to another running maximum."""
    how = {name: options.pop(name) for name in ("seed", "stages", "splits") if name in options}
    quantised, (q, k, v) = quantised_inputs(tokens, keys, **options)
    out, lse = attend(monkeypatch, quantised, q.shape, **how)
    plain, plain_lse = attend(monkeypatch, quantised, q.shape, path="triton", splits=how.get("splits"))
    exact, _ = exact_attention(q, k, v, kv_lengths=options.get("lengths"))
    assert distance(out.double(), exact) < distance(plain.double(), exact) * 1.1 + 1e-4
    torch.testing.assert_close(lse, plain_lse, rtol=0, atol=1e-4)
    return out


@pytest.mark.parametrize("keys", [1, 64, 65, 128, 190, 700])
def test_any_number_of_tiles_is_what_the_plain_kernel_computes(monkeypatch: pytest.MonkeyPatch, keys: int) -> None:
    check(monkeypatch, 130, keys)


@pytest.mark.parametrize(("width", "qk_dtype"), [(128, "int8"), (64, "fp8"), (128, "fp8")])
def test_heads_and_score_types(monkeypatch: pytest.MonkeyPatch, width: int, qk_dtype: str) -> None:
    check(monkeypatch, 40, 257, width=width, qk_dtype=qk_dtype, heads=2, key_heads=1, batch=2)


@pytest.mark.parametrize("splits", [1, 3, 4])
def test_lengths_and_splits(monkeypatch: pytest.MonkeyPatch, splits: int) -> None:
    # Splits without keys, a split beyond the last tile (4 of 5 tiles), a sample without keys.
    lengths = torch.tensor([300, 0, 64, 70], dtype=torch.int32)
    out = check(monkeypatch, 70, 300, batch=4, lengths=lengths, splits=splits)
    assert not out[1].any()


def test_every_order_of_loads_and_warpgroups_gives_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    quantised, (q, _, _) = quantised_inputs(128, 500)
    for stages in (2, 3, 4):
        results = [attend(monkeypatch, quantised, q.shape, seed=100 * i, stages=stages)[0] for i in range(8)]
        assert all(torch.equal(result, results[0]) for result in results)


@pytest.mark.parametrize(
    "change",
    [
        # Buffers refilled before the products are done; a release forgotten; a wrong phase; a wait forgotten.
        ("        mbarrier.wait(k_empty.index(slot), free)\n", ""),
        ("        mbarrier.wait(v_empty.index(slot), free)\n", ""),
        ("        mbarrier.arrive(v_empty.index((use - 1) % STAGES), count=1)\n", ""),
        ("mbarrier.wait(k_full.index(slot), use // STAGES % 2)", "mbarrier.wait(k_full.index(slot), 0)"),
        ("    mbarrier.wait(v_full.index(slot), use // STAGES % 2)\n", ""),
    ],
)
def test_broken_protocols_are_found(monkeypatch: pytest.MonkeyPatch, change: tuple[str, str]) -> None:
    source = SOURCE.read_text()
    assert source.count(change[0]) == 1
    quantised, (q, _, _) = quantised_inputs(128, 700)
    right, _ = attend(monkeypatch, quantised, q.shape)

    def in_many_orders() -> None:
        for seed in range(8):
            out, _ = attend(
                monkeypatch, quantised, q.shape, seed=100 * seed, stages=2, source=source.replace(*change)
            )  # fmt: skip
            assert torch.equal(out, right)

    # A race, a deadlock, or a wrong result.
    with pytest.raises(AssertionError):
        in_many_orders()


def test_a_length_that_cannot_be_checked_and_what_is_not_finite_show(monkeypatch: pytest.MonkeyPatch) -> None:
    quantised, (q, k, v) = quantised_inputs(10, 70, batch=2, lengths=torch.tensor([70, 71], dtype=torch.int32))
    for splits in (1, 2):
        out, _ = attend(monkeypatch, quantised, q.shape, splits=splits)
        assert bool(out[0].isfinite().all())
        assert bool(out[1].isnan().all())
    for x in (q, k, v):
        x[1, 0, 3, 5] = math.inf
        spoilt = quantise_heads(q, k, v, sm_scale=0.1, pv="fp32+fp32")
        out, _ = attend(monkeypatch, spoilt, q.shape)
        x[1, 0, 3, 5] = 1
        assert bool(out[0].isfinite().all())
        assert not bool(out[1].isfinite().all())


# --- who may take it ---


def test_named_it_says_why_it_cannot_and_never_falls_back(monkeypatch: pytest.MonkeyPatch) -> None:
    quantised, (q, _, _) = quantised_inputs(10, 70)
    with pytest.raises(ValueError, match="path \"gluon\" cannot run this: device 'cpu' is not a Hopper GPU"):
        attend_quantised(quantised, torch.empty(q.shape), path="gluon")
    with pytest.raises(ValueError, match="path 'cuda' is unknown; use one of triton, gluon"):
        attend_quantised(quantised, torch.empty(q.shape), path="cuda")
    gpu = torch.device("cuda", 0)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda *_: (9, 0))
    monkeypatch.setattr("importlib.metadata.version", lambda _: "3.7.1")
    assert sage.without_gluon(quantised, False, gpu) is None
    assert "is_causal" in str(sage.without_gluon(quantised, True, gpu))
    other = SimpleNamespace(q=torch.empty(1, 1, 1, 96), pv="fp32+fp32", tile=64)
    assert "head_dim 96" in str(sage.without_gluon(other, False, gpu))  # type: ignore[arg-type]
    assert "'fp32+fp16'" in str(sage.without_gluon(dataclasses.replace(quantised, pv="fp32+fp16"), False, gpu))
    assert "tiles of 128 keys" in str(sage.without_gluon(dataclasses.replace(quantised, tile=128), False, gpu))
    monkeypatch.setattr("importlib.metadata.version", lambda _: "3.6.0")
    assert "needs Triton 3.7 or later, here is 3.6.0" in str(sage.without_gluon(quantised, False, gpu))
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda *_: (10, 0))
    assert "not a Hopper GPU" in str(sage.without_gluon(quantised, False, gpu))


def test_it_is_taken_where_it_was_measured_and_only_there(monkeypatch: pytest.MonkeyPatch) -> None:
    quantised, _ = quantised_inputs(10, 70)
    gpu = torch.device("cuda", 0)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda *_: (9, 0))
    monkeypatch.setattr("importlib.metadata.version", lambda _: "3.7.1")
    # Nothing has been measured.
    assert sage.choose_path(quantised, False, gpu) == "triton"
    monkeypatch.setattr(sage, "GLUON_FROM_KEYS", {(9, 0): 70})
    assert sage.choose_path(quantised, False, gpu) == "gluon"
    assert sage.choose_path(quantised, True, gpu) == "triton"
    assert sage.choose_path(dataclasses.replace(quantised, keys=69), False, gpu) == "triton"
