"""Fixtures for every test file, and one thread for each test process."""

from __future__ import annotations

import os
import signal

# Two cores are shared by several test processes; set before torch is imported.
os.environ.setdefault("OMP_NUM_THREADS", "1")

from pathlib import Path

import pytest
from helpers.goldens import unpack

# A suite that was started in the background ignores Ctrl-C, and so would the programs that tests interrupt.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def goldens(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the original program's checkpoints, scenes and outputs, as tests/goldens/README.md lists them."""
    return unpack(tmp_path_factory.mktemp("goldens"))
