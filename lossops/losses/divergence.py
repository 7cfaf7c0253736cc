"""Distances between two distributions over classes, label and prediction."""

from __future__ import annotations

import math
from typing import Any

from lossops.kernels.jit import inline
from lossops.kernels.special import log1p_minus
from lossops.losses.categorical import SUMS_TO_ONE
from lossops.losses.declaration import LOG_PROBABILITIES, UNIT, Curve, Form, Inputs, Interval, Loss, Outlier

__all__: list[str] = []

_FAMILY = "distributions: divergences"
_AMOUNTS = Interval(0.0)
_LOGS_OF_AMOUNTS = Interval(infinite=True)


@inline
def _log_ratio(numerator: float, denominator: float) -> float:
    """The logarithm of a ratio that need not be a float64 itself; -inf where the numerator is 0."""
    ratio = numerator / denominator
    if 1e-300 < ratio < 1e300:
        return math.log(ratio)
    return math.log(numerator) - math.log(denominator)


@inline
def _excess(label: float, prediction: float) -> float:
    """``y log(y/p) - y + p``: never negative, and exact to a few digits where y and p are close."""
    if label == 0.0:
        return prediction
    change = (prediction - label) / label
    if -0.5 <= change <= 1.0:
        return label * log1p_minus(change)
    return (prediction - label) - label * _log_ratio(prediction, label)


@inline
def _excess_of_log(label: float, logarithm: float) -> float:
    """The same of log(p)."""
    if label == 0.0 or logarithm == math.inf:
        return math.exp(logarithm)
    gap = logarithm - math.log(label)
    if abs(gap) < 0.7:
        return label * log1p_minus(math.expm1(gap))
    return (math.exp(logarithm) - label) - label * gap


@inline
def _kullback_leibler(label: Any, prediction: Any, divergence_clip: float) -> float:
    """The excesses, and the difference of the two sums with what rounding takes from it, where the label is not 0."""
    loss = difference = lost = 0.0
    for j in range(prediction.shape[0]):
        target = min(max(label[j], divergence_clip), 1.0)
        probability = min(max(prediction[j], divergence_clip), 1.0)
        if target == 0.0:  # 0 log 0 = 0
            continue
        loss += _excess(target, probability)
        step = target - probability
        total = difference + step
        added = total - difference
        lost += (difference - (total - added)) + (step - added)
        difference = total
    return loss + (difference + lost)


@inline
def _any_clipped(label: Any, prediction: Any, divergence_clip: float) -> bool:
    changed = False
    for j in range(prediction.shape[0]):
        changed = changed or prediction[j] < divergence_clip or prediction[j] > 1.0
    return changed


@inline
def _kullback_leibler_of_logs(label: Any, prediction: Any) -> float:
    loss = 0.0
    for j in range(prediction.shape[0]):
        if label[j] != 0.0:  # 0 log 0 = 0
            loss += label[j] * (math.log(label[j]) - prediction[j])
    return loss


@inline
def _generalized(label: Any, prediction: Any) -> float:
    loss = 0.0
    for j in range(prediction.shape[0]):
        loss += _excess(label[j], prediction[j])
    return loss


@inline
def _generalized_of_logs(label: Any, prediction: Any) -> float:
    loss = 0.0
    for j in range(prediction.shape[0]):
        loss += _excess_of_log(label[j], prediction[j])
    return loss


@inline
def _log_of_double_share(part: float, total: float) -> float:
    """``x log(2x/s)`` with 0 log 0 = 0."""
    return part * math.log(2.0 * (part / total)) if part > 0.0 else 0.0


@inline
def _jensen_shannon(label: Any, prediction: Any) -> float:
    loss = 0.0
    for j in range(prediction.shape[0]):
        total = label[j] + prediction[j]
        if total == 0.0:
            continue
        lean = (prediction[j] - label[j]) / total
        if abs(lean) < 0.5:  # of the order lean**2, from two terms of that order
            loss += 0.25 * total * (2.0 * lean * math.atanh(lean) + math.log1p(-lean * lean))
        else:
            loss += 0.5 * (_log_of_double_share(label[j], total) + _log_of_double_share(prediction[j], total))
    return loss


_ZOOM = 2.0**200  # keeps the squares of the smallest differences of roots, 1e-170, in the range of float64


@inline
def _hellinger(label: Any, prediction: Any) -> float:
    squares = 0.0
    for j in range(prediction.shape[0]):
        if label[j] != prediction[j]:
            step = (prediction[j] - label[j]) / (math.sqrt(prediction[j]) + math.sqrt(label[j])) * _ZOOM
            squares += step * step
    return math.sqrt(0.5 * squares) / _ZOOM


@inline
def _total_variation(label: Any, prediction: Any) -> float:
    loss = 0.0
    for j in range(prediction.shape[0]):
        loss += abs(prediction[j] - label[j])
    return 0.5 * loss


_PAIRS = "for t, q in zip(y, p)"
_MIDDLE = "((t + q)/2)"
_KL = Curve(convex=True, smooth=True, slope_bounded=False, symmetric=True, outlier=Outlier.INFINITE)

kl_divergence = Loss(
    name="kl_divergence",
    summary="Kullback-Leibler divergence, in nats, from the label's distribution to the predicted one; it can be "
    "negative where the predictions sum to more than the labels",
    family=_FAMILY,
    inputs=Inputs.VECTORS,
    label=UNIT,
    label_sum=SUMS_TO_ONE,
    lifted_by="divergence_clip",
    form=Form(
        row=_kullback_leibler,
        formula=f"sum(xlogy(t, t) - xlogy(t, q) {_PAIRS})",
        prediction=UNIT,
        clipped=_any_clipped,
        distribution=True,
        ulps=8.0,  # excesses away from p = y are the difference of terms up to four times as large
        ulps_per_value=1.0,
        # A part that is never negative, and a difference of either sign.
        scale=f"abs(loss) + 2*abs(sum(t - q {_PAIRS} if t > 0))",
    ),
    alternatives={
        "from_log_probabilities": Form(
            row=_kullback_leibler_of_logs,
            formula=f"sum(xlogy(t, t) - times(t, q) {_PAIRS})",
            prediction=LOG_PROBABILITIES,
            ulps_per_value=1.0,
            # the logarithm of the label is rounded before that of the prediction is taken from it
            scale=f"sum(abs(xlogy(t, t)) + abs(times(t, q)) {_PAIRS})",
        )
    },
    curve=_KL,
    also=("KLDivergence", "KLDivLoss", "kullback_leibler_divergence", "relative entropy", "rel_entr"),
    citation="S. Kullback, R. A. Leibler, On Information and Sufficiency, Ann. Math. Statist. 22 (1951); Keras "
    "KLDivergence, torch KLDivLoss",
)

generalized_kl_divergence = Loss(
    name="generalized_kl_divergence",
    summary="Kullback-Leibler divergence of amounts that need not sum to one; never negative",
    family=_FAMILY,
    inputs=Inputs.VECTORS,
    label=_AMOUNTS,
    form=Form(
        row=_generalized,
        formula=f"sum(xlogy(t, t) - xlogy(t, q) - t + q {_PAIRS})",
        prediction=_AMOUNTS,
        ulps=8.0,
        ulps_per_value=1.0,
    ),
    alternatives={
        "from_log_probabilities": Form(
            row=_generalized_of_logs,
            formula=f"sum(xlogy(t, t) - times(t, q) - t + exp(q) {_PAIRS})",
            prediction=_LOGS_OF_AMOUNTS,
            ulps=8.0,
            ulps_per_value=1.0,
            # the rounded logarithm of the label, times the slope
            scale=f"loss + sum(abs(exp(q) - t)*(1 + 2*abs(log(t))) if t > 0 else 0 {_PAIRS})",
        )
    },
    curve=_KL,
    also=("I-divergence", "generalized_kl_divergence", "kl_div"),
    citation="I. Csiszar, Why least squares and maximum entropy?, Ann. Statist. 19 (1991); optax",
)

jensen_shannon_divergence = Loss(
    name="jensen_shannon_divergence",
    summary="mean divergence, in nats, of both distributions from their middle; between distributions at most log 2",
    family=_FAMILY,
    inputs=Inputs.VECTORS,
    label=UNIT,
    label_sum=SUMS_TO_ONE,
    form=Form(
        row=_jensen_shannon,
        formula=f"sum(xlogy(t, t) - xlogy(t, {_MIDDLE}) + xlogy(q, q) - xlogy(q, {_MIDDLE}) {_PAIRS})/2",
        prediction=UNIT,
        distribution=True,
        ulps=12.0,  # each term is the difference of terms up to four times as large
        ulps_per_value=1.0,
    ),
    curve=Curve(convex=True, smooth=True, slope_bounded=False, symmetric=True, outlier=Outlier.BOUNDED),
    also=("JSD", "jensenshannon (its square)"),
    citation="J. Lin, Divergence measures based on the Shannon entropy, IEEE Trans. Inf. Theory 37 (1991)",
)

hellinger_distance = Loss(
    name="hellinger_distance",
    summary="root of half the squared differences of the roots of probabilities; between distributions at most 1",
    family=_FAMILY,
    inputs=Inputs.VECTORS,
    label=UNIT,
    label_sum=SUMS_TO_ONE,
    form=Form(
        row=_hellinger,
        formula=f"sqrt(sum((sqrt(t) - sqrt(q))**2 {_PAIRS})/2)",
        prediction=UNIT,
        distribution=True,
        ulps_per_value=1.0,
    ),
    curve=Curve(convex=False, smooth=False, slope_bounded=False, symmetric=True, outlier=Outlier.BOUNDED),
    also=("Bhattacharyya",),
    citation="E. Hellinger, J. reine angew. Math. 136 (1909); A. W. van der Vaart, Asymptotic Statistics (1998), 14.5",
)

total_variation_distance = Loss(
    name="total_variation_distance",
    summary="half the sum of absolute differences of probabilities: the largest difference over all events",
    family=_FAMILY,
    inputs=Inputs.VECTORS,
    label=UNIT,
    label_sum=SUMS_TO_ONE,
    form=Form(
        row=_total_variation,
        formula=f"sum(abs(t - q) {_PAIRS})/2",
        prediction=UNIT,
        distribution=True,
        ulps_per_value=1.0,
    ),
    curve=Curve(convex=True, smooth=False, slope_bounded=True, symmetric=True, outlier=Outlier.BOUNDED),
    also=("statistical distance", "TVD"),
    citation="D. A. Levin, Y. Peres, Markov Chains and Mixing Times (2017), 4.1",
)
