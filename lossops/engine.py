"""Where functions run: threads, processes or a cluster. The only file that knows Dask.

A bounded number of calls is in flight. A future counts only if its status is
``finished``: when a scheduler dies, the remaining futures come out as cancelled without an exception.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import CancelledError
from contextlib import contextmanager
from itertools import islice
from typing import Any

from distributed import Client, Future, KilledWorker, LocalCluster, as_completed

from lossops.attempts import ShardRecord
from lossops.config import ClusterConfig
from lossops.errors import LossopsError, RunError
from lossops.plan import Plan
from lossops.progress import Log, Progress
from lossops.runs import Scores, score_with

__all__ = ["Progress", "Scores", "ShardRecord", "score"]

_WINDOW = 3  # pieces in flight for each thread: enough to keep workers busy, few enough to stop early
_RETRIES = 2  # of a piece after an error that may pass, such as a dropped connection
_CONNECT_SECONDS = 30
_LOCAL_PAGE = "127.0.0.1:0"

Call = tuple[Any, ...]


def score(
    plan: Plan,
    *,
    fresh: bool = False,
    on_progress: Callable[[Progress], None] | None = None,
    on_log: Log | None = None,
) -> Scores:
    """Score every row of a plan on Dask.

    Args:
        plan: what to do.
        fresh: whether to ignore what earlier runs stored.
        on_progress: called after every piece.
        on_log: called with (level of `logging`, message) for every piece and decision.

    Raises:
        InputError: a shard is damaged or changed, or holds what the config forbids.
        RunError: the cluster is out of reach, a worker keeps dying, or rows are unaccounted for.
    """
    with connected(plan.config.cluster) as workers:
        return score_with(workers, plan, fresh=fresh, on_progress=on_progress, on_log=on_log)


class Workers:
    """Runs plain functions on Dask."""

    def __init__(self, client: Client) -> None:
        self._client = client

    def submit(self, function: Callable[..., Any], *arguments: Any) -> Future:
        """Start a call. Dask repeats it if the worker that holds its result dies, unlike scattered data."""
        return self._client.submit(_checked, function, *arguments, pure=False, retries=_RETRIES)

    def share(self, value: Any) -> Future:
        """Give every worker a value once, instead of with every call."""
        return self.submit(_keep, value)

    def call(self, function: Callable[..., Any], *arguments: Any) -> Any:
        """Call and wait for the result."""
        return result_of(self.submit(function, *arguments))

    def map(
        self, function: Callable[..., Any], shared: Sequence[Any], calls: Iterable[Call]
    ) -> Iterator[tuple[Call, Any]]:
        """Yield (call, result) as results come, with a bounded number of calls in flight.

        Args:
            function: what is called with the shared arguments and those of the call.
            shared: arguments of every call; futures stand for their results.
            calls: the others.
        """
        waiting = iter(calls)
        window = max(_WINDOW * sum(self._client.nthreads().values()), _WINDOW)
        started: dict[Future, Call] = {}

        def start(call: Call) -> Future:
            future = self.submit(function, *shared, *call)
            started[future] = call
            return future

        running = as_completed(map(start, islice(waiting, window)), loop=self._client.loop)
        try:
            for future in running:
                yield started.pop(future), result_of(future)
                future.release()
                for call in islice(waiting, 1):
                    running.add(start(call))
        finally:
            self._client.cancel(list(running.futures), force=True, reason="the run ended early")


def _keep(value: Any) -> Any:
    return value


def _checked(function: Callable[..., Any], *arguments: Any) -> Any:
    """Call on a worker; what we refuse on purpose is a result, so that Dask neither retries nor prints it."""
    refused = next((argument for argument in arguments if isinstance(argument, LossopsError)), None)
    if refused is not None:
        return refused
    try:
        return function(*arguments)
    except LossopsError as error:
        return error


def result_of(future: Future) -> Any:
    """Wait for a call and return its result.

    Raises:
        LossopsError: what the call refused.
        RunError: the scheduler lost the call, or it failed.
    """
    error = future.exception()
    if future.status == "finished":
        found = future.result()
        if isinstance(found, LossopsError):
            raise found
        return found
    if future.status != "error":
        raise RunError(f"the Dask scheduler lost a partition (status {future.status}); nothing is reported")
    if isinstance(error, KilledWorker):
        raise RunError(
            f"a partition killed its worker repeatedly, for want of memory or by a crash: {error}"
        ) from error
    raise RunError(f"a partition failed: {type(error).__name__}: {error}") from error


@contextmanager
def connected(cluster: ClusterConfig | None) -> Iterator[Workers]:
    """Connect to the cluster of the config; local ones listen on this machine only and end with the block.

    Raises:
        RunError: no scheduler answers, or the connection to it broke; files raise errors of our own.
    """
    with _client(cluster) as client:
        try:
            yield Workers(client)
        except (OSError, CancelledError) as error:
            raise RunError(f"the connection to the Dask scheduler broke; nothing is reported: {error}") from error


@contextmanager
def _client(cluster: ClusterConfig | None) -> Iterator[Client]:
    chosen = cluster or ClusterConfig()  # type: ignore[call-arg]
    if chosen.address is not None:
        with _connect(chosen.address) as client:
            yield client
        return
    with _local(chosen) as local, Client(local, set_as_default=False) as client:
        yield client


def _local(cluster: ClusterConfig) -> LocalCluster:
    processes = cluster.workers is not None
    threads = cluster.threads or (1 if processes else len(os.sched_getaffinity(0)))
    return LocalCluster(
        n_workers=cluster.workers or 1,
        threads_per_worker=threads,
        processes=processes,
        host="127.0.0.1" if processes else None,
        # Dask opens a page for each node, on every interface unless told otherwise.
        dashboard_address=_LOCAL_PAGE,
        worker_dashboard_address=_LOCAL_PAGE,
        scheduler_kwargs={"dashboard": False},
        # Threads share this process: Dask must not pause them for memory it does not own.
        memory_limit="auto" if processes else 0,
        silence_logs=logging.CRITICAL,  # what fails is told once, by us
    )


def _connect(address: str) -> Client:
    try:
        return Client(address, set_as_default=False, timeout=_CONNECT_SECONDS)
    except (OSError, ValueError, TypeError) as error:
        raise RunError(f"cluster.address: no Dask scheduler answers at {address}: {error}") from error
