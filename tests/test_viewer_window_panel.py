"""The panel of the window, driven as a person does it, with a real pointer and real keys under Xvfb."""

from __future__ import annotations

from pathlib import Path

from helpers.window import PRELUDE, needs_a_screen, run

SETUP = """
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


@needs_a_screen
def test_key_frames_that_a_press_deletes_come_back_by_undo_and_closing_offers_to_save_them(
    display: str, tmp_path: Path
) -> None:
    assert "done" in run(PRELUDE + SETUP + KEY_FRAMES, tmp_path, display)
