"""Correctness of the quantised attention on this GPU, to be run before any timing; ends with 1 if a case is wrong.

    python benchmarks/attention_check.py
    compute-sanitizer python benchmarks/attention_check.py --short

Every case is compared with float64 (relative L1) and held to twice the error of the same arithmetic in plain torch.
"""

from __future__ import annotations

import argparse
import itertools
import sys
from typing import Any

import torch
from common import relative_error, require_gpu

from renderformer.kernels import sageattn
from renderformer.kernels.sage.device import capability, pv_mode
from renderformer.kernels.sage.naive import exact_attention, heads_first, naive_sageattn


def cases(short: bool) -> list[dict[str, Any]]:
    """Shapes (batch, heads, key heads, tokens, keys, width) and options."""
    shapes = [(1, 2, 2, 1, 1, 64), (2, 4, 2, 63, 130, 96), (1, 6, 6, 257, 257, 128)]
    if not short:
        shapes += [(1, 6, 6, 4112, 4112, 128), (2, 8, 8, 1000, 2064, 64)]
        shapes += [(1, 6, 6, 63, 8192, 128), (2, 3, 1, 2048, 2048, 96)]
    options: list[dict[str, Any]] = [
        {},
        {"is_causal": True},
        {"qk_dtype": "fp8"},
        {"smooth_k": False, "tensor_layout": "NHD"},
        {"pv_accum": "fp32"},
        {"pv_accum": "fp32+fp32"},
        {"pv_accum": "fp32+fp16"},
        {"kv_lengths": True},
        {"kv_lengths": True, "is_causal": True},
    ]
    types = (torch.bfloat16, torch.float16)
    return [
        {"shape": shape, "dtype": dtype, "loud": loud, **option}
        for shape, dtype, loud, option in itertools.product(shapes, types, (False, True), options)
    ]


def run(shape: tuple[int, ...], dtype: torch.dtype, loud: bool, **options: Any) -> tuple[float, float]:
    """Relative errors of the kernel and of the plain torch arithmetic."""
    batch, heads, key_heads, tokens, keys, width = shape
    q = torch.randn(batch, heads, tokens, width, device="cuda")
    k, v = torch.randn(2, batch, key_heads, keys, width, device="cuda")
    if loud:
        k[..., :: width // 5] += 10
        v[..., 3] *= 1000
    q, k, v = (x.to(dtype) for x in (q, k, v))
    if options.pop("kv_lengths", False):
        options["kv_lengths"] = torch.linspace(keys, keys // 3, batch).int().cuda()
    layout = options.get("tensor_layout", "HND")
    exact, _ = exact_attention(q, k, v, is_causal=options.get("is_causal", False), kv_lengths=options.get("kv_lengths"))
    q, k, v = (heads_first(x, layout) for x in (q, k, v))
    mode = pv_mode(options.get("pv_accum", "auto"), capability(q.device))
    reference = naive_sageattn(q, k, v, **options | {"pv_accum": mode})
    # Freshly allocated memory that held NaN shows what the kernels fail to write.
    torch.full((64 * 2**20,), torch.nan, device="cuda")
    ours, plain = (relative_error(heads_first(x, layout), exact) for x in (sageattn(q, k, v, **options), reference))
    return ours, plain


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--short", action="store_true", help="small shapes only, for compute-sanitizer")
    options = parser.parse_args()
    require_gpu()
    torch.manual_seed(0)
    wrong = done = 0
    for case in cases(options.short):
        try:
            ours, plain = run(**case)
        except ValueError as problem:
            # A GPU without E4M3 refuses some of the accumulators.
            print(f"skipped {case}: {problem}")
            continue
        done += 1
        if not ours < 2 * plain + 0.003:
            wrong += 1
            print(f"WRONG {case}: {ours:.4f}, plain torch {plain:.4f}")
    print(f"{done} cases, {wrong} wrong, on {torch.cuda.get_device_name()}")
    sys.exit(wrong > 0)


if __name__ == "__main__":
    main()
