"""The experimental Gluon main loop on this Hopper GPU: is it right, and is it faster than the plain Triton one?

    python benchmarks/hopper.py [--lengths 1024 4096 16384] [--heads 6]

First every case is held to twice the error of the same arithmetic in plain torch and to 1.1 times the error of the
plain main loop (relative L1 to float64); ends with 1 if one is wrong. Then both are timed, the Gluon one with rings of
several lengths. Writes benchmarks/results/hopper.csv.
"""

from __future__ import annotations

import argparse
import itertools
import sys
from dataclasses import replace
from typing import Any

import torch
from attention import HEAD_DIM, draw
from common import device_milliseconds, relative_error, report, require_gpu

from renderformer.kernels.sage.launch import attend_quantised
from renderformer.kernels.sage.naive import exact_attention, naive_sageattn
from renderformer.kernels.sage.quantise import quantise_heads

# Batch, heads, key heads, tokens, keys, width: few, many and ragged tiles.
SHAPES = [
    (1, 2, 2, 1, 1, 64), (2, 4, 2, 63, 130, 64), (1, 6, 6, 257, 257, 128), (1, 6, 6, 4112, 4112, 128),
    (2, 8, 8, 1000, 2064, 64), (1, 6, 6, 63, 16400, 128),
]  # fmt: skip
STAGES = (2, 3, 4, 6, 8)


def is_right(shape: tuple[int, ...], qk_dtype: str, lengths: bool, splits: int | None) -> bool:
    """Whether one case keeps its bounds; prints its errors if not."""
    from renderformer.kernels.experimental.hopper import attend_hopper

    batch, heads, key_heads, tokens, keys, width = shape
    q = torch.randn(batch, heads, tokens, width, device="cuda").bfloat16()
    k, v = torch.randn(2, batch, key_heads, keys, width, device="cuda").bfloat16()
    kv_lengths = torch.linspace(keys, keys // 3, batch).int().cuda() if lengths else None
    same: dict[str, Any] = {"qk_dtype": qk_dtype, "pv_accum": "fp32+fp32", "kv_lengths": kv_lengths}
    exact, _ = exact_attention(q, k, v, kv_lengths=kv_lengths)
    naive = relative_error(naive_sageattn(q, k, v, **same), exact)
    quantised = quantise_heads(q, k, v, sm_scale=width**-0.5, lengths=kv_lengths, qk_dtype=qk_dtype, pv="fp32+fp32")
    errors, lse = [], []
    for main_loop in (attend_hopper, attend_quantised):
        out = torch.full_like(q, torch.nan)
        lse.append(main_loop(quantised, out, with_lse=True, splits=splits))
        errors.append(relative_error(out, exact))
    same_lse = torch.allclose(*lse, rtol=0, atol=1e-3)
    right = errors[0] < 2 * naive + 0.003 and errors[0] < 1.1 * errors[1] + 0.001 and same_lse
    if not right:
        print(f"WRONG {shape} {same}: {errors[0]:.4f}, Triton {errors[1]:.4f}, plain torch {naive:.4f}, {same_lse=}")
    return right


def rows_of(tokens: int, heads: int) -> list[dict[str, Any]]:
    """Times of the plain main loop and of the Gluon one with each length of its rings."""
    from renderformer.kernels.experimental.hopper import TILES, attend_hopper

    q, k, v = draw(1, heads, tokens)
    quantised, out = quantise_heads(q, k, v, sm_scale=HEAD_DIM**-0.5, pv="fp32+fp32"), torch.empty_like(q)
    times = {"triton": device_milliseconds(lambda: attend_quantised(quantised, out))}
    for stages in STAGES:
        tiles = replace(TILES, stages=stages)
        # Long rings may need more shared memory than there is.
        try:
            times[f"gluon, {stages} stages"] = device_milliseconds(
                lambda: attend_hopper(quantised, out, tiles=tiles)  # noqa: B023
            )  # fmt: skip
        except Exception as problem:
            print(f"{stages} stages: {type(problem).__name__}: {problem}".splitlines()[0])
    gpu = torch.cuda.get_device_name()
    return [
        {"gpu": gpu, "tokens": tokens, "heads": heads, "main_loop": name, "ms": f"{time:.3f}",
         "tops": f"{4 * heads * tokens**2 * HEAD_DIM / time / 1e9:.0f}"}
        for name, time in times.items()
    ]  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--lengths", type=int, nargs="+", default=[1024, 4096, 16384])
    parser.add_argument("--heads", type=int, default=6)
    options = parser.parse_args()
    require_gpu()
    torch.manual_seed(0)
    cases = list(itertools.product(SHAPES, ("int8", "fp8"), (False, True), (1, 3, None)))
    try:
        wrong = sum(not is_right(*case) for case in cases)
    except ValueError as problem:
        sys.exit(f"error: {problem}")
    print(f"{len(cases)} cases, {wrong} wrong, on {torch.cuda.get_device_name()}")
    if wrong:
        sys.exit(1)
    report("hopper", [row for tokens in options.lengths for row in rows_of(tokens, options.heads)])


if __name__ == "__main__":
    main()
