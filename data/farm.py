"""Jobs on a Ray cluster: handed out one by one, tried again when a worker or a machine dies.

Ray (the extra `farm`) does the scheduling. Workers need this package, of the same version, and no shared folder:
arguments and results travel through Ray.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

from renderformer.data.errors import InputError

T = TypeVar("T")
# How often a job is tried again after its worker died.
RETRIES = 8
# Jobs handed out for each core, so that no worker waits.
AHEAD = 2
LOCAL = "local"


@contextmanager
def cluster(address: str) -> Iterator[None]:
    """A connection to a Ray cluster.

    Args:
        address: host:port or ray://host:port of a cluster, "auto" for the one that this machine is part of, or "local"
            to start one on this machine that ends with the block. A connection that exists is used.

    Raises:
        InputError: Ray is not installed, or there is no such cluster.
    """
    ray = _ray()
    if ray.is_initialized():
        yield
        return
    try:
        ray.init(
            address=None if address == LOCAL else address,
            include_dashboard=False if address == LOCAL else None,
            log_to_driver=False,
            logging_level="error",
        )
    except (ConnectionError, ValueError, RuntimeError, OSError) as error:
        reason = " ".join(str(error).split())[:160]
        raise InputError(
            f"Ray cluster {address}", f"cannot be reached ({reason})", "start it with `ray start`"
        ) from None
    try:
        yield
    finally:
        ray.shutdown()


def run_on_farm(
    work: Callable[..., T], jobs: Iterable[tuple[Any, ...]], shared: tuple[Any, ...] = (), gpus: float = 0.0
) -> Iterator[T]:
    """Results of `work(*shared, *job)` for each job, in order of completion, by the workers of a `cluster`.

    Jobs are asked for when workers are free. Ending the iteration early stops those that run.

    Args:
        work: a function at the top level of a module, which workers import.
        shared: arguments that are sent once; those of jobs may be results of `shared_copy`.
        gpus: that each job takes; a job takes one core.

    Raises:
        InputError: `work` raised it, or the workers of a job died `RETRIES` times.
    """
    ray = _ray()
    task = ray.remote(_guarded).options(num_cpus=1, num_gpus=gpus, max_retries=RETRIES)
    sent = [ray.put(value) for value in shared]
    waiting, more = iter(jobs), True
    running: list[Any] = []
    try:
        while more or running:
            most = max(2, AHEAD * int(ray.cluster_resources().get("CPU", 1)))
            while more and len(running) < most:
                job = next(waiting, None)
                if job is None:
                    more = False
                else:
                    running.append(task.remote(work, *sent, *job))
            if not running:
                break
            # Returns early now and then, since machines join and leave.
            done, running = ray.wait(running, num_returns=1, timeout=5.0)
            for reference in done:
                yield _result(ray, reference)
    finally:
        for reference in running:
            ray.cancel(reference, force=True)


def shared_copy(value: T) -> T:
    """A value for several jobs, sent once to each machine; the workers are called with the value itself."""
    reference: T = _ray().put(value)
    return reference


def _guarded(work: Callable[..., T], *arguments: Any) -> tuple[T | None, InputError | None]:
    """Runs in a worker. Ray would wrap an exception in one of its own."""
    try:
        return work(*arguments), None
    except InputError as error:
        return None, error


def _result(ray: Any, reference: Any) -> Any:
    try:
        result, problem = ray.get(reference)
    except ray.exceptions.RayTaskError:
        raise
    except ray.exceptions.RayError as error:
        reason = " ".join(str(error).split())[:160]
        problem = InputError(
            "Ray", f"a job was lost {RETRIES + 1} times ({reason})", "look at the workers' memory and logs"
        )
    if problem is not None:
        raise problem
    return result


def _ray() -> Any:
    try:
        import ray
    except ModuleNotFoundError as error:
        if error.name != "ray":
            raise
        remedy = "pip install 'renderformer[farm]'"
        raise InputError("", "Ray is not installed, which runs jobs on several machines", remedy) from None
    return ray
