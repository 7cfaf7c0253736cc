"""No row disappears: every row that is read ends in one bucket, and the mean is that of the clean rows."""

from __future__ import annotations

import math
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

import lossops
from lossops.errors import InputError, RunError
from lossops.ledger import Unaligned, make_ledger
from tests.datasets import cut, score_table, write_shards

Row = dict[str, Any]
BASE: Row = {"y": 1.0, "p": 0.75, "w": 2.0}

# One dirty value each: what is changed in a clean row, and where the row ends.
DIRTY: list[tuple[str, Row, str]] = [
    ("binary_crossentropy", {"w": 0.0}, "weight_zero"),
    ("binary_crossentropy", {"w": -1.0}, "weight_negative"),
    ("binary_crossentropy", {"w": math.nan}, "weight_nan"),
    ("binary_crossentropy", {"w": math.inf}, "weight_infinite"),
    ("binary_crossentropy", {"w": None}, "weight_null"),
    ("binary_crossentropy", {"y": None}, "label_null"),
    ("binary_crossentropy", {"y": math.nan}, "label_nan"),
    ("binary_crossentropy", {"y": -math.inf}, "label_infinite"),
    ("binary_crossentropy", {"y": 1.5}, "label_outside_domain"),
    ("binary_crossentropy", {"p": None}, "prediction_null"),
    ("binary_crossentropy", {"p": math.nan}, "prediction_nan"),
    ("binary_crossentropy", {"p": math.inf}, "prediction_infinite"),
    ("binary_crossentropy", {"p": 1.0000001}, "prediction_outside_domain"),
]
BASE_CLASSES: Row = {"y": 1, "p": [0.25, 0.5, 0.25], "w": 2.0}
DIRTY_CLASSES: list[tuple[str, Row, str]] = [
    ("sparse_categorical_crossentropy", {"y": 3}, "label_outside_domain"),
    ("sparse_categorical_crossentropy", {"y": -1}, "label_outside_domain"),
    ("sparse_categorical_crossentropy", {"y": 0.5}, "label_not_integer"),
    ("sparse_categorical_crossentropy", {"y": 9}, "label_ignored"),
    ("sparse_categorical_crossentropy", {"p": [0.5, 0.5]}, "prediction_wrong_length"),
    ("sparse_categorical_crossentropy", {"p": []}, "prediction_wrong_length"),
    ("sparse_categorical_crossentropy", {"p": None}, "prediction_null"),
    ("sparse_categorical_crossentropy", {"p": [0.5, None, 0.5]}, "prediction_null"),
    ("sparse_categorical_crossentropy", {"p": [0.5, math.nan, 0.5]}, "prediction_nan"),
    ("sparse_categorical_crossentropy", {"p": [0.0, 0.0, 0.0]}, "prediction_sum_zero"),
    ("sparse_categorical_crossentropy", {"p": [0.5, -0.5, 1.0]}, "prediction_outside_domain"),
]
BASE_ONE_HOT: Row = {"y": [0.0, 1.0, 0.0], "p": [0.25, 0.5, 0.25], "w": 2.0}
DIRTY_ONE_HOT: list[tuple[str, Row, str]] = [
    ("categorical_crossentropy", {"y": [0.0, 0.0, 0.0]}, "label_sum_not_one"),
    ("categorical_crossentropy", {"y": [1.0, 1.0, 0.0]}, "label_sum_not_one"),
    ("categorical_crossentropy", {"y": [1.0]}, "label_wrong_length"),
    ("categorical_crossentropy", {"y": [1.0, None, 0.0]}, "label_null"),
    ("categorical_crossentropy", {"y": [2.0, -1.0, 0.0]}, "label_outside_domain"),
]


def config(folder: Path, predictions: str, labels: str, loss: str, **settings: Any) -> Row:
    parameters = {"ignore_class": 9} if loss == "sparse_categorical_crossentropy" else {}
    return {
        "name": "dirty",
        "labels": {"path": labels, "label": "y"},
        "models": {"m": {"path": predictions, "prediction": "p"}},
        "weight": "w",
        "losses": [{"loss": loss, **parameters}],
        "output": str(folder / "reports"),
        **settings,
    }


def buckets(report: lossops.Report, dataset: str) -> dict[str, int]:
    return {row["reason"]: row["rows"] for row in report.ledger.to_pylist() if row["dataset"] == dataset}


@pytest.mark.parametrize(
    ("base", "loss", "change", "reason"),
    [
        *((BASE, *case) for case in DIRTY),
        *((BASE_CLASSES, *case) for case in DIRTY_CLASSES),
        *((BASE_ONE_HOT, *case) for case in DIRTY_ONE_HOT),
    ],
)
def test_each_reason(base: Row, loss: str, change: Row, reason: str, tmp_path: Path) -> None:
    """Three clean rows and one dirty one: the dirty one has its own bucket and does not touch the mean."""
    rows = [base, {**base, "w": 1.0}, {**base, **change}, base]
    types = {
        "y": pa.list_(pa.float64()) if isinstance(base["y"], list) else pa.float64(),
        "p": pa.list_(pa.float64()) if isinstance(base["p"], list) else pa.float64(),
        "w": pa.float64(),
    }
    table = pa.table({name: pa.array([row[name] for row in rows], kind) for name, kind in types.items()})
    data = write_shards(tmp_path / "data", cut(table, 2))
    report = lossops.evaluate(config(tmp_path, data, data, loss))
    assert buckets(report, "predictions") == buckets(report, "labels") == {"scored": 3, reason: 1}
    overall = score_table(report.losses, {"slice": "overall"})
    truth = 0.75 if loss == "binary_crossentropy" else 0.5
    assert overall["mean"] == pytest.approx(-math.log(truth), rel=1e-15)
    assert (overall["rows"], overall["rows_valid"], overall["weight_sum"]) == (4, 3, 5.0)


def dirty_sides(seed: int) -> tuple[list[Row], list[Row]]:
    """Predictions and labels with missing, extra, duplicate and null keys and values of every kind, in random order."""
    random = np.random.default_rng(seed)

    def value(good: float, *bad: float | None) -> float | None:
        place = int(random.integers(0, 12 * len(bad)))
        return bad[place] if place < len(bad) else good

    def key() -> int | None:
        return None if random.random() < 0.02 else int(random.integers(0, 900))

    predictions = [
        {"id": key(), "p": value(float(random.random()), math.nan, math.inf, -0.25, None)} for _ in range(500)
    ]
    labels = [
        {
            "id": key(),
            "y": value(float(random.integers(0, 2)), 2.0, None, math.nan),
            "w": value(float(random.random()), 0.0, -1.0, None),
            "city": ["Ulm", "Bonn", None][random.integers(0, 3)],
        }
        for _ in range(600)
    ]
    return predictions, labels


def expected_buckets(
    predictions: list[Row], labels: list[Row]
) -> tuple[Counter[str], Counter[str], list[tuple[Row, Row]]]:
    """Brute force: what becomes of each row, and the pairs that are scored."""
    asked = Counter(row["id"] for row in predictions if row["id"] is not None)
    held = Counter(row["id"] for row in labels if row["id"] is not None)
    left, right, pairs = Counter[str](), Counter[str](), []
    for row in predictions:
        if row["id"] is None:
            left["null_key"] += 1
        elif not held[row["id"]]:
            left["no_label"] += 1
        elif held[row["id"]] > 1 or asked[row["id"]] > 1:
            left["duplicate_key"] += 1
        else:
            pairs.append((row, next(label for label in labels if label["id"] == row["id"])))
    for label in labels:
        if label["id"] is None:
            right["null_key"] += 1
        elif held[label["id"]] > 1 or asked[label["id"]] > 1:
            right["duplicate_key"] += 1
        elif not asked[label["id"]]:
            right["no_prediction"] += 1
    return left, right, pairs


def reason_of(row: Row, label: Row) -> str:
    """The bucket of an aligned row, by the documented order: weight, label, prediction."""
    weight, truth, prediction = label["w"], label["y"], row["p"]
    if weight is None or weight <= 0:
        return "weight_null" if weight is None else "weight_zero" if weight == 0 else "weight_negative"
    if truth is None or math.isnan(truth):
        return "label_null" if truth is None else "label_nan"
    if not 0 <= truth <= 1:
        return "label_outside_domain"
    if prediction is None:
        return "prediction_null"
    if math.isnan(prediction) or math.isinf(prediction):
        return "prediction_nan" if math.isnan(prediction) else "prediction_infinite"
    return "scored" if 0 <= prediction <= 1 else "prediction_outside_domain"


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("shards", [(1, 1), (7, 3)])
def test_dirty_data_against_brute_force(seed: int, shards: tuple[int, int], tmp_path: Path) -> None:
    predictions, labels = dirty_sides(seed)
    left, right, pairs = expected_buckets(predictions, labels)
    reasons = [reason_of(row, label) for row, label in pairs]
    types = (
        [("id", pa.int32()), ("p", pa.float32())],
        [("id", pa.int64()), ("y", pa.float64()), ("w", pa.float64()), ("city", pa.string())],
    )
    paths = [
        write_shards(tmp_path / name, cut(pa.Table.from_pylist(rows, pa.schema(kinds)), count), 50)
        for name, rows, kinds, count in zip(("p", "l"), (predictions, labels), types, shards, strict=True)
    ]
    settings = {"key": "id", "slices": ["city"], "convention": "exact"}
    report = lossops.evaluate(config(tmp_path, *paths, "binary_crossentropy", **settings))
    aligned = Counter(reasons)
    for dataset, unaligned, rows in (("predictions", left, predictions), ("labels", right, labels)):
        assert buckets(report, dataset) == {"scored": 0, **unaligned, **aligned}
        assert sum(buckets(report, dataset).values()) == len(rows)
    for city in ("Ulm", "Bonn", None, "overall"):
        chosen = [
            (float(np.float32(row["p"])), label["y"], label["w"])
            for (row, label), reason in zip(pairs, reasons, strict=True)
            if reason == "scored" and city in (label["city"], "overall")
        ]
        slice_name = "overall" if city == "overall" else "city is null" if city is None else f"city={city}"
        found = score_table(report.losses, {"slice": slice_name})
        weights = [weight for *_, weight in chosen]
        losses = [-math.log(p) if y == 1 else -math.log1p(-p) for p, y, _ in chosen]
        assert found["rows_valid"] == len(chosen)
        assert found["mean"] == pytest.approx(np.average(losses, weights=weights), rel=1e-13)


def test_duplicates_in_step_on_both_sides_are_found(tmp_path: Path) -> None:
    """Rows that pair by position although a key repeats: no plan may score them, whatever it costs to notice."""
    keys = [1, 2, 3, 3, 4, 5]
    predictions = pa.table({"id": keys, "p": [0.5] * 6})
    labels = pa.table({"id": keys, "y": [1.0] * 6, "w": [1.0] * 6})
    paths = [write_shards(tmp_path / name, cut(table, 2)) for name, table in (("p", predictions), ("l", labels))]
    report = lossops.evaluate(config(tmp_path, *paths, "binary_crossentropy", key="id"))
    assert buckets(report, "predictions") == {"scored": 4, "duplicate_key": 2}


def test_null_keys_in_step_are_not_partners(tmp_path: Path) -> None:
    keys = pa.array([1, None, 3], pa.int64())
    predictions = pa.table({"id": keys, "p": [0.5] * 3})
    labels = pa.table({"id": keys, "y": [1.0] * 3, "w": [1.0] * 3})
    paths = [write_shards(tmp_path / name, [table]) for name, table in (("p", predictions), ("l", labels))]
    report = lossops.evaluate(config(tmp_path, *paths, "binary_crossentropy", key="id"))
    assert report.run["alignment"][0]["mode"] == "position"
    assert buckets(report, "predictions") == buckets(report, "labels") == {"scored": 2, "null_key": 1}


def test_fail_on_invalid_names_the_shard_and_the_reason(tmp_path: Path) -> None:
    table = pa.table({"y": [1.0, 1.0], "p": [0.5, math.nan], "w": [1.0, 1.0]})
    data = write_shards(tmp_path / "data", [table])
    line = r"part-00000\.parquet: 1 rows of binary_crossentropy .*prediction_nan.* on_invalid"
    with pytest.raises(InputError, match=line):
        lossops.evaluate(config(tmp_path, data, data, "binary_crossentropy", on_invalid="fail"))
    assert not (tmp_path / "reports").exists()


def test_weight_zero_is_a_choice_not_a_fault(tmp_path: Path) -> None:
    data = write_shards(tmp_path / "data", [pa.table({"y": [1.0, 1.0], "p": [0.5, math.nan], "w": [1.0, 0.0]})])
    report = lossops.evaluate(config(tmp_path, data, data, "binary_crossentropy", on_invalid="fail"))
    assert buckets(report, "predictions") == {"scored": 1, "weight_zero": 1}


def test_no_valid_row_gives_nulls(tmp_path: Path) -> None:
    data = write_shards(tmp_path / "data", [pa.table({"y": [1.0], "p": [math.nan], "w": [1.0]})])
    report = lossops.evaluate(config(tmp_path, data, data, "binary_crossentropy"))
    row = score_table(report.losses, {"slice": "overall"})
    numbers = ("mean", "sum", "std", "std_error", "ci_low", "ci_high", "min", "max")
    assert [row[name] for name in numbers] == [None] * len(numbers)
    assert (row["rows"], row["rows_valid"]) == (1, 0)


def test_a_ledger_that_does_not_add_up_is_refused() -> None:
    aligned = {("m", "l"): np.zeros(40, dtype=np.int64)}
    with pytest.raises(RunError, match="0 rows accounted for, 3 read"):
        make_ledger([Unaligned("predictions", 3, {})], [("m", "l")], aligned)
