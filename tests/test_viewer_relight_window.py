"""The window of a split picture, driven with a real pointer and real keys under Xvfb."""

from __future__ import annotations

from pathlib import Path

from helpers.window import PRELUDE, needs_a_screen, run

SCRIPT = """
from renderformer.split import Split
from renderformer.viewer.relight_panel import RelightPanel
from renderformer.viewer.relight_window import RelightWindow
from renderformer.viewer.relighting import Relighting

magenta, green = np.zeros((2, 60, 80, 3), np.float32)
magenta[..., ::2], green[..., 1] = 0.5, 0.5
panel = RelightPanel(Relighting(Split(Image(magenta + green), {"l0": magenta, "l1": green})), "none")
window = RelightWindow(panel, ask=True)
setting = panel.relighting.setting

def colour():
    seen = view()
    return seen[len(seen) // 2, len(seen[0]) // 2]

def shown(red, green, blue):
    return lambda: np.abs(colour() - (red, green, blue)).max() < 4

def number(text):
    click(*middle(window.controls["l0 exactly"]))
    pointer("key", "ctrl+a", "sleep", "0.3", "type", "--delay", "200", "--", text)
    pointer("keydown", "Return", "sleep", "0.3", "keyup", "Return", "sleep", "0.3")

until(shown(188, 188, 188), "all lights")
# A value that no light has is told, and the window goes on.
for attempt in range(3):
    if "-5" not in window.message:
        number("-5")
until(lambda: "-5 is out of range, 0 counts" in window.message, "it is told")
until(shown(0, 188, 0), "the light is out")
# Escape leaves the window open; Ctrl Z takes the change back, wherever the focus is.
pointer("keydown", "Escape", "sleep", "0.3", "keyup", "Escape", "sleep", "0.5")
assert not window.closed and window.dialog is None
pointer("key", "ctrl+z", "sleep", "0.5")
until(shown(188, 188, 188), "the light is back")
assert not panel.unsaved
press(window.controls["l1 alone"], lambda: not setting("l0").on, "one light alone")
until(shown(0, 188, 0), "the light is out again")
# A place that cannot be written is told in one red line.
window._guarded(lambda: window._apply("save", lambda: window.save(folder / "none" / "a.png")))()
assert window._said.text.startswith("error: ") and window._said.text_color.green < 0.5, window._said.text
# Closing asks, and saves.
window._folder = folder
pointer("key", "ctrl+q", "sleep", "1")
assert not window.closed and window.dialog is not None
frame, area = window.window.os_frame, window.dialog.frame
click(frame.x + area.x + area.width - 208, frame.y + area.y + area.height - 25)
pointer("sleep", "1")
area = window.dialog.frame
click(frame.x + area.x + area.width // 2, frame.y + area.y + 27)
pointer("type", "--delay", "200", "lit")
click(frame.x + area.x + area.width - 42, frame.y + area.y + area.height - 34)
until(lambda: (folder / "lit.png").exists() and "lit.png is written" in window.message, "the picture is saved")
assert np.abs(np.asarray(Pillow.open(folder / "lit.png"))[30, 40, :3].astype(float) - (0, 188, 0)).max() < 2
pointer("key", "ctrl+q", "sleep", "1")
assert window.closed
print("done", flush=True)
os._exit(0)
"""


@needs_a_screen
def test_relighting_survives_wrong_values_goes_back_and_is_saved(display: str, tmp_path: Path) -> None:
    assert "done" in run(PRELUDE + SCRIPT, tmp_path, display)
