"""The one exception for bad input."""

from __future__ import annotations


class InputError(ValueError):
    """A file or value from the user that cannot be used.

    The message is one line that names where (file, object, key), the offending value, and the remedy; the command line
    prints it as it is and exits with 1.
    """
