"""Whole runs: the tutorial's worked examples, and real data against scikit-learn and NumPy on the joined table."""

from __future__ import annotations

import json
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from sklearn.metrics import log_loss, mean_absolute_error, mean_squared_error

import lossops
from lossops.report import SCHEMAS, losses_schema
from tests.datasets import score_table, write_shards

Config = dict[str, Any]

WORKED = [
    # loss, labels, predictions, published value, tolerance of the printed digits
    ("categorical_crossentropy", [[0, 1, 0], [0, 0, 1]], [[0.05, 0.95, 0], [0.1, 0.8, 0.1]], "keras", 1.176939, 5e-7),
    ("binary_crossentropy", [[0], [1]], [[0.4], [0.6]], "keras", 0.5108256, 5e-8),
    ("binary_crossentropy", [[0], [1]], [[0.4], [0.6]], "exact", 0.5108256, 5e-8),
    ("binary_crossentropy", [[0], [1]], [[0.4], [0.6]], "tf_keras", 0.5108254, 1e-7),
    ("mean_absolute_error", [[0], [0]], [[1], [1]], "keras", 1.0, 0.0),
    ("mean_squared_error", [[0], [1]], [[1], [1]], "keras", 0.5, 0.0),
    ("huber", [[0], [1]], [[0.6], [0.4]], "keras", 0.18, 1e-15),
]


@pytest.mark.parametrize(("loss", "labels", "predictions", "convention", "expected", "tolerance"), WORKED)
@pytest.mark.parametrize("kind", [pa.list_(pa.float64()), pa.list_(pa.float64(), -1)], ids=["list", "scalar or fixed"])
def test_worked_examples(
    loss: str,
    labels: list[list[float]],
    predictions: list[list[float]],
    convention: str,
    expected: float,
    tolerance: float,
    kind: pa.DataType,
    tmp_path: Path,
) -> None:
    width = len(labels[0])
    if pa.types.is_list(kind):
        columns = {"y": pa.array(labels, kind), "p": pa.array(predictions, kind)}
    elif width == 1:
        columns = {"y": pa.array([row[0] for row in labels]), "p": pa.array([row[0] for row in predictions])}
    else:
        fixed = pa.list_(pa.float64(), width)
        columns = {"y": pa.array(labels, fixed), "p": pa.array(predictions, fixed)}
    path = write_shards(tmp_path / "data", [pa.table(columns)])
    report = lossops.evaluate(
        {
            "name": "worked",
            "labels": {"path": path, "label": "y"},
            "models": {"m": {"path": path, "prediction": "p"}},
            "losses": [loss],
            "convention": convention,
            "output": str(tmp_path / "reports"),
        }
    )
    row = score_table(report.losses, {"slice": "overall"})
    assert row["mean"] == pytest.approx(expected, rel=0, abs=tolerance)
    assert row["rows_valid"] == 2


def close(found: float, expected: float) -> None:
    assert found == pytest.approx(expected, rel=1e-12, abs=0)


def compare(row: dict[str, Any], losses: npt.NDArray[np.float64], mean: float | None = None) -> None:
    """Compare a row of losses.parquet with the losses of its slice."""
    assert row["rows"] == row["rows_valid"] == len(losses)
    close(row["mean"], float(np.mean(losses)) if mean is None else mean)
    close(row["std"], float(np.std(losses)))
    assert (row["min"], row["max"]) == pytest.approx((losses.min(), losses.max()), rel=1e-14)
    if len(losses) > 1:
        close(row["std_error"], float(np.std(losses, ddof=1) / np.sqrt(len(losses))))


@pytest.mark.parametrize("name", ["cifar10", "news20"])
def test_class_probabilities_equal_scikit_learn(name: str, shared: Path, tmp_path: Path) -> None:
    root = shared / "data" / name
    report = lossops.evaluate(
        {
            "name": name,
            "labels": {"path": str(root / "labels"), "label": "label"},
            "models": {"m": {"path": str(root / "predictions"), "prediction": "probabilities"}},
            "key": "example_id",
            "losses": ["sparse_categorical_crossentropy"],
            "slices": ["class_name", "human_reviewed", ["class_name", "human_reviewed"]],
            "output": str(tmp_path),
        }
    )
    labels, predictions = (pd.read_parquet(root / side) for side in ("labels", "predictions"))
    joined = labels.merge(predictions, on="example_id", validate="one_to_one")
    assert not (labels["example_id"].to_numpy() == predictions["example_id"].to_numpy()).all(), "orders should differ"
    probabilities = np.stack(joined["probabilities"].to_numpy()).astype(np.float64)
    clipped = np.clip(probabilities / probabilities.sum(axis=1, keepdims=True), 1e-7, 1 - 1e-7)
    losses = -np.log(clipped[np.arange(len(joined)), joined["label"]])
    # scikit-learn wants rows that sum to one, so it scores the true class against everything else
    truth = clipped[np.arange(len(joined)), joined["label"]]
    reference = log_loss(np.ones(len(truth)), np.stack([1 - truth, truth], axis=1), labels=[0, 1])
    compare(score_table(report.losses, {"slice": "overall"}), losses, reference)
    compare_slices(report.losses, joined, losses, ["class_name"])
    compare_slices(report.losses, joined, losses, ["human_reviewed"])
    compare_slices(report.losses, joined, losses, ["class_name", "human_reviewed"])
    assert report.run["alignment"][0]["mode"] == "broadcast"


def compare_slices(found: pa.Table, joined: pd.DataFrame, losses: npt.NDArray[np.float64], columns: list[str]) -> None:
    rows = [row for row in found.to_pylist() if row["slice_columns"] == columns]
    groups = joined.groupby(columns, observed=True).indices
    assert len(rows) == len(groups)
    for values, places in groups.items():
        parts = values if isinstance(values, tuple) else (values,)
        texts = [str(part).lower() if isinstance(part, bool | np.bool_) else str(part) for part in parts]
        label = " & ".join(f"{column}={text}" for column, text in zip(columns, texts, strict=True))
        row = next(row for row in rows if row["slice"] == label)
        assert row["slice_values"] == texts
        compare(row, losses[places])
    assert sum(row["rows"] for row in rows) == len(joined)


def test_diamonds_equal_scikit_learn(shared: Path, tmp_path: Path) -> None:
    root = shared / "data" / "diamonds"
    report = lossops.evaluate(
        {
            "name": "diamonds",
            "labels": {"path": str(root / "labels"), "label": "price"},
            "models": {
                model: {"path": str(root / "predictions"), "prediction": column}
                for model, column in (("candidate", "yhat"), ("baseline", "yhat_baseline"))
            },
            "key": "diamond_id",
            "losses": ["mean_absolute_error", "mean_squared_error", {"loss": "huber", "delta": 100.0}],
            "slices": ["cut", ["cut", "color"], {"column": "carat", "bins": [0.5, 1.0, 2.0]}],
            "output": str(tmp_path),
        }
    )
    labels, predictions = (pd.read_parquet(root / side) for side in ("labels", "predictions"))
    joined = labels.merge(predictions, on="diamond_id", validate="one_to_one")
    for model, column in (("candidate", "yhat"), ("baseline", "yhat_baseline")):
        residual = (joined[column] - joined["price"]).to_numpy()
        absolute = np.abs(residual)
        huber = np.where(absolute <= 100, residual**2 / 2, 100 * absolute - 5000)
        for loss, losses, mean in (
            ("mean_absolute_error", absolute, mean_absolute_error(joined["price"], joined[column])),
            ("mean_squared_error", residual**2, mean_squared_error(joined["price"], joined[column])),
            ("huber", huber, float(huber.mean())),
        ):
            table = report.losses.filter((pa.compute.field("model") == model) & (pa.compute.field("loss") == loss))
            compare(score_table(table, {"slice": "overall"}), losses, mean)
            compare_slices(table, joined, losses, ["cut"])
            compare_slices(table, joined, losses, ["cut", "color"])
            edges = [-np.inf, 0.5, 1.0, 2.0, np.inf]
            for low, high, text in zip(
                edges, edges[1:], ["(-inf, 0.5)", "[0.5, 1)", "[1, 2)", "[2, inf)"], strict=False
            ):
                inside = ((joined["carat"] >= low) & (joined["carat"] < high)).to_numpy()
                compare(score_table(table, {"slice": f"carat={text}"}), losses[inside])


def test_report_holds_what_its_schemas_promise(tmp_path: Path) -> None:
    data = write_shards(
        tmp_path / "data", [pa.table({"y": [1.0, 2.0], "p": [1.5, 2.0]}), pa.table({"y": [0.0], "p": [0.0]})]
    )
    report = lossops.evaluate(
        {
            "name": "small",
            "labels": {"path": data, "label": "y"},
            "models": {"m": {"path": data, "prediction": "p"}},
            "losses": ["mean_absolute_error"],
            "output": str(tmp_path / "reports"),
        }
    )
    expected = {"report.html", "run.json", *(f"{name}.parquet" for name in SCHEMAS)}
    assert {file.name for file in Path(report.path).iterdir()} == expected
    for name, schema in {**SCHEMAS, "losses": losses_schema([0.5, 0.9, 0.99])}.items():
        stored = pq.read_table(Path(report.path) / f"{name}.parquet")
        assert stored.schema.equals(schema, check_metadata=True)
        assert stored.equals(getattr(report, name))
        assert all(field.metadata[b"meaning"] for field in stored.schema)
    run = json.loads((Path(report.path) / "run.json").read_text())
    assert run["rows"] == {"labels": 3, "predictions": 3}
    assert lossops.RunConfig.model_validate(run["config"]).name == "small"
    assert lossops.open_report(report.path).losses.equals(report.losses)


def test_runs_never_share_a_folder(tmp_path: Path) -> None:
    data = write_shards(tmp_path / "data", [pa.table({"y": [1.0], "p": [1.5]})])
    config: Config = {
        "name": "twice",
        "labels": {"path": data, "label": "y"},
        "models": {"m": {"path": data, "prediction": "p"}},
        "losses": ["mean_absolute_error"],
        "output": str(tmp_path / "reports"),
    }
    assert lossops.evaluate(config).path != lossops.evaluate(config).path


CLASSES = {"cat": [0.5, 0.1, 0.25], "dog": [0.25, 0.2, 0.5], "owl": [0.25, 0.7, 0.25]}
ROWS = [list(row) for row in zip(*CLASSES.values(), strict=True)]
STORED = {
    "list": pa.array(ROWS, pa.list_(pa.float32())),
    "large_list": pa.array(ROWS, pa.large_list(pa.float64())),
    "fixed_size_list": pa.array(ROWS, pa.list_(pa.float64(), 3)),
    "float16": pa.array([[np.float16(value) for value in row] for row in ROWS], pa.list_(pa.float16(), 3)),
    "struct": pa.StructArray.from_arrays([pa.array(values) for values in CLASSES.values()], list(CLASSES)),
}


@pytest.mark.parametrize("kind", [*STORED, "columns"])
def test_class_scores_in_every_storage(kind: str, tmp_path: Path) -> None:
    columns = {"y": pa.array([0, 2, 1], pa.int8())}
    columns |= (
        {name: pa.array(values) for name, values in CLASSES.items()} if kind == "columns" else {"p": STORED[kind]}
    )
    data = write_shards(tmp_path / "data", [pa.table(columns)], row_group_size=2)
    report = lossops.evaluate(
        {
            "name": "storage",
            "labels": {"path": data, "label": "y"},
            "models": {"m": {"path": data, "prediction": list(CLASSES) if kind == "columns" else "p"}},
            "losses": ["sparse_categorical_crossentropy"],
            "convention": "exact",
            "output": str(tmp_path / "reports"),
        }
    )
    rounding = 5e-4 if kind == "float16" else 1e-7  # of 0.7 in the storage type
    mean = score_table(report.losses, {"slice": "overall"})["mean"]
    assert mean == pytest.approx(-np.mean(np.log([0.5, 0.7, 0.5])), rel=rounding)


@pytest.mark.parametrize(
    ("mine", "theirs"),
    [
        ([pa.int8()], [pa.uint64()]),
        ([pa.string()], [pa.dictionary(pa.int8(), pa.large_string())]),
        ([pa.int32(), pa.string()], [pa.int64(), pa.large_string()]),
        ([pa.timestamp("s")], [pa.timestamp("ns")]),
        ([pa.date32(), pa.decimal128(9, 2)], [pa.date64(), pa.decimal128(12, 4)]),
    ],
    ids=str,
)
def test_keys_of_any_kind_join(mine: list[pa.DataType], theirs: list[pa.DataType], tmp_path: Path) -> None:
    """Labels in reverse order; every pair of rows has the loss |2i - i| = i."""
    count = 50

    def columns(kinds: list[pa.DataType], order: list[int]) -> dict[str, pa.Array]:
        return {f"k{n}": key_column(kind, order) for n, kind in enumerate(kinds)}

    forward, backward = list(range(count)), list(reversed(range(count)))
    predictions = pa.table({**columns(mine, forward), "p": [2.0 * i for i in forward]})
    labels = pa.table({**columns(theirs, backward), "y": [1.0 * i for i in backward]})
    report = lossops.evaluate(
        {
            "name": "keys",
            "labels": {"path": write_shards(tmp_path / "labels", [labels]), "label": "y"},
            "models": {"m": {"path": write_shards(tmp_path / "predictions", [predictions]), "prediction": "p"}},
            "key": [f"k{n}" for n in range(len(mine))],
            "losses": ["mean_absolute_error"],
            "output": str(tmp_path / "reports"),
        }
    )
    row = score_table(report.losses, {"slice": "overall"})
    assert (row["rows"], row["sum"], row["max"]) == (count, sum(range(count)), count - 1)


def key_column(kind: pa.DataType, order: list[int]) -> pa.Array:
    plain = kind.value_type if pa.types.is_dictionary(kind) else kind
    if pa.types.is_string(plain) or pa.types.is_large_string(plain):
        column = pa.array([f"key-{i:03d}" for i in order], plain)
        return column.dictionary_encode() if pa.types.is_dictionary(kind) else column
    if pa.types.is_decimal(kind):
        return pa.array([Decimal(i) / 4 for i in order], kind)
    if pa.types.is_date(kind):
        return pa.array(order, pa.int32()).cast(pa.date32()).cast(kind)
    if pa.types.is_timestamp(kind):
        return pa.array(order, pa.timestamp("s")).cast(kind)
    return pa.array(order, pa.int64()).cast(kind)
