"""The Gluon main loop compiled for Hopper without a GPU (Triton 3.7.1): instructions, no spills, what overlaps."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from test_compiled_kernels import SHARED, compile_all, count

pytest.importorskip("triton", minversion="3.7", reason="the Hopper main loop needs Triton 3.7")
SCRIPT = Path(__file__).with_name("compile_hopper.py")


@pytest.mark.parametrize(
    "settings",
    [
        {"D": 128},
        {"D": 64, "fp8": True, "lengths": True, "lse": True},
        {"D": 128, "fp8": True, "ones": ["heads", "key_heads", "tokens", "splits", "o_t"]},
        {"D": 64, "lengths": True, "lse": True},
    ],
)
def test_it_computes_weights_while_products_are_under_way(settings: dict[str, Any]) -> None:
    (result,) = compile_all([("hopper", 90, settings)], SCRIPT)
    assert result["spills"] == 0
    # Three groups of four warps share the registers: two of 240 and the loads' of 24.
    assert result["registers"] * 384 <= 65536
    assert result["shared"] <= SHARED[90]
    assert count(result, "USETMAXREG") >= 3
    # Q in two halves, K and V by TMA, in order by mbarriers.
    assert count(result, "UTMALDG.2D") >= 4
    assert count(result, "SYNCS")
    # Both kinds of products, 8 bits wide, for each of the two warpgroups; nothing on the slow paths.
    scores = "QGMMA.64x64x32.F32.E4M3" if settings.get("fp8") else "IGMMA.64x64x32.S8.S8"
    assert count(result, scores) >= 2 * 3 * settings["D"] // 32
    assert count(result, f"QGMMA.64x{settings['D']}x32.F32.E4M3") >= 2 * 2 * 2
    assert not any(count(result, slow) for slow in ("HMMA", "IMMA", "HGMMA", "QMMA"))
    # In the loop of each warpgroup two products are under way while at least half of a tile's 32 exponentials a thread
    # are computed, and P stays where a product reads it.
    assert not result["serialised"]
    assert not result["overwritten"]
    assert sum(products == 2 and exponentials >= 16 for products, exponentials in result["overlaps"]) == 2
