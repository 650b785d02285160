"""Worker processes that share a list of jobs."""

from __future__ import annotations

import multiprocessing
import os
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from multiprocessing.connection import wait
from typing import Any, TypeVar

T = TypeVar("T")


def run_jobs(
    work: Callable[..., T], jobs: Sequence[tuple[Any, ...]], workers: int, start: Callable[[], None] | None = None
) -> Iterator[T]:
    """Results of `work(*job)` for each job, in order of completion.

    Args:
        work: a function at the top level of a module, so that other processes can import it.
        jobs: the arguments of each call.
        workers: number of processes; with one worker or one job, this process does the work.
        start: called once in each process that does work, before its first job.
    """
    if workers == 1 or len(jobs) < 2:
        if start is not None:
            start()
        for job in jobs:
            yield work(*job)
        return
    # Spawned, not forked: Mitsuba's thread pool does not survive a fork.
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(min(workers, len(jobs)), context, _start, (start,)) as pool:
        try:
            for future in as_completed([pool.submit(work, *job) for job in jobs]):
                yield future.result()
        finally:
            pool.shutdown(cancel_futures=True)


def _start(start: Callable[[], None] | None) -> None:
    """Initialise a worker process, which ends when its parent is killed."""
    parent = multiprocessing.parent_process()
    assert parent is not None

    def watch() -> None:
        wait([parent.sentinel])
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
    if start is not None:
        start()
