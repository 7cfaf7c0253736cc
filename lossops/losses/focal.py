"""Cross-entropies with another weight on the rows that a model already gets right."""

from __future__ import annotations

import math
from typing import Any

from lossops.kernels.jit import inline
from lossops.kernels.special import log1p_minus
from lossops.losses.binary import binary_term, binary_term_of_logit
from lossops.losses.binary import outside_limits as outside_binary_limits
from lossops.losses.categorical import (
    CLASS_WEIGHT,
    LABEL_SMOOTHING,
    SUMS_TO_ONE,
    gap,
    limited,
    limited_log,
    log_sum_exp,
    outside_limits,
    total,
    weight_of,
)
from lossops.losses.declaration import LOGITS, UNIT, Curve, Form, Inputs, Interval, Loss, Outlier, Parameter
from lossops.losses.multilabel import MOVED_TO_THE_MIDDLE, moved_to_the_middle

__all__: list[str] = []

_FAMILY = "classification: probabilities"


@inline
def _power(base: float, exponent: float) -> float:
    return base * base if exponent == 2.0 else base**exponent  # the default, without the cost of a power


@inline
def _balance(target: float, alpha: float, apply_class_balancing: float) -> float:
    return target * alpha + (1.0 - target) * (1.0 - alpha) if apply_class_balancing != 0.0 else 1.0


@inline
def _binary_focal(
    label: float,
    prediction: float,
    gamma: float,
    alpha: float,
    apply_class_balancing: float,
    label_smoothing: float,
    clip_low: float,
    clip_high: float,
    binary_log_floor: float,
    binary_log_epsilon: float,
) -> float:
    target = moved_to_the_middle(label, label_smoothing)
    weight = _balance(target, alpha, apply_class_balancing)
    if weight == 0.0:  # 0 * inf = 0
        return 0.0
    # Conventions limit only the probability inside the logarithm.
    missing = target * (1.0 - prediction) + (1.0 - target) * prediction
    loss = binary_term(target, prediction, 1.0, clip_low, clip_high, binary_log_floor, binary_log_epsilon)
    return loss if math.isinf(loss) else weight * _power(missing, gamma) * loss  # the power may underflow


@inline
def _binary_focal_of_logit(
    label: float, prediction: float, gamma: float, alpha: float, apply_class_balancing: float, label_smoothing: float
) -> float:
    target = moved_to_the_middle(label, label_smoothing)
    weight = _balance(target, alpha, apply_class_balancing)
    if weight == 0.0:
        return 0.0
    # Of the two probabilities 1/(1 + r) and r/(1 + r), neither is found as 1 minus the other.
    ratio = math.exp(-abs(prediction))
    at_one, at_zero = (ratio, 1.0) if prediction > 0.0 else (1.0, ratio)
    missing = (target * at_one + (1.0 - target) * at_zero) / (1.0 + ratio)
    loss = binary_term_of_logit(target, prediction, 1.0)
    return loss if math.isinf(loss) else weight * _power(missing, gamma) * loss


@inline
def _binary_is_clipped(
    label: float,
    prediction: float,
    label_smoothing: float,
    clip_low: float,
    clip_high: float,
    binary_log_floor: float,
) -> bool:
    target = moved_to_the_middle(label, label_smoothing)
    return outside_binary_limits(target, prediction, clip_low, clip_high, binary_log_floor)


@inline
def _target(label: float, classes: int, label_smoothing: float) -> float:
    return label * (1.0 - label_smoothing) + label_smoothing / classes


@inline
def _categorical_focal(
    label: Any,
    prediction: Any,
    gamma: float,
    alpha: float,
    class_weight: Any,
    label_smoothing: float,
    clip_low: float,
    clip_high: float,
    categorical_log_floor: float,
    renormalise: float,
) -> float:
    classes = prediction.shape[0]
    divisor = total(prediction) if renormalise != 0.0 else 1.0
    loss = 0.0
    for j in range(classes):
        factor, target = alpha * weight_of(class_weight, j), _target(label[j], classes, label_smoothing)
        if factor != 0.0 and target != 0.0:  # 0 log 0 = 0
            share = prediction[j] / divisor
            log = limited_log(share, clip_low, clip_high, categorical_log_floor)
            loss -= factor * (target * _power(1.0 - limited(share, clip_low, clip_high), gamma) * log)
    return loss


@inline
def _categorical_focal_of_logits(
    label: Any, prediction: Any, gamma: float, alpha: float, class_weight: Any, label_smoothing: float
) -> float:
    classes = prediction.shape[0]
    largest, spread = log_sum_exp(prediction)
    loss = 0.0
    for j in range(classes):
        factor, target = alpha * weight_of(class_weight, j), _target(label[j], classes, label_smoothing)
        if factor != 0.0 and target != 0.0:
            surprise = gap(largest, prediction[j]) + spread  # -log of the probability
            loss += factor * (target * _power(-math.expm1(-surprise), gamma) * surprise)
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
def _generalized(label: Any, prediction: Any, q: float) -> float:
    loss = 0.0
    for j in range(prediction.shape[0]):
        if label[j] != 0.0:
            loss -= label[j] * math.expm1(q * math.log(prediction[j]))
    return loss / q


@inline
def _generalized_of_logits(label: Any, prediction: Any, q: float) -> float:
    largest, spread = log_sum_exp(prediction)
    loss = 0.0
    for j in range(prediction.shape[0]):
        if label[j] != 0.0:
            loss -= label[j] * math.expm1(-q * (gap(largest, prediction[j]) + spread))
    return loss / q


@inline
def _poly1_term(surprise: float, missing: float, epsilon: float) -> float:
    """-log(p) + epsilon (1 - p), whose parts cancel near p = 1 where epsilon is negative."""
    if missing < 0.5:
        return log1p_minus(-missing) + (1.0 + epsilon) * missing
    return surprise + epsilon * missing


@inline
def _poly1(
    label: Any,
    prediction: Any,
    epsilon: float,
    clip_low: float,
    clip_high: float,
    categorical_log_floor: float,
    renormalise: float,
) -> float:
    divisor = total(prediction) if renormalise != 0.0 else 1.0
    loss = 0.0
    for j in range(prediction.shape[0]):
        if label[j] != 0.0:
            share = prediction[j] / divisor
            log = limited_log(share, clip_low, clip_high, categorical_log_floor)
            loss += label[j] * _poly1_term(-log, 1.0 - limited(share, clip_low, clip_high), epsilon)
    return loss


@inline
def _poly1_of_logits(label: Any, prediction: Any, epsilon: float) -> float:
    largest, spread = log_sum_exp(prediction)
    loss = 0.0
    for j in range(prediction.shape[0]):
        if label[j] != 0.0:
            surprise = gap(largest, prediction[j]) + spread
            loss += label[j] * _poly1_term(surprise, -math.expm1(-surprise), epsilon)
    return loss


@inline
def _poly1_any_clipped(
    label: Any,
    prediction: Any,
    clip_low: float,
    clip_high: float,
    categorical_log_floor: float,
    renormalise: float,
) -> bool:
    return _any_clipped(label, prediction, 0.0, clip_low, clip_high, categorical_log_floor, renormalise)


_GAMMA = Parameter(
    name="gamma",
    meaning="power of the missing probability by which a row counts; 0 is the cross-entropy",
    default=2.0,
    domain=Interval(0.0),
)
_CURVE = Curve(convex=True, smooth=True, slope_bounded=False, symmetric=True, outlier=Outlier.INFINITE)
# A power has gamma times the relative error of its base, and 1 - y' carries the rounding of y'.
_BINARY_SCALE = "loss*(1 + gamma)*(1 + (2/label_smoothing if label_smoothing > 0 else 0))"
_BINARY_TARGET = "for t in [y*(1 - label_smoothing) + label_smoothing/2]"
_BALANCE = "(t*alpha + (1 - t)*(1 - alpha) if apply_class_balancing else 1)"
_TERMS = "for t, c, w in zip(y, p, class_weight or [1]*len(p))"
_FACTOR = "alpha*w*(t*(1 - label_smoothing) + label_smoothing/len(p))"
# exp(z - m) has the relative error of the difference of logits
_SPREAD = "loss*(1 + min(800, max(p) - min(p)))"

binary_focal_crossentropy = Loss(
    name="binary_focal_crossentropy",
    summary="binary cross-entropy times a power of the probability that the prediction misses",
    family=_FAMILY,
    inputs=Inputs.ELEMENTS,
    label=UNIT,
    form=Form(
        row=_binary_focal,
        formula=f"sum(times({_BALANCE}*(1 - t*p - (1 - t)*(1 - p))**gamma, -xlogy(t, p) - xlogy(1 - t, 1 - p))"
        f" {_BINARY_TARGET})",
        prediction=UNIT,
        clipped=_binary_is_clipped,
        scale=_BINARY_SCALE,
    ),
    alternatives={
        "from_logits": Form(
            row=_binary_focal_of_logit,
            formula=f"sum({_BALANCE}*(t/(1 + exp(p)) + (1 - t)/(1 + exp(-p)))**gamma"
            f"*(t*log(1 + exp(-p)) + (1 - t)*log(1 + exp(p))) {_BINARY_TARGET})",
            prediction=LOGITS,
            scale=_BINARY_SCALE,
        )
    },
    parameters=(
        _GAMMA,
        Parameter(
            name="alpha",
            meaning="factor of the label 1 where classes are balanced; that of the label 0 is 1 - alpha",
            default=0.25,
            domain=Interval(0.0, 1.0),
        ),
        Parameter(
            name="apply_class_balancing",
            meaning="whether rows are weighted by alpha at all",
            default=False,
            domain=None,
        ),
        MOVED_TO_THE_MIDDLE,
    ),
    curve=_CURVE,
    also=("BinaryFocalCrossentropy", "sigmoid_focal_loss", "focal_loss"),
    citation="Lin et al., Focal Loss for Dense Object Detection, ICCV 2017; Keras BinaryFocalCrossentropy",
)

categorical_focal_crossentropy = Loss(
    name="categorical_focal_crossentropy",
    summary="categorical cross-entropy, each class times alpha and a power of the probability that it misses",
    family=_FAMILY,
    inputs=Inputs.CLASSES,
    label=UNIT,
    label_sum=SUMS_TO_ONE,
    form=Form(
        row=_categorical_focal,
        formula=f"sum(times({_FACTOR}*(1 - c)**gamma, -log(c)) {_TERMS})",
        prediction=UNIT,
        clipped=_any_clipped,
        distribution=True,
        ulps_per_value=1.0,
        scale="loss*(1 + gamma)",
    ),
    alternatives={
        "from_logits": Form(
            row=_categorical_focal_of_logits,
            formula=f"sum({_FACTOR}*(1 - exp(c - log_sum_exp(p)))**gamma*(log_sum_exp(p) - c) {_TERMS})",
            prediction=LOGITS,
            ulps_per_value=2.0,
            scale=f"{_SPREAD}*(1 + gamma)",
        )
    },
    parameters=(
        _GAMMA,
        Parameter(
            name="alpha",
            meaning="factor of every class; for a list as Keras takes it, set alpha to 1 and class_weight to the list",
            default=0.25,
            domain=Interval(0.0),
        ),
        CLASS_WEIGHT,
        LABEL_SMOOTHING,
    ),
    curve=_CURVE,
    also=("CategoricalFocalCrossentropy", "focal_loss"),
    citation="Lin et al., Focal Loss for Dense Object Detection, ICCV 2017; Keras CategoricalFocalCrossentropy",
)

generalized_crossentropy = Loss(
    name="generalized_crossentropy",
    summary="(1 - p^q)/q of the true class: towards q = 0 the cross-entropy, at q = 1 the missing probability",
    family=_FAMILY,
    inputs=Inputs.CLASSES,
    label=UNIT,
    label_sum=SUMS_TO_ONE,
    form=Form(
        row=_generalized,
        formula="sum(t*(1 - c**q)/q for t, c in zip(y, p))",
        prediction=UNIT,
        distribution=True,
        ulps_per_value=1.0,
    ),
    alternatives={
        "from_logits": Form(
            row=_generalized_of_logits,
            formula="sum(t*(1 - exp(q*(c - log_sum_exp(p))))/q for t, c in zip(y, p))",
            prediction=LOGITS,
            ulps_per_value=2.0,
            scale=_SPREAD,
        )
    },
    parameters=(
        Parameter(
            name="q",
            meaning="between the cross-entropy (0) and the missing probability (1), which forgives wrong labels",
            default=0.5,
            domain=Interval(0.0, 1.0, low_open=True),
        ),
    ),
    curve=Curve(convex=True, smooth=True, slope_bounded=False, symmetric=True, outlier=Outlier.BOUNDED),
    also=("CategoricalGeneralizedCrossEntropy",),
    citation="Z. Zhang and M. Sabuncu, Generalized Cross Entropy Loss for Training Deep Neural Networks with Noisy "
    "Labels, NeurIPS 2018; Keras CategoricalGeneralizedCrossEntropy",
)

poly1_crossentropy = Loss(
    name="poly1_crossentropy",
    summary="categorical cross-entropy plus epsilon times the missing probability",
    family=_FAMILY,
    inputs=Inputs.CLASSES,
    label=UNIT,
    form=Form(
        row=_poly1,
        formula="sum(-xlogy(t, c) + epsilon*t*(1 - c) for t, c in zip(y, p))",
        prediction=UNIT,
        clipped=_poly1_any_clipped,
        distribution=True,
        ulps_per_value=1.0,
    ),
    alternatives={
        "from_logits": Form(
            row=_poly1_of_logits,
            formula="sum(t*(log_sum_exp(p) - c + epsilon*(1 - exp(c - log_sum_exp(p)))) for t, c in zip(y, p))",
            prediction=LOGITS,
            ulps_per_value=2.0,
            scale=_SPREAD,
        )
    },
    parameters=(
        Parameter(
            name="epsilon",
            meaning="factor of the missing probability; from -1, below which a better prediction could cost more",
            default=2.0,
            domain=Interval(-1.0),
        ),
    ),
    curve=_CURVE,
    also=("poly_loss_cross_entropy", "PolyLoss"),
    citation="Leng et al., PolyLoss: A Polynomial Expansion Perspective of Classification Loss Functions, ICLR 2022; "
    "optax poly_loss_cross_entropy",
)
