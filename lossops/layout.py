"""The groups of a batch, for every slice; what is computed of them, directly or rolled up from finer ones."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from itertools import combinations
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
from lossops.sums import Rows, Sums
from lossops.units import UnitSums

__all__ = ["Layout", "crossed", "lay_out"]

_MOST_CROSSED, _ROWS_A_GROUP = 2048, 64  # groups of a cross that only others are rolled up from: they fit the cache
_MOST_SLICES = 64  # that are looked at for it

_Part = TypeVar("_Part", Sums, UnitSums, Histogram, Hardest, Reliability)


@dataclass(frozen=True)
class Layout:
    """The groups of a batch.

    Args:
        slices: for each slice the number of the finer slice whose groups are grouped, or None for rows, and the
            grouping; after those of the run there may be crosses that only others are rolled up from.
        asked: how many are of the run.
    """

    slices: tuple[tuple[int | None, Grouping], ...]
    asked: int

    @property
    def groupings(self) -> list[Grouping]:
        """The groups of each slice of the run."""
        return [grouping for _, grouping in self.slices[: self.asked]]

    @property
    def direct(self) -> list[int]:
        """The slices whose rows are grouped."""
        return [number for number, (finer, _) in enumerate(self.slices) if finer is None]

    @cached_property
    def rows(self) -> tuple[Rows, ...]:
        """The rows by the groups of these slices."""
        groupings = [self.slices[number][1] for number in self.direct]
        return tuple(Rows.of(one.groups, len(one.keys)) for one in groupings)

    def by_slice(self, direct: Callable[[int], _Part]) -> list[_Part]:
        """Return something for every slice of the run: directly from rows, or rolled up from a finer slice."""
        return self.rolled_up([direct(number) for number in self.direct])

    def rolled_up(self, direct: Sequence[_Part]) -> list[_Part]:
        """Return for every slice of the run what is given for those whose rows are grouped."""
        found = dict(zip(self.direct, direct, strict=True))
        # Finer slices first: a slice may be rolled up from one that is itself rolled up.
        for number in sorted(range(len(self.slices)), key=lambda n: -len(self.slices[n][1].keys.axes)):
            finer, grouping = self.slices[number]
            if finer is not None:
                kind = type(found[finer])
                found[number] = kind.gathered([(found[finer], grouping.groups)], len(grouping.keys))
        return [found[number] for number in range(self.asked)]

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
    # A cross has most of its units in groups of their own, so units are not rolled up from one.
    sizes = tuple(len(columns[axis].parts) for axis in pairing.axes)
    crosses = crossed(pairing.slices, tuple(pairing.axes), sizes, rows) if pairing.unit is None else ()
    return _lay_out_all((*pairing.slices, *crosses), columns, rows, len(pairing.slices))


@lru_cache(maxsize=256)
def crossed(slices: tuple[Slice, ...], axes: tuple[Axis, ...], sizes: tuple[int, ...], rows: int) -> tuple[Slice, ...]:
    """Return crosses with few groups, each finer than several slices: rows are then added to fewer groups.

    Args:
        slices: of the run.
        axes: of all slices.
        sizes: groups on each.
        rows: of a batch.
    """
    size_of, most = dict(zip(axes, sizes, strict=True)), min(_MOST_CROSSED, rows // _ROWS_A_GROUP)

    def size(own: frozenset[Axis]) -> int:
        return math.prod(size_of[axis] for axis in own)

    every = list(dict.fromkeys(frozenset(one.axes) for one in slices))
    found = [own for own in every if size(own) <= most and not any(own < other for other in every)][:_MOST_SLICES]
    while unions := [both for one, two in combinations(found, 2) if size(both := one | two) <= most]:
        best = min(unions, key=size)
        found = [*(own for own in found if not own <= best), best]
    return tuple(Slice(tuple(axis for axis in axes if axis in own)) for own in found if own not in every)


def _lay_out_all(slices: Sequence[Slice], columns: Mapping[Axis, Categories], rows: int, asked: int) -> Layout:
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
    return Layout(tuple(layout[number] for number in range(len(slices))), asked)


def _lay_out_some(
    pairing: Pairing, subset: Subset, columns: Mapping[Axis, Categories], tables: Tables, rows: int
) -> Layout:
    """Group the rows that a pass of a search is about by every slice."""
    outside = None if subset.half is None else _half_of_rows(pairing, tables) != subset.half
    return Layout(
        tuple(
            (None, group_some(chosen, columns, rows, kept, outside))
            for chosen, kept in zip(pairing.slices, subset.groups, strict=True)
        ),
        len(pairing.slices),
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
