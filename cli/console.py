"""Output and failure of the commands: lines on stderr, results on stdout, progress, exit codes."""

from __future__ import annotations

import io
import json
import os
import sys
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any

import typer

if TYPE_CHECKING:
    from renderformer.data.errors import InputError

FAILED = 1
# Notes and warnings about one input, without --verbose.
SHOWN = 2
# Seconds between two lines of progress in a log.
LOG_EVERY = 30.0
# Seconds before a progress bar appears: shorter tasks show none.
PROGRESS_DELAY = 1.0


def say(line: str) -> None:
    """Print a line on stderr; stdout is for results."""
    typer.echo(line, err=True)


def say_all(label: str, lines: Iterable[str]) -> None:
    """Print lines on stderr, each with a label."""
    for line in lines:
        say(f"{label}: {line}")


def say_digest(notes: Sequence[str], warnings: Sequence[str] = (), verbose: bool = False) -> str:
    """Print the notes and warnings that matter most, at most `SHOWN`, or all of them.

    Returns:
        How many were left out and how to see them, for the end of a summary; empty if none was.
    """
    from renderformer.data.notes import digest

    shown_warnings = warnings if verbose else digest(warnings, SHOWN)
    shown_notes = notes if verbose else digest(notes, SHOWN - len(shown_warnings))
    say_all("note", shown_notes)
    say_all("warning", shown_warnings)
    left = len(notes) + len(warnings) - len(shown_notes) - len(shown_warnings)
    return f"; {left} more note{'s' * (left > 1)} with --verbose" if left else ""


def emit_json(result: dict[str, Any]) -> None:
    """Print a result as one line of ASCII JSON on stdout, flushed for a reader that follows."""
    typer.echo(json.dumps(result, allow_nan=False))
    sys.stdout.flush()


def explain(error: BaseException) -> InputError:
    """The InputError for any exception; an InputError is returned as it is."""
    from renderformer.data.errors import InputError, one_line
    from renderformer.memory import is_out_of_memory

    if isinstance(error, InputError):
        return error
    text = one_line(str(error))[:160]
    if is_out_of_memory(error):
        remedy = "lower --resolution or --budget, render fewer cameras at once, or choose another --device"
        return InputError("", "out of memory", f"{remedy} ({text or 'no details'})")
    if isinstance(error, OSError):
        # Every file operation names its file, so an OSError without a name is about stdout.
        place = error.filename or ("stdout" if error.strerror else "")
        return InputError(place, error.strerror or text or type(error).__name__)
    if isinstance(error, ModuleNotFoundError) and not str(error.name).startswith("renderformer"):
        remedy = "training and data need: pip install 'renderformer[train]'"
        return InputError("", f"the package {error.name} is not installed", remedy)
    remedy = "set RENDERFORMER_DEBUG=1 to see where, and report it"
    return InputError("", f"internal error, {type(error).__name__}: {text}", remedy)


def debugging() -> bool:
    """Whether errors show tracebacks (RENDERFORMER_DEBUG=1)."""
    return os.environ.get("RENDERFORMER_DEBUG", "") not in ("", "0")


def run(app: Callable[[], Any]) -> None:
    """Run a Typer app; an exception becomes one line on stderr and exit code 1.

    Typer itself exits with 2 on wrong usage and with 130 on Ctrl-C.
    """
    for stream in (sys.stdout, sys.stderr):
        # File names may not be valid text, and a terminal may be limited to ASCII; neither must fail.
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    try:
        app()
    except BrokenPipeError:
        # The reader of stdout is gone; without this, Python's flush at exit would fail.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(FAILED)
    except Exception as error:
        if debugging():
            raise
        say(f"error: {explain(error)}")
        sys.exit(FAILED)


class Stages:
    """A context that times the stages of a task and shows a progress bar on a terminal after a second.

    `update` has the signature of the engine's progress callbacks.

    Args:
        counted: the stage whose steps the bar counts, with their speed, such as "frames"; others are only named. By
            default it counts those of every stage.
    """

    def __init__(self, title: str, show: bool = True, counted: str = "") -> None:
        self.seconds: dict[str, float] = {}
        self._title = title
        self._counted = counted
        # Steps that were done when counting began, and when.
        self._first: tuple[int, float] | None = None
        self._current = ""
        self._since = time.perf_counter()
        self._show = show and sys.stderr.isatty()
        self._bar: Any = None
        self._task: Any = None
        self._timer: threading.Timer | None = None

    def __enter__(self) -> Stages:
        if self._show:
            from rich.console import Console
            from rich.progress import (
                BarColumn,
                MofNCompleteColumn,
                Progress,
                TextColumn,
                TimeElapsedColumn,
                TimeRemainingColumn,
            )

            # A step may take minutes, so the speed is averaged over the last hour.
            self._bar = Progress(
                TextColumn("{task.description}"),
                BarColumn(),
                MofNCompleteColumn(),
                TimeElapsedColumn(),
                TimeRemainingColumn(),
                TextColumn("{task.fields[speed]}"),
                console=Console(stderr=True),
                transient=True,
                speed_estimate_period=3600,
            )
            self._task = self._bar.add_task(self._title, total=None, speed="")
            self._timer = threading.Timer(PROGRESS_DELAY, self._bar.start)
            self._timer.daemon = True
            self._timer.start()
        return self

    def update(self, stage: str, done: int = 0, total: int = 0) -> None:
        """Enter a stage, or report `done` of `total` steps."""
        if stage == self._counted:
            self._first = self._first or (done, time.perf_counter())
        elif stage != self._current:
            self._close_stage()
            self._current = stage
        if self._bar is not None:
            counts: dict[str, Any] = {"completed": done, "total": total} if total > 0 and self._counts(stage) else {}
            if counts and self._counted:
                counts["speed"] = self._speed(done)
            self._bar.update(self._task, description=f"{self._title}: {stage}", **counts)

    def _counts(self, stage: str) -> bool:
        """Whether the steps of a stage are those of the bar."""
        return self._counted in ("", stage)

    def _speed(self, done: int) -> str:
        """The speed so far, such as "1.25 frames/s"."""
        assert self._first is not None
        first, since = self._first
        rate = (done - first) / max(time.perf_counter() - since, 1e-9)
        return f"{rate:.3g} {self._counted}/s" if done > first else ""

    def _close_stage(self) -> None:
        now = time.perf_counter()
        if self._current:
            self.seconds[self._current] = self.seconds.get(self._current, 0.0) + now - self._since
        self._since = now

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._close_stage()
        self._current = ""
        if self._timer is not None:
            self._timer.cancel()
            self._timer.join()
        if self._bar is not None:
            self._bar.stop()

    def summary(self) -> str:
        """The stages with their times, for example `load 0.21 s, encode 1.30 s`."""
        return ", ".join(f"{stage} {seconds:.2f} s" for stage, seconds in self.seconds.items() if seconds >= 0.005)


class Logged(Stages):
    """Stages that write lines of progress if stderr is not a terminal."""

    def __init__(self, title: str, show: bool = True, counted: str = "") -> None:
        super().__init__(title, show, counted)
        self._log = show and not sys.stderr.isatty()
        self._start = self._last_line = time.monotonic()
        self._before: int | None = None

    def update(self, stage: str, done: int = 0, total: int = 0) -> None:
        """As `Stages.update`."""
        super().update(stage, done, total)
        if not self._counts(stage):
            return
        if self._before is None:
            self._before, self._start = done, time.monotonic()
        now, steps = time.monotonic(), done - self._before
        if self._log and steps > 0 and (now - self._last_line > LOG_EVERY or (done == total and not self._counted)):
            left, gone = (now - self._start) * (total - done) / steps, now - self._start
            speed = f", {self._speed(done)}" if self._counted else ""
            say(f"{stage} {done} of {total}{speed}, {duration(gone)} gone, {duration(left)} left")
            self._last_line = now


def duration(seconds: float) -> str:
    """A time for people, in minutes."""
    minutes = round(seconds / 60)
    return f"{minutes // 60} h {minutes % 60} min" if minutes >= 60 else f"{minutes} min" if minutes else "under 1 min"
