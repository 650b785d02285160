"""The dialogs of the window: files to open and to save, questions, help."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from renderformer.data.camera_path import KEYS_SUFFIX
from renderformer.data.errors import InputError
from renderformer.data.formats import SCENE_FORMATS
from renderformer.data.formats.environment_image import SUFFIXES as ENVIRONMENT_SUFFIXES
from renderformer.viewer.actions import ACTIONS, NOTES, SAVES, Action, Save, help_table
from renderformer.viewer.asking import Asking
from renderformer.viewer.camera import OrbitCamera
from renderformer.viewer.dialogs import FileRequest, Question, by_name, closing, discarding, opening_recent, recovering
from renderformer.viewer.panel import Panel
from renderformer.viewer.recent import recent, remember
from renderformer.viewer.session import Session

if TYPE_CHECKING:
    from renderformer.data.progress import Progress
    from renderformer.renderer import Cancel


class WindowDialogs(Asking):
    """The part of `Window` that asks."""

    session: Session
    panel: Panel
    message: str
    _post: Callable[[Callable[[], None]], None]
    _refresh: Callable[[], None]
    _leave: Callable[[], None]
    perform: Callable[[Action], None]

    def __init__(self) -> None:
        super().__init__()
        # Where the scene was saved last, with the camera of the scene, which each opened one has of its own.
        self._saved: tuple[OrbitCamera, Path] | None = None

    def ask_open(self, title: str, suffixes: Iterable[str]) -> None:
        """Ask for a file and open it."""
        self._ask_file(FileRequest(title, tuple(suffixes), self.open))

    def open(self, path: Path) -> None:
        """Open a file on another thread; see `Session.open`."""
        session = self.session

        def work(progress: Progress, cancel: Cancel) -> list[str]:
            with by_name(path):
                kind, notes = session.open(path, cancel)
            remember(path)
            self._post(lambda: self._apply("view", lambda: self.panel.show(kind)))
            return notes

        session.start(f"opening {path.name}", work)

    def ask_recent(self) -> None:
        """Ask for a recent file and open it."""
        files, note = recent()
        self.message = note or self.message
        if not files:
            raise InputError("recent files", note or "there are none yet", "open a file")
        self._ask(opening_recent(files, self.open))

    def ask_environment(self) -> None:
        """Ask for a picture of all directions and surround the scene by it."""
        session = self.session

        def opened(path: Path) -> None:
            session.start(f"opening {path.name}", lambda progress, cancel: self._opened(path, cancel))

        self._ask_file(FileRequest("Environments", ENVIRONMENT_SUFFIXES, opened))

    def _opened(self, path: Path, cancel: Cancel) -> list[str]:
        with by_name(path):
            notes = self.session.open_environment(path, cancel)
        self._post(self._refresh)
        return notes

    def ask_save(self, save: Save) -> None:
        """Ask for a file name and save there."""
        save.check(self.session)
        title = f"Save {save.name}"
        self._ask_file(FileRequest(title, save.suffixes, lambda path: self.save(path, save.turn), saving=True))

    def save_again(self) -> None:
        """Save the scene where it was saved last since it was opened, or else ask for a file name."""
        if self._saved is not None and self._saved[0] is self.session.orbit:
            self.save(self._saved[1])
        else:
            self.ask_save(next(save for save in SAVES if save.name == "scene"))

    def ask_close(self) -> None:
        """Close the window, after a question if something would be lost."""
        save, save_keys = (
            functools.partial(self.perform, next(action for action in ACTIONS if action.name == name))
            for name in ("save", "save camera path")
        )
        question = closing(self.session, save, save_keys, self._leave)
        if question is None:
            self._leave()
        else:
            self._ask(question)

    def ask_recover(self) -> None:
        """Ask what to do with unsaved work that a viewer left behind."""
        question = recovering(self.session, lambda: self._post(self._refresh))
        if question is None:
            raise InputError("recovery", "no unsaved work was left behind", "open a file")
        sure = discarding(question.answers["Discard"])
        self._ask(replace(question, answers={**question.answers, "Discard": lambda: self._ask(sure)}))

    def show_help(self) -> None:
        """Show mouse and keys."""
        self._ask(Question("Mouse and keys", NOTES, {"Close": lambda: None}, help_table()))

    def save(self, path: Path, turn: float = 0.0) -> None:
        """Save on another thread; see `Session.save`."""
        session, orbit = self.session, self.session.orbit

        def work(progress: Progress, cancel: Cancel) -> list[str]:
            with by_name(path):
                notes = session.save(path, progress, cancel, turn)
            if path.suffix.lower() in SCENE_FORMATS:
                remember(path)
                if not path.name.lower().endswith(KEYS_SUFFIX):
                    self._saved = orbit, path
            return notes

        session.start(f"saving {path.name}", work)
