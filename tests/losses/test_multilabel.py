"""The multi-label cross-entropy against the binary one, and torch's rules by SciPy."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from scipy.special import log_expit

from lossops.losses import CONVENTIONS, bind
from tests.losses.scoring import score
from tests.oracles import Floats

_RANDOM = np.random.default_rng(23)
_LABELS = _RANDOM.integers(0, 2, size=(200, 4)).astype(float)
_SOFT = np.where(_RANDOM.random((200, 4)) < 0.5, _LABELS, _RANDOM.random((200, 4)))
_LOGITS = _RANDOM.normal(scale=4.0, size=(200, 4))
_PROBABILITIES = np.where(_RANDOM.random((200, 4)) < 0.1, _LABELS, _RANDOM.random((200, 4)))
_WEIGHTS, _POSITIVE = [0.1, 0.6, 0.4, 0.8], [3.0, 0.5, 1.0, 7.0]


def _values(labels: Any, predictions: Any, convention: str = "exact", **parameters: Any) -> Floats:
    values, reasons = score(bind("multilabel_crossentropy", parameters, convention), labels, predictions)
    assert not reasons.any()
    return values


@pytest.mark.parametrize("convention", CONVENTIONS)
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("from_logits", [False, True])
def test_without_weights_it_is_the_binary_cross_entropy_of_a_vector(
    convention: str, smoothing: float, from_logits: bool
) -> None:
    """The mean over the labels, under every convention; the same rows count as clipped."""
    parameters = {"label_smoothing": smoothing, "from_logits": from_logits}
    predictions = _LOGITS if from_logits else _PROBABILITIES
    chosen = bind("multilabel_crossentropy", parameters, convention)
    binary = bind("binary_crossentropy", parameters, convention)
    (found, reasons), (expected, _) = score(chosen, _SOFT, predictions), score(binary, _SOFT, predictions)
    np.testing.assert_allclose(found, expected, rtol=1e-14)
    clipped = [one.clipped(_SOFT, predictions, reasons) for one in (chosen, binary)]
    np.testing.assert_array_equal(*clipped)


def test_class_weights_as_torch() -> None:
    """MultiLabelSoftMarginLoss: weights multiply, the divisor stays the number of labels."""
    terms = -_LABELS * log_expit(_LOGITS) - (1 - _LABELS) * log_expit(-_LOGITS)
    found = _values(_LABELS, _LOGITS, "torch", class_weight=_WEIGHTS, from_logits=True)
    np.testing.assert_allclose(found, (terms * _WEIGHTS).sum(axis=1) / 4, rtol=1e-12)
    labels, logits = [[0, 0, 1, 0], [1, 0, 1, 1]], [[0.0, 2.0, 2.0, 0.0], [2.0, 1.0, 0.0, 1.0]]
    found = _values(labels, logits, "torch", class_weight=_WEIGHTS, from_logits=True)
    np.testing.assert_allclose(found, [0.4876902, 0.3321295], atol=1e-7)


def test_positive_weights_as_torch() -> None:
    """BCEWithLogitsLoss: (1 - y) z + ((w - 1) y + 1) softplus(-z), and the same of probabilities."""
    factor = (np.array(_POSITIVE) - 1) * _SOFT + 1
    expected = ((1 - _SOFT) * _LOGITS + factor * np.logaddexp(0, -_LOGITS)).mean(axis=1)
    found = _values(_SOFT, _LOGITS, "torch", pos_weight=_POSITIVE, from_logits=True)
    np.testing.assert_allclose(found, expected, rtol=1e-11)
    of_probabilities = _values(_SOFT, 1 / (1 + np.exp(-_LOGITS)), pos_weight=_POSITIVE)
    np.testing.assert_allclose(of_probabilities, found, rtol=1e-9)


def test_a_label_without_weight_does_not_matter() -> None:
    """Neither its infinite term nor its clipping."""
    labels, predictions = np.array([[1.0, 0.0]]), np.array([[0.0, 0.5]])
    assert _values(labels, predictions)[0] == math.inf
    np.testing.assert_allclose(_values(labels, predictions, class_weight=[0.0, 1.0]), math.log(2) / 2, rtol=1e-15)
    chosen = bind("multilabel_crossentropy", {"class_weight": [0.0, 1.0]}, "keras")
    assert chosen.clipped(labels, predictions, np.zeros(1, dtype=np.uint8)).tolist() == [0]


@pytest.mark.parametrize("count", [1, 3])
def test_lists_have_one_number_a_label(count: int) -> None:
    """Otherwise the run is refused."""
    for name in ("class_weight", "pos_weight"):
        refused = bind("multilabel_crossentropy", {name: [1.0] * count}, "exact").misfit(2, 2)
        assert refused == f"{name} has {count} numbers; allowed: 2 for a prediction of 2 values a row"
