"""Mergeable sums of losses: what a worker returns and what the driver adds up.

Adding is the only merge, it is exact, and its order does not matter. Nothing is divided here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from lossops.bins import BinTable
from lossops.hardest import Hardest
from lossops.histograms import Histogram
from lossops.kernels.accumulate import (
    COUNTS,
    DIVIDED_COLUMNS,
    PAIR_COLUMNS,
    UNWEIGHTED_COLUMNS,
    WEIGHTED_COLUMNS,
    WEIGHTED_PAIR_COLUMNS,
    add_block,
    add_divided_block,
    add_pair_block,
    add_weighted_block,
    add_weighted_pair_block,
    merge_groups,
)
from lossops.kernels.checks import Reason
from lossops.kernels.exact import DIGITS, EMPTY_TOP
from lossops.units import Units, UnitSums

__all__ = ["Cell", "GroupKey", "GroupTable", "State", "Sums", "count_reasons"]

Cell = tuple[str, ...]  # (model, loss), or of a comparison (model, loss, baseline)
GroupKey = tuple[tuple[int, object], ...]  # one (rank, value) for each column of a slice, see `lossops.slices`
_REASONS = max(Reason) + 1
_COLUMNS = (UNWEIGHTED_COLUMNS, WEIGHTED_COLUMNS)
_PAIR_COLUMNS = (PAIR_COLUMNS, WEIGHTED_PAIR_COLUMNS)
_BY_LENGTH = {len(names): names for names in (*_COLUMNS, DIVIDED_COLUMNS, *_PAIR_COLUMNS)}


@dataclass(frozen=True)
class Sums:
    """The state of each group of one slice, for one model and loss; the arrays of `lossops.kernels.accumulate`."""

    counts: npt.NDArray[np.int64]
    extremes: npt.NDArray[np.float64]
    digits: npt.NDArray[np.int64]
    tops: npt.NDArray[np.int64]

    @classmethod
    def zero(cls, groups: int, *, weighted: bool, divided: bool = False) -> Sums:
        """The sums of no rows, for this many groups; ``divided`` where the mean has a denominator of its own."""
        return cls.zero_of(groups, len(DIVIDED_COLUMNS if divided else _COLUMNS[weighted]))

    @classmethod
    def zero_pairs(cls, groups: int, *, divided: bool) -> Sums:
        """The sums of no pairs of losses; ``divided`` where the mean is not taken over the number of rows."""
        return cls.zero_of(groups, len(_PAIR_COLUMNS[divided]))

    @classmethod
    def gathered(cls, parts: Sequence[tuple[Sums, npt.NDArray[np.int64]]], groups: int) -> Sums:
        """Add group ``i`` of each part to group ``at[i]`` of this many, for parts and their ``at``."""
        found = cls.zero_of(groups, parts[0][0].tops.shape[1])
        for part, at in parts:
            found.add_groups(part, at)
        return found

    def add_groups(self, other: Sums, groups: npt.NDArray[np.int64]) -> None:
        """Add group ``i`` of ``other`` to group ``groups[i]``, in place."""
        merge_groups(self._arrays, other._arrays, groups)

    @classmethod
    def zero_of(cls, groups: int, columns: int) -> Sums:
        """The sums of no rows, with this many columns."""
        extremes = np.empty((groups, 2))
        extremes[:, 0], extremes[:, 1] = np.inf, -np.inf
        return cls(
            counts=np.zeros((groups, COUNTS), dtype=np.int64),
            extremes=extremes,
            digits=np.zeros((groups, columns, DIGITS), dtype=np.int64),
            tops=np.full((groups, columns), EMPTY_TOP, dtype=np.int64),
        )

    @property
    def columns(self) -> tuple[str, ...]:
        """The names of the sums."""
        return _BY_LENGTH[self.tops.shape[1]]

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
        denominators: npt.NDArray[np.float64] | None = None,
    ) -> None:
        """Add a block of rows to their groups, in place; all arrays are [rows]."""
        if denominators is not None:
            weights = np.ones(len(losses)) if weights is None else weights
            add_divided_block(losses, weights, denominators, reasons, clipped, groups, *self._arrays)
        elif weights is None:
            add_block(losses, reasons, clipped, groups, *self._arrays)
        else:
            add_weighted_block(losses, weights, reasons, clipped, groups, *self._arrays)

    def add_pairs(
        self,
        differences: npt.NDArray[np.float64],
        baselines: npt.NDArray[np.float64],
        weights: npt.NDArray[np.float64] | None,
        divisors: npt.NDArray[np.float64] | None,
        reasons: npt.NDArray[np.uint8],
        groups: npt.NDArray[np.int64],
    ) -> None:
        """Add pairs of losses to their groups, in place; all arrays are [rows]."""
        clipped = np.zeros(len(reasons), dtype=np.uint8)
        if divisors is None:
            add_pair_block(differences, baselines, reasons, clipped, groups, *self._arrays)
            return
        own = np.ones(len(reasons)) if weights is None else weights
        add_weighted_pair_block(differences, baselines, own, divisors, reasons, clipped, groups, *self._arrays)


@dataclass(frozen=True)
class GroupTable:
    """The groups of one slice.

    Args:
        keys: of each group.
        sums: of the losses of each model, and of every comparison.
        units: the same by independent unit, where the run has units.
        histograms: of the losses of each model, where the run has quantiles.
        hardest: rows of each model and loss, where the run lists them.
    """

    keys: tuple[GroupKey, ...]
    sums: Mapping[Cell, Sums]
    units: Mapping[Cell, UnitSums] = field(default_factory=dict)
    histograms: Mapping[Cell, Histogram] = field(default_factory=dict)
    hardest: Mapping[Cell, Hardest] = field(default_factory=dict)

    def __add__(self, other: GroupTable) -> GroupTable:
        places = {key: place for place, key in enumerate(self.keys)}
        for key in other.keys:
            places.setdefault(key, len(places))
        mine, theirs = (np.array([places[key] for key in table.keys], dtype=np.int64) for table in (self, other))
        sums = _gathered(Sums, ((self.sums, mine), (other.sums, theirs)), len(places))
        units = _gathered(UnitSums, ((self.units, mine), (other.units, theirs)), len(places))
        histograms = _gathered(Histogram, ((self.histograms, mine), (other.histograms, theirs)), len(places))
        hardest = _gathered(Hardest, ((self.hardest, mine), (other.hardest, theirs)), len(places))
        return GroupTable(tuple(places), sums, units, histograms, hardest)

    def with_buckets(self, buckets: int) -> GroupTable:
        """The same with units put together in buckets."""
        return replace(self, units={cell: one.collapsed(buckets) for cell, one in self.units.items()})


_Part = TypeVar("_Part", Sums, UnitSums, Histogram, Hardest)


def _gathered(
    kind: type[_Part], tables: Sequence[tuple[Mapping[Cell, _Part], npt.NDArray[np.int64]]], groups: int
) -> dict[Cell, _Part]:
    cells = dict.fromkeys(cell for found, _ in tables for cell in found)
    return {cell: kind.gathered([(found[cell], at) for found, at in tables if cell in found], groups) for cell in cells}


@dataclass(frozen=True)
class State:
    """Everything known of some rows: a table for each slice, and how many rows each reason took.

    Args:
        tables: one for each slice of the run, in its order; the first is overall.
        reasons: for each model and loss the number of aligned rows by `lossops.kernels.checks.Reason`, int64 [reasons].
        measures: for each model and measure of a dataset a table for each slice, in the same order.
        units: the independent units of all rows, where the run has units.
    """

    tables: tuple[GroupTable, ...]
    reasons: Mapping[Cell, npt.NDArray[np.int64]]
    measures: Mapping[Cell, tuple[BinTable, ...]] = field(default_factory=dict)
    units: Units | None = None

    @classmethod
    def zero(cls, slices: int) -> State:
        """The state of no rows, for this many slices."""
        return cls(tuple(GroupTable((), {}) for _ in range(slices)), {})

    def __add__(self, other: State) -> State:
        nothing = np.zeros(_REASONS, dtype=np.int64)
        units = self.units + other.units if self.units and other.units else self.units or other.units
        if units is not None and units.are_buckets:
            self, other = self._with_buckets(units.buckets), other._with_buckets(units.buckets)  # noqa: PLW0642
        return State(
            tuple(mine + theirs for mine, theirs in zip(self.tables, other.tables, strict=True)),
            {
                cell: self.reasons.get(cell, nothing) + other.reasons.get(cell, nothing)
                for cell in {**self.reasons, **other.reasons}
            },
            {**self.measures, **other.measures, **_added(self.measures, other.measures)},
            units,
        )

    def _with_buckets(self, buckets: int) -> State:
        if self.units is None or self.units.are_buckets:
            return self
        return replace(self, tables=tuple(table.with_buckets(buckets) for table in self.tables))


def _added(
    mine: Mapping[Cell, tuple[BinTable, ...]], other: Mapping[Cell, tuple[BinTable, ...]]
) -> dict[Cell, tuple[BinTable, ...]]:
    both = [cell for cell in mine if cell in other]
    return {cell: tuple(one + two for one, two in zip(mine[cell], other[cell], strict=True)) for cell in both}


def count_reasons(reasons: Sequence[int] | npt.NDArray[np.uint8]) -> npt.NDArray[np.int64]:
    """Count rows by reason, int64 [reasons]."""
    return np.bincount(np.asarray(reasons), minlength=_REASONS).astype(np.int64)
