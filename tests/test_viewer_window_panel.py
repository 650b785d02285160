"""The panel of the window, driven as a person does it, with a real pointer and real keys under Xvfb."""

from __future__ import annotations

from pathlib import Path

from helpers.window import PRELUDE, needs_a_screen, run

SETUP = """
from renderformer.data.scene import Material
session = Session(a_scene(), RayEngine(), 64)
window = Window(session, 900, 700)
panel, timeline = window.panel, window.panel.timeline
until(final, "the picture is there")

def unfold(section):
    window.controls.unfold(section)
    window.window.set_needs_layout()
    for _ in range(4):
        app.run_one_tick()

def number(name, text, done, what):
    # A number is typed into a field; on a busy machine, keys may come before the field has the focus.
    for _ in range(3):
        if not done():
            click(*middle(window.controls[name]))
            pointer("key", "ctrl+a", "sleep", "0.3", "type", "--delay", "200", "--", text)
            pointer("keydown", "Return", "sleep", "0.3", "keyup", "Return", "sleep", "0.3")
    until(done, what)

def leave_unsaved():
    window._leave()
    for _ in range(3):
        app.run_one_tick()
    assert session.close()
    print("done", flush=True)
"""

KEY_FRAMES = """
PATH = "bookmarks and key frames "
unfold("Bookmarks and key frames")
for count in (1, 2):
    press(window.controls[PATH + "add key"], lambda: len(timeline.keys) == count, f"key frame {count} is added")
    session.move(lambda orbit: orbit.orbit(40, 0))
# All of them are deleted by one press, and are back by one key.
press(window.controls[PATH + "clear"], lambda: not timeline.keys, "no key frames are left")
pointer("key", "ctrl+z", "sleep", "0.5")
until(lambda: timeline.times == (0, 2) and window.message == "undo: clear key frames", "the key frames are back")
# Playback ends at the last one, and its button comes up.
press(window.controls[PATH + "play"], lambda: panel.playing, "they are played")
until(lambda: not panel.playing, "playback ends")
for _ in range(3):
    app.run_one_tick()
assert not window.controls[PATH + "play"].is_on
assert session.orbit.view == timeline.keys[-1].view
# Closing asks, and offers to save what would be lost.
window.ask_close()
pointer("sleep", "1")
frame, area = window.window.os_frame, window.dialog.frame
# On the first of three buttons at the right edge.
click(frame.x + area.x + area.width - 225, frame.y + area.y + area.height - 25)
until(lambda: window.dialog is not None and not window.closed, "it asks for a file")
pointer("key", "Escape", "sleep", "0.5")
until(lambda: window.dialog is None, "Escape closes the dialog")
saved(folder / "a.keys.json")
leave()
"""

NUMBERS = """
# All lists and fields are of one width, also those that were empty at first.
unfold("Bookmarks and key frames")
window.controls._sections["Camera"].set_is_open(True)
window.window.set_needs_layout()
press(window.controls["bookmarks and key frames add"], lambda: session.orbit.bookmarks, "a bookmark is added")
names = ("camera azimuth", "camera fov", *("bookmarks and key frames " + name for name in ("bookmark", "time", "key")))
frames = [window.controls[name].frame for name in names]
assert len({(frame.x, frame.width) for frame in frames}) == 1 and frames[0].width > 150, frames
# A number out of range counts as the nearest one in it, with a line that says so; an angle goes around.
unfold("Camera")
number("camera fov", "500", lambda: window.message == "fov: 500 is out of range, 170 counts", "it is told")
assert window.controls["camera fov"].double_value == session.orbit.view.fov <= 170
number("camera azimuth", "725", lambda: abs(session.orbit.view.azimuth - 5) < 1e-6, "the angle goes around")
assert not window.message, window.message
# Choosing an object of any material shows it, and changes nothing.
brass = Material((0.05, 0.2, 0.1), specular=(0.1, 0.1, 0.2), roughness=0.37)
scene = Scene((a_scene().objects[0].with_material(brass), *a_scene().objects[1:]))
session.edit(lambda document: document.open(scene))
for name in ("floor", "wall_back", "floor"):
    window._apply("", lambda: panel.choose(name))
    for _ in range(6):
        app.run_one_tick()
assert session.document.scene is scene, session.document.undo_label
assert abs(window.controls["object specular"].double_value - 0.4 / 3) < 1e-6
number("object scale", "-3", lambda: "-3 is out of range" in window.message, "it is told")
assert panel.item.placement.scale == window.controls["object scale"].double_value == 0.01
# It is narrow, and as it was again.
for width in (500, 900):
    window.window.size = gui.Size(width, 700)
    for _ in range(5):
        app.run_one_tick()
    field, column = window.controls["object scale"].frame, window._column.frame
    assert column.x < field.x and field.get_right() <= column.get_right() - 16, (width, field.x, field.width)
leave_unsaved()
"""

VIEWS = """
# The preview has the background of the picture.
session.edit(lambda document: document.set_environment(kind="sky"))
window._apply("", lambda: panel.show("split"))
for background, seen in (("#4080c0", (64, 128, 192)), ("invisible", (0, 0, 0))):
    session.edit(lambda document: document.set_environment(background=background))
    window._refresh()
    until(lambda: np.abs(view()[3, 3] - seen).max() < 3, f"the preview before {background}")
session.edit(lambda document: document.set_environment(background="visible"))
window._refresh()
until(lambda: view()[3, 3].min() > 40, "the preview before the sky")
# Escape closes an open list and gives the keys to the picture; then it chooses nothing.
def escape():
    pointer("keydown", "Escape", "sleep", "0.3", "keyup", "Escape", "sleep", "0.5")

window._apply("", lambda: panel.choose("floor"))
window.controls._sections["Picture"].set_is_open(True)
window.window.set_needs_layout()
for _ in range(4):
    app.run_one_tick()
x, y = middle(window.controls["picture tone map"])
pointer("mousemove", x, y, "sleep", "0.5")
closed = screen()

def list_is_open():
    return np.abs(screen() - closed)[y + 14 : y + 60, x - 40 : x + 40].mean() > 5

press(window.controls["picture tone map"], list_is_open, "a list opens")
escape()
until(lambda: not list_is_open(), "Escape closes it")
assert panel.selected is not None and session.tone_map == "neutral"
pointer("key", "b", "sleep", "0.5")
until(lambda: session.orbit.bookmarks, "a key acts")
escape()
until(lambda: panel.selected is None, "Escape chooses nothing")
# A picture of another shape is stretched, and the foot says so as long as it is compared with.
for name, size in (("wide.png", (90, 30)), ("other.png", (30, 30))):
    Pillow.new("RGB", size).save(folder / name)
    window.open(folder / name)
    until(lambda: session.task is None and name in window.message and panel.kind == "difference", name + " is compared")
    assert ("90 x 30 pixels and is stretched to 64 x 64" in window._warnings.tooltip.replace(chr(10), " ")) == (
        name == "wide.png"
    ), window._warnings.tooltip
# A file deep in folders is called by its name, so that there is room for what is wrong with it.
deep = folder / ("a folder " * 9) / "broken.glb"
deep.parent.mkdir()
deep.write_bytes(b"glTF")
window.open(deep)
until(lambda: window.message.startswith("broken.glb: ") and session.task is None, "the file is told by its name")
assert window._said.text == "error: " + window.message and "..." not in window._said.text, window._said.text
leave_unsaved()
"""


@needs_a_screen
def test_the_preview_has_the_background_and_a_stretched_comparison_is_told(display: str, tmp_path: Path) -> None:
    assert "done" in run(PRELUDE + SETUP + VIEWS, tmp_path, display)


@needs_a_screen
def test_numbers_out_of_range_are_told_and_all_fields_are_of_one_width(display: str, tmp_path: Path) -> None:
    assert "done" in run(PRELUDE + SETUP + NUMBERS, tmp_path, display)


@needs_a_screen
def test_key_frames_that_a_press_deletes_come_back_by_undo_and_closing_offers_to_save_them(
    display: str, tmp_path: Path
) -> None:
    assert "done" in run(PRELUDE + SETUP + KEY_FRAMES, tmp_path, display)
