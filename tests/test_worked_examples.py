"""Published examples of other libraries, replayed from Parquet to report.

Sources are named at each. Lists of numbers are inputs and results of their documentation and test suites.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from scipy import stats

from lossops.evaluation import publish_scores, utc_now
from lossops.report import Report
from lossops.statistics import reach
from tests.datasets import cut, score_table, write_shards
from tests.here import score_here


def scored(folder: Path, frame: pd.DataFrame, losses: list[Any], **settings: Any) -> Report:
    """Score columns y and p of one dataset, cut in three."""
    path = write_shards(folder / "data", cut(pa.Table.from_pandas(frame, preserve_index=False), 3))
    values = {
        "name": "example",
        "labels": {"path": path, "label": "y"},
        "models": {"m": {"path": path, "prediction": "p"}},
        "losses": losses,
        "output": str(folder / "reports"),
        **settings,
    }
    if "models" in settings:
        values["models"] = {name: {"path": path, "prediction": column} for name, column in settings["models"].items()}
    return publish_scores(score_here(values), utc_now())


def means(report: Report) -> dict[str, float]:
    """The value of each loss over all rows."""
    return {row["loss"]: row["mean"] for row in report.losses.to_pylist() if row["slice"] == "overall"}


def test_regression_errors_of_tfma(tmp_path: Path) -> None:
    """TensorFlow Model Analysis, metrics/mean_regression_error_test.py."""
    frame = pd.DataFrame(
        {
            "y": [0.1, 0.3, 0.5, 1.0, 2.0, 3.0, 3.0],
            "p": [1.0, 0.0, 2.0, 0.5, 1.0, 5.0, 5.0],
            "w": [0.1, 0.5, 1.0, 1.0, 1.0, 1.0, 1.0],
        }
    )
    expected = {
        "mean_absolute_error": 1.292857,
        "mean_squared_error": 2.07607,
        "mean_absolute_percentage_error": 120.238095,
        "mean_squared_logarithmic_error": 0.20117,
    }
    assert means(scored(tmp_path, frame, list(expected), weight="w")) == pytest.approx(expected, abs=1e-5)


BINARY_CROSSENTROPY = [
    ({"y": [0.0, 1.0], "p": [0.6, 0.6], "w": [1.0, 0.8]}, {}, 0.736083),
    ({"y": [0.0, 1.0], "p": [0.6, 0.6], "w": [1.0, 0.8]}, {"label_smoothing": 0.1}, 0.733831),
    (
        {"y": [[0.0, 1.0], [0.0, 0.0]], "p": [[-18.6, 0.51], [2.94, -12.8]], "w": [1.0, 1.0]},
        {"from_logits": True},
        0.865457,
    ),
]
CATEGORICAL_CROSSENTROPY = [
    ([[0.05, 0.95, 0.0], [0.1, 0.8, 0.1]], [1.0, 1.0], {}, 1.176939),
    ([[0.05, 0.95, 0.0], [0.1, 0.8, 0.1]], [0.3, 0.7], {}, 1.627198),
    ([[-5.0, 0.95, -10.0], [5.0, -1.0, 0.5]], [1.0, 1.0], {"from_logits": True}, 2.258058),
    ([[-5.0, 0.95, -10.0], [5.0, -1.0, 0.5]], [1.0, 1.0], {"from_logits": True, "label_smoothing": 0.1}, 2.489725),
]


@pytest.mark.parametrize(("columns", "parameters", "expected"), BINARY_CROSSENTROPY)
def test_binary_crossentropy_of_tfma(
    columns: dict[str, Any], parameters: dict[str, Any], expected: float, tmp_path: Path
) -> None:
    """TensorFlow Model Analysis, metrics/cross_entropy_metrics_test.py, computed by TF Keras."""
    losses = [{"loss": "binary_crossentropy", "convention": "tf_keras", **parameters}]
    found = means(scored(tmp_path, pd.DataFrame(columns), losses, weight="w"))
    assert found["binary_crossentropy"] == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize(("predictions", "weights", "parameters", "expected"), CATEGORICAL_CROSSENTROPY)
def test_categorical_crossentropy_of_tfma(
    predictions: list[list[float]], weights: list[float], parameters: dict[str, Any], expected: float, tmp_path: Path
) -> None:
    """The same file."""
    frame = pd.DataFrame({"y": [[0.0, 1.0, 0.0], [0.0, 0.0, 1.0]], "p": predictions, "w": weights})
    losses = [{"loss": "categorical_crossentropy", **parameters}]
    found = means(scored(tmp_path, frame, losses, weight="w"))
    assert found["categorical_crossentropy"] == pytest.approx(expected, abs=1e-6)


def test_paired_difference_of_tfma(tmp_path: Path) -> None:
    """TensorFlow Model Analysis, testEvaluateWithJackknifeAndDiffMetrics: mean predictions differ by -1/3."""
    frame = pd.DataFrame({"y": [0.0] * 2000, "input": [0.0, 1.0] * 1000, "zero": 0.0, "w": [1.0, 0.5] * 1000})
    models = {"candidate": "zero", "baseline": "input"}
    report = scored(tmp_path, frame, ["mean_absolute_error"], weight="w", models=models, baseline="baseline")
    row = score_table(report.comparisons, {"slice": "overall"})
    assert row["difference"] == pytest.approx(-1 / 3, rel=1e-15)
    assert (row["mean"], row["baseline_mean"]) == (0.0, pytest.approx(1 / 3, rel=1e-15))


def test_interval_of_tfma() -> None:
    """TensorFlow Model Analysis, utils/math_util_test.py: mean 10, standard error 2, 9 degrees of freedom."""
    width = 2 * reach(9, 0.95)
    assert (10 - width, 10 + width) == pytest.approx((5.47568567440359, 14.5243143255964), rel=1e-13)


# y_true, y_pred and the two columns of fairlearn's user guide, intersecting_groups.rst.
GROUPS = {
    "y": [0, 1, 1, 1, 1, 0, 1, 0, 1, 0, 0, 0, 1, 1, 1, 1, 1, 1],
    "p": [0, 0, 1, 0, 1, 1, 1, 0, 0, 1, 1, 1, 1, 0, 0, 1, 1, 0],
    "one": list("bbabbcccaacabccbcc"),
    "two": [8, 6, 8, 8, 8, 8, 6, 6, 6, 8, 6, 6, 6, 6, 8, 6, 6, 6],
}
RECALL = {"a & 6": 0.0, "a & 8": 1.0, "b & 6": 0.666667, "b & 8": 0.5, "c & 6": 0.5, "c & 8": 0.0}


def test_recall_by_group_of_fairlearn(tmp_path: Path) -> None:
    """Recall is one less the mean 0-1 loss where the label is 1."""
    frame = pd.DataFrame(GROUPS).assign(w=GROUPS["y"])
    report = scored(tmp_path, frame, ["binary_zero_one"], weight="w", slices=[["one", "two"]])
    assert means(report)["binary_zero_one"] == 0.5
    for name, recall in RECALL.items():
        one, two = name.split(" & ")
        row = score_table(report.losses, {"slice": f"one={one} & two={two}"})
        assert 1 - row["mean"] == pytest.approx(recall, abs=1e-6)


def test_regression_metrics_of_spark(tmp_path: Path) -> None:
    """Apache Spark, the example of RegressionEvaluator in pyspark.ml.evaluation, plain and weighted."""
    frame = pd.DataFrame(
        {
            "p": [-28.98343821, 20.21491975, -25.98418959, 30.69731842, 74.69283752],
            "y": [-27.0, 21.5, -22.0, 33.0, 71.0],
            "w": [1.0, 0.8, 1.0, 0.6, 0.2],
        }
    )
    found = means(scored(tmp_path / "plain", frame, ["root_mean_squared_error", "mean_absolute_error", "r2"]))
    assert found["root_mean_squared_error"] == pytest.approx(2.842485408190637, rel=1e-14)
    assert found["mean_absolute_error"] == pytest.approx(2.64964543, rel=1e-9)
    assert found["r2"] == pytest.approx(0.9939111025985887, rel=1e-12)
    weighted = means(scored(tmp_path / "weighted", frame, ["root_mean_squared_error"], weight="w"))
    assert weighted["root_mean_squared_error"] == pytest.approx(2.7405268190953493, rel=1e-14)


def jackknife(values: pd.Series, units: pd.Series) -> float:
    """The standard error of a mean as Meterstick defines it: sd of leaving a unit out, times (n - 1)/sqrt(n)."""
    without = [values[units != unit].mean() for unit in units.unique()]
    return float(np.std(without, ddof=1) * (len(without) - 1) / math.sqrt(len(without)))


def test_jackknife_of_meterstick(tmp_path: Path) -> None:
    """google/meterstick, operations_test.py, JackknifeTests: x of two units, and x of one unit.

    The jackknife and linearisation agree where units are of one size, and to second order elsewhere: 0.875 there is
    0.875 times 8/9 here, because the units have 2 and 4 of 6 rows.
    """
    frame = pd.DataFrame(
        {"y": 0.0, "p": [0, 0.5, 1, 1.5, 2, 2.5], "unit": [1, 2, 2, 1, 2, 2], "half": [1, 2, 2, 1, 1, 2]}
    )
    assert jackknife(frame["p"] ** 2, frame["unit"]) == pytest.approx(0.875, rel=1e-14)
    report = scored(tmp_path / "unequal", frame, ["mean_squared_error"], unit="unit", slices=["unit"])
    row = score_table(report.losses, {"slice": "overall"})
    assert (row["sum"], row["mean"]) == (13.75, pytest.approx(2.2916667, abs=1e-7))
    assert row["std_error"] == pytest.approx(0.875 * 8 / 9, rel=1e-14)
    assert score_table(report.losses, {"slice": "unit=1"})["std_error"] is None
    equal = scored(tmp_path / "equal", frame, ["mean_squared_error"], unit="half")
    found = score_table(equal.losses, {"slice": "overall"})["std_error"]
    assert found == pytest.approx(jackknife(frame["p"] ** 2, frame["half"]), rel=1e-14)


def test_the_sample_of_scipys_bootstrap(tmp_path: Path) -> None:
    """scipy, test_resampling.py, test_bootstrap_against_R: sixteen losses, too skewed for so few.

    R's bootstrap says 28.9 to 84.2 (percentile) or 32.3 to 91.4 (BCa); Student's interval is symmetric, and flagged.
    """
    losses = [10, 12, 12.5, 12.5, 13.9, 15, 21, 22, 23, 34, 50, 81, 89, 121, 134, 213]
    frame = pd.DataFrame({"y": 0.0, "p": losses})
    row = score_table(scored(tmp_path, frame, ["mean_absolute_error"]).losses, {"slice": "overall"})
    expected = stats.ttest_1samp(losses, 0).confidence_interval()
    assert (row["ci_low"], row["ci_high"]) == pytest.approx((expected.low, expected.high), rel=1e-13)
    assert row["heavy_tail"] is True


def test_paired_t_test_of_scipy(tmp_path: Path) -> None:
    """A comparison with the baseline without weights and units is scipy.stats.ttest_rel."""
    random = np.random.default_rng(8)
    frame = pd.DataFrame({"y": 0.0, "one": random.gamma(2, size=300)})
    frame["two"] = frame["one"] + random.normal(0.05, 0.2, 300)
    frame = frame.abs()
    models = {"one": "one", "two": "two"}
    report = scored(tmp_path, frame, ["mean_absolute_error"], models=models, baseline="two")
    row = score_table(report.comparisons, {"slice": "overall"})
    expected = stats.ttest_rel(frame["one"], frame["two"])
    interval = expected.confidence_interval()
    assert row["p_value"] == pytest.approx(expected.pvalue, rel=1e-9)
    assert (row["ci_low"], row["ci_high"]) == pytest.approx((interval.low, interval.high), rel=1e-11)
