"""The viewer's window under Xvfb: scripts that drive it, each in a process and on a screen of its own."""

from __future__ import annotations

import contextlib
import importlib.util
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
TOOLS = ("Xvfb", "xdotool", "import")
MISSING = [tool for tool in TOOLS if not shutil.which(tool)]
STUCK = 240.0

PRELUDE = """
import io, os, subprocess, sys, threading, time, traceback
from pathlib import Path
sys.path.append("tests")
import numpy as np
import renderformer as rf
from PIL import Image as Pillow
from helpers.ray_engine import RayEngine, a_scene
from renderformer.data.scene import Scene
from renderformer.image import Image
from renderformer.viewer.actions import ACTIONS, find
from renderformer.viewer.display import resized
from renderformer.viewer.launch import lean_open3d
from renderformer.viewer.session import Session
with lean_open3d():
    from renderformer.viewer.window import Window, gui

def fail(*error):
    # Open3D may hang where Python ends by an exception.
    traceback.print_exception(*error)
    sys.stderr.flush()
    os._exit(1)

sys.excepthook = fail
folder = Path(sys.argv[1])
app = gui.Application.instance
app.initialize()

def until(condition, what):
    end = time.monotonic() + 90
    while not condition():
        assert time.monotonic() < end, what + ": " + window.message
        app.run_one_tick()
    print("ok:", what, flush=True)

def screen():
    data = subprocess.run(["import", "-window", "root", "png:-"], capture_output=True, check=True).stdout
    return np.asarray(Pillow.open(io.BytesIO(data)).convert("RGB")).astype(float)

def view():
    box, frame = window.rectangle(), window.window.os_frame
    return screen()[frame.y + box.y:, frame.x + box.x:][: box.height, : box.width]

def final():
    return session.scheduler.wait(0) and session.frame is not None and session.frame.final

def shows(picture):
    box = window.rectangle()
    return np.abs(view() - resized(picture, box.width, box.height)).mean() < 4

def shows_the_picture():
    return final() and shows(session.picture())

def pointer(*words):
    # Dear ImGui sees a press only if it is held for longer than it takes to draw.
    job = subprocess.Popen(["xdotool", *map(str, words)])
    while job.poll() is None:
        app.run_one_tick()
    assert job.returncode == 0

def click(x, y):
    pointer("mousemove", x, y, "sleep", "0.5", "mousedown", "1", "sleep", "0.6", "mouseup", "1", "sleep", "0.3")

def middle(widget):
    frame, area = window.window.os_frame, widget.frame
    return frame.x + area.x + area.width // 2, frame.y + area.y + area.height // 2

def press(widget, done, what):
    # Open3D reads buttons only when it draws, so a stall may lose a click (docs/viewer.md); a person tries again.
    for _ in range(3):
        if not done():
            click(*middle(widget))
            end = time.monotonic() + 15
            while not done() and time.monotonic() < end:
                app.run_one_tick()
    until(done, what)

def drag(x, y, *steps):
    moves = [word for dx, dy in steps for word in ("mousemove_relative", "--", dx, dy, "sleep", "0.6")]
    pointer("mousemove", x, y, "sleep", "0.6", "mousedown", "1", "sleep", "0.6", *moves, "mouseup", "1")

def at(share_x, share_y):
    box, frame = window.rectangle(), window.window.os_frame
    return frame.x + box.x + int(share_x * box.width), frame.y + box.y + int(share_y * box.height)

def saved(path, turn=0.0):
    window.save(path, turn)
    until(lambda: session.task is None and path.name in window.message, "save " + path.name)
    assert window.message.startswith("saving " + path.name + ": done"), window.message

def leave():
    window.ask_close()
    until(lambda: window.closed, "the window closes")
    for _ in range(3):
        app.run_one_tick()
    assert session.close()
    names = [thread.name for thread in threading.enumerate()]
    assert not [name for name in names if name.startswith("renderformer")], names
    print("done", flush=True)
"""


needs_a_screen = pytest.mark.skipif(
    bool(MISSING) or not importlib.util.find_spec("open3d"),
    reason=f"not installed: {', '.join(MISSING) or 'open3d'} (apt install xvfb xdotool imagemagick)",
)


def _group_runs(group: int) -> bool:
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    return True


def run(script: str, folder: Path, display: str, name: str = "script.py") -> str:
    """The output of a script in a process and on a screen of its own; no process may remain."""
    file = folder / name
    file.write_text(script)
    environment = {**os.environ, "DISPLAY": display, "PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'tests'}"}
    process = subprocess.Popen(
        [sys.executable, str(file), str(folder)],
        cwd=ROOT,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    try:
        output, _ = process.communicate(timeout=STUCK)
        assert process.returncode == 0, output
        # The script's xdotool may still be ending when the script itself has.
        deadline = time.monotonic() + 10
        while _group_runs(process.pid) and time.monotonic() < deadline:
            time.sleep(0.1)
        assert not _group_runs(process.pid)
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
    return output
