"""The prologue of the quantised attention: Q, K and V to 8 bits in the layout that the main loop reads.

Shape suffixes: B batch, H query heads, G key heads, T query tokens, S key tokens, D head width, W = H D or G D,
P pairs = D / 2, padded tokens are named T' and S'.
"""

from __future__ import annotations

import math
import os
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from renderformer.kernels.reference import K_GROUP, Q_GROUP, RANGES

HEAD_DIMS = (64, 96, 128)
QK_DTYPES = ("int8", "fp8")
PV_ACCUMS = ("auto", "fp32", "fp32+fp16", "fp32+fp32")
# Quantised tensors end at a multiple of this many tokens; every tile of the main loop divides it.
TILE = 128
# Sums of K and maxima of V are taken over at most so many spans of tokens; a power of two.
PARTS = 32
# What the interpreter stands for. It has no device that could say.
INTERPRETED_CAPABILITY = (8, 9)


@dataclass(frozen=True)
class Quantised:
    """What the main loop reads. Tokens beyond the real ones are zeros.

    Attributes:
        q, k: (B, H, T', D) and (B, G, S', D), int8 or float8_e4m3fn; sm_scale and log2(e) are part of Q's scale.
        v: (B, G, D, S') float8_e4m3fn, the keys of every 16 in the order of `triton_kernels.stored_order`; or float16,
            in their own order, for GPUs without E4M3.
        q_scale, k_scale: (B, H, T' / 32), (B, G, S' / 64) float32. v_scale: (B, G, D) float32.
        k_sum: (B, G, parts, D) float32, sums over the real keys (zeros if K is not smoothed).
        tokens, keys: T and S.
        lengths: (B,) int32, or None.
        pv: how P V is accumulated, a key of `reference.RANGES`.
        tile: keys of one tile of the main loop; V's range depends on it.
    """

    q: Tensor
    k: Tensor
    v: Tensor
    q_scale: Tensor
    k_scale: Tensor
    v_scale: Tensor
    k_sum: Tensor
    tokens: int
    keys: int
    lengths: Tensor | None
    pv: str
    tile: int


@dataclass(frozen=True)
class Projection:
    """How rows of a projection become those of heads; the plain entry uses none of it.

    Attributes:
        kind: "none", "rms_norm" or "layer_norm", over the whole width W.
        weight, bias: (W,) of the norm.
        eps: of the norm.
        cos, sin: (B, T, P) float32, the rotation of the pairs (i, i + D/2), as `model.encodings.TriangleRope` makes
            it for the nine coordinates of a triangle; None: no rotation.
    """

    kind: str = "none"
    weight: Tensor | None = None
    bias: Tensor | None = None
    eps: float = 1e-6
    cos: Tensor | None = None
    sin: Tensor | None = None


PLAIN = Projection()


def interpreted() -> bool:
    """Whether Triton's interpreter stands in for a GPU (decided when the kernels are first imported)."""
    return os.environ.get("TRITON_INTERPRET") == "1"


def capability(device: torch.device) -> tuple[int, int]:
    """The compute capability of a GPU, and what the interpreter is to stand for on the CPU."""
    if device.type == "cuda":
        return torch.cuda.get_device_capability(device)
    return INTERPRETED_CAPABILITY


def on_device(device: torch.device) -> AbstractContextManager[Any]:
    """Kernels are launched on the current GPU, which need not be the tensors'."""
    return torch.cuda.device(device) if device.type == "cuda" else nullcontext()


def pv_mode(pv_accum: str, device_capability: tuple[int, int]) -> str:
    """The key of `reference.RANGES` for a public `pv_accum` on a GPU.

    Raises:
        ValueError: an unknown value, or one that the GPU does not have.
    """
    if pv_accum not in PV_ACCUMS:
        raise ValueError(f"pv_accum {pv_accum!r} is unknown; use one of {', '.join(PV_ACCUMS)}")
    if device_capability < (8, 9):
        if pv_accum in ("auto", "fp32"):
            return "fp16"
        raise ValueError(f"pv_accum {pv_accum!r} needs E4M3 (compute capability 8.9 or later); use 'auto' or 'fp32'")
    if pv_accum == "auto":
        # The fp16 accumulator is twice as fast on Ada and consumer Blackwell, and no faster on Hopper and sm_100.
        return "fp32+fp16" if device_capability in ((8, 9), (12, 0), (12, 1)) else "fp32+fp32"
    return pv_accum


def quantise_heads(
    q_BHTD: Tensor,
    k_BGSD: Tensor,
    v_BGSD: Tensor,
    *,
    sm_scale: float,
    lengths: Tensor | None = None,
    smooth_k: bool = True,
    qk_dtype: str = "int8",
    pv: str = "fp32+fp16",
    tile: int = 64,
    q_projection: Projection = PLAIN,
    k_projection: Projection = PLAIN,
) -> Quantised:
    """Quantise heads that may lie anywhere in memory; `lengths` is (B,) int32 on their device."""
    batch, heads, tokens, width = q_BHTD.shape
    key_heads, keys = k_BGSD.shape[1:3]
    q_padded, k_padded = _round_up(tokens), _round_up(keys)
    device, qk_type = q_BHTD.device, torch.int8 if qk_dtype == "int8" else torch.float8_e4m3fn
    v_type = torch.float16 if pv == "fp16" else torch.float8_e4m3fn

    def buffer(*shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
        return torch.empty(shape, dtype=dtype, device=device)

    span = max(TILE, _round_up(-(-keys // PARTS)))
    parts = -(-keys // span)
    result = Quantised(
        buffer(batch, heads, q_padded, width, dtype=qk_type),
        buffer(batch, key_heads, k_padded, width, dtype=qk_type),
        buffer(batch, key_heads, width, k_padded, dtype=v_type),
        buffer(batch, heads, q_padded // Q_GROUP),
        buffer(batch, key_heads, k_padded // K_GROUP),
        buffer(batch, key_heads, width),
        buffer(batch, key_heads, parts, width),
        tokens, keys, lengths, pv, tile,
    )  # fmt: skip
    v_max = torch.empty_like(result.k_sum)
    with on_device(device):
        projected = _projected(q_BHTD, q_projection), _projected(k_BGSD, k_projection)
        _launch_prologue(result, v_max, (q_BHTD, k_BGSD, v_BGSD), projected, sm_scale, span, smooth_k)
    return result


def quantise_qkv(
    q_BTW: Tensor,
    k_BSW: Tensor,
    v_BSW: Tensor,
    heads: int,
    *,
    key_heads: int | None = None,
    q_projection: Projection = PLAIN,
    k_projection: Projection = PLAIN,
    sm_scale: float | None = None,
    kv_lengths: Tensor | None = None,
    smooth_k: bool = True,
    qk_dtype: str = "int8",
    pv_accum: str = "auto",
    tile: int = 64,
) -> Quantised:
    """Norm over the whole width, split into heads, rotation and quantisation, from the projections as they are.

    Args:
        q_BTW, k_BSW, v_BSW: float16 or bfloat16, or float32; views (chunks of one projection) need no copy.
        heads, key_heads: H and G; None is H.
        q_projection, k_projection: norm and rotation.
        sm_scale, kv_lengths, smooth_k, qk_dtype, pv_accum: as of `sage.sageattn`.
        tile: keys of one tile of the main loop, 64 or 128.

    Returns:
        What `sage.attend_quantised` reads.

    Raises:
        ValueError: a shape or value that is not supported, named.
    """
    key_heads = heads if key_heads is None else key_heads
    for name, x, count in (("q", q_BTW, heads), ("k", k_BSW, key_heads), ("v", v_BSW, key_heads)):
        if x.ndim != 3 or x.shape[-1] % count or x.shape[-1] // count not in HEAD_DIMS or x.stride(-1) != 1:
            raise ValueError(
                f"{name} of shape {tuple(x.shape)}, strides {x.stride()}, and {count} heads: expected (batch, tokens,"
                f" heads x head_dim) with head_dim one of {HEAD_DIMS} and the last dimension contiguous"
            )
    if qk_dtype not in QK_DTYPES:
        raise ValueError(f"qk_dtype {qk_dtype!r} is unknown; use one of {', '.join(QK_DTYPES)}")
    for name, projection, x in (("q_projection", q_projection, q_BTW), ("k_projection", k_projection, k_BSW)):
        _check_projection(name, projection, x, q_BTW.shape[-1] // heads)
    width = q_BTW.shape[-1] // heads
    return quantise_heads(
        split(q_BTW, heads), split(k_BSW, key_heads), split(v_BSW, key_heads),
        sm_scale=1 / math.sqrt(width) if sm_scale is None else sm_scale,
        lengths=None if kv_lengths is None else kv_lengths.to(q_BTW.device, torch.int32),
        smooth_k=smooth_k, qk_dtype=qk_dtype, pv=pv_mode(pv_accum, capability(q_BTW.device)),
        tile=tile, q_projection=q_projection, k_projection=k_projection,
    )  # fmt: skip


def split(x_BTW: Tensor, heads: int) -> Tensor:
    """(B, T, H D) -> (B, H, T, D), a view."""
    return x_BTW.unflatten(-1, (heads, -1)).transpose(1, 2)


def _round_up(tokens: int) -> int:
    return -(-tokens // TILE) * TILE


def _check_projection(name: str, projection: Projection, x_BTW: Tensor, head_dim: int) -> None:
    if projection.kind not in ("none", "rms_norm", "layer_norm"):
        raise ValueError(f"{name}.kind {projection.kind!r} is unknown; use none, rms_norm or layer_norm")
    if (projection.weight is None) != (projection.kind == "none"):
        raise ValueError(f"{name}.kind {projection.kind!r} and a weight of {projection.weight}: a norm has a weight")
    for part, vector in (("weight", projection.weight), ("bias", projection.bias)):
        if vector is not None and vector.shape != x_BTW.shape[-1:]:
            raise ValueError(f"{name}.{part} has shape {tuple(vector.shape)}, expected {tuple(x_BTW.shape[-1:])}")
    expected = (*x_BTW.shape[:2], head_dim // 2)
    for part, table in (("cos", projection.cos), ("sin", projection.sin)):
        if table is not None and (tuple(table.shape) != expected or table.dtype != torch.float32):
            raise ValueError(f"{name}.{part} is {table.dtype} {tuple(table.shape)}, expected float32 {expected}")
    if (projection.cos is None) != (projection.sin is None):
        raise ValueError(f"{name}: cos and sin go together")


def _projected(x_BHTD: Tensor, projection: Projection) -> tuple[list[Tensor], dict[str, bool]]:
    """Tensors and switches of a projection for `triton_kernels.load_rows`; the row statistics are computed here."""
    from renderformer.kernels import triton_kernels

    batch, heads, tokens, width = x_BHTD.shape
    # A kernel takes a tensor for every argument; those that a switch turns off are never read.
    unused = x_BHTD
    mean = rstd = unused
    if projection.weight is not None:
        mean = torch.empty(batch, tokens, device=x_BHTD.device)
        rstd = torch.empty_like(mean)
        full = heads * width
        padded = 1 << (full - 1).bit_length()
        block = max(1, 4096 // padded)
        triton_kernels.row_statistics[(-(-tokens // block), batch)](
            x_BHTD, mean, rstd, x_BHTD.stride(0), x_BHTD.stride(2), tokens, full, projection.eps,
            BLOCK=block, WIDTH=padded, CENTRE=projection.kind == "layer_norm",
        )  # fmt: skip
    rotated = projection.cos is not None
    tensors = [
        unused if projection.weight is None else projection.weight,
        unused if projection.bias is None else projection.bias,
        mean,
        rstd,
        unused if projection.cos is None else projection.cos.contiguous(),
        unused if projection.sin is None else projection.sin.contiguous(),
    ]
    return tensors, {"NORM": projection.weight is not None, "BIASED": projection.bias is not None, "ROPE": rotated}


def _launch_prologue(
    result: Quantised,
    v_max: Tensor,
    inputs: tuple[Tensor, Tensor, Tensor],
    projected: tuple[tuple[list[Tensor], dict[str, bool]], tuple[list[Tensor], dict[str, bool]]],
    sm_scale: float,
    span: int,
    smooth_k: bool,
) -> None:
    """Statistics of K and V, then one launch for each of Q, K and V."""
    from renderformer.kernels import triton_kernels as kernels

    q_BHTD, k_BGSD, v_BGSD = inputs
    (q_tensors, q_switches), (k_tensors, k_switches) = projected
    batch, heads, tokens, width = q_BHTD.shape
    key_heads, keys = k_BGSD.shape[1:3]
    parts, padded = result.k_sum.shape[2], result.k.shape[2]
    lengths = q_BHTD if result.lengths is None else result.lengths
    shape: dict[str, Any] = {"D": width, "WIDTH": 1 << (width - 1).bit_length()}
    has_lengths = result.lengths is not None
    kernels.channel_statistics[(parts, key_heads, batch)](
        k_BGSD, v_BGSD, result.k_sum, v_max, lengths, *k_tensors, *k_BGSD.stride(), *v_BGSD.stride(),
        key_heads, keys, span, BLOCK=64, HAS_LENGTHS=has_lengths, SMOOTH=smooth_k, **k_switches, **shape,
    )  # fmt: skip
    kernels.quantise_rows[(result.q.shape[2] // Q_GROUP, heads, batch)](
        q_BHTD, result.q, result.q_scale, result.k_sum, lengths, *q_tensors, *q_BHTD.stride(),
        heads, tokens, result.q.shape[2], parts, sm_scale * math.log2(math.e),
        GROUP=Q_GROUP, PARTS=PARTS, FP8=result.q.dtype != torch.int8, HAS_LENGTHS=False, SMOOTH=False,
        **q_switches, **shape,
    )  # fmt: skip
    kernels.quantise_rows[(padded // K_GROUP, key_heads, batch)](
        k_BGSD, result.k, result.k_scale, result.k_sum, lengths, *k_tensors, *k_BGSD.stride(),
        key_heads, keys, padded, parts, 1.0,
        GROUP=K_GROUP, PARTS=PARTS, FP8=result.k.dtype != torch.int8, HAS_LENGTHS=has_lengths, SMOOTH=smooth_k,
        **k_switches, **shape,
        # Norm and rotation of 64 rows spill with four.
        num_warps=8,
    )  # fmt: skip
    kernels.quantise_values[(padded // K_GROUP, key_heads, batch)](
        v_BGSD, result.v, result.v_scale, v_max, lengths, *v_BGSD.stride(),
        key_heads, keys, padded, parts, RANGES[result.pv, result.tile][1],
        BLOCK=K_GROUP, PARTS=PARTS, HALF=result.v.dtype == torch.float16, HAS_LENGTHS=has_lengths, **shape,
    )  # fmt: skip
