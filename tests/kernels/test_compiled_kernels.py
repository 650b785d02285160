"""The kernels compiled for GPUs that are not there: which instructions, how many registers, no spills.

Numbers hold for Triton 3.7.1; the limits leave room for other versions.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("triton", reason="Triton is not installed")
SCRIPT = Path(__file__).with_name("compile_kernels.py")
# Shared memory of one block, bytes.
SHARED = {80: 163 * 1024, 89: 99 * 1024, 90: 227 * 1024, 100: 227 * 1024, 120: 99 * 1024}


def compile_all(jobs: list[tuple[str, int, dict[str, Any]]], script: Path = SCRIPT) -> list[dict[str, Any]]:
    """In a process of their own: in this one the kernels belong to the interpreter."""
    environment = {key: value for key, value in os.environ.items() if key != "TRITON_INTERPRET"}
    environment["PYTHONPATH"] = os.pathsep.join([str(SCRIPT.parent), *filter(None, [os.environ.get("PYTHONPATH")])])
    run = subprocess.run(
        [sys.executable, script, json.dumps(jobs)], env=environment, capture_output=True, text=True, check=True
    )
    results = [json.loads(line) for line in run.stdout.splitlines()]
    assert [result.get("error") for result in results] == [None] * len(jobs)
    return results


def count(result: dict[str, Any], prefix: str) -> int:
    return sum(number for name, number in result["instructions"].items() if name.startswith(prefix))


def check_fits(result: dict[str, Any]) -> None:
    # Prologue kernels have four warps or eight.
    threads = 32 * result["settings"].get("tiles", (128, 64, 8, 3))[2]
    assert result["spills"] == 0, result
    assert result["registers"] * threads <= 65536, result
    assert result["shared"] <= SHARED[result["arch"]], result


# --- the main loop on every architecture, as `sageattn` launches it by default ---

# Triton 3.7 does not take the fifth generation's own unit for INT8 on sm_100.
SCORES = {80: "IMMA.16832.S8", 89: "IMMA.16832.S8", 90: "IGMMA", 100: "IMMA.16832.S8", 120: "IMMA.16832.S8"}
VALUES = {80: "HMMA.16816.F32", 89: "QMMA.16832.F16.E4M3", 90: "QGMMA", 100: "UTCQMMA", 120: "QMMA.16832.F16.E4M3"}
PV = {80: "fp16", 89: "fp32+fp16", 90: "fp32+fp32", 100: "fp32+fp32", 120: "fp32+fp16"}


@pytest.fixture(scope="module")
def default_kernels() -> dict[int, dict[str, Any]]:
    return {r["arch"]: r for r in compile_all([("attend", arch, {"pv": pv}) for arch, pv in PV.items()])}


@pytest.mark.parametrize("arch", sorted(PV))
def test_the_main_loop_uses_the_8_bit_tensor_cores(default_kernels: dict[int, dict[str, Any]], arch: int) -> None:
    result = default_kernels[arch]
    assert count(result, SCORES[arch]) or (arch == 100 and count(result, "UTCIMMA"))
    assert count(result, VALUES[arch])
    if arch != 80:
        # 8-bit operands are not widened for fp16 tensor cores.
        assert not count(result, "HMMA")
    check_fits(result)


@pytest.mark.parametrize("arch", [89, 90, 120])
def test_p_goes_from_result_to_operand_within_a_thread(default_kernels: dict[int, dict[str, Any]], arch: int) -> None:
    # Only the maxima and sums of rows go between threads.
    assert not count(default_kernels[arch], "SHFL.IDX")
    assert not count(default_kernels[arch], "PRMT")


def test_short_chains_are_still_promoted(default_kernels: dict[int, dict[str, Any]]) -> None:
    # 128 x 128 results of P V over 256 threads are 64 a thread, in two copies of the tile (with and without a mask):
    # the fp16 chains are unpacked and added to the fp32 sums.
    for arch in (89, 120):
        assert count(default_kernels[arch], "HADD2.F32") >= 128
    two = compile_all([("attend", 89, {"pv": "fp32+fp32"}), ("attend", 89, {"pv": "fp32"})])
    assert count(two[0], "QMMA.16832.F32.E4M3") == count(two[1], "QMMA.16832.F32.E4M3") > 0
    # Two levels rescale and add (FFMA: acc x alpha + chain), one level rescales only (FMUL) and adds in the core.
    assert count(two[0], "FFMA") - count(two[1], "FFMA") >= 128
    for result in two:
        check_fits(result)


def test_other_heads_scores_and_tiles_fit() -> None:
    jobs: list[tuple[str, int, dict[str, Any]]] = [
        ("attend", 90, {"pv": "fp32+fp32", "D": 96}),
        ("attend", 89, {"D": 64, "fp8": True, "causal": True}),
        ("attend", 89, {"tiles": (64, 64, 4, 3)}),
        ("attend", 90, {"pv": "fp32+fp32", "tiles": (64, 64, 4, 3)}),
    ]
    split, eight, *small = compile_all(jobs)
    for result in (split, eight, *small):
        check_fits(result)
    assert count(split, "IGMMA")
    assert count(split, "QGMMA")
    # E4M3 scores are products of the same unit as P V, with fp32 sums.
    assert count(eight, "QMMA.16832.F32.E4M3")
    assert not count(eight, "IMMA")


def test_the_prologue_fits_everywhere() -> None:
    results = compile_all(
        [
            ("statistics", 80, {"norm": True}),
            ("statistics", 90, {"norm": True, "centre": True}),
            ("statistics", 90, {"norm": True, "heads": 6}),
            ("statistics", 120, {"norm": True}),
            ("statistics", 90, {}),
            ("quantise", 80, {"norm": True, "pv": "fp16"}),
            ("quantise", 89, {"norm": True, "fp8": True}),
            ("quantise", 90, {"norm": True}),
            ("quantise", 100, {"norm": True}),
            ("quantise", 120, {"norm": True}),
            ("quantise", 90, {"D": 96}),
            ("combine", 90, {}),
        ]
    )
    for result in results:
        check_fits(result)
