"""Cross-entropy of a probability, or its logit, that a label is 1."""

from __future__ import annotations

import math

from lossops.kernels.elementary import exp, log, log1p, pick
from lossops.kernels.jit import inline
from lossops.losses.declaration import LOGITS, UNIT, Curve, Form, Inputs, Interval, Loss, Outlier, Parameter

__all__ = ["binary_term", "binary_term_of_logit", "outside_limits"]

_FAMILY = "classification: probabilities"


@inline
def binary_term(
    target: float,
    prediction: float,
    pos_weight: float,
    clip_low: float,
    clip_high: float,
    binary_log_floor: float,
    binary_log_epsilon: float,
) -> float:
    """Cross-entropy of one target in [0, 1] and one probability."""
    probability = min(max(prediction, clip_low), 1.0 - clip_high)
    # Both terms are computed, so that the loop has no branch; log1p keeps the digits of a small probability.
    one = pos_weight * (target * max(log(probability + binary_log_epsilon), binary_log_floor))
    zero = (1.0 - target) * max(log1p(binary_log_epsilon - probability), binary_log_floor)
    counts_one = (target != 0.0) & (pos_weight != 0.0)  # 0 log 0 = 0
    return (0.0 - pick(counts_one, one, 0.0)) - pick(target != 1.0, zero, 0.0)


@inline
def binary_term_of_logit(target: float, logit: float, pos_weight: float) -> float:
    """The same of a logit: w t softplus(-z) + (1 - t) softplus(z), with nothing that cancels."""
    for_one, for_zero = pos_weight * target, 1.0 - target
    above = for_zero * logit
    below = pos_weight * (target * -logit)
    linear = pick((logit > 0.0) & (for_zero != 0.0), above, 0.0)  # 0 * inf = 0
    linear = pick((logit < 0.0) & (target != 0.0) & (pos_weight != 0.0), below, linear)
    return linear + (for_one + for_zero) * log1p(exp(-abs(logit)))


@inline
def outside_limits(
    target: float, prediction: float, clip_low: float, clip_high: float, binary_log_floor: float
) -> bool:
    """Whether a convention changes the logarithms of this probability that the target asks for."""
    outside = (prediction < clip_low) | (prediction > 1.0 - clip_high)
    if binary_log_floor == -math.inf:
        return outside
    below = (target != 0.0) & (log(prediction) < binary_log_floor)
    return bool(outside | below | ((target != 1.0) & (log1p(-prediction) < binary_log_floor)))


@inline
def _smoothed(label: float, label_smoothing: float) -> float:
    return label * (1.0 - label_smoothing) + 0.5 * label_smoothing


@inline
def _crossentropy(
    label: float,
    prediction: float,
    label_smoothing: float,
    pos_weight: float,
    clip_low: float,
    clip_high: float,
    binary_log_floor: float,
    binary_log_epsilon: float,
) -> float:
    target = _smoothed(label, label_smoothing)
    return binary_term(target, prediction, pos_weight, clip_low, clip_high, binary_log_floor, binary_log_epsilon)


@inline
def _crossentropy_of_logit(label: float, prediction: float, label_smoothing: float, pos_weight: float) -> float:
    return binary_term_of_logit(_smoothed(label, label_smoothing), prediction, pos_weight)


@inline
def _is_clipped(
    label: float,
    prediction: float,
    label_smoothing: float,
    clip_low: float,
    clip_high: float,
    binary_log_floor: float,
) -> bool:
    return outside_limits(_smoothed(label, label_smoothing), prediction, clip_low, clip_high, binary_log_floor)


_TARGET = "(y*(1 - label_smoothing) + label_smoothing/2)"
_OTHER = "(1 - y*(1 - label_smoothing) - label_smoothing/2)"
_SCALE = "loss*(1 + (2/label_smoothing if label_smoothing > 0 else 0))"  # 1 - y' carries the rounding of y'

binary_crossentropy = Loss(
    name="binary_crossentropy",
    summary="negative log-likelihood of a 0/1 or soft label",
    family=_FAMILY,
    inputs=Inputs.ELEMENTS,
    label=UNIT,
    form=Form(
        row=_crossentropy,
        formula=f"-times(pos_weight, xlogy({_TARGET}, p)) - xlogy({_OTHER}, 1 - p)",
        prediction=UNIT,
        clipped=_is_clipped,
        scale=_SCALE,
    ),
    alternatives={
        "from_logits": Form(
            row=_crossentropy_of_logit,
            formula=f"pos_weight*{_TARGET}*log(1 + exp(-p)) + {_OTHER}*log(1 + exp(p))",
            prediction=LOGITS,
            scale=_SCALE,
        )
    },
    parameters=(
        Parameter(
            name="label_smoothing",
            meaning="share s by which labels move to the middle: y (1 - s) + s/2",
            default=0.0,
            domain=Interval(0.0, 1.0),
        ),
        Parameter(
            name="pos_weight",
            meaning="factor of the term of the label 1; the denominator does not change",
            default=1.0,
            domain=Interval(0.0),
        ),
    ),
    curve=Curve(convex=True, smooth=True, slope_bounded=False, symmetric=True, outlier=Outlier.INFINITE),
    also=("log_loss", "logloss", "BCELoss", "BCEWithLogitsLoss", "BinaryCrossentropy", "log_score", "binary_logloss"),
    citation="Keras BinaryCrossentropy, torch BCEWithLogitsLoss; I. J. Good, Rational Decisions, J. R. Statist. Soc. B "
    "14 (1952)",
)
