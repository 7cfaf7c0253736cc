"""What makes up the Brier score and the log loss: reliability, resolution and uncertainty, from the calibration bins.

Score = reliability - resolution + uncertainty holds exactly where all forecasts of a bin are equal.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from fractions import Fraction

from lossops.kernels.special import log1p_minus
from lossops.losses.declaration import TWO_CLASSES, UNIT, Inputs
from lossops.measures.arithmetic import average, entropy, logarithm
from lossops.measures.calibration import BINS, PARTS, probability_bin
from lossops.measures.declaration import Finish, Measure, Number, Settings, Total

__all__: list[str] = []

_RULES = ("clip_low", "clip_high", "binary_log_floor", "binary_log_epsilon")


def _frequency(total: Total) -> Fraction:
    return Fraction(total.sum("outcome")) / total.weight


def _forecast(total: Total) -> Fraction:
    return Fraction(total.sum("probability")) / total.weight


def _averaged(value: Callable[[Total, Settings], Number]) -> Finish:
    def finish(outputs: Sequence[Total], settings: Settings) -> Number | None:
        return average(outputs, lambda one: value(one, settings))

    return finish


def _over_bins(total: Total, value: Callable[[Total], Number]) -> Number:
    return sum((one.weight / total.weight * value(one) for one in total), Fraction(0))


def _brier_reliability(total: Total, settings: Settings) -> Number:
    return _over_bins(total, lambda one: (_forecast(one) - _frequency(one)) ** 2)


def _brier_resolution(total: Total, settings: Settings) -> Number:
    return _over_bins(total, lambda one: (_frequency(one) - _frequency(total)) ** 2)


def _brier_uncertainty(total: Total, settings: Settings) -> Number:
    return _frequency(total) * (1 - _frequency(total))


def _surprise(observed: Fraction, stated: Fraction, floor: float) -> Number:
    """One class's y log(y / p) - y + p, without cancellation; log(p) is at least ``floor``."""
    if not observed:
        return stated
    if logarithm(stated, Fraction(1)) < floor:
        return float(observed) * (logarithm(observed, Fraction(1)) - floor) - float(observed) + float(stated)
    if not stated:
        return float("inf")
    if abs(stated - observed) < observed / 2:
        return float(observed) * log1p_minus(float((stated - observed) / observed))
    return float(observed) * logarithm(observed, stated) - float(observed - stated)


def _divergence(observed: Fraction, stated: Fraction, settings: Settings) -> Number:
    """The cross-entropy of a stated probability under a frequency, less what the frequency itself would have."""
    highest = Fraction(1.0 - settings["clip_high"])  # rounded as in the row loss, or the identity would not hold
    limited = min(max(stated, Fraction(settings["clip_low"])), highest)
    epsilon, floor = Fraction(settings["binary_log_epsilon"]), settings["binary_log_floor"]
    ones = _surprise(observed, limited + epsilon, floor)
    zeros = _surprise(1 - observed, 1 - limited + epsilon, floor)
    return ones + zeros - 2 * epsilon  # the two classes' p add up to 1 and both epsilons


def _log_reliability(total: Total, settings: Settings) -> Number:
    return _over_bins(total, lambda one: _divergence(_frequency(one), _forecast(one), settings))


def _log_resolution(total: Total, settings: Settings) -> Number:
    exact = dict.fromkeys(_RULES, 0.0) | {"binary_log_floor": float("-inf")}
    return _over_bins(total, lambda one: _divergence(_frequency(one), _frequency(total), exact))


def _log_uncertainty(total: Total, settings: Settings) -> Number:
    return entropy([_frequency(total), 1 - _frequency(total)])


_SYMBOLS = "c_b the mean probability, f_b the frequency of 1 and W_b the weight of bin b, f the frequency of 1"

brier_reliability = Measure(
    name="brier_reliability",
    summary="the part of the Brier score that miscalibration costs",
    family="measures: decomposition",
    inputs=Inputs.ELEMENTS,
    label=TWO_CLASSES,
    prediction=UNIT,
    formula=f"sum(W_b (c_b - f_b)^2) / sum(W_b), {_SYMBOLS}; of several outputs their mean",
    parameters=(BINS,),
    parts=PARTS,
    bins=probability_bin,
    finish=_averaged(_brier_reliability),
    citation="A. H. Murphy, A New Vector Partition of the Probability Score, J. Appl. Meteorol. 12 (1973)",
)

brier_resolution = replace(
    brier_reliability,
    name="brier_resolution",
    summary="the part of the Brier score that telling cases apart saves",
    formula=f"sum(W_b (f_b - f)^2) / sum(W_b), {_SYMBOLS}; of several outputs their mean",
    finish=_averaged(_brier_resolution),
    higher_is_better=True,
)

brier_uncertainty = replace(
    brier_reliability,
    name="brier_uncertainty",
    summary="the Brier score of the frequency of 1, which no forecast can change",
    formula="f (1 - f), f the frequency of 1; of several outputs their mean",
    parameters=(),
    bins=None,
    finish=_averaged(_brier_uncertainty),
)

_WEIJS = (
    "S. V. Weijs, R. van Nooijen, N. van de Giesen, Kullback-Leibler Divergence as a Forecast Skill Score with Classic "
    "Reliability-Resolution-Uncertainty Decomposition, Mon. Weather Rev. 138 (2010)"
)

log_loss_reliability = replace(
    brier_reliability,
    name="log_loss_reliability",
    summary="the part of the log loss that miscalibration costs",
    formula=f"sum(W_b KL(f_b, c_b)) / sum(W_b), KL(f, c) = f log(f/c) + (1 - f) log((1 - f)/(1 - c)), {_SYMBOLS}; the "
    "convention limits c_b as in binary_crossentropy; of several outputs their mean",
    finish=_averaged(_log_reliability),
    rules=_RULES,
    citation=_WEIJS,
)

log_loss_resolution = replace(
    brier_reliability,
    name="log_loss_resolution",
    summary="the part of the log loss that telling cases apart saves",
    formula=f"sum(W_b KL(f_b, f)) / sum(W_b), KL as in log_loss_reliability, {_SYMBOLS}; of several outputs their mean",
    finish=_averaged(_log_resolution),
    higher_is_better=True,
    citation=_WEIJS,
)

log_loss_uncertainty = replace(
    brier_uncertainty,
    name="log_loss_uncertainty",
    summary="the log loss of the frequency of 1, which no forecast can change",
    formula="-f log(f) - (1 - f) log(1 - f), f the frequency of 1; of several outputs their mean",
    finish=_averaged(_log_uncertainty),
    citation=_WEIJS,
)
