"""Work cut into parts for threads."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from renderformer.data.rays.parts import Threads


@pytest.mark.parametrize("threads", [1, 2, 3, 16])
@pytest.mark.parametrize(
    ("length", "most"), [(0, 10), (1, 10), (7, 2), (1000, 100), (1000, 999), (65536, 16384), (5, 1)]
)
def test_all_work_is_done_once_in_parts_that_keep_threads_busy(length: int, most: int, threads: int) -> None:
    with ThreadPoolExecutor(threads) as pool:
        done = list(Threads(pool, threads).run("kind", len, np.arange(length) * 3, most))
    assert np.array_equal(np.concatenate([np.empty(0, int), *(part for part, _ in done)]), np.arange(length) * 3)
    sizes = [count for _, count in done]
    assert all(0 < size <= most for size in sizes)
    if length > 8 * threads and length >= threads * most / 8:
        assert len(sizes) % threads == 0
