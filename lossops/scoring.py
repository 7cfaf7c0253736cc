"""Aligned rows to sums: compute every loss of a batch, add the values to every group."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from lossops.bins import BinTable
from lossops.data.keys import is_ordered, key_ranks, key_values
from lossops.decoding import (
    Decoded,
    Tables,
    denominators_of,
    divisors_of,
    label_numbers,
    prediction_numbers,
    unit_hashes,
    weights_of,
)
from lossops.hardest import Hardest, Places
from lossops.histograms import Histogram
from lossops.layout import Layout, lay_out
from lossops.losses import BoundLoss, Fitting
from lossops.measures import BoundMeasure
from lossops.pairing import PLACE, Pairing
from lossops.reliability import Reliability
from lossops.stages import Stopwatch
from lossops.state import Cell, GroupTable, State, count_reasons
from lossops.sums import Sums
from lossops.tasks import Comparison, Task
from lossops.units import Units, UnitSums

__all__ = ["score_batch"]


def score_batch(pairing: Pairing, tables: Tables, watch: Stopwatch) -> State:
    """Score the aligned rows of a batch.

    Args:
        pairing: what is computed from which columns.
        tables: for each side the needed columns; row i of one belongs to row i of the other.
        watch: counts the time of each stage.
    """
    rows = tables["predictions"].num_rows
    with watch.during("groups"):
        layout = lay_out(pairing, tables, rows)
    with watch.during("accumulate"):
        return _score_rows(pairing, tables, layout, rows, watch)


def _score_rows(pairing: Pairing, tables: Tables, layout: Layout, rows: int, watch: Stopwatch) -> State:
    weights, reasons = weights_of(pairing.weight, tables, rows)
    by_unit = _ByUnit.of_rows(pairing, tables, layout)
    decoded: Decoded = {}
    fitting = Fitting()
    direct: dict[Cell, list[Sums]] = {}
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
            measures[task.cell] = _tables(task, task.loss, tables, decoded, fitting, layout, weights, own)
            counts[task.cell] = count_reasons(own)
            continue
        with watch.during("losses"):
            values, clipped = _losses(task, task.loss, tables, decoded, fitting, own)
        losses[task.cell] = _Losses(values, own)
        if pairing.baseline is not None:  # only pairs of losses count here, each by itself counts elsewhere
            continue
        denominators = denominators_of(task, label_numbers(task, tables, decoded)[0], weights, own)
        direct[task.cell] = Sums.of_rows(values, weights, own, clipped, layout.rows, denominators)
        sums[task.cell] = layout.rolled_up(direct[task.cell])
        if pairing.has_histograms:
            histograms[task.cell] = _histograms(layout, losses[task.cell])
        if places is not None:
            numbers = [side(task, tables, decoded)[0] for side in (label_numbers, prediction_numbers)]
            hardest[task.cell] = _hardest(pairing.hardest, layout, losses[task.cell], places, numbers)
        if pairing.calibration_bins and task.has_probability:
            numbers = [side(task, tables, decoded)[0] for side in (label_numbers, prediction_numbers)]
            reliability[task.cell] = _reliability(pairing.calibration_bins, layout, numbers, weights, own, by_unit)
        if by_unit is not None:
            divisors = divisors_of(denominators, weights, own)
            units[task.cell] = by_unit.sums(values[np.newaxis], weights, divisors, own)
        counts[task.cell] = count_reasons(own)
    for one in pairing.comparisons:
        pairs = _pairs(one, losses)
        denominators = denominators_of(one.task, label_numbers(one.task, tables, decoded)[0], weights, pairs.reasons)
        divisors = divisors_of(denominators, weights, pairs.reasons)
        sums[one.cell] = _accumulate_pairs(layout, one, pairs, losses, direct, weights, divisors)
        if by_unit is not None:
            units[one.cell] = by_unit.sums(pairs.values, weights, divisors, pairs.reasons)
    return State(
        tuple(
            GroupTable(
                grouping.keys.compact(),
                {cell: found[number] for cell, found in sums.items()},
                {cell: added[number] for cell, added in units.items()},
                {cell: counted[number] for cell, counted in histograms.items()},
                {cell: chosen[number] for cell, chosen in hardest.items()},
                {cell: binned[number] for cell, binned in reliability.items()},
            )
            for number, grouping in enumerate(layout.groupings)
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


@dataclass(frozen=True)
class _ByUnit:
    """The rows of a batch by independent unit.

    Args:
        layout: the groups of every slice.
        units: that occur.
        places: int64 [rows], the place of each row's unit among them.
        entries: for each slice that is not rolled up what `lossops.units.UnitSums.entries` gives.
    """

    layout: Layout
    units: Units
    places: npt.NDArray[np.int64]
    entries: Mapping[int, tuple[npt.NDArray[np.int64], npt.NDArray[np.int64], npt.NDArray[np.int64]]]

    @classmethod
    def of_rows(cls, pairing: Pairing, tables: Tables, layout: Layout) -> _ByUnit | None:
        """Group the rows of a batch by unit; None where the run has no units."""
        if pairing.unit is None or (pairing.subset is not None and not pairing.subset.by_unit):
            return None
        hashes = unit_hashes(pairing.unit, tables)
        units, places = Units.of_rows(hashes, pairing.unit_buckets)
        entries = {
            number: UnitSums.entries(grouping.groups, places, len(units.known))
            for number, (finer, grouping) in enumerate(layout.slices)
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
        return self.layout.by_slice(
            lambda number: UnitSums.of_rows(self.entries[number], self.units, values, weights, divisors, reasons),
        )


def _losses(
    task: Task, loss: BoundLoss, tables: Tables, decoded: Decoded, fitting: Fitting, reasons: npt.NDArray[np.uint8]
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.uint8]]:
    labels, label_problems = label_numbers(task, tables, decoded)
    predictions, prediction_problems = prediction_numbers(task, tables, decoded)
    loss.check(labels, label_problems, predictions, prediction_problems, reasons, fitting)
    losses = loss.values(labels, predictions, reasons)
    return losses, loss.clipped(labels, predictions, reasons)


def _tables(
    task: Task,
    measure: BoundMeasure,
    tables: Tables,
    decoded: Decoded,
    fitting: Fitting,
    layout: Layout,
    weights: npt.NDArray[np.float64] | None,
    reasons: npt.NDArray[np.uint8],
) -> tuple[BinTable, ...]:
    """Return the bins of a measure for every slice."""
    labels, label_problems = label_numbers(task, tables, decoded)
    predictions, prediction_problems = prediction_numbers(task, tables, decoded)
    measure.check(labels, label_problems, predictions, prediction_problems, reasons, fitting)
    records = measure.records(labels, predictions, weights, reasons)
    clipped = measure.clipped(labels, predictions, reasons)
    return tuple(
        BinTable.of_records(records, grouping.keys, layout.groups_of_rows(number), reasons, clipped)
        for number, grouping in enumerate(layout.groupings)
    )


def _accumulate_pairs(
    layout: Layout,
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

    if alike:
        ones, twos = (sums[cell] for cell in cells)
        known = Sums.of_pairs(ones, twos, mine, theirs, weights, pairs.reasons, layout.rows)
        if known is not None:
            return layout.rolled_up(known)

    def direct(number: int) -> Sums:
        grouping = layout.slices[number][1]
        found = Sums.zero_pairs(len(grouping.keys), divided=divisors is not None)
        found.add_pairs(mine, theirs, weights, divisors, pairs.reasons, grouping.groups)
        return found

    return layout.by_slice(direct)


def _histograms(layout: Layout, losses: _Losses) -> list[Histogram]:
    def direct(number: int) -> Histogram:
        grouping = layout.slices[number][1]
        return Histogram.of_rows(losses.values, losses.reasons, grouping.groups, len(grouping.keys))

    return layout.by_slice(direct)


def _places(pairing: Pairing, tables: Tables) -> Places:
    predictions = tables["predictions"]
    place = predictions[PLACE].to_numpy()
    columns = [predictions[name] for name in pairing.key]
    order, rank = place, cache(lambda: key_ranks(columns)) if columns else None
    if is_ordered([column.type for column in columns]):
        order, rank = key_values(columns[0]).astype(np.int64, copy=False), None

    def keys(rows: npt.NDArray[np.int64]) -> tuple[npt.NDArray[np.generic], ...]:
        return tuple(key_values(column.take(pa.array(rows))) for column in columns)

    return Places(keys, pairing.shard_ids[place >> 40], place & ((1 << 40) - 1), order, rank)


def _hardest(
    limit: int, layout: Layout, losses: _Losses, places: Places, numbers: Sequence[npt.NDArray[np.float64]]
) -> list[Hardest]:
    def direct(number: int) -> Hardest:
        groups = layout.slices[number][1].groups
        return Hardest.of_rows(limit, losses.values, losses.reasons, groups, places, numbers[0], numbers[1])

    return layout.by_slice(direct)


def _reliability(
    bins: int,
    layout: Layout,
    numbers: Sequence[npt.NDArray[np.float64]],
    weights: npt.NDArray[np.float64] | None,
    reasons: npt.NDArray[np.uint8],
    by_unit: _ByUnit | None,
) -> list[Reliability]:
    labels, probabilities = (np.ascontiguousarray(values[:, 0]) for values in numbers)
    units = None if by_unit is None else (by_unit.units, by_unit.places)

    def direct(number: int) -> Reliability:
        groups = layout.slices[number][1].groups
        return Reliability.of_rows(bins, labels, probabilities, weights, reasons, groups, units)

    return layout.by_slice(direct)
