"""The groups of a batch, for every slice; what is computed of them, directly or rolled up from finer ones."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
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
from lossops.sums import Sums
from lossops.units import UnitSums

__all__ = ["Layout", "by_slice", "groups_of_rows", "lay_out"]

Layout = list[tuple[int | None, Grouping]]
_Part = TypeVar("_Part", Sums, UnitSums, Histogram, Hardest, Reliability)


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

    Returns:
        For each slice the number of the finer slice whose groups are grouped, or None for rows, and the grouping.
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
    return [layout[number] for number in range(len(slices))]


def _lay_out_some(
    pairing: Pairing, subset: Subset, columns: Mapping[Axis, Categories], tables: Tables, rows: int
) -> Layout:
    """Group the rows that a pass of a search is about by every slice."""
    outside = None if subset.half is None else _half_of_rows(pairing, tables) != subset.half
    return [
        (None, group_some(chosen, columns, rows, kept, outside))
        for chosen, kept in zip(pairing.slices, subset.groups, strict=True)
    ]


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


def by_slice(layout: Layout, direct: Callable[[int], _Part]) -> list[_Part]:
    """Return something for every slice: directly from rows, or rolled up from a finer slice."""
    found = {number: direct(number) for number, (finer, _) in enumerate(layout) if finer is None}
    # Finer slices first: a slice may be rolled up from one that is itself rolled up.
    for number in sorted(range(len(layout)), key=lambda n: -layout[n][1].members.shape[1]):
        finer, grouping = layout[number]
        if finer is not None:
            kind = type(found[finer])
            found[number] = kind.gathered([(found[finer], grouping.groups)], len(grouping.keys))
    return [found[number] for number in range(len(layout))]


def groups_of_rows(layout: Layout, number: int) -> npt.NDArray[np.int64]:
    """The group of each row, also of a slice that was grouped from a finer one."""
    finer, grouping = layout[number]
    return grouping.groups if finer is None else grouping.groups[groups_of_rows(layout, finer)]
