"""Fixtures for every test file, and one thread for each test process."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator

# Test processes share the cores; torch reads this when it is imported.
os.environ.setdefault("OMP_NUM_THREADS", "1")

# Viewers of tests keep unsaved work and recent files apart from those of a person.
os.environ["XDG_STATE_HOME"] = tempfile.mkdtemp(prefix="renderformer-state-")

from pathlib import Path

import hypothesis
import pytest
from helpers.command import Result, Run
from helpers.goldens import unpack

# A busy machine makes a slow example of any.
hypothesis.settings.register_profile("no deadline", deadline=None)
hypothesis.settings.load_profile("no deadline")

# A process in the background ignores Ctrl-C; programs that tests interrupt would inherit this.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def goldens(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the original program's checkpoints, scenes and outputs, as tests/goldens/README.md lists them."""
    return unpack(tmp_path_factory.mktemp("goldens"))


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Run:
    """Call the program in this process, in an empty folder."""
    from renderformer.cli.main import main

    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "400")
    monkeypatch.delenv("RENDERFORMER_DEBUG", raising=False)

    def call(*arguments: object) -> Result:
        monkeypatch.setattr(sys, "argv", ["renderformer", *map(str, arguments)])
        capsys.readouterr()
        with pytest.raises(SystemExit) as stopped:
            main()
        captured = capsys.readouterr()
        return Result(int(stopped.value.code or 0), captured.out, captured.err)

    return call


@pytest.fixture
def display() -> Iterator[str]:
    """The name of an X display of its own."""
    read, write = os.pipe()
    server = subprocess.Popen(
        ["Xvfb", "-displayfd", str(write), "-screen", "0", "1300x900x24"], pass_fds=[write], stderr=subprocess.DEVNULL
    )
    os.close(write)
    with os.fdopen(read) as pipe:
        number = pipe.readline().strip()
    yield f":{number}"
    server.terminate()
    server.wait(30)
