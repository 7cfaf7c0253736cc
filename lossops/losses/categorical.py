"""Cross-entropy of a probability, or a logit, for each of several classes."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from lossops.kernels.elementary import exp, log1p
from lossops.kernels.jit import inline
from lossops.losses.declaration import (
    LOG_PROBABILITIES,
    LOGITS,
    REALS,
    UNIT,
    Curve,
    Form,
    Inputs,
    Interval,
    Loss,
    Outlier,
    Parameter,
)

__all__ = [
    "CLASS_WEIGHT",
    "LABEL_SMOOTHING",
    "SUMS_TO_ONE",
    "gap",
    "limited",
    "limited_log",
    "log_sum_exp",
    "outside_limits",
    "total",
    "weight_of",
]

_FAMILY = "classification: probabilities"

# float16 labels with smoothing miss 1 by up to 2**-11, so a narrower band would refuse honest labels.
SUMS_TO_ONE = Interval(1.0 - 1e-3, 1.0 + 1e-3)

LABEL_SMOOTHING = Parameter(
    name="label_smoothing",
    meaning="share s of the label spread evenly over the C classes: y (1 - s) + s/C",
    default=0.0,
    domain=Interval(0.0, 1.0),
)
CLASS_WEIGHT = Parameter(
    name="class_weight",
    meaning="a factor for each class, applied to the term of that class",
    default=None,
    domain=Interval(0.0),
    count=lambda width: width,
)


@inline
def total(values: Any) -> float:
    """The sum of some numbers (float64 [values]), four of which are added side by side, always the same."""
    one = two = three = four = 0.0
    whole = values.shape[0] - values.shape[0] % 4
    for j in range(0, whole, 4):
        one, two, three, four = one + values[j], two + values[j + 1], three + values[j + 2], four + values[j + 3]
    for j in range(whole, values.shape[0]):
        one += values[j]
    return (one + two) + (three + four)


@inline
def weight_of(class_weight: Any, j: int) -> float:
    """The weight of a class; 1 where none are given."""
    return class_weight[j] if class_weight.shape[0] > 0 else 1.0


@inline
def limited(probability: float, clip_low: float, clip_high: float) -> float:
    """The probability, no nearer to 0 and 1 than the convention allows."""
    return min(max(probability, clip_low), 1.0 - clip_high)


@inline
def limited_log(probability: float, clip_low: float, clip_high: float, categorical_log_floor: float) -> float:
    """The logarithm of a class probability as the convention limits it."""
    return max(math.log(limited(probability, clip_low, clip_high)), categorical_log_floor)


@inline
def outside_limits(probability: float, clip_low: float, clip_high: float, categorical_log_floor: float) -> bool:
    """Whether the convention changes the logarithm of this probability."""
    if probability < clip_low or probability > 1.0 - clip_high:
        return True
    return math.log(probability) < categorical_log_floor


@inline
def place_of_largest(values: Any) -> int:
    """The first place of the largest of some numbers (float64 [values], none NaN); four run side by side."""
    one = two = three = four = values[0]
    whole = values.shape[0] - values.shape[0] % 4
    for j in range(0, whole, 4):
        one, two = max(one, values[j]), max(two, values[j + 1])
        three, four = max(three, values[j + 2]), max(four, values[j + 3])
    for j in range(whole, values.shape[0]):
        one = max(one, values[j])
    largest = max(one, two, three, four)
    place = 0
    while values[place] != largest:
        place += 1
    return place


@inline
def log_sum_exp(logits: Any) -> tuple[float, float]:
    """Return the largest logit m and log(sum(exp(logits - m))), to full precision also where m dominates."""
    largest = place_of_largest(logits)
    powers = np.empty(logits.shape[0])  # apart from their sum, so that the loop compiles to vector instructions
    for j in range(logits.shape[0]):
        powers[j] = exp(logits[j] - logits[largest])
    powers[largest] = 0.0
    return logits[largest], log1p(total(powers))


@inline
def gap(largest: float, logit: float) -> float:
    """``largest - logit``, also where both are infinite."""
    return 0.0 if logit == largest else largest - logit


@inline
def _crossentropy(
    label: Any,
    prediction: Any,
    label_smoothing: float,
    class_weight: Any,
    clip_low: float,
    clip_high: float,
    categorical_log_floor: float,
    renormalise: float,
) -> float:
    classes = prediction.shape[0]
    divisor = total(prediction) if renormalise != 0.0 else 1.0
    loss = 0.0
    for j in range(classes):
        target = weight_of(class_weight, j) * (label[j] * (1.0 - label_smoothing) + label_smoothing / classes)
        if target != 0.0:  # 0 log 0 = 0
            loss -= target * limited_log(prediction[j] / divisor, clip_low, clip_high, categorical_log_floor)
    return loss


@inline
def _crossentropy_of_logits(label: Any, prediction: Any, label_smoothing: float, class_weight: Any) -> float:
    classes = prediction.shape[0]
    largest, spread = log_sum_exp(prediction)
    loss = 0.0
    for j in range(classes):
        target = weight_of(class_weight, j) * (label[j] * (1.0 - label_smoothing) + label_smoothing / classes)
        if target != 0.0:
            loss += target * (gap(largest, prediction[j]) + spread)
    return loss


@inline
def _crossentropy_of_logs(label: Any, prediction: Any, label_smoothing: float, class_weight: Any) -> float:
    classes = prediction.shape[0]
    loss = 0.0
    for j in range(classes):
        target = weight_of(class_weight, j) * (label[j] * (1.0 - label_smoothing) + label_smoothing / classes)
        if target != 0.0:
            loss -= target * prediction[j]
    return loss


@inline
def _any_clipped(
    label: Any,
    prediction: Any,
    label_smoothing: float,
    clip_low: float,
    clip_high: float,
    categorical_log_floor: float,
    renormalise: float,
) -> bool:
    divisor = total(prediction) if renormalise != 0.0 else 1.0
    for j in range(prediction.shape[0]):
        counts = label[j] != 0.0 or label_smoothing != 0.0
        if counts and outside_limits(prediction[j] / divisor, clip_low, clip_high, categorical_log_floor):
            return True
    return False


@inline
def _sparse_crossentropy(
    label: int,
    prediction: Any,
    label_smoothing: float,
    class_weight: Any,
    clip_low: float,
    clip_high: float,
    categorical_log_floor: float,
    renormalise_sparse: float,
    renormalise_sparse_clipped: float,
) -> float:
    classes = prediction.shape[0]
    divisor = total(prediction) if renormalise_sparse != 0.0 else 1.0
    shift = 0.0  # log of the sum after clipping, where the convention divides by it
    if renormalise_sparse_clipped != 0.0:
        for j in range(classes):
            shift += limited(prediction[j], clip_low, clip_high)
        shift = math.log(shift)
    loss = 0.0
    if label_smoothing != 1.0 and weight_of(class_weight, label) != 0.0:  # 0 log 0 = 0
        log = limited_log(prediction[label] / divisor, clip_low, clip_high, categorical_log_floor)
        loss += (1.0 - label_smoothing) * weight_of(class_weight, label) * (shift - log)
    for j in range(classes if label_smoothing != 0.0 else 0):
        if weight_of(class_weight, j) != 0.0:
            log = limited_log(prediction[j] / divisor, clip_low, clip_high, categorical_log_floor)
            loss += label_smoothing / classes * weight_of(class_weight, j) * (shift - log)
    return loss


@inline
def _sparse_crossentropy_of_logits(label: int, prediction: Any, label_smoothing: float, class_weight: Any) -> float:
    classes = prediction.shape[0]
    largest, spread = log_sum_exp(prediction)
    loss = 0.0
    if label_smoothing != 1.0 and weight_of(class_weight, label) != 0.0:
        term = gap(largest, prediction[label]) + spread
        loss += (1.0 - label_smoothing) * weight_of(class_weight, label) * term
    for j in range(classes if label_smoothing != 0.0 else 0):
        if weight_of(class_weight, j) != 0.0:
            loss += label_smoothing / classes * weight_of(class_weight, j) * (gap(largest, prediction[j]) + spread)
    return loss


@inline
def _sparse_crossentropy_of_logs(label: int, prediction: Any, label_smoothing: float, class_weight: Any) -> float:
    classes = prediction.shape[0]
    loss = 0.0
    if label_smoothing != 1.0 and weight_of(class_weight, label) != 0.0:
        loss -= (1.0 - label_smoothing) * weight_of(class_weight, label) * prediction[label]
    for j in range(classes if label_smoothing != 0.0 else 0):
        if weight_of(class_weight, j) != 0.0:
            loss -= label_smoothing / classes * weight_of(class_weight, j) * prediction[j]
    return loss


@inline
def _sparse_clipped(
    label: int,
    prediction: Any,
    label_smoothing: float,
    clip_low: float,
    clip_high: float,
    categorical_log_floor: float,
    renormalise_sparse: float,
    renormalise_sparse_clipped: float,
) -> bool:
    divisor = total(prediction) if renormalise_sparse != 0.0 else 1.0
    every_class_counts = label_smoothing != 0.0 or renormalise_sparse_clipped != 0.0
    for j in range(prediction.shape[0]):
        counts = j == label or every_class_counts
        if counts and outside_limits(prediction[j] / divisor, clip_low, clip_high, categorical_log_floor):
            return True
    return False


_CURVE = Curve(convex=True, smooth=True, slope_bounded=False, symmetric=True, outlier=Outlier.INFINITE)
_WEIGHTS = "(class_weight or [1]*len(p))"
_TERMS = f"for t, q, w in zip(y, p, {_WEIGHTS})"
_TARGET = "w*(t*(1 - label_smoothing) + label_smoothing/len(p))"
# exp(z - m) has the relative error of the difference of logits
_SPREAD = "loss*(1 + min(800, max(p) - min(p)))"

categorical_crossentropy = Loss(
    name="categorical_crossentropy",
    summary="negative log-likelihood of a one-hot or soft label over classes",
    family=_FAMILY,
    inputs=Inputs.CLASSES,
    label=UNIT,
    label_sum=SUMS_TO_ONE,
    form=Form(
        row=_crossentropy,
        formula=f"-sum(xlogy({_TARGET}, q) {_TERMS})",
        prediction=UNIT,
        clipped=_any_clipped,
        distribution=True,
        ulps_per_value=1.0,
    ),
    alternatives={
        "from_logits": Form(
            row=_crossentropy_of_logits,
            formula=f"sum(times({_TARGET}, log_sum_exp(p) - q) {_TERMS})",
            prediction=LOGITS,
            ulps_per_value=2.0,
            scale=_SPREAD,
        ),
        "from_log_probabilities": Form(
            row=_crossentropy_of_logs,
            formula=f"-sum(times({_TARGET}, q) {_TERMS})",
            prediction=LOG_PROBABILITIES,
            ulps_per_value=1.0,
        ),
    },
    parameters=(LABEL_SMOOTHING, CLASS_WEIGHT),
    curve=_CURVE,
    also=("log_loss", "CrossEntropyLoss", "CategoricalCrossentropy", "softmax_cross_entropy", "log_score"),
    citation="Keras CategoricalCrossentropy; smoothing: Szegedy et al., Rethinking the Inception Architecture (2016)",
)

sparse_categorical_crossentropy = Loss(
    name="sparse_categorical_crossentropy",
    summary="negative log-likelihood of an integer class label",
    family=_FAMILY,
    inputs=Inputs.CLASS_INDEX,
    label=REALS,
    form=Form(
        row=_sparse_crossentropy,
        formula=f"-xlogy((1 - label_smoothing)*{_WEIGHTS}[y], p[y])"
        f" - sum(xlogy(w*label_smoothing/len(p), q) for q, w in zip(p, {_WEIGHTS}))",
        prediction=UNIT,
        clipped=_sparse_clipped,
        distribution=True,
        ulps_per_value=1.0,
    ),
    alternatives={
        "from_logits": Form(
            row=_sparse_crossentropy_of_logits,
            formula=f"times((1 - label_smoothing)*{_WEIGHTS}[y], log_sum_exp(p) - p[y])"
            f" + sum(times(w*label_smoothing/len(p), log_sum_exp(p) - q) for q, w in zip(p, {_WEIGHTS}))",
            prediction=LOGITS,
            ulps_per_value=2.0,
            scale=_SPREAD,
        ),
        "from_log_probabilities": Form(
            row=_sparse_crossentropy_of_logs,
            formula=f"-times((1 - label_smoothing)*{_WEIGHTS}[y], p[y])"
            f" - sum(times(w*label_smoothing/len(p), q) for q, w in zip(p, {_WEIGHTS}))",
            prediction=LOG_PROBABILITIES,
            ulps_per_value=1.0,
        ),
    },
    parameters=(LABEL_SMOOTHING, CLASS_WEIGHT),
    divides_by_class_weights=True,
    curve=_CURVE,
    also=("log_loss", "NLLLoss", "CrossEntropyLoss", "mlogloss", "multi_logloss", "softmax_cross_entropy"),
    citation="Keras SparseCategoricalCrossentropy, torch CrossEntropyLoss with class indices",
)
