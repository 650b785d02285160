"""Unsaved work on disk, so that a viewer that is killed loses no more than its last second.

Every open viewer has a folder with a snapshot of its work, and a lock that ends with its process. A viewer that is
closed removes both. What is left without a lock was left behind; one viewer at a time can offer it.
"""

from __future__ import annotations

import contextlib
import functools
import logging
import os
import secrets
import shutil
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from renderformer.data.camera_path import CameraPath, View
from renderformer.data.errors import InputError
from renderformer.data.files import state_folder
from renderformer.data.unit_size import UnitSize
from renderformer.viewer import snapshot
from renderformer.viewer.document import SceneState
from renderformer.viewer.tasks import describe
from renderformer.viewer.tour import keep_tour

if TYPE_CHECKING:
    from filelock import FileLock

    from renderformer.viewer.session import Session, Version

# Seconds between two looks for edits; and after a write, at least this many times as long as it took.
SECONDS, RESPITE = 0.25, 2.0
# Seconds until another try after a failed write, as on a full disk.
RETRY_SECONDS = 30.0


class Owned:
    """A folder for the work of one viewer, which this process alone may use until `release`."""

    def __init__(self, folder: Path, lock: FileLock) -> None:
        self.folder, self._lock = folder, lock

    @classmethod
    def new(cls) -> Owned:
        """An empty folder; OSError where none can be made."""
        base = _base()
        base.mkdir(parents=True, exist_ok=True)
        folder = base / f"{os.getpid()}-{secrets.token_hex(4)}"
        lock = _lock(folder)
        lock.acquire(timeout=0)
        folder.mkdir()
        return cls(folder, lock)

    @classmethod
    def left_behind(cls) -> Iterator[Owned]:
        """Folders of viewers that ended without closing, the newest first; empty ones are removed."""
        from filelock import Timeout

        for folder in sorted(filter(Path.is_dir, _base().glob("*")), key=_time, reverse=True):
            lock = _lock(folder)
            try:
                lock.acquire(timeout=0)
            except (Timeout, OSError):
                continue
            owned = cls(folder, lock)
            if (folder / snapshot.VALUES).is_file():
                yield owned
            else:
                owned.remove()

    @property
    def time(self) -> float:
        """When its work was written, in seconds since 1970."""
        return _time(self.folder)

    @functools.cached_property
    def title(self) -> str:
        """The name of its scene; empty if that is not known."""
        with contextlib.suppress(InputError):
            return snapshot.title(self.folder)
        return ""

    def release(self) -> None:
        """Let other viewers use it."""
        self._lock.release()

    def remove(self) -> None:
        """Delete it."""
        shutil.rmtree(self.folder, ignore_errors=True)
        self._lock.release()
        with contextlib.suppress(OSError):
            Path(self._lock.lock_file).unlink(missing_ok=True)


def _base() -> Path:
    return state_folder() / "unsaved"


def _lock(folder: Path) -> FileLock:
    from filelock import FileLock

    return FileLock(folder.with_name(f"{folder.name}.lock"), thread_local=False)


def _time(folder: Path) -> float:
    with contextlib.suppress(OSError):
        return (folder / snapshot.VALUES).stat().st_mtime
    return 0.0


def work_of(session: Session) -> dict[str, Any]:
    """What a person made in a session, for `Snapshots.write`."""
    with session.lock:
        orbit = session.orbit
        return {
            **session.version._asdict(),
            snapshot.TITLE: session.document.version.name,
            "unit": session.unit,
            "view": orbit.view,
            "limited": orbit.limited,
            "tone_map": session.tone_map,
            "exposure": session.exposure,
        }


def go_on(session: Session, work: dict[str, Any]) -> None:
    """Show the work of another session, as an edit that can be undone.

    Raises:
        InputError: work that no session has; nothing is changed.
    """
    try:
        state, view, unit, bookmarks = work["state"], work["view"], work["unit"], dict(work["bookmarks"])
        kinds = (state, SceneState), (unit, UnitSize), *((one, View) for one in (view, *bookmarks.values()))
        if not all(isinstance(value, kind) for value, kind in kinds):
            raise TypeError("a value of another kind")
        # Views that no camera has raise here.
        for one in (view, *bookmarks.values()):
            one.camera()
        keys, limited, display = CameraPath(work["keys"]), bool(work["limited"]), (work["tone_map"], work["exposure"])
    except (KeyError, TypeError, ValueError) as error:
        raise InputError("unsaved work", f"is incomplete ({error})", snapshot.REMEDY) from None
    with session.lock:
        session.set_display(*display)
        session.document.recover(state)
        session.start_at(state.cameras, unit)
        session.orbit.limited, session.orbit.view = limited, view
        session.orbit.bookmarks, session.key_frames = bookmarks, keys
        keep_tour(session)
        session.request()


class Recovery:
    """Keeps the unsaved work of a session on disk until `close`, and offers what other viewers left behind.

    Attributes:
        found: what was left behind, newest first, until it is recovered or discarded.
        problem: why unsaved work is not kept; empty if it is.
        interrupted: set by a front end that Ctrl-C ended, which asks nothing.
    """

    def __init__(self, session: Session) -> None:
        self._session = session
        self.found: list[Owned] = []
        self.problem = ""
        self.interrupted = False
        # Recovered work, removed once it is written as that of this session.
        self._adopted: list[Owned] = []
        # Held by who writes, or changes the lists above.
        self._lock = threading.Lock()
        self._own: Owned | None = None
        self._written: Version | None = None
        self._done = threading.Event()
        try:
            self.found = list(Owned.left_behind())
            self._own = Owned.new()
            self._snapshots = snapshot.Snapshots(self._own.folder)
        except (OSError, InputError) as error:
            self._failed(error)
            return
        self._thread = threading.Thread(target=self._work, name="renderformer-recovery", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Stop, and remove the work: the person has saved it or left it. What was found stays for the next viewer."""
        self._end()
        if self._own is not None:
            self._own.remove()
        for owned in self._adopted:
            owned.remove()

    def leave(self) -> None:
        """Stop, and leave the unsaved work to the next viewer, as after a kill."""
        self._end()
        if self._own is None:
            return
        try:
            self._write()
        except Exception as error:
            self._failed(error)
        for owned in self._adopted:
            owned.release()
        if self._written is None:
            self._own.remove()
        else:
            logging.getLogger(__name__).warning("the unsaved work is kept; the next viewer offers it")
            self._own.release()

    def _end(self) -> None:
        self._done.set()
        if self._own is not None:
            self._thread.join()
        for owned in self.found:
            owned.release()

    @property
    def offer(self) -> str:
        """One line about the newest work that was left behind; empty if there is none."""
        if not self.found:
            return ""
        when = time.strftime("%Y-%m-%d %H:%M", time.localtime(self.found[0].time))
        more = f", and {len(self.found) - 1} more" if len(self.found) > 1 else ""
        title = self.found[0].title[:60]
        return f"A viewer ended with unsaved work{title and f' on {title}'} of {when}{more}."

    def recover(self) -> str:
        """Go on with the newest work that was left behind; returns a line for the person.

        Raises:
            InputError: there is none, or it is damaged; it stays.
        """
        newest = self._newest()
        go_on(self._session, snapshot.read(newest.folder))
        with self._lock:
            self.found.remove(newest)
            self._adopted.append(newest)
        return "it is back, and in no file yet; undo returns to the scene before"

    def discard(self) -> None:
        """Delete the newest work that was left behind."""
        newest = self._newest()
        self.found.remove(newest)
        newest.remove()

    def _newest(self) -> Owned:
        if not self.found:
            raise InputError("recovery", "no unsaved work was left behind", "open a file")
        return self.found[0]

    def _work(self) -> None:
        wait = SECONDS
        while not self._done.wait(wait):
            started = time.monotonic()
            try:
                self._write()
                self.problem, wait = "", max(SECONDS, RESPITE * (time.monotonic() - started))
            except Exception as error:
                self._failed(error)
                wait = RETRY_SECONDS

    def _failed(self, error: Exception) -> None:
        """Say once that unsaved work is not kept; the person works on."""
        line = f"unsaved work is not kept: {describe(error)}"
        if line != self.problem:
            self.problem = line
            logging.getLogger(__name__).warning(line)

    def _write(self) -> None:
        """Write the work if it has changed; remove it if all of it is in files."""
        assert self._own is not None
        with self._session.lock:
            unsaved, version, work = self._session.unsaved, self._session.version, work_of(self._session)
        token = version if unsaved else None
        if token == self._written:
            return
        if unsaved:
            self._snapshots.write(work)
        else:
            (self._own.folder / snapshot.VALUES).unlink(missing_ok=True)
        self._written = token
        with self._lock:
            adopted, self._adopted = self._adopted, []
        for owned in adopted:
            owned.remove()


@contextlib.contextmanager
def kept(session: Session, keep: bool = False) -> Iterator[None]:
    """A context in which a session has a `Recovery`; an exception leaves unsaved work to the next viewer, and so does
    Ctrl-C with `keep`."""
    recovery = session.recovery = Recovery(session)
    try:
        yield
    except BaseException:
        recovery.leave()
        raise
    if keep and recovery.interrupted:
        recovery.leave()
    else:
        recovery.close()
