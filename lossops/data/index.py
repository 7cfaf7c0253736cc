"""All labels in memory, found by key."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import accumulate
from typing import NoReturn

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from lossops.data.align import MOST_ROWS, SIGNS, Rule
from lossops.data.keys import is_one_number, read_keys, read_order
from lossops.data.records import Records, RecordsBuilder, TooManyValuesError
from lossops.errors import InputError
from lossops.kernels.hashing import index_size
from lossops.kernels.lookup import (
    COUNTS,
    DUPLICATE,
    NO_KEY,
    classify,
    enter_dense,
    enter_hashed,
    find_dense,
    find_hashed,
    mark_asked,
)

__all__ = ["LabelIndex", "Matches", "Seen", "build_index"]

_SPARSE = 4  # a table addressed by the key itself has up to this many places a row
_FEW_ROWS = 1 << 16  # which one thread enters
_MOST_PARTS = 16
_Bytes = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class Matches:
    """Where the predictions of a batch found their labels.

    Args:
        rows: int64 [rows], the label row, negative if there is none.
        aligned: bool [rows], where there is exactly one that counts; None: everywhere.
        unaligned: the other predictions, by ledger reason.
    """

    rows: npt.NDArray[np.int64]
    aligned: npt.NDArray[np.bool_] | None
    unaligned: Mapping[str, int]


@dataclass(frozen=True)
class Seen:
    """Which label rows have been asked for, one bit a row.

    Args:
        once: by at least one prediction.
        twice: by more than one.
    """

    once: _Bytes
    twice: _Bytes

    @classmethod
    def none(cls, rows: int) -> Seen:
        """No row of this many has been asked for."""
        size = (rows + 7) // 8
        return cls(np.zeros(size, dtype=np.uint8), np.zeros(size, dtype=np.uint8))

    def add_rows(self, rows: npt.NDArray[np.int64]) -> None:
        """Add the label rows that a batch asked for, in place; negative ones are passed over."""
        mark_asked(rows, self.once, self.twice)

    def __add__(self, other: Seen) -> Seen:
        return Seen(self.once | other.once, self.twice | other.twice | (self.once & other.once))


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


@dataclass(frozen=True)
class _Dense:
    """A table addressed by the key less the lowest one, see `lossops.kernels.lookup.enter_dense`."""

    lowest: int
    slots: npt.NDArray[np.int32]

    def find(self, keys: _Keys, rows: npt.NDArray[np.int64]) -> None:
        """Write the row of each key."""
        find_dense(keys.high.view(np.int64), keys.low, keys.skip, self.lowest, self.slots, rows)


@dataclass(frozen=True)
class _Hashed:
    """A table addressed by hash, see `lossops.kernels.lookup.enter_hashed`."""

    high: npt.NDArray[np.uint64]
    low: npt.NDArray[np.uint64]
    parts: int
    slots: npt.NDArray[np.uint32]

    def find(self, keys: _Keys, rows: npt.NDArray[np.int64]) -> None:
        """Write the row of each key."""
        find_hashed(keys.high, keys.low, keys.skip, self.high, self.low, self.parts, self.slots, rows)


@dataclass(frozen=True)
class LabelIndex:
    """The labels of a run in memory, found by key.

    Args:
        records: the needed columns of every label row.
        table: finds the row that counts for a key, if one does.
        marks: uint8 [rows], see `lossops.kernels.lookup`: duplicates do not count because their key occurs more than
            once on either side.
    """

    records: Records
    table: _Dense | _Hashed
    marks: _Bytes

    @property
    def rows(self) -> int:
        """Number of label rows."""
        return len(self.marks)

    @cached_property
    def _duplicates(self) -> _Bytes:
        """The marks, or nothing where no row is a duplicate, so that nobody looks."""
        return self.marks if (self.marks == DUPLICATE).any() else self.marks[:0]

    def match(self, columns: Sequence[pa.ChunkedArray]) -> Matches:
        """Find the label row of each prediction, given the key columns."""
        keys = _Keys.of(columns)
        rows, kept = np.empty(len(keys.high), dtype=np.int64), np.empty(len(keys.high), dtype=np.bool_)
        self.table.find(keys, rows)
        null, absent, duplicate = classify(rows, self._duplicates, kept)
        unaligned = {"null_key": null, "no_label": absent, "duplicate_key": duplicate}
        return Matches(rows, kept if null + absent + duplicate else None, unaligned)

    def is_asked_twice(self, seen: Seen | None) -> bool:
        """Whether a label that counts is asked for by several predictions; None if there was no prediction."""
        return seen is not None and bool((self._bits(seen.twice) & (self.marks == COUNTS)).any())

    def without_asked_twice(self, seen: Seen) -> LabelIndex:
        """The same index, in which labels that several predictions ask for count as duplicates."""
        marks = np.where(self._bits(seen.twice), np.uint8(DUPLICATE), self.marks)
        return replace(self, marks=marks)

    def ledger(self, seen: Seen | None) -> dict[str, int]:
        """Return the number of labels by ledger reason that found no partner, given what was asked for."""
        seen = seen or Seen.none(self.rows)
        masks = {
            "null_key": self.marks == NO_KEY,
            "duplicate_key": self.marks == DUPLICATE,
            "no_prediction": (self.marks == COUNTS) & ~self._bits(seen.once),
        }
        return {reason: int(np.count_nonzero(mask)) for reason, mask in masks.items()}

    def _bits(self, packed: _Bytes) -> npt.NDArray[np.bool_]:
        return np.unpackbits(packed, count=self.rows).view(np.bool_)


@dataclass
class _Reading:
    """The labels as far as they have been read, by several threads."""

    key: Sequence[str]
    order_by: str | None
    records: RecordsBuilder
    marks: _Bytes
    high: npt.NDArray[np.uint64]
    low: npt.NDArray[np.uint64]
    order: npt.NDArray[np.uint64]
    states: _Bytes

    @classmethod
    def begin(cls, schema: pa.Schema, key: Sequence[str], order_by: str | None, records: RecordsBuilder) -> _Reading:
        """Nothing has been read."""
        rows = records.rows
        one_number = is_one_number([schema.field(name).type for name in key])
        ordered = 0 if order_by is None else rows
        return cls(
            key,
            order_by,
            records,
            np.zeros(rows, dtype=np.uint8),
            np.empty(rows, dtype=np.uint64),
            np.empty(0 if one_number else rows, dtype=np.uint64),
            np.empty(ordered, dtype=np.uint64),
            np.empty(ordered, dtype=np.uint8),
        )

    def add(self, start: int, tables: Iterable[pa.Table]) -> None:
        """Take tables whose rows follow each other, the first of which is row ``start``."""
        for table in tables:
            part = slice(start, start + table.num_rows)
            keys = _Keys.of([table[name] for name in self.key])
            self.high[part] = keys.high
            if len(self.low):
                self.low[part] = keys.low if len(keys.low) else 0
            if len(keys.skip):
                self.marks[part] = np.where(keys.skip, np.uint8(NO_KEY), np.uint8(COUNTS))
            if self.order_by is not None:
                self.order[part], self.states[part] = read_order(table[self.order_by])
            self.records.put(start, table)
            start += table.num_rows

    def entered(self, rule: Rule, threads: ThreadPoolExecutor, count: int) -> _Dense | _Hashed:
        """Return the table that finds these rows, and mark those that do not count."""
        sign = 0 if self.order_by is None else SIGNS[rule]
        keys = self.high.view(np.int64)
        lowest, highest = (int(keys.min()), int(keys.max())) if len(keys) else (0, 0)
        if not len(self.low) and highest - lowest < _SPARSE * len(keys):
            slots = np.full(highest - lowest + 1, -1, dtype=np.int32)
            cuts = [part * len(slots) // count for part in range(count + 1)]
            given = keys, self.order, self.states, sign, lowest
            list(threads.map(lambda low, high: enter_dense(*given, low, high, slots, self.marks), cuts, cuts[1:]))
            return _Dense(lowest, slots)
        parts = 1 if len(keys) < _FEW_ROWS else min(1 << (count - 1).bit_length(), _MOST_PARTS)
        return self._hashed(sign, threads, parts) or self._hashed(sign, threads, 1) or _impossible()

    def _hashed(self, sign: int, threads: ThreadPoolExecutor, parts: int) -> _Hashed | None:
        """Return a table in which each part of the keys has a region; None where one of them has too many keys."""
        table = _Hashed(self.high, self.low, parts, np.zeros(index_size(len(self.high)), dtype=np.uint32))
        given = self.high, self.low, self.order, self.states, sign
        marks = self.marks.copy()
        fitted = threads.map(lambda part: enter_hashed(*given, part, parts, table.slots, marks), range(parts))
        if not all(list(fitted)):
            return None
        self.marks = marks
        return table


def _impossible() -> NoReturn:
    raise AssertionError("a table has more slots than keys")


def build_index(
    runs: Sequence[tuple[int, Callable[[], Iterable[pa.Table]]]],
    key: Sequence[str],
    columns: Sequence[str],
    schema: pa.Schema,
    categories: Sequence[str] = (),
    rule: Rule = "drop",
    order_by: str | None = None,
    threads: int = 1,
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

    Raises:
        InputError: there are more labels than an index holds.
    """
    rows = sum(size for size, _ in runs)
    if rows > MOST_ROWS:
        raise InputError(f"{rows} labels are to be held in memory; allowed: at most {MOST_ROWS}")
    kept = pa.schema([schema.field(name) for name in columns])
    with ThreadPoolExecutor(threads) as readers:
        try:
            records = RecordsBuilder(kept, categories, rows)
            reading = _read(_Reading.begin(schema, key, order_by, records), runs, readers)
        except TooManyValuesError:
            records = RecordsBuilder(kept, categories, rows, wide=True)
            reading = _read(_Reading.begin(schema, key, order_by, records), runs, readers)
        table = reading.entered(rule, readers, threads)
    return LabelIndex(records.finish(), table, reading.marks)


def _read(
    reading: _Reading, runs: Sequence[tuple[int, Callable[[], Iterable[pa.Table]]]], readers: ThreadPoolExecutor
) -> _Reading:
    starts = accumulate((size for size, _ in runs), initial=0)
    for _ in readers.map(lambda start, run: reading.add(start, run[1]()), starts, runs):
        pass  # an error of a reader is raised here
    return reading
