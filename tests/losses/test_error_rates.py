"""Error rates against scikit-learn and the tie rules of each library, written with sorts and counts."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from sklearn.metrics import hamming_loss, top_k_accuracy_score, zero_one_loss

from lossops.losses import CONVENTIONS, bind
from tests.losses.scoring import score
from tests.oracles import Floats

_RANDOM = np.random.default_rng(12)
_LABELS = _RANDOM.integers(0, 2, size=(200, 3)).astype(float)
_GUESSES = np.where(_RANDOM.random((200, 3)) < 0.7, _LABELS, 1.0 - _LABELS)
_CLASSES = _RANDOM.integers(0, 6, size=(200, 1)).astype(float)
_TIED = _RANDOM.integers(0, 4, size=(200, 6)).astype(float)


def _values(name: str, labels: Any, predictions: Any, convention: str = "exact", **parameters: Any) -> Floats:
    values, reasons = score(bind(name, parameters, convention), labels, predictions)
    assert not reasons.any()
    return values


@pytest.mark.parametrize("convention", CONVENTIONS)
def test_zero_one_and_hamming_are_those_of_scikit_learn(convention: str) -> None:
    assert _values("zero_one", _LABELS, _GUESSES, convention).mean() == pytest.approx(zero_one_loss(_LABELS, _GUESSES))
    assert _values("hamming", _LABELS, _GUESSES, convention).mean() == pytest.approx(hamming_loss(_LABELS, _GUESSES))


def test_of_single_labels_zero_one_and_hamming_are_equal() -> None:
    """scikit-learn's example, with class numbers beyond 0 and 1."""
    labels, guesses = [[2.0], [2.0], [3.0], [4.0]], [[1.0], [2.0], [3.0], [4.0]]
    for name in ("zero_one", "hamming"):
        np.testing.assert_array_equal(_values(name, labels, guesses), [1.0, 0.0, 0.0, 0.0])


@pytest.mark.parametrize("convention", CONVENTIONS)
def test_only_a_score_above_the_threshold_means_one(convention: str) -> None:
    labels, scores = [[1.0], [1.0], [0.0], [0.0]], [[0.5], [np.nextafter(0.5, 1)], [0.5], [np.nextafter(0.5, 1)]]
    np.testing.assert_array_equal(_values("binary_zero_one", labels, scores, convention), [1.0, 0.0, 0.0, 1.0])


def test_a_threshold_of_zero_decides_logits_as_one_half_decides_probabilities() -> None:
    logits = _RANDOM.normal(size=(200, 3))
    np.testing.assert_array_equal(
        _values("binary_zero_one", _LABELS, logits, threshold=0.0),
        _values("binary_zero_one", _LABELS, 1.0 / (1.0 + np.exp(-logits))),
    )


def _first_of_the_highest(scores: Floats, label: int) -> bool:
    return int(np.argmax(scores)) != label


def _tie_is_wrong(scores: Floats, label: int) -> bool:
    return bool((np.delete(scores, label) >= scores[label]).any())


@pytest.mark.parametrize("convention", CONVENTIONS)
def test_the_highest_score_decides_and_ties_follow_the_library(convention: str) -> None:
    rule = _tie_is_wrong if convention == "lightgbm" else _first_of_the_highest
    expected = [rule(scores, int(label)) for scores, label in zip(_TIED, _CLASSES[:, 0], strict=True)]
    np.testing.assert_array_equal(_values("multiclass_zero_one", _CLASSES, _TIED, convention), expected)


def test_of_equal_scores_the_first_class_wins() -> None:
    """XGBoost's merror of three rows with equal scores, one a class: 2/3."""
    assert _values("multiclass_zero_one", [[0], [1], [2]], np.full((3, 3), 0.1), "xgboost").mean() == 2.0 / 3.0
    assert _values("multiclass_zero_one", [[0], [1], [2]], np.full((3, 3), 0.1), "lightgbm").mean() == 1.0


def _in_lowest_first(scores: Floats, label: int, k: int) -> bool:
    return label in np.argsort(-scores, kind="stable")[:k]


def _in_highest_first(scores: Floats, label: int, k: int) -> bool:
    return label in np.argsort(scores, kind="stable")[::-1][:k]


def _as_good_as_the_last(scores: Floats, label: int, k: int) -> bool:
    return bool(scores[label] >= np.sort(scores)[::-1][: min(k, len(scores))][-1])


def _few_as_good(scores: Floats, label: int, k: int) -> bool:
    """LightGBM counts every score that is at least that of the true class, which is one of them."""
    return int((scores >= scores[label]).sum()) <= k


_TOP_K = {
    "sklearn": _in_highest_first,
    "keras": _as_good_as_the_last,
    "tf_keras": _as_good_as_the_last,
    "lightgbm": _few_as_good,
}


@pytest.mark.parametrize("k", [1, 2, 3, 5, 6, 9])
@pytest.mark.parametrize("convention", CONVENTIONS)
def test_ties_at_rank_k_follow_the_library(convention: str, k: int) -> None:
    rule = _TOP_K.get(convention, _in_lowest_first)
    expected = [not rule(scores, int(label), k) for scores, label in zip(_TIED, _CLASSES[:, 0], strict=True)]
    np.testing.assert_array_equal(_values("top_k_error", _CLASSES, _TIED, convention, k=k), expected)


@pytest.mark.parametrize("k", [1, 2, 3, 5])
def test_top_k_error_is_that_of_scikit_learn_with_ties(k: int) -> None:
    expected = 1.0 - top_k_accuracy_score(_CLASSES[:, 0], _TIED, k=k, labels=range(6))
    assert _values("top_k_error", _CLASSES, _TIED, "sklearn", k=k).mean() == pytest.approx(expected, abs=1e-15)


@pytest.mark.parametrize("convention", ["exact", "lightgbm"])
def test_the_best_one_class_is_the_best_class(convention: str) -> None:
    np.testing.assert_array_equal(
        _values("top_k_error", _CLASSES, _TIED, convention, k=1),
        _values("multiclass_zero_one", _CLASSES, _TIED, convention),
    )


@pytest.mark.parametrize("name", ["multiclass_zero_one", "top_k_error"])
def test_classes_that_logits_rule_out_lose_to_all_others(name: str) -> None:
    parameters = {"k": 1} if name == "top_k_error" else {}
    masked = [[-np.inf, 0.0, -np.inf], [-np.inf, 0.0, -np.inf], [np.inf, 0.0, 1.0]]
    np.testing.assert_array_equal(_values(name, [[1], [2], [0]], masked, **parameters), [0.0, 1.0, 0.0])
