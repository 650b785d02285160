"""Time candidates for `TILES` of kernels/sage/launch.py on this GPU.

    python benchmarks/tune_attention.py [--lengths 1024 4096 16384] [--heads 6]

Prints the candidates by speed at each length; put the best into `TILES` with GPU, date and figure, then run
benchmarks/attention.py. A candidate whose result is further from float64 than the method's bound is reported as wrong
and not timed.
"""

from __future__ import annotations

import argparse
import itertools
from typing import Any

import torch
from attention import BOUND, HEAD_DIM, draw, error
from common import device_milliseconds, report, require_gpu

from renderformer.kernels.sage.device import capability, pv_mode
from renderformer.kernels.sage.launch import Tiles, attend_quantised
from renderformer.kernels.sage.quantise import quantise_heads

CANDIDATES = [
    Tiles(queries, keys, warps, stages)
    for queries, keys, warps, stages in itertools.product((64, 128), (64, 128), (4, 8), (2, 3, 4))
]


def rows_of(tokens: int, heads: int, splits: int) -> list[dict[str, Any]]:
    q, k, v = draw(1, heads, tokens)
    mode = pv_mode("auto", capability(q.device))
    rows = []
    for tiles in CANDIDATES:
        out = torch.empty_like(q)
        quantised = quantise_heads(q, k, v, sm_scale=HEAD_DIM**-0.5, pv=mode, tile=tiles.keys)
        # A candidate may need more shared memory than there is.
        try:
            attend_quantised(quantised, out, tiles=tiles, splits=splits)
        except Exception as problem:
            print(f"{tiles}: {type(problem).__name__}: {problem}".splitlines()[0])
            continue
        distance = error(out, q, k, v)
        if not distance < BOUND:
            print(f"{tiles}: wrong, relative error {distance:.4f}")
            continue
        time = device_milliseconds(lambda: attend_quantised(quantised, out, tiles=tiles, splits=splits))  # noqa: B023
        rows.append(
            {
                "gpu": torch.cuda.get_device_name(),
                "tokens": tokens,
                "heads": heads,
                "splits": splits,
                "queries": tiles.queries,
                "keys": tiles.keys,
                "warps": tiles.warps,
                "stages": tiles.stages,
                "ms": f"{time:.3f}",
                "tops": f"{4 * heads * tokens**2 * HEAD_DIM / time / 1e9:.0f}",
            }
        )
    return sorted(rows, key=lambda row: float(row["ms"]))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--lengths", type=int, nargs="+", default=[1024, 4096, 16384])
    parser.add_argument("--heads", type=int, default=6)
    parser.add_argument("--splits", type=int, nargs="+", default=[1, 2, 4])
    options = parser.parse_args()
    require_gpu()
    torch.manual_seed(0)
    for tokens in options.lengths:
        rows = [row for splits in options.splits for row in rows_of(tokens, options.heads, splits)]
        if rows:
            report("tune_attention", rows)


if __name__ == "__main__":
    main()
