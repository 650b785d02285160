# mypy: disable-error-code="no-untyped-def"
"""Triton kernels of the main loop: 8-bit products, online softmax, and the join of split keys.

`launch.py` launches them. Imports triton at the top, so import it inside functions only. Layouts: see `prologue.py`.
"""

from __future__ import annotations

import triton
import triton.language as tl

from renderformer.kernels.sage.prologue import real_tokens


@triton.jit
def add_values(acc, p, v, PV: tl.constexpr, IMPRECISE: tl.constexpr):
    """acc + p v as PV says: fp32, fp32+fp16, fp32+fp32 or fp16 (see `naive.RANGES`)."""
    if PV == "fp32" or PV == "fp16":
        acc = tl.dot(p, v, acc)
    elif PV == "fp32+fp16":
        acc += tl.dot(p, v, out_dtype=tl.float16).to(tl.float32)
    else:
        # A nonzero limit keeps the compiler from folding the sum into one chain (sm_89, sm_120).
        acc += tl.dot(p, v, max_num_imprecise_acc=IMPRECISE)
    return acc


@triton.jit
def attend_tile(
    top, total, acc_a, acc_b, q_a, q_b, q_scale, K, V, K_SCALE, start, rows, count, padded,
    D: tl.constexpr, DA: tl.constexpr, DB: tl.constexpr, BN: tl.constexpr, K_GROUP: tl.constexpr,
    P_LOG2: tl.constexpr, PV: tl.constexpr, IMPRECISE: tl.constexpr, FP8: tl.constexpr, CAUSAL: tl.constexpr,
    MASKED: tl.constexpr,
):  # fmt: skip
    """One tile of keys: scores, online softmax in base 2, P V. Heads of 96 go as 64 + 32 (DA and DB)."""
    keys = start + tl.arange(0, BN)
    k_a = tl.load(K + keys[None, :] * D + tl.arange(0, DA)[:, None])
    s = tl.dot(q_a, k_a) if FP8 else tl.dot(q_a, k_a, out_dtype=tl.int32)
    if DB > 0:
        k_b = tl.load(K + keys[None, :] * D + (DA + tl.arange(0, DB))[:, None])
        s = tl.dot(q_b, k_b, s) if FP8 else tl.dot(q_b, k_b, s, out_dtype=tl.int32)
    if BN == K_GROUP:
        s = s.to(tl.float32) * (q_scale * tl.load(K_SCALE + start // K_GROUP))[:, None]
    else:
        s = s.to(tl.float32) * q_scale[:, None] * tl.load(K_SCALE + keys // K_GROUP)[None, :]
    if MASKED:
        seen = (keys < count)[None, :]
        if CAUSAL:
            seen = seen & (keys[None, :] <= rows[:, None])
        # A NaN stays one: it must show.
        s = tl.where(seen, s, float("-inf"))
    new = tl.maximum(top, tl.max(s, axis=1))
    floor = new
    if MASKED:
        # A row that has seen no key yet: exp2(-inf - 0) is 0, where exp2(-inf + inf) would be NaN.
        floor = tl.where(new == float("-inf"), 0.0, new)
    alpha = tl.exp2(top - floor)
    p = tl.exp2(s - (floor - P_LOG2)[:, None])
    total = total * alpha + tl.sum(p, axis=1)
    if PV == "fp16":
        p8 = p.to(tl.float16)
    else:
        # A thread of the tensor core has keys (2t, 2t + 1, 8 + 2t, 9 + 2t) of every 16 as a result, and four neighbours
        # as an operand; in V's order (see prologue.stored_order) these are the same, and no data moves between threads.
        p8 = tl.reshape(p.to(tl.float8e4nv), [p.shape[0], BN // 16, 2, 4, 2])
        p8 = tl.reshape(tl.permute(p8, [0, 1, 3, 2, 4]), [p.shape[0], BN])
    v_a = tl.load(V + tl.arange(0, DA)[None, :] * padded + keys[:, None])
    acc_a = add_values(acc_a * alpha[:, None], p8, v_a, PV, IMPRECISE)
    if DB > 0:
        v_b = tl.load(V + (DA + tl.arange(0, DB))[None, :] * padded + keys[:, None])
        acc_b = add_values(acc_b * alpha[:, None], p8, v_b, PV, IMPRECISE)
    return new, total, acc_a, acc_b


@triton.jit
def attend(
    Q, K, V, Q_SCALE, K_SCALE, V_SCALE, OUT, LSE, LENGTHS,
    o_s, o_b, o_h, o_t, o_d, heads, key_heads, tokens, keys, q_padded, k_padded, splits,
    D: tl.constexpr, DA: tl.constexpr, DB: tl.constexpr, BM: tl.constexpr, BN: tl.constexpr,
    Q_GROUP: tl.constexpr, K_GROUP: tl.constexpr, P_LOG2: tl.constexpr, PV: tl.constexpr, IMPRECISE: tl.constexpr,
    FP8: tl.constexpr, CAUSAL: tl.constexpr, HAS_LENGTHS: tl.constexpr, WITH_LSE: tl.constexpr,
):  # fmt: skip
    """A block of BM queries of one head over its split of the keys.

    OUT is normalised within the split; LSE (splits, B, H, T) is the base-2 logarithm of the sum of exponentials.
    """
    block, split = tl.program_id(0) // splits, tl.program_id(0) % splits
    head, batch = tl.program_id(1), tl.program_id(2)
    q_line = (batch * heads + head).to(tl.int64)
    k_line = (batch * key_heads + head // (heads // key_heads)).to(tl.int64)
    count = real_tokens(LENGTHS, batch, keys, HAS_LENGTHS)
    rows = block * BM + tl.arange(0, BM)
    span = tl.cdiv(tl.cdiv(keys, BN), splits) * BN
    low = split * span
    high = tl.minimum(low + span, count)
    whole = count
    if CAUSAL:
        high = tl.minimum(high, (block + 1) * BM)
        # Keys that every query of the block sees.
        whole = tl.minimum(whole, block * BM + 1)
    whole = tl.maximum(tl.minimum(whole // BN * BN, low + span), low)

    q_at = Q + (q_line * q_padded + rows)[:, None] * D
    q_a = tl.load(q_at + tl.arange(0, DA)[None, :])
    q_b = q_a
    acc_a = tl.zeros([BM, DA], tl.float32)
    acc_b = acc_a
    if DB > 0:
        q_b = tl.load(q_at + (DA + tl.arange(0, DB))[None, :])
        acc_b = tl.zeros([BM, DB], tl.float32)
    q_scale = tl.load(Q_SCALE + q_line * (q_padded // Q_GROUP) + rows // Q_GROUP)
    top = tl.full([BM], float("-inf"), tl.float32)
    total = tl.zeros([BM], tl.float32)
    K += k_line * k_padded * D
    V += k_line * k_padded * D
    K_SCALE += k_line * (k_padded // K_GROUP)
    for start in range(low, whole, BN):
        top, total, acc_a, acc_b = attend_tile(
            top, total, acc_a, acc_b, q_a, q_b, q_scale, K, V, K_SCALE, start, rows, count, k_padded,
            D, DA, DB, BN, K_GROUP, P_LOG2, PV, IMPRECISE, FP8, CAUSAL, False,
        )  # fmt: skip
    # The diagonal and the ragged tail; at most one tile without CAUSAL.
    for start in tl.range(whole, high, BN, num_stages=1):
        top, total, acc_a, acc_b = attend_tile(
            top, total, acc_a, acc_b, q_a, q_b, q_scale, K, V, K_SCALE, start, rows, count, k_padded,
            D, DA, DB, BN, K_GROUP, P_LOG2, PV, IMPRECISE, FP8, CAUSAL, True,
        )  # fmt: skip

    # Padded queries are not stored. A row without keys is 0; a total of NaN stays.
    inverse = tl.where(total == 0.0, 0.0, 1.0 / total)
    if HAS_LENGTHS:
        # A length that is not one must show: checking it on the host would wait for the GPU.
        length = tl.load(LENGTHS + batch).to(tl.int32)
        inverse = tl.where((length < 0) | (length > keys), float("nan"), inverse)
    o_at = OUT + split.to(tl.int64) * o_s + batch.to(tl.int64) * o_b + head.to(tl.int64) * o_h
    o_at += rows.to(tl.int64)[:, None] * o_t
    stored = (rows < tokens)[:, None]
    dims = tl.arange(0, DA)
    out = acc_a * inverse[:, None] * tl.load(V_SCALE + k_line * D + dims)[None, :]
    tl.store(o_at + dims[None, :] * o_d, out.to(OUT.dtype.element_ty), mask=stored)
    if DB > 0:
        dims = DA + tl.arange(0, DB)
        out = acc_b * inverse[:, None] * tl.load(V_SCALE + k_line * D + dims)[None, :]
        tl.store(o_at + dims[None, :] * o_d, out.to(OUT.dtype.element_ty), mask=stored)
    if WITH_LSE:
        at = LSE + ((split * tl.num_programs(2) + batch).to(tl.int64) * heads + head) * tokens + rows
        tl.store(at, top + tl.log2(total) - P_LOG2, mask=rows < tokens)


@triton.jit
def combine(
    PART, PART_LSE, OUT, LSE, o_b, o_h, o_t, o_d, heads, tokens, splits,
    D: tl.constexpr, WIDTH: tl.constexpr, BLOCK: tl.constexpr, WITH_LSE: tl.constexpr,
):  # fmt: skip
    """Join the splits: PART (splits, B, H, T, D) weighted by 2 ** PART_LSE (splits, B, H, T)."""
    batch, head = tl.program_id(2).to(tl.int64), tl.program_id(1)
    rows = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    dims = tl.arange(0, WIDTH)
    real = rows < tokens
    mask = real[:, None] & (dims < D)[None, :]
    line = batch * heads + head
    lines = tl.num_programs(2) * heads
    top = tl.full([BLOCK], float("-inf"), tl.float32)
    for split in range(splits):
        top = tl.maximum(
            top, tl.load(PART_LSE + (split * lines + line) * tokens + rows, mask=real, other=float("-inf"))
        )
    floor = tl.where(top == float("-inf"), 0.0, top)
    total = tl.zeros([BLOCK], tl.float32)
    acc = tl.zeros([BLOCK, WIDTH], tl.float32)
    for split in range(splits):
        place = (split * lines + line) * tokens + rows
        weight = tl.exp2(tl.load(PART_LSE + place, mask=real, other=float("-inf")) - floor)
        acc += weight[:, None] * tl.load(PART + place[:, None] * D + dims[None, :], mask=mask, other=0.0)
        total += weight
    # 0 / 1 where no key was seen; acc may still carry the NaN of a wrong length.
    out = acc / tl.where(total == 0.0, 1.0, total)[:, None]
    at = OUT + batch * o_b + head.to(tl.int64) * o_h + rows.to(tl.int64)[:, None] * o_t + dims[None, :] * o_d
    tl.store(at, out.to(OUT.dtype.element_ty), mask=mask)
    if WITH_LSE:
        tl.store(LSE + line * tokens + rows, top + tl.log2(total), mask=real)
