"""Measures against their definitions, and where a measure has no value."""

from __future__ import annotations

import math
from fractions import Fraction
from typing import Any

import numpy as np
import pytest

from lossops.errors import ConfigError
from lossops.losses import CATALOGUE, CONVENTIONS
from lossops.measures import MEASURES, bind
from tests.measures.measuring import Floats, measure, results

_NAMES = sorted(MEASURES)
_CALIBRATION = ("expected_calibration_error", "maximum_calibration_error", "root_mean_square_calibration_error")
_BRIER = ("brier_reliability", "brier_resolution", "brier_uncertainty")
_LOG = ("log_loss_reliability", "log_loss_resolution", "log_loss_uncertainty")


def rows_of(name: str, rows: int, seed: int = 0) -> tuple[Floats, Floats]:
    """Labels and predictions that fit a measure, without a constant label."""
    random = np.random.default_rng(seed)
    if name.startswith("multiclass"):
        return np.arange(rows) % 3.0, random.dirichlet(np.ones(3), rows)
    if MEASURES[name].label.step:
        return np.arange(rows) % 2.0, random.random(rows)
    return random.random(rows) + 0.1, random.random(rows) + 0.1


def test_r2_of_labels_far_from_zero_does_not_cancel() -> None:
    """The data of torchmetrics' complaint: the textbook formula in float32 gives a total sum of squares of 0."""
    random = np.random.default_rng(0)
    labels = (-3.1e5 + random.normal(size=142)).astype(np.float32)
    predictions = (labels + random.normal(size=142).astype(np.float32) * np.float32(0.1)).astype(np.float32)
    exact = [Fraction(float(value)) for value in labels]
    mean = sum(exact) / len(exact)
    total = sum((value - mean) ** 2 for value in exact)
    rest = sum((Fraction(float(p)) - y) ** 2 for p, y in zip(predictions, exact, strict=True))
    assert measure("r2", labels, predictions, pieces=5) == float(1 - rest / total)


@pytest.mark.parametrize("weighted", [False, True])
def test_r2_survives_a_mean_a_hundred_million_times_the_spread(weighted: bool) -> None:
    random = np.random.default_rng(1)
    noise, error = random.normal(size=(2, 400))
    weights = random.random(400) + 0.5 if weighted else None
    labels = 2.0**40 + np.round(noise * 2**8) / 2**8
    predictions = labels + np.round(error * 2**6) / 2**8
    shifted = measure("r2", labels - 2.0**40, predictions - 2.0**40, weights)
    assert measure("r2", labels, predictions, weights, pieces=3) == pytest.approx(shifted, rel=1e-13)


@pytest.mark.parametrize("power", [-1.0, 1.0, 1.5, 2.0, 3.0])
def test_tweedie_null_model_does_not_cancel(power: float) -> None:
    """Close to the mean every deviance is (y - m)^2 / m^power, so the score is R2 up to the relative spread."""
    random = np.random.default_rng(2)
    labels = 1000 * (1 + 1e-7 * random.normal(size=2000))
    predictions = labels + 1e-5 * random.normal(size=2000)
    expected = measure("r2", labels, predictions)
    assert measure("d2_tweedie", labels, predictions, power=power, pieces=4) == pytest.approx(expected, abs=1e-6)


def test_wmape_is_a_ratio_of_sums() -> None:
    labels, predictions = np.array([1.0, -2.0, 4.0]), np.array([2.0, -2.5, 1.0])
    assert measure("weighted_mean_absolute_percentage_error", labels, predictions) == 4.5 / 7
    found = measure("weighted_mean_absolute_percentage_error", labels, predictions, [1.0, 2.0, 0.5])
    assert found == pytest.approx(3.5 / 7, rel=1e-15)


def _bins(labels: Floats, p: Floats, weights: Floats, bins: int) -> list[tuple[float, float, float]]:
    """(share of the weight, mean probability, frequency) of each bin that is not empty."""
    place = np.minimum(np.floor(p * bins), bins - 1)
    found = []
    for number in range(bins):
        own = place == number
        if own.any():
            share = weights[own].sum() / weights.sum()
            found.append((share, *(np.average(values[own], weights=weights[own]) for values in (p, labels))))
    return found


@pytest.mark.parametrize("bins", [1, 8, 15, 100])
@pytest.mark.parametrize("weighted", [False, True])
def test_calibration_errors(bins: int, weighted: bool) -> None:
    random = np.random.default_rng(3)
    p = random.random(500)
    labels = (random.random(500) < p**2).astype(float)
    weights = random.random(500) + 0.1 if weighted else np.ones(500)
    gaps = [(share, abs(mean - frequency)) for share, mean, frequency in _bins(labels, p, weights, bins)]
    expected = (
        sum(share * gap for share, gap in gaps),
        max(gap for _, gap in gaps),
        math.sqrt(sum(share * gap**2 for share, gap in gaps)),
    )
    classes = np.stack([1 - p, p], axis=1)
    hit = (p > 0.5) == labels
    for name, value in zip(_CALIBRATION, expected, strict=True):
        chosen = weights if weighted else None
        assert measure(name, labels, p, chosen, bins=bins, pieces=3) == pytest.approx(value, rel=1e-12)
        found = measure(f"multiclass_{name}", labels, classes, chosen, bins=bins)
        same = measure(name, hit.astype(float), np.max(classes, axis=1), chosen, bins=bins)
        assert found == pytest.approx(same, rel=1e-15)


def test_probabilities_of_0_and_1_have_a_bin() -> None:
    """The last bin is closed; a phantom bin for 1.0 is torchmetrics' #3510."""
    for name in _CALIBRATION:
        assert measure(name, [0, 1, 1, 0], [0.0, 1.0, 1.0, 0.0], bins=3) == 0.0
        assert measure(name, [1, 0], [0.0, 1.0], bins=3) == 1.0
    # 1.0 shares the last bin with 0.9: mean 0.95, frequency 1/2.
    assert measure("maximum_calibration_error", [0, 1], [0.9, 1.0], bins=5) == pytest.approx(0.45)


@pytest.mark.parametrize("bins", [3, 7, 10, 15, 100])
def test_an_edge_belongs_to_the_bin_above(bins: int) -> None:
    """Also where p times the number of bins rounds to below the edge, as 0.29 of 100 bins does."""
    edges = [k / bins for k in range(1, bins)]
    probabilities = [*edges, *(math.nextafter(edge, 0.0) for edge in edges)]
    chosen = bind("expected_calibration_error", {"bins": bins}, "exact").declaration.bins
    assert [chosen(0.0, p, float(bins)) for p in probabilities] == [*range(1, bins), *range(bins - 1)]


@pytest.mark.parametrize("convention", ["exact", "keras", "tf_keras", "sklearn", "torch"])
def test_scores_are_reliability_less_resolution_plus_uncertainty(convention: str) -> None:
    random = np.random.default_rng(4)
    p = random.choice([0.0, 0.1, 0.35, 0.5, 0.75, 1.0], 900)  # one value a bin
    labels = (random.random(900) < np.clip(p, 0.02, 0.98)).astype(float)
    if convention == "exact":
        labels[p == 0.0], labels[p == 1.0] = 0.0, 1.0  # else the log loss is infinite
    weights = random.random(900) + 0.2
    brier, log_loss = (
        [measure(name, labels, p, weights, convention=convention, pieces=2) for name in names]
        for names in (_BRIER, _LOG)
    )
    assert brier[0] - brier[1] + brier[2] == pytest.approx(np.average((p - labels) ** 2, weights=weights), rel=1e-13)
    skill = measure("d2_log_loss", labels, p, weights, convention=convention)
    loss = (1 - skill) * log_loss[2]  # the null model of the skill score is the uncertainty
    assert log_loss[0] - log_loss[1] + log_loss[2] == pytest.approx(loss, rel=1e-12)


def test_a_forecast_that_rules_out_what_happened_is_infinitely_unreliable() -> None:
    assert measure("log_loss_reliability", [1, 0], [0.0, 0.5], convention="exact") == math.inf
    assert measure("d2_log_loss", [1, 0], [0.0, 0.5], convention="exact") == -math.inf
    assert measure("log_loss_reliability", [0, 1], [0.0, 1.0], convention="exact") == 0.0


@pytest.mark.parametrize("name", [name for name in _NAMES if MEASURES[name].family == "measures: skill"])
def test_a_constant_label_has_no_skill_score(name: str) -> None:
    labels, predictions = rows_of(name, 9)
    weights = np.full(9, 0.1) + np.arange(9)
    for chosen in (weights, None):
        assert measure(name, np.ones(9), predictions, chosen) is None
        assert (
            measure(
                name,
                np.ones(9) * (0.1 if "multi" not in name and not MEASURES[name].label.step else 1),
                predictions,
                chosen,
            )
            is None
        )
        assert measure(name, labels[:1], predictions[:1], None if chosen is None else chosen[:1]) is None
    assert measure(name, labels, predictions) is not None


@pytest.mark.parametrize("name", _NAMES)
def test_a_group_without_valid_rows_has_no_value(name: str) -> None:
    labels, predictions = rows_of(name, 12)
    broken = predictions.copy()
    broken[6:] = np.nan
    found = results(name, labels, broken, groups=np.repeat([0, 1], 6), pieces=3)
    assert (found[1].rows, found[1].rows_valid, found[1].weight_sum, found[1].value) == (6, 0, 0.0, None)
    assert (found[0].rows, found[0].rows_valid, found[0].weight_sum) == (6, 6, 6.0)
    assert found[0].value == measure(name, labels[:6], predictions[:6])


@pytest.mark.parametrize("name", _NAMES)
@pytest.mark.parametrize("convention", CONVENTIONS)
def test_every_measure_is_a_number_under_every_convention(name: str, convention: str) -> None:
    labels, predictions = rows_of(name, 30)
    value = measure(name, labels, predictions, convention=convention)
    assert value is not None
    assert math.isfinite(value)


@pytest.mark.parametrize("name", _NAMES)
def test_weights_count_rows(name: str) -> None:
    labels, predictions = rows_of(name, 40)
    counts = np.random.default_rng(5).integers(1, 4, 40)
    repeated = measure(name, labels.repeat(counts, axis=0), predictions.repeat(counts, axis=0))
    assert measure(name, labels, predictions, counts) == pytest.approx(repeated, rel=1e-13)


def test_several_outputs_under_both_rules() -> None:
    labels, predictions = [[0.5, 1], [-1, 1], [7, -6]], [[0, 2], [-1, 2], [8, -5]]
    roots = math.sqrt(1.25 / 3), 1.0
    assert measure("root_mean_squared_error", labels, predictions) == pytest.approx(sum(roots) / 2)
    pooled = measure("root_mean_squared_error", labels, predictions, convention="xgboost")
    assert pooled == pytest.approx(math.sqrt((1.25 / 3 + 1.0) / 2))
    assert measure("max_error", [[0, 0]], [[1, 3]]) == 3.0


def test_values_beyond_float64() -> None:
    assert measure("root_mean_squared_error", [1e200, 0.0], [0.0, 0.0]) == math.inf
    assert measure("max_error", [1e308, 0.0], [-1e308, 0.0]) == math.inf
    assert measure("median_absolute_error", [1e308, 1e308, 0.0], [-1e308, -1e308, 0.0]) == math.inf
    assert measure("explained_variance", [1e308, 0.0], [-1e308, 0.0]) is None


@pytest.mark.parametrize("name", _NAMES)
def test_names_are_unique_and_unknown_parameters_are_refused(name: str) -> None:
    assert name not in CATALOGUE
    with pytest.raises(ConfigError, match="has no parameter 'nonsense'"):
        bind(name, {"nonsense": 1}, "keras")


@pytest.mark.parametrize(
    ("name", "parameters", "message"),
    [
        ("d2_tweedie", {"power": 0.5}, r"power is 0.5"),
        ("d2_pinball", {"alpha": 1.5}, r"alpha is 1.5; allowed: a number in \(0, 1\)"),
        ("expected_calibration_error", {"bins": 0}, "bins is 0; allowed: an integer in"),
        ("expected_calibration_error", {"bins": 2.5}, "bins is 2.5; allowed: an integer in"),
        ("brier_resolutoin", {}, "unknown loss 'brier_resolutoin'; did you mean 'brier_resolution'"),
    ],
)
def test_refused(name: str, parameters: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        bind(name, parameters, "keras")
