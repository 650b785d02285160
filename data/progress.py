"""How the engine reports what it has done of a long task."""

from __future__ import annotations

from collections.abc import Callable

# Called with the name of the stage, and how many of its steps are done and how many there are.
Progress = Callable[[str, int, int], None]


def silent(stage: str, done: int, total: int) -> None:
    """The Progress that reports to nobody."""
