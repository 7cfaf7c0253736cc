"""Finding the label of a prediction by key."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from pyarrow import types

from lossops.data.keys import Keys, read_keys
from lossops.errors import InputError
from lossops.kernels.hashing import ABSENT, find_keys, index_keys, index_size

__all__ = ["LabelIndex", "Matches", "Seen", "build_index"]

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

    @classmethod
    def of_rows(cls, rows: npt.NDArray[np.int64], labels: int) -> Seen:
        """From the label rows that one batch asked for, ``ABSENT`` left out, out of this many labels."""
        asked = np.zeros(labels, dtype=np.uint8)
        found, counts = np.unique(rows, return_counts=True)
        asked[found] = np.minimum(counts, 2)
        return cls(np.packbits(asked > 0), np.packbits(asked > 1))

    def __add__(self, other: Seen) -> Seen:
        return Seen(self.once | other.once, self.twice | other.twice | (self.once & other.once))


@dataclass(frozen=True)
class LabelIndex:
    """The labels of a run in memory, found by key.

    Args:
        table: the needed columns of every label row.
        keys: the keys of every label row.
        slots: the hash index.
        duplicate: bool [rows], label rows whose key occurs more than once on either side.
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
    tables: Iterable[pa.Table], key: Sequence[str], columns: Sequence[str], schema: pa.Schema
) -> LabelIndex:
    """Read the labels of a run into memory.

    Args:
        tables: the labels, with the key columns and the needed columns.
        key: the key columns.
        columns: the columns that are kept.
        schema: types of the columns, for labels without a single row.

    Raises:
        InputError: there are more labels than an index holds.
    """
    kept, parts = [], []
    for table in tables:
        parts.append(read_keys([table[name] for name in key]))
        kept.append(_long_offsets(table.select(list(columns))))
    if not parts:
        empty = schema.empty_table()
        parts, kept = [read_keys([empty[name] for name in key])], [_long_offsets(empty.select(list(columns)))]
    keys = Keys.concatenate(parts)
    if len(keys) > _MOST_ROWS:
        raise InputError(f"labels: {len(keys)} rows are to be joined by key; allowed: at most {_MOST_ROWS}")
    slots = np.full(index_size(len(keys)), ABSENT, dtype=np.int32)
    duplicate = np.zeros(len(keys), dtype=np.bool_)
    index_keys(keys.high, keys.low, keys.null, slots, duplicate)
    table = pa.concat_tables(kept, promote_options="permissive").unify_dictionaries().combine_chunks()
    return LabelIndex(table, keys, slots, duplicate)


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
