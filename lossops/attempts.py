"""Scoring a pairing: as planned, and another way where what the plan rests on turns out not to hold.

Every finished piece is stored under a digest of all that decides its outcome, so that a run that is started again, or
one with a few new shards, scores only what is missing.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import Any, Protocol

import numpy as np

from lossops.checkpoint import Store, acquire_spill, code_digest, digest_of
from lossops.data.index import LabelIndex, Seen
from lossops.errors import InputError, RunError, counted
from lossops.kernels.checks import Reason
from lossops.ledger import Entry, Unaligned, make_ledger
from lossops.modes import replanned
from lossops.pairing import Mode, Pairing
from lossops.partition import KeyRange, Outcome, Spilled, index_labels, score_bucket, score_piece, spill_run
from lossops.pieces import Bucket, Piece, Run, runs_of
from lossops.plan import Plan
from lossops.progress import Watch
from lossops.stages import Stopwatch
from lossops.state import State, Total
from lossops.tasks import SIDES, Side

__all__ = ["Attempt", "Scored", "ShardRecord", "Workers"]


class Workers(Protocol):
    """What runs functions, here or elsewhere; see `lossops.engine`."""

    def submit(self, function: Callable[..., Any], *arguments: Any) -> Any:
        """Start a call."""

    def share(self, value: Any) -> Any:
        """Give every worker a value once."""

    def call(self, function: Callable[..., Any], *arguments: Any) -> Any:
        """Call and wait."""

    def map(
        self, function: Callable[..., Any], shared: Sequence[Any], calls: Iterable[tuple[Any, ...]]
    ) -> Iterator[tuple[tuple[Any, ...], Any]]:
        """Yield (call, result) as they come."""


@dataclass(frozen=True)
class ShardRecord:
    """One shard: bytes on storage, its share of the seconds of work by rows, and why it is in quarantine, if so."""

    dataset: str
    path: str
    fingerprint: str | None
    rows: int | None
    bytes: int
    seconds: float
    problem: str | None = None


@dataclass(frozen=True)
class Scored:
    """A pairing before anything is divided.

    Args:
        pairing: how rows were paired in the end.
        state: merged sums.
        ledger: every row of both datasets.
        shards: what was read.
        stages: seconds by stage, see `lossops.stages`.
    """

    pairing: Pairing
    state: State
    ledger: tuple[Entry, ...]
    shards: tuple[ShardRecord, ...]
    stages: Mapping[str, float]


class _DoesNotHoldError(Exception):
    """What the way of pairing rests on does not hold."""


@dataclass
class _Merged:
    """The outcomes of a pairing, added up as they come."""

    total: Total
    pieces: int = 0
    rows: Counter[str] = field(default_factory=Counter)
    unaligned: dict[str, Counter[str]] = field(default_factory=lambda: defaultdict(Counter))
    seconds: Counter[tuple[str, int]] = field(default_factory=Counter)
    holds: bool = True
    ranges: list[KeyRange] = field(default_factory=list)
    hashes: list[Any] = field(default_factory=list)
    checksums: Counter[str] = field(default_factory=Counter)
    asked: Seen | None = None
    watch: Stopwatch = field(default_factory=Stopwatch)

    def add(self, work: Piece | Bucket, outcome: Outcome) -> None:
        self.total.add(outcome.state)
        self.pieces += 1
        self.rows.update(outcome.rows)
        for side, reasons in outcome.unaligned.items():
            self.unaligned[side].update(reasons)
        runs = work.predictions if isinstance(work, Piece) else ()
        for run in runs:
            total = sum(one.rows for one in runs)
            share = run.rows / total if total else 1 / len(runs)
            self.seconds["predictions", run.number] += share * outcome.seconds  # type: ignore[assignment]
        self.holds = self.holds and outcome.positions_hold
        self.checksums.update(outcome.checksums)
        self.watch.seconds.update(outcome.stages)
        self.ranges.extend(outcome.keys)
        if outcome.hashes is not None:
            self.hashes.append(outcome.hashes)
        if outcome.seen is not None:
            self.asked = outcome.seen if self.asked is None else self.asked + outcome.seen

    def positions_hold(self) -> bool:
        """Whether keys agreed everywhere and none occurs in two pieces; true where there are no keys to compare."""
        ordered = sorted(self.ranges, key=lambda keys: keys.first)
        return self.holds and all(low.last < high.first for low, high in pairwise(ordered))

    def keys_are_apart(self) -> bool:
        """Whether no key occurs in two pieces."""
        if not self.hashes:
            return True
        every = np.concatenate(self.hashes)
        every.sort()
        return not bool((every[1:] == every[:-1]).any())


@dataclass
class Attempt:
    """Scores one pairing.

    Args:
        workers: who does it.
        plan: of the run.
        number: of the pairing in it.
        watch: who counts.
        store: where states of finished pieces are kept.
        work: folder for files between two passes.
        run_id: names the files of this run there.
    """

    workers: Workers
    plan: Plan
    number: int
    watch: Watch
    store: Store
    work: str
    run_id: str

    def __post_init__(self) -> None:
        self.pairing = self.plan.pairings[self.number]

    def run(self) -> Scored:
        """Score as planned, else another way.

        Raises:
            InputError: a shard is damaged or changed, or what the config forbids was found.
            RunError: rows are unaccounted for, or the workers failed.
        """
        self.watch.start(self.number, self.pairing)
        while True:
            try:
                return self._scored(self._ways[self.pairing.mode]())
            except _DoesNotHoldError as found:
                failed = self.pairing.mode
                self.pairing = replanned(self.pairing, failed, str(found))
                why = f"{failed}: {found}; going on with {self.pairing.mode}"
                self.watch.restart(self.number, self.pairing, why)

    @property
    def _ways(self) -> Mapping[Mode, Callable[[], _Merged]]:
        return {
            "same": self._pieces,
            "position": self._position,
            "shard": self._shard,
            "broadcast": self._broadcast,
            "merge": self._merge,
            "spill": self._spill,
        }

    def _pieces(self) -> _Merged:
        return self._map(_score, (self._recipe(), None), self.pairing.pieces)

    def _recipe(self) -> Any:
        return self.workers.share(self.pairing.without_shards())

    def _position(self) -> _Merged:
        merged = self._pieces()
        if not merged.positions_hold():
            raise _DoesNotHoldError("keys do not pair by position, or are not ascending and distinct")
        return merged

    def _shard(self) -> _Merged:
        merged = self._pieces()
        if not merged.keys_are_apart():
            raise _DoesNotHoldError("a key occurs in two shards")
        return merged

    def _merge(self) -> _Merged:
        merged = self._pieces()
        for side in SIDES:
            if merged.rows[side] != self.pairing.side(side).rows:
                raise _DoesNotHoldError(f"the ranges that the files of the {side} state are not those of their keys")
        return merged

    def _broadcast(self) -> _Merged:
        recipe = self._recipe()
        index = self.workers.submit(index_labels, recipe, tuple(runs_of(self.pairing.labels)))
        labels = digest_of(*(shard.stored_by for shard in self.pairing.labels.shards))
        merged = self._map(_score, (recipe, index), self.pairing.pieces, labels)
        if self.workers.call(LabelIndex.is_asked_twice, index, merged.asked):
            if "predictions" in self.pairing.order:
                raise _DoesNotHoldError("predictions repeat keys, and order_by chooses among them")
            self.watch.restart(self.number, self.pairing, "some keys of the predictions repeat: scoring without them")
            index = self.workers.submit(LabelIndex.without_asked_twice, index, merged.asked)
            twice = b"" if merged.asked is None else merged.asked.twice.tobytes()
            merged = self._map(_score, (recipe, index), self.pairing.pieces, digest_of(labels, twice))
        merged.unaligned["labels"].update(self.workers.call(LabelIndex.ledger, index, merged.asked))
        merged.rows["labels"] = self.pairing.labels.rows
        return merged

    def _spill(self) -> _Merged:
        buckets = [Bucket(number, self.pairing.buckets) for number in range(self.pairing.buckets)]
        sides = self.pairing.sides
        inputs = digest_of(*(shard.stored_by for side in sides for shard in self.pairing.side(side).shards))
        name = self._digest(inputs, "spill")
        with acquire_spill(self.work, name, self.run_id) as folder:
            recipe = self._recipe()
            totals, files = self._first_pass(folder, recipe)
            self.watch.partitioned(self.pairing)
            merged = self._map(_score_bucket, (recipe, self.workers.share(files)), buckets, inputs)
        for side in sides:
            if merged.checksums[side] % 2**64 != totals[side].checksum:
                raise RunError(f"spill: the keys of the {side} that were written are not those that were read back")
            merged.unaligned[side]["null_key"] += totals[side].nulls
            merged.rows[side] += totals[side].nulls
        return merged

    def _first_pass(self, folder: str, recipe: Any) -> tuple[dict[Side, Spilled], dict[Side, list[str]]]:
        calls = [
            (side, run, f"{folder}/{self._digest(side, _run_text(run), str(self.pairing.buckets))}.spill")
            for side in self.pairing.sides
            for run in runs_of(self.pairing.side(side))
        ]
        totals = {side: Spilled(0, 0, 0, 0.0) for side in self.pairing.sides}
        for (side, run, _), found in self.workers.map(_spill, (recipe, self.pairing.buckets), calls):
            if found.rows != run.rows:
                raise RunError(f"{run.name}: {found.rows} rows were partitioned; nothing is reported")
            so_far = totals[side]
            checksum = (so_far.checksum + found.checksum) % 2**64
            totals[side] = Spilled(so_far.rows + found.rows, so_far.nulls + found.nulls, checksum, 0.0)
            self.watch.spilled(run, run.rows, found.seconds)
        return totals, {side: [location for one, _, location in calls if one == side] for side in self.pairing.sides}

    def _digest(self, *parts: str) -> str:
        return digest_of(code_digest(), self.pairing.recipe, self.pairing.mode, str(self.pairing.batch_rows), *parts)

    def _map(
        self, function: Callable[..., Outcome], shared: Sequence[Any], works: Sequence[Piece | Bucket], extra: str = ""
    ) -> _Merged:
        """Run the pieces that are not stored, store and merge all; ``extra`` names what else decides their outcome."""
        merged = _Merged(Total(len(self.pairing.slices)))
        missing: list[Piece | Bucket] = []
        for work in works:
            found = self.store.get(self._digest(_work_text(work), extra))
            if isinstance(found, Outcome):
                self._take(merged, work, found, reused=True)
            else:
                missing.append(work)
        for (work,), outcome in self.workers.map(function, shared, ((work,) for work in missing)):
            self._take(merged, work, outcome, reused=False)
            with merged.watch.during("store"):
                self.store.put(self._digest(_work_text(work), extra), outcome)
        if merged.pieces != len(works):
            raise RunError(f"{merged.pieces} of {len(works)} partitions came back; nothing is reported")
        return merged

    def _take(self, merged: _Merged, work: Piece | Bucket, outcome: Outcome, *, reused: bool) -> None:
        if self.plan.config.on_invalid == "fail":
            _refuse_invalid(self.pairing, work, outcome)
        with merged.watch.during("merge"):
            merged.add(work, replace(outcome, stages={}) if reused else outcome)
        self.watch.finish(self.number, work, outcome, reused=reused)

    def _scored(self, merged: _Merged) -> Scored:
        pairing = self.pairing
        state = merged.total.state()
        if pairing.baseline is not None:  # every row is accounted for where it is paired with the labels alone
            return Scored(pairing, state, (), (), merged.watch.seconds)
        if self.plan.config.duplicates == "fail":
            _refuse_duplicates(pairing, merged)
        sides = [_unaligned(pairing, side, merged) for side in SIDES]
        cells = [task.cell for task in pairing.tasks]
        entries = make_ledger(sides, cells, state.reasons)
        return Scored(pairing, state, tuple(entries), tuple(_records(pairing, merged)), merged.watch.seconds)


def _unaligned(pairing: Pairing, side: Side, merged: _Merged) -> Unaligned:
    dataset = pairing.side(side)
    reasons = {**merged.unaligned[side], "quarantined": dataset.rows_quarantined}
    return Unaligned(side, dataset.rows + dataset.rows_quarantined, reasons)


def _score(pairing: Pairing, index: LabelIndex | None, piece: Piece) -> Outcome:
    return score_piece(pairing, piece, index)


def _score_bucket(pairing: Pairing, files: Mapping[Side, Sequence[str]], bucket: Bucket) -> Outcome:
    return score_bucket(pairing, bucket, files)


def _spill(pairing: Pairing, buckets: int, side: Side, run: Run, location: str) -> Spilled:
    return spill_run(pairing, side, run, location, buckets)


def _run_text(run: Run) -> str:
    return f"{run.shard.stored_by} {run.start} {run.stop} {run.owns_nulls}"


def _work_text(work: Piece | Bucket) -> str:
    if isinstance(work, Bucket):
        return f"bucket {work.number} of {work.buckets}"
    sides = (" ".join(_run_text(run) for run in runs) for runs in (work.predictions, work.labels, work.baseline))
    return f"{' | '.join(sides)} | {work.low} {work.high}"


def _where(work: Piece | Bucket, found: str) -> str:
    if isinstance(work, Piece) and len(work.predictions) == 1:
        run = work.predictions[0]
        return f"{run.shard.path}: {found} between rows {run.start} and {run.stop}"
    return f"{work.name}: {found}"


def _refuse_invalid(pairing: Pairing, work: Piece | Bucket, outcome: Outcome) -> None:
    for task in pairing.tasks:
        counts = outcome.state.reasons.get(task.cell)
        for reason in Reason:
            if counts is not None and reason.is_fault and counts[reason]:
                found = f"{counts[reason]} rows of {task.name} are invalid ({reason.name.lower()})"
                raise InputError(f"{_where(work, found)}; on_invalid: fail allows none")


def _refuse_duplicates(pairing: Pairing, merged: _Merged) -> None:
    rows = {side: merged.unaligned[side]["duplicate_key"] for side in SIDES}
    if any(rows.values()):
        lost = (f"{counted(count, 'row')} of {pairing.side(side).location}" for side, count in rows.items() if count)
        found = " and ".join(lost)
        why = f"because their {', '.join(pairing.key)} occurs more than once on one of the sides"
        raise InputError(f"{found} cannot be paired, {why}; duplicates: fail allows none")


def _records(pairing: Pairing, merged: _Merged) -> Iterator[ShardRecord]:
    for side in SIDES:
        dataset = pairing.side(side)
        for number, shard in enumerate(dataset.shards):
            seconds = float(merged.seconds[side, number])
            yield ShardRecord(side, shard.path, shard.fingerprint, shard.rows, shard.file.size, seconds)
        for bad in dataset.quarantined:
            yield ShardRecord(side, bad.path, bad.fingerprint, bad.rows, bad.bytes, 0.0, bad.problem)
