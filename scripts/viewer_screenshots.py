"""Take the screenshots of docs/viewer.md: the window under Xvfb, the page in headless Chromium.

    xvfb-run -s "-screen 0 1300x900x24" python scripts/viewer_screenshots.py [--model FOLDER] [--only window|web]

Needs the extra `viewer`; apt: xvfb libgl1 libegl1 libgomp1 imagemagick chromium.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import renderformer as rf
from renderformer.viewer.session import Session

ROOT = Path(__file__).parents[1]
sys.path.append(str(ROOT / "tests"))
from helpers.browser import Page, until  # noqa: E402

# Time for a page to draw a picture with software rendering.
WEB_SECONDS = 10.0
# And for the window to draw its last picture twice.
SCREEN_SECONDS = 2.0
OUT = ROOT / "docs" / "viewer"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default=None)
    parser.add_argument("--scene", default=str(ROOT / "examples" / "knot_room.json"))
    parser.add_argument("--only", choices=["window", "web"])
    options = parser.parse_args()
    OUT.mkdir(parents=True, exist_ok=True)
    scene, renderer = rf.Scene.load(options.scene), rf.Renderer.from_pretrained(options.model)
    if options.only != "window":
        web(Session(scene, renderer))
    if options.only != "web":
        window(Session(scene, renderer))
    sys.stdout.flush()
    # Open3D may crash while Python destroys its objects.
    os._exit(0)


def web(session: Session) -> None:
    from renderformer.viewer.web import WebViewer

    viewer = WebViewer(session, port=8790)
    try:
        with page_of(viewer, (1200, 800)) as page:
            until(lambda: session.view_size[0] != session.view_size[1])
            for name, kind in (("web.png", "neural"), ("web_split.png", "split")):
                viewer._apply(None, "view", lambda kind=kind: viewer.panel.show(kind))
                shoot(session, page, name)
        viewer._apply(None, "view", lambda: viewer.panel.show("neural"))
        with page_of(viewer, (390, 700), phone=True) as page:
            until(lambda: session.view_size[0] < session.view_size[1])
            shoot(session, page, "phone.png")
    finally:
        viewer.close()


@contextlib.contextmanager
def page_of(viewer: Any, size: tuple[int, int], phone: bool = False) -> Iterator[Page]:
    """A page of a viewer in Chromium."""
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        page = Page(viewer.url, folder, size, phone)
        try:
            until(lambda: viewer.server.get_clients())
            yield page
        finally:
            page.close()


def shoot(session: Session, page: Page, name: str) -> None:
    import imageio.v3 as iio

    session.scheduler.wait(300)
    # Notifications fade.
    time.sleep(WEB_SECONDS)
    iio.imwrite(OUT / name, page.screenshot())
    print(OUT / name, session.facts())


def window(session: Session) -> None:
    from renderformer.viewer.window import Window, gui

    app = gui.Application.instance
    app.initialize()
    viewer = Window(session, 1200, 800)

    def settle(condition: Callable[[], bool] = lambda: True) -> None:
        end = time.monotonic() + 6
        while time.monotonic() < end or not (session.scheduler.wait(0) and condition()):
            app.run_one_tick()
        while session.frame is None or not session.frame.final:
            app.run_one_tick()
        # The worker's last picture reaches the screen some ticks later.
        end = time.monotonic() + SCREEN_SECONDS
        while time.monotonic() < end:
            app.run_one_tick()

    settle()
    session.save(OUT / "reference.exr")
    for kind in ("neural", "preview", "split"):
        viewer._apply("view", lambda kind=kind: viewer.panel.show(kind))
        settle()
        shot(kind)
    viewer._apply("view", lambda: viewer.panel.show("neural"))
    viewer._apply("choose", lambda: viewer.panel.choose("knot"))
    settle()
    shot("handles")
    viewer._apply("choose", lambda: viewer.panel.choose(""))
    viewer.panel.open(OUT / "reference.exr")
    viewer._apply("diffuse", lambda: viewer.panel.set_material(diffuse=(0.1, 0.3, 0.6)))
    settle()
    shot("difference")
    viewer._apply("view", lambda: viewer.panel.show("neural"))
    settle()
    shot("edited")
    viewer.show_help()
    settle()
    shot("help")
    viewer._end_dialog()
    session.size = 512, 512
    viewer.save(Path(tempfile.mkdtemp()) / "turn.mp4", 4.0)
    while (activity := session.activity()) is None or activity[1] < 0.02:
        app.run_one_tick()
    for _ in range(10):
        app.run_one_tick()
    shot("saving")
    (OUT / "reference.exr").unlink()
    session.close()


def shot(name: str) -> None:
    subprocess.run(["import", "-window", "root", "-trim", "+repage", str(OUT / f"{name}.png")], check=True)
    print(OUT / f"{name}.png")


if __name__ == "__main__":
    main()
