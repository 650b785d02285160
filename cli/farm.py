"""`--ray [ADDRESS]`: work for the machines of a Ray cluster. Imported for `--help`: no NumPy, no torch."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from typer.core import TyperCommand

OPTION, LOCAL = "--ray", "local"
METAVAR = "[ADDRESS]"
HELP = (
    "Hand the work out to Ray: host:port of a cluster, auto (that of this machine) or local (start one, the default)."
)
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
        alone = argument == OPTION and not _ADDRESS.fullmatch(following)
        completed.append(f"{OPTION}={LOCAL}" if alone else argument)
    return completed


@contextmanager
def connected(address: str | None) -> Iterator[bool]:
    """A connection to the Ray cluster of --ray, if there is one; yields whether there is."""
    if address is None:
        yield False
        return
    from renderformer.data.farm import cluster

    with cluster(address):
        yield True
