"""Pieces of work: which rows of which shards are read together.

How a dataset is cut depends on each shard alone, so that a new shard leaves the pieces of the others, and what is
stored of them, as they are. Where small shards are many, several are one piece; a new one changes those beside it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

from lossops.data.dataset import Dataset, Shard
from lossops.data.formats import Bounds

__all__ = ["Bucket", "Piece", "Run", "by_position", "key_bounds", "key_intervals", "runs_of", "shard_id", "shard_pairs"]

_SMALLEST_RUN, _LARGEST_RUN = 1 << 20, 1 << 20
_RUNS_A_SHARD = 4
_MANY = 256  # pieces from which on small ones are put together, because each costs some milliseconds
_SMALL_PIECE = 1 << 18  # rows
_TOGETHER = 64  # small ones that are one piece, on average at most
_Part = TypeVar("_Part")


@dataclass(frozen=True, slots=True)
class Run:
    """Rows ``start`` to ``stop - 1`` of a shard.

    Args:
        number: of the shard in its dataset.
        shard: the file.
        start, stop: row range.
        owns_nulls: whether rows with a null key are counted with this run; a run may be read by several pieces.
    """

    number: int
    shard: Shard
    start: int
    stop: int
    owns_nulls: bool = True

    @property
    def rows(self) -> int:
        """Number of rows."""
        return self.stop - self.start

    @property
    def name(self) -> str:
        """What is read, in words."""
        return f"{self.shard.path} rows {self.start} to {self.stop}"


@dataclass(frozen=True, slots=True)
class Piece:
    """What one worker call reads and scores.

    Args:
        predictions, labels: rows of each side; no labels where they are found elsewhere.
        baseline: rows of the baseline, where it is a side of its own.
        low, high: only keys k with low <= k < high; None is no bound.
    """

    predictions: tuple[Run, ...]
    labels: tuple[Run, ...] = ()
    low: int | None = None
    high: int | None = None
    baseline: tuple[Run, ...] = ()

    @property
    def name(self) -> str:
        """What is scored, in words."""
        runs = self.predictions or self.labels
        if len(runs) > 1:
            return f"{len(runs)} parts from {runs[0].shard.path} to {runs[-1].shard.path}"
        return runs[0].name if runs else "nothing"


@dataclass(frozen=True, slots=True)
class Bucket:
    """The rows of both sides whose key hashes to ``number`` of ``buckets``."""

    number: int
    buckets: int

    @property
    def name(self) -> str:
        """What is scored, in words."""
        return f"bucket {self.number} of {self.buckets}"


def _cuts(groups: Sequence[int], target: int) -> Iterator[tuple[int, int]]:
    start = stop = 0
    for rows in groups:
        stop += rows
        if stop - start >= target:
            yield start, stop
            start = stop
    if stop > start:
        yield start, stop


def runs_of(dataset: Dataset) -> Iterator[Run]:
    """Yield the rows of a dataset in runs of whole row groups."""
    for number, shard in enumerate(dataset.shards):
        target = min(max(shard.rows // _RUNS_A_SHARD, _SMALLEST_RUN), _LARGEST_RUN)
        for start, stop in _cuts(shard.groups, target):
            yield Run(number, shard, start, stop)


def by_position(
    predictions: Dataset, labels: Dataset | None, baseline: Dataset | None = None, small: int = _SMALL_PIECE
) -> tuple[Piece, ...]:
    """Return pieces of runs of predictions, with the rows of others at the same places if they are given.

    Args:
        predictions, labels, baseline: the datasets.
        small: rows up to which a piece may have several runs.
    """

    def beside(runs: Sequence[Run], other: Dataset | None) -> tuple[Run, ...]:
        return () if other is None else tuple(replace(run, shard=other.shards[run.number]) for run in runs)

    bundles = _bundles(list(runs_of(predictions)), lambda run: (run.shard, run.rows), small)
    return tuple(Piece(tuple(runs), beside(runs, labels), baseline=beside(runs, baseline)) for runs in bundles)


def shard_pairs(predictions: Dataset, labels: Dataset, small: int = _SMALL_PIECE) -> tuple[Piece, ...]:
    """Return pieces of pairs of shards that are not both empty; of several only where neither side has more rows."""
    pairs = [
        (Run(number, left, 0, left.rows), Run(number, right, 0, right.rows))
        for number, (left, right) in enumerate(zip(predictions.shards, labels.shards, strict=True))
        if left.rows or right.rows
    ]
    bundles = _bundles(pairs, lambda pair: (pair[0].shard, max(run.rows for run in pair)), min(small, _SMALL_PIECE))
    return tuple(Piece(tuple(left for left, _ in one), tuple(right for _, right in one)) for one in bundles)


def _bundles(
    parts: Sequence[_Part], measured: Callable[[_Part], tuple[Shard, int]], most: int
) -> Iterator[list[_Part]]:
    """Yield parts that are one piece: each by itself, unless there are many small ones.

    Which are put together depends on names, so that a part more or less changes few pieces.

    Args:
        parts: in order.
        measured: tells the shard of a part and its rows.
        most: rows that several have together.
    """
    few = len(parts) < _MANY
    waiting: list[_Part] = []
    size = 0
    for part in parts:
        shard, rows = measured(part)
        if waiting and (size + rows > most or len(waiting) == 2 * _TOGETHER):
            yield waiting
            waiting, size = [], 0
        waiting.append(part)
        size += rows
        if few or shard_id(shard.path) % _TOGETHER == 0:
            yield waiting
            waiting, size = [], 0
    if waiting:
        yield waiting


def shard_id(path: str) -> int:
    """A number below 2**64 that tells a shard from others, whatever its place among them."""
    return int.from_bytes(hashlib.blake2b(path.encode(), digest_size=8).digest(), "big")


@dataclass(frozen=True, slots=True)
class _Group:
    """A row group, with the range of its keys."""

    run: Run
    low: int
    high: int


def key_intervals(predictions: Dataset, labels: Dataset, most_rows: int) -> tuple[Piece, ...] | None:
    """Return pieces of disjoint key intervals that cover all keys, or None if ranges are unknown or overlap too much.

    Args:
        predictions, labels: datasets whose shards know the bounds of their keys.
        most_rows: rows of both sides that one piece may hold.
    """
    sides = [_groups(dataset) for dataset in (predictions, labels)]
    if sides[0] is None or sides[1] is None:
        return None
    left, right = sides[0], sides[1]
    total = sum(group.run.rows for group in (*left, *right))
    pieces = list(_intervals(sorted([*left, *right], key=lambda group: group.low), left, right, most_rows))
    reading = [sum(run.rows for run in (*piece.predictions, *piece.labels)) for piece in pieces]
    return tuple(pieces) if sum(reading) <= 1.5 * total and max(reading, default=0) <= 2 * most_rows else None


def key_bounds(runs: Sequence[Run]) -> Bounds | None:
    """Return the range of all keys in the shards of runs; None where a file does not state it, or there is no row."""
    found = [
        bounds
        for shard in {run.number: run.shard for run in runs}.values()
        for rows, bounds in zip(shard.groups, _stated(shard), strict=True)
        if rows
    ]
    known = [bounds for bounds in found if bounds is not None]
    if not known or len(known) < len(found):
        return None
    return Bounds(min(one.low for one in known), max(one.high for one in known))


def _stated(shard: Shard) -> tuple[Bounds | None, ...]:
    return shard.bounds or (None,) * len(shard.groups)


def _groups(dataset: Dataset) -> list[_Group] | None:
    found = []
    for number, shard in enumerate(dataset.shards):
        start = 0
        for rows, bounds in zip(shard.groups, _stated(shard), strict=True):
            if rows and bounds is None:
                return None
            if rows and bounds is not None:
                found.append(_Group(Run(number, shard, start, start + rows), bounds.low, bounds.high))
            start += rows
    return found


def _intervals(
    ordered: Sequence[_Group], left: Sequence[_Group], right: Sequence[_Group], most_rows: int
) -> Iterator[Piece]:
    cuts: list[int] = []
    rows = 0
    for group in ordered:
        if rows + group.run.rows > most_rows and (not cuts or group.low > cuts[-1]):
            cuts.append(group.low)
            rows = 0
        rows += group.run.rows
    lows: list[int | None] = [None, *cuts]
    highs: list[int | None] = [*cuts, None]
    sides = [sorted(side, key=lambda group: group.low) for side in (left, right)]
    read: set[tuple[int, int, int]] = set()
    for low, high in zip(lows, highs, strict=True):
        predictions, labels = (_within(number, side, low, high, read) for number, side in enumerate(sides))
        yield Piece(predictions, labels, low, high)


def _within(
    number: int, groups: Sequence[_Group], low: int | None, high: int | None, read: set[tuple[int, int, int]]
) -> tuple[Run, ...]:
    """Return the runs that may hold keys of an interval; the first piece that reads a run counts its null keys."""
    found = []
    for group in groups:
        if (low is None or group.high >= low) and (high is None or group.low < high):
            mark = (number, group.run.number, group.run.start)
            found.append(replace(group.run, owns_nulls=mark not in read))
            read.add(mark)
    return tuple(found)
