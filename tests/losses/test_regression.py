"""Losses of a difference: identities between them, and the libraries' rules written in another form."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import special

from lossops.losses import bind
from tests.losses.scoring import score
from tests.oracles import Floats


def _values(name: str, labels: Floats, predictions: Floats, convention: str = "exact", **parameters: object) -> Floats:
    values, reasons = score(bind(name, parameters, convention), labels[:, np.newaxis], predictions[:, np.newaxis])
    assert not reasons.any()
    return values


@pytest.fixture(scope="module")
def rows() -> tuple[Floats, Floats]:
    """Labels and predictions with differences from 1e-9 to 1e9 and none at all."""
    random = np.random.default_rng(11)
    labels = random.normal(size=600)
    sizes = 10.0 ** random.uniform(-9, 9, size=600) * random.choice([-1.0, 0.0, 1.0], size=600, p=[0.45, 0.1, 0.45])
    return labels, labels + sizes


@pytest.mark.parametrize("delta", [0.01, 1.0, 3.0, 1e6])
def test_pseudo_huber_equals_scipy(rows: tuple[Floats, Floats], delta: float) -> None:
    """scipy.special.pseudo_huber, which uses expm1 and log1p."""
    expected = special.pseudo_huber(delta, rows[1] - rows[0])
    np.testing.assert_allclose(_values("pseudo_huber", *rows, delta=delta), expected, rtol=2e-15)


@pytest.mark.parametrize("delta", [0.01, 1.0, 3.0])
def test_pseudo_huber_is_between_huber_and_a_line(rows: tuple[Floats, Floats], delta: float) -> None:
    """Never above huber, and below it by at most delta^2/2."""
    pseudo, plain = _values("pseudo_huber", *rows, delta=delta), _values("huber", *rows, delta=delta)
    assert (pseudo <= plain * (1 + 1e-14)).all()
    assert (plain - pseudo <= delta**2 / 2 + 1e-14 * plain).all()


@pytest.mark.parametrize("delta", [0.01, 1.0, 3.0])
def test_huber_equals_scipy_and_delta_times_smooth_l1(rows: tuple[Floats, Floats], delta: float) -> None:
    """The two scalings that libraries mix up."""
    plain = _values("huber", *rows, delta=delta)
    np.testing.assert_allclose(plain, special.huber(delta, rows[1] - rows[0]), rtol=2e-15)
    np.testing.assert_allclose(plain, delta * _values("smooth_l1", *rows, beta=delta), rtol=2e-15)


@pytest.mark.parametrize("c", [0.01, 1.0, 30.0])
def test_fair_equals_scipy(rows: tuple[Floats, Floats], c: float) -> None:
    """c^2 (x - log1p(x)) = -c^2 (log of (1 + x) e^-x), through scipy where nothing cancels and a series elsewhere."""
    x = np.abs(rows[1] - rows[0]) / c
    series = sum((-1.0) ** k * x**k / k for k in range(2, 12))
    expected = c**2 * np.where(x < 0.01, series, x - special.log1p(x))
    np.testing.assert_allclose(_values("fair", *rows, c=c), expected, rtol=2e-12)


def test_log_cosh_keeps_small_and_large_differences() -> None:
    """x^2/2 - x^4/12 near 0, |x| - log 2 far away; complaint 23 was an overflow at 700."""
    small = np.array([1e-8, 1e-6, -1e-4])
    np.testing.assert_allclose(
        _values("log_cosh", np.zeros(3), small), small**2 / 2 - small**4 / 12, rtol=1e-15, atol=0.0
    )
    large = np.array([40.0, 700.0, -1e5, 1e100])
    np.testing.assert_allclose(_values("log_cosh", np.zeros(4), large), np.abs(large) - np.log(2.0), rtol=1e-15)


def test_lq_contains_the_absolute_and_the_squared_difference(rows: tuple[Floats, Floats]) -> None:
    """q = 1 and q = 2."""
    np.testing.assert_allclose(_values("lq_loss", *rows, q=1.0), _values("mean_absolute_error", *rows), rtol=1e-15)
    np.testing.assert_allclose(_values("lq_loss", *rows, q=2.0), _values("mean_squared_error", *rows), rtol=1e-15)


@pytest.mark.parametrize("name", ["mean_squared_error", "huber", "smooth_l1", "pseudo_huber", "fair", "log_cosh"])
def test_extreme_differences_neither_overflow_nor_become_nan(name: str) -> None:
    """1e100 and 1e-300 on both sides."""
    labels, predictions = (side.ravel() for side in np.meshgrid([-1e100, -1e-300, 0.0, 1e-300, 1e100], [1e100, 0.0]))
    assert np.isfinite(_values(name, labels, predictions)).all()
