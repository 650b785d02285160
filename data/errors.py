"""The one exception for bad input."""

from __future__ import annotations

import re

# Everything that a terminal or a log takes for the end of a line, or for a command.
_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029]+")


def one_line(text: str) -> str:
    """The text with control characters, line ends among them, replaced by blanks; names in files may hold any."""
    return _CONTROL.sub(" ", text)


class InputError(ValueError):
    """A file or value from the user that cannot be used.

    As text it is one line, "place: problem; remedy". The command line prints that line and exits with 1.

    Attributes:
        place: where the problem is, from the outside in, for example "scene.json: object 'lamp'"; empty where only the
            caller knows, who puts the error under a place with `within`.
        problem: what is wrong, with the value.
        remedy: what would be right, or what to do about it; may be empty.
    """

    def __init__(self, place: object, problem: str, remedy: str = "") -> None:
        self.place, self.problem, self.remedy = one_line(str(place)), one_line(problem), one_line(remedy)
        # Errors travel between processes by their arguments.
        super().__init__(self.place, self.problem, self.remedy)

    def __str__(self) -> str:
        place = f"{self.place}: " if self.place else ""
        remedy = f"; {self.remedy}" if self.remedy else ""
        return f"{place}{self.problem}{remedy}"

    def within(self, place: object) -> InputError:
        """The same problem, its place seen from further out: `place`, then the place it has, unless it begins there."""
        outer = one_line(str(place))
        if self.place == outer or self.place.startswith(f"{outer}: "):
            return self
        return self.at(f"{outer}: {self.place}" if self.place else outer)

    def at(self, place: object) -> InputError:
        """The same problem at `place` instead of the place it has."""
        return InputError(place, self.problem, self.remedy)
