"""Deviances and likelihoods against scikit-learn, scipy and the libraries' rules."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import special, stats
from sklearn import metrics

from lossops.errors import ConfigError
from lossops.kernels.checks import Reason
from lossops.losses import bind
from tests.losses.scoring import score
from tests.oracles import Floats


def _rows(*, zeros: bool = False) -> tuple[Floats, Floats]:
    random = np.random.default_rng(14)
    labels, predictions = random.gamma(2.0, 2.0, size=(300, 1)), random.gamma(2.0, 2.0, size=(300, 1))
    predictions[:40] = labels[:40] * (1 + random.choice([-1, 1], size=(40, 1)) * 10 ** random.uniform(-8, -1, (40, 1)))
    if zeros:
        labels[40:80] = 0.0
    return labels, predictions


def _counts() -> tuple[Floats, Floats]:
    random = np.random.default_rng(15)
    return random.poisson(3.0, size=(300, 1)).astype(np.float64), random.gamma(2.0, 1.5, size=(300, 1))


def _values(name: str, rows: tuple[Floats, Floats], convention: str = "exact", **parameters: object) -> Floats:
    values, reasons = score(bind(name, parameters, convention), *rows)
    assert not reasons.any()
    return values


@pytest.mark.parametrize("power", [-1.5, 0.0, 1.0, 1.3, 1.5, 1.9, 2.0, 2.5, 3.0])
def test_tweedie_deviance_equals_sklearn(power: float) -> None:
    """The library itself, with labels of 0 where it takes them."""
    rows = _rows(zeros=power < 2)
    expected = metrics.mean_tweedie_deviance(rows[0][:, 0], rows[1][:, 0], power=power)
    assert _values("tweedie_deviance", rows, "sklearn", power=power).mean() == pytest.approx(expected, rel=1e-13)


def test_tweedie_deviance_of_negative_labels_equals_sklearn() -> None:
    """Powers below 0 take every label."""
    labels, predictions = _rows()
    labels[::2] *= -1
    expected = metrics.mean_tweedie_deviance(labels[:, 0], predictions[:, 0], power=-0.7)
    found = _values("tweedie_deviance", (labels, predictions), "sklearn", power=-0.7)
    assert found.mean() == pytest.approx(expected, rel=1e-13)


@pytest.mark.parametrize(
    ("power", "name"), [(0.0, "mean_squared_error"), (1.0, "poisson_deviance"), (2.0, "gamma_deviance")]
)
def test_tweedie_deviance_contains_the_others(power: float, name: str) -> None:
    """Exactly at the power, and as close to it as numbers come."""
    rows = _rows()
    expected = _values(name, rows)
    np.testing.assert_allclose(_values("tweedie_deviance", rows, power=power), expected, rtol=1e-14)
    for beside in (np.nextafter(power, -np.inf), np.nextafter(power, np.inf)):
        if not 0.0 < beside < 1.0:
            found = _values("tweedie_deviance", rows, power=float(beside))
            np.testing.assert_allclose(found, expected, rtol=1e-13)


@pytest.mark.parametrize("power", [0.1, 0.5, 1 - 2**-53, math.nan, math.inf])
def test_no_tweedie_distribution_has_a_power_between_0_and_1(power: float) -> None:
    """The message says what is allowed."""
    with pytest.raises(ConfigError, match=r"outside \(0, 1\)"):
        bind("tweedie_deviance", {"power": power}, "exact")


@pytest.mark.parametrize(
    ("power", "labels", "predictions"),
    [
        (-1.0, (1, 1, 1), (0, 0, 1)),
        (0.0, (1, 1, 1), (1, 1, 1)),
        (1.0, (0, 1, 1), (0, 0, 1)),
        (1.5, (0, 1, 1), (0, 0, 1)),
        (2.0, (0, 0, 1), (0, 0, 1)),
        (3.0, (0, 0, 1), (0, 0, 1)),
    ],
)
def test_domains_follow_the_power(power: float, labels: tuple[int, ...], predictions: tuple[int, ...]) -> None:
    """-1, 0 and 1 on each side: 1 where it is accepted, as scikit-learn does."""
    chosen, values, ones = (
        bind("tweedie_deviance", {"power": power}, "exact"),
        np.array([[-1.0], [0.0], [1.0]]),
        np.ones((3, 1)),
    )
    reasons = score(chosen, values, ones)[1], score(chosen, ones, values)[1]
    assert [int(reason == 0) for reason in reasons[0]] == list(labels)
    assert [int(reason == 0) for reason in reasons[1]] == list(predictions)
    words = chosen.reasons[Reason.LABEL_OUTSIDE_DOMAIN]
    assert words == f"label outside {chosen.label_domain}"


@pytest.mark.parametrize("name", ["poisson_deviance", "gamma_deviance"])
@pytest.mark.parametrize("gap", [1e-15, 1e-12, 1e-9, 1e-6])
def test_deviances_keep_their_digits_next_to_the_perfect_prediction(name: str, gap: float) -> None:
    """There both are (y - mu)^2 / variance, where the textbook formula leaves nothing but rounding."""
    label, prediction = 3.0, 3.0 * (1.0 + gap)
    found = _values(name, (np.array([[label]]), np.array([[prediction]])))[0]
    variance = label if name == "poisson_deviance" else label * label
    assert found == pytest.approx((label - prediction) ** 2 / variance, rel=2 * gap + 1e-14)


@pytest.mark.parametrize("name", ["poisson_deviance", "gamma_deviance", "tweedie_deviance"])
def test_deviances_are_zero_at_the_perfect_prediction_and_never_below(name: str) -> None:
    """Complaint 37."""
    labels, predictions = _rows()
    assert (_values(name, (labels, labels)) == 0).all()
    assert (_values(name, (labels, predictions))[labels[:, 0] != predictions[:, 0]] > 0).all()


def test_poisson_deviance_is_twice_the_likelihood_lost() -> None:
    """Against scipy's probability of a count."""
    labels, predictions = _counts()
    lost = stats.poisson.logpmf(labels, labels) - stats.poisson.logpmf(labels, predictions)
    np.testing.assert_allclose(
        _values("poisson_deviance", (labels, predictions)), 2 * lost[:, 0], rtol=1e-10, atol=1e-13
    )


def test_gamma_deviance_is_twice_the_likelihood_lost() -> None:
    """gamma_nll_of_mean at the label and at the prediction."""
    labels, predictions = _rows()
    lost = _values("gamma_nll_of_mean", (labels, predictions)) - _values("gamma_nll_of_mean", (labels, labels))
    np.testing.assert_allclose(_values("gamma_deviance", (labels, predictions)), 2 * lost, rtol=1e-10, atol=1e-14)


def test_tweedie_deviance_is_twice_the_likelihood_lost() -> None:
    """tweedie_nll at the label and at the prediction."""
    labels, predictions = _rows()
    lost = _values("tweedie_nll", (labels, predictions)) - _values("tweedie_nll", (labels, labels))
    np.testing.assert_allclose(_values("tweedie_deviance", (labels, predictions)), 2 * lost, rtol=1e-10, atol=1e-13)


def test_full_poisson_likelihood_equals_scipy() -> None:
    """Of the mean, and of its logarithm."""
    labels, predictions = _counts()
    expected = -stats.poisson.logpmf(labels, predictions)[:, 0]
    np.testing.assert_allclose(_values("poisson_nll", (labels, predictions), full=True), expected, rtol=1e-12)
    of_log = _values("poisson_nll", (labels, np.log(predictions)), full=True, log_input=True)
    np.testing.assert_allclose(of_log, expected, rtol=1e-12)


def test_impossible_counts_lose_infinity_on_request() -> None:
    """The log score of 1.5 events; without the request gamma(y + 1) stands for y!."""
    row = np.array([[1.5], [2.0]]), np.array([[2.3], [2.3]])
    assert np.isinf(_values("poisson_nll", row, full=True, counts_only=True)).tolist() == [True, False]
    assert np.isinf(_values("poisson_nll", (row[0], np.log(row[1])), counts_only=True, log_input=True)).tolist() == [
        True,
        False,
    ]
    expected = 2.3 - 1.5 * math.log(2.3) + special.gammaln(2.5)
    assert _values("poisson_nll", row, full=True)[0] == pytest.approx(expected, rel=1e-14)


# The rule of every library for mu, in the words of losses.md 1.2.
_POISSON = {
    "keras": lambda y, mu: mu - y * np.log(mu + 1e-7),
    "tf_keras": lambda y, mu: mu - y * np.log(mu + 1e-7),
    "torch": lambda y, mu: mu - y * np.log(mu + 1e-8),
    "xgboost": lambda y, mu: np.maximum(mu, 1e-16) - y * np.log(np.maximum(mu, 1e-16)),
    "lightgbm": lambda y, mu: np.maximum(mu, 1e-10) - y * np.log(np.maximum(mu, 1e-10)),
}


@pytest.mark.parametrize("convention", _POISSON)
def test_poisson_likelihood_equals_its_library(convention: str) -> None:
    """A mean of 0 too, which is infinite where no library limits it."""
    labels, predictions = _counts()
    predictions[:30], predictions[30:40] = 0.0, 1e-18
    expected = _POISSON[convention](labels, predictions)[:, 0]
    chosen = bind("poisson_nll", {}, convention)
    values, reasons = score(chosen, labels, predictions)
    np.testing.assert_allclose(values, expected, rtol=1e-13, atol=1e-13)
    limited = predictions[:, 0] < {"xgboost": 1e-16, "lightgbm": 1e-10}.get(convention, 0.0)
    np.testing.assert_array_equal(chosen.clipped(labels, predictions, reasons), limited)
    exact = _values("poisson_nll", (labels, predictions))
    np.testing.assert_array_equal(np.isinf(exact), (labels[:, 0] > 0) & (predictions[:, 0] == 0))


def test_torch_takes_stirlings_formula() -> None:
    """Above 1, and nothing up to there."""
    labels, predictions = np.array([[0.0], [0.5], [1.0], [1.5], [2.0], [30.0]]), np.full((6, 1), 2.0)
    added = _values("poisson_nll", (labels, predictions), "torch", full=True) - _values(
        "poisson_nll", (labels, predictions), "torch"
    )
    y = labels[3:, 0]
    np.testing.assert_allclose(added, [0, 0, 0, *(y * np.log(y) - y + 0.5 * np.log(2 * np.pi * y))], atol=1e-13)
    assert special.gammaln(3.0) - added[4] == pytest.approx(0.0413, abs=1e-4)


def test_gamma_conventions() -> None:
    """XGBoost adds 1e-6 to both sides and so takes zeros; LightGBM adds 1e-9 to the mean."""
    labels, predictions = np.array([[0.0], [2.0], [0.3]]), np.array([[1.0], [0.0], [0.5]])
    ratio = ((labels + 1e-6) / (predictions + 1e-6))[:, 0]
    np.testing.assert_allclose(
        _values("gamma_deviance", (labels, predictions), "xgboost"), 2 * (ratio - np.log(ratio) - 1), rtol=1e-13
    )
    ratio = (labels / (predictions + 1e-9))[1:, 0]
    np.testing.assert_allclose(
        _values("gamma_deviance", (labels[1:], predictions[1:]), "lightgbm"),
        2 * (ratio - np.log(ratio) - 1),
        rtol=1e-13,
    )
    refused = [Reason.LABEL_OUTSIDE_DOMAIN, Reason.PREDICTION_OUTSIDE_DOMAIN, 0]
    for convention in ("exact", "sklearn"):
        assert score(bind("gamma_deviance", {}, convention), labels, predictions)[1].tolist() == refused


def test_means_that_xgboost_and_lightgbm_raise() -> None:
    """1e-6 in gamma-nloglik, 1e-10 in LightGBM's tweedie."""
    row = np.array([[2.0]]), np.array([[1e-12]])
    assert _values("gamma_nll_of_mean", row, "xgboost")[0] == pytest.approx(2e6 + math.log(1e-6), rel=1e-14)
    assert _values("gamma_nll_of_mean", row, "lightgbm")[0] == pytest.approx(2e12 + math.log(1e-12), rel=1e-14)
    assert _values("tweedie_nll", row, "lightgbm")[0] == pytest.approx(4e5 + 2e-5, rel=1e-14)
    assert _values("tweedie_nll", row, "xgboost")[0] == pytest.approx(4e6 + 2e-6, rel=1e-14)
    for name, convention in (("gamma_nll_of_mean", "xgboost"), ("tweedie_nll", "lightgbm")):
        assert bind(name, {}, convention).clipped(*row, np.zeros(1, dtype=np.uint8)).tolist() == [1]
