"""Quantile losses against scikit-learn and against each other."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import mean_pinball_loss

from lossops.errors import ConfigError
from lossops.losses import bind
from tests.losses.scoring import score
from tests.oracles import Floats


def _rows(width: int) -> tuple[Floats, Floats]:
    random = np.random.default_rng(13)
    return random.normal(size=(300, 1)), random.normal(size=(300, width))


@pytest.mark.parametrize("alpha", [0.0, 0.1, 0.5, 0.9, 1.0])
def test_pinball_equals_sklearn(alpha: float) -> None:
    """The library itself."""
    labels, predictions = _rows(1)
    values, _ = score(bind("pinball", {"alpha": alpha}, "sklearn"), labels, predictions)
    assert values.mean() == pytest.approx(mean_pinball_loss(labels, predictions, alpha=alpha), rel=1e-14)


def test_pinball_at_one_half_is_half_the_absolute_error() -> None:
    """The default level."""
    labels, predictions = _rows(1)
    values, _ = score(bind("pinball", {}, "exact"), labels, predictions)
    np.testing.assert_array_equal(values, np.abs(labels - predictions)[:, 0] / 2)


def test_pinball_set_is_the_mean_of_its_levels() -> None:
    """One pinball loss a column."""
    labels, predictions = _rows(3)
    levels = (0.2, 0.5, 0.8)
    values, _ = score(bind("pinball_set", {"levels": levels}, "exact"), labels, predictions)
    single = [
        score(bind("pinball", {"alpha": level}, "exact"), labels, predictions[:, [j]])[0]
        for j, level in enumerate(levels)
    ]
    np.testing.assert_allclose(values, np.mean(single, axis=0), rtol=1e-15)


@pytest.mark.parametrize(
    ("parameters", "parts"),
    [
        ({}, ["pinball_set", "'levels'", "increasing", "[0, 1]"]),
        ({"levels": None}, ["levels", "None"]),
        ({"levels": [0.5, 0.2]}, ["levels", "increasing"]),
        ({"levels": [0.5, 0.5]}, ["levels", "increasing"]),
        ({"levels": [0.5, 1.5]}, ["levels", "[0, 1]"]),
    ],
)
def test_levels_have_to_be_given_and_to_increase(parameters: dict[str, object], parts: list[str]) -> None:
    """No default fits every prediction."""
    with pytest.raises(ConfigError) as caught:
        bind("pinball_set", parameters, "exact")
    assert [part for part in parts if part not in str(caught.value)] == []
    assert "null" not in str(caught.value)


def test_each_quantile_needs_its_level() -> None:
    """Two levels, three quantiles."""
    found = bind("pinball_set", {"levels": [0.2, 0.5]}, "exact").misfit(1, 3)
    assert found is not None
    assert "levels has 2 numbers" in found


def test_crossing_rows_are_counted() -> None:
    """Equal neighbours do not cross; one decrease is enough; a single quantile never crosses."""
    quantiles = np.array([[1.0, 2.0, 3.0], [1.0, 1.0, 1.0], [1.0, 3.0, 2.0], [3.0, 1.0, 2.0]])
    labels = np.zeros((4, 1))
    assert score(bind("quantile_crossing", {}, "exact"), labels, quantiles)[0].tolist() == [0.0, 0.0, 1.0, 1.0]
    assert score(bind("quantile_crossing", {}, "exact"), labels, quantiles[:, :1])[0].tolist() == [0.0] * 4


@pytest.mark.parametrize("alpha", [0.0, 0.2, 0.5, 1.0])
def test_expectiles_of_both_levels_add_up_to_the_squared_error(alpha: float) -> None:
    """Alpha and 1 - alpha share the square between them."""
    labels, predictions = _rows(1)
    both = [score(bind("expectile", {"alpha": a}, "exact"), labels, predictions)[0] for a in (alpha, 1.0 - alpha)]
    np.testing.assert_allclose(both[0] + both[1], (labels - predictions)[:, 0] ** 2, rtol=1e-15)


def test_the_best_expectile_of_a_sample_balances_its_residuals() -> None:
    """alpha = 0.5 is minimised by the mean; a higher level by a higher constant."""
    labels, _ = _rows(1)
    grid = np.linspace(-1.0, 1.0, 401)

    def best(alpha: float) -> float:
        chosen = bind("expectile", {"alpha": alpha}, "exact")
        return float(grid[np.argmin([score(chosen, labels, np.full_like(labels, at))[0].mean() for at in grid])])

    assert best(0.5) == pytest.approx(labels.mean(), abs=0.005)
    assert best(0.2) < best(0.5) < best(0.9)
