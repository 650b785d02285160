"""The layout of feature images."""

from __future__ import annotations

import subprocess
import sys

import numpy as np

from renderformer.data.rays.channels import RGB


def test_the_layout_names_every_channel_once() -> None:
    assert RGB.total == 39
    assert np.concatenate([np.arange(RGB.total)[part] for part in RGB]).tolist() == list(range(RGB.total))
    assert {part.stop - part.start for part in RGB.by_colour} == {3}
    assert [part.stop - part.start for part in RGB.geometry] == [3, 3, 1]
    assert all(part in RGB.by_colour for part in RGB.light)


def test_the_layout_loads_no_heavy_package() -> None:
    code = "import sys, renderformer.data.rays.channels; print(sys.modules.keys() & {'torch', 'scipy', 'embreex'})"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "set()"
