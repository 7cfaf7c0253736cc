"""Losses of margins against scikit-learn, SciPy, worked values of the libraries and each other."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from scipy.special import log_expit
from sklearn.metrics import hinge_loss

from lossops.losses import CONVENTIONS, bind
from tests.losses.scoring import score
from tests.oracles import Floats

_RANDOM = np.random.default_rng(11)
_SIGNS = _RANDOM.choice([-1.0, 1.0], size=(200, 3))
_SCORES = _RANDOM.normal(scale=3.0, size=(200, 3))
_CLASSES = _RANDOM.integers(0, 3, size=(200, 1)).astype(float)


def _values(name: str, labels: Any, scores: Any, convention: str = "exact", **parameters: Any) -> Floats:
    values, reasons = score(bind(name, parameters, convention), labels, scores)
    assert not reasons.any()
    return values


_OF_SIGNS: dict[str, Callable[[Floats], Floats]] = {
    "hinge": lambda agreement: np.clip(1 - agreement, 0, None),
    "squared_hinge": lambda agreement: np.clip(1 - agreement, 0, None) ** 2,
    "perceptron": lambda agreement: (np.abs(agreement) - agreement) / 2,
    "soft_margin": lambda agreement: -log_expit(agreement),
    "exponential_loss": lambda agreement: np.exp(-agreement),
}


@pytest.mark.parametrize("convention", CONVENTIONS)
@pytest.mark.parametrize("name", _OF_SIGNS)
def test_a_loss_of_signs_is_the_mean_of_its_elements_in_every_convention(name: str, convention: str) -> None:
    expected = _OF_SIGNS[name](_SIGNS * _SCORES).mean(axis=1)
    np.testing.assert_allclose(_values(name, _SIGNS, _SCORES, convention), expected, rtol=1e-14)


def test_hinge_is_that_of_scikit_learn_one_row_at_a_time() -> None:
    expected = [
        hinge_loss(sign, one, labels=[-1, 1]) if len(set(sign)) > 1 else None
        for sign, one in zip(_SIGNS, _SCORES, strict=True)
    ]
    found = _values("hinge", _SIGNS, _SCORES, "sklearn")
    pairs = [(a, b) for a, b in zip(found, expected, strict=True) if b is not None]
    assert len(pairs) > 100
    np.testing.assert_allclose(*zip(*pairs, strict=True), rtol=1e-14)


def test_hinge_of_rows_that_are_all_positive_is_zero_where_they_are_right() -> None:
    """scikit-learn 1.9.1 infers the classes and gives 6."""
    assert (_values("hinge", [[1.0], [1.0]], [[5.0], [5.0]], "sklearn") == 0.0).all()


def test_soft_margin_is_the_binary_crossentropy_of_logits() -> None:
    other = _values("binary_crossentropy", (_SIGNS + 1) / 2, _SCORES, from_logits=True)
    np.testing.assert_allclose(_values("soft_margin", _SIGNS, _SCORES), other, rtol=1e-15)


@pytest.mark.parametrize(("score_", "expected"), [(800.0, 0.0), (37.0, 8.533047625744065e-17), (-1e100, 1e100)])
def test_soft_margin_keeps_its_digits_at_both_ends(score_: float, expected: float) -> None:
    np.testing.assert_allclose(_values("soft_margin", [[1.0]], [[score_]]), [expected], rtol=1e-15)


def test_perceptron_is_hinge_without_a_margin() -> None:
    np.testing.assert_array_equal(_values("perceptron", _SIGNS, _SCORES), _values("hinge", _SIGNS, _SCORES, margin=0.0))


def test_hinge_embedding_scores_distances() -> None:
    distances = np.abs(_SCORES)
    expected = np.where(_SIGNS == 1, distances, np.clip(2.5 - distances, 0, None)).mean(axis=1)
    found = _values("hinge_embedding", _SIGNS, distances, "torch", margin=2.5)
    np.testing.assert_allclose(found, expected, rtol=1e-14)


def test_multiclass_hinge_is_that_of_scikit_learn() -> None:
    found = _values("multiclass_hinge", _CLASSES, _SCORES, "sklearn")
    expected = [
        hinge_loss(label, one[np.newaxis], labels=[0, 1, 2]) for label, one in zip(_CLASSES, _SCORES, strict=True)
    ]
    np.testing.assert_allclose(found, expected, rtol=1e-14)


def _keras(labels: Floats, scores: Floats) -> Floats:
    return np.maximum(0.0, 1.0 - (labels * scores).sum(axis=1) + ((1.0 - labels) * scores).max(axis=1))


def test_categorical_hinge_is_that_of_keras_for_integer_one_hot_soft_and_empty_labels() -> None:
    one_hot = np.eye(3)[_CLASSES[:, 0].astype(int)]
    for labels in (one_hot, _RANDOM.random((200, 3)), np.zeros((200, 3)), np.ones((200, 3))):
        np.testing.assert_allclose(
            _values("categorical_hinge", labels, _SCORES, "keras"), _keras(labels, _SCORES), rtol=1e-13, atol=1e-14
        )
    np.testing.assert_array_equal(
        _values("categorical_hinge", _CLASSES, _SCORES), _values("categorical_hinge", one_hot, _SCORES)
    )


def test_categorical_and_multiclass_hinge_differ_only_where_every_other_score_is_negative() -> None:
    keras = _values("categorical_hinge", _CLASSES, _SCORES)
    crammer = _values("multiclass_hinge", _CLASSES, _SCORES)
    others = np.where(np.arange(3) == _CLASSES, -np.inf, _SCORES).max(axis=1)
    np.testing.assert_array_equal(keras[others >= 0], crammer[others >= 0])
    assert (keras[others < 0] >= crammer[others < 0]).all()
    assert _values("categorical_hinge", [[0]], [[-3.0, -5.0]]) == 4.0
    assert _values("multiclass_hinge", [[0]], [[-3.0, -5.0]]) == 0.0


@pytest.mark.parametrize("weights", [None, [0.5, 0.0, 2.0]])
@pytest.mark.parametrize("exponent", [1, 2])
@pytest.mark.parametrize("margin", [0.0, 1.0, 2.5])
def test_multi_margin_is_that_of_torch(margin: float, exponent: int, weights: list[float] | None) -> None:
    rows = np.arange(len(_SCORES))
    true = _CLASSES[:, 0].astype(int)
    missing = np.clip(margin - _SCORES[rows, true][:, np.newaxis] + _SCORES, 0, None) ** exponent
    missing[rows, true] = 0.0
    expected = missing.mean(axis=1) * (1.0 if weights is None else np.array(weights)[true])
    found = _values("multi_margin", _CLASSES, _SCORES, "torch", margin=margin, exponent=exponent, class_weight=weights)
    np.testing.assert_allclose(found, expected, rtol=1e-13)


def test_multi_margin_of_two_classes_is_half_the_multiclass_hinge() -> None:
    labels, scores = np.minimum(_CLASSES, 1.0), _SCORES[:, :2].copy()
    np.testing.assert_array_equal(
        _values("multi_margin", labels, scores), _values("multiclass_hinge", labels, scores) / 2
    )


def test_multilabel_margin_of_one_true_class_is_multi_margin() -> None:
    one_hot = np.eye(3)[_CLASSES[:, 0].astype(int)]
    np.testing.assert_array_equal(
        _values("multilabel_margin", one_hot, _SCORES), _values("multi_margin", _CLASSES, _SCORES)
    )


def _of_torch_list(classes: list[int], scores: Floats) -> float:
    """torch's form: a list of true classes that ends at the first -1."""
    true = classes[: classes.index(-1)] if -1 in classes else classes
    pairs = [(i, j) for i in true for j in range(len(scores)) if j not in true]
    return sum(max(0.0, 1.0 - (scores[i] - scores[j])) for i, j in pairs) / len(scores)


@pytest.mark.parametrize("classes", [[3, 0, -1, 1], [-1, 0, 1, 2], [0, 1, 2, 3], [2, -1, -1, -1]])
def test_multilabel_margin_is_that_of_torch_with_the_list_as_zeros_and_ones(classes: list[int]) -> None:
    label = np.zeros((1, 4))
    label[0, classes[: classes.index(-1)] if -1 in classes else classes] = 1.0
    scores = np.array([[0.1, 0.2, 0.4, 0.8]])
    expected = _of_torch_list(classes, scores[0])
    np.testing.assert_allclose(_values("multilabel_margin", label, scores, "torch"), [expected], rtol=1e-14)


def test_a_multilabel_row_without_pairs_loses_nothing() -> None:
    for constant in (0.0, 1.0):
        assert _values("multilabel_margin", [[constant] * 3], [[5.0, -5.0, 0.0]]) == 0.0


@pytest.mark.parametrize("name", ["multiclass_hinge", "multi_margin", "categorical_hinge"])
def test_a_rounded_difference_of_scores_does_not_reach_the_loss(name: str) -> None:
    """The difference of the scores rounds to the margin 1, which would leave a loss of 0."""
    own, other = 1.0, 2.0**-60
    factor = 0.5 if name == "multi_margin" else 1.0
    assert (_values(name, [[0]], [[own, other]]) == factor * other).all()
    assert (_values(name, [[0]], [[own + 2.0**-52, other]]) == 0.0).all()


@pytest.mark.parametrize("name", ["multiclass_hinge", "multi_margin", "categorical_hinge"])
def test_the_loss_grows_with_the_score_of_another_class(name: str) -> None:
    steps = [_values(name, [[0]], [[0.3, other, 0.1]])[0] for other in np.linspace(-2.0, 2.0, 50)]
    assert all(low <= high for low, high in pairwise(steps))


@pytest.mark.parametrize("label", [0.0, 0.5, 2.0])
@pytest.mark.parametrize("name", [*_OF_SIGNS, "hinge_embedding"])
def test_labels_other_than_signs_are_refused(name: str, label: float) -> None:
    """Keras turns 0 and 1 into signs where a whole batch has no other label; here the run config says so."""
    _, reasons = score(bind(name, {}, "keras"), [[label]], [[0.5]])
    assert reasons.all()
