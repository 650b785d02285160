"""The contents of the window's dialogs: file names, questions before replacing and closing."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from renderformer.data.errors import InputError, one_line
from renderformer.viewer.session import Session


@dataclass(frozen=True)
class Question:
    """A dialog of a table with two columns, text, choices and buttons.

    Attributes:
        answers: the action of each button; the dialog is closed first.
        choices: as `answers`, one below the other.
    """

    title: str
    text: str
    answers: Mapping[str, Callable[[], object]]
    table: Mapping[str, str] = field(default_factory=dict)
    choices: Mapping[str, Callable[[], object]] = field(default_factory=dict)


@dataclass(frozen=True)
class FileRequest:
    """A dialog that asks for a file.

    Attributes:
        suffixes: of the files on offer; a name to save without a suffix gets the first.
        done: called with the file.
        saving: whether the file will be written.
    """

    title: str
    suffixes: tuple[str, ...]
    done: Callable[[Path], object]
    saving: bool = False

    @property
    def filters(self) -> list[tuple[str, str]]:
        """Suffixes and text of each filter of the dialog.

        When saving, each suffix has its own filter: Open3D appends the last suffix of a filter to a name without one.
        """
        if self.saving:
            return [*((suffix, f"{suffix[1:].upper()} (*{suffix})") for suffix in self.suffixes), ("", "All files")]
        names = ", ".join(suffix[1:] for suffix in self.suffixes)
        return [(" ".join(self.suffixes), f"{self.title} ({names})"), ("", "All files")]

    def path(self, name: str) -> Path:
        """The file for a name from the dialog.

        Raises:
            InputError: a name for saving whose suffix says another kind of file.
        """
        path = Path(name)
        if not self.saving or path.name.lower().endswith(self.suffixes):
            return path
        # The whole suffix for a part of it, as of .lights.exr, and for none.
        suffix = next((known for known in self.suffixes if known.endswith(path.suffix.lower())), None)
        if suffix is not None:
            return path.with_name(path.stem + suffix)
        raise InputError(path.name, f"{path.suffix} is another kind of file", f"write {' or '.join(self.suffixes)}")

    def replacing(self, path: Path) -> Question | None:
        """The question before a file is replaced; None if there is no such file."""
        if not (self.saving and path.exists()):
            return None
        answers = {"Replace": lambda: self.done(path), "Cancel": lambda: None}
        return Question("Replace?", f"{path.name} exists already.", answers)


@contextlib.contextmanager
def by_name(path: Path) -> Iterator[None]:
    """A context whose errors about a file call it by its name: a whole path would leave no room on the line for what is
    wrong with it."""
    try:
        yield
    except InputError as error:
        whole = one_line(str(path))
        if error.place == whole or error.place.startswith(f"{whole}: "):
            raise error.at(one_line(path.name) + error.place.removeprefix(whole)) from None
        raise


def recovering(session: Session, shown: Callable[[], object]) -> Question | None:
    """The question what to do with unsaved work that was left behind; None if there is none.

    Args:
        shown: called on another thread once the work is back.
    """
    recovery = session.recovery
    if recovery is None or not recovery.offer:
        return None

    def work(progress: object, cancel: object) -> list[str]:
        line = recovery.recover()
        shown()
        return [line]

    answers: dict[str, Callable[[], object]] = {
        "Recover": lambda: session.start("recovering unsaved work", work),
        "Discard": recovery.discard,
        "Later": lambda: None,
    }
    return Question("Unsaved work", recovery.offer, answers)


def discarding(discard: Callable[[], object]) -> Question:
    """The question before unsaved work is deleted."""
    text = "The unsaved work cannot be brought back once it is deleted."
    return Question("Discard?", text, {"Delete it": discard, "Cancel": lambda: None})


def opening_recent(files: Sequence[Path], open_file: Callable[[Path], object]) -> Question:
    """The question which of the recent files to open."""
    short = [shortened(path) for path in files]
    # Whole where the ends of two are the same.
    labels = [str(path) if short.count(name) > 1 else name for path, name in zip(files, short, strict=True)]
    choices = {label: functools.partial(open_file, path) for label, path in zip(labels, files, strict=True)}
    return Question("Open recent", "Recent files:", {"Cancel": lambda: None}, choices=choices)


def shortened(path: Path, length: int = 60) -> str:
    """A path of at most so many letters, by its end."""
    text = str(path)
    return text if len(text) <= length else f"...{text[3 - length :]}"


def closing(
    session: Session, save: Callable[[], object], save_keys: Callable[[], object], leave: Callable[[], object]
) -> Question | None:
    """The question before the viewer closes; None if nothing would be lost.

    Args:
        save, save_keys: ask for a file name and save the scene, or the key frames.
        leave: closes the viewer.
    """
    losses = session.losses
    answers: dict[str, Callable[[], object]] = {}
    if session.scene_unsaved:
        answers["Save scene"] = save
    if session.keys_unsaved:
        answers["Save key frames"] = save_keys
    if session.task is not None:
        losses.append(f"Still {session.task.label}.")
    if not losses:
        return None
    return Question("Close?", "\n".join(losses), {**answers, "Close": leave, "Cancel": lambda: None})
