# mypy: disable-error-code="no-untyped-def"
"""Experiment: the main loop of the quantised attention for Hopper (sm_90) in Gluon. It has never run on a GPU.

No part of the package imports this and the wheel does not hold it. benchmarks/hopper.py checks and times it. It reads
what the prologue writes and computes what `sage.main_loop.attend` computes, for int8 and E4M3 scores, head_dim 64 and
128, lengths, split keys and LSE; not for causal attention. The softmax of a tile runs while products are in flight:

A block has one warp that loads by TMA and two warpgroups of 64 queries each. In every round a warpgroup starts two
products, weights x values of the tile before and scores of the tile after, computes the weights of its tile meanwhile,
and then waits for both: a product that is in flight from one round to the next makes ptxas wait for every single one.
The tile with the ragged tail comes first, and is the only one with a mask.

Barriers: `full` rings say that a buffer of K or V has arrived, `empty` rings that both warpgroups are done with it; use
i of a ring is slot i % STAGES in its phase i // STAGES.

Left to do: P goes through about 90 byte shuffles (PRMT, LOP3) a tile, because Triton carries it from round to round as
bytes; carrying it in fp32 removes them but spills at head_dim 128. Rows are summed across threads in every tile. Blocks
are not persistent.
"""

from __future__ import annotations

import math
from importlib.metadata import version
from typing import Any

import torch
from torch import Tensor
from triton.experimental import gluon
from triton.experimental.gluon import language as gl
from triton.experimental.gluon.language.nvidia.hopper import (
    mbarrier,
    tma,
    warpgroup_mma,
    warpgroup_mma_wait,
)
from triton.experimental.gluon.nvidia.hopper import TensorDescriptor

from renderformer.kernels.sage.device import capability
from renderformer.kernels.sage.launch import Tiles, arguments, choose_splits, grid, in_splits
from renderformer.kernels.sage.naive import Q_GROUP, RANGES
from renderformer.kernels.sage.quantise import Quantised

# Two warpgroups of 64 queries; "stages" are the slots of the rings of K and V. Not measured.
TILES = Tiles(128, 64, 8, 4)
# With 3.6 one of the two warpgroups waits before the exponentials (head_dim 128, E4M3 scores).
TRITON = (3, 7)


def attend_hopper(
    quantised: Quantised,
    out_BHTD: Tensor,
    *,
    with_lse: bool = False,
    tiles: Tiles = TILES,
    splits: int | None = None,
) -> Tensor:
    """`sage.launch.attend_quantised` by this main loop.

    Raises:
        ValueError: why it cannot run this.
    """
    reason = refusal(quantised, out_BHTD.device)
    if reason:
        raise ValueError(f"the Hopper main loop cannot run this: {reason}")
    if splits is None:
        splits = choose_splits(quantised, tiles, out_BHTD.shape[0] * out_BHTD.shape[1], out_BHTD.device)

    def launch(out_sBHTD: Tensor, lse_sBHT: Tensor, lse_needed: bool) -> None:
        # Four warps of a warpgroup; the kernel itself adds those of the other and of the loads.
        attend[grid(out_sBHTD, tiles)](
            *descriptors(quantised, tiles.keys), *arguments(quantised, out_sBHTD, lse_sBHT),
            **constants(out_sBHTD.shape[-1], tiles),
            HAS_LENGTHS=quantised.lengths is not None, WITH_LSE=lse_needed, num_warps=4,
        )  # fmt: skip

    return in_splits(out_BHTD, splits, with_lse, launch)


def refusal(quantised: Quantised, device: torch.device) -> str:
    """Why this main loop cannot run; "" where it can."""
    width = quantised.q.shape[-1]
    if device.type != "cuda" or capability(device) != (9, 0):
        return f"device {str(device)!r} is not a Hopper GPU (compute capability 9.0)"
    if tuple(int(part) for part in version("triton").split(".")[:2]) < TRITON:
        return f"it needs Triton {'.'.join(map(str, TRITON))} or later, here is {version('triton')}"
    if width not in (64, 128):
        return f"head_dim {width} is not 64 or 128"
    if quantised.pv != "fp32+fp32":
        return f"P V is accumulated in {quantised.pv!r}, not in 'fp32+fp32'"
    if quantised.tile != TILES.keys:
        return f"V was quantised for tiles of {quantised.tile} keys, not of {TILES.keys}"
    return ""


def constants(width: int, tiles: Tiles) -> dict[str, int | float]:
    """The compile-time constants that follow from the arithmetic."""
    return {
        "D": width,
        "BM": tiles.queries,
        "BN": tiles.keys,
        "STAGES": tiles.stages,
        "Q_GROUP": Q_GROUP,
        "P_LOG2": math.log2(RANGES["fp32+fp32", tiles.keys][0]),
    }


def descriptors(quantised: Quantised, tile: int) -> list[Any]:
    """Q, K and V as `attend` takes them: matrices whose rows are tokens (channels of V), in boxes of one load."""
    width = quantised.q.shape[-1]
    matrices = quantised.q.flatten(0, 2), quantised.k.flatten(0, 2), quantised.v.flatten(0, 2)
    boxes = [64, width], [tile, width], [width, tile]
    layouts = [gl.NVMMASharedLayout.get_default_for(box, gl.int8) for box in boxes]
    return [TensorDescriptor.from_tensor(*each) for each in zip(matrices, boxes, layouts, strict=True)]


@gluon.jit
def tile_of(use, low, last):
    """The tile of a use of the rings: the last first, then from the front."""
    return gl.where(use == 0, last, low + use - 1)


@gluon.jit
def load_tiles(
    q_desc, k_desc, v_desc, q_tile, k_ring, v_ring, q_full, k_full, k_empty, v_full, v_empty,
    q_row, k_row, v_row, low, last, uses, BN: gl.constexpr, STAGES: gl.constexpr,
):  # fmt: skip
    """The loading warp."""
    mbarrier.expect(q_full, 2 * q_desc.block_type.nbytes)
    for half in gl.static_range(2):
        tma.async_copy_global_to_shared(q_desc, [q_row + 64 * half, 0], q_full, q_tile.index(half))
    for use in range(uses):
        slot = use % STAGES
        # The other phase: the first round of a ring waits for nobody.
        free = use // STAGES % 2 ^ 1
        start = tile_of(use, low, last) * BN
        mbarrier.wait(k_empty.index(slot), free)
        mbarrier.expect(k_full.index(slot), k_desc.block_type.nbytes)
        tma.async_copy_global_to_shared(k_desc, [k_row + start, 0], k_full.index(slot), k_ring.index(slot))
        mbarrier.wait(v_empty.index(slot), free)
        mbarrier.expect(v_full.index(slot), v_desc.block_type.nbytes)
        tma.async_copy_global_to_shared(v_desc, [v_row, start], v_full.index(slot), v_ring.index(slot))


@gluon.jit
def start_scores(q, k_ring, k_full, use, zero, STAGES: gl.constexpr):
    """Q K of a use, in flight."""
    slot = use % STAGES
    mbarrier.wait(k_full.index(slot), use // STAGES % 2)
    return warpgroup_mma(q, k_ring.index(slot).permute((1, 0)), zero, use_acc=False, is_async=True)


@gluon.jit
def start_values(p, v_ring, v_full, use, zero, STAGES: gl.constexpr):
    """P V of a use, in flight: a chain of its own, which the caller adds to the fp32 sums."""
    slot = use % STAGES
    mbarrier.wait(v_full.index(slot), use // STAGES % 2)
    return warpgroup_mma(p, v_ring.index(slot).permute((1, 0)), zero, use_acc=False, is_async=True)


@gluon.jit
def operand(p, layout: gl.constexpr):
    """P in E4M3 as the tensor core reads it. In V's order of keys (`stored_order`) no data moves between threads."""
    BN: gl.constexpr = p.shape[1]
    p8 = p.to(gl.float8e4nv).reshape([p.shape[0], BN // 16, 2, 4, 2]).permute((0, 1, 3, 2, 4))
    return gl.convert_layout(p8.reshape([p.shape[0], BN]), layout, assert_trivial=True)


@gluon.jit
def attend_rows(
    q_tile, k_ring, v_ring, q_full, k_full, k_empty, v_full, v_empty,
    Q_SCALE, K_SCALE, V_SCALE, OUT, LSE, o_t, o_d, row, tokens, low, last, uses, limit, spoilt,
    HALF: gl.constexpr, D: gl.constexpr, BN: gl.constexpr, STAGES: gl.constexpr, Q_GROUP: gl.constexpr,
    P_LOG2: gl.constexpr, WITH_LSE: gl.constexpr,
):  # fmt: skip
    """A warpgroup: 64 queries over all tiles. Pointers and `row` are at the first query of the block."""
    score_layout: gl.constexpr = gl.NVMMADistributedLayout([3, 0], [4, 1], [16, BN, 32])
    out_layout: gl.constexpr = gl.NVMMADistributedLayout([3, 0], [4, 1], [16, D, 32])
    p_layout: gl.constexpr = gl.DotOperandLayout(0, out_layout, 4)
    by_row: gl.constexpr = gl.SliceLayout(1, score_layout)
    score_type: gl.constexpr = gl.int32 if q_tile.dtype == gl.int8 else gl.float32
    rows = 64 * HALF + gl.arange(0, 64, layout=by_row)
    no_scores = gl.zeros([64, BN], score_type, score_layout)
    no_values = gl.zeros([64, D], gl.float32, out_layout)

    q_scale = gl.load(Q_SCALE + rows // Q_GROUP)
    k_scale = gl.load(K_SCALE + last)
    mbarrier.wait(q_full, 0)
    q = q_tile.index(HALF)
    scores = start_scores(q, k_ring, k_full, 0, no_scores, STAGES)
    s = warpgroup_mma_wait(0, deps=[scores])
    mbarrier.arrive(k_empty.index(0), count=1)
    # Where there is no next tile the scores of the last are computed again and not used: products under a branch would
    # be waited for one by one.
    following = gl.minimum(1, uses - 1)
    scores = start_scores(q, k_ring, k_full, following, no_scores, STAGES)

    keys = last * BN + gl.arange(0, BN, layout=gl.SliceLayout(0, score_layout))
    # A NaN stays one: it must show.
    s = gl.where((keys < limit)[None, :], s.to(gl.float32) * (q_scale * k_scale)[:, None], float("-inf"))
    k_scale = gl.load(K_SCALE + tile_of(following, low, last))
    top = gl.max(s, axis=1)
    # A row that sees no key: exp2(-inf - 0) is 0, where exp2(-inf + inf) would be NaN.
    p = gl.exp2(s - (gl.where(top == float("-inf"), 0.0, top) - P_LOG2)[:, None])
    total = gl.sum(p, axis=1)
    p8 = operand(p, p_layout)
    alpha = gl.zeros([64], gl.float32, by_row)
    acc = no_values
    s = warpgroup_mma_wait(0, deps=[scores])
    mbarrier.arrive(k_empty.index(following % STAGES), count=1)
    for use in range(1, uses):
        # Both products begin here and end below, with the weights of this tile between them.
        values = start_values(p8, v_ring, v_full, use - 1, no_values, STAGES)
        following = gl.minimum(use + 1, uses - 1)
        scores = start_scores(q, k_ring, k_full, following, no_scores, STAGES)
        scale = q_scale * k_scale
        k_scale = gl.load(K_SCALE + tile_of(following, low, last))
        s = s.to(gl.float32)
        new = gl.maximum(top, gl.max(s, axis=1) * scale)
        next_alpha = gl.exp2(top - new)
        p = gl.exp2(s * scale[:, None] - (new - P_LOG2)[:, None])
        top = new
        total = total * next_alpha + gl.sum(p, axis=1)
        p8 = operand(p, p_layout)
        chain, s = warpgroup_mma_wait(0, deps=[values, scores])
        mbarrier.arrive(v_empty.index((use - 1) % STAGES), count=1)
        mbarrier.arrive(k_empty.index(following % STAGES), count=1)
        acc = acc * gl.convert_layout(alpha, gl.SliceLayout(1, out_layout))[:, None] + chain
        alpha = next_alpha
    values = start_values(p8, v_ring, v_full, uses - 1, no_values, STAGES)
    chain = warpgroup_mma_wait(0, deps=[values])
    acc = acc * gl.convert_layout(alpha, gl.SliceLayout(1, out_layout))[:, None] + chain

    # Padded queries are not stored. A row without keys is 0; a total of NaN stays.
    inverse = gl.where(total == 0.0, 0.0, 1.0 / total) + spoilt
    channels = gl.arange(0, D, layout=gl.SliceLayout(0, out_layout))
    acc = acc * gl.convert_layout(inverse, gl.SliceLayout(1, out_layout))[:, None]
    acc = acc * gl.load(V_SCALE + channels)[None, :]
    # Neighbouring threads store neighbouring channels.
    stored: gl.constexpr = gl.BlockedLayout([1, 8], [32 * 8 // D, D // 8], [4, 1], [1, 0])
    out = gl.convert_layout(acc.to(OUT.dtype.element_ty), stored)
    out_rows = 64 * HALF + gl.arange(0, 64, layout=gl.SliceLayout(1, stored))
    channels = gl.arange(0, D, layout=gl.SliceLayout(0, stored))
    at = OUT + out_rows.to(gl.int64)[:, None] * o_t + channels[None, :] * o_d
    gl.store(at, out, mask=(row + out_rows < tokens)[:, None])
    if WITH_LSE:
        gl.store(LSE + rows, top + gl.log2(total) - P_LOG2, mask=row + rows < tokens)


@gluon.jit
def attend(
    q_desc, k_desc, v_desc, Q_SCALE, K_SCALE, V_SCALE, OUT, LSE, LENGTHS,
    o_s, o_b, o_h, o_t, o_d, heads, key_heads, tokens, keys, q_padded, k_padded, splits,
    D: gl.constexpr, BM: gl.constexpr, BN: gl.constexpr, STAGES: gl.constexpr, Q_GROUP: gl.constexpr,
    P_LOG2: gl.constexpr, HAS_LENGTHS: gl.constexpr, WITH_LSE: gl.constexpr,
):  # fmt: skip
    """A block of 128 queries of one head over its split of the keys; OUT and LSE as of `sage.main_loop.attend`.

    q_desc, k_desc, v_desc: TMA descriptors of Q (B H T', D) in boxes of (64, D), K (B G S', D) of (BN, D), V
    (B G D, S') of (D, BN).
    """
    block, split = gl.program_id(0) // splits, gl.program_id(0) % splits
    head, batch = gl.program_id(1), gl.program_id(2)
    q_line = batch * heads + head
    k_line = batch * key_heads + head // (heads // key_heads)
    count = keys
    spoilt = 0.0
    if HAS_LENGTHS:
        # A length that is not one must show: checking it on the host would wait for the GPU.
        length = gl.load(LENGTHS + batch).to(gl.int32)
        spoilt = gl.where((length < 0) | (length > keys), float("nan"), 0.0)
        count = gl.minimum(gl.maximum(length, 0), keys)
    span = gl.cdiv(gl.cdiv(keys, BN), splits)
    low = split * span
    # A split without keys goes through one tile with everything masked.
    tiles = gl.minimum(low + span, gl.cdiv(count, BN)) - low
    uses = gl.maximum(tiles, 1)
    limit = gl.where(tiles > 0, count, 0)
    last = gl.minimum(low + uses, k_padded // BN) - 1

    q_tile = gl.allocate_shared_memory(q_desc.dtype, [2, 64, D], q_desc.layout)
    k_ring = gl.allocate_shared_memory(k_desc.dtype, [STAGES, BN, D], k_desc.layout)
    v_ring = gl.allocate_shared_memory(v_desc.dtype, [STAGES, D, BN], v_desc.layout)
    q_full = gl.allocate_shared_memory(gl.int64, [1], mbarrier.MBarrierLayout())
    k_full = gl.allocate_shared_memory(gl.int64, [STAGES, 1], mbarrier.MBarrierLayout())
    k_empty = gl.allocate_shared_memory(gl.int64, [STAGES, 1], mbarrier.MBarrierLayout())
    v_full = gl.allocate_shared_memory(gl.int64, [STAGES, 1], mbarrier.MBarrierLayout())
    v_empty = gl.allocate_shared_memory(gl.int64, [STAGES, 1], mbarrier.MBarrierLayout())
    mbarrier.init(q_full, count=1)
    for slot in gl.static_range(STAGES):
        mbarrier.init(k_full.index(slot), count=1)
        mbarrier.init(v_full.index(slot), count=1)
        # Both warpgroups.
        mbarrier.init(k_empty.index(slot), count=2)
        mbarrier.init(v_empty.index(slot), count=2)

    row = block * BM
    Q_SCALE += q_line.to(gl.int64) * (q_padded // Q_GROUP) + row // Q_GROUP
    K_SCALE += k_line.to(gl.int64) * (k_padded // BN)
    V_SCALE += k_line.to(gl.int64) * D
    OUT += split.to(gl.int64) * o_s + batch.to(gl.int64) * o_b + head.to(gl.int64) * o_h + row.to(gl.int64) * o_t
    LSE += ((split * gl.num_programs(2) + batch).to(gl.int64) * heads + head) * tokens + row
    gl.warp_specialize(
        [
            (
                attend_rows,
                (
                    q_tile, k_ring, v_ring, q_full, k_full, k_empty, v_full, v_empty,
                    Q_SCALE, K_SCALE, V_SCALE, OUT, LSE, o_t, o_d, row, tokens, low, last, uses, limit, spoilt,
                    0, D, BN, STAGES, Q_GROUP, P_LOG2, WITH_LSE,
                ),
            ),
            (
                attend_rows,
                (
                    q_tile, k_ring, v_ring, q_full, k_full, k_empty, v_full, v_empty,
                    Q_SCALE, K_SCALE, V_SCALE, OUT, LSE, o_t, o_d, row, tokens, low, last, uses, limit, spoilt,
                    1, D, BN, STAGES, Q_GROUP, P_LOG2, WITH_LSE,
                ),
            ),
            (
                load_tiles,
                (
                    q_desc, k_desc, v_desc, q_tile, k_ring, v_ring, q_full, k_full, k_empty, v_full, v_empty,
                    q_line * q_padded + row, k_line * k_padded, k_line * D, low, last, uses, BN, STAGES,
                ),
            ),
        ],
        [4, 1],
        [240, 24],
    )  # fmt: skip
