"""Keras 3 on its NumPy backend, in float64."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from tests.conformance.cases import (
    Case,
    assert_same,
    binary,
    binary_logits,
    class_scores,
    classes,
    counts,
    distributions,
    in_float32,
    reals,
    sets,
    signs,
    vectors,
    with_zero_labels,
)

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
    Case("mean_squared_logarithmic_error", {}, reals(), _of("mean_squared_logarithmic_error"), atol=1e-15, why=_OF_TERMS),
    Case("huber", {"delta": 0.6}, reals(), _of("huber", delta=0.6)),
    Case("log_cosh", {}, reals(), _of("log_cosh"), atol=1e-15, why=_OF_TERMS),
    Case("poisson_nll", {}, counts(), _of("poisson"), atol=1e-13, why=_OF_TERMS),
    Case("hinge", {}, signs(3), _of("hinge")),
    Case("squared_hinge", {}, signs(3), _of("squared_hinge")),
    Case("categorical_hinge", {}, class_scores("one-hot"), _of("categorical_hinge"), atol=1e-15, why="Keras rounds a difference close to the margin"),
    *(
        Case("binary_crossentropy", {"label_smoothing": smoothing}, rows, _of("binary_crossentropy", label_smoothing=smoothing), atol=1e-14, why=_OF_ONE_MINUS)
        for rows in (binary(3), binary(3, soft=True))
        for smoothing in (0.0, 0.15)
    ),
    Case("binary_crossentropy", {"from_logits": True}, binary_logits(3, scale=2.0), _of("binary_crossentropy", from_logits=True), atol=1e-13, why=_OF_SIGMOID),
    Case("multilabel_crossentropy", {"label_smoothing": 0.1}, binary(4), _of("binary_crossentropy", label_smoothing=0.1), atol=1e-14, why=_OF_ONE_MINUS),
    *(
        Case("categorical_crossentropy", {"label_smoothing": smoothing}, rows, _of("categorical_crossentropy", label_smoothing=smoothing))
        for rows in (classes("one-hot"), classes("soft"), classes("soft", sums=0.2))
        for smoothing in (0.0, 0.15)
    ),
    Case("categorical_crossentropy", {"from_logits": True, "label_smoothing": 0.1}, class_scores("soft"), _of("categorical_crossentropy", from_logits=True, label_smoothing=0.1)),
    Case("sparse_categorical_crossentropy", {}, classes(), _of("sparse_categorical_crossentropy")),
    Case("sparse_categorical_crossentropy", {}, classes(sums=0.2), _of("sparse_categorical_crossentropy")),
    Case("sparse_categorical_crossentropy", {"from_logits": True}, class_scores(), _of("sparse_categorical_crossentropy", from_logits=True), atol=1e-15, why=_OF_TERMS),
    *(
        Case("binary_focal_crossentropy", parameters, rows, _of("binary_focal_crossentropy", **parameters), rtol=1e-11, atol=1e-14, why=_OF_ONE_MINUS)
        for rows in (binary(3), binary(3, soft=True))
        for parameters in ({}, {"gamma": 1.5, "apply_class_balancing": True, "alpha": 0.3}, {"gamma": 0.5, "label_smoothing": 0.1})
    ),
    Case("binary_focal_crossentropy", {"from_logits": True}, binary_logits(3, scale=2.0), _of("binary_focal_crossentropy", from_logits=True), rtol=1e-11, atol=1e-13, why=_OF_SIGMOID),
    *(
        Case("categorical_focal_crossentropy", parameters, rows, _of("categorical_focal_crossentropy", **parameters), rtol=1e-11, atol=1e-14, why=_OF_ONE_MINUS)
        for rows in (classes("one-hot"), classes("soft", sums=0.2))
        for parameters in ({}, {"gamma": 1.5, "alpha": 0.7}, {"gamma": 0.5, "label_smoothing": 0.1})
    ),
    Case("categorical_focal_crossentropy", {"alpha": 1.0, "class_weight": [0.5, 2.0, 0.0, 1.25]}, classes("one-hot"), _of("categorical_focal_crossentropy", alpha=[0.5, 2.0, 0.0, 1.25]), rtol=1e-11, atol=1e-14, why=_OF_ONE_MINUS),
    Case("categorical_focal_crossentropy", {"from_logits": True}, class_scores("one-hot", scale=2.0), _of("categorical_focal_crossentropy", from_logits=True), rtol=1e-10, atol=1e-13, why=_OF_SIGMOID),
    *(Case("generalized_crossentropy", {"q": q}, classes(), _of("categorical_generalized_cross_entropy", q=q), atol=1e-14, why=_OF_ONE_MINUS) for q in (0.2, 0.5, 0.9)),
    Case("kl_divergence", {}, distributions(), _of("kl_divergence"), atol=1e-14, why=_OF_TERMS),
    Case("cosine_similarity", {}, vectors(), _of("cosine_similarity"), atol=1e-15, why="a cosine is a sum of terms of both signs"),
    *(Case("dice", {}, rows, _of("dice", axis=1), atol=1e-15, why=_OF_TERMS) for rows in (sets(), sets(soft=True))),
    *(Case("tversky", {"alpha": alpha, "beta": 1 - alpha}, sets(soft=True), _of("tversky", alpha=1 - alpha, beta=alpha, axis=1), atol=1e-15, why=_OF_TERMS) for alpha in (0.5, 0.3)),
    Case("multiclass_zero_one", {}, class_scores(), _error("sparse_categorical_accuracy")),
    Case("multiclass_zero_one", {}, class_scores(ties=True), _error("sparse_categorical_accuracy")),
    Case("binary_zero_one", {}, binary(3), _error("binary_accuracy")),
    Case("binary_zero_one", {"threshold": 0.3}, binary(3), _error("binary_accuracy", threshold=0.3)),
    *(Case("top_k_error", {"k": k}, class_scores(ties=ties), _error("sparse_top_k_categorical_accuracy", k=k)) for k in (1, 2, 3) for ties in (False, True)),
]  # fmt: skip


@pytest.mark.parametrize("case", CASES, ids=str)
def test_rows(case: Case, keras64: Any) -> None:
    """Every row has the value that Keras gives it where it computes in float64."""
    assert_same(case, keras64, _CONVENTION)


@pytest.mark.parametrize("case", CASES, ids=str)
def test_rows_in_float32(case: Case, keras: Any) -> None:
    """The same as it is shipped, in float32, whose 1 - 1e-7 is 1 - 2^-23."""
    assert_same(in_float32(case), keras, _CONVENTION)
