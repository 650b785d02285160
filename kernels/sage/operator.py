"""Quantised attention as torch operators, with gradients: INT8 or E4M3 products for Q K, E4M3 for P V.

`naive.naive_sageattn` is the same arithmetic in plain torch. docs/kernels.md says what was measured.

Shape suffixes: B batch, H query heads, G key heads, T query tokens, S key tokens, D head width, W = H D.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from renderformer.kernels.sage.device import (
    DTYPES,
    HEAD_DIMS,
    PV_ACCUMS,
    QK_DTYPES,
    capability,
    pv_mode,
    unsupported,
)
from renderformer.kernels.sage.launch import TILES, attend_quantised
from renderformer.kernels.sage.naive import heads_first, visible
from renderformer.kernels.sage.quantise import PLAIN, Projection, quantise_heads, quantise_qkv, split

LAYOUTS = ("HND", "NHD")


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
    out, lse = _sage(q, k, v, lengths, tensor_layout, is_causal, scale, smooth_k, qk_dtype, pv_accum, return_lse)
    return (out, lse) if return_lse else out


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
    """Raise ValueError where the kernels cannot run. Called within the operators, which compilers do not trace."""
    reason = unsupported(device)
    if reason:
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


@torch.library.custom_op("renderformer::sage_attention", mutates_args=())
def _sage(
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
    q_BHTD, k_BGSD, v_BGSD = (heads_first(x, layout) for x in (q, k, v))
    gpu = capability(q.device)
    quantised = quantise_heads(
        q_BHTD, k_BGSD, v_BGSD, sm_scale=scale, lengths=lengths, smooth_k=smooth_k, qk_dtype=qk_dtype,
        pv=pv_mode(pv_accum, gpu), tile=TILES[gpu[0]].keys,
    )  # fmt: skip
    out = torch.empty(q.shape, dtype=q.dtype, device=q.device)
    lse_BHT = attend_quantised(quantised, heads_first(out, layout), is_causal=is_causal, with_lse=with_lse)
    if with_lse:
        lse_BHT = lse_BHT * math.log(2)
        if smooth_k:
            keys = quantised.keys if lengths is None else lengths.clamp(min=1)[:, None, None]
            mean_BGD = quantised.k_sum.sum(2) / keys
            repeats = q_BHTD.shape[1] // k_BGSD.shape[1]
            mean_BHD1 = mean_BGD.repeat_interleave(repeats, dim=1)[..., None]
            lse_BHT = lse_BHT + (q_BHTD.float() @ mean_BHD1).squeeze(-1) * scale
    return out, lse_BHT


@_sage.register_fake
def _(
    q: Tensor, k: Tensor, v: Tensor, lengths: Tensor | None, layout: str, is_causal: bool, scale: float,
    smooth_k: bool, qk_dtype: str, pv_accum: str, with_lse: bool,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    batch, heads, tokens, _ = heads_first(q, layout).shape
    shape = (batch, heads, tokens) if with_lse else (0,)
    return torch.empty(q.shape, dtype=q.dtype, device=q.device), q.new_empty(shape, dtype=torch.float32)


def _save(ctx: torch.autograd.function.FunctionCtx, inputs: tuple[Any, ...], output: tuple[Any, ...]) -> None:
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
        q_BHTD, k_BGSD, v_BGSD = (heads_first(x, layout) for x in inputs)
        out = exact_in_torch(q_BHTD, k_BGSD, v_BGSD, lengths, is_causal, scale)
        gradients = torch.autograd.grad(out, inputs, heads_first(grad, layout))
    return *gradients, *[None] * 8


_sage.register_autograd(_gradients, setup_context=_save)


def exact_in_torch(
    q_BHTD: Tensor, k_BGSD: Tensor, v_BGSD: Tensor, lengths: Tensor | None, is_causal: bool, scale: float
) -> Tensor:
    """SDPA with what `sageattn` promises: padding does not matter, and a query without keys gets 0."""
    mask = None
    if lengths is not None:
        tokens, keys = q_BHTD.shape[2], k_BGSD.shape[2]
        mask = visible(tokens, keys, is_causal, lengths, q_BHTD.device)
        real_BS = torch.arange(keys, device=q_BHTD.device) < lengths[:, None]
        # A sample without keys looks at the first key, so that softmax is finite; its result is set to 0 below.
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
    return _sage_projected(
        q_BTW, k_BSW, v_BSW, heads, lengths,
        q_projection.kind, q_projection.weight, q_projection.bias, q_projection.eps, q_projection.cos, q_projection.sin,
        k_projection.kind, k_projection.weight, k_projection.bias, k_projection.eps, k_projection.cos, k_projection.sin,
    )  # fmt: skip


@torch.library.custom_op("renderformer::sage_attention_projected", mutates_args=())
def _sage_projected(
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


@_sage_projected.register_fake
def _(
    q: Tensor, k: Tensor, v: Tensor, heads: int, lengths: Tensor | None,
    q_kind: str, q_weight: Tensor | None, q_bias: Tensor | None, q_eps: float, q_cos: Tensor | None,
    q_sin: Tensor | None,
    k_kind: str, k_weight: Tensor | None, k_bias: Tensor | None, k_eps: float, k_cos: Tensor | None,
    k_sin: Tensor | None,
) -> Tensor:  # fmt: skip
    return torch.empty(q.shape, dtype=q.dtype, device=q.device)
