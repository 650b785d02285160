"""The viewer in a window: Open3D under Xvfb in a process of its own; and what is said where no window can open."""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path

import pytest

from renderformer.viewer.launch import view, window_problem

ROOT = Path(__file__).parents[1]
TOOLS = ("Xvfb", "xdotool", "import")
MISSING = [tool for tool in TOOLS if not shutil.which(tool)]
STUCK = 240.0

SCRIPT = """
import io, os, subprocess, sys, threading, time
from pathlib import Path
sys.path.append("scripts")
import numpy as np
from PIL import Image as Pillow
from ray_engine import RayEngine, a_scene
from renderformer.data.scene import Scene
from renderformer.image import Image
from renderformer.viewer.display import resized
from renderformer.viewer.session import Session
from renderformer.viewer.window import Window, gui

folder = sys.argv[1]
app = gui.Application.instance
app.initialize()
session = Session(a_scene(), RayEngine(), 96)
window = Window(session, 700, 420)

def until(condition, what):
    end = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < end, what + ": " + window._message
        app.run_one_tick()
    print("ok:", what, flush=True)

def screen():
    data = subprocess.run(["import", "-window", "root", "png:-"], capture_output=True, check=True).stdout
    return np.asarray(Pillow.open(io.BytesIO(data)).convert("RGB")).astype(float)

def final():
    return session.scheduler.wait(0) and session.frame is not None and session.frame.final

def shows_the_picture():
    if not final():
        return False
    box, frame = window.rectangle(), window.window.os_frame
    part = screen()[frame.y + box.y:, frame.x + box.x:][: box.height, : box.width]
    return np.abs(part - resized(session.picture(), box.width, box.height)).mean() < 4

def pointer(*words):
    return subprocess.Popen(["xdotool", *words])

until(shows_the_picture, "the picture is on the screen, equal up to resampling")
before = session.orbit.view
box, frame = window.rectangle(), window.window.os_frame
x, y = str(frame.x + box.x + box.width // 2), str(frame.y + box.y + box.height // 2)
step = ["mousemove_relative", "25", "8", "sleep", "1"]
job = pointer("mousemove", x, y, "sleep", "1", "mousedown", "1", "sleep", "1", *step, *step, "mouseup", "1")
turned = lambda: abs(session.orbit.view.azimuth - before.azimuth) > 5
until(lambda: job.poll() is not None and turned(), "a drag turns the camera")
until(shows_the_picture, "the turned picture is on the screen")
red = screen().mean((0, 1))
window._material(diffuse=(0.0, 0.9, 0.0))
until(shows_the_picture, "the edited picture is on the screen")
green = screen().mean((0, 1))
assert green[1] - green[0] > red[1] - red[0] + 5, (red, green)
for name in ("a.png", "a.exr", "a.json"):
    window._save(Path(folder) / name)
    assert window._message.startswith("wrote"), window._message
assert Image.load(folder + "/a.exr").hdr.shape == (96, 96, 3)
assert np.array_equal(np.asarray(Pillow.open(folder + "/a.png")), session.picture())
assert len(Scene.load(folder + "/a.json")) == len(session.document.scene)
for kind in ("preview", "split", "neural"):
    window._show(kind)
    app.run_one_tick()
    assert not window._message.startswith("error"), window._message
job = pointer("sleep", "0.5", "key", "Escape")
until(lambda: job.poll() is not None and window._escaped > 0, "escape arrives")
for _ in range(5):
    app.run_one_tick()
assert not window.closed
window._undo()
assert not session.document.edited
until(shows_the_picture, "the picture before the edit is on the screen")
window._escaped = -1e9
window._quit()
until(lambda: window.closed, "the window closes")
app.run_one_tick()
session.close()
assert "renderformer-viewer" not in [thread.name for thread in threading.enumerate()]
print("done", flush=True)
"""


@pytest.fixture
def display() -> Iterator[str]:
    read, write = os.pipe()
    server = subprocess.Popen(
        ["Xvfb", "-displayfd", str(write), "-screen", "0", "800x520x24"], pass_fds=[write], stderr=subprocess.DEVNULL
    )
    os.close(write)
    with os.fdopen(read) as pipe:
        number = pipe.readline().strip()
    yield f":{number}"
    server.terminate()
    server.wait(30)


@pytest.mark.skipif(bool(MISSING), reason=f"not installed: {', '.join(MISSING)} (apt install xvfb xdotool imagemagick)")
@pytest.mark.skipif(not importlib.util.find_spec("open3d"), reason="open3d is not installed")
def test_the_window_draws_turns_edits_saves_and_closes(display: str, tmp_path: Path) -> None:
    environment = {**os.environ, "DISPLAY": display}
    script = tmp_path / "script.py"
    script.write_text(textwrap.dedent(SCRIPT))
    command = [sys.executable, str(script), str(tmp_path)]
    done = subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=STUCK, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "done" in done.stdout


def test_without_a_display_the_remedy_is_named_and_nothing_is_opened(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DISPLAY", raising=False)
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: True)
    line = window_problem()
    assert "no display" in line
    assert "--web" in line
    assert "libgl1 libegl1 libgomp1" in line
    with pytest.raises(ValueError, match="no display"):
        view(None)  # type: ignore[arg-type]


def test_a_window_that_cannot_open_is_found_out_in_another_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DISPLAY", ":4711")
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: True)
    monkeypatch.setattr(sys, "executable", "/bin/false")
    line = window_problem()
    assert "a window cannot be opened here" in line
    assert "--web" in line


def test_missing_packages_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    for web in (False, True):
        with pytest.raises(ValueError, match=r"pip install 'renderformer\[viewer\]'"):
            view(None, web=web)  # type: ignore[arg-type]


def test_importing_the_package_loads_neither_open3d_nor_viser() -> None:
    code = "import sys, renderformer; renderformer.view; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert not {"open3d", "viser", "torch"} & set(loaded)
