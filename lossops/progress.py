"""How far a run is, for whoever asks."""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from lossops.errors import counted
from lossops.kernels.checks import Reason
from lossops.pairing import Pairing
from lossops.partition import Outcome
from lossops.pieces import Bucket, Piece, Run
from lossops.plan import Plan

__all__ = ["Cluster", "Log", "Progress", "Watch"]

Log = Callable[[int, str], None]


@dataclass(frozen=True)
class Cluster:
    """A running cluster that a run has connected to.

    Args:
        address: of the scheduler.
        workers: processes.
        threads: of all of them.
        dashboard: URL of the scheduler's page, where it has one.
    """

    address: str
    workers: int
    threads: int
    dashboard: str | None

    def __str__(self) -> str:
        page = f"; dashboard: {self.dashboard}" if self.dashboard else ""
        return f"{self.address}: {counted(self.workers, 'worker')}, {counted(self.threads, 'thread')}{page}"


@dataclass(frozen=True)
class Progress:
    """How far a run is; counts are of the predictions.

    Args:
        shards_done, shards: files.
        rows_done, rows: rows.
        bad_rows: rows that are not scored by the loss that scores fewest, as far as they are known.
        seconds: since the run began.
        reused: partitions whose stored state was taken instead of scoring them.
        partitions: of the plan.
        stage: ``scoring``, or ``partitioning`` while rows are brought together by key.
    """

    shards_done: int
    shards: int
    rows_done: int
    rows: int
    bad_rows: int
    seconds: float
    reused: int = 0
    partitions: int = 0
    stage: str = "scoring"


@dataclass
class _Counts:
    """What has been counted so far."""

    rows: int = 0
    bad_rows: int = 0
    shards: int = 0
    reused: int = 0
    spilled: int = 0


@dataclass
class Watch:
    """Counts pieces as they finish and tells whoever asked.

    Args:
        plan: what is run.
        on_progress: called after every piece.
        log: called with (level of `logging`, message) for every piece and decision.
    """

    plan: Plan
    on_progress: Callable[[Progress], None] | None
    log: Log
    begun: float = field(default_factory=time.perf_counter)
    left: Counter[tuple[int, int]] = field(default_factory=Counter)
    counts: _Counts = field(default_factory=_Counts)
    before: _Counts = field(default_factory=_Counts)
    stage: str = "scoring"

    @property
    def reused(self) -> int:
        """Partitions whose stored state was taken."""
        return self.counts.reused

    def start(self, number: int, pairing: Pairing) -> None:
        """Begin a pairing."""
        self.before = _Counts(**vars(self.counts))
        self._expect(number, pairing)

    def restart(self, number: int, pairing: Pairing, why: str) -> None:
        """Forget what a pairing has counted so far, because it starts again."""
        self.log(logging.INFO, why)
        self.counts = _Counts(**vars(self.before))
        self._expect(number, pairing)

    def _expect(self, number: int, pairing: Pairing) -> None:
        self.stage = "scoring"
        for key in [key for key in self.left if key[0] == number]:
            del self.left[key]
        for run in (run for piece in pairing.pieces for run in piece.predictions):
            self.left[number, run.number] += 1
        self.counts.shards += sum(not shard.rows for shard in pairing.predictions.shards)
        self._tell()

    def spilled(self, run: Run, rows: int, seconds: float) -> None:
        """Count a run of the first pass of a spill join."""
        self.stage = "partitioning"
        self.counts.spilled += rows
        self.log(logging.INFO, f"{run.name}: partitioned in {seconds:.2f} s")
        self._tell()

    def partitioned(self, pairing: Pairing) -> None:
        """The first pass is over; scoring begins."""
        self.stage = "scoring"
        self.counts.spilled = 0
        self.counts.shards += sum(shard.rows > 0 for shard in pairing.predictions.shards)
        self._tell()

    def finish(self, number: int, work: Piece | Bucket, outcome: Outcome, *, reused: bool) -> None:
        """Count a finished piece."""
        for run in work.predictions if isinstance(work, Piece) else ():
            self.left[number, run.number] -= 1
            self.counts.shards += self.left[number, run.number] == 0
        self.counts.rows += outcome.rows["predictions"]
        self.counts.reused += reused
        self.counts.bad_rows += _bad_rows(outcome)
        took = "stored state" if reused else f"{outcome.seconds:.2f} s"
        text = f"{work.name}: {took}" + "".join(f"; {name} {rows}" for name, rows in faults(outcome).items())
        self.log(logging.INFO, text)
        self._tell()

    def _tell(self) -> None:
        if self.on_progress is None:
            return
        counts, plan = self.counts, self.plan
        done, rows = counts.rows, plan.rows
        if self.stage == "partitioning":
            done, rows = counts.spilled, plan.rows + sum(pairing.labels.rows for pairing in plan.pairings)
        seconds = time.perf_counter() - self.begun
        self.on_progress(
            Progress(
                counts.shards,
                plan.shards,
                done,
                rows,
                counts.bad_rows,
                seconds,
                counts.reused,
                plan.partitions,
                self.stage,
            )
        )


def faults(outcome: Outcome) -> dict[str, int]:
    """Return the rows of a piece that are not scored, by reason; for aligned rows the largest count over the losses."""
    worst: Counter[str] = Counter({name: rows for name, rows in outcome.unaligned["predictions"].items() if rows})
    for counts in outcome.state.reasons.values():
        for reason in _faulty():
            if counts[reason]:
                worst[reason.name.lower()] = max(worst[reason.name.lower()], int(counts[reason]))
    return dict(worst)


def _bad_rows(outcome: Outcome) -> int:
    """Rows without a partner, and of the others those that the loss with the most of them does not score."""
    lost = (sum(int(counts[reason]) for reason in _faulty()) for counts in outcome.state.reasons.values())
    return sum(outcome.unaligned["predictions"].values()) + max(lost, default=0)


def _faulty() -> Iterable[Reason]:
    return (reason for reason in Reason if reason.is_fault)
