"""Measures of the size of errors."""

from __future__ import annotations

import math
from collections.abc import Sequence
from fractions import Fraction

from lossops.kernels.jit import inline
from lossops.losses.declaration import REALS, Inputs, Interval
from lossops.measures.arithmetic import average, quantile, ratio, root
from lossops.measures.declaration import Measure, Number, Part, Settings, Total

__all__ = ["absolute_label", "absolute_residual", "label_itself", "residual"]

_FAMILY = "measures: errors"


@inline
def residual(label: float, prediction: float) -> float:
    """Prediction minus label."""
    return prediction - label


@inline
def absolute_residual(label: float, prediction: float) -> float:
    """The size of the error."""
    return abs(prediction - label)


@inline
def label_itself(label: float, prediction: float) -> float:
    """The label."""
    return label


@inline
def absolute_label(label: float, prediction: float) -> float:
    """The size of the label."""
    return abs(label)


@inline
def _log_residual(label: float, prediction: float, log1p_clamp: float) -> float:
    y, p = max(label, log1p_clamp), max(prediction, log1p_clamp)
    step = (p - y) / (1.0 + y)
    if -0.5 < step < 1.0:
        return math.log1p(step)
    return math.log1p(p) - math.log1p(y)


def _root_mean_square(outputs: Sequence[Total], settings: Settings) -> Number | None:
    if settings["average_outputs"]:
        return average(outputs, lambda one: root(one.squares("residual") / one.weight))
    squares = sum((one.squares("residual") for one in outputs), Fraction(0))
    return root(squares / sum((one.weight for one in outputs), Fraction(0)))


def _largest(outputs: Sequence[Total], settings: Settings) -> Number | None:
    return max(one.high("size") for one in outputs)


def _median(outputs: Sequence[Total], settings: Settings) -> Number | None:
    return average(outputs, lambda one: quantile(one, "size", Fraction(1, 2)))


def _share_of_labels(outputs: Sequence[Total], settings: Settings) -> Number | None:
    errors, labels = (sum((one.sum(part) for one in outputs), Fraction(0)) for part in ("size", "label"))
    return ratio(errors, labels)


root_mean_squared_error = Measure(
    name="root_mean_squared_error",
    summary="root of the mean squared difference, in units of the label",
    family=_FAMILY,
    inputs=Inputs.ELEMENTS,
    label=REALS,
    prediction=REALS,
    formula="sqrt(sum(w (p - y)^2) / sum(w)); of several outputs the mean of their roots, or the root over all, as the "
    "convention says",
    parts={"residual": Part(row=residual, squares=True)},
    finish=_root_mean_square,
    rules=("average_outputs",),
    also=("rmse",),
    citation="scikit-learn root_mean_squared_error; XGBoost rmse is the root over all outputs",
)

root_mean_squared_logarithmic_error = Measure(
    name="root_mean_squared_logarithmic_error",
    summary="root of the mean squared difference of log(1 + value)",
    family=_FAMILY,
    inputs=Inputs.ELEMENTS,
    label=Interval(-1.0, low_open=True),
    prediction=Interval(-1.0, low_open=True),
    lifted_by="log1p_clamp",
    formula="sqrt(sum(w (log(1 + p) - log(1 + y))^2) / sum(w)); of several outputs as root_mean_squared_error",
    parts={"residual": Part(row=_log_residual, squares=True)},
    finish=_root_mean_square,
    rules=("average_outputs",),
    also=("rmsle", "root_mean_squared_log_error"),
    citation="scikit-learn root_mean_squared_log_error, XGBoost rmsle",
)

max_error = Measure(
    name="max_error",
    summary="largest absolute difference of any output; weights count only in that rows of weight 0 are left out",
    family=_FAMILY,
    inputs=Inputs.ELEMENTS,
    label=REALS,
    prediction=REALS,
    formula="max(abs(p - y))",
    parts={"size": Part(row=absolute_residual)},
    finish=_largest,
    also=("maximum_error",),
    citation="scikit-learn max_error",
)

median_absolute_error = Measure(
    name="median_absolute_error",
    summary="weighted median of the absolute difference; of several outputs the mean of their medians",
    family=_FAMILY,
    inputs=Inputs.ELEMENTS,
    label=REALS,
    prediction=REALS,
    formula="median(abs(p - y)), the mean of the two middle values where the weight is halved exactly. Exact up to "
    "65536 distinct values in a slice; above, off by less than 2**-b of the median, b being the mantissa bits that are "
    "kept (at 65536 bins about 16 less the logarithm of the number of binades, groups and outputs)",
    parts={"size": Part(row=absolute_residual)},
    bins=absolute_residual,
    by_value=True,
    finish=_median,
    also=("MedianAbsoluteError", "medae"),
    citation="scikit-learn median_absolute_error",
)

weighted_mean_absolute_percentage_error = Measure(
    name="weighted_mean_absolute_percentage_error",
    summary="sum of absolute differences over the sum of absolute labels, over all outputs, as a fraction",
    family=_FAMILY,
    inputs=Inputs.ELEMENTS,
    label=REALS,
    prediction=REALS,
    formula="sum(w abs(p - y)) / sum(w abs(y)); null where every label is 0",
    parts={"size": Part(row=absolute_residual), "label": Part(row=absolute_label)},
    finish=_share_of_labels,
    also=("wmape", "WeightedMeanAbsolutePercentageError", "wape"),
    citation="TorchMetrics WeightedMeanAbsolutePercentageError",
)
