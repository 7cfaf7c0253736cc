"""Overlap of sets against scikit-learn and scipy, the rules of Keras and optax, and each other."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.spatial import distance
from sklearn.metrics import f1_score, jaccard_score

from lossops.losses import bind
from tests.losses.scoring import score
from tests.oracles import Floats

_NAMES = ("dice", "tversky", "jaccard")


def _soft(seed: int) -> tuple[Floats, Floats]:
    random = np.random.default_rng(seed)
    return random.uniform(size=(100, 9)), random.uniform(size=(100, 9))


def _score(name: str, labels: Floats, predictions: Floats, convention: str = "exact", **parameters: float) -> Floats:
    values, reasons = score(bind(name, parameters, convention), labels, predictions)
    assert not reasons.any()
    return values


def test_hard_sets_equal_sklearn_and_scipy() -> None:
    """Dice is 1 - F1."""
    random = np.random.default_rng(1)
    labels = random.integers(0, 2, size=(60, 9)).astype(np.float64)
    predictions = random.integers(0, 2, size=(60, 9)).astype(np.float64)
    labels[:, 0] = 1.0
    dice, jaccard = _score("dice", labels, predictions), _score("jaccard", labels, predictions)
    for i, (label, prediction) in enumerate(zip(labels, predictions, strict=True)):
        assert dice[i] == pytest.approx(1.0 - f1_score(label, prediction), abs=1e-14)
        assert dice[i] == pytest.approx(distance.dice(label > 0, prediction > 0), abs=1e-14)
        assert jaccard[i] == pytest.approx(1.0 - jaccard_score(label, prediction), abs=1e-14)
        assert jaccard[i] == pytest.approx(distance.jaccard(label > 0, prediction > 0), abs=1e-14)


def test_dice_and_jaccard_are_cases_of_tversky() -> None:
    """Weights of 1/2 and of 1; and dice = jaccard / (2 - jaccard)."""
    labels, predictions = _soft(2)
    dice, jaccard = _score("dice", labels, predictions), _score("jaccard", labels, predictions)
    np.testing.assert_allclose(_score("tversky", labels, predictions), dice, rtol=1e-14)
    np.testing.assert_allclose(_score("tversky", labels, predictions, alpha=1.0, beta=1.0), jaccard, rtol=1e-14)
    np.testing.assert_allclose(dice, jaccard / (2.0 - jaccard), rtol=1e-13)


@pytest.mark.parametrize("convention", ["keras", "tf_keras"])
def test_keras_adds_an_epsilon_to_the_denominator(convention: str) -> None:
    """The loss of an almost complete overlap is that epsilon, and of two empty sets 1."""
    labels, predictions = _soft(3)
    labels[0] = predictions[0] = 0.0
    labels[1] = predictions[1] = 1.0
    both, one, other = (labels * predictions).sum(axis=1), labels.sum(axis=1), predictions.sum(axis=1)
    dice = 1.0 - 2.0 * both / (one + other + 1e-7)
    np.testing.assert_allclose(_score("dice", labels, predictions, convention), dice, rtol=1e-7)
    ratio = both / (both + 0.2 * (other - both) + 0.8 * (one - both) + 1e-7)
    values = _score("tversky", labels, predictions, convention, alpha=0.2, beta=0.8)
    np.testing.assert_allclose(values, 1.0 - ratio, rtol=1e-7)
    assert values[0] == 1.0


def test_optax_smooths_both_sides_of_the_ratio() -> None:
    """Two empty sets lose nothing."""
    labels, predictions = _soft(4)
    labels[0] = predictions[0] = 0.0
    both, sizes = (labels * predictions).sum(axis=1), labels.sum(axis=1) + predictions.sum(axis=1)
    values = _score("dice", labels, predictions, smooth=1.0)
    np.testing.assert_allclose(values, 1.0 - (2.0 * both + 1.0) / (sizes + 1.0), rtol=1e-13)
    assert values[0] == 0.0


@pytest.mark.parametrize("name", _NAMES)
def test_nearly_complete_overlap_keeps_its_digits(name: str) -> None:
    """One element of three is missed by a tiny share."""
    tiny = 2.0**-52
    values = _score(name, np.array([[1.0, 1.0, 1.0]]), np.array([[1.0, 1.0, 1.0 - tiny]]))
    share = {"dice": tiny / 6.0, "tversky": tiny / 6.0, "jaccard": tiny / 3.0}[name]
    assert values[0] == pytest.approx(share, rel=1e-15)


@pytest.mark.parametrize("name", _NAMES)
def test_empty_and_disjoint_sets(name: str) -> None:
    """Nothing is missed of nothing; disjoint sets lose 1."""
    labels = np.array([[0.0, 0.0], [1.0, 0.0], [0.0, 0.0]])
    predictions = np.array([[0.0, 0.0], [0.0, 0.7], [0.3, 0.0]])
    assert _score(name, labels, predictions).tolist() == [0.0, 1.0, 1.0]
