"""Processes that share a list of jobs."""

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
    """What `work` returns for the arguments of each job, in the order in which they are done.

    Args:
        work: a function of a module, as its name travels to other processes.
        workers: processes; one, or a single job, is worked on in this process.
        start: called once in each process, this one included, before its first job.
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
    """Start a worker that ends when its parent is killed, instead of waiting for work for ever."""
    parent = multiprocessing.parent_process()
    assert parent is not None

    def watch() -> None:
        wait([parent.sentinel])
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
    if start is not None:
        start()
