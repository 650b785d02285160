"""`--ray [ADDRESS]`: work for the machines of a Ray cluster. Imported for `--help`: no NumPy, no torch."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from typer.core import TyperCommand

from renderformer.cli.options import wrong

OPTION, LOCAL = "--ray", "local"
METAVAR = "[ADDRESS]"
HELP = (
    "Hand the work out to Ray: host:port of a cluster, auto (that of this machine) or local (start one, the default)."
)
# Suffixes of inputs, which are no domains.
INPUTS = {".obj", ".ply", ".stl", ".off", ".glb", ".gltf", ".3mf", ".json", ".h5", ".hdf5"}
_ADDRESS = re.compile(r"auto|local|ray://\S+|[^\s/]+:\d{1,5}")


class RayCommand(TyperCommand):
    """A command with an option `--ray` that may stand without its value, which Typer does not know: then it is
    "local"."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """See `with_address`."""
        return super().parse_args(ctx, with_address(args))


def with_address(arguments: list[str]) -> list[str]:
    """Arguments in which "local" follows each --ray that no address follows."""
    completed: list[str] = []
    for number, argument in enumerate(arguments):
        if argument == "--":
            return completed + arguments[number:]
        following = arguments[number + 1] if number + 1 < len(arguments) else ""
        alone = argument == OPTION and not _may_be_address(following)
        completed.append(f"{OPTION}={LOCAL}" if alone else argument)
    return completed


def _may_be_address(text: str) -> bool:
    """Whether a word is no option and no input; an address without its port is one, which `check` refuses."""
    host = re.fullmatch(r"\w[\w-]*(\.\d+|\.[a-z]{2,})*", text) and not Path(text).exists()
    file = Path(text).suffix.lower() in INPUTS
    return bool(_ADDRESS.fullmatch(text) or (host and not file))


def check(address: str | None) -> None:
    """Raise wrong usage for what is no address."""
    if address is not None and not _ADDRESS.fullmatch(address):
        raise wrong(f"{address!r} is not host:port, auto or local", OPTION)


@contextmanager
def connected(address: str | None) -> Iterator[bool]:
    """A connection to the Ray cluster of --ray, if there is one; yields whether there is."""
    if address is None:
        yield False
        return
    from renderformer.data.farm import cluster

    with cluster(address):
        yield True
