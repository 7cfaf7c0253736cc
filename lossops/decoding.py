"""Columns of a batch as numbers: labels, predictions, weights, denominators, units; each decoded once."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from lossops.data.columns import Numbers, class_numbers, numbers, scalars
from lossops.data.keys import read_keys
from lossops.kernels.checks import Reason, check_weights
from lossops.tasks import Source, Task

__all__ = [
    "Decoded",
    "Tables",
    "denominators_of",
    "divisors_of",
    "label_numbers",
    "prediction_numbers",
    "unit_hashes",
    "weights_of",
]

Tables = Mapping[str, pa.Table]  # side -> columns of the aligned rows of a batch
Decoded = dict[tuple[object, ...], Numbers]  # columns of a batch as numbers, by what they are decoded from and for


def weights_of(
    source: Source | None, tables: Tables, rows: int
) -> tuple[npt.NDArray[np.float64] | None, npt.NDArray[np.uint8]]:
    """Return the weights [rows], or None, and why rows are left out for theirs, uint8 [rows]."""
    reasons = np.zeros(rows, dtype=np.uint8)
    if source is None:
        return None, reasons
    weights, problems = scalars(tables[source.side][source.column])
    check_weights(weights, problems, reasons)
    return weights, reasons


def label_numbers(task: Task, tables: Tables, decoded: Decoded) -> Numbers:
    """Return the labels of a task as [rows, width] and problems [rows]; decoded once for all that want them so."""
    values = task.class_values
    key = ("labels", task.labels, task.classes, values)
    if key not in decoded:
        rows = tables["predictions"].num_rows
        columns = [tables["labels"][name] for name in task.labels]
        if not columns:
            decoded[key] = np.zeros((rows, 0)), np.zeros(rows, dtype=np.uint8)
        elif task.classes:
            decoded[key] = class_numbers(columns, task.label_width, task.classes, values)
        else:
            decoded[key] = numbers(columns, task.label_width)
    return decoded[key]


def prediction_numbers(task: Task, tables: Tables, decoded: Decoded) -> Numbers:
    """Return the predictions of a task as [rows, width] and problems [rows]."""
    key = (task.side, task.predictions, task.fields)
    if key not in decoded:
        columns = [tables[task.side][name] for name in task.predictions]
        decoded[key] = numbers(columns, task.prediction_width, task.fields)
    return decoded[key]


def denominators_of(
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


def divisors_of(
    denominators: npt.NDArray[np.float64] | None,
    weights: npt.NDArray[np.float64] | None,
    reasons: npt.NDArray[np.uint8],
) -> npt.NDArray[np.float64] | None:
    """Return what each row adds to the denominator, where that is not 1; a row that is not scored adds no weight."""
    if denominators is not None or weights is None:
        return denominators
    return np.asarray(np.where(reasons == Reason.SCORED, weights, 0.0))


def unit_hashes(unit: Source, tables: Tables) -> npt.NDArray[np.uint64]:
    """Return a hash of the independent unit of each row, uint64 [rows]."""
    keys = read_keys([tables[unit.side][unit.column]])
    return np.where(keys.null, np.uint64(0), keys.hashes())  # all rows without a unit are one
