"""Calibration errors: how far stated probabilities are from observed frequencies, in bins of equal width."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from fractions import Fraction
from typing import Any

from lossops.kernels.jit import inline
from lossops.losses.declaration import REALS, TWO_CLASSES, UNIT, Inputs, Interval, Parameter
from lossops.measures.arithmetic import average, root
from lossops.measures.declaration import Finish, Measure, Number, Part, Settings, Total
from lossops.measures.errors import label_itself

__all__ = ["BINS", "PARTS", "probability_bin"]

_FAMILY = "measures: calibration"

BINS = Parameter(
    name="bins",
    meaning="number of bins n of equal width: [0, 1/n), ..., [(n - 1)/n, 1]",
    default=15,
    domain=Interval(1.0, 65536.0),
    integer=True,
)


@inline
def _probability(label: float, prediction: float) -> float:
    return prediction


@inline
def _bin_of(probability: float, bins: float) -> float:
    """The k with k/n <= p < (k + 1)/n, n - 1 for 1; k/n as float64, so that 0.29 is in [0.29, 0.30) of 100 bins."""
    k = 1.0 * math.floor(probability * bins)
    if probability >= (k + 1.0) / bins:
        k += 1.0
    elif probability < k / bins:
        k -= 1.0
    return min(k, bins - 1.0)


@inline
def probability_bin(label: float, prediction: float, bins: float) -> float:
    """The bin of a probability."""
    return _bin_of(prediction, bins)


@inline
def _confidence(label: int, prediction: Any) -> float:
    highest = 0.0
    for j in range(prediction.shape[0]):
        highest = max(highest, prediction[j])
    return highest


@inline
def _correct(label: int, prediction: Any, argmax_ties: float) -> float:
    own = prediction[label]
    for j in range(prediction.shape[0]):
        tie_counts = j < label or (argmax_ties == 1.0 and j != label)
        if prediction[j] > own or (prediction[j] == own and tie_counts):
            return 0.0
    return 1.0


@inline
def _confidence_bin(label: int, prediction: Any, bins: float) -> float:
    return _bin_of(_confidence(label, prediction), bins)


PARTS = {"outcome": Part(row=label_itself), "probability": Part(row=_probability)}
_CLASS_PARTS = {"outcome": Part(row=_correct), "probability": Part(row=_confidence)}


def _gaps(total: Total) -> Iterator[tuple[Fraction, Fraction]]:
    """Yield each bin's share of the weight, and the difference between its mean probability and frequency."""
    for one in total:
        yield (
            one.weight / total.weight,
            abs(Fraction(one.sum("probability")) - Fraction(one.sum("outcome"))) / one.weight,
        )


def _expected(total: Total) -> Number:
    return sum((share * gap for share, gap in _gaps(total)), Fraction(0))


def _maximum(total: Total) -> Number:
    return max(gap for _, gap in _gaps(total))


def _root_mean_square(total: Total) -> Number:
    return root(sum((share * gap * gap for share, gap in _gaps(total)), Fraction(0)))


def _averaged(value: Callable[[Total], Number]) -> Finish:
    def finish(outputs: Sequence[Total], settings: Settings) -> Number | None:
        return average(outputs, value)

    return finish


_GAP = "c_b the mean probability and f_b the frequency of bin b, W_b its weight"

expected_calibration_error = Measure(
    name="expected_calibration_error",
    summary="mean difference between the probability of 1 and its frequency, over bins by weight",
    family=_FAMILY,
    inputs=Inputs.ELEMENTS,
    label=TWO_CLASSES,
    prediction=UNIT,
    formula=f"sum(W_b abs(c_b - f_b)) / sum(W_b), {_GAP}; of several outputs their mean",
    parameters=(BINS,),
    parts=PARTS,
    bins=probability_bin,
    finish=_averaged(_expected),
    also=("ece", "calibration_error"),
    citation="M. P. Naeini, G. F. Cooper, M. Hauskrecht, Obtaining Well Calibrated Probabilities Using Bayesian "
    "Binning, AAAI 2015; TorchMetrics binary_calibration_error, norm l1",
)

maximum_calibration_error = replace(
    expected_calibration_error,
    name="maximum_calibration_error",
    summary="largest difference between the probability of 1 and its frequency, over bins",
    formula=f"max(abs(c_b - f_b)) over bins with a row, {_GAP}; of several outputs their mean",
    finish=_averaged(_maximum),
    also=("mce",),
    citation="Naeini, Cooper, Hauskrecht (2015); TorchMetrics binary_calibration_error, norm max",
)

root_mean_square_calibration_error = replace(
    expected_calibration_error,
    name="root_mean_square_calibration_error",
    summary="root of the mean squared difference between the probability of 1 and its frequency, over bins by weight",
    formula=f"sqrt(sum(W_b (c_b - f_b)^2) / sum(W_b)), {_GAP}; of several outputs their mean",
    finish=_averaged(_root_mean_square),
    also=("rmsce",),
    citation="A. Kumar, P. Liang, T. Ma, Verified Uncertainty Calibration, NeurIPS 2019; TorchMetrics "
    "binary_calibration_error, norm l2",
)


def _of_classes(binary: Measure, summary: str, citation: str) -> Measure:
    """The same of the highest probability and of whether its class is the true one."""
    return replace(
        binary,
        name=f"multiclass_{binary.name}",
        summary=summary,
        inputs=Inputs.CLASS_INDEX,
        label=REALS,
        formula=binary.formula.removesuffix("; of several outputs their mean")
        + "; the probability is the highest of a row, what is observed is whether its class is the label (the first of "
        "several, or as the convention says)",
        parts=_CLASS_PARTS,
        bins=_confidence_bin,
        citation=citation,
    )


_GUO = "C. Guo et al., On Calibration of Modern Neural Networks, ICML 2017; TorchMetrics multiclass_calibration_error"

multiclass_expected_calibration_error = _of_classes(
    expected_calibration_error,
    "mean difference between the highest class probability and how often that class is right, over bins by weight",
    f"{_GUO}, norm l1",
)
multiclass_maximum_calibration_error = _of_classes(
    maximum_calibration_error,
    "largest difference between the highest class probability and how often that class is right, over bins",
    f"{_GUO}, norm max",
)
multiclass_root_mean_square_calibration_error = _of_classes(
    root_mean_square_calibration_error,
    "root of the mean squared difference between the highest class probability and how often that class is right",
    f"{_GUO}, norm l2",
)
