"""The layouts of feature images."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest

from renderformer.data.rays.channels import MONOCHROME, RGB, Channels


@pytest.mark.parametrize(("layout", "total", "colours"), [(RGB, 35, 3), (MONOCHROME, 17, 1)])
def test_a_layout_names_every_channel_once(layout: Channels, total: int, colours: int) -> None:
    assert layout.total == total
    assert np.concatenate([np.arange(total)[part] for part in layout]).tolist() == list(range(total))
    assert {part.stop - part.start for part in layout.by_colour} == {colours}
    assert [part.stop - part.start for part in layout.geometry] == [3, 3, 1]


def test_geometry_stands_at_the_same_place_in_both_layouts() -> None:
    assert (RGB.mask, RGB.normal, RGB.position) == (MONOCHROME.mask, MONOCHROME.normal, MONOCHROME.position)


def test_the_layouts_load_no_heavy_package() -> None:
    code = "import sys, renderformer.data.rays.channels; print(sys.modules.keys() & {'torch', 'scipy', 'embreex'})"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "set()"
