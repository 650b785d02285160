"""Do work again whenever a file that it read changes."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from renderformer.data.files import State

T = TypeVar("T")
# Seconds between two looks at the files.
EVERY = 0.5


def wait_for_change(files: Mapping[Path, State | None], listing: Callable[[], T]) -> None:
    """Return when a file is no longer in its state, or a listing no longer what it is, and both have come to rest.

    Args:
        files: with their states when they were read.
        listing: names the inputs that there are now.
    """
    from renderformer.data.files import state_of

    before = listing()

    def now() -> tuple[object, object]:
        return {path: state_of(path) for path in files}, listing()

    while now() == (dict(files), before):
        time.sleep(EVERY)
    last = None
    # A program may still be writing.
    while last != now():
        last = now()
        time.sleep(EVERY)
