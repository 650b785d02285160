"""Callbacks that report the progress of long tasks."""

from __future__ import annotations

from collections.abc import Callable

# The arguments are the name of the stage, the number of steps done and the number of all steps.
Progress = Callable[[str, int, int], None]


def silent(stage: str, done: int, total: int) -> None:
    """A Progress that does nothing."""
