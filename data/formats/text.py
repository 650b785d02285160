"""Mesh files that are text."""

from __future__ import annotations

import codecs

from renderformer.data.errors import InputError


def as_utf8(data: bytes) -> bytes:
    """Text in UTF-8 without a byte order mark. Other bytes are taken as Latin-1, in which older programs write names
    and comments; numbers are the same in both.

    Raises:
        InputError: it is not text.
    """
    if b"\0" in data:
        raise InputError("", "is not text", "check that the suffix names the format")
    try:
        data.decode()
    except UnicodeDecodeError:
        return data.decode("latin-1").encode()
    return data.removeprefix(codecs.BOM_UTF8)


def check_lines(body: bytes, expected: int, name: str) -> None:
    """Refuse a text file with fewer lines of numbers than its header promises; trimesh takes it for a smaller mesh.

    Args:
        body: the file after its header.
        name: of the format.

    Raises:
        InputError: lines are missing.
    """
    count = sum(1 for line in body.splitlines() if line.strip())
    if count < expected:
        problem = f"is truncated, its {name} header promises {expected} lines of numbers and {count} follow"
        raise InputError("", problem, "export it again")
