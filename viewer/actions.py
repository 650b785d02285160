"""Menu entries and keys, in one table for the window and the page. One entry in `ACTIONS` adds an action."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Protocol

from renderformer.data.camera_path import KEYS_SUFFIX
from renderformer.data.errors import InputError
from renderformer.data.formats import MESH_FORMATS, SCENE_FORMATS
from renderformer.image import IMAGE_SUFFIXES
from renderformer.split import LIGHTS_SUFFIX
from renderformer.video import VIDEO_SUFFIXES
from renderformer.viewer.camera import OrbitCamera
from renderformer.viewer.gizmo import MODES, Mode
from renderformer.viewer.panel import EXPOSURE_STEP, Panel
from renderformer.viewer.session import TURN_SECONDS, VIEWS, Session

# Degrees per press of an arrow key; factor of the distance per step of the wheel or press of + or -.
ARROW_DEGREES, DOLLY_STEP = 5.0, 1.1


@dataclass(frozen=True)
class Save:
    """A kind of file that the viewer saves.

    Attributes:
        name: of the action, after "save".
        label: of the menu entry.
        suffixes: of files from the window.
        files: names of files from a page.
        turn: seconds of a turntable, else 0.
        keys: the least number of key frames that it needs.
    """

    name: str
    label: str
    suffixes: tuple[str, ...]
    files: tuple[str, ...]
    turn: float = 0.0
    keys: int = 0

    def check(self, session: Session) -> None:
        """Check that the file can be made.

        Raises:
            InputError: too few key frames.
        """
        count = len(session.key_frames.keys)
        if count < self.keys:
            raise InputError("key frames", f"there are {count}, {self.keys} or more are needed", "add some (K)")


SAVES = (
    Save("scene", "Save scene as (JSON, H5)", tuple(SCENE_FORMATS), ("scene.json", "scene.h5")),
    Save("picture", "Save picture (PNG, EXR)", tuple(IMAGE_SUFFIXES), ("picture.png", "picture.exr")),
    Save("lights", "Save picture split by lights (EXR)", (f".{LIGHTS_SUFFIX}",), (LIGHTS_SUFFIX,)),
    Save("key frames", "Save key frames as video (MP4, GIF)", VIDEO_SUFFIXES, ("path.mp4", "path.gif"), keys=2),
    Save("camera path", "Save key frames for later (JSON)", (f".{KEYS_SUFFIX}",), ("keys.json",), keys=1),
    Save("turntable", "Save turntable (MP4, GIF)", VIDEO_SUFFIXES, ("turntable.mp4", "turntable.gif"), TURN_SECONDS),
)


class Dialogs(Protocol):
    """The dialogs of a front end."""

    def ask_open(self, title: str, suffixes: Iterable[str]) -> None: ...

    def ask_recent(self) -> None: ...

    def ask_environment(self) -> None: ...

    def ask_save(self, save: Save) -> None: ...

    def save_again(self) -> None: ...

    def ask_close(self) -> None: ...

    def ask_recover(self) -> None: ...

    def show_help(self) -> None: ...


@dataclass(frozen=True)
class Action:
    """The action of a key or a menu entry.

    Attributes:
        name: one or two words; stands before the line that `run` may return for the person.
        run: called with the panel, or None.
        keys: their names for the person; Ctrl is optional unless `needs_ctrl`.
        menu, label: menu and entry; empty for an action without one.
        help: text beside the keys in the help; actions with the same text share a line.
        ask: opens a dialog, called with the front end, or None.
        hotkey: whether a page listens to the first key.
    """

    name: str
    run: Callable[[Panel], object] | None = None
    keys: tuple[str, ...] = ()
    menu: str = ""
    label: str = ""
    help: str = ""
    ask: Callable[[Dialogs], object] | None = None
    needs_ctrl: bool = False
    hotkey: bool = False


def _save(save: Save) -> Action:
    return Action(
        f"save {save.name}", None, (), "File", f"{save.label} ...", ask=lambda dialogs: dialogs.ask_save(save)
    )


def _orbit(right: float, up: float) -> Callable[[Panel], None]:
    return lambda panel: panel.session.move(lambda orbit: orbit.orbit(ARROW_DEGREES * right, ARROW_DEGREES * up))


def _dolly(factor: float) -> Callable[[Panel], None]:
    return lambda panel: panel.session.move(lambda orbit: orbit.dolly(factor))


def _show(number: int, kind: str) -> Action:
    return Action(kind, lambda panel: panel.show(kind), (str(number),), help=_VIEWS, hotkey=True)


def _hold(key: str, mode: Mode) -> Action:
    # On a page, S moves the camera back, beside W, A, D, Q and E.
    return Action(mode, lambda panel: panel.set_mode(mode), (key,), help=_HANDLES, hotkey=key != "S")


_HANDLES = f"{', '.join(MODES)}; X, Y, Z take an axis; a click keeps, Escape gives up"
_NEARER, _KEY_FRAMES = "nearer, farther", "add a key frame, play them"
_VIEWS, _FILES = ", ".join(VIEWS), "open, save the scene, close"
ACTIONS: tuple[Action, ...] = (
    Action(
        "open", None, ("Ctrl O",), "File", "Open a scene or mesh ...", _FILES,
        lambda dialogs: dialogs.ask_open("Scenes and meshes", (*SCENE_FORMATS, *MESH_FORMATS)),
    ),
    Action("open recent", None, (), "File", "Open recent ...", ask=lambda dialogs: dialogs.ask_recent()),
    Action(
        "compare", None, (), "File", "Compare with a picture ...",
        ask=lambda dialogs: dialogs.ask_open("Pictures", IMAGE_SUFFIXES),
    ),
    Action(
        "recover", None, (), "File", "Recover unsaved work ...", ask=lambda dialogs: dialogs.ask_recover(),
    ),
    Action(
        "environment", None, (), "File", "Environment from a file (HDR, EXR) ...",
        ask=lambda dialogs: dialogs.ask_environment(),
    ),
    Action(
        "save", None, ("Ctrl S",), "File", "Save scene (Ctrl S)", _FILES, lambda dialogs: dialogs.save_again(),
        needs_ctrl=True,
    ),
    *(_save(save) for save in SAVES),
    Action(
        "close", None, ("Ctrl Q",), "File", "Close (Ctrl Q)", _FILES,
        lambda dialogs: dialogs.ask_close(), needs_ctrl=True,
    ),
    Action("undo", Panel.undo, ("Ctrl Z", "U"), "Edit", "Undo (Ctrl Z)", "undo, redo", hotkey=True),
    Action("redo", Panel.redo, ("Ctrl Y",), "Edit", "Redo (Ctrl Y)", "undo, redo", hotkey=True),
    Action("keys", None, (), "Help", "Mouse and keys", ask=lambda dialogs: dialogs.show_help()),
    *(_hold(key, mode) for key, mode in zip("GRS", MODES, strict=True)),
    Action("look at it", Panel.look_at_it, ("F",), help="turn about what is chosen", hotkey=True),
    Action("remove", Panel.remove_it, ("Delete",), help="delete what is chosen", hotkey=True),
    Action("home", lambda panel: panel.session.move(OrbitCamera.home), ("H",), help="home", hotkey=True),
    Action(
        "turntable", lambda panel: panel.turn(not panel.turning), ("T",), help="turntable, on and off", hotkey=True
    ),
    Action("bookmark", Panel.add_bookmark, ("B",), help="bookmark", hotkey=True),
    Action("add key frame", lambda panel: panel.timeline.add(), ("K",), help=_KEY_FRAMES, hotkey=True),
    Action("play key frames", lambda panel: panel.play(not panel.playing), ("P",), help=_KEY_FRAMES, hotkey=True),
    Action("turn left", _orbit(-1, 0), ("Left",), help="turn"),
    Action("turn right", _orbit(1, 0), ("Right",), help="turn"),
    Action("turn up", _orbit(0, 1), ("Up",), help="turn"),
    Action("turn down", _orbit(0, -1), ("Down",), help="turn"),
    Action("nearer", _dolly(1 / DOLLY_STEP), ("+", "="), help=_NEARER),
    Action("farther", _dolly(DOLLY_STEP), ("-",), help=_NEARER),
    Action("darker", lambda panel: panel.expose(-EXPOSURE_STEP), ("[",), help="exposure", hotkey=True),
    Action("brighter", lambda panel: panel.expose(EXPOSURE_STEP), ("]",), help="exposure", hotkey=True),
    *(_show(number, kind) for number, kind in enumerate(VIEWS, 1)),
)  # fmt: skip

# Movements of the mouse by their effects.
MOUSE = {
    "turn": "Left drag",
    "pan": "Right drag, Shift and left drag",
    _NEARER: "Wheel",
    "field of view": "Ctrl and wheel",
    "choose the object or light under the pointer": "Click",
    "move, turn or scale; with Ctrl in steps; the right button gives up": "Drag of a handle",
}
NOTES = """Keys act after a click on the picture or Escape. Exposure and tone map need no
new picture. Open3D does not support dropping files on a window; use
renderformer view --web."""

PAGE_NOTES = """Drag turns, right drag or Ctrl drag pans, the wheel moves nearer, a click picks an object.
**Arrows** turn, **W A S D Q E** move the camera.
{keys}, **Escape** chooses nothing, **Ctrl S** saves the scene, **Ctrl O** opens, **Ctrl K** lists all.
Drop a mesh or a scene with its files (or their folder, or a zip), an environment (.hdr) or a picture to compare with
anywhere on this page. Exposure and tone map need no new picture."""


def find(key: str, ctrl: bool) -> Action | None:
    """The action of a key, with or without Ctrl; None if there is none."""
    for action in ACTIONS:
        if (ctrl or not action.needs_ctrl) and key in [name.removeprefix("Ctrl ") for name in action.keys]:
            return action
    return None


def help_table() -> dict[str, str]:
    """Texts of the help by mouse movements and keys."""
    by_help = {text: [movement] for text, movement in MOUSE.items()}
    for action in ACTIONS:
        if action.help:
            by_help.setdefault(action.help, []).append(" or ".join(action.keys))
    table = {", ".join(names): text for text, names in by_help.items()}
    return table | {"Escape": "closes a dialog or a list, gives up, or chooses nothing; never closes the window"}


def page_help() -> str:
    """The help of a page, in Markdown."""
    keys = ", ".join(f"**{action.keys[0]}** {action.name}" for action in ACTIONS if action.hotkey)
    return PAGE_NOTES.format(keys=keys)
