"""What every test shares: one thread per process, and the folder of goldens."""

from __future__ import annotations

import os
import signal

# Two cores are shared by several test processes; set before torch is imported.
os.environ.setdefault("OMP_NUM_THREADS", "1")

from pathlib import Path

import pytest

# A suite that was started in the background ignores Ctrl-C, and so would the programs that tests interrupt.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

GOLDENS = Path(__file__).parents[1].parent / "shared" / "goldens"


@pytest.fixture(scope="session")
def goldens() -> Path:
    """The folder of what the original program computed; a test that needs it is skipped where it is not there."""
    if not (GOLDENS / "README.md").is_file():
        pytest.skip(f"the original program's outputs are not at {GOLDENS}")
    return GOLDENS
