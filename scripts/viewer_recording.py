"""Record the use of the viewer, 2.5 times as fast, as the GIF of the README: the window under a real pointer.

    xvfb-run -s "-screen 0 960x600x24" python scripts/viewer_recording.py [--model FOLDER] [-o FILE.gif]

Needs the extra `viewer`; apt: xvfb xdotool libgl1 libegl1 libgomp1.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import imageio_ffmpeg
import numpy as np

import renderformer as rf
from renderformer.viewer.session import Session

ROOT = Path(__file__).parents[1]
SCREEN, WIDTH, FPS, SPEED = (960, 600), 640, 5, 2.5
# Few colours and a fixed pattern in place of noise: half the bytes.
PALETTE = "split[a][b];[a]palettegen=max_colors=96:stats_mode=diff[p];[b][p]paletteuse=dither=bayer:bayer_scale=4"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default=None)
    parser.add_argument("--scene", default=str(ROOT / "examples" / "knot_room.json"))
    parser.add_argument("-o", "--output", type=Path, default=ROOT / "docs" / "viewer" / "use.gif")
    options = parser.parse_args()
    session = Session(rf.Scene.load(options.scene), rf.Renderer.from_pretrained(options.model))
    with tempfile.TemporaryDirectory() as folder:
        film = Path(folder) / "film.mkv"
        Play(session).record(film)
        convert(film, options.output)
    print(options.output, f"{options.output.stat().st_size / 1e6:.1f} MB")
    sys.stdout.flush()
    # Open3D may crash while Python destroys its objects.
    os._exit(0)


def convert(film: Path, output: Path) -> None:
    """Make the GIF of a film."""
    filters = f"setpts=PTS/{SPEED},fps={FPS},scale={WIDTH}:-1:flags=area,{PALETTE}"
    ffmpeg("-i", str(film), "-filter_complex", filters, "-loop", "0", str(output)).wait()


def ffmpeg(*arguments: str) -> subprocess.Popen[bytes]:
    program = [imageio_ffmpeg.get_ffmpeg_exe(), "-y", "-loglevel", "error", *arguments]
    return subprocess.Popen(program, stdin=subprocess.PIPE)


class Play:
    """The window and what is done in it."""

    def __init__(self, session: Session) -> None:
        from renderformer.viewer.window import Window, gui

        self.app = gui.Application.instance
        self.app.initialize()
        self.session = session
        self.viewer = Window(session, *SCREEN)

    def record(self, film: Path) -> None:
        """Film the screen while everything is done."""
        self.settle()
        size, rate = "x".join(map(str, SCREEN)), str(FPS * 2)
        grab = ["-f", "x11grab", "-draw_mouse", "1", "-framerate", rate, "-video_size", size]
        camera = ffmpeg(
            *grab, "-i", os.environ["DISPLAY"], "-c:v", "libx264", "-qp", "0", "-preset", "ultrafast", str(film)
        )
        self.turn()
        self.move()
        self.paint()
        self.light()
        self.compare()
        self.wait(1.0)
        assert camera.stdin is not None
        camera.stdin.write(b"q")
        camera.stdin.close()
        camera.wait()
        self.session.close()

    def turn(self) -> None:
        """Turn the camera, and let the picture become sharp."""
        self.drag(self.at(0.3, 0.8), *[(14, 0)] * 12, *[(-12, 1)] * 12)
        self.settle(1.5)

    def move(self) -> None:
        """Choose the knot by a click, and drag it by its handles."""
        self.click(self.of_knot())
        self.wait(1.0)
        self.drag(self.handle("z"), *[(0, -6)] * 8)
        self.settle(1.5)

    def paint(self) -> None:
        """Change its colour and material, and see the light that it scatters follow."""
        self.unfold(3)
        for share in np.linspace(0, 1, 16):
            self.change("object diffuse", (235 - 200 * share, 60 + 90 * share, 40 + 190 * share))
        self.wait(0.6)
        self.change("object material", "lacquer")
        self.settle(1.5)

    def light(self) -> None:
        """Dim the light and raise it again."""
        self.unfold(4)
        strength = self.session.document.lights[0].light.emission[0]
        for share in (*np.linspace(1, 0.25, 10), *np.linspace(0.25, 1.4, 14)):
            self.change("light strength", float(strength * share))
        self.settle(1.0)

    def compare(self) -> None:
        """Undo it, and drag the bar between preview and picture."""
        for _ in range(2):
            self.pointer("key", "ctrl+z", "sleep", "0.4")
        self.viewer._apply("view", lambda: self.viewer.panel.show("split"))
        self.settle(0.5)
        self.drag(self.at(0.5, 0.5), *[(-10, 0)] * 14, *[(12, 0)] * 22)
        self.wait(0.5)
        self.viewer._apply("view", lambda: self.viewer.panel.show("neural"))
        self.settle(1.0)

    def unfold(self, number: int) -> None:
        """Show one section of the panel."""
        from renderformer.viewer.window import gui

        sections = [child for child in self.viewer._column.get_children() if isinstance(child, gui.CollapsableVert)]
        for index, section in enumerate(sections):
            section.set_is_open(index == number)
        self.viewer.window.set_needs_layout()
        self.wait(0.6)

    def change(self, name: str, value: Any) -> None:
        """Change a control as its widget does."""
        from renderformer.viewer.controls import CONTROLS

        control = next(control for control in CONTROLS if control.name == name)
        self.viewer._change(control, value)
        self.wait(0.15)

    def click(self, place: tuple[int, int]) -> None:
        self.pointer("mousemove", *place, "sleep", "0.4", "mousedown", "1", "sleep", "0.5", "mouseup", "1")

    def drag(self, place: tuple[int, int], *steps: tuple[int, int]) -> None:
        moves = [word for dx, dy in steps for word in ("mousemove_relative", "--", dx, dy, "sleep", "0.12")]
        self.pointer(
            "mousemove",
            *place,
            "sleep",
            "0.7",
            "mousedown",
            "1",
            "sleep",
            "0.7",
            *moves,
            "sleep",
            "0.3",
            "mouseup",
            "1",
        )

    def pointer(self, *words: object) -> None:
        """Move the pointer or press keys by xdotool."""
        job = subprocess.Popen(["xdotool", *map(str, words)])
        self.run(lambda: job.poll() is not None)

    def wait(self, seconds: float) -> None:
        end = time.monotonic() + seconds
        self.run(lambda: time.monotonic() > end)

    def settle(self, seconds: float = 1.0, most: float = 3.0) -> None:
        """Wait until the picture is sharp, but not forever."""
        end = time.monotonic() + most
        self.run(lambda: time.monotonic() > end or self.final())
        self.wait(seconds)

    def final(self) -> bool:
        frame = self.session.frame
        return self.session.scheduler.wait(0) and frame is not None and frame.final

    def run(self, done: Callable[[], bool]) -> None:
        while not done():
            self.app.run_one_tick()

    def at(self, x: float, y: float) -> tuple[int, int]:
        """A place on the screen by shares of the view."""
        box = self.viewer.rectangle()
        return self.on_screen((x * box.width, y * box.height))

    def on_screen(self, pixel: Any) -> tuple[int, int]:
        box, frame = self.viewer.rectangle(), self.viewer.window.os_frame
        return round(frame.x + box.x + float(pixel[0])), round(frame.y + box.y + float(pixel[1]))

    def of_knot(self) -> tuple[int, int]:
        """A place where the knot is under the pointer."""
        (width, height), size = self.session.view_size, np.array(self.session.view_size)
        for share in np.random.default_rng(0).uniform(0.3, 0.7, (400, 2)):
            pick = self.session.pick(*(share * size), width, height)
            if pick is not None and pick.name == "knot":
                return self.at(*share)
        raise AssertionError("the knot is out of sight")

    def handle(self, name: str) -> tuple[int, int]:
        """The middle of a handle."""
        box = self.viewer.rectangle()
        hands = self.viewer.hands
        gizmo = hands._gizmo(hands._lens(box.width, box.height))
        line = next(handle.line for handle in gizmo.handles if handle.name == name)
        return self.on_screen(line.mean(axis=0))


if __name__ == "__main__":
    main()
