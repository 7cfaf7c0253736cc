"""Scores of probability forecasts other than the logarithm: 0 for certainty that is right, larger is worse."""

from __future__ import annotations

import math
from typing import Any

from lossops.kernels.jit import inline
from lossops.losses.categorical import SUMS_TO_ONE
from lossops.losses.declaration import REALS, UNIT, Curve, Form, Inputs, Loss, Outlier, Parameter

__all__: list[str] = []

_FAMILY = "classification: scores of forecasts"


@inline
def _brier(label: float, prediction: float, scale_by_half: float) -> float:
    miss = prediction - label
    return miss * miss if scale_by_half != 0.0 else 2.0 * miss * miss


@inline
def _multiclass_brier(label: Any, prediction: Any, scale_by_half: float, halve_two_classes: float) -> float:
    classes = prediction.shape[0]
    score = 0.0
    for j in range(classes):
        miss = prediction[j] - label[j]
        score += miss * miss
    return 0.5 * score if scale_by_half != 0.0 or (halve_two_classes != 0.0 and classes == 2) else score


@inline
def _spherical(label: int, prediction: Any) -> float:
    largest = 0.0
    for j in range(prediction.shape[0]):
        largest = max(largest, prediction[j])
    others = 0.0
    for j in range(prediction.shape[0]):
        if j != label:
            others += (prediction[j] / largest) ** 2
    own = prediction[label] / largest
    length = math.sqrt(own * own + others)
    return float(others / (length * (length + own)))  # 1 - own/length without the difference


@inline
def _plus(total: float, rest: float, value: float) -> tuple[float, float]:
    """Add to a sum that is held as two numbers, so that its distance from 1 keeps its digits."""
    found = total + value
    added = found - total
    return found, rest + ((total - (found - added)) + (value - added))


@inline
def _ranked_probability(label: int, prediction: Any, normalise: float) -> float:
    classes = prediction.shape[0]
    score, below, rest = 0.0, 0.0, 0.0
    for k in range(classes):
        below, rest = _plus(below, rest, prediction[k])
        miss, tail = _plus(below, rest, -1.0) if k >= label else (below, rest)
        score += (miss + tail) ** 2
    return score / (classes - 1) if normalise != 0.0 else score


@inline
def _ranked_log(label: int, prediction: Any) -> float:
    score, below, rest = 0.0, 0.0, 0.0
    for k in range(prediction.shape[0]):
        below, rest = _plus(below, rest, prediction[k])
        given, tail = (below, rest) if k >= label else _plus(below, rest, -1.0)
        sign = -1.0 if given + tail < 0.0 else 1.0
        given, tail = sign * given, sign * tail
        score -= math.log1p((given - 1.0) + tail) if given > 0.5 else math.log(given + tail)
    return score


_HALF = "(1/2 if scale_by_half else 1)"
_GIVEN = "log(abs(sum(p[:k + 1]) - (0 if y <= k else 1)))"

brier = Loss(
    name="brier",
    summary="squared difference between a probability and what happened",
    family=_FAMILY,
    inputs=Inputs.ELEMENTS,
    label=UNIT,
    form=Form(row=_brier, formula="(p - y)**2 if scale_by_half else (p - y)**2 + (y - p)**2", prediction=UNIT),
    parameters=(
        Parameter(
            name="scale_by_half",
            meaning="true: (p - y)^2; false: the sum over both classes, twice that",
            default=True,
            domain=None,
        ),
    ),
    curve=Curve(convex=True, smooth=True, slope_bounded=True, symmetric=True, outlier=Outlier.BOUNDED),
    also=("brier_score", "brier_score_loss", "BrierScore"),
    citation="G. W. Brier, Verification of Forecasts Expressed in Terms of Probability, Monthly Weather Review 78 "
    "(1950); scikit-learn brier_score_loss, scoringrules brier_score",
)

multiclass_brier = Loss(
    name="multiclass_brier",
    summary="squared difference between class probabilities and what happened, summed over the classes: 0 to 2",
    family=_FAMILY,
    inputs=Inputs.CLASSES,
    label=UNIT,
    label_sum=SUMS_TO_ONE,
    form=Form(
        row=_multiclass_brier,
        formula=f"{_HALF}*sum((c - t)**2 for t, c in zip(y, p))",
        prediction=UNIT,
        distribution=True,
        ulps_per_value=1.0,
    ),
    parameters=(
        Parameter(
            name="scale_by_half",
            meaning="half of the sum, so that the score lies in 0 to 1",
            default=False,
            domain=None,
        ),
    ),
    curve=Curve(convex=True, smooth=True, slope_bounded=True, symmetric=True, outlier=Outlier.BOUNDED),
    also=("brier_score_loss", "quadratic_score"),
    citation="G. W. Brier, Verification of Forecasts Expressed in Terms of Probability, Monthly Weather Review 78 "
    "(1950); scikit-learn brier_score_loss",
)

spherical_score = Loss(
    name="spherical_score",
    summary="1 minus the probability of what happened divided by the length of the vector of probabilities",
    family=_FAMILY,
    inputs=Inputs.CLASS_INDEX,
    label=REALS,
    form=Form(
        row=_spherical,
        formula="1 - p[y]/norm(p)",
        prediction=UNIT,
        distribution=True,
        ulps=8.0,  # a quotient, a root and a product of sums of squared quotients
        ulps_per_value=1.0,
    ),
    curve=Curve(convex=False, smooth=True, slope_bounded=True, symmetric=True, outlier=Outlier.BOUNDED),
    also=("SphericalScore",),
    citation="T. Gneiting and A. E. Raftery, Strictly Proper Scoring Rules, Prediction, and Estimation, J. Am. Stat. "
    "Assoc. 102 (2007)",
)

ranked_probability_score = Loss(
    name="ranked_probability_score",
    summary="squared difference between cumulative probabilities of ordered classes and what happened, summed",
    family=_FAMILY,
    inputs=Inputs.CLASS_INDEX,
    label=REALS,
    form=Form(
        row=_ranked_probability,
        formula="sum((sum(p[:k + 1]) - (1 if y <= k else 0))**2 for k in range(len(p)))"
        "/(len(p) - 1 if normalise else 1)",
        prediction=UNIT,
        ulps_per_value=1.0,
    ),
    parameters=(
        Parameter(
            name="normalise",
            meaning="divide by the number of classes minus 1, so that the score lies in 0 to 1",
            default=False,
            domain=None,
        ),
    ),
    curve=Curve(convex=True, smooth=True, slope_bounded=True, symmetric=False, outlier=Outlier.BOUNDED),
    also=("rps", "rps_score"),
    citation="E. S. Epstein, A Scoring System for Probability Forecasts of Ranked Categories, J. Appl. Meteorol. 8 "
    "(1969); scoringrules rps_score",
)

ranked_log_score = Loss(
    name="ranked_log_score",
    summary="negative log-likelihood of what happened under each cumulative probability of ordered classes, summed",
    family=_FAMILY,
    inputs=Inputs.CLASS_INDEX,
    label=REALS,
    form=Form(
        row=_ranked_log,
        formula=f"-sum({_GIVEN} for k in range(len(p)))",
        prediction=UNIT,
        ulps_per_value=1.0,
        scale=f"sum(abs({_GIVEN}) for k in range(len(p)))",  # where the sum is not 1, a cumulative may exceed 1
    ),
    curve=Curve(convex=True, smooth=True, slope_bounded=False, symmetric=False, outlier=Outlier.INFINITE),
    also=("rls", "rls_score"),
    citation="J. Todter and B. Ahrens, Generalization of the Ignorance Score: Continuous Ranked Version and Its "
    "Decomposition, Mon. Weather Rev. 140 (2012); scoringrules rls_score",
)
