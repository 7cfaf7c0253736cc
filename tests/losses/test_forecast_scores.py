"""Scores of probability forecasts against scikit-learn, SciPy, their decompositions and each other."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from scipy.spatial.distance import cosine
from sklearn.metrics import brier_score_loss

from lossops.kernels.checks import Reason
from lossops.losses import CONVENTIONS, bind
from tests.losses.scoring import score
from tests.oracles import Floats

_RANDOM = np.random.default_rng(29)
_CLASSES = _RANDOM.integers(0, 4, size=(200, 1)).astype(float)
_FORECASTS = _RANDOM.dirichlet([0.5, 0.5, 0.5, 0.5], size=200)
_BINARY = _RANDOM.integers(0, 2, size=(200, 1)).astype(float)
_PROBABILITIES = _RANDOM.random((200, 1))
_PAIRS = np.hstack([1 - _PROBABILITIES, _PROBABILITIES])


def _values(name: str, labels: Any, predictions: Any, convention: str = "exact", **parameters: Any) -> Floats:
    values, reasons = score(bind(name, parameters, convention), labels, predictions)
    assert not reasons.any()
    return values


def test_brier_as_scikit_learn() -> None:
    """Of two classes and of more, whole and halved."""
    for halved in (True, False):
        found = _values("brier", _BINARY, _PROBABILITIES, "sklearn", scale_by_half=halved)
        expected = brier_score_loss(_BINARY[:, 0], _PROBABILITIES[:, 0], scale_by_half=halved)
        np.testing.assert_allclose(found.mean(), expected, rtol=1e-13)
        found = _values("multiclass_brier", _CLASSES, _FORECASTS, scale_by_half=halved)
        expected = brier_score_loss(_CLASSES[:, 0], _FORECASTS, labels=range(4), scale_by_half=halved)
        np.testing.assert_allclose(found.mean(), expected, rtol=1e-13)


@pytest.mark.parametrize("convention", CONVENTIONS)
def test_only_scikit_learn_halves_the_score_of_two_classes(convention: str) -> None:
    """Its default is 'auto'; the sum over both classes is twice the score of one."""
    found = _values("multiclass_brier", _BINARY, _PAIRS, convention)
    factor = 1.0 if convention == "sklearn" else 2.0
    np.testing.assert_allclose(found, factor * _values("brier", _BINARY, _PROBABILITIES), rtol=1e-14)
    several = _values("multiclass_brier", _CLASSES, _FORECASTS, convention)
    np.testing.assert_array_equal(several, _values("multiclass_brier", _CLASSES, _FORECASTS))


def test_spherical_score_is_a_cosine_distance() -> None:
    """The angle between the forecast and the vertex of what happened."""
    expected = [cosine(np.eye(4)[int(y)], p) for y, p in zip(_CLASSES[:, 0], _FORECASTS, strict=True)]
    np.testing.assert_allclose(_values("spherical_score", _CLASSES, _FORECASTS), expected, rtol=1e-9, atol=1e-14)


def test_spherical_score_does_not_depend_on_the_scale() -> None:
    """Where squares would underflow, and where the angle is smaller than the distance of 1 from its neighbour."""
    found = _values("spherical_score", _CLASSES, _FORECASTS * 2.0**-900)
    np.testing.assert_array_equal(found, _values("spherical_score", _CLASSES, _FORECASTS))
    small = np.array([1e-3, 1e-9, 1e-20, 1e-100])
    found = _values("spherical_score", np.zeros((4, 1)), np.stack([np.ones(4), small], axis=1))
    np.testing.assert_allclose(found, 1 - 1 / np.sqrt(1 + small**2), atol=1e-16)
    np.testing.assert_allclose(found[1:], small[1:] ** 2 / 2, rtol=1e-15)


def test_spherical_score_of_nothing_is_counted() -> None:
    """Probabilities that are all 0 have no direction."""
    _, reasons = score(bind("spherical_score", {}, "exact"), [[0]], [[0.0, 0.0]])
    assert reasons.tolist() == [Reason.LOSS_NAN]


def _cumulative() -> tuple[Floats, Floats]:
    happened = (np.arange(4) >= _CLASSES).astype(float)
    return happened, np.clip(np.cumsum(_FORECASTS, axis=1), 0.0, 1.0)


def test_ranked_scores_are_sums_over_thresholds() -> None:
    """The Brier score, and the logarithmic one, of 'at most class k' for each k."""
    happened, below = _cumulative()
    found = _values("ranked_probability_score", _CLASSES, _FORECASTS)
    np.testing.assert_allclose(found, 4 * _values("brier", happened, below), rtol=1e-12)
    found = _values("ranked_log_score", _CLASSES, _FORECASTS)
    np.testing.assert_allclose(found, 4 * _values("binary_crossentropy", happened, below), rtol=1e-9)


def test_ranked_scores_of_two_classes_are_the_plain_ones() -> None:
    """With one threshold nothing is ranked."""
    found = _values("ranked_probability_score", _BINARY, _PAIRS)
    np.testing.assert_allclose(found, _values("brier", _BINARY, _PROBABILITIES), rtol=1e-14)
    found = _values("ranked_log_score", _BINARY, _PAIRS)
    np.testing.assert_allclose(found, _values("binary_crossentropy", _BINARY, _PROBABILITIES), rtol=1e-12)


@pytest.mark.parametrize("name", ["ranked_probability_score", "ranked_log_score"])
def test_ranked_scores_punish_distance_and_know_no_direction(name: str) -> None:
    """A near miss costs less than a far one, and counting the classes from the other end changes nothing."""
    near = _values(name, [[0], [0], [0]], [[0.5, 0.5, 0, 0], [0.5, 0, 0.5, 0], [0.5, 0, 0, 0.5]])
    assert near[0] < near[1] < near[2]
    mirrored = _values(name, 3 - _CLASSES, _FORECASTS[:, ::-1])
    np.testing.assert_allclose(mirrored, _values(name, _CLASSES, _FORECASTS), rtol=1e-9)
    assert _values(name, [[2]], [[0, 0, 1, 0]])[0] == 0.0
    worst = _values(name, [[3]], [[1, 0, 0, 0]])[0]
    assert worst == (3.0 if name == "ranked_probability_score" else math.inf)


def test_normalised_ranked_probability_score_ends_at_one() -> None:
    """Divided by the number of thresholds."""
    assert _values("ranked_probability_score", [[3]], [[1, 0, 0, 0]], normalise=True)[0] == 1.0
    whole = _values("ranked_probability_score", _CLASSES, _FORECASTS)
    found = _values("ranked_probability_score", _CLASSES, _FORECASTS, normalise=True)
    np.testing.assert_allclose(found, whole / 3, rtol=1e-15)


def test_values_of_scoringrules() -> None:
    """Its tests count classes from 1."""
    assert _values("ranked_probability_score", [[2]], [[0.01, 0.32, 0.44, 0.23]])[0] == pytest.approx(0.1619, abs=1e-12)
    assert _values("ranked_log_score", [[1]], [[0.21, 0.31, 0.32, 0.16]])[0] == pytest.approx(1.064002, abs=1e-6)
    assert _values("brier", [[0]], [[0.271]])[0] == pytest.approx(0.073441, abs=1e-12)


def test_ranked_scores_keep_the_digits_of_a_small_rest() -> None:
    """A cumulative probability near 1 is not found as 1 minus its rounded neighbour."""
    tiny = np.array([1e-18, 1e-25, 1e-40])
    forecasts = np.stack([np.zeros(3), np.ones(3), tiny], axis=1)
    found = _values("ranked_probability_score", np.ones((3, 1)), forecasts)
    np.testing.assert_allclose(found, tiny**2, rtol=1e-14)
    forecasts = np.stack([tiny, np.ones(3), np.zeros(3)], axis=1)
    found = _values("ranked_log_score", np.full((3, 1), 1), forecasts * [1, 0.5, 0] + [0, 0, 0.5])
    # log(1/2 + t) + log(1 + t) of the two later thresholds, log(1 - t) of the first
    np.testing.assert_allclose(found, math.log(2), rtol=1e-15)
    found = _values("ranked_log_score", np.full((3, 1), 1), forecasts)
    np.testing.assert_allclose(found, -tiny, rtol=1e-14)  # beyond a sum of 1: -2 log(1 + t) - log(1 - t)
