"""The prologue: Q, K and V to 8 bits in the layout that the main loop reads. `prologue.py` holds its Triton kernels.

Shape suffixes: B batch, H query heads, G key heads, T query tokens, S key tokens, D head width, W = H D or G D,
P pairs = D / 2, padded tokens are named T' and S'.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from renderformer.kernels.sage.device import HEAD_DIMS, QK_DTYPES, capability, on_device, pv_mode
from renderformer.kernels.sage.naive import K_GROUP, Q_GROUP, RANGES

# Quantised tensors end at a multiple of this many tokens; every tile of the main loop divides it.
TILE = 128
# Sums of K and maxima of V are taken over at most so many spans of tokens, a power of two: more of them keep more
# processors busy and cost every block of K and V more reading. Not measured yet.
PARTS = 64
# A span is a multiple of this many tokens, and no shorter than four of them.
SPAN = 16
# Channels of all heads, or of a chunk of them, that one program of the statistics has side by side.
CHUNK = 1024
# Pairs of channels, over tokens and heads, that one step of the statistics takes: 4096 spill on sm_120.
PAIRS_AT_ONCE = 2048


@dataclass(frozen=True)
class Quantised:
    """What the main loop reads. Tokens beyond the real ones are zeros.

    Attributes:
        q, k: (B, H, T', D) and (B, G, S', D), int8 or float8_e4m3fn; sm_scale and log2(e) are part of Q's scale.
        v: (B, G, D, S') float8_e4m3fn, the keys of every 16 in the order of `prologue.stored_order`; or float16,
            in their own order, for GPUs without E4M3.
        q_scale, k_scale: (B, H, T' / 32), (B, G, S' / 64) float32. v_scale: (B, G, D) float32.
        k_sum: (B, G, parts, D) float32, sums over the real keys (zeros if K is not smoothed).
        tokens, keys: T and S.
        lengths: (B,) int32, or None.
        pv: how P V is accumulated, a key of `naive.RANGES`.
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

    parts = -(-keys // _span(keys))
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
    with on_device(device):
        _launch_prologue(
            result, (q_BHTD, k_BGSD, v_BGSD), (q_projection, k_projection), sm_scale * math.log2(math.e), smooth_k
        )
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
        sm_scale, kv_lengths, smooth_k, qk_dtype, pv_accum: as of `operator.sageattn`.
        tile: keys of one tile of the main loop, 64 or 128.

    Returns:
        What `launch.attend_quantised` reads.

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


def _round_up(tokens: int, multiple: int = TILE) -> int:
    return -(-tokens // multiple) * multiple


def _span(tokens: int) -> int:
    """Tokens of one of at most PARTS spans."""
    return max(4 * SPAN, _round_up(-(-tokens // PARTS), SPAN))


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


def _launch_prologue(
    result: Quantised,
    inputs: tuple[Tensor, Tensor, Tensor],
    projections: tuple[Projection, Projection],
    factor: float,
    smooth_k: bool,
) -> None:
    """Two launches: statistics that take all keys or a whole row to know, then Q, K and V in 8 bits.

    K and V are read twice, since no key can be written before the mean of all of them is known; Q as well where it
    has a norm. The second reading finds in the L2 cache what fits there.
    """
    from renderformer.kernels.sage import prologue as kernels

    q_BHTD, k_BGSD, v_BGSD = inputs
    batch, heads, tokens, width = q_BHTD.shape
    key_heads, keys = k_BGSD.shape[1:3]
    normed, k_normed = (projection.weight is not None for projection in projections)
    # A kernel takes a tensor for every argument; those that a switch turns off are never read.
    unused = q_BHTD
    lengths = unused if result.lengths is None else result.lengths
    q_rows = torch.empty((2, batch, tokens), device=q_BHTD.device) if normed else unused
    k_rows = torch.empty((2, batch, keys), device=q_BHTD.device) if k_normed else unused
    v_max = torch.empty_like(result.k_sum)
    q_tensors, k_tensors = (
        [unused if x is None else x.contiguous() for x in (p.weight, p.bias, p.cos, p.sin)] for p in projections
    )
    q_switches, k_switches = (
        {"NORM": p.weight is not None, "BIASED": p.bias is not None, "ROPE": p.cos is not None} for p in projections
    )
    strides = (*q_BHTD.stride(), *k_BGSD.stride(), *v_BGSD.stride())
    parts = result.k_sum.shape[2]
    switches = {"HAS_LENGTHS": result.lengths is not None, "SMOOTH": smooth_k, **k_switches}

    # Moments take whole rows, the rest any heads.
    chunk = min(key_heads, max(1, CHUNK // width))
    at_once = {"Q": heads, "K": key_heads if k_normed else chunk, "V": chunk}
    pairs = {name: _power_of_two(count * width // 2) for name, count in at_once.items()}
    k_jobs, v_jobs = (-(-key_heads // at_once[name]) for name in "KV")
    spans = max(parts, -(-tokens // _span(tokens))) if normed else parts
    kernels.statistics[(spans, k_jobs + v_jobs + normed, batch)](
        q_BHTD, k_BGSD, v_BGSD, q_rows, k_rows, result.k_sum, v_max, lengths, *k_tensors, *strides,
        heads, key_heads, tokens, keys, _span(tokens), _span(keys), parts, k_jobs, v_jobs,
        projections[0].eps, projections[1].eps, D=width,
        **{f"{name}_HEADS": count for name, count in at_once.items()},
        **{f"{name}_PAIRS": count for name, count in pairs.items()},
        **{f"{name}_BLOCK": max(1, PAIRS_AT_ONCE // count) for name, count in pairs.items()},
        Q_NORM=normed, Q_CENTRE=projections[0].kind == "layer_norm", CENTRE=projections[1].kind == "layer_norm",
        **switches, num_warps=8,
    )  # fmt: skip
    blocks = max(result.q.shape[2], result.k.shape[2]) // K_GROUP
    kernels.quantise[(blocks, 2 * key_heads + heads, batch)](
        q_BHTD, k_BGSD, v_BGSD, result.q, result.k, result.v, result.q_scale, result.k_scale, result.v_scale,
        q_rows, k_rows, result.k_sum, v_max, lengths, *q_tensors, *k_tensors, *strides,
        heads, key_heads, tokens, keys, result.q.shape[2], result.k.shape[2], parts, factor,
        RANGES[result.pv, result.tile][1],
        D=width, WIDTH=_power_of_two(width), BLOCK=K_GROUP, Q_GROUP=Q_GROUP, K_GROUP=K_GROUP, PARTS=PARTS,
        FP8=result.q.dtype != torch.int8, HALF=result.v.dtype == torch.float16,
        **{f"Q_{name}": on for name, on in q_switches.items()}, **switches, num_warps=8,
        # Left alone, the assembler that goes with Triton 3.6 spills rather than take more than 80 (sm_80).
        maxnreg=128,
    )  # fmt: skip


def _power_of_two(count: int) -> int:
    """The next one."""
    return 1 << (count - 1).bit_length()
