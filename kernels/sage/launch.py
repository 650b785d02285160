"""The main loop: tiles for a GPU, splits of the keys, and the launches. `main_loop.py` holds its Triton kernels.

Shape suffixes: s splits of the keys, B batch, H query heads, T query tokens, D head width.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from renderformer.kernels.sage.device import capability, on_device
from renderformer.kernels.sage.naive import K_GROUP, Q_GROUP, RANGES
from renderformer.kernels.sage.quantise import Quantised


@dataclass(frozen=True)
class Tiles:
    """How the main loop is cut: queries and keys of a tile, warps, and stages of the load pipeline."""

    queries: int
    keys: int
    warps: int
    stages: int


# By major compute capability. Chosen from the compiled code (registers, no spills); no speed was measured.
# benchmarks/tune_attention.py times the candidates.
TILES = {8: Tiles(128, 64, 8, 3), 9: Tiles(128, 64, 8, 3), 10: Tiles(128, 64, 8, 3), 12: Tiles(128, 64, 8, 3)}
# With fewer blocks than processors the queries go in smaller tiles, then the keys are split. Not measured.
SMALL_QUERIES = 64
SMALL_WARPS = 4
MAX_SPLITS = 16
MIN_KEYS_PER_SPLIT = 256


def attend_quantised(
    quantised: Quantised,
    out_BHTD: Tensor,
    *,
    is_causal: bool = False,
    with_lse: bool = False,
    tiles: Tiles | None = None,
    splits: int | None = None,
) -> Tensor:
    """Write attention into `out_BHTD` (any strides, float type).

    Args:
        quantised: from `quantise.quantise_heads` or `quantise.quantise_qkv`.
        tiles, splits: for tuning; None chooses (with tiles given: one split).

    Returns:
        (B, H, T) float32, base-2 logarithms of the sums of exponentials of the smoothed logits; empty unless
        `with_lse`.

    Raises:
        ValueError: tiles of other keys than V was quantised for.
    """
    best_splits = 1
    if tiles is None:
        tiles, best_splits = choose_tiles(quantised, out_BHTD.shape[0] * out_BHTD.shape[1], out_BHTD.device)
    if tiles.keys != quantised.tile:
        raise ValueError(f"tiles of {tiles.keys} keys, but V was quantised for {quantised.tile}")

    def launch(out_sBHTD: Tensor, lse_sBHT: Tensor, lse_needed: bool) -> None:
        from renderformer.kernels.sage import main_loop

        main_loop.attend[grid(out_sBHTD, tiles)](
            quantised.q, quantised.k, quantised.v, *arguments(quantised, out_sBHTD, lse_sBHT),
            **constants(out_sBHTD.shape[-1], quantised.pv, tiles, quantised.q.dtype != torch.int8),
            CAUSAL=is_causal, HAS_LENGTHS=quantised.lengths is not None, WITH_LSE=lse_needed,
            num_warps=tiles.warps, num_stages=tiles.stages,
        )  # fmt: skip

    return in_splits(out_BHTD, best_splits if splits is None else splits, with_lse, launch)


def in_splits(out_BHTD: Tensor, splits: int, with_lse: bool, launch: Callable[[Tensor, Tensor, bool], None]) -> Tensor:
    """Launch a main loop over splits of the keys and join them in `out_BHTD`.

    Args:
        launch: called with the results of the splits (s, B, H, T, D), their LSE (s, B, H, T), and whether the LSE is
            to be written.

    Returns:
        As `attend_quantised`.
    """
    device, (batch, heads, tokens, width) = out_BHTD.device, out_BHTD.shape
    lse_BHT = torch.empty((batch, heads, tokens) if with_lse else (0,), device=device)
    with on_device(device):
        if splits == 1:
            launch(out_BHTD[None], lse_BHT[None], with_lse)
            return lse_BHT
        from renderformer.kernels.sage import main_loop

        out_sBHTD = torch.empty(splits, *out_BHTD.shape, device=device)
        lse_sBHT = torch.empty(splits, batch, heads, tokens, device=device)
        launch(out_sBHTD, lse_sBHT, True)
        # 16 rows a block: not measured.
        main_loop.combine[(-(-tokens // 16), heads, batch)](
            out_sBHTD, lse_sBHT, out_BHTD, lse_BHT, *out_BHTD.stride(), heads, tokens, splits,
            D=width, WIDTH=1 << (width - 1).bit_length(), BLOCK=16, WITH_LSE=with_lse,
        )  # fmt: skip
    return lse_BHT


def choose_tiles(quantised: Quantised, lines: int, device: torch.device) -> tuple[Tiles, int]:
    """Tiles and splits of the keys, so that every processor has a block; `lines` is B H."""
    tiles = TILES[capability(device)[0]]
    if device.type != "cuda":
        # The interpreter runs one block after the other.
        return Tiles(SMALL_QUERIES, quantised.tile, SMALL_WARPS, 1), 1
    processors = torch.cuda.get_device_properties(device).multi_processor_count
    if -(-quantised.tokens // tiles.queries) * lines < 2 * processors:
        tiles = Tiles(SMALL_QUERIES, tiles.keys, SMALL_WARPS, tiles.stages)
    return tiles, choose_splits(quantised, tiles, lines, device)


def choose_splits(quantised: Quantised, tiles: Tiles, lines: int, device: torch.device) -> int:
    """Splits of the keys, so that every processor of a GPU has a block; `lines` is B H."""
    if device.type != "cuda":
        return 1
    processors = torch.cuda.get_device_properties(device).multi_processor_count
    blocks = -(-quantised.tokens // tiles.queries) * lines
    return max(1, min(processors // blocks, quantised.keys // MIN_KEYS_PER_SPLIT, MAX_SPLITS))


def grid(out_sBHTD: Tensor, tiles: Tiles) -> tuple[int, int, int]:
    """Blocks of a main loop: tiles of queries times splits, heads, batch."""
    splits, batch, heads, tokens, _ = out_sBHTD.shape
    return -(-tokens // tiles.queries) * splits, heads, batch


def arguments(quantised: Quantised, out_sBHTD: Tensor, lse_sBHT: Tensor) -> tuple[Any, ...]:
    """Run-time arguments of a main loop after Q, K and V."""
    # A kernel takes a tensor for every argument; without lengths this one is not read.
    lengths = quantised.q_scale if quantised.lengths is None else quantised.lengths
    splits, _, heads, tokens, _ = out_sBHTD.shape
    return (
        quantised.q_scale, quantised.k_scale, quantised.v_scale, out_sBHTD, lse_sBHT, lengths, *out_sBHTD.stride(),
        heads, quantised.k.shape[1], tokens, quantised.keys, quantised.q.shape[2], quantised.k.shape[2], splits,
    )  # fmt: skip


def constants(width: int, pv: str, tiles: Tiles, fp8: bool) -> dict[str, int | float | str | bool]:
    """The compile-time constants of the main loop that follow from the arithmetic."""
    return {
        "D": width,
        # Tensor sizes are powers of two; 96 goes as 64 + 32.
        "DA": 64 if width == 96 else width,
        "DB": 32 if width == 96 else 0,
        "BM": tiles.queries,
        "BN": tiles.keys,
        "Q_GROUP": Q_GROUP,
        "K_GROUP": K_GROUP,
        "P_LOG2": math.log2(RANGES[pv, tiles.keys][0]),
        "PV": pv,
        # Promote once a tile; any limit but 0 keeps the two levels apart (see main_loop.add_values).
        "IMPRECISE": tiles.keys,
        "FP8": fp8,
    }
