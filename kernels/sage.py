"""Quantised attention, after SageAttention2++: INT8 or E4M3 products for Q K, E4M3 for P V, with gradients.

`reference.quantised_attention` is the same arithmetic in plain torch. docs/kernels.md says what was measured.

Shape suffixes: B batch, H query heads, G key heads, T query tokens, S key tokens, D head width.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from renderformer.kernels.quantise import (
    HEAD_DIMS,
    PLAIN,
    PV_ACCUMS,
    QK_DTYPES,
    Projection,
    Quantised,
    capability,
    interpreted,
    on_device,
    pv_mode,
    quantise_heads,
    quantise_qkv,
    split,
)
from renderformer.kernels.reference import K_GROUP, Q_GROUP, RANGES, visible

LAYOUTS = ("HND", "NHD")
DTYPES = (torch.float16, torch.bfloat16)
# Architectures that the kernels are compiled for in the tests.
CAPABILITIES = ((8, 0), (8, 6), (8, 9), (9, 0), (10, 0), (10, 3), (12, 0), (12, 1))


@dataclass(frozen=True)
class Tiles:
    """How the main loop is cut: queries and keys of a tile, warps, and stages of the load pipeline."""

    queries: int
    keys: int
    warps: int
    stages: int


# By major compute capability. Chosen from the compiled code (registers, no spills), not measured: no GPU was at hand.
# benchmarks/tune_attention.py times the candidates.
TILES = {8: Tiles(128, 64, 8, 3), 9: Tiles(128, 64, 8, 3), 10: Tiles(128, 64, 8, 3), 12: Tiles(128, 64, 8, 3)}
# Main loops: plain Triton, or Gluon for Hopper (hopper.py). The second is taken from so many keys on, by compute
# capability, where it applies; an entry needs a measurement (benchmarks/attention.py: right on that GPU, and faster
# than the first). None has been made yet. attend_quantised(path="gluon") names it.
PATHS = ("triton", "gluon")
GLUON_FROM_KEYS: dict[tuple[int, int], int] = {}
# Two warpgroups of 64 queries; "stages" are the slots of the rings of K and V.
GLUON_TILES = Tiles(128, 64, 8, 4)
# What 3.6 makes of it holds no product in flight in one of the two warpgroups (head_dim 128, E4M3 scores).
GLUON_TRITON = (3, 7)
# With fewer blocks than processors the queries go in smaller tiles, then the keys are split.
SMALL_QUERIES = 64
SMALL_WARPS = 4
MAX_SPLITS = 16
MIN_KEYS_PER_SPLIT = 256


def sageattn(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    tensor_layout: str = "HND",
    is_causal: bool = False,
    sm_scale: float | None = None,
    kv_lengths: Tensor | None = None,
    smooth_k: bool = True,
    qk_dtype: str = "int8",
    pv_accum: str = "auto",
    return_lse: bool = False,
) -> Tensor | tuple[Tensor, Tensor]:
    """softmax(q k^T sm_scale) v with 8-bit products; about 4 % relative error (docs/kernels.md).

    Args:
        q: float16 or bfloat16, (B, H, T, D) in layout "HND", (B, T, H, D) in "NHD"; D is 64, 96 or 128. Any strides.
        k, v: (B, G, S, D) or (B, S, G, D), the type of q; H is a multiple of G (neighbouring query heads share keys).
        tensor_layout: "HND" or "NHD", of q, k, v and the result.
        is_causal: query i sees keys 0 … i, aligned at the first token, like torch.
        sm_scale: factor of the logits; None is 1 / sqrt(D).
        kv_lengths: (B,) integers, how many keys of each sample are real, 0 … S; what the others hold does not
            matter. A tensor on the GPU is not checked, as that would wait for it: a sample whose length is outside
            0 … S comes out as NaN.
        smooth_k: subtract K's mean, which costs little and keeps the error small when channels of K have a bias.
        qk_dtype: "int8", or "fp8" (E4M3), which is less exact.
        pv_accum: accumulator of P V: "fp32"; "fp32+fp32" and "fp32+fp16" promote short chains; "auto" by GPU.
        return_lse: also return the natural logarithm of each row's sum of exponentials, (B, H, T) float32.

    Returns:
        The shape and type of q, contiguous. A query that sees no key gets 0 (and -inf). Gradients are those of exact
        attention (SDPA in the input's precision); lse has none.

    Raises:
        ValueError: anything else, naming the value.
    """
    _check(q, k, v, tensor_layout, kv_lengths, qk_dtype, pv_accum)
    scale = 1 / math.sqrt(q.shape[-1]) if sm_scale is None else float(sm_scale)
    if not math.isfinite(scale):
        raise ValueError(f"sm_scale {sm_scale} is not a finite number")
    lengths = None if kv_lengths is None else kv_lengths.to(q.device, torch.int32)
    out, lse = _attention(
        q, k, v, lengths, tensor_layout, is_causal, scale, smooth_k, qk_dtype, pv_accum, return_lse
    )  # fmt: skip
    return (out, lse) if return_lse else out


def unsupported(device: torch.device) -> str | None:
    """Why the kernels cannot run on a device, or None."""
    from importlib.util import find_spec

    if find_spec("triton") is None:
        return "Triton is not installed (pip install triton)"
    if device.type == "cpu" and interpreted():
        return None
    if device.type != "cuda" or torch.version.hip is not None:
        return f"device {str(device)!r} is not an NVIDIA GPU"
    found = capability(device)
    if found not in CAPABILITIES:
        return f"compute capability {found[0]}.{found[1]} is not one of the supported " + ", ".join(
            f"{major}.{minor}" for major, minor in CAPABILITIES
        )
    return None


def attend_quantised(
    quantised: Quantised,
    out_BHTD: Tensor,
    *,
    is_causal: bool = False,
    with_lse: bool = False,
    tiles: Tiles | None = None,
    splits: int | None = None,
    path: str | None = None,
) -> Tensor:
    """The main loop: write attention into `out_BHTD` (any strides, float type).

    Args:
        quantised: from `quantise.quantise_heads` or `quantise.quantise_qkv`.
        tiles, splits: for tuning; None chooses.
        path: "triton" or "gluon"; None takes the second where it was measured to win (`GLUON_FROM_KEYS`).

    Returns:
        (B, H, T) float32, base-2 logarithms of the sums of exponentials of the smoothed logits; empty unless
        `with_lse`.

    Raises:
        ValueError: an unknown path, or why "gluon" does not do this; it never falls back when it was named.
    """
    if path is None:
        path = choose_path(quantised, is_causal, out_BHTD.device)
    elif path not in PATHS:
        raise ValueError(f"path {path!r} is unknown; use one of {', '.join(PATHS)}")
    elif path == "gluon":
        reason = without_gluon(quantised, is_causal, out_BHTD.device)
        if reason is not None:
            raise ValueError(f'path "gluon" cannot run this: {reason}')
    with on_device(out_BHTD.device):
        return _attend(quantised, out_BHTD, is_causal, with_lse, tiles, splits, path)


def choose_path(quantised: Quantised, is_causal: bool, device: torch.device) -> str:
    """The main loop that is taken when none is named."""
    threshold = GLUON_FROM_KEYS.get(capability(device))
    wins = threshold is not None and quantised.keys >= threshold
    return "gluon" if wins and without_gluon(quantised, is_causal, device) is None else "triton"


def without_gluon(quantised: Quantised, is_causal: bool, device: torch.device) -> str | None:
    """Why the Gluon main loop does not do this, or None."""
    from importlib.metadata import version

    width = quantised.q.shape[-1]
    if device.type != "cuda" or capability(device) != (9, 0):
        return f"device {str(device)!r} is not a Hopper GPU (compute capability 9.0)"
    if tuple(int(part) for part in version("triton").split(".")[:2]) < GLUON_TRITON:
        return f"it needs Triton {'.'.join(map(str, GLUON_TRITON))} or later, here is {version('triton')}"
    if is_causal:
        return "is_causal is True; the plain kernel does that"
    if width not in (64, 128):
        return f"head_dim {width} is not 64 or 128; the plain kernel does that"
    if quantised.pv != "fp32+fp32":
        return f"P V is accumulated in {quantised.pv!r}, not in 'fp32+fp32'"
    if quantised.tile != GLUON_TILES.keys:
        return f"V was quantised for tiles of {quantised.tile} keys, not of {GLUON_TILES.keys}"
    return None


def _attend(
    quantised: Quantised,
    out_BHTD: Tensor,
    is_causal: bool,
    with_lse: bool,
    tiles: Tiles | None,
    splits: int | None,
    path: str,
) -> Tensor:
    batch, heads, tokens, _ = out_BHTD.shape
    if tiles is None:
        tiles, wanted = choose_tiles(quantised, batch * heads, out_BHTD.device, path)
    else:
        wanted = 1
    splits = wanted if splits is None else splits
    device = out_BHTD.device
    if splits == 1:
        lse = torch.empty((1, batch, heads, tokens) if with_lse else (0,), device=device)
        _launch(quantised, out_BHTD[None], lse, tiles, 1, is_causal, with_lse, path)
        return lse[0] if with_lse else lse
    from renderformer.kernels import triton_kernels as kernels

    parts = torch.empty(splits, *out_BHTD.shape, device=device)
    part_lse = torch.empty(splits, batch, heads, tokens, device=device)
    _launch(quantised, parts, part_lse, tiles, splits, is_causal, True, path)
    lse = torch.empty((batch, heads, tokens) if with_lse else (0,), device=device)
    width = out_BHTD.shape[-1]
    kernels.combine[(-(-tokens // 16), heads, batch)](
        parts, part_lse, out_BHTD, lse, *out_BHTD.stride(), heads, tokens, splits,
        D=width, WIDTH=1 << (width - 1).bit_length(), BLOCK=16, WITH_LSE=with_lse,
    )  # fmt: skip
    return lse


def choose_tiles(
    quantised: Quantised, lines: int, device: torch.device, path: str = "triton"
) -> tuple[Tiles, int]:  # fmt: skip
    """Tiles and splits of the keys, so that every processor has a block; `lines` is B H."""
    tiles = TILES[capability(device)[0]] if path == "triton" else GLUON_TILES
    if device.type != "cuda":
        # The interpreter runs one block after the other.
        return (Tiles(SMALL_QUERIES, quantised.tile, SMALL_WARPS, 1) if path == "triton" else tiles), 1
    processors = torch.cuda.get_device_properties(device).multi_processor_count
    if path == "triton" and -(-quantised.tokens // tiles.queries) * lines < 2 * processors:
        tiles = Tiles(SMALL_QUERIES, tiles.keys, SMALL_WARPS, tiles.stages)
    blocks = -(-quantised.tokens // tiles.queries) * lines
    splits = min(processors // blocks, quantised.keys // MIN_KEYS_PER_SPLIT, MAX_SPLITS)
    return tiles, max(1, splits)


def kernel_constants(width: int, pv: str, tiles: Tiles, fp8: bool) -> dict[str, int | float | str | bool]:
    """The compile-time constants of the main loop that follow from the arithmetic."""
    return {
        "D": width,
        # Tensor sizes are powers of two; 96 goes as 64 + 32.
        "DA": 64 if width == 96 else width,
        "DB": 32 if width == 96 else 0,
        "BM": tiles.queries,
        "BN": tiles.keys,
        "Q_GROUP": Q_GROUP,
        "K_GROUP": K_GROUP,
        "P_LOG2": math.log2(RANGES[pv, tiles.keys][0]),
        "PV": pv,
        # Promote once a tile; any limit but 0 keeps the two levels apart (see triton_kernels.add_values).
        "IMPRECISE": tiles.keys,
        "FP8": fp8,
    }


def gluon_constants(width: int, tiles: Tiles) -> dict[str, int | float]:
    """The compile-time constants of the Gluon main loop that follow from the arithmetic."""
    return {
        "D": width,
        "BM": tiles.queries,
        "BN": tiles.keys,
        "STAGES": tiles.stages,
        "Q_GROUP": Q_GROUP,
        "P_LOG2": math.log2(RANGES["fp32+fp32", tiles.keys][0]),
    }


def _launch(
    quantised: Quantised,
    out_sBHTD: Tensor,
    lse: Tensor,
    tiles: Tiles,
    splits: int,
    is_causal: bool,
    with_lse: bool,
    path: str,
) -> None:
    if tiles.keys != quantised.tile:
        raise ValueError(f"tiles of {tiles.keys} keys, but V was quantised for {quantised.tile}")
    _, batch, heads, tokens, width = out_sBHTD.shape
    grid = (-(-tokens // tiles.queries) * splits, heads, batch)
    has_lengths = quantised.lengths is not None
    shared = (
        quantised.q_scale, quantised.k_scale, quantised.v_scale,
        out_sBHTD, lse, quantised.lengths if has_lengths else quantised.q_scale, *out_sBHTD.stride(),
        heads, quantised.k.shape[1], tokens, quantised.keys, quantised.q.shape[2], quantised.k.shape[2], splits,
    )  # fmt: skip
    if path == "gluon":
        from renderformer.kernels import hopper

        # Four warps of a warpgroup; the kernel itself adds those of the other and of the loads.
        hopper.attend[grid](
            *hopper.descriptors(quantised, tiles.keys), *shared, **gluon_constants(width, tiles),
            HAS_LENGTHS=has_lengths, WITH_LSE=with_lse, num_warps=4,
        )  # fmt: skip
        return
    from renderformer.kernels import triton_kernels as kernels

    kernels.attend[grid](
        quantised.q, quantised.k, quantised.v, *shared,
        **kernel_constants(width, quantised.pv, tiles, quantised.q.dtype != torch.int8),
        CAUSAL=is_causal, HAS_LENGTHS=has_lengths, WITH_LSE=with_lse,
        num_warps=tiles.warps, num_stages=tiles.stages,
    )  # fmt: skip


def _check(
    q: Tensor, k: Tensor, v: Tensor, layout: str, kv_lengths: Tensor | None, qk_dtype: str, pv_accum: str
) -> None:
    for name, value, known in (
        ("tensor_layout", layout, LAYOUTS),
        ("qk_dtype", qk_dtype, QK_DTYPES),
        ("pv_accum", pv_accum, PV_ACCUMS),
    ):
        if value not in known:
            raise ValueError(f"{name} {value!r} is unknown; use one of {', '.join(known)}")
    for name, x in (("q", q), ("k", k), ("v", v)):
        if x.ndim != 4 or 0 in x.shape:
            raise ValueError(f"{name} has shape {tuple(x.shape)}, expected four dimensions, none of them empty")
        if x.dtype not in DTYPES or x.dtype != q.dtype:
            raise ValueError(f"{name} is {x.dtype} (q is {q.dtype}); use float16 or bfloat16 for all three")
        if x.device != q.device:
            raise ValueError(f"{name} is on {x.device}, q on {q.device}")
    if q.shape[-1] not in HEAD_DIMS:
        raise ValueError(f"head_dim {q.shape[-1]} is not supported; use one of {HEAD_DIMS}")
    heads, key_heads = (x.shape[1 if layout == "HND" else 2] for x in (q, k))
    if k.shape != v.shape or k.shape[0] != q.shape[0] or k.shape[-1] != q.shape[-1] or heads % key_heads:
        raise ValueError(
            f"shapes {tuple(q.shape)}, {tuple(k.shape)}, {tuple(v.shape)} of q, k, v do not fit (layout {layout})"
        )
    _check_lengths(kv_lengths, q.shape[0], k.shape[2 if layout == "HND" else 1])


def _check_device(device: torch.device, qk_dtype: str) -> None:
    """Within the operator, so that a compiler need not trace it."""
    reason = unsupported(device)
    if reason is not None:
        raise ValueError(f"quantised attention cannot run here: {reason}")
    if qk_dtype == "fp8" and capability(device) < (8, 9):
        raise ValueError("qk_dtype 'fp8' needs compute capability 8.9 or later; use 'int8'")


def _check_lengths(kv_lengths: Tensor | None, batch: int, keys: int) -> None:
    if kv_lengths is None:
        return
    if kv_lengths.shape != (batch,) or kv_lengths.dtype not in (torch.int32, torch.int64):
        raise ValueError(
            f"kv_lengths is {kv_lengths.dtype} of shape {tuple(kv_lengths.shape)}, expected integers ({batch},)"
        )
    # Reading values is free on the CPU; a compiler cannot, and the kernel marks a wrong one by NaN.
    if kv_lengths.device.type == "cpu" and not torch.compiler.is_compiling():
        wrong = kv_lengths[(kv_lengths < 0) | (kv_lengths > keys)].tolist()
        if wrong:
            raise ValueError(f"kv_lengths holds {wrong[0]}, expected 0 … {keys}")


def _heads_first(x: Tensor, layout: str) -> Tensor:
    return x if layout == "HND" else x.transpose(1, 2)


@torch.library.custom_op("renderformer::sage_attention", mutates_args=())
def _attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    lengths: Tensor | None,
    layout: str,
    is_causal: bool,
    scale: float,
    smooth_k: bool,
    qk_dtype: str,
    pv_accum: str,
    with_lse: bool,
) -> tuple[Tensor, Tensor]:
    """`sageattn` after its checks; lse is empty unless asked for."""
    _check_device(q.device, qk_dtype)
    q_BHTD, k_BGSD, v_BGSD = (_heads_first(x, layout) for x in (q, k, v))
    found = capability(q.device)
    quantised = quantise_heads(
        q_BHTD, k_BGSD, v_BGSD, sm_scale=scale, lengths=lengths, smooth_k=smooth_k, qk_dtype=qk_dtype,
        pv=pv_mode(pv_accum, found), tile=TILES[found[0]].keys,
    )  # fmt: skip
    out = torch.empty(q.shape, dtype=q.dtype, device=q.device)
    lse_BHT = attend_quantised(quantised, _heads_first(out, layout), is_causal=is_causal, with_lse=with_lse)
    if with_lse:
        lse_BHT = lse_BHT * math.log(2)
        if smooth_k:
            keys = quantised.keys if lengths is None else lengths.clamp(min=1)[:, None, None]
            mean_BGD = quantised.k_sum.sum(2) / keys
            repeats = q_BHTD.shape[1] // k_BGSD.shape[1]
            mean_BHD1 = mean_BGD.repeat_interleave(repeats, dim=1)[..., None]
            lse_BHT = lse_BHT + (q_BHTD.float() @ mean_BHD1).squeeze(-1) * scale
    return out, lse_BHT


@_attention.register_fake
def _(
    q: Tensor, k: Tensor, v: Tensor, lengths: Tensor | None, layout: str, is_causal: bool, scale: float,
    smooth_k: bool, qk_dtype: str, pv_accum: str, with_lse: bool,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    batch, heads, tokens, _ = _heads_first(q, layout).shape
    shape = (batch, heads, tokens) if with_lse else (0,)
    return torch.empty(q.shape, dtype=q.dtype, device=q.device), q.new_empty(shape, dtype=torch.float32)


def _save(
    ctx: torch.autograd.function.FunctionCtx, inputs: tuple[Any, ...], output: tuple[Any, ...]
) -> None:  # fmt: skip
    q, k, v, lengths, layout, is_causal, scale, *_ = inputs
    ctx.save_for_backward(q, k, v, lengths)
    ctx.settings = layout, is_causal, scale  # type: ignore[attr-defined]
    ctx.mark_non_differentiable(output[1])


def _gradients(ctx: torch.autograd.function.FunctionCtx, grad: Tensor, _lse: Tensor) -> tuple[Tensor | None, ...]:
    """Those of exact attention, recomputed in the precision of the input."""
    q, k, v, lengths = ctx.saved_tensors  # type: ignore[attr-defined]
    layout, is_causal, scale = ctx.settings  # type: ignore[attr-defined]
    with torch.enable_grad():
        inputs = [x.detach().requires_grad_() for x in (q, k, v)]
        q_BHTD, k_BGSD, v_BGSD = (_heads_first(x, layout) for x in inputs)
        out = exact(q_BHTD, k_BGSD, v_BGSD, lengths, is_causal, scale)
        gradients = torch.autograd.grad(out, inputs, _heads_first(grad, layout))
    return *gradients, *[None] * 8


_attention.register_autograd(_gradients, setup_context=_save)


def exact(
    q_BHTD: Tensor, k_BGSD: Tensor, v_BGSD: Tensor, lengths: Tensor | None, is_causal: bool, scale: float
) -> Tensor:
    """SDPA with what `sageattn` promises: padding does not matter, and a query without keys gets 0."""
    mask = None
    if lengths is not None:
        tokens, keys = q_BHTD.shape[2], k_BGSD.shape[2]
        mask = visible(tokens, keys, is_causal, lengths, q_BHTD.device)
        real_BS = torch.arange(keys, device=q_BHTD.device) < lengths[:, None]
        # Where there is no key at all the first stands in, and the result is dropped.
        empty_B = lengths == 0
        mask = mask | (empty_B[:, None, None, None] & (torch.arange(keys, device=q_BHTD.device) == 0))
        k_BGSD, v_BGSD = (x.where(real_BS[:, None, :, None], 0.0) for x in (k_BGSD, v_BGSD))
        is_causal = False
    grouped = q_BHTD.shape[1] != k_BGSD.shape[1]
    out_BHTD = F.scaled_dot_product_attention(
        q_BHTD, k_BGSD, v_BGSD, attn_mask=mask, is_causal=is_causal, scale=scale, enable_gqa=grouped
    )
    return out_BHTD if lengths is None else out_BHTD * (lengths > 0)[:, None, None, None]


def sageattn_projected(
    q_BTW: Tensor,
    k_BSW: Tensor,
    v_BSW: Tensor,
    heads: int,
    *,
    q_projection: Projection = PLAIN,
    k_projection: Projection = PLAIN,
    kv_lengths: Tensor | None = None,
) -> Tensor:
    """`sageattn` from projections: norm, head split, rotation and quantisation in one, without gradients.

    Args:
        q_BTW, k_BSW, v_BSW: float16 or bfloat16, W = heads x head_dim; chunks of one projection need no copy.
        heads: of queries and keys.
        q_projection, k_projection: norm and rotation, see `quantise.Projection`.
        kv_lengths: as of `sageattn`.

    Returns:
        (B, T, W), the type of q, contiguous.

    Raises:
        ValueError: what is not supported, named; also where gradients are needed, as there are none.
    """
    shapes = tuple(q_BTW.shape), tuple(k_BSW.shape), tuple(v_BSW.shape)
    if q_BTW.ndim != 3 or 0 in shapes[0] + shapes[1] or shapes[1] != shapes[2] or shapes[0][::2] != shapes[1][::2]:
        raise ValueError(f"shapes {shapes} of q, k, v do not fit (batch, tokens, heads x head_dim)")
    for name, x in (("q", q_BTW), ("k", k_BSW), ("v", v_BSW)):
        if x.dtype not in DTYPES or x.dtype != q_BTW.dtype:
            raise ValueError(f"{name} is {x.dtype} (q is {q_BTW.dtype}); use float16 or bfloat16 for all three")
        if torch.is_grad_enabled() and x.requires_grad:
            raise ValueError(f"{name} needs gradients; norm, split and rotate it, and call sageattn")
    _check_lengths(kv_lengths, q_BTW.shape[0], k_BSW.shape[1])
    lengths = None if kv_lengths is None else kv_lengths.to(q_BTW.device, torch.int32)
    return _attention_projected(
        q_BTW, k_BSW, v_BSW, heads, lengths,
        q_projection.kind, q_projection.weight, q_projection.bias, q_projection.eps, q_projection.cos, q_projection.sin,
        k_projection.kind, k_projection.weight, k_projection.bias, k_projection.eps, k_projection.cos, k_projection.sin,
    )  # fmt: skip


@torch.library.custom_op("renderformer::sage_attention_projected", mutates_args=())
def _attention_projected(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    heads: int,
    lengths: Tensor | None,
    q_kind: str,
    q_weight: Tensor | None,
    q_bias: Tensor | None,
    q_eps: float,
    q_cos: Tensor | None,
    q_sin: Tensor | None,
    k_kind: str,
    k_weight: Tensor | None,
    k_bias: Tensor | None,
    k_eps: float,
    k_cos: Tensor | None,
    k_sin: Tensor | None,
) -> Tensor:
    """`sageattn_projected` after its checks; an operator takes no dataclass."""
    _check_device(q.device, "int8")
    quantised = quantise_qkv(
        q, k, v, heads, kv_lengths=lengths, tile=TILES[capability(q.device)[0]].keys,
        q_projection=Projection(q_kind, q_weight, q_bias, q_eps, q_cos, q_sin),
        k_projection=Projection(k_kind, k_weight, k_bias, k_eps, k_cos, k_sin),
    )  # fmt: skip
    out = torch.empty(q.shape, dtype=q.dtype, device=q.device)
    attend_quantised(quantised, split(out, heads))
    return out


@_attention_projected.register_fake
def _(
    q: Tensor, k: Tensor, v: Tensor, heads: int, lengths: Tensor | None,
    q_kind: str, q_weight: Tensor | None, q_bias: Tensor | None, q_eps: float, q_cos: Tensor | None,
    q_sin: Tensor | None,
    k_kind: str, k_weight: Tensor | None, k_bias: Tensor | None, k_eps: float, k_cos: Tensor | None,
    k_sin: Tensor | None,
) -> Tensor:  # fmt: skip
    return torch.empty(q.shape, dtype=q.dtype, device=q.device)
