"""Calibration against TensorFlow Model Analysis, scikit-learn, scipy and a clustered estimate of R's kind."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
import pytest
from scipy import stats
from sklearn.calibration import calibration_curve

from lossops.calibration import CalibrationsAtOnce, calibrations
from lossops.evaluation import publish_scores, utc_now
from lossops.reliability import Reliability, probability_bins
from lossops.report import Report
from lossops.results.blocks import filled
from tests.datasets import cut, write_shards
from tests.here import score_here


def calibrated(folder: Path, frame: pd.DataFrame, shards: int = 2, **settings: Any) -> Report:
    """Score the probabilities p of the labels y."""
    table = pa.Table.from_pandas(frame, preserve_index=False)
    path = write_shards(folder / "data", cut(table, shards))
    values = {
        "name": "calibrated",
        "labels": {"path": path, "label": "y"},
        "models": {"m": {"path": path, "prediction": "p"}},
        "losses": ["binary_crossentropy"],
        "output": str(folder / "reports"),
        **settings,
    }
    return publish_scores(score_here(values), utc_now())


def rows_of(report: Report, label: str = "overall") -> list[dict[str, Any]]:
    return [row for row in report.calibration.to_pylist() if row["slice"] == label]


def test_examples_of_tfma(tmp_path: Path) -> None:
    """calibration_test.py of TensorFlow Model Analysis: testCalibration and its weighted form."""
    plain = calibrated(tmp_path / "plain", pd.DataFrame({"y": [0, 1, 1], "p": [0.0, 0.3, 0.9]}))
    whole = rows_of(plain)[0]
    assert whole["mean_label"] == pytest.approx(2 / 3, rel=1e-15)
    assert whole["mean_prediction"] == pytest.approx(0.4, rel=1e-15)
    assert whole["ratio"] == pytest.approx(0.6, rel=1e-15)
    frame = pd.DataFrame({"y": [0, 1, 0], "p": [1.0, 0.7, 0.5], "w": [0.5, 0.7, 0.9]})
    whole = rows_of(calibrated(tmp_path / "weighted", frame, weight="w"))[0]
    assert whole["mean_label"] == pytest.approx(1 / 3, rel=1e-15)
    assert whole["mean_prediction"] == pytest.approx(1.44 / 2.1, rel=1e-15)
    assert whole["ratio"] == pytest.approx(1.44 / 0.7, rel=1e-15)


@pytest.fixture(scope="module")
def frame() -> pd.DataFrame:
    """Probabilities that are somewhat too sure, in two countries."""
    random = np.random.default_rng(9)
    logits = random.normal(size=4000) * 2
    return pd.DataFrame(
        {
            "p": 1 / (1 + np.exp(-logits)),
            "y": (random.random(4000) < 1 / (1 + np.exp(-0.6 * logits))).astype(int),
            "country": random.choice(["de", "fr"], 4000, p=[0.9, 0.1]),
            "w": random.integers(1, 4, 4000),
            "user": random.integers(0, 300, 4000),
        }
    )


@pytest.mark.parametrize("bins", [1, 7, 10])
def test_bins_of_scikit_learn(bins: int, frame: pd.DataFrame, tmp_path: Path) -> None:
    report = calibrated(tmp_path, frame, calibration=bins, slices=["country"])
    for label, own in [("overall", frame), *((f"country={name}", part) for name, part in frame.groupby("country"))]:
        whole, *found = rows_of(report, label)
        truth, mean = calibration_curve(own["y"], own["p"], n_bins=bins)
        assert [row["mean_label"] for row in found] == pytest.approx(truth, rel=1e-12)
        assert [row["mean_prediction"] for row in found] == pytest.approx(mean, rel=1e-12)
        counts = np.histogram(own["p"], bins=bins, range=(0, 1))[0]
        assert [row["rows"] for row in found] == counts[counts > 0].tolist()
        expected = sum(row["rows"] * abs(row["mean_label"] - row["mean_prediction"]) for row in found) / len(own)
        assert whole["error"] == pytest.approx(expected, rel=1e-12)
        assert (whole["rows"], whole["bin"], whole["low"], whole["high"]) == (len(own), None, 0.0, 1.0)


def test_expected_calibration_error_is_that_of_the_measure(frame: pd.DataFrame, tmp_path: Path) -> None:
    losses = ["binary_crossentropy", {"loss": "expected_calibration_error", "bins": 10}]
    report = calibrated(tmp_path, frame, losses=losses, weight="w", slices=["country"])
    measured = [row["mean"] for row in report.losses.to_pylist() if row["kind"] == "measure"]
    whole = [row["error"] for row in report.calibration.to_pylist() if row["bin"] is None]
    assert whole == pytest.approx(measured, rel=1e-14)
    assert len(whole) == 3


def test_intervals_are_wilsons(frame: pd.DataFrame, tmp_path: Path) -> None:
    """Wilson's interval of scipy takes a normal quantile for Student's, and rows for rows less one."""
    for row in rows_of(calibrated(tmp_path, frame)):
        ones = round(row["mean_label"] * row["rows"])
        wilson = stats.binomtest(ones, row["rows"]).proportion_ci(method="wilson")
        assert (row["ci_low"], row["ci_high"]) == pytest.approx(
            (wilson.low, wilson.high), abs=0.03 / row["rows"] ** 0.5
        )


@pytest.mark.parametrize("weight", [None, "w"])
def test_intervals_cluster_on_units(weight: str | None, frame: pd.DataFrame, tmp_path: Path) -> None:
    """Doubling every row adds no information where both copies are of one unit."""
    extra = {"weight": weight} if weight else {}
    frame = frame.assign(row=np.arange(len(frame)))
    once = calibrated(tmp_path / "once", frame, unit="row", unit_buckets=8192, **extra)
    twice = calibrated(tmp_path / "twice", pd.concat([frame, frame]), unit="row", unit_buckets=8192, **extra)
    naive = calibrated(tmp_path / "naive", pd.concat([frame, frame]), **extra)
    for one, two, three in zip(rows_of(once), rows_of(twice), rows_of(naive), strict=True):
        assert two["rows"] == 2 * one["rows"]
        assert (two["ci_low"], two["ci_high"]) == pytest.approx((one["ci_low"], one["ci_high"]), rel=1e-9)
        assert three["ci_high"] - three["ci_low"] < 0.75 * (two["ci_high"] - two["ci_low"])


def test_edges_of_intervals(tmp_path: Path) -> None:
    """Labels that are all 0 are no proof that the next one is, and one row is no evidence at all."""
    frame = pd.DataFrame({"y": [0] * 20 + [1], "p": [0.05] * 20 + [0.95]})
    _, low, high = rows_of(calibrated(tmp_path, frame))
    reach = stats.t.ppf(0.975, 19) ** 2
    assert (low["ci_low"], low["ci_high"]) == (0.0, pytest.approx(reach / (20 + reach), rel=1e-12))
    assert (high["rows"], high["ci_low"], high["ci_high"]) == (1, None, None)


def test_coverage(tmp_path: Path) -> None:
    """95 % intervals of a bin cover the true frequency, also where it is small."""
    random = np.random.default_rng(21)
    trials, rows = 400, 100
    truth = 0.08
    frames = [
        pd.DataFrame({"y": (random.random(rows) < truth).astype(int), "p": 0.05, "trial": trial})
        for trial in range(trials)
    ]
    report = calibrated(tmp_path, pd.concat(frames), slices=["trial"])
    found = [row for row in report.calibration.to_pylist() if row["slice_columns"] and row["bin"] == 0]
    covered = np.mean([row["ci_low"] <= truth <= row["ci_high"] for row in found])
    assert len(found) == trials
    assert 0.92 <= covered <= 0.985  # discrete: Wilson's coverage at 100 rows of 8 % is 0.96


@pytest.mark.parametrize("bins", [3, 10, 100, 127])
def test_edges_of_bins(bins: int) -> None:
    edges = np.arange(bins + 1) / bins
    values: npt.NDArray[np.float64] = np.concatenate([edges, np.nextafter(edges, 2), np.nextafter(edges, -1), [np.nan]])
    inside = values[(values >= 0) & (values <= 1)]
    expected = np.minimum(np.searchsorted(edges, inside, side="right") - 1, bins - 1)
    assert probability_bins(inside, bins).tolist() == expected.tolist()
    assert probability_bins(values, bins)[-1] == 0


def test_rows_without_a_loss_weigh_nothing(frame: pd.DataFrame, tmp_path: Path) -> None:
    known = np.random.default_rng(1).random(len(frame)) < 0.7
    holes = frame.assign(p=frame["p"].where(known))
    for number, extra in enumerate(({"weight": "w"}, {"weight": "w", "unit": "user"}, {})):
        one = calibrated(tmp_path / f"{number} all", frame[known], **extra)
        two = calibrated(tmp_path / f"{number} some", holes, **extra)
        assert one.calibration.equals(two.calibration)


def test_only_of_probabilities(frame: pd.DataFrame, tmp_path: Path) -> None:
    losses = ["mean_squared_error", "brier", "binary_crossentropy"]
    report = calibrated(tmp_path / "some", frame, losses=losses)
    assert {row["loss"] for row in report.calibration.to_pylist()} == {"brier", "binary_crossentropy"}
    assert calibrated(tmp_path / "none", frame, calibration=0).calibration.num_rows == 0


PROBABILITIES: dict[str, Callable[[np.random.Generator, int], npt.NDArray[np.float64]]] = {
    "uniform": lambda random, size: random.random(size),
    "certain": lambda random, size: random.integers(0, 2, size).astype(float),
    "tiny": lambda random, size: 10.0 ** random.uniform(-320, 0, size),
    "few": lambda random, size: random.choice([0.0, 0.25, 0.5, 1.0], size),
    "between": lambda random, size: random.uniform(0.5, 0.5 + 1e-15, size),
}


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("soft", [False, True])
@pytest.mark.parametrize("rows", [1, 3, 40])
@pytest.mark.parametrize("kind", PROBABILITIES)
def test_at_once_as_one_by_one(kind: str, rows: int, soft: bool, weighted: bool) -> None:
    """Numbers of all entries at once have the bits of those of exact integers; most are not computed twice."""
    random = np.random.default_rng(rows)
    groups, size = 500, 500 * rows
    probabilities = PROBABILITIES[kind](random, size)
    labels = random.random(size) if soft else (random.random(size) < 0.5).astype(float)
    reasons = (random.random(size) < 0.1).astype(np.uint8)
    weights = random.random(size) if weighted else None
    found = Reliability.of_rows(10, labels, probabilities, weights, reasons, random.integers(0, groups, size), None)
    at_once = CalibrationsAtOnce(found, groups, 0.95)
    given = at_once.numbers()
    assert given is not None
    order = np.lexsort((at_once.bins, at_once.groups))
    columns, _ = filled(*given, at_once.exact, order[at_once.there[order]])
    expected = [vars(one) for own in calibrations(found, groups, None, 0.95) for one in own]
    assert pa.table(columns).to_pylist() == expected
    assert given[1][at_once.there].mean() > (0.9 if kind == "uniform" else 0.2)
