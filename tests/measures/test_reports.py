"""Measures through `lossops.evaluate`: real Parquet, slices, shards, threads."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from sklearn import metrics

import lossops
import lossops.errors
from lossops import bins
from tests.datasets import cut, score_table, write_shards

ROWS = 6000
LOSSES: list[Any] = [
    "mean_absolute_error",
    "root_mean_squared_error",
    "r2",
    "median_absolute_error",
    {"loss": "d2_pinball", "alpha": 0.9},
    {"loss": "d2_tweedie", "power": 1.5},
    {"loss": "expected_calibration_error", "prediction": "q", "label": "clicked"},
    {"loss": "log_loss_reliability", "prediction": "q", "label": "clicked"},
    {"loss": "multiclass_d2_brier", "prediction": "scores", "label": "kind"},
]


@pytest.fixture(scope="module")
def tables() -> tuple[pa.Table, pa.Table]:
    random = np.random.default_rng(11)
    truth = random.lognormal(size=ROWS)
    scores = random.dirichlet(np.ones(3), ROWS).astype(np.float32)
    predictions = pa.table(
        {
            "id": np.arange(ROWS),
            "p": np.where(random.random(ROWS) < 0.02, np.nan, truth * random.lognormal(sigma=0.3, size=ROWS)),
            "q": random.random(ROWS).astype(np.float32),
            "scores": pa.FixedSizeListArray.from_arrays(pa.array(scores.ravel()), 3),
        }
    )
    labels = pa.table(
        {
            "id": np.arange(ROWS),
            "y": truth,
            "clicked": (random.random(ROWS) < 0.3).astype(np.int8),
            "kind": random.integers(0, 3, ROWS),
            "weight": random.random(ROWS) * 3,
            "city": random.choice(["Ulm", "Bonn", "Köln"], ROWS),
            "age": random.integers(0, 90, ROWS),
        }
    )
    return predictions, labels


def run(folder: Path, predictions: list[pa.Table], labels: list[pa.Table], **settings: Any) -> lossops.Report:
    return lossops.evaluate(
        {
            "name": "measures",
            "labels": {"path": write_shards(folder / "labels", labels), "label": "y"},
            "models": {"m": {"path": write_shards(folder / "predictions", predictions, 700), "prediction": "p"}},
            "key": "id",
            "weight": "weight",
            "losses": LOSSES,
            "slices": ["city", {"column": "age", "bins": [18, 65]}, ["city", {"column": "age", "bins": [18, 65]}]],
            "output": str(folder / "reports"),
            "convention": "sklearn",
            **settings,
        }
    )


def contents(report: lossops.Report) -> dict[str, bytes]:
    return {name: (Path(report.path) / f"{name}.parquet").read_bytes() for name in ("losses", "ledger")}


@pytest.fixture(scope="module")
def whole(tables: tuple[pa.Table, pa.Table], tmp_path_factory: pytest.TempPathFactory) -> lossops.Report:
    return run(tmp_path_factory.mktemp("whole"), [tables[0]], [tables[1]], cluster={"threads": 1})


def test_values_and_columns(tables: tuple[pa.Table, pa.Table], whole: lossops.Report) -> None:
    predictions, labels = (
        {name: table[name].to_numpy() for name in table.column_names if name != "scores"} for table in tables
    )
    for where, chosen in (("overall", np.full(ROWS, True)), ("city=Ulm", labels["city"] == "Ulm")):
        valid = chosen & ~np.isnan(predictions["p"]) & (labels["weight"] > 0)
        y, p, w = labels["y"][valid], predictions["p"][valid], labels["weight"][valid]
        for name, theirs in (
            ("r2", metrics.r2_score),
            ("root_mean_squared_error", metrics.root_mean_squared_error),
            ("median_absolute_error", metrics.median_absolute_error),
        ):
            row = score_table(whole.losses, {"loss": name, "slice": where})
            assert row["kind"] == "measure"
            assert row["mean"] == pytest.approx(theirs(y, p, sample_weight=w), rel=1e-13)
            assert (row["rows"], row["rows_valid"]) == (chosen.sum(), valid.sum())
            assert row["weight_sum"] == pytest.approx(w.sum(), rel=1e-14)
            empty = ("sum", "std", "std_error", "ci_low", "ci_high", "min", "max")
            assert [row[column] for column in empty] == [None] * len(empty)
    assert score_table(whole.losses, {"loss": "mean_absolute_error", "slice": "overall"})["kind"] == "loss"


def test_the_ledger_counts_rows_for_measures(tables: tuple[pa.Table, pa.Table], whole: lossops.Report) -> None:
    bad = int(np.isnan(tables[0]["p"].to_numpy()).sum())
    for loss in ("r2", "mean_absolute_error"):
        row = {"dataset": "predictions", "loss": loss, "reason": "prediction_nan"}
        assert score_table(whole.ledger, row)["rows"] == bad


@pytest.mark.parametrize("shards", [3, 40])
@pytest.mark.parametrize("threads", [1, 4])
def test_the_same_bytes_from_other_shards_and_threads(
    shards: int, threads: int, tables: tuple[pa.Table, pa.Table], whole: lossops.Report, tmp_path: Path
) -> None:
    places = pa.array(np.random.default_rng(shards).permutation(ROWS))
    shuffled = tables[0].take(places)
    found = run(tmp_path, cut(shuffled, shards), cut(tables[1], 2), cluster={"threads": threads})
    assert contents(found) == contents(whole)


def test_the_same_bytes_where_values_are_too_many(
    tables: tuple[pa.Table, pa.Table], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bins, "MAX_BINS", 300)
    one = run(tmp_path / "one", [tables[0]], [tables[1]])
    many = run(tmp_path / "many", cut(tables[0], 25)[::-1], cut(tables[1], 4), cluster={"threads": 3})
    assert contents(one) == contents(many)


def test_a_denominator_is_refused(tables: tuple[pa.Table, pa.Table], tmp_path: Path) -> None:
    with pytest.raises(lossops.errors.InputError, match="denominator: rows; allowed: leave it out for a measure"):
        run(tmp_path, [tables[0]], [tables[1]], losses=[{"loss": "r2", "denominator": "rows"}])
