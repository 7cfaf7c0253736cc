"""Mergeable sums of losses: what a worker returns and what the driver adds up.

Adding is the only merge, it is exact, and its order does not matter. Nothing is divided here.
"""

from __future__ import annotations

import operator
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import reduce
from typing import Any

import numpy as np
import numpy.typing as npt

from lossops.bins import BinTable
from lossops.groups import Keys
from lossops.hardest import Hardest
from lossops.histograms import Histogram
from lossops.kernels.checks import Reason
from lossops.reliability import Reliability
from lossops.sums import Sums
from lossops.units import Units, UnitSums

__all__ = ["Cell", "GroupTable", "State", "Total", "count_reasons"]

Cell = tuple[str, ...]  # (model, loss), or of a comparison (model, loss, baseline)
_REASONS = max(Reason) + 1
_WAITING, _FEW_GROUPS = 3, 1 << 12  # for `Total`


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

    keys: Keys
    sums: Mapping[Cell, Sums]
    units: Mapping[Cell, UnitSums] = field(default_factory=dict)
    histograms: Mapping[Cell, Histogram] = field(default_factory=dict)
    hardest: Mapping[Cell, Hardest] = field(default_factory=dict)
    reliability: Mapping[Cell, Reliability] = field(default_factory=dict)

    @classmethod
    def total(cls, tables: Sequence[GroupTable]) -> GroupTable:
        """The groups of all tables, one or more, each with what all of them have of it."""
        keys, at = Keys.united([table.keys for table in tables])
        parts = [
            _gathered(kind, [(getattr(table, name), own) for table, own in zip(tables, at, strict=True)], len(keys))
            for name, kind in _PARTS.items()
        ]
        return cls(keys, *parts)

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
    return {cell: _one([(found[cell], at) for found, at in tables if cell in found], kind, groups) for cell in cells}


def _one(parts: Sequence[tuple[Any, npt.NDArray[np.int64]]], kind: Any, groups: int) -> Any:
    """Add parts up: all at once, or two by two, for which some have a cheaper way."""
    if kind in (Sums, Hardest) or len(parts) < 3:
        return kind.gathered(parts, groups)
    same = np.arange(groups)
    return reduce(
        lambda one, two: kind.gathered([(one, same), two], groups), parts[1:], kind.gathered(parts[:1], groups)
    )


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

    @property
    def groups(self) -> int:
        """Number of groups in all tables."""
        return sum(len(table.keys) for table in self.tables)

    @classmethod
    def zero(cls, slices: int) -> State:
        """The state of no rows, for this many slices."""
        return cls(tuple(GroupTable(Keys.none(), {}) for _ in range(slices)), {})

    def __add__(self, other: State) -> State:
        return State.total([self, other])

    @classmethod
    def total(cls, states: Sequence[State]) -> State:
        """The state of the rows of all states, one or more; cheaper than one after the other."""
        nothing = np.zeros(_REASONS, dtype=np.int64)
        known = [one.units for one in states if one.units is not None]
        units = reduce(operator.add, known) if known else None
        if units is not None and units.are_buckets:
            states = [one._with_buckets(units.buckets) for one in states]
        cells = dict.fromkeys(cell for one in states for cell in one.reasons)
        measures: Mapping[Cell, tuple[BinTable, ...]] = {}
        for one in states:
            measures = {**measures, **one.measures, **_added(measures, one.measures)}
        return cls(
            tuple(GroupTable.total(tables) for tables in zip(*(one.tables for one in states), strict=True)),
            {cell: np.sum([one.reasons.get(cell, nothing) for one in states], axis=0) for cell in cells},
            measures,
            units,
        )

    def _with_buckets(self, buckets: int) -> State:
        if self.units is None or self.units.are_buckets:
            return self
        return replace(self, tables=tuple(table.with_buckets(buckets) for table in self.tables))


class Total:
    """Adds states up as they come, several at a time.

    Args:
        slices: how many tables a state has.
    """

    def __init__(self, slices: int) -> None:
        self._state = State.zero(slices)
        self._waiting: list[State] = []

    def add(self, state: State) -> None:
        """Take one more; what waits is at most some times as large as the sum."""
        self._waiting.append(state)
        if sum(one.groups for one in self._waiting) > _WAITING * max(self._state.groups, _FEW_GROUPS):
            self.state()

    def state(self) -> State:
        """Return the sum of all."""
        if self._waiting:
            self._state, self._waiting = State.total([self._state, *self._waiting]), []
        return self._state


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
