"""Losses of a decision: 1 where it is wrong, else 0."""

from __future__ import annotations

from typing import Any

from lossops.kernels.jit import inline
from lossops.losses.declaration import (
    LOGITS,
    REALS,
    TWO_CLASSES,
    Curve,
    Form,
    Inputs,
    Interval,
    Loss,
    Outlier,
    Parameter,
)

__all__: list[str] = []

_FAMILY = "classification: errors"

# A jump has no bounded slope. Symmetric apart from ties, for which a rule has to choose a side.
_STEP = Curve(convex=False, smooth=False, slope_bounded=False, symmetric=True, outlier=Outlier.BOUNDED)


@inline
def _zero_one(label: Any, prediction: Any) -> float:
    for j in range(prediction.shape[0]):
        if prediction[j] != label[j]:
            return 1.0
    return 0.0


@inline
def _hamming(label: float, prediction: float) -> float:
    return 1.0 if prediction != label else 0.0


@inline
def _binary_zero_one(label: float, prediction: float, threshold: float) -> float:
    return 1.0 if (prediction > threshold) != (label == 1.0) else 0.0


@inline
def _multiclass_zero_one(label: int, prediction: Any, argmax_ties: float) -> float:
    own = prediction[label]
    for j in range(prediction.shape[0]):
        tie_counts = j < label or (argmax_ties == 1.0 and j != label)
        if prediction[j] > own or (prediction[j] == own and tie_counts):
            return 1.0
    return 0.0


@inline
def _top_k_error(label: int, prediction: Any, k: float, top_k_ties: float) -> float:
    own = prediction[label]
    better, before, after = 0, 0, 0
    for j in range(prediction.shape[0]):
        if prediction[j] > own:
            better += 1
        elif prediction[j] == own and j != label:
            before += j < label
            after += j > label
    if top_k_ties in (0.0, 3.0):
        better += before
    if top_k_ties in (1.0, 3.0):
        better += after
    return 1.0 if better >= k else 0.0


zero_one = Loss(
    name="zero_one",
    summary="1 unless the predicted labels of a row all equal the true ones",
    family=_FAMILY,
    inputs=Inputs.VECTORS,
    label=REALS,
    form=Form(row=_zero_one, formula="0 if p == y else 1", prediction=REALS),
    curve=_STEP,
    also=("zero_one_loss", "ZeroOneLoss", "subset_accuracy", "exact_match", "error_rate"),
    citation="scikit-learn zero_one_loss",
)

hamming = Loss(
    name="hamming",
    summary="share of the predicted labels of a row that differ from the true ones",
    family=_FAMILY,
    inputs=Inputs.ELEMENTS,
    label=REALS,
    form=Form(row=_hamming, formula="0 if p == y else 1", prediction=REALS),
    curve=_STEP,
    also=("hamming_loss", "HammingLoss", "hammingLoss"),
    citation="R. W. Hamming, Error Detecting and Error Correcting Codes, Bell Syst. Tech. J. 29 (1950); scikit-learn "
    "hamming_loss",
)

binary_zero_one = Loss(
    name="binary_zero_one",
    summary="1 where a score above the threshold meets the label 0, or another score the label 1",
    family=_FAMILY,
    inputs=Inputs.ELEMENTS,
    label=TWO_CLASSES,
    form=Form(
        row=_binary_zero_one,
        formula="(1 - y) if p > threshold else y",
        prediction=REALS,
    ),
    parameters=(
        Parameter(
            name="threshold",
            meaning="scores above it mean the label 1, on the scale of the prediction: a logit of 0 is a probability "
            "of 0.5",
            default=0.5,
        ),
    ),
    curve=_STEP,
    also=("binary_error", "error", "BinaryAccuracy", "accuracy"),
    citation="XGBoost error@t, LightGBM binary_error, Keras BinaryAccuracy",
)

multiclass_zero_one = Loss(
    name="multiclass_zero_one",
    summary="1 where another class has the highest score",
    family=_FAMILY,
    inputs=Inputs.CLASS_INDEX,
    label=REALS,
    form=Form(
        row=_multiclass_zero_one,
        formula="0 if p.index(max(p)) == y else 1",
        prediction=LOGITS,
    ),
    curve=_STEP,
    also=("merror", "multi_error", "SparseCategoricalAccuracy", "CategoricalAccuracy", "accuracy"),
    citation="XGBoost merror, LightGBM multi_error",
)

top_k_error = Loss(
    name="top_k_error",
    summary="1 where the true class is not among the k highest scores",
    family=_FAMILY,
    inputs=Inputs.CLASS_INDEX,
    label=REALS,
    form=Form(
        row=_top_k_error,
        formula="0 if y in sorted(range(len(p)), key=lambda j: (-p[j], j))[:k] else 1",
        prediction=LOGITS,
    ),
    parameters=(
        Parameter(
            name="k",
            meaning="how many of the highest scores may hold the true class; all is right if there are no more classes",
            default=5,
            domain=Interval(1.0),
            integer=True,
        ),
    ),
    curve=_STEP,
    also=("top_k_accuracy_score", "TopKCategoricalAccuracy", "SparseTopKCategoricalAccuracy", "multi_error_top_k"),
    citation="scikit-learn top_k_accuracy_score, Keras SparseTopKCategoricalAccuracy, LightGBM multi_error_top_k",
)
