"""Fixtures for every test file, and one thread for each test process."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from typing import Any

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
def shown() -> Any:
    """The scene that `viewer` shows; a test file may have another."""
    from helpers.ray_engine import a_scene

    return a_scene()


@pytest.fixture
def viewer(shown: Any) -> Iterator[Any]:
    """A viewer with its server for the browser, over a fake renderer; no thread of it may remain."""
    pytest.importorskip("viser", reason="the viewer extra is not installed")
    from helpers.ray_engine import RayEngine

    from renderformer.viewer.session import Session
    from renderformer.viewer.web import WebViewer

    opened = WebViewer(Session(shown, RayEngine(), 128), port=8765)  # type: ignore[arg-type]
    yield opened
    opened.close()
    names = [thread.name for thread in threading.enumerate()]
    assert not [name for name in names if name.startswith("renderformer")]


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
