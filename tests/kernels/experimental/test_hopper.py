"""The Gluon main loop for Hopper: its source, run by `gluon_interpreter` in random orders."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import pytest
import torch
from torch import Tensor

pytest.importorskip("triton", reason="Triton is not installed")
from gluon_interpreter import SOURCE, interpreted_hopper

from renderformer.kernels.sage.launch import attend_quantised
from renderformer.kernels.sage.naive import exact_attention
from renderformer.kernels.sage.quantise import Quantised, quantise_heads

pytestmark = pytest.mark.filterwarnings("ignore::RuntimeWarning")


def quantised_inputs(
    tokens: int, keys: int, width: int = 64, heads: int = 1, key_heads: int = 1, batch: int = 1, **options: Any
) -> tuple[Quantised, tuple[Tensor, Tensor, Tensor]]:
    generator = torch.Generator().manual_seed(tokens + keys)
    q = torch.randn(batch, heads, tokens, width, generator=generator).bfloat16()
    k, v = torch.randn(2, batch, key_heads, keys, width, generator=generator).bfloat16()
    return quantise_heads(q, k, v, sm_scale=width**-0.5, smooth_k=False, pv="fp32+fp32", **options), (q, k, v)


def attend(
    quantised: Quantised, shape: torch.Size, *, seed: int = 0, stages: int = 4, splits: int | None = None,
    source: str | None = None,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """The result, and the LSE in base 2, of the Gluon main loop."""
    hopper = interpreted_hopper(seed, source)
    hopper.refusal = lambda *_: ""  # type: ignore[attr-defined]
    out = torch.full(shape, math.nan)
    tiles = dataclasses.replace(hopper.TILES, stages=stages)
    return out, hopper.attend_hopper(quantised, out, with_lse=True, splits=splits, tiles=tiles)


def distance(ours: Tensor, exact: Tensor) -> float:
    return float((ours - exact).abs().sum() / exact.abs().sum())


def check(tokens: int, keys: int, **options: Any) -> Tensor:
    """Like the plain kernel, but for the order of the tiles: P is rounded relative to another running maximum."""
    how = {name: options.pop(name) for name in ("seed", "stages", "splits") if name in options}
    quantised, (q, k, v) = quantised_inputs(tokens, keys, **options)
    out, lse = attend(quantised, q.shape, **how)
    plain = torch.full(q.shape, math.nan)
    plain_lse = attend_quantised(quantised, plain, with_lse=True, splits=how.get("splits"))
    exact, _ = exact_attention(q, k, v, kv_lengths=options.get("lengths"))
    assert distance(out.double(), exact) < distance(plain.double(), exact) * 1.1 + 1e-4
    torch.testing.assert_close(lse, plain_lse, rtol=0, atol=1e-4)
    return out


@pytest.mark.parametrize("keys", [1, 64, 65, 128, 190, 700])
def test_any_number_of_tiles_is_what_the_plain_kernel_computes(keys: int) -> None:
    check(130, keys)


@pytest.mark.parametrize(("width", "qk_dtype"), [(128, "int8"), (64, "fp8"), (128, "fp8")])
def test_heads_and_score_types(width: int, qk_dtype: str) -> None:
    check(40, 257, width=width, qk_dtype=qk_dtype, heads=2, key_heads=1, batch=2)


@pytest.mark.parametrize("splits", [1, 3, 4])
def test_lengths_and_splits(splits: int) -> None:
    # Splits without keys, a split beyond the last tile (4 of 5 tiles), a sample without keys.
    lengths = torch.tensor([300, 0, 64, 70], dtype=torch.int32)
    out = check(70, 300, batch=4, lengths=lengths, splits=splits)
    assert not out[1].any()


def test_every_order_of_loads_and_warpgroups_gives_the_same() -> None:
    quantised, (q, _, _) = quantised_inputs(128, 500)
    for stages in (2, 3, 4):
        results = [attend(quantised, q.shape, seed=100 * i, stages=stages)[0] for i in range(8)]
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
def test_broken_protocols_are_found(change: tuple[str, str]) -> None:
    source = SOURCE.read_text()
    assert source.count(change[0]) == 1
    quantised, (q, _, _) = quantised_inputs(128, 700)
    right, _ = attend(quantised, q.shape)

    def in_many_orders() -> None:
        for seed in range(8):
            out, _ = attend(quantised, q.shape, seed=100 * seed, stages=2, source=source.replace(*change))
            assert torch.equal(out, right)

    # A race, a deadlock, or a wrong result.
    with pytest.raises(AssertionError):
        in_many_orders()


def test_a_length_that_cannot_be_checked_and_what_is_not_finite_show() -> None:
    quantised, (q, k, v) = quantised_inputs(10, 70, batch=2, lengths=torch.tensor([70, 71], dtype=torch.int32))
    for splits in (1, 2):
        out, _ = attend(quantised, q.shape, splits=splits)
        assert bool(out[0].isfinite().all())
        assert bool(out[1].isnan().all())
    for x in (q, k, v):
        x[1, 0, 3, 5] = math.inf
        spoilt = quantise_heads(q, k, v, sm_scale=0.1, pv="fp32+fp32")
        out, _ = attend(spoilt, q.shape)
        x[1, 0, 3, 5] = 1
        assert bool(out[0].isfinite().all())
        assert not bool(out[1].isfinite().all())


def test_it_says_why_it_cannot_run(monkeypatch: pytest.MonkeyPatch) -> None:
    hopper = interpreted_hopper()
    quantised, (q, _, _) = quantised_inputs(10, 70)
    with pytest.raises(ValueError, match="cannot run this: device 'cpu' is not a Hopper GPU"):
        hopper.attend_hopper(quantised, torch.empty(q.shape))
    gpu = torch.device("cuda", 0)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda *_: (9, 0))
    hopper.version = lambda _: "3.7.1"  # type: ignore[attr-defined]
    assert hopper.refusal(quantised, gpu) == ""
    changes = {
        "head_dim 96": {"q": torch.empty(1, 1, 1, 96)},
        "'fp32+fp16'": {"pv": "fp32+fp16"},
        "tiles of 128 keys": {"tile": 128},
    }
    for message, change in changes.items():
        assert message in hopper.refusal(dataclasses.replace(quantised, **change), gpu)
    hopper.version = lambda _: "3.6.0"  # type: ignore[attr-defined]
    assert "needs Triton 3.7 or later, here is 3.6.0" in hopper.refusal(quantised, gpu)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda *_: (10, 0))
    assert "not a Hopper GPU" in hopper.refusal(quantised, gpu)
