"""Scoring arrays with a measure, cut and ordered in any way."""

from __future__ import annotations

from functools import reduce
from operator import add
from typing import Any

import numpy as np
import numpy.typing as npt

from lossops.bins import BinTable
from lossops.measures import BoundMeasure, Result, bind

__all__ = ["columns", "measure", "results", "table"]

Floats = npt.NDArray[np.float64]


def columns(values: Any) -> Floats:
    """Values as float64 [rows, width]; a flat list has width 1."""
    found = np.asarray(values, dtype=np.float64)
    return np.ascontiguousarray(found.reshape(len(found), -1))


def table(
    chosen: BoundMeasure, labels: Floats, predictions: Floats, weights: Floats | None, groups: npt.NDArray[np.int64]
) -> BinTable:
    """The table of one batch; group g has the key g."""
    rows = len(labels)
    reasons, fine = np.zeros(rows, dtype=np.uint8), np.zeros(rows, dtype=np.uint8)
    chosen.check(labels, fine, predictions, fine, reasons)
    records = chosen.records(labels, predictions, weights, reasons)
    clipped = chosen.clipped(labels, predictions, reasons)
    keys, places = np.unique(groups, return_inverse=True)
    return BinTable.of_records(records, keys.tolist(), places, reasons, clipped)


def results(
    name: str,
    labels: Any,
    predictions: Any,
    weights: Any = None,
    *,
    groups: Any = None,
    pieces: int = 1,
    seed: int | None = None,
    convention: str = "sklearn",
    **parameters: Any,
) -> dict[int, Result]:
    """The result of each group of rows that are shuffled by ``seed``, cut into pieces and merged."""
    chosen = bind(name, parameters, convention)
    assert isinstance(chosen, BoundMeasure)
    labels, predictions = columns(labels), columns(predictions)
    weights = None if weights is None else np.asarray(weights, dtype=np.float64)
    groups = np.zeros(len(labels), dtype=np.int64) if groups is None else np.asarray(groups)
    random = np.random.default_rng(seed)
    order = np.arange(len(labels)) if seed is None else random.permutation(len(labels))
    tables = [
        table(chosen, labels[at], predictions[at], None if weights is None else weights[at], groups[at])
        for at in np.array_split(order, pieces)
    ]
    if seed is not None:
        random.shuffle(tables)
    merged = reduce(add, tables)
    return dict(zip(merged.keys, chosen.results(merged), strict=True))


def measure(name: str, labels: Any, predictions: Any, weights: Any = None, **settings: Any) -> float | None:
    """The value for all rows."""
    return results(name, labels, predictions, weights, **settings)[0].value
