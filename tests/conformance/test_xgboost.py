"""XGBoost's metrics of groups of rows: a model without a tree, whose predictions are the base margin, in float32."""

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
    classes,
    counts,
    means_in_float32,
    positives,
    reals,
)

_CONVENTION = "xgboost"


def _of(metric: str, objective: str = "reg:squarederror", **settings: Any) -> Callable[[Any, Any, Any, Any], float]:
    """The value of a metric of a group."""

    def value(xgboost: Any, labels: Any, predictions: Any, weights: Any) -> float:
        width = predictions.shape[1]
        margin = predictions
        if objective == "multi:softprob":  # whose softmax gives the probabilities back
            margin = np.log(np.maximum(predictions, 1e-30))
            settings["num_class"] = width
        data = xgboost.DMatrix(np.zeros((len(labels), 1)), label=labels, weight=weights, base_margin=margin, nthread=1)
        chosen = {"objective": objective, "eval_metric": metric, "verbosity": 0, "nthread": 1, **settings}
        return float(xgboost.Booster(chosen, [data]).eval(data).rpartition(":")[2])

    return value


MEANS = [
    Mean({"loss": "mean_absolute_error"}, reals(1), _of("mae")),
    Mean({"loss": "root_mean_squared_error"}, reals(1), _of("rmse")),
    Mean({"loss": "root_mean_squared_logarithmic_error"}, positives(1), _of("rmsle")),
    Mean({"loss": "mean_absolute_percentage_error"}, positives(1), _of("mape")),
    Mean({"loss": "pseudo_huber", "delta": 0.7}, reals(1), _of("mphe", huber_slope=0.7)),
    Mean({"loss": "binary_crossentropy"}, binary(), _of("logloss")),
    Mean({"loss": "binary_crossentropy"}, binary(soft=True, edges=False), _of("logloss")),
    Mean({"loss": "binary_zero_one"}, binary(), _of("error")),
    Mean({"loss": "binary_zero_one", "threshold": 0.25}, binary(), _of("error@0.25")),
    Mean({"loss": "poisson_nll", "full": True}, counts(1), _of("poisson-nloglik")),
    Mean({"loss": "gamma_deviance"}, positives(1), _of("gamma-deviance")),
    Mean({"loss": "gamma_nll_of_mean"}, positives(1), _of("gamma-nloglik")),
    Mean({"loss": "tweedie_nll", "power": 1.3}, counts(1), _of("tweedie-nloglik@1.3")),
    Mean({"loss": "sparse_categorical_crossentropy"}, classes(edges=False), _of("mlogloss", "multi:softprob")),
    *(
        Mean({"loss": "multiclass_zero_one"}, rows, _of("merror", "multi:softprob"))
        for rows in (classes(), classes("index", 2))
    ),
]


@pytest.mark.parametrize("mean", MEANS, ids=str)
def test_means(mean: Mean, xgboost: Any, tmp_path: Path) -> None:
    """Every group of a run has the mean that XGBoost gives it."""
    assert_same_means(means_in_float32(mean), xgboost, _CONVENTION, tmp_path)
