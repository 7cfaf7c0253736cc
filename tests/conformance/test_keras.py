"""Keras 3 on its NumPy backend: in float64, and in float32 as it is shipped."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lossops.kernels.checks import Reason
from lossops.losses import bind
from tests.conformance.cases import (
    EXACT,
    Case,
    Mean,
    assert_same,
    assert_same_means,
    binary,
    binary_logits,
    class_scores,
    classes,
    counts,
    distributions,
    in_float32,
    our_values,
    reals,
    sets,
    signs,
    vectors,
    with_zero_labels,
)
from tests.losses.scoring import score

_CONVENTION = "keras"
_OF_ONE_MINUS = "Keras rounds 1 - p before it takes the logarithm"
_OF_TERMS = "Keras's formula subtracts terms that our form avoids"
_OF_SIGMOID = "on the NumPy backend a logit becomes a probability first, whose distance from 1 has lost digits"


def _of(name: str, **settings: Any) -> Callable[[Any, Any, Any], Any]:
    """Values of a function of ``keras.losses``."""
    return lambda keras, labels, predictions: getattr(keras.losses, name)(labels, predictions, **settings)


def _error(name: str, **settings: Any) -> Callable[[Any, Any, Any], Any]:
    """1 minus the values of an accuracy of ``keras.metrics``, averaged over the elements of a row."""

    def values(keras: Any, labels: Any, predictions: Any) -> Any:
        found = 1.0 - np.asarray(getattr(keras.metrics, name)(labels, predictions, **settings), dtype=np.float64)
        return found.reshape(len(labels), -1).mean(axis=1)

    return values


CASES = [
    Case("mean_absolute_error", {}, reals(), _of("mean_absolute_error")),
    Case("mean_squared_error", {}, reals(), _of("mean_squared_error")),
    Case("mean_absolute_percentage_error", {}, with_zero_labels(), _of("mean_absolute_percentage_error")),
    Case(
        "mean_squared_logarithmic_error", {}, reals(), _of("mean_squared_logarithmic_error"), atol=1e-15, why=_OF_TERMS
    ),
    Case("huber", {"delta": 0.6}, reals(), _of("huber", delta=0.6)),
    Case("log_cosh", {}, reals(), _of("log_cosh"), atol=1e-15, why=_OF_TERMS),
    Case("poisson_nll", {}, counts(), _of("poisson"), atol=1e-13, why=_OF_TERMS),
    Case("hinge", {}, signs(3), _of("hinge")),
    Case("squared_hinge", {}, signs(3), _of("squared_hinge")),
    Case(
        "categorical_hinge",
        {},
        class_scores("one-hot"),
        _of("categorical_hinge"),
        atol=1e-15,
        why="Keras rounds a difference close to the margin",
    ),
    *(
        Case(
            "binary_crossentropy",
            {"label_smoothing": smoothing},
            rows,
            _of("binary_crossentropy", label_smoothing=smoothing),
            atol=1e-14,
            why=_OF_ONE_MINUS,
        )
        for rows in (binary(3), binary(3, soft=True))
        for smoothing in (0.0, 0.15)
    ),
    Case(
        "binary_crossentropy",
        {"from_logits": True},
        binary_logits(3, scale=2.0),
        _of("binary_crossentropy", from_logits=True),
        atol=1e-13,
        why=_OF_SIGMOID,
    ),
    Case(
        "multilabel_crossentropy",
        {"label_smoothing": 0.1},
        binary(4),
        _of("binary_crossentropy", label_smoothing=0.1),
        atol=1e-14,
        why=_OF_ONE_MINUS,
    ),
    *(
        Case(
            "categorical_crossentropy",
            {"label_smoothing": smoothing},
            rows,
            _of("categorical_crossentropy", label_smoothing=smoothing),
        )
        for rows in (classes("one-hot"), classes("soft"), classes("soft", sums=0.2))
        for smoothing in (0.0, 0.15)
    ),
    Case(
        "categorical_crossentropy",
        {"from_logits": True, "label_smoothing": 0.1},
        class_scores("soft"),
        _of("categorical_crossentropy", from_logits=True, label_smoothing=0.1),
    ),
    Case("sparse_categorical_crossentropy", {}, classes(), _of("sparse_categorical_crossentropy")),
    Case("sparse_categorical_crossentropy", {}, classes(sums=0.2), _of("sparse_categorical_crossentropy")),
    Case(
        "sparse_categorical_crossentropy",
        {"from_logits": True},
        class_scores(),
        _of("sparse_categorical_crossentropy", from_logits=True),
        atol=1e-15,
        why=_OF_TERMS,
    ),
    *(
        Case(
            "binary_focal_crossentropy",
            parameters,
            rows,
            _of("binary_focal_crossentropy", **parameters),
            rtol=1e-11,
            atol=1e-14,
            why=_OF_ONE_MINUS,
        )
        for rows in (binary(3), binary(3, soft=True))
        for parameters in (
            {},
            {"gamma": 1.5, "apply_class_balancing": True, "alpha": 0.3},
            {"gamma": 0.5, "label_smoothing": 0.1},
        )
    ),
    Case(
        "binary_focal_crossentropy",
        {"from_logits": True},
        binary_logits(3, scale=2.0),
        _of("binary_focal_crossentropy", from_logits=True),
        rtol=1e-11,
        atol=1e-13,
        why=_OF_SIGMOID,
    ),
    *(
        Case(
            "categorical_focal_crossentropy",
            parameters,
            rows,
            _of("categorical_focal_crossentropy", **parameters),
            rtol=1e-11,
            atol=1e-14,
            why=_OF_ONE_MINUS,
        )
        for rows in (classes("one-hot"), classes("soft", sums=0.2))
        for parameters in ({}, {"gamma": 1.5, "alpha": 0.7}, {"gamma": 0.5, "label_smoothing": 0.1})
    ),
    Case(
        "categorical_focal_crossentropy",
        {"alpha": 1.0, "class_weight": [0.5, 2.0, 0.0, 1.25]},
        classes("one-hot"),
        _of("categorical_focal_crossentropy", alpha=[0.5, 2.0, 0.0, 1.25]),
        rtol=1e-11,
        atol=1e-14,
        why=_OF_ONE_MINUS,
    ),
    Case(
        "categorical_focal_crossentropy",
        {"from_logits": True},
        class_scores("one-hot", scale=2.0),
        _of("categorical_focal_crossentropy", from_logits=True),
        rtol=1e-10,
        atol=1e-13,
        why=_OF_SIGMOID,
    ),
    *(
        Case(
            "generalized_crossentropy",
            {"q": q},
            classes(),
            _of("categorical_generalized_cross_entropy", q=q),
            atol=1e-14,
            why=_OF_ONE_MINUS,
        )
        for q in (0.2, 0.5, 0.9)
    ),
    Case("kl_divergence", {}, distributions(), _of("kl_divergence"), atol=1e-14, why=_OF_TERMS),
    Case(
        "cosine_similarity",
        {},
        vectors(),
        _of("cosine_similarity"),
        atol=1e-15,
        why="a cosine is a sum of terms of both signs",
    ),
    *(Case("dice", {}, rows, _of("dice", axis=1), atol=1e-15, why=_OF_TERMS) for rows in (sets(), sets(soft=True))),
    *(
        Case(
            "tversky",
            {"alpha": alpha, "beta": 1 - alpha},
            sets(soft=True),
            _of("tversky", alpha=1 - alpha, beta=alpha, axis=1),
            atol=1e-15,
            why=_OF_TERMS,
        )
        for alpha in (0.5, 0.3)
    ),
    Case("multiclass_zero_one", {}, class_scores(), _error("sparse_categorical_accuracy")),
    Case("multiclass_zero_one", {}, class_scores(ties=True), _error("sparse_categorical_accuracy")),
    Case("binary_zero_one", {}, binary(3), _error("binary_accuracy")),
    Case("binary_zero_one", {"threshold": 0.3}, binary(3), _error("binary_accuracy", threshold=0.3)),
    *(
        Case("top_k_error", {"k": k}, class_scores(ties=ties), _error("sparse_top_k_categorical_accuracy", k=k))
        for k in (1, 2, 3)
        for ties in (False, True)
    ),
]


def _loss(name: str, **settings: Any) -> Callable[[Any, Any, Any, Any], Any]:
    """The mean of a group by a class of ``keras.losses``."""
    return lambda keras, labels, predictions, weights: getattr(keras.losses, name)(**settings)(
        labels, predictions, sample_weight=weights
    )


def _metric(name: str, **settings: Any) -> Callable[[Any, Any, Any, Any], Any]:
    """The mean of a group by a class of ``keras.metrics``."""

    def value(keras: Any, labels: Any, predictions: Any, weights: Any) -> Any:
        metric = getattr(keras.metrics, name)(dtype="float64", **settings)
        metric.update_state(labels, predictions, sample_weight=weights)
        return metric.result()

    return value


def _unless_nothing_counts(mean: Callable[..., Any], ignored: int) -> Callable[[Any, Any, Any, Any], Any]:
    """NaN, where ours is null, for a group of rows that are ignored or have no weight; Keras gives it the loss 0."""

    def value(keras: Any, labels: Any, predictions: Any, weights: Any) -> Any:
        found = mean(keras, labels, predictions, weights)
        if ((labels != ignored) & (True if weights is None else weights > 0.0)).any():
            return found
        assert float(found) == 0.0
        return np.nan

    return value


_SPARSE = "SparseCategoricalCrossentropy"
# Keras sets the predictions of ignored rows to 0 before it divides them by their sum.
_IGNORED_ROWS = pytest.mark.filterwarnings("ignore:invalid value encountered in divide:RuntimeWarning")
MEANS = [
    Mean({"loss": "mean_squared_error", "denominator": "convention"}, reals(), _loss("MeanSquaredError")),
    Mean(
        {"loss": "mean_squared_error", "denominator": "weights"},
        reals(),
        _loss("MeanSquaredError", reduction="mean_with_sample_weight"),
    ),
    Mean({"loss": "mean_squared_error", "denominator": "weights"}, reals(), _metric("MeanSquaredError")),
    Mean({"loss": "sparse_categorical_crossentropy", "denominator": "convention"}, classes(), _loss(_SPARSE)),
    Mean(
        {"loss": "sparse_categorical_crossentropy", "ignore_class": 1, "denominator": "convention"},
        classes(width=3),
        _unless_nothing_counts(_loss(_SPARSE, ignore_class=1), 1),
    ),
    Mean(
        {"loss": "sparse_categorical_crossentropy", "ignore_class": 1, "denominator": "convention"},
        classes(width=3),
        _unless_nothing_counts(_loss(_SPARSE, ignore_class=1), 1),
        weighted=False,
    ),
    Mean(
        {"loss": "categorical_crossentropy", "label_smoothing": 0.1, "denominator": "convention"},
        classes("one-hot"),
        _loss("CategoricalCrossentropy", label_smoothing=0.1),
    ),
    *(
        Mean({"loss": "root_mean_squared_error"}, rows, _metric("RootMeanSquaredError"), weighted=False)
        for rows in (reals(1), reals(3))
    ),
    *(Mean({"loss": "r2"}, rows, _metric("R2Score"), atol=1e-12, why=_OF_TERMS) for rows in (reals(1), reals(3))),
]


@pytest.mark.parametrize("case", CASES, ids=str)
def test_rows(case: Case, keras64: Any) -> None:
    """Every row has the value that Keras gives it where it computes in float64."""
    assert_same(case, keras64, _CONVENTION)


@pytest.mark.parametrize("case", CASES, ids=str)
def test_rows_in_float32(case: Case, keras: Any) -> None:
    """The same as it is shipped, in float32, whose 1 - 1e-7 is 1 - 2^-23."""
    assert_same(in_float32(case), keras, _CONVENTION)


@_IGNORED_ROWS
@pytest.mark.parametrize("mean", MEANS, ids=str)
def test_means(mean: Mean, keras64: Any, tmp_path: Path) -> None:
    """Every group of a run has the mean that Keras gives it."""
    assert_same_means(mean, keras64, _CONVENTION, tmp_path)


def test_defect_logits_saturate(keras64: Any) -> None:
    """On the NumPy backend logits are clipped as probabilities are: a loss of 100 counts as 16.1; ours is 100."""
    labels, logits = np.ones((1, 1)), np.full((1, 1), -100.0)
    found = keras64.losses.binary_crossentropy(labels, logits, from_logits=True)
    np.testing.assert_allclose(found, -np.log(1e-7), rtol=EXACT)
    ours = our_values("binary_crossentropy", {"from_logits": True}, _CONVENTION, labels, logits)
    np.testing.assert_allclose(ours, 100.0, rtol=EXACT)


def test_defect_documented_focal_values(keras: Any) -> None:
    """The documentation of ``binary_focal_crossentropy`` prints the values of gamma 0 for a call with gamma 2."""
    labels, predictions = [[0.0, 1.0], [0.0, 0.0]], [[0.6, 0.4], [0.4, 0.6]]
    found = keras.losses.binary_focal_crossentropy(labels, predictions)
    np.testing.assert_allclose(found, [0.330, 0.206], atol=5e-4)
    ours = [our_values("binary_focal_crossentropy", {"gamma": g}, _CONVENTION, labels, predictions) for g in (2.0, 0.0)]
    np.testing.assert_allclose(ours, [[0.330, 0.206], [0.916, 0.714]], atol=5e-4)


def test_defect_log_cosh_near_zero(keras64: Any) -> None:
    """Keras subtracts log 2, which takes all digits of the loss of a small error; ours is half its square."""
    labels, predictions = np.zeros((1, 1)), np.full((1, 1), 1e-9)
    assert abs(float(keras64.losses.log_cosh(labels, predictions)[0]) - 5e-19) > 1e-19
    ours = our_values("log_cosh", {}, _CONVENTION, labels, predictions)
    np.testing.assert_allclose(ours, 5e-19, rtol=EXACT)


def test_defect_tversky_names(keras64: Any) -> None:
    """The ``alpha`` of Keras is documented to weight false positives; it weights what only the label has."""
    labels, predictions = np.array([[1.0, 0.0, 0.0]]), np.array([[1.0, 1.0, 0.0]])  # one false positive
    found = keras64.losses.tversky(labels, predictions, alpha=0.3, beta=0.7, axis=1)
    np.testing.assert_allclose(found, 1.0 - 1.0 / (1.0 + 0.7), atol=1e-6)


def test_defect_hinge_labels_of_a_batch(keras64: Any) -> None:
    """Labels 0 and 1 are taken for -1 and 1 unless another row of the batch has another label; ours are declared."""
    scores = np.array([[2.0], [2.0]])
    alone = keras64.losses.hinge(np.zeros((1, 1)), scores[:1])
    together = keras64.losses.hinge(np.array([[0.0], [-1.0]]), scores)
    assert (float(alone[0]), float(together[0])) == (3.0, 1.0)
    ours = our_values("hinge", {}, _CONVENTION, np.full((1, 1), -1.0), scores[:1])
    assert ours.tolist() == [3.0]


def test_defect_out_of_range_label(keras64: Any) -> None:
    """A label below the classes loses 0 in Keras; ours refuses the row."""
    predictions = np.array([[0.2, 0.3, 0.5]])
    assert float(keras64.losses.sparse_categorical_crossentropy(np.array([-1]), predictions)[0]) == 0.0
    _, reasons = score(bind("sparse_categorical_crossentropy", {}, _CONVENTION), [[-1.0]], predictions)
    assert reasons.tolist() == [int(Reason.LABEL_OUTSIDE_DOMAIN)]


@_IGNORED_ROWS
def test_defect_metric_counts_ignored_rows(keras64: Any) -> None:
    """Without weights the metric divides by all rows, also the ignored ones, where the loss of its name does not."""
    labels, predictions = np.array([0, 1, 1]), np.full((3, 2), 0.5)
    metric, loss = _metric(_SPARSE, ignore_class=0), _loss(_SPARSE, ignore_class=0)
    np.testing.assert_allclose(metric(keras64, labels, predictions, None), np.log(2.0) * 2 / 3, rtol=EXACT)
    np.testing.assert_allclose(loss(keras64, labels, predictions, None), np.log(2.0), rtol=EXACT)
