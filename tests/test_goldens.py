"""The weights drawn from seeds are those that the original program used."""

from __future__ import annotations

from pathlib import Path

import pytest
from safetensors.torch import load_file

LAST_DRAWN = "view_transformer.out_dpt.scratch.output_conv2.0.bias"


@pytest.mark.parametrize(
    ("case", "total", "last"),
    [
        ("base_like", 62694.82172, 0.0772756859),
        ("swin_like", 68278.89512, -0.4142346084),
        ("base_p32", 24948.55327, -0.2104869335),
    ],
)
def test_drawn_weights_are_the_ones_of_the_original(goldens: Path, case: str, total: float, last: float) -> None:
    weights = load_file(goldens / case / "model.safetensors")
    drawn = [key for key in weights if not key.endswith("freqs") and "output_conv2.2" not in key]
    assert sum(float(weights[key].double().abs().sum()) for key in drawn) == pytest.approx(total, rel=1e-7)
    assert float(weights[LAST_DRAWN][-1]) == pytest.approx(last, rel=1e-6)
