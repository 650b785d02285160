"""What the window asks a person, without the drawing: file names, and whether to replace or to close."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from renderformer.viewer.session import Session


@dataclass(frozen=True)
class Question:
    """Lines over buttons, and above them a table of two columns.

    Attributes:
        answers: what each button does; the dialog is closed before.
    """

    title: str
    text: str
    answers: Mapping[str, Callable[[], object]]
    table: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class FileRequest:
    """A file that a person is asked for.

    Attributes:
        suffixes: of the files on offer; a name without one of its own gets the first.
        done: called with the file.
        saving: whether the file will be written.
    """

    title: str
    suffixes: tuple[str, ...]
    done: Callable[[Path], object]
    saving: bool = False

    @property
    def filters(self) -> list[tuple[str, str]]:
        """Suffixes and text of each entry that narrows a file dialog.

        When saving, each suffix has an entry: the dialog appends the last suffix of the entry to a name without one.
        """
        if self.saving:
            return [*((suffix, f"{suffix[1:].upper()} (*{suffix})") for suffix in self.suffixes), ("", "All files")]
        names = ", ".join(suffix[1:] for suffix in self.suffixes)
        return [(" ".join(self.suffixes), f"{self.title} ({names})"), ("", "All files")]

    def path(self, name: str) -> Path:
        """The file of a name that was typed or chosen."""
        path = Path(name)
        return path if path.suffix else path.with_suffix(self.suffixes[0])

    def replacing(self, path: Path) -> Question | None:
        """What to ask before a file is written; None where nothing would be lost."""
        if not (self.saving and path.exists()):
            return None
        answers = {"Replace": lambda: self.done(path), "Cancel": lambda: None}
        return Question("Replace?", f"{path.name} exists already.", answers)


def closing(session: Session, save: Callable[[], object], leave: Callable[[], object]) -> Question | None:
    """What to ask before the viewer closes; None where nothing would be lost.

    Args:
        save: asks where to save the scene; leave: closes without asking again.
    """
    losses = ["Edits of the scene are not in a file yet."] if session.document.unsaved else []
    answers: dict[str, Callable[[], object]] = {"Save scene": save} if losses else {}
    if session.task is not None:
        losses.append(f"Still {session.task.label}.")
    if not losses:
        return None
    return Question("Close?", "\n".join(losses), {**answers, "Close": leave, "Cancel": lambda: None})
