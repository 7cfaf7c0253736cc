"""Slices: the groups of rows that losses are reported for.

A slice is a cross of axes; an axis is a column, or a numeric column cut into bins. Every row of a batch falls in
exactly one group of each slice, so the groups of a slice add up to overall: null has its own group, NaN has its own,
and values beyond the outermost bin edges have theirs.

A group's key holds ``(rank, value)`` for each axis: rank 0 for a value (the bin's number where there are bins), 1 for
NaN, 2 for null. Keys are the same in every batch, whatever codes a file uses, and sort in the order of the report.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from lossops.kernels.dense import dense
from lossops.state import GroupKey

__all__ = ["OVERALL", "REST", "Axis", "Categories", "Grouping", "Slice", "group_rows", "group_some", "roll_up"]

_NAN: tuple[int, object] = (1, 0)
_NULL: tuple[int, object] = (2, 0)
_OTHER: tuple[int, object] = (3, 0)
REST: GroupKey = (_OTHER,)  # all rows that `group_some` was not asked for, also where the slice has other axes


@dataclass(frozen=True)
class Categories:
    """A column as group numbers.

    Args:
        codes: int64 [rows], each in [0, len(keys)).
        keys: the (rank, value) of each code.
    """

    codes: npt.NDArray[np.int64]
    keys: Sequence[tuple[int, object]]

    @classmethod
    def of_values(
        cls, codes: npt.NDArray[np.int64], values: Sequence[object], nulls: npt.NDArray[np.bool_]
    ) -> Categories:
        """From codes into distinct values, and a mask of null rows; a float NaN among the values gets its own rank."""
        keys = [_NAN if isinstance(value, float) and math.isnan(value) else (0, value) for value in values]
        return cls(np.where(nulls, len(keys), codes), [*keys, _NULL]) if nulls.any() else cls(codes, keys)

    def only(self, kept: Set[tuple[int, object]]) -> Categories:
        """The same with all other values as one."""
        keys = [key for key in self.keys if key in kept]
        places = {key: place for place, key in enumerate(keys)}
        moved = np.array([places.get(key, len(keys)) for key in self.keys], dtype=np.int64)
        return Categories(moved[self.codes], [*keys, _OTHER])


@dataclass(frozen=True)
class Axis:
    """One direction of a slice.

    Args:
        column: name as the config gives it.
        bins: increasing finite edges, or None to take the values as they are.
    """

    column: str
    bins: tuple[float, ...] | None = None

    def cut(self, values: npt.NDArray[np.float64], nulls: npt.NDArray[np.bool_]) -> Categories:
        """Sort numbers into the bins ``(-inf, b0), [b0, b1), ..., [bn, inf)``; values and nulls are [rows]."""
        edges = np.asarray(self.bins)
        codes = np.searchsorted(edges, values, side="right").astype(np.int64)
        codes[np.isnan(values)] = len(edges) + 1
        codes[nulls] = len(edges) + 2
        return Categories(codes, [*((0, number) for number in range(len(edges) + 1)), _NAN, _NULL])

    def value_text(self, key: tuple[int, object]) -> str | None:
        """The value of a key as the report prints it; None for null."""
        rank, value = key
        if rank:
            return None if key == _NULL else "NaN"
        if self.bins is None:
            return str(value).lower() if isinstance(value, bool) else str(value)
        edges = (-math.inf, *self.bins, math.inf)
        low, high = edges[int(str(value))], edges[int(str(value)) + 1]
        return f"{'(' if math.isinf(low) else '['}{_number(low)}, {_number(high)})"

    def label(self, key: tuple[int, object]) -> str:
        """One condition of a slice, such as ``cut=Ideal``, ``carat=[0.5, 1)`` or ``cut is null``."""
        text = self.value_text(key)
        if text is None:
            return f"{self.column} is null"
        return f"{self.column} is NaN" if key == _NAN else f"{self.column}={text}"


def _number(value: float) -> str:
    return f"{value:g}" if float(f"{value:g}") == value else repr(value)


@dataclass(frozen=True)
class Slice:
    """A cross of axes; without axes it is overall."""

    axes: tuple[Axis, ...]

    def label(self, key: GroupKey) -> str:
        """The slice in words, such as ``overall`` or ``cut=Ideal & color=E``."""
        return " & ".join(axis.label(part) for axis, part in zip(self.axes, key, strict=True)) or "overall"

    def values(self, key: GroupKey) -> list[str | None]:
        """The value of each axis as the report prints it."""
        return [axis.value_text(part) for axis, part in zip(self.axes, key, strict=True)]

    @property
    def columns(self) -> list[str]:
        """The column of each axis."""
        return [axis.column for axis in self.axes]


OVERALL = Slice(())


@dataclass(frozen=True)
class Grouping:
    """The groups of one slice that occur in a batch.

    Args:
        groups: int64, the group of each row, or of each group of a finer slice where it is rolled up from one.
        members: int64 [groups, axes], the code of each group on each axis.
        keys: the key of each group.
    """

    groups: npt.NDArray[np.int64]
    members: npt.NDArray[np.int64]
    keys: tuple[GroupKey, ...]


def _combine(codes: Sequence[npt.NDArray[np.int64]], axes: Sequence[Categories], rows: int) -> Grouping:
    if not axes:
        return Grouping(
            np.zeros(rows, dtype=np.int64), np.zeros((min(rows, 1), 0), dtype=np.int64), ((),) * min(rows, 1)
        )
    sizes = [len(axis.keys) for axis in axes]
    if math.prod(sizes) < 1 << 62:
        numbers = codes[0]
        for code, size in zip(codes[1:], sizes[1:], strict=True):
            numbers = numbers * size + code
        found, groups = dense(numbers, math.prod(sizes))
        members = np.stack(np.unravel_index(found, sizes), axis=1)
    else:
        members, groups = np.unique(np.stack(codes, axis=1), axis=0, return_inverse=True)
    by_axis = ([axis.keys[code] for code in column] for axis, column in zip(axes, members.T.tolist(), strict=True))
    return Grouping(groups, members, tuple(zip(*by_axis, strict=True)))


def group_rows(chosen: Slice, columns: Mapping[Axis, Categories], rows: int) -> Grouping:
    """Group the rows of a batch by a slice.

    Args:
        chosen: the slice.
        columns: every axis as codes of this batch.
        rows: number of rows in the batch.
    """
    axes = [columns[axis] for axis in chosen.axes]
    return _combine([axis.codes for axis in axes], axes, rows)


def roll_up(chosen: Slice, columns: Mapping[Axis, Categories], finer: Slice, groups: Grouping) -> Grouping:
    """Group the groups of a finer slice: ``Grouping.groups`` then numbers its groups instead of rows.

    Args:
        chosen: the slice, whose axes are all among those of ``finer``.
        columns: every axis as codes of this batch.
        finer: the finer slice.
        groups: its groups in this batch.
    """
    axes = [columns[axis] for axis in chosen.axes]
    codes = [groups.members[:, finer.axes.index(axis)] for axis in chosen.axes]
    return _combine(codes, axes, len(groups.members))


def group_some(
    chosen: Slice,
    columns: Mapping[Axis, Categories],
    rows: int,
    kept: Set[GroupKey] | None,
    outside: npt.NDArray[np.bool_] | None,
) -> Grouping:
    """Group the rows of a batch by a slice, with all that is not asked for in one group, `REST`.

    Args:
        chosen, columns, rows: as for `group_rows`.
        kept: the groups that are asked for; None for all.
        outside: bool [rows], rows that are not asked for whatever their group; None for none.
    """
    if kept is not None:
        wanted = {axis: {key[place] for key in kept} for place, axis in enumerate(chosen.axes)}
        columns = {axis: columns[axis].only(wanted[axis]) for axis in chosen.axes}
    found = group_rows(chosen, columns, rows)
    order = [group for group, key in enumerate(found.keys) if kept is None or key in kept]
    moved = np.full(len(found.keys) + 1, len(order), dtype=np.int64)
    moved[order] = np.arange(len(order))
    groups = moved[found.groups] if outside is None else np.where(outside, len(order), moved[found.groups])
    return replace(found, groups=groups, members=found.members[order], keys=(*(found.keys[one] for one in order), REST))
