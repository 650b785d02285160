"""Quantised attention on this GPU beside what PyTorch offers: flash, cuDNN and memory-efficient SDPA in bfloat16.

    python benchmarks/attention.py [--lengths 1024 4096 8192 16384 65536] [--heads 6 8] [--batches 1 8]

Times the main loop alone and with its prologue, medians of CUDA events, head_dim 128. TOPS counts 4 B H N^2 D
operations. Refuses to time a shape whose result is further from float64 (a sample of the queries) than the method's
bound. The length from which speedup_with_prologue stays above 1 goes into `fast_from_keys` of kernels/backends.py.
Needs an NVIDIA GPU; writes benchmarks/results/attention.csv.
"""

from __future__ import annotations

import argparse
import sys
from typing import Any

import torch
from common import device_milliseconds, relative_error, report, require_gpu
from torch import Tensor
from torch.nn import functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel

from renderformer.kernels import sageattn
from renderformer.kernels.sage.device import capability, pv_mode
from renderformer.kernels.sage.launch import TILES, attend_quantised
from renderformer.kernels.sage.naive import exact_attention
from renderformer.kernels.sage.quantise import quantise_heads

# Relative L1 error against float64; .0385 is expected for N(0, 1).
BOUND = 0.05
HEAD_DIM = 128
SDPA = {
    "flash": SDPBackend.FLASH_ATTENTION,
    "cudnn": SDPBackend.CUDNN_ATTENTION,
    "efficient": SDPBackend.EFFICIENT_ATTENTION,
}


def error(out_BHTD: Tensor, q_BHTD: Tensor, k_BHSD: Tensor, v_BHSD: Tensor) -> float:
    """Relative L1 distance from float64, over 64 queries of one sample."""
    rows = torch.linspace(0, q_BHTD.shape[2] - 1, 64, device="cuda").long()
    exact, _ = exact_attention(q_BHTD[:1, :, rows], k_BHSD[:1], v_BHSD[:1])
    return relative_error(out_BHTD[:1, :, rows], exact)


def draw(batch: int, heads: int, tokens: int) -> Tensor:
    """Queries, keys and values of N(0, 1), (3, batch, heads, tokens, HEAD_DIM)."""
    return torch.randn(3, batch, heads, tokens, HEAD_DIM, device="cuda", dtype=torch.bfloat16)


def row(batch: int, heads: int, tokens: int) -> dict[str, Any]:
    q, k, v = draw(batch, heads, tokens)
    out = sageattn(q, k, v)
    assert isinstance(out, Tensor)
    distance = error(out, q, k, v)
    if not distance < BOUND:
        sys.exit(f"error: batch {batch}, {heads} heads, {tokens} tokens: relative error {distance:.4f}; not timed")
    gpu = capability(q.device)
    quantised = quantise_heads(q, k, v, sm_scale=HEAD_DIM**-0.5, pv=pv_mode("auto", gpu), tile=TILES[gpu[0]].keys)
    times = {
        "kernel": device_milliseconds(lambda: attend_quantised(quantised, out)),
        "with_prologue": device_milliseconds(lambda: sageattn(q, k, v)),
    }
    for name, backend in SDPA.items():
        try:
            with sdpa_kernel(backend):
                times[name] = device_milliseconds(lambda: F.scaled_dot_product_attention(q, k, v))
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
        "speedup_with_prologue": f"{best / times['with_prologue']:.2f}",
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--lengths", type=int, nargs="+", default=[1024, 2048, 4096, 8192, 16384, 32768, 65536])
    parser.add_argument("--heads", type=int, nargs="+", default=[6, 8])
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 8])
    options = parser.parse_args()
    require_gpu()
    torch.manual_seed(0)
    report("attention", [row(b, h, n) for b in options.batches for h in options.heads for n in options.lengths])


if __name__ == "__main__":
    main()
