"""Slices: the groups of rows that losses are reported for.

A slice is a cross of axes; an axis is a column, or a numeric column cut into bins. Every row of a batch falls in
exactly one group of each slice, so the groups of a slice add up to overall: null has its own group, NaN has its own,
and values beyond the outermost bin edges have theirs.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import types

from lossops.groups import NAN, NULL, OTHER, GroupKey, Keys, Part, Parts, numbered, plain_values

__all__ = ["OVERALL", "Axis", "Categories", "Grouping", "Slice", "group_rows", "group_some", "roll_up"]


@dataclass(frozen=True)
class Categories:
    """A column as group numbers.

    Args:
        codes: int64 [rows], each in [0, len(parts)).
        parts: what each code stands for.
    """

    codes: npt.NDArray[np.int64]
    parts: Parts

    @classmethod
    def of_values(cls, codes: npt.NDArray[np.int64], values: pa.Array, nulls: npt.NDArray[np.bool_]) -> Categories:
        """From codes into distinct values, and a mask of null rows; a float NaN among the values gets its own rank."""
        ranks = []
        if types.is_floating(values.type) and (where := np.flatnonzero(np.isnan(values.to_numpy()))).size:
            place, last = int(where[0]), len(values) - 1
            codes = np.where(codes == place, last, codes - (codes > place))
            values, ranks = pa.concat_arrays([values.slice(0, place), values.slice(place + 1)]), [NAN[0]]
        if nulls.any():
            codes, ranks = np.where(nulls, len(values) + len(ranks), codes), [*ranks, NULL[0]]
        return cls(codes, Parts(plain_values(values), tuple(ranks)))

    def only(self, kept: Set[Part]) -> Categories:
        """The same with all other values as one."""
        parts = [part for part in self.parts if part in kept]
        places = {part: place for place, part in enumerate(parts)}
        moved = np.array([places.get(part, len(parts)) for part in self.parts], dtype=np.int64)
        return Categories(moved[self.codes], Parts.of([*parts, OTHER]))


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
        return Categories(codes, Parts(pa.array(np.arange(len(edges) + 1)), (NAN[0], NULL[0])))

    def value_text(self, key: Part) -> str | None:
        """The value of a key as the report prints it; None for null."""
        rank, value = key
        if rank:
            return None if key == NULL else "NaN"
        if self.bins is None:
            return str(value).lower() if isinstance(value, bool) else str(value)
        edges = (-math.inf, *self.bins, math.inf)
        low, high = edges[int(str(value))], edges[int(str(value)) + 1]
        return f"{'(' if math.isinf(low) else '['}{_number(low)}, {_number(high)})"

    def label(self, key: Part) -> str:
        """One condition of a slice, such as ``cut=Ideal``, ``carat=[0.5, 1)`` or ``cut is null``."""
        text = self.value_text(key)
        if text is None:
            return f"{self.column} is null"
        return f"{self.column} is NaN" if key == NAN else f"{self.column}={text}"

    def texts(self, parts: Parts) -> tuple[pa.Array, pa.Array]:
        """What `value_text` and `label` give for every part, as text."""
        if self.bins is None and not parts.ranks and types.is_string(parts.values.type):
            return parts.values, pc.binary_join_element_wise(f"{self.column}=", parts.values, "")
        values, labels = ([function(part) for part in parts] for function in (self.value_text, self.label))
        return pa.array(values, pa.string()), pa.array(labels, pa.string())


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
        keys: the key of each group; its codes are those of the batch.
    """

    groups: npt.NDArray[np.int64]
    keys: Keys


def _combine(codes: Sequence[npt.NDArray[np.int64]], axes: Sequence[Categories], rows: int) -> Grouping:
    if not axes:
        return Grouping(np.zeros(rows, dtype=np.int64), Keys((), np.zeros((min(rows, 1), 0), dtype=np.int64)))
    members, groups = numbered(codes, [len(axis.parts) for axis in axes])
    return Grouping(groups, Keys(tuple(axis.parts for axis in axes), members))


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
    # Columns lie in one piece, so that kernels are not compiled once more for others.
    codes = [np.ascontiguousarray(groups.keys.codes[:, finer.axes.index(axis)]) for axis in chosen.axes]
    return _combine(codes, axes, len(groups.keys))


def group_some(
    chosen: Slice,
    columns: Mapping[Axis, Categories],
    rows: int,
    kept: Set[GroupKey] | None,
    outside: npt.NDArray[np.bool_] | None,
) -> Grouping:
    """Group the rows of a batch by a slice, with all that is not asked for in one group, `lossops.groups.REST`.

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
    return Grouping(groups, Keys(found.keys.axes, found.keys.codes[order], has_rest=True))
