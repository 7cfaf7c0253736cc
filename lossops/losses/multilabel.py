"""Cross-entropy of several labels of one row that do not exclude each other."""

from __future__ import annotations

from typing import Any

from lossops.kernels.jit import inline
from lossops.losses.binary import binary_term, binary_term_of_logit, outside_limits
from lossops.losses.categorical import weight_of
from lossops.losses.declaration import LOGITS, UNIT, Curve, Form, Inputs, Interval, Loss, Outlier, Parameter

__all__ = ["MOVED_TO_THE_MIDDLE", "moved_to_the_middle"]

MOVED_TO_THE_MIDDLE = Parameter(
    name="label_smoothing",
    meaning="share s by which labels move to the middle: y (1 - s) + s/2",
    default=0.0,
    domain=Interval(0.0, 1.0),
)


@inline
def moved_to_the_middle(label: float, label_smoothing: float) -> float:
    """The target of a binary label with smoothing."""
    return label * (1.0 - label_smoothing) + 0.5 * label_smoothing


@inline
def _crossentropy(
    label: Any,
    prediction: Any,
    label_smoothing: float,
    class_weight: Any,
    pos_weight: Any,
    clip_low: float,
    clip_high: float,
    binary_log_floor: float,
    binary_log_epsilon: float,
) -> float:
    labels = prediction.shape[0]
    loss = 0.0
    for j in range(labels):
        weight, positive = weight_of(class_weight, j), weight_of(pos_weight, j)
        if weight != 0.0:  # 0 * inf = 0
            target = moved_to_the_middle(label[j], label_smoothing)
            loss += weight * binary_term(
                target, prediction[j], positive, clip_low, clip_high, binary_log_floor, binary_log_epsilon
            )
    return float(loss / labels)


@inline
def _crossentropy_of_logits(
    label: Any, prediction: Any, label_smoothing: float, class_weight: Any, pos_weight: Any
) -> float:
    labels = prediction.shape[0]
    loss = 0.0
    for j in range(labels):
        weight, positive = weight_of(class_weight, j), weight_of(pos_weight, j)
        if weight != 0.0:
            target = moved_to_the_middle(label[j], label_smoothing)
            loss += weight * binary_term_of_logit(target, prediction[j], positive)
    return float(loss / labels)


@inline
def _any_clipped(
    label: Any,
    prediction: Any,
    label_smoothing: float,
    class_weight: Any,
    clip_low: float,
    clip_high: float,
    binary_log_floor: float,
) -> bool:
    for j in range(prediction.shape[0]):
        target = moved_to_the_middle(label[j], label_smoothing)
        outside = outside_limits(target, prediction[j], clip_low, clip_high, binary_log_floor)
        if outside and weight_of(class_weight, j) != 0.0:
            return True
    return False


_TERMS = (
    "for t, q, w, v in zip([c*(1 - label_smoothing) + label_smoothing/2 for c in y], p, "
    "class_weight or [1]*len(p), pos_weight or [1]*len(p))"
)
_SCALE = "loss*(1 + (2/label_smoothing if label_smoothing > 0 else 0))"  # 1 - y' carries the rounding of y'

multilabel_crossentropy = Loss(
    name="multilabel_crossentropy",
    summary="binary cross-entropy of each of several labels, averaged over the labels",
    family="classification: probabilities",
    inputs=Inputs.VECTORS,
    label=UNIT,
    form=Form(
        row=_crossentropy,
        formula=f"sum(times(w, -xlogy(v*t, q) - xlogy(1 - t, 1 - q)) {_TERMS})/len(p)",
        prediction=UNIT,
        clipped=_any_clipped,
        ulps_per_value=1.0,
        scale=_SCALE,
    ),
    alternatives={
        "from_logits": Form(
            row=_crossentropy_of_logits,
            formula=f"sum(w*(v*t*log(1 + exp(-q)) + (1 - t)*log(1 + exp(q))) {_TERMS})/len(p)",
            prediction=LOGITS,
            ulps_per_value=1.0,
            scale=_SCALE,
        )
    },
    parameters=(
        MOVED_TO_THE_MIDDLE,
        Parameter(
            name="class_weight",
            meaning="a factor for each label; the divisor stays the number of labels",
            default=None,
            domain=Interval(0.0),
            count=lambda width: width,
        ),
        Parameter(
            name="pos_weight",
            meaning="for each label a factor of the term of its value 1; the divisor stays the number of labels",
            default=None,
            domain=Interval(0.0),
            count=lambda width: width,
        ),
    ),
    curve=Curve(convex=True, smooth=True, slope_bounded=False, symmetric=True, outlier=Outlier.INFINITE),
    also=("MultiLabelSoftMarginLoss", "multilabel_soft_margin_loss", "sigmoid_binary_cross_entropy", "MultiLogloss"),
    citation="torch MultiLabelSoftMarginLoss, BCEWithLogitsLoss with pos_weight",
)
