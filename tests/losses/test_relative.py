"""Relative losses against scikit-learn and the libraries' rules, and what a label of 0 does."""

from __future__ import annotations

import itertools
import math

import mpmath
import numpy as np
import pytest
from sklearn import metrics

from lossops.kernels.checks import Reason
from lossops.losses import bind
from tests.losses.scoring import score
from tests.oracles import Floats

_EPSILON = 1e-7


def _rows(low: float) -> tuple[Floats, Floats]:
    random = np.random.default_rng(12)
    labels, predictions = (random.uniform(low, 6.0, size=400) for _ in range(2))
    labels[:20] = 0.0
    labels[20:30] = predictions[20:30]
    return labels[:, np.newaxis], predictions[:, np.newaxis]


# The denominator and the unit of every library, losses.md 1.2.
_PERCENTAGE = {
    "keras": lambda y: 100.0 / np.maximum(np.abs(y), _EPSILON),
    "tf_keras": lambda y: 100.0 / np.maximum(np.abs(y), _EPSILON),
    "sklearn": lambda y: 1.0 / np.maximum(np.abs(y), np.finfo(np.float64).eps),
    "lightgbm": lambda y: 1.0 / np.maximum(1.0, np.abs(y)),
}


@pytest.mark.parametrize("convention", _PERCENTAGE)
def test_percentage_error_equals_its_library(convention: str) -> None:
    """Rows with a label of 0 or a small one count as changed by the convention."""
    labels, predictions = _rows(-3.0)
    chosen = bind("mean_absolute_percentage_error", {}, convention)
    values, reasons = score(chosen, labels, predictions)
    assert not reasons.any()
    expected = (np.abs(labels - predictions) * _PERCENTAGE[convention](labels))[:, 0]
    np.testing.assert_allclose(values, expected, rtol=1e-15)
    limited = np.abs(labels[:, 0]) < (1.0 if convention == "lightgbm" else np.finfo(np.float64).eps)
    np.testing.assert_array_equal(chosen.clipped(labels, predictions, reasons), limited)


def test_percentage_error_equals_sklearn() -> None:
    """The library itself."""
    labels, predictions = _rows(-3.0)
    values, _ = score(bind("mean_absolute_percentage_error", {}, "sklearn"), labels, predictions)
    assert values.mean() == pytest.approx(metrics.mean_absolute_percentage_error(labels, predictions), rel=1e-14)


@pytest.mark.parametrize("convention", ["exact", "xgboost", "torch", "spark"])
def test_a_label_of_zero_where_no_convention_limits_it(convention: str) -> None:
    """Infinite where the prediction misses it; not defined, and so counted, where it does not."""
    labels, predictions = np.zeros((2, 1)), np.array([[1.0], [0.0]])
    values, reasons = score(bind("mean_absolute_percentage_error", {}, convention), labels, predictions)
    assert values[0] == math.inf
    assert reasons.tolist() == [0, Reason.LOSS_NAN]


@pytest.mark.parametrize("convention", ["exact", "keras", "lightgbm"])
def test_labels_of_zero_can_be_refused(convention: str) -> None:
    """Complaint 36: no epsilon decides the number."""
    chosen = bind("mean_absolute_percentage_error", {"refuse_zero_labels": True}, convention)
    _, reasons = score(chosen, np.array([[0.0], [0.0], [1.0]]), np.array([[1.0], [0.0], [1.0]]))
    assert reasons.tolist() == [Reason.LOSS_NAN, Reason.LOSS_NAN, 0]


def test_symmetric_percentage_error_stays_between_0_and_2() -> None:
    """Opposite signs cost 2, whatever their size; two zeros cost nothing; nothing overflows."""
    labels = np.array([0.0, 0.0, -1.0, 1e308, 1.7e308, 1.7e308, 5e-324, 3.0])[:, np.newaxis]
    predictions = np.array([0.0, 1e-300, 2.0, -1e308, 1.7e308, 1.6e308, 0.0, 1.0])[:, np.newaxis]
    values, reasons = score(bind("symmetric_mean_absolute_percentage_error", {}, "exact"), labels, predictions)
    assert not reasons.any()
    np.testing.assert_allclose(values, [0.0, 2.0, 2.0, 2.0, 0.0, 0.2 / 3.3, 2.0, 1.0], rtol=1e-14)


def test_squared_logarithmic_error_of_numbers_whose_quotient_is_no_float64() -> None:
    """Against mpmath, on both sides alike."""
    values = [1e308, 1e295, 1e281, 1e279, 1e12, 1.0, 0.0, -0.999, -0.9999999999999999]
    labels, predictions = (
        np.array(side)[:, np.newaxis] for side in zip(*itertools.product(values, values), strict=True)
    )
    found, reasons = score(bind("mean_squared_logarithmic_error", {}, "exact"), labels, predictions)
    assert not reasons.any()
    with mpmath.workdps(60):
        for label, prediction, loss in zip(
            labels[:, 0].tolist(), predictions[:, 0].tolist(), found.tolist(), strict=True
        ):
            exact = (mpmath.log(1 + mpmath.mpf(prediction)) - mpmath.log(1 + mpmath.mpf(label))) ** 2
            assert abs(loss - exact) <= 12 * math.ulp(float(exact)), (label, prediction)


def test_squared_logarithmic_error_equals_sklearn() -> None:
    """The library itself; values above -1."""
    labels, predictions = _rows(-0.9)
    values, reasons = score(bind("mean_squared_logarithmic_error", {}, "sklearn"), labels, predictions)
    assert not reasons.any()
    assert values.mean() == pytest.approx(metrics.mean_squared_log_error(labels, predictions), rel=1e-13)


@pytest.mark.parametrize("convention", ["keras", "tf_keras"])
def test_keras_clamps_the_squared_logarithmic_error(convention: str) -> None:
    """Negative values silently become 1e-7, and are counted."""
    labels, predictions = _rows(-5.0)
    chosen = bind("mean_squared_logarithmic_error", {}, convention)
    values, reasons = score(chosen, labels, predictions)
    assert not reasons.any()
    logs = [np.log(np.maximum(side[:, 0], _EPSILON) + 1.0) for side in (labels, predictions)]
    np.testing.assert_allclose(values, (logs[0] - logs[1]) ** 2, rtol=1e-10, atol=1e-20)
    changed = (labels[:, 0] < _EPSILON) | (predictions[:, 0] < _EPSILON)
    np.testing.assert_array_equal(chosen.clipped(labels, predictions, reasons), changed)


def test_values_from_minus_one_down_have_no_logarithm() -> None:
    """Refused and counted unless a convention lifts them."""
    sides = np.array([[-1.0], [-3.0], [0.0]]), np.array([[0.0], [0.0], [-1.0]])
    _, reasons = score(bind("mean_squared_logarithmic_error", {}, "exact"), *sides)
    outside = [Reason.LABEL_OUTSIDE_DOMAIN, Reason.LABEL_OUTSIDE_DOMAIN, Reason.PREDICTION_OUTSIDE_DOMAIN]
    assert reasons.tolist() == outside
