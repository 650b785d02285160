"""The files that a person opened or saved last, newest first, on this machine."""

from __future__ import annotations

import json
import os
from pathlib import Path

from renderformer.data.errors import InputError
from renderformer.data.files import MAX_CONFIG_BYTES, atomic_path, read_bytes, state_folder

MOST = 10
# Longest path that is kept, and seconds to wait for another viewer that writes.
MAX_LENGTH, PATIENCE = 4096, 2.0


def recent() -> tuple[list[Path], str]:
    """The files that still exist, and a note if the list cannot be used."""
    paths, note = _read()
    return [path for path in paths if _exists(path)], note


def remember(path: str | os.PathLike[str]) -> None:
    """Put a file on top of the list; where the list cannot be written, nothing happens."""
    from filelock import FileLock, Timeout

    try:
        place = _place()
        place.parent.mkdir(parents=True, exist_ok=True)
        path = Path(path).absolute()
        with FileLock(place.with_suffix(".lock"), timeout=PATIENCE):
            paths = [path, *(other for other in _read()[0] if other != path)][:MOST]
            with atomic_path(place) as temporary:
                temporary.write_text(json.dumps([str(one) for one in paths], indent=1) + "\n")
    except (OSError, ValueError, Timeout):
        # Work goes on without the list, as on a read-only disk.
        return


def _place() -> Path:
    return state_folder() / "recent.json"


def _read() -> tuple[list[Path], str]:
    """The listed files, and a note if the list cannot be used."""
    place = _place()
    if not place.exists():
        return [], ""
    try:
        content = json.loads(read_bytes(place, MAX_CONFIG_BYTES).decode())
    except (InputError, ValueError, RecursionError) as error:
        reason = error.problem if isinstance(error, InputError) else "it is not JSON"
        return [], f"the list of recent files is not used, {reason} ({place})"
    entries = content if isinstance(content, list) else [content]
    good = [entry for entry in entries if isinstance(entry, str) and _usable(entry)]
    if len(good) == len(entries):
        return [Path(entry) for entry in good[:MOST]], ""
    note = f"{len(entries) - len(good)} entries of the list of recent files are no paths and are not used ({place})"
    return [Path(entry) for entry in good[:MOST]], note


def _usable(entry: str) -> bool:
    """Whether an entry is an absolute path that can be shown in one line."""
    return 0 < len(entry) <= MAX_LENGTH and entry.isprintable() and Path(entry).is_absolute()


def _exists(path: Path) -> bool:
    try:
        return path.is_file()
    except OSError:
        return False
