"""Rows of losses, histograms and calibration."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from lossops.histograms import edges
from lossops.measures import BoundMeasure
from lossops.report import quantile_name
from lossops.results.blocks import filled, summary_columns, table_of
from lossops.results.cells import Results, Row, ordered, place_of
from lossops.runs import Scores
from lossops.statistics import Summary
from lossops.tasks import Task

__all__ = ["calibration_table", "histogram_table", "loss_table"]

BINS_TOGETHER = 8  # of histograms.parquet: 8 bins from one power of two to the next


def loss_table(results: Results, schema: pa.Schema) -> pa.Table:
    """Return losses.parquet; of hidden slices only what they are, and why they are hidden."""
    parts = [schema.empty_table()]
    for task in results.tasks:
        for number in range(len(results.slices)):
            part = _loss_columns(results, task, number, schema)
            if part is None:
                part = pa.Table.from_pylist(list(_loss_rows(results, task, number)), schema=schema)
            parts.append(part)
    return pa.concat_tables(parts).combine_chunks()  # rows are taken from it, which costs more of many chunks


def _loss_columns(results: Results, task: Task, number: int, schema: pa.Schema) -> pa.Table | None:
    """Return the rows of one slice at once; None where that does not go."""
    if isinstance(task.loss, BoundMeasure):
        return None
    cell, (order, places) = results.cell(task.cell), results.places(number)
    found = summary_columns(cell, number, order)
    if found is None:
        return None
    levels = results.plan.config.quantiles
    tails = zip(map(quantile_name, levels), cell.quantile_columns(number, levels), strict=False)
    numbers = {**found, **{name: pa.array(values[order], from_pandas=True) for name, values in tails}}
    head = {"model": task.model, "loss": task.name, "kind": "loss"}
    named = dict(zip(places.column_names, places.columns, strict=True))
    why = results.why_hidden(task.cell, number).take(pa.array(order))
    if why.null_count < len(why):
        numbers = {name: pc.if_else(pc.is_null(why), values, None) for name, values in numbers.items()}
    return table_of(schema, len(order), {**head, **named, **numbers, "hidden": why})


def _loss_rows(results: Results, task: Task, number: int) -> Iterator[Row]:
    levels, chosen = results.plan.config.quantiles, results.slices[number]
    cell, hidden = results.cell(task.cell), results.hidden(task.cell)
    measured = isinstance(task.loss, BoundMeasure)
    found = _measured(task, results.scores, number) if measured else cell.summaries(number)
    tails = cell.quantiles(number, levels)
    for key in ordered(cell.table(number).keys, chosen):
        kind = "measure" if measured else "loss"
        place = {**place_of(task.model, task.name, chosen, key), "kind": kind}
        if (number, key) in hidden:
            yield {**place, "hidden": hidden[number, key]}
            continue
        row = {**place, **vars(found.get(key, Summary(0, 0, 0, 0.0)))}
        yield {**row, **dict(zip(map(quantile_name, levels), tails.get(key, ()), strict=False))}


def calibration_table(results: Results, schema: pa.Schema) -> pa.Table:
    """Return calibration.parquet: all rows of a slice, then its bins."""
    parts = [schema.empty_table()]
    for task in results.tasks:
        for number in range(len(results.slices)):
            part = _calibration_columns(results, task, number, schema)
            if part is None:
                part = pa.Table.from_pylist(list(_calibration_rows(results, task, number)), schema=schema)
            parts.append(part)
    return pa.concat_tables(parts)


def _calibration_columns(results: Results, task: Task, number: int, schema: pa.Schema) -> pa.Table | None:
    """Return the rows of one slice at once; None where that does not go."""
    found = results.cell(task.cell).calibrations_at_once(number)
    numbers = None if found is None else found.numbers()
    if found is None or numbers is None:
        return None
    in_order, places = results.places(number)
    rank = np.empty(len(in_order), dtype=np.int64)
    rank[in_order] = np.arange(len(in_order))
    ranks, shown = rank[found.groups], results.shown(task.cell, number)[found.groups]
    order = np.lexsort((found.bins, ranks))
    order = order[(found.there & shown)[order]]
    columns, _ = filled(*numbers, found.exact, order)
    bins, count = found.bins[order], results.plan.config.calibration
    ends = np.where(bins < 0, 0.0, bins / count), np.where(bins < 0, 1.0, (bins + 1) / count)
    named = places.take(pa.array(ranks[order]))
    head = {"model": task.model, "loss": task.name, "low": pa.array(ends[0]), "high": pa.array(ends[1])}
    return table_of(
        schema, len(order), {**head, **dict(zip(named.column_names, named.columns, strict=True)), **columns}
    )


def _calibration_rows(results: Results, task: Task, number: int) -> Iterator[Row]:
    bins, chosen = results.plan.config.calibration, results.slices[number]
    cell, hidden = results.cell(task.cell), results.hidden(task.cell)
    for key, found in sorted(cell.calibrations(number).items()):
        place = place_of(task.model, task.name, chosen, key)
        for one in found if (number, key) not in hidden else ():
            low, high = (0.0, 1.0) if one.bin is None else (one.bin / bins, (one.bin + 1) / bins)
            yield {**place, "low": low, "high": high, **vars(one)}


def histogram_table(results: Results, schema: pa.Schema) -> pa.Table:
    """Return histograms.parquet: a row per model, loss, slice and bin."""
    parts = [schema.empty_table()]
    for task in results.tasks:
        parts += [_bins(results, task, number, schema) for number in range(len(results.slices))]
    return pa.concat_tables(parts)


def _bins(results: Results, task: Task, number: int, schema: pa.Schema) -> pa.Table:
    table = results.cell(task.cell).table(number)
    if task.cell not in table.histograms:
        return schema.empty_table()
    counted = table.histograms[task.cell]
    in_order, places = results.places(number)
    sizes = np.where(results.shown(task.cell, number), np.diff(counted.starts), 0)[in_order]
    own = np.arange(sizes.sum()) + np.repeat(counted.starts[in_order] - np.cumsum(sizes) + sizes, sizes)
    ranks, codes = np.repeat(np.arange(len(sizes)), sizes), counted.codes[own].astype(np.int64)
    numbers, low, high = edges(codes, BINS_TOGETHER)  # which increase within a group as codes do
    starts = np.flatnonzero(
        np.concatenate([[True], (np.diff(ranks) != 0) | (np.diff(numbers) != 0)]) if len(own) else np.empty(0)
    )
    rows = np.add.reduceat(counted.counts[own], starts) if len(starts) else np.empty(0, dtype=np.int64)
    named = places.take(pa.array(ranks[starts]))
    bins = {"low": low[starts], "high": high[starts], "rows": rows}
    columns = {"model": task.model, "loss": task.name, **dict(zip(named.column_names, named.columns, strict=True))}
    return table_of(schema, len(starts), {**columns, **{name: pa.array(values) for name, values in bins.items()}})


def _measured(task: Task, scores: Scores, number: int) -> dict[Any, Summary]:
    """The value of a measure stands where the mean of a loss does; sums and intervals belong to means only."""
    if not isinstance(task.loss, BoundMeasure) or task.cell not in scores.state.measures:
        return {}
    table = scores.state.measures[task.cell][number]
    return {
        key: Summary(one.rows, one.rows_valid, one.rows_clipped, one.weight_sum, mean=one.value)
        for key, one in zip(table.keys, task.loss.results(table), strict=True)
    }
