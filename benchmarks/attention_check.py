"""Correctness of the quantised attention on this GPU, to be run before any timing; ends with 1 if a case is wrong.

    python benchmarks/attention_check.py
    compute-sanitizer python benchmarks/attention_check.py --short

Every case is compared with float64 (relative L1) and held to twice the error of the same arithmetic in plain torch. On
a Hopper GPU the Gluon main loop is held to the same, and to 1.1 times the error of the plain Triton one.
"""

from __future__ import annotations

import argparse
import itertools
import sys
from typing import Any

import torch

from renderformer.kernels.quantise import capability, pv_mode, quantise_heads
from renderformer.kernels.reference import exact_attention, quantised_attention
from renderformer.kernels.sage import attend_quantised, sageattn, unsupported, without_gluon


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


def gluon_cases(short: bool) -> list[dict[str, Any]]:
    """Shapes with few, many and ragged tiles, and splits of the keys, for the Gluon main loop."""
    shapes = [(1, 2, 2, 1, 1, 64), (2, 4, 2, 63, 130, 64), (1, 6, 6, 257, 257, 128)]
    if not short:
        shapes += [(1, 6, 6, 4112, 4112, 128), (2, 8, 8, 1000, 2064, 64), (1, 6, 6, 63, 16400, 128)]
    return [
        {"shape": shape, "qk_dtype": qk_dtype, "lengths": lengths, "splits": splits}
        for shape, qk_dtype, lengths, splits in itertools.product(
            shapes, ("int8", "fp8"), (False, True), (1, 3, None)
        )  # fmt: skip
    ]


def run_gluon(
    shape: tuple[int, ...], qk_dtype: str, lengths: bool, splits: int | None
) -> tuple[float, float, float, float]:
    """Relative errors of the Gluon loop, of the Triton loop, of plain torch; largest difference of the two LSE."""
    batch, heads, key_heads, tokens, keys, width = shape
    q = torch.randn(batch, heads, tokens, width, device="cuda").bfloat16()
    k, v = torch.randn(2, batch, key_heads, keys, width, device="cuda").bfloat16()
    real = torch.linspace(keys, keys // 3, batch).int().cuda() if lengths else None
    reference, _ = quantised_attention(q, k, v, pv_accum="fp32+fp32", qk_dtype=qk_dtype, kv_lengths=real)
    exact, _ = exact_attention(q, k, v, kv_lengths=real)
    quantised = quantise_heads(
        q, k, v, sm_scale=width**-0.5, lengths=real, qk_dtype=qk_dtype, pv="fp32+fp32"
    )  # fmt: skip
    reason = without_gluon(quantised, False, q.device)
    if reason is not None:
        raise ValueError(reason)
    scale = exact.abs().sum()
    errors, lse = [], []
    for path in ("gluon", "triton"):
        out = torch.full_like(q, torch.nan)
        lse.append(attend_quantised(quantised, out, with_lse=True, splits=splits, path=path))
        errors.append(float((out.double() - exact).abs().sum() / scale))
    seen = lse[1].isfinite()
    gap = float((lse[0] - lse[1])[seen].abs().max()) if bool((lse[0].isfinite() == seen).all()) else float("inf")
    return errors[0], errors[1], float((reference.double() - exact).abs().sum() / scale), gap


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
    plain = {key: value for key, value in options.items() if key not in ("tensor_layout", "pv_accum")}
    mode = pv_mode(options.get("pv_accum", "auto"), capability(q.device))
    reference, _ = quantised_attention(q, k, v, pv_accum=mode, **plain)
    exact, _ = exact_attention(
        q, k, v, **{key: value for key, value in plain.items() if key in ("is_causal", "kv_lengths")}
    )
    flip = options.get("tensor_layout") == "NHD"
    # Freshly allocated memory that held NaN shows what the kernels fail to write.
    torch.full((64 * 2**20,), torch.nan, device="cuda")
    out = sageattn(*((x.transpose(1, 2) if flip else x) for x in (q, k, v)), **options)
    out = out.transpose(1, 2) if flip else out
    scale = exact.abs().sum()
    return float((out.double() - exact).abs().sum() / scale), float((reference.double() - exact).abs().sum() / scale)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--short", action="store_true", help="small shapes only, for compute-sanitizer")
    options = parser.parse_args()
    reason = unsupported(torch.device("cuda")) if torch.cuda.is_available() else "there is no GPU"
    if reason is not None:
        sys.exit(f"error: {reason}")
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
    for case in gluon_cases(options.short):
        try:
            ours, other, plain, gap = run_gluon(**case)
        except ValueError as problem:
            print(f"skipped the Gluon main loop: {problem}")
            break
        done += 1
        if not (ours < 2 * plain + 0.003 and ours < 1.1 * other + 0.001 and gap < 1e-3):
            wrong += 1
            print(f"WRONG gluon {case}: {ours:.4f}, Triton {other:.4f}, plain torch {plain:.4f}, LSE off by {gap:.2g}")
    print(f"{done} cases, {wrong} wrong, on {torch.cuda.get_device_name()}")
    sys.exit(wrong > 0)


if __name__ == "__main__":
    main()
