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

    The message is one line that names where (file, object, key), the offending value, and the remedy; the command line
    prints it as it is and exits with 1.
    """

    def __init__(self, message: str) -> None:
        super().__init__(one_line(message))
