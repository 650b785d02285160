"""The plain torch definition of the quantised arithmetic against float64, and against torch's own attention."""

from __future__ import annotations

import math
from functools import partial

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from renderformer.kernels.sage.naive import RANGES, drop_mantissa, exact_attention, naive_sageattn, quantise_rows


def distances(ours: Tensor, exact: Tensor) -> tuple[float, float, float]:
    """Cosine, relative L1, RMSE."""
    ours = ours.double()
    cosine = F.cosine_similarity(ours.flatten(), exact.flatten(), dim=0)
    return (
        float(cosine),
        float((ours - exact).abs().sum() / exact.abs().sum()),
        float((ours - exact).square().mean().sqrt()),
    )


@pytest.fixture(scope="module")
def tokens() -> tuple[Tensor, ...]:
    """q, k, v of N(0, 1), k with a bias of +-10 in some channels, and float64's result of both; one head of 128."""
    generator = torch.Generator().manual_seed(0)
    q, k, v = (torch.randn(1, 1, 2048, 128, generator=generator) for _ in range(3))
    # In five channels: the notes do not say in how many, and their unsmoothed E4M3 error fits that.
    bias = torch.zeros(128)
    bias[::28] = torch.tensor([10.0, -10.0, 10.0, -10.0, 10.0])
    biased = k + bias
    return q, k, v, biased, exact_attention(q, k, v)[0], exact_attention(q, biased, v)[0]


# The table of the project's notes on the kernels: cosine, relative L1, RMSE of each arithmetic.
@pytest.mark.parametrize(
    ("biased", "qk_dtype", "smooth_k", "expected"),
    [
        (False, "int8", True, (0.99926, 0.0385, 0.0014)),
        (False, "fp8", True, (0.99857, 0.0529, 0.0019)),
        (True, "int8", True, (0.99928, 0.0382, 0.0014)),
        (True, "int8", False, (0.99888, 0.0473, 0.0017)),
        (True, "fp8", False, (0.99693, 0.0773, 0.0029)),
    ],
)
def test_the_error_is_that_of_the_method(
    tokens: tuple[Tensor, ...], biased: bool, qk_dtype: str, smooth_k: bool, expected: tuple[float, float, float]
) -> None:
    q, k, v, k_biased, exact, exact_biased = tokens
    out = naive_sageattn(q, k_biased if biased else k, v, qk_dtype=qk_dtype, smooth_k=smooth_k)
    cosine, l1, rmse = distances(out, exact_biased if biased else exact)
    # Another draw of the inputs moves the figures by a few percent.
    assert 1 - cosine == pytest.approx(1 - expected[0], rel=0.15)
    assert l1 == pytest.approx(expected[1], rel=0.1)
    assert rmse == pytest.approx(expected[2], rel=0.1)


def test_fp16_accumulators_cannot_overflow() -> None:
    for (mode, keys), (p_max, v_max) in RANGES.items():
        if mode == "fp32+fp16":
            assert p_max * v_max * keys <= 65504
    # The worst case itself: every weight and every value at its largest.
    q, k, v = torch.zeros(1, 1, 1, 64), torch.zeros(1, 1, 256, 64), torch.full((1, 1, 256, 64), 3e4)
    for tile in (64, 128):
        out = naive_sageattn(q, k, v, pv_accum="fp32+fp16", tile=tile)
        torch.testing.assert_close(out, torch.full_like(out, 3e4), rtol=1e-3, atol=0)


@pytest.mark.parametrize(("heads", "key_heads", "causal", "scale"), [(4, 2, False, None), (3, 3, True, 0.3)])
def test_exact_attention_agrees_with_torch(heads: int, key_heads: int, causal: bool, scale: float | None) -> None:
    torch.manual_seed(0)
    q = torch.randn(2, heads, 17, 20, dtype=torch.float64)
    k, v = torch.randn(2, 2, key_heads, 31, 20, dtype=torch.float64)
    lengths = torch.tensor([31, 5])
    mask = (torch.arange(31) < lengths[:, None])[:, None, None] & torch.ones(17, 31).tril(0 if causal else 31).bool()
    out, lse = exact_attention(q, k, v, is_causal=causal, sm_scale=scale, kv_lengths=lengths)
    expected = F.scaled_dot_product_attention(q, k, v, attn_mask=mask, scale=scale, enable_gqa=True)
    torch.testing.assert_close(out, expected)
    spread = k.repeat_interleave(heads // key_heads, 1)
    logits = (q @ spread.mT * (scale or 1 / math.sqrt(20))).masked_fill(~mask, -math.inf)
    torch.testing.assert_close(lse, logits.exp().sum(-1).log())


def test_queries_without_keys_are_zero_and_padding_does_not_matter() -> None:
    torch.manual_seed(0)
    q, k, v = torch.randn(3, 2, 1, 70, 64)
    lengths = torch.tensor([0, 65])
    padding = torch.arange(70) >= lengths[:, None, None, None]
    k, v = (x.masked_fill(padding.mT, math.nan) for x in (k, v))
    for attention in (exact_attention, partial(naive_sageattn, return_lse=True)):
        out, lse = attention(q, k, v, kv_lengths=lengths)
        assert not out[0].any()
        assert (lse[0] == -math.inf).all()
        alone = attention(q[1:], k[1:, :, :65], v[1:, :, :65])
        torch.testing.assert_close(out[1:], alone[0])
        torch.testing.assert_close(lse[1:], alone[1])


def test_groups_have_their_own_scale() -> None:
    x = torch.ones(1, 1, 70, 8)
    x[:, :, 32:64] = 100.0
    x[:, :, 64:] = 0.0
    values, scale = quantise_rows(x, 32, "int8")
    scales = scale[0, 0, [0, 31, 32, 63, 64, 69], 0].tolist()
    assert scales == pytest.approx([1 / 127, 1 / 127, 100 / 127, 100 / 127, 1, 1])
    torch.testing.assert_close(values * scale, x)


def test_the_tensor_cores_accumulator_keeps_13_bits() -> None:
    x = torch.tensor([1 + 2**-13, 1 + 2**-14, -1 - 2**-14, 3.0])
    assert drop_mantissa(x).tolist() == [1 + 2**-13, 1.0, -1.0, 3.0]
