"""Aligned rows to sums: decode the columns of a batch, compute every loss, add the values to every group."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import TypeVar

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from lossops.bins import BinTable
from lossops.data.columns import Numbers, categories, class_numbers, numbers, scalars
from lossops.data.keys import Keys, is_ordered, key_ranks, key_values, read_keys
from lossops.hardest import Hardest, Places
from lossops.histograms import Histogram
from lossops.kernels.checks import Reason, check_weights
from lossops.losses import BoundLoss
from lossops.measures import BoundMeasure
from lossops.pairing import PLACE, Pairing
from lossops.reliability import Reliability
from lossops.slices import Axis, Categories, Grouping, group_rows, group_some, roll_up
from lossops.state import Cell, GroupTable, State, count_reasons
from lossops.sums import Sums
from lossops.tasks import Comparison, Source, Task
from lossops.units import Units, UnitSums

__all__ = ["Tables", "score_batch"]

Tables = Mapping[str, pa.Table]  # side -> columns of the aligned rows of a batch
_Decoded = dict[tuple[object, ...], Numbers]  # columns of a batch as numbers, by what they are decoded from and for


def score_batch(pairing: Pairing, tables: Tables) -> State:
    """Score the aligned rows of a batch.

    Args:
        pairing: what is computed from which columns.
        tables: for each side the needed columns; row i of one belongs to row i of the other.
    """
    rows = tables["predictions"].num_rows
    columns = {axis: _categories(axis, tables[source.side][source.column]) for axis, source in pairing.axes.items()}
    layout = _layout(pairing, columns, rows) if pairing.subset is None else _some(pairing, columns, tables, rows)
    weights, reasons = _weights(pairing.weight, tables, rows)
    by_unit = _ByUnit.of_rows(pairing, tables, layout)
    decoded: _Decoded = {}
    sums: dict[Cell, list[Sums]] = {}
    units: dict[Cell, list[UnitSums]] = {}
    histograms: dict[Cell, list[Histogram]] = {}
    hardest: dict[Cell, list[Hardest]] = {}
    reliability: dict[Cell, list[Reliability]] = {}
    places = _places(pairing, tables) if pairing.hardest else None
    losses: dict[Cell, _Losses] = {}
    counts: dict[Cell, npt.NDArray[np.int64]] = {}
    measures: dict[Cell, tuple[BinTable, ...]] = {}
    for task in pairing.tasks:
        own = reasons.copy()
        if isinstance(task.loss, BoundMeasure):
            measures[task.cell] = _tables(task, task.loss, tables, decoded, layout, weights, own)
            counts[task.cell] = count_reasons(own)
            continue
        values, clipped = _losses(task, task.loss, tables, decoded, own)
        losses[task.cell] = _Losses(values, own)
        if pairing.baseline is not None:  # only pairs of losses count here, each by itself counts elsewhere
            continue
        denominators = _denominators(task, _label_numbers(task, tables, decoded)[0], weights, own)
        sums[task.cell] = _accumulate(layout, values, weights, own, clipped, denominators)
        if pairing.has_histograms:
            histograms[task.cell] = _histograms(layout, losses[task.cell])
        if places is not None:
            numbers = [side(task, tables, decoded)[0] for side in (_label_numbers, _prediction_numbers)]
            hardest[task.cell] = _hardest(pairing.hardest, layout, losses[task.cell], places, numbers)
        if pairing.calibration_bins and task.has_probability:
            numbers = [side(task, tables, decoded)[0] for side in (_label_numbers, _prediction_numbers)]
            reliability[task.cell] = _reliability(pairing.calibration_bins, layout, numbers, weights, own, by_unit)
        if by_unit is not None:
            divisors = _divisors(denominators, weights, own)
            units[task.cell] = by_unit.sums(values[np.newaxis], weights, divisors, own)
        counts[task.cell] = count_reasons(own)
    for one in pairing.comparisons:
        pairs = _pairs(one, losses)
        denominators = _denominators(one.task, _label_numbers(one.task, tables, decoded)[0], weights, pairs.reasons)
        divisors = _divisors(denominators, weights, pairs.reasons)
        sums[one.cell] = _accumulate_pairs(layout, one, pairs, losses, sums, weights, divisors)
        if by_unit is not None:
            units[one.cell] = by_unit.sums(pairs.values, weights, divisors, pairs.reasons)
    return State(
        tuple(
            GroupTable(
                grouping.keys,
                {cell: found[number] for cell, found in sums.items()},
                {cell: by_slice[number] for cell, by_slice in units.items()},
                {cell: counted[number] for cell, counted in histograms.items()},
                {cell: chosen[number] for cell, chosen in hardest.items()},
                {cell: binned[number] for cell, binned in reliability.items()},
            )
            for number, (_, grouping) in enumerate(layout)
        ),
        counts,
        measures,
        None if by_unit is None else by_unit.units,
    )


@dataclass(frozen=True)
class _Losses:
    """The losses of a batch, float64 [rows], or [values, rows] of pairs, and why rows have none, uint8 [rows]."""

    values: npt.NDArray[np.float64]
    reasons: npt.NDArray[np.uint8]


def _pairs(one: Comparison, losses: Mapping[Cell, _Losses]) -> _Losses:
    """Return the differences and the losses of the baseline, where both models are scored."""
    mine, theirs = losses[one.task.cell], losses[one.baseline.cell]
    with np.errstate(invalid="ignore", over="ignore"):  # rows that are not scored may hold anything
        differences = mine.values - theirs.values
    return _Losses(np.stack([differences, theirs.values]), np.maximum(mine.reasons, theirs.reasons))


_Layout = list[tuple[int | None, Grouping]]
_Part = TypeVar("_Part", Sums, UnitSums, Histogram, Hardest, Reliability)


@dataclass(frozen=True)
class _ByUnit:
    """The rows of a batch by independent unit.

    Args:
        layout: the groups of every slice.
        units: that occur.
        places: int64 [rows], the place of each row's unit among them.
        entries: for each slice that is not rolled up what `lossops.units.UnitSums.entries` gives.
    """

    layout: _Layout
    units: Units
    places: npt.NDArray[np.int64]
    entries: Mapping[int, tuple[npt.NDArray[np.int64], npt.NDArray[np.int64], npt.NDArray[np.int64]]]

    @classmethod
    def of_rows(cls, pairing: Pairing, tables: Tables, layout: _Layout) -> _ByUnit | None:
        """Group the rows of a batch by unit; None where the run has no units."""
        if pairing.unit is None or (pairing.subset is not None and not pairing.subset.by_unit):
            return None
        hashes = _unit_hashes(pairing.unit, tables)
        units, places = Units.of_rows(hashes, pairing.unit_buckets)
        entries = {
            number: UnitSums.entries(grouping.groups, places, len(units.known))
            for number, (finer, grouping) in enumerate(layout)
            if finer is None
        }
        return cls(layout, units, places, entries)

    def sums(
        self,
        values: npt.NDArray[np.float64],
        weights: npt.NDArray[np.float64] | None,
        divisors: npt.NDArray[np.float64] | None,
        reasons: npt.NDArray[np.uint8],
    ) -> list[UnitSums]:
        """Return the sums of each unit for every slice; the arguments of `lossops.units.UnitSums.of_rows`."""
        return _by_slice(
            self.layout,
            lambda number: UnitSums.of_rows(self.entries[number], self.units, values, weights, divisors, reasons),
        )


def _unit_hashes(unit: Source, tables: Tables) -> npt.NDArray[np.uint64]:
    keys = read_keys([tables[unit.side][unit.column]])
    return np.where(keys.null, np.uint64(0), keys.hashes())  # all rows without a unit are one


def _by_slice(layout: _Layout, direct: Callable[[int], _Part]) -> list[_Part]:
    """Return something for every slice: directly from rows, or rolled up from a finer slice."""
    found = {number: direct(number) for number, (finer, _) in enumerate(layout) if finer is None}
    # Finer slices first: a slice may be rolled up from one that is itself rolled up.
    for number in sorted(range(len(layout)), key=lambda n: -layout[n][1].members.shape[1]):
        finer, grouping = layout[number]
        if finer is not None:
            kind = type(found[finer])
            found[number] = kind.gathered([(found[finer], grouping.groups)], len(grouping.keys))
    return [found[number] for number in range(len(layout))]


def _categories(axis: Axis, column: pa.ChunkedArray) -> Categories:
    if axis.bins is None:
        return categories(column)
    values, problems = scalars(column)
    return axis.cut(values, problems != 0)


def _layout(pairing: Pairing, columns: Mapping[Axis, Categories], rows: int) -> _Layout:
    """Group the rows by every slice; a slice with a finer one is grouped from that one's groups, which are fewer.

    Returns:
        For each slice the number of the finer slice, or None, and the grouping.
    """
    slices = pairing.slices
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


def _some(pairing: Pairing, columns: Mapping[Axis, Categories], tables: Tables, rows: int) -> _Layout:
    """Group the rows that a pass of a search is about by every slice."""
    subset = pairing.subset
    assert subset is not None  # noqa: S101 - for the type checker
    outside = None if subset.half is None else _half_of_rows(pairing, tables) != subset.half
    return [
        (None, group_some(chosen, columns, rows, kept, outside))
        for chosen, kept in zip(pairing.slices, subset.groups, strict=True)
    ]


def _half_of_rows(pairing: Pairing, tables: Tables) -> npt.NDArray[np.int64]:
    """In which half each row is, 0 or 1: by its unit, else by its key, else by where it lies."""
    predictions = tables["predictions"]
    if pairing.unit is not None:
        hashes = _unit_hashes(pairing.unit, tables)
    elif pairing.key:
        hashes = read_keys([predictions[name] for name in pairing.key]).hashes()
    else:
        place = predictions[PLACE].to_numpy()
        rows = (place & ((1 << 40) - 1)).astype(np.uint64)
        hashes = Keys(pairing.shard_ids[place >> 40], rows, np.zeros(len(place), dtype=np.bool_)).hashes()
    return (hashes >> np.uint64(40)).astype(np.int64) & 1


def _weights(
    source: Source | None, tables: Tables, rows: int
) -> tuple[npt.NDArray[np.float64] | None, npt.NDArray[np.uint8]]:
    reasons = np.zeros(rows, dtype=np.uint8)
    if source is None:
        return None, reasons
    weights, problems = scalars(tables[source.side][source.column])
    check_weights(weights, problems, reasons)
    return weights, reasons


def _losses(
    task: Task, loss: BoundLoss, tables: Tables, decoded: _Decoded, reasons: npt.NDArray[np.uint8]
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.uint8]]:
    labels, label_problems = _label_numbers(task, tables, decoded)
    predictions, prediction_problems = _prediction_numbers(task, tables, decoded)
    loss.check(labels, label_problems, predictions, prediction_problems, reasons)
    losses = loss.values(labels, predictions, reasons)
    return losses, loss.clipped(labels, predictions, reasons)


def _tables(
    task: Task,
    measure: BoundMeasure,
    tables: Tables,
    decoded: _Decoded,
    layout: _Layout,
    weights: npt.NDArray[np.float64] | None,
    reasons: npt.NDArray[np.uint8],
) -> tuple[BinTable, ...]:
    """Return the bins of a measure for every slice."""
    labels, label_problems = _label_numbers(task, tables, decoded)
    predictions, prediction_problems = _prediction_numbers(task, tables, decoded)
    measure.check(labels, label_problems, predictions, prediction_problems, reasons)
    records = measure.records(labels, predictions, weights, reasons)
    clipped = measure.clipped(labels, predictions, reasons)
    return tuple(
        BinTable.of_records(records, grouping.keys, _groups_of_rows(layout, number), reasons, clipped)
        for number, (_, grouping) in enumerate(layout)
    )


def _groups_of_rows(layout: _Layout, number: int) -> npt.NDArray[np.int64]:
    """The group of each row, also of a slice that was grouped from a finer one."""
    finer, grouping = layout[number]
    return grouping.groups if finer is None else grouping.groups[_groups_of_rows(layout, finer)]


def _label_numbers(task: Task, tables: Tables, decoded: _Decoded) -> Numbers:
    """Return the labels of a task as [rows, width] and problems [rows]; decoded once for all that want them so."""
    values = task.class_values
    key = ("labels", task.labels, task.classes, values)
    if key not in decoded:
        rows = tables["labels"].num_rows
        columns = [tables["labels"][name] for name in task.labels]
        if not columns:
            decoded[key] = np.zeros((rows, 0)), np.zeros(rows, dtype=np.uint8)
        elif task.classes:
            decoded[key] = class_numbers(columns, task.label_width, task.classes, values)
        else:
            decoded[key] = numbers(columns, task.label_width)
    return decoded[key]


def _prediction_numbers(task: Task, tables: Tables, decoded: _Decoded) -> Numbers:
    key = (task.side, task.predictions, task.fields)
    if key not in decoded:
        columns = [tables[task.side][name] for name in task.predictions]
        decoded[key] = numbers(columns, task.prediction_width, task.fields)
    return decoded[key]


def _denominators(
    task: Task,
    labels: npt.NDArray[np.float64],
    weights: npt.NDArray[np.float64] | None,
    reasons: npt.NDArray[np.uint8],
) -> npt.NDArray[np.float64] | None:
    """Return what each row adds to the denominator of the mean, [rows]; None where that is its weight."""
    if task.denominator == "weights":
        return None
    scored = reasons == Reason.SCORED
    if task.denominator == "class_weights":
        factors = np.array(dict(task.loss.parameters)["class_weight"], dtype=np.float64)
        found = np.zeros(len(reasons))
        found[scored] = factors[labels[scored, 0].astype(np.int64)]
        return found if weights is None else np.asarray(np.where(scored, found * weights, 0.0))
    counted = scored | (reasons == Reason.WEIGHT_ZERO)
    ignored = dict(task.loss.parameters).get("ignore_class")
    if task.denominator == "all_rows":
        counted |= reasons == Reason.LABEL_IGNORED
    elif ignored is not None:  # a row of weight 0 has not been asked for its label
        counted &= labels[:, 0] != ignored
    return np.asarray(counted, dtype=np.float64)


def _divisors(
    denominators: npt.NDArray[np.float64] | None,
    weights: npt.NDArray[np.float64] | None,
    reasons: npt.NDArray[np.uint8],
) -> npt.NDArray[np.float64] | None:
    """Return what each row adds to the denominator, where that is not 1; a row that is not scored adds no weight."""
    if denominators is not None or weights is None:
        return denominators
    return np.asarray(np.where(reasons == Reason.SCORED, weights, 0.0))


def _accumulate(
    layout: _Layout,
    losses: npt.NDArray[np.float64],
    weights: npt.NDArray[np.float64] | None,
    reasons: npt.NDArray[np.uint8],
    clipped: npt.NDArray[np.uint8],
    denominators: npt.NDArray[np.float64] | None,
) -> list[Sums]:
    def direct(number: int) -> Sums:
        grouping = layout[number][1]
        divided = denominators is not None
        found = Sums.zero(len(grouping.keys), weighted=weights is not None, divided=divided)
        found.add_rows(losses, weights, reasons, clipped, grouping.groups, denominators)
        return found

    return _by_slice(layout, direct)


def _accumulate_pairs(
    layout: _Layout,
    one: Comparison,
    pairs: _Losses,
    losses: Mapping[Cell, _Losses],
    sums: Mapping[Cell, Sequence[Sums]],
    weights: npt.NDArray[np.float64] | None,
    divisors: npt.NDArray[np.float64] | None,
) -> list[Sums]:
    cells = one.task.cell, one.baseline.cell
    mine, theirs = (losses[cell].values for cell in cells)
    alike = all(cell in sums and np.array_equal(losses[cell].reasons, pairs.reasons) for cell in cells)

    def direct(number: int) -> Sums:
        grouping = layout[number][1]
        if alike:
            first, second = (sums[cell][number] for cell in cells)
            known = Sums.of_pairs(first, second, mine, theirs, weights, pairs.reasons, grouping.groups)
            if known is not None:
                return known
        found = Sums.zero_pairs(len(grouping.keys), divided=divisors is not None)
        found.add_pairs(mine, theirs, weights, divisors, pairs.reasons, grouping.groups)
        return found

    return _by_slice(layout, direct)


def _histograms(layout: _Layout, losses: _Losses) -> list[Histogram]:
    def direct(number: int) -> Histogram:
        grouping = layout[number][1]
        return Histogram.of_rows(losses.values, losses.reasons, grouping.groups, len(grouping.keys))

    return _by_slice(layout, direct)


def _places(pairing: Pairing, tables: Tables) -> Places:
    predictions = tables["predictions"]
    place = predictions[PLACE].to_numpy()
    columns = [predictions[name] for name in pairing.key]
    keys = tuple(key_values(column) for column in columns)
    order, rank = place, cache(lambda: key_ranks(columns)) if columns else None
    if is_ordered([column.type for column in columns]):
        order, rank = keys[0].astype(np.int64), None
    return Places(keys, pairing.shard_ids[place >> 40], place & ((1 << 40) - 1), order, rank)


def _hardest(
    limit: int, layout: _Layout, losses: _Losses, places: Places, numbers: Sequence[npt.NDArray[np.float64]]
) -> list[Hardest]:
    def direct(number: int) -> Hardest:
        groups = layout[number][1].groups
        return Hardest.of_rows(limit, losses.values, losses.reasons, groups, places, numbers[0], numbers[1])

    return _by_slice(layout, direct)


def _reliability(
    bins: int,
    layout: _Layout,
    numbers: Sequence[npt.NDArray[np.float64]],
    weights: npt.NDArray[np.float64] | None,
    reasons: npt.NDArray[np.uint8],
    by_unit: _ByUnit | None,
) -> list[Reliability]:
    labels, probabilities = (np.ascontiguousarray(values[:, 0]) for values in numbers)
    units = None if by_unit is None else (by_unit.units, by_unit.places)

    def direct(number: int) -> Reliability:
        groups = layout[number][1].groups
        return Reliability.of_rows(bins, labels, probabilities, weights, reasons, groups, units)

    return _by_slice(layout, direct)
