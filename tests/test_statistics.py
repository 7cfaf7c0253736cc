"""Numbers of a group against NumPy, SciPy and exact fractions."""

from __future__ import annotations

import math
from collections.abc import Sequence
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from lossops.statistics import CONFIDENCE, Summary, summarise
from lossops.sums import Sums
from tests.oracles import exact_sum, root, weighted_statistics

_LOSSES = st.lists(st.floats(1e-20, 1e20) | st.just(0.0), min_size=2, max_size=30)
_WEIGHTS = st.floats(1e-6, 1e6)
_WEIGHTED = st.lists(st.tuples(st.floats(1e-9, 1e9), _WEIGHTS), min_size=2, max_size=20)


def _summary(losses: Sequence[float], weights: Sequence[float] | None = None, invalid: int = 0) -> Summary:
    """Summarise scored rows and, after them, rows that are invalid."""
    rows = len(losses) + invalid
    sums = Sums.zero(1, weighted=weights is not None)
    reasons = np.array([0] * len(losses) + [10] * invalid, dtype=np.uint8)
    padded = np.array([*losses, *[math.nan] * invalid], dtype=np.float64)
    padded_weights = None if weights is None else np.array([*weights, *[math.nan] * invalid], dtype=np.float64)
    sums.add_rows(padded, padded_weights, reasons, np.zeros(rows, dtype=np.uint8), np.zeros(rows, dtype=np.int64))
    return summarise(sums)[0]


def _is_near(actual: float | None, expected: float, relative: float) -> bool:
    return actual is not None and math.isclose(actual, expected, rel_tol=relative, abs_tol=0.0)


@given(_LOSSES)
def test_mean_sum_and_extremes_are_correctly_rounded(losses: list[float]) -> None:
    """The quotient of exact sums, rounded once."""
    found = _summary(losses)
    assert found.mean == float(exact_sum(losses) / len(losses))
    assert found.sum == float(exact_sum(losses))
    assert (found.min, found.max) == (min(losses), max(losses))
    assert (found.rows, found.rows_valid, found.weight_sum) == (len(losses), len(losses), float(len(losses)))


@given(_LOSSES)
def test_spread_is_that_of_exact_residuals(losses: list[float]) -> None:
    """Population variance from its definition in fractions, to two units in the last place."""
    mean = exact_sum(losses) / len(losses)
    squares = sum(((Fraction(loss) - mean) ** 2 for loss in losses), Fraction(0))
    found = _summary(losses)
    assert _is_near(found.std, root(squares / len(losses)), 4e-16)
    assert _is_near(found.std_error, root(squares / (len(losses) - 1) / len(losses)), 4e-16)


def test_numbers_equal_numpy_and_scipy() -> None:
    """On an ordinary sample: numpy.std with ddof 0, s / sqrt(n), and SciPy's t interval."""
    losses = np.random.default_rng(0).lognormal(size=1000)
    found = _summary(losses.tolist())
    assert _is_near(found.mean, float(np.mean(losses)), 1e-13)
    assert _is_near(found.sum, float(np.sum(losses)), 1e-13)
    assert _is_near(found.std, float(np.std(losses)), 1e-13)
    assert _is_near(found.std_error, float(stats.sem(losses)), 1e-13)
    low, high = stats.t.interval(CONFIDENCE, 999, loc=np.mean(losses), scale=stats.sem(losses))
    assert _is_near(found.ci_low, low, 1e-12)
    assert _is_near(found.ci_high, high, 1e-12)


@pytest.mark.parametrize("rows", [2, 3, 10, 100])
def test_interval_of_few_rows_is_wide(rows: int) -> None:
    """Student t with n - 1 degrees of freedom at level 0.95: 12.7 standard errors for two rows."""
    losses = np.random.default_rng(rows).random(rows)
    found = _summary(losses.tolist())
    low, high = stats.t.interval(0.95, rows - 1, loc=losses.mean(), scale=stats.sem(losses))
    assert _is_near(found.ci_low, low, 1e-10)
    assert _is_near(found.ci_high, high, 1e-10)


@given(_WEIGHTED)
def test_weighted_numbers_equal_exact_residuals(rows: list[tuple[float, float]]) -> None:
    """Ratio estimator sum(w l)/sum(w), with squared error n/(n-1) sum((w (l - mean)/sum(w))^2), from residuals."""
    losses, weights = [loss for loss, _ in rows], [weight for _, weight in rows]
    mean, std, error = weighted_statistics(losses, weights)
    found = _summary(losses, weights)
    assert _is_near(found.mean, mean, 2.3e-16)
    assert _is_near(found.weight_sum, float(exact_sum(weights)), 2.3e-16)
    assert found.std is not None
    assert found.std_error is not None
    # Sums of products carry 2**-100, which matters where the variance is smaller than that beside the square.
    noise = 2.0**-49 * max(losses)
    assert math.isclose(found.std, std, rel_tol=1e-14, abs_tol=noise)
    share = max(weights) / math.fsum(weights) * math.sqrt(len(rows))
    assert math.isclose(found.std_error, error, rel_tol=1e-14, abs_tol=noise * share * 2)


def test_weights_equal_numpy() -> None:
    """numpy.average, and the weighted variance about it."""
    random = np.random.default_rng(1)
    losses, weights = random.lognormal(size=500), random.uniform(0.1, 5.0, size=500)
    found = _summary(losses.tolist(), weights.tolist())
    mean = np.average(losses, weights=weights)
    assert _is_near(found.mean, float(mean), 1e-13)
    assert _is_near(found.std, math.sqrt(np.average((losses - mean) ** 2, weights=weights)), 1e-12)


@given(st.lists(st.floats(1e-9, 1e9), min_size=2, max_size=20))
def test_equal_weights_are_no_weights(losses: list[float]) -> None:
    """A weight of 2 on every row changes only the sums, not mean, spread and interval."""
    plain, weighted = _summary(losses), _summary(losses, [2.0] * len(losses))
    assert weighted.mean == plain.mean
    assert weighted.sum == 2.0 * (plain.sum or 0.0)
    for name in ("std", "std_error", "ci_low", "ci_high"):
        one, other = getattr(weighted, name), getattr(plain, name)
        assert math.isclose(one, other, rel_tol=1e-14, abs_tol=2.0**-49 * max(losses)), name


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("ratio", [1e3, 1e6, 1e9])
def test_variance_far_below_the_mean(ratio: float, weighted: bool) -> None:
    """Where the textbook formula in float64 has no digit left (DESIGN.md 3: a thousand times; here up to 1e9)."""
    random = np.random.default_rng(2)
    losses = (ratio + random.normal(size=400)).tolist()
    weights = random.uniform(0.5, 2.0, size=400).tolist() if weighted else [1.0] * 400
    mean, std, error = weighted_statistics(losses, weights)
    found = _summary(losses, weights if weighted else None)
    relative = 1e-15 + (ratio**2 * 2.0**-99 if weighted else 0.0)
    assert _is_near(found.mean, mean, 2.3e-16)
    assert _is_near(found.std, std, relative)
    assert _is_near(found.std_error, error, relative)


@pytest.mark.parametrize("weights", [None, [0.1, 0.7, 1e-9, 12345.678]])
@pytest.mark.parametrize("loss", [0.0, 0.1, 1 / 3, 1e-30, 123456.789, 1e100])
def test_constant_losses_have_no_spread(loss: float, weights: list[float] | None) -> None:
    """Exactly zero, so that an interval is a point and a difference of zero is a zero."""
    found = _summary([loss] * 4, weights)
    assert (found.mean, found.std, found.std_error) == (loss, 0.0, 0.0)
    assert (found.ci_low, found.ci_high, found.min, found.max) == (loss, loss, loss, loss)


@pytest.mark.parametrize("weights", [None, [3.0]])
def test_one_row_has_no_interval(weights: list[float] | None) -> None:
    """Its spread is 0, but nothing is known of its error."""
    found = _summary([2.5], weights, invalid=3)
    assert (found.rows, found.rows_valid, found.mean, found.std) == (4, 1, 2.5, 0.0)
    assert (found.std_error, found.ci_low, found.ci_high) == (None, None, None)


@pytest.mark.parametrize("weights", [None, []])
@pytest.mark.parametrize("invalid", [0, 5])
def test_no_valid_row_has_null_numbers(weights: list[float] | None, invalid: int) -> None:
    """Never NaN or 0 (DESIGN.md 3)."""
    found = _summary([], weights, invalid=invalid)
    numbers = (found.mean, found.sum, found.std, found.std_error, found.ci_low, found.ci_high, found.min, found.max)
    assert numbers == (None,) * 8
    assert (found.rows, found.rows_valid, found.rows_clipped, found.weight_sum) == (invalid, 0, 0, 0.0)


@pytest.mark.parametrize("weights", [None, [1.0, 2.0, 0.5]])
def test_an_infinite_loss_makes_the_mean_infinite(weights: list[float] | None) -> None:
    """It is not hidden; the spread is not a number and therefore null."""
    found = _summary([1.0, math.inf, 3.0], weights)
    assert (found.mean, found.sum, found.min, found.max) == (math.inf, math.inf, 1.0, math.inf)
    assert (found.std, found.std_error, found.ci_low, found.ci_high) == (None, None, None, None)
    assert found.rows_valid == 3


@pytest.mark.parametrize("weights", [None, [1.0, 1.0]])
def test_squares_that_overflow_leave_the_mean(weights: list[float] | None) -> None:
    """The mean of two losses of 1e200 is known; their spread is not."""
    found = _summary([1e200, 3e200], weights)
    assert _is_near(found.mean, 2e200, 2.3e-16)
    assert (found.std, found.std_error) == (None, None)


@pytest.mark.parametrize(("losses", "weights"), [([1e-200, 3e-200], None), ([1.0, 3.0], [1e-200, 1e-200])])
def test_squares_that_vanish_leave_the_mean(losses: list[float], weights: list[float] | None) -> None:
    """Nothing is told of a spread whose squares are below every float64."""
    found = _summary(losses, weights)
    assert found.mean == 2 * losses[0]
    assert (found.std, found.std_error, found.ci_low) == (None, None, None)


def test_a_sum_beyond_float64_is_infinite_but_its_mean_is_not() -> None:
    """The exact sum does not fit, the exact mean does."""
    found = _summary([1.7e308, 1.7e308])
    assert (found.sum, found.mean) == (math.inf, 1.7e308)


def test_groups_are_summarised_each_on_their_own() -> None:
    """One summary a group, in order; an empty group between two others."""
    sums = Sums.zero(3, weighted=False)
    none = np.zeros(4, dtype=np.uint8)
    sums.add_rows(np.array([1.0, 2.0, 3.0, 5.0]), None, none, np.array([1, 0, 1, 1], np.uint8), np.array([0, 0, 2, 2]))
    found = summarise(sums)
    assert [summary.mean for summary in found] == [1.5, None, 4.0]
    assert [summary.rows_clipped for summary in found] == [1, 0, 2]
    assert [summary.std for summary in found] == [0.5, None, 1.0]
