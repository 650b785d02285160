"""The viewer in a window: Open3D under Xvfb in a process of its own; and messages without a display."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest
from helpers.window import PRELUDE, ROOT, STUCK, needs_a_screen, run

from renderformer.data.errors import InputError
from renderformer.viewer.launch import check_front_end, view

DRAWS = """
renderer = rf.Renderer.from_pretrained(network=True)
session = Session(a_scene(), renderer, 64)
window = Window(session, 700, 420)
until(final, "the full picture")
expected = renderer.render(a_scene(), 64)[0]
expected.save(folder / "expected.png")
display = np.asarray(Pillow.open(folder / "expected.png"))
assert np.array_equal(display, session.picture())
until(lambda: shows(display), "what render draws is on the screen, equal up to resampling")
saved(folder / "a.exr")
assert np.allclose(Image.load(folder / "a.exr").hdr, expected.hdr, rtol=2e-3, atol=1e-4)
before = session.frame.scene
window._apply("", lambda: window.panel.set_material(diffuse=(0.1, 0.2, 0.9)))
until(lambda: session.frame.scene != before and shows_the_picture(), "the edited picture is on the screen")
assert session.facts()["model"].startswith("embedded on cpu")
window.panel.timeline.add()
session.move(lambda orbit: orbit.orbit(30, 0))
session.key_frames.add(session.orbit.view, 0.2)
saved(folder / "path.mp4")
saved(folder / "path.keys.json")
import imageio.v3 as imageio
frames = imageio.imread(folder / "path.mp4")
assert len(frames) == 6 and frames[0].shape == (64, 64, 3)
last = renderer.render(session.document.scene, 64, session.key_frames.cameras(24)[-1])[0].tone_mapped(session.tone_map)
assert np.abs(frames[-1] - 255 * last).mean() < 6, np.abs(frames[-1] - 255 * last).mean()
for step in ("add key frame", "diffuse of"):
    window.perform(find("Z", True))
    assert window.message.startswith("undo: " + step), window.message
assert not session.document.unsaved
leave()
"""

SCRIPT = """
session = Session(a_scene(), RayEngine(), 96)
window = Window(session, 900, 420)
until(shows_the_picture, "the picture is on the screen, equal up to resampling")
before = session.orbit.view
drag(*at(0.5, 0.5), (25, 8), (25, 8))
until(lambda: abs(session.orbit.view.azimuth - before.azimuth) > 5, "a drag turns the camera")
until(shows_the_picture, "the turned picture is on the screen")

# A number is typed into a field, and does nothing else.
click(*middle(window.controls["camera azimuth"]))
pointer("key", "ctrl+a", "sleep", "0.3", "type", "--delay", "300", "12")
pointer("key", "Return", "sleep", "0.3")
assert abs(session.orbit.view.azimuth - 12) < 1e-6, session.orbit.view
assert window.panel.kind == "neural" and not session.orbit.bookmarks

# A press during the preview does not end it.
window._apply("", lambda: window.panel.show("preview"))
for turn in range(3):
    drag(*at(0.5, 0.5), (10, 0))
    until(lambda: view().mean() > 20, "the preview is on the screen after a drag")
window._apply("", lambda: window.panel.show("neural"))
window._apply("", lambda: window.panel.set_view(azimuth=12.0))
until(shows_the_picture, "the picture is on the screen after the preview")

# Escape leaves a window without edits open, too.
pointer("key", "Escape", "sleep", "0.3")
for _ in range(5):
    app.run_one_tick()
assert not window.closed

# Keys on the picture act.
click(*at(0.5, 0.5))
assert "triangle" in window.message
pointer("key", "b", "sleep", "0.3", "key", "3", "sleep", "0.3")
assert list(session.orbit.bookmarks) == ["view 1"] and window.panel.kind == "split"
until(lambda: view()[:, int(0.5 * window.rectangle().width) + 1].min() > 250, "the bar is drawn")
drag(*at(0.5, 0.5), (-20, 0), (-30, 0))
assert window.panel.bar < 0.45, window.panel.bar
pointer("key", "1")
until(shows_the_picture, "the neural view is back")

red = view().mean((0, 1))
window._apply("", lambda: window.panel.set_material(diffuse=(0.0, 0.9, 0.0)))
until(shows_the_picture, "the edited picture is on the screen")
green = view().mean((0, 1))
assert green[1] - green[0] > red[1] - red[0] + 5, (red, green)
for name in ("a.png", "a.exr"):
    saved(folder / name)
assert Image.load(folder / "a.exr").hdr.shape == (96, 96, 3)
assert np.array_equal(np.asarray(Pillow.open(folder / "a.png")), session.picture())

# Escape does nothing to the window, also while the program stalls, and closing asks.
def escape():
    pointer("keydown", "Escape", "sleep", "0.3")
    time.sleep(1)
    pointer("keyup", "Escape", "sleep", "0.3")
    for _ in range(5):
        app.run_one_tick()

escape()
assert not window.closed and session.document.unsaved and window.dialog is None
window.ask_close()
assert not window.closed and window.dialog is not None
escape()
assert not window.closed and window.dialog is None
saved(folder / "a.json")
assert len(Scene.load(folder / "a.json")) == len(session.document.scene)
assert not session.document.unsaved

# A video is saved while the window lives, and cancelled without a file.
session.size = 256, 256
window.save(folder / "turn.mp4", 4.0)
until(lambda: window.activity.cancels and "turn.mp4" in window.activity.text, "progress is shown")
before = session.orbit.view
drag(*at(0.5, 0.5), (25, 0))
assert session.orbit.view != before and session.task is not None
for _ in range(5):
    app.run_one_tick()
click(*middle(window.activity.button))
window.window.set_focus_widget(window.image)
until(lambda: session.task is None and "cancelled" in window.message, "the video is cancelled")
assert sorted(item.name for item in folder.iterdir() if "mp4" in item.name) == []
session.size = 96, 96

# Another file, and back.
before = session.frame.scene
window.open(Path("examples/assets/boxes.glb"))
until(lambda: session.task is None and final() and session.frame.scene != before, "another file is drawn")
assert window.controls["object object"].number_of_items == len(session.document.items)
pointer("key", "ctrl+z", "sleep", "0.5", "key", "ctrl+z", "sleep", "0.5")
assert not session.document.edited
until(shows_the_picture, "the picture before the edit is on the screen")
# A file that cannot be read gives one line, in red, and the open scene stays.
window.open(Path("nothing.glb"))
until(lambda: "nothing.glb" in window.message, "a wrong file is told")
assert not session.document.edited
assert window._said.text.startswith("error:") and window._said.text_color.green < 0.5

# The preview shows where the camera is while the picture is late.
session.scheduler._engine = None
window._apply("", lambda: session.move(lambda orbit: orbit.orbit(20, 0)))
until(lambda: window.panel.late and not shows(session.picture()) and view().mean() > 5, "the preview takes over")
leave()
"""

CLOSED = """
import os, signal, subprocess, threading, time
import renderformer as rf
from helpers.ray_engine import RayEngine, a_scene
from renderformer.viewer.launch import lean_open3d
with lean_open3d():
    from renderformer.viewer.window import Window

windows = []
tick = Window._tick
Window._tick = lambda self: windows.append(self) or tick(self)

def press():
    subprocess.run(["xdotool", "mousemove", "200", "300", "key", "ctrl+q"], capture_output=True)

def end(way, closed):
    while not windows:
        time.sleep(0.1)
    time.sleep(1)
    way()
    # A key may be lost before the window has the focus.
    while way is press and not closed.wait(3):
        way()

ways = {
    "a key": press,
    "Ctrl-C": lambda: os.kill(os.getpid(), signal.SIGINT),
    # As Open3D calls back for the button of the window.
    "the close button": lambda: windows[-1]._post(windows[-1]._on_close),
}
scene = a_scene()
for name, way in ways.items():
    windows.clear()
    closed = threading.Event()
    threading.Thread(target=end, args=(way, closed), daemon=True).start()
    assert rf.view(scene, RayEngine(), resolution=64) is scene
    closed.set()
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    print("closed by", name, flush=True)
assert not [thread for thread in threading.enumerate() if thread.name.startswith("renderformer")]
print("done", flush=True)
"""

NAMED = """
session = Session(a_scene(), rf.Renderer.from_pretrained(network=False))
session.set_scale(0.2)
window = Window(session, 900, 600)
until(shows_the_picture, "the picture is on the screen")
# It fills all that is beside the panel and above the foot.
box, area = window.rectangle(), window.window.content_rect
assert (box.x, box.y) == (area.x, area.y)
assert (box.width, box.height) == (area.width - window._panel_width(), area.height - window._foot_height())
assert session.size == (round(0.2 * box.width), round(0.2 * box.height))
# A turned camera has pictures at once, which only grow.
frames, framed = [], session.on_frame
session.on_frame = lambda frame: (frames.append(frame), framed(frame))
drag(*at(0.5, 0.5), (9, 4), (9, 4), (9, 4))
until(shows_the_picture, "the turned picture is on the screen")
last = [frame.image.width for frame in frames if frame.camera is session.orbit.camera]
assert len(last) > 1 and last == sorted(last), last
# Warnings come in letters that the font has.
warnings, session.warnings = session.warnings, lambda: ["the camera stands 3 from the middle, trained on 1.5 … 2"]
window._refresh()
def full(label):
    return label.tooltip.replace(chr(10), " ")

assert "trained on 1.5 ... 2" in full(window._warnings), full(window._warnings)

session.warnings = warnings

# Nothing in the panel moves, whatever there is to tell.
frames = [(area.x, area.y) for area in (window.controls["camera fov"].frame, window._column.frame)]
window._say("a long line " * 40, failed=True)
ended = threading.Event()
session.start("long work", lambda progress, cancel: [ended.wait(90)] and [])
until(lambda: window.activity.cancels, "the work is shown")
assert frames == [(area.x, area.y) for area in (window.controls["camera fov"].frame, window._column.frame)]
assert len(window._said.text) < 120 and window._said.text.endswith("...") and len(full(window._said)) > 400
ended.set()
until(lambda: session.task is None and not window.activity.cancels, "the work is done")
assert window._said.text_color.green > 0.5

# Work that appears and ends takes neither the field in which a person types, nor its text.
def works():
    ended.clear()
    session.start("other work", lambda progress, cancel: [ended.wait(90)] and [])
    until(lambda: window.activity.cancels, "other work is shown")

def rests():
    ended.set()
    until(lambda: session.task is None and not window.activity.cancels, "other work is done")

field = window.controls["camera elevation"]
click(*middle(field))
pointer("key", "ctrl+a", "sleep", "0.3", "type", "--delay", "300", "1")
works()
rests()
pointer("type", "--delay", "300", "2")
pointer("keydown", "Return", "sleep", "0.3", "keyup", "Return")
until(lambda: session.orbit.view.elevation == 12.0, "all that was typed counts")

# A drop-down list appears at its press, and a line of it is chosen.
x, y = middle(window.controls["picture tone map"])
before = screen()
click(x, y)
until(lambda: np.abs(screen() - before)[y + 12 : y + 60, x - 40 : x + 40].mean() > 5, "the list opens")
works()
rests()
assert np.abs(screen() - before)[y + 12 : y + 60, x - 40 : x + 40].mean() > 5
pointer("mousemove", x, y + 44, "sleep", "0.5", "mousedown", "1", "sleep", "0.6", "mouseup", "1", "sleep", "0.3")
assert session.tone_map != "neutral", session.tone_map

# What is out of range does not stay in its field.
field = window.controls["camera elevation"]
click(*middle(field))
pointer("key", "ctrl+a", "sleep", "0.3", "type", "--delay", "300", "999")
pointer("key", "Return", "sleep", "0.5")
assert field.double_value == session.orbit.view.elevation == 90.0

# An edit in the panel is undone while the panel has the focus; in another view a press keeps the picture.
window._apply("", lambda: window.panel.set_material(diffuse=(0.0, 0.9, 0.0)))
assert session.document.edited
for attempt in range(3):
    # On a busy machine, keys may come before the field has the focus.
    click(*middle(field))
    pointer("key", "ctrl+a", "sleep", "0.3", "type", "--delay", "300", "30")
    pointer("key", "Return", "sleep", "0.5")
    if session.orbit.view.elevation == 30.0:
        break
assert session.orbit.view.elevation == 30.0, session.orbit.view
pointer("key", "ctrl+z", "sleep", "0.5")
until(lambda: not session.document.edited, "undo in the panel")
for kind in ("preview", "split"):
    window._apply("", lambda: window.panel.show(kind))
    for press in range(2):
        click(*at(0.2, 0.5))
        assert view()[:, : window.rectangle().width // 3].mean() > 5, kind
window._apply("", lambda: window.panel.show("neural"))
# A name without a suffix becomes a scene JSON.
window._folder, here = folder, Path.cwd()
window.perform(find("S", True))
pointer("sleep", "1")
frame, area = window.window.os_frame, window.dialog.frame
click(frame.x + area.x + area.width // 2, frame.y + area.y + 27)
pointer("type", "--delay", "300", "abc")
click(frame.x + area.x + area.width - 42, frame.y + area.y + area.height - 34)
until(lambda: (folder / "abc.json").exists() and session.task is None, "the scene is saved")
assert not (folder / "abc.hdf5").exists()
# Open3D's dialog leaves the process in the folder that was chosen; relative paths, as of -o, mean what they meant.
assert Path.cwd() == here != folder
# From then on, Ctrl S saves there without a question, until another scene is open.
window._apply("", lambda: window.panel.set_material(diffuse=(0.0, 0.1, 0.9)))
before = (folder / "abc.json").read_bytes()
pointer("key", "ctrl+s", "sleep", "0.5")
until(lambda: session.task is None and "abc.json: done" in window.message, "it is saved again")
assert window.dialog is None and (folder / "abc.json").read_bytes() != before and not session.unsaved
window.open(Path("examples/assets/boxes.glb"))
until(lambda: session.task is None and session.document.undo_label == "open boxes", "another scene is open")
pointer("key", "ctrl+s", "sleep", "0.5")
until(lambda: window.dialog is not None, "it asks for a name")
window._end_dialog()
leave()
"""

LEFT_BEHIND = """
from renderformer.viewer.recovery import Recovery

os.environ["XDG_STATE_HOME"] = str(folder)
killed = Session(a_scene(), RayEngine(), 96)
left = Recovery(killed)
killed.edit(lambda document: document.set_material(document.items[0].name, diffuse=(0.0, 0.9, 0.0)))
while left._written is None:
    time.sleep(0.05)
# As after a kill: the lock goes, the folder stays.
left._done.set()
left._thread.join()
left._own.release()

session = Session(a_scene(), RayEngine(), 96)
session.recovery = Recovery(session)
window = Window(session, 900, 420)
until(lambda: window.dialog is not None, "the window offers what was left behind")
pointer("sleep", "1")
frame, area = window.window.os_frame, window.dialog.frame
# On the second of three buttons at the right edge, which asks again.
offer = window.dialog
click(frame.x + area.x + area.width - 120, frame.y + area.y + area.height - 25)
until(lambda: window.dialog not in (None, offer), "it asks before it deletes the work")
pointer("key", "Escape", "sleep", "0.5")
until(lambda: window.dialog is None and session.recovery.offer.startswith("A viewer ended with unsaved"), "it is kept")
window.perform(next(action for action in ACTIONS if action.name == "recover"))
pointer("sleep", "1")
area = window.dialog.frame
# On the first of three.
click(frame.x + area.x + area.width - 207, frame.y + area.y + area.height - 25)
until(lambda: session.task is None and session.document.edited, "the work is back")
assert window.dialog is None and "no file yet" in window.message, window.message
assert window.controls["object diffuse"].color_value.green > 0.9
until(shows_the_picture, "the recovered picture is on the screen")
window._apply("", lambda: window.panel.undo())
# Nothing else is left, and the menu says so.
window._guarded(window.ask_recover)()
assert "no unsaved work" in window.message, window.message
# A recent file is opened from its list.
from renderformer.viewer.recent import recent, remember
remember("examples/knot_room.json")
remember("examples/assets/boxes.glb")
remember("examples/knot_room.json")
window.perform(next(action for action in ACTIONS if action.name == "open recent"))
pointer("sleep", "1")
frame, area = window.window.os_frame, window.dialog.frame
click(frame.x + area.x + area.width // 2, frame.y + area.y + 88)
until(lambda: session.document.undo_label == "open boxes" and session.task is None, "the second of the list is open")
assert recent()[0][0].name == "boxes.glb"
session.recovery.close()
assert not list(folder.glob("renderformer/unsaved/*"))
assert killed.close()
leave()
"""


@needs_a_screen
def test_the_window_shows_what_render_draws_with_the_embedded_model(display: str, tmp_path: Path) -> None:
    assert "done" in run(PRELUDE + DRAWS, tmp_path, display)


@needs_a_screen
def test_the_window_turns_edits_saves_asks_and_closes(display: str, tmp_path: Path) -> None:
    assert "done" in run(PRELUDE + SCRIPT, tmp_path, display)


@needs_a_screen
def test_view_from_python_opens_again_and_returns_the_scene_however_it_is_closed(display: str, tmp_path: Path) -> None:
    output = run(CLOSED, tmp_path, display)
    assert output.count("closed by") == 3
    assert "done" in output


@needs_a_screen
def test_the_panel_stays_in_place_lists_open_undo_works_everywhere_and_names_get_a_suffix(
    display: str, tmp_path: Path
) -> None:
    assert "done" in run(PRELUDE + NAMED, tmp_path, display)


@needs_a_screen
def test_the_window_offers_the_work_of_a_viewer_that_was_killed(display: str, tmp_path: Path) -> None:
    assert "done" in run(PRELUDE + LEFT_BEHIND, tmp_path, display)


@pytest.mark.skipif(not importlib.util.find_spec("open3d"), reason="open3d is not installed")
def test_the_window_loads_open3d_without_its_machine_learning_which_can_be_loaded_later() -> None:
    code = """
import sys
from renderformer.viewer.launch import lean_open3d
with lean_open3d():
    import open3d
assert not {"sklearn", "open3d.ml"} & sys.modules.keys()
assert open3d.geometry.TriangleMesh.create_box().has_triangles()
import open3d.ml
assert open3d.ml.datasets
with lean_open3d():
    import open3d.ml
assert open3d.ml.datasets
"""
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)}, check=True)


@pytest.mark.skipif(not importlib.util.find_spec("open3d"), reason="open3d is not installed")
@pytest.mark.parametrize("shown", ["", ":4711"])
def test_the_program_without_a_display_ends_with_one_line(shown: str) -> None:
    environment = {**os.environ, "DISPLAY": shown, "PYTHONPATH": str(ROOT)}
    environment.pop("WAYLAND_DISPLAY", None)
    start = "from renderformer.cli.main import main; main()"
    result = subprocess.run(
        [sys.executable, "-c", start, "view", "examples/assets/boxes.glb"],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        timeout=STUCK,
        check=False,
    )
    assert result.returncode == 1
    (line,) = [line for line in result.stderr.splitlines() if not line.startswith("note: ")]
    assert line.startswith("error: view: ")
    assert "--web" in line
    assert "libgl1" in line
    assert not result.stdout


def test_without_a_display_the_remedy_is_named_and_nothing_is_opened(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DISPLAY", raising=False)
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: True)
    with pytest.raises(InputError, match="no display") as raised:
        check_front_end(web=False)
    assert "--web" in raised.value.remedy
    assert "libgl1 libegl1 libgomp1" in raised.value.remedy
    with pytest.raises(ValueError, match="no display"):
        view(None)  # type: ignore[arg-type]


def test_a_window_that_cannot_open_is_found_out_in_another_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DISPLAY", ":4711")
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: True)
    monkeypatch.setattr(sys, "executable", "/bin/false")
    with pytest.raises(InputError, match="a window cannot be opened here") as raised:
        check_front_end(web=False)
    assert "--web" in raised.value.remedy


def test_missing_packages_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    for web in (False, True):
        with pytest.raises(ValueError, match=r"pip install 'renderformer\[viewer\]'"):
            view(None, web=web)  # type: ignore[arg-type]


@pytest.mark.skipif(not importlib.util.find_spec("viser"), reason="viser is not installed")
def test_a_port_out_of_range_and_what_is_no_scene_are_refused(tmp_path: Path) -> None:
    for port in (80000, -1):
        with pytest.raises(InputError, match=f"port is {port}; expected a whole number from 0 to 65535"):
            view("nothing.glb", web=True, port=port)
    with pytest.raises(InputError, match=r"nothing\.glb"):
        view(tmp_path / "nothing.glb", web=True)
    with pytest.raises(InputError, match="scene is a int; give a Scene or the path of a file"):
        view(3, web=True)  # type: ignore[arg-type]


def test_importing_the_package_loads_neither_open3d_nor_viser() -> None:
    code = "import sys, renderformer; renderformer.view; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert not {"open3d", "viser", "torch"} & set(loaded)
