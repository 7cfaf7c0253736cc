"""Continuous ranked probability scores against their definition, integrated or summed, and against each other."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import mpmath
import numpy as np
import pytest
from scipy import special, stats

from lossops.kernels.checks import Reason
from lossops.losses import bind
from tests.losses.scoring import score
from tests.oracles import Floats

_CONTINUOUS: dict[str, Callable[..., Any]] = {
    "crps_normal": stats.norm,
    "crps_laplace": stats.laplace,
    "crps_logistic": stats.logistic,
    "crps_student_t": stats.t,
    "crps_exponential": lambda rate: stats.expon(scale=1 / rate),
    "crps_gamma": lambda shape, rate: stats.gamma(shape, scale=1 / rate),
}
_DISCRETE: dict[str, Callable[..., Any]] = {
    "crps_poisson": stats.poisson,
    "crps_negative_binomial": stats.nbinom,
}
_CASES = [
    ("crps_normal", (1.0, 2.0)),
    ("crps_laplace", (-1.0, 0.5)),
    ("crps_logistic", (0.3, 1.5)),
    ("crps_student_t", (1.5, 0.0, 1.0)),
    ("crps_student_t", (5.2, 13.8, 2.3)),
    ("crps_exponential", (0.7,)),
    ("crps_gamma", (0.3, 2.0)),
    ("crps_gamma", (30.0, 0.7)),
]
_LABELS = (-3.0, 0.0, 0.2, 1.0, 4.5, 17.1)


def _values(name: str, labels: Any, *fields: Any) -> Floats:
    columns = [np.broadcast_to(field, np.shape(labels)) for field in fields]
    values, reasons = score(bind(name, {}, "exact"), np.reshape(labels, (-1, 1)), np.stack(columns, axis=1))
    assert not reasons.any()
    return values


def _integral(distribution: Any, label: float) -> float:
    """The definition, over both sides of the label, each cut at quantiles so that every piece is smooth."""
    levels = (1e-12, 1e-6, 1e-3, 0.1, 0.5, 0.9, 1 - 1e-3, 1 - 1e-6)
    cuts = [float(distribution.ppf(level)) for level in levels]
    low, high = float(distribution.support()[0]), math.inf
    left = [low, *(cut for cut in cuts if low < cut < label), label] if label > low else []
    right = [max(label, low), *(cut for cut in cuts if cut > max(label, low)), high]
    below = mpmath.quad(lambda x: float(distribution.cdf(float(x))) ** 2, left) if left else 0.0
    above = mpmath.quad(lambda x: float(distribution.sf(float(x))) ** 2, right)
    return float(below + above + max(low - label, 0.0))


@pytest.mark.parametrize(("name", "fields"), _CASES)
def test_equals_the_integral_of_the_squared_difference(name: str, fields: tuple[float, ...]) -> None:
    """scipy's distribution functions, mpmath's quadrature; labels outside the support as well."""
    distribution = _CONTINUOUS[name](*fields)
    expected = [_integral(distribution, label) for label in _LABELS]
    np.testing.assert_allclose(_values(name, _LABELS, *fields), expected, rtol=1e-6)


def _sum(distribution: Any, label: float) -> float:
    """The definition for counts: the distribution function is constant between integers."""
    steps = np.arange(0.0, 4000.0)
    ends = np.unique(np.append(steps, label)) if label > 0 else steps
    below = distribution.cdf(ends[:-1])
    squares = np.where(ends[:-1] < label, below, distribution.sf(ends[:-1])) ** 2
    return float(np.sum(squares * np.diff(ends)) + max(-label, 0.0))


@pytest.mark.parametrize("label", [-2.5, 0.0, 0.4, 1.0, 1.5, 7.0, 60.0])
@pytest.mark.parametrize(
    ("name", "fields"),
    [
        *(("crps_poisson", (mean,)) for mean in (1e-3, 2.3, 19.9, 20.1, 300.0)),
        *(("crps_negative_binomial", fields) for fields in ((7.0, 0.8), (0.3, 0.05), (50.0, 0.3), (2.5, 1.0))),
    ],
)
def test_equals_the_sum_over_counts(name: str, fields: tuple[float, ...], label: float) -> None:
    """Any number may be the label, as for scoringrules."""
    expected = _sum(_DISCRETE[name](*fields), label)
    assert _values(name, [label], *fields)[0] == pytest.approx(expected, rel=1e-11, abs=1e-14)


def test_mean_difference_of_negative_binomial_draws_equals_the_hypergeometric_function() -> None:
    """The closed form of scoringRules, which scipy evaluates where the odds are small; here it is integrated."""
    random = np.random.default_rng(31)
    n, prob = 10 ** random.uniform(-2, 1, 200), random.uniform(0.7, 1.0, 200)
    odds = (1 - prob) / prob
    spread = n * odds / prob * special.hyp2f1(n + 1, 0.5, 2.0, -4 * odds / prob)
    below_zero = _values("crps_negative_binomial", np.full(200, -1.0), n, prob)
    np.testing.assert_allclose(below_zero, n * odds + 1 - spread, rtol=1e-12)


_REAL = {
    "crps_normal": (0.0, 1.0),
    "crps_laplace": (0.0, 1.0),
    "crps_logistic": (0.0, 1.0),
    "crps_student_t": (2.5, 0.0, 1.0),
}


@pytest.mark.parametrize("name", _REAL)
def test_location_and_scale(name: str) -> None:
    """A score in units of the label: it is shifted and stretched with it, also by 1e-100 and 1e100."""
    labels = np.linspace(-5.0, 5.0, 41)
    *other, _, _ = _REAL[name]
    plain = _values(name, labels, *_REAL[name])
    for scale in (1e-100, 0.5, 1e100):
        np.testing.assert_allclose(_values(name, labels * scale, *other, 0.0, scale), plain * scale, rtol=1e-14)
    np.testing.assert_allclose(_values(name, labels + 64.0, *other, 64.0, 1.0), plain, rtol=1e-12)
    np.testing.assert_array_equal(plain, plain[::-1])


@pytest.mark.parametrize("name", _REAL)
@pytest.mark.parametrize("distance", [1e6, 1e100])
def test_far_away_it_is_the_absolute_error(name: str, distance: float) -> None:
    """Less what the spread takes off, which no longer counts, also with a scale of 1e-300."""
    for scale in (1.0, 1e-300):
        *other, location, _ = _REAL[name]
        found = _values(name, [distance, -distance], *other, location, scale)
        np.testing.assert_allclose(found, distance, rtol=3e-6)


def test_special_cases_of_one_another() -> None:
    """Gamma of shape 1, Student t of many degrees of freedom, negative binomial of many rare failures."""
    labels = np.concatenate([np.linspace(-1.0, 9.0, 41), np.arange(9.0)])
    np.testing.assert_allclose(_values("crps_gamma", labels, 1.0, 0.7), _values("crps_exponential", labels, 0.7), 1e-13)
    normal = _values("crps_normal", labels, 2.0, 1.5)
    np.testing.assert_allclose(_values("crps_student_t", labels, 1e100, 2.0, 1.5), normal, rtol=1e-14)
    np.testing.assert_allclose(_values("crps_student_t", labels, 1e9, 2.0, 1.5), normal, rtol=1e-8)
    poisson = _values("crps_poisson", labels, 3.0)
    rare = _values("crps_negative_binomial", labels, 3.0 * 2.0**40, 1.0 - 2.0**-40)
    np.testing.assert_allclose(rare, poisson, rtol=1e-11)
    certain = _values("crps_negative_binomial", labels, 3.0, 1.0)
    np.testing.assert_array_equal(certain, np.abs(labels))


def test_gamma_of_shape_one_half_is_elementary() -> None:
    """A chi-square distribution, where P(1/2, x) = erf(sqrt(x)) and SciPy's incomplete gamma functions lose digits."""
    labels = np.linspace(0.01, 3.0, 300)
    centre = (labels - 0.5) * (2 * special.erf(np.sqrt(labels)) - 1)
    expected = centre + 2 * np.sqrt(labels / math.pi) * np.exp(-labels) - 1 / math.pi
    np.testing.assert_allclose(_values("crps_gamma", labels, 0.5, 1.0), expected, rtol=0, atol=3e-15)


@pytest.mark.parametrize("size", [1e5, 1e6, 1e8])
def test_large_counts_and_shapes_are_nearly_normal(size: float) -> None:
    """Within the skewness of order 1/sqrt(size), at every distance: no digits are lost to the incomplete functions."""
    steps = np.linspace(-12.0, 12.0, 97)
    root = math.sqrt(size)
    normal = _values("crps_normal", steps, 0.0, 1.0)
    for name, fields in (("crps_poisson", (size,)), ("crps_gamma", (size, 1.0))):
        found = _values(name, size + root * steps, *fields) / root
        np.testing.assert_allclose(found, normal, atol=1.0 / root)
        assert (np.abs(np.diff(found, 3) - np.diff(normal, 3)) < 1.0 / root).all()


@pytest.mark.parametrize("name", ["crps_poisson", "crps_gamma"])
def test_the_large_and_the_small_formula_meet(name: str) -> None:
    """Both sides of 1e5, where one way to the incomplete gamma function takes over from the other."""
    steps = np.linspace(-6.0, 6.0, 49)
    fields: Any = [(mean,) if name == "crps_poisson" else (mean, 1.0) for mean in (1e5 - 1.5, 1e5 + 1.5)]
    low, high = (_values(name, 1e5 + steps * 300, *field) for field in fields)
    middle = _values(name, 1e5 + steps * 300, *((1e5,) if name == "crps_poisson" else (1e5, 1.0)))
    np.testing.assert_allclose(middle, (low + high) / 2, rtol=1e-4)


def test_degrees_of_freedom_down_to_one() -> None:
    """Terms divided by df - 1 cancel there: the score goes on smoothly to that of the Cauchy distribution."""
    freedom = 1.0 + np.array([1e-15, 1e-12, 1e-9, 1e-6, 0.125, 0.125 + 2.0**-52, 0.2])
    centre = _values("crps_student_t", np.zeros(7), freedom, 0.0, 1.0)
    np.testing.assert_allclose(centre[:4], 2 * math.log(2) / math.pi, rtol=1e-5)
    assert (np.diff(centre[[0, 1, 2, 3, 4, 6]]) < 0).all()
    assert centre[4] == pytest.approx(centre[5], rel=1e-14)  # a series up to here, a quotient from here


@pytest.mark.parametrize("name", ["crps_poisson", "crps_negative_binomial", "crps_gamma"])
def test_never_negative(name: str) -> None:
    """Where the forecast is as good as certain and right, the terms cancel to the last digit."""
    random = np.random.default_rng(33)
    small, labels = 10 ** random.uniform(-300, 0, 500), np.zeros(500)
    fields = {"crps_poisson": (small,), "crps_negative_binomial": (small, 0.9), "crps_gamma": (small, 1.0)}[name]
    assert (_values(name, labels, *fields) >= 0.0).all()


@pytest.mark.parametrize(
    ("name", "fields"),
    [
        ("crps_normal", [0.0, 0.0]),
        ("crps_student_t", [1.0, 0.0, 1.0]),
        ("crps_gamma", [0.0, 1.0]),
        ("crps_poisson", [0.0]),
        ("crps_negative_binomial", [1.0, 0.0]),
        ("crps_exponential", [-1.0]),
    ],
)
def test_what_is_refused(name: str, fields: list[float]) -> None:
    """Widths, rates and means that are not positive, and a Student t without a mean."""
    _, reasons = score(bind(name, {}, "exact"), [[1.0]], [fields])
    assert reasons.tolist() == [Reason.PREDICTION_OUTSIDE_DOMAIN]
