"""Skill scores: 1 minus a loss over that of the best constant prediction, which is found in the merged sums.

The constant is that of the slice itself. Where it is perfect (a constant label) the data determines no score.
"""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from typing import Any

from lossops.kernels.jit import inline
from lossops.losses.binary import binary_crossentropy
from lossops.losses.categorical import sparse_categorical_crossentropy
from lossops.losses.declaration import REALS, TWO_CLASSES, UNIT, Inputs, Interval, Parameter
from lossops.measures.arithmetic import average, entropy, quantile, skill, variation
from lossops.measures.declaration import Measure, Number, Part, Settings, Total
from lossops.measures.errors import label_itself, residual

__all__: list[str] = []

_FAMILY = "measures: skill"
_RESIDUAL, _LABEL = Part(row=residual, squares=True), Part(row=label_itself, squares=True)
_MANY_VALUES = (
    "Exact up to 65536 distinct labels in a slice; above, the quantile is off by less than 2**-b of itself, b being "
    "the mantissa bits that are kept"
)


def _r2(outputs: Sequence[Total], settings: Settings) -> Number | None:
    return average(outputs, lambda one: skill(one.squares("residual"), variation(one, "label")))


def _explained_variance(outputs: Sequence[Total], settings: Settings) -> Number | None:
    return average(outputs, lambda one: skill(variation(one, "residual"), variation(one, "label")))


@inline
def _pinball(label: float, prediction: float, alpha: float) -> float:
    return alpha * (label - prediction) if label >= prediction else (1.0 - alpha) * (prediction - label)


def _null_pinball(total: Total, alpha: Fraction) -> Number:
    """The pinball loss of the constant prediction of the quantile; a bin that holds it is taken as its mean."""
    constant = quantile(total, "label", alpha)
    low, high = 0, len(total)
    while low < high:
        middle = (low + high) // 2
        low, high = (middle + 1, high) if total[middle : middle + 1].high("label") <= constant else (low, middle)
    parts = [part for part in (total[:low], total[low : low + 1], total[low + 1 :]) if len(part)]
    excess = [Fraction(part.sum("label")) - constant * part.weight for part in parts]
    return sum((alpha * one if one > 0 else (alpha - 1) * one for one in excess), Fraction(0))


def _d2_pinball(total: Total, alpha: float) -> Number | None:
    if total.low("label") == total.high("label"):
        return None
    return skill(total.sum("loss"), _null_pinball(total, Fraction(repr(alpha))))  # 0.1 is a tenth, as in the config


def _d2_quantile(outputs: Sequence[Total], settings: Settings) -> Number | None:
    return average(outputs, lambda one: _d2_pinball(one, settings["alpha"]))


@inline
def _absolute(label: float, prediction: float) -> float:
    return 0.5 * abs(label - prediction)


def _d2_absolute(outputs: Sequence[Total], settings: Settings) -> Number | None:
    return average(outputs, lambda one: _d2_pinball(one, 0.5))


def _binary_weights(total: Total) -> list[Fraction]:
    ones = Fraction(total.sum("label"))
    return [ones, total.weight - ones]


def _class_weights(total: Total) -> list[Fraction]:
    return [one.weight for one in total]


def _variety(weights: Sequence[Fraction]) -> Fraction:
    """The sum of (y - f)^2 over rows and classes, f being the frequency of a class."""
    whole = sum(weights, Fraction(0))
    return whole - sum((weight * weight for weight in weights), Fraction(0)) / whole


def _d2_log_loss(outputs: Sequence[Total], settings: Settings) -> Number | None:
    return average(outputs, lambda one: skill(one.sum("loss"), entropy(_binary_weights(one))))


def _d2_brier(outputs: Sequence[Total], settings: Settings) -> Number | None:
    return average(outputs, lambda one: skill(2 * one.squares("residual"), _variety(_binary_weights(one))))


def _multiclass_d2_log_loss(outputs: Sequence[Total], settings: Settings) -> Number | None:
    return skill(outputs[0].sum("loss"), entropy(_class_weights(outputs[0])))


def _multiclass_d2_brier(outputs: Sequence[Total], settings: Settings) -> Number | None:
    return skill(outputs[0].sum("loss"), _variety(_class_weights(outputs[0])))


@inline
def _class(label: int, prediction: Any) -> float:
    return 1.0 * label


@inline
def _squares_of_classes(label: int, prediction: Any) -> float:
    total = 0.0
    for j in range(prediction.shape[0]):
        error = prediction[j] - (1.0 if j == label else 0.0)
        total += error * error
    return total


r2 = Measure(
    name="r2",
    summary="share of the variation of the label that the prediction explains, about its mean",
    family=_FAMILY,
    inputs=Inputs.ELEMENTS,
    label=REALS,
    prediction=REALS,
    formula="1 - sum(w (p - y)^2) / sum(w (y - m)^2), m the weighted mean of y; of several outputs their mean; null "
    "where y is constant (scikit-learn puts 0 or 1)",
    parts={"residual": _RESIDUAL, "label": _LABEL},
    finish=_r2,
    higher_is_better=True,
    also=("r2_score", "R2Score", "coefficient_of_determination"),
    citation="S. Wright, Correlation and Causation, J. Agric. Res. 20 (1921); scikit-learn r2_score",
)

explained_variance = Measure(
    name="explained_variance",
    summary="as r2, but a constant error costs nothing",
    family=_FAMILY,
    inputs=Inputs.ELEMENTS,
    label=REALS,
    prediction=REALS,
    formula="1 - Var(p - y) / Var(y), weighted variances; of several outputs their mean; null where y is constant",
    parts={"residual": _RESIDUAL, "label": _LABEL},
    finish=_explained_variance,
    higher_is_better=True,
    also=("explained_variance_score", "evs"),
    citation="scikit-learn explained_variance_score",
)

d2_pinball = Measure(
    name="d2_pinball",
    summary="share of the pinball loss of the best constant that the prediction saves",
    family=_FAMILY,
    inputs=Inputs.ELEMENTS,
    label=REALS,
    prediction=REALS,
    formula="1 - sum(w pinball(y, p)) / sum(w pinball(y, q)), q the weighted quantile of y at level alpha; of several "
    f"outputs their mean; null where y is constant. {_MANY_VALUES}",
    parameters=(
        Parameter(
            name="alpha",
            meaning="level of the quantile",
            default=0.5,
            domain=Interval(0.0, 1.0, low_open=True, high_open=True),
        ),
    ),
    parts={"loss": Part(row=_pinball), "label": Part(row=label_itself)},
    bins=label_itself,
    by_value=True,
    finish=_d2_quantile,
    higher_is_better=True,
    also=("d2_pinball_score",),
    citation="R. Koenker, J. Machado, Goodness of Fit and Related Inference Processes for Quantile Regression, JASA 94 "
    "(1999); scikit-learn d2_pinball_score",
)

d2_absolute_error = Measure(
    name="d2_absolute_error",
    summary="share of the absolute error of the median that the prediction saves",
    family=_FAMILY,
    inputs=Inputs.ELEMENTS,
    label=REALS,
    prediction=REALS,
    formula="1 - sum(w abs(y - p)) / sum(w abs(y - q)), q the weighted median of y; of several outputs their mean; "
    f"null where y is constant. {_MANY_VALUES}",
    parts={"loss": Part(row=_absolute), "label": Part(row=label_itself)},
    bins=label_itself,
    by_value=True,
    finish=_d2_absolute,
    higher_is_better=True,
    also=("d2_absolute_error_score",),
    citation="scikit-learn d2_absolute_error_score",
)

d2_log_loss = Measure(
    name="d2_log_loss",
    summary="share of the cross-entropy of the frequencies of 0 and 1 that the prediction saves",
    family=_FAMILY,
    inputs=Inputs.ELEMENTS,
    label=TWO_CLASSES,
    prediction=UNIT,
    formula="1 - sum(w crossentropy(y, p)) / sum(w crossentropy(y, f)), f the weighted frequency of 1; of several "
    "outputs their mean; null where only one label occurs",
    parts={"loss": Part(row=binary_crossentropy.form.row), "label": Part(row=label_itself)},
    finish=_d2_log_loss,
    loss=binary_crossentropy,
    higher_is_better=True,
    also=("d2_log_loss_score", "mcfadden_r2"),
    citation="D. McFadden, Conditional Logit Analysis (1973); scikit-learn d2_log_loss_score",
)

d2_brier = Measure(
    name="d2_brier",
    summary="share of the Brier score of the frequency of 1 that the prediction saves",
    family=_FAMILY,
    inputs=Inputs.ELEMENTS,
    label=TWO_CLASSES,
    prediction=UNIT,
    formula="1 - sum(w (p - y)^2) / sum(w (y - f)^2), f the weighted frequency of 1; of several outputs their mean; "
    "null where only one label occurs",
    parts={"residual": _RESIDUAL, "label": Part(row=label_itself)},
    finish=_d2_brier,
    higher_is_better=True,
    also=("d2_brier_score", "brier_skill_score", "bss"),
    citation="A. H. Murphy, A New Vector Partition of the Probability Score, J. Appl. Meteorol. 12 (1973); "
    "scikit-learn d2_brier_score",
)

multiclass_d2_log_loss = Measure(
    name="multiclass_d2_log_loss",
    summary="share of the cross-entropy of the class frequencies that the prediction saves",
    family=_FAMILY,
    inputs=Inputs.CLASS_INDEX,
    label=REALS,
    prediction=UNIT,
    formula="1 - sum(-w log(p[y])) / sum(-w log(f[y])), f the weighted class frequencies; null where only one class "
    "occurs. The classes are those of the prediction, whether they occur or not",
    parts={"loss": Part(row=sparse_categorical_crossentropy.form.row)},
    bins=_class,
    finish=_multiclass_d2_log_loss,
    loss=sparse_categorical_crossentropy,
    higher_is_better=True,
    also=("d2_log_loss_score",),
    citation="scikit-learn d2_log_loss_score",
)

multiclass_d2_brier = Measure(
    name="multiclass_d2_brier",
    summary="share of the Brier score of the class frequencies that the prediction saves",
    family=_FAMILY,
    inputs=Inputs.CLASS_INDEX,
    label=REALS,
    prediction=UNIT,
    formula="1 - sum(w sum_c((p_c - y_c)^2)) / sum(w sum_c((f_c - y_c)^2)), f the weighted class frequencies; null "
    "where only one class occurs",
    parts={"loss": Part(row=_squares_of_classes)},
    bins=_class,
    finish=_multiclass_d2_brier,
    higher_is_better=True,
    also=("d2_brier_score",),
    citation="scikit-learn d2_brier_score",
)
