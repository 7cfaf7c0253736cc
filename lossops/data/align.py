"""Pairing rows by key, of which every row is at hand on both sides."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from lossops.data.keys import Keys, Order
from lossops.errors import InputError
from lossops.kernels.hashing import (
    ABSENT,
    TIED,
    UNORDERED,
    choose_rows,
    find_keys,
    group_keys,
    index_size,
    pair_rows,
)

__all__ = ["MOST_ROWS", "SIGNS", "Joined", "Rows", "Rule", "join"]

Rule = Literal["drop", "first", "last"]
SIGNS: dict[Rule, int] = {"drop": 0, "first": -1, "last": 1}
MOST_ROWS = 2**31 - 1


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
        if len(keys) > MOST_ROWS:
            raise InputError(f"{len(keys)} rows are to be joined in memory; allowed: at most {MOST_ROWS}")
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
        choose_rows(groups, rows.counts, rows.order, rows.states, SIGNS[rule], totals, best)
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
