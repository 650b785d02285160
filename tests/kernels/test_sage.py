"""The Triton kernels in the interpreter, against float64 and against the same arithmetic in plain torch."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from interpreter_shim import convert_float
from torch import Tensor
from torch.nn import functional as F

from renderformer.kernels import Projection, sageattn
from renderformer.kernels.sage import device, operator, quantise
from renderformer.kernels.sage.launch import Tiles, attend_quantised
from renderformer.kernels.sage.naive import exact_attention, heads_first, naive_sageattn
from renderformer.kernels.sage.quantise import quantise_qkv

pytest.importorskip("triton", reason="Triton is not installed")
# NumPy speaks up where a GPU computes on with infinities.
pytestmark = pytest.mark.filterwarnings("ignore::RuntimeWarning")

# Relative L1 error of INT8 and of E4M3 scores on N(0, 1) (the notes' table: .0385 and .0529), with room for short rows.
BOUNDS = {"int8": 0.05, "fp8": 0.068}
GPUS = {"sm_80": (8, 0), "sm_89": (8, 9), "sm_90": (9, 0)}


def draw(*shape: int, dtype: torch.dtype = torch.bfloat16, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed)).to(dtype)


def inputs(
    tokens: int, keys: int, width: int, heads: int = 2, key_heads: int = 2, batch: int = 1, **kwargs: Any
) -> tuple[Tensor, Tensor, Tensor]:
    return (
        draw(batch, heads, tokens, width, seed=1, **kwargs),
        draw(batch, key_heads, keys, width, seed=2, **kwargs),
        draw(batch, key_heads, keys, width, seed=3, **kwargs),
    )


def relative(ours: Tensor, exact: Tensor) -> float:
    return float((ours.double() - exact).abs().sum() / exact.abs().sum())


@pytest.fixture(autouse=True)
def _poisoned_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every buffer the kernels are to fill holds NaN (or 85) first."""
    real = torch.empty
    # Torch looks up once which functions `with torch.device(...)` concerns; it must not find the stand-in.
    with torch.device("cpu"):
        real(0)

    def poisoned(*args: Any, **kwargs: Any) -> Tensor:
        x = real(*args, **kwargs)
        if x.dtype.itemsize == 1:
            x.view(torch.uint8).fill_(0x7F if x.dtype == torch.float8_e4m3fn else 85)
            return x
        return x.fill_(math.nan)

    monkeypatch.setattr(torch, "empty", poisoned)


def check(q: Tensor, k: Tensor, v: Tensor, pv: str = "fp32+fp16", **kwargs: Any) -> None:
    """sageattn within the method's bound of float64, and at most twice as far as the plain torch arithmetic."""
    out, lse = sageattn(q, k, v, return_lse=True, **kwargs)
    assert out.shape == q.shape
    assert out.dtype == q.dtype
    reference, reference_lse = naive_sageattn(q, k, v, return_lse=True, **kwargs | {"pv_accum": pv})
    same = {key: kwargs[key] for key in ("is_causal", "sm_scale", "kv_lengths") if key in kwargs}
    q, k, v, out, reference = (
        heads_first(x, kwargs.get("tensor_layout", "HND")) for x in (q, k, v, out, reference)
    )  # fmt: skip
    exact, exact_lse = exact_attention(q, k, v, **same)
    assert relative(out, exact) < BOUNDS[kwargs.get("qk_dtype", "int8")]
    # bfloat16 output adds its own rounding.
    assert relative(out, exact) < 2 * relative(reference, exact) + 0.003
    finite = exact_lse > -math.inf
    assert bool((lse[~finite] == -math.inf).all())
    worst = float((reference_lse - exact_lse)[finite].abs().max())
    assert float((lse - exact_lse)[finite].abs().max()) < 2 * worst + 1e-4


# --- the shim ---


def test_the_interpreters_conversions_agree_with_torch() -> None:
    import triton.language as tl

    halves = torch.arange(-(2**15), 2**15, dtype=torch.int32).to(torch.int16).view(torch.float16)
    inside = halves[halves.abs() <= 464].float()
    ours = convert_float(inside.numpy(), tl.float32, tl.float8e4nv, None)
    assert (torch.from_numpy(ours) == inside.to(torch.float8_e4m3fn).view(torch.uint8)).all()
    beyond = np.array([464.1, -1e30, np.inf, np.nan], dtype=np.float32)
    back = torch.from_numpy(convert_float(beyond, tl.float32, tl.float8e4nv, None)).view(torch.float8_e4m3fn).float()
    assert back[:3].tolist() == [448, -448, 448]
    assert back[3].isnan()
    every = torch.arange(256, dtype=torch.uint8)
    up = torch.from_numpy(convert_float(every.numpy(), tl.float8e4nv, tl.float16, None).view(np.float16))
    torch.testing.assert_close(up, every.view(torch.float8_e4m3fn).half(), equal_nan=True, rtol=0, atol=0)
    floats = draw(1000, dtype=torch.float32)
    down = torch.from_numpy(convert_float(floats.numpy(), tl.float32, tl.bfloat16, None).view(np.int16))
    assert (down.view(torch.bfloat16) == floats.bfloat16()).all()


# --- against float64 and the plain torch arithmetic ---


@pytest.mark.parametrize(
    ("tokens", "keys", "width"), [(1, 1, 64), (63, 63, 96), (130, 257, 128), (1, 130, 64), (257, 63, 64)]
)
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_any_length_and_width(tokens: int, keys: int, width: int, dtype: torch.dtype) -> None:
    check(*inputs(tokens, keys, width, dtype=dtype))


@pytest.mark.parametrize(
    ("gpu", "pv_accum", "pv"),
    [
        ("sm_80", "auto", "fp16"),
        ("sm_89", "fp32", "fp32"),
        ("sm_89", "fp32+fp32", "fp32+fp32"),
        ("sm_90", "auto", "fp32+fp32"),
        ("sm_90", "fp32+fp16", "fp32+fp16"),
    ],
)
def test_every_accumulator(monkeypatch: pytest.MonkeyPatch, gpu: str, pv_accum: str, pv: str) -> None:
    monkeypatch.setattr(device, "INTERPRETED_CAPABILITY", GPUS[gpu])
    check(*inputs(40, 150, 64), pv_accum=pv_accum, pv=pv)


@pytest.mark.parametrize("qk_dtype", ["int8", "fp8"])
@pytest.mark.parametrize("smooth_k", [True, False])
def test_both_score_types_smoothed_or_not(qk_dtype: str, smooth_k: bool) -> None:
    check(*inputs(40, 150, 96), qk_dtype=qk_dtype, smooth_k=smooth_k)


@pytest.mark.parametrize(("tokens", "keys", "width"), [(130, 130, 64), (70, 257, 96), (130, 63, 128), (1, 5, 64)])
def test_causal(tokens: int, keys: int, width: int) -> None:
    check(*inputs(tokens, keys, width), is_causal=True)


@pytest.mark.parametrize("causal", [False, True])
def test_lengths_of_a_batch(causal: bool) -> None:
    q, k, v = inputs(70, 200, 64, heads=4, key_heads=2, batch=5)
    lengths = torch.tensor([200, 1, 64, 0, 129])
    # What padding holds does not matter; 64 leaves whole tiles masked.
    padding = (torch.arange(200) >= lengths[:, None])[:, None, :, None]
    k, v = k.masked_fill(padding, math.nan), v.masked_fill(padding, math.inf)
    check(q, k, v, kv_lengths=lengths, is_causal=causal)
    assert not sageattn(q, k, v, kv_lengths=lengths)[3].any()


@pytest.mark.parametrize(("splits", "causal"), [(2, True), (3, False), (7, True)])
def test_split_keys_are_joined(splits: int, causal: bool) -> None:
    q, k, v = inputs(70, 300, 96, heads=1, key_heads=1, batch=3)
    # Some splits hold no key of the second sample, none holds any of the third.
    lengths = torch.tensor([300, 40, 0], dtype=torch.int32)
    quantised = quantise.quantise_heads(q, k, v, sm_scale=0.1, lengths=lengths, smooth_k=False)
    out = torch.empty(q.shape)
    lse = attend_quantised(
        quantised, out, is_causal=causal, with_lse=True, tiles=Tiles(64, 64, 4, 1), splits=splits
    )  # fmt: skip
    same: dict[str, Any] = {"is_causal": causal, "sm_scale": 0.1, "kv_lengths": lengths}
    exact, exact_lse = exact_attention(q, k, v, **same)
    # Within a split P is rounded relative to the split's own maximum, so the error is of another draw.
    assert relative(out, exact) < BOUNDS["int8"]
    torch.testing.assert_close(lse.double() * math.log(2), exact_lse, rtol=0, atol=0.05)
    assert not out[2].any()


@pytest.mark.parametrize("queries", [64, 128])
def test_tiles_of_128_keys(queries: int) -> None:
    q, k, v = inputs(130, 257, 64)
    quantised = quantise.quantise_heads(q, k, v, sm_scale=1 / 8, tile=128)
    out = torch.empty(q.shape)
    attend_quantised(quantised, out, tiles=Tiles(queries, 128, 8, 1))
    exact = exact_attention(q, k, v)[0]
    reference = naive_sageattn(q, k, v, tile=128)
    assert relative(out, exact) < min(BOUNDS["int8"], 2 * relative(reference, exact))


def test_layouts_and_strides() -> None:
    check(*(x.transpose(1, 2).contiguous() for x in inputs(40, 70, 64)), tensor_layout="NHD")
    # Heads out of one projection, queries of every other token, channels that do not lie side by side.
    packed = draw(2, 70, 3 * 2 * 64)
    q, k, v = (x.unflatten(-1, (2, 64)).transpose(1, 2) for x in packed.chunk(3, dim=-1))
    check(q[:, :, ::2], k, v.transpose(2, 3).contiguous().transpose(2, 3))


def test_outliers() -> None:
    q, k, v = inputs(70, 150, 128, dtype=torch.float32)
    # A bias of K's channels, a loud query, a loud channel and a loud value.
    k = k + 10 * torch.sign(draw(128, dtype=torch.float32))
    q[:, :, 5] *= 4
    v[..., 7] *= 1000
    v[:, :, 9] *= 30
    check(*(x.bfloat16() for x in (q, k, v)))


def test_values_near_the_end_of_the_range() -> None:
    q, k, v = inputs(40, 70, 64, dtype=torch.float16)
    check(q, k, (v * 15000).clamp(-65504, 65504))
    check(q, k, v * 1e-4)
    zero = torch.zeros_like(v)
    assert not torch.count_nonzero(sageattn(q, k, zero))
    even = sageattn(q, torch.zeros_like(k), v)
    assert isinstance(even, Tensor)
    torch.testing.assert_close(even[:, :, 0].double(), v.double().mean(2), rtol=0.1, atol=0.01)


@pytest.mark.parametrize("where", [0, 1, 2])
@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_what_is_not_finite_shows(where: int, value: float) -> None:
    tensors = inputs(40, 140, 64)
    tensors[where][0, 1, 33, 5] = value
    out = sageattn(*tensors)
    assert bool(out[0, 0].isfinite().all())
    assert not bool(out[0, 1].isfinite().all())


def test_a_scale_of_ones_own() -> None:
    check(*inputs(40, 70, 64), sm_scale=0.3)
    check(*inputs(40, 70, 64), sm_scale=0.0)


# --- the fused prologue ---


@pytest.mark.parametrize(
    ("kind", "biased", "rotated"), [("rms_norm", False, True), ("layer_norm", True, True), ("none", False, False)]
)
@pytest.mark.parametrize("width", [64, 96])
def test_the_fused_prologue_is_norm_split_rotation_and_quantisation(
    kind: str, biased: bool, rotated: bool, width: int
) -> None:
    from renderformer.model.encodings import TriangleRope, rotate

    heads, tokens, full = 3, 70, 3 * width
    packed = draw(2, tokens, 3 * full)
    q_BTW, k_BTW, v_BTW = packed.chunk(3, dim=-1)
    weight, bias = 1 + 0.1 * draw(full, dtype=torch.float32), draw(full, dtype=torch.float32, seed=5)
    rotation = TriangleRope(6, width, False)(draw(2, tokens, 9, dtype=torch.float32, seed=6)) if rotated else None
    lengths = torch.tensor([70, 33])

    def heads_of(x_BTW: Tensor, norm: bool) -> Tensor:
        x_BTW = x_BTW.float()
        if norm and kind == "rms_norm":
            x_BTW = F.rms_norm(x_BTW, (full,), weight, 1e-6)
        if norm and kind == "layer_norm":
            x_BTW = F.layer_norm(x_BTW, (full,), weight, bias, 1e-6)
        return rotate(quantise.split(x_BTW, heads), rotation if norm else None)

    projection = Projection(
        kind,
        None if kind == "none" else weight,
        bias if biased else None,
        cos=None if rotation is None else rotation.cos.squeeze(1),
        sin=None if rotation is None else rotation.sin.squeeze(1),
    )
    fused = quantise_qkv(
        q_BTW, k_BTW, v_BTW, heads, q_projection=projection, k_projection=projection, kv_lengths=lengths
    )
    q, k, v = heads_of(q_BTW, True), heads_of(k_BTW, True), heads_of(v_BTW, False)
    plain = quantise.quantise_heads(q, k, v, sm_scale=1 / math.sqrt(width), lengths=lengths.int())
    # Sums in another order move a value across a rounding boundary now and then, by one step.
    for ours, expected in ((fused.q, plain.q), (fused.k, plain.k)):
        steps = (ours.int() - expected.int()).abs()
        assert int(steps.max()) <= 1
        assert float(steps.float().mean()) < 1e-2
    assert torch.equal(fused.v.view(torch.uint8), plain.v.view(torch.uint8))
    for name in ("q_scale", "k_scale", "v_scale"):
        torch.testing.assert_close(getattr(fused, name), getattr(plain, name), rtol=1e-5, atol=1e-7)
    out = torch.empty(2, heads, tokens, width)
    attend_quantised(fused, out)
    assert relative(out, exact_attention(q, k, v, kv_lengths=lengths)[0]) < BOUNDS["int8"]


def test_the_prologue_is_two_launches(monkeypatch: pytest.MonkeyPatch) -> None:
    from renderformer.kernels.sage import main_loop, prologue

    launched: list[str] = []
    kernels = {prologue: ("statistics", "quantise"), main_loop: ("attend", "combine")}
    for module, name in ((module, name) for module, names in kernels.items() for name in names):
        kernel = getattr(module, name)
        launch = type(kernel).__getitem__

        def counted(grid: tuple[int, ...], kernel: Any = kernel, name: str = name, launch: Any = launch) -> Any:
            launched.append(name)
            return launch(kernel, grid)

        monkeypatch.setattr(module, name, type("Counted", (), {"__getitem__": staticmethod(counted)})())
    sageattn(*inputs(40, 70, 64))
    assert launched == ["statistics", "quantise", "attend"]


def test_queries_and_keys_may_be_projected_differently() -> None:
    # The queries have more spans than the keys, another norm, and no rotation.
    from renderformer.model.encodings import TriangleRope, rotate

    q_BTW, k_BTW, v_BTW = draw(2, 200, 128, seed=1), draw(2, 40, 128, seed=2), draw(2, 40, 128, seed=3)
    weight, bias = 1 + 0.1 * draw(128, dtype=torch.float32), draw(128, dtype=torch.float32, seed=5)
    rotation = TriangleRope(6, 64, False)(draw(2, 40, 9, dtype=torch.float32, seed=6))
    k_projection = Projection("rms_norm", weight, cos=rotation.cos.squeeze(1), sin=rotation.sin.squeeze(1))
    quantised = quantise_qkv(
        q_BTW, k_BTW, v_BTW, 2, q_projection=Projection("layer_norm", weight, bias), k_projection=k_projection
    )
    out = torch.empty(2, 2, 200, 64)
    attend_quantised(quantised, out)
    q = quantise.split(F.layer_norm(q_BTW.float(), (128,), weight, bias, 1e-6), 2)
    k = rotate(quantise.split(F.rms_norm(k_BTW.float(), (128,), weight, 1e-6), 2), rotation)
    assert relative(out, exact_attention(q, k, quantise.split(v_BTW, 2))[0]) < BOUNDS["int8"]


def test_more_heads_than_one_chunk_of_the_statistics() -> None:
    q, k, v = inputs(3, 70, 96, heads=22, key_heads=11)
    v[:, 10] *= 100
    assert quantise.CHUNK // 96 < 11
    check(q, k + 3, v)


def test_a_projection_that_does_not_fit_is_refused() -> None:
    x = draw(1, 10, 192)
    with pytest.raises(ValueError, match=r"q of shape \(1, 10, 192\).*5 heads"):
        quantise_qkv(x, x, x, 5)
    with pytest.raises(ValueError, match=r"q_projection.weight has shape \(3,\)"):
        quantise_qkv(x, x, x, 3, q_projection=Projection("rms_norm", torch.ones(3)))
    with pytest.raises(ValueError, match="'batch_norm' is unknown"):
        quantise_qkv(x, x, x, 3, k_projection=Projection("batch_norm", torch.ones(192)))
    with pytest.raises(ValueError, match=r"q_projection.cos is torch.float32 \(1, 10, 5\)"):
        quantise_qkv(x, x, x, 3, q_projection=Projection(cos=torch.ones(1, 10, 5), sin=torch.ones(1, 10, 5)))


# --- what is refused ---


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"tensor_layout": "HDN"}, "tensor_layout 'HDN'"),
        ({"qk_dtype": "int4"}, "qk_dtype 'int4'"),
        ({"pv_accum": "fp16"}, "pv_accum 'fp16'"),
        ({"sm_scale": math.nan}, "sm_scale nan"),
        ({"kv_lengths": torch.tensor([11])}, "kv_lengths holds 11"),
        ({"kv_lengths": torch.tensor([-1])}, "kv_lengths holds -1"),
        ({"kv_lengths": torch.tensor([3, 3])}, r"kv_lengths is torch.int64 of shape \(2,\)"),
        ({"kv_lengths": torch.tensor([3.0])}, "kv_lengths is torch.float32"),
        ({"q": draw(1, 2, 10, 80)}, "head_dim 80"),
        ({"q": draw(1, 3, 10, 64)}, r"shapes \(1, 3, 10, 64\)"),
        ({"k": draw(1, 2, 9, 64)}, r"\(1, 2, 9, 64\)"),
        ({"v": draw(1, 2, 10, 64, dtype=torch.float16)}, "v is torch.float16"),
        ({"q": draw(1, 2, 10, 64, dtype=torch.float32)}, "q is torch.float32"),
        ({"q": draw(2, 10, 64)}, r"q has shape \(2, 10, 64\)"),
        ({"k": draw(1, 2, 0, 64), "v": draw(1, 2, 0, 64)}, r"k has shape \(1, 2, 0, 64\)"),
    ],
)
def test_what_is_not_supported_is_named(change: dict[str, Any], message: str) -> None:
    x = draw(1, 2, 10, 64)
    with pytest.raises(ValueError, match=message):
        sageattn(**({"q": x, "k": x, "v": x} | change))


def test_a_gpu_without_e4m3_refuses_what_needs_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(device, "INTERPRETED_CAPABILITY", (8, 0))
    x = draw(1, 2, 10, 64)
    with pytest.raises(ValueError, match="qk_dtype 'fp8' needs compute capability 8.9"):
        sageattn(x, x, x, qk_dtype="fp8")
    with pytest.raises(ValueError, match="pv_accum 'fp32\\+fp16' needs E4M3"):
        sageattn(x, x, x, pv_accum="fp32+fp16")


def test_without_a_gpu_it_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TRITON_INTERPRET")
    x = draw(1, 2, 10, 64)
    with pytest.raises(ValueError, match="device 'cpu' is not an NVIDIA GPU"):
        sageattn(x, x, x)


def test_a_length_that_cannot_be_checked_shows_as_nan() -> None:
    q, k, v = inputs(10, 70, 64, batch=2)
    for splits in (1, 2):
        quantised = quantise.quantise_heads(q, k, v, sm_scale=1.0, lengths=torch.tensor([70, 71], dtype=torch.int32))
        out = torch.empty(q.shape)
        attend_quantised(quantised, out, tiles=Tiles(64, 64, 4, 1), splits=splits)
        assert bool(out[0].isfinite().all())
        assert bool(out[1].isnan().all())


# --- gradients and compilation ---


@pytest.mark.parametrize("layout", ["HND", "NHD"])
def test_gradients_are_those_of_exact_attention(layout: str) -> None:
    q, k, v = inputs(20, 40, 64, heads=4, key_heads=2, batch=3)
    lengths = torch.tensor([40, 7, 0])
    padding = (torch.arange(40) >= lengths[:, None])[:, None, :, None]
    k, v = k.masked_fill(padding, math.nan), v.masked_fill(padding, math.nan)
    grad = draw(*q.shape, seed=9)
    flip = (lambda x: x.transpose(1, 2)) if layout == "NHD" else (lambda x: x)
    leaves = [x.clone().requires_grad_() for x in (q, k, v)]
    out = sageattn(*map(flip, leaves), kv_lengths=lengths, is_causal=True, tensor_layout=layout)
    assert isinstance(out, Tensor)
    out.backward(flip(grad))
    exact = [x.double().requires_grad_() for x in (q, k, v)]
    exact_attention(*exact, kv_lengths=lengths, is_causal=True)[0].backward(grad.double())
    for ours, expected in zip(leaves, exact, strict=True):
        assert ours.grad is not None
        assert expected.grad is not None
        assert relative(ours.grad, expected.grad) < 0.02
        assert not ours.grad[2].any()


def test_the_operator_passes_torchs_own_checks() -> None:
    q, k, v = (x.requires_grad_() for x in inputs(20, 40, 64))
    arguments = (q, k, v, None, "HND", True, 0.125, True, "int8", "auto", True)
    checks = ("test_schema", "test_faketensor", "test_autograd_registration")
    torch.library.opcheck(operator._sage, arguments, test_utils=checks)


@pytest.mark.parametrize("lengths", [None, torch.tensor([40, 9])])
def test_it_compiles_into_one_graph_with_gradients(lengths: Tensor | None) -> None:
    q, k, v = (x.requires_grad_() for x in inputs(20, 40, 64, batch=2))

    def run(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        out = sageattn(q * 2, k, v, kv_lengths=lengths)
        assert isinstance(out, Tensor)
        return out.square().sum()

    plain = torch.autograd.grad(run(q, k, v), (q, k, v))
    compiled = torch.autograd.grad(torch.compile(run, fullgraph=True, backend="aot_eager")(q, k, v), (q, k, v))
    for ours, expected in zip(compiled, plain, strict=True):
        torch.testing.assert_close(ours, expected, rtol=2e-2, atol=2e-2)
