"""Work on many pixels or cells, part by part.

Shapes: M pixels or cells.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import Executor
from typing import Protocol, TypeVar

import numpy as np

from renderformer.data.arrays import Int64Array

T = TypeVar("T")

# For the sake of equal shares of threads, parts are not cut smaller than one such share of the largest.
SMALLEST = 8


class Parts(Protocol):
    """Decides in which parts work is done, and by whom. Results must not depend on it."""

    def run(
        self, kind: str, work: Callable[[Int64Array], T], index: Int64Array, most: int
    ) -> Iterator[tuple[Int64Array, T]]:
        """Parts of an index (M,) in order, each with what `work` makes of it; work may be begun again.

        Args:
            kind: of work; the same for what takes about as long.
            most: length of a part.
        """
        ...


class Threads:
    """Equal parts, on the `count` threads of a pool, so that none waits long for others."""

    def __init__(self, pool: Executor, count: int) -> None:
        self._pool, self._count = pool, count

    def run(
        self, kind: str, work: Callable[[Int64Array], T], index: Int64Array, most: int
    ) -> Iterator[tuple[Int64Array, T]]:
        """As `Parts`."""
        if len(index):
            fewest, many = -(-len(index) // most), -(-SMALLEST * len(index) // most)
            shares = -(-fewest // self._count) * self._count
            parts = np.array_split(index, max(fewest, min(shares, many, len(index))))
            yield from zip(parts, self._pool.map(work, parts), strict=True)
