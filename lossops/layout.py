"""The groups of a batch, for every slice; what is computed of them, directly or rolled up from finer ones."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TypeVar

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from lossops.data.columns import categories, scalars
from lossops.data.keys import Keys, read_keys
from lossops.decoding import Tables, unit_hashes
from lossops.hardest import Hardest
from lossops.histograms import Histogram
from lossops.pairing import PLACE, Pairing, Subset
from lossops.reliability import Reliability
from lossops.slices import Axis, Categories, Grouping, Slice, group_rows, group_some, roll_up
from lossops.sums import Stack, Sums
from lossops.units import UnitSums

__all__ = ["Layout", "lay_out"]

_Part = TypeVar("_Part", Sums, UnitSums, Histogram, Hardest, Reliability)


@dataclass(frozen=True)
class Layout:
    """The groups of a batch.

    Args:
        slices: for each slice the number of the finer slice whose groups are grouped, or None for rows, and the
            grouping.
    """

    slices: tuple[tuple[int | None, Grouping], ...]

    @property
    def direct(self) -> list[int]:
        """The slices whose rows are grouped."""
        return [number for number, (finer, _) in enumerate(self.slices) if finer is None]

    @cached_property
    def stack(self) -> Stack:
        """The groups of these slices."""
        groupings = [self.slices[number][1] for number in self.direct]
        return Stack.of([one.groups for one in groupings], [len(one.keys) for one in groupings])

    def by_slice(self, direct: Callable[[int], _Part]) -> list[_Part]:
        """Return something for every slice: directly from rows, or rolled up from a finer slice."""
        return self.rolled_up([direct(number) for number in self.direct])

    def rolled_up(self, direct: Sequence[_Part]) -> list[_Part]:
        """Return for every slice what is given for those whose rows are grouped."""
        found = dict(zip(self.direct, direct, strict=True))
        # Finer slices first: a slice may be rolled up from one that is itself rolled up.
        for number in sorted(range(len(self.slices)), key=lambda n: -self.slices[n][1].members.shape[1]):
            finer, grouping = self.slices[number]
            if finer is not None:
                kind = type(found[finer])
                found[number] = kind.gathered([(found[finer], grouping.groups)], len(grouping.keys))
        return [found[number] for number in range(len(self.slices))]

    def groups_of_rows(self, number: int) -> npt.NDArray[np.int64]:
        """The group of each row, also of a slice that was grouped from a finer one."""
        finer, grouping = self.slices[number]
        return grouping.groups if finer is None else grouping.groups[self.groups_of_rows(finer)]


def _categories(axis: Axis, column: pa.ChunkedArray) -> Categories:
    if axis.bins is None:
        return categories(column)
    values, problems = scalars(column)
    return axis.cut(values, problems != 0)


def lay_out(pairing: Pairing, tables: Tables, rows: int) -> Layout:
    """Group the rows of a batch by every slice.

    Args:
        pairing: what the slices are, and which groups a pass of a search is about.
        tables: the batch.
        rows: of it.
    """
    columns = {axis: _categories(axis, tables[source.side][source.column]) for axis, source in pairing.axes.items()}
    if pairing.subset is not None:
        return _lay_out_some(pairing, pairing.subset, columns, tables, rows)
    return _lay_out_all(pairing.slices, columns, rows)


def _lay_out_all(slices: Sequence[Slice], columns: Mapping[Axis, Categories], rows: int) -> Layout:
    """Group by every slice; a slice with a finer one is grouped from that one's groups, which are fewer."""
    layout: dict[int, tuple[int | None, Grouping]] = {}
    for number in sorted(range(len(slices)), key=lambda n: -len(slices[n].axes)):
        mine = set(slices[number].axes)
        finer = [other for other in layout if mine < set(slices[other].axes)]
        best = min(finer, key=lambda other: len(layout[other][1].keys), default=None)
        if best is None or 2 * len(layout[best][1].keys) > rows:
            layout[number] = None, group_rows(slices[number], columns, rows)
        else:
            layout[number] = best, roll_up(slices[number], columns, slices[best], layout[best][1])
    return Layout(tuple(layout[number] for number in range(len(slices))))


def _lay_out_some(
    pairing: Pairing, subset: Subset, columns: Mapping[Axis, Categories], tables: Tables, rows: int
) -> Layout:
    """Group the rows that a pass of a search is about by every slice."""
    outside = None if subset.half is None else _half_of_rows(pairing, tables) != subset.half
    return Layout(
        tuple(
            (None, group_some(chosen, columns, rows, kept, outside))
            for chosen, kept in zip(pairing.slices, subset.groups, strict=True)
        )
    )


def _half_of_rows(pairing: Pairing, tables: Tables) -> npt.NDArray[np.int64]:
    """In which half each row is, 0 or 1: by its unit, else by its key, else by where it lies."""
    predictions = tables["predictions"]
    if pairing.unit is not None:
        hashes = unit_hashes(pairing.unit, tables)
    elif pairing.key:
        hashes = read_keys([predictions[name] for name in pairing.key]).hashes()
    else:
        place = predictions[PLACE].to_numpy()
        rows = (place & ((1 << 40) - 1)).astype(np.uint64)
        hashes = Keys(pairing.shard_ids[place >> 40], rows, np.zeros(len(place), dtype=np.bool_)).hashes()
    return (hashes >> np.uint64(40)).astype(np.int64) & 1
