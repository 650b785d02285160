"""Shared by the benchmarks: timing, error, and rows with the machine, printed and appended to a CSV file."""

from __future__ import annotations

import csv
import math
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor

ROOT = Path(__file__).parents[1]


def seconds(run: Callable[[], Any], repeats: int = 3) -> float:
    """Median wall-clock time of `run` after one warm-up."""
    run()
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        run()
        times.append(time.perf_counter() - start)
    return statistics.median(times)


def device_milliseconds(run: Callable[[], Any], repeats: int = 30) -> float:
    """Median time of `run` on the GPU, by CUDA events after warming up; the L2 cache is cleared before each."""
    import torch

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


def decibels(squared_error: float) -> float:
    """PSNR of a mean squared error of display values."""
    return -10 * math.log10(max(squared_error, 1e-10))


def relative_error(ours: Tensor, exact: Tensor) -> float:
    """Relative L1 distance."""
    return float((ours.double() - exact).abs().sum() / exact.double().abs().sum())


def require_gpu() -> None:
    """Exit with an error if the quantised kernels cannot run."""
    import torch

    from renderformer.kernels.sage.device import unsupported

    reason = unsupported(torch.device("cuda")) if torch.cuda.is_available() else "there is no GPU"
    if reason:
        sys.exit(f"error: {reason}; this benchmark needs an NVIDIA GPU")


def machine() -> dict[str, str]:
    """Date, commit, processor and versions, the first columns of every row."""
    commit = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], cwd=ROOT, capture_output=True, text=True, check=False
    ).stdout.strip()
    path = Path("/proc/cpuinfo")
    lines = path.read_text().splitlines() if path.exists() else []
    names = [line for line in lines if line.startswith("model name")]
    row = {
        "date": datetime.now(UTC).strftime("%Y-%m-%d %H:%M"),
        "commit": commit or "unknown",
        "cpu": names[0].split(":")[1].strip() if names else platform.processor(),
        "cores": str(len(names)),
    }
    for package in ("torch", "numpy", "mitsuba"):
        try:
            row[package] = version(package)
        except PackageNotFoundError:
            row[package] = "-"
    return row


def report(name: str, rows: list[dict[str, Any]]) -> None:
    """Print the rows as a table and append them to benchmarks/results/<name>.csv."""
    widths = {key: max(len(key), *(len(str(row[key])) for row in rows)) for key in rows[0]}
    for row in [{key: key for key in rows[0]}, *rows]:
        print("  ".join(str(row[key]).rjust(widths[key]) for key in widths))
    path = ROOT / "benchmarks" / "results" / f"{name}.csv"
    path.parent.mkdir(exist_ok=True)
    new = not path.exists()
    with path.open("a", newline="") as file:
        writer = csv.DictWriter(file, [*machine(), *rows[0]])
        if new:
            writer.writeheader()
        writer.writerows({**machine(), **row} for row in rows)
