"""The exception for bad input."""

from __future__ import annotations

import re

# Control characters and Unicode line separators, which end lines or control terminals.
_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029]+")


def one_line(text: str) -> str:
    """Replace each run of control characters and line ends by a space; names in files may contain any character."""
    return _CONTROL.sub(" ", text)


class InputError(ValueError):
    """A file or value from the user that cannot be used.

    `str(error)` is one line, "place: problem; remedy". The command line prints that line and exits with 1.

    Attributes:
        place: where the problem is, outermost part first, for example "scene.json: object 'lamp'"; may be empty if the
            caller adds the place with `within`.
        problem: what is wrong, with the value.
        remedy: the expected value, or what to do; may be empty.
    """

    def __init__(self, place: object, problem: str, remedy: str = "") -> None:
        self.place, self.problem, self.remedy = one_line(str(place)), one_line(problem), one_line(remedy)
        # pickle makes the error again from these arguments.
        super().__init__(self.place, self.problem, self.remedy)

    def __str__(self) -> str:
        place = f"{self.place}: " if self.place else ""
        remedy = f"; {self.remedy}" if self.remedy else ""
        return f"{place}{self.problem}{remedy}"

    def within(self, place: object) -> InputError:
        """The same error with `place` put before its own place, unless that already starts with `place`."""
        outer = one_line(str(place))
        if self.place == outer or self.place.startswith(f"{outer}: "):
            return self
        return self.at(f"{outer}: {self.place}" if self.place else outer)

    def at(self, place: object) -> InputError:
        """The same error with `place` instead of its own place."""
        return InputError(place, self.problem, self.remedy)
