"""Negative log-likelihoods against scipy's densities, torch's rule, and each other."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from scipy import stats

from lossops.kernels.checks import Reason
from lossops.losses import bind
from tests.losses.scoring import score
from tests.oracles import Floats

_ROWS = 300


def _spread(random: np.random.Generator) -> Floats:
    return 10 ** random.uniform(-2, 2, _ROWS)


def _values(name: str, labels: Any, *fields: Any, convention: str = "exact", **parameters: object) -> Floats:
    columns = [np.broadcast_to(field, np.shape(labels)) for field in fields]
    rows = np.reshape(labels, (-1, 1)), np.stack(columns, axis=1)
    values, reasons = score(bind(name, parameters, convention), *rows)
    assert not reasons.any()
    return values


def _cases() -> list[tuple[str, Any, Any]]:
    """(loss, rows: label and fields, scipy's logarithm of the density of them)."""
    random = np.random.default_rng(21)
    real, wide, other = random.normal(size=_ROWS) * 3, _spread(random), _spread(random)
    positive, counts = random.gamma(2.0, size=_ROWS) + 1e-3, random.poisson(4.0, _ROWS).astype(np.float64)
    centre, share = random.normal(size=_ROWS), random.uniform(0.01, 1.0, _ROWS)
    return [
        ("gaussian_nll", (real, centre, wide), stats.norm.logpdf(real, centre, wide)),
        ("laplace_nll", (real, centre, wide), stats.laplace.logpdf(real, centre, wide)),
        ("logistic_nll", (real, centre, wide), stats.logistic.logpdf(real, centre, wide)),
        ("student_t_nll", (real, other, centre, wide), stats.t.logpdf(real, other, centre, wide)),
        ("lognormal_nll", (positive, centre, wide), stats.lognorm.logpdf(positive, wide, scale=np.exp(centre))),
        ("exponential_nll", (positive, wide), stats.expon.logpdf(positive, scale=1 / wide)),
        ("gamma_nll", (positive, other, wide), stats.gamma.logpdf(positive, other, scale=1 / wide)),
        ("negative_binomial_nll", (counts, other, share), stats.nbinom.logpmf(counts, other, share)),
    ]


@pytest.mark.parametrize(("name", "rows", "expected"), _cases(), ids=[name for name, *_ in _cases()])
def test_equals_scipy(name: str, rows: Any, expected: Floats) -> None:
    """Spreads, shapes and degrees of freedom over four orders of magnitude."""
    np.testing.assert_allclose(_values(name, *rows), -expected, rtol=1e-11, atol=1e-11)


def _gaussian_rows() -> tuple[Floats, Floats, Floats]:
    random = np.random.default_rng(22)
    return random.normal(size=_ROWS), random.normal(size=_ROWS), 10 ** random.uniform(-9, 2, _ROWS)


@pytest.mark.parametrize("full", [False, True])
def test_torch_clamps_the_variance(full: bool) -> None:
    """GaussianNLLLoss: the variance is at least 1e-6; the constant only if asked for. A variance of 0 is taken."""
    labels, means, variances = _gaussian_rows()
    variances[0] = 0.0
    limited = np.maximum(variances, 1e-6)
    expected = 0.5 * (np.log(limited) + (means - labels) ** 2 / limited) + full * 0.5 * math.log(2 * math.pi)
    found = _values("gaussian_nll", labels, means, variances, convention="torch", scale="variance", full=full)
    np.testing.assert_allclose(found, expected, rtol=1e-12)


def test_a_variance_below_the_floor_counts_as_clipped() -> None:
    """In each of the four ways to say how wide a distribution is, and only under a convention with a floor."""
    labels, means, variances = _gaussian_rows()
    below = variances < 1e-6
    assert 0 < below.sum() < len(below)
    none = np.zeros(len(labels), dtype=np.uint8)
    ways = {
        ("std", False): np.sqrt(variances),
        ("variance", False): variances,
        ("std", True): 0.5 * np.log(variances),
        ("variance", True): np.log(variances),
    }
    found = []
    for (scale, log_input), spread in ways.items():
        rows = labels[:, np.newaxis], np.stack([means, spread], axis=1)
        chosen = bind("gaussian_nll", {"scale": scale, "log_input": log_input}, "torch")
        np.testing.assert_array_equal(chosen.clipped(*rows, none).astype(bool), below)
        assert not bind("gaussian_nll", {"scale": scale, "log_input": log_input}, "exact").clipped(*rows, none).any()
        found.append(score(chosen, *rows)[0])
    np.testing.assert_allclose(found, np.broadcast_to(found[0], (4, _ROWS)), rtol=1e-9)


def test_a_certain_gaussian() -> None:
    """Without a width a wrong mean is impossible; a right one has no finite likelihood and must not win."""
    rows = np.array([[1.0], [1.0]]), np.array([[2.0, 0.0], [1.0, 0.0]])
    values, reasons = score(bind("gaussian_nll", {}, "exact"), *rows)
    assert values[0] == math.inf
    assert reasons.tolist() == [Reason.SCORED, Reason.LOSS_NAN]


def test_a_narrow_log_std_overflows_only_where_the_loss_does() -> None:
    """exp(-log_std) is beyond float64 in both rows, the loss in one."""
    found = _values("gaussian_nll", [1e-200, 0.0, 1.0], 0.0, [-720.0, -1e5, -1e5], log_input=True, full=False)
    assert found.tolist() == [pytest.approx(0.5 * math.exp(1440 - 400 * math.log(10)) - 720), -1e5, math.inf]


def test_special_cases_of_one_another() -> None:
    """Exponential is gamma of shape 1, lognormal a Gaussian of the logarithm, Student t of infinite df a Gaussian."""
    random = np.random.default_rng(23)
    labels, centre, wide = random.gamma(2.0, size=_ROWS) + 0.01, random.normal(size=_ROWS), _spread(random)
    gaussian = _values("gaussian_nll", labels, centre, wide)
    np.testing.assert_allclose(_values("student_t_nll", labels, 1e100, centre, wide), gaussian, rtol=1e-13, atol=1e-14)
    exponential = _values("exponential_nll", labels, wide)
    np.testing.assert_allclose(_values("gamma_nll", labels, 1.0, wide), exponential, rtol=1e-13, atol=1e-13)
    logs = _values("gaussian_nll", np.log(labels), centre, wide) + np.log(labels)
    np.testing.assert_allclose(_values("lognormal_nll", labels, centre, wide), logs, rtol=1e-13, atol=1e-13)


def test_probabilities_of_counts_sum_to_one() -> None:
    """Negative binomial, with a number of successes that is no integer."""
    counts = np.arange(3000.0)
    for n, prob in [(0.3, 0.02), (2.5, 0.1), (40.0, 0.4), (7.0, 1.0)]:
        assert np.exp(-_values("negative_binomial_nll", counts, n, prob)).sum() == pytest.approx(1.0, rel=1e-12)


def test_counts_that_cannot_be_lose_infinity() -> None:
    """scoringrules: a label that is no integer; and a failure where success is certain."""
    found = _values("negative_binomial_nll", [2.5, 1.0, 0.0], 3.0, [0.5, 1.0, 1.0])
    assert found.tolist() == [math.inf, math.inf, 0.0]


@pytest.mark.parametrize("name", ["gamma_nll", "negative_binomial_nll"])
def test_large_parameters_keep_their_digits(name: str) -> None:
    """At the mode the likelihood is Stirling's: log Gamma alone would lose ten digits here."""
    large = 1e10
    if name == "gamma_nll":
        found, variance = _values(name, [large], large, 1.0)[0], large
    else:
        found, variance = _values(name, [large], large, 0.5)[0], 2 * large
    assert found == pytest.approx(0.5 * math.log(2 * math.pi * variance), rel=1e-10)


@pytest.mark.parametrize(
    ("name", "label", "fields", "reason"),
    [
        ("gaussian_nll", 0.0, [0.0, -1.0], Reason.PREDICTION_OUTSIDE_DOMAIN),
        ("laplace_nll", 0.0, [0.0, 0.0], Reason.PREDICTION_OUTSIDE_DOMAIN),
        ("student_t_nll", 0.0, [0.0, 0.0, 1.0], Reason.PREDICTION_OUTSIDE_DOMAIN),
        ("negative_binomial_nll", 1.0, [1.0, 0.0], Reason.PREDICTION_OUTSIDE_DOMAIN),
        ("negative_binomial_nll", -1.0, [1.0, 0.5], Reason.LABEL_OUTSIDE_DOMAIN),
        ("lognormal_nll", 0.0, [0.0, 1.0], Reason.LABEL_OUTSIDE_DOMAIN),
        ("gamma_nll", 0.0, [0.5, 1.0], Reason.LABEL_OUTSIDE_DOMAIN),
        ("exponential_nll", -1.0, [1.0], Reason.LABEL_OUTSIDE_DOMAIN),
    ],
)
def test_what_is_refused(name: str, label: float, fields: list[float], reason: Reason) -> None:
    """Widths that are not positive, and labels outside the support."""
    _, reasons = score(bind(name, {}, "exact"), [[label]], [fields])
    assert reasons.tolist() == [reason]
