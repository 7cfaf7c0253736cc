"""scikit-learn: metrics, and the loss functions that its estimators minimise."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import sklearn._loss as of_estimators
import sklearn._loss.loss as of_boosting
from sklearn import config_context, metrics
from sklearn.linear_model import _sgd_fast as of_descent

from tests.conformance.cases import (
    ROWS,
    Case,
    Mean,
    assert_same,
    assert_same_means,
    binary,
    binary_logits,
    class_scores,
    classes,
    counts,
    decisions,
    our_values,
    positives,
    reals,
    sets,
    signs,
    vectors,
    with_zero_labels,
)

_CONVENTION = "sklearn"
_OF_TERMS = "scikit-learn's formula subtracts terms that our form avoids"
_OF_ONE_MINUS = "scikit-learn rounds 1 - p before it takes the logarithm or the square"


def _each(metric: Callable[..., float], **settings: Any) -> Callable[[Any, Any, Any], Any]:
    """Values of rows from a metric of a dataset: a weight of 1 for one row after the other."""

    def values(_: Any, labels: Any, predictions: Any) -> Any:
        flat = [side[:, 0] if side.ndim == 2 and side.shape[1] == 1 else side for side in (labels, predictions)]
        with config_context(assume_finite=True, skip_parameter_validation=True):  # half the time of a call
            return [metric(*flat, sample_weight=weights, **settings) for weights in np.eye(ROWS)]

    return values


def _rows(metric: Callable[..., Any], **settings: Any) -> Callable[[Any, Any, Any], Any]:
    """Values of rows from a metric of several outputs: each row as an output of its own."""
    return lambda _, labels, predictions: metric(labels.T, predictions.T, multioutput="raw_values", **settings)


def _raw(loss: Any, factor: float = 1.0) -> Callable[[Any, Any, Any], Any]:
    """Values from a loss of the estimators, whose raw predictions are those before the link function."""

    def values(_: Any, labels: Any, predictions: Any) -> Any:
        label = np.ascontiguousarray(labels, dtype=np.float64).reshape(ROWS)
        raw = np.ascontiguousarray(predictions if predictions.shape[1] > 1 else predictions[:, 0])
        return factor * loss.loss(label, raw)

    return values


def _descent(loss: Any, factor: float = 1.0) -> Callable[[Any, Any, Any], Any]:
    """Values from a loss of stochastic gradient descent."""
    return lambda _, labels, predictions: [
        factor * loss.py_loss(p, y) for y, p in zip(labels[:, 0], predictions[:, 0], strict=True)
    ]


def _top_k(labels: Any, scores: Any, sample_weight: Any, k: int) -> float:
    return 1.0 - metrics.top_k_accuracy_score(
        labels, scores, k=k, labels=range(scores.shape[1]), sample_weight=sample_weight
    )


def _overlap(score: Callable[..., float], labels: Any, predictions: Any) -> Any:
    with config_context(assume_finite=True, skip_parameter_validation=True):
        return [1.0 - score(y, p, zero_division=1.0) for y, p in zip(labels, predictions, strict=True)]


def _float32(_: Any, labels: Any, predictions: Any) -> Any:
    return [metrics.log_loss(labels[:, 0], predictions[:, 0].astype(np.float32), sample_weight=w) for w in np.eye(ROWS)]


CASES = [
    Case("mean_absolute_error", {}, reals(), _rows(metrics.mean_absolute_error)),
    Case("mean_squared_error", {}, reals(), _rows(metrics.mean_squared_error)),
    Case("mean_absolute_percentage_error", {}, with_zero_labels(), _rows(metrics.mean_absolute_percentage_error)),
    Case(
        "mean_squared_logarithmic_error",
        {},
        positives(),
        _rows(metrics.mean_squared_log_error),
        atol=1e-15,
        why=_OF_TERMS,
    ),
    Case("pinball", {"alpha": 0.3}, reals(), _rows(metrics.mean_pinball_loss, alpha=0.3)),
    Case("pinball", {"alpha": 0.9}, reals(1), _each(metrics.mean_pinball_loss, alpha=0.9)),
    Case("huber", {"delta": 0.8}, reals(1), _raw(of_estimators.HuberLoss(delta=0.8))),
    Case("poisson_deviance", {}, counts(1), _each(metrics.mean_poisson_deviance), atol=1e-14, why=_OF_TERMS),
    Case("gamma_deviance", {}, positives(1), _each(metrics.mean_gamma_deviance), atol=1e-14, why=_OF_TERMS),
    *(
        Case(
            "tweedie_deviance",
            {"power": power},
            rows,
            _each(metrics.mean_tweedie_deviance, power=power),
            rtol=1e-11,
            atol=1e-12,
            why=_OF_TERMS,
        )
        for power, rows in [
            (-1.5, positives(1)),
            (0, reals(1)),
            (1, counts(1)),
            (1.3, counts(1)),
            (1.7, positives(1, zeros=True)),
            (2, positives(1)),
            (3, positives(1)),
        ]
    ),
    Case("poisson_nll", {"log_input": True}, positives(1), _raw(of_estimators.HalfPoissonLoss())),
    Case("binary_crossentropy", {}, binary(), _each(metrics.log_loss), atol=1e-15, why=_OF_ONE_MINUS),
    Case(
        "binary_crossentropy",
        {"from_logits": True},
        binary_logits(),
        _raw(of_estimators.HalfBinomialLoss()),
        atol=2e-14,
        why=_OF_TERMS,
    ),
    Case(
        "binary_crossentropy",
        {"from_logits": True},
        binary_logits(soft=True),
        _raw(of_estimators.HalfBinomialLoss()),
        atol=2e-14,
        why=_OF_TERMS,
    ),
    Case(
        "binary_crossentropy",
        {"precision": "float32"},
        binary(),
        _float32,
        rtol=1e-5,
        atol=2e-7,
        why="scikit-learn computes in the type of the predictions",
    ),
    Case("categorical_crossentropy", {}, classes("one-hot"), _each(metrics.log_loss)),
    Case("sparse_categorical_crossentropy", {}, classes(), _each(metrics.log_loss, labels=range(4))),
    Case(
        "sparse_categorical_crossentropy",
        {"from_logits": True},
        class_scores(),
        _raw(of_estimators.HalfMultinomialLoss(n_classes=4)),
    ),
    Case("brier", {}, binary(), _each(metrics.brier_score_loss, pos_label=1), atol=1e-15, why=_OF_ONE_MINUS),
    Case(
        "brier",
        {"scale_by_half": False},
        binary(),
        _each(metrics.brier_score_loss, pos_label=1, scale_by_half=False),
        atol=1e-15,
        why=_OF_ONE_MINUS,
    ),
    Case("multiclass_brier", {}, classes("one-hot"), _each(metrics.brier_score_loss)),
    Case(
        "multiclass_brier",
        {"scale_by_half": True},
        classes("index"),
        _each(metrics.brier_score_loss, labels=range(4), scale_by_half=True),
    ),
    Case("multiclass_brier", {}, classes("index", 2), _each(metrics.brier_score_loss, labels=range(2))),
    Case("hinge", {}, signs(), _each(metrics.hinge_loss)),
    Case("hinge", {"margin": 0.7}, signs(), _descent(of_descent.Hinge(0.7))),
    Case("squared_hinge", {}, signs(), _descent(of_descent.SquaredHinge(1.0))),
    Case("perceptron", {}, signs(), _descent(of_descent.Hinge(0.0))),
    Case("exponential_loss", {}, signs(), lambda lib, y, p: _raw(of_boosting.ExponentialLoss())(lib, (y + 1) / 2, p)),
    Case("multiclass_hinge", {}, class_scores(), _each(metrics.hinge_loss, labels=range(4))),
    Case("zero_one", {}, decisions(3, 2), _each(metrics.zero_one_loss)),
    Case("zero_one", {}, decisions(1, 5), _each(metrics.zero_one_loss)),
    Case("hamming", {}, decisions(3, 2), _each(metrics.hamming_loss)),
    *(
        Case("top_k_error", {"k": k}, class_scores(ties=ties), _each(_top_k, k=k))
        for k in (1, 2, 3)
        for ties in (False, True)
    ),
    Case("jaccard", {}, sets(), lambda _, y, p: _overlap(metrics.jaccard_score, y, p)),
    Case("dice", {}, sets(), lambda _, y, p: _overlap(metrics.f1_score, y, p)),
    Case(
        "cosine_distance",
        {},
        vectors(),
        lambda _, y, p: metrics.pairwise.paired_cosine_distances(y, p),
        atol=1e-15,
        why="scikit-learn subtracts the cosine from 1",
    ),
]


def _mean(metric: Callable[..., float], **settings: Any) -> Callable[[Any, Any, Any, Any], Any]:
    return lambda _, labels, predictions, weights: metric(labels, predictions, sample_weight=weights, **settings)


def _skill(metric: Callable[..., float], **settings: Any) -> Callable[[Any, Any, Any, Any], Any]:
    """A score against a constant, not defined where the label is constant: scikit-learn warns, ours is null."""

    def value(_: Any, labels: Any, predictions: Any, weights: Any) -> float:
        kept = np.ones(len(labels), dtype=bool) if weights is None else weights > 0.0
        labels, predictions = labels[kept], predictions[kept]
        if len(np.unique(labels)) < 2:
            return np.nan
        flat = [side[:, 0] if side.ndim == 2 and side.shape[1] == 1 else side for side in (labels, predictions)]
        return metric(*flat, sample_weight=None if weights is None else weights[kept], **settings)

    return value


def _max_error(_: Any, labels: Any, predictions: Any, weights: Any) -> float:
    kept = weights > 0.0
    return metrics.max_error(labels[kept, 0], predictions[kept, 0])


MEANS = [
    Mean({"loss": "mean_squared_error", "denominator": "convention"}, reals(), _mean(metrics.mean_squared_error)),
    Mean(
        {"loss": "pinball", "alpha": 0.2, "denominator": "convention"},
        reals(),
        _mean(metrics.mean_pinball_loss, alpha=0.2),
    ),
    Mean(
        {"loss": "sparse_categorical_crossentropy", "denominator": "convention"},
        classes(),
        _mean(metrics.log_loss, labels=range(4)),
    ),
    Mean({"loss": "hamming", "denominator": "convention"}, decisions(3, 2), _mean(metrics.hamming_loss)),
    *(
        Mean({"loss": "root_mean_squared_error"}, rows, _mean(metrics.root_mean_squared_error))
        for rows in (reals(1), reals(3))
    ),
    Mean(
        {"loss": "root_mean_squared_logarithmic_error"},
        positives(2),
        _mean(metrics.root_mean_squared_log_error),
        atol=1e-14,
        why=_OF_TERMS,
    ),
    Mean({"loss": "max_error"}, reals(1), _max_error),
    *(
        Mean(
            {"loss": "median_absolute_error"},
            reals(2),
            _mean(metrics.median_absolute_error),
            weighted=weighted,
            atol=1e-14,
            why=_OF_TERMS,
        )
        for weighted in (False, True)
    ),
    *(Mean({"loss": "r2"}, rows, _skill(metrics.r2_score), atol=1e-13, why=_OF_TERMS) for rows in (reals(1), reals(3))),
    *(
        Mean({"loss": "explained_variance"}, rows, _skill(metrics.explained_variance_score), atol=1e-13, why=_OF_TERMS)
        for rows in (reals(1), reals(3))
    ),
    *(
        Mean(
            {"loss": "d2_pinball", "alpha": 0.3},
            reals(2),
            _skill(metrics.d2_pinball_score, alpha=0.3),
            weighted=weighted,
            atol=1e-13,
            why=_OF_TERMS,
        )
        for weighted in (False, True)
    ),
    *(
        Mean(
            {"loss": "d2_absolute_error"},
            reals(2),
            _skill(metrics.d2_absolute_error_score),
            weighted=weighted,
            atol=1e-13,
            why=_OF_TERMS,
        )
        for weighted in (False, True)
    ),
    *(
        Mean(
            {"loss": "d2_tweedie", "power": power},
            rows,
            _skill(metrics.d2_tweedie_score, power=power),
            rtol=1e-10,
            atol=1e-11,
            why=_OF_TERMS,
        )
        for power, rows in ((0, reals(1)), (1, counts(1)), (1.5, counts(1)), (2, positives(1)))
    ),
    Mean({"loss": "d2_log_loss"}, binary(edges=False), _skill(metrics.d2_log_loss_score), atol=1e-12, why=_OF_TERMS),
    Mean({"loss": "d2_brier"}, binary(), _skill(metrics.d2_brier_score), atol=1e-12, why=_OF_TERMS),
    Mean(
        {"loss": "multiclass_d2_log_loss"},
        classes(edges=False),
        _skill(metrics.d2_log_loss_score, labels=range(4)),
        atol=1e-12,
        why=_OF_TERMS,
    ),
    Mean(
        {"loss": "multiclass_d2_brier"},
        classes(),
        _skill(metrics.d2_brier_score, labels=range(4)),
        atol=1e-12,
        why=_OF_TERMS,
    ),
]


@pytest.mark.parametrize("case", CASES, ids=str)
def test_rows(case: Case) -> None:
    """Every row has the value that scikit-learn gives it."""
    assert_same(case, metrics, _CONVENTION)


@pytest.mark.parametrize("mean", MEANS, ids=str)
def test_means(mean: Mean, tmp_path: Path) -> None:
    """Every group of a run has the mean, or the measure, that scikit-learn gives it."""
    assert_same_means(mean, metrics, _CONVENTION, tmp_path)


def test_defect_hinge_of_one_class() -> None:
    """Where only one class is present, its labels are taken for the other one: scores far on the right side lose 6."""
    assert metrics.hinge_loss([1, 1], [5.0, 5.0], labels=[-1, 1]) == 6.0
    assert our_values("hinge", {}, _CONVENTION, np.ones((2, 1)), np.full((2, 1), 5.0)).tolist() == [0.0, 0.0]
