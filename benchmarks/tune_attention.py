"""Time candidates for `TILES` and `GLUON_TILES` of kernels/sage.py on this GPU.

    python benchmarks/tune_attention.py [--lengths 1024 4096 16384] [--heads 6]

Prints the candidates by speed at each length; put the best into `TILES` with GPU, date and figure. Then run
`benchmarks/attention.py`: the length where speedup_with_prologue passes 1 goes into `SAGE_FROM_KEYS` of
kernels/attention.py, the one from which gluon_ms is below kernel_ms into `GLUON_FROM_KEYS` of kernels/sage.py.
A candidate whose result differs from the default tiles' by more than rounding is reported as wrong and not timed.
"""

from __future__ import annotations

import argparse
import itertools
import sys
from dataclasses import replace
from typing import Any

import torch
from attention import HEAD_DIM, milliseconds
from common import report

from renderformer.kernels.quantise import capability, pv_mode, quantise_heads
from renderformer.kernels.reference import exact_attention
from renderformer.kernels.sage import GLUON_TILES, Tiles, attend_quantised, unsupported, without_gluon

CANDIDATES = [
    Tiles(queries, keys, warps, stages)
    for queries, keys, warps, stages in itertools.product((64, 128), (64, 128), (4, 8), (2, 3, 4))
]
# The Gluon main loop has one size of tiles; its rings may have more slots or fewer.
GLUON_CANDIDATES = [replace(GLUON_TILES, stages=stages) for stages in (2, 3, 4, 6, 8)]


def rows_of(tokens: int, heads: int, splits: int) -> list[dict[str, Any]]:
    q, k, v = (torch.randn(1, heads, tokens, HEAD_DIM, device="cuda", dtype=torch.bfloat16) for _ in range(3))
    mode = pv_mode("auto", capability(q.device))
    sample = torch.linspace(0, tokens - 1, 64, device="cuda").long()
    exact, _ = exact_attention(q[:, :, sample], k, v)
    rows = []
    for path, tiles in [("triton", x) for x in CANDIDATES] + [("gluon", x) for x in GLUON_CANDIDATES]:
        out = torch.empty_like(q)
        quantised = quantise_heads(q, k, v, sm_scale=HEAD_DIM**-0.5, pv=mode, tile=tiles.keys)
        if path == "gluon" and without_gluon(quantised, False, q.device) is not None:
            continue
        # A candidate may need more shared memory than there is.
        try:
            attend_quantised(quantised, out, tiles=tiles, splits=splits, path=path)
        except Exception as problem:
            print(f"{path} {tiles}: {type(problem).__name__}: {problem}".splitlines()[0])
            continue
        distance = float((out[:, :, sample].double() - exact).abs().sum() / exact.abs().sum())
        if not distance < 0.05:
            print(f"{path} {tiles}: wrong, relative error {distance:.4f}")
            continue
        time = milliseconds(lambda: attend_quantised(quantised, out, tiles=tiles, splits=splits, path=path))  # noqa: B023
        rows.append(
            {
                "gpu": torch.cuda.get_device_name(),
                "tokens": tokens,
                "heads": heads,
                "splits": splits,
                "path": path,
                "queries": tiles.queries,
                "keys": tiles.keys,
                "warps": tiles.warps,
                "stages": tiles.stages,
                "ms": f"{time:.3f}",
                "tops": f"{4 * heads * tokens**2 * HEAD_DIM / time / 1e9:.0f}",
            }
        )
    return sorted(rows, key=lambda found: float(found["ms"]))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--lengths", type=int, nargs="+", default=[1024, 4096, 16384])
    parser.add_argument("--heads", type=int, default=6)
    parser.add_argument("--splits", type=int, nargs="+", default=[1, 2, 4])
    options = parser.parse_args()
    reason = unsupported(torch.device("cuda")) if torch.cuda.is_available() else "there is no GPU"
    if reason is not None:
        sys.exit(f"error: {reason}; this benchmark times kernels on an NVIDIA GPU")
    torch.manual_seed(0)
    for tokens in options.lengths:
        rows = [row for splits in options.splits for row in rows_of(tokens, options.heads, splits)]
        if rows:
            report("tune_attention", rows)


if __name__ == "__main__":
    main()
