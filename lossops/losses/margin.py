"""Losses of a score that should be on the right side of a boundary, or above other scores, by a margin."""

from __future__ import annotations

import math
from typing import Any

from lossops.kernels.jit import inline
from lossops.kernels.special import softplus
from lossops.losses.categorical import weight_of
from lossops.losses.declaration import (
    REALS,
    SIGNS,
    TWO_CLASSES,
    UNIT,
    Curve,
    Form,
    Inputs,
    Interval,
    Loss,
    Outlier,
    Parameter,
)

__all__: list[str] = []

_FAMILY = "classification: margins"
_MARGIN = Parameter(
    name="margin",
    meaning="by how much a score must be right to cost nothing",
    default=1.0,
    domain=Interval(0.0),
)
_KINKED = Curve(convex=True, smooth=False, slope_bounded=True, symmetric=True, outlier=Outlier.LINEAR)


@inline
def _hinge(label: float, prediction: float, margin: float) -> float:
    return max(0.0, margin - label * prediction)


@inline
def _squared_hinge(label: float, prediction: float, margin: float) -> float:
    missing = max(0.0, margin - label * prediction)
    return missing * missing


@inline
def _perceptron(label: float, prediction: float) -> float:
    return max(0.0, 0.0 - label * prediction)


@inline
def _soft_margin(label: float, prediction: float) -> float:
    return softplus(-label * prediction)


@inline
def _exponential(label: float, prediction: float) -> float:
    return math.exp(-label * prediction)


@inline
def _hinge_embedding(label: float, prediction: float, margin: float) -> float:
    return prediction if label > 0.0 else max(0.0, margin - prediction)


@inline
def _shortfall(own: float, other: float, margin: float) -> float:
    """``max(0, margin - (own - other))`` to full precision, also where a rounded difference nearly is the margin."""
    behind = other - own
    if behind <= -2.0 * margin:
        return 0.0
    if behind >= 0.0:
        return margin + behind
    used = other - behind
    lost = (other - (behind + used)) + (used - own)  # what rounding took from the difference
    return max(0.0, (margin + behind) + lost)


@inline
def _categorical_hinge(label: Any, prediction: Any) -> float:
    own, other = 0.0, -math.inf
    for j in range(prediction.shape[0]):
        own += label[j] * prediction[j]
        other = max(other, (1.0 - label[j]) * prediction[j])
    return _shortfall(own, other, 1.0)


@inline
def _multiclass_hinge(label: int, prediction: Any, margin: float) -> float:
    other = -math.inf
    for j in range(prediction.shape[0]):
        if j != label:
            other = max(other, prediction[j])
    return _shortfall(prediction[label], other, margin)


@inline
def _multi_margin(label: int, prediction: Any, exponent: float, margin: float, class_weight: Any) -> float:
    classes: int = prediction.shape[0]
    loss = 0.0
    for j in range(classes):
        if j != label:
            missing = _shortfall(prediction[label], prediction[j], margin)
            loss += missing * missing if exponent == 2.0 else missing
    weight = weight_of(class_weight, label)
    return weight * (loss / classes) if weight != 0.0 else 0.0  # 0 * inf = 0


@inline
def _multilabel_margin(label: Any, prediction: Any) -> float:
    classes: int = prediction.shape[0]
    loss = 0.0
    for i in range(classes):
        if label[i] != 0.0:
            of_this_label = 0.0  # summed apart: rounding grows with the number of classes, not of pairs
            for j in range(classes):
                if label[j] == 0.0:
                    of_this_label += _shortfall(prediction[i], prediction[j], 1.0)
            loss += of_this_label
    return loss / classes


hinge = Loss(
    name="hinge",
    summary="by how much a score misses the margin on the side of its label -1 or 1",
    family=_FAMILY,
    inputs=Inputs.ELEMENTS,
    label=SIGNS,
    form=Form(row=_hinge, formula="max(0, margin - y*p)", prediction=REALS),
    parameters=(_MARGIN,),
    curve=_KINKED,
    also=("hinge_loss", "Hinge", "HingeLoss", "binary_hinge"),
    citation="C. Cortes, V. Vapnik, Support-Vector Networks, Machine Learning 20 (1995); scikit-learn hinge_loss",
)

squared_hinge = Loss(
    name="squared_hinge",
    summary="square of the hinge loss",
    family=_FAMILY,
    inputs=Inputs.ELEMENTS,
    label=SIGNS,
    form=Form(row=_squared_hinge, formula="max(0, margin - y*p)**2", prediction=REALS),
    parameters=(_MARGIN,),
    curve=Curve(convex=True, smooth=True, slope_bounded=False, symmetric=True, outlier=Outlier.POLYNOMIAL),
    also=("SquaredHinge", "hinge_loss"),
    citation="Keras SquaredHinge; TorchMetrics hinge_loss with squared=True",
)

perceptron = Loss(
    name="perceptron",
    summary="how far a score is on the wrong side of zero: hinge without a margin",
    family=_FAMILY,
    inputs=Inputs.ELEMENTS,
    label=SIGNS,
    form=Form(row=_perceptron, formula="max(0, -y*p)", prediction=REALS),
    curve=_KINKED,
    also=("perceptron_loss",),
    citation="F. Rosenblatt, The Perceptron, Psychological Review 65 (1958); optax perceptron_loss",
)

soft_margin = Loss(
    name="soft_margin",
    summary="logistic loss of a label -1 or 1: binary cross-entropy from logits in another encoding",
    family=_FAMILY,
    inputs=Inputs.ELEMENTS,
    label=SIGNS,
    form=Form(row=_soft_margin, formula="log(1 + exp(-y*p))", prediction=REALS),
    curve=Curve(convex=True, smooth=True, slope_bounded=True, symmetric=True, outlier=Outlier.LINEAR),
    also=("SoftMarginLoss", "logistic_loss"),
    citation="torch SoftMarginLoss",
)

exponential_loss = Loss(
    name="exponential_loss",
    summary="exponential of how far a score is on the wrong side of zero, as AdaBoost minimises it",
    family=_FAMILY,
    inputs=Inputs.ELEMENTS,
    label=SIGNS,
    form=Form(row=_exponential, formula="exp(-y*p)", prediction=REALS),
    curve=Curve(convex=True, smooth=True, slope_bounded=False, symmetric=True, outlier=Outlier.EXPONENTIAL),
    also=("ExponentialLoss", "AdaBoost"),
    citation="Y. Freund, R. E. Schapire, A Decision-Theoretic Generalization of On-Line Learning, J. Comput. Syst. "
    "Sci. 55 (1997)",
)

hinge_embedding = Loss(
    name="hinge_embedding",
    summary="a distance where the label is 1, what it lacks to the margin where the label is -1",
    family=_FAMILY,
    inputs=Inputs.ELEMENTS,
    label=SIGNS,
    form=Form(
        row=_hinge_embedding,
        formula="p if y > 0 else max(0, margin - p)",
        prediction=REALS,
        scale="abs(loss)",  # elements of both signs can cancel in their mean
    ),
    parameters=(_MARGIN,),
    curve=Curve(convex=True, smooth=False, slope_bounded=True, symmetric=False, outlier=Outlier.LINEAR),
    also=("HingeEmbeddingLoss", "hinge_embedding_loss"),
    citation="torch HingeEmbeddingLoss",
)

categorical_hinge = Loss(
    name="categorical_hinge",
    summary="hinge of the true class against the best other score, or against 0 where all others are below 0",
    family=_FAMILY,
    inputs=Inputs.CLASSES,
    label=UNIT,
    form=Form(
        row=_categorical_hinge,
        formula="max(0, 1 - sum(t*q for t, q in zip(y, p)) + max((1 - t)*q for t, q in zip(y, p)))",
        prediction=REALS,
        ulps_per_value=1.0,
        # The products of a soft label, or the scores of several true classes, can cancel against each other and 1.
        scale="sum(abs(t*q) for t, q in zip(y, p)) + max(abs((1 - t)*q) for t, q in zip(y, p))",
    ),
    curve=_KINKED,
    also=("CategoricalHinge",),
    citation="Keras CategoricalHinge, whose maximum includes the 0 that masks the true class; for the plain form see "
    "multiclass_hinge",
)

multiclass_hinge = Loss(
    name="multiclass_hinge",
    summary="by how much the true class misses the margin above the best other class (Crammer-Singer)",
    family=_FAMILY,
    inputs=Inputs.CLASS_INDEX,
    label=REALS,
    form=Form(
        row=_multiclass_hinge,
        formula="max(0, margin - p[y] + max(q for j, q in enumerate(p) if j != y))",
        prediction=REALS,
    ),
    parameters=(_MARGIN,),
    curve=_KINKED,
    also=("hinge_loss", "crammer_singer", "multiclass_hinge_loss", "multiclass_hinge_crammer_singer"),
    citation="K. Crammer, Y. Singer, On the Algorithmic Implementation of Multiclass Kernel-based Vector Machines, "
    "JMLR 2 (2001); scikit-learn hinge_loss",
)

multi_margin = Loss(
    name="multi_margin",
    summary="by how much the true class misses the margin above every other class, divided by the number of classes",
    family=_FAMILY,
    inputs=Inputs.CLASS_INDEX,
    label=REALS,
    form=Form(
        row=_multi_margin,
        formula="(class_weight or [1]*len(p))[y]"
        "*sum(max(0, margin - p[y] + q)**exponent for j, q in enumerate(p) if j != y)/len(p)",
        prediction=REALS,
        ulps_per_value=1.0,
    ),
    parameters=(
        Parameter(
            name="exponent",
            meaning="1, or 2 for the square of what each class lacks",
            default=1,
            domain=Interval(1.0, 2.0, step=1.0),
            integer=True,
        ),
        _MARGIN,
        Parameter(
            name="class_weight",
            meaning="a factor for each class; that of the true class multiplies the loss",
            default=None,
            domain=Interval(0.0),
            count=lambda width: width,
        ),
    ),
    curve=_KINKED,
    also=("MultiMarginLoss", "multi_margin_loss", "weston_watkins"),
    citation="J. Weston, C. Watkins, Support Vector Machines for Multi-Class Pattern Recognition, ESANN 1999; torch "
    "MultiMarginLoss",
)

multilabel_margin = Loss(
    name="multilabel_margin",
    summary="what each true class lacks to be 1 above each other class, over C; labels are 0 or 1 a class, no list as "
    "in torch",
    family=_FAMILY,
    inputs=Inputs.VECTORS,
    label=TWO_CLASSES,
    form=Form(
        row=_multilabel_margin,
        formula="sum(max(0, 1 - p[i] + p[j]) for i, t in enumerate(y) if t == 1 for j, u in enumerate(y) if u == 0)"
        "/len(p)",
        prediction=REALS,
        ulps_per_value=1.0,
    ),
    curve=_KINKED,
    also=("MultiLabelMarginLoss", "multilabel_margin_loss"),
    citation="torch MultiLabelMarginLoss",
)
