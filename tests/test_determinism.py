"""The same bytes however the data is cut: workers, threads, processes, shards, row order, row groups."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pytest

import lossops
from tests.datasets import cut, write_shards

ROWS = 20_000
Bytes = dict[str, bytes]
TABLES = ("losses", "comparisons", "contrasts", "discovered", "calibration", "histograms", "ledger")


@pytest.fixture(scope="module")
def tables() -> tuple[pa.Table, pa.Table]:
    """Predictions and labels whose loss rises with row order, with a mean far above its spread in one column."""
    random = np.random.default_rng(7)
    order = np.arange(ROWS)
    truth = random.normal(size=ROWS)
    probability = 1 / (1 + np.exp(-random.normal(size=ROWS) - order / ROWS))
    predictions = pa.table(
        {
            "id": order,
            "p": truth + random.lognormal(sigma=3, size=ROWS) * order / ROWS,
            "shifted": truth + 1e3 + random.normal(size=ROWS) * 1e-3,
            "older": truth + random.normal(size=ROWS),
            "click": np.where(random.random(ROWS) < 0.01, np.nan, probability).astype(np.float32),
        }
    )
    labels = pa.table(
        {
            "id": order,
            "y": truth,
            "clicked": (random.random(ROWS) < 0.3).astype(np.int8),
            "weight": np.where(random.random(ROWS) < 0.05, 0.0, random.random(ROWS) * 3),
            "city": pa.array(random.choice(["Ulm", "Bonn", "Köln"], ROWS)).dictionary_encode(),
            "user": random.integers(0, 3000, ROWS) ** 2 // 3000,
            "age": pa.array(random.integers(0, 90, ROWS), mask=random.random(ROWS) < 0.1),
        }
    )
    return predictions, labels


def run(folder: Path, predictions: list[pa.Table], labels: list[pa.Table], **settings: Any) -> Bytes:
    """Score the shards and return the bytes of the tables that must not depend on how they were cut."""
    row_group_size = settings.pop("row_group_size", 1000)
    report = lossops.evaluate(
        {
            "name": "same",
            "labels": {"path": write_shards(folder / "labels", labels, row_group_size), "label": "y"},
            "models": {
                "m": {"path": write_shards(folder / "predictions", predictions, row_group_size * 2), "prediction": "p"},
                "older": {"path": str(folder / "predictions"), "prediction": "older"},
            },
            "baseline": "older",
            "unit": "user",
            "key": "id",
            "weight": "weight",
            "losses": [
                "mean_squared_error",
                {"loss": "mean_absolute_error", "prediction": "shifted"},
                {"loss": "binary_crossentropy", "prediction": "click", "label": "clicked"},
            ],
            "slices": ["city", {"column": "age", "bins": [18, 65]}, ["city", {"column": "age", "bins": [18, 65]}]],
            "discover": {"columns": ["city", {"column": "age", "bins": [18, 40, 65]}], "min_rows": 50},
            "output": str(folder / "reports"),
            **settings,
        }
    )
    found = {name: (Path(report.path) / f"{name}.parquet").read_bytes() for name in TABLES}
    # Which file and row a key is in does depend on the cut.
    return {**found, "hardest": repr(report.hardest.drop_columns(["shard", "row"]).to_pylist()).encode()}


@pytest.fixture(scope="module")
def expected(tables: tuple[pa.Table, pa.Table], tmp_path_factory: pytest.TempPathFactory) -> Bytes:
    """The bytes of one shard scored in one thread."""
    folder = tmp_path_factory.mktemp("whole")
    return run(folder, [tables[0]], [tables[1]], cluster={"threads": 1})


@pytest.mark.parametrize("shards", [2, 3, 7, 40, 200])
def test_shards(shards: int, tables: tuple[pa.Table, pa.Table], expected: Bytes, tmp_path: Path) -> None:
    assert run(tmp_path, cut(tables[0], shards), cut(tables[1], shards)) == expected


def test_shards_that_differ_by_side(tables: tuple[pa.Table, pa.Table], expected: Bytes, tmp_path: Path) -> None:
    assert run(tmp_path, cut(tables[0], 5), cut(tables[1], 3)) == expected


@pytest.mark.parametrize(
    "cluster", [{"threads": 2}, {"threads": 4}, {"workers": 1}, {"workers": 2}, {"workers": 4}], ids=str
)
def test_workers(cluster: dict[str, int], tables: tuple[pa.Table, pa.Table], expected: Bytes, tmp_path: Path) -> None:
    assert run(tmp_path, cut(tables[0], 8), cut(tables[1], 8), cluster=cluster) == expected


def shuffled(table: pa.Table, seed: int) -> pa.Table:
    places: npt.NDArray[np.int64] = np.random.default_rng(seed).permutation(table.num_rows)
    return table.take(pa.array(places))


def both_shuffled_alike(tables: tuple[pa.Table, pa.Table]) -> tuple[list[pa.Table], list[pa.Table]]:
    return cut(shuffled(tables[0], 1), 6), cut(shuffled(tables[1], 1), 6)


def both_shuffled_apart(tables: tuple[pa.Table, pa.Table]) -> tuple[list[pa.Table], list[pa.Table]]:
    return cut(shuffled(tables[0], 2), 6), cut(shuffled(tables[1], 3), 6)


def shards_in_another_order(tables: tuple[pa.Table, pa.Table]) -> tuple[list[pa.Table], list[pa.Table]]:
    return cut(tables[0], 9)[::-1], cut(tables[1], 9)


def late_disorder(tables: tuple[pa.Table, pa.Table]) -> tuple[list[pa.Table], list[pa.Table]]:
    """In step at the start, where a plan looks, and out of step near the end."""
    places = np.arange(ROWS)
    places[-2], places[-1] = places[-1], places[-2]
    return cut(tables[0], 4), cut(tables[1].take(pa.array(places)), 4)


@pytest.mark.parametrize("arrange", [both_shuffled_alike, both_shuffled_apart, shards_in_another_order, late_disorder])
def test_order(
    arrange: Callable[[tuple[pa.Table, pa.Table]], tuple[list[pa.Table], list[pa.Table]]],
    tables: tuple[pa.Table, pa.Table],
    expected: Bytes,
    tmp_path: Path,
) -> None:
    assert run(tmp_path, *arrange(tables)) == expected


@pytest.mark.parametrize("row_group_size", [17, 50_000])
def test_row_groups(row_group_size: int, tables: tuple[pa.Table, pa.Table], expected: Bytes, tmp_path: Path) -> None:
    assert run(tmp_path, cut(tables[0], 2), cut(tables[1], 2), row_group_size=row_group_size) == expected


def test_storage_types(tables: tuple[pa.Table, pa.Table], expected: Bytes, tmp_path: Path) -> None:
    """Text instead of dictionaries, other integer widths, one dictionary a shard."""
    labels = tables[1].set_column(4, "city", tables[1]["city"].cast(pa.large_string()))
    labels = labels.set_column(6, "age", tables[1]["age"].cast(pa.uint8()))
    predictions = tables[0].set_column(0, "id", tables[0]["id"].cast(pa.uint32()))
    assert run(tmp_path, cut(predictions, 3), cut(labels, 3)) == expected
