"""Decoding and checks of mesh files that are text."""

from __future__ import annotations

import codecs
import re

from renderformer.data.errors import InputError


def as_utf8(data: bytes) -> bytes:
    """Text as UTF-8 without a byte order mark; text that is not UTF-8 is taken as Latin-1, which older programs use.

    Raises:
        InputError: the data are not text.
    """
    if b"\0" in data:
        raise InputError("", "is not text", "check that the suffix names the format")
    try:
        data.decode()
    except UnicodeDecodeError:
        return data.decode("latin-1").encode()
    return data.removeprefix(codecs.BOM_UTF8)


def header_comments(data: bytes) -> str:
    """What the first 2 KiB of a mesh file say in comments of OBJ, OFF, PLY or STL; "" if there are none."""
    lines = re.findall(rb"(?m)^[ \t]*(?:#|comment\b|obj_info\b|solid\b|STLB)(.*)$", data[:2048])
    if re.match(rb"Exported from|[A-Za-z ]*STL", data):
        lines.append(data[:80])
    return b"\n".join(lines).decode("latin-1")


def check_lines(body: bytes, expected: int, name: str) -> None:
    """Check that a text file has the number of lines that its header promises; trimesh reads fewer without an error.

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
