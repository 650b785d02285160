"""What the commands say and how they fail: lines on stderr, results on stdout, progress, exit codes."""

from __future__ import annotations

import io
import json
import os
import sys
import threading
import time
from collections.abc import Callable, Iterable
from types import TracebackType
from typing import TYPE_CHECKING, Any

import typer

if TYPE_CHECKING:
    from renderformer.data.errors import InputError

FAILED = 1
# A bar that flashes by is noise.
PROGRESS_DELAY = 1.0


def say(line: str) -> None:
    """One line for the person, on stderr; stdout is for results."""
    typer.echo(line, err=True)


def say_all(label: str, lines: Iterable[str]) -> None:
    """Lines on stderr, each with its label."""
    for line in lines:
        say(f"{label}: {line}")


def emit_json(result: dict[str, Any]) -> None:
    """One result as one line of JSON on stdout, in ASCII whatever its encoding, flushed so that a reader can follow."""
    typer.echo(json.dumps(result, allow_nan=False))
    sys.stdout.flush()


def explain(error: BaseException) -> InputError:
    """Any exception as one line with a remedy; an InputError as it is."""
    from renderformer.data.errors import InputError, one_line

    if isinstance(error, InputError):
        return error
    text = one_line(str(error))[:160]
    if _out_of_memory(error):
        remedy = "lower --resolution or --budget, render fewer cameras at once, or choose another --device"
        return InputError("", "out of memory", f"{remedy} ({text or 'no details'})")
    if isinstance(error, OSError):
        # Without a name it is stdout; files are written and read by functions that name them.
        place = error.filename or ("stdout" if error.strerror else "")
        return InputError(place, error.strerror or text or type(error).__name__)
    if isinstance(error, ModuleNotFoundError) and not str(error.name).startswith("renderformer"):
        remedy = "training and data need: pip install 'renderformer[train]'"
        return InputError("", f"the package {error.name} is not installed", remedy)
    remedy = "set RENDERFORMER_DEBUG=1 to see where, and report it"
    return InputError("", f"internal error, {type(error).__name__}: {text}", remedy)


def _out_of_memory(error: BaseException) -> bool:
    # By name, since torch need not have been loaded. Its CPU allocator raises a plain RuntimeError, which only the
    # text tells from others.
    return isinstance(error, MemoryError) or (
        isinstance(error, RuntimeError)
        and (type(error).__name__ == "OutOfMemoryError" or "not enough memory" in str(error) or "alloc" in str(error))
    )


def debugging() -> bool:
    """Whether tracebacks are wanted (RENDERFORMER_DEBUG=1)."""
    return os.environ.get("RENDERFORMER_DEBUG", "") not in ("", "0")


def run(app: Callable[[], Any]) -> None:
    """Run a Typer app; turn what escapes it into one line on stderr and exit code 1.

    Typer itself ends with 2 on wrong usage and with 130 on Ctrl-C.
    """
    for stream in (sys.stdout, sys.stderr):
        # Names may hold what is not text, and a terminal may know ASCII only; neither is a reason to stop.
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    try:
        app()
    except BrokenPipeError:
        # The reader of stdout went away; give Python nothing to flush there when it ends.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(FAILED)
    except Exception as error:
        if debugging():
            raise
        say(f"error: {explain(error)}")
        sys.exit(FAILED)


class Stages:
    """Times the stages of one task and shows a bar for them on a terminal once the task takes over a second.

    Use as a context manager; `update` has the signature of the engine's progress callbacks.
    """

    def __init__(self, title: str, show: bool = True) -> None:
        self.seconds: dict[str, float] = {}
        self._title = title
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

            columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
            # A step may take minutes, so the speed is that of the last hour.
            self._bar = Progress(
                *columns,
                TimeRemainingColumn(),
                console=Console(stderr=True),
                transient=True,
                speed_estimate_period=3600,
            )
            self._task = self._bar.add_task(self._title, total=None)
            self._timer = threading.Timer(PROGRESS_DELAY, self._bar.start)
            self._timer.daemon = True
            self._timer.start()
        return self

    def update(self, stage: str, done: int = 0, total: int = 0) -> None:
        """Enter `stage`, or report `done` of `total` steps in it."""
        if stage != self._current:
            self._close_stage()
            self._current = stage
        if self._bar is not None:
            counts = {"completed": done, "total": total} if total > 0 else {}
            self._bar.update(self._task, description=f"{self._title}: {stage}", **counts)

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
