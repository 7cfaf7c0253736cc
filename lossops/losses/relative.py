"""Losses of a difference in proportion to the label."""

from __future__ import annotations

import math

from lossops.kernels.elementary import log, log1p, pick
from lossops.kernels.jit import inline
from lossops.losses.declaration import REALS, Curve, Form, Inputs, Interval, Loss, Outlier, Parameter

__all__: list[str] = []

_FAMILY = "regression: relative"
_LARGE, _SMALL, _SCALE = 1e280, 1e100, 2.0**-100
_LOG_SCALE = math.log(_SCALE)
_ABOVE_MINUS_ONE = Interval(-1.0, low_open=True)


@inline
def _percentage(
    label: float, prediction: float, refuse_zero_labels: float, percentage_floor: float, percentage_scale: float
) -> float:
    size, whole = abs(prediction - label), max(abs(label), percentage_floor)
    if label == 0.0 and refuse_zero_labels != 0.0:
        return math.nan
    if whole == 0.0:  # nothing divided by nothing is not defined, and the row is counted as such
        return math.inf if size > 0.0 else math.nan
    return percentage_scale * (size / whole)


@inline
def _denominator_raised(label: float, prediction: float, percentage_floor: float) -> bool:
    return abs(label) < percentage_floor


@inline
def _symmetric_percentage(label: float, prediction: float) -> float:
    shrink = 0.25 if max(abs(label), abs(prediction)) > 1e300 else 1.0  # the sum stays below infinity
    y, p = shrink * label, shrink * prediction
    total = abs(y) + abs(p)
    return 2.0 * (abs(p - y) / total) if total > 0.0 else 0.0


@inline
def _log_ratio_squared(label: float, prediction: float, log1p_clamp: float) -> float:
    y, p = max(label, log1p_clamp), max(prediction, log1p_clamp)
    ratio = (p - y) / (1.0 + y)
    # A ratio close to -1 has lost the digits of 1 + p; there, and far above, the logarithm of a quotient is exact,
    # which is scaled where it could be beyond float64.
    is_large, is_small = (p > _LARGE) & (y < _SMALL), (y > _LARGE) & (p < _SMALL)
    quotient = ((1.0 + p) * pick(is_large, _SCALE, 1.0)) / ((1.0 + y) * pick(is_small, _SCALE, 1.0))
    shift = pick(is_large, _LOG_SCALE, pick(is_small, -_LOG_SCALE, 0.0))
    found = pick((ratio > -0.5) & (ratio < 1.0), log1p(ratio), log(quotient) - shift)
    return found * found


@inline
def _clamped(label: float, prediction: float, log1p_clamp: float) -> bool:
    return min(label, prediction) < log1p_clamp


mean_absolute_percentage_error = Loss(
    name="mean_absolute_percentage_error",
    summary="absolute difference divided by the label's size; infinite for a label of 0 unless a convention limits it",
    family=_FAMILY,
    inputs=Inputs.ELEMENTS,
    label=REALS,
    form=Form(row=_percentage, formula="abs(p - y)/abs(y)", prediction=REALS, clipped=_denominator_raised),
    parameters=(
        Parameter(
            name="refuse_zero_labels",
            meaning="true: rows with a label of 0 are left out and counted, whatever the convention",
            default=False,
            domain=None,
        ),
    ),
    # For one label: a smaller label makes a steeper curve.
    curve=Curve(convex=True, smooth=False, slope_bounded=True, symmetric=True, outlier=Outlier.LINEAR),
    also=("mape", "MAPE", "MeanAbsolutePercentageError"),
    citation="Keras MeanAbsolutePercentageError, scikit-learn mean_absolute_percentage_error, LightGBM mape",
)

symmetric_mean_absolute_percentage_error = Loss(
    name="symmetric_mean_absolute_percentage_error",
    summary="absolute difference divided by the mean size of label and prediction, from 0 to 2; 0 where both are 0",
    family=_FAMILY,
    inputs=Inputs.ELEMENTS,
    label=REALS,
    form=Form(
        row=_symmetric_percentage,
        formula="2*abs(p - y)/(abs(y) + abs(p)) if y != 0 or p != 0 else 0",
        prediction=REALS,
    ),
    # A prediction too low by some amount costs more than one too high by it, the name notwithstanding.
    curve=Curve(convex=False, smooth=False, slope_bounded=True, symmetric=False, outlier=Outlier.BOUNDED),
    also=("smape", "SMAPE", "SymmetricMeanAbsolutePercentageError"),
    citation="J. S. Armstrong, Long-Range Forecasting (1985); TorchMetrics symmetric_mean_absolute_percentage_error",
)

mean_squared_logarithmic_error = Loss(
    name="mean_squared_logarithmic_error",
    summary="squared difference of log(1 + x)",
    family=_FAMILY,
    inputs=Inputs.ELEMENTS,
    label=_ABOVE_MINUS_ONE,
    lifted_by="log1p_clamp",
    form=Form(
        row=_log_ratio_squared,
        formula="(log(1 + p) - log(1 + y))**2",
        prediction=_ABOVE_MINUS_ONE,
        clipped=_clamped,
        ulps=12.0,  # difference, sum and quotient are rounded before the logarithm, and the square doubles all of it
    ),
    curve=Curve(convex=False, smooth=True, slope_bounded=False, symmetric=False, outlier=Outlier.INFINITE),
    also=("msle", "MSLE", "mean_squared_log_error", "rmsle", "MeanSquaredLogarithmicError"),
    citation="Keras MeanSquaredLogarithmicError, scikit-learn mean_squared_log_error",
)
