"""Mergeable sums of losses: what a worker returns and what the driver adds up.

Adding is the only merge, it is exact, and its order does not matter. Nothing is divided here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from lossops.bins import BinTable
from lossops.hardest import Hardest
from lossops.histograms import Histogram
from lossops.kernels.checks import Reason
from lossops.reliability import Reliability
from lossops.sums import Sums
from lossops.units import Units, UnitSums

__all__ = ["Cell", "GroupKey", "GroupTable", "State", "count_reasons"]

Cell = tuple[str, ...]  # (model, loss), or of a comparison (model, loss, baseline)
GroupKey = tuple[tuple[int, object], ...]  # one (rank, value) for each column of a slice, see `lossops.slices`
_REASONS = max(Reason) + 1


@dataclass(frozen=True)
class GroupTable:
    """The groups of one slice.

    Args:
        keys: of each group.
        sums: of the losses of each model, and of every comparison.
        units: the same by independent unit, where the run has units.
        histograms: of the losses of each model, where the run has quantiles.
        hardest: rows of each model and loss, where the run lists them.
        reliability: labels by probability of each model and loss of probabilities, where the run asks for it.
    """

    keys: tuple[GroupKey, ...]
    sums: Mapping[Cell, Sums]
    units: Mapping[Cell, UnitSums] = field(default_factory=dict)
    histograms: Mapping[Cell, Histogram] = field(default_factory=dict)
    hardest: Mapping[Cell, Hardest] = field(default_factory=dict)
    reliability: Mapping[Cell, Reliability] = field(default_factory=dict)

    def __add__(self, other: GroupTable) -> GroupTable:
        places = {key: place for place, key in enumerate(self.keys)}
        for key in other.keys:
            places.setdefault(key, len(places))
        mine, theirs = (np.array([places[key] for key in table.keys], dtype=np.int64) for table in (self, other))
        parts = [
            _gathered(kind, ((getattr(self, name), mine), (getattr(other, name), theirs)), len(places))
            for name, kind in _PARTS.items()
        ]
        return GroupTable(tuple(places), *parts)

    def with_buckets(self, buckets: int) -> GroupTable:
        """The same with units put together in buckets."""
        return replace(
            self,
            units={cell: one.collapsed(buckets) for cell, one in self.units.items()},
            reliability={cell: one.with_buckets(buckets) for cell, one in self.reliability.items()},
        )


# What a table holds of each model and loss, in the order of its fields; each kind knows how to gather groups.
_PARTS: dict[str, Any] = {
    "sums": Sums,
    "units": UnitSums,
    "histograms": Histogram,
    "hardest": Hardest,
    "reliability": Reliability,
}


def _gathered(
    kind: Any, tables: Sequence[tuple[Mapping[Cell, Any], npt.NDArray[np.int64]]], groups: int
) -> dict[Cell, Any]:
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
    found = np.asarray(reasons)
    if not found.any():  # the usual case, told without counting
        return np.bincount([0], weights=[len(found)], minlength=_REASONS).astype(np.int64)
    return np.bincount(found, minlength=_REASONS).astype(np.int64)
