"""What the kernels are held to, in plain torch: attention in float64, and the same quantised arithmetic.

Sources: SageAttention (2410.02367), SageAttention2 (2411.10958), SageAttention2++ (2505.21136).

Shape suffixes: B batch, H query heads, G key heads, T query tokens, S key tokens, D head width, N keys of one tile.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

# Tokens that share a scale.
Q_GROUP = 32
K_GROUP = 64
# Keys that one tensor-core instruction on 8-bit operands adds up.
MMA_KEYS = 32
INT8_MAX = 127.0
E4M3_MAX = 448.0
# Largest P and V in E4M3, by how their products are accumulated and how many keys a tile has. With an fp16 inner
# accumulator max P x max V x keys stays below fp16's 65504: 224 x 4.5 x 64 and 112 x 4.5 x 128 are 64512.
RANGES = {
    ("fp32", 64): (448.0, 448.0),
    ("fp32", 128): (448.0, 448.0),
    ("fp32+fp32", 64): (448.0, 448.0),
    ("fp32+fp32", 128): (448.0, 448.0),
    ("fp32+fp16", 64): (224.0, 4.5),
    ("fp32+fp16", 128): (112.0, 4.5),
    # P and V in fp16, for GPUs without E4M3; V is scaled to 1 so that bfloat16's range fits.
    ("fp16", 64): (1.0, 1.0),
    ("fp16", 128): (1.0, 1.0),
}


def exact_attention(
    q_BHTD: Tensor,
    k_BGSD: Tensor,
    v_BGSD: Tensor,
    *,
    is_causal: bool = False,
    sm_scale: float | None = None,
    kv_lengths: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """softmax(q k^T sm_scale) v in float64.

    Args:
        q_BHTD, k_BGSD, v_BGSD: any floating dtype; H is a multiple of G, neighbouring query heads share a key head.
        is_causal: query i sees keys 0 … i (aligned at the first token, like torch).
        sm_scale: None is 1 / sqrt(D).
        kv_lengths: (B,) how many keys of a sample are real; None: all.

    Returns:
        (B, H, T, D) float64 and the natural logarithm of the sum of exponentials, (B, H, T) float64. A query that
        sees no key gets 0 and -inf.
    """
    q_BHTD, (k_BHSD, v_BHSD) = q_BHTD.double(), _spread(q_BHTD, k_BGSD.double(), v_BGSD.double())
    seen_BHTS = visible(q_BHTD.shape[2], k_BHSD.shape[2], is_causal, kv_lengths, q_BHTD.device)
    # What padding holds does not matter, even NaN.
    real_B1S1 = seen_BHTS.any(dim=2)[..., None]
    k_BHSD, v_BHSD = k_BHSD.where(real_B1S1, 0.0), v_BHSD.where(real_B1S1, 0.0)
    scale = 1 / math.sqrt(q_BHTD.shape[-1]) if sm_scale is None else sm_scale
    logits_BHTS = (q_BHTD @ k_BHSD.mT * scale).masked_fill(~seen_BHTS, -math.inf)
    lse_BHT = logits_BHTS.logsumexp(dim=-1)
    weights_BHTS = torch.exp(logits_BHTS - lse_BHT.where(lse_BHT > -math.inf, 0.0)[..., None])
    return weights_BHTS @ v_BHSD, lse_BHT


def naive_sageattn(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    tensor_layout: str = "HND",
    is_causal: bool = False,
    sm_scale: float | None = None,
    kv_lengths: Tensor | None = None,
    smooth_k: bool = True,
    qk_dtype: str = "int8",
    pv_accum: str = "fp32+fp16",
    return_lse: bool = False,
    *,
    tile: int = 64,
) -> Any:
    """`operator.sageattn` rounding by rounding, from any float type, in float32. Nothing is checked.

    Args:
        pv_accum: a key of `RANGES`. "fp32": P V in one chain over all keys; "fp32+fp32", "fp32+fp16": a chain for each
            tile, with an inner accumulator of that type, promoted to fp32; "fp16": fp16 operands and one fp32 chain
            (sm_80).
        tile: keys of one tile, 64 or 128.
        The others: as of `operator.sageattn`.

    Returns:
        As `operator.sageattn`: the result, with `return_lse` a tuple of it and the LSE.

    The tensor core's fp32 accumulator of 8-bit floating-point products keeps 13 bits of mantissa (2411.10958,
    section 3.2), and is emulated so.
    """
    q_BHTD, k_BGSD, v_BGSD = (heads_first(x.float(), tensor_layout) for x in (q, k, v))
    k_BHSD, v_BHSD = _spread(q_BHTD, k_BGSD, v_BGSD)
    tokens, keys = q_BHTD.shape[2], k_BHSD.shape[2]
    lengths_B = torch.full((q_BHTD.shape[0],), keys) if kv_lengths is None else kv_lengths.to(q_BHTD.device)
    real_B1S1 = (torch.arange(keys, device=q_BHTD.device) < lengths_B.to(q_BHTD.device)[:, None])[:, None, :, None]
    k_BHSD, v_BHSD = k_BHSD.where(real_B1S1, 0.0), v_BHSD.where(real_B1S1, 0.0)
    mean_BH1D = k_BHSD.sum(2, keepdim=True) / real_B1S1.sum(2, keepdim=True).clamp(min=1)
    mean_BH1D = mean_BH1D if smooth_k else torch.zeros_like(mean_BH1D)
    scale = 1 / math.sqrt(q_BHTD.shape[-1]) if sm_scale is None else sm_scale
    q8_BHTD, q_scale_BHT1 = quantise_rows(q_BHTD * (scale * math.log2(math.e)), Q_GROUP, qk_dtype)
    k8_BHSD, k_scale_BHS1 = quantise_rows((k_BHSD - mean_BH1D).where(real_B1S1, 0.0), K_GROUP, qk_dtype)
    p_max, v_max = RANGES[pv_accum, tile]
    v_scale_BH1D = v_BHSD.abs().amax(2, keepdim=True) / v_max
    v_scale_BH1D = v_scale_BH1D.where(v_scale_BH1D > 0, 1.0)
    v8_BHSD = narrow(v_BHSD / v_scale_BH1D, pv_accum)
    seen_BHTS = visible(tokens, keys, is_causal, lengths_B, q_BHTD.device)

    top_BHT1 = torch.full_like(q_scale_BHT1, -math.inf)
    total_BHT1, acc_BHTD = torch.zeros_like(top_BHT1), torch.zeros_like(q_BHTD)
    for start in range(0, keys, tile):
        part = slice(start, start + tile)
        s_BHTN = (q8_BHTD @ k8_BHSD[:, :, part].mT) * q_scale_BHT1 * k_scale_BHS1[:, :, part].mT
        s_BHTN = s_BHTN.masked_fill(~seen_BHTS[..., part], -math.inf)
        new_BHT1 = torch.maximum(top_BHT1, s_BHTN.amax(-1, keepdim=True))
        finite_BHT1 = new_BHT1.where(new_BHT1 != -math.inf, 0.0)
        alpha_BHT1 = torch.exp2(top_BHT1 - finite_BHT1)
        p_BHTN = torch.exp2(s_BHTN - finite_BHT1) * p_max
        total_BHT1 = total_BHT1 * alpha_BHT1 + p_BHTN.sum(-1, keepdim=True)
        acc_BHTD = accumulate(acc_BHTD * alpha_BHT1, narrow(p_BHTN, pv_accum), v8_BHSD[:, :, part], pv_accum)
        top_BHT1 = new_BHT1
    out_BHTD = torch.where(total_BHT1 != 0, acc_BHTD / total_BHT1, 0.0) * v_scale_BH1D
    out = heads_first(out_BHTD, tensor_layout)
    if not return_lse:
        return out
    shift_BHT1 = (q_BHTD * mean_BH1D).sum(-1, keepdim=True) * scale
    lse_BHT1 = (top_BHT1 + torch.log2(total_BHT1 / p_max)) * math.log(2) + shift_BHT1
    return out, lse_BHT1.squeeze(-1)


def heads_first(x: Tensor, layout: str) -> Tensor:
    """(B, H, T, D) from layout "HND" or "NHD", or back; a view."""
    return x if layout == "HND" else x.transpose(1, 2)


def visible(
    tokens: int, keys: int, is_causal: bool, lengths_B: Tensor | None, device: torch.device | str = "cpu"
) -> Tensor:
    """Which keys a query may see, bool, broadcastable to (B, H, T, S) with T and S in full."""
    seen_BHTS = torch.ones(1, 1, tokens, keys, dtype=torch.bool, device=device)
    if is_causal:
        seen_BHTS = seen_BHTS.tril()
    if lengths_B is not None:
        seen_BHTS = seen_BHTS & (torch.arange(keys, device=device) < lengths_B.to(device)[:, None, None, None])
    return seen_BHTS


def quantise_rows(x_BHTD: Tensor, group: int, kind: str) -> tuple[Tensor, Tensor]:
    """Values as the 8-bit type holds them (in float32), and the scale of each row, (B, H, T, 1), one per group."""
    tokens = x_BHTD.shape[2]
    padded = torch.nn.functional.pad(x_BHTD, (0, 0, 0, -tokens % group)).unflatten(2, (-1, group))
    scale = padded.abs().amax((-1, -2), keepdim=True) / (INT8_MAX if kind == "int8" else E4M3_MAX)
    scale = scale.where(scale > 0, 1.0)
    values = torch.round(padded / scale) if kind == "int8" else to_e4m3(padded / scale)
    return values.flatten(2, 3)[:, :, :tokens], scale.expand_as(padded).flatten(2, 3)[:, :, :tokens, :1]


def to_e4m3(x: Tensor) -> Tensor:
    """Round to E4M3, saturating as the GPU's conversion does, in float32."""
    return x.clamp(-E4M3_MAX, E4M3_MAX).to(torch.float8_e4m3fn).float()


def narrow(x: Tensor, pv_accum: str) -> Tensor:
    """P or V as the tensor core gets them, in float32."""
    return x.half().float() if pv_accum == "fp16" else to_e4m3(x)


def accumulate(acc_BHTD: Tensor, p_BHTN: Tensor, v_BHND: Tensor, pv_accum: str) -> Tensor:
    """acc + p v with the inner accumulator's rounding after every MMA_KEYS keys."""
    if pv_accum == "fp16":
        return acc_BHTD + p_BHTN @ v_BHND
    chain = acc_BHTD if pv_accum == "fp32" else torch.zeros_like(acc_BHTD)
    for start in range(0, p_BHTN.shape[-1], MMA_KEYS):
        part = slice(start, start + MMA_KEYS)
        chain = chain + p_BHTN[..., part] @ v_BHND[:, :, part]
        chain = chain.half().float() if pv_accum == "fp32+fp16" else drop_mantissa(chain)
    return chain if pv_accum == "fp32" else acc_BHTD + chain


def drop_mantissa(x: Tensor) -> Tensor:
    """float32 with 13 bits of mantissa, the rest cut off."""
    return (x.contiguous().view(torch.int32) & ~0x3FF).view(torch.float32)


def _spread(q_BHTD: Tensor, *kv_BGSD: Tensor) -> tuple[Tensor, ...]:
    """Keys and values with as many heads as the queries have."""
    return tuple(x.repeat_interleave(q_BHTD.shape[1] // x.shape[1], dim=1) for x in kv_BGSD)
