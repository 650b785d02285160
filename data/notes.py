"""Notes: lines that tell a person what was made of a scene. Their kind says which ones a person should read first.

A plain string tells what is missing or drawn in another way than the file has it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence


class Guess(str):
    """A note about a choice that was made for the person, who may make another, such as the axis that points up."""

    __slots__ = ()


class Routine(str):
    """A note about what always happens to such a scene and changes nothing that a person would miss."""

    __slots__ = ()


def reworded(note: str, text: str) -> str:
    """`text` as a note of the same kind as `note`."""
    return type(note)(text) if isinstance(note, Guess | Routine) else text


def digest(notes: Sequence[str], most: int) -> list[str]:
    """At most so many of the notes to show: what is missing and what was guessed take turns, routine is left out."""
    guesses = [note for note in notes if isinstance(note, Guess)]
    losses = [note for note in notes if not isinstance(note, Guess | Routine)]
    turns = [note for pair in zip(losses, guesses, strict=False) for note in pair]
    rest = losses[len(guesses) :] + guesses[len(losses) :]
    return (turns + rest)[:most]


class Alike:
    """Lines of many pictures; those that differ in numbers alone are one line with a count."""

    def __init__(self) -> None:
        self._lines: dict[str, tuple[str, int]] = {}

    def add(self, lines: Iterable[str]) -> None:
        for line in lines:
            kind = re.sub(r"\d+(\.\d+)?(e[-+]?\d+)?", "0", line)
            first, count = self._lines.get(kind, (line, 0))
            self._lines[kind] = first, count + 1

    def lines(self) -> list[str]:
        """The first line of each kind."""
        told = self._lines.values()
        return [reworded(line, f"{line} (and {count - 1} more like it)") if count > 1 else line for line, count in told]
