"""Long work beside the picture, such as saving a video."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, TypeAlias

from renderformer.data.errors import InputError, one_line
from renderformer.renderer import Cancelled

if TYPE_CHECKING:
    from renderformer.data.progress import Progress
    from renderformer.renderer import Cancel

# Called with `progress` and `cancel` as of `Renderer.render`; returns notes for the person.
Work: TypeAlias = "Callable[[Progress, Cancel], list[str]]"


class Task:
    """Long work on its own thread, such as saving a video, with progress and cancellation.

    Args:
        finished: called at the end with the task, the notes and the problem, empty after success.

    Attributes:
        label: names the work.
        stage, done, total: the progress.
        cancelled: whether it ended because it was asked to.
    """

    def __init__(self, label: str, work: Work, finished: Callable[[Task, list[str], str], None]) -> None:
        self.label = label
        self.stage, self.done, self.total = "", 0, 0
        self.cancelled = False
        self._work, self._finished = work, finished
        self._cancel = threading.Event()
        self._thread = threading.Thread(target=self._run, name="renderformer-task", daemon=True)
        self._thread.start()

    @property
    def title(self) -> str:
        """What it does; after `cancel`, that it will stop, which may take until the next step."""
        return f"cancelling: {self.label}" if self._cancel.is_set() else self.label

    def cancel(self) -> None:
        """Ask the work to stop; it leaves no file."""
        self._cancel.set()

    def join(self, timeout: float | None = None) -> bool:
        """Wait for the end; returns whether the work has ended."""
        if threading.current_thread() is not self._thread:
            self._thread.join(timeout)
        return not self._thread.is_alive()

    def _run(self) -> None:
        notes, problem = [], ""
        try:
            notes = self._work(self._progress, self._cancel.is_set)
        except Cancelled:
            problem, self.cancelled = "cancelled", True
        except Exception as error:
            problem = describe(error)
        self._finished(self, notes, problem)

    def _progress(self, stage: str, done: int, total: int) -> None:
        self.stage, self.done, self.total = stage, done, total


def describe(error: Exception) -> str:
    """An error as one line for a person."""
    if isinstance(error, InputError):
        return str(error)
    return f"{type(error).__name__}: {one_line(next(iter(str(error).splitlines()), ''))}"
