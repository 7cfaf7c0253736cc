"""Losses of a probability, or its logit, that a label is 1."""

from __future__ import annotations

import math

from lossops.kernels.jit import inline
from lossops.losses.declaration import REALS, UNIT, Form, Inputs, Interval, Loss, Parameter

__all__: list[str] = []


@inline
def _crossentropy(
    label: float, prediction: float, label_smoothing: float, clip: float, binary_log_epsilon: float
) -> float:
    target = label * (1.0 - label_smoothing) + 0.5 * label_smoothing
    probability = min(max(prediction, clip), 1.0 - clip)
    loss = 0.0
    if target != 0.0:  # 0 log 0 = 0
        loss -= target * math.log(probability + binary_log_epsilon)
    if target != 1.0:  # log1p keeps the digits of a small probability
        loss -= (1.0 - target) * math.log1p(binary_log_epsilon - probability)
    return loss


@inline
def _crossentropy_of_logit(label: float, prediction: float, label_smoothing: float) -> float:
    target = label * (1.0 - label_smoothing) + 0.5 * label_smoothing
    # max(z, 0) - z t + log(1 + e^-|z|), with the first two terms taken together so that nothing cancels
    linear = (1.0 - target) * prediction if prediction > 0.0 else -target * prediction
    return linear + math.log1p(math.exp(-abs(prediction)))


@inline
def _is_clipped(label: float, prediction: float, clip: float) -> bool:
    return prediction < clip or prediction > 1.0 - clip


binary_crossentropy = Loss(
    name="binary_crossentropy",
    summary="negative log-likelihood of a 0/1 or soft label",
    inputs=Inputs.ELEMENTS,
    label=UNIT,
    form=Form(
        row=_crossentropy,
        formula="-xlogy(y*(1 - label_smoothing) + label_smoothing/2, p)"
        " - xlogy(1 - y*(1 - label_smoothing) - label_smoothing/2, 1 - p)",
        prediction=UNIT,
        clipped=_is_clipped,
    ),
    logits=Form(
        row=_crossentropy_of_logit,
        formula="log(1 + exp(p)) - (y*(1 - label_smoothing) + label_smoothing/2)*p",
        prediction=REALS,
    ),
    parameters=(
        Parameter(
            name="label_smoothing",
            meaning="share s by which labels move to the middle: y (1 - s) + s/2",
            default=0.0,
            domain=Interval(0.0, 1.0),
        ),
    ),
    citation="Keras BinaryCrossentropy; I. J. Good, Rational Decisions, J. R. Statist. Soc. B 14 (1952)",
)
