"""benchmarks/triangle_stage.py without a GPU: every variant is built and right, a wrong one is not reported."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from renderformer.config import ModelConfig

pytest.importorskip("triton", reason="Triton is not installed")
pytestmark = pytest.mark.filterwarnings("ignore::RuntimeWarning")
FOLDER = Path(__file__).parents[2] / "benchmarks"
SMALL = ModelConfig(latent_dim=192, num_heads=3, num_layers=2, dim_feedforward=256, vertex_pe_num_freqs=6)


@pytest.fixture
def bench(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(FOLDER)
    import triangle_stage

    return triangle_stage


def measure(bench: Any, variants: list[str]) -> list[dict[str, Any]]:
    rows = bench.measure("small", SMALL, 64, torch.device("cpu"), bench.on_cpu, variants, compiler="aot_eager")
    assert isinstance(rows, list)
    return rows


def test_every_variant_is_right(bench: Any) -> None:
    rows = measure(bench, list(bench.VARIANTS))
    assert [row["variant"] for row in rows] == list(bench.VARIANTS)
    errors = {row["variant"]: float(row["error"]) for row in rows}
    assert rows[0]["speedup"] == "1.00"
    # 8-bit attention and 8-bit linears each show.
    assert errors["sdpa"] < errors["sage"] < errors["sage, fp8, compiled, graph"]
    assert errors["sage"] != errors["plain"]


def test_a_wrong_result_is_not_reported(bench: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from renderformer.kernels.sage import operator

    monkeypatch.setattr(operator, "sageattn_projected", lambda q, *_, **__: torch.zeros_like(q))
    with pytest.raises(ValueError, match="small, 64 triangles, sage: relative error .*; not reported"):
        measure(bench, ["sage"])


def test_without_a_gpu_it_says_so() -> None:
    if torch.cuda.is_available():
        pytest.skip("there is a GPU")
    run = subprocess.run([sys.executable, FOLDER / "triangle_stage.py"], capture_output=True, text=True, check=False)
    assert (run.returncode, run.stdout) == (1, "")
    assert run.stderr == "error: there is no GPU; this benchmark needs an NVIDIA GPU\n"
