"""Opening the viewer: in a window where there is a display, or in a browser."""

from __future__ import annotations

import contextlib
import functools
import importlib.util
import os
import signal
import subprocess
import sys
import threading
import types
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Literal, overload

from renderformer.data.errors import InputError, one_line

if TYPE_CHECKING:
    from renderformer.data.scene import Scene
    from renderformer.renderer import Renderer
    from renderformer.split import Split
    from renderformer.viewer.inline import InlineViewer
    from renderformer.viewer.relight_panel import RelightPanel

INSTALL = "pip install 'renderformer[viewer]'"
PACKAGES = "libgl1 libegl1 libgomp1 (Open3D 0.19), libegl1 libusb-1.0-0 libvulkan1 mesa-vulkan-drivers (0.20)"
# Opens a small window and draws once, in its own process, since Open3D may abort without a driver. See `lean_open3d`.
_PROBE = """
import sys, types
sys.modules["open3d.ml"] = types.ModuleType("open3d.ml")
import open3d.visualization.gui as gui
app = gui.Application.instance
app.initialize()
window = app.create_window("probe", 64, 64)
app.run_one_tick()
window.close()
app.run_one_tick()
import os
os._exit(0)
"""
_PROBE_SECONDS = 300.0
MAX_PORT = 65535


@overload
def view(
    scene: Scene | str | os.PathLike[str],
    renderer: Renderer | None = None,
    *,
    inline: Literal[False] = False,
    web: bool = False,
    port: int = 8080,
    resolution: int | tuple[int, int] | None = None,
    tone_map: str = "neutral",
    exposure: float = 0.0,
    say: Callable[[str], None] | None = None,
    take: Callable[[Scene], object] | None = None,
    keep: bool = False,
) -> Scene: ...
@overload
def view(
    scene: Scene | str | os.PathLike[str],
    renderer: Renderer | None = None,
    *,
    inline: Literal[True],
    port: int = 8080,
    resolution: int | tuple[int, int] | None = None,
    tone_map: str = "neutral",
    exposure: float = 0.0,
) -> InlineViewer: ...
def view(
    scene: Scene | str | os.PathLike[str],
    renderer: Renderer | None = None,
    *,
    inline: bool = False,
    web: bool = False,
    port: int = 8080,
    resolution: int | tuple[int, int] | None = None,
    tone_map: str = "neutral",
    exposure: float = 0.0,
    say: Callable[[str], None] | None = None,
    take: Callable[[Scene], object] | None = None,
    keep: bool = False,
) -> Scene | InlineViewer:
    """Open the viewer, wait until it is closed, and return the edited scene.

    Args:
        scene: a scene, which is not changed, or a file for `Scene.load`. The viewer starts at its first camera.
        renderer: the embedded model by default.
        inline: in the cell of a notebook, without waiting; see `InlineViewer`.
        web: in a browser, for machines without a display; the server listens on 127.0.0.1 only.
        port: of the server; the next free one if it is in use, any free one for 0.
        resolution: pixels on a side, or (width, height), of pictures on the screen and in files; None fills the view.
        tone_map, exposure: at the start.
        say: called with a line that names the page; by default the line goes to stderr.
        take: called with the edited scene at the end, for example to save it, so that closing need not ask. Where it
            raises, the unsaved work is left to the next viewer.
        keep: leave edits to the next viewer where Ctrl-C ends this one, as nobody takes what it returns.

    Returns:
        The edited scene with bookmarks as cameras, the same object if nothing was edited or bookmarked; with `inline`,
        the viewer, which has it as `scene`.

    Raises:
        InputError: no display, a missing package, a port out of range, or as `Scene.load`.
    """
    _check_port(port)
    check_front_end(web or inline)
    from renderformer.data.scene import Scene
    from renderformer.data.trained_range import ANYWHERE
    from renderformer.renderer import Renderer
    from renderformer.viewer.opening import load
    from renderformer.viewer.recent import remember
    from renderformer.viewer.recovery import kept
    from renderformer.viewer.session import Session

    if isinstance(scene, str | os.PathLike):
        path, scene = scene, load(scene, renderer.config.trained if renderer else ANYWHERE)
        remember(path)
    if not isinstance(scene, Scene):
        raise InputError("view", f"scene is a {type(scene).__name__}", "give a Scene or the path of a file")
    session = Session(scene, renderer or Renderer.from_pretrained(), resolution, tone_map, exposure)
    session.taken = take is not None
    if inline:
        from renderformer.viewer.inline import InlineViewer

        return InlineViewer(session, port)
    try:
        with kept(session, keep):
            if web:
                from renderformer.viewer.web import serve

                serve(session, port, say or _say)
            else:
                with lean_open3d():
                    from renderformer.viewer.window import run

                run(session)
            edited = session.result()
            if take is not None:
                take(edited)
        return edited
    finally:
        session.close()


def view_split(
    split: Split | str | os.PathLike[str],
    *,
    web: bool = False,
    port: int = 8080,
    tone_map: str = "neutral",
    exposure: float = 0.0,
    say: Callable[[str], None] | None = None,
    ask: bool = False,
) -> RelightPanel:
    """Show a picture that is split by lights, with controls for each, and wait until it is closed.

    Args:
        split: of `Renderer.split`, or the path of a file that `Split.save` wrote.
        web, port, tone_map, exposure, say: as of `view`.
        ask: whether the window asks before it closes with a relit picture that is in no file.

    Returns:
        The lights as they were left, the picture under them, tone map and exposure.

    Raises:
        InputError: as `view` and `Split.load`.
    """
    _check_port(port)
    check_front_end(web)
    from renderformer.split import Split
    from renderformer.viewer.relight_panel import RelightPanel
    from renderformer.viewer.relighting import Relighting

    relighting = Relighting(split) if isinstance(split, Split) else Relighting.load(split)
    panel = RelightPanel(relighting, tone_map, exposure)
    if web:
        from renderformer.viewer.relight_page import serve

        serve(panel, port, say or _say)
    else:
        with lean_open3d():
            from renderformer.viewer.relight_window import run

        run(panel, ask)
    return panel


@contextlib.contextmanager
def on_interrupt(action: Callable[[], object]) -> Iterator[None]:
    """A context in which Ctrl-C calls an action, since a KeyboardInterrupt cannot pass through callbacks from C++.

    Python allows signal handlers on the main thread only; on other threads the context does nothing.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    handler = signal.signal(signal.SIGINT, lambda number, frame: action())
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, handler)


@contextlib.contextmanager
def lean_open3d() -> Iterator[None]:
    """A context in which the first import of Open3D leaves out its part for machine learning, which takes half of the
    time; a later `import open3d.ml` brings it."""
    name = "open3d.ml"
    if "open3d" in sys.modules:
        yield
        return
    stand_in = sys.modules[name] = types.ModuleType(name)
    try:
        yield
    finally:
        if sys.modules.get(name) is stand_in:
            del sys.modules[name]


def check_front_end(web: bool) -> None:
    """Check that the viewer can open in a browser or in a window; another process opens a window, once.

    Raises:
        InputError: no display, or a missing package.
    """
    if web:
        if not importlib.util.find_spec("viser"):
            raise InputError("view", "the package viser is not installed", INSTALL)
        return
    if not importlib.util.find_spec("open3d"):
        raise InputError("view", "the package open3d is not installed", f"{INSTALL}, or use --web (web=True)")
    display = os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")
    remedy = f"use --web (web=True), or a display and the system packages {PACKAGES}"
    if not display and sys.platform not in ("win32", "darwin"):
        raise InputError("view", "this machine has no display (DISPLAY is not set)", remedy)
    problem = _window_problem(sys.executable, display)
    if problem:
        raise InputError("view", problem, remedy)


@functools.cache
def _window_problem(python: str, display: str | None) -> str:
    """Why no window can be opened on a display; empty if one can."""
    try:
        probe = subprocess.run(
            [python, "-c", _PROBE], capture_output=True, text=True, timeout=_PROBE_SECONDS, check=False
        )
    except subprocess.TimeoutExpired:
        return f"opening a window took more than {_PROBE_SECONDS:g} s"
    if probe.returncode == 0:
        return ""
    lines = [line for line in probe.stderr.splitlines() if line.strip()] or [f"exit code {probe.returncode}"]
    return f"a window cannot be opened here ({one_line(lines[-1])[:120]})"


def _check_port(port: object) -> None:
    if not isinstance(port, int) or isinstance(port, bool) or not 0 <= port <= MAX_PORT:
        raise InputError("view", f"port is {port!r}", f"expected a whole number from 0 to {MAX_PORT}")


def _say(line: str) -> None:
    sys.stderr.write(line + "\n")
