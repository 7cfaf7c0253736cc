"""Every measure that scikit-learn has equals scikit-learn's: weights, several outputs, merged from pieces."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from sklearn import metrics

from tests.measures.measuring import Floats, measure

_RELATIVE = 2e-14
ROWS = 601

_REGRESSION: list[tuple[str, Callable[..., float], dict[str, Any]]] = [
    ("root_mean_squared_error", metrics.root_mean_squared_error, {}),
    ("median_absolute_error", metrics.median_absolute_error, {}),
    ("r2", metrics.r2_score, {}),
    ("explained_variance", metrics.explained_variance_score, {}),
    ("d2_absolute_error", metrics.d2_absolute_error_score, {}),
    *(("d2_pinball", metrics.d2_pinball_score, {"alpha": alpha}) for alpha in (0.1, 0.25, 0.5, 0.9)),
]
_POSITIVE: list[tuple[str, Callable[..., float], dict[str, Any]]] = [
    ("root_mean_squared_logarithmic_error", metrics.root_mean_squared_log_error, {}),
    *(("d2_tweedie", metrics.d2_tweedie_score, {"power": power}) for power in (-1.5, 0.0, 1.0, 1.3, 2.0, 2.7, 3.0)),
]


def _weights(kind: str) -> Floats | None:
    random = np.random.default_rng(5)
    return {
        "none": None,
        "real": random.random(ROWS) * 3 + 0.01,
        "whole": random.integers(1, 4, ROWS).astype(float),
        "decimal": random.choice([0.1, 0.2, 0.3], ROWS),
    }[kind]


def _ids(case: Any) -> str | None:
    return str(case) if isinstance(case, str | dict) else None


@pytest.mark.parametrize("weights", ["none", "real", "whole", "decimal"])
@pytest.mark.parametrize("outputs", [1, 3])
@pytest.mark.parametrize("places", [1, 15], ids=["ties", "distinct"])
@pytest.mark.parametrize(("name", "theirs", "parameters"), _REGRESSION, ids=_ids)
def test_regression(
    name: str, theirs: Callable[..., float], parameters: dict[str, Any], places: int, outputs: int, weights: str
) -> None:
    random = np.random.default_rng(1)
    labels = np.round(random.normal(size=(ROWS, outputs)) * 3 + 2, places)
    predictions = np.round(labels + random.normal(size=labels.shape), places)
    chosen = _weights(weights)
    expected = theirs(labels, predictions, sample_weight=chosen, **parameters)
    found = measure(name, labels, predictions, chosen, pieces=3, **parameters)
    # Where decimal weights tie, scikit-learn's cumulative sum decides by its rounding which of two values is taken.
    assert found == pytest.approx(expected, rel=_RELATIVE if weights != "decimal" or places == 1 else 2e-4)


@pytest.mark.parametrize("weights", ["none", "real", "whole"])
@pytest.mark.parametrize(("name", "theirs", "parameters"), _POSITIVE, ids=_ids)
def test_positive(name: str, theirs: Callable[..., float], parameters: dict[str, Any], weights: str) -> None:
    random = np.random.default_rng(2)
    labels = np.exp(random.normal(size=ROWS))
    if 1 <= parameters.get("power", 1) < 2:
        labels[::7] = 0.0
    predictions, chosen = labels * np.exp(random.normal(size=ROWS)) + 0.1, _weights(weights)
    expected = theirs(labels, predictions, sample_weight=chosen, **parameters)
    assert measure(name, labels, predictions, chosen, pieces=3, **parameters) == pytest.approx(expected, rel=_RELATIVE)


def test_tweedie_below_zero_takes_any_label() -> None:
    random = np.random.default_rng(3)
    labels, predictions = random.normal(size=ROWS) + 1, np.exp(random.normal(size=ROWS))
    expected = metrics.d2_tweedie_score(labels, predictions, power=-2)
    assert measure("d2_tweedie", labels, predictions, power=-2.0) == pytest.approx(expected, rel=_RELATIVE)


def test_max_error() -> None:
    random = np.random.default_rng(4)
    labels, predictions = random.normal(size=(2, ROWS))
    assert measure("max_error", labels, predictions, pieces=4) == metrics.max_error(labels, predictions)


@pytest.mark.parametrize("weights", ["none", "real", "whole"])
@pytest.mark.parametrize(
    ("name", "theirs"), [("d2_log_loss", metrics.d2_log_loss_score), ("d2_brier", metrics.d2_brier_score)]
)
def test_classification(name: str, theirs: Callable[..., float], weights: str) -> None:
    random, chosen = np.random.default_rng(6), _weights(weights)
    probabilities = random.random(ROWS)
    labels = (random.random(ROWS) < probabilities).astype(float)
    probabilities[:2] = 0.0, 1.0  # certain, and perhaps wrong: clipped as scikit-learn does
    labels[0] = 1.0
    expected = theirs(labels, probabilities, sample_weight=chosen)
    assert measure(name, labels, probabilities, chosen, pieces=3) == pytest.approx(expected, rel=_RELATIVE)
    classes = random.dirichlet(np.ones(5), ROWS)
    numbers = np.array([random.choice(4, p=row[:4] / row[:4].sum()) for row in classes])  # the last never occurs
    expected = theirs(numbers, classes, sample_weight=chosen, labels=range(5))
    assert measure(f"multiclass_{name}", numbers, classes, chosen, pieces=3) == pytest.approx(expected, rel=_RELATIVE)
