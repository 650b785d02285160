"""Quantised attention on this GPU beside what PyTorch offers: flash, cuDNN and memory-efficient SDPA in bfloat16.

    python benchmarks/attention.py [--lengths 1024 4096 8192 16384 65536] [--heads 6 8] [--batches 1 8]

Times the main loop alone (and the Gluon one on Hopper) and with its prologue, medians of CUDA events, head_dim 128.
TOPS counts 4 B H N^2 D operations.
Refuses to time a shape whose result is further from float64 (a sample of the queries) than the method's bound.
Needs an NVIDIA GPU; writes benchmarks/results/attention.csv.
"""

from __future__ import annotations

import argparse
import statistics
import sys
from collections.abc import Callable
from typing import Any

import torch
from common import report
from torch import Tensor
from torch.nn import functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel

from renderformer.kernels.quantise import capability, pv_mode, quantise_heads
from renderformer.kernels.reference import exact_attention
from renderformer.kernels.sage import TILES, attend_quantised, sageattn, unsupported, without_gluon

# Relative L1 error against float64; .0385 is expected for N(0, 1).
BOUND = 0.05
HEAD_DIM = 128
SDPA = {
    "flash": SDPBackend.FLASH_ATTENTION,
    "cudnn": SDPBackend.CUDNN_ATTENTION,
    "efficient": SDPBackend.EFFICIENT_ATTENTION,
}


def milliseconds(run: Callable[[], Any], repeats: int = 30) -> float:
    """Median device time after warming up; the L2 cache is cleared before each."""
    for _ in range(5):
        run()
    clear = torch.empty(64 * 2**20, dtype=torch.int32, device="cuda")
    times = []
    for _ in range(repeats):
        clear.zero_()
        start, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        start.record()
        run()
        end.record()
        torch.cuda.synchronize()
        times.append(start.elapsed_time(end))
    return statistics.median(times)


def error(out_BHTD: Tensor, q_BHTD: Tensor, k_BHSD: Tensor, v_BHSD: Tensor) -> float:
    """Relative L1 distance from float64, over 64 queries of one sample."""
    rows = torch.linspace(0, q_BHTD.shape[2] - 1, 64, device="cuda").long()
    exact, _ = exact_attention(q_BHTD[:1, :, rows], k_BHSD[:1], v_BHSD[:1])
    return float((out_BHTD[:1, :, rows].double() - exact).abs().sum() / exact.abs().sum())


def row(batch: int, heads: int, tokens: int) -> dict[str, Any]:
    q, k, v = (torch.randn(batch, heads, tokens, HEAD_DIM, device="cuda", dtype=torch.bfloat16) for _ in range(3))
    out = sageattn(q, k, v)
    assert isinstance(out, Tensor)
    distance = error(out, q, k, v)
    if not distance < BOUND:
        sys.exit(f"error: batch {batch}, {heads} heads, {tokens} tokens: relative error {distance:.4f}; not timed")
    found = capability(q.device)
    quantised = quantise_heads(
        q, k, v, sm_scale=HEAD_DIM**-0.5, pv=pv_mode("auto", found), tile=TILES[found[0]].keys
    )  # fmt: skip
    times = {
        "kernel": milliseconds(lambda: attend_quantised(quantised, out, path="triton")),
        "with_prologue": milliseconds(lambda: sageattn(q, k, v)),
    }
    times["gluon"] = float("nan")
    if without_gluon(quantised, False, q.device) is None:
        attend_quantised(quantised, out, path="gluon")
        distance = error(out, q, k, v)
        if not distance < BOUND:
            sys.exit(f"error: the Gluon main loop, {tokens} tokens: relative error {distance:.4f}; not timed")
        times["gluon"] = milliseconds(lambda: attend_quantised(quantised, out, path="gluon"))
    for name, backend in SDPA.items():
        try:
            with sdpa_kernel(backend):
                times[name] = milliseconds(lambda: F.scaled_dot_product_attention(q, k, v))
        except RuntimeError:
            # Not in this build, or not on this GPU.
            times[name] = float("nan")
    best = min(time for name, time in times.items() if name in SDPA and time == time)
    operations = 4 * batch * heads * tokens**2 * HEAD_DIM
    return {
        "gpu": torch.cuda.get_device_name(),
        "batch": batch,
        "heads": heads,
        "tokens": tokens,
        "error": f"{distance:.4f}",
        **{f"{name}_ms": f"{time:.3f}" for name, time in times.items()},
        "kernel_tops": f"{operations / times['kernel'] / 1e9:.0f}",
        "gluon_tops": f"{operations / times['gluon'] / 1e9:.0f}",
        "speedup_with_prologue": f"{best / times['with_prologue']:.2f}",
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--lengths", type=int, nargs="+", default=[1024, 2048, 4096, 8192, 16384, 32768, 65536])
    parser.add_argument("--heads", type=int, nargs="+", default=[6, 8])
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 8])
    options = parser.parse_args()
    reason = unsupported(torch.device("cuda")) if torch.cuda.is_available() else "there is no GPU"
    if reason is not None:
        sys.exit(f"error: {reason}; this benchmark times kernels on an NVIDIA GPU")
    torch.manual_seed(0)
    report("attention", [row(b, h, n) for b in options.batches for h in options.heads for n in options.lengths])


if __name__ == "__main__":
    main()
