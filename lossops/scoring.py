"""Aligned rows to sums: decode the columns of a batch, compute every loss, add the values to every group."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from lossops.bins import BinTable
from lossops.data.columns import Numbers, categories, class_numbers, numbers, scalars
from lossops.kernels.checks import Reason, check_weights
from lossops.losses import BoundLoss
from lossops.measures import BoundMeasure
from lossops.plan import Pairing
from lossops.slices import Axis, Categories, Grouping, group_rows, roll_up
from lossops.state import Cell, GroupTable, State, Sums, count_reasons
from lossops.tasks import Source, Task

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
    layout = _layout(pairing, columns, rows)
    weights, reasons = _weights(pairing.weight, tables, rows)
    decoded: _Decoded = {}
    sums: dict[Cell, list[Sums]] = {}
    counts: dict[Cell, npt.NDArray[np.int64]] = {}
    measures: dict[Cell, tuple[BinTable, ...]] = {}
    for task in pairing.tasks:
        own = reasons.copy()
        if isinstance(task.loss, BoundMeasure):
            measures[task.cell] = _tables(task, task.loss, tables, decoded, layout, weights, own)
            counts[task.cell] = count_reasons(own)
            continue
        losses, clipped = _losses(task, task.loss, tables, decoded, own)
        denominators = _denominators(task, _label_numbers(task, tables, decoded)[0], weights, own)
        sums[task.cell] = _accumulate(layout, losses, weights, own, clipped, denominators)
        counts[task.cell] = count_reasons(own)
    return State(
        tuple(
            GroupTable(grouping.keys, {cell: found[number] for cell, found in sums.items()})
            for number, (_, grouping) in enumerate(layout)
        ),
        counts,
        measures,
    )


def _categories(axis: Axis, column: pa.ChunkedArray) -> Categories:
    if axis.bins is None:
        return categories(column)
    values, problems = scalars(column)
    return axis.cut(values, problems != 0)


def _layout(pairing: Pairing, columns: Mapping[Axis, Categories], rows: int) -> list[tuple[int | None, Grouping]]:
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
    layout: list[tuple[int | None, Grouping]],
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


def _groups_of_rows(layout: list[tuple[int | None, Grouping]], number: int) -> npt.NDArray[np.int64]:
    """The group of each row, also of a slice that was grouped from a finer one."""
    finer, grouping = layout[number]
    return grouping.groups if finer is None else grouping.groups[_groups_of_rows(layout, finer)]


def _label_numbers(task: Task, tables: Tables, decoded: _Decoded) -> Numbers:
    """Return the labels of a task as [rows, width] and problems [rows]; decoded once for all that want them so."""
    declared = task.loss.declaration
    ends = (declared.label.low, declared.label.high)
    values = range(len(task.classes)) if declared.inputs.has_classes else ends
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
    key = ("predictions", task.predictions, task.fields)
    if key not in decoded:
        columns = [tables["predictions"][name] for name in task.predictions]
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


def _accumulate(
    layout: list[tuple[int | None, Grouping]],
    losses: npt.NDArray[np.float64],
    weights: npt.NDArray[np.float64] | None,
    reasons: npt.NDArray[np.uint8],
    clipped: npt.NDArray[np.uint8],
    denominators: npt.NDArray[np.float64] | None,
) -> list[Sums]:
    divided = denominators is not None
    found = [Sums.zero(len(grouping.keys), weighted=weights is not None, divided=divided) for _, grouping in layout]
    for number, (finer, grouping) in enumerate(layout):
        if finer is None:
            found[number].add_rows(losses, weights, reasons, clipped, grouping.groups, denominators)
    # Finer slices first: a slice may be rolled up from one that is itself rolled up.
    for number in sorted(range(len(layout)), key=lambda n: -layout[n][1].members.shape[1]):
        finer, grouping = layout[number]
        if finer is not None:
            found[number].add_groups(found[finer], grouping.groups)
    return found
