"""Scores of ensembles, quantiles and intervals against other forms of the same numbers."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.spatial.distance import cdist
from scipy.stats import energy_distance
from sklearn.metrics import mean_pinball_loss

from lossops.errors import ConfigError
from lossops.losses import bind
from tests.losses.scoring import score
from tests.oracles import Floats


def _score(name: str, labels: Floats, predictions: Floats, **parameters: object) -> Floats:
    values, reasons = score(bind(name, parameters, "exact"), labels, predictions)
    assert not reasons.any()
    return values


def _rows(width: int, seed: int = 1) -> tuple[Floats, Floats]:
    random = np.random.default_rng(seed)
    return random.normal(size=(150, 1)), random.normal(size=(150, width))


def _energy_form(label: Floats, members: Floats, weights: Floats, *, fair: bool) -> float:
    """E|X - y| - E|X - X'|/2 of vectors [members, size], over all pairs; fair leaves out the pairs of a member."""
    shares = weights / weights.sum()
    error = shares @ cdist(members, label[np.newaxis])[:, 0]
    spread = shares @ cdist(members, members) @ shares
    own = 1.0 - (shares * shares).sum() if fair and len(members) > 1 else 1.0
    return float(error - 0.5 * spread / own)


@pytest.mark.parametrize("fair", [False, True])
@pytest.mark.parametrize("width", [1, 2, 3, 20])
@pytest.mark.parametrize("weighted", [False, True])
def test_crps_of_an_ensemble_is_its_energy_form(width: int, fair: bool, weighted: bool) -> None:
    """All pairs of members; ties between members, and of members with the label."""
    labels, members = _rows(width)
    labels[:10], members[:10] = np.round(labels[:10]), np.round(members[:10])
    some = np.random.default_rng(2).integers(0, 4, size=width) + (np.arange(width) < 2)
    weights = some if weighted else np.ones(width)
    given = {"member_weights": weights.tolist()} if weighted else {}
    values = _score("crps_ensemble", labels, members, estimator="fair" if fair else "nrg", **given)
    expected = [
        _energy_form(label, row[:, np.newaxis], weights, fair=fair) for label, row in zip(labels, members, strict=True)
    ]
    np.testing.assert_allclose(values, expected, rtol=1e-11, atol=1e-14)


def test_crps_of_an_ensemble_is_scipys_energy_distance() -> None:
    """Half the square of the distance between the ensemble and a point."""
    labels, members = _rows(9)
    weights = np.arange(1.0, 10.0)
    values = _score("crps_ensemble", labels, members, member_weights=weights.tolist())
    expected = [
        energy_distance(row, label, u_weights=weights) ** 2 / 2.0 for label, row in zip(labels, members, strict=True)
    ]
    np.testing.assert_allclose(values, expected, rtol=1e-11)


def test_crps_of_an_ensemble_keeps_its_digits_far_from_zero() -> None:
    """Nothing but the differences between values counts; a common shift of all changes nothing."""
    labels, members = np.round(_rows(5)[0] * 256.0) / 256.0, np.round(_rows(5)[1] * 256.0) / 256.0
    for estimator in ("nrg", "fair"):
        plain = _score("crps_ensemble", labels, members, estimator=estimator)
        np.testing.assert_array_equal(
            _score("crps_ensemble", labels + 2.0**40, members + 2.0**40, estimator=estimator), plain
        )
        assert (plain >= 0.0).all()


def test_order_and_scale_of_members_do_not_matter() -> None:
    """Also not of the weights."""
    labels, members = _rows(8)
    weights = np.arange(8.0)
    order = np.random.default_rng(3).permutation(8)
    for estimator in ("nrg", "fair"):
        plain = _score("crps_ensemble", labels, members, estimator=estimator, member_weights=weights.tolist())
        shuffled = (weights[order] * 1e-200).tolist()
        other = _score("crps_ensemble", labels, members[:, order], estimator=estimator, member_weights=shuffled)
        np.testing.assert_allclose(other, plain, rtol=1e-12)


def test_single_member_is_the_absolute_error() -> None:
    """Of both estimators, and where the other members weigh nothing."""
    labels, members = _rows(3)
    for estimator in ("nrg", "fair"):
        alone = _score("crps_ensemble", labels, members[:, :1], estimator=estimator)
        np.testing.assert_array_equal(alone, np.abs(labels - members[:, :1])[:, 0])
        weighted = _score("crps_ensemble", labels, members, estimator=estimator, member_weights=[0.3, 0.0, 0.0])
        np.testing.assert_allclose(weighted, alone, rtol=1e-15)


def test_crps_of_quantiles_approaches_that_of_the_distribution() -> None:
    """Quantiles of the uniform distribution on [0, 1], whose score is (y**3 + (1 - y)**3) / 3."""
    levels = (np.arange(2000) + 0.5) / 2000
    labels = np.linspace(0.0, 1.0, 9)[:, np.newaxis]
    values = _score("crps_quantile", labels, np.tile(levels, (9, 1)), levels=levels.tolist())
    np.testing.assert_allclose(values, (labels[:, 0] ** 3 + (1.0 - labels[:, 0]) ** 3) / 3.0, rtol=1e-5)


def test_crps_of_quantiles_is_twice_the_pinball_of_sklearn() -> None:
    """Averaged over the levels."""
    labels, quantiles = _rows(3)
    levels = (0.1, 0.35, 0.9)
    expected = [2.0 * mean_pinball_loss(labels, quantiles[:, [j]], alpha=level) for j, level in enumerate(levels)]
    values = _score("crps_quantile", labels, quantiles, levels=levels)
    assert values.mean() == pytest.approx(np.mean(expected), rel=1e-13)


def test_interval_score_is_the_pinball_of_both_bounds() -> None:
    """By alpha/2, also where the bounds are crossed."""
    labels, bounds = _rows(2)
    for alpha in (0.05, 0.5):
        levels = (alpha / 2.0, 1.0 - alpha / 2.0)
        expected = 2.0 / alpha * _score("crps_quantile", labels, bounds, levels=levels)
        np.testing.assert_allclose(_score("interval_score", labels, bounds, alpha=alpha), expected, rtol=1e-12)


def test_weighted_interval_score_is_the_crps_of_its_quantiles() -> None:
    """Bracher et al. (2021), equation 2: with the median, over 2 K + 1 quantiles."""
    labels, predictions = _rows(7)
    alphas = (0.1, 0.4, 0.7)
    levels = [0.5, *(level for alpha in alphas for level in (alpha / 2.0, 1.0 - alpha / 2.0))]
    expected = _score("crps_quantile", labels, predictions, levels=levels)
    values = _score("weighted_interval_score", labels, predictions, alphas=alphas)
    np.testing.assert_allclose(values, expected, rtol=1e-12)


def test_weighted_interval_score_is_built_from_interval_scores() -> None:
    """And a median that is right costs nothing, whatever its size (scoringrules 0.10.0 adds half of it)."""
    label, prediction = np.array([[5.0]]), np.array([[5.0, 4.0, 7.0]])
    interval = _score("interval_score", label, prediction[:, 1:], alpha=0.2)
    values = _score("weighted_interval_score", label, prediction, alphas=[0.2])
    assert values[0] == pytest.approx(0.1 * interval[0] / 1.5, rel=1e-15)


def test_weighted_interval_score_of_a_width_without_median_is_refused() -> None:
    """Before any row is read."""
    chosen = bind("weighted_interval_score", {"alphas": [0.1, 0.5]}, "exact")
    assert chosen.misfit(1, 5) is None
    for width in (2, 3, 4, 6, 7):
        assert "alphas has 2 numbers" in str(chosen.misfit(1, width))


@pytest.mark.parametrize(("name", "parameter"), [("crps_quantile", "levels"), ("weighted_interval_score", "alphas")])
def test_levels_have_to_be_given(name: str, parameter: str) -> None:
    """No default fits every prediction, and 0 and 1 are no levels."""
    for parameters in ({}, {parameter: None}, {parameter: [0.0, 0.5]}, {parameter: [0.5, 1.0]}):
        with pytest.raises(ConfigError, match=parameter):
            bind(name, parameters, "exact")


@pytest.mark.parametrize("fair", [False, True])
@pytest.mark.parametrize("count", [1, 2, 7])
def test_energy_score_is_its_definition(count: int, fair: bool) -> None:
    """All pairs of members, member after member in a row."""
    labels, members = np.random.default_rng(4).normal(size=(40, 3)), _rows(3 * count)[1][:40]
    values = _score("energy_score", labels, members, estimator="fair" if fair else "nrg")
    expected = [
        _energy_form(label, row.reshape(count, 3), np.ones(count), fair=fair)
        for label, row in zip(labels, members, strict=True)
    ]
    np.testing.assert_allclose(values, expected, rtol=1e-12, atol=1e-14)


def test_energy_score_of_numbers_is_the_crps() -> None:
    """Vectors of one value."""
    labels, members = _rows(6)
    for estimator in ("nrg", "fair"):
        expected = _score("crps_ensemble", labels, members, estimator=estimator)
        values = _score("energy_score", labels, members, estimator=estimator)
        np.testing.assert_allclose(values, expected, rtol=1e-12, atol=1e-14)


def test_energy_score_of_large_values() -> None:
    """Squares of these overflow."""
    values = _score("energy_score", np.array([[3e200, 0.0]]), np.array([[0.0, 4e200, 3e200, 0.0]]))
    assert values[0] == pytest.approx(5e200 * (0.5 - 0.25), rel=1e-14)
    assert math.isfinite(values[0])
