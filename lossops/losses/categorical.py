"""Losses of a probability, or a logit, for each of several classes."""

from __future__ import annotations

import math
from typing import Any

from lossops.kernels.jit import inline
from lossops.losses.declaration import REALS, UNIT, Form, Inputs, Interval, Loss, Parameter

__all__: list[str] = []

# float16 labels with smoothing miss 1 by up to 2**-11, so a narrower band would refuse honest labels.
_SUMS_TO_ONE = Interval(1.0 - 1e-3, 1.0 + 1e-3)

_LABEL_SMOOTHING = Parameter(
    name="label_smoothing",
    meaning="share s of the label spread evenly over the C classes: y (1 - s) + s/C",
    default=0.0,
    domain=Interval(0.0, 1.0),
)
_IGNORE_CLASS = Parameter(
    name="ignore_class",
    meaning="rows with this label are left out and counted; its class stays among the predictions",
    default=None,
    integer=True,
)


@inline
def _sum(values: Any) -> float:
    total = 0.0
    for j in range(values.shape[0]):
        total += values[j]
    return total


@inline
def _limited(probability: float, clip: float) -> float:
    return min(max(probability, clip), 1.0 - clip)


@inline
def _log_sum_exp(logits: Any) -> tuple[float, float]:
    """Return the largest logit m and log(sum(exp(logits - m))), to full precision also where m dominates."""
    largest = 0
    for j in range(logits.shape[0]):
        if logits[j] > logits[largest]:
            largest = j
    others = 0.0
    for j in range(logits.shape[0]):
        if j != largest:
            others += math.exp(logits[j] - logits[largest])
    return logits[largest], math.log1p(others)


@inline
def _crossentropy(label: Any, prediction: Any, label_smoothing: float, clip: float, renormalise: float) -> float:
    classes = prediction.shape[0]
    total = _sum(prediction) if renormalise != 0.0 else 1.0
    loss = 0.0
    for j in range(classes):
        target = label[j] * (1.0 - label_smoothing) + label_smoothing / classes
        if target != 0.0:  # 0 log 0 = 0
            loss -= target * math.log(_limited(prediction[j] / total, clip))
    return loss


@inline
def _crossentropy_of_logits(label: Any, prediction: Any, label_smoothing: float) -> float:
    classes = prediction.shape[0]
    largest, spread = _log_sum_exp(prediction)
    loss = 0.0
    for j in range(classes):
        target = label[j] * (1.0 - label_smoothing) + label_smoothing / classes
        if target != 0.0:
            loss += target * ((largest - prediction[j]) + spread)
    return loss


@inline
def _is_clipped(probability: float, clip: float) -> bool:
    return probability < clip or probability > 1.0 - clip


@inline
def _any_clipped(label: Any, prediction: Any, label_smoothing: float, clip: float, renormalise: float) -> bool:
    total = _sum(prediction) if renormalise != 0.0 else 1.0
    for j in range(prediction.shape[0]):
        if (label[j] != 0.0 or label_smoothing != 0.0) and _is_clipped(prediction[j] / total, clip):
            return True
    return False


@inline
def _sparse_crossentropy(
    label: int,
    prediction: Any,
    label_smoothing: float,
    clip: float,
    renormalise_sparse: float,
    renormalise_sparse_clipped: float,
) -> float:
    classes = prediction.shape[0]
    total = _sum(prediction) if renormalise_sparse != 0.0 else 1.0
    loss = 0.0
    if label_smoothing != 1.0:  # 0 log 0 = 0
        loss -= (1.0 - label_smoothing) * math.log(_limited(prediction[label] / total, clip))
    if label_smoothing != 0.0:
        for j in range(classes):
            loss -= label_smoothing / classes * math.log(_limited(prediction[j] / total, clip))
    if renormalise_sparse_clipped != 0.0:
        limited = 0.0
        for j in range(classes):
            limited += _limited(prediction[j], clip)
        loss += math.log(limited)
    return loss


@inline
def _sparse_crossentropy_of_logits(label: int, prediction: Any, label_smoothing: float) -> float:
    classes = prediction.shape[0]
    largest, spread = _log_sum_exp(prediction)
    loss: float = (1.0 - label_smoothing) * (largest - prediction[label])
    for j in range(classes if label_smoothing != 0.0 else 0):
        loss += label_smoothing / classes * (largest - prediction[j])
    return loss + spread


@inline
def _sparse_clipped(
    label: int,
    prediction: Any,
    label_smoothing: float,
    clip: float,
    renormalise_sparse: float,
    renormalise_sparse_clipped: float,
) -> bool:
    total = _sum(prediction) if renormalise_sparse != 0.0 else 1.0
    every_class_counts = label_smoothing != 0.0 or renormalise_sparse_clipped != 0.0
    for j in range(prediction.shape[0]):
        if (j == label or every_class_counts) and _is_clipped(prediction[j] / total, clip):
            return True
    return False


categorical_crossentropy = Loss(
    name="categorical_crossentropy",
    summary="negative log-likelihood of a one-hot or soft label over classes",
    inputs=Inputs.LABEL_VECTOR,
    label=UNIT,
    label_sum=_SUMS_TO_ONE,
    form=Form(
        row=_crossentropy,
        formula="-sum(xlogy(t*(1 - label_smoothing) + label_smoothing/len(p), q) for t, q in zip(y, p))",
        prediction=UNIT,
        clipped=_any_clipped,
        divides_by_sum=True,
    ),
    logits=Form(
        row=_crossentropy_of_logits,
        formula="sum((t*(1 - label_smoothing) + label_smoothing/len(p))*(log(sum(exp(z) for z in p)) - q)"
        " for t, q in zip(y, p))",
        prediction=REALS,
    ),
    parameters=(_LABEL_SMOOTHING,),
    citation="Keras CategoricalCrossentropy; smoothing: Szegedy et al., Rethinking the Inception Architecture (2016)",
)

sparse_categorical_crossentropy = Loss(
    name="sparse_categorical_crossentropy",
    summary="negative log-likelihood of an integer class label",
    inputs=Inputs.CLASS_INDEX,
    label=REALS,
    form=Form(
        row=_sparse_crossentropy,
        formula="-xlogy(1 - label_smoothing, p[y]) - sum(xlogy(label_smoothing/len(p), q) for q in p)",
        prediction=UNIT,
        clipped=_sparse_clipped,
        divides_by_sum=True,
    ),
    logits=Form(
        row=_sparse_crossentropy_of_logits,
        formula="log(sum(exp(z) for z in p)) - (1 - label_smoothing)*p[y] - label_smoothing/len(p)*sum(p)",
        prediction=REALS,
    ),
    parameters=(_LABEL_SMOOTHING, _IGNORE_CLASS),
    citation="Keras SparseCategoricalCrossentropy, torch CrossEntropyLoss with class indices",
)
