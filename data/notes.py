"""Notes: lines that tell a person what was made of a scene. Their kind says which ones a person should read first.

A plain string tells what is missing or drawn in another way than the file has it.
"""

from __future__ import annotations

from collections.abc import Sequence


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
