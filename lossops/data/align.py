"""Pairing rows by key, all at once or by looking labels up."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import chain
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from pyarrow import types

from lossops.data.keys import Keys, Order, read_keys, read_order
from lossops.errors import InputError
from lossops.kernels.hashing import (
    ABSENT,
    TIED,
    UNORDERED,
    choose_rows,
    find_keys,
    group_keys,
    index_size,
    mark_asked,
    pair_rows,
)

__all__ = ["Joined", "LabelIndex", "Matches", "Rows", "Rule", "Seen", "build_index", "join"]

Rule = Literal["drop", "first", "last"]
_SIGNS: dict[Rule, int] = {"drop": 0, "first": -1, "last": 1}
_MOST_ROWS = 2**31 - 1


@dataclass(frozen=True)
class Matches:
    """Where the predictions of a batch found their labels.

    Args:
        rows: int64 [rows], the label row, or ``ABSENT``.
        null_key, no_label, duplicate_key: bool [rows]; a row in none of them is aligned.
    """

    rows: npt.NDArray[np.int64]
    null_key: npt.NDArray[np.bool_]
    no_label: npt.NDArray[np.bool_]
    duplicate_key: npt.NDArray[np.bool_]

    @cached_property
    def aligned(self) -> npt.NDArray[np.bool_]:
        """Mask of the rows that have exactly one partner."""
        return ~(self.null_key | self.no_label | self.duplicate_key)


@dataclass(frozen=True)
class Seen:
    """Which label rows have been asked for, one bit a row.

    Args:
        once: by at least one prediction.
        twice: by more than one.
    """

    once: npt.NDArray[np.uint8]
    twice: npt.NDArray[np.uint8]

    @classmethod
    def none(cls, rows: int) -> Seen:
        """No row of this many has been asked for."""
        size = (rows + 7) // 8
        return cls(np.zeros(size, dtype=np.uint8), np.zeros(size, dtype=np.uint8))

    def add_rows(self, rows: npt.NDArray[np.int64]) -> None:
        """Add the label rows that a batch asked for, ``ABSENT`` left out, in place."""
        mark_asked(rows, self.once, self.twice)

    def __add__(self, other: Seen) -> Seen:
        return Seen(self.once | other.once, self.twice | other.twice | (self.once & other.once))


@dataclass(frozen=True)
class Rows:
    """What joining knows of the rows of one side; a row may stand for several of one key, see `collapsed`.

    Args:
        keys: of the rows.
        counts: int64 [rows], how many rows each stands for.
        order: uint64 [rows], what chooses among rows of one key.
        states: uint8 [rows], see `lossops.kernels.hashing.choose_rows`.
    """

    keys: Keys
    counts: npt.NDArray[np.int64]
    order: npt.NDArray[np.uint64]
    states: npt.NDArray[np.uint8]

    @classmethod
    def of(cls, keys: Keys, order: Order | None) -> Rows:
        """From keys, and what orders rows of one key if the side has it."""
        ones = np.ones(len(keys), dtype=np.int64)
        if order is None:
            return cls(keys, ones, np.zeros(len(keys), dtype=np.uint64), np.zeros(len(keys), dtype=np.uint8))
        return cls(keys, ones, order[0], order[1].astype(np.uint8))

    @classmethod
    def concatenate(cls, parts: Sequence[Rows]) -> Rows:
        """The rows of all parts, in order."""
        arrays = (np.concatenate([getattr(part, name) for part in parts]) for name in ("counts", "order", "states"))
        return cls(Keys.concatenate([part.keys for part in parts]), *arrays)

    def __len__(self) -> int:
        return len(self.keys)

    def take(self, rows: npt.NDArray[Any]) -> Rows:
        """Some of the rows, by their places or a mask."""
        return Rows(self.keys.take(rows), self.counts[rows], self.order[rows], self.states[rows])

    @property
    def checksum(self) -> int:
        """Sum of the hashed keys of all rows that are stood for, modulo 2^64; the same in any order."""
        return int((self.keys.hashes() * self.counts.view(np.uint64)).sum(dtype=np.uint64))

    def collapsed(self, rule: Rule) -> tuple[Rows, npt.NDArray[np.int64]]:
        """Return one row for each key, and which rows these are: a key that most rows have costs no memory then."""
        groups = _Groups.of(self.keys)
        totals, best = groups.chosen(self, rule, groups.first)
        every = np.flatnonzero(groups.first == np.arange(len(self)))  # the first row of each key stands for it
        kept = np.where(best[every] >= 0, best[every], every)
        lost = best[every] < 0
        states = np.where(lost & (totals[every] > 1), self._lost_states(groups, every), self.states[kept])
        order = np.where(lost, self._extremes(groups, every, rule), self.order[kept])
        return Rows(self.keys.take(kept), totals[every], order, states.astype(np.uint8)), kept

    def _lost_states(self, groups: _Groups, every: npt.NDArray[np.int64]) -> npt.NDArray[np.uint8]:
        """Keys of which no row is chosen: their best value is shared, unless none has a value."""
        known = np.zeros(len(self), dtype=np.uint8)
        np.maximum.at(known, groups.first, np.minimum(self.states, 1))
        return np.where(known[every] > 0, TIED, UNORDERED).astype(np.uint8)

    def _extremes(self, groups: _Groups, every: npt.NDArray[np.int64], rule: Rule) -> npt.NDArray[np.uint64]:
        known = self.states != UNORDERED
        largest = np.uint64(2**64 - 1)
        found = np.full(len(self), largest if rule == "first" else np.uint64(0))
        gather = np.minimum if rule == "first" else np.maximum
        gather.at(found, groups.first[known], self.order[known])
        return np.asarray(found[every])


@dataclass(frozen=True)
class _Groups:
    """Rows by key: an index, and for each row the first row of its key, int64 [rows], ``ABSENT`` for null keys."""

    slots: npt.NDArray[np.int32]
    first: npt.NDArray[np.int64]

    @classmethod
    def of(cls, keys: Keys) -> _Groups:
        if len(keys) > _MOST_ROWS:
            raise InputError(f"{len(keys)} rows are to be joined in memory; allowed: at most {_MOST_ROWS}")
        slots = np.full(index_size(len(keys)), ABSENT, dtype=np.int32)
        first = np.empty(len(keys), dtype=np.int64)
        group_keys(keys.high, keys.low, keys.null, slots, first)
        return cls(slots, first)

    def chosen(
        self, rows: Rows, rule: Rule, groups: npt.NDArray[np.int64]
    ) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
        """Return for each group of some rows how many there are, and the one that counts; int64 [groups] both."""
        size = len(self.first)
        totals, best = np.zeros(size, dtype=np.int64), np.full(size, ABSENT, dtype=np.int64)
        choose_rows(groups, rows.counts, rows.order, rows.states, _SIGNS[rule], totals, best)
        return totals, best


@dataclass(frozen=True)
class Joined:
    """Which rows of two sides belong together.

    Args:
        prediction_rows, label_rows: int64 [pairs], the former increasing.
        unaligned: for each side the rows that pair with none, by ledger reason.
    """

    prediction_rows: npt.NDArray[np.int64]
    label_rows: npt.NDArray[np.int64]
    unaligned: Mapping[str, Mapping[str, int]]


def join(predictions: Rows, labels: Rows, rule: Rule) -> Joined:
    """Pair rows of which every row of their keys is here, on both sides.

    A key that occurs more than once on a side counts with the row that the rule chooses, or not at all.

    Args:
        predictions, labels: the rows.
        rule: what chooses.
    """
    groups = _Groups.of(labels.keys)
    asked = np.empty(len(predictions), dtype=np.int64)
    find_keys(
        *(predictions.keys.high, predictions.keys.low, predictions.keys.null),
        *(labels.keys.high, labels.keys.low, groups.slots, asked),
    )
    of_labels, of_predictions = groups.chosen(labels, rule, groups.first), groups.chosen(predictions, rule, asked)
    pairs = np.full(len(predictions), ABSENT, dtype=np.int64)
    duplicates = np.zeros(2, dtype=np.int64)
    alone = pair_rows(*of_labels, *of_predictions, pairs, duplicates)
    nulls = [int(side.counts[side.keys.null].sum()) for side in (predictions, labels)]
    unknown = int(predictions.counts[asked == ABSENT].sum()) - nulls[0]
    found = np.flatnonzero(pairs != ABSENT)
    return Joined(
        found,
        pairs[found],
        {
            "predictions": {"null_key": nulls[0], "no_label": unknown, "duplicate_key": int(duplicates[0])},
            "labels": {"null_key": nulls[1], "no_prediction": alone, "duplicate_key": int(duplicates[1])},
        },
    )


@dataclass(frozen=True)
class LabelIndex:
    """The labels of a run in memory, found by key.

    Args:
        table: the needed columns of every label row.
        keys: the keys of every label row.
        slots: the hash index; it finds the label that counts for its key, if one does.
        duplicate: bool [rows], labels that do not count because their key occurs more than once on either side.
    """

    table: pa.Table
    keys: Keys
    slots: npt.NDArray[np.int32]
    duplicate: npt.NDArray[np.bool_]

    @property
    def rows(self) -> int:
        """Number of label rows."""
        return len(self.keys)

    def match(self, keys: Keys) -> Matches:
        """Find the label row of each prediction."""
        rows = np.empty(len(keys), dtype=np.int64)
        find_keys(keys.high, keys.low, keys.null, self.keys.high, self.keys.low, self.slots, rows)
        found = rows != ABSENT
        duplicate = np.zeros(len(keys), dtype=np.bool_)
        duplicate[found] = self.duplicate[rows[found]]
        return Matches(rows, keys.null, ~found & ~keys.null, duplicate)

    def is_asked_twice(self, seen: Seen | None) -> bool:
        """Whether a label that occurs once is asked for by several predictions; None if there was no prediction."""
        return seen is not None and bool((self._bits(seen.twice) & ~self.duplicate).any())

    def without_asked_twice(self, seen: Seen) -> LabelIndex:
        """The same index, in which labels that several predictions ask for count as duplicates."""
        return replace(self, duplicate=self.duplicate | self._bits(seen.twice))

    def ledger(self, seen: Seen | None) -> dict[str, int]:
        """Return the number of labels by ledger reason that found no partner, given what was asked for."""
        seen = seen or Seen.none(self.rows)
        unasked = ~(self._bits(seen.once) | self.keys.null | self.duplicate)
        masks = {"null_key": self.keys.null, "duplicate_key": self.duplicate, "no_prediction": unasked}
        return {reason: int(np.count_nonzero(mask)) for reason, mask in masks.items()}

    def _bits(self, packed: npt.NDArray[np.uint8]) -> npt.NDArray[np.bool_]:
        return np.unpackbits(packed, count=self.rows).view(np.bool_)


def build_index(
    tables: Iterable[pa.Table],
    key: Sequence[str],
    columns: Sequence[str],
    schema: pa.Schema,
    rule: Rule = "drop",
    order_by: str | None = None,
) -> LabelIndex:
    """Read the labels of a run into memory.

    Args:
        tables: the labels, with the key columns and the needed columns.
        key: the key columns.
        columns: the columns that are kept.
        schema: types of the columns, for labels without a single row.
        rule: which label of several with one key counts.
        order_by: the column by which it chooses.

    Raises:
        InputError: there are more labels than an index holds.
    """
    kept, parts = [], []
    tables = iter(tables)
    for table in chain([next(tables, schema.empty_table())], tables):
        order = None if order_by is None else read_order(table[order_by])
        parts.append(Rows.of(read_keys([table[name] for name in key]), order))
        kept.append(_long_offsets(table.select(list(columns))))
    rows = Rows.concatenate(parts)
    groups = _Groups.of(rows.keys)
    _, best = groups.chosen(rows, rule, groups.first)
    counting = best[groups.first[groups.first >= 0]]
    duplicate = ~rows.keys.null
    duplicate[counting[counting >= 0]] = False
    entered = groups.slots >= 0
    first = groups.slots[entered]
    groups.slots[entered] = np.where(best[first] >= 0, best[first], first)
    table = pa.concat_tables(kept, promote_options="permissive").unify_dictionaries().combine_chunks()
    return LabelIndex(table, rows.keys, groups.slots, duplicate)


def _long_offsets(table: pa.Table) -> pa.Table:
    """Store text and lists with 64-bit offsets, so that all labels fit in one array."""
    fields = [field.with_type(_long(field.type)) for field in table.schema]
    return table.cast(pa.schema(fields))


def _long(kind: pa.DataType) -> pa.DataType:
    if types.is_string(kind) or types.is_string_view(kind):
        return pa.large_string()
    if types.is_binary(kind) or types.is_binary_view(kind):
        return pa.large_binary()
    return pa.large_list(kind.value_type) if types.is_list(kind) else kind
