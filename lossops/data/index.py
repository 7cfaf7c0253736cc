"""All labels in memory, found by key.

Labels become records. Where the keys are whole numbers without large gaps, a record lies where its key says, and
nothing else is held; elsewhere it lies where it came, behind its key, and a table finds it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import cached_property, reduce
from itertools import accumulate
from typing import NoReturn, Protocol

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from lossops.data.align import MOST_ROWS, SIGNS, Rule
from lossops.data.formats import Bounds
from lossops.data.keys import is_one_number, read_keys, read_order
from lossops.data.records import Records, RecordsBuilder, TooManyValuesError
from lossops.errors import InputError
from lossops.kernels.hashing import index_size
from lossops.kernels.lookup import (
    COUNTS,
    DUPLICATE,
    EMPTY,
    NO_KEY,
    OUTSIDE,
    classify,
    enter_hashed,
    find_hashed,
    find_placed,
    mark_asked,
    place_records,
)

__all__ = ["LabelIndex", "Matches", "Seen", "build_index"]

_FEW_ROWS = 1 << 16  # which one thread enters
_MOST_PARTS = 16
_WORD, _SLOT, _MARK = 8, 4, 1  # bytes
_Bytes = npt.NDArray[np.uint8]
_Words = npt.NDArray[np.uint64]
_Reader = Callable[[], Iterable[pa.Table]]


@dataclass(frozen=True)
class Matches:
    """Where the predictions of a batch found their labels.

    Args:
        places: int64 [rows], of the label, negative if there is none.
        aligned: bool [rows], where there is exactly one that counts; None: everywhere.
        unaligned: the other predictions, by ledger reason.
        labels: those of the aligned predictions, in their order.
    """

    places: npt.NDArray[np.int64]
    aligned: npt.NDArray[np.bool_] | None
    unaligned: Mapping[str, int]
    labels: pa.Table


@dataclass(frozen=True)
class Seen:
    """Which labels have been asked for, one bit a place.

    Args:
        once: by at least one prediction.
        twice: by more than one; [0] if none of them, as is usual.
    """

    once: _Bytes
    twice: _Bytes

    @classmethod
    def none(cls, places: int) -> Seen:
        """None of this many has been asked for."""
        size = (places + 7) // 8
        return cls(np.zeros(size, dtype=np.uint8), np.zeros(size, dtype=np.uint8))

    def add(self, places: npt.NDArray[np.int64]) -> None:
        """Add the places that a batch asked for to those of `none`; negative ones are passed over."""
        mark_asked(places, self.once, self.twice)

    def settled(self) -> Seen:
        """The same, when nothing is added any more."""
        return self if self.twice.any() else replace(self, twice=self.twice[:0])

    def __add__(self, other: Seen) -> Seen:
        both = self.once & other.once
        twice = [self.twice, other.twice, both if both.any() else both[:0]]
        return Seen(self.once | other.once, reduce(np.bitwise_or, [one for one in twice if len(one)] or twice[:1]))


@dataclass(frozen=True)
class _Keys:
    """Keys as tables take them: see `lossops.kernels.lookup.find_hashed`; ``low`` and ``skip`` may be left out."""

    high: npt.NDArray[np.uint64]
    low: npt.NDArray[np.uint64]
    skip: npt.NDArray[np.bool_]

    @classmethod
    def of(cls, columns: Sequence[pa.ChunkedArray]) -> _Keys:
        """Read key columns."""
        keys = read_keys(columns)
        low = keys.low[:0] if is_one_number([column.type for column in columns]) else keys.low
        return cls(keys.high, low, keys.null if keys.null.any() else keys.null[:0])


class _Table(Protocol):
    """Records, and what finds them."""

    def find(self, keys: _Keys, marks: _Bytes, places: npt.NDArray[np.int64], found: _Words) -> None:
        """Write the place of each key, negative where it has none, and its record.

        Args:
            keys: that are asked for.
            marks: of all places, [0] where all of them count.
            places: int64 [keys], written.
            found: uint64 [keys, words], written.
        """


@dataclass(frozen=True)
class _Placed:
    """Records that lie where their key says, see `lossops.kernels.lookup.place_records`."""

    lowest: int
    records: _Words

    def find(self, keys: _Keys, marks: _Bytes, places: npt.NDArray[np.int64], found: _Words) -> None:
        given = keys.high.view(np.int64), keys.low, keys.skip
        find_placed(*given, self.lowest, self.records, marks, places, found)


@dataclass(frozen=True)
class _Hashed:
    """Records behind their keys and a table addressed by hash, see `lossops.kernels.lookup.enter_hashed`."""

    records: _Words
    lead: int
    parts: int
    slots: npt.NDArray[np.uint32]

    def find(self, keys: _Keys, _marks: _Bytes, places: npt.NDArray[np.int64], found: _Words) -> None:
        find_hashed(keys.high, keys.low, keys.skip, self.records, self.lead, self.parts, self.slots, places, found)


@dataclass(frozen=True)
class LabelIndex:
    """The labels of a run in memory, found by key.

    Args:
        records: what a record means.
        table: the records.
        marks: uint8 [places], see `lossops.kernels.lookup`: duplicates do not count because their key occurs more than
            once on either side.
        rows: of the labels.
        nulls: rows without a key.
    """

    records: Records
    table: _Table
    marks: _Bytes
    rows: int
    nulls: int

    @cached_property
    def _unusual(self) -> _Bytes:
        """The marks, or nothing where every place counts, so that nobody looks."""
        return self.marks if self.marks.any() else self.marks[:0]

    def none_seen(self) -> Seen:
        """No label has been asked for."""
        return Seen.none(len(self.marks))

    def match(self, columns: Sequence[pa.ChunkedArray]) -> Matches:
        """Find the label of each prediction, given the key columns."""
        keys = _Keys.of(columns)
        size = len(keys.high)
        places, kept = np.empty(size, dtype=np.int64), np.empty(size, dtype=np.bool_)
        found = np.empty((size, self.records.words), dtype=np.uint64)
        self.table.find(keys, self._unusual, places, found)
        null, absent, duplicate = classify(places, self._unusual, kept)
        unaligned = {"null_key": null, "no_label": absent, "duplicate_key": duplicate}
        if not null + absent + duplicate:
            return Matches(places, None, unaligned, self.records.table(found, places))
        return Matches(places, kept, unaligned, self.records.table(found[kept], places[kept]))

    def is_asked_twice(self, seen: Seen | None) -> bool:
        """Whether a label that counts is asked for by several predictions; None if there was no prediction."""
        asked = None if seen is None or not len(seen.twice) else self._bits(seen.twice)
        return asked is not None and bool((asked & (self.marks == COUNTS)).any())

    def without_asked_twice(self, seen: Seen) -> LabelIndex:
        """The same index, in which labels count as duplicates that several predictions ask for, as some do."""
        marks = np.where(self._bits(seen.twice), np.uint8(DUPLICATE), self.marks)
        return replace(self, marks=marks)

    def ledger(self, seen: Seen | None) -> dict[str, int]:
        """Return the number of labels by ledger reason that found no partner, given what was asked for."""
        counts = np.packbits(self.marks == COUNTS)
        alone = counts & ~(seen or self.none_seen()).once
        return {
            "null_key": self.nulls,
            "duplicate_key": self.rows - self.nulls - _ones(counts),
            "no_prediction": _ones(alone),
        }

    def _bits(self, packed: _Bytes) -> npt.NDArray[np.bool_]:
        return np.unpackbits(packed, count=len(self.marks)).view(np.bool_)


def _ones(packed: _Bytes) -> int:
    return int(np.bitwise_count(packed).sum(dtype=np.int64))


class _NoPlaceError(Exception):
    """A key is not in the range that the files state."""


@dataclass
class _Placing:
    """Labels that are put where their keys say, by several threads.

    Args:
        key: the key column.
        builder: makes the records.
        lowest: of the keys.
        records: uint64 [places, words].
        marks: uint8 [places].
    """

    key: Sequence[str]
    builder: RecordsBuilder
    lowest: int
    records: _Words
    marks: _Bytes

    @classmethod
    def begin(cls, key: Sequence[str], builder: RecordsBuilder, bounds: Bounds) -> _Placing:
        """Nothing has been read of labels whose keys have these bounds."""
        places = bounds.high - bounds.low + 1
        records = np.empty((places, builder.words), dtype=np.uint64)
        return cls(key, builder, bounds.low, records, np.full(places, EMPTY, dtype=np.uint8))

    def add(self, start: int, tables: Iterable[pa.Table]) -> int:
        """Take tables whose rows follow each other, the first of which is row ``start``; return rows without a key.

        Raises:
            _NoPlaceError: a key is outside of the bounds.
        """
        nulls = 0
        for table in tables:
            found = np.zeros((table.num_rows, self.builder.words), dtype=np.uint64)
            self.builder.fill(found, start, table)
            keys = _Keys.of([table[name] for name in self.key])
            given = keys.high.view(np.int64), keys.low, keys.skip
            without = place_records(found, *given, self.lowest, self.records, self.marks)
            if without == OUTSIDE:
                raise _NoPlaceError
            nulls += without
            start += table.num_rows
        return nulls

    def entered(self, _threads: ThreadPoolExecutor, _count: int) -> tuple[_Placed, _Bytes]:
        """Return the table that finds these labels, and the marks of its places."""
        return _Placed(self.lowest, self.records), self.marks


@dataclass
class _Hashing:
    """Labels that are kept as they come, by several threads, and entered into a table in the end.

    Args:
        key: the key columns.
        rule: which of several rows with one key counts.
        order_by: the column by which it chooses.
        builder: makes the records.
        lead: words of a key.
        records: uint64 [rows, lead and words].
        marks: uint8 [rows].
        order, states: uint64 and uint8 [rows] of that column, [0] without.
    """

    key: Sequence[str]
    rule: Rule
    order_by: str | None
    builder: RecordsBuilder
    lead: int
    records: _Words
    marks: _Bytes
    order: _Words
    states: _Bytes

    @classmethod
    def begin(
        cls, key: Sequence[str], rule: Rule, order_by: str | None, builder: RecordsBuilder, schema: pa.Schema, rows: int
    ) -> _Hashing:
        """Nothing has been read of this many labels."""
        lead = 1 if is_one_number([schema.field(name).type for name in key]) else 2
        ordered = 0 if order_by is None else rows
        return cls(
            key,
            rule,
            order_by,
            builder,
            lead,
            np.zeros((rows, lead + builder.words), dtype=np.uint64),
            np.zeros(rows, dtype=np.uint8),
            np.empty(ordered, dtype=np.uint64),
            np.empty(ordered, dtype=np.uint8),
        )

    def add(self, start: int, tables: Iterable[pa.Table]) -> int:
        """Take tables whose rows follow each other, the first of which is row ``start``; return rows without a key."""
        nulls = 0
        for table in tables:
            part = slice(start, start + table.num_rows)
            records, keys = self.records[part], _Keys.of([table[name] for name in self.key])
            records[:, 0] = keys.high
            if self.lead > 1 and len(keys.low):
                records[:, 1] = keys.low
            if len(keys.skip):
                self.marks[part] = np.where(keys.skip, np.uint8(NO_KEY), np.uint8(COUNTS))
                nulls += int(np.count_nonzero(keys.skip))
            if self.order_by is not None:
                self.order[part], self.states[part] = read_order(table[self.order_by])
            self.builder.fill(records[:, self.lead :], start, table)
            start += table.num_rows
        return nulls

    def entered(self, threads: ThreadPoolExecutor, count: int) -> tuple[_Hashed, _Bytes]:
        """Return the table that finds these labels, and the marks of its places, which are the rows."""
        parts = 1 if len(self.records) < _FEW_ROWS else min(1 << (count - 1).bit_length(), _MOST_PARTS)
        return self._in_parts(threads, parts) or self._in_parts(threads, 1) or _impossible()

    def _in_parts(self, threads: ThreadPoolExecutor, parts: int) -> tuple[_Hashed, _Bytes] | None:
        """Return a table in which each part of the keys has a region; None where one of them has too many keys."""
        slots = np.zeros(index_size(len(self.records)), dtype=np.uint32)
        table, marks = _Hashed(self.records, self.lead, parts, slots), self.marks.copy()
        given = self.records, self.lead, self.order, self.states, 0 if self.order_by is None else SIGNS[self.rule]
        fitted = threads.map(lambda part: enter_hashed(*given, part, parts, slots, marks), range(parts))
        return (table, marks) if all(list(fitted)) else None


def _impossible() -> NoReturn:
    raise AssertionError("a table has more slots than keys")


def build_index(
    runs: Sequence[tuple[int, _Reader]],
    key: Sequence[str],
    columns: Sequence[str],
    schema: pa.Schema,
    categories: Sequence[str] = (),
    rule: Rule = "drop",
    order_by: str | None = None,
    threads: int = 1,
    bounds: Bounds | None = None,
) -> LabelIndex:
    """Read the labels of a run into memory.

    Args:
        runs: for each part of the labels its number of rows, and what reads it.
        key: the key columns.
        columns: the columns that are kept.
        schema: types of all of them.
        categories: columns of text whose values are few.
        rule: which label of several with one key counts.
        order_by: the column by which it chooses.
        threads: how many read.
        bounds: of a key that is one number, where they are known; where they are wrong, labels are read again.

    Raises:
        InputError: there are more labels than an index holds.
    """
    rows, wide = sum(size for size, _ in runs), False
    if rows > MOST_ROWS:
        raise InputError(f"{rows} labels are to be held in memory; allowed: at most {MOST_ROWS}")
    kept = pa.schema([schema.field(name) for name in columns])
    with ThreadPoolExecutor(threads) as readers:
        while True:
            builder = RecordsBuilder(kept, categories, wide=wide)
            try:
                if bounds is not None and order_by is None and _has_room(bounds, builder, rows):
                    return _built(_Placing.begin(key, builder, bounds), runs, readers, threads)
                return _built(_Hashing.begin(key, rule, order_by, builder, schema, rows), runs, readers, threads)
            except TooManyValuesError:
                wide = True
            except _NoPlaceError:
                bounds = None


def _has_room(bounds: Bounds, builder: RecordsBuilder, rows: int) -> bool:
    """Whether a place for every key between the bounds takes no more memory than a table of these rows."""
    record = _WORD * builder.words
    hashed = rows * (record + _WORD + _MARK) + _SLOT * index_size(rows)
    return builder.hold_all and (bounds.high - bounds.low + 1) * (record + _MARK) <= hashed


def _built(
    reading: _Placing | _Hashing, runs: Sequence[tuple[int, _Reader]], readers: ThreadPoolExecutor, threads: int
) -> LabelIndex:
    starts = accumulate((size for size, _ in runs), initial=0)
    nulls = sum(readers.map(lambda start, run: reading.add(start, run[1]()), starts, runs))
    table, marks = reading.entered(readers, threads)
    return LabelIndex(reading.builder.finish(), table, marks, sum(size for size, _ in runs), nulls)
