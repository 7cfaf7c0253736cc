"""Every loss and every measure in one run: the same bits however the rows are ordered and cut."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

import lossops
from lossops.losses import CATALOGUE, bind
from lossops.measures import MEASURES
from tests.datasets import write_shards
from tests.strategies import parameter_sets, usable_widths, valid_rows

_ROWS = 240


def _measure_rows(name: str, random: np.random.Generator) -> tuple[Any, Any]:
    measure = MEASURES[name]
    if measure.inputs.has_classes:
        return random.integers(0, 3, size=(_ROWS, 1)), random.dirichlet(np.ones(3), size=_ROWS)
    predictions = random.uniform(0.05, 0.95, size=(_ROWS, 1))
    if measure.label.high == 1.0:
        return random.integers(0, 2, size=(_ROWS, 1)), predictions
    return random.uniform(0.5, 3.0, size=(_ROWS, 1)), predictions + 1.0


def _example(convention: str) -> tuple[pa.Table, list[dict[str, Any]]]:
    """One table with the columns of every loss, and the losses of a config."""
    random = np.random.default_rng(21)
    columns: dict[str, Any] = {
        "id": np.arange(_ROWS),
        "weight": random.uniform(0.0, 3.0, size=_ROWS) * (random.random(_ROWS) > 0.1),
        "group": random.integers(0, 3, size=_ROWS),
    }
    entries = []
    for name, loss in CATALOGUE.items():
        shape = usable_widths(loss, loss.form)[0]
        parameters = {key: value for key, value in parameter_sets(loss, shape[1])[0].items() if value is not None}
        labels, predictions = valid_rows(bind(name, parameters, convention), shape, count=_ROWS)
        entries.append({"loss": name, **{k: list(v) if isinstance(v, tuple) else v for k, v in parameters.items()}})
        columns |= {f"y_{name}": list(labels)} if shape[0] else {}
        columns |= {f"p_{name}": list(predictions)}
    for name in MEASURES:
        labels, predictions = _measure_rows(name, random)
        entries.append({"loss": name})
        columns |= {f"y_{name}": list(labels.astype(np.float64)), f"p_{name}": list(predictions)}
    for entry in entries:
        name = entry["loss"]
        entry["prediction"] = f"p_{name}"
        if f"y_{name}" in columns:
            entry["label"] = f"y_{name}"
    return pa.table({name: list(values) for name, values in columns.items()}), entries


def _score(folder: Path, table: pa.Table, entries: list[dict[str, Any]], shards: int, convention: str) -> pa.Table:
    size = -(-_ROWS // shards)
    data = write_shards(folder / "data", [table.slice(start, size) for start in range(0, _ROWS, size)])
    report = lossops.evaluate(
        {
            "name": "all",
            "labels": {"path": str(data)},
            "models": {"m": {"path": str(data)}},
            "key": "id",
            "weight": "weight",
            "losses": entries,
            "slices": ["group"],
            "convention": convention,
            "output": str(folder / "reports"),
        }
    )
    return report.losses


@pytest.mark.parametrize("convention", ["keras", "exact"])
def test_the_same_bits_for_every_loss_and_measure(tmp_path: Path, convention: str) -> None:
    """Rows in order in one shard, and shuffled in seven; weights, some of them 0, and a slice."""
    table, entries = _example(convention)
    assert len(entries) == len(CATALOGUE) + len(MEASURES)
    whole = _score(tmp_path / "whole", table, entries, 1, convention)
    order = np.random.default_rng(5).permutation(_ROWS)
    cut = _score(tmp_path / "cut", table.take(pa.array(order)), entries, 7, convention)
    assert whole.equals(cut)
    means = {row["loss"]: row["mean"] for row in whole.to_pylist() if row["slice"] == "overall"}
    assert set(means) == {*CATALOGUE, *MEASURES}
    assert [name for name, mean in means.items() if mean is None] == []
