"""Focal, generalised and poly-1 cross-entropies against Keras's rules in NumPy, their series and each other."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from lossops.kernels.checks import Reason
from lossops.losses import CONVENTIONS, bind
from tests.losses.scoring import score
from tests.oracles import Floats

_RANDOM = np.random.default_rng(17)
_HARD = _RANDOM.integers(0, 2, size=(300, 3)).astype(float)
_SOFT = np.where(_RANDOM.random((300, 3)) < 0.5, _HARD, _RANDOM.random((300, 3)))
_PROBABILITIES = np.where(_RANDOM.random((300, 3)) < 0.1, _HARD, _RANDOM.random((300, 3)))
_FORECASTS = _RANDOM.dirichlet([0.3, 0.3, 0.3], size=300) * _RANDOM.uniform(0.2, 1.0, size=(300, 1))
_SHARES = np.where(_RANDOM.random((300, 1)) < 0.5, np.eye(3)[_HARD.sum(axis=1).astype(int) % 3], 0.0)
_SHARES = np.where(_SHARES.sum(axis=1, keepdims=True) > 0, _SHARES, _RANDOM.dirichlet([1.0, 1.0, 1.0], size=300))
_LOGITS = _RANDOM.normal(scale=5.0, size=(300, 3))


def _values(name: str, labels: Any, predictions: Any, convention: str = "exact", **parameters: Any) -> Floats:
    values, reasons = score(bind(name, parameters, convention), labels, predictions)
    assert not reasons.any()
    return values


def _keras_binary(labels: Floats, p: Floats, epsilon: float, **parameters: float) -> Floats:
    """Only the logarithm sees limited probabilities; Keras 2 adds its epsilon again inside it."""
    smoothing, gamma = parameters.get("label_smoothing", 0.0), parameters.get("gamma", 2.0)
    y, limited = labels * (1 - smoothing) + smoothing / 2, np.clip(p, 1e-7, 1 - 1e-7)
    entropy = -y * np.log(limited + epsilon) - (1 - y) * np.log1p(epsilon - limited)
    alpha = parameters.get("alpha", 0.25)
    balance = y * alpha + (1 - y) * (1 - alpha) if parameters.get("apply_class_balancing") else 1.0
    correct = y * p + (1 - y) * (1 - p)
    return np.asarray((balance * (1 - correct) ** gamma * entropy).mean(axis=1))


@pytest.mark.parametrize(("convention", "epsilon"), [("keras", 0.0), ("tf_keras", 1e-7)])
@pytest.mark.parametrize(
    "parameters",
    [
        {},
        {"gamma": 0.7, "label_smoothing": 0.2},
        {"gamma": 3.0, "alpha": 0.9, "apply_class_balancing": True},
    ],
)
def test_binary_focal_as_keras(parameters: dict[str, Any], convention: str, epsilon: float) -> None:
    """Hard and soft labels, probabilities of 0 and 1 among them."""
    found = _values("binary_focal_crossentropy", _SOFT, _PROBABILITIES, convention, **parameters)
    expected = _keras_binary(_SOFT, _PROBABILITIES, epsilon, **parameters)
    np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize(
    "parameters", [{}, {"gamma": 0.7, "label_smoothing": 0.2}, {"alpha": 1.0, "class_weight": [0.1, 2.0, 0.7]}]
)
def test_categorical_focal_as_keras(parameters: dict[str, Any]) -> None:
    """Divided by the sum, clipped, then every class with its own factor."""
    smoothing, gamma = parameters.get("label_smoothing", 0.0), parameters.get("gamma", 2.0)
    alpha = np.array(parameters.get("class_weight", 1.0)) * parameters.get("alpha", 0.25)
    y = _SHARES * (1 - smoothing) + smoothing / 3
    p = np.clip(_FORECASTS / _FORECASTS.sum(axis=1, keepdims=True), 1e-7, 1 - 1e-7)
    expected = (alpha * (1 - p) ** gamma * -y * np.log(p)).sum(axis=1)
    found = _values("categorical_focal_crossentropy", _SHARES, _FORECASTS, "keras", **parameters)
    np.testing.assert_allclose(found, expected, rtol=1e-9)


def test_values_that_keras_documents() -> None:
    """The docstrings, the one of the binary loss as corrected in reference/losses.md 1.2."""
    found = _values("binary_focal_crossentropy", [[0, 1], [0, 0]], [[0.6, 0.4], [0.4, 0.6]], "keras")
    np.testing.assert_allclose(found, [0.330, 0.206], atol=5e-4)
    predictions = [[0.05, 0.9, 0.05], [0.1, 0.85, 0.05]]
    found = _values("categorical_focal_crossentropy", [[1], [2]], predictions, "keras")
    np.testing.assert_allclose(found, [2.63401289e-04, 6.75912094e-01], rtol=1e-6)


@pytest.mark.parametrize("convention", CONVENTIONS)
@pytest.mark.parametrize("from_logits", [False, True])
def test_without_their_extra_they_are_cross_entropies(convention: str, from_logits: bool) -> None:
    """gamma 0, epsilon 0: the plain losses under every convention, clipped rows included."""
    given = {"from_logits": from_logits}
    binary = _LOGITS if from_logits else _PROBABILITIES
    plain = _values("binary_crossentropy", _SOFT, binary, convention, **given)
    focal = _values("binary_focal_crossentropy", _SOFT, binary, convention, gamma=0.0, **given)
    np.testing.assert_allclose(focal, plain, rtol=1e-14)
    classes = _LOGITS if from_logits else _FORECASTS
    plain = _values("categorical_crossentropy", _SHARES, classes, convention, **given)
    focal = _values("categorical_focal_crossentropy", _SHARES, classes, convention, gamma=0.0, alpha=1.0, **given)
    np.testing.assert_allclose(focal, plain, rtol=1e-14)
    poly = _values("poly1_crossentropy", _SHARES, classes, convention, epsilon=0.0, **given)
    np.testing.assert_allclose(poly, plain, rtol=1e-13)


@pytest.mark.parametrize("name", ["binary_focal_crossentropy", "categorical_focal_crossentropy", "poly1_crossentropy"])
def test_clipped_rows_are_counted(name: str) -> None:
    """A certain and wrong row is infinite under exact, and finite and counted under keras."""
    labels, predictions = ([[0.0]], [[1.0]]) if name.startswith("binary") else ([[0.0]], [[0.0, 1.0]])
    assert _values(name, labels, predictions)[0] == math.inf
    chosen = bind(name, {}, "keras")
    values, reasons = score(chosen, labels, predictions)
    assert 4.0 < values[0] < 20.0 or name.startswith("categorical")
    assert chosen.clipped(np.array(labels), np.array(predictions), reasons).tolist() == [1]


def test_focal_of_large_logits_keeps_its_digits() -> None:
    """For a right and certain logit z the loss tends to exp(-(gamma + 1) z), where 1 minus a probability is 0."""
    for z in (50.0, 100.0, 200.0):
        found = _values("binary_focal_crossentropy", [[1.0]], [[z]], from_logits=True)
        np.testing.assert_allclose(found, math.exp(-3 * z), rtol=1e-13)
        found = _values("categorical_focal_crossentropy", [[0]], [[z, 0.0]], from_logits=True, alpha=1.0)
        np.testing.assert_allclose(found, math.exp(-3 * z), rtol=1e-13)
    found = _values("binary_focal_crossentropy", [[1.0], [0.0]], [[-800.0], [800.0]], from_logits=True)
    np.testing.assert_array_equal(found, [800.0, 800.0])


def test_a_weight_of_zero_silences_an_infinite_term() -> None:
    """0 times infinity is 0 for alpha and for class weights."""
    balanced = {"alpha": 0.0, "apply_class_balancing": True}
    assert _values("binary_focal_crossentropy", [[1.0]], [[0.0]], **balanced)[0] == 0.0
    silenced = {"class_weight": [0.0, 1.0]}
    assert _values("categorical_focal_crossentropy", [[0]], [[0.0, 1.0]], **silenced)[0] == 0.0


def test_generalized_crossentropy_lies_between_its_two_ends() -> None:
    """q = 1 is the missing probability, q towards 0 the cross-entropy; it is bounded by 1/q under every convention."""
    labels = _SHARES.argmax(axis=1)[:, np.newaxis].astype(float)
    own = np.take_along_axis(_FORECASTS, labels.astype(int), axis=1)[:, 0]
    np.testing.assert_allclose(_values("generalized_crossentropy", labels, _FORECASTS, q=1.0), 1 - own, rtol=1e-14)
    found = _values("generalized_crossentropy", labels, _FORECASTS, q=1e-12)
    np.testing.assert_allclose(found, -np.log(own), rtol=1e-9)
    for convention in CONVENTIONS:
        assert _values("generalized_crossentropy", [[0]], [[0.0, 1.0]], convention)[0] == 2.0


@pytest.mark.parametrize("from_logits", [False, True])
def test_poly1_is_the_cross_entropy_with_another_first_term(from_logits: bool) -> None:
    """-log p = (1 - p) + (1 - p)^2/2 + ...; epsilon -1 leaves out the first term, and nothing cancels."""
    missing = np.array([1e-12, 1e-6, 0.01, 0.3, 0.45])
    series = sum(missing**k / k for k in range(2, 200))
    pairs = np.stack([1 - missing, missing], axis=1)
    given = np.log1p(-missing) - np.log(missing) if from_logits else None
    predictions = pairs if given is None else np.stack([given, np.zeros(5)], axis=1)
    found = _values("poly1_crossentropy", np.zeros((5, 1)), predictions, epsilon=-1.0, from_logits=from_logits)
    # 1 - p and the logit are rounded, which moves the missing probability itself
    np.testing.assert_allclose(found, series, rtol=1e-3 if not from_logits else 1e-12)
    np.testing.assert_allclose(found[1:], series[1:], rtol=1e-9)


def test_poly1_takes_labels_as_they_are() -> None:
    """optax's rule for logits, for labels that do not sum to 1."""
    labels, logits = _SOFT, _LOGITS
    log = logits - np.logaddexp.reduce(logits, axis=1, keepdims=True)
    expected = -(labels * log).sum(axis=1) + 2.0 * (labels * (1 - np.exp(log))).sum(axis=1)
    found = _values("poly1_crossentropy", labels, logits, from_logits=True)
    np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-14)


def test_two_infinite_logits_have_no_loss() -> None:
    """Such a row is counted, not scored."""
    for name in ("categorical_focal_crossentropy", "generalized_crossentropy", "poly1_crossentropy"):
        _, reasons = score(bind(name, {"from_logits": True}, "exact"), [[0]], [[math.inf, math.inf]])
        assert reasons.tolist() == [Reason.LOSS_NAN]
