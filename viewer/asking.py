"""What any window has: callbacks that do not end it, and dialogs for a file and for a question with buttons."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from renderformer.viewer.dialogs import FileRequest, Question
from renderformer.viewer.tasks import describe
from renderformer.viewer.widgets import file_dialog, question_dialog


class Asking:
    """The part of a window that asks.

    Attributes:
        closed: whether the window is; no callback touches it any more.
        dialog: the open one, None without.
    """

    window: Any
    closed: bool
    _apply: Callable[[str, Callable[[], object]], None]
    _say: Callable[..., None]

    def __init__(self) -> None:
        self.dialog: Any = None
        # Where the next dialog starts, and the folder of the process before it: Open3D changes that to the chosen one,
        # and relative paths, as of -o, would mean other files.
        self._folder = self._before = Path.cwd()

    def _guarded(self, action: Callable[..., Any], result: Any = None) -> Callable[..., Any]:
        """A callback that never raises, which would end the window; errors go to the foot."""

        def run(*values: Any) -> Any:
            if self.closed:
                return result
            try:
                returned = action(*values)
            except Exception as error:
                self._say(describe(error), failed=True)
                return result
            return result if returned is None else returned

        return run

    def _ask_file(self, request: FileRequest) -> None:
        def chosen(name: str) -> None:
            self._end_dialog()
            path = request.path(name)
            self._folder = path.parent if path.parent.is_dir() else self._folder
            question = request.replacing(path)
            if question is None:
                self._apply(request.title, lambda: request.done(path))
            else:
                self._ask(question)

        dialog = file_dialog(request, self._folder, self.window.theme)
        dialog.set_on_cancel(self._guarded(self._end_dialog))
        dialog.set_on_done(self._guarded(chosen))
        self._open_dialog(dialog)

    def _ask(self, question: Question) -> None:
        def pressed(label: str) -> None:
            self._end_dialog()
            self._apply(label, {**question.answers, **question.choices}[label])

        self._open_dialog(question_dialog(question, self.window.theme.font_size, self._guarded(pressed)))

    def _open_dialog(self, dialog: Any) -> None:
        self.dialog, self._before = dialog, Path.cwd()
        self.window.show_dialog(dialog)
        self.window.post_redraw()

    def _end_dialog(self) -> None:
        self.dialog = None
        with contextlib.suppress(OSError):
            os.chdir(self._before)
        self.window.close_dialog()
        self.window.post_redraw()
