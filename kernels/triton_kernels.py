# mypy: disable-error-code="no-untyped-def"
"""The Triton kernels of the quantised attention; `sage.py` launches them, `reference.py` says what they compute.

Imports triton at the top, so it is itself imported inside functions only.

Layout of what the prologue writes and the main loop reads, without gaps and with zeros after the real tokens:
Q (B, H, T rounded up to TILE, D), K (B, G, S rounded up to TILE, D), V transposed (B, G, D, S rounded up to TILE),
since the 8-bit products of Hopper take V with the keys side by side, and in E4M3 with the keys of every 16 in the order
of `stored_order`. Hence the main loop loads without masks and only
the scores of a ragged tail need one.
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
    """Everything that takes all keys, or a whole row, to know: the first of the prologue's two launches.

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


@triton.jit
def add_values(acc, p, v, PV: tl.constexpr, IMPRECISE: tl.constexpr):
    """acc + p v as PV says: fp32, fp32+fp16, fp32+fp32 or fp16 (see `reference.RANGES`)."""
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
        # as an operand; in V's order (see stored_order) these are the same, and no data moves between threads.
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
