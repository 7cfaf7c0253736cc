"""Processes of this machine, or a cluster. The only file that knows Dask.

A cluster is looked at before it works: what its workers run, whether they can read the data, and what they may hold.
Workers may come and go, so each call says what it was made with, and a worker that runs something else refuses it.
A bounded number of calls is in flight. A future counts only if its status is
``finished``: when a scheduler dies, the remaining futures come out as cancelled without an exception.
"""

from __future__ import annotations

import logging
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import CancelledError
from contextlib import contextmanager
from itertools import islice
from threading import Event, Thread
from typing import Any

from distributed import Client, Future, KilledWorker, LocalCluster, Security, as_completed, get_worker
from distributed import TimeoutError as DaskTimeoutError

from lossops.config import ClusterConfig
from lossops.data.dataset import Shard
from lossops.data.storage import may_pass, one_line
from lossops.engine.calls import WINDOW, Call, answer
from lossops.errors import ConfigError, InputError, LossopsError, RunError, counted
from lossops.pairing import Budget
from lossops.plan import Plan, planned_within
from lossops.progress import Cluster, Log, Progress
from lossops.runs import Scores, score_with, to_logger
from lossops.versions import differences, versions

__all__ = ["Workers", "result_of", "score_on"]

_RETRIES = 2  # of a piece after an error that may pass, such as a dropped connection
_CONNECT_SECONDS = 30
_WORKER_SECONDS = 120  # a cluster that grows on demand starts its first worker for the first call
_LOOK_SECONDS = 5.0  # between two looks at whether there are workers
_TOLD = 5  # workers or differences in a message
_LOCAL_PAGE = "127.0.0.1:0"


def score_on(
    cluster: ClusterConfig,
    plan: Plan,
    *,
    fresh: bool,
    on_progress: Callable[[Progress], None] | None,
    on_log: Log | None,
    on_cluster: Callable[[Cluster], None] | None,
) -> Scores:
    """Score every row of a plan on Dask; arguments and errors are those of `lossops.engine.score`."""
    with connected(cluster) as workers, workers.watched(on_log or to_logger):
        if cluster.address is not None:
            plan = workers.inspect(plan)
            if on_cluster is not None:
                on_cluster(workers.cluster())
        return score_with(workers, plan, fresh=fresh, on_progress=on_progress, on_log=on_log)


class Workers:
    """Runs plain functions on Dask."""

    def __init__(self, client: Client) -> None:
        self._client = client

    def inspect(self, plan: Plan) -> Plan:
        """Check that the workers of a cluster can do what is planned; return the plan, made again if they hold less.

        Raises:
            InputError: a worker cannot read the data.
            RunError: there is no worker, or one runs other versions.
        """
        try:
            # Nothing of ours, which the workers may not have.
            self._client.submit(int, pure=False).result(timeout=_WORKER_SECONDS)
        except DaskTimeoutError as error:
            wait = f"no worker took a call within {_WORKER_SECONDS} s"
            raise RunError(f"cluster.address: {self.cluster()}: {wait}; start workers there") from error
        found = {worker: _told(answer) for worker, answer in self._ask(versions).items()}
        _refuse("runs something else than this process", found)
        shards = [next(iter(side.shards), None) for side in plan.datasets]
        _refuse("cannot read the data", self._ask(_unreadable, [one for one in shards if one]), InputError)
        budget = self._budget(plan.budget, plan.config.memory_bytes)
        return plan if budget == plan.budget else planned_within(plan, budget)

    def _ask(self, question: Callable[..., Any], *arguments: Any) -> dict[str, Any]:
        """Return what each worker answers; one that cannot even be asked answers with an error."""
        return dict(self._client.run(question, *arguments, on_error="return"))

    def _budget(self, planned: Budget, limit: int | None) -> Budget:
        """What each worker may hold: half of what the smallest is given, shared by its threads."""
        found = self._client.scheduler_info(n_workers=-1)["workers"].values()
        given = [worker["memory_limit"] // 2 for worker in found if worker["memory_limit"]]
        threads = max((worker["nthreads"] for worker in found), default=planned.threads)
        return Budget(min([limit or planned.memory, *given]), threads)

    def cluster(self) -> Cluster:
        """Return what it runs on."""
        threads = self._client.nthreads()
        page = self._client.dashboard_link or None
        return Cluster(self._client.scheduler.address, len(threads), sum(threads.values()), page)

    @contextmanager
    def watched(self, log: Log) -> Iterator[None]:
        """Tell when no worker is left, and when there are some again: calls wait for them without a word."""
        ended = Event()
        watch = Thread(target=self._watch, args=(ended, log), daemon=True)
        watch.start()
        try:
            yield
        finally:
            ended.set()

    def _watch(self, ended: Event, log: Log) -> None:
        waits = False
        while not ended.wait(_LOOK_SECONDS):
            try:
                cluster = self.cluster()
            except Exception:  # whoever waits for a result hears of a scheduler that is gone, or of the end
                return
            if waits != (not cluster.workers):
                waits = not waits
                if waits:
                    log(logging.WARNING, f"{cluster.address}: no worker is left; the run waits until one comes")
                else:
                    log(logging.INFO, f"{cluster.address}: {counted(cluster.workers, 'worker')} again; going on")

    def submit(self, function: Callable[..., Any], *arguments: Any) -> Future:
        """Start a call. Dask repeats it if the worker that holds its result dies, unlike scattered data."""
        # Calls of one function are a group to Dask, which keeps those of a large group back until a worker is free;
        # were shared values of the same group, calls would go to the worker that holds them.
        key = f"{function.__name__.strip('_')}-{uuid.uuid4().hex}"
        return self._client.submit(_checked, versions(), function, *arguments, key=key, retries=_RETRIES)

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
        window = max(WINDOW * sum(self._client.nthreads().values()), WINDOW)
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


def _told(answer: Mapping[str, str] | Exception) -> list[str]:
    return [one_line(answer)] if isinstance(answer, Exception) else differences(versions(), answer)


def _unreadable(shards: Sequence[Shard]) -> list[str]:
    """Return what is wrong with shards, seen from a worker."""
    problems = []
    for shard in shards:
        try:
            shard.check_unchanged()
        except (InputError, OSError) as error:
            if not may_pass(error):  # a busy store is asked again when its turn comes
                problems.append(f"{shard.path}: {one_line(error)}")
    return problems


def _refuse(what: str, found: Mapping[str, Any], kind: type[LossopsError] = RunError) -> None:
    """Raise if a worker answered with problems.

    Raises:
        LossopsError: the first few of them, by worker.
    """
    bad = {worker: answer for worker, answer in sorted(found.items()) if answer}
    told = [f"{worker}: {_listed(answer)}" for worker, answer in list(bad.items())[:_TOLD]]
    if told:
        more = f"; and {len(bad) - len(told)} more" if len(bad) > len(told) else ""
        counts = f"{len(bad)} of {counted(len(found), 'worker')}"
        raise kind(f"cluster: {counts} {what}: {'; '.join(told)}{more}")


def _listed(answer: Any) -> str:
    return one_line(answer) if isinstance(answer, Exception) else ", ".join(answer[:_TOLD])


def _checked(expected: Mapping[str, str], function: Callable[..., Any], *arguments: Any) -> Any:
    """Call on a worker; what we refuse on purpose is a result, so that Dask neither retries nor prints it."""
    if found := differences(expected, versions()):
        told = ", ".join(found[:_TOLD])
        return RunError(f"worker {get_worker().address} does not run what the run began with: {told}")
    refused = next((argument for argument in arguments if isinstance(argument, LossopsError)), None)
    if refused is not None:
        return refused
    return answer(function, *arguments)


def result_of(future: Future) -> Any:
    """Wait for a call and return its result.

    Raises:
        LossopsError: what the call refused.
        RunError: the scheduler lost the call, or it failed.
    """
    error = future.exception()
    while future.status == "lost":  # with the last worker that held the result; Dask repeats the call
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
def connected(cluster: ClusterConfig) -> Iterator[Workers]:
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
def _client(cluster: ClusterConfig) -> Iterator[Client]:
    if cluster.address is not None:
        with _connect(cluster.address) as client:
            yield client
        return
    with _local(cluster) as local, Client(local, set_as_default=False) as client:
        yield client


def _local(cluster: ClusterConfig) -> LocalCluster:
    return LocalCluster(
        n_workers=cluster.workers,
        threads_per_worker=cluster.threads or 1,
        host="127.0.0.1",
        # Dask opens a page for each node, on every interface unless told otherwise.
        dashboard_address=_LOCAL_PAGE,
        worker_dashboard_address=_LOCAL_PAGE,
        scheduler_kwargs={"dashboard": False},
        silence_logs=logging.CRITICAL,  # what fails is told once, by us
    )


def _connect(address: str) -> Client:
    # Asked first: a client that finds no certificates goes on trying for a minute.
    if address.startswith(("tls:", "wss:")) and Security().get_connection_args("client")["ssl_context"] is None:
        allowed = "DASK_DISTRIBUTED__COMM__TLS__CA_FILE, and __CLIENT__CERT and __CLIENT__KEY beside it"
        raise ConfigError(f"cluster.address: {address} needs certificates, and there are none; set {allowed}")
    try:
        return Client(address, set_as_default=False, timeout=_CONNECT_SECONDS)
    except (OSError, ValueError, TypeError, RuntimeError) as error:
        raise RunError(f"cluster.address: no Dask scheduler answers at {address}: {one_line(error)}") from error
