"""The hardest rows against a full sort with pandas, ties included, in every way of pairing rows."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import lossops
from lossops.evaluation import publish_scores, utc_now
from lossops.pairing import Budget
from lossops.report import Report
from tests.datasets import cut, write_shards
from tests.here import score_here

ROWS, LIMIT = 3000, 7


def _keys(kind: str, random: np.random.Generator) -> dict[str, Any]:
    numbers = random.permutation(ROWS) - 1000
    if kind == "text":
        return {"id": [f"a-long-common-beginning-{number:06d}" for number in numbers + 1000]}
    if kind == "two":
        return {"id": numbers // 7, "part": [f"part {number}" for number in numbers % 7]}
    if kind == "uint64":
        return {"id": numbers.astype(np.int64).view(np.uint64)}
    return {"id": numbers}


@pytest.fixture(params=["int64", "text", "two", "uint64"])
def frame(request: pytest.FixtureRequest) -> pd.DataFrame:
    """Losses of 0 and 1, so that nearly everything ties, and others of many sizes."""
    random = np.random.default_rng(4)
    return pd.DataFrame(
        {
            **_keys(request.param, random),
            "y": random.integers(0, 3, ROWS),
            "p": random.integers(0, 3, ROWS).astype(float),
            "q": np.where(random.random(ROWS) < 0.01, np.nan, random.lognormal(sigma=2, size=ROWS)),
            "city": random.choice(["Ulm", "Bonn", None], ROWS, p=[0.9, 0.05, 0.05]),
        }
    )


def _values(folder: Path, frame: pd.DataFrame, shards: int, *, key: list[str] | None) -> dict[str, Any]:
    names = [name for name in ("id", "part") if name in frame]
    predictions = pa.Table.from_pandas(frame[[*names, "p", "q"]], preserve_index=False)
    shuffled = frame.sample(frac=1, random_state=1) if key else frame
    labels = pa.Table.from_pandas(shuffled[[*names, "y", "city"]], preserve_index=False)
    return {
        "name": "hard",
        "labels": {"path": write_shards(folder / "labels", cut(labels, shards)), "label": "y"},
        "models": {"m": {"path": write_shards(folder / "predictions", cut(predictions, shards)), "prediction": "p"}},
        "key": key,
        "losses": [
            {"loss": "lq_loss", "q": 1.0, "name": "whole"},
            {"loss": "mean_squared_error", "prediction": "q", "name": "wide"},
        ],
        "slices": ["city"],
        "hardest": LIMIT,
        "output": str(folder / "reports"),
    }


def _expected(frame: pd.DataFrame, names: list[str]) -> dict[tuple[str, str], list[Any]]:
    """Keys and losses by a full sort of each slice."""
    found = {}
    losses = {"whole": (frame["p"] - frame["y"]).abs(), "wide": (frame["q"] - frame["y"]) ** 2}
    cities = {"overall": frame.index, "city is null": frame.index[frame["city"].isna()]}
    cities |= {f"city={city}": frame.index[frame["city"] == city] for city in ("Ulm", "Bonn")}
    for loss, values in losses.items():
        for city, rows in cities.items():
            part = frame.loc[rows].assign(loss=values).dropna(subset=["loss"])
            part = part.sort_values(["loss", *names], ascending=[False, *[True] * len(names)]).head(LIMIT)
            found[loss, city] = [list(row) for row in part[[*names, "loss"]].itertuples(index=False)]
    return found


def _found(report: Report) -> dict[tuple[str, str], list[Any]]:
    found: dict[tuple[str, str], list[Any]] = {}
    for row in report.hardest.to_pylist():
        rows = found.setdefault((row["loss"], row["slice"]), [])
        assert row["rank"] == len(rows) + 1
        key = row["key"]
        rows.append([*(json.loads(key) if isinstance(key, str) and key.startswith("[") else [key]), row["loss_value"]])
    return found


def _check_places(report: Report, loss: str, prediction: str, label: dict[Any, Any], names: list[str]) -> None:
    """Every listed row can be opened in its file and has what the report says."""
    for row in report.hardest.to_pylist():
        if row["loss"] == loss:
            there = pq.read_table(row["shard"]).slice(row["row"], 1).to_pylist()[0]
            assert float(row["prediction"]) == there[prediction]
            assert float(row["label"]) == label[tuple(there[name] for name in names)]


@pytest.mark.parametrize("mode", ["broadcast", "spill"])
@pytest.mark.parametrize("shards", [1, 5])
def test_top_rows_equal_a_full_sort(frame: pd.DataFrame, tmp_path: Path, mode: Any, shards: int) -> None:
    names = [name for name in ("id", "part") if name in frame]
    budget = Budget(1 << 19, 1) if mode == "spill" else None
    scores = score_here(_values(tmp_path, frame, shards, key=names), mode, budget)
    report = publish_scores(scores, utc_now())
    assert _found(report) == _expected(frame, names)
    labels = {tuple(row[name] for name in names): row["y"] for row in frame.to_dict("records")}
    _check_places(report, "whole", "p", labels, names)
    _check_places(report, "wide", "q", labels, names)


def test_pairs_by_position_without_a_key(frame: pd.DataFrame, tmp_path: Path) -> None:
    """Without a key equal losses are told apart by where they are; losses and places still fit."""
    report = lossops.evaluate(_values(tmp_path, frame, 4, key=None))
    expected = _expected(frame, [name for name in ("id", "part") if name in frame])
    assert set(report.hardest["key"].to_pylist()) == {None}
    for place, rows in _found(report).items():
        assert [row[-1] for row in rows] == [row[-1] for row in expected[place]]
    shards = sorted(Path(tmp_path / "predictions").iterdir())
    starts = np.cumsum([0, *(pq.read_metadata(shard).num_rows for shard in shards)])
    for row in report.hardest.to_pylist():
        number = starts[shards.index(Path(row["shard"]))] + row["row"]
        assert float(row["label"]) == frame["y"][number]


def test_labels_that_are_names(tmp_path: Path) -> None:
    table = pa.table(
        {
            "id": [1, 2, 3],
            "kind": ["cat", "dog", "eel"],
            "p": pa.FixedSizeListArray.from_arrays(pa.array([0.5, 0.25, 0.25, 0.5, 0.25, 0.25, 0.0, 0.0, 1.0]), 3),
        }
    )
    path = write_shards(tmp_path / "data", [table])
    report = lossops.evaluate(
        {
            "name": "names",
            "labels": {"path": path, "label": "kind"},
            "models": {"m": {"path": path, "prediction": "p"}},
            "key": "id",
            "losses": [{"loss": "sparse_categorical_crossentropy", "classes": ["cat", "dog", "eel"]}],
            "hardest": 2,
            "output": str(tmp_path / "reports"),
        }
    )
    rows = report.hardest.select(["key", "label", "prediction", "row"]).to_pylist()
    assert rows == [
        {"key": 2, "label": "dog", "prediction": "[0.5, 0.25, 0.25]", "row": 1},
        {"key": 1, "label": "cat", "prediction": "[0.5, 0.25, 0.25]", "row": 0},
    ]


def test_none_are_listed(frame: pd.DataFrame, tmp_path: Path) -> None:
    names = [name for name in ("id", "part") if name in frame]
    report = lossops.evaluate({**_values(tmp_path, frame, 2, key=names), "hardest": 0})
    assert report.hardest.num_rows == 0
