"""Threads of this process: what runs functions where no other workers are asked for."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from itertools import islice
from typing import Any

from lossops.config import ClusterConfig
from lossops.engine.calls import WINDOW, Call, answer
from lossops.errors import LossopsError, RunError

__all__ = ["Threads", "threads_of"]


@contextmanager
def threads_of(cluster: ClusterConfig | None) -> Iterator[Threads]:
    """Start as many threads as the config asks for, or this process has processors; they end with the block."""
    count = (cluster and cluster.threads) or len(os.sched_getaffinity(0))
    with ThreadPoolExecutor(count, thread_name_prefix="lossops") as pool:
        try:
            yield Threads(pool, count)
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


class Threads:
    """`lossops.attempts.Workers` in threads.

    Calls begin in the order in which they are submitted, so one that waits for the result of another never waits for
    one that has not begun.

    Args:
        pool: that runs them.
        count: how many run at a time.
    """

    def __init__(self, pool: ThreadPoolExecutor, count: int) -> None:
        self._pool, self._count = pool, count

    def submit(self, function: Callable[..., Any], *arguments: Any) -> Future[Any]:
        """Start a call; futures among its arguments stand for their results."""
        return self._pool.submit(_answered, function, *arguments)

    def share(self, value: Any) -> Any:
        """Return the value: all threads see it."""
        return value

    def call(self, function: Callable[..., Any], *arguments: Any) -> Any:
        """Call and wait for the result."""
        return _result_of(self.submit(function, *arguments))

    def map(
        self, function: Callable[..., Any], shared: Sequence[Any], calls: Iterable[Call]
    ) -> Iterator[tuple[Call, Any]]:
        """Yield (call, result) as results come, with a bounded number of calls in flight.

        Args:
            function: what is called with the shared arguments and those of the call.
            shared: arguments of every call.
            calls: the others.

        Raises:
            LossopsError: what a call refused, or that it failed.
        """
        waiting = iter(calls)
        started: dict[Future[Any], Call] = {}
        try:
            while True:
                for call in islice(waiting, WINDOW * self._count - len(started)):
                    started[self.submit(function, *shared, *call)] = call
                if not started:
                    return
                for future in wait(started, return_when=FIRST_COMPLETED).done:
                    yield started.pop(future), _result_of(future)
        finally:
            for future in started:
                future.cancel()


def _answered(function: Callable[..., Any], *arguments: Any) -> Any:
    given = [argument.result() if isinstance(argument, Future) else argument for argument in arguments]
    refused = next((argument for argument in given if isinstance(argument, LossopsError)), None)
    return answer(function, *given) if refused is None else refused


def _result_of(future: Future[Any]) -> Any:
    """Wait for a call and return its result.

    Raises:
        LossopsError: what the call refused.
        RunError: it failed.
    """
    try:
        found = future.result()
    except Exception as error:
        raise RunError(f"a partition failed: {type(error).__name__}: {error}") from error
    if isinstance(found, LossopsError):
        raise found
    return found
