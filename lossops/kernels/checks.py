"""Why a row is not scored, found in a compiled loop over a block.

Every row has one `Reason`; the first that applies wins, in the order weight, label, prediction, loss.
"""

from __future__ import annotations

import enum
import math
from typing import Any

import numpy as np

from lossops.kernels.jit import inline, jit

__all__ = [
    "Problem",
    "Reason",
    "all_fit",
    "check_class_index",
    "check_ignored",
    "check_losses",
    "check_sums",
    "check_values",
    "check_weights",
]


class Problem(enum.IntEnum):
    """What can be wrong with a value before its domain is known; decided where columns are decoded."""

    NONE = 0
    NULL = 1
    WRONG_LENGTH = 2


class Reason(enum.IntEnum):
    """The bucket of an aligned row; its lower-case name is the ledger's ``reason``."""

    SCORED = 0
    WEIGHT_NULL = 1
    WEIGHT_NAN = 2
    WEIGHT_INFINITE = 3
    WEIGHT_NEGATIVE = 4
    WEIGHT_ZERO = 5
    LABEL_IGNORED = 6
    LABEL_NULL = 10
    LABEL_WRONG_LENGTH = 11
    LABEL_NAN = 12
    LABEL_INFINITE = 13
    LABEL_OUTSIDE_DOMAIN = 14
    LABEL_NOT_INTEGER = 15
    LABEL_SUM_NOT_ONE = 16
    PREDICTION_NULL = 20
    PREDICTION_WRONG_LENGTH = 21
    PREDICTION_NAN = 22
    PREDICTION_INFINITE = 23
    PREDICTION_OUTSIDE_DOMAIN = 24
    PREDICTION_SUM_ZERO = 25
    PREDICTION_SUM_NOT_ONE = 26
    LOSS_NAN = 30

    @property
    def is_fault(self) -> bool:
        """Whether the row should not exist; a weight of zero and a label ignored by request are choices."""
        return self not in (Reason.SCORED, Reason.WEIGHT_ZERO, Reason.LABEL_IGNORED)


_BLOCK = 1024
_LARGEST = 1.7976931348623157e308
# Offsets from a side's first reason, shared by labels and predictions.
_NULL, _LENGTH, _NAN, _INFINITE, _OUTSIDE = range(5)
_PROBLEM_WRONG_LENGTH = int(Problem.WRONG_LENGTH)
_WEIGHT_NULL = int(Reason.WEIGHT_NULL)
_WEIGHT_NAN = int(Reason.WEIGHT_NAN)
_WEIGHT_INFINITE = int(Reason.WEIGHT_INFINITE)
_WEIGHT_NEGATIVE = int(Reason.WEIGHT_NEGATIVE)
_WEIGHT_ZERO = int(Reason.WEIGHT_ZERO)
_LABEL_IGNORED = int(Reason.LABEL_IGNORED)
_LABEL_OUTSIDE = int(Reason.LABEL_OUTSIDE_DOMAIN)
_LABEL_NOT_INTEGER = int(Reason.LABEL_NOT_INTEGER)
_LOSS_NAN = int(Reason.LOSS_NAN)


@jit
def check_weights(weights: Any, problems: Any, reasons: Any) -> None:
    """Mark rows whose weight is null, not finite, negative or zero.

    Args:
        weights: float64 [rows].
        problems: uint8 [rows] of `Problem`.
        reasons: uint8 [rows] of `Reason`, written where still 0.
    """
    for i in range(reasons.shape[0]):
        if reasons[i] != 0:
            continue
        if problems[i] != 0:
            reasons[i] = _WEIGHT_NULL
        elif math.isnan(weights[i]):
            reasons[i] = _WEIGHT_NAN
        elif math.isinf(weights[i]):
            reasons[i] = _WEIGHT_INFINITE
        elif weights[i] < 0.0:
            reasons[i] = _WEIGHT_NEGATIVE
        elif weights[i] == 0.0:
            reasons[i] = _WEIGHT_ZERO


@jit
def check_ignored(labels: Any, problems: Any, ignored: float, reasons: Any) -> None:
    """Mark rows whose label (float64 [rows, 1]) equals the ignored one."""
    for i in range(reasons.shape[0]):
        if reasons[i] == 0 and problems[i] == 0 and labels[i, 0] == ignored:
            reasons[i] = _LABEL_IGNORED


@inline
def _value_offset(value: float, bounds: Any) -> int:
    """Return how a value misses bounds (low, high, low excluded, high excluded, step, infinite), or -1."""
    if math.isnan(value):
        return _NAN
    if math.isinf(value) and bounds[5] == 0.0:
        return _INFINITE
    low, high = bounds[0], bounds[1]
    if value < low or value > high or (bounds[2] != 0.0 and value == low) or (bounds[3] != 0.0 and value == high):
        return _OUTSIDE
    if bounds[4] != 0.0 and (value - low) % bounds[4] != 0.0:
        return _OUTSIDE
    return -1


@inline
def _flat_fits(values: Any, bounds: Any) -> bool:
    """Whether all of some values (float64 [values]) are within bounds whose step is 0 or 1."""
    low, high = bounds[0], bounds[1]
    if bounds[5] == 0.0:
        low, high = max(low, -_LARGEST), min(high, _LARGEST)
    without_low, without_high = bounds[2] != 0.0, bounds[3] != 0.0
    fitting = 0  # counted, because the compiler makes vector instructions of a sum, but not of a chain of truths
    for i in range(values.shape[0]):
        fitting += (values[i] >= low) & (values[i] <= high)
    if without_low or without_high:
        for i in range(values.shape[0]):
            fitting -= (without_low & (values[i] <= low)) | (without_high & (values[i] >= high))
    if bounds[4] != 0.0:
        for i in range(values.shape[0]):
            fitting -= values[i] - low != np.floor(values[i] - low)
    return bool(fitting == values.shape[0])


@jit
def all_fit(values: Any, problems: Any, bounds: Any) -> bool:
    """Whether `check_values` would mark no row, found without a branch a value; False where that is not sure.

    Args:
        values, problems: as for `check_values`.
        bounds: float64 [1, 6], as there.
    """
    if bounds[0, 4] != 0.0 and bounds[0, 4] != 1.0:
        return False
    worst = np.uint8(0)
    for i in range(problems.shape[0]):
        worst |= problems[i]
    flat = values.reshape(values.size)
    for start in range(0, flat.shape[0] if worst == 0 else 0, _BLOCK):
        if not _flat_fits(flat[start : start + _BLOCK], bounds[0]):
            return False
    return bool(worst == 0)


@jit
def check_values(values: Any, problems: Any, first: int, bounds: Any, reasons: Any) -> None:
    """Mark rows with a null, a wrong length, NaN, infinity or a value outside its domain.

    Args:
        values: float64 [rows, width].
        problems: uint8 [rows] of `Problem`.
        first: the side's first reason, ``Reason.LABEL_NULL`` or ``Reason.PREDICTION_NULL``.
        bounds: float64 [1 or width, 6]: low, high, low excluded, high excluded, step, infinite; one for all or each.
        reasons: uint8 [rows], written where still 0.
    """
    own = 1 if bounds.shape[0] > 1 else 0
    for i in range(reasons.shape[0]):
        if reasons[i] != 0:
            continue
        if problems[i] != 0:
            reasons[i] = first + (_LENGTH if problems[i] == _PROBLEM_WRONG_LENGTH else _NULL)
            continue
        for j in range(values.shape[1]):
            offset = _value_offset(values[i, j], bounds[own * j])
            if offset >= 0:
                reasons[i] = first + offset
                break


@jit
def check_class_index(labels: Any, classes: int, reasons: Any) -> None:
    """Mark rows whose label (float64 [rows, 1]) is not an integer in [0, classes)."""
    for i in range(reasons.shape[0]):
        if reasons[i] != 0:
            continue
        label = labels[i, 0]
        if label != np.floor(label):  # math.floor gives an integer, which large numbers do not fit
            reasons[i] = _LABEL_NOT_INTEGER
        elif label < 0.0 or label >= classes:
            reasons[i] = _LABEL_OUTSIDE


@jit
def check_sums(values: Any, low: float, high: float, reason: int, reasons: Any) -> None:
    """Mark rows whose values (float64 [rows, width]) do not sum to something in [low, high]."""
    for i in range(reasons.shape[0]):
        if reasons[i] != 0:
            continue
        total = 0.0
        for j in range(values.shape[1]):
            total += values[i, j]
        if not low <= total <= high:
            reasons[i] = reason


@jit
def check_losses(losses: Any, reasons: Any) -> None:
    """Mark rows whose inputs were fine but whose loss (float64 [rows]) is NaN, so that it cannot vanish in a sum."""
    for i in range(reasons.shape[0]):
        if reasons[i] == 0 and math.isnan(losses[i]):
            reasons[i] = _LOSS_NAN
