# mypy: disable-error-code="no-untyped-def"
"""Triton kernels of the prologue: norm, RoPE, K's mean and quantisation. `quantise.py` launches them.

Imports triton at the top, so import it inside functions only.

What the prologue writes and the main loop reads, contiguous, with zeros after the real tokens:

    Q  (B, H, T rounded up to TILE, D)
    K  (B, G, S rounded up to TILE, D)
    V  (B, G, D, S rounded up to TILE)

V is transposed because the 8-bit products of Hopper take V with the keys side by side. In E4M3 the keys of every 16 are
in the order of `stored_order`. The main loop therefore loads without masks; only the scores of a ragged tail need one.
"""

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def load_pairs(X, rows, real, head, pair, valid, x_h, x_t, x_d, D: tl.constexpr):
    """Channels pair and pair + D/2 of heads (one, or one for each channel), which a rotation turns, in float32.

    Rows that are not real and channels that are not valid are 0, whatever memory holds.
    """
    at = X + rows.to(tl.int64)[:, None] * x_t + (tl.cast(head, tl.int64) * x_h + pair * x_d)[None, :]
    mask = real[:, None] & valid[None, :]
    first = tl.load(at, mask=mask, other=0.0).to(tl.float32)
    second = tl.load(at + D // 2 * x_d, mask=mask, other=0.0).to(tl.float32)
    return first, second


@triton.jit
def row_moments(first, second, valid, width, eps, CENTRE: tl.constexpr):
    """Mean (0 unless CENTRE) and 1 / deviation of rows of the whole width."""
    mean = tl.zeros([first.shape[0]], tl.float32)
    if CENTRE:
        mean = (tl.sum(first, axis=1) + tl.sum(second, axis=1)) / width
        first = tl.where(valid[None, :], first - mean[:, None], 0.0)
        second = tl.where(valid[None, :], second - mean[:, None], 0.0)
    variance = (tl.sum(first * first, axis=1) + tl.sum(second * second, axis=1)) / width
    return mean, 1.0 / tl.sqrt(variance + eps)


@triton.jit
def project(
    first, second, mean, rstd, WEIGHT, BIAS, COS, SIN, rows, real, head, pair, valid, row_base,
    D: tl.constexpr, NORM: tl.constexpr, BIASED: tl.constexpr, ROPE: tl.constexpr,
):  # fmt: skip
    """Norm and rotation of what `load_pairs` gave; COS and SIN hold D/2 numbers a row, from row_base on."""
    if NORM:
        channel = head * D + pair
        first = (first - mean[:, None]) * rstd[:, None] * tl.load(WEIGHT + channel, mask=valid, other=0.0)[None, :]
        weight = tl.load(WEIGHT + channel + D // 2, mask=valid, other=0.0)
        second = (second - mean[:, None]) * rstd[:, None] * weight[None, :]
        if BIASED:
            first += tl.load(BIAS + channel, mask=valid, other=0.0)[None, :]
            second += tl.load(BIAS + channel + D // 2, mask=valid, other=0.0)[None, :]
    mask = real[:, None] & valid[None, :]
    if ROPE:
        angle = (row_base + rows.to(tl.int64))[:, None] * (D // 2) + pair[None, :]
        cos = tl.load(COS + angle, mask=mask, other=0.0)
        sin = tl.load(SIN + angle, mask=mask, other=0.0)
        turned = first * cos - second * sin
        second = second * cos + first * sin
        first = turned
    return tl.where(mask, first, 0.0), tl.where(mask, second, 0.0)


@triton.jit
def real_tokens(LENGTHS, batch, tokens, HAS_LENGTHS: tl.constexpr):
    """How many tokens of a sample are real, within the tensor whatever LENGTHS says."""
    count = tokens
    if HAS_LENGTHS:
        count = tl.minimum(tl.maximum(tl.load(LENGTHS + batch).to(tl.int32), 0), tokens)
    return count


@triton.jit
def channels_of(chunk, heads, D: tl.constexpr, HEADS: tl.constexpr, PAIRS: tl.constexpr):
    """Head, pair and validity of the PAIRS channels (a power of two) of one chunk of HEADS heads."""
    channel = tl.arange(0, PAIRS)
    head = chunk * HEADS + channel // (D // 2)
    return head, channel % (D // 2), (channel < HEADS * (D // 2)) & (head < heads)


@triton.jit
def query_moments(
    X, ROWS, x_h, x_t, x_d, low, high, heads, tokens, batch, eps,
    D: tl.constexpr, HEADS: tl.constexpr, PAIRS: tl.constexpr, BLOCK: tl.constexpr, CENTRE: tl.constexpr,
):  # fmt: skip
    """Mean and 1 / deviation of the rows low … high of one sample, to ROWS (2, B, T)."""
    head, pair, valid = channels_of(0, heads, D, HEADS, PAIRS)
    for start in tl.range(low, high, BLOCK, num_stages=2):
        rows = start + tl.arange(0, BLOCK)
        real = rows < high
        first, second = load_pairs(X, rows, real, head, pair, valid, x_h, x_t, x_d, D)
        mean, rstd = row_moments(first, second, valid, heads * D, eps, CENTRE)
        tl.store(ROWS + batch * tokens + rows, mean, mask=real)
        tl.store(ROWS + (tl.num_programs(2) + batch) * tokens + rows, rstd, mask=real)


@triton.jit
def key_sums(
    X, ROWS, SUM, WEIGHT, BIAS, COS, SIN, x_h, x_t, x_d, low, high, chunk, heads, tokens, batch, part, parts, eps,
    D: tl.constexpr, HEADS: tl.constexpr, PAIRS: tl.constexpr, BLOCK: tl.constexpr, CENTRE: tl.constexpr,
    SMOOTH: tl.constexpr, NORM: tl.constexpr, BIASED: tl.constexpr, ROPE: tl.constexpr,
):  # fmt: skip
    """Sum of each channel of K, normed and rotated, over the rows low … high; their moments too where there is a norm.

    With a norm the chunk holds all heads.
    """
    head, pair, valid = channels_of(chunk, heads, D, HEADS, PAIRS)
    sum_first = tl.zeros([BLOCK, PAIRS], tl.float32)
    sum_second = tl.zeros([BLOCK, PAIRS], tl.float32)
    if SMOOTH or NORM:
        for start in tl.range(low, high, BLOCK, num_stages=2):
            rows = start + tl.arange(0, BLOCK)
            real = rows < high
            first, second = load_pairs(X, rows, real, head, pair, valid, x_h, x_t, x_d, D)
            mean = tl.zeros([BLOCK], tl.float32)
            rstd = mean
            if NORM:
                mean, rstd = row_moments(first, second, valid, heads * D, eps, CENTRE)
                tl.store(ROWS + batch * tokens + rows, mean, mask=real)
                tl.store(ROWS + (tl.num_programs(2) + batch) * tokens + rows, rstd, mask=real)
            if SMOOTH:
                first, second = project(
                    first, second, mean, rstd, WEIGHT, BIAS, COS, SIN, rows, real, head, pair, valid, batch * tokens,
                    D, NORM, BIASED, ROPE,
                )  # fmt: skip
                sum_first += first
                sum_second += second
    at = SUM + ((batch * heads + head) * parts + part) * D + pair
    tl.store(at, tl.sum(sum_first, axis=0), mask=valid & (part < parts))
    tl.store(at + D // 2, tl.sum(sum_second, axis=0), mask=valid & (part < parts))


@triton.jit
def value_maxima(
    X, MAX, x_h, x_t, x_d, low, high, chunk, heads, batch, part, parts,
    D: tl.constexpr, HEADS: tl.constexpr, PAIRS: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """Largest |V| of each channel over the rows low … high."""
    head, pair, valid = channels_of(chunk, heads, D, HEADS, PAIRS)
    max_first = tl.zeros([BLOCK, PAIRS], tl.float32)
    max_second = tl.zeros([BLOCK, PAIRS], tl.float32)
    # Maxima leave NaN out; these are NaN where a value is not finite, so that it shows in the result.
    poison_first = tl.zeros([BLOCK, PAIRS], tl.float32)
    poison_second = tl.zeros([BLOCK, PAIRS], tl.float32)
    for start in tl.range(low, high, BLOCK, num_stages=2):
        rows = start + tl.arange(0, BLOCK)
        first, second = load_pairs(X, rows, rows < high, head, pair, valid, x_h, x_t, x_d, D)
        max_first = tl.maximum(max_first, tl.abs(first))
        max_second = tl.maximum(max_second, tl.abs(second))
        poison_first += first * 0.0
        poison_second += second * 0.0
    at = MAX + ((batch * heads + head) * parts + part) * D + pair
    first = tl.max(max_first, axis=0) + tl.sum(poison_first, axis=0)
    second = tl.max(max_second, axis=0) + tl.sum(poison_second, axis=0)
    tl.store(at, first, mask=valid & (part < parts))
    tl.store(at + D // 2, second, mask=valid & (part < parts))


@triton.jit
def statistics(
    Q, K, V, Q_ROWS, K_ROWS, K_SUM, V_MAX, LENGTHS, WEIGHT, BIAS, COS, SIN,
    q_b, q_h, q_t, q_d, k_b, k_h, k_t, k_d, v_b, v_h, v_t, v_d,
    heads, key_heads, tokens, keys, q_span, k_span, parts, k_jobs, v_jobs, q_eps, k_eps,
    D: tl.constexpr, Q_HEADS: tl.constexpr, K_HEADS: tl.constexpr, V_HEADS: tl.constexpr,
    Q_PAIRS: tl.constexpr, K_PAIRS: tl.constexpr, V_PAIRS: tl.constexpr,
    Q_BLOCK: tl.constexpr, K_BLOCK: tl.constexpr, V_BLOCK: tl.constexpr, HAS_LENGTHS: tl.constexpr,
    SMOOTH: tl.constexpr, Q_NORM: tl.constexpr, Q_CENTRE: tl.constexpr, NORM: tl.constexpr, CENTRE: tl.constexpr,
    BIASED: tl.constexpr, ROPE: tl.constexpr,
):  # fmt: skip
    """The first of the prologue's two launches: everything that depends on all keys or on a whole row.

    Program (part, job, batch) reads one span of tokens: of a chunk of K's heads, of a chunk of V's, or of Q where it
    has a norm. WEIGHT, BIAS, COS and SIN are K's. K_SUM and V_MAX are (B, G, parts, D), Q_ROWS and K_ROWS (2, B, T).
    """
    part, job, batch = tl.program_id(0), tl.program_id(1), tl.program_id(2).to(tl.int64)
    low = part * k_span
    high = tl.minimum(low + k_span, real_tokens(LENGTHS, batch, keys, HAS_LENGTHS))
    if job < k_jobs:
        key_sums(
            K + batch * k_b, K_ROWS, K_SUM, WEIGHT, BIAS, COS, SIN, k_h, k_t, k_d, low, high, job, key_heads, keys,
            batch, part, parts, k_eps, D, K_HEADS, K_PAIRS, K_BLOCK, CENTRE, SMOOTH, NORM, BIASED, ROPE,
        )  # fmt: skip
    elif job < k_jobs + v_jobs:
        value_maxima(
            V + batch * v_b, V_MAX, v_h, v_t, v_d, low, high, job - k_jobs, key_heads, batch, part, parts,
            D, V_HEADS, V_PAIRS, V_BLOCK,
        )  # fmt: skip
    elif Q_NORM:
        q_low = part * q_span
        query_moments(
            Q + batch * q_b, Q_ROWS, q_h, q_t, q_d, q_low, tl.minimum(q_low + q_span, tokens), heads, tokens, batch,
            q_eps, D, Q_HEADS, Q_PAIRS, Q_BLOCK, Q_CENTRE,
        )  # fmt: skip


@triton.jit
def to_eight_bits(x, scale, FP8: tl.constexpr):
    """x / scale, a scale for each row, as INT8 or E4M3."""
    x = x / scale[:, None]
    if FP8:
        value = tl.minimum(tl.maximum(x, -448.0), 448.0).to(tl.float8e4nv)
    else:
        # Adding 1.5 x 2^23 rounds to the nearest integer, ties to even.
        value = ((x + 12582912.0) - 12582912.0).to(tl.int8)
    return value


@triton.jit
def quantise_rows(
    X, OUT, SCALE, K_SUM, ROWS, WEIGHT, BIAS, COS, SIN, x_h, x_t, x_d,
    block, head, batch, heads, tokens, count, padded, parts, factor,
    D: tl.constexpr, PAIRS: tl.constexpr, BLOCK: tl.constexpr, GROUP: tl.constexpr, PARTS: tl.constexpr,
    FP8: tl.constexpr, SMOOTH: tl.constexpr, NORM: tl.constexpr, BIASED: tl.constexpr, ROPE: tl.constexpr,
):  # fmt: skip
    """A block of Q or K, times factor and less K's mean, to INT8 or E4M3 with a scale for each group of rows."""
    rows = block * BLOCK + tl.arange(0, BLOCK)
    real = rows < count
    pair = tl.arange(0, PAIRS)
    valid = pair < D // 2
    first, second = load_pairs(X, rows, real, head, pair, valid, x_h, x_t, x_d, D)
    mean = tl.zeros([BLOCK], tl.float32)
    rstd = mean
    if NORM:
        mean = tl.load(ROWS + batch * tokens + rows, mask=real, other=0.0)
        rstd = tl.load(ROWS + (tl.num_programs(2) + batch) * tokens + rows, mask=real, other=0.0)
    first, second = project(
        first, second, mean, rstd, WEIGHT, BIAS, COS, SIN, rows, real, head, pair, valid, batch * tokens,
        D, NORM, BIASED, ROPE,
    )  # fmt: skip
    line = batch * heads + head
    if SMOOTH:
        part = tl.arange(0, PARTS)
        at = K_SUM + (line * parts + part)[:, None] * D + pair[None, :]
        mask = (part < parts)[:, None] & valid[None, :]
        number = tl.maximum(count, 1).to(tl.float32)
        k_mean = tl.sum(tl.load(at, mask=mask, other=0.0), axis=0) / number
        first = tl.where(real[:, None], first - k_mean[None, :], 0.0)
        k_mean = tl.sum(tl.load(at + D // 2, mask=mask, other=0.0), axis=0) / number
        second = tl.where(real[:, None], second - k_mean[None, :], 0.0)
    first = first * factor
    second = second * factor
    top = tl.maximum(tl.max(tl.abs(first), axis=1), tl.max(tl.abs(second), axis=1))
    top = tl.max(tl.reshape(top, [BLOCK // GROUP, GROUP]), axis=1)
    scale = tl.where(top > 0, top / (448.0 if FP8 else 127.0), 1.0)
    each = tl.reshape(tl.broadcast_to(scale[:, None], [BLOCK // GROUP, GROUP]), [BLOCK])
    at = OUT + (line * padded + rows)[:, None] * D + pair[None, :]
    tl.store(at, to_eight_bits(first, each, FP8), mask=valid[None, :])
    tl.store(at + D // 2, to_eight_bits(second, each, FP8), mask=valid[None, :])
    # See value_maxima: a value that is not finite must not end as a plausible number.
    poison = tl.sum(first * 0.0, axis=1) + tl.sum(second * 0.0, axis=1)
    scale += tl.sum(tl.reshape(poison, [BLOCK // GROUP, GROUP]), axis=1)
    group = block * (BLOCK // GROUP) + tl.arange(0, BLOCK // GROUP)
    tl.store(SCALE + line * (padded // GROUP) + group, scale)


@triton.jit
def stored_order(place):
    """Which key stands at a place of the stored V: within every 16, place 4t + 2b + c holds key 8b + 2t + c."""
    return place // 16 * 16 + place % 4 // 2 * 8 + place % 16 // 4 * 2 + place % 2


@triton.jit
def quantise_values(
    V, OUT, SCALE, V_MAX, v_h, v_t, v_d, block, head, batch, heads, count, padded, parts, largest,
    D: tl.constexpr, WIDTH: tl.constexpr, BLOCK: tl.constexpr, PARTS: tl.constexpr, HALF: tl.constexpr,
):  # fmt: skip
    """One block of V with a scale for each channel, to E4M3 (or fp16), transposed."""
    places = block * BLOCK + tl.arange(0, BLOCK)
    rows = places if HALF else stored_order(places)
    dims = tl.arange(0, WIDTH)
    line = batch * heads + head
    part = tl.arange(0, PARTS)
    at = V_MAX + (line * parts + part)[:, None] * D + dims[None, :]
    tops = tl.load(at, mask=(part < parts)[:, None] & (dims < D)[None, :], other=0.0)
    top = tl.max(tops, axis=0)
    scale = tl.where(top > 0, top / largest, 1.0) + tl.sum(tops * 0.0, axis=0)
    at = V + tl.cast(head, tl.int64) * v_h + rows.to(tl.int64)[:, None] * v_t + dims[None, :] * v_d
    v = tl.load(at, mask=(rows < count)[:, None] & (dims < D)[None, :], other=0.0).to(tl.float32) / scale[None, :]
    v = tl.minimum(tl.maximum(v, -largest), largest)
    value = tl.trans(v.to(tl.float16) if HALF else v.to(tl.float8e4nv))
    tl.store(OUT + (line * D + dims)[:, None] * padded + places[None, :], value, mask=(dims < D)[:, None])
    tl.store(SCALE + line * D + dims, scale, mask=(block == 0) & (dims < D))


@triton.jit
def quantise(
    Q, K, V, Q_OUT, K_OUT, V_OUT, Q_SCALE, K_SCALE, V_SCALE, Q_ROWS, K_ROWS, K_SUM, V_MAX, LENGTHS,
    Q_WEIGHT, Q_BIAS, Q_COS, Q_SIN, WEIGHT, BIAS, COS, SIN,
    q_b, q_h, q_t, q_d, k_b, k_h, k_t, k_d, v_b, v_h, v_t, v_d,
    heads, key_heads, tokens, keys, q_padded, k_padded, parts, factor, largest,
    D: tl.constexpr, WIDTH: tl.constexpr, BLOCK: tl.constexpr, Q_GROUP: tl.constexpr, K_GROUP: tl.constexpr,
    PARTS: tl.constexpr, FP8: tl.constexpr, HALF: tl.constexpr, HAS_LENGTHS: tl.constexpr, SMOOTH: tl.constexpr,
    Q_NORM: tl.constexpr, Q_BIASED: tl.constexpr, Q_ROPE: tl.constexpr,
    NORM: tl.constexpr, BIASED: tl.constexpr, ROPE: tl.constexpr,
):  # fmt: skip
    """The second of the prologue's two launches: program (block, job, batch) has 64 tokens of a head of K, V or Q.

    WEIGHT, BIAS, COS and SIN are K's. K and V come first, while the L2 cache may still hold them.
    """
    block, job, batch = tl.program_id(0), tl.program_id(1), tl.program_id(2).to(tl.int64)
    count = real_tokens(LENGTHS, batch, keys, HAS_LENGTHS)
    if job < key_heads:
        if block * BLOCK < k_padded:
            quantise_rows(
                K + batch * k_b, K_OUT, K_SCALE, K_SUM, K_ROWS, WEIGHT, BIAS, COS, SIN, k_h, k_t, k_d,
                block, job, batch, key_heads, keys, count, k_padded, parts, 1.0,
                D, WIDTH // 2, BLOCK, K_GROUP, PARTS, FP8, SMOOTH, NORM, BIASED, ROPE,
            )  # fmt: skip
    elif job < 2 * key_heads:
        if block * BLOCK < k_padded:
            quantise_values(
                V + batch * v_b, V_OUT, V_SCALE, V_MAX, v_h, v_t, v_d, block, job - key_heads, batch, key_heads, count,
                k_padded, parts, largest, D, WIDTH, BLOCK, PARTS, HALF,
            )  # fmt: skip
    elif block * BLOCK < q_padded:
        quantise_rows(
            Q + batch * q_b, Q_OUT, Q_SCALE, K_SUM, Q_ROWS, Q_WEIGHT, Q_BIAS, Q_COS, Q_SIN, q_h, q_t, q_d,
            block, job - 2 * key_heads, batch, heads, tokens, tokens, q_padded, parts, factor,
            D, WIDTH // 2, BLOCK, Q_GROUP, PARTS, FP8, False, Q_NORM, Q_BIASED, Q_ROPE,
        )  # fmt: skip
