"""Mergeable sums of losses: what a worker returns and what the driver adds up.

Adding is the only merge, it is exact, and its order does not matter. Nothing is divided here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from lossops.kernels.accumulate import (
    COUNTS,
    UNWEIGHTED_COLUMNS,
    WEIGHTED_COLUMNS,
    add_block,
    add_weighted_block,
    merge_groups,
)
from lossops.kernels.checks import Reason
from lossops.kernels.exact import DIGITS, EMPTY_TOP

__all__ = ["Cell", "GroupKey", "GroupTable", "State", "Sums", "count_reasons"]

Cell = tuple[str, str]  # (model, loss)
GroupKey = tuple[tuple[int, object], ...]  # one (rank, value) for each column of a slice, see `lossops.slices`
_REASONS = max(Reason) + 1


@dataclass(frozen=True)
class Sums:
    """The state of each group of one slice, for one model and loss; the arrays of `lossops.kernels.accumulate`."""

    counts: npt.NDArray[np.int64]
    extremes: npt.NDArray[np.float64]
    digits: npt.NDArray[np.int64]
    tops: npt.NDArray[np.int64]

    @classmethod
    def zero(cls, groups: int, *, weighted: bool) -> Sums:
        """The sums of no rows, for this many groups."""
        columns = len(WEIGHTED_COLUMNS if weighted else UNWEIGHTED_COLUMNS)
        extremes = np.empty((groups, 2))
        extremes[:, 0], extremes[:, 1] = np.inf, -np.inf
        return cls(
            counts=np.zeros((groups, COUNTS), dtype=np.int64),
            extremes=extremes,
            digits=np.zeros((groups, columns, DIGITS), dtype=np.int64),
            tops=np.full((groups, columns), EMPTY_TOP, dtype=np.int64),
        )

    @property
    def weighted(self) -> bool:
        """Whether the rows carry weights."""
        return bool(self.tops.shape[1] == len(WEIGHTED_COLUMNS))

    @property
    def _arrays(
        self,
    ) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float64], npt.NDArray[np.int64], npt.NDArray[np.int64]]:
        return self.counts, self.extremes, self.digits, self.tops

    def add_rows(
        self,
        losses: npt.NDArray[np.float64],
        weights: npt.NDArray[np.float64] | None,
        reasons: npt.NDArray[np.uint8],
        clipped: npt.NDArray[np.uint8],
        groups: npt.NDArray[np.int64],
    ) -> None:
        """Add a block of rows to their groups, in place; all arrays are [rows]."""
        if weights is None:
            add_block(losses, reasons, clipped, groups, *self._arrays)
        else:
            add_weighted_block(losses, weights, reasons, clipped, groups, *self._arrays)

    def add_groups(self, other: Sums, groups: npt.NDArray[np.int64]) -> None:
        """Add group ``i`` of ``other`` to group ``groups[i]``, in place."""
        merge_groups(self._arrays, other._arrays, groups)


@dataclass(frozen=True)
class GroupTable:
    """The groups of one slice: a key and a row of every `Sums` for each."""

    keys: tuple[GroupKey, ...]
    sums: Mapping[Cell, Sums]

    def __add__(self, other: GroupTable) -> GroupTable:
        places = {key: place for place, key in enumerate(self.keys)}
        for key in other.keys:
            places.setdefault(key, len(places))
        mine, theirs = (np.array([places[key] for key in table.keys], dtype=np.int64) for table in (self, other))
        sums = {}
        for cell in {**self.sums, **other.sums}:
            parts = [(table.sums[cell], at) for table, at in ((self, mine), (other, theirs)) if cell in table.sums]
            sums[cell] = Sums.zero(len(places), weighted=parts[0][0].weighted)
            for part, at in parts:
                sums[cell].add_groups(part, at)
        return GroupTable(tuple(places), sums)


@dataclass(frozen=True)
class State:
    """Everything known of some rows: a table for each slice, and how many rows each reason took.

    Args:
        tables: one for each slice of the run, in its order; the first is overall.
        reasons: for each model and loss the number of aligned rows by `lossops.kernels.checks.Reason`, int64 [reasons].
    """

    tables: tuple[GroupTable, ...]
    reasons: Mapping[Cell, npt.NDArray[np.int64]]

    @classmethod
    def zero(cls, slices: int) -> State:
        """The state of no rows, for this many slices."""
        return cls(tuple(GroupTable((), {}) for _ in range(slices)), {})

    def __add__(self, other: State) -> State:
        nothing = np.zeros(_REASONS, dtype=np.int64)
        return State(
            tuple(mine + theirs for mine, theirs in zip(self.tables, other.tables, strict=True)),
            {
                cell: self.reasons.get(cell, nothing) + other.reasons.get(cell, nothing)
                for cell in {**self.reasons, **other.reasons}
            },
        )


def count_reasons(reasons: Sequence[int] | npt.NDArray[np.uint8]) -> npt.NDArray[np.int64]:
    """Count rows by reason, int64 [reasons]."""
    return np.bincount(np.asarray(reasons), minlength=_REASONS).astype(np.int64)
