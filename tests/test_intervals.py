"""Intervals against R's survey package: published estimates of its apiclus1 sample, replayed end to end.

The values are those of xKDR/Survey.jl's and samplics-org/svy's test suites, which took them from R.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
import pytest
import yaml
from scipy import stats

import lossops
from tests.datasets import cut, score_table, write_shards

SAMPLE = Path(__file__).parents[2] / "shared" / "data" / "survey" / "apiclus1.csv"
needs_sample = pytest.mark.skipif(not SAMPLE.exists(), reason="../shared/data/survey is not there")

MEANS = {
    "overall": (644.169398907104, 23.7790107208869),
    "cname=Los Angeles": (647.266666666666, 17.4230693023744),
    "cname=San Diego": (659.436363636363, 2.31989997506545),
    "cname=Santa Clara": (732.076923076923, 15.9315559043315),
    "stype=E": (648.868055555556, 22.5873130662432),
    "stype=H": (618.571428571429, 38.4026282327055),
    "stype=M": (631.44, 31.9273692889703),
}


def evaluate(folder: Path, frame: pd.DataFrame, shards: int = 3, **settings: Any) -> lossops.Report:
    """Score columns of one dataset; the absolute error of 0 against a label is the label."""
    table = pa.Table.from_pandas(frame, preserve_index=False)
    path = write_shards(folder / "data", cut(table, shards))
    values: dict[str, Any] = {
        "name": "sample",
        "labels": {"path": path, "label": "y"},
        "models": {"m": {"path": path, "prediction": "zero"}},
        "losses": ["mean_absolute_error"],
        "output": str(folder / "reports"),
        **settings,
    }
    return lossops.evaluate(values)


@pytest.fixture
def sample() -> pd.DataFrame:
    frame = pd.read_csv(SAMPLE, usecols=["api00", "enroll", "pw", "dnum", "stype", "cname"])
    return frame.assign(y=frame["api00"].astype(float), zero=0.0)


@needs_sample
def test_means_of_a_cluster_sample(sample: pd.DataFrame, tmp_path: Path) -> None:
    report = evaluate(tmp_path, sample, weight="pw", unit="dnum", slices=["cname", "stype"])
    for name, (mean, error) in MEANS.items():
        row = score_table(report.losses, {"slice": name})
        assert math.isclose(row["mean"], mean, rel_tol=1e-12), name
        assert math.isclose(row["std_error"], error, rel_tol=1e-10), name
    row = score_table(report.losses, {"slice": "overall"})
    assert math.isclose(row["ci_low"], 593.168493261091, rel_tol=1e-12)
    assert math.isclose(row["ci_high"], 695.170304553117, rel_tol=1e-12)
    assert row["units"] == 15


@needs_sample
def test_one_unit_has_no_interval(sample: pd.DataFrame, tmp_path: Path) -> None:
    """Fresno is one district: R says its error is 0."""
    report = evaluate(tmp_path, sample, weight="pw", unit="dnum", slices=["cname"])
    row = score_table(report.losses, {"slice": "cname=Fresno"})
    assert row["units"] == 1
    assert row["std_error"] is row["ci_low"] is row["ci_high"] is None
    assert row["mean"] is not None


@needs_sample
def test_a_ratio_is_the_relative_difference(sample: pd.DataFrame, tmp_path: Path) -> None:
    """R's svyratio of api00 to enroll, by way of the logarithm: SE(log R) = SE(R)/R."""
    frame = sample.assign(y=0.0, one=sample["api00"].astype(float), two=sample["enroll"].astype(float))
    frame = frame.dropna(subset=["two"])
    models = {name: {"path": str(tmp_path / "data"), "prediction": name} for name in ("one", "two")}
    report = evaluate(tmp_path, frame, weight="pw", unit="dnum", models=models, baseline="two")
    row = score_table(report.comparisons, {"slice": "overall"})
    assert math.isclose(1 + row["relative_difference"], 1.17182250144138, rel_tol=1e-12)
    freedom = row["units"] - 1
    width = math.log((1 + row["relative_ci_high"]) / (1 + row["relative_ci_low"])) / 2
    error = width / stats.t.ppf(0.975, freedom) * 1.17182250144138
    assert math.isclose(error, 0.127544610789565, rel_tol=1e-10)


def _forms(values: npt.NDArray[Any], weights: npt.NDArray[Any], inside: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
    """Linearised values of a weighted mean within a group, from the textbook formula."""
    total = weights[inside].sum()
    mean = (weights * values)[inside].sum() / total
    return np.asarray(np.where(inside, weights * (values - mean) / total, 0.0))


def _error(forms: npt.NDArray[np.float64], units: npt.NDArray[Any]) -> float:
    """Between-unit variance of linearised values, with pandas."""
    by_unit = pd.Series(forms).groupby(units).sum()
    return float(np.sqrt(len(by_unit) * by_unit.var(ddof=1)))


@pytest.fixture
def clustered() -> pd.DataFrame:
    random = np.random.default_rng(3)
    rows = 4000
    user = random.integers(0, 300, rows)
    effect = random.normal(size=300)[user]
    return pd.DataFrame(
        {
            "y": 0.0,
            "zero": np.abs(5 + effect + random.normal(size=rows)),
            "other": np.abs(5.1 + effect + random.normal(size=rows)),
            "w": random.lognormal(size=rows),
            "user": [f"user-{one}" for one in user],
            "city": random.choice(["Ulm", "Bonn", "Köln"], rows, p=[0.7, 0.25, 0.05]),
        }
    )


@pytest.mark.parametrize("buckets", [1024, 64])
@pytest.mark.parametrize("weight", [None, "w"])
def test_contrasts_and_comparisons_equal_pandas(
    clustered: pd.DataFrame, tmp_path: Path, weight: str | None, buckets: int
) -> None:
    """Every error from linearised values of each row, summed by unit with pandas."""
    models = {
        name: {"path": str(tmp_path / "data"), "prediction": column}
        for name, column in (("m", "zero"), ("base", "other"))
    }
    settings = {"models": models, "baseline": "base", "weight": weight, "slices": ["city"]}
    report = evaluate(tmp_path, clustered, unit="user", unit_buckets=buckets, **settings)
    units = clustered["user"].to_numpy() if buckets == 1024 else None
    weights = np.ones(len(clustered)) if weight is None else clustered["w"].to_numpy()
    one, other = clustered["zero"].to_numpy(), clustered["other"].to_numpy()
    everywhere = np.ones(len(clustered), dtype=bool)
    for name in ("overall", "city=Ulm", "city=Bonn", "city=Köln"):
        inside = everywhere if name == "overall" else (clustered["city"] == name[5:]).to_numpy()
        row = score_table(report.comparisons, {"slice": name})
        expected = np.average((one - other)[inside], weights=weights[inside])
        assert math.isclose(row["difference"], expected, rel_tol=1e-12)
        assert row["rows"] == inside.sum()
        if units is None:
            assert row["units"] <= buckets
            continue
        error = _error(_forms(one - other, weights, inside), units)
        assert math.isclose(row["std_error"], error, rel_tol=1e-10)
        reach = stats.t.ppf(0.975, len(np.unique(units[inside])) - 1)
        assert math.isclose(row["ci_high"], expected + reach * error, rel_tol=1e-9)
        assert math.isclose(row["p_value"], 2 * stats.t.sf(abs(expected / error), row["units"] - 1), rel_tol=1e-8)
        if name == "overall":
            continue
        mine = _forms(one, weights, inside)
        for against, theirs in (("overall", everywhere), ("complement", ~inside)):
            found = score_table(report.contrasts, {"slice": name, "against": against, "model": "m"})
            assert math.isclose(found["std_error"], _error(mine - _forms(one, weights, theirs), units), rel_tol=1e-9)


def test_buckets_change_an_interval_little(clustered: pd.DataFrame, tmp_path: Path) -> None:
    """Sums over buckets have the same expected squares as sums over units."""
    errors = [
        score_table(evaluate(tmp_path / str(n), clustered, unit="user", unit_buckets=n).losses, {})["std_error"]
        for n in (1024, 299, 100)
    ]
    assert errors[0] == pytest.approx(errors[1], rel=0.2)
    assert errors[0] == pytest.approx(errors[2], rel=0.3)


def test_independent_rows_equal_scipy(clustered: pd.DataFrame, tmp_path: Path) -> None:
    """Without units: the paired t test, and Var_s + Var_o - 2 Cov row by row."""
    models = {
        name: {"path": str(tmp_path / "data"), "prediction": column}
        for name, column in (("m", "zero"), ("base", "other"))
    }
    report = evaluate(tmp_path, clustered, models=models, baseline="base", slices=["city"], confidence=0.9)
    test = stats.ttest_rel(clustered["zero"], clustered["other"])
    row = score_table(report.comparisons, {"slice": "overall"})
    assert math.isclose(row["p_value"], test.pvalue, rel_tol=1e-8)
    ends = test.confidence_interval(0.9)
    assert math.isclose(row["ci_low"], ends.low, rel_tol=1e-9)
    assert math.isclose(row["ci_high"], ends.high, rel_tol=1e-9)
    values, n = clustered["zero"].to_numpy(), len(clustered)
    inside = (clustered["city"] == "Köln").to_numpy()
    one, other = (_forms(values, np.ones(n), group) for group in (inside, np.ones(n, dtype=bool)))
    m = inside.sum()
    variance = m / (m - 1) * (one**2).sum() + n / (n - 1) * (other**2).sum() - 2 * (one * other).sum()
    found = score_table(report.contrasts, {"slice": "city=Köln", "against": "overall", "model": "m"})
    assert math.isclose(found["std_error"], math.sqrt(variance), rel_tol=1e-9)
    adjusted = report.comparisons.to_pandas().query("slice != 'overall'")
    expected = stats.false_discovery_control(adjusted["p_value"], method="by")
    assert np.allclose(adjusted["p_adjusted"], expected, rtol=1e-12)


def test_models_that_are_equal(clustered: pd.DataFrame, tmp_path: Path) -> None:
    """No difference, surely."""
    models = {name: {"path": str(tmp_path / "data"), "prediction": "zero"} for name in ("m", "base")}
    report = evaluate(tmp_path, clustered, models=models, baseline="base", weight="w")
    row = score_table(report.comparisons, {})
    assert (row["difference"], row["std_error"], row["p_value"]) == (0.0, 0.0, 1.0)
    assert (row["ci_low"], row["ci_high"], row["relative_difference"]) == (0.0, 0.0, 0.0)


def test_comparisons_use_rows_that_both_models_have(tmp_path: Path) -> None:
    frame = pd.DataFrame({"y": 0.0, "zero": [1.0, 2.0, np.nan, 4.0], "other": [0.0, np.nan, 1.0, 1.0]})
    models = {
        name: {"path": str(tmp_path / "data"), "prediction": column}
        for name, column in (("m", "zero"), ("base", "other"))
    }
    report = evaluate(tmp_path, frame, models=models, baseline="base")
    row = score_table(report.comparisons, {})
    assert (row["rows"], row["mean"], row["baseline_mean"], row["difference"]) == (2, 2.5, 0.5, 2.0)


DIAMONDS = SAMPLE.parents[1] / "diamonds"


@pytest.mark.skipif(not DIAMONDS.exists(), reason="../shared/data/diamonds is not there")
def test_the_diamonds_candidate_is_better(tmp_path: Path) -> None:
    """The shipped config; difference, error and interval by hand, from pandas and SciPy."""
    config = yaml.safe_load((Path(__file__).parents[1] / "configs" / "diamonds.yaml").read_text())
    config["labels"]["path"] = str(DIAMONDS / "labels")
    for model in config["models"].values():
        model["path"] = str(DIAMONDS / "predictions")
    report = lossops.evaluate({**config, "output": str(tmp_path)})
    joined = pd.read_parquet(DIAMONDS / "predictions").merge(pd.read_parquet(DIAMONDS / "labels"), on="diamond_id")
    for name in ("overall", *(f"cut={value}" for value in joined["cut"].unique())):
        part = joined if name == "overall" else joined[joined["cut"] == name[4:]]
        paired = (part["yhat"] - part["price"]).abs() - (part["yhat_baseline"] - part["price"]).abs()
        row = score_table(report.comparisons, {"slice": name, "loss": "mean_absolute_error"})
        error = paired.std(ddof=1) / np.sqrt(len(paired))
        reach = stats.t.ppf(0.975, len(paired) - 1) * error
        expected = (paired.mean(), error, paired.mean() - reach, paired.mean() + reach)
        found = tuple(row[key] for key in ("difference", "std_error", "ci_low", "ci_high"))
        assert np.allclose(found, expected, rtol=1e-12, atol=0), name
        assert row["ci_high"] < 0
    assert report.passed


@pytest.mark.parametrize("weight", [None, "w"])
@pytest.mark.parametrize("unit", [None, "user"])
def test_rows_without_a_loss_weigh_nothing(weight: str | None, unit: str | None, tmp_path: Path) -> None:
    """Weights and units of rows that are not scored, some for one model only, are in no denominator."""
    random = np.random.default_rng(6)
    rows = 3000
    frame = pd.DataFrame(
        {
            "y": 0.0,
            "zero": np.where(random.random(rows) < 0.2, np.nan, random.random(rows)),
            "other": np.where(random.random(rows) < 0.1, np.nan, random.random(rows)),
            "w": random.choice([0.0, 0.5, 2.0, 3.0], rows),
            "user": random.integers(0, 80, rows),
            "half": random.integers(0, 2, rows),
        }
    )
    frame.loc[frame["half"] == 0, ["zero", "other"]] = random.random((int((frame["half"] == 0).sum()), 2))
    models = {name: {"path": str(tmp_path / "data"), "prediction": name} for name in ("zero", "other")}
    chosen = {name: value for name, value in (("weight", weight), ("unit", unit)) if value}
    report = evaluate(tmp_path, frame, models=models, baseline="other", slices=["half"], **chosen)
    weights = frame["w"] if weight else pd.Series(1.0, index=frame.index)
    units = frame["user"] if unit else pd.Series(frame.index, index=frame.index)
    for name, inside in (
        ("overall", frame["half"] >= 0),
        ("half=0", frame["half"] == 0),
        ("half=1", frame["half"] == 1),
    ):
        for values, table, key in (
            (frame["zero"], report.losses, "mean"),
            (frame["zero"] - frame["other"], report.comparisons, "difference"),
        ):
            scored = inside & values.notna() & (weights > 0)
            place = {"slice": name, "model": "zero"}
            row = score_table(table, place)
            forms = _forms(values.fillna(0).to_numpy(), weights.to_numpy(), scored.to_numpy())
            expected = (
                _error(forms, units.to_numpy())
                if unit
                else math.sqrt((forms**2).sum() * scored.sum() / (scored.sum() - 1))
            )
            assert row[key] == pytest.approx(np.average(values[scored], weights=weights[scored]), rel=1e-12), name
            assert row["std_error"] == pytest.approx(expected, rel=1e-11), name
