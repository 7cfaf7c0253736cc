"""Divergences against scipy, against each other and against the rule of Keras."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import special
from scipy.spatial import distance

from lossops.kernels.checks import Reason
from lossops.losses import bind
from tests.losses.scoring import score
from tests.oracles import Floats

_ALL = (
    "kl_divergence",
    "generalized_kl_divergence",
    "jensen_shannon_divergence",
    "hellinger_distance",
    "total_variation_distance",
)


def _distributions(seed: int, width: int = 7) -> Floats:
    return np.random.default_rng(seed).dirichlet(np.full(width, 0.6), size=300)


def _exact(name: str, labels: Floats, predictions: Floats, **parameters: object) -> Floats:
    values, reasons = score(bind(name, parameters, "exact"), labels, predictions)
    assert not reasons.any()
    return values


def test_kullback_leibler_equals_scipy() -> None:
    """rel_entr and kl_div are the terms of both divergences."""
    labels, predictions = _distributions(1), _distributions(2)
    plain = _exact("kl_divergence", labels, predictions)
    np.testing.assert_allclose(plain, special.rel_entr(labels, predictions).sum(axis=1), rtol=1e-13)
    amounts = 100.0 * labels
    general = _exact("generalized_kl_divergence", amounts, predictions)
    np.testing.assert_allclose(general, special.kl_div(amounts, predictions).sum(axis=1), rtol=1e-13)


def test_jensen_shannon_equals_scipy_and_is_bounded() -> None:
    """scipy's distance is its root; disjoint distributions reach log 2."""
    labels, predictions = _distributions(3), _distributions(4)
    values = _exact("jensen_shannon_divergence", labels, predictions)
    np.testing.assert_allclose(np.sqrt(values), distance.jensenshannon(labels, predictions, axis=1), rtol=1e-12)
    apart = _exact("jensen_shannon_divergence", np.array([[0.25, 0.75, 0.0]]), np.array([[0.0, 0.0, 1.0]]))
    assert apart[0] == pytest.approx(math.log(2.0), rel=1e-15)


def test_hellinger_is_one_minus_the_bhattacharyya_coefficient() -> None:
    """Where nothing cancels."""
    labels, predictions = _distributions(5), _distributions(6)
    coefficient = np.sqrt(labels * predictions).sum(axis=1)
    values = _exact("hellinger_distance", labels, predictions)
    np.testing.assert_allclose(values, np.sqrt(1.0 - coefficient), rtol=1e-9)


def test_inequalities_between_divergences() -> None:
    """Pinsker's, and Le Cam's between Hellinger distance and total variation."""
    labels, predictions = _distributions(7), _distributions(8)
    kl, js, hellinger, variation = (
        _exact(name, labels, predictions) for name in _ALL if not name.startswith("generalized")
    )
    assert (2.0 * variation**2 <= kl * (1.0 + 1e-12)).all()
    assert (hellinger**2 <= variation).all()
    assert (variation <= hellinger * np.sqrt(2.0 - hellinger**2) * (1.0 + 1e-12)).all()
    assert (js <= variation * math.log(2.0) * (1.0 + 1e-12)).all()


@pytest.mark.parametrize("name", _ALL)
@pytest.mark.parametrize("step", [0.0, 2.0**-50, 2.0**-30])
def test_digits_survive_near_the_perfect_prediction(name: str, step: float) -> None:
    """Leading terms of the series in a shift of probability from one of two equal classes to the other."""
    label = np.array([[0.5, 0.25, 0.25]])
    values = _exact(name, label, label + step * np.array([[0.0, 1.0, -1.0]]))
    leading = {
        "kl_divergence": 4.0 * step**2,
        "generalized_kl_divergence": 4.0 * step**2,
        "jensen_shannon_divergence": step**2,
        "hellinger_distance": step,
        "total_variation_distance": step,
    }
    assert values[0] == pytest.approx(leading[name], rel=1e-14)


def test_impossible_outcome_costs_infinity() -> None:
    """A label of 0 does not care about its prediction, 0 included."""
    labels = np.array([[0.5, 0.5], [0.0, 1.0]])
    predictions = np.array([[1.0, 0.0], [0.0, 1.0]])
    assert _exact("kl_divergence", labels, predictions).tolist() == [math.inf, 0.0]
    assert _exact("generalized_kl_divergence", labels, predictions).tolist() == [math.inf, 0.0]


def test_logarithms_give_the_same() -> None:
    """Predictions as probabilities or as their logarithms."""
    labels, predictions = _distributions(9), _distributions(10)
    for name in _ALL[:2]:
        plain = _exact(name, labels, predictions)
        logs = _exact(name, labels, np.log(predictions), from_log_probabilities=True)
        np.testing.assert_allclose(logs, plain, rtol=1e-12)


@pytest.mark.parametrize("convention", ["keras", "tf_keras"])
def test_keras_clips_both_sides_and_accepts_everything(convention: str) -> None:
    """Also values that are no probabilities and labels that do not sum to one."""
    random = np.random.default_rng(11)
    labels, predictions = random.uniform(-0.5, 1.5, size=(2, 200, 4))
    low, high = np.clip(labels, 1e-7, 1.0), np.clip(predictions, 1e-7, 1.0)
    chosen = bind("kl_divergence", {}, convention)
    values, reasons = score(chosen, labels, predictions)
    assert not reasons.any()
    np.testing.assert_allclose(values, (low * np.log(low / high)).sum(axis=1), rtol=1e-11, atol=1e-13)
    clipped = chosen.clipped(labels, predictions, reasons)
    assert (clipped == (low[:, 0] < 0) + (high != predictions).any(axis=1)).all()


def test_others_refuse_what_is_no_distribution() -> None:
    """Under every convention without a clip."""
    for convention in ("exact", "torch", "sklearn"):
        chosen = bind("kl_divergence", {}, convention)
        _, reasons = score(chosen, [[0.5, 0.4], [-0.5, 1.5], [0.5, 0.5]], [[0.5, 0.5], [0.5, 0.5], [-0.1, 1.1]])
        expected = [Reason.LABEL_SUM_NOT_ONE, Reason.LABEL_OUTSIDE_DOMAIN, Reason.PREDICTION_OUTSIDE_DOMAIN]
        assert reasons.tolist() == expected
