"""Map over pieces, merge, account for every row. The only file that knows Dask.

A run holds a bounded number of pieces in flight and merges results as they come. A future counts only if its status is
``finished``: when a scheduler dies, the remaining futures come out as cancelled without an exception.
"""

from __future__ import annotations

import logging
import os
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import CancelledError
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import islice, pairwise
from typing import Any

from distributed import Client, Future, KilledWorker, LocalCluster, as_completed

from lossops.config import ClusterConfig
from lossops.data.align import LabelIndex, Seen, build_index
from lossops.errors import InputError, LossopsError, RunError
from lossops.kernels.checks import Reason
from lossops.ledger import Entry, Unaligned, make_ledger
from lossops.partition import KeyRange, Outcome, score_piece
from lossops.plan import Mode, Pairing, Piece, Plan
from lossops.state import State

__all__ = ["Progress", "Scores", "ShardRecord", "score"]

Log = Callable[[int, str], None]

_WINDOW = 3  # pieces in flight for each thread: enough to keep workers busy, few enough to stop early
_RETRIES = 2  # of a piece after an error that may pass, such as a dropped connection
_CONNECT_SECONDS = 30
_LOCAL_PAGE = "127.0.0.1:0"


@dataclass(frozen=True)
class Progress:
    """How far a run is; counts are of the predictions."""

    shards_done: int
    shards: int
    rows_done: int
    rows: int
    bad_rows: int
    seconds: float


@dataclass(frozen=True)
class ShardRecord:
    """One shard that was read: bytes on storage, seconds of work spent on it (0 for labels read with others)."""

    dataset: str
    path: str
    fingerprint: str
    rows: int
    bytes: int
    seconds: float


@dataclass(frozen=True)
class Scores:
    """A finished run before anything is divided.

    Args:
        state: merged sums of all models.
        ledger: every row of every dataset.
        shards: what was read.
        modes: how the rows of each pairing were paired in the end.
    """

    state: State
    ledger: tuple[Entry, ...]
    shards: tuple[ShardRecord, ...]
    modes: tuple[Mode, ...]


@dataclass
class _Watch:
    """Counts pieces as they finish and tells whoever asked."""

    plan: Plan
    on_progress: Callable[[Progress], None] | None
    log: Log
    begun: float = field(default_factory=time.perf_counter)
    left: Counter[tuple[int, int]] = field(default_factory=Counter)
    rows: int = 0
    bad_rows: int = 0
    bad_before: int = 0
    shards_done: int = 0

    def start(self, number: int, pairing: Pairing) -> None:
        """Begin a pairing anew."""
        self.bad_before = self.bad_rows
        for piece in pairing.pieces:
            self.left[number, piece.shard] += 1
        self.shards_done += sum(not shard.rows for shard in pairing.predictions.shards)
        self._tell()

    def restart(self, pairing: Pairing, why: str) -> None:
        """Forget what a pairing has counted so far, because it starts again."""
        self.log(logging.INFO, why)
        self.rows, self.bad_rows = self.rows - pairing.predictions.rows, self.bad_before
        self.shards_done -= len(pairing.predictions.shards)

    def finish(self, number: int, pairing: Pairing, outcome: Outcome) -> None:
        """Count a finished piece."""
        piece = outcome.piece
        self.left[number, piece.shard] -= 1
        self.shards_done += self.left[number, piece.shard] == 0
        self.rows += piece.stop - piece.start
        bad = _faults(outcome)
        self.bad_rows += max(bad.values(), default=0)
        where = pairing.predictions.shards[piece.shard].path
        level = logging.WARNING if bad else logging.INFO
        text = f"{where} rows {piece.start} to {piece.stop}: {outcome.seconds:.2f} s"
        self.log(level, text + "".join(f"; {name} {rows}" for name, rows in bad.items()))
        self._tell()

    def _tell(self) -> None:
        if self.on_progress is not None:
            seconds = time.perf_counter() - self.begun
            done = Progress(self.shards_done, self.plan.shards, self.rows, self.plan.rows, self.bad_rows, seconds)
            self.on_progress(done)


def _faults(outcome: Outcome) -> dict[str, int]:
    """Return the rows of a piece that are not scored, by reason; for aligned rows the largest count over the losses."""
    worst: Counter[str] = Counter({name: rows for name, rows in outcome.unaligned.items() if rows})
    for counts in outcome.state.reasons.values():
        for reason in Reason:
            if reason.is_fault and counts[reason]:
                worst[reason.name.lower()] = max(worst[reason.name.lower()], int(counts[reason]))
    return dict(worst)


def score(plan: Plan, *, on_progress: Callable[[Progress], None] | None = None, on_log: Log | None = None) -> Scores:
    """Score every row of a plan on Dask.

    Args:
        plan: what to do.
        on_progress: called after every piece.
        on_log: called with (level of `logging`, message) for every piece and decision.

    Raises:
        InputError: a shard is damaged, or holds an invalid row and the config says ``on_invalid: fail``.
        RunError: the cluster is out of reach, a worker keeps dying, or rows are unaccounted for.
    """
    watch = _Watch(plan, on_progress, on_log or _to_logger)
    with _client(plan.config.cluster) as client, _losing_the_scheduler():
        done = [_Pairer(client, plan, number, pairing, watch).run() for number, pairing in enumerate(plan.pairings)]
    state = State.zero(len(plan.pairings[0].slices))
    for one in done:
        state = state + one.state
    ledger = tuple(entry for one in done for entry in one.ledger)
    shards = tuple(dict.fromkeys(record for one in done for record in one.shards))
    return Scores(state, ledger, shards, tuple(one.modes[0] for one in done))


@contextmanager
def _losing_the_scheduler() -> Iterator[None]:
    """Turn what a broken connection raises, here or there, into one error; files raise errors of our own."""
    try:
        yield
    except (OSError, CancelledError) as error:
        raise RunError(f"the connection to the Dask scheduler broke; nothing is reported: {error}") from error


def _to_logger(level: int, message: str) -> None:
    logging.getLogger("lossops").log(level, message)


@dataclass
class _Pairer:
    """Runs one pairing: as planned, and again by key if positions turn out not to hold or keys to repeat."""

    client: Client
    plan: Plan
    number: int
    pairing: Pairing
    watch: _Watch

    def run(self) -> Scores:
        shared = self._submit(_keep, self.pairing)
        if self.pairing.mode != "join":
            merged = self._map(shared, None)
            if merged.positions_hold():
                return self._scores(merged, merged.unaligned)
            self.watch.restart(self.pairing, "keys do not pair by position, or are not distinct: joining by key")
            self.pairing = self.pairing.joined()
            shared = self._submit(_keep, self.pairing)
        return self._join(shared, self._submit(_read_index, shared))

    def _join(self, shared: Future, index: Future) -> Scores:
        """Score with the labels of an index, which stays on the cluster."""
        merged = self._map(shared, index)
        if _result(self._submit(LabelIndex.is_asked_twice, index, merged.asked)):
            self.watch.restart(self.pairing, "some keys occur more than once: scoring again without them")
            index = self._submit(LabelIndex.without_asked_twice, index, merged.asked)
            merged = self._map(shared, index)
        return self._scores(merged, _result(self._submit(LabelIndex.ledger, index, merged.asked)))

    def _submit(self, function: Callable[..., Any], *arguments: Any) -> Future:
        return _submit(self.client, function, *arguments)

    def _map(self, shared: Future, index: Future | None) -> _Merged:
        pairing = self.pairing
        self.watch.start(self.number, pairing)
        merged = _Merged(State.zero(len(pairing.slices)))
        for outcome in _outcomes(self.client, (shared, index), pairing.pieces):
            if self.plan.config.on_invalid == "fail":
                _refuse_invalid(pairing, outcome)
            merged.add(outcome)
            self.watch.finish(self.number, pairing, outcome)
        if merged.pieces != len(pairing.pieces):
            raise RunError(f"{merged.pieces} of {len(pairing.pieces)} partitions came back; nothing is reported")
        return merged

    def _scores(self, merged: _Merged, labels: Mapping[str, int]) -> Scores:
        pairing = self.pairing
        sides = [
            Unaligned("predictions", pairing.predictions.rows, merged.unaligned),
            Unaligned("labels", pairing.labels.rows, labels),
        ]
        cells = [task.cell for task in pairing.tasks]
        entries = make_ledger(sides, cells, merged.state.reasons)
        return Scores(merged.state, tuple(entries), tuple(_records(pairing, merged)), (pairing.mode,))


@dataclass
class _Merged:
    """The outcomes of a pairing, added up as they come."""

    state: State
    pieces: int = 0
    unaligned: Counter[str] = field(default_factory=Counter)
    seconds: Counter[int] = field(default_factory=Counter)
    holds: bool = True
    ranges: list[KeyRange] = field(default_factory=list)
    asked: Seen | None = None

    def add(self, outcome: Outcome) -> None:
        self.state = self.state + outcome.state
        self.pieces += 1
        self.unaligned.update(outcome.unaligned)
        self.seconds[outcome.piece.shard] += outcome.seconds  # type: ignore[assignment]
        self.holds = self.holds and outcome.positions_hold
        if outcome.keys is not None:
            self.ranges.append(outcome.keys)
        if outcome.seen is not None:
            self.asked = outcome.seen if self.asked is None else self.asked + outcome.seen

    def positions_hold(self) -> bool:
        """Whether keys agreed everywhere and none occurs in two pieces; true where there are no keys to compare."""
        ordered = sorted(self.ranges, key=lambda keys: keys.first)
        apart = all(low.last < high.first for low, high in pairwise(ordered))
        return self.holds and apart


def _refuse_invalid(pairing: Pairing, outcome: Outcome) -> None:
    where = pairing.predictions.shards[outcome.piece.shard].path
    for task in pairing.tasks:
        counts = outcome.state.reasons.get(task.cell)
        for reason in Reason:
            if counts is not None and reason.is_fault and counts[reason]:
                found = f"{counts[reason]} rows of {task.name} are invalid ({reason.name.lower()})"
                between = f"between rows {outcome.piece.start} and {outcome.piece.stop}"
                raise InputError(f"{where}: {found} {between}; on_invalid: fail allows none")


def _records(pairing: Pairing, merged: _Merged) -> Iterator[ShardRecord]:
    for name, dataset in (("predictions", pairing.predictions), ("labels", pairing.labels)):
        for number, shard in enumerate(dataset.shards):
            seconds = float(merged.seconds[number]) if name == "predictions" else 0.0
            yield ShardRecord(name, shard.path, shard.fingerprint, shard.rows, shard.file.size, seconds)


def _checked(function: Callable[..., Any], *arguments: Any) -> Any:
    """Call on a worker; what we refuse on purpose is a result, so that Dask neither retries nor prints it."""
    refused = next((argument for argument in arguments if isinstance(argument, LossopsError)), None)
    if refused is not None:
        return refused
    try:
        return function(*arguments)
    except LossopsError as error:
        return error


def _keep(pairing: Pairing) -> Pairing:
    """Give every worker the pairing once, instead of with every piece."""
    return pairing


def _read_index(pairing: Pairing) -> LabelIndex:
    """Read the labels of a pairing into memory."""
    labels, columns = pairing.labels, pairing.read_columns("labels")
    tables = (
        table
        for number, shard in enumerate(labels.shards)
        for table in labels.read(number, columns, 0, shard.rows, pairing.batch_rows, pairing.text_columns("labels"))
    )
    return build_index(tables, pairing.key, pairing.columns("labels"), labels.schema)


def _score(pairing: Pairing, index: LabelIndex | None, piece: Piece) -> Outcome:
    return score_piece(pairing, piece, index)


def _submit(client: Client, function: Callable[..., Any], *arguments: Any) -> Future:
    """Start a call on the cluster. Dask repeats it if the worker that holds its result dies, unlike scattered data."""
    return client.submit(_checked, function, *arguments, pure=False, retries=_RETRIES)


def _outcomes(client: Client, shared: Sequence[Any], pieces: Sequence[Piece]) -> Iterator[Outcome]:
    """Yield outcomes as they come, with a bounded number of pieces in flight."""
    waiting = iter(pieces)
    window = max(_WINDOW * sum(client.nthreads().values()), _WINDOW)

    def submit(piece: Piece) -> Future:
        return _submit(client, _score, *shared, piece)

    running = as_completed(map(submit, islice(waiting, window)), loop=client.loop)
    try:
        for future in running:
            yield _result(future)
            future.release()
            for piece in islice(waiting, 1):
                running.add(submit(piece))
    finally:
        client.cancel(list(running.futures), force=True, reason="the run ended early")


def _result(future: Future) -> Any:
    """Wait for a call on the cluster and return its result."""
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
def _client(cluster: ClusterConfig | None) -> Iterator[Client]:
    """Connect to the cluster of the config; local ones listen on this machine only and end with the run."""
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
