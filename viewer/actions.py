"""Menu entries and keys, in one table that the window and the page follow.

An action is added by one entry in `ACTIONS`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Protocol

from renderformer.data.formats import MESH_FORMATS, SCENE_FORMATS
from renderformer.image import IMAGE_SUFFIXES
from renderformer.viewer.camera import OrbitCamera
from renderformer.viewer.panel import EXPOSURE_STEP, Panel
from renderformer.viewer.session import TURN_SECONDS, VIEWS, Session

# Degrees of one press of an arrow; factor of distance of one step of the wheel or press of + or -.
ARROW_DEGREES, DOLLY_STEP = 5.0, 1.1


@dataclass(frozen=True)
class Save:
    """Something that can be saved.

    Attributes:
        name: after "save"; label: in the menu; suffixes: that a person may choose; files: that a page offers.
        turn: seconds of a full turn of the camera, 0 for anything but a turntable.
        along_keys: whether it follows the key frames.
    """

    name: str
    label: str
    suffixes: tuple[str, ...]
    files: tuple[str, ...]
    turn: float = 0.0
    along_keys: bool = False

    def check(self, session: Session) -> None:
        """Refuse at once what could not be saved.

        Raises:
            InputError: there are too few key frames for a video.
        """
        if self.along_keys:
            session.key_frames.cameras(1.0)


SAVES = (
    Save("scene", "Save scene (JSON, H5)", tuple(SCENE_FORMATS), ("scene.json", "scene.h5")),
    Save("picture", "Save picture (PNG, EXR)", tuple(IMAGE_SUFFIXES), ("picture.png", "picture.exr")),
    Save("key frames", "Save key frames as video (MP4)", (".mp4",), ("path.mp4",), along_keys=True),
    Save("turntable", "Save turntable (MP4)", (".mp4",), ("turntable.mp4",), TURN_SECONDS),
)


class Dialogs(Protocol):
    """What a front end asks a person."""

    def ask_open(self, title: str, suffixes: Iterable[str]) -> None: ...

    def ask_save(self, save: Save) -> None: ...

    def ask_close(self) -> None: ...

    def show_help(self) -> None: ...


@dataclass(frozen=True)
class Action:
    """Something that a key or a menu entry does.

    Attributes:
        name: a word or two, before the line that `run` may return for the person.
        run: what it does, called with the panel; or None.
        ask: the dialog that it opens, called with the front end; or None.
        keys: as they are shown; a press without Ctrl does as well, unless `needs_ctrl`.
        menu, label: the menu that it stands in and its entry; empty for keys without one.
        help: beside its keys in the help; actions with the same text share a line.
        hotkey: whether a page listens to its first key.
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

    def answers(self, key: str, ctrl: bool) -> bool:
        """Whether a press of a key, with or without Ctrl, asks for it."""
        return (ctrl or not self.needs_ctrl) and key in [name.removeprefix("Ctrl ") for name in self.keys]


def _save(save: Save) -> Action:
    keys, text = (("Ctrl S",), _FILES) if save.name == "scene" else ((), "")
    return Action(
        f"save {save.name}", None, keys, "File", f"{save.label} ...", text, lambda dialogs: dialogs.ask_save(save)
    )


def _orbit(right: float, up: float) -> Callable[[Panel], None]:
    return lambda panel: panel.session.move(lambda orbit: orbit.orbit(ARROW_DEGREES * right, ARROW_DEGREES * up))


def _dolly(factor: float) -> Callable[[Panel], None]:
    return lambda panel: panel.session.move(lambda orbit: orbit.dolly(factor))


def _show(number: int, kind: str) -> Action:
    return Action(kind, lambda panel: panel.show(kind), (str(number),), help=_VIEWS)


_NEARER, _KEY_FRAMES = "nearer, farther", "add a key frame, play them"
_VIEWS, _FILES = ", ".join(VIEWS), "open, save the scene, close"
ACTIONS: tuple[Action, ...] = (
    Action(
        "open", None, ("Ctrl O",), "File", "Open a scene or mesh ...", _FILES,
        lambda dialogs: dialogs.ask_open("Scenes and meshes", (*SCENE_FORMATS, *MESH_FORMATS)),
    ),
    Action(
        "compare", None, (), "File", "Compare with a picture ...",
        ask=lambda dialogs: dialogs.ask_open("Pictures", IMAGE_SUFFIXES),
    ),
    *(_save(save) for save in SAVES),
    Action(
        "close", None, ("Ctrl Q",), "File", "Close (Ctrl Q)", _FILES,
        lambda dialogs: dialogs.ask_close(), needs_ctrl=True,
    ),
    Action("undo", Panel.undo, ("Ctrl Z", "U"), "Edit", "Undo (Ctrl Z)", "undo, redo", hotkey=True),
    Action("redo", Panel.redo, ("Ctrl Y", "R"), "Edit", "Redo (Ctrl Y)", "undo, redo", hotkey=True),
    Action("keys", None, (), "Help", "Mouse and keys", ask=lambda dialogs: dialogs.show_help()),
    Action("home", lambda panel: panel.session.move(OrbitCamera.home), ("H",), help="home", hotkey=True),
    Action("turntable", Panel.switch_turntable, ("T",), help="turntable, on and off", hotkey=True),
    Action("bookmark", Panel.add_bookmark, ("B",), help="bookmark", hotkey=True),
    Action("add key frame", lambda panel: panel.session.add_key(), ("K",), help=_KEY_FRAMES, hotkey=True),
    Action("play key frames", Panel.switch_playback, ("P",), help=_KEY_FRAMES, hotkey=True),
    Action("turn left", _orbit(-1, 0), ("Left",), help="turn"),
    Action("turn right", _orbit(1, 0), ("Right",), help="turn"),
    Action("turn up", _orbit(0, 1), ("Up",), help="turn"),
    Action("turn down", _orbit(0, -1), ("Down",), help="turn"),
    Action("nearer", _dolly(1 / DOLLY_STEP), ("+", "="), help=_NEARER),
    Action("farther", _dolly(DOLLY_STEP), ("-",), help=_NEARER),
    Action("darker", lambda panel: panel.expose(-EXPOSURE_STEP), ("[",), help="exposure"),
    Action("brighter", lambda panel: panel.expose(EXPOSURE_STEP), ("]",), help="exposure"),
    *(_show(number, kind) for number, kind in enumerate(VIEWS, 1)),
)  # fmt: skip

# Movements of the mouse by what they do.
MOUSE = {
    "turn": "Left drag",
    "pan": "Right drag, Shift and left drag",
    _NEARER: "Wheel",
    "field of view": "Ctrl and wheel",
    "choose the object under the pointer": "Click",
}
NOTES = """Keys act after a click on the picture. Exposure and tone map need no
new picture. To drop files use renderformer view --web: Open3D does not
tell Python of drops on a window."""

PAGE_NOTES = """Drag turns, right drag or Ctrl drag pans, the wheel moves nearer, a click picks an object.
{keys}.
Drop a mesh, a scene (.h5, or the .zip that was saved) or a picture to compare with anywhere on this page.
Exposure and tone map need no new picture."""


def find(key: str, ctrl: bool) -> Action | None:
    """The action that a press of a key asks for."""
    return next((action for action in ACTIONS if action.answers(key, ctrl)), None)


def help_table() -> dict[str, str]:
    """Mouse movements and keys, and what they do; those of the same help share an entry."""
    by_help = {text: [movement] for text, movement in MOUSE.items()}
    for action in ACTIONS:
        if action.help:
            by_help.setdefault(action.help, []).append(" or ".join(action.keys))
    table = {", ".join(names): text for text, names in by_help.items()}
    return table | {"Escape": "closes a dialog, never the window"}


def page_help() -> str:
    """Mouse and keys of a page, in Markdown."""
    keys = ", ".join(f"**{action.keys[0]}** {action.name}" for action in ACTIONS if action.hotkey)
    return PAGE_NOTES.format(keys=keys)
