"""LightGBM's metrics of groups of rows: a model without a tree, whose predictions are the initial scores."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.conformance.cases import (
    Mean,
    assert_same_means,
    binary,
    class_scores,
    classes,
    counts,
    labels_in_float32,
    our_values,
    positives,
    reals,
    with_zero_labels,
)

_CONVENTION = "lightgbm"
_OF_TERMS = "LightGBM adds terms of both signs"
_OF_FLOAT32 = "the smallest probability of LightGBM and its logarithm are float32"
_QUIET = {"verbose": -1, "num_threads": 1}  # threads cost more than such a group


def _of(metric: str, **settings: Any) -> Callable[[Any, Any, Any, Any], float]:
    """The value of a metric of a group."""

    def value(lightgbm: Any, labels: Any, predictions: Any, weights: Any) -> float:
        scores = predictions if predictions.shape[1] > 1 else predictions[:, 0]
        data = lightgbm.Dataset(
            np.zeros((len(labels), 1)), np.ravel(labels), weight=weights, init_score=scores, params=_QUIET
        )
        chosen = {"objective": "none", "metric": metric, "num_class": predictions.shape[1], **settings}
        found = lightgbm.Booster({**_QUIET, **chosen}, data).eval_train()
        return float(found[0][2])

    return value


MEANS = [
    Mean({"loss": "mean_absolute_error"}, reals(1), _of("l1")),
    Mean({"loss": "mean_squared_error"}, reals(1), _of("l2")),
    Mean({"loss": "root_mean_squared_error"}, reals(1), _of("rmse")),
    Mean({"loss": "mean_absolute_percentage_error"}, with_zero_labels(1), _of("mape")),
    Mean({"loss": "huber", "delta": 0.9}, reals(1), _of("huber", alpha=0.9)),
    Mean({"loss": "fair", "c": 1.5}, reals(1), _of("fair", fair_c=1.5), atol=1e-14, why=_OF_TERMS),
    Mean({"loss": "pinball", "alpha": 0.3}, reals(1), _of("quantile", alpha=0.3)),
    Mean({"loss": "poisson_nll"}, counts(1), _of("poisson"), atol=1e-13, why=_OF_TERMS),
    Mean(
        {"loss": "gamma_nll_of_mean"},
        positives(1),
        _of("gamma"),
        rtol=1e-7,
        atol=1e-7,
        why="LightGBM takes the logarithm of the label in float32",
    ),
    Mean({"loss": "tweedie_nll", "power": 1.3}, counts(1), _of("tweedie", tweedie_variance_power=1.3)),
    Mean({"loss": "binary_crossentropy"}, binary(), _of("binary_logloss"), rtol=1e-10, atol=1e-14, why=_OF_FLOAT32),
    Mean(
        {"loss": "binary_crossentropy"},
        binary(soft=True, edges=False),
        _of("cross_entropy"),
        rtol=1e-6,
        atol=1e-7,
        why="LightGBM takes the label from 1 in float32",
    ),
    Mean({"loss": "sparse_categorical_crossentropy"}, classes(), _of("multi_logloss"), rtol=1e-10, why=_OF_FLOAT32),
    *(Mean({"loss": "multiclass_zero_one"}, class_scores(ties=ties), _of("multi_error")) for ties in (False, True)),
    *(
        Mean({"loss": "top_k_error", "k": k}, class_scores(ties=ties), _of("multi_error", multi_error_top_k=k))
        for k in (1, 2, 3)
        for ties in (False, True)
    ),
]


@pytest.mark.parametrize("mean", MEANS, ids=str)
def test_means(mean: Mean, lightgbm: Any, tmp_path: Path) -> None:
    """Every group of a run has the mean that LightGBM gives it; its labels are float32."""
    assert_same_means(labels_in_float32(mean), lightgbm, _CONVENTION, tmp_path)


def test_defect_gamma_deviance_is_a_sum(lightgbm: Any) -> None:
    """LightGBM returns twice the sum and no mean, whatever the weights sum to; it is the sum of our values."""
    rng = np.random.default_rng(3)
    labels, predictions = (rng.gamma(2.0, 2.0, (250, 1)).astype(np.float32).astype(np.float64) for _ in range(2))
    weights = rng.integers(1, 8, 250) / 4.0
    theirs = _of("gamma_deviance")(lightgbm, labels, predictions, weights)
    ours = our_values("gamma_deviance", {}, _CONVENTION, labels, predictions)
    assert theirs == pytest.approx(float(ours @ weights), rel=1e-11)
